//! What a worker does about leases at each tick: a decision without input or output, time as an argument.
//!
//! Nobody leads. Every worker looks at all leases, judges by its own clock which of them stand still, and takes what it
//! should have. Two that decide the same at once are told apart by the conditional write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Checkpoint, Lease};

/// How leases are shared.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a lease lasts: it may be taken when its counter stood still for this long before the observer's eyes.
    pub duration: Duration,
    /// A lease is stolen from a worker that has this many more. Below 2 it would go back and forth for ever.
    pub steal_difference: usize,
}

impl Default for Settings {
    /// As KCL has it: ten seconds cover a long pause of a process, and are what a crash costs.
    fn default() -> Self {
        Self { duration: Duration::from_secs(10), steal_difference: 2 }
    }
}

impl Settings {
    /// Returns how long an owner counts on its lease from when it asked for it: less than others wait, as clocks run
    /// at different speeds.
    pub fn belief(&self) -> Duration {
        self.duration - self.duration / 10
    }

    /// Returns how long after a renewal the next is due: one may fail, and the next still comes in time.
    pub fn renew_after(&self) -> Duration {
        self.duration / 3
    }
}

/// What to do, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Leases that have another owner now: stop working on them.
    pub lost: Vec<Lease>,
    /// Leases to keep.
    pub renew: Vec<Lease>,
    /// Leases of new shards to make, in this order and none behind one that failed: a lease whose parent has none
    /// tells that the parent is long gone.
    pub create: Vec<Lease>,
    /// Leases to take that are nobody's or whose owner let them run out, as they were seen.
    pub take: Vec<Lease>,
    /// Leases to take from a worker that is well and has too many; it stops when it hears of it.
    pub steal: Vec<Lease>,
    /// Finished leases to remove.
    pub delete: Vec<Lease>,
}

/// Decides for one worker.
#[derive(Debug)]
pub struct Planner {
    owner: String,
    settings: Settings,
    random: u64,
    seen: BTreeMap<String, Seen>,
    held: BTreeMap<String, Held>,
}

/// How a lease stood when it last moved before this observer's eyes.
#[derive(Debug)]
struct Seen {
    at: (u64, u64),
    moved: Duration,
}

/// A lease of this worker's.
#[derive(Debug)]
struct Held {
    lease: Lease,
    /// When the call was made that gave it or kept it.
    asked: Duration,
}

/// A stage's leases at one tick, sorted by what may be done with them.
struct View<'a> {
    /// To be had: nobody's, or nobody's any more.
    free: Vec<&'a Lease>,
    /// Leases of other workers that are alive.
    loads: BTreeMap<&'a str, Vec<&'a Lease>>,
}

impl Planner {
    /// Returns the planner of a worker; `owner` names this run of this process and no other, and `seed` breaks ties
    /// differently in every worker.
    pub fn new(owner: impl Into<String>, settings: Settings, seed: u64) -> Self {
        let (seen, held) = (BTreeMap::new(), BTreeMap::new());
        Self { owner: owner.into(), settings, random: seed, seen, held }
    }

    /// Returns this worker's name.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns how long a lease lasts.
    pub fn duration(&self) -> Duration {
        self.settings.duration
    }

    /// Decides what to do, from the leases as listed before `now` and, unless unknown, the shards that there are, each
    /// as the lease it would begin with. `now` is this worker's monotonic clock; it never goes back.
    ///
    /// Leases under way count as held: report every outcome before the next tick.
    pub fn tick(&mut self, now: Duration, listed: &[Lease], shards: Option<&[Lease]>) -> Plan {
        self.look(now, listed);
        let mut plan = Plan { lost: self.drop_lost(listed), ..Plan::default() };
        let due = self.held.values().filter(|held| held.asked + self.settings.renew_after() <= now);
        plan.renew = due.map(|held| held.lease.clone()).collect();
        let View { free, loads } = self.sort(now, listed, shards);
        match free.is_empty() {
            false => plan.take = self.choose(free, &loads),
            true => plan.steal.extend(self.steal(&loads)),
        }
        if let Some(shards) = shards {
            plan.create = missing(listed, shards);
            plan.delete = outlived(listed, shards);
        }
        plan
    }

    /// Notes that a lease was taken or renewed by a call that was made at `asked`.
    pub fn got(&mut self, lease: Lease, asked: Duration) {
        self.held.insert(lease.key.clone(), Held { lease, asked });
    }

    /// Notes that a lease is no longer this worker's: given back, finished, or found with another owner.
    pub fn gone(&mut self, key: &str) {
        self.held.remove(key);
    }

    /// Tells whether the worker may work on a shard now. It stops when not: another may have begun.
    pub fn holds(&self, key: &str, now: Duration) -> bool {
        self.held.get(key).is_some_and(|held| now < held.asked + self.settings.belief())
    }

    /// Returns the leases of this worker, those included that it may have lost without hearing of it.
    pub fn held(&self) -> impl Iterator<Item = &Lease> {
        self.held.values().map(|held| &held.lease)
    }

    /// Notes which leases moved. A list may be older than the one before it, so only forward counts.
    fn look(&mut self, now: Duration, listed: &[Lease]) {
        let keys: BTreeSet<&str> = listed.iter().map(|lease| lease.key.as_str()).collect();
        self.seen.retain(|key, _| keys.contains(key.as_str()));
        for lease in listed {
            let at = (lease.epoch, lease.counter);
            match self.seen.get_mut(&lease.key) {
                Some(seen) if seen.at >= at => {}
                Some(seen) => *seen = Seen { at, moved: now },
                None => {
                    self.seen.insert(lease.key.clone(), Seen { at, moved: now });
                }
            }
        }
    }

