//! What waits to be written to one stream: a bounded queue per partition, and the aggregates made from it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use operators::event::Stamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{kpl, shards};
use crate::error::AppendError;
use crate::partition::PartitionId;

/// Bytes at which an aggregate is full: ten PUT units of 25 KB, so that rounding up to a unit costs a twentieth at most,
/// and small enough that a shard of 1 MB/s takes four of them a second from different partitions.
const AGGREGATE_BYTES_MAX: usize = 250_000;
/// Room in an aggregate for magic, MD5, and the two tables.
const FRAME_BYTES: usize = 128;

/// The answer to one append call, put together from those of its records.
pub(in crate::log::kinesis) struct Call(Mutex<State>);

struct State {
    stamps: Vec<Option<Stamp>>,
    remaining: usize,
    failure: Option<Failure>,
    done: Option<oneshot::Sender<Result<Vec<Stamp>, AppendError>>>,
}

/// Why a record was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log::kinesis) enum Failure {
    /// It was surely not written: Kinesis had no room for it.
    Refused,
    /// It may have been written, or waiting does not help.
    Unknown(String),
}

impl Call {
    /// Returns a call for so many records, and where its answer comes.
    pub(in crate::log::kinesis) fn new(
        records: usize,
    ) -> (Arc<Self>, oneshot::Receiver<Result<Vec<Stamp>, AppendError>>) {
        let (done, answer) = oneshot::channel();
        let stamps = vec![None; records];
        let state = State { stamps, remaining: records, failure: None, done: Some(done) };
        (Arc::new(Self(Mutex::new(state))), answer)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }

    /// Tells whether a record of the call was given up: what comes behind it is not written any more, so that the call
    /// can be repeated without changing the order.
    fn has_failed(&self) -> bool {
        self.state().failure.is_some()
    }

    fn settle(&self, index: usize, outcome: Result<Stamp, Failure>) {
        let mut state = self.state();
        state.remaining -= 1;
        match (outcome, &state.failure) {
            (Ok(stamp), _) => state.stamps[index] = Some(stamp),
            (Err(_), Some(Failure::Unknown(_))) => {}
            (Err(failure), None | Some(Failure::Refused)) => state.failure = Some(failure),
        }
        if state.remaining > 0 {
            return;
        }
        let stamps = std::mem::take(&mut state.stamps);
        let is_partly_written = stamps.iter().any(Option::is_some);
        let answer = match state.failure.take() {
            None => Ok(stamps.into_iter().flatten().collect()),
            Some(Failure::Refused) if !is_partly_written => Err(overloaded()),
            Some(Failure::Refused) => Err(AppendError::Unavailable("only a part was written".into())),
            Some(Failure::Unknown(reason)) => Err(AppendError::Unavailable(reason)),
        };
        if let Some(done) = state.done.take() {
            // Nobody listens any more when the request was given up.
            let _ = done.send(answer);
        }
    }
}

pub(in crate::log::kinesis) fn overloaded() -> AppendError {
    metrics::counter!("podium_log_overloaded_total").increment(1);
    AppendError::Overloaded { retry_after: Duration::from_secs(1) }
}

/// A record that waits.
pub(in crate::log::kinesis) struct Waiting {
    payload: Bytes,
    since: Instant,
    call: Arc<Call>,
    index: usize,
}

/// One Kinesis record to write, with all that it carries.
pub(in crate::log::kinesis) struct Entry {
    pub(in crate::log::kinesis) partition: PartitionId,
    pub(in crate::log::kinesis) data: Bytes,
    pub(in crate::log::kinesis) attempts: u32,
    /// What an attempt said whose end nobody knows.
    pub(in crate::log::kinesis) unknown: Option<String>,
    pub(in crate::log::kinesis) not_before: Instant,
    pub(in crate::log::kinesis) give_up_at: Instant,
    records: Vec<Waiting>,
}

impl Entry {
    /// Answers its records; `stamp` gives that of the n-th.
    pub(in crate::log::kinesis) fn settle(self, outcome: Result<impl Fn(u64) -> Stamp, Failure>) {
        for (n, record) in self.records.into_iter().enumerate() {
            let one = match &outcome {
                Ok(stamp) => Ok(stamp(n as u64)),
                Err(failure) => Err(failure.clone()),
            };
            record.call.settle(record.index, one);
        }
    }
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// An aggregate of this partition is on its way, or will be tried again.
    is_busy: bool,
}

/// How much a queue holds and for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::log::kinesis) struct Bounds {
    pub(in crate::log::kinesis) partitions: u16,
    pub(in crate::log::kinesis) linger: Duration,
    pub(in crate::log::kinesis) give_up: Duration,
    pub(in crate::log::kinesis) records_max: usize,
    pub(in crate::log::kinesis) bytes_max: usize,
}

/// Everything that waits for one stream.
pub(in crate::log::kinesis) struct Queue {
    bounds: Bounds,
    lanes: Vec<Lane>,
    /// Records and bytes in the lanes and in entries on their way.
    records: usize,
    bytes: usize,
    /// The lane that is looked at first, so that each has its turn.
    first: usize,
}

