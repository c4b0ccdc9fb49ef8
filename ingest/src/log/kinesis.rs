//! The log on Kinesis: four streams, and Podium's fixed partitions on whatever shards there are.
//!
//! A partition is a range of hash keys; its records carry the hash key in the middle of it, so that a shard carries whole
//! partitions and a split or merge moves whole partitions. Positions are ordered by shard number first, since a partition
//! only ever moves to shards of higher numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Builder;
use aws_smithy_types::retry::RetryConfig;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use operators::event::Stamp;
use operators::id::Position;
use tokio::time::Instant;

use super::{Log, Lost, ReadBatch, ReadLimits, Record, Stream};
use crate::aws::Aws;
use crate::error::{AppendError, ReadError};
use crate::limits;
use crate::partition::PartitionId;

pub mod admin;
mod kpl;
mod producer;
mod read;
mod reader;
mod records;
mod shards;

pub use admin::{OpenError, Origin};
use producer::Producer;
pub use reader::ShardLog;
pub use records::MISPLACED;
pub use shards::Shard;

/// How the log is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the names of the streams begin with.
    pub prefix: String,
    /// Partitions of every stream; `None`: as the streams' tags say.
    pub partitions: Option<u16>,
    /// How long records gather before they are sent. Each call costs the same for one as for hundreds.
    pub linger: Duration,
    /// How long an append is tried before it is given up.
    pub give_up: Duration,
    /// How shards are read.
    pub consumer: Consumer,
    /// Pause between two polls at the end of a shard: five a second are the quota of all its readers together.
    pub poll: Duration,
    /// Pause between two polls while there is more, if that is shorter.
    pub catch_up: Duration,
    /// Records that may wait for one stream; over it the log is overloaded.
    pub queue_records_max: usize,
    /// Their bytes.
    pub queue_bytes_max: usize,
    /// What becomes of a partition of a shard whose next record may be gone.
    pub lost: Lost,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: "podium-".into(),
            partitions: None,
            linger: Duration::from_millis(10),
            give_up: Duration::from_secs(5),
            consumer: Consumer::Polling,
            poll: Duration::from_millis(250),
            // Five calls a second are a shard's quota.
            catch_up: Duration::from_millis(200),
            queue_records_max: 32_768,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            lost: Lost::Refused,
        }
    }
}

/// How shards are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consumer {
    /// By GetRecords, sharing a shard's 2 MB/s and five calls a second with its other readers.
    Polling,
    /// By enhanced fan-out, with 2 MB/s of one's own, at a price per hour and GB.
    FanOut {
        /// The consumer's name, registered if it is not there. Each stage has its own.
        name: String,
    },
}

/// The streams of one prefix.
///
/// Its own `read` follows a partition over all its shards without a lease, one call to Kinesis after the other: for tools
/// and tests. Stages read by [`Kinesis::shard`].
#[derive(Clone)]
pub struct Kinesis {
    inner: Arc<Inner>,
}

struct Inner {
    /// The SDK's own retries.
    client: Client,
    /// None: whoever calls it knows better what a failed try means.
    single: Client,
    partitions: u16,
    options: Options,
    origins: BTreeMap<Stream, Origin>,
    retentions: BTreeMap<Stream, Duration>,
    producers: BTreeMap<Stream, Producer>,
    /// The shards of streams as last seen, for walks.
    seen: Mutex<HashMap<Stream, Arc<Vec<Shard>>>>,
    /// When a shard may be read again by walks.
    paces: Mutex<HashMap<(Stream, u32), Instant>>,
}

/// The records of a call that go to one stream, and where they are in the call.
struct Group {
    stream: Stream,
    indexes: Vec<usize>,
    records: Vec<(PartitionId, Bytes)>,
}

