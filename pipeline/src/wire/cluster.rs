//! The wiring of stages apart: gateways, graders and rankers as processes of their own on Kinesis and DynamoDB.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::app::{Readiness, Render};
use gateway::auth::{Issuer, KEY_FILE};
use gateway::{App, SystemClock};
use ingest::aws::Aws;
use ingest::error::ReadError;
use ingest::lease::plan::{self, Planner};
use ingest::lease::{Lease, dynamodb::Dynamo};
use ingest::log::kinesis::{Consumer, Kinesis, Options};
use ingest::log::{Log, Stream};
use ingest::partition::PartitionId;
use ingest::table::Table;
use operators::id::Position;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{terminated, wait_for};
use crate::cluster::admin;
use crate::cluster::admin::Problems;
use crate::cluster::beats::Beats;
use crate::cluster::health::Health;
use crate::cluster::herald::Herald;
use crate::cluster::identity::{self, Identity};
use crate::cluster::shards::{Shard, Shards};
use crate::cluster::shift::Tools;
use crate::cluster::worker::{self, Worker};
use crate::config::cluster::{Cluster, GRADE_CHECKPOINT, RANK_CHECKPOINT, VIEW_TICK};
use crate::runner::Settings;
use crate::runner::cache::{Bounds, Budget};
use crate::runner::progress::pulses::Pulses;
use crate::stage::Operator;
use crate::stage::grade::Grade;
use crate::stage::rank::{Rank, Silence};
use crate::store::Stage;
use crate::store::dynamodb::{self, DynamoStore};
use crate::telemetry;
use crate::views::boards::Boards;
use crate::views::notices::Notices;
use crate::views::readiness::{Judge, Known};
use crate::views::replicas::{self, Replicas};
use crate::views::tails::Tails;

/// Time between two looks of a worker at the leases.
const LEASE_TICK: Duration = Duration::from_secs(1);
/// Time between two looks of a worker at the shards.
const SHARDS_EVERY: Duration = Duration::from_secs(30);
/// How long a partition that cannot go on stands still before it is tried again: the others of its shard pause for that.
const COOL_DOWN: Duration = Duration::from_mins(5);
/// How long a worker that ends tries to take its beat away.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a stage waits for a first record: what has come is handed over at once.
const WAIT: Duration = Duration::from_millis(250);

/// Pause between two polls of a shard by a gateway, which counts what is in flight while somebody asks for books: the
/// other four calls a second are the graders'.
const COUNT_POLL: Duration = Duration::from_secs(1);
/// Time between two looks at whether a gateway is ready.
const READY_TICK: Duration = Duration::from_millis(50);

/// What every process of a cluster has.
struct Engines {
    aws: Aws,
    log: Kinesis,
    table: Table,
    store: DynamoStore,
}

async fn connect(config: &Cluster, stage: Option<&str>) -> anyhow::Result<Engines> {
    let aws = Aws::from_env().await?;
    let consumer = match (&config.fan_out, stage) {
        (Some(name), Some(stage)) => Consumer::FanOut { name: format!("{name}-{stage}") },
        (Some(_) | None, _) => Consumer::Polling,
    };
    let mut options = Options {
        prefix: config.prefix.clone(),
        partitions: config.partitions,
        poll: config.poll,
        consumer,
        lost: config.lost,
        ..Options::default()
    };
    if stage.is_none() {
        (options.poll, options.catch_up) = (COUNT_POLL, COUNT_POLL);
    }
    let log = Kinesis::open(&aws, options).await?;
    let table = Table::open(&aws, config.table.clone()).await?;
    Identity::of(&log).bind(&table).await?;
    let store = DynamoStore::new(table.clone(), Arc::new(log.clone()), dynamodb::Options::default());
    Ok(Engines { aws, log, table, store })
}