    fn drop_lost(&mut self, listed: &[Lease]) -> Vec<Lease> {
        let is_lost = |lease: &&Lease| {
            let held = self.held.get(&lease.key);
            held.is_some_and(|held| lease.epoch > held.lease.epoch)
        };
        let keys: Vec<String> = listed.iter().filter(is_lost).map(|lease| lease.key.clone()).collect();
        keys.iter().filter_map(|key| self.held.remove(key)).map(|held| held.lease).collect()
    }

    /// Returns free leases up to a fair share.
    fn choose(&mut self, mut free: Vec<&Lease>, loads: &BTreeMap<&str, Vec<&Lease>>) -> Vec<Lease> {
        let mine = self.held.len();
        let total = free.len() + mine + loads.values().map(Vec::len).sum::<usize>();
        let share = total.div_ceil(loads.len() + 1);
        let mut chosen = Vec::new();
        while mine + chosen.len() < share && !free.is_empty() {
            let at = self.below(free.len());
            chosen.push(free.swap_remove(at).clone());
        }
        chosen
    }

    /// Returns one lease of the worker that has most, if that is too many.
    fn steal(&mut self, loads: &BTreeMap<&str, Vec<&Lease>>) -> Option<Lease> {
        let most = loads.values().map(Vec::len).max()?;
        let difference = self.settings.steal_difference;
        if most < self.held.len() + difference {
            return None;
        }
        // When several workers lack something, one of them steals on average: all at once would empty the victim.
        let thieves = 1 + loads.values().filter(|leases| leases.len() + difference <= most).count();
        if self.below(thieves) != 0 {
            return None;
        }
        let richest: Vec<&Vec<&Lease>> = loads.values().filter(|leases| leases.len() == most).collect();
        let victim = richest[self.below(richest.len())];
        Some(victim[self.below(victim.len())].clone())
    }

    fn sort<'a>(&self, now: Duration, listed: &'a [Lease], shards: Option<&[Lease]>) -> View<'a> {
        let mut view = View { free: Vec::new(), loads: BTreeMap::new() };
        let leases: BTreeMap<&str, &Lease> = listed.iter().map(|lease| (lease.key.as_str(), lease)).collect();
        // A parent without a lease counts as read only if its shard is gone too: its lease may be about to be made.
        let is_read = |parent: &String| match leases.get(parent.as_str()) {
            Some(lease) => lease.is_finished(),
            None => shards.is_some_and(|shards| shards.iter().all(|shard| shard.key != *parent)),
        };
        for lease in listed {
            if lease.is_finished() || self.held.contains_key(&lease.key) {
                continue;
            }
            let moved = self.seen.get(&lease.key).map_or(now, |seen| seen.moved);
            let is_expired = now.saturating_sub(moved) > self.settings.duration;
            match &lease.owner {
                // One's own name on a lease that one does not hold is an answer that was lost.
                Some(owner) if *owner != self.owner && !is_expired => {
                    view.loads.entry(owner).or_default().push(lease);
                }
                Some(_) | None => {
                    if lease.parents.iter().all(is_read) {
                        view.free.push(lease);
                    }
                }
            }
        }
        view
    }

    /// Returns a number below `bound` that looks random (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Returns leases for the shards that have none, parents before children: a shard's number is higher than those of its
/// parents, and its id is padded. A lease tells that all shards before it had one too: an old list of shards must not
/// bring back what was removed.
fn missing(listed: &[Lease], shards: &[Lease]) -> Vec<Lease> {
    let parents: BTreeMap<&str, &BTreeSet<String>> =
        listed.iter().chain(shards).map(|lease| (lease.key.as_str(), &lease.parents)).collect();
    let mut had: BTreeSet<&str> = BTreeSet::new();
    let mut next: Vec<&str> = listed.iter().map(|lease| lease.key.as_str()).collect();
    while let Some(key) = next.pop() {
        if had.insert(key) {
            next.extend(parents.get(key).into_iter().copied().flatten().map(String::as_str));
        }
    }
    let mut new: Vec<Lease> =
        shards.iter().filter(|shard| !had.contains(shard.key.as_str())).cloned().collect();
    new.sort_by(|a, b| a.key.cmp(&b.key));
    new
}

/// Returns finished leases that nobody needs: the shard is gone, so that nobody makes its lease anew, and those that
/// were split or merged from it have begun.
fn outlived(listed: &[Lease], shards: &[Lease]) -> Vec<Lease> {
    let is_gone = |lease: &&Lease| shards.iter().all(|shard| shard.key != lease.key);
    let has_begun = |key: &String| {
        let lease = listed.iter().find(|lease| lease.key == *key);
        lease.is_some_and(|lease| lease.checkpoint != Checkpoint::TrimHorizon)
    };
    let is_needed = |parent: &Lease| {
        let mut children = shards.iter().filter(|shard| shard.parents.contains(&parent.key));
        children.any(|child| !has_begun(&child.key))
    };
    let finished = listed.iter().filter(|lease| lease.is_finished()).filter(is_gone);
    finished.filter(|lease| !is_needed(lease)).cloned().collect()
}
