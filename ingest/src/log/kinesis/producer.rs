//! The producer of one stream: turns what waits into PutRecords calls and sees each entry through.
//!
//! At most one entry of a partition is on its way, so that a retry never passes what was appended after it. The SDK does
//! not retry these calls: only who saw every attempt can tell what was surely not written.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::shards;
use crate::aws::explain;
use crate::error::AppendError;
use crate::log::Stream;
use crate::partition::PartitionId;

pub(super) mod queue;

use queue::{Bounds, Call, Entry, Failure, Queue};

/// Entries of one PutRecords call, as Kinesis has it.
const ENTRIES_MAX: usize = 500;
/// Bytes of one PutRecords call with its keys: Kinesis takes 5 MiB.
const CALL_BYTES_MAX: usize = 5_000_000;
/// Calls of one stream under way at once: one that hangs must not hold up the partitions that it does not carry.
const CALLS_MAX: usize = 4;
/// First and longest pause of an entry that was not taken. A shard takes up again within a second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// What Kinesis bills: payload and key of each entry, in units begun.
const PUT_UNIT_BYTES: usize = 25 * 1_024;

/// Appends to one stream; dropping it stops the sender.
pub(super) struct Producer {
    shared: Arc<Shared>,
    sender: AbortHandle,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the lock")
    }
}

impl Producer {
    pub(super) fn start(client: Client, stream: Stream, name: String, bounds: Bounds) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::new(Queue::new(bounds)), wake: Notify::new() });
        let sender = Sender { client, stream, name, partitions: bounds.partitions, shared: shared.clone() };
        Self { shared, sender: tokio::spawn(sender.run()).abort_handle() }
    }

    /// Appends records of this stream; returns their stamps in order.
    pub(super) async fn append(&self, records: Vec<(PartitionId, Bytes)>) -> Result<Vec<Stamp>, AppendError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (call, answer) = Call::new(records.len());
        let records = records.into_iter().enumerate().map(|(n, (partition, data))| (n, partition, data));
        if self.shared.queue().push(records.collect(), &call, Instant::now())? {
            self.shared.wake.notify_one();
        }
        answer.await.unwrap_or_else(|_| Err(AppendError::Unavailable("the log is closed".into())))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

struct Sender {
    client: Client,
    stream: Stream,
    name: String,
    partitions: u16,
    shared: Arc<Shared>,
}

/// What became of an entry.
enum Outcome {
    Written(Position),
    /// Not taken for want of room; nothing of it was written.
    Throttled,
    /// Nobody knows, and another try may tell.
    Unknown(String),
    /// Another try would end the same way.
    Failed(String),
}

impl Sender {
    async fn run(self) {
        let mut again: Vec<Entry> = Vec::new();
        let mut calls = FuturesUnordered::new();
        loop {
            if calls.len() < CALLS_MAX {
                let batch = self.batch(&mut again, Instant::now());
                if !batch.is_empty() {
                    calls.push(self.put(batch));
                    continue;
                }
            }
            let queued = self.shared.queue().next_at();
            let next = again.iter().map(|entry| entry.not_before).chain(queued).min();
            // With every call out there is nothing to do before one of them returns.
            let next = next.filter(|_| calls.len() < CALLS_MAX);
            let pause = next.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
            tokio::select! {
                Some(outcomes) = calls.next(), if !calls.is_empty() => {
                    for (entry, outcome) in outcomes {
                        again.extend(self.settle(entry, outcome));
                    }
                }
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(pause) => {}
            }
        }
    }

    /// Returns the entries of the next call: those to be tried again first.
    fn batch(&self, again: &mut Vec<Entry>, now: Instant) -> Vec<Entry> {
        let mut batch = Vec::new();
        // Every entry has its key.
        let mut room = CALL_BYTES_MAX - ENTRIES_MAX * shards::name(PartitionId(u16::MAX), u16::MAX).len();
        let mut index = 0;
        while let Some(entry) = again.get(index) {
            if entry.not_before <= now && entry.data.len() <= room && batch.len() < ENTRIES_MAX {
                room -= entry.data.len();
                batch.push(again.swap_remove(index));
            } else {
                index += 1;
            }
        }
        let mut queue = self.shared.queue();
        while batch.len() < ENTRIES_MAX
            && let Some(entry) = queue.next(now, room)
        {
            room = room.saturating_sub(entry.data.len());
            batch.push(entry);
        }
        batch
    }

