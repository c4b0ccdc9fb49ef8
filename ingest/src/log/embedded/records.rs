//! The layout of records in the database: a keyspace for every partition of every stream that has records.
//!
//! Offsets only rise, so the tables of such a keyspace never overlap and the database moves them down its levels
//! without writing them again. With all partitions in one keyspace, every merge of tables wrote records once more, and
//! the sync of a commit waited behind it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fjall::{Database, Keyspace, Readable, Snapshot};
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};

use super::chunk::{self, Joiner};
use super::open::open_log;
use super::{ReadBatch, ReadLimits};
use crate::error::ReadError;
use crate::log::{StoredRecord, Stream};
use crate::partition::PartitionId;

/// A partition of a stream.
pub(super) type Place = (Stream, PartitionId);

/// The keyspace of each place, made with its first record: a directory may have thousands of partitions.
#[derive(Clone)]
pub(super) struct Logs(Arc<HashMap<Place, OnceLock<Keyspace>>>);

impl Logs {
    /// Opens the keyspaces that are there.
    pub(super) fn open(database: &Database, partitions: u16) -> fjall::Result<Self> {
        let mut logs = HashMap::new();
        for stream in Stream::ALL {
            for partition in (0..partitions).map(PartitionId) {
                let name = name(stream, partition);
                let there = database.keyspace_exists(&name).then(|| open_log(database, &name)).transpose()?;
                logs.insert((stream, partition), there.map_or_else(OnceLock::new, OnceLock::from));
            }
        }
        Ok(Self(Arc::new(logs)))
    }

    pub(super) fn get(&self, place: Place) -> Option<&Keyspace> {
        self.0.get(&place)?.get()
    }

    /// Returns the keyspace of a place, made if it is not there. Only the committer calls it.
    pub(super) fn make(&self, database: &Database, place: Place) -> Result<&Keyspace, String> {
        let (stream, partition) = place;
        let slot = self.0.get(&place).ok_or_else(|| format!("{stream} has no partition {partition}"))?;
        if let Some(log) = slot.get() {
            return Ok(log);
        }
        let made = open_log(database, &name(stream, partition)).map_err(|error| error.to_string())?;
        Ok(slot.get_or_init(|| made))
    }
}

fn name(stream: Stream, partition: PartitionId) -> String {
    format!("{stream}-{partition}")
}

/// Returns the stored value of a record.
pub(super) fn value(append_at: UnixMillis, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + payload.len());
    value.extend_from_slice(&append_at.0.to_be_bytes());
    value.extend_from_slice(payload);
    value
}

/// Returns the records of a range of offsets, within the limits, refusing a gap.
pub(super) fn read(
    log: &Keyspace,
    (stream, partition): Place,
    range: Range<u64>,
    limits: ReadLimits,
) -> Result<ReadBatch, ReadError> {
    let mut batch = ReadBatch { records: Vec::new(), at_end: range.start >= range.end, closed: false };
    if batch.at_end || limits.records_max == 0 {
        return Ok(batch);
    }
    let mut joiner = Joiner::default();
    let mut bytes = 0;
    let mut expected = range.start;
    for guard in log.range(range.start.to_be_bytes()..range.end.to_be_bytes()) {
        let (stored, value) = guard.into_inner().map_err(chunk::corrupt)?;
        let Some((key, value)) = joiner.push(&stored, &value)? else { continue };
        let (record, offset) = record(&key, value)?;
        bytes += record.payload.len();
        if offset != expected || (bytes > limits.bytes_max && !batch.records.is_empty()) {
            break;
        }
        expected += 1;
        batch.records.push(record);
        if batch.records.len() >= limits.records_max {
            break;
        }
    }
    batch.at_end = expected >= range.end;
    if batch.records.is_empty() {
        return Err(lacks((stream, partition), expected));
    }
    Ok(batch)
}

/// Returns the last record's offset and append time, refusing a gap among the records whose bytes the journals could
/// hold: only those are put back one by one when a directory is opened, so only there can some be missing.
pub(super) fn last(
    view: &Snapshot,
    log: &Keyspace,
    place: Place,
    journal_bytes: u64,
) -> Result<Option<(u64, UnixMillis)>, ReadError> {
    let mut last = None;
    // Offset and chunk of what was seen before: the scan goes backwards.
    let mut after: Option<(u64, u16)> = None;
    let missing = |(offset, chunk): (u64, u16)| lacks(place, offset.saturating_sub((chunk == 0).into()));
    let mut bytes = 0;
    for guard in view.iter(log).rev() {
        let (stored, chunk) = guard.into_inner().map_err(chunk::corrupt)?;
        let (key, index) = chunk::split(&stored)?;
        let offset = offset(key)?;
        let follows = match after {
            Some((same, later)) if later > 0 => same == offset && later - 1 == index,
            Some((next, _)) => next.checked_sub(1) == Some(offset),
            None => true,
        };
        if let Some(after) = after.filter(|_| !follows) {
            return Err(missing(after));
        }
        if after.is_none_or(|(next, _)| next != offset) && !chunk::is_last(&chunk) {
            return Err(lacks(place, offset));
        }
        if after.is_none() {
            let value = chunk::get(view, log, key)?.ok_or_else(|| lacks(place, offset))?;
            last = Some((offset, record(key, value)?.0.stamp.append_at));
        }
        after = Some((offset, index));
        bytes += (stored.len() + chunk.len()) as u64;
        if bytes > journal_bytes {
            return Ok(last);
        }
    }
    match after.filter(|first| *first != (0, 0)) {
        Some(first) => Err(missing(first)),
        None => Ok(last),
    }
}

fn lacks((stream, partition): Place, offset: u64) -> ReadError {
    ReadError::Corrupt(format!("{stream} partition {partition} lacks the record at offset {offset}"))
}

fn offset(key: &[u8]) -> Result<u64, ReadError> {
    let bytes = key.try_into().map_err(|_| ReadError::Corrupt("the key of a record has no offset".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn record(key: &[u8], value: Vec<u8>) -> Result<(StoredRecord, u64), ReadError> {
    let torn = || ReadError::Corrupt("a record is too short".into());
    let at = value.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes).ok_or_else(torn)?;
    let offset = offset(key)?;
    let stamp = Stamp { position: Position::from_offset(offset), append_at: UnixMillis(at) };
    Ok((StoredRecord { stamp, payload: Bytes::from(value).slice(8..) }, offset))
}
