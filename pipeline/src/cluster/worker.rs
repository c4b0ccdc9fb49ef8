//! A worker: takes leases on shards for one stage, works on them, and gives them back.
//!
//! What it does about leases is decided by [`Planner`]; this carries it out. A worker that is paused may not know that
//! it has lost a lease: the epochs of the partitions stop it, not this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::lease::plan::{Plan, Planner};
use ingest::lease::{Lease, LeaseError, Leases};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::shards::Shard;
use super::shift::Tools;
use crate::runner::{Ended, RunError};
use crate::stage::Operator;

/// One worker of one stage.
pub struct Worker<O: Operator> {
    tools: Tools<O>,
    leases: Arc<dyn Leases>,
    planner: Planner,
    settings: Settings,
    began: Instant,
    shards: BTreeMap<String, Shard>,
    listed: Option<Instant>,
    shifts: JoinSet<Result<Ended, RunError>>,
    at_work: BTreeMap<String, Shift>,
}

/// How a worker looks after its leases.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Time between two looks at the leases.
    pub tick: Duration,
    /// Time between two looks at the shards; after a shard's end they are looked at at once.
    pub shards_every: Duration,
}

struct Shift {
    id: Id,
    abort: AbortHandle,
    stop: watch::Sender<bool>,
}

type Outcome = Option<Result<(Id, Result<Ended, RunError>), JoinError>>;

impl<O: Operator> Worker<O> {
    /// Returns a worker without leases.
    pub fn new(tools: Tools<O>, leases: Arc<dyn Leases>, planner: Planner, settings: Settings) -> Self {
        Self {
            tools,
            leases,
            planner,
            settings,
            began: Instant::now(),
            shards: BTreeMap::new(),
            listed: None,
            shifts: JoinSet::new(),
            at_work: BTreeMap::new(),
        }
    }

