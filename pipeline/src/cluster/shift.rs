//! One lease at work: a runner for each partition of a shard, all reading through one poller.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use ingest::lease::Checkpoint;
use ingest::log::Log;
use operators::id::Position;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::shards::{Shard, Shards};
use crate::runner::cache::{Bounds, Cache};
use crate::runner::clock::Clock;
use crate::runner::progress::pulses::Pulses;
use crate::runner::{Ended, Parts, RunError, Runner, Settings};
use crate::stage::Operator;
use crate::store::{Store, Unit};

/// What the work on every lease needs.
pub struct Tools<O: Operator> {
    /// Where effects go.
    pub log: Arc<dyn Log>,
    /// Where records come from.
    pub shards: Arc<dyn Shards>,
    /// Where state is.
    pub store: Arc<dyn Store>,
    /// When.
    pub clock: Arc<dyn Clock>,
    /// What is done.
    pub operator: Arc<O>,
    /// Who hears how far it is.
    pub pulses: Arc<Pulses>,
    /// Bounds of a step.
    pub settings: Settings,
    /// Bounds of the states of one lease.
    pub bounds: Bounds,
}

impl<O: Operator> Clone for Tools<O> {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            shards: self.shards.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            operator: self.operator.clone(),
            pulses: self.pulses.clone(),
            settings: self.settings,
            bounds: self.bounds,
        }
    }
}

/// Units that a shift has; given up when dropped, however the shift ends.
struct Owned {
    pulses: Arc<Pulses>,
    units: Vec<Unit>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.units.iter().for_each(|unit| self.pulses.disown(*unit));
    }
}

impl<O: Operator> Tools<O> {
    /// Returns the units that lie on a shard.
    pub fn units(&self, shard: &Shard) -> Vec<Unit> {
        let stage = self.operator.stage();
        shard.partitions.iter().map(|&partition| Unit { stage, partition }).collect()
    }

    /// Works on a shard until told to stop, or until it is read to its end and all of it is stored.
    ///
    /// # Errors
    /// [`RunError`]: the first of any partition; the others are given up.
    pub async fn work(self, shard: Shard, stop: watch::Receiver<bool>) -> Result<Ended, RunError> {
        // States in memory are worth nothing once the lease is gone, so each shift begins without any.
        let cache = Arc::new(Cache::new(self.operator.clone(), self.store.clone(), self.bounds));
        let parts = Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            cache,
            progress: self.pulses.clone(),
            settings: self.settings,
        };
        let units = self.units(&shard);
        let acquired = units.iter().map(|unit| Runner::acquire(parts.clone(), *unit));
        let mut runners = try_join_all(acquired).await?;
        let from: BTreeMap<_, _> =
            runners.iter().map(|runner| (runner.unit().partition, runner.header().position)).collect();
        // One that stands on a younger shard has read all of this one.
        runners.retain(|runner| runner.header().position.is_none_or(|at| at.shard <= shard.number));
        let log = self.shards.open(self.operator.stage().input(), &shard, from);
        let owned = Owned { pulses: self.pulses.clone(), units };
        owned.units.iter().for_each(|unit| self.pulses.own(*unit));
        let mut running = JoinSet::new();
        for runner in runners {
            running.spawn(runner.reading(log.clone()).run(stop.clone()));
        }
        let mut all = Ended::Closed;
        while let Some(ended) = running.join_next().await {
            let ended = ended.map_err(|error| RunError::Corrupt(format!("a stage panicked: {error}")))??;
            if ended == Ended::Stopped {
                all = Ended::Stopped;
            }
        }
        Ok(all)
    }

    /// Returns how far all partitions of a shard are stored, for people who read the lease.
    pub fn checkpoint(&self, shard: &Shard) -> Checkpoint {
        let at = self.units(shard).into_iter().map(|unit| self.pulses.stored_at(unit));
        let here = |at: Option<Position>| at.filter(|at| at.shard == shard.number);
        let least = at.map(here).collect::<Option<Vec<_>>>().and_then(|at| at.into_iter().min());
        least.map_or(Checkpoint::TrimHorizon, Checkpoint::At)
    }
}
