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
use pipeline::store::{Commit, Stage, Unit};

use super::disk::{Disk, Done, Write};
use super::executor::Rng;
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
    /// What each gateway knows.
    pub(super) views: Vec<View>,
    /// What clients and gateways remember, for the checks.
    pub(super) ledger: Ledger,
    /// The order of all that happened.
    pub(super) trace: Trace,
    task: usize,
    crash: bool,
    waiting: BTreeMap<usize, (Stream, PartitionId)>,
    woken: Vec<(usize, u64)>,
    delayed: BTreeMap<(u64, u64), Write>,
    sequence: u64,
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
            views: (0..plan.gateways.len()).map(|_| View::new(plan.partitions)).collect(),
            ledger: Ledger::default(),
            trace: Trace { hash: 0, wanted: trace, lines: Vec::new() },
            task: 0,
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
    pub(super) fn begin(&mut self, task: usize, at: u64) {
        self.now = self.now.max(at);
        self.task = task;
        self.wake = None;
        self.waiting.remove(&task);
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
        let until = self.now + self.rng.between(300, 4_000);
        self.ledger.faults.outages += 1;
        self.note("outage", &[u64::from(partition.0), until]);
        self.outages.insert(partition, until);
    }

    /// Tells whether the partition that a unit reads had an outage a moment ago.
    fn is_recovering(&self, unit: Unit) -> bool {
        let until = self.outages.get(&unit.partition).filter(|_| unit.stage == Stage::Grade);
        until.is_some_and(|until| (*until..until + RECOVERY_MS).contains(&self.now))
    }

    /// Returns how long a write has to wait for the partitions that it appends to.
    fn outage_ms(&mut self, caller: Caller, write: &Write) -> Option<u64> {
        let touched = write.touches();
        let until = touched.iter().filter(|(stream, _)| *stream == Stream::Submissions);
        let until = until.filter_map(|(_, partition)| self.outages.get(partition)).max()?;
        let left = until.checked_sub(self.now).filter(|left| *left > 0)?;
        // Requests come back when their clients feel like it, workers at once.
        Some(left + self.rng.below(if caller == Caller::Request { RECOVERY_MS } else { 40 }))
    }

    /// Notes that a worker is about to write effects.
    pub(super) fn note_effects(&mut self, commit: &Commit) {
        if self.disk.header(commit.unit).epoch > commit.from.epoch {
            self.ledger.faults.zombie_effects += 1;
        }
    }

    /// The running task dies at its next pause.
    fn die(&mut self) {
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
        world.wake = Some(until);
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

/// Who calls: what may happen to the call depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A worker of a unit: it may crash, and be paused for longer than its lease.
    Worker(Unit),
    /// A reader of a gateway: it may crash.
    Reader,
    /// A request at a gateway, or a host's: it may be very slow.
    Request,
    /// Nothing happens to its calls.
    Tester,
}

/// A call was not answered; it may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Lost on the way there.
    Lost,
    /// Carried out, and the answer lost.
    Mute,
    /// Given up by the caller, and carried out later.
    Late,
    /// Carried out twice.
    Twice,
    /// Carried out for some partitions only.
    Partial,
    /// The caller dies before or after it is carried out.
    CrashBefore,
    CrashAfter,
}

struct Course {
    before_ms: u64,
    after_ms: u64,
    fate: Fate,
}

impl World {
    fn course(&mut self, caller: Caller, writes: bool) -> Course {
        let rates = self.plan.rates;
        let (before_ms, after_ms) = (self.rng.below(4), self.rng.below(3));
        let mut course = Course { before_ms, after_ms, fate: Fate::Answered };
        if self.calm || caller == Caller::Tester {
            return course;
        }
        let worker = matches!(caller, Caller::Worker(_));
        if self.rng.chance(rates.slow) {
            self.ledger.faults.slow += 1;
            // A worker is paused around its lease; a request sometimes for longer than the grace.
            let ms = if worker { self.rng.between(100, 1_500) } else { self.rng.between(20, 4_500) };
            if worker && self.rng.chance(500) { course.after_ms = ms } else { course.before_ms = ms }
        }
        if let Caller::Worker(unit) = caller
            && self.is_recovering(unit)
            && self.rng.chance(300)
        {
            course.before_ms += self.rng.between(50, 900);
        }
        if self.rng.chance(rates.fail) {
            let fates: &[Fate] = match (writes, caller) {
                (true, Caller::Worker(_)) => {
                    &[Fate::Lost, Fate::Mute, Fate::Late, Fate::Twice, Fate::Partial]
                }
                (true, _) => &[Fate::Lost, Fate::Mute, Fate::Late, Fate::Twice],
                (false, _) => &[Fate::Lost],
            };
            course.fate = fates[self.rng.below(fates.len() as u64) as usize];
        } else if caller != Caller::Request && self.rng.chance(rates.crash) {
            course.fate = if self.rng.chance(500) { Fate::CrashBefore } else { Fate::CrashAfter };
        }
        course
    }
}

/// Carries out a write with whatever goes wrong on the way.
pub(super) async fn write(world: &Shared, caller: Caller, write: Write) -> Result<Done, Unanswered> {
    let course = world.lock().course(caller, true);
    world.pause(course.before_ms).await;
    loop {
        let left = world.lock().outage_ms(caller, &write);
        let Some(left) = left else { break };
        world.pause(left).await;
    }
    let done = {
        let mut world = world.lock();
        match course.fate {
            Fate::CrashBefore => {
                world.die();
                None
            }
            Fate::Lost => {
                world.ledger.faults.lost += 1;
                world.note("lost", &[]);
                None
            }
            Fate::Late => {
                let at = world.now + world.rng.between(1, 1_500);
                world.sequence += 1;
                let key = (at, world.sequence);
                world.delayed.insert(key, write);
                None
            }
            Fate::Partial => {
                world.ledger.faults.partial += 1;
                let part = world.rng.next();
                world.perform(&write.part(part));
                None
            }
            Fate::Twice => {
                world.ledger.faults.twice += 1;
                let done = world.perform(&write);
                world.perform(&write);
                Some(done)
            }
            Fate::Answered | Fate::Mute | Fate::CrashAfter => Some(world.perform(&write)),
        }
    };
    world.pause(course.after_ms).await;
    match course.fate {
        Fate::CrashBefore => futures::future::pending().await,
        Fate::CrashAfter => {
            world.lock().die();
            futures::future::pending().await
        }
        Fate::Mute => {
            world.lock().ledger.faults.mute += 1;
            Err(Unanswered)
        }
        Fate::Answered | Fate::Lost | Fate::Late | Fate::Twice | Fate::Partial => done.ok_or(Unanswered),
    }
}

/// Reads with whatever goes wrong on the way.
pub(super) async fn read<T>(
    world: &Shared,
    caller: Caller,
    look: impl FnOnce(&mut World) -> T,
) -> Result<T, Unanswered> {
    let course = world.lock().course(caller, false);
    world.pause(course.before_ms).await;
    let seen = if course.fate == Fate::Lost { None } else { Some(look(&mut world.lock())) };
    world.pause(course.after_ms).await;
    if matches!(course.fate, Fate::CrashBefore | Fate::CrashAfter) {
        world.lock().die();
        return futures::future::pending().await;
    }
    seen.ok_or(Unanswered)
}
