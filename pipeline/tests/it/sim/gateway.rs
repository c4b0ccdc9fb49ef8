//! Simulated gateways: the real admission rules over a view that a reader folds from the log, and that lags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::Clock;
use gateway::admission::{Refused, acknowledge, admit};
use gateway::views::QuizView;
use ingest::codec;
use ingest::log::{Log, ReadLimits, Record, Stream};
use ingest::partition::{PartitionId, of_section};
use ingest::proto;
use operators::event::{Answer, Envelope, Event, Stamp};
use operators::id::{Position, QuizId, UnixMillis};
use operators::rank::Ranking;
use pipeline::runner::progress::Progress;
use pipeline::runner::progress::local::Local;
use pipeline::stage::rank::board_key;
use pipeline::store::{Stage, Store, Unit};
use pipeline::views::boards::quiz_view;
use prost::Message;

use super::calls::Caller;
use super::cluster::copies::Copies;
use super::disk::number;
use super::handles::{SimLog, SimStore};
use super::ledger::{Acked, HandIn};
use super::mutants::Mutant;
use super::world::{Shared, SkewedClock};

/// A quiz as it is seen somewhere, with the time up to which everything is in it.
pub(super) type Seen = (UnixMillis, Arc<QuizView>);

/// What a gateway knows.
pub(super) enum View {
    /// On one machine: what it has read of the stages.
    Folded(Folded),
    /// In a cluster: what it has copied of what is stored.
    Copied(Arc<Copies>),
}

/// Rankings that a gateway folds itself.
pub(super) struct Folded {
    rankings: BTreeMap<QuizId, Ranking>,
    progress: Local,
}

impl View {
    /// Returns a view of nothing yet.
    pub(super) fn new(partitions: u16) -> Self {
        Self::Folded(Folded::new(partitions))
    }

    /// Returns a quiz as it was seen here last.
    pub(super) fn quiz(&self, quiz: &QuizId) -> Option<Seen> {
        match self {
            Self::Folded(folded) => folded.quiz(quiz),
            Self::Copied(copies) => copies.seen(quiz),
        }
    }

    fn folded(&mut self) -> &mut Folded {
        match self {
            Self::Folded(folded) => folded,
            Self::Copied(_) => unreachable!("no reader folds in a cluster"),
        }
    }
}

impl Folded {
    fn new(partitions: u16) -> Self {
        Self { rankings: BTreeMap::new(), progress: Local::new(partitions) }
    }

    fn quiz(&self, quiz: &QuizId) -> Option<Seen> {
        let ranking = self.rankings.get(quiz)?;
        let view = quiz_view(ranking)?;
        let as_of = self.progress.as_of(quiz, view.definition.source().sections);
        Some((as_of, view))
    }
}

/// Folds `standings` into the view of one gateway, for ever and at its leisure.
pub(super) async fn reader(world: Shared, number: usize, graded: Arc<Local>) {
    let partitions = {
        let mut world = world.lock();
        let partitions = world.plan.partitions;
        // A gateway that starts again knows nothing yet.
        world.views[number] = View::new(partitions);
        partitions
    };
    let log = SimLog::new(&world, Caller::Reader);
    let connection = world.lock().ledger.connect();
    let mut positions: Vec<Option<Position>> = vec![None; usize::from(partitions)];
    let limits = ReadLimits { records_max: 64, bytes_max: 1 << 20, wait: Duration::ZERO };
    loop {
        let lag = {
            let mut world = world.lock();
            let frequent = world.rng.chance(950) || world.calm;
            if frequent { world.rng.between(20, 250) } else { world.rng.between(300, 1_500) }
        };
        world.pause(lag).await;
        for (place, position) in positions.iter_mut().enumerate() {
            let partition = PartitionId(place as u16);
            let unit = Unit { stage: Stage::Rank, partition };
            let began = graded.begin(unit, UnixMillis(0), None);
            let at_end = loop {
                let Ok(batch) = log.read(Stream::Standings, partition, *position, limits).await else {
                    break false;
                };
                let mut world = world.lock();
                for record in &batch.records {
                    *position = Some(record.stamp.position);
                    for effect in codec::decode_effects(&record.payload).unwrap_or_default() {
                        let quiz = effect.quiz.clone();
                        let rankings = &mut world.views[number].folded().rankings;
                        let ranking =
                            rankings.entry(quiz.clone()).or_insert_with(|| Ranking::new(quiz.clone()));
                        ranking.apply(&effect);
                        let (revision, feed) = (ranking.header().revision, ranking.header().feed);
                        world.ledger.board(connection, &quiz, revision, feed);
                    }
                }
                if batch.at_end {
                    break true;
                }
            };
            world.lock().views[number].folded().progress.end(unit, began, None, at_end);
        }
    }
}

/// Watches the rows of the rank stage, as somebody who polls the leaderboard does.
pub(super) async fn watcher(world: Shared) {
    let store = SimStore::new(world.clone(), Caller::Reader);
    let quizzes: Vec<QuizId> = world.lock().plan.quizzes.iter().map(|quiz| quiz.id.clone()).collect();
    let connection = world.lock().ledger.connect();
    loop {
        let rest = world.lock().rng.between(40, 300);
        world.pause(rest).await;
        for quiz in &quizzes {
            let partition = of_section(quiz, 0, world.lock().plan.partitions);
            let mut key = board_key(quiz);
            *key.last_mut().expect("a key has a kind") = b'h';
            let row = store.get(Unit { stage: Stage::Rank, partition }, &key).await;
            let Ok(Some(row)) = row else { continue };
            let header = proto::RankingHeader::decode(&*row).expect("a header row");
            world.lock().ledger.board(connection, quiz, header.revision, header.feed);
        }
    }
}

