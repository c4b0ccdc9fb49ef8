//! Processes of a cluster: two for every stage, which share the shards by the real plan of leases, run one real runner for
//! every partition of a shard that they hold, and tell how far they are as the real herald does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::lease::plan::{Planner, Settings as LeaseSettings};
use ingest::lease::{Lease, Leases};
use ingest::partition::PartitionId;
use pipeline::cluster::herald::Herald;
use pipeline::runner::cache::{Bounds, Cache};
use pipeline::runner::progress::pulses::Pulses;
use pipeline::runner::{Parts, RunError, Runner, Settings};
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;
use pipeline::stage::rank::{Rank, Silence};
use pipeline::store::{Stage, Unit};

use super::super::calls::{Caller, Unanswered, read};
use super::super::handles::{SimLog, SimStore};
use super::super::mutants::{BentGrade, BentRank, Mutant};
use super::super::plan::Plan;
use super::super::world::{Shared, SkewedClock, World};
use super::leases::{SimBeats, SimLeases};
use super::shards::{self, Listed};

/// Returns the stage of a process.
pub(in super::super) fn stage(number: usize) -> Stage {
    if number.is_multiple_of(2) { Stage::Grade } else { Stage::Rank }
}

/// Returns the task of one process, which starts after a while.
pub(in super::super) fn process(world: &Shared, number: usize) -> BoxFuture<'static, ()> {
    let plan = world.lock().plan.clone();
    let clock = SkewedClock { world: world.clone(), skew_ms: plan.workers[number / 2 % 2] };
    let sealed_at_once = plan.mutant == Some(Mutant::SealWithoutGrace);
    let grace_ms = if sealed_at_once { 0 } else { plan.timing.grace().as_millis() as u64 };
    let world = world.clone();
    let grade = || Grade::new(plan.partitions, grace_ms).keeping(plan.keep);
    let rank = || Rank::new(Arc::new(Silence));
    match (stage(number), plan.mutant) {
        (Stage::Grade, None) => live(world, number, clock, grade()).boxed(),
        (Stage::Rank, None) => live(world, number, clock, rank()).boxed(),
        (Stage::Grade, Some(mutant)) => {
            let bent = BentGrade::new(mutant, grade(), clock.clone());
            live(world, number, clock, bent).boxed()
        }
        (Stage::Rank, Some(mutant)) => live(world, number, clock, BentRank::new(mutant, rank())).boxed(),
    }
}

/// Starts, and starts again after every deployment; a crash starts the task anew.
async fn live<O: Operator<Event: Sync>>(world: Shared, number: usize, clock: SkewedClock, operator: O) {
    let operator = Arc::new(operator);
    let plan = world.lock().plan.clone();
    loop {
        let rest = world.lock().rng.between(1, 200);
        world.pause(rest).await;
        let life = Arc::new(Life::new(&world, number, clock.clone(), operator.clone()));
        life.start(herald(life.clone()).boxed());
        while !world.lock().is_deployed(number) {
            life.tick().await;
            let rest = world.lock().rng.between(plan.cluster.lease_ms / 8, plan.cluster.lease_ms / 4);
            world.pause(rest).await;
        }
        life.retire().await;
    }
}

/// What became of the runner of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Running,
    Stopped,
    /// It read the shard to its end.
    Closed,
}

/// One run of one process.
struct Life<O: Operator> {
    world: Shared,
    plan: Arc<Plan>,
    number: usize,
    stage: Stage,
    name: String,
    clock: SkewedClock,
    operator: Arc<O>,
    leases: SimLeases,
    pulses: Arc<Pulses>,
    desk: Mutex<Desk>,
}

/// What all tasks of a process share.
struct Desk {
    planner: Planner,
    /// By shard, with the epoch of the lease under which they run.
    parts: BTreeMap<String, (u64, BTreeMap<PartitionId, Part>)>,
    /// It is about to end: nothing new is begun.
    retires: bool,
}

/// A unit that is run; no more when dropped.
struct Owned(Arc<Pulses>, Unit);

impl Owned {
    fn new(pulses: &Arc<Pulses>, unit: Unit) -> Self {
        pulses.own(unit);
        Self(pulses.clone(), unit)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.disown(self.1);
    }
}

/// Tells the others how far this process is, until it ends.
async fn herald<O: Operator<Event: Sync>>(life: Arc<Life<O>>) {
    let caller = Caller::Process;
    let herald = Herald {
        log: Arc::new(SimLog::new(&life.world, caller)),
        beats: Arc::new(SimBeats { world: life.world.clone(), caller }),
        pulses: life.pulses.clone(),
        clock: Arc::new(life.clock.clone()),
        worker: life.name.clone(),
        interval: Duration::from_millis(life.plan.cluster.herald_ms),
        grace: Some(life.plan.timing.grace()),
    };
    let mut told = BTreeMap::new();
    while !life.desk().retires {
        // What was not heard, the next one says.
        let _ = match life.stage {
            Stage::Grade => herald.grade(&mut told).await,
            Stage::Rank => herald.rank().await,
        };
        life.world.pause(life.plan.cluster.herald_ms).await;
    }
}

