//! The one place that commits a batch, and the marks by which a directory that lost one is known.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode, Readable, Snapshot};
use operators::id::UnixMillis;

use super::records::{self, Logs, Place};
use super::{RowWrite, Stream, chunk};
use crate::error::ReadError;

/// A record with the place that the committer gave it.
pub(super) struct Placed {
    pub(super) place: Place,
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
    pub(super) logs: Logs,
    pub(super) rows: Keyspace,
    /// Number of the last commit.
    pub(super) commits: u64,
}

impl Disk for FjallDisk {
    fn commit(&mut self, records: Vec<Placed>, rows: Vec<RowWrite>) -> Result<(), String> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        let mut ends = HashMap::new();
        for Placed { place, offset, append_at, payload } in records {
            let log = self.logs.make(&self.database, place)?;
            let value = records::value(append_at, &payload);
            chunk::cut(&offset.to_be_bytes(), &value, |key, chunk| batch.insert(log, key, chunk));
            ends.insert(place, offset + 1);
        }
        for (key, value) in rows {
            match value {
                Some(value) => chunk::cut(&key, &value, |key, chunk| batch.insert(&self.rows, key, chunk)),
                None => batch.remove(&self.rows, chunk::first_key(&key)),
            }
        }
        for (place, end) in ends {
            batch.insert(&self.rows, end_key(place), end.to_be_bytes());
        }
        batch.insert(&self.rows, link(self.commits + 1), []);
        batch.remove(&self.rows, link(self.commits));
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
const END: &[u8; 4] = b"end:";

/// Returns the key of a mark among the rows. It ends in a chunk number that no value reaches, so no scan shows it.
fn mark<const N: usize>(kind: [u8; 4], rest: [u8; N]) -> Vec<u8> {
    [&kind[..], &rest, &[u8::MAX; 2]].concat()
}

/// Returns the key that commit `number` writes and the next commit removes.
///
/// After a damaged journal the database may come up without some commits but with later ones. The link before such a
/// gap was never removed, so more than one is left.
fn link(number: u64) -> Vec<u8> {
    mark(*LINK, number.to_be_bytes())
}

/// Returns the key under which the rows know where a place ends: after a damaged journal a keyspace may come up with
/// other commits than another.
fn end_key((stream, partition): Place) -> Vec<u8> {
    // Stored, so the numbers never change.
    let stream = match stream {
        Stream::Submissions => 1,
        Stream::Standings => 2,
        Stream::Results => 3,
        Stream::DeadLetters => 4,
    };
    let [high, low] = partition.0.to_be_bytes();
    mark(*END, [stream, high, low])
}

/// Returns where the rows say that a place ends.
pub(super) fn end(view: &Snapshot, rows: &Keyspace, place: Place) -> Result<u64, ReadError> {
    let Some(bytes) = view.get(rows, end_key(place)).map_err(chunk::corrupt)? else { return Ok(0) };
    let bytes = (*bytes).try_into().map_err(|_| ReadError::Corrupt("an end is not a number".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Returns the number of the last commit among the rows, 0 for none.
pub(super) fn last_commit(view: &Snapshot, rows: &Keyspace) -> Result<u64, ReadError> {
    let mut links = Vec::new();
    for guard in view.prefix(rows, LINK) {
        let key = guard.key().map_err(chunk::corrupt)?;
        let number = key.get(4..12).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes);
        if *key == *link(number) {
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
