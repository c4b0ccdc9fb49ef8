//! The committer: one thread that turns whatever waits in the queue into one synced batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use tokio::sync::oneshot;

use super::disk::{Disk, Placed};
use super::open::HighWater;
use super::{Condition, RowWrite, Tails, Write, WriteError};
use crate::error::AppendError;
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_RECORDS_MAX};
use crate::log::Stream;
use crate::partition::PartitionId;

/// Least time between two commits under load: a sync costs the same for one record as for a hundred, so waiting this
/// long multiplies throughput and adds at most this much to an acknowledgement. An idle log commits at once.
const PACE: Duration = Duration::from_millis(2);

/// How long a commit may go without the high-water mark: what a damaged journal could hide is at most this old.
pub(super) const MARK_WITHIN: Duration = Duration::from_secs(1);

/// A write waiting for its commit.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) bytes: usize,
    pub(super) done: Done,
}

type Done = oneshot::Sender<Result<Vec<Stamp>, WriteError>>;

/// The end of one partition.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct End {
    pub(super) next: u64,
    pub(super) append_at: UnixMillis,
}

pub(super) struct Committer<D> {
    pub(super) disk: D,
    pub(super) ends: HashMap<(Stream, PartitionId), End>,
    pub(super) tails: Tails,
    pub(super) mark: HighWater,
    pub(super) mark_within: Duration,
    /// Bytes of the jobs that wait.
    pub(super) queued: Arc<AtomicUsize>,
}

/// What a commit will change, and what its jobs hear when it has.
#[derive(Default)]
struct Batch {
    records: Vec<Placed>,
    rows: Vec<RowWrite>,
    answers: Vec<(Done, Result<Vec<Stamp>, WriteError>)>,
}

