//! What is played: the quizzes of a run, who takes part, and what the host does before and after.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::client::{Call, Connection, Pause};
use crate::schedule::Rng;
use crate::verify::QuizState;

/// Who moves the quiz on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pace {
    /// All questions take answers from the start to the end.
    Free,
    /// Questions are opened one after another.
    Host,
}

/// How right answers become points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Award {
    /// All of the points.
    #[value(name = "flat@1")]
    Flat,
    /// More for a faster answer.
    #[value(name = "kahoot@1")]
    Kahoot,
}

/// A question of the paper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its id.
    pub(crate) id: String,
    /// Full points.
    pub(crate) points: u64,
    /// Milliseconds from opening to closing.
    pub(crate) limit_ms: Option<u64>,
    /// How right answers become points.
    pub(crate) award: Award,
    /// Index of the right choice.
    pub(crate) key: u8,
}

/// The questions of every quiz of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paper {
    /// Who moves the quiz on.
    pub(crate) pace: Pace,
    /// The questions. Those that probes alone answer come last.
    pub(crate) questions: Vec<Asked>,
    /// The choices of each question.
    pub(crate) choices: Vec<&'static str>,
    /// The question that puts probes at the top of the board, if there are probes.
    pub(crate) boost: Option<u16>,
}

/// Points of the question that only probes answer: more than a full paper of 4,095 others at 100.
const BOOST_POINTS: u64 = 1_000_000;

impl Paper {
    /// Returns `count` questions with four choices each and keys drawn from the seed.
    pub(crate) fn drawn(pace: Pace, award: Award, count: u16, limit_ms: Option<u64>, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 3);
        let points = match award {
            Award::Flat => 100,
            Award::Kahoot => 1_000,
        };
        let asked =
            |index| Asked { id: format!("q{index}"), points, limit_ms, award, key: rng.below(4) as u8 };
        let questions = (1..=count).map(asked).collect();
        Self { pace, questions, choices: vec!["a", "b", "c", "d"], boost: None }
    }

    /// Adds the question that only probes answer.
    pub(crate) fn with_boost(mut self) -> Self {
        self.boost = Some(self.questions.len() as u16);
        let id = "boost".to_owned();
        self.questions.push(Asked { id, points: BOOST_POINTS, limit_ms: None, award: Award::Flat, key: 0 });
        self
    }

    /// Returns the number of questions that everybody answers.
    pub(crate) fn open_questions(&self) -> u16 {
        self.questions.len() as u16 - u16::from(self.boost.is_some())
    }

    fn definition(&self, title: &str, sections: u16) -> Vec<u8> {
        let choices: Vec<_> = self.choices.iter().map(|id| json!({"id": id, "text": id})).collect();
        let question = |asked: &Asked| {
            let award = match asked.award {
                Award::Flat => "flat@1",
                Award::Kahoot => "kahoot@1",
            };
            let mut question = json!({
                "id": asked.id, "kind": "single_choice", "text": asked.id, "choices": choices,
                "key": {"choice": self.choices[usize::from(asked.key)]},
                "points": asked.points.to_string(), "award": award,
            });
            if let Some(limit_ms) = asked.limit_ms {
                question["time_limit_ms"] = limit_ms.into();
            }
            question
        };
        let pace = match self.pace {
            Pace::Free => "free",
            Pace::Host => "host",
        };
        let questions: Vec<_> = self.questions.iter().map(question).collect();
        let definition = json!({"title": title, "pace": pace, "sections": sections, "questions": questions});
        definition.to_string().into_bytes()
    }
}

/// A run, before anything of it happened.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Random bits that tell this run's names from any other's.
    pub(crate) run: u64,
    /// How many quizzes, all with the same paper.
    pub(crate) quizzes: u32,
    /// Sections of each.
    pub(crate) sections: u16,
    /// Participants that play; the ones after them are probes.
    pub(crate) players: u32,
    /// Participants of quiz 0 whose answers are looked for in the live feed.
    pub(crate) probes: u32,
    /// Names of the players, or none for made-up ones.
    pub(crate) names: Vec<String>,
    /// The questions.
    pub(crate) paper: Paper,
    /// How long arrivals go on.
    pub(crate) duration: Duration,
}

