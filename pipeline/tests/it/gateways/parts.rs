//! What the two gateways stand on: a clock moved by hand, the log with that clock's times, a door to the log that can
//! be held shut, and a store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::error::{AppendError, ReadError};
use ingest::log::embedded::Embedded;
use ingest::log::{Log, ReadBatch, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use pipeline::store::{Commit, Header, Row, Store, StoreError, Unit};
use tokio::sync::watch;

/// The one time of a test: it stands still unless it is moved.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn at(start: u64) -> Self {
        Self(AtomicU64::new(start))
    }
    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
    pub(crate) fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl gateway::Clock for HandClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

impl pipeline::runner::clock::Clock for HandClock {
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// One gateway's clock: the test's, off by so much.
pub(super) struct DoorClock {
    clock: Arc<HandClock>,
    ahead_ms: AtomicI64,
}

impl DoorClock {
    pub(super) fn new(clock: Arc<HandClock>) -> Self {
        Self { clock, ahead_ms: AtomicI64::new(0) }
    }
    pub(super) fn skew(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::SeqCst);
    }
}

impl gateway::Clock for DoorClock {
    fn now(&self) -> UnixMillis {
        let UnixMillis(now) = gateway::Clock::now(&*self.clock);
        UnixMillis(now.saturating_add_signed(self.ahead_ms.load(Ordering::SeqCst)))
    }
}

/// The embedded log with append times of the test's clock in place of the machine's.
pub(crate) struct TimedLog {
    inner: Embedded,
    clock: Arc<HandClock>,
    times: Mutex<HashMap<(Stream, PartitionId, Position), UnixMillis>>,
}

impl TimedLog {
    pub(crate) fn new(inner: Embedded, clock: Arc<HandClock>) -> Self {
        Self { inner, clock, times: Mutex::default() }
    }

    /// Returns the time of a record; one that came with a commit has the time at which somebody first read it.
    fn time(&self, stream: Stream, partition: PartitionId, position: Position) -> UnixMillis {
        let mut times = self.times.lock().unwrap();
        *times.entry((stream, partition, position)).or_insert_with(|| gateway::Clock::now(&*self.clock))
    }
}

impl Log for TimedLog {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        async move {
            let places: Vec<_> = records.iter().map(|record| (record.stream, record.partition)).collect();
            let mut stamps = self.inner.append(records).await?;
            for (stamp, (stream, partition)) in stamps.iter_mut().zip(places) {
                stamp.append_at = self.time(stream, partition, stamp.position);
            }
            Ok(stamps)
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        async move {
            let mut batch = self.inner.read(stream, partition, after, limits).await?;
            for record in &mut batch.records {
                record.stamp.append_at = self.time(stream, partition, record.stamp.position);
            }
            Ok(batch)
        }
        .boxed()
    }
}

/// Where an append is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// On its way to the log.
    Before,
    /// In the log, its acknowledgement on the way back.
    After,
}

/// The log as one gateway reaches it.
pub(super) struct DoorLog {
    log: Arc<TimedLog>,
    hold: watch::Sender<Option<Hold>>,
    appended: AtomicUsize,
}

impl DoorLog {
    pub(super) fn new(log: Arc<TimedLog>) -> Self {
        Self { log, hold: watch::Sender::new(None), appended: AtomicUsize::new(0) }
    }
    pub(super) fn hold(&self, hold: Hold) {
        self.hold.send_replace(Some(hold));
    }
    pub(super) fn release(&self) {
        self.hold.send_replace(None);
    }
    /// Returns how many records this gateway appended.
    pub(super) fn appended(&self) -> usize {
        self.appended.load(Ordering::SeqCst)
    }
    async fn wait(&self) {
        self.hold.subscribe().wait_for(Option::is_none).await.unwrap();
    }
}

impl Log for DoorLog {
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        async move {
            let hold = *self.hold.borrow();
            if hold == Some(Hold::Before) {
                self.wait().await;
            }
            let count = records.len();
            let stamps = self.log.append(records).await;
            self.appended.fetch_add(count, Ordering::SeqCst);
            if hold == Some(Hold::After) {
                self.wait().await;
            }
            stamps
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        self.log.read(stream, partition, after, limits)
    }
}

/// Rows of a unit.
pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store of the lagging rank stage.
#[derive(Default)]
pub(super) struct MemoryStore(Mutex<Units>);

#[derive(Default)]
struct Units {
    headers: BTreeMap<Unit, Header>,
    rows: BTreeMap<(Unit, Vec<u8>), Vec<u8>>,
}

impl MemoryStore {
    /// Returns where a unit stands, with all its rows.
    pub(super) fn state(&self, unit: Unit) -> Option<(Header, Rows)> {
        let units = self.0.lock().unwrap();
        let header = units.headers.get(&unit)?;
        let rows = units.rows.iter().filter(|((of, _), _)| *of == unit);
        Some((*header, rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()))
    }

    /// Removes rows of a unit, as a stage does that forgets what is over.
    pub(super) fn remove(&self, unit: Unit, is_gone: impl Fn(&[u8]) -> bool) {
        self.0.lock().unwrap().rows.retain(|(of, key), _| *of != unit || !is_gone(key));
    }
}

impl Store for MemoryStore {
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>> {
        let mut units = self.0.lock().unwrap();
        let header = units.headers.entry(unit).or_default();
        header.epoch += 1;
        std::future::ready(Ok(*header)).boxed()
    }

    fn scan<'a>(
        &'a self,
        unit: Unit,
        _epoch: Option<u64>,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let units = self.0.lock().unwrap();
        let rows = units.rows.range((unit, prefix.to_vec())..);
        let under = rows.take_while(|((of, key), _)| *of == unit && key.starts_with(prefix));
        let rest = under.filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after));
        let rows = rest.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect();
        std::future::ready(Ok(rows)).boxed()
    }

    fn get<'a>(&'a self, unit: Unit, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        let value = self.0.lock().unwrap().rows.get(&(unit, key.to_vec())).cloned();
        std::future::ready(Ok(value)).boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        assert!(commit.effects.is_empty(), "a rank stage tells nobody anything");
        assert!(commit.changes.forget.is_empty(), "nothing is finished long enough");
        let mut units = self.0.lock().unwrap();
        let to = commit.to();
        let found = units.headers.insert(commit.unit, to);
        assert_eq!(found, Some(commit.from), "one owner, one step at a time");
        for (key, value) in &commit.changes.rows {
            let place = (commit.unit, key.clone());
            match value {
                Some(value) => units.rows.insert(place, value.clone()),
                None => units.rows.remove(&place),
            };
        }
        std::future::ready(Ok(())).boxed()
    }
}
