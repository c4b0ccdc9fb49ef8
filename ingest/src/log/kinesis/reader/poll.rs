//! Polling: GetRecords over and over, inside the five calls per second that a shard takes from all its readers.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::time::Instant;

use super::super::records::{ANSWER_RECORDS_MAX, Backoff};
use super::super::{Options, producer, shards};
use super::{Buffers, Start};
use crate::aws::explain;
use crate::error::ReadError;

/// Answers without a record that come no nearer to the end of the shard, after which the place to begin with is given up:
/// one that is past the retention has been seen to lead nowhere for ever.
const STUCK_AFTER: u32 = 20;

pub(super) struct Poller {
    client: Client,
    /// Pause between calls at the end of the shard.
    interval: Duration,
    /// Pause between calls while there is more.
    behind: Duration,
    buffers: Arc<Buffers>,
}

impl Poller {
    pub(super) fn new(client: Client, options: &Options, buffers: Arc<Buffers>) -> Self {
        Self { client, interval: options.poll, behind: options.poll.min(options.catch_up), buffers }
    }

    /// Reads the shard to its end.
    pub(in crate::log::kinesis) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut iterator: Option<String> = None;
        let mut next_at = Instant::now();
        let mut stuck = Stuck::default();
        loop {
            self.buffers.has_room().await;
            tokio::time::sleep_until(next_at).await;
            let began = Instant::now();
            match self.fetch(iterator.take()).await {
                Ok(Fetched::Ended) => return,
                Ok(Fetched::Next { iterator: next, is_behind, empty_at }) => {
                    backoff.reset();
                    iterator = Some(next);
                    if stuck.is_it(empty_at) && matches!(self.buffers.next(), Start::At(_)) {
                        let (stream, shard) = (&self.buffers.name, &self.buffers.shard.id);
                        tracing::warn!(
                            stream,
                            shard,
                            "nothing comes from where to begin; trying the oldest record"
                        );
                        self.buffers.start_over();
                        iterator = None;
                    }
                    next_at = began + if is_behind { self.behind } else { self.interval };
                }
                Err(Refusal::Expired) => {}
                Err(Refusal::Throttled { iterator: same }) => {
                    iterator = same;
                    let stream = &self.buffers.name;
                    metrics::counter!("podium_kinesis_get_throttled_total").increment(1);
                    tracing::debug!(stream, shard = self.buffers.shard.id, "reads are throttled");
                    backoff.pause().await;
                }
                // What a stream has no more, some answer to as if it never was.
                Err(Refusal::Failed(ReadError::Corrupt(reason))) if self.buffers.may_start_over() => {
                    let (stream, shard) = (&self.buffers.name, &self.buffers.shard.id);
                    tracing::warn!(stream, shard, reason, "trying the oldest record");
                    self.buffers.start_over();
                }
                Err(Refusal::Failed(error)) => {
                    let is_final = matches!(error, ReadError::Corrupt(_));
                    self.buffers.fail(error);
                    if is_final {
                        return;
                    }
                    backoff.pause().await;
                }
            }
        }
    }

    async fn fetch(&self, iterator: Option<String>) -> Result<Fetched, Refusal> {
        let Buffers { name, shard, .. } = &*self.buffers;
        let iterator = match iterator {
            Some(iterator) => iterator,
            None => self::iterator(&self.client, name, &shard.id, self.buffers.next()).await?,
        };
        let answer = get(&self.client, iterator).await?;
        let is_full = answer.records().len() >= ANSWER_RECORDS_MAX;
        let behind_ms = answer.millis_behind_latest().unwrap_or_default();
        let is_behind = behind_ms > 0 || is_full;
        let empty_at = answer.records().is_empty().then_some(behind_ms).filter(|ms| *ms > 0);
        let bytes: usize = answer.records().iter().map(|record| record.data().as_ref().len()).sum();
        metrics::counter!("podium_kinesis_get_bytes_total").increment(bytes as u64);
        let next = answer.next_shard_iterator;
        let ended = next.is_none();
        self.buffers.take(answer.records, !is_behind, ended).map_err(Refusal::Failed)?;
        Ok(next.map_or(Fetched::Ended, |iterator| Fetched::Next { iterator, is_behind, empty_at }))
    }
}

enum Fetched {
    Next {
        iterator: String,
        is_behind: bool,
        /// How far behind an answer without a record was, in milliseconds.
        empty_at: Option<i64>,
    },
    Ended,
}

/// Counts answers without a record that come no nearer to the end.
#[derive(Default)]
struct Stuck {
    least_ms: i64,
    count: u32,
}

impl Stuck {
    /// Takes in one more answer; tells whether there were too many.
    fn is_it(&mut self, empty_at: Option<i64>) -> bool {
        match empty_at {
            Some(ms) if self.count > 0 && ms >= self.least_ms => self.count += 1,
            Some(ms) => *self = Self { least_ms: ms, count: 1 },
            None => *self = Self::default(),
        }
        self.count >= STUCK_AFTER
    }
}

/// Why a call returned nothing.
pub(in crate::log::kinesis) enum Refusal {
    /// The iterator is too old: make another.
    Expired,
    /// Too many calls or bytes: the same again, later.
    Throttled { iterator: Option<String> },
    /// As for any read.
    Failed(ReadError),
}

/// Returns an iterator from a place on a shard.
pub(in crate::log::kinesis) async fn iterator(
    client: &Client,
    stream: &str,
    shard: &str,
    start: Start,
) -> Result<String, Refusal> {
    let call = client.get_shard_iterator().stream_name(stream).shard_id(shard);
    let call = match start {
        Start::Oldest => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
        Start::At(position) => call
            .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
            .starting_sequence_number(shards::sequence_text(position)),
        Start::After(position) => call
            .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
            .starting_sequence_number(shards::sequence_text(position)),
    };
    match call.send().await {
        Ok(answer) => answer
            .shard_iterator
            .ok_or_else(|| Refusal::Failed(ReadError::Unavailable("Kinesis returned no iterator".into()))),
        Err(error) => {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
            Err(match code {
                Some(code) if producer::is_throttle(code) => Refusal::Throttled { iterator: None },
                // The place is one that was read, so it is the stream that is another one.
                Some("InvalidArgumentException") if start != Start::Oldest => {
                    let words =
                        format!("{stream} has nothing at the position to go on from: {}", explain(&error));
                    Refusal::Failed(ReadError::Corrupt(words))
                }
                Some(_) | None => Refusal::Failed(ReadError::Unavailable(explain(&error))),
            })
        }
    }
}

/// Makes one GetRecords call.
pub(in crate::log::kinesis) async fn get(
    client: &Client,
    iterator: String,
) -> Result<GetRecordsOutput, Refusal> {
    metrics::counter!("podium_kinesis_get_calls_total").increment(1);
    let call = client.get_records().shard_iterator(&iterator).limit(ANSWER_RECORDS_MAX as i32);
    call.send().await.map_err(|error| match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some("ExpiredIteratorException") => Refusal::Expired,
        Some(code) if producer::is_throttle(code) => Refusal::Throttled { iterator: Some(iterator) },
        Some(_) | None => Refusal::Failed(ReadError::Unavailable(explain(&error))),
    })
}