impl Scenario {
    /// Returns the id of a quiz.
    pub(crate) fn quiz_id(&self, quiz: u32) -> String {
        format!("load-{:08x}-{quiz}", self.run as u32)
    }

    /// Returns the quiz that a participant is in.
    pub(crate) fn quiz_of(&self, player: u32) -> u32 {
        if player < self.players { player % self.quizzes } else { 0 }
    }

    /// Returns all participants, probes included.
    pub(crate) fn seats(&self) -> u32 {
        self.players + self.probes
    }

    /// Returns the name of a participant.
    pub(crate) fn name_of(&self, player: u32) -> String {
        match self.names.get(player as usize) {
            Some(name) => name.clone(),
            None if player < self.players => format!("p{player}"),
            None => format!("probe{}", player - self.players),
        }
    }
}

/// A place in a quiz.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// The participant's id, as the gateway writes it.
    pub(crate) participant: String,
    /// `Bearer` and the participant's token.
    pub(crate) bearer: HeaderValue,
}

#[derive(Deserialize)]
struct Joined {
    participant: String,
    token: String,
}

/// The host of the run: one connection with a host's token, patient with a server that is not there.
pub(crate) struct Host {
    /// The connection.
    pub(crate) connection: Connection,
    bearer: HeaderValue,
    pause: Pause,
    give_up: Duration,
    run: u64,
}

impl Host {
    /// Returns the host; each call is repeated for up to `give_up`.
    pub(crate) fn new(connection: Connection, bearer: HeaderValue, give_up: Duration, run: u64) -> Self {
        Self { connection, bearer, pause: Pause::new(Rng::new(run, 4)), give_up, run }
    }

    /// Sends a request as the host and returns the status; the body is in the connection.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<StatusCode> {
        let path: Uri = path.parse().with_context(|| format!("{path} is not a path"))?;
        let bearer = Some(&self.bearer);
        let call = Call { method, path, bearer, extra: None, body: Bytes::from(body) };
        Ok(self.connection.settle(&call, self.give_up, &mut self.pause).await?.status)
    }

    /// Publishes a quiz.
    pub(crate) async fn publish(&mut self, quiz: &str, paper: &Paper, sections: u16) -> Result<()> {
        let definition = paper.definition(&format!("Load test {quiz}"), sections);
        let status = self.call(Method::PUT, &format!("/v1/quizzes/{quiz}"), definition).await?;
        if !status.is_success() {
            bail!("publishing {quiz} was refused: {status} {}", self.connection.reply_text());
        }
        Ok(())
    }

    /// Sends a command under an id of its own, so that repeating it changes nothing. A 409 counts as done: it says that
    /// the quiz is in that state already, or for `close_question` that the time limit came first.
    pub(crate) async fn command(&mut self, quiz: &str, kind: &str, question: Option<&str>) -> Result<()> {
        let id = format!("{kind}-{}-{:08x}", question.unwrap_or("quiz"), self.run as u32);
        let mut command = json!({"type": kind, "id": id});
        if let Some(question) = question {
            command["question"] = question.into();
        }
        let path = format!("/v1/quizzes/{quiz}/commands");
        let status = self.call(Method::POST, &path, command.to_string().into_bytes()).await?;
        let done = status.is_success() || (status == StatusCode::CONFLICT && kind != "open_question");
        if !done {
            bail!("{kind} of {quiz} was refused: {status} {}", self.connection.reply_text());
        }
        Ok(())
    }

    /// Returns a quiz as its host sees it.
    pub(crate) async fn state(&mut self, quiz: &str) -> Result<QuizState> {
        let status = self.call(Method::GET, &format!("/v1/quizzes/{quiz}"), Vec::new()).await?;
        if !status.is_success() {
            bail!("reading {quiz} was refused: {status} {}", self.connection.reply_text());
        }
        serde_json::from_slice(&self.connection.reply)
            .with_context(|| format!("{quiz} reads {}", self.connection.reply_text()))
    }

    /// Publishes all quizzes of a scenario.
    pub(crate) async fn set_up(&mut self, scenario: &Scenario) -> Result<()> {
        for quiz in 0..scenario.quizzes {
            self.publish(&scenario.quiz_id(quiz), &scenario.paper, scenario.sections).await?;
        }
        Ok(())
    }

    /// Closes all quizzes.
    pub(crate) async fn close(&mut self, scenario: &Scenario) -> Result<()> {
        for quiz in 0..scenario.quizzes {
            self.command(&scenario.quiz_id(quiz), "close", None).await?;
        }
        Ok(())
    }
}

