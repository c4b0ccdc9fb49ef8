//! Stages apart: gateways, graders and rankers as processes on doubles of Kinesis and DynamoDB, struck while players play.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ingest::aws::Aws;
use ingest::codec::decode_dead_letter;
use ingest::lease::Leases;
use ingest::lease::dynamodb::Dynamo;
use ingest::log::kinesis::admin::{self, Mode};
use ingest::log::kinesis::{Kinesis, OpenError, Options};
use ingest::log::{Log, ReadLimits, Record, Stream};
use ingest::partition::of_key;
use ingest::table::{Capacity, Table};
use pipeline::store::Stage;
use tokio::sync::watch;

use super::crash::{Game, House, play};
use super::forget;
use super::harness::{BINARY, Client, Dice, Process, podium, until};
use crate::doubles::Doubles;

mod joining;
mod outage;
mod trouble;

/// Partitions of the streams: more than shards, so that a shard carries several.
const PARTITIONS: u16 = 8;
/// Faster than in earnest, so that a take-over takes seconds.
const SETTINGS: [&str; 8] = ["--lease", "2s", "--pulse", "100ms", "--poll", "60ms", "--checkpoint", "300ms"];

/// What happens to the cluster while a round is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// A grader is killed, and another started.
    KillGrade,
    /// A ranker is killed, and another started.
    KillRank,
    /// A grader is paused for longer than its leases last, and goes on as a zombie.
    PauseGrade,
    /// So is a ranker.
    PauseRank,
    /// A gateway is killed; clients go to the other.
    KillGateway,
    /// Streams get another number of shards.
    Reshard,
    /// A grader is told to stop, and another started.
    ReplaceGrade,
    /// So is a ranker.
    ReplaceRank,
}

/// A cluster of separate processes.
struct Cluster {
    doubles: Doubles,
    aws: Aws,
    data: tempfile::TempDir,
    gateways: Vec<(Process, SocketAddr)>,
    graders: Vec<Process>,
    rankers: Vec<Process>,
    blows: Vec<Blow>,
    shards: usize,
    /// More settings of the graders.
    grading: Vec<&'static str>,
    /// Processes of each kind.
    each: usize,
    /// What the names of the streams begin with.
    prefix: &'static str,
}

impl Cluster {
    async fn start(shards: u32, blows: &[Blow]) -> Self {
        Self::start_with(shards, blows, 2, &[]).await
    }