impl Kinesis {
    /// Returns the log of streams that are there, are Podium's, and have the same partitions.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do about it.
    pub async fn open(aws: &Aws, options: Options) -> Result<Self, OpenError> {
        let client = Client::new(aws.sdk());
        let single = Builder::from(aws.sdk()).retry_config(RetryConfig::disabled()).build();
        let single = Client::from_conf(single);
        let found = admin::check(aws, &options.prefix, options.partitions).await?;
        let bounds = producer::queue::Bounds {
            partitions: found.partitions,
            linger: options.linger,
            give_up: options.give_up,
            records_max: options.queue_records_max,
            bytes_max: options.queue_bytes_max,
        };
        let producer = |stream| {
            let name = admin::stream_name(&options.prefix, stream);
            (stream, Producer::start(single.clone(), stream, name, bounds))
        };
        let producers = Stream::ALL.into_iter().map(producer).collect();
        let inner = Inner {
            client,
            single,
            partitions: found.partitions,
            origins: found.origins,
            retentions: found.retentions,
            producers,
            options,
            seen: Mutex::default(),
            paces: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the shards of a stream that Kinesis still knows, closed ones included, sorted by number.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    pub async fn shards(&self, stream: Stream) -> Result<Vec<Shard>, ReadError> {
        shards::list(&self.inner.client, &self.name(stream), self.inner.partitions).await
    }

    /// Returns for how long a stream kept its records when the log was opened.
    pub fn retention(&self, stream: Stream) -> Option<Duration> {
        self.inner.retentions.get(&stream).copied()
    }

    /// Returns the log of one shard, read by one poller for these of its partitions, each from behind its position
    /// (`None`: from the shard's oldest record). A position on another shard counts as none, or as all if that shard is
    /// younger.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn shard(
        &self,
        stream: Stream,
        shard: &Shard,
        from: BTreeMap<PartitionId, Option<Position>>,
    ) -> ShardLog {
        ShardLog::start(self.clone(), stream, shard, &from)
    }

    /// Returns which streams these are.
    pub fn origins(&self) -> &BTreeMap<Stream, Origin> {
        &self.inner.origins
    }

    fn name(&self, stream: Stream) -> String {
        admin::stream_name(&self.inner.options.prefix, stream)
    }

    fn arn(&self, stream: Stream) -> &str {
        self.inner.origins.get(&stream).map_or("", |origin| &origin.arn)
    }

    fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Returns the client of those who make their calls again themselves.
    fn reading(&self) -> Client {
        self.inner.single.clone()
    }

    /// Waits until a shard may be read again: five calls a second are its quota.
    async fn pace(&self, stream: Stream, shard: u32) {
        let at = {
            let mut paces = self.inner.paces.lock().expect("nothing panics while it holds the lock");
            let now = Instant::now();
            let next = paces.entry((stream, shard)).or_insert(now);
            let at = now.max(*next);
            *next = at + self.inner.options.poll.min(Duration::from_millis(200));
            at
        };
        tokio::time::sleep_until(at).await;
    }

    fn invalid(&self, records: &[Record]) -> Option<AppendError> {
        if records.len() > limits::BATCH_RECORDS_MAX {
            let reason = format!("a batch holds at most {} records", limits::BATCH_RECORDS_MAX);
            return Some(AppendError::Invalid { index: limits::BATCH_RECORDS_MAX, reason });
        }
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

    /// Appends to one stream after the other, in the order of their first records.
    async fn append_all(&self, records: Vec<Record>) -> Result<Vec<Stamp>, AppendError> {
        if let Some(invalid) = self.invalid(&records) {
            return Err(invalid);
        }
        let mut stamps = vec![None; records.len()];
        let mut groups: Vec<Group> = Vec::new();
        for (index, Record { stream, partition, payload }) in records.into_iter().enumerate() {
            match groups.iter_mut().find(|group| group.stream == stream) {
                Some(group) => {
                    group.indexes.push(index);
                    group.records.push((partition, payload));
                }
                None => {
                    let (indexes, records) = (vec![index], vec![(partition, payload)]);
                    groups.push(Group { stream, indexes, records });
                }
            }
        }
        let mut is_begun = false;
        for Group { stream, indexes, records } in groups {
            let producer = self.inner.producers.get(&stream).expect("every stream has a producer");
            let written = producer.append(records).await.map_err(|error| match error {
                AppendError::Overloaded { .. } if is_begun => {
                    AppendError::Unavailable("only a part was written".into())
                }
                error @ (AppendError::Overloaded { .. }
                | AppendError::Unavailable(_)
                | AppendError::Invalid { .. }
                | AppendError::Corrupt(_)) => error,
            })?;
            is_begun = true;
            for (index, stamp) in indexes.into_iter().zip(written) {
                stamps[index] = Some(stamp);
            }
        }
        Ok(stamps.into_iter().flatten().collect())
    }
}

impl Log for Kinesis {
    fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        self.append_all(records).boxed()
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        read::Walk::new(self, stream, partition, after, limits).read().boxed()
    }
}
