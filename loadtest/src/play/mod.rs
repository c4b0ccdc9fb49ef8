//! The measured phase: answers are released at their intended times, handed in over a fixed set of connections, and
//! handed in again until the gateway has acknowledged them.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::client::{Call, Connection, Failure, Pause, Target, is_retryable};
use crate::quiz::{Pace, Scenario, Seat};
use crate::schedule::{Arrival, Ask, Rng};
use crate::verify::ledger::{Ack, Ledger, Submission, submission_id};
use crate::verify::parse_millis;

pub(crate) mod live;
pub(crate) mod stats;
#[cfg(test)]
mod tests;

use stats::{LATE_START, Stats};

/// How a run is driven.
#[derive(Debug, Clone)]
pub(crate) struct Drive {
    /// Where the gateway is.
    pub(crate) target: Arc<Target>,
    /// Connections that hand in answers.
    pub(crate) connections: u32,
    /// Arrivals that may wait for a connection.
    pub(crate) backlog: usize,
    /// How long after its time an answer is handed in again.
    pub(crate) give_up: Duration,
    /// How long one request may take.
    pub(crate) timeout: Duration,
    /// Watchers of live feeds, apart from the one that looks for probes.
    pub(crate) watchers: u32,
}

impl Drive {
    /// Returns a connection of its own.
    pub(crate) fn connection(&self) -> Connection {
        Connection::new(self.target.clone(), self.timeout)
    }
}

/// The state that all tasks of the measured phase share.
pub(crate) struct Game {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) drive: Drive,
    /// Index of the question that is open, in a host-paced quiz.
    pub(crate) current: AtomicU16,
    paths: Vec<Uri>,
    queue: Mutex<Queue>,
    wake: Notify,
    notes: Mutex<Notes>,
}

/// What the run leaves behind.
pub(crate) struct Notes {
    /// What was handed in and acknowledged.
    pub(crate) ledger: Ledger,
    /// What was measured.
    pub(crate) stats: Stats,
    recent: Vec<u32>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    over: bool,
}

/// One hand-in that is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// Its intended time, from the start of the run.
    pub(crate) intended: Duration,
    /// Index of the submission.
    pub(crate) submission: u32,
    /// What is handed in.
    pub(crate) content: Submission,
    /// Whether it belongs to the measured load.
    pub(crate) kind: Kind,
}

/// What a hand-in is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The load that is measured.
    Load,
    /// A probe, whose way to the live feed is measured instead.
    Probe,
}

/// What became of a hand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the log.
    Acknowledged,
    /// The gateway does not take it.
    Refused,
    /// Nobody said so in time.
    GaveUp,
}

/// Whether a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Released {
    /// Every arrival came due.
    All,
    /// Somebody pressed Ctrl-C; what was handed in is audited all the same.
    Interrupted,
}

/// Acknowledged submissions that a repeat may be drawn from: the newest ones, so that their question is likely open.
const RECENT_MAX: usize = 1_024;

/// What one task needs to hand in answers; kept for all of them, so that an answer allocates little.
pub(crate) struct Hand {
    connection: Connection,
    buffer: BytesMut,
    pause: Pause,
}

#[derive(Deserialize)]
struct Accepted<'a> {
    submission: &'a str,
    received_at: &'a str,
    position: &'a str,
}

enum Step {
    Done(Outcome),
    Again(Option<Duration>),
}

impl Game {
    /// Returns a game that is ready to start.
    pub(crate) fn new(scenario: Arc<Scenario>, seats: Vec<Seat>, drive: Drive) -> anyhow::Result<Self> {
        let path = |quiz| format!("/v1/quizzes/{}/answers", scenario.quiz_id(quiz)).parse();
        let paths = (0..scenario.quizzes).map(path).collect::<Result<_, _>>()?;
        Ok(Self {
            scenario,
            seats,
            drive,
            current: AtomicU16::new(0),
            paths,
            queue: Mutex::default(),
            wake: Notify::new(),
            notes: Mutex::new(Notes::new()),
        })
    }

