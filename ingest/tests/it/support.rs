//! Small tools of these tests.

use std::time::Duration;

use bytes::Bytes;
use ingest::log::{Log, ReadLimits, Record, StoredRecord, Stream};
use ingest::partition::PartitionId;
use operators::id::Position;

/// Everything there is, without waiting.
pub(crate) const ALL: ReadLimits =
    ReadLimits { records_max: usize::MAX, bytes_max: usize::MAX, wait: Duration::ZERO };

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

pub(crate) fn record(stream: Stream, partition: u16, payload: impl Into<Bytes>) -> Record {
    Record { stream, partition: PartitionId(partition), payload: payload.into() }
}

/// Returns all records of a partition after a position, read in pieces of the limits.
pub(crate) async fn read_all(
    log: &impl Log,
    stream: Stream,
    partition: u16,
    mut after: Option<Position>,
    limits: ReadLimits,
) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    loop {
        let batch = log.read(stream, PartitionId(partition), after, limits).await.unwrap();
        assert!(batch.at_end || !batch.records.is_empty(), "a read comes forward or is at the end");
        after = batch.records.last().map(|record| record.stamp.position).or(after);
        records.extend(batch.records);
        if batch.at_end {
            return records;
        }
    }
}
