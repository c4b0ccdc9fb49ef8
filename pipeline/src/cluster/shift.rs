//! One lease at work: a runner for each partition of a shard, all reading through one poller.
//!
//! What cannot go on is parked: it stands still, a person is told, and the other partitions of the shard go on without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ingest::lease::Checkpoint;
use ingest::log::{Log, Lost};
use operators::id::Position;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::health::Health;
use super::shards::{Shard, Shards};
use crate::runner::cache::{Budget, Cache};
use crate::runner::clock::Clock;
use crate::runner::progress::pulses::Pulses;
use crate::runner::{Ended, Parts, RunError, Runner, Settings};
use crate::stage::Operator;
use crate::store::{Header, Store, Unit};

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
    /// Bounds of the states of all leases together.
    pub budget: Arc<Budget>,
    /// Who hears of what cannot go on.
    pub health: Arc<Health>,
    /// How long a partition that cannot go on stands still before it is tried again.
    pub cool_down: Duration,
    /// What becomes of records that may be gone from the stream unread.
    pub lost: Lost,
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
            budget: self.budget.clone(),
            health: self.health.clone(),
            cool_down: self.cool_down,
            lost: self.lost,
        }
    }
}

/// Partitions of a shard that cannot go on; forgotten when dropped.
struct Parked {
    health: Arc<Health>,
    cool_down: Duration,
    units: BTreeMap<Unit, RunError>,
    /// Those that were parked before, and why.
    told: BTreeMap<Unit, RunError>,
    /// When they are tried again, if there are any.
    until: Option<Instant>,
}

impl Parked {
    fn new(health: Arc<Health>, cool_down: Duration) -> Self {
        Self { health, cool_down, units: BTreeMap::new(), told: BTreeMap::new(), until: None }
    }

    fn park(&mut self, unit: Unit, error: RunError) {
        let (stage, partition) = (unit.stage.name(), unit.partition);
        if self.told.insert(unit, error.clone()).as_ref() == Some(&error) {
            tracing::warn!(stage, %partition, %error, "the partition still cannot go on");
        } else {
            tracing::error!(stage, %partition, %error, "the partition stands still, the others go on");
        }
        self.health.park(unit, error.clone());
        self.units.insert(unit, error);
        self.until.get_or_insert_with(|| Instant::now() + self.cool_down);
    }

