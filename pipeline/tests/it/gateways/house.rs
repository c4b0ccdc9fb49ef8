//! The house of these tests: stages stepped by hand, gateway A beside them, gateway B behind a rank stage that lags.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use gateway::admission::Timing;
use gateway::app::Readiness;
use gateway::auth::{Issuer, Role};
use gateway::{App, Clock};
use ingest::log::Log;
use ingest::log::embedded::{Embedded, Options};
use ingest::partition::PartitionId;
use pipeline::runner::cache::{Bounds, Cache};
use pipeline::runner::progress::Progress;
use pipeline::runner::progress::local::Local;
use pipeline::runner::{Parts, Runner, Settings, Step};
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;
use pipeline::stage::rank::Rank;
use pipeline::store::embedded::EmbeddedStore;
use pipeline::store::{Stage, Store, Unit};
use pipeline::views::boards::Boards;
use pipeline::views::local::InProcess;
use pipeline::views::notices::Notices;
use pipeline::wire::Stages;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::parts::{DoorClock, DoorLog, HandClock, MemoryStore, TimedLog};
use super::request::{Call, call};

/// More than one, so that sections and quizzes spread; few, since the test steps each by itself.
pub(super) const PARTITIONS: u16 = 2;
/// When every test begins.
const START_MS: u64 = 1_700_000_000_000;
/// A closing's times, as gateways and stages have them here.
pub(super) const GRACE_MS: u64 = 2_000;
pub(super) const MARGIN_MS: u64 = 500;
/// Short, because a request waits this long by the machine's clock before it gives a stale view up.
pub(super) const VIEW_AGE_MS_MAX: u64 = 200;
/// The last moment after a closing at which an answer is acknowledged.
pub(super) const DEADLINE_MS: u64 = GRACE_MS - MARGIN_MS;

/// One gateway.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) app: Arc<App>,
    pub(super) call: Call,
    pub(super) clock: Arc<DoorClock>,
    pub(super) log: Arc<DoorLog>,
}

/// Everything behind the two doors.
pub(super) struct House {
    pub(super) clock: Arc<HandClock>,
    pub(super) issuer: Issuer,
    /// What B's waiters and watchers hear from.
    pub(super) notices: Arc<Notices>,
    /// Whether B's rank stage is stepped with the others.
    pub(super) b_follows: bool,
    grade: Vec<Runner<Grade>>,
    rank: Vec<Runner<Rank>>,
    late: Vec<Runner<Rank>>,
    late_progress: Arc<Local>,
    /// What B's rank stage has stored.
    pub(super) shelf: Arc<MemoryStore>,
    /// The log behind the doors.
    pub(super) log: Arc<TimedLog>,
    _dir: TempDir,
}

/// A participant that joined, with the token that joining gave.
#[derive(Debug, Clone)]
pub(super) struct Player {
    pub(super) id: String,
    pub(super) token: String,
}

/// Returns the settings of both gateways.
pub(super) fn settings() -> gateway::Settings {
    let ms = Duration::from_millis;
    let timing = Timing::new(ms(GRACE_MS), ms(MARGIN_MS), ms(VIEW_AGE_MS_MAX)).unwrap();
    // What a slow machine needs is no fault: a hang fails all the same.
    let patient = Duration::from_secs(60);
    gateway::Settings {
        timing,
        visible_within: patient,
        request_within: patient,
        ..gateway::Settings::default()
    }
}

/// Returns a house with its gateways A and B.
pub(super) async fn house() -> (House, Door, Door) {
    house_with(settings()).await
}

/// Returns a house whose gateways have these settings.
pub(super) async fn house_with(settings: gateway::Settings) -> (House, Door, Door) {
    let grace_ms = settings.timing.grace().as_millis() as u64;
    house_graced(settings, grace_ms).await
}

