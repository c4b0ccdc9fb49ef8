//! Everything outside the code under test: virtual time, the disks behind log and store, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::log::Stream;
use ingest::partition::PartitionId;
use operators::event::Command;
use operators::id::{CommandId, QuizId, UnixMillis};
use pipeline::runner::clock::Clock;
use pipeline::runner::progress::local::Local;
use pipeline::store::{Stage, Unit};

use super::calls::Caller;
use super::disk::{Disk, Done, Write};
use super::executor::{Kind, Rng};
use super::gateway::View;
use super::ledger::Ledger;
use super::plan::Plan;

/// Virtual time starts here.
pub(super) const EPOCH_MS: u64 = 1_700_000_000_000;

/// A partition that had an outage is slow for so long.
const RECOVERY_MS: u64 = 1_000;

/// The world, shared by everybody in it; nobody holds the lock while waiting.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("a panic ends the run")
    }
    /// Returns after `ms` of virtual time; others run meanwhile.
    pub(super) fn pause(&self, ms: u64) -> Pause {
        Pause { world: self.clone(), ms, until: None, wakes_on: None }
    }
    /// Returns when something is appended to the partition, after `ms` at the latest.
    pub(super) fn pause_for(&self, stream: Stream, partition: PartitionId, ms: u64) -> Pause {
        Pause { world: self.clone(), ms, until: None, wakes_on: Some((stream, partition)) }
    }
}

/// Everything outside the code under test.
pub(super) struct World {
    /// True virtual time, in milliseconds since the begin.
    pub(super) now: u64,
    /// Every decision of the run comes from here.
    pub(super) rng: Rng,
    /// When the running task wants to go on.
    pub(super) wake: Option<u64>,
    /// What the seed planned.
    pub(super) plan: Arc<Plan>,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    /// What survives every crash.
    pub(super) disk: Disk,
    /// Partitions of `submissions` that take no records, and until when.
    pub(super) outages: BTreeMap<PartitionId, u64>,
    /// Who may run a unit, and until when. Only the epoch protects anything.
    pub(super) leases: BTreeMap<Unit, (usize, u64)>,
    /// Commits that were begun.
    pub(super) commits: BTreeMap<Unit, u64>,
    /// Units that had their planned zombie.
    pub(super) slept: BTreeSet<Unit>,
    /// Commands as hosts sent them, for the planted bug that reads them here.
    pub(super) table: Vec<(QuizId, CommandId, Command)>,
    /// How far the grade workers are, as they report it to everybody.
    pub(super) graded: Arc<Local>,
    /// Lives of processes so far: each has a name of its own.
    pub(super) lives: u64,
    /// Processes that are started anew in good order, and when.
    pub(super) deployments: Vec<(usize, u64)>,
    /// Processes that are asleep as a whole, and the task that notices when that is over.
    pub(super) asleep: BTreeMap<usize, usize>,
    /// What each gateway knows.
    pub(super) views: Vec<View>,
    /// What clients and gateways remember, for the checks.
    pub(super) ledger: Ledger,
    /// The order of all that happened.
    pub(super) trace: Trace,
    task: usize,
    kind: Kind,
    started: Vec<(usize, BoxFuture<'static, ()>)>,
    crash: bool,
    waiting: BTreeMap<usize, (Stream, PartitionId)>,
    woken: Vec<(usize, u64)>,
    pub(super) delayed: BTreeMap<(u64, u64), Write>,
    pub(super) sequence: u64,
}

/// A digest of everything that happened, with the words when they are wanted.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    /// Keep the words.
    pub(super) wanted: bool,
    /// The words.
    pub(super) lines: Vec<String>,
}

impl Trace {
    fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

impl World {
    pub(super) fn new(plan: Arc<Plan>, trace: bool) -> Self {
        Self {
            now: 0,
            rng: Rng::new(plan.seed ^ 0x5eed),
            wake: None,
            calm: false,
            disk: Disk::new(&plan),
            outages: BTreeMap::new(),
            leases: BTreeMap::new(),
            commits: BTreeMap::new(),
            slept: BTreeSet::new(),
            table: Vec::new(),
            graded: Arc::new(Local::new(plan.partitions)),
            lives: 0,
            deployments: plan.cluster.deployments.clone(),
            asleep: BTreeMap::new(),
            views: (0..plan.gateways.len()).map(|_| View::new(plan.partitions)).collect(),
            ledger: Ledger::default(),
            trace: Trace { hash: 0, wanted: trace, lines: Vec::new() },
            task: 0,
            kind: Kind::Play,
            started: Vec::new(),
            crash: false,
            waiting: BTreeMap::new(),
            woken: Vec::new(),
            delayed: BTreeMap::new(),
            sequence: 0,
            plan,
        }
    }

