//! Mistakes that are put into the cluster on purpose: whatever judges it has to find them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::error::{AppendError, ReadError};
use ingest::log::{Log, ReadBatch, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use pipeline::cluster::shards::{Shard, Shards};
use pipeline::store::{Changes, Commit, Header, Row, Store, StoreError, Unit};
use pipeline::wire::cluster::Streams;

/// A log that takes an append for done although nobody said so: for gateways.
pub(crate) struct Hasty(pub(crate) Arc<dyn Log>);

/// A log that says an append is done and does it later: for the effects of workers, so that state comes before them.
struct Tardy(Arc<dyn Log>);

/// Shards whose logs are [`Tardy`]: a worker sends effects through the log that it reads.
pub(crate) struct TardyShards(pub(crate) Streams);

impl Shards for TardyShards {
    fn list(&self, stream: Stream) -> BoxFuture<'_, Result<Vec<Shard>, ReadError>> {
        self.0.list(stream)
    }
    fn retention(&self, stream: Stream) -> Option<Duration> {
        self.0.retention(stream)
    }
    fn open(
        &self,
        stream: Stream,
        shard: &Shard,
        from: BTreeMap<PartitionId, Option<Position>>,
    ) -> Arc<dyn Log> {
        Arc::new(Tardy(self.0.open(stream, shard, from)))
    }
}

/// How much later: a checkpoint and a little.
const LATER: Duration = Duration::from_secs(1);

fn taken_for_done(count: usize, answer: Result<Vec<Stamp>, AppendError>) -> Result<Vec<Stamp>, AppendError> {
    match answer {
        Err(AppendError::Unavailable(_)) => {
            Ok(vec![Stamp { position: Position::from_offset(1), append_at: UnixMillis(0) }; count])
        }
        answer => answer,
    }
}

impl Log for Hasty {
    fn partitions(&self) -> u16 {
        self.0.partitions()
    }
    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        async move { taken_for_done(records.len(), self.0.append(records).await) }.boxed()
    }
    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        self.0.read(stream, partition, after, limits)
    }
}

impl Log for Tardy {
    fn partitions(&self) -> u16 {
        self.0.partitions()
    }
    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        let (log, stamp) =
            (self.0.clone(), Stamp { position: Position::from_offset(1), append_at: UnixMillis(0) });
        let stamps = vec![stamp; records.len()];
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            while log.append(records.clone()).await.is_err() {}
        });
        futures::future::ready(Ok(stamps)).boxed()
    }
    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        self.0.read(stream, partition, after, limits)
    }
}

/// A store that forgets the rows of every third commit of a unit.
pub(crate) struct Half {
    store: Arc<dyn Store>,
    commits: Mutex<BTreeMap<Unit, u64>>,
}

impl Half {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, commits: Mutex::default() }
    }
}

impl Store for Half {
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>> {
        self.store.acquire(unit)
    }
    fn scan<'a>(
        &'a self,
        unit: Unit,
        epoch: Option<u64>,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.store.scan(unit, epoch, prefix, after, limit)
    }
    fn get<'a>(&'a self, unit: Unit, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        self.store.get(unit, key)
    }
    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        let count = {
            let mut commits = self.commits.lock().unwrap();
            let count = commits.entry(commit.unit).or_default();
            *count += 1;
            *count
        };
        async move {
            if count % 3 != 0 {
                return self.store.commit(commit).await;
            }
            self.store.commit(&Commit { changes: Changes::default(), ..commit.clone() }).await
        }
        .boxed()
    }
}