/// Returns a house whose stages seal this long after a close, whatever its gateways believe.
pub(super) async fn house_graced(settings: gateway::Settings, grace_ms: u64) -> (House, Door, Door) {
    let dir = tempfile::tempdir().unwrap();
    let storage = Embedded::open(dir.path(), Options { partitions: PARTITIONS }).unwrap();
    let clock = Arc::new(HandClock::at(START_MS));
    let log = Arc::new(TimedLog::new(storage.clone(), clock.clone()));
    let store = Arc::new(EmbeddedStore::new(storage));
    let grace = Duration::from_millis(grace_ms);
    let mut stages = Stages::new(log.clone(), store, clock.clone(), (grace, None), Bounds::default());
    // A step waits for records this long: enough not to spin, too little to notice.
    let step = Settings { wait: Duration::from_millis(1), ..Settings::default() };
    (stages.grade.settings, stages.rank.settings) = (step, step);

    let shelf = Arc::new(MemoryStore::default());
    let late_store: Arc<dyn Store> = shelf.clone();
    let late_progress = Arc::new(Local::new(PARTITIONS));
    let notices = Arc::new(Notices::default());
    let cache =
        Arc::new(Cache::new(Arc::new(Rank::new(notices.clone())), late_store.clone(), Bounds::default()));
    let late = Parts {
        log: log.clone(),
        store: late_store.clone(),
        clock: clock.clone(),
        cache: cache.clone(),
        progress: late_progress.clone(),
        settings: step,
    };
    let rankings = InProcess::new(cache, late_store, late_progress.clone(), log.clone());
    let late_views = Boards::new(Arc::new(rankings), log.clone(), notices.clone());

    let issuer = Issuer::from_key([7; 32]);
    let a = Door::new(stages.views.clone(), &log, &clock, &settings);
    let b = Door::new(Arc::new(late_views), &log, &clock, &settings);
    let house = House {
        clock,
        issuer,
        notices,
        b_follows: false,
        grade: acquire(&stages.grade, Stage::Grade).await,
        rank: acquire(&stages.rank, Stage::Rank).await,
        late: acquire(&late, Stage::Rank).await,
        late_progress,
        shelf,
        log,
        _dir: dir,
    };
    (house, a, b)
}

fn ready() -> Arc<Readiness> {
    let ready = Readiness::starting();
    ready.set(Ok(()));
    Arc::new(ready)
}

async fn acquire<O: Operator>(parts: &Parts<O>, stage: Stage) -> Vec<Runner<O>> {
    let units = (0..PARTITIONS).map(|partition| Unit { stage, partition: PartitionId(partition) });
    join_all(units.map(async |unit| Runner::acquire(parts.clone(), unit).await.unwrap())).await
}

async fn step<O: Operator>(runners: &mut [Runner<O>]) -> Vec<Step> {
    join_all(runners.iter_mut().map(async |runner| runner.step().await.unwrap())).await
}

fn records(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.records).sum()
}

impl Door {
    /// Returns a gateway with an issuer of its own over the same key.
    pub(super) fn new(
        views: Arc<dyn gateway::views::Views>,
        log: &Arc<TimedLog>,
        clock: &Arc<HandClock>,
        settings: &gateway::Settings,
    ) -> Self {
        let clock = Arc::new(DoorClock::new(clock.clone()));
        let log = Arc::new(DoorLog::new(log.clone()));
        Self::through(views, log, clock, settings)
    }

    /// Returns a gateway with another gateway's clock and way to the log, over other views.
    pub(super) fn over(
        views: Arc<dyn gateway::views::Views>,
        of: &Self,
        settings: &gateway::Settings,
    ) -> Self {
        Self::through(views, of.log.clone(), of.clock.clone(), settings)
    }

    fn through(
        views: Arc<dyn gateway::views::Views>,
        log: Arc<DoorLog>,
        clock: Arc<DoorClock>,
        settings: &gateway::Settings,
    ) -> Self {
        let app = App::new(gateway::Parts {
            log: log.clone() as Arc<dyn Log>,
            views,
            clock: clock.clone(),
            issuer: Issuer::from_key([7; 32]),
            ready: ready(),
            metrics: Arc::new(String::new),
            settings: settings.clone(),
        });
        Self { call: call(app.clone()), app, clock, log }
    }

    /// Serves this gateway on a socket for as long as the test runs.
    pub(super) async fn listen(&self) -> SocketAddr {
        self.listen_until(std::future::pending()).await
    }

    /// Serves this gateway on a socket until `shutdown` resolves.
    pub(super) async fn listen_until(
        &self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = gateway::router(self.app.clone());
        tokio::spawn(gateway::serve(listener, self.app.clone(), router, shutdown));
        address
    }
}

impl House {
    /// Steps the grade stage once in every partition; returns the records that it took.
    pub(super) async fn grade(&mut self) -> usize {
        let now = self.clock.now();
        let units = (0..PARTITIONS).map(|p| Unit { stage: Stage::Grade, partition: PartitionId(p) });
        let began: Vec<_> = units.map(|unit| (unit, self.late_progress.begin(unit, now, None))).collect();
        let steps = step(&mut self.grade).await;
        // How far grading is, B's side hears as A's does: there is one grade stage.
        for ((unit, began), step) in began.into_iter().zip(&steps) {
            self.late_progress.end(unit, began, None, step.at_end);
        }
        records(&steps)
    }

    /// Steps the grade stage of one partition only.
    pub(super) async fn grade_one(&mut self, partition: PartitionId) -> usize {
        self.grade[usize::from(partition.0)].step().await.unwrap().records
    }

    /// Steps A's rank stage once in every partition; returns the records that it took.
    pub(super) async fn rank(&mut self) -> usize {
        records(&step(&mut self.rank).await)
    }

    /// Steps B's rank stage until it has taken everything that is graded.
    pub(super) async fn b_catches_up(&mut self) {
        while records(&step(&mut self.late).await) > 0 {}
    }