impl<O: Operator<Event: Sync>> Life<O> {
    fn new(world: &Shared, number: usize, clock: SkewedClock, operator: Arc<O>) -> Self {
        let plan = world.lock().plan.clone();
        let (name, seed) = {
            let mut world = world.lock();
            world.lives += 1;
            (format!("{number}.{}", world.lives), world.rng.next())
        };
        let duration = Duration::from_millis(plan.cluster.lease_ms);
        let planner =
            Planner::new(name.clone(), LeaseSettings { duration, ..LeaseSettings::default() }, seed);
        let stage = stage(number);
        Self {
            world: world.clone(),
            plan,
            number,
            stage,
            name,
            clock,
            operator,
            leases: SimLeases { world: world.clone(), stage },
            pulses: Arc::default(),
            desk: Mutex::new(Desk { planner, parts: BTreeMap::new(), retires: false }),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("a panic ends the run")
    }

    /// Returns the time by this machine's clock that never goes back.
    fn now(&self) -> Duration {
        Duration::from_millis(self.world.lock().now)
    }

    fn start(&self, task: BoxFuture<'static, ()>) {
        self.world.lock().start(self.number, task);
    }

    /// Tells whether a runner may go on: under this very lease, not a later one of the same shard.
    fn holds(&self, key: &str, epoch: u64) -> bool {
        let now = self.now();
        let desk = self.desk();
        let same = desk.parts.get(key).is_some_and(|(of, _)| *of == epoch);
        same && !desk.retires && desk.planner.holds(key, now)
    }

    /// Looks at the leases and the shards once, and does what follows from it.
    async fn tick(self: &Arc<Self>) {
        let Ok(mut listed) = self.leases.list().await else { return };
        let stage = self.stage;
        let shards = read(&self.world, Caller::Process, |world| world.list_shards(stage)).await;
        let shards = shards.map_err(|Unanswered| ()).ok();
        let mut begun: Option<Vec<Lease>> =
            shards.as_ref().map(|shards| shards.iter().map(|shard| shard.lease.clone()).collect());
        if self.plan.mutant == Some(Mutant::ChildBeforeParent) {
            for lease in listed.iter_mut().chain(begun.iter_mut().flatten()) {
                lease.parents.clear();
            }
        }
        let now = self.now();
        let plan = self.desk().planner.tick(now, &listed, begun.as_deref());
        for held in &plan.renew {
            let asked = self.now();
            match self.leases.renew(held, held.checkpoint).await {
                Ok(Some(lease)) => self.desk().planner.got(lease, asked),
                Ok(None) => self.desk().planner.gone(&held.key),
                Err(_) => {}
            }
        }
        for lease in &plan.create {
            if self.leases.create(lease).await.is_err() {
                break;
            }
        }
        for seen in &plan.take {
            let asked = self.now();
            if let Ok(Some(lease)) = self.leases.take(seen, &self.name).await {
                self.world.lock().note("lease taken", &[shards::number(&lease.key).into(), lease.epoch]);
                self.world.lock().ledger.faults.leases += 1;
                let mut desk = self.desk();
                desk.parts.insert(lease.key.clone(), (lease.epoch, BTreeMap::new()));
                desk.planner.got(lease, asked);
            }
        }
        self.finish(shards.as_deref()).await;
        self.run_held();
    }

    /// Gives up the shards that are read to their end, so that their children may be taken.
    async fn finish(&self, shards: Option<&[Listed]>) {
        let held: Vec<Lease> = self.desk().planner.held().cloned().collect();
        for mut lease in held {
            let mut partitions = shards::partitions(&lease).peekable();
            let is_read = if partitions.peek().is_some() {
                let desk = self.desk();
                let parts = desk.parts.get(&lease.key).map(|(_, parts)| parts);
                partitions
                    .all(|partition| parts.and_then(|parts| parts.get(&partition)) == Some(&Part::Closed))
            } else {
                let shard = shards.and_then(|all| all.iter().find(|shard| shard.lease.key == lease.key));
                shard.is_some_and(|shard| shard.is_closed)
            };
            if !is_read {
                continue;
            }
            let children = shards.unwrap_or_default().iter().filter(|s| s.lease.parents.contains(&lease.key));
            lease.children = children.map(|shard| shard.lease.key.clone()).collect();
            if let Ok(finished) = self.leases.finish(&lease).await {
                self.world.lock().ledger.faults.finished += u64::from(finished.is_some());
                let mut desk = self.desk();
                desk.planner.gone(&lease.key);
                desk.parts.remove(&lease.key);
            }
        }
    }

    /// Starts a runner for every partition of every shard held that has none.
    fn run_held(self: &Arc<Self>) {
        let now = self.now();
        let held: Vec<Lease> = self.desk().planner.held().cloned().collect();
        for lease in held {
            let key = &lease.key;
            if !self.desk().planner.holds(key, now) {
                continue;
            }
            for partition in shards::partitions(&lease) {
                let is_begun = {
                    let mut desk = self.desk();
                    let (_, parts) = desk.parts.entry(key.clone()).or_insert((lease.epoch, BTreeMap::new()));
                    let part = parts.get(&partition).copied().unwrap_or(Part::Stopped);
                    if part == Part::Stopped {
                        parts.insert(partition, Part::Running);
                    }
                    part != Part::Stopped
                };
                if !is_begun {
                    let life = self.clone();
                    let (key, epoch) = (key.clone(), lease.epoch);
                    self.start(async move { life.part(key, epoch, partition).await }.boxed());
                }
            }
        }
    }

    /// Runs one partition of a shard as long as the lease is held, and notes how it ended.
    async fn part(self: Arc<Self>, key: String, epoch: u64, partition: PartitionId) {
        let unit = Unit { stage: self.stage, partition };
        let ended = self.work(&key, epoch, unit).await;
        let part = match ended {
            Ok(part) => part,
            Err(error) => {
                self.world.lock().stopped(unit, self.number as u64, &error);
                Part::Stopped
            }
        };
        let mut desk = self.desk();
        if let Some((of, parts)) = desk.parts.get_mut(&key)
            && *of == epoch
        {
            parts.insert(partition, part);
        }
    }

    async fn work(&self, key: &str, epoch: u64, unit: Unit) -> Result<Part, RunError> {
        let mut runner = Runner::acquire(self.parts(key, unit), unit).await?;
        let _owned = Owned::new(&self.pulses, unit);
        self.world.lock().note("acquired", &[self.number as u64, runner.header().epoch]);
        while self.holds(key, epoch) {
            if runner.step().await?.closed {
                self.world.lock().note("shard end", &[self.number as u64, shards::number(key).into()]);
                return Ok(Part::Closed);
            }
        }
        runner.checkpoint().await?;
        self.world.lock().note("lease lost", &[self.number as u64, runner.header().epoch]);
        Ok(Part::Stopped)
    }

    /// Returns what a runner works with: a cache of its own, worth nothing once the runner has stopped.
    fn parts(&self, key: &str, unit: Unit) -> Parts<O> {
        let (world, plan) = (&self.world, &self.plan);
        let shard = shards::number(key);
        let caller = Caller::Worker(unit);
        let store = Arc::new(SimStore::new(world.clone(), caller).on_shard(shard));
        let bounds = Bounds { states_max: plan.states_max, weight_max: usize::MAX };
        let settings = Settings {
            records_max: plan.records_max,
            bytes_max: 4 << 20,
            wait: Duration::from_millis(plan.wait_ms),
            checkpoint: Duration::from_millis(plan.cluster.checkpoint_ms),
            linger: Duration::ZERO,
        };
        Parts {
            log: Arc::new(SimLog::of_shard(world, unit, shard, store.clone(), self.pulses.clone())),
            cache: Arc::new(Cache::new(self.operator.clone(), store.clone(), bounds)),
            store,
            clock: Arc::new(self.clock.clone()),
            progress: self.pulses.clone(),
            settings,
        }
    }

    /// Stops its runners, gives its leases back and ends, as on a signal.
    async fn retire(&self) {
        self.desk().retires = true;
        self.world.lock().note("deployed", &[self.number as u64]);
        while self.desk().parts.values().flat_map(|(_, parts)| parts.values()).any(|p| *p == Part::Running) {
            self.world.pause(20).await;
        }
        let held: Vec<Lease> = self.desk().planner.held().cloned().collect();
        for lease in held {
            // If this is lost, the lease runs out.
            let _ = self.leases.release(&lease, lease.checkpoint).await;
        }
    }
}

impl World {
    /// Tells whether a process is to be started anew now, once for every time that is planned.
    fn is_deployed(&mut self, number: usize) -> bool {
        let now = self.now;
        let due = self.deployments.iter().position(|(of, at_ms)| *of == number && *at_ms <= now);
        due.map(|place| self.deployments.swap_remove(place)).is_some()
    }

    /// Returns the shards that a stage reads, sometimes as they were a while ago.
    fn list_shards(&mut self, stage: Stage) -> Vec<Listed> {
        let stale_ms = if self.rng.chance(200) { self.rng.below(800) } else { 0 };
        let at_ms = self.now.saturating_sub(stale_ms);
        self.disk.lineage(stage.input()).list(at_ms)
    }
}