    /// Works until told to stop; returns when everything is stored and every lease is given back.
    ///
    /// # Errors
    /// `NewerReader`, `Corrupt`: a person has to look. Leases are given back then as well.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), RunError> {
        let mut ticks = tokio::time::interval(self.settings.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            let shift = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break Ok(()),
                _ = ticks.tick() => None,
                ended = self.shifts.join_next_with_id(), if !self.shifts.is_empty() => ended,
            };
            let done = match shift {
                None => self.tick().await,
                some => self.ended(some).await,
            };
            if let Err(error) = done {
                break Err(error);
            }
        };
        self.hand_over().await;
        ended
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Looks at the leases once and does what is to be done.
    async fn tick(&mut self) -> Result<(), RunError> {
        let now = self.now();
        let shards = self.look_at_shards().await;
        match self.leases.list().await {
            Ok(listed) => {
                let plan = self.planner.tick(now, &listed, shards.as_deref());
                self.carry_out(plan).await?;
            }
            Err(LeaseError::Unavailable(reason)) => tracing::warn!(reason, "the leases cannot be reached"),
            Err(LeaseError::Corrupt(reason)) => return Err(RunError::Corrupt(reason)),
        }
        // Whoever cannot be sure of a lease stops: another may have begun.
        let now = self.now();
        let unsure: Vec<String> =
            self.at_work.keys().filter(|key| !self.planner.holds(key, now)).cloned().collect();
        for key in unsure {
            tracing::warn!(shard = key, "lease not renewed in time, work on it stops");
            self.drop_shift(&key);
        }
        metrics::gauge!("podium_leases", "stage" => self.tools.operator.stage().name())
            .set(self.at_work.len() as f64);
        Ok(())
    }

    /// Returns the shards as leases, when it was time to look at them and they could be seen.
    async fn look_at_shards(&mut self) -> Option<Vec<Lease>> {
        if self.listed.is_some_and(|at| at.elapsed() < self.settings.shards_every) {
            return None;
        }
        match self.tools.shards.list(self.tools.operator.stage().input()).await {
            Ok(found) => {
                self.listed = Some(Instant::now());
                let leases = found.iter().map(|shard| shard.lease.clone()).collect();
                self.shards = found.into_iter().map(|shard| (shard.lease.key.clone(), shard)).collect();
                Some(leases)
            }
            Err(error) => {
                tracing::warn!(%error, "the shards cannot be listed");
                None
            }
        }
    }

    async fn carry_out(&mut self, plan: Plan) -> Result<(), RunError> {
        for lease in plan.lost {
            tracing::info!(shard = lease.key, "another worker has this lease now");
            self.drop_shift(&lease.key);
        }
        for lease in plan.renew {
            self.renew(&lease).await?;
        }
        for lease in plan.create {
            if self.answered(self.leases.create(&lease).await)?.is_none() {
                break;
            }
            // The next look at the leases has it; the one at the shards need not wait for its turn.
            self.listed = None;
        }
        for lease in plan.take.into_iter().chain(plan.steal) {
            // Without its shard nobody knows what lies on it.
            let Some(shard) = self.shards.get(&lease.key).cloned() else {
                self.listed = None;
                continue;
            };
            let asked = self.now();
            let taken = self.answered(self.leases.take(&lease, self.planner.owner()).await)?.flatten();
            if let Some(lease) = taken {
                tracing::info!(shard = lease.key, epoch = lease.epoch, "lease taken");
                self.planner.got(lease, asked);
                self.start(shard);
            }
        }
        for lease in plan.delete {
            self.answered(self.leases.delete(&lease).await)?;
        }
        Ok(())
    }

    async fn renew(&mut self, lease: &Lease) -> Result<(), RunError> {
        let shard = self.shards.get(&lease.key);
        let checkpoint = shard.map_or(lease.checkpoint, |shard| self.tools.checkpoint(shard));
        let asked = self.now();
        match self.answered(self.leases.renew(lease, checkpoint).await)? {
            Some(Some(lease)) => self.planner.got(lease, asked),
            Some(None) => {
                tracing::info!(shard = lease.key, "another worker has this lease now");
                self.drop_shift(&lease.key);
            }
            None => {}
        }
        Ok(())
    }

    /// Returns what a call about leases gave, or nothing when it was not answered: the next tick sees what became of it.
    fn answered<T>(&self, outcome: Result<T, LeaseError>) -> Result<Option<T>, RunError> {
        match outcome {
            Ok(outcome) => Ok(Some(outcome)),
            Err(LeaseError::Unavailable(reason)) => {
                tracing::warn!(reason, "a lease cannot be written");
                Ok(None)
            }
            Err(LeaseError::Corrupt(reason)) => Err(RunError::Corrupt(reason)),
        }
    }

    fn start(&mut self, shard: Shard) {
        let key = shard.lease.key.clone();
        let (stop, stopped) = watch::channel(false);
        let abort = self.shifts.spawn(self.tools.clone().work(shard, stopped));
        self.at_work.insert(key, Shift { id: abort.id(), abort, stop });
    }

    /// Gives up work at once, in the midst of whatever it does, and the lease with it.
    fn drop_shift(&mut self, key: &str) {
        self.planner.gone(key);
        if let Some(shift) = self.at_work.remove(key) {
            shift.abort.abort();
        }
    }

    /// Notes the end of a shift.
    async fn ended(&mut self, outcome: Outcome) -> Result<(), RunError> {
        let (id, ended) = match outcome {
            None => return Ok(()),
            Some(Ok((id, ended))) => (id, ended),
            // Given up by ourselves.
            Some(Err(error)) if error.is_cancelled() => return Ok(()),
            Some(Err(error)) => return Err(RunError::Corrupt(format!("a stage panicked: {error}"))),
        };
        let key = self.at_work.iter().find(|(_, shift)| shift.id == id).map(|(key, _)| key.clone());
        let Some(key) = key else { return Ok(()) };
        self.at_work.remove(&key);
        match ended {
            Ok(Ended::Closed) => self.finish(&key).await,
            Ok(Ended::Stopped) => Ok(()),
            Err(RunError::Fenced) => {
                tracing::info!(shard = key, "another worker has taken partitions of this shard");
                self.planner.gone(&key);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Notes in the lease that its shard is read to the end, so that its children may be read.
    async fn finish(&mut self, key: &str) -> Result<(), RunError> {
        let Some(mut lease) = self.planner.held().find(|lease| lease.key == key).cloned() else {
            return Ok(());
        };
        let children = self.shards.values().filter(|shard| shard.lease.parents.contains(key));
        lease.children = children.map(|shard| shard.lease.key.clone()).collect();
        tracing::info!(shard = key, "read to its end");
        // Unanswered, it is taken again, found to be at its end, and finished then.
        self.answered(self.leases.finish(&lease).await)?;
        self.planner.gone(key);
        self.listed = None;
        Ok(())
    }

    /// Stops all work and gives the leases back.
    async fn hand_over(&mut self) {
        for shift in self.at_work.values() {
            shift.stop.send_replace(true);
        }
        while let Some(ended) = self.shifts.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!(%error, "a shard was not left in order; its next owner goes on from the last checkpoint");
            }
        }
        let held: Vec<Lease> = self.planner.held().cloned().collect();
        for lease in held {
            let shard = self.shards.get(&lease.key);
            let checkpoint = shard.map_or(lease.checkpoint, |shard| self.tools.checkpoint(shard));
            if let Err(error) = self.leases.release(&lease, checkpoint).await {
                tracing::warn!(shard = lease.key, %error, "the lease could not be given back and runs out by itself");
            }
        }
    }
}