    async fn turn(&mut self) -> usize {
        let moved = self.grade().await + self.rank().await;
        if self.b_follows { moved + records(&step(&mut self.late).await) } else { moved }
    }

    /// Steps everything but what lags until nothing moves: A's views hold all that is in the log, as of now.
    pub(super) async fn settle(&mut self) {
        while self.turn().await > 0 {}
        // Copies of commands count as looked for only when all were graded by the turn before.
        self.turn().await;
    }

    /// Steps the stages while `work` runs. A step that began is always finished.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut done = None;
        while done.is_none() {
            let mut turn = pin!(self.turn());
            loop {
                tokio::select! {
                    biased;
                    out = &mut work, if done.is_none() => done = Some(out),
                    _ = &mut turn => break,
                }
            }
        }
        done.unwrap()
    }

    /// Returns a token of the issuer that both gateways have.
    pub(super) fn token(&self, role: Role, subject: &str) -> String {
        self.issuer.mint(subject, role, None, Duration::from_hours(100), self.clock.now())
    }
    pub(super) fn host(&self) -> String {
        self.token(Role::Host, "host")
    }

    /// Publishes through a gateway, for tests about something else.
    pub(super) async fn publish(&mut self, door: &Door, quiz: &str, definition: Value) -> u64 {
        let put = door.put(&format!("/v1/quizzes/{quiz}"), &definition).token(&self.host());
        let reply = self.during(put.send()).await;
        assert!(reply.status < 300, "{reply:?}");
        self.settle().await;
        reply.json["version"].as_u64().unwrap()
    }

    /// Gives a command through a gateway; returns its number.
    pub(super) async fn command(&mut self, door: &Door, quiz: &str, command: Value) -> u64 {
        let post = door.post(&format!("/v1/quizzes/{quiz}/commands"), &command).token(&self.host());
        let number = self.during(post.send()).await.ok(202)["number"].as_u64().unwrap();
        self.settle().await;
        number
    }

    /// Lets somebody join through a gateway, without a token.
    pub(super) async fn join(&mut self, door: &Door, quiz: &str, name: &str) -> Player {
        self.join_all(door, quiz, &[name.to_owned()]).await.remove(0)
    }

    /// Lets many join at once.
    pub(super) async fn crowd(&mut self, door: &Door, quiz: &str, count: usize) -> Vec<Player> {
        let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
        self.join_all(door, quiz, &names).await
    }

    async fn join_all(&mut self, door: &Door, quiz: &str, names: &[String]) -> Vec<Player> {
        let path = format!("/v1/quizzes/{quiz}/participants");
        let joins = names.iter().map(|name| door.post(&path, &json!({"name": name})).send());
        let replies = self.during(join_all(joins)).await;
        self.settle().await;
        let player = |joined: Value| {
            let text = |field: &str| joined[field].as_str().unwrap().to_owned();
            Player { id: text("participant"), token: text("token") }
        };
        replies.into_iter().map(|reply| player(reply.ok(201))).collect()
    }

    /// Publishes a quiz, opens it, and opens its first question, all through one gateway.
    pub(super) async fn asked(&mut self, door: &Door, quiz: &str, sections: u16) {
        self.publish(door, quiz, capitals(sections)).await;
        self.command(door, quiz, json!({"type": "open"})).await;
        self.command(door, quiz, json!({"type": "open_question", "question": "q1"})).await;
    }
}

/// The time that a question of [`capitals`] takes answers.
pub(super) const LIMIT_MS: u64 = 20_000;

/// Returns a house whose gateways both know a quiz with its first question open, and Ana in it.
pub(super) async fn two_know_ana() -> (House, Door, Door, Player) {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;
    house.b_catches_up().await;
    (house, a, b, ana)
}

/// Returns a host-paced quiz: q1 with a limit, q2 and q3 without; CANARY and 77123 stand only in keys.
pub(super) fn capitals(sections: u16) -> Value {
    json!({
        "title": "Capitals", "pace": "host", "sections": sections,
        "questions": [
            {"id": "q1", "kind": "single_choice", "text": "Capital of Peru?", "key": {"choice": "b"},
             "choices": [{"id": "a", "text": "Quito"}, {"id": "b", "text": "Lima"}], "points": "1000",
             "time_limit_ms": LIMIT_MS, "award": "kahoot@1"},
            {"id": "q2", "kind": "short_text", "text": "UNOPENED capital of France?",
             "key": {"accept": ["CANARY", "Paris"]}},
            {"id": "q3", "kind": "numeric", "text": "UNOPENED metres?", "points": "0.5",
             "key": {"value": "77123.77123", "tolerance": "0.01"}},
        ],
    })
}

/// Returns a submission id.
pub(super) fn id(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

/// Returns an answer to q1: `b` is right.
pub(super) fn choice(choice: &str, submission: u64) -> Value {
    json!({"question": "q1", "answer": {"choice": choice}, "submission": id(submission)})
}
