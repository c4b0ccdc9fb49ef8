//! Gateways and workers as the binary wires them, on hosts of the simulation.

use std::sync::Arc;
use std::time::Duration;

use gateway::admission::Timing;
use gateway::app::Readiness;
use gateway::auth::Issuer;
use gateway::{App, Clock, SystemClock};
use hyper_util::service::TowerToHyperService;
use ingest::lease::dynamodb::Dynamo;
use ingest::lease::plan::{self, Planner};
use ingest::log::kinesis::admin::{self, Mode};
use ingest::log::kinesis::{Kinesis, Options};
use ingest::log::{Log, Lost};
use ingest::table::{Capacity, Table};
use pipeline::cluster::health::Health;
use pipeline::cluster::herald::Herald;
use pipeline::cluster::shards::Shards;
use pipeline::cluster::shift::Tools;
use pipeline::cluster::worker::{self, Worker};
use pipeline::runner::Settings;
use pipeline::runner::progress::pulses::Pulses;
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;
use pipeline::stage::rank::{Rank, Silence};
use pipeline::store::Store;
use pipeline::store::dynamodb::{self, DynamoStore};
use pipeline::views::boards::Boards;
use pipeline::views::notices::Notices;
use pipeline::views::replicas::{self, Replicas};
use pipeline::views::tails::Tails;
use pipeline::wire::cluster::Streams;
use tokio::sync::watch;

use crate::bugs::{Half, Hasty, TardyShards};
use crate::cloud;
use crate::net;
use crate::plan::Bug;
use crate::world::World;

/// Partitions of every stream: one of a kind would leave nothing to mix up.
const PARTITIONS: u16 = 2;
/// The table.
const TABLE: &str = "podium";
/// Short, so that a take-over fits a seed; longer than one try of a call, as in earnest.
const LEASE: Duration = Duration::from_millis(3_500);
/// Time between two looks at the leases.
const LEASE_TICK: Duration = Duration::from_millis(500);
/// Time between two looks at the shards: none are made in a seed.
const SHARDS_EVERY: Duration = Duration::from_secs(15);
/// Time between two pulses, and between two polls of a shard.
const PULSE: Duration = Duration::from_millis(350);
const POLL: Duration = Duration::from_millis(300);
/// Time between two checkpoints.
const CHECKPOINT: Duration = Duration::from_millis(400);
/// Time between two looks of a gateway at the stages.
const VIEW_TICK: Duration = Duration::from_millis(300);
/// How long an append is tried: less than some partings last, so that gateways see it given up.
const GIVE_UP: Duration = Duration::from_secs(2);

/// The key of the issuer, which gateways share.
pub(crate) fn issuer() -> Issuer {
    Issuer::from_key([7; 32])
}

/// Grace 4 s, margin 500 ms, views at most 2.5 s old: pulses and polls are slower here than in earnest.
fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing::new(ms(4_000), ms(500), ms(2_500)).unwrap()
}

/// Makes the streams and the table.
pub(crate) async fn found(world: World) -> turmoil::Result {
    // Clocks begin at 1970. The double of Kinesis looks two seconds back, and nothing may seem fresh that never was.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let aws = cloud::aws(&world.faults).await;
    let mode = Mode::Provisioned { shards: world.plan.shards };
    admin::create(&aws, "podium-", PARTITIONS, mode, None, &[]).await?;
    Table::create(&aws, TABLE, Capacity::OnDemand, &[]).await?;
    Ok(())
}

/// What every process of a cluster has.
struct Engines {
    log: Kinesis,
    table: Table,
    store: DynamoStore,
}

