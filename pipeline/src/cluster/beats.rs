//! Beats: how far each worker is, in one small item per worker that everybody may read.

use futures::future::BoxFuture;
use ingest::codec::{DecodeError, Reached, part};
use ingest::partition::PartitionId;
use ingest::proto;
use operators::id::UnixMillis;
use prost::Message;

use crate::runner::progress::pulses::Ranked;
use crate::store::{Stage, StoreError};

#[cfg(feature = "cluster")]
pub mod dynamodb;

/// How far one worker is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beat {
    /// Partitions of `submissions` that it has graded.
    pub graded: Vec<Reached>,
    /// Partitions of `standings` that it has ranked.
    pub ranked: Vec<(PartitionId, Ranked)>,
    /// The time from a close to the Seal that it appends, of a worker that grades: gateways must not believe in a longer
    /// one.
    pub grace_ms: Option<u64>,
}

/// Where beats are left.
pub trait Beats: Send + Sync + 'static {
    /// Leaves a worker's newest beat in the place of its last one.
    ///
    /// # Errors
    /// `Unavailable`: leave the next one.
    fn put<'a>(
        &'a self,
        stage: Stage,
        worker: &'a str,
        beat: &'a Beat,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Takes a worker's beat away, which has ended.
    ///
    /// # Errors
    /// `Unavailable`: it goes with time.
    fn remove<'a>(&'a self, stage: Stage, worker: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Takes beats away whose workers have not been heard of for long.
    ///
    /// # Errors
    /// `Unavailable`: they go with time.
    fn sweep(&self, stage: Stage) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the newest beats of all workers of a stage, as of now. Those of workers that are gone are still true, for as
    /// long as they are kept.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    fn all<'a>(&'a self, stage: Stage) -> BoxFuture<'a, Result<Vec<Beat>, StoreError>>;
}

/// Returns a beat as bytes.
pub fn encode(beat: &Beat) -> Vec<u8> {
    let reached = |reached: &Reached| proto::Reached {
        partition: reached.partition.0.into(),
        graded: reached.graded.0,
        settled: reached.settled.0,
        through: part::position_bytes(reached.through),
    };
    let ranked = |(partition, ranked): &(PartitionId, Ranked)| proto::Ranked {
        partition: partition.0.into(),
        graded: ranked.graded.0,
        settled: ranked.settled.0,
        through: ranked.through.map(part::position_bytes).unwrap_or_default(),
        position: ranked.position.map(part::position_bytes).unwrap_or_default(),
    };
    let message = proto::Beat {
        graded: beat.graded.iter().map(reached).collect(),
        ranked: beat.ranked.iter().map(ranked).collect(),
        grace_ms: beat.grace_ms.unwrap_or_default(),
    };
    message.encode_to_vec()
}

/// Returns a beat from its bytes.
///
/// # Errors
/// It is none.
pub fn decode(bytes: &[u8]) -> Result<Beat, DecodeError> {
    let message = proto::Beat::decode(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| part::position(bytes)).transpose();
    let grace_ms = Some(message.grace_ms).filter(|&grace_ms| grace_ms > 0);
    let mut beat = Beat { grace_ms, ..Beat::default() };
    for one in message.graded {
        beat.graded.push(Reached {
            partition: PartitionId(part::small(one.partition, "partition")?),
            graded: UnixMillis(one.graded),
            settled: UnixMillis(one.settled),
            through: part::position(&one.through)?,
        });
    }
    for one in message.ranked {
        let ranked = Ranked {
            graded: UnixMillis(one.graded),
            settled: UnixMillis(one.settled),
            through: some(&one.through)?,
            position: some(&one.position)?,
        };
        beat.ranked.push((PartitionId(part::small(one.partition, "partition")?), ranked));
    }
    Ok(beat)
}

#[cfg(test)]
mod tests {
    use operators::id::Position;

    use super::*;

    #[test]
    fn a_beat_is_read_as_it_was_written() {
        let through = Position { shard: 2, sequence: [1, 2, 3], sub: 4 };
        let (graded, settled) = (UnixMillis(7), UnixMillis(5));
        let reached = Reached { partition: PartitionId(3), graded, settled, through };
        let ranked = Ranked { graded, settled, through: Some(through), position: None };
        let beat =
            Beat { graded: vec![reached], ranked: vec![(PartitionId(9), ranked)], grace_ms: Some(5_000) };
        assert_eq!(decode(&encode(&beat)), Ok(beat));
        assert!(decode(&[0x0a, 2, 8]).is_err());
    }
}