    fn resume(&mut self) {
        for unit in std::mem::take(&mut self.units).into_keys() {
            self.health.resume(unit);
        }
        self.until = None;
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.resume();
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

    /// Works on a shard until told to stop, or until it is read to its end and all of it is stored. A partition that
    /// cannot go on is parked, and tried again after a while.
    ///
    /// # Errors
    /// `Fenced`: everything of the shard is given up.
    pub async fn work(self, shard: Shard, mut stop: watch::Receiver<bool>) -> Result<Ended, RunError> {
        let mut parked = Parked::new(self.health.clone(), self.cool_down);
        loop {
            if let Some(ended) = self.stint(&shard, &mut parked, &mut stop).await? {
                return Ok(ended);
            }
        }
    }

    /// Works on the partitions that are not parked; returns nothing when others are to be worked on from here on. A
    /// partition nobody reads would fill the buffers of all, so the shard is opened anew then.
    async fn stint(
        &self,
        shard: &Shard,
        parked: &mut Parked,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Ended>, RunError> {
        let runners = self.acquire(shard, parked).await?;
        let owned = Owned { pulses: self.pulses.clone(), units: runners.iter().map(Runner::unit).collect() };
        owned.units.iter().for_each(|unit| self.pulses.own(*unit));
        let from = runners.iter().map(|runner| (runner.unit().partition, runner.header().position)).collect();
        let open = || self.shards.open(self.operator.stage().input(), shard, from);
        let log = if runners.is_empty() { self.log.clone() } else { open() };
        let (halt, halted) = watch::channel(false);
        let mut running = JoinSet::new();
        let mut units = BTreeMap::new();
        for runner in runners {
            let unit = runner.unit();
            units.insert(running.spawn(runner.reading(log.clone()).run(halted.clone())).id(), unit);
        }
        let (mut all, mut told_to_stop) = (Ended::Closed, false);
        loop {
            let is_over = told_to_stop || *halt.borrow() || parked.until.is_none();
            if running.is_empty() && is_over {
                break;
            }
            let retry_at = parked.until.unwrap_or_else(Instant::now);
            let ended = tokio::select! {
                ended = running.join_next_with_id(), if !running.is_empty() => ended,
                _ = stop.wait_for(|stop| *stop), if !told_to_stop => {
                    told_to_stop = true;
                    halt.send_replace(true);
                    continue;
                }
                () = tokio::time::sleep_until(retry_at), if parked.until.is_some() && !*halt.borrow() => {
                    parked.resume();
                    halt.send_replace(true);
                    continue;
                }
            };
            let (id, ended) = match ended {
                None => continue,
                Some(Ok(ended)) => ended,
                Some(Err(error)) => {
                    (error.id(), Err(RunError::Corrupt(format!("a stage panicked: {error}"))))
                }
            };
            match ended {
                Ok(Ended::Closed) => {}
                Ok(Ended::Stopped) => all = Ended::Stopped,
                Err(RunError::Fenced) => return Err(RunError::Fenced),
                Err(error @ (RunError::NewerReader { .. } | RunError::Corrupt(_))) => {
                    let unit = units.get(&id).expect("every runner that was started is noted");
                    parked.park(*unit, error);
                    halt.send_replace(true);
                }
            }
        }
        let is_done = all == Ended::Closed && parked.until.is_none() && !*halt.borrow();
        Ok(if told_to_stop { Some(all) } else { is_done.then_some(Ended::Closed) })
    }

    /// Takes over the partitions of a shard that are neither parked nor read to its end.
    async fn acquire(&self, shard: &Shard, parked: &mut Parked) -> Result<Vec<Runner<O>>, RunError> {
        // States in memory are worth nothing once the lease is gone, so each begins without any.
        let cache = Cache::sharing(self.operator.clone(), self.store.clone(), self.budget.clone());
        let parts = Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            cache: Arc::new(cache),
            progress: self.pulses.clone(),
            settings: self.settings,
        };
        let units = self.units(shard).into_iter().filter(|unit| !parked.units.contains_key(unit));
        let acquired = units.map(async |unit| (unit, Runner::acquire(parts.clone(), unit).await));
        let mut runners = Vec::new();
        for (unit, acquired) in join_all(acquired).await {
            match acquired.and_then(|runner| self.check_age(shard, runner.header()).map(|()| runner)) {
                // One that stands on a younger shard has read all of this one.
                Ok(runner) if runner.header().position.is_some_and(|at| at.shard > shard.number) => {}
                Ok(runner) => runners.push(runner),
                Err(RunError::Fenced) => return Err(RunError::Fenced),
                Err(error @ (RunError::NewerReader { .. } | RunError::Corrupt(_))) => {
                    parked.park(unit, error)
                }
            }
        }
        Ok(runners)
    }

    /// Refuses a partition that comes from another shard so late that the first records on this one may be gone: what is
    /// oldest here does not tell. Where its last record is on this shard, the log sees whether that is still there.
    fn check_age(&self, shard: &Shard, header: Header) -> Result<(), RunError> {
        let comes_from_another = header.position.is_some_and(|at| at.shard < shard.number);
        let kept = self.shards.retention(self.operator.stage().input());
        let Some(kept) = kept.filter(|_| comes_from_another && self.lost == Lost::Refused) else {
            return Ok(());
        };
        let age_ms = self.clock.now().since(header.append_at);
        if u128::from(age_ms) <= kept.as_millis() {
            return Ok(());
        }
        let (hours, kept_hours) = (age_ms / 3_600_000, kept.as_secs() / 3_600);
        Err(RunError::Corrupt(format!(
            "its last record is {hours} hours old and records are kept for {kept_hours}: the next may be lost; \
             start once with --skip-lost to go on with what is there"
        )))
    }

    /// Returns how far all partitions of a shard are stored, for people who read the lease.
    pub fn checkpoint(&self, shard: &Shard) -> Checkpoint {
        let at = self.units(shard).into_iter().map(|unit| self.pulses.stored_at(unit));
        let here = |at: Option<Position>| at.filter(|at| at.shard == shard.number);
        let least = at.map(here).collect::<Option<Vec<_>>>().and_then(|at| at.into_iter().min());
        least.map_or(Checkpoint::TrimHorizon, Checkpoint::At)
    }
}