    /// Returns what the run has so far.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all that the run leaves behind, taking it out.
    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::replace(&mut *self.notes(), Notes::new())
    }

    /// Returns what a task needs to hand in answers.
    pub(crate) fn hand(&self, stream: u64) -> Hand {
        Hand {
            connection: self.drive.connection(),
            buffer: BytesMut::new(),
            pause: Pause::new(Rng::new(self.scenario.run, stream)),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a submission into the ledger; returns its index.
    pub(crate) fn enter(&self, content: Submission) -> u32 {
        let submissions = &mut self.notes().ledger.submissions;
        submissions.push(content);
        submissions.len() as u32 - 1
    }

    /// Releases arrivals at their times until there are no more, or until somebody presses Ctrl-C.
    pub(crate) async fn release(
        &self,
        arrivals: impl Iterator<Item = Arrival>,
        start: Instant,
        seed: u64,
    ) -> Released {
        let mut released = Released::All;
        let mut chooser =
            Chooser { game: self, next: vec![0; self.scenario.players as usize], rng: Rng::new(seed, 5) };
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        for arrival in arrivals {
            let at = start + Duration::from_nanos(arrival.at_ns);
            if at > Instant::now() {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at.into()) => {}
                    _ = &mut interrupted => {
                        released = Released::Interrupted;
                        break;
                    }
                }
            }
            self.notes().stats.arrivals += 1;
            if self.queue().jobs.len() >= self.drive.backlog {
                self.notes().stats.dropped += 1;
                continue;
            }
            let (submission, content) = chooser.choose(arrival);
            let intended = Duration::from_nanos(arrival.at_ns);
            self.queue().jobs.push_back(Job { intended, submission, content, kind: Kind::Load });
            self.wake.notify_one();
        }
        self.queue().over = true;
        self.wake.notify_waiters();
        released
    }

    /// Hands in what is due, until nothing more will be.
    pub(crate) async fn work(&self, start: Instant, mut hand: Hand) {
        while let Some(job) = self.next_job(&mut hand.connection).await {
            self.hand_in(job, start, &mut hand).await;
        }
    }

    async fn next_job(&self, connection: &mut Connection) -> Option<Job> {
        loop {
            let mut waiting = std::pin::pin!(self.wake.notified());
            // Registered before looking: what is queued after the look wakes this task.
            waiting.as_mut().enable();
            {
                let mut queue = self.queue();
                if let Some(job) = queue.jobs.pop_front() {
                    return Some(job);
                }
                if queue.over {
                    return None;
                }
            }
            connection.idle(waiting).await;
        }
    }

    /// Hands in one answer, and again until it is acknowledged, refused, or too old.
    pub(crate) async fn hand_in(&self, job: Job, start: Instant, hand: &mut Hand) -> Outcome {
        let due = start + job.intended;
        if job.kind == Kind::Load && due.elapsed() > LATE_START {
            self.notes().stats.late_starts += 1;
        }
        let seat = &self.seats[job.content.player as usize];
        let call = Call {
            method: Method::POST,
            path: self.paths[self.scenario.quiz_of(job.content.player) as usize].clone(),
            bearer: Some(&seat.bearer),
            extra: None,
            body: self.body(job, &mut hand.buffer),
        };
        hand.pause.reset();
        loop {
            let began = Instant::now();
            let answer = hand.connection.send(&call).await;
            let step = match answer {
                Ok(head) => {
                    let (status, retry_after) = (head.status, head.retry_after());
                    let replayed = head.headers.contains_key("idempotent-replayed");
                    self.take(job, status, retry_after, replayed, (start, began), &hand.connection)
                }
                Err(failure) => self.take_failure(job, failure),
            };
            match step {
                Step::Done(outcome) => return outcome,
                Step::Again(_) if due.elapsed() >= self.drive.give_up => {
                    self.notes().stats.given_up += 1;
                    return Outcome::GaveUp;
                }
                Step::Again(retry_after) => {
                    self.notes().stats.retries += 1;
                    tokio::time::sleep(hand.pause.next(retry_after)).await;
                }
            }
        }
    }

    fn body(&self, job: Job, buffer: &mut BytesMut) -> Bytes {
        let paper = &self.scenario.paper;
        let question = &paper.questions[usize::from(job.content.question)].id;
        let choice = paper.choices[usize::from(job.content.choice)];
        let id = submission_id(self.scenario.run, job.submission);
        let form = format_args!(
            r#"{{"question":"{question}","answer":{{"choice":"{choice}"}},"submission":"{id}"}}"#
        );
        let written = buffer.write_fmt(form);
        debug_assert!(written.is_ok(), "a BytesMut takes everything");
        buffer.split().freeze()
    }

    fn take(
        &self,
        job: Job,
        status: StatusCode,
        retry_after: Option<Duration>,
        replayed: bool,
        (start, began): (Instant, Instant),
        connection: &Connection,
    ) -> Step {
        let mut notes = self.notes();
        let notes = &mut *notes;
        let stats = &mut notes.stats;
        *stats.statuses.entry(status.as_u16()).or_default() += 1;
        if status == StatusCode::ACCEPTED {
            let Some(ack) = self.acknowledgement(job, &connection.reply) else {
                // In the log, but where is not known: the receipt will tell.
                notes.ledger.unknown.push(job.submission);
                stats.refused += 1;
                stats.refusal.get_or_insert_with(|| format!("202 with the body {}", connection.reply_text()));
                return Step::Done(Outcome::Refused);
            };
            notes.ledger.acks.push(ack);
            stats.replayed += u64::from(replayed);
            if job.kind == Kind::Load {
                let now = Instant::now();
                let from = |since: Instant| now.saturating_duration_since(since);
                stats.acknowledged(from(start), from(start + job.intended), from(began));
                notes.remember(job.submission);
            }
            return Step::Done(Outcome::Acknowledged);
        }
        if is_retryable(status) {
            if status != StatusCode::TOO_MANY_REQUESTS {
                // A 5xx may follow a durable append.
                notes.ledger.unknown.push(job.submission);
            }
            return Step::Again(retry_after);
        }
        if status == StatusCode::CONFLICT && contains(&connection.reply, b"question_closed") {
            stats.closed += 1;
            return Step::Done(Outcome::Refused);
        }
        stats.refused += 1;
        stats.refusal.get_or_insert_with(|| format!("{status} {}", connection.reply_text()));
        Step::Done(Outcome::Refused)
    }

    fn take_failure(&self, job: Job, failure: Failure) -> Step {
        let mut notes = self.notes();
        *notes.stats.failures.entry(failure).or_default() += 1;
        match failure {
            Failure::Refused => {}
            Failure::Lost | Failure::TimedOut => notes.ledger.unknown.push(job.submission),
        }
        Step::Again(None)
    }

    fn acknowledgement(&self, job: Job, reply: &[u8]) -> Option<Ack> {
        let accepted: Accepted<'_> = serde_json::from_slice(reply).ok()?;
        let submission = job.submission;
        if accepted.submission.parse() != Ok(submission_id(self.scenario.run, submission)) {
            return None;
        }
        let received_at = parse_millis(accepted.received_at)?;
        Some(Ack { submission, received_at, position: accepted.position.parse().ok()? })
    }
}

