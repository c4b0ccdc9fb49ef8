//! The log: named streams of partitions, durable when an append returns.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use operators::event::Stamp;
use operators::id::Position;

use crate::error::{AppendError, ReadError};
use crate::partition::PartitionId;

pub mod embedded;
#[cfg(feature = "cluster")]
pub mod kinesis;

/// A named log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Answers, joins, commands and Seals, by quiz and section.
    Submissions,
    /// Effects of sections, by quiz.
    Standings,
    /// Outcomes for sinks, by quiz and participant.
    Results,
    /// What could not be decoded, with its reason.
    DeadLetters,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 4] = [Self::Submissions, Self::Standings, Self::Results, Self::DeadLetters];

    /// Returns the name used in storage and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submissions => "submissions",
            Self::Standings => "standings",
            Self::Results => "results",
            Self::DeadLetters => "dead-letters",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where to.
    pub stream: Stream,
    /// Which slice of it.
    pub partition: PartitionId,
    /// The encoded event, at most [`crate::limits::RECORD_BYTES_MAX`].
    pub payload: Bytes,
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where and when it was appended.
    pub stamp: Stamp,
    /// The bytes that were appended.
    pub payload: Bytes,
}

/// How much one read returns, and how long it waits for something to return.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Records at most.
    pub records_max: usize,
    /// Payload bytes at most; one record is always returned, however large.
    pub bytes_max: usize,
    /// How long to wait when there is nothing after the position; zero looks once.
    pub wait: Duration,
}

/// Records in order, and whether the end of the partition was seen behind them.
#[derive(Debug, Clone, Default)]
pub struct ReadBatch {
    /// The records.
    pub records: Vec<StoredRecord>,
    /// There was nothing behind the last of them when the read looked.
    pub at_end: bool,
    /// There never will be: this slice of the partition is closed, and it goes on elsewhere.
    pub closed: bool,
}

/// What becomes of a partition whose next record may be gone from its stream, as after a rest longer than the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lost {
    /// It stands still until a person has decided.
    #[default]
    Refused,
    /// A person has decided: it goes on with what is there.
    Skipped,
}

/// Named streams, each cut into the same fixed number of partitions.
pub trait Log: Send + Sync {
    /// Returns the number of partitions of every stream.
    fn partitions(&self) -> u16;

    /// Appends up to [`crate::limits::BATCH_RECORDS_MAX`] records; returns one stamp per record, in input order.
    ///
    /// Durable when this returns. Records of one partition keep their order within the call. Not every log tells its
    /// writers when it appended a record: there the time is that of the answer, and only readers get the log's own.
    ///
    /// # Errors
    /// `Overloaded`: nothing was written, slow down. `Unavailable`: unknown whether written, send again, readers drop
    /// repeats by their ids. `Invalid`: never retry; names the record. `Corrupt`: the log is poisoned until it is
    /// opened again, nothing is acknowledged any more.
    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>>;

    /// Returns the records after a position (`None`: from the oldest), in order, without gaps.
    ///
    /// # Errors
    /// `Unavailable`: ask again. `Corrupt`: call a person.
    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>>;
}