/// Serves clients until SIGTERM or Ctrl-C.
///
/// # Errors
/// The address is taken, or the streams or the table cannot be used.
pub async fn gateway(config: Cluster) -> anyhow::Result<()> {
    let base = &config.base;
    let listener = TcpListener::bind(base.listen).await.with_context(|| {
        let address = base.listen;
        format!("cannot listen on {address}: stop what uses it, or choose another address with --listen")
    })?;
    let address = listener.local_addr().context("the listener has no address")?;
    let metrics = telemetry::metrics().context("metrics")?;
    let Engines { aws, log, table, store } = connect(&config, None).await?;
    let issuer =
        Issuer::open(&base.data).with_context(|| format!("issuer key in {}", base.data.display()))?;
    identity::claim(&table, &issuer.fingerprint(), &base.data.join(KEY_FILE)).await?;
    let notices = Arc::new(Notices::default());
    let tails = Tails::new(Arc::new(Streams(log.clone())));
    let log: Arc<dyn Log> = Arc::new(log);
    let settings = replicas::Settings {
        tick: VIEW_TICK,
        participants_max: base.cache_participants_max,
        ..replicas::Settings::of(base.timing)
    };
    let clock = Arc::new(SystemClock);
    let replicas =
        Replicas::new(store, Arc::new(table), notices.clone(), clock.clone(), log.partitions(), settings);
    let offset = aws.offset().clone();
    let replicas = replicas.counted(tails).measured(Arc::new(move || offset.certain_ms()));
    let replicas = Arc::new(replicas);
    let mut following = tokio::spawn({
        let replicas = replicas.clone();
        async move { replicas.follow().await }
    });

    let ready = Arc::new(Readiness::starting());
    let mut settings = gateway::Settings { timing: base.timing, ..gateway::Settings::default() };
    settings.live.interval = base.live_interval;
    settings.live.catch_up_within = base.timing.view_age_max();
    settings.serves_metrics = config.admin_listen.is_none();
    let (close, closed) = watch::channel(false);
    let problems: Problems = {
        let ready = ready.clone();
        Arc::new(move || ready.why_not().into_iter().collect())
    };
    let metrics_at = serve_metrics(&config, &metrics, &problems, &closed).await?;
    let views = Arc::new(Boards::new(replicas.clone(), log.clone(), notices));
    let parts = gateway::Parts { log, views, clock, issuer, ready: ready.clone(), metrics, settings };
    let app = App::new(parts);
    let mut server =
        tokio::spawn(gateway::serve(listener, app.clone(), gateway::router(app), wait_for(closed)));
    let up = format!("Podium's gateway is up at http://{address}/{metrics_at}");
    let judging = tokio::spawn(judge(replicas, ready.clone(), base.timing.view_age_max(), up));
    tracing::info!(%address, "listening; ready once graders and rankers have taken every partition");
    tokio::select! {
        () = terminated() => {}
        ended = &mut server => bail!("the gateway stopped: {ended:?}"),
        ended = &mut following => bail!("the views are not followed any more: {ended:?}"),
    }
    tracing::info!("stopping: no new requests, finishing those in flight");
    judging.abort();
    // It must not say otherwise afterwards.
    let _ = judging.await;
    ready.set(Err("stopping".into()));
    close.send_replace(true);
    let ended = tokio::select! {
        ended = server => ended,
        () = terminated() => bail!("told twice to stop: requests in flight were cut off"),
    };
    if let Ok(Err(error)) = ended {
        tracing::warn!(%error, "the gateway did not stop cleanly");
    }
    following.abort();
    Ok(())
}

/// Says for ever whether the gateway is ready, and in the log when that changes; says `up` when it is for the first time.
async fn judge(replicas: Arc<Replicas<DynamoStore>>, ready: Arc<Readiness>, age_max: Duration, up: String) {
    let since = Instant::now();
    let mut judge = Judge::new(gateway::Clock::now(&SystemClock), age_max);
    let (mut said, mut is_announced) = (ready.why_not(), false);
    loop {
        let (doubt, (oldest, newest)) = (replicas.doubt(), replicas.graded());
        let now = gateway::Clock::now(&SystemClock);
        let known = Known { elapsed: since.elapsed(), now, oldest, newest, doubt: doubt.as_deref() };
        let judgement = judge.judge(&known);
        let says = judgement.clone().err();
        ready.set(judgement);
        if said != says {
            match &says {
                None => tracing::info!("ready: the views are fresh"),
                Some(reason) if !is_announced => tracing::info!(reason, "not ready yet"),
                Some(reason) => tracing::warn!(reason, "not ready"),
            }
            said = says;
        }
        if said.is_none() && !is_announced {
            is_announced = true;
            telemetry::say(&up);
        }
        tokio::time::sleep(READY_TICK).await;
    }
}

/// Runs the grade stage on whatever shards this process gets, until SIGTERM or Ctrl-C.
///
/// # Errors
/// The streams or the table cannot be used, or a stage stopped.
pub async fn grade(config: Cluster) -> anyhow::Result<()> {
    let engines = connect(&config, Some("grade")).await?;
    let grade = Grade::new(engines.log.partitions(), config.base.timing.grace().as_millis() as u64)
        .keeping(config.base.keep_finished);
    work(config, engines, grade, GRADE_CHECKPOINT).await
}

/// Runs the rank stage on whatever shards this process gets, until SIGTERM or Ctrl-C.
///
/// # Errors
/// The streams or the table cannot be used, or a stage stopped.
pub async fn rank(config: Cluster) -> anyhow::Result<()> {
    let engines = connect(&config, Some("rank")).await?;
    work(config, engines, Rank::new(Arc::new(Silence)), RANK_CHECKPOINT).await
}