/// Joins every participant of a scenario over all connections at once; returns the seats by index.
///
/// # Errors
/// Somebody could not join within `give_up`.
pub(crate) async fn join_all(
    scenario: &std::sync::Arc<Scenario>,
    connections: Vec<Connection>,
    give_up: Duration,
    progress: impl Fn(u32) + Clone + Send + 'static,
) -> Result<Vec<Seat>> {
    let seats = std::sync::Arc::new(Mutex::new(vec![None; scenario.seats() as usize]));
    let next = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for (nth, mut connection) in (0..).zip(connections) {
        let (scenario, seats, next) = (scenario.clone(), seats.clone(), next.clone());
        let progress = progress.clone();
        tasks.spawn(async move {
            let mut pause = Pause::new(Rng::new(scenario.run, 1_000 + nth));
            loop {
                let player = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if player >= scenario.seats() {
                    return Ok::<(), anyhow::Error>(());
                }
                let seat = join(&scenario, player, &mut connection, give_up, &mut pause).await?;
                seats.lock().await[player as usize] = Some(seat);
                progress(player);
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.context("a joining task ended")??;
    }
    let seats = std::mem::take(&mut *seats.lock().await);
    seats.into_iter().collect::<Option<Vec<Seat>>>().context("somebody did not join")
}

async fn join(
    scenario: &Scenario,
    player: u32,
    connection: &mut Connection,
    give_up: Duration,
    pause: &mut Pause,
) -> Result<Seat> {
    let quiz = scenario.quiz_id(scenario.quiz_of(player));
    let key = format!("{:016x}-{player}", scenario.run);
    let call = Call {
        method: Method::POST,
        path: format!("/v1/quizzes/{quiz}/participants").parse().context("a participants path")?,
        bearer: None,
        extra: Some((HeaderName::from_static("idempotency-key"), HeaderValue::from_str(&key)?)),
        body: Bytes::from(json!({"name": scenario.name_of(player)}).to_string()),
    };
    let status = connection.settle(&call, give_up, pause).await?.status;
    if !status.is_success() {
        bail!("joining {quiz} was refused: {status} {}", connection.reply_text());
    }
    let joined: Joined = serde_json::from_slice(&connection.reply)
        .with_context(|| format!("joining {quiz} answered {}", connection.reply_text()))?;
    if joined.participant.len() != 32 {
        bail!("joining {quiz} gave the participant id {:?}", joined.participant);
    }
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", joined.token)).context("the token")?;
    bearer.set_sensitive(true);
    Ok(Seat { participant: joined.participant, bearer })
}

/// Waits until no answer of the quiz counts any more and all are judged.
///
/// # Errors
/// Not within `patience`.
pub(crate) async fn wait_final(host: &mut Host, quiz: &str, patience: Duration) -> Result<()> {
    #[derive(Deserialize)]
    struct InFlight {
        in_flight: u64,
    }
    let began = Instant::now();
    loop {
        let state = host.state(quiz).await?;
        let status = host.call(Method::GET, &format!("/v1/quizzes/{quiz}/books"), Vec::new()).await?;
        let books: Option<InFlight> = serde_json::from_slice(&host.connection.reply).ok();
        let in_flight = match books {
            Some(books) if status.is_success() => books.in_flight,
            Some(_) | None => bail!("the books of {quiz}: {status} {}", host.connection.reply_text()),
        };
        if state.is_final && in_flight == 0 {
            return Ok(());
        }
        if began.elapsed() >= patience {
            bail!(
                "{quiz} is not settled {patience:?} after closing: final {}, in_flight {in_flight}",
                state.is_final
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
