//! The layout of records in the database, and the one place that commits a batch.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode, Readable, Snapshot};
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};

use super::chunk::{self, Joiner};
use super::{ReadBatch, ReadLimits, RowWrite, Stream};
use crate::error::ReadError;
use crate::log::StoredRecord;
use crate::partition::PartitionId;

/// A record with the place that the committer gave it.
pub(super) struct Placed {
    pub(super) stream: Stream,
    pub(super) partition: PartitionId,
    pub(super) offset: u64,
    pub(super) append_at: UnixMillis,
    pub(super) payload: Bytes,
}

/// What a committer writes to. A trait so that a test can make it fail.
pub(super) trait Disk: Send {
    /// Writes all or nothing; durable when it returns.
    fn commit(&mut self, records: Vec<Placed>, rows: Vec<RowWrite>) -> Result<(), String>;
    /// Returns the stored value of a row.
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;
    /// Returns the number of commits so far.
    fn commits(&self) -> u64;
}

/// The rows as of the last commit, for readers.
///
/// A snapshot that a reader took itself could hold half of the batch that is being written: when the database moves
/// memory to tables it also moves what is visible (lsm-tree 3.1.10, `upgrade_version`). This one is taken by the
/// committer between two batches, and a read waits for no commit.
#[derive(Clone)]
pub(super) struct View(Arc<RwLock<Arc<Snapshot>>>);

impl View {
    pub(super) fn new(database: &Database) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(database.snapshot()))))
    }
    pub(super) fn get(&self) -> Arc<Snapshot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn set(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

/// The database on disk.
pub(super) struct FjallDisk {
    pub(super) database: Database,
    pub(super) view: View,
    pub(super) log: Keyspace,
    pub(super) rows: Keyspace,
    /// Number of the last commit.
    pub(super) commits: u64,
}

impl Disk for FjallDisk {
    fn commit(&mut self, records: Vec<Placed>, rows: Vec<RowWrite>) -> Result<(), String> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for record in records {
            let key = key(record.stream, record.partition, record.offset);
            let mut value = Vec::with_capacity(8 + record.payload.len());
            value.extend_from_slice(&record.append_at.0.to_be_bytes());
            value.extend_from_slice(&record.payload);
            chunk::cut(&key, &value, |key, chunk| batch.insert(&self.log, key, chunk));
        }
        for (key, value) in rows {
            match value {
                Some(value) => chunk::cut(&key, &value, |key, chunk| batch.insert(&self.rows, key, chunk)),
                None => batch.remove(&self.rows, chunk::first_key(&key)),
            }
        }
        for keyspace in [&self.log, &self.rows] {
            batch.insert(keyspace, link(self.commits + 1), []);
            batch.remove(keyspace, link(self.commits));
        }
        batch.commit().map_err(|error| error.to_string())?;
        self.commits += 1;
        self.view.set(self.database.snapshot());
        Ok(())
    }

    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        chunk::get(&self.view.get(), &self.rows, key).map_err(|error| error.to_string())
    }

    fn commits(&self) -> u64 {
        self.commits
    }
}

const LINK: &[u8; 4] = b"link";

/// Returns the key that commit `number` writes and the next commit removes, in both keyspaces.
///
/// After a damaged journal the database may come up without some commits but with later ones. The link before such a
/// gap was never removed, so more than one is left.
fn link(number: u64) -> [u8; 14] {
    let mut key = [u8::MAX; 14]; // It ends in a chunk number that no value reaches, so no scan shows it.
    key[..4].copy_from_slice(LINK);
    key[4..12].copy_from_slice(&number.to_be_bytes());
    key
}

/// Returns the number of the last commit in a keyspace, 0 for none.
pub(super) fn last_commit(view: &Snapshot, keyspace: &Keyspace) -> Result<u64, ReadError> {
    let mut links = Vec::new();
    for guard in view.prefix(keyspace, LINK) {
        let key = guard.key().map_err(chunk::corrupt)?;
        let number = key.get(4..12).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes);
        if *key == link(number) {
            links.push(number);
        }
    }
    match *links {
        [] => Ok(0),
        [number] => Ok(number),
        [before, .., after] => {
            Err(ReadError::Corrupt(format!("commits between {before} and {after} are missing")))
        }
    }
}

/// Returns the key prefix of a partition.
pub(super) fn prefix(stream: Stream, partition: PartitionId) -> [u8; 3] {
    // Stored, so the numbers never change.
    let stream = match stream {
        Stream::Submissions => 1,
        Stream::Standings => 2,
        Stream::Results => 3,
        Stream::DeadLetters => 4,
    };
    let [high, low] = partition.0.to_be_bytes();
    [stream, high, low]
}

fn key(stream: Stream, partition: PartitionId, offset: u64) -> [u8; 11] {
    let mut key = [0; 11];
    key[..3].copy_from_slice(&prefix(stream, partition));
    key[3..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// Returns the records of a range of offsets, within the limits, refusing a gap.
pub(super) fn read(
    log: &Keyspace,
    stream: Stream,
    partition: PartitionId,
    range: Range<u64>,
    limits: ReadLimits,
) -> Result<ReadBatch, ReadError> {
    let mut batch = ReadBatch { records: Vec::new(), at_end: range.start >= range.end };
    if batch.at_end || limits.records_max == 0 {
        return Ok(batch);
    }
    let mut joiner = Joiner::default();
    let mut bytes = 0;
    let mut expected = range.start;
    let (start, end) = (key(stream, partition, range.start), key(stream, partition, range.end));
    for guard in log.range(start..end) {
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
        return Err(ReadError::Corrupt(format!(
            "{stream} partition {partition} lacks the record at offset {expected}"
        )));
    }
    Ok(batch)
}

/// Returns the last record's offset and append time.
pub(super) fn last(
    view: &Snapshot,
    log: &Keyspace,
    stream: Stream,
    partition: PartitionId,
) -> Result<Option<(u64, UnixMillis)>, ReadError> {
    let Some(guard) = view.prefix(log, prefix(stream, partition)).next_back() else { return Ok(None) };
    let stored = guard.key().map_err(chunk::corrupt)?;
    let key = &stored[..stored.len().saturating_sub(2)];
    let value =
        chunk::get(view, log, key)?.ok_or_else(|| ReadError::Corrupt("the last record is torn".into()))?;
    let (record, offset) = record(key, value)?;
    Ok(Some((offset, record.stamp.append_at)))
}

fn record(key: &[u8], value: Vec<u8>) -> Result<(StoredRecord, u64), ReadError> {
    let torn = || ReadError::Corrupt("a record is too short".into());
    let offset = key.get(3..11).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes).ok_or_else(torn)?;
    let at = value.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes).ok_or_else(torn)?;
    let stamp = Stamp { position: Position::from_offset(offset), append_at: UnixMillis(at) };
    Ok((StoredRecord { stamp, payload: Bytes::from(value).slice(8..) }, offset))
}
