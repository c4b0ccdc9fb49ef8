//! A simulated cluster: workers that join, die, pause and lose touch, shards that split and merge, and what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ingest::lease::Lease;
use ingest::lease::plan::{Plan, Planner, Settings};

use super::table::{Bug, Table};
use crate::support::Random;

/// The step of the simulated clock.
const STEP_MS: u64 = 250;
/// How far back a list may be.
const STALE_STEPS: usize = 12;
/// How long the stream lists a closed shard: far longer than any list is kept or any pause lasts, as it is in truth.
const RETENTION_MS: u64 = 60_000;

/// A worker.
struct Worker {
    name: String,
    planner: Planner,
    /// Its clock began somewhere else.
    origin_ms: u64,
    /// Its idea of the date is off by this much: only a planted bug looks at it.
    wall_ms: u64,
    tick_ms: u64,
    due_ms: u64,
    /// It stands still until then, believing what it believed.
    paused: Option<(u64, Vec<(String, u64)>)>,
    /// It cannot reach the table until then.
    cut_off_ms: u64,
    /// Decided before a pause, carried out after it.
    pending: Option<Plan>,
}

/// A shard of the stream.
struct Shard {
    lease: Lease,
    is_open: bool,
    /// Time that an owner needs to read what is left once it is closed.
    work_ms: u64,
    closed_ms: u64,
    /// Forgotten by the stream.
    is_gone: bool,
}

/// Who got a lease in an epoch, and how.
struct Grant {
    owner: String,
    /// When it was stolen from a worker that was well.
    stolen_ms: Option<u64>,
}

/// Everything.
pub(super) struct World {
    pub(super) now_ms: u64,
    bug: Bug,
    random: Random,
    pub(super) has_faults: bool,
    table: Table,
    /// When each lease was written last, on the writer's wall clock.
    stamps: BTreeMap<String, u64>,
    history: VecDeque<(Table, Vec<Lease>)>,
    shards: BTreeMap<u32, Shard>,
    workers: Vec<Worker>,
    grants: BTreeMap<(String, u64), Grant>,
    removed: BTreeSet<String>,
    joined: usize,
    pub(super) takes: usize,
    pub(super) trace: Vec<String>,
}

fn name(number: u32) -> String {
    format!("shardId-{number:012}")
}

impl World {
    pub(super) fn new(seed: u64, bug: Bug) -> Self {
        let mut world = Self {
            now_ms: 0,
            bug,
            random: Random(seed),
            has_faults: true,
            table: Table::default(),
            stamps: BTreeMap::new(),
            history: VecDeque::new(),
            shards: BTreeMap::new(),
            workers: Vec::new(),
            grants: BTreeMap::new(),
            removed: BTreeSet::new(),
            joined: 0,
            takes: 0,
            trace: Vec::new(),
        };
        for _ in 0..2 + world.random.below(9) {
            world.open_shard(&[]);
        }
        for _ in 0..1 + world.random.below(4) {
            world.join();
        }
        world
    }

    fn open_shard(&mut self, parents: &[u32]) {
        let number = self.shards.len() as u32;
        let lease = Lease::of_shard(name(number), parents.iter().map(|parent| name(*parent)), "0", "1");
        self.shards.insert(number, Shard { lease, is_open: true, work_ms: 0, closed_ms: 0, is_gone: false });
    }

    fn join(&mut self) {
        let name = format!("worker-{}", self.joined);
        self.joined += 1;
        let steal_difference = if self.bug == Bug::PingPong { 1 } else { 2 };
        let settings = Settings { steal_difference, ..Settings::default() };
        let planner = Planner::new(&name, settings, self.random.below(usize::MAX) as u64);
        self.workers.push(Worker {
            name,
            planner,
            origin_ms: self.random.below(1_000_000) as u64,
            wall_ms: self.random.below(60_000) as u64,
            tick_ms: 500 + self.random.below(1_000) as u64,
            due_ms: self.now_ms,
            paused: None,
            cut_off_ms: 0,
            pending: None,
        });
    }