async fn work<O: Operator>(
    config: Cluster,
    engines: Engines,
    operator: O,
    checkpoint: Duration,
) -> anyhow::Result<()> {
    let stage = operator.stage();
    let metrics = telemetry::metrics().context("metrics")?;
    let worker = name();
    let Engines { log, table, store, .. } = engines;
    let pulses = Arc::new(Pulses::default());
    let clock = Arc::new(SystemClock);
    let checkpoint = config.checkpoint.unwrap_or(checkpoint);
    let settings = Settings { checkpoint, wait: WAIT, ..Settings::default() };
    let bounds = Bounds { weight_max: config.base.cache_participants_max, ..Bounds::default() };
    let health = Arc::new(Health::new(stage, config.lease));
    let tools = Tools {
        log: Arc::new(log.clone()),
        shards: Arc::new(Streams(log.clone())),
        store: Arc::new(store),
        clock: clock.clone(),
        operator: Arc::new(operator),
        pulses: pulses.clone(),
        settings,
        budget: Arc::new(Budget::new(bounds)),
        health: health.clone(),
        cool_down: COOL_DOWN,
        lost: config.lost,
    };
    let leases = Arc::new(Dynamo::new(table.clone(), stage.name()));
    let durations = plan::Settings { duration: config.lease, ..plan::Settings::default() };
    let planner = Planner::new(worker.clone(), durations, seed(&worker));
    let tick = LEASE_TICK.min(config.lease / 10);
    let looks = worker::Settings { tick, shards_every: SHARDS_EVERY };
    let herald = Herald {
        log: Arc::new(log),
        beats: Arc::new(table.clone()),
        pulses,
        clock,
        worker: worker.clone(),
        interval: config.pulse,
        grace: (stage == Stage::Grade).then(|| config.base.timing.grace()),
    };

    let (stop, stopped) = watch::channel(false);
    let problems: Problems = Arc::new(move || health.problems());
    let metrics_at = serve_metrics(&config, &metrics, &problems, &stopped).await?;
    let mut telling = tokio::spawn(async move { herald.run(stage).await });
    let mut working = tokio::spawn(Worker::new(tools, leases, planner, looks).run(stopped));
    telemetry::say(&format!("Podium's {} stage is up as {worker}{metrics_at}", stage.name()));
    let ended = tokio::select! {
        () = terminated() => {
            tracing::info!("stopping: storing what was done and giving the leases back");
            stop.send_replace(true);
            tokio::select! {
                ended = working => ended,
                () = terminated() => bail!("told twice to stop: the leases were not given back, and run out"),
            }
        }
        ended = &mut working => ended,
        ended = &mut telling => bail!("the others are not told any more how far this worker is: {ended:?}"),
    };
    telling.abort();
    // Its last beat must not follow.
    let _ = telling.await;
    let removed = tokio::time::timeout(FAREWELL, table.remove(stage, &worker)).await;
    if !matches!(removed, Ok(Ok(()))) {
        tracing::debug!("the last beat stays for a while");
    }
    Ok(ended.context("the worker panicked")??)
}

/// Serves metrics on an address of their own, if one is set; returns the words that say where.
async fn serve_metrics(
    config: &Cluster,
    metrics: &Render,
    problems: &Problems,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<String> {
    let Some(address) = config.admin_listen else { return Ok(String::new()) };
    let address = admin::serve(address, metrics.clone(), problems.clone(), stop.clone()).await?;
    Ok(format!(", metrics at http://{address}/metrics"))
}

/// Returns a name that no other run of any process has.
fn name() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let host = if host.trim().is_empty() { "podium" } else { host.trim() };
    format!("{host}-{}-{:x}", std::process::id(), since.as_nanos())
}

/// Returns a number that differs between workers, to break ties by.
fn seed(worker: &str) -> u64 {
    // FNV-1a.
    worker
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The streams as shards.
pub struct Streams(pub Kinesis);

impl Shards for Streams {
    fn list(&self, stream: Stream) -> BoxFuture<'_, Result<Vec<Shard>, ReadError>> {
        async move {
            let found = self.0.shards(stream).await?;
            Ok(found.into_iter().map(|shard| lease(&shard)).collect())
        }
        .boxed()
    }

    fn retention(&self, stream: Stream) -> Option<Duration> {
        self.0.retention(stream)
    }

    fn open(
        &self,
        stream: Stream,
        shard: &Shard,
        from: BTreeMap<PartitionId, Option<Position>>,
    ) -> Arc<dyn Log> {
        let shard = ingest::log::kinesis::Shard {
            id: shard.lease.key.clone(),
            number: shard.number,
            parents: shard.lease.parents.iter().cloned().collect(),
            starting_hash_key: shard.lease.starting_hash_key.clone(),
            ending_hash_key: shard.lease.ending_hash_key.clone(),
            partitions: shard.partitions.clone(),
            is_closed: false,
        };
        Arc::new(self.0.shard(stream, &shard, from))
    }
}

fn lease(shard: &ingest::log::kinesis::Shard) -> Shard {
    let lease = Lease::of_shard(
        shard.id.clone(),
        shard.parents.clone(),
        shard.starting_hash_key.clone(),
        shard.ending_hash_key.clone(),
    );
    Shard { lease, number: shard.number, partitions: shard.partitions.clone() }
}
