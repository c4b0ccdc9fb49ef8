//! The embedded log and its storage: one directory, one database, one committer.
//!
//! A single thread drains a bounded queue into one atomic, synced batch at a time (group commit). Records, rows and the
//! condition under which they may be written travel together, so that effects, state and checkpoint of a stage are
//! written whole or not at all.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use fjall::{Database, Keyspace};
use futures::FutureExt;
use futures::future::BoxFuture;
use operators::event::Stamp;
use operators::id::Position;
use tokio::sync::{oneshot, watch};

use super::{Log, ReadBatch, ReadLimits, Record, Stream};
use crate::error::{AppendError, ReadError};
use crate::limits;
use crate::partition::PartitionId;

mod chunk;
mod committer;
mod disk;
mod open;
mod records;
#[cfg(test)]
mod tests;

use committer::Job;
pub use open::OpenError;
use records::Logs;

/// How a directory is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Partitions of every stream; fixed when the directory is made.
    pub partitions: u16,
}

/// The right to write: a row that must hold exactly these bytes (`None`: must be absent) when the write is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The row.
    pub key: Vec<u8>,
    /// What it must hold.
    pub expected: Option<Vec<u8>>,
}

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// A row to write, or with no value to remove.
pub type RowWrite = (Vec<u8>, Option<Vec<u8>>);

/// Everything that one write changes, at once or not at all.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// When it may happen.
    pub condition: Option<Condition>,
    /// Rows.
    pub rows: Vec<RowWrite>,
    /// Records to append.
    pub records: Vec<Record>,
}

impl Write {
    fn bytes(&self) -> usize {
        let rows = self.rows.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
        rows.sum::<usize>() + self.records.iter().map(|record| record.payload.len()).sum::<usize>()
    }
}

/// A write did not happen, or nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The condition's row holds something else; nothing was written.
    #[error("the row holds something else")]
    Condition {
        /// What it holds.
        found: Option<Vec<u8>>,
    },
    /// As for any append.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Embedded storage: the log and the rows of one directory.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    partitions: u16,
    logs: Logs,
    rows: Keyspace,
    view: disk::View,
    jobs: Option<mpsc::SyncSender<Job>>,
    /// Bytes of the jobs that wait.
    queued: Arc<AtomicUsize>,
    tails: Tails,
    committer: Option<std::thread::JoinHandle<()>>,
    /// Keeps the directory locked until the last handle is gone.
    _database: Database,
}

/// The next offset of every partition of every stream, as it moves.
type Tails = Arc<HashMap<(Stream, PartitionId), watch::Sender<u64>>>;

