//! A gateway as a cluster has them: its views are copies that follow what B's rank stage has stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::Clock;
use ingest::codec::Reached;
use ingest::error::ReadError;
use ingest::lease::Lease;
use ingest::log::{Log, ReadLimits, Stream};
use ingest::partition::{PartitionId, of_key};
use operators::id::{Position, QuizId, UnixMillis};
use pipeline::cluster::beats::{Beat, Beats};
use pipeline::cluster::shards::{Shard, Shards};
use pipeline::runner::progress::pulses::Ranked;
use pipeline::stage::rank;
use pipeline::store::{Change, Follow, Row, Stage, Standing, StoreError, Unit};
use pipeline::views::boards::Boards;
use pipeline::views::notices::Notices;
use pipeline::views::replicas::{Replicas, Settings};
use pipeline::views::tails::Tails;
use tokio::sync::watch;

use super::house::{Door, House, PARTITIONS, settings};
use super::parts::{HandClock, MemoryStore, Rows, TimedLog};

/// What B's rank stage has stored, as gateways read it.
pub(super) struct Shelf {
    store: Arc<MemoryStore>,
    /// Reads of a partition's state, and of what changed.
    pub(super) heads: AtomicUsize,
    pub(super) changes: AtomicUsize,
    /// What changed is not kept.
    pub(super) is_forgetful: AtomicBool,
    /// Reads of these partitions get no answer for now.
    stuck: watch::Sender<BTreeSet<PartitionId>>,
}

#[derive(Clone)]
pub(super) struct Followed(Arc<Shelf>);

impl Shelf {
    pub(super) fn stick(&self, partition: PartitionId) {
        self.stuck.send_modify(|stuck| {
            stuck.insert(partition);
        });
    }
    pub(super) fn release(&self) {
        self.stuck.send_modify(BTreeSet::clear);
    }
    async fn answer(&self, unit: Unit) {
        self.stuck.subscribe().wait_for(|stuck| !stuck.contains(&unit.partition)).await.unwrap();
    }
    pub(super) fn reads(&self) -> [usize; 2] {
        [&self.heads, &self.changes].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Follow for Followed {
    type Head = Arc<Rows>;

    fn head<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Standing<Self::Head>, StoreError>> {
        async move {
            self.0.heads.fetch_add(1, Ordering::SeqCst);
            self.0.answer(unit).await;
            Ok(self.0.store.state(unit).map(|(header, rows)| (header, Arc::new(rows))))
        }
        .boxed()
    }

    fn changes<'a>(
        &'a self,
        unit: Unit,
        from: &'a Self::Head,
        to: &'a Self::Head,
    ) -> BoxFuture<'a, Result<Option<Vec<Change>>, StoreError>> {
        async move {
            self.0.changes.fetch_add(1, Ordering::SeqCst);
            self.0.answer(unit).await;
            if self.0.is_forgetful.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let new = to.iter().filter(|(key, value)| from.get(*key) != Some(value));
            let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), None));
            Ok(Some(new.map(|(key, value)| (key.clone(), Some(value.clone()))).chain(gone).collect()))
        }
        .boxed()
    }

    fn scan_at<'a>(
        &'a self,
        unit: Unit,
        head: &'a Self::Head,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        async move {
            self.0.answer(unit).await;
            let under = head.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            let rest = under.filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
            Ok(rest.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        .boxed()
    }
}

/// What the workers say: that everything which is stored is all there is, as of now, unless they are silent.
pub(super) struct Told {
    store: Arc<MemoryStore>,
    clock: Arc<HandClock>,
    pub(super) graders: Mutex<Vec<Beat>>,
}

impl Beats for Told {
    fn put<'a>(&'a self, _: Stage, _: &'a str, _: &'a Beat) -> BoxFuture<'a, Result<(), StoreError>> {
        panic!("a gateway tells nobody anything");
    }

    fn remove<'a>(&'a self, _: Stage, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        panic!("a gateway has told nobody anything");
    }

    fn sweep(&self, _: Stage) -> BoxFuture<'_, Result<(), StoreError>> {
        panic!("a gateway takes nobody's beat away");
    }

    fn all<'a>(&'a self, stage: Stage) -> BoxFuture<'a, Result<Vec<Beat>, StoreError>> {
        let now = self.clock.now();
        let beats = match stage {
            Stage::Grade => self.graders.lock().unwrap().clone(),
            Stage::Rank => {
                let ranked = (0..PARTITIONS).map(PartitionId).map(|partition| {
                    let state = self.store.state(Unit { stage, partition });
                    let position = state.and_then(|(header, _)| header.position);
                    (partition, Ranked { graded: now, settled: now, through: None, position })
                });
                vec![Beat { ranked: ranked.collect(), ..Beat::default() }]
            }
        };
        futures::future::ready(Ok(beats)).boxed()
    }
}

