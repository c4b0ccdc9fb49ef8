//! The hall: a host, players who insist on every answer, and watchers of the leaderboard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::auth::Role;
use gateway::{Clock, SystemClock};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::house::issuer;
use crate::model::{Acked, CHOICES, Game, PLAYERS, QUESTIONS, Story, Task, key};
use crate::net::{self, Ask, Http, Reply};
use crate::plan::{Dice, GATEWAYS};
use crate::world::World;

/// The quiz.
const QUIZ: &str = "quiz";
/// Longest time for anything that a client insists on, and from the end of all trouble to the final result: leases run
/// out and are taken, and what was given up is done again.
const WITHIN: Duration = Duration::from_secs(40);
/// Pause before a request is made again.
const PAUSE: Duration = Duration::from_millis(150);
/// Time between two looks of a watcher.
const LOOK: Duration = Duration::from_millis(400);

/// What the hall and whoever strikes the cluster tell each other.
#[derive(Default)]
pub(crate) struct Curtain {
    /// Players play from now on.
    pub(crate) is_open: AtomicBool,
    /// Nothing bad happens any more.
    pub(crate) is_calm: AtomicBool,
    /// Looks at a leaderboard that were answered.
    pub(crate) looks: Mutex<u64>,
    /// How it ended.
    pub(crate) end: Mutex<Option<(Game, Story)>>,
}

/// The players' side.
#[derive(Clone)]
struct Hall {
    world: World,
    http: Http,
    host: String,
}

/// A participant with its token.
#[derive(Debug, Clone)]
struct Player {
    id: String,
    token: String,
}

fn host_token() -> String {
    issuer().mint("the host", Role::Host, None, Duration::from_hours(1), SystemClock.now())
}

fn path(rest: &str) -> String {
    format!("/v1/quizzes/{QUIZ}{rest}")
}

/// Plays the quiz of a seed to its end, and leaves what came of it behind the curtain.
pub(crate) async fn play(world: World, curtain: Arc<Curtain>) -> turmoil::Result {
    let hall = Hall { world, http: net::http(), host: host_token() };
    let mut game = Game::new(&hall.world.plan);
    hall.command("PUT", "", &game.definition()).await;
    hall.command("POST", "/commands", &json!({"type": "open", "id": "open"})).await;
    curtain.is_open.store(true, Ordering::Release);
    let mut watching = JoinSet::new();
    for gateway in GATEWAYS {
        watching.spawn(hall.clone().watch(gateway, curtain.clone()));
    }
    let players = hall.evening(&mut game).await;
    hall.command("POST", "/commands", &json!({"type": "close", "id": "close"})).await;
    while !curtain.is_calm.load(Ordering::Acquire) {
        tokio::time::sleep(PAUSE).await;
    }
    game.players = players.iter().map(|player| player.id.clone()).collect();
    let story = tokio::time::timeout(WITHIN, hall.agreed(&game)).await;
    let story = story.map_err(|_| "the gateways do not agree on a final result")?;
    *curtain.end.lock().unwrap() = Some((game, story));
    watching.abort_all();
    while let Some(watched) = watching.join_next().await {
        // One that found something panicked; the others were told to stop.
        if let Err(error) = watched
            && error.is_panic()
        {
            return Err(Box::new(error));
        }
    }
    Ok(())
}

