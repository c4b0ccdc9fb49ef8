//! What is wrong with a worker, for whoever asks whether it is ready.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::runner::RunError;
use crate::store::{Stage, Unit};

/// What is known of one worker.
pub struct Health {
    stage: Stage,
    /// How old a look at the leases may be.
    age_max: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the leases were last seen.
    seen: Option<Instant>,
    parked: BTreeMap<Unit, RunError>,
}

impl Health {
    /// Returns the health of a worker that has not seen the leases yet; a look at them counts for `age_max`.
    pub fn new(stage: Stage, age_max: Duration) -> Self {
        Self { stage, age_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the leases were seen.
    pub fn saw_leases(&self) {
        self.lock().seen = Some(Instant::now());
    }

    /// Notes that a partition cannot go on, while the others do.
    pub fn park(&self, unit: Unit, error: RunError) {
        let mut state = self.lock();
        state.parked.insert(unit, error);
        self.count(&state);
    }

    /// Notes that a partition is tried again, or is another worker's.
    pub fn resume(&self, unit: Unit) {
        let mut state = self.lock();
        state.parked.remove(&unit);
        self.count(&state);
    }

    fn count(&self, state: &State) {
        metrics::gauge!("podium_partitions_parked", "stage" => self.stage.name())
            .set(state.parked.len() as f64);
    }

    /// Returns why the worker is not ready, a line each; empty if it is.
    pub fn problems(&self) -> Vec<String> {
        let state = self.lock();
        let mut problems = Vec::new();
        if state.seen.is_none_or(|seen| seen.elapsed() > self.age_max) {
            problems.push("the leases cannot be seen".to_owned());
        }
        for (unit, error) in &state.parked {
            problems.push(format!(
                "partition {} of {} stands still: {error}",
                unit.partition,
                unit.stage.input()
            ));
        }
        problems
    }
}