    async fn start_with(shards: u32, blows: &[Blow], each: usize, grading: &[&'static str]) -> Self {
        let doubles = Doubles::start((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let aws = Aws::local(&doubles.endpoint()).await;
        admin::create(&aws, "podium-", PARTITIONS, Mode::Provisioned { shards }, None, &[]).await.unwrap();
        Table::create(&aws, "podium", Capacity::OnDemand, &[]).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            doubles,
            aws,
            data,
            gateways: Vec::new(),
            graders: Vec::new(),
            rankers: Vec::new(),
            blows: blows.to_vec(),
            shards: shards as usize,
            grading: grading.to_vec(),
            each,
            prefix: "podium-",
        };
        cluster.fill().await;
        cluster
    }

    fn launch(&self, stage: &str, args: &[&str]) -> Process {
        self.launch_with(self.data.path(), stage, args)
    }

    fn launch_with(&self, data: &Path, stage: &str, args: &[&str]) -> Process {
        let mut command = Command::new(BINARY);
        command.arg(stage).args(SETTINGS).args(args).arg("--data").arg(data);
        if !args.contains(&"--prefix") {
            command.args(["--prefix", self.prefix]);
        }
        self.spawn(&mut command)
    }

    fn spawn(&self, command: &mut Command) -> Process {
        command.env("AWS_ENDPOINT_URL", self.doubles.endpoint()).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        Process::spawn(command)
    }

    /// Starts what is missing.
    async fn fill(&mut self) {
        while self.graders.len() < self.each {
            self.graders.push(self.launch("grade", &self.grading));
        }
        while self.rankers.len() < self.each {
            self.rankers.push(self.launch("rank", &[]));
        }
        while self.gateways.len() < self.each {
            let mut gateway = self.launch("gateway", &["--listen", "127.0.0.1:0"]);
            let announced = |line: &str| {
                line.strip_prefix("Podium's gateway is up at http://")?.trim_end_matches('/').parse().ok()
            };
            let address = gateway.line(announced).await;
            let Some(address) = address else { panic!("no gateway: {:?}", gateway.end().await) };
            self.gateways.push((gateway, address));
        }
    }

    fn client(&self) -> Client {
        Client::new(self.gateways[0].1)
    }

    /// Returns who works on what.
    async fn owners(&self, stage: Stage) -> Vec<String> {
        let leases = Dynamo::new(Table::open(&self.aws, "podium").await.unwrap(), stage.name());
        leases.list().await.unwrap().into_iter().filter_map(|lease| lease.owner).collect()
    }

    /// Tells a worker to stop, which leaves nothing behind.
    async fn retire(&mut self, stage: Stage, which: usize) {
        let workers = if stage == Stage::Grade { &mut self.graders } else { &mut self.rankers };
        let mut leaving = workers.remove(which);
        let named = |line: &str| Some(line.split_once(" is up as ")?.1.to_owned());
        let name = leaving.line(named).await.expect("it said its name");
        leaving.signal("TERM");
        let ended = leaving.end().await;
        assert!(ended.status.success(), "{ended:?}");
        let owners = self.owners(stage).await;
        assert!(!owners.contains(&name), "{name} still owns something: {owners:?}");
    }
}

/// Longer than the leases of [`SETTINGS`].
const PAUSE: Duration = Duration::from_secs(4);

impl House for Cluster {
    async fn host(&self) -> Client {
        let data = self.data.path().to_str().unwrap();
        let ended = podium(&["token", "--role", "host", "--data", data]).await;
        assert!(ended.status.success(), "{ended:?}");
        self.client().with(ended.stdout.trim_end())
    }

    async fn strike(
        &mut self,
        mut acks: watch::Receiver<u64>,
        dice: &mut Dice,
        tasks: u64,
        server: &watch::Sender<Client>,
    ) {
        let target = *acks.borrow() + dice.below(tasks);
        let moment = Duration::from_millis(dice.below(2_000));
        // Whichever comes first; the moment is the blow itself, nothing waits for it.
        tokio::time::timeout(moment, acks.wait_for(|&acks| acks >= target)).await.ok();
        let blow = self.blows.remove(0);
        println!("{blow:?} after {} acknowledged", *acks.borrow());
        let which = dice.below(2) as usize;
        match blow {
            Blow::KillGrade => drop(self.graders.remove(which)),
            Blow::KillRank => drop(self.rankers.remove(which)),
            Blow::ReplaceGrade => self.retire(Stage::Grade, which).await,
            Blow::ReplaceRank => self.retire(Stage::Rank, which).await,
            Blow::PauseGrade | Blow::PauseRank => {
                let paused =
                    if blow == Blow::PauseGrade { &self.graders[which] } else { &self.rankers[which] };
                paused.signal("STOP");
                tokio::time::sleep(PAUSE).await;
                paused.signal("CONT");
            }
            Blow::KillGateway => drop(self.gateways.remove(0)),
            Blow::Reshard => {
                self.shards = if self.shards == 2 { 3 } else { 2 };
                for stream in [Stream::Submissions, Stream::Standings] {
                    // In trouble it is asked again, as its user would.
                    let scaled = async || {
                        let scaled = admin::scale(&self.aws, "podium-", stream, self.shards as u32).await;
                        assert!(matches!(scaled, Ok(_) | Err(OpenError::Unavailable(_))), "{scaled:?}");
                        scaled.ok()
                    };
                    until("the scaling", scaled).await;
                }
            }
        }
        self.fill().await;
        let token = server.borrow().token.clone();
        server.send_replace(self.client().holding(token));
    }

    /// Everything is killed at once.
    async fn come_back(&mut self) -> Client {
        self.graders.clear();
        self.rankers.clear();
        self.gateways.clear();
        self.fill().await;
        self.client()
    }
}

fn game(seed: u64, blows: &[Blow]) -> Game {
    Game {
        seed,
        pace: "free",
        sections: 1,
        award: "flat@1",
        participants: 16,
        rounds: blows.len(),
        questions_per_round: 3,
        unanswered: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_lose_nothing_and_others_take_over() {
    let blows = [Blow::KillGrade, Blow::KillRank, Blow::KillGateway, Blow::ReplaceGrade, Blow::ReplaceRank];
    play(game(11, &blows), Cluster::start(2, &blows).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zombies_change_nothing() {
    let blows = [Blow::PauseGrade, Blow::PauseRank, Blow::PauseGrade];
    play(game(12, &blows), Cluster::start(2, &blows).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_split_and_merged_under_load() {
    let blows = [Blow::Reshard, Blow::KillGrade, Blow::Reshard, Blow::KillRank];
    let game =
        Game { sections: 4, pace: "host", award: "kahoot@1", questions_per_round: 1, ..game(13, &blows) };
    play(game, Cluster::start(2, &blows).await).await;
}

fn sums() -> serde_json::Value {
    let question = serde_json::json!({"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}});
    serde_json::json!({"title": "T", "pace": "free", "questions": [question]})
}

/// What was published or joined at one gateway is there at the other the moment the first says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_was_told_the_other_shows() {
    let cluster = Cluster::start(1, &[]).await;
    let host = cluster.host().await;
    let other = Client::new(cluster.gateways[1].1).holding(host.token.clone());
    for n in 0..8 {
        let quiz = format!("sums-{n}");
        other.get(&format!("/v1/quizzes/{quiz}")).await.expect(404);
        host.put(&format!("/v1/quizzes/{quiz}"), &sums()).await.expect(201);
        other.get(&format!("/v1/quizzes/{quiz}")).await.expect(200);
        let (participant, _) = other.join(&quiz, "Ana").await;
        let place = host.get(&format!("/v1/quizzes/{quiz}/participants/{participant}")).await.expect(200);
        assert_eq!(place["name"], "Ana");
    }
    host.command("sums-0", &serde_json::json!({"type": "open"})).await;
    let (participant, player) = Client::new(other.address).join("sums-0", "Ben").await;
    player.answer("sums-0", "q", &serde_json::json!({"value": "2"}), &super::harness::submission(1)).await;
    for client in [host.clone(), other] {
        until("the points", async || {
            let place =
                client.get(&format!("/v1/quizzes/sums-0/participants/{participant}")).await.expect(200);
            (place["points"] != "0").then_some(())
        })
        .await;
    }
}

/// However often hosts ask for books, a gateway takes one of the five reads a second that a shard has.
#[tokio::test(flavor = "multi_thread")]
async fn books_leave_the_graders_their_reads() {
    let cluster = Cluster::start(1, &[]).await;
    let host = cluster.host().await;
    for quiz in ["one", "two", "three"] {
        let quiz_of_many = serde_json::json!({"title": "T", "pace": "free", "sections": 8,
                                              "questions": sums()["questions"]});
        host.publish_and_open(quiz, &quiz_of_many).await;
    }
    let calls = async || {
        let metrics = String::from_utf8(host.get("/metrics").await.body.to_vec()).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("podium_kinesis_get_calls_total "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let (began, before) = (Instant::now(), calls().await);
    let (mut asked, mut pace) = (0, tokio::time::interval(Duration::from_millis(100)));
    while began.elapsed() < Duration::from_secs(4) {
        pace.tick().await;
        for quiz in ["one", "two", "three"] {
            let books = host.get(&format!("/v1/quizzes/{quiz}/books")).await.expect(200);
            assert_eq!(books["in_flight"], 0);
            asked += 1;
        }
    }
    let reads = calls().await - before;
    assert!(asked > 12 && reads >= 1, "{asked} asked, {reads} reads");
    assert!(reads <= began.elapsed().as_secs() + 2, "{reads} reads in {:?} for {asked}", began.elapsed());
}

/// What a data engineer got wrong is told in one line that says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_without_its_engines_says_what_is_missing() {
    let doubles = Doubles::start((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let aws = Aws::local(&doubles.endpoint()).await;
    let data = tempfile::tempdir().unwrap();
    let run = async |stage: &str, region: Option<&str>, args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg(stage).args(["--log", "warn"]).args(args).arg("--data").arg(data.path());
        command.env("AWS_ENDPOINT_URL", doubles.endpoint()).env("AWS_ACCESS_KEY_ID", "test");
        command.env("AWS_SECRET_ACCESS_KEY", "test").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/dev/null").env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
        command.envs(region.map(|region| ("AWS_REGION", region)));
        let ended = Process::spawn(&mut command).end().await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        ended.stderr
    };
    let here = Some("us-east-1");
    for stage in ["grade", "rank"] {
        assert!(run(stage, None, &[]).await.contains("AWS_REGION"), "{stage}");
        assert!(run(stage, here, &[]).await.contains("podium streams create"), "{stage}");
    }
    assert!(run("gateway", here, &["--listen", "127.0.0.1:0"]).await.contains("podium streams create"));
    admin::create(&aws, "podium-", PARTITIONS, Mode::Provisioned { shards: 1 }, None, &[]).await.unwrap();
    assert!(run("grade", here, &[]).await.contains("podium table create"));
    assert!(run("grade", here, &["--prefix", "others-"]).await.contains("others-submissions"));
}

/// A record that nobody can read is set aside with its place, and the answers behind it count.
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_is_set_aside_and_the_partition_goes_on() {
    let cluster = Cluster::start(1, &[]).await;
    let host = cluster.host().await;
    host.publish_and_open("sums", &sums()).await;
    let options = Options { poll: Duration::from_millis(60), ..Options::default() };
    let log = Kinesis::open(&cluster.aws, options).await.unwrap();
    let partition = of_key("sums", PARTITIONS);
    let poison = Record { stream: Stream::Submissions, partition, payload: vec![0xff; 9].into() };
    let stamp = log.append(vec![poison]).await.unwrap()[0];
    let (_, player) = host.join("sums", "Ana").await;
    player.answer("sums", "q", &serde_json::json!({"value": "2"}), &super::harness::submission(1)).await;
    let receipt = player.receipt("sums", &super::harness::submission(1)).await;
    assert_eq!(receipt["verdict"], "counted");
    let letter = until("the dead letter", async || {
        let limits = ReadLimits { records_max: 10, bytes_max: 1 << 20, wait: Duration::ZERO };
        let batch = log.read(Stream::DeadLetters, partition, None, limits).await.unwrap();
        batch.records.first().map(|record| decode_dead_letter(&record.payload).unwrap())
    })
    .await;
    assert_eq!((letter.position, letter.payload.as_ref()), (stamp.position, &[0xff; 9][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_quiz_is_forgotten_across_take_overs() {
    let mut cluster = Cluster::start_with(2, &[], 2, &forget::KEEP).await;
    let who = forget::play(&cluster.host().await).await;
    cluster.come_back().await;
    forget::forgotten(&cluster.host().await, who).await;
}
