//! Workers: two for every unit, which hold its lease in turn and run the real runner.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pipeline::runner::cache::{Bounds, Cache};
use pipeline::runner::progress::local::Local;
use pipeline::runner::{Parts, RunError, Runner, Settings};
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;
use pipeline::stage::rank::{Rank, Silence};
use pipeline::store::{Stage, Unit};

use super::calls::Caller;
use super::handles::{SimLog, SimStore};
use super::mutants::{BentGrade, BentRank, Mutant};
use super::world::{Shared, SkewedClock, World};

/// The place of one worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) unit: Unit,
    /// First or second worker of the unit.
    pub(super) which: usize,
}

/// Returns the places of all workers, in the order of their numbers.
pub(super) fn places(world: &World) -> Vec<Place> {
    world.plan.units().into_iter().flat_map(|unit| [0, 1].map(|which| Place { unit, which })).collect()
}

/// Returns the task of one worker, which starts after a while.
pub(super) fn worker(
    world: &Shared,
    number: usize,
    progress: Arc<Local>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    let place = places(&world.lock())[number];
    let plan = world.lock().plan.clone();
    let grace =
        if plan.mutant == Some(Mutant::SealWithoutGrace) { Duration::ZERO } else { plan.timing.grace() };
    let grace_ms = grace.as_millis() as u64;
    let clock = SkewedClock { world: world.clone(), skew_ms: plan.workers[place.which] };
    let world = world.clone();
    match (place.unit.stage, plan.mutant) {
        (Stage::Grade, None) => Box::pin(live(
            world,
            place,
            clock,
            progress,
            Grade::new(plan.partitions, grace_ms).keeping(plan.keep),
        )),
        (Stage::Rank, None) => Box::pin(live(world, place, clock, progress, Rank::new(Arc::new(Silence)))),
        (Stage::Grade, Some(mutant)) => {
            let bent = BentGrade::new(mutant, Grade::new(plan.partitions, grace_ms), clock.clone());
            Box::pin(live(world, place, clock, progress, bent))
        }
        (Stage::Rank, Some(mutant)) => {
            let bent = BentRank::new(mutant, Rank::new(Arc::new(Silence)));
            Box::pin(live(world, place, clock, progress, bent))
        }
    }
}

/// Holds the lease whenever it can get it, and works as long as it has it.
async fn live<O: Operator>(
    world: Shared,
    place: Place,
    clock: SkewedClock,
    progress: Arc<Local>,
    operator: O,
) {
    let plan = world.lock().plan.clone();
    let operator = Arc::new(operator);
    let settings = Settings {
        records_max: plan.records_max,
        bytes_max: 4 << 20,
        wait: Duration::from_millis(plan.wait_ms),
        checkpoint: Duration::ZERO,
        linger: Duration::ZERO,
    };
    loop {
        let rest = world.lock().until_free(place);
        world.pause(rest).await;
        if !world.lock().lease(place) {
            continue;
        }
        // Whatever stopped the life before, its cache is worth nothing.
        let caller = Caller::Worker(place.unit);
        let store = Arc::new(SimStore::new(world.clone(), caller));
        let bounds = Bounds { states_max: plan.states_max, weight_max: usize::MAX };
        let cache = Arc::new(Cache::new(operator.clone(), store.clone(), bounds));
        let log = Arc::new(SimLog::new(&world, caller));
        let clock = Arc::new(clock.clone());
        let parts = Parts { log, store, clock, cache, progress: progress.clone(), settings };
        let stopped = work(&world, place, parts).await;
        if let Err(error) = stopped {
            world.lock().stopped(place.unit, place.which as u64, &error);
        }
    }
}

/// Runs until the lease is gone.
async fn work<O: Operator>(world: &Shared, place: Place, parts: Parts<O>) -> Result<(), RunError> {
    let mut runner = Runner::acquire(parts, place.unit).await?;
    let epoch = runner.header().epoch;
    world.lock().note("acquired", &[place.which as u64, epoch]);
    while world.lock().lease(place) {
        runner.step().await?;
    }
    world.lock().note("lease lost", &[epoch]);
    Ok(())
}

impl World {
    /// Takes or renews the lease of a unit; tells whether the worker has it.
    fn lease(&mut self, place: Place) -> bool {
        let (now, lease_ms) = (self.now, self.plan.lease_ms);
        let (holder, until) = self.leases.get(&place.unit).copied().unwrap_or((place.which, 0));
        let mine = holder == place.which || until < now;
        if mine {
            self.leases.insert(place.unit, (place.which, now + lease_ms));
        }
        mine
    }

    /// Returns how long to wait before asking for the lease.
    fn until_free(&mut self, place: Place) -> u64 {
        let until = self.leases.get(&place.unit).map_or(0, |(_, until)| *until);
        until.saturating_sub(self.now) + self.rng.between(1, 60)
    }

    pub(super) fn stopped(&mut self, unit: Unit, which: u64, error: &RunError) {
        self.note("stopped", &[which]);
        match error {
            RunError::Fenced => {}
            RunError::NewerReader { .. } | RunError::Corrupt(_) => {
                self.ledger.violated("I11", format!("{unit:?} stopped: {error}"));
            }
        }
    }

    /// Tells at which step of this commit the worker falls asleep, if it is one of the planned zombies. One that
    /// crashes before that is no zombie; the next commit is.
    pub(super) fn zombie_at(&mut self, unit: Unit, steps: usize) -> Option<usize> {
        let commits = self.commits.entry(unit).or_default();
        *commits += 1;
        let due = self.plan.zombies.iter().any(|(planned, nth)| *planned == unit && *nth <= *commits);
        (due && !self.calm && !self.slept.contains(&unit)).then(|| self.rng.below(steps as u64) as usize)
    }
}
