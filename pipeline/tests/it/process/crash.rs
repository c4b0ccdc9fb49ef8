//! Kill -9 again and again, on one directory, while answers come in: what was acknowledged is there, once, and adds up.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::harness::{Client, Dice, PATIENCE, Podium, Reply, text};

mod model;

pub(super) use model::Game;
use model::{Acked, Story, Task, check};

const QUIZ: &str = "crashes";
/// A host's token outlives every process that it is shown to.
const HOST: [&str; 2] = ["--role", "host"];

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_no_acknowledged_answer_and_count_none_twice() {
    let game = Game {
        seed: 1,
        pace: "free",
        sections: 1,
        award: "flat@1",
        participants: 16,
        rounds: 20,
        questions_per_round: 3,
        unanswered: false,
    };
    play(game, One::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_with_eight_sections_and_points_that_depend_on_time() {
    let game = Game {
        seed: 2,
        pace: "host",
        sections: 8,
        award: "kahoot@1",
        participants: 24,
        rounds: 10,
        questions_per_round: 1,
        unanswered: false,
    };
    play(game, One::start().await).await;
}

/// What is struck while players play, and goes on.
pub(super) trait House {
    /// Returns a client of it, as a host.
    async fn host(&self) -> Client;

    /// Does something bad to it within a round of so many tasks, and returns once it can be reached again; `server` is
    /// told where.
    async fn strike(
        &mut self,
        acks: watch::Receiver<u64>,
        dice: &mut Dice,
        tasks: u64,
        server: &watch::Sender<Client>,
    );

    /// Crashes as a whole and comes back; returns a client without a token.
    async fn come_back(&mut self) -> Client;
}

/// One process on one directory, killed and started again.
struct One {
    data: tempfile::TempDir,
    podium: Option<Podium>,
}

impl One {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let podium = Some(Podium::start(data.path()).await);
        Self { data, podium }
    }

    fn podium(&self) -> &Podium {
        self.podium.as_ref().expect("it is running")
    }
}

impl House for One {
    async fn host(&self) -> Client {
        self.podium().client().with(&self.podium().token(&HOST).await)
    }

    /// Kills the server after a random number of acknowledgements, or at a random moment, and starts it again.
    async fn strike(
        &mut self,
        mut acks: watch::Receiver<u64>,
        dice: &mut Dice,
        tasks: u64,
        server: &watch::Sender<Client>,
    ) {
        let target = *acks.borrow() + dice.below(tasks);
        let moment = Duration::from_millis(dice.below(1_500));
        // Whichever comes first; the moment is the crash itself, nothing waits for it.
        tokio::time::timeout(moment, acks.wait_for(|&acks| acks >= target)).await.ok();
        self.podium = None;
        if dice.below(3) == 0 {
            let recovering = Podium::launch(self.data.path(), &[]);
            tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
            drop(recovering);
        }
        self.podium = Some(Podium::start(self.data.path()).await);
        let token = server.borrow().token.clone();
        server.send_replace(self.podium().client().holding(token));
    }

    async fn come_back(&mut self) -> Client {
        self.podium = None;
        self.podium = Some(Podium::start(self.data.path()).await);
        self.podium().client()
    }
}

/// The players' side, which lives on while servers come and go.
#[derive(Clone)]
struct Hall {
    /// Where the server of the moment is.
    at: watch::Receiver<Client>,
    acks: watch::Sender<u64>,
}

/// Plays a game over crashes and checks its end, which a last crash must not change.
pub(super) async fn play(game: Game, mut house: impl House) {
    let host = house.host().await;
    let token = host.token.clone();
    host.publish_and_open(QUIZ, &game.definition()).await;
    let (server, at) = watch::channel(host);
    let hall = Hall { at, acks: watch::Sender::new(0) };
    let mut dice = Dice(game.seed ^ 0x00de_ad00);
    let mut players = vec![None; game.participants];
    let mut acked = Vec::new();
    for (round, chains) in game.tasks().into_iter().enumerate() {
        let tasks = chains.iter().map(Vec::len).sum::<usize>() as u64;
        let strike = house.strike(hall.acks.subscribe(), &mut dice, tasks, &server);
        let (done, ()) = tokio::join!(hall.round(&game, round, chains, &mut players), strike);
        acked.extend(done);
    }
    let host = server.borrow().clone();
    host.command(QUIZ, &json!({"type": "close"})).await;
    let players: Vec<_> = players.into_iter().map(|player| player.expect("everybody joined").0).collect();
    let story = read(&host, &players).await;
    check(&game, &acked, &story);
    let repeated = &story.books["repeated"];
    println!("seed {}: {} acknowledged, {repeated} repeated in the log", game.seed, acked.len());

    let again = read(&house.come_back().await.holding(token), &players).await;
    assert_eq!(story, again, "a last crash changed a final result");
}

impl Hall {
    /// Hands in everything of one round and returns what was acknowledged: all of it.
    async fn round(
        &self,
        game: &Game,
        round: usize,
        chains: Vec<Vec<Task>>,
        players: &mut [Option<(String, String)>],
    ) -> Vec<Acked> {
        if game.pace == "host" {
            if round > 0 {
                self.command("close_question", round - 1).await;
            }
            self.command("open_question", round).await;
        }
        let mut playing = JoinSet::new();
        for (nth, chain) in chains.into_iter().enumerate() {
            playing.spawn(self.clone().chain(nth, players[nth].clone(), chain));
        }
        let mut acked = Vec::new();
        while let Some(done) = playing.join_next().await {
            let (nth, player, done) = done.unwrap();
            players[nth] = Some(player);
            acked.extend(done);
        }
        acked
    }

    /// One participant: joins unless it has, then hands in one answer after another.
    async fn chain(
        self,
        nth: usize,
        player: Option<(String, String)>,
        tasks: Vec<Task>,
    ) -> (usize, (String, String), Vec<Acked>) {
        let player = match player {
            Some(player) => player,
            None => self.join(nth).await,
        };
        let mut acked = Vec::new();
        for task in tasks {
            let answer = json!({"choice": task.choice});
            let body = json!({"question": format!("q{}", task.question), "answer": answer,
                "submission": task.submission});
            let ask = Ask { token: Some(player.1.clone()), path: "answers", body, key: None };
            let copies = join_all((0..task.copies).map(|_| self.insist(202, &ask))).await;
            let retried = copies.iter().any(|(tries, _)| *tries > 1);
            let told = copies.iter().map(|(_, ack)| {
                let ack = ack.value();
                assert_eq!(ack["submission"], task.submission);
                (text(&ack["position"]), text(&ack["received_at"]))
            });
            acked.push(Acked { retried, told: told.collect(), task });
            self.acks.send_modify(|acks| *acks += 1);
        }
        (nth, player, acked)
    }

    async fn join(&self, nth: usize) -> (String, String) {
        let key = Some(format!("key-of-player-number-{nth}"));
        let ask =
            Ask { token: None, path: "participants", body: json!({"name": format!("Player {nth}")}), key };
        let (_, joined) = self.insist(201, &ask).await;
        let joined = joined.value();
        (text(&joined["participant"]), text(&joined["token"]))
    }

    async fn command(&self, kind: &str, question: usize) {
        let id = format!("{kind}-{question}");
        let body = json!({"type": kind, "question": format!("q{question}"), "id": id});
        let token = self.at.borrow().token.clone();
        self.insist(202, &Ask { token, path: "commands", body, key: None }).await;
    }

    /// Sends the same request until it succeeds, to whichever server is there; returns the number of tries.
    async fn insist(&self, status: u16, ask: &Ask) -> (u32, Reply) {
        let mut at = self.at.clone();
        let trying = async {
            for tries in 1.. {
                let server = at.borrow_and_update().clone();
                match server.send(ask.to(&server)).await {
                    Ok(reply) if reply.status == status => return (tries, reply),
                    Ok(reply) => assert!([429, 503].contains(&reply.status.as_u16()), "{reply:?}"),
                    Err(_) => {}
                }
                // The next server, or the same again: it may only have been busy.
                tokio::time::timeout(Duration::from_millis(50), at.changed()).await.ok();
            }
            unreachable!("tries do not end")
        };
        tokio::time::timeout(PATIENCE, trying).await.expect("no server ever took the request")
    }
}

/// A request that is sent until it succeeds.
struct Ask {
    token: Option<String>,
    path: &'static str,
    body: Value,
    key: Option<String>,
}

impl Ask {
    fn to(&self, server: &Client) -> Request<Full<Bytes>> {
        let client = server.holding(self.token.clone());
        let mut request = client.json(Method::POST, &path(self.path), &self.body);
        if let Some(key) = &self.key {
            request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        }
        request
    }
}

fn path(rest: &str) -> String {
    format!("/v1/quizzes/{QUIZ}/{rest}")
}

/// Returns all that a host can read of a closed quiz.
async fn read(host: &Client, players: &[String]) -> Story {
    host.finality(QUIZ).await;
    let anybody = host.holding(None);
    let mut results = Vec::new();
    for player in players {
        results.push(host.shown(&path(&format!("participants/{player}"))).await);
    }
    let mut quiz: Value = anybody.shown(&format!("/v1/quizzes/{QUIZ}")).await;
    quiz["server_time"] = Value::Null;
    Story {
        quiz,
        board: anybody.shown(&path("leaderboard?limit=1000")).await,
        books: host.shown(&path("books")).await,
        results,
    }
}

/// The retry after a crash is what a key is for: nothing has loaded the quiz yet, and no effect will tell of it again.
#[tokio::test]
async fn a_publish_repeated_after_a_kill_is_answered_as_before() {
    let data = tempfile::tempdir().unwrap();
    let quiz = json!({"title": "T", "questions": [
        {"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}}]});
    let publish = async |podium: &Podium| {
        let host = podium.host().await;
        let request = host.request(Method::PUT, "/v1/quizzes/sums").header("idempotency-key", "first");
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(quiz.to_string()))).unwrap();
        host.send(request).await.unwrap().expect(201)["version"].clone()
    };
    let podium = Podium::start(data.path()).await;
    assert_eq!(publish(&podium).await, 1);
    podium.kill();
    let podium = Podium::start(data.path()).await;
    assert_eq!(publish(&podium).await, 1);
    assert_eq!(publish(&podium).await, 1);
}
