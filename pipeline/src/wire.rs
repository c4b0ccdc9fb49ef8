//! The wiring: one place that puts log, stores, stages and gateway together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use gateway::app::Readiness;
use gateway::auth::Issuer;
use gateway::{App, SystemClock};
use ingest::log::Log;
use ingest::log::embedded::{Embedded, Options};
use ingest::partition::PartitionId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[cfg(feature = "cluster")]
pub mod cluster;

use crate::config::Config;
use crate::runner::cache::{Bounds, Cache};
use crate::runner::clock::Clock;
use crate::runner::progress::local::Local;
use crate::runner::{Ended, Parts, RunError, Runner, Settings};
use crate::stage::Operator;
use crate::stage::grade::Grade;
use crate::stage::rank::Rank;
use crate::store::embedded::EmbeddedStore;
use crate::store::{Stage, Store, Unit};
use crate::telemetry;
use crate::views::boards::Boards;
use crate::views::local::InProcess;
use crate::views::notices::Notices;

/// Both stages over every partition, in this process.
pub struct Stages {
    /// The grade stage.
    pub grade: Parts<Grade>,
    /// The rank stage.
    pub rank: Parts<Rank>,
    /// Their rankings.
    pub rankings: Arc<InProcess>,
    /// What the gateway reads.
    pub views: Arc<Boards>,
}

impl Stages {
    /// Puts the stages together over a log and a store, to seal a grace after each close and to forget quizzes that are
    /// final after they were kept for a while, if not for ever. Does no I/O.
    pub fn new(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        (grace, keep): (Duration, Option<Duration>),
        bounds: Bounds,
    ) -> Self {
        let partitions = log.partitions();
        let progress = Arc::new(Local::new(partitions));
        let notices = Arc::new(Notices::default());
        let grade = Arc::new(Grade::new(partitions, grace.as_millis() as u64).keeping(keep));
        let rank = Arc::new(Rank::new(notices.clone()));
        let grade = Arc::new(Cache::new(grade, store.clone(), bounds));
        let rank = Arc::new(Cache::new(rank, store.clone(), bounds));
        let rankings = Arc::new(InProcess::new(rank.clone(), store.clone(), progress.clone(), log.clone()));
        let views = Arc::new(Boards::new(rankings.clone(), log.clone(), notices));
        let settings = Settings::default();
        let grade = Parts {
            log: log.clone(),
            store: store.clone(),
            clock: clock.clone(),
            cache: grade,
            progress: progress.clone(),
            settings,
        };
        let rank = Parts { log, store, clock, cache: rank, progress, settings };
        Self { grade, rank, rankings, views }
    }

    /// Starts a runner per stage and partition.
    pub fn spawn(&self, stop: &watch::Receiver<bool>) -> JoinSet<Result<Ended, RunError>> {
        let mut runners = JoinSet::new();
        for partition in (0..self.grade.log.partitions()).map(PartitionId) {
            runners.spawn(run(self.grade.clone(), Unit { stage: Stage::Grade, partition }, stop.clone()));
            runners.spawn(run(self.rank.clone(), Unit { stage: Stage::Rank, partition }, stop.clone()));
        }
        runners
    }
}

async fn run<O: Operator>(
    parts: Parts<O>,
    unit: Unit,
    stop: watch::Receiver<bool>,
) -> Result<Ended, RunError> {
    Runner::acquire(parts, unit).await?.run(stop).await
}

/// Runs every stage in this process until SIGTERM or Ctrl-C; returns when everything is durable and handed back.
///
/// # Errors
/// The address is taken, the directory is taken or damaged, or a stage stopped.
pub async fn up(config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: stop what uses it, or choose another address with --listen",
            config.listen
        )
    })?;
    let address = listener.local_addr().context("the listener has no address")?;
    let metrics = telemetry::metrics().context("metrics")?;
    let storage = Embedded::open(&config.data, Options { partitions: config.partitions })?;
    let issuer =
        Issuer::open(&config.data).with_context(|| format!("issuer key in {}", config.data.display()))?;
    let store = Arc::new(EmbeddedStore::new(storage.clone()));
    store.recover(config.partitions).await.context("what was to be forgotten is still there")?;
    let bounds = Bounds { weight_max: config.cache_participants_max, ..Bounds::default() };
    let times = (config.timing.grace(), config.keep_finished);
    let stages = Stages::new(Arc::new(storage.clone()), store, Arc::new(SystemClock), times, bounds);
    let (stop, stopped) = watch::channel(false);
    let mut runners = stages.spawn(&stopped);

    let ready = Arc::new(Readiness::starting());
    let mut settings = gateway::Settings { timing: config.timing, ..gateway::Settings::default() };
    settings.live.interval = config.live_interval;
    let app = App::new(gateway::Parts {
        log: Arc::new(storage),
        views: stages.views.clone(),
        clock: Arc::new(SystemClock),
        issuer,
        ready: ready.clone(),
        metrics,
        settings,
    });
    let (close, closed) = watch::channel(false);
    let mut server =
        tokio::spawn(gateway::serve(listener, app.clone(), gateway::router(app), wait_for(closed)));
    tokio::spawn(announce(ready.clone(), stages.rankings.clone(), address, config.data.clone()));

    let failed = tokio::select! {
        () = terminated() => None,
        ended = runners.join_next() => Some(ended),
        ended = &mut server => bail!("the gateway stopped: {ended:?}"),
    };
    tracing::info!("stopping: no new requests, finishing those in flight");
    ready.set(Err("stopping".into()));
    close.send_replace(true);
    if let Ok(Err(error)) = server.await {
        tracing::warn!(%error, "the gateway did not stop cleanly");
    }
    stop.send_replace(true);
    while let Some(ended) = runners.join_next().await {
        ended.context("a stage panicked")??;
    }
    match failed {
        None => Ok(()),
        Some(None) => bail!("no stage is running"),
        Some(Some(ended)) => {
            ended.context("a stage panicked")??;
            bail!("a stage stopped by itself")
        }
    }
}

async fn wait_for(mut flag: watch::Receiver<bool>) {
    // The sender outlives the server; losing it means stopping as well.
    let _ = flag.wait_for(|&on| on).await;
}

/// Says that the process is ready once every stage has seen the end of its partitions.
async fn announce(
    ready: Arc<Readiness>,
    rankings: Arc<InProcess>,
    address: std::net::SocketAddr,
    data: std::path::PathBuf,
) {
    let begun = gateway::Clock::now(&SystemClock);
    while rankings.oldest() < begun {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ready.set(Ok(()));
    let took_ms = gateway::Clock::now(&SystemClock).since(begun);
    tracing::info!(took_ms, "ready: everything in the log is applied");
    let data = data.display();
    // To be copied as it is: the binary need not be on the path.
    let podium = std::env::current_exe().unwrap_or_else(|_| "podium".into());
    let here = std::env::current_dir().unwrap_or_default();
    let podium = podium.strip_prefix(here).unwrap_or(&podium).display();
    telemetry::say(&format!(
        "Podium is up at http://{address}/\nA host's token:  {podium} token --role host --data {data}"
    ));
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
