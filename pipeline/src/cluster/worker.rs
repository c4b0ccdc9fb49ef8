//! A worker: takes leases on shards for one stage, works on them, and gives them back.
//!
//! What it does about leases is decided by [`Planner`]; this carries it out. A worker that is paused may not know that
//! it has lost a lease: the epochs of the partitions stop it, not this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ingest::lease::plan::{Plan, Planner};
use ingest::lease::{Checkpoint, Lease, LeaseError, Leases};
use ingest::log::Lost;
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
    /// The shards of the last look, until the next look at the leases.
    looked: Option<Vec<Lease>>,
    /// Shards with a lease that could not be found, since when, and whether a person was told.
    missing: BTreeMap<String, (Instant, bool)>,
    /// The leases were seen when they were last looked at.
    sees_leases: bool,
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

/// Why a worker did not end in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// Call a person.
    #[error("the leases are damaged: {0}")]
    Corrupt(String),
    /// It was told to stop, and the streams or the table could not be reached: the next owner goes on from what is stored.
    #[error("stopped, but {0}; the next owner goes on from the last checkpoint")]
    Disorder(String),
}

/// A look at the leases that is under way when the worker is told to stop gets this much longer.
const TICK_MAX: Duration = Duration::from_secs(2);

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
            looked: None,
            missing: BTreeMap::new(),
            sees_leases: true,
            shifts: JoinSet::new(),
            at_work: BTreeMap::new(),
        }
    }

    /// Works until told to stop; returns when everything is stored and every lease is given back, or when that has not
    /// come about for the duration of a lease: others may have taken over by then.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), WorkError> {
        let mut ticks = tokio::time::interval(self.settings.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            let shift = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break Ok(()),
                _ = ticks.tick() => None,
                ended = self.shifts.join_next_with_id(), if !self.shifts.is_empty() => ended,
            };
            let had_looked = self.looked.is_some();
            let done = tokio::select! {
                done = self.turn(shift) => done,
                // What became of a call that is cut off here, the next owner sees.
                () = overdue(&mut stop) => break Ok(()),
            };
            if let Err(error) = done {
                break Err(error);
            }
            if self.looked.is_some() && !had_looked {
                ticks.reset_immediately();
            }
        };
        let left = self.hand_over().await;
        ended.and(left)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn turn(&mut self, shift: Outcome) -> Result<(), WorkError> {
        match shift {
            None => self.tick().await,
            some => self.ended(some).await,
        }
    }

    /// Looks at the leases once and does what is to be done.
    async fn tick(&mut self) -> Result<(), WorkError> {
        let listed = self.leases.list().await;
        self.sees_leases = listed.is_ok();
        match listed {
            Ok(listed) => {
                self.tools.health.saw_leases();
                // They stood so before now: whoever has renewed since is taken for late by none.
                let now = self.now();
                let shards = self.looked.take();
                let plan = self.planner.tick(now, &listed, shards.as_deref());
                self.carry_out(plan).await?;
            }
            Err(LeaseError::Unavailable(reason)) => tracing::warn!(reason, "the leases cannot be reached"),
            Err(LeaseError::Corrupt(reason)) => return Err(WorkError::Corrupt(reason)),
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
        // Last, as no lease may wait for it.
        self.look_at_shards().await;
        Ok(())
    }

    /// Looks at the shards when it is time to. What takes too long for the leases is given up.
    async fn look_at_shards(&mut self) {
        if self.listed.is_some_and(|at| at.elapsed() < self.settings.shards_every) {
            return;
        }
        let began = Instant::now();
        let listing = self.tools.shards.list(self.tools.operator.stage().input());
        match tokio::time::timeout(self.planner.duration() / 4, listing).await {
            Ok(Ok(found)) => {
                self.listed = Some(began);
                self.looked = Some(found.iter().map(|shard| shard.lease.clone()).collect());
                self.shards = found.into_iter().map(|shard| (shard.lease.key.clone(), shard)).collect();
                let shards = &self.shards;
                self.missing.retain(|key, _| !shards.contains_key(key));
            }
            Ok(Err(error)) => tracing::warn!(%error, "the shards cannot be listed"),
            Err(_) => tracing::warn!("the shards are not listed in time"),
        }
    }

    async fn carry_out(&mut self, plan: Plan) -> Result<(), WorkError> {
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
                self.miss(&lease).await?;
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

    /// Notes a lease whose shard is not there. It may be newer than the last look at the shards; or it is gone from the
    /// stream, and nobody can read it to its end any more.
    async fn miss(&mut self, lease: &Lease) -> Result<(), WorkError> {
        let Some((since, is_told)) = self.missing.get_mut(&lease.key) else {
            self.missing.insert(lease.key.clone(), (Instant::now(), false));
            self.listed = None;
            return Ok(());
        };
        // A look at the shards that began before says nothing, and one that failed even less.
        if since.elapsed() < self.settings.shards_every || self.listed.is_none_or(|at| at <= *since) {
            return Ok(());
        }
        let (shard, stage) = (&lease.key, self.tools.operator.stage().name());
        match self.tools.lost {
            Lost::Refused if *is_told => {}
            Lost::Refused => {
                *is_told = true;
                tracing::error!(
                    stage,
                    shard,
                    "the shard is past its retention and was not read to its end: what it was split or merged into \
                     waits; start once with --skip-lost to go on without it"
                );
            }
            Lost::Skipped => {
                tracing::warn!(stage, shard, "a shard that is gone is taken for read");
                let asked = self.now();
                let taken = self.answered(self.leases.take(lease, self.planner.owner()).await)?.flatten();
                if let Some(taken) = taken {
                    self.planner.got(taken, asked);
                    self.finish(&lease.key).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns how far the work on a lease is stored: what a shift has not stored yet, another has.
    fn checkpoint(&self, lease: &Lease) -> Checkpoint {
        let shard = self.shards.get(&lease.key);
        shard.map_or(lease.checkpoint, |shard| self.tools.checkpoint(shard).max(lease.checkpoint))
    }

    async fn renew(&mut self, lease: &Lease) -> Result<(), WorkError> {
        let checkpoint = self.checkpoint(lease);
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
    fn answered<T>(&self, outcome: Result<T, LeaseError>) -> Result<Option<T>, WorkError> {
        match outcome {
            Ok(outcome) => Ok(Some(outcome)),
            Err(LeaseError::Unavailable(reason)) => {
                tracing::warn!(reason, "a lease cannot be written");
                Ok(None)
            }
            Err(LeaseError::Corrupt(reason)) => Err(WorkError::Corrupt(reason)),
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
    async fn ended(&mut self, outcome: Outcome) -> Result<(), WorkError> {
        let (id, ended) = match outcome {
            None => return Ok(()),
            Some(Ok((id, ended))) => (id, ended),
            // Given up by ourselves.
            Some(Err(error)) if error.is_cancelled() => return Ok(()),
            Some(Err(error)) => {
                let id = error.id();
                (id, Err(RunError::Corrupt(format!("a shift panicked: {error}"))))
            }
        };
        let key = self.at_work.iter().find(|(_, shift)| shift.id == id).map(|(key, _)| key.clone());
        let Some(key) = key else { return Ok(()) };
        self.at_work.remove(&key);
        match ended {
            Ok(Ended::Closed) => self.finish(&key).await,
            Ok(Ended::Stopped) => Ok(()),
            Err(error) => {
                tracing::warn!(shard = key, %error, "work on this shard ends");
                self.planner.gone(&key);
                Ok(())
            }
        }
    }

    /// Notes in the lease that its shard is read to the end, so that its children may be read.
    async fn finish(&mut self, key: &str) -> Result<(), WorkError> {
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

    /// Stops all work and gives the leases back. What does not end while a lease lasts is given up.
    async fn hand_over(&mut self) -> Result<(), WorkError> {
        for shift in self.at_work.values() {
            shift.stop.send_replace(true);
        }
        let patience = self.planner.duration();
        let ending = async {
            while let Some(ended) = self.shifts.join_next().await {
                if let Ok(Err(error)) = ended {
                    tracing::warn!(%error, "a shard was not left in order");
                }
            }
        };
        let mut left = Vec::new();
        if tokio::time::timeout(patience, ending).await.is_err() {
            left.push(format!("{} shards could not be stored", self.shifts.len()));
            self.shifts.shutdown().await;
        }
        let releases = self.planner.held().map(async |lease| {
            let release = self.leases.release(lease, self.checkpoint(lease));
            match tokio::time::timeout(patience / 4, release).await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!(shard = lease.key, %error, "the lease could not be given back and runs out by itself");
                    false
                }
                Err(_) => false,
            }
        });
        let kept = join_all(releases).await.into_iter().filter(|is_released| !is_released).count();
        if kept > 0 {
            left.push(format!("{kept} leases could not be given back"));
        }
        if !self.sees_leases {
            left.push("the leases cannot be reached".to_owned());
        }
        if left.is_empty() { Ok(()) } else { Err(WorkError::Disorder(left.join(", "))) }
    }
}

/// Returns once the worker was told to stop and has had time to end what it was about.
async fn overdue(stop: &mut watch::Receiver<bool>) {
    // Nobody left to tell it is as good as being told.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(TICK_MAX).await;
}