impl Notes {
    fn new() -> Self {
        Self { ledger: Ledger::default(), stats: Stats::new(), recent: Vec::new() }
    }

    fn remember(&mut self, submission: u32) {
        if self.recent.len() < RECENT_MAX {
            self.recent.push(submission);
        } else {
            self.recent[submission as usize % RECENT_MAX] = submission;
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Turns arrivals into submissions.
struct Chooser<'a> {
    game: &'a Game,
    next: Vec<u16>,
    rng: Rng,
}

impl Chooser<'_> {
    fn choose(&mut self, arrival: Arrival) -> (u32, Submission) {
        match arrival.ask {
            Ask::Exact { question, choice } => {
                self.enter(Submission { player: arrival.player, question, choice })
            }
            Ask::Fresh(bits) => self.fresh(arrival.player, bits),
            Ask::Another(bits) => match self.earlier(bits) {
                Some((_, mut content)) => {
                    content.choice = (content.choice + 1) % self.choices();
                    self.enter(content)
                }
                None => self.fresh(arrival.player, bits),
            },
            Ask::Resend(bits) => self.earlier(bits).unwrap_or_else(|| self.fresh(arrival.player, bits)),
        }
    }

    fn enter(&self, content: Submission) -> (u32, Submission) {
        (self.game.enter(content), content)
    }

    fn choices(&self) -> u8 {
        self.game.scenario.paper.choices.len() as u8
    }

    /// The participant's next question, or the open one; who is through answers one again.
    fn fresh(&mut self, player: u32, bits: u64) -> (u32, Submission) {
        let paper = &self.game.scenario.paper;
        let question = match paper.pace {
            Pace::Host => self.game.current.load(Ordering::Relaxed),
            Pace::Free => {
                let next = &mut self.next[player as usize];
                let question = *next % paper.open_questions();
                *next = next.wrapping_add(1);
                question
            }
        };
        let choice = (self.rng.next() ^ bits) % u64::from(self.choices());
        self.enter(Submission { player, question, choice: choice as u8 })
    }

    /// A submission that was acknowledged lately, if its question is still open.
    fn earlier(&self, bits: u64) -> Option<(u32, Submission)> {
        let notes = self.game.notes();
        let at = bits as usize % notes.recent.len().max(1);
        let submission = *notes.recent.get(at)?;
        let content = notes.ledger.submissions[submission as usize];
        let open = match self.game.scenario.paper.pace {
            Pace::Free => true,
            Pace::Host => content.question == self.game.current.load(Ordering::Relaxed),
        };
        open.then_some((submission, content))
    }
}