    /// Tells whether a write is still on its way.
    pub(super) fn is_writing(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// Notes something that happened.
    pub(super) fn note(&mut self, what: &'static str, values: &[u64]) {
        self.trace.mix(self.now);
        self.trace.mix(what.len() as u64);
        values.iter().for_each(|value| self.trace.mix(*value));
        if self.trace.wanted {
            let line = format!("{:>6} ms  task {:>2}  {what} {values:?}", self.now, self.task);
            self.trace.lines.push(line);
        }
    }

    /// Notes which task goes on, and when.
    pub(super) fn begin(&mut self, (task, kind): (usize, Kind), at: u64) {
        self.now = self.now.max(at);
        (self.task, self.kind) = (task, kind);
        self.wake = None;
        self.waiting.remove(&task);
    }

    /// Tells whether one of the people is acting.
    pub(super) fn is_play(&self) -> bool {
        self.kind == Kind::Play
    }

    /// Returns the process that acts, if it is one of a cluster.
    pub(super) fn process(&self) -> Option<usize> {
        if let Kind::Process(number) | Kind::Part(number) = self.kind { Some(number) } else { None }
    }

    /// Returns the number of the task that acts.
    pub(super) fn task(&self) -> usize {
        self.task
    }

    /// Starts a task of a process, which dies with it.
    pub(super) fn start(&mut self, process: usize, task: BoxFuture<'static, ()>) {
        self.started.push((process, task));
    }

    /// Returns the tasks that were started since the last call.
    pub(super) fn started(&mut self) -> Vec<(usize, BoxFuture<'static, ()>)> {
        std::mem::take(&mut self.started)
    }

    /// Splits or merges shards of a stream.
    pub(super) fn reshard(&mut self, stream: Stream) {
        let now = self.now;
        let closed = self.disk.reshard(stream, now, &mut self.rng);
        self.ledger.faults.reshards += 1;
        self.note("reshard", &[stream as u64, closed[0].into(), closed.len() as u64]);
    }

    /// Returns which tasks have something to read since the last call.
    pub(super) fn woken(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.woken)
    }

    /// Tells whether the running task crashed.
    pub(super) fn crashed(&mut self) -> bool {
        std::mem::take(&mut self.crash)
    }

    /// Carries out a write that was on its way, if one arrives before `first`.
    pub(super) fn delayed_due(&mut self, first: u64) -> bool {
        let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= first) else {
            return false;
        };
        let ((at, _), write) = entry.remove_entry();
        self.now = self.now.max(at);
        self.ledger.faults.late += 1;
        self.note("late write", &[]);
        self.perform(&write);
        true
    }

    /// Carries out a write, and wakes those who wait for its records.
    pub(super) fn perform(&mut self, write: &Write) -> Done {
        let done = self.disk.perform(self.now, write, &mut self.rng, &mut self.ledger);
        self.note(write.name(), &[done.digest()]);
        for (stream, partition) in write.touches() {
            let tasks: Vec<usize> = self
                .waiting
                .iter()
                .filter(|(_, on)| **on == (stream, partition))
                .map(|(task, _)| *task)
                .collect();
            for task in tasks {
                self.waiting.remove(&task);
                let at = self.now + self.rng.below(3);
                self.woken.push((task, at));
            }
        }
        done
    }

    /// Lets a partition of `submissions` take no records for a while.
    pub(super) fn outage(&mut self) {
        if self.calm || !self.rng.chance(self.plan.rates.outage) {
            return;
        }
        let partition = PartitionId(self.rng.next() as u16 % self.plan.partitions);
        let until = self.now + self.rng.between(300, self.plan.slow_ms_max - 500);
        self.ledger.faults.outages += 1;
        self.note("outage", &[u64::from(partition.0), until]);
        self.outages.insert(partition, until);
    }

    /// Tells whether the partition that a unit reads had an outage a moment ago.
    pub(super) fn is_recovering(&self, unit: Unit) -> bool {
        let until = self.outages.get(&unit.partition).filter(|_| unit.stage == Stage::Grade);
        until.is_some_and(|until| (*until..until + RECOVERY_MS).contains(&self.now))
    }

    /// Returns how long a write has to wait for the partitions that it appends to.
    pub(super) fn outage_ms(&mut self, caller: Caller, write: &Write) -> Option<u64> {
        let touched = write.touches();
        let until = touched.iter().filter(|(stream, _)| *stream == Stream::Submissions);
        let until = until.filter_map(|(_, partition)| self.outages.get(partition)).max()?;
        let left = until.checked_sub(self.now).filter(|left| *left > 0)?;
        // Requests come back when their clients feel like it, workers at once.
        Some(left + self.rng.below(if caller == Caller::Request { RECOVERY_MS } else { 40 }))
    }

    /// Notes that a worker is about to write effects.
    pub(super) fn note_effects(&mut self, unit: Unit, epoch: u64) {
        if self.disk.header(unit).epoch > epoch {
            self.ledger.faults.zombie_effects += 1;
        }
    }

    /// The running task dies at its next pause.
    pub(super) fn die(&mut self) {
        self.crash = true;
        self.wake = Some(u64::MAX);
        self.ledger.faults.crashes += 1;
        self.note("crash", &[]);
    }
}

/// Returns at a later time.
pub(super) struct Pause {
    world: Shared,
    ms: u64,
    until: Option<u64>,
    wakes_on: Option<(Stream, PartitionId)>,
}

impl Future for Pause {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let shared = self.world.clone();
        let mut world = shared.lock();
        let until = match self.until {
            // Who waits for records is polled once more, when they are there or when time is up.
            Some(_) if self.wakes_on.is_some() => return Poll::Ready(()),
            Some(until) if world.now >= until => return Poll::Ready(()),
            Some(until) => until,
            None => world.now + self.ms,
        };
        self.until = Some(until);
        // A task that waits for several things goes on with the first.
        world.wake = Some(world.wake.map_or(until, |earlier| earlier.min(until)));
        if let Some(on) = self.wakes_on {
            let task = world.task;
            world.waiting.insert(task, on);
        }
        Poll::Pending
    }
}

/// A clock that is off by a fixed amount.
#[derive(Clone)]
pub(super) struct SkewedClock {
    pub(super) world: Shared,
    pub(super) skew_ms: i64,
}

impl gateway::Clock for SkewedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis((EPOCH_MS + self.world.lock().now).saturating_add_signed(self.skew_ms))
    }
}

impl Clock for SkewedClock {
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let ms = duration.as_millis() as u64;
        self.world.pause(ms).boxed()
    }
}
