//! The people: hosts who run their quizzes, players who answer, repeat, hurry and come late, and a vandal.

use gateway::views::QuizView;
use ingest::log::{Log, Record, Stream};
use ingest::partition::PartitionId;
use operators::definition::Pace;
use operators::effect::Phase;
use operators::event::{Command, Event, Response};
use operators::id::{CommandId, ParticipantId, QuestionId, SubmissionId, UnixMillis};

use super::calls::Caller;
use super::gateway::{Gateway, Reply};
use super::handles::SimLog;
use super::ledger::HandIn;
use super::plan::QuizPlan;
use super::world::{EPOCH_MS, Shared};

/// Attempts to hand one answer in.
const ATTEMPTS_MAX: u64 = 5;

/// Somebody who talks to gateways about one quiz.
struct Person {
    world: Shared,
    quiz: QuizPlan,
}

impl Person {
    fn new(world: &Shared, quiz: usize) -> Self {
        Self { world: world.clone(), quiz: world.lock().plan.quizzes[quiz].clone() }
    }

    fn below(&self, end: u64) -> u64 {
        self.world.lock().rng.below(end)
    }
    fn chance(&self, per_mille: u64) -> bool {
        self.world.lock().rng.chance(per_mille)
    }
    async fn rest(&self, from_ms: u64, to_ms: u64) {
        let ms = self.world.lock().rng.between(from_ms, to_ms);
        self.world.pause(ms).await;
    }

    /// Returns any gateway: a balancer stands before them.
    fn gateway(&self) -> Gateway {
        let gateways = self.world.lock().plan.gateways.len() as u64;
        let number = self.below(gateways) as usize;
        Gateway::new(&self.world, number)
    }

    /// Looks at the quiz through any gateway.
    async fn sees<T>(&self, look: impl FnOnce(&QuizView) -> T) -> Option<T> {
        let gateway = self.gateway();
        let seen = gateway.look(&self.quiz.id).await;
        seen.map(|(_, view)| look(&view))
    }
}

/// Runs one quiz from publishing to its close.
pub(super) async fn host(world: Shared, quiz: usize) {
    let host = Host(Person::new(&world, quiz));
    let person = &host.0;
    world.pause(person.quiz.starts_at_ms).await;
    host.until(&Command::Publish { definition: person.quiz.definition(1), if_version: None }, |view| {
        view.status.version >= 1
    })
    .await;
    if person.chance(300) {
        let command = Command::Publish { definition: person.quiz.definition(2), if_version: Some(1) };
        host.until(&command, |view| view.status.version >= 2).await;
    }
    person.rest(300, 900).await;
    host.until(&Command::Open, |view| view.status.phase == Phase::Open).await;
    match person.quiz.pace {
        Pace::Free => person.rest(1_000, 3_000).await,
        Pace::Host => {
            for question in 0..person.quiz.questions.len() {
                host.ask(question).await;
            }
        }
    }
    person.rest(0, 600).await;
    host.until(&Command::Close, |view| view.status.phase == Phase::Closed).await;
}

struct Host(Person);

impl Host {
    /// Sends a command until it shows, sometimes again after that.
    async fn until(&self, command: &Command, shows: impl Fn(&QuizView) -> bool) {
        let person = &self.0;
        let mut id = self.new_id();
        // Longer than it takes most of the time.
        let looks = if person.world.lock().plan.is_cluster { 40 } else { 20 };
        loop {
            self.send(&id, command).await;
            for _ in 0..looks {
                person.rest(60, 140).await;
                if person.sees(&shows).await == Some(true) {
                    if person.chance(150) {
                        // A repeated command changes nothing, whichever way it went.
                        self.send(&id, command).await;
                    }
                    return;
                }
            }
            if person.chance(500) {
                id = self.new_id();
            }
        }
    }

    fn new_id(&self) -> CommandId {
        let number = self.0.world.lock().rng.next();
        format!("c{number:x}").parse().expect("an id")
    }