impl<D: Disk> Committer<D> {
    /// Commits until every sender is gone. After a failed commit nothing is acknowledged any more: what reached the
    /// disk is unknown, and a second sync could succeed without having written anything.
    pub(super) fn run(mut self, jobs: Receiver<Job>) {
        let mut poisoned: Option<String> = None;
        let mut last = Instant::now();
        let mut unmarked: Option<Instant> = None;
        loop {
            let next = match unmarked {
                Some(since) => jobs.recv_timeout(self.mark_within.saturating_sub(since.elapsed())),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match (next, &poisoned) {
                (Ok(job), Some(reason)) => {
                    self.queued.fetch_sub(job.bytes, Ordering::Relaxed);
                    // Nobody listens any more when the request was given up.
                    let _ = job.done.send(Err(AppendError::Corrupt(reason.clone()).into()));
                    continue;
                }
                (Ok(job), None) => {
                    std::thread::sleep(PACE.saturating_sub(last.elapsed()));
                    last = Instant::now();
                    let batch = self.drain(job, &jobs);
                    poisoned = self.commit(batch).err();
                    metrics::histogram!("podium_log_commit_seconds").record(last.elapsed().as_secs_f64());
                    unmarked = unmarked.or(Some(last));
                }
                (Err(RecvTimeoutError::Timeout), _) => {}
                (Err(RecvTimeoutError::Disconnected), _) => break,
            }
            if poisoned.is_none() && unmarked.is_some_and(|since| since.elapsed() >= self.mark_within) {
                poisoned = self.mark().err();
                unmarked = None;
            }
            if let Some(reason) = &poisoned {
                unmarked = None;
                tracing::error!(
                    reason,
                    "the log is poisoned: nothing is acknowledged until it is opened again"
                );
            }
        }
        if poisoned.is_none()
            && let Err(reason) = self.mark()
        {
            tracing::error!(reason, "the high-water mark could not be written");
        }
    }

    fn mark(&self) -> Result<(), String> {
        self.mark.write(self.disk.commits(), &self.ends)
    }

    /// Returns the jobs of the next commit: what waits, up to the bounds.
    fn drain(&self, first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
        let (mut records, mut bytes) = (first.write.records.len(), first.bytes);
        let mut batch = vec![first];
        while records < COMMIT_RECORDS_MAX && bytes < COMMIT_BYTES_MAX {
            let Ok(job) = jobs.try_recv() else { break };
            records += job.write.records.len();
            bytes += job.bytes;
            batch.push(job);
        }
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        metrics::counter!("podium_log_records_total").increment(records as u64);
        batch
    }

    /// Commits jobs and answers them, also those whose condition does not hold: what they found may be of this batch.
    fn commit(&mut self, jobs: Vec<Job>) -> Result<(), String> {
        let mut ends = self.ends.clone();
        let mut batch = Batch { answers: Vec::with_capacity(jobs.len()), ..Batch::default() };
        let committed = self.gather(jobs, &mut ends, &mut batch).and_then(|()| {
            if batch.records.is_empty() && batch.rows.is_empty() {
                return Ok(());
            }
            self.disk.commit(std::mem::take(&mut batch.records), std::mem::take(&mut batch.rows))
        });
        if committed.is_ok() {
            self.publish(ends);
        }
        for (done, answer) in batch.answers {
            let _ = done.send(match &committed {
                Ok(()) => answer,
                Err(reason) => Err(AppendError::Unavailable(reason.clone()).into()),
            });
        }
        committed
    }

    /// Puts the writes of the jobs together, each seeing what those before it write.
    fn gather(
        &self,
        jobs: Vec<Job>,
        ends: &mut HashMap<(Stream, PartitionId), End>,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let now = now();
        let conditions = jobs.iter().filter_map(|job| job.write.condition.as_ref());
        let awaited: HashSet<Vec<u8>> = conditions.map(|condition| condition.key.clone()).collect();
        let mut overlay: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
        let mut failure = Ok(());
        for Job { write, done, .. } in jobs {
            match self.refused(write.condition.as_ref(), &overlay) {
                Ok(None) => {}
                Ok(Some(error)) => {
                    batch.answers.push((done, Err(error)));
                    continue;
                }
                Err(reason) => failure = Err(reason),
            }
            overlay.extend(write.rows.iter().filter(|(key, _)| awaited.contains(key)).cloned());
            batch.answers.push((done, Ok(place(ends, &mut batch.records, write.records, now))));
            batch.rows.extend(write.rows);
        }
        failure
    }

    /// Returns the error of a write whose condition does not hold, looking at this batch first.
    fn refused(
        &self,
        condition: Option<&Condition>,
        overlay: &HashMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<Option<WriteError>, String> {
        let Some(condition) = condition else { return Ok(None) };
        let found = match overlay.get(&condition.key) {
            Some(value) => value.clone(),
            None => self.disk.row(&condition.key)?,
        };
        Ok((found != condition.expected).then_some(WriteError::Condition { found }))
    }

    fn publish(&mut self, ends: HashMap<(Stream, PartitionId), End>) {
        for (place, end) in &ends {
            if self.ends.get(place).is_none_or(|old| old.next != end.next)
                && let Some(tail) = self.tails.get(place)
            {
                tail.send_replace(end.next);
            }
        }
        self.ends = ends;
    }
}

/// Gives each record its offset and its time, which never goes back in a partition.
pub(super) fn place(
    ends: &mut HashMap<(Stream, PartitionId), End>,
    placed: &mut Vec<Placed>,
    records: Vec<super::Record>,
    now: UnixMillis,
) -> Vec<Stamp> {
    let mut stamps = Vec::with_capacity(records.len());
    for record in records {
        let end = ends.entry((record.stream, record.partition)).or_default();
        end.append_at = end.append_at.max(now);
        let (offset, append_at) = (end.next, end.append_at);
        end.next += 1;
        stamps.push(Stamp { position: Position::from_offset(offset), append_at });
        let place = (record.stream, record.partition);
        placed.push(Placed { place, offset, append_at, payload: record.payload });
    }
    stamps
}

fn now() -> UnixMillis {
    // A clock before 1970 is as good as one at 1970: append times only have to rise.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