/// What a gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// 202.
    Acknowledged,
    /// 409: it is too late.
    Closed,
    /// 503, or no answer at all: unknown whether it was written.
    Again,
}

/// One gateway.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) world: Shared,
    pub(super) number: usize,
    pub(super) clock: SkewedClock,
}

impl Gateway {
    pub(super) fn new(world: &Shared, number: usize) -> Self {
        let skew_ms = world.lock().plan.gateways[number];
        Self { world: world.clone(), number, clock: SkewedClock { world: world.clone(), skew_ms } }
    }

    /// Looks at a quiz: at the age of the view, and then at the view.
    pub(super) async fn look(&self, quiz: &QuizId) -> Option<Seen> {
        let (copies, before) = {
            let mut world = self.world.lock();
            let before = world.ledger.newest(self.number, quiz);
            match &world.views[self.number] {
                View::Copied(copies) => (copies.clone(), before),
                View::Folded(folded) => {
                    let seen = folded.quiz(quiz);
                    world.ledger.seen(quiz, seen.as_ref());
                    return seen;
                }
            }
        };
        let seen = copies.look(&self.world, quiz).await.ok().flatten();
        let mut world = self.world.lock();
        world.ledger.seen(quiz, seen.as_ref());
        // Unless it started again meanwhile, a gateway never shows less than it did before.
        let same = matches!(&world.views[self.number], View::Copied(now) if Arc::ptr_eq(now, &copies));
        if let Some((_, view)) = seen.as_ref().filter(|_| same) {
            world.ledger.showed(self.number, quiz, before, view.status.number);
        }
        seen
    }

    /// Appends an event; returns where it is.
    pub(super) async fn append(
        &self,
        quiz: &QuizId,
        section: u16,
        event: Event,
    ) -> Option<(PartitionId, Stamp)> {
        let partition = of_section(quiz, section, self.world.lock().plan.partitions);
        let envelope = Envelope { quiz: quiz.clone(), section, event };
        let payload = codec::encode_envelope(&envelope).expect("small");
        let log = SimLog::new(&self.world, Caller::Request);
        let stamps = log.append(vec![Record { stream: Stream::Submissions, partition, payload }]).await;
        stamps.ok().map(|stamps| (partition, stamps[0]))
    }

    /// Lets an answer in, appends it and acknowledges it, or not.
    pub(super) async fn answer(&self, mut answer: HandIn, sections: u16) -> Reply {
        let (mutant, timing) = {
            let world = self.world.lock();
            (world.plan.mutant, world.plan.timing)
        };
        answer.received_at = self.clock.now();
        // Without a deadline nobody looks at the view's time either.
        let lenient = mutant == Some(Mutant::NoAckDeadline);
        let Some((index, as_of, view)) = self.sees(&answer).await else { return Reply::Again };
        if let Some(index) = index.filter(|_| !lenient) {
            let now = self.clock.now();
            if let Err(refused) = admit(&view, index, answer.received_at, now, as_of, &timing) {
                return self.refuse(refused);
            }
        }
        // An unknown question and a wrong shape are let through here: the fold has to cope with them.
        self.world.lock().ledger.handed_in.push(answer.clone());
        let event = Event::Answer(Answer {
            participant: answer.participant,
            submission: answer.submission,
            question: answer.question.clone(),
            response: answer.response.clone(),
            received_at: answer.received_at,
        });
        let section = answer.participant.section(sections);
        if mutant == Some(Mutant::AckBeforeAppend) {
            self.world.lock().ledger.acked.push(Acked { answer: answer.clone(), at: None });
            self.append(&answer.quiz, section, event).await;
            return Reply::Acknowledged;
        }
        let Some(at) = self.append(&answer.quiz, section, event).await else { return Reply::Again };
        let Some((index, as_of, view)) = self.sees(&answer).await else { return Reply::Again };
        // The process may be held up between reading the view and reading the clock, but not the other way round.
        let held_up = self.world.lock().rng.below(3);
        self.world.pause(held_up).await;
        if let Some(index) = index.filter(|_| !lenient)
            && let Err(refused) = acknowledge(&view, index, self.clock.now(), as_of, &timing)
        {
            return self.refuse(refused);
        }
        let mut world = self.world.lock();
        world.note("acknowledged", &[number(at.1.position)]);
        world.ledger.acked.push(Acked { answer, at: Some(at) });
        Reply::Acknowledged
    }

    /// Returns the place of the question and the view with its age, or `None` while the quiz is not known here.
    async fn sees(&self, answer: &HandIn) -> Option<(Option<u16>, UnixMillis, Arc<QuizView>)> {
        let (as_of, view) = self.look(&answer.quiz).await?;
        Some((view.definition.index_of(&answer.question), as_of, view))
    }

    fn refuse(&self, refused: Refused) -> Reply {
        let faults = &mut self.world.lock().ledger.faults;
        match refused {
            Refused::QuestionClosed => {
                faults.refused += 1;
                Reply::Closed
            }
            Refused::ViewStale => {
                faults.stale_views += 1;
                Reply::Again
            }
            Refused::Unacknowledged => {
                faults.unacknowledged += 1;
                Reply::Again
            }
        }
    }
}