impl Embedded {
    /// Opens or makes a directory, recovers what was committed, and starts the committer.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do about it.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        open::open(dir, options)
    }

    /// Writes rows and records at once; returns the stamps of the records. Durable when this returns.
    ///
    /// # Errors
    /// `Condition`: nothing was written. Otherwise as [`Log::append`].
    pub fn write<'a>(&'a self, write: Write) -> BoxFuture<'a, Result<Vec<Stamp>, WriteError>> {
        if let Some(invalid) = self.invalid(&write.records) {
            return futures::future::ready(Err(invalid.into())).boxed();
        }
        let (done, answer) = oneshot::channel();
        let Some(jobs) = &self.inner.jobs else {
            return futures::future::ready(Err(closed().into())).boxed();
        };
        let bytes = write.bytes();
        let queued = self.inner.queued.fetch_add(bytes, Ordering::Relaxed);
        // A write over the bound of its own is taken when nothing else waits.
        let refused = if queued > 0 && queued + bytes > limits::QUEUE_BYTES_MAX {
            Some(overloaded())
        } else {
            jobs.try_send(Job { write, bytes, done }).err().map(|refused| match refused {
                mpsc::TrySendError::Full(_) => overloaded(),
                mpsc::TrySendError::Disconnected(_) => closed(),
            })
        };
        if let Some(error) = refused {
            self.inner.queued.fetch_sub(bytes, Ordering::Relaxed);
            return futures::future::ready(Err(error.into())).boxed();
        }
        async move { answer.await.unwrap_or_else(|_| Err(closed().into())) }.boxed()
    }

    /// Returns the value of a row.
    ///
    /// # Errors
    /// `Corrupt`: call a person.
    pub fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        chunk::get(&self.inner.view.get(), &self.inner.rows, key)
    }

    /// Returns up to `limit` rows whose key starts with `prefix`, in key order, after the key `after`.
    ///
    /// # Errors
    /// `Corrupt`: call a person.
    pub fn rows(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, ReadError> {
        chunk::scan(&self.inner.view.get(), &self.inner.rows, prefix, after, limit)
    }

    /// Returns the next offset of a partition: one more than the last record's.
    pub fn next_offset(&self, stream: Stream, partition: PartitionId) -> u64 {
        self.inner.tails.get(&(stream, partition)).map_or(0, |tail| *tail.borrow())
    }

    fn invalid(&self, records: &[Record]) -> Option<AppendError> {
        let reason = |record: &Record| {
            if record.payload.len() > limits::RECORD_BYTES_MAX {
                return Some(format!("it has more than {} bytes", limits::RECORD_BYTES_MAX));
            }
            let unknown = record.partition.0 >= self.inner.partitions;
            unknown.then(|| format!("{} has no partition {}", record.stream, record.partition))
        };
        let mut reasons = records.iter().map(reason).enumerate();
        reasons.find_map(|(index, reason)| Some(AppendError::Invalid { index, reason: reason? }))
    }

    fn read_now(
        &self,
        stream: Stream,
        partition: PartitionId,
        from: u64,
        limits: ReadLimits,
    ) -> Result<ReadBatch, ReadError> {
        let end = self.next_offset(stream, partition);
        match self.inner.logs.get((stream, partition)) {
            Some(log) => records::read(log, (stream, partition), from..end, limits),
            // Nothing was ever appended.
            None => Ok(ReadBatch { records: Vec::new(), at_end: true, closed: false }),
        }
    }
}

fn closed() -> AppendError {
    AppendError::Unavailable("the log is closed".into())
}

fn overloaded() -> AppendError {
    metrics::counter!("podium_log_overloaded_total").increment(1);
    AppendError::Overloaded { retry_after: Duration::from_secs(1) }
}

impl Log for Embedded {
    fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        if records.len() > limits::BATCH_RECORDS_MAX {
            let reason = format!("a batch holds at most {} records", limits::BATCH_RECORDS_MAX);
            let invalid = AppendError::Invalid { index: limits::BATCH_RECORDS_MAX, reason };
            return futures::future::ready(Err(invalid)).boxed();
        }
        let write = self.write(Write { records, ..Write::default() });
        let unconditional = |error| match error {
            WriteError::Append(error) => error,
            WriteError::Condition { .. } => unreachable!("an append has no condition"),
        };
        async move { write.await.map_err(unconditional) }.boxed()
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        async move {
            let from = match after.map(|position| position.offset()) {
                None => 0,
                Some(Some(offset)) => offset.saturating_add(1),
                Some(None) => return Err(ReadError::Corrupt("the position is not one of this log".into())),
            };
            let unknown = || ReadError::Corrupt(format!("{stream} has no partition {partition}"));
            let tail = self.inner.tails.get(&(stream, partition)).ok_or_else(unknown)?;
            if *tail.borrow() <= from && !limits.wait.is_zero() {
                let mut moved = tail.subscribe();
                let reached = moved.wait_for(|&end| end > from);
                // Running out of time is the normal end of waiting at the end of a quiet partition.
                let _ = tokio::time::timeout(limits.wait, reached).await;
            }
            self.read_now(stream, partition, from, limits)
        }
        .boxed()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer ended by a broken invariant");
        }
    }
}