impl Queue {
    pub(in crate::log::kinesis) fn new(bounds: Bounds) -> Self {
        let lanes = (0..bounds.partitions).map(|_| Lane::default()).collect();
        Self { bounds, lanes, records: 0, bytes: 0, first: 0 }
    }

    /// Takes the records of a call, all or none; tells whether the sender has to look.
    pub(in crate::log::kinesis) fn push(
        &mut self,
        records: Vec<(usize, PartitionId, Bytes)>,
        call: &Arc<Call>,
        now: Instant,
    ) -> Result<bool, AppendError> {
        let bytes: usize = records.iter().map(|(_, _, payload)| payload.len()).sum();
        let is_full = self.records + records.len() > self.bounds.records_max
            || self.bytes + bytes > self.bounds.bytes_max;
        // A call over the bounds of its own is taken when nothing else waits.
        if is_full && self.records > 0 {
            return Err(overloaded());
        }
        self.records += records.len();
        self.bytes += bytes;
        let mut wakes = false;
        for (index, partition, payload) in records {
            let lane = &mut self.lanes[usize::from(partition.0)];
            lane.bytes += payload.len();
            wakes |= lane.waiting.is_empty() || lane.bytes >= AGGREGATE_BYTES_MAX;
            lane.waiting.push_back(Waiting { payload, since: now, call: call.clone(), index });
        }
        Ok(wakes)
    }

    /// Returns the next entry whose time has come, at most one of a partition until [`Queue::done`] is told.
    pub(in crate::log::kinesis) fn next(&mut self, now: Instant, bytes_max: usize) -> Option<Entry> {
        let lanes = self.lanes.len();
        for turn in 0..lanes {
            let index = (self.first + turn) % lanes;
            self.refuse_old(index, now);
            let lane = &self.lanes[index];
            let Some(oldest) = lane.waiting.front() else { continue };
            let is_due = oldest.since + self.bounds.linger <= now || lane.bytes >= AGGREGATE_BYTES_MAX;
            let fits = lane.bytes.min(AGGREGATE_BYTES_MAX).max(oldest.payload.len()) <= bytes_max;
            if lane.is_busy || !is_due || !fits {
                continue;
            }
            self.first = (index + 1) % lanes;
            return Some(self.gather(index, now));
        }
        None
    }

    /// Returns when [`Queue::next`] has something to do, if anything waits.
    pub(in crate::log::kinesis) fn next_at(&self) -> Option<Instant> {
        let at = |lane: &Lane| {
            let oldest = lane.waiting.front()?.since;
            Some(if lane.is_busy {
                oldest + self.bounds.give_up
            } else if lane.bytes >= AGGREGATE_BYTES_MAX {
                oldest
            } else {
                oldest + self.bounds.linger
            })
        };
        self.lanes.iter().filter_map(at).min()
    }

    /// Lets the partition of an entry go on: it was written or given up.
    pub(in crate::log::kinesis) fn done(&mut self, entry: &Entry) {
        self.lanes[usize::from(entry.partition.0)].is_busy = false;
        self.forget(&entry.records);
    }

    fn forget(&mut self, records: &[Waiting]) {
        self.records -= records.len();
        self.bytes -= records.iter().map(|record| record.payload.len()).sum::<usize>();
    }

    /// Gives up what has waited too long, and what is behind a record of the same call that was given up.
    fn refuse_old(&mut self, index: usize, now: Instant) {
        let lane = &mut self.lanes[index];
        let mut refused = Vec::new();
        while let Some(oldest) = lane.waiting.front()
            && (oldest.since + self.bounds.give_up <= now || oldest.call.has_failed())
        {
            lane.bytes -= oldest.payload.len();
            refused.extend(lane.waiting.pop_front());
        }
        self.forget(&refused);
        for record in refused {
            record.call.settle(record.index, Err(Failure::Refused));
        }
    }

    fn gather(&mut self, index: usize, now: Instant) -> Entry {
        let partition = PartitionId(index as u16);
        let lane = &mut self.lanes[index];
        lane.is_busy = true;
        let mut bytes = FRAME_BYTES;
        let mut records: Vec<Waiting> = Vec::new();
        while let Some(next) = lane.waiting.front() {
            bytes += next.payload.len() + kpl::PART_BYTES_MAX;
            if !records.is_empty() && bytes > AGGREGATE_BYTES_MAX {
                break;
            }
            lane.bytes -= next.payload.len();
            records.extend(lane.waiting.pop_front());
        }
        let data = match &records[..] {
            [alone] if !kpl::is_like_an_aggregate(&alone.payload) => alone.payload.clone(),
            records => {
                let (name, hash) = keys(partition, self.bounds.partitions);
                kpl::pack(&name, &hash, records.iter().map(|record| &record.payload))
            }
        };
        let since = records.first().map_or(now, |record| record.since);
        let give_up_at = since + self.bounds.give_up;
        Entry { partition, data, attempts: 0, unknown: None, not_before: now, give_up_at, records }
    }
}

/// Returns the partition key and the explicit hash key of a partition.
pub(in crate::log::kinesis) fn keys(partition: PartitionId, partitions: u16) -> (String, String) {
    (shards::name(partition, partitions), shards::middle(partition, partitions).to_string())
}
