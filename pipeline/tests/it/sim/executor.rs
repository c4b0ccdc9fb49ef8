//! A single-threaded scheduler over virtual time: it alone decides who runs next, and who never runs again.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::world::Shared;

/// Pseudo-random numbers from a seed (SplitMix64: the same on every machine, and each seed is far from the next).
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Returns a number from 0 to `end - 1`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
    /// Returns a number from `from` to `to`, both included.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }
    /// Tells true `per_mille` times of a thousand.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
}

/// What a task is, so that it can be started again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A worker's place, by number.
    Worker(usize),
    /// A process of a cluster, by number.
    Process(usize),
    /// Something that goes on in a process of a cluster, and dies with it.
    Part(usize),
    /// A gateway's reader, by number.
    Reader(usize),
    /// A client or host, which never crashes.
    Play,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    kind: Kind,
    task: Option<Task>,
    turn: (u64, u64),
}

/// Tasks of a process that is asleep are looked at this often.
const ASLEEP_MS: u64 = 40;

/// The scheduler.
pub(super) struct Executor {
    world: Shared,
    slots: Vec<Slot>,
    /// When each task goes on, with the lot that decides between those of one moment.
    turns: BTreeSet<((u64, u64), usize)>,
    revive: fn(&Shared, Kind) -> Task,
    steps: u64,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// What was waited for is so.
    Done,
    /// It is not so within the bound of steps or of virtual time.
    Stuck,
}

impl Executor {
    pub(super) fn new(world: Shared, revive: fn(&Shared, Kind) -> Task) -> Self {
        Self { world, slots: Vec::new(), turns: BTreeSet::new(), revive, steps: 0 }
    }

    /// Starts a task.
    pub(super) fn spawn(&mut self, kind: Kind, task: Task) {
        self.slots.push(Slot { kind, task: Some(task), turn: (0, 0) });
        let now = self.world.lock().now;
        self.schedule(self.slots.len() - 1, now);
    }

    fn schedule(&mut self, slot: usize, at: u64) {
        let turn = (at, self.world.lock().rng.next());
        self.turns.remove(&(self.slots[slot].turn, slot));
        self.slots[slot].turn = turn;
        self.turns.insert((turn, slot));
    }

    /// Returns how many steps were taken.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Tells whether all clients and hosts are through.
    pub(super) fn played(&self) -> bool {
        self.slots.iter().all(|slot| slot.kind != Kind::Play || slot.task.is_none())
    }

    /// Runs until `done` says so or a bound is reached.
    pub(super) fn run(&mut self, steps_max: u64, until: u64, mut done: impl FnMut(&Self) -> bool) -> Ended {
        let last = self.steps + steps_max;
        while self.steps < last && self.world.lock().now < until {
            self.step();
            // Looking is dearer than stepping.
            if self.steps.is_multiple_of(16) && done(self) {
                return Ended::Done;
            }
        }
        Ended::Stuck
    }

    /// Lets one task, or one delayed write, go on.
    fn step(&mut self) {
        self.steps += 1;
        let ((first, _), chosen) = *self.turns.first().expect("workers never end");
        {
            let mut world = self.world.lock();
            if world.delayed_due(first) {
                drop(world);
                return self.wake_readers();
            }
            let kind = self.slots[chosen].kind;
            world.begin((chosen, kind), first);
            if let Kind::Process(number) | Kind::Part(number) = kind
                && world.asleep.get(&number).is_some_and(|awake| *awake != chosen)
            {
                drop(world);
                return self.schedule(chosen, first + ASLEEP_MS);
            }
        }
        let slot = &mut self.slots[chosen];
        self.turns.remove(&(slot.turn, chosen));
        let task = slot.task.as_mut().expect("a task with a turn is there");
        match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => slot.task = None,
            Poll::Pending => {
                let wake = self.world.lock().wake.take();
                self.schedule(chosen, wake.expect("a task waits for something that is not simulated"));
            }
        }
        if self.world.lock().crashed() {
            self.crash(chosen);
        }
        let started = self.world.lock().started();
        for (process, task) in started {
            self.spawn(Kind::Part(process), task);
        }
        self.wake_readers();
    }

    /// Starts again what crashed: a task, or the process that it was a part of.
    fn crash(&mut self, mut chosen: usize) {
        if let Kind::Process(number) | Kind::Part(number) = self.slots[chosen].kind {
            for slot in 0..self.slots.len() {
                match self.slots[slot].kind {
                    Kind::Part(of) if of == number => {
                        self.turns.remove(&(self.slots[slot].turn, slot));
                        self.slots[slot].task = None;
                    }
                    Kind::Process(of) if of == number => chosen = slot,
                    Kind::Process(_) | Kind::Part(_) | Kind::Worker(_) | Kind::Reader(_) | Kind::Play => {}
                }
            }
            let mut world = self.world.lock();
            world.asleep.remove(&number);
            // What it was about to start never begins.
            drop(world.started());
        }
        let kind = self.slots[chosen].kind;
        // All that the task had in memory is gone; what it wrote stays.
        self.slots[chosen].task = None;
        self.slots[chosen].task = Some((self.revive)(&self.world, kind));
        let now = self.world.lock().now;
        self.schedule(chosen, now);
    }

    /// Those who wait for records go on early when there are some.
    fn wake_readers(&mut self) {
        let woken = self.world.lock().woken();
        for (slot, at) in woken {
            if at < self.slots[slot].turn.0 && self.slots[slot].task.is_some() {
                self.schedule(slot, at);
            }
        }
    }
}