/// Reads the story of a game at a gateway that has seen nothing of it.
pub(crate) async fn look_back(world: World, gateway: &'static str, curtain: Arc<Curtain>) -> turmoil::Result {
    let hall = Hall { world, http: net::http(), host: host_token() };
    let (game, story) = curtain.end.lock().unwrap().clone().expect("the game was played");
    let reading = async {
        loop {
            if let Some(again) = hall.read(gateway, &game).await {
                return again;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let again = tokio::time::timeout(WITHIN, reading).await.map_err(|_| "a fresh gateway shows nothing")?;
    assert_eq!(story, again, "a fresh gateway tells another story");
    Ok(())
}

impl Hall {
    /// Lets everybody join and answer everything; returns the players.
    async fn evening(&self, game: &mut Game) -> Vec<Player> {
        let mut players: Vec<Option<Player>> = vec![None; PLAYERS];
        // All questions at once, or one after the other.
        let rounds: Vec<Vec<usize>> = if game.is_hosted {
            (0..QUESTIONS).map(|nth| vec![nth]).collect()
        } else {
            vec![(0..QUESTIONS).collect()]
        };
        let count = rounds.len();
        for (nth, round) in rounds.into_iter().enumerate() {
            if game.is_hosted {
                self.question("open_question", nth).await;
            }
            let mut playing = JoinSet::new();
            for (who, player) in players.iter().cloned().enumerate() {
                let seed =
                    self.world.plan.seed ^ ((nth * PLAYERS + who) as u64 + 1).wrapping_mul(0x9e37_79b9);
                playing.spawn(self.clone().chain(who, player, round.clone(), Dice(seed)));
            }
            while let Some(done) = playing.join_next().await {
                let (who, player, acked) = done.unwrap();
                players[who] = Some(player);
                game.acked.extend(acked);
            }
            if game.is_hosted && nth + 1 < count {
                self.question("close_question", nth).await;
            }
        }
        players.into_iter().map(|player| player.expect("everybody joined")).collect()
    }

    /// One participant: joins unless it has, then hands in one answer after another.
    async fn chain(
        self,
        who: usize,
        player: Option<Player>,
        questions: Vec<usize>,
        mut dice: Dice,
    ) -> (usize, Player, Vec<Acked>) {
        let player = match player {
            Some(player) => player,
            None => self.join(who).await,
        };
        let mut acked = Vec::new();
        for question in questions {
            tokio::time::sleep(Duration::from_millis(dice.below(1_500))).await;
            let choice = if dice.below(2) == 0 { key(question) } else { CHOICES[dice.below(4) as usize] };
            let copies = if dice.below(6) == 0 { 2 } else { 1 };
            acked.push(self.answer(&player, Task { who, question, choice, nth: 0 }, copies).await);
            if dice.below(4) == 0 {
                // Second thoughts, which come too late.
                acked.push(
                    self.answer(&player, Task { who, question, choice: key(question), nth: 1 }, 1).await,
                );
            }
        }
        (who, player, acked)
    }

    async fn join(&self, who: usize) -> Player {
        let body = json!({"name": format!("Player {who}")});
        let key = Some(format!("key-of-player-number-{who}"));
        let ask = Ask { method: Method::POST, path: path("/participants"), token: None, key, body };
        let (_, joined) = self.insist(&[201], &ask, who).await;
        let text = |name: &str| joined.value()[name].as_str().unwrap().to_owned();
        Player { id: text("participant"), token: text("token") }
    }

    async fn answer(&self, player: &Player, task: Task, copies: usize) -> Acked {
        let answer = json!({"choice": task.choice});
        let body = json!({"question": format!("q{}", task.question), "answer": answer,
            "submission": task.submission()});
        let token = Some(player.token.clone());
        let ask = Ask { method: Method::POST, path: path("/answers"), token, key: None, body };
        // Copies go to different gateways.
        let sent = (0..copies).map(|nth| self.insist(&[202], &ask, task.who + task.question + nth));
        let sent = futures::future::join_all(sent).await;
        let is_retried = sent.iter().any(|(tries, _)| *tries > 1);
        let told = |(_, reply): &(u32, Reply)| {
            let ack = reply.value();
            let text = |name: &str| ack[name].as_str().unwrap().to_owned();
            (text("position"), text("received_at"))
        };
        Acked { is_retried, told: sent.iter().map(told).collect(), task }
    }

    async fn question(&self, kind: &str, nth: usize) {
        let body = json!({"type": kind, "question": format!("q{nth}"), "id": format!("{kind}-{nth}")});
        self.command("POST", "/commands", &body).await;
    }

    async fn command(&self, method: &str, rest: &str, body: &Value) {
        let (method, token) = (method.parse().unwrap(), Some(self.host.clone()));
        let ask = Ask { method, path: path(rest), token, key: None, body: body.clone() };
        self.insist(&[200, 201, 202], &ask, 0).await;
    }

    /// Sends the same request to one gateway after the other until it succeeds; returns the number of tries.
    async fn insist(&self, wanted: &[u16], ask: &Ask, first: usize) -> (u32, Reply) {
        let trying = async {
            for tries in 1.. {
                let gateway = GATEWAYS[(first + tries as usize) % GATEWAYS.len()];
                match ask.send(&self.http, gateway).await {
                    Ok(reply) if wanted.contains(&reply.status.as_u16()) => return (tries, reply),
                    Ok(reply) => assert!([429, 503].contains(&reply.status.as_u16()), "{ask:?} {reply:?}"),
                    Err(_) => {}
                }
                tokio::time::sleep(PAUSE).await;
            }
            unreachable!("tries do not end")
        };
        let done = tokio::time::timeout(WITHIN, trying).await;
        let (tries, reply) = done.unwrap_or_else(|_| panic!("no gateway ever took {ask:?}"));
        self.world.trace.note(
            &format!("{} {} after {tries}", ask.method, ask.path),
            reply.status,
            &reply.body,
        );
        (tries, reply)
    }

    /// Looks at the leaderboard of one gateway again and again: it never goes back.
    async fn watch(self, gateway: &'static str, curtain: Arc<Curtain>) {
        // A client of its own: one connection as long as it lasts.
        let (http, ask) = (net::http(), Ask::get(&path("/leaderboard?limit=50"), None));
        let mut last = 0;
        loop {
            match ask.send(&http, gateway).await {
                Ok(reply) if reply.status == 200 => {
                    let revision = reply.value()["revision"].as_u64().unwrap();
                    assert!(revision >= last, "{gateway} went back from revision {last} to {revision}");
                    last = revision;
                    *curtain.looks.lock().unwrap() += 1;
                }
                Ok(reply) => assert!([429, 503].contains(&reply.status.as_u16()), "{reply:?}"),
                // The next one is another connection.
                Err(_) => last = 0,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the final story once all gateways tell the same.
    async fn agreed(&self, game: &Game) -> Story {
        loop {
            let mut stories = Vec::new();
            for gateway in GATEWAYS {
                stories.extend(self.read(gateway, game).await);
            }
            if stories.len() == GATEWAYS.len() && stories.windows(2).all(|pair| pair[0] == pair[1]) {
                return stories.remove(0);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns all that a host can read of a final quiz; `None` when it is not final there, or something did not come.
    async fn read(&self, gateway: &'static str, game: &Game) -> Option<Story> {
        let get = async |rest: String, token: Option<&str>| {
            let reply = Ask::get(&path(&rest), token).send(&self.http, gateway).await.ok()?;
            (reply.status == 200).then(|| reply.value())
        };
        let mut quiz = get(String::new(), None).await?;
        if quiz["final"] != true {
            return None;
        }
        quiz["server_time"] = Value::Null;
        let board = get("/leaderboard?limit=1000".into(), None).await?;
        let books = get("/books".into(), Some(&self.host)).await?;
        if books["in_flight"] != 0 {
            return None;
        }
        let mut results = Vec::new();
        for player in &game.players {
            results.push(get(format!("/participants/{player}"), Some(&self.host)).await?);
        }
        Some(Story { quiz, board, books, results })
    }
}
