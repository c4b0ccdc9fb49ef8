//! Pulses: how far the stages are, told in the streams themselves.
//!
//! The order of a partition is the only clock that all readers of it share: who has read a pulse has read everything
//! that was appended before it, whatever the log's calls say about its end.

use operators::id::{Position, UnixMillis};

use super::{DecodeError, part};
use crate::partition::PartitionId;
use crate::proto;

/// How far the stages were when it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pulse {
    /// In `submissions`: append time by which every partition was graded.
    pub slowest: UnixMillis,
    /// In `standings`: how far some partitions of `submissions` are graded, effects included.
    pub reached: Vec<Reached>,
}

/// How far one partition of `submissions` is graded, effects included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub partition: PartitionId,
    /// Every record appended before this is.
    pub graded: UnixMillis,
    /// So is every copy of a command that any partition sent for a command appended before this.
    pub settled: UnixMillis,
    /// Every record up to here is.
    pub through: Position,
}

/// The first reader that knows pulses.
const MIN_READER: u32 = 2;

pub(super) fn message(pulse: &Pulse) -> proto::Pulse {
    let reached = |reached: &Reached| proto::Reached {
        partition: reached.partition.0.into(),
        graded: reached.graded.0,
        settled: reached.settled.0,
        through: part::position_bytes(reached.through),
    };
    proto::Pulse { slowest: pulse.slowest.0, reached: pulse.reached.iter().map(reached).collect() }
}

pub(super) fn submission(pulse: proto::Pulse) -> proto::Submission {
    let event = Some(proto::submission::Event::Pulse(pulse));
    proto::Submission { min_reader: MIN_READER, event, ..proto::Submission::default() }
}

pub(super) fn standings(pulse: proto::Pulse) -> proto::Standings {
    let change = Some(proto::standings::Change::Pulse(pulse));
    proto::Standings { min_reader: MIN_READER, change, ..proto::Standings::default() }
}

pub(super) fn pulse(message: proto::Pulse) -> Result<Pulse, DecodeError> {
    let mut reached = Vec::with_capacity(message.reached.len());
    for one in message.reached {
        reached.push(Reached {
            partition: PartitionId(part::small(one.partition, "partition")?),
            graded: UnixMillis(one.graded),
            settled: UnixMillis(one.settled),
            through: part::position(&one.through)?,
        });
    }
    Ok(Pulse { slowest: UnixMillis(message.slowest), reached })
}
