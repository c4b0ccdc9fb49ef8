//! The log on Kinesis, over a double in this process.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest::error::ReadError;
use ingest::log::kinesis::{Kinesis, Options, Shard, ShardLog, admin};
use ingest::log::{Log, ReadLimits, StoredRecord, Stream};
use ingest::partition::PartitionId;
use operators::id::Position;
use tokio::sync::OnceCell;

use crate::contract::Place;

mod double;
mod fan_out;
mod foreign;
mod interop;
mod lineage;
mod shard;
mod streams;
mod trouble;

pub(crate) use double::Double;

/// Options of a log for tests: as fast as it goes.
pub(crate) fn options(prefix: &str) -> Options {
    Options {
        prefix: prefix.into(),
        linger: Duration::from_millis(1),
        poll: Duration::from_millis(2),
        ..Options::default()
    }
}

/// Streams of four partitions on two shards.
pub(crate) struct Streams(OnceCell<Double>);

impl Place for Streams {
    type Log = Kinesis;
    const TELLS_TIMES: bool = false;

    fn new() -> Self {
        Self(OnceCell::new())
    }

    async fn open(&self) -> Kinesis {
        self.0.get_or_init(|| Double::with_streams(4, 2)).await.open().await
    }

    fn beyond(last: Position) -> Vec<Position> {
        [1, 1_000, u64::MAX].map(|sub| Position { sub, ..last }).into()
    }
}

/// Reads a stream as stages do: each shard by its own poller, and none before its parents are read to their end.
pub(crate) struct Follower {
    log: Kinesis,
    stream: Stream,
    reading: Vec<(Shard, ShardLog)>,
    /// Shards that were read to their end.
    finished: Vec<String>,
    /// What was read, by partition.
    pub(crate) records: BTreeMap<PartitionId, Vec<StoredRecord>>,
}

/// Longest time that anything here may take on a busy machine; a hang fails instead of hanging.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

impl Follower {
    pub(crate) fn new(log: &Kinesis, stream: Stream) -> Self {
        let (reading, finished) = (Vec::new(), Vec::new());
        Self { log: log.clone(), stream, reading, finished, records: BTreeMap::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }

    pub(crate) fn finished(&self) -> usize {
        self.finished.len()
    }

    /// Takes shards whose time has come, and reads once from each that it has.
    pub(crate) async fn step(&mut self) {
        let shards = self.log.shards(self.stream).await.unwrap();
        for shard in &shards {
            let is_known =
                self.finished.contains(&shard.id) || self.reading.iter().any(|(s, _)| s.id == shard.id);
            let is_listed = |id: &&String| shards.iter().any(|shard| shard.id == **id);
            let mut parents = shard.parents.iter().filter(is_listed);
            if is_known || !parents.all(|parent| self.finished.contains(parent)) {
                continue;
            }
            let last =
                |partition: &PartitionId| self.records.get(partition)?.last().map(|last| last.stamp.position);
            let from = shard.partitions.iter().map(|partition| (*partition, last(partition))).collect();
            self.reading.push((shard.clone(), self.log.shard(self.stream, shard, from)));
        }
        let limits = ReadLimits { records_max: 100, bytes_max: 1 << 20, wait: Duration::from_millis(3) };
        for (shard, log) in std::mem::take(&mut self.reading) {
            let mut is_closed = true;
            for &partition in &shard.partitions {
                let records = self.records.entry(partition).or_default();
                let after = records.last().map(|last| last.stamp.position);
                match log.read(self.stream, partition, after, limits).await {
                    Ok(batch) => {
                        records.extend(batch.records);
                        is_closed &= batch.closed;
                    }
                    Err(ReadError::Unavailable(_)) => is_closed = false,
                    Err(error @ ReadError::Corrupt(_)) => panic!("{error}"),
                }
            }
            if is_closed && !shard.partitions.is_empty() {
                self.finished.push(shard.id);
            } else {
                self.reading.push((shard, log));
            }
        }
    }

    /// Reads until there are so many records, and a little longer, so that one too many is seen.
    pub(crate) async fn until(&mut self, count: usize) {
        let reached = async {
            while self.count() < count {
                self.step().await;
            }
            for _ in 0..5 {
                self.step().await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, reached).await.is_ok();
        assert!(in_time, "{} of {count} records came", self.count());
    }

    /// Reads until there are so many different records.
    pub(crate) async fn until_seen(&mut self, count: usize) {
        let seen = |follower: &Self| {
            let payloads = follower.records.values().flatten().map(|record| &record.payload);
            payloads.collect::<std::collections::BTreeSet<_>>().len()
        };
        let reached = async {
            while seen(self) < count {
                self.step().await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, reached).await.is_ok();
        assert!(in_time, "{} of {count} records came", seen(self));
    }

    pub(crate) fn texts(&self, partition: u16) -> Vec<String> {
        let records = self.records.get(&PartitionId(partition)).map_or(&[][..], Vec::as_slice);
        assert!(records.is_sorted_by(|a, b| a.stamp.position < b.stamp.position), "positions rise");
        records.iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()).collect()
    }
}

/// Scales a stream of a double.
pub(crate) async fn scale(double: &Double, stream: Stream, shards: u32) -> Vec<Shard> {
    admin::scale(double.aws(), double.prefix(), stream, shards).await.unwrap()
}