async fn connect(world: &World) -> Engines {
    let aws = cloud::aws(&world.faults).await;
    let options = Options { prefix: "podium-".into(), poll: POLL, give_up: GIVE_UP, ..Options::default() };
    let log = loop {
        // Whoever runs a process starts it again when it cannot reach the streams.
        match Kinesis::open(&aws, options.clone()).await {
            Ok(log) => break log,
            Err(error) => tracing::warn!(%error, "no streams yet"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let table = Table::new(&aws, TABLE);
    // So that within a seed pages are merged, slots written over and others emptied.
    let options = dynamodb::Options {
        page_bytes_max: 2_000,
        fan_in: 4,
        retired_for: Duration::from_secs(2),
        free_slots_min: 2,
        ..dynamodb::Options::default()
    };
    let store = DynamoStore::new(table.clone(), Arc::new(log.clone()), options);
    Engines { log, table, store }
}

/// Runs a gateway until the host crashes.
pub(crate) async fn gateway(world: World) -> turmoil::Result {
    let Engines { log, table, store } = connect(&world).await;
    let tails = Tails::new(Arc::new(Streams(log.clone())));
    let log: Arc<dyn Log> = Arc::new(log);
    let log: Arc<dyn Log> = if world.bug == Bug::HastyGateway { Arc::new(Hasty(log)) } else { log };
    let notices = Arc::new(Notices::default());
    let clock = Arc::new(SystemClock);
    let settings =
        replicas::Settings { tick: VIEW_TICK, participants_max: 1_000, ..replicas::Settings::of(timing()) };
    let replicas =
        Replicas::new(store, Arc::new(table), notices.clone(), clock.clone(), log.partitions(), settings);
    let replicas = Arc::new(replicas.counted(tails));
    tokio::spawn({
        let replicas = replicas.clone();
        async move { replicas.follow().await }
    });
    let ready = Arc::new(Readiness::starting());
    let views = Arc::new(Boards::new(replicas.clone(), log.clone(), notices));
    let settings = gateway::Settings { timing: timing(), ..gateway::Settings::default() };
    let metrics = Arc::new(String::new);
    let parts =
        gateway::Parts { log, views, clock, issuer: issuer(), ready: ready.clone(), metrics, settings };
    let app = App::new(parts);
    tokio::spawn(async move {
        let begun = SystemClock.now();
        while replicas.graded().0 < begun {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ready.set(Ok(()));
    });
    Ok(net::serve(TowerToHyperService::new(gateway::router(app))).await?)
}

/// Runs a grader until the host crashes.
pub(crate) async fn grader(world: World) -> turmoil::Result {
    work(world, Grade::new(PARTITIONS, timing().grace().as_millis() as u64)).await
}

/// Runs a ranker until the host crashes.
pub(crate) async fn ranker(world: World) -> turmoil::Result {
    work(world, Rank::new(Arc::new(Silence))).await
}

async fn work<O: Operator>(world: World, operator: O) -> turmoil::Result {
    let stage = operator.stage();
    let life = world.life();
    let worker = format!("{}-{life}", stage.name());
    let Engines { log, table, store } = connect(&world).await;
    let streams = Streams(log.clone());
    let shards: Arc<dyn Shards> =
        if world.bug == Bug::LateEffects { Arc::new(TardyShards(streams)) } else { Arc::new(streams) };
    let store: Arc<dyn Store> = Arc::new(store);
    let store: Arc<dyn Store> = if world.bug == Bug::HalfCommit { Arc::new(Half::new(store)) } else { store };
    let (pulses, clock) = (Arc::new(Pulses::default()), Arc::new(SystemClock));
    let wait = Duration::from_millis(250);
    let tools = Tools {
        log: Arc::new(log.clone()),
        shards,
        store,
        clock: clock.clone(),
        operator: Arc::new(operator),
        pulses: pulses.clone(),
        settings: Settings { checkpoint: CHECKPOINT, wait, ..Settings::default() },
        budget: Arc::default(),
        health: Arc::new(Health::new(stage, LEASE)),
        cool_down: LEASE,
        lost: Lost::Refused,
    };
    let leases = Arc::new(Dynamo::new(table.clone(), stage.name()));
    let durations = plan::Settings { duration: LEASE, ..plan::Settings::default() };
    let planner = Planner::new(worker.clone(), durations, life);
    let looks = worker::Settings { tick: LEASE_TICK, shards_every: SHARDS_EVERY };
    let (interval, grace) = (PULSE, Some(timing().grace()));
    let herald =
        Herald { log: Arc::new(log), beats: Arc::new(table), pulses, clock, worker, interval, grace };
    tokio::spawn(async move { herald.run(stage).await });
    let (_stop, stopped) = watch::channel(false);
    Ok(Worker::new(tools, leases, planner, looks).run(stopped).await?)
}