    async fn send(&self, id: &CommandId, command: &Command) {
        let person = &self.0;
        {
            let mut world = person.world.lock();
            world.table.push((person.quiz.id.clone(), id.clone(), command.clone()));
            if matches!(command, Command::Close | Command::CloseQuestion(_)) {
                world.outage();
            }
        }
        let event = Event::Command { id: id.clone(), content: 0, command: command.clone() };
        while person.gateway().append(&person.quiz.id, 0, event.clone()).await.is_none() {
            person.rest(10, 200).await;
        }
    }

    /// Opens a question, lets it run and sees it closed.
    async fn ask(&self, question: usize) {
        let person = &self.0;
        let planned = person.quiz.questions[question].clone();
        let index = question as u16;
        let opened = |view: &QuizView| view.status.windows.iter().any(|window| window.question == index);
        self.until(&Command::OpenQuestion(planned.id.clone()), opened).await;
        if person.chance(60) {
            // Refused, and nothing changes.
            self.send(&self.new_id(), &Command::Open).await;
        }
        let early = person.chance(300);
        match planned.limit_ms {
            Some(limit_ms) if !early => person.world.pause(limit_ms + 20).await,
            Some(_) | None => {
                person.rest(400, 1_500).await;
                // Its limit may close it before this command does.
                let closed = |view: &QuizView| {
                    let now = EPOCH_MS + person.world.lock().now;
                    let windows = view.status.windows.iter();
                    windows
                        .filter(|w| w.question == index)
                        .any(|w| w.closes_at.is_some_and(|at| at.0 <= now + 200))
                };
                self.until(&Command::CloseQuestion(planned.id.clone()), closed).await;
            }
        }
    }
}

/// How a player deals with one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Skips,
    Early,
    Prompt,
    /// Around the close, mostly just before it.
    Late,
}

/// Joins a quiz, or not, and answers its questions.
pub(super) async fn player(world: Shared, quiz: usize, number: usize) {
    let person = Person::new(&world, quiz);
    let player = Player { who: person.quiz.participants[number], person };
    let person = &player.person;
    while person.sees(|_| ()).await.is_none() {
        person.rest(50, 150).await;
    }
    // Some never join, and hand in all the same.
    if !person.chance(60) {
        player.join().await;
    }
    for question in 0..person.quiz.questions.len() {
        let style = match person.below(100) {
            0..8 => Style::Skips,
            8..18 => Style::Early,
            18..65 => Style::Prompt,
            _ => Style::Late,
        };
        player.play(question, style).await;
    }
}

struct Player {
    person: Person,
    who: ParticipantId,
}

impl Player {
    async fn join(&self) {
        let name = format!("player {}", self.who.0 % 97);
        let section = self.who.section(self.person.quiz.sections);
        let event = Event::Join { participant: self.who, name };
        while self.person.gateway().append(&self.person.quiz.id, section, event.clone()).await.is_none() {
            self.person.rest(10, 200).await;
        }
    }

    /// Deals with one question.
    async fn play(&self, question: usize, style: Style) {
        let person = &self.person;
        if style == Style::Skips {
            return;
        }
        if style == Style::Early {
            self.hand_in(question, self.response(question), false).await;
        }
        if !self.wait_open(question).await {
            return;
        }
        if person.chance(60) {
            let wrong_shape = Response::Text("not an answer to this".into());
            self.hand_in(question, wrong_shape, true).await;
        }
        if style == Style::Late {
            self.wait_close(question).await
        } else {
            person.rest(0, 700).await
        }
        let submission = self.hand_in(question, self.response(question), true).await;
        if person.chance(150) {
            person.rest(0, 900).await;
            self.hand_in(question, self.response(question), true).await;
        }
        if person.chance(100) {
            // The same id again, perhaps with another answer.
            self.hand_in_as(submission, question, self.response(question), true).await;
        }
    }