/// The log as one shard, which counts how often somebody begins to read it.
pub(super) struct OneShard {
    log: Arc<TimedLog>,
    pub(super) opened: AtomicUsize,
}

/// The shard of [`OneShard`] for those who count: held by the test.
struct Counting(Arc<OneShard>);

impl Shards for Counting {
    fn list(&self, _: Stream) -> BoxFuture<'_, Result<Vec<Shard>, ReadError>> {
        let lease = Lease::of_shard("shard-0", Vec::new(), "0", "9");
        let shard = Shard { lease, number: 0, partitions: (0..PARTITIONS).map(PartitionId).collect() };
        futures::future::ready(Ok(vec![shard])).boxed()
    }

    fn retention(&self, _: Stream) -> Option<Duration> {
        None
    }

    fn open(&self, _: Stream, _: &Shard, _: BTreeMap<PartitionId, Option<Position>>) -> Arc<dyn Log> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        self.0.log.clone()
    }
}

/// A gateway over copies.
pub(super) struct Copied {
    pub(super) door: Door,
    pub(super) shelf: Arc<Shelf>,
    pub(super) told: Arc<Told>,
    pub(super) shards: Arc<OneShard>,
    pub(super) replicas: Arc<Replicas<Followed>>,
}

impl Copied {
    /// Returns a gateway with the clock and the way to the log of another.
    pub(super) fn new(house: &House, of: &Door) -> Self {
        Self::bounded(house, of, Settings::of(settings().timing))
    }

    pub(super) fn bounded(house: &House, of: &Door, bounds: Settings) -> Self {
        let shelf = Arc::new(Shelf {
            store: house.shelf.clone(),
            heads: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            is_forgetful: AtomicBool::new(false),
            stuck: watch::Sender::default(),
        });
        let told = Arc::new(Told {
            store: house.shelf.clone(),
            clock: house.clock.clone(),
            graders: Mutex::default(),
        });
        let shards = Arc::new(OneShard { log: house.log.clone(), opened: AtomicUsize::new(0) });
        let notices = Arc::new(Notices::default());
        let clock = house.clock.clone();
        let replicas =
            Replicas::new(Followed(shelf.clone()), told.clone(), notices.clone(), clock, PARTITIONS, bounds);
        let tails = Tails::new(Arc::new(Counting(shards.clone())));
        let replicas = Arc::new(replicas.counted(tails));
        let views = Arc::new(Boards::new(replicas.clone(), house.log.clone(), notices));
        let mut settings = settings();
        settings.live.interval = Duration::from_millis(1);
        Self { door: Door::over(views, of, &settings), shelf, told, shards, replicas }
    }

    /// Lets the graders say that they have graded all that is in the log, and go by this grace.
    pub(super) async fn graders_say(&self, house: &House, grace_ms: u64) {
        let limits = ReadLimits { records_max: 10_000, bytes_max: 1 << 24, wait: Duration::ZERO };
        let now = house.clock.now();
        let mut graded = Vec::new();
        for partition in (0..PARTITIONS).map(PartitionId) {
            let batch = house.log.read(Stream::Submissions, partition, None, limits).await.unwrap();
            let last = batch.records.last().map(|last| last.stamp.position);
            let through = last.unwrap_or(Position::from_offset(0));
            graded.push(Reached { partition, graded: now, settled: now, through });
        }
        let beat = Beat { graded, grace_ms: Some(grace_ms), ..Beat::default() };
        *self.told.graders.lock().unwrap() = vec![beat];
        self.replicas.look_at_graders().await.unwrap();
    }

    /// Lets the rank stage forget a quiz.
    pub(super) fn forget(&self, quiz: &str) {
        let quiz: QuizId = quiz.parse().unwrap();
        let partition = of_key(quiz.as_str(), PARTITIONS);
        let (ranking, index) = (rank::prefix(&quiz), rank::index_key(Some(&quiz)));
        let unit = Unit { stage: Stage::Rank, partition };
        self.shelf.store.remove(unit, |key| key.starts_with(&ranking) || key == index);
    }

    /// Returns when the views of a quiz were whole.
    pub(super) fn as_of(&self, quiz: &str) -> UnixMillis {
        self.door.app.views.as_of(&quiz.parse().unwrap())
    }
}