    /// Moves on by one step.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.now_ms += STEP_MS;
        if self.has_faults {
            self.disturb();
        }
        let shards = self.listed_shards();
        self.history.push_back((self.table.clone(), shards));
        if self.history.len() > STALE_STEPS {
            self.history.pop_front();
        }
        for at in 0..self.workers.len() {
            let worker = &mut self.workers[at];
            if worker.paused.as_ref().is_some_and(|(until, _)| *until <= self.now_ms) {
                worker.paused = None;
            }
            if worker.paused.is_none() && worker.due_ms <= self.now_ms {
                worker.due_ms = self.now_ms + worker.tick_ms;
                self.tick(at)?;
            }
        }
        self.believers()
    }

    fn listed_shards(&self) -> Vec<Lease> {
        self.shards.values().filter(|shard| !shard.is_gone).map(|shard| shard.lease.clone()).collect()
    }

    /// Does one of the things that happen to clusters, now and then.
    fn disturb(&mut self) {
        let kind = self.random.below(240);
        let count = self.workers.len();
        let at = self.random.below(count);
        let long = self.now_ms + 500 + self.random.below(25_000) as u64;
        match kind {
            0 if count > 1 => drop(self.workers.remove(at)),
            1 if count > 1 => {
                let worker = self.workers.remove(at);
                worker.planner.held().for_each(|lease| self.table.release(lease));
            }
            2 | 3 if count < 6 => self.join(),
            4..=6 if self.workers[at].paused.is_none() => {
                let believed = self.believed(&self.workers[at]);
                self.workers[at].paused = Some((long, believed));
            }
            7 | 8 => self.workers[at].cut_off_ms = long,
            9..=12 => self.reshard(),
            13 | 14 => self.forget(),
            _ => {}
        }
    }

    fn reshard(&mut self) {
        let open: Vec<u32> =
            self.shards.iter().filter(|(_, shard)| shard.is_open).map(|(number, _)| *number).collect();
        if open.len() > 16 {
            return;
        }
        let first = open[self.random.below(open.len())];
        let second = open[self.random.below(open.len())];
        let parents = if first == second { vec![first] } else { vec![first.min(second), first.max(second)] };
        for parent in &parents {
            let work_ms = self.random.below(4_000) as u64;
            let shard = self.shards.get_mut(parent).unwrap();
            (shard.is_open, shard.work_ms, shard.closed_ms) = (false, work_ms, self.now_ms);
        }
        self.open_shard(&parents);
        if parents.len() == 1 {
            self.open_shard(&parents);
        }
    }

    /// The stream forgets closed shards that were read long ago.
    fn forget(&mut self) {
        for shard in self.shards.values_mut() {
            let is_read = self.table.leases.get(&shard.lease.key).is_some_and(Lease::is_finished);
            let is_old = !shard.is_open && self.now_ms > shard.closed_ms + RETENTION_MS;
            shard.is_gone |= is_old && is_read;
        }
    }

    /// Returns a lease list as a worker gets it, and the list of shards.
    fn lists(&mut self) -> (Vec<Lease>, Option<Vec<Lease>>) {
        let newest = self.history.len() - 1;
        let back = |random: &mut Random| {
            let is_stale = self.has_faults && random.below(4) == 0;
            if is_stale { newest - random.below(self.history.len()) } else { newest }
        };
        let (leases, shards) = (back(&mut self.random), back(&mut self.random));
        let shards = (!self.has_faults || self.random.below(8) > 0).then(|| self.history[shards].1.clone());
        // What other workers wrote in this very step is seen too when nothing is stale.
        let leases = if leases == newest { self.table.list() } else { self.history[leases].0.list() };
        (leases, shards)
    }

    fn tick(&mut self, at: usize) -> Result<(), String> {
        if self.workers[at].cut_off_ms > self.now_ms {
            return Ok(());
        }
        if let Some(plan) = self.workers[at].pending.take() {
            return self.carry_out(at, plan);
        }
        let (mut listed, shards) = self.lists();
        if self.bug == Bug::ChildBeforeParent {
            listed.iter_mut().for_each(|lease| lease.parents.clear());
        }
        if self.bug == Bug::WallClock {
            let now = self.now_ms + self.workers[at].wall_ms;
            for lease in &mut listed {
                let stamp = self.stamps.get(&lease.key).copied().unwrap_or_default();
                if now.saturating_sub(stamp) > 10_000 {
                    lease.owner = None;
                }
            }
        }
        let now = self.clock(at);
        let plan = self.workers[at].planner.tick(now, &listed, shards.as_deref());
        if self.has_faults && self.random.below(200) == 0 {
            let until = self.now_ms + self.random.below(25_000) as u64;
            let believed = self.believed(&self.workers[at]);
            let worker = &mut self.workers[at];
            (worker.pending, worker.paused) = (Some(plan), Some((until, believed)));
            return Ok(());
        }
        self.carry_out(at, plan)
    }

    fn clock(&self, at: usize) -> Duration {
        Duration::from_millis(self.now_ms + self.workers[at].origin_ms)
    }

    /// Tells what happens to a call: whether it arrives, and whether its answer does.
    fn call(&mut self) -> (bool, bool) {
        match if self.has_faults { self.random.below(10) } else { 9 } {
            0 => (false, false),
            1 => (true, false),
            _ => (true, true),
        }
    }

    fn stamp(&mut self, at: usize, key: &str) {
        self.stamps.insert(key.to_owned(), self.now_ms + self.workers[at].wall_ms);
    }

    fn carry_out(&mut self, at: usize, plan: Plan) -> Result<(), String> {
        let asked = self.clock(at);
        for lease in &plan.renew {
            let (arrives, answers) = self.call();
            let renewed = if arrives { self.table.renew(lease, self.bug) } else { None };
            if renewed.is_some() {
                self.stamp(at, &lease.key);
            }
            match renewed {
                Some(renewed) if answers => self.workers[at].planner.got(renewed, asked),
                None if answers => self.workers[at].planner.gone(&lease.key),
                _ => {}
            }
        }
        for lease in &plan.create {
            let (arrives, answers) = self.call();
            if arrives {
                if self.removed.contains(&lease.key) {
                    return Err(format!("{} was removed and made again", lease.key));
                }
                self.table.create(lease);
            }
            if !answers {
                break;
            }
        }
        for (leases, is_theft) in [(&plan.take, false), (&plan.steal, true)] {
            for seen in leases {
                self.take(at, seen, asked, is_theft)?;
            }
        }
        for lease in &plan.delete {
            if self.call().0 && self.table.delete(&lease.key) {
                self.removed.insert(lease.key.clone());
            }
        }
        self.work(at)
    }

    fn take(&mut self, at: usize, seen: &Lease, asked: Duration, is_theft: bool) -> Result<(), String> {
        let (arrives, answers) = self.call();
        let Some(before) = self.table.leases.get(&seen.key).cloned().filter(|_| arrives) else {
            return Ok(());
        };
        // The planted bug hides the owner from the plan only.
        let seen = if self.bug == Bug::WallClock { &before } else { seen };
        let owner = self.workers[at].name.clone();
        let Some(taken) = self.table.take(seen, &owner, self.bug) else { return Ok(()) };
        self.takes += 1;
        self.trace.push(format!("{} {owner} takes {} epoch {}", self.now_ms, taken.key, taken.epoch));
        self.stamp(at, &taken.key);
        let grant = Grant { owner: owner.clone(), stolen_ms: is_theft.then_some(self.now_ms) };
        let other = self.grants.insert((taken.key.clone(), taken.epoch), grant);
        if let Some(other) = other.filter(|other| other.owner != owner) {
            return Err(format!("{} and {owner} own {} in epoch {}", other.owner, taken.key, taken.epoch));
        }
        let number: u32 = taken.key["shardId-".len()..].parse().unwrap();
        for parent in &self.shards[&number].lease.parents {
            let is_read = self.removed.contains(parent)
                || self.table.leases.get(parent).is_some_and(Lease::is_finished);
            if !is_read {
                return Err(format!("{} is taken before its parent {parent} is read", taken.key));
            }
        }
        if answers {
            self.workers[at].planner.got(taken, asked);
        }
        Ok(())
    }

    /// Reads on in every shard that the worker holds, and finishes those that are closed and read.
    fn work(&mut self, at: usize) -> Result<(), String> {
        let believed = self.believed(&self.workers[at]);
        for (key, epoch) in believed {
            let number: u32 = key["shardId-".len()..].parse().unwrap();
            let shard = self.shards.get_mut(&number).unwrap();
            let tick_ms = self.workers[at].tick_ms;
            shard.work_ms = shard.work_ms.saturating_sub(tick_ms);
            if shard.is_open || shard.work_ms > 0 {
                continue;
            }
            let (arrives, answers) = self.call();
            let held = self.workers[at].planner.held().find(|lease| lease.key == key).cloned();
            let held = held.ok_or("believes in what it does not hold")?;
            if arrives && self.table.finish(&held) {
                self.trace.push(format!("{} {key} is finished in epoch {epoch}", self.now_ms));
            }
            if answers {
                self.workers[at].planner.gone(&key);
            }
        }
        Ok(())
    }

    /// Returns what a worker would work on now.
    fn believed(&self, worker: &Worker) -> Vec<(String, u64)> {
        if let Some((_, believed)) = &worker.paused {
            return believed.clone();
        }
        let now = Duration::from_millis(self.now_ms + worker.origin_ms);
        let holds = |lease: &&Lease| self.bug == Bug::EndlessBelief || worker.planner.holds(&lease.key, now);
        worker.planner.held().filter(holds).map(|lease| (lease.key.clone(), lease.epoch)).collect()
    }

    /// Checks that no two workers believe in one lease, but for those paused or just stolen from.
    fn believers(&self) -> Result<(), String> {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for worker in &self.workers {
            for (key, epoch) in self.believed(worker) {
                let highest = newest.entry(key).or_default();
                *highest = epoch.max(*highest);
            }
        }
        let belief_ms = Settings::default().belief().as_millis() as u64;
        for worker in self.workers.iter().filter(|worker| worker.paused.is_none()) {
            for (key, epoch) in self.believed(worker) {
                if newest[&key] == epoch {
                    continue;
                }
                let stolen_ms = self.grants[&(key.clone(), epoch + 1)].stolen_ms;
                if stolen_ms.is_none_or(|stolen| self.now_ms > stolen + belief_ms) {
                    let newest = newest[&key];
                    return Err(format!(
                        "{} believes in {key} in epoch {epoch}, another in {newest}",
                        worker.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Ends what disturbs: nobody is paused or cut off any more.
    pub(super) fn calm(&mut self) {
        self.has_faults = false;
        for worker in &mut self.workers {
            (worker.paused, worker.cut_off_ms) = (None, 0);
        }
        while self.workers.len() < 2 {
            self.join();
        }
    }

    /// Checks that every shard has a worker or is read, and that nobody has two more than another.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn is_settled(&self) -> Result<(), String> {
        let mut counts = Vec::new();
        let mut owned = BTreeSet::new();
        for worker in &self.workers {
            let believed = self.believed(worker);
            counts.push(believed.len());
            owned.extend(believed.into_iter().map(|(key, _)| key));
        }
        for shard in self.shards.values() {
            let key = &shard.lease.key;
            let is_read =
                self.removed.contains(key) || self.table.leases.get(key).is_some_and(Lease::is_finished);
            if !is_read && (!shard.is_open || !owned.contains(key)) {
                return Err(format!(
                    "{key} is {} and has no end",
                    if shard.is_open { "nobody's" } else { "closed" }
                ));
            }
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        if most - least > 1 {
            return Err(format!("shares are {counts:?}"));
        }
        Ok(())
    }
}