    fn response(&self, question: usize) -> Response {
        let pick = self.person.below(3) as usize;
        if question.is_multiple_of(2) {
            Response::Choice(["b", "b", "a"][pick].into())
        } else {
            Response::Value(["3.2", "3.5", "4"][pick].parse().expect("a decimal"))
        }
    }

    /// Waits until the question is seen open; tells false when the quiz is over before that.
    async fn wait_open(&self, question: usize) -> bool {
        loop {
            let index = question as u16;
            let looked = self.person.sees(|view| {
                let free = self.person.quiz.pace == Pace::Free && view.status.phase == Phase::Open;
                (free || view.status.windows.iter().any(|w| w.question == index), view.status.phase)
            });
            let seen = looked.await;
            match seen {
                Some((true, _)) => return true,
                Some((false, Phase::Closed | Phase::Forgotten)) => return false,
                Some((false, Phase::Draft | Phase::Open)) | None => self.person.rest(50, 150).await,
            }
        }
    }

    /// Waits until about the close of the question.
    async fn wait_close(&self, question: usize) {
        let person = &self.person;
        for _ in 0..20 {
            let index = question as u16;
            let closes_at = person.sees(|view| gateway::admission::closes_at(view, index)).await.flatten();
            if let Some(closes_at) = closes_at {
                let now = person.world.lock().now;
                let away = closes_at.0.saturating_sub(EPOCH_MS + now);
                let grace_ms = person.world.lock().plan.timing.grace().as_millis() as u64;
                let late = if person.chance(250) { person.below(grace_ms + 800) } else { 0 };
                let early = person.below(120);
                person.world.pause((away + late).saturating_sub(early)).await;
                return;
            }
            if person.chance(150) {
                return;
            }
            person.rest(50, 200).await;
        }
    }

    async fn hand_in(&self, question: usize, response: Response, seen_open: bool) -> SubmissionId {
        let submission = SubmissionId(u128::from(self.person.world.lock().rng.next()));
        self.hand_in_as(submission, question, response, seen_open).await;
        submission
    }

    /// Hands in until a gateway acknowledges or says that it is too late, with the same submission id.
    async fn hand_in_as(
        &self,
        submission: SubmissionId,
        question: usize,
        response: Response,
        seen_open: bool,
    ) {
        let person = &self.person;
        // One in fifty names a question that is not there.
        let known = !person.chance(20);
        let question: QuestionId =
            if known { person.quiz.questions[question].id.clone() } else { "q99".parse().expect("an id") };
        let answer = HandIn {
            quiz: person.quiz.id.clone(),
            participant: self.who,
            submission,
            question,
            response,
            received_at: UnixMillis(0),
            seen_open: seen_open && known,
        };
        for _ in 0..ATTEMPTS_MAX {
            match person.gateway().answer(answer.clone(), person.quiz.sections).await {
                Reply::Acknowledged | Reply::Closed => return,
                Reply::Again => person.rest(20, 400).await,
            }
        }
    }
}

/// Splits and merges shards while everything goes on.
pub(super) async fn resharder(world: Shared) {
    let reshards = world.lock().plan.cluster.reshards.clone();
    for (rest, stream) in reshards {
        world.pause(rest).await;
        world.lock().reshard(stream);
    }
}

/// Puts bytes into the streams that nobody can read.
pub(super) async fn vandal(world: Shared) {
    let log = SimLog::new(&world, Caller::Request);
    let count = world.lock().rng.below(4);
    for _ in 0..count {
        let (rest, record) = {
            let mut world = world.lock();
            let partitions = u64::from(world.plan.partitions);
            let partition = PartitionId(world.rng.below(partitions) as u16);
            let stream = if world.rng.chance(500) { Stream::Submissions } else { Stream::Standings };
            let payload = vec![0xff, 0xff, world.rng.below(256) as u8].into();
            world.ledger.faults.poison += 1;
            (world.rng.below(3_000), Record { stream, partition, payload })
        };
        world.pause(rest).await;
        while log.append(vec![record.clone()]).await.is_err() {
            world.pause(50).await;
        }
    }
}
