//! Records as Kinesis returns them, taken apart and given to the partitions of their shard.

use std::time::Duration;

use aws_smithy_types::DateTime;
use bytes::{BufMut, Bytes, BytesMut};
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};

use super::{kpl, shards};
use crate::error::ReadError;
use crate::log::{ReadLimits, StoredRecord};
use crate::partition::{self, PartitionId};

/// What stands in front of a record that lies on a shard which does not carry its partition.
///
/// Only another producer can put it there. Applying it here would split a quiz over two partitions, and skipping it
/// would lose it: so it goes to the shard's first partition behind these bytes, which no decoder of Podium takes (there
/// is no field 0 in protobuf), and becomes a dead letter with its position, its key and all its bytes.
pub const MISPLACED: &[u8] = b"\0misplaced record, partition key ";

/// Records at most of one GetRecords call, as Kinesis has it: a fuller answer tells that there is more.
pub(super) const ANSWER_RECORDS_MAX: usize = 10_000;

/// Returns the records inside one Kinesis record, each with its partition on this shard.
pub(super) fn routed(
    record: aws_sdk_kinesis::types::Record,
    shard: &shards::Shard,
    partitions: u16,
) -> Result<Vec<(PartitionId, StoredRecord)>, ReadError> {
    let sequence = shards::sequence(record.sequence_number()).ok_or_else(|| {
        ReadError::Corrupt(format!("{} is not a sequence number", record.sequence_number()))
    })?;
    let append_at = record.approximate_arrival_timestamp().map(millis).unwrap_or_default();
    let stamp = |sub: usize| Stamp {
        position: Position { shard: shard.number, sequence, sub: sub as u64 },
        append_at,
    };
    let payload = Bytes::from(record.data.into_inner());

    let Some(unpacked) = kpl::unpack(&payload) else {
        let key = record.partition_key.as_deref().unwrap_or_default();
        let to = shards::named(key, partitions).unwrap_or_else(|| partition::of_key(key, partitions));
        return Ok(placed(shard, to, key, stamp(0), payload).into_iter().collect());
    };
    let mut records = Vec::with_capacity(unpacked.parts.len());
    // Ours name one key; a table of many is not worth looking up once per record.
    let mut last = None;
    for (sub, part) in unpacked.parts.into_iter().enumerate() {
        let key = &unpacked.partition_keys[part.partition_key];
        let place = (part.partition_key, part.hash_key);
        let to = match last {
            Some((known, to)) if known == place => to,
            _ => shards::named(key, partitions)
                .or_else(|| Some(shards::of_hash(unpacked.hash_keys[part.hash_key?], partitions)))
                .unwrap_or_else(|| partition::of_key(key, partitions)),
        };
        last = Some((place, to));
        records.extend(placed(shard, to, key, stamp(sub), part.data));
    }
    Ok(records)
}

/// Returns a time that Kinesis has told as milliseconds. It comes as a binary fraction of seconds, which for most of them
/// is a little more or less: cut off, it would be a millisecond early, and answers are scored by it.
fn millis(time: &DateTime) -> UnixMillis {
    let ms = (time.as_nanos() + 500_000).div_euclid(1_000_000);
    UnixMillis(ms.try_into().unwrap_or_default())
}

fn placed(
    shard: &shards::Shard,
    to: PartitionId,
    key: &str,
    stamp: Stamp,
    payload: Bytes,
) -> Option<(PartitionId, StoredRecord)> {
    if shard.partitions.binary_search(&to).is_ok() {
        return Some((to, StoredRecord { stamp, payload }));
    }
    let (shard_id, position) = (&shard.id, stamp.position);
    metrics::counter!("podium_kinesis_misplaced_total").increment(1);
    let Some(&first) = shard.partitions.first() else {
        tracing::error!(%shard_id, %position, key, "record skipped: no partition lies on its shard");
        return None;
    };
    tracing::warn!(%shard_id, %position, key, partition = %to, "record is not on its partition's shard");
    let key: String = key.chars().take(64).collect();
    let mut marked = BytesMut::with_capacity(MISPLACED.len() + key.len() + 16 + payload.len());
    marked.put_slice(MISPLACED);
    marked.put_slice(format!("{key:?}\n").as_bytes());
    marked.put_slice(&payload);
    Some((first, StoredRecord { stamp, payload: marked.freeze() }))
}

/// Counts what still fits into a read: one record always does.
pub(super) struct Room {
    records: usize,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl Room {
    pub(super) fn new(limits: &ReadLimits) -> Self {
        Self { records: 0, bytes: 0, records_max: limits.records_max, bytes_max: limits.bytes_max }
    }

    /// Takes a record in, unless it does not fit.
    pub(super) fn take(&mut self, record: &StoredRecord) -> bool {
        let bytes = self.bytes.saturating_add(record.payload.len());
        if self.records > 0 && (self.records >= self.records_max || bytes > self.bytes_max) {
            return false;
        }
        self.records += 1;
        self.bytes = bytes;
        true
    }
}

/// Returns the error of a position whose record is gone, found `first` instead or nothing: what was between may be gone
/// too.
pub(super) fn out_of_retention(stream: &str, position: Position, first: Option<Position>) -> ReadError {
    let oldest = match first {
        Some(first) => format!("whose oldest is {first}"),
        None => "which is empty there".to_owned(),
    };
    ReadError::Corrupt(format!(
        "the record at {position} is no longer in {stream}, {oldest}: records behind it may be lost with it; start once \
         with --skip-lost to go on with what is there, and see to a longer retention"
    ))
}

/// First and longest pause before a call is made again that was throttled or not answered.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Pauses between tries, longer each time.
#[derive(Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    pub(super) async fn pause(&mut self) {
        let pause = BACKOFF.0.saturating_mul(1 << self.0.min(8)).min(BACKOFF.1);
        self.0 += 1;
        tokio::time::sleep(pause).await;
    }

    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_millisecond_is_read_as_it_was_told() {
        for ms in 1_795_277_717_000..1_795_277_718_000u64 {
            let told = DateTime::from_secs_f64(ms as f64 / 1_000.0);
            assert_eq!(millis(&told), UnixMillis(ms));
        }
        assert_eq!(millis(&DateTime::from_secs(-1)), UnixMillis(0));
    }
}