    async fn put(&self, entries: Vec<Entry>) -> Vec<(Entry, Outcome)> {
        let mut call = self.client.put_records().stream_name(&self.name);
        let (mut bytes, mut units) = (0, 0);
        for entry in &entries {
            let (name, hash) = queue::keys(entry.partition, self.partitions);
            let billed = entry.data.len() + name.len();
            bytes += billed;
            units += billed.div_ceil(PUT_UNIT_BYTES);
            let record = PutRecordsRequestEntry::builder()
                .partition_key(name)
                .explicit_hash_key(hash)
                .data(Blob::new(entry.data.to_vec()));
            call = call.records(record.build().expect("every required field is given"));
        }
        let count = |name: &'static str, by: usize| {
            metrics::counter!(name, "stream" => self.stream.name()).increment(by as u64);
        };
        count("podium_kinesis_put_calls_total", 1);
        count("podium_kinesis_put_entries_total", entries.len());
        count("podium_kinesis_put_units_total", units);
        count("podium_kinesis_put_bytes_total", bytes);
        let outcomes = match call.send().await {
            Ok(answer) => taken(&answer, entries.len()),
            Err(error) => {
                let throttled =
                    error.as_service_error().and_then(ProvideErrorMetadata::code).is_some_and(is_throttle);
                let refused = error.raw_response().is_some_and(|answer| answer.status().is_client_error());
                (0..entries.len())
                    .map(|_| match (throttled, refused) {
                        (true, _) => Outcome::Throttled,
                        (false, true) => Outcome::Failed(explain(&error)),
                        (false, false) => Outcome::Unknown(explain(&error)),
                    })
                    .collect()
            }
        };
        let throttled = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Throttled)).count();
        count("podium_kinesis_put_throttled_total", throttled);
        entries.into_iter().zip(outcomes).collect()
    }

    /// Answers an entry, or returns it to be tried again.
    fn settle(&self, mut entry: Entry, outcome: Outcome) -> Option<Entry> {
        let failure = match outcome {
            Outcome::Written(position) => {
                let append_at = now();
                self.shared.queue().done(&entry);
                entry.settle(Ok(|sub| Stamp { position: Position { sub, ..position }, append_at }));
                return None;
            }
            Outcome::Failed(reason) => Some(Failure::Unknown(reason)),
            Outcome::Throttled => None,
            Outcome::Unknown(reason) => {
                entry.unknown = Some(reason);
                None
            }
        };
        let now = Instant::now();
        let Some(failure) = failure.or_else(|| {
            let given_up = entry.give_up_at <= now;
            given_up.then(|| entry.unknown.clone().map_or(Failure::Refused, Failure::Unknown))
        }) else {
            let pause = BACKOFF.0.saturating_mul(1 << entry.attempts.min(8)).min(BACKOFF.1);
            entry.attempts += 1;
            entry.not_before = now + pause;
            return Some(entry);
        };
        tracing::debug!(stream = %self.stream, partition = %entry.partition, ?failure, "append given up");
        self.shared.queue().done(&entry);
        entry.settle(Err::<fn(u64) -> Stamp, _>(failure));
        None
    }
}

/// Returns what became of each entry of a call that was answered.
fn taken(answer: &PutRecordsOutput, entries: usize) -> Vec<Outcome> {
    if answer.records().len() != entries {
        let reason = "Kinesis did not answer for every record";
        return (0..entries).map(|_| Outcome::Unknown(reason.into())).collect();
    }
    answer.records().iter().map(one).collect()
}

fn one(entry: &PutRecordsResultEntry) -> Outcome {
    if let Some(code) = entry.error_code() {
        return if is_throttle(code) {
            Outcome::Throttled
        } else {
            Outcome::Unknown(format!("{code} ({})", entry.error_message().unwrap_or_default()))
        };
    }
    let position =
        entry.shard_id().and_then(shards::number).zip(entry.sequence_number().and_then(shards::sequence));
    match position {
        Some((shard, sequence)) => Outcome::Written(Position { shard, sequence, sub: 0 }),
        None => Outcome::Unknown("Kinesis did not say where it put a record".into()),
    }
}

/// Tells whether an error means: not now, and nothing was written.
pub(super) fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException"
            | "RequestLimitExceeded"
    )
}

fn now() -> UnixMillis {
    // A clock before 1970 is as good as one at 1970: readers get the time of Kinesis.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
