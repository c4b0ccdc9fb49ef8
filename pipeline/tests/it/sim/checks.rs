//! What must be so at the end of every run. Invariants are named as in `reliability.md`; see the table in [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ingest::codec;
use ingest::partition::{PartitionId, of_section};
use operators::effect::{Change, Effect, Phase, Receipt, Tally, Verdict};
use operators::event::Stamp;
use operators::id::{ParticipantId, Position, QuizId, SubmissionId};
use operators::quiz::Section;
use operators::rank::Ranking;
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;
use pipeline::stage::rank::{Rank, Silence};
use pipeline::store::{Stage, Unit};

use super::disk::{Disk, Rows};
use super::executor::Ended;
use super::ledger::{Acked, HandIn, Ledger};
use super::oracle::{Judged, Records, Row, Truth, millionths};
use super::world::World;

/// What a run was like, for those who doubt that it did anything.
#[derive(Debug, Default, Clone)]
pub(super) struct Census {
    /// Answers by verdict.
    pub(super) answers: Tally,
    /// Answers that a section counted before it heard of a close that came before them.
    pub(super) overruled: u64,
    /// Answers that count in the place of such a one.
    pub(super) instead: u64,
    pub(super) acknowledged: u64,
    pub(super) records: u64,
    /// Effects that arrived more than once.
    pub(super) repeats: u64,
    /// Quizzes that were forgotten.
    pub(super) forgotten: u64,
}

impl Census {
    pub(super) fn add(&mut self, other: &Self) {
        self.answers.add(&other.answers);
        self.overruled += other.overruled;
        self.instead += other.instead;
        self.acknowledged += other.acknowledged;
        self.records += other.records;
        self.repeats += other.repeats;
        self.forgotten += other.forgotten;
    }
}

/// Runs every check that needs the end of the run; those that need all work done, only if it is.
pub(super) fn check(world: &mut World, ended: Ended) -> Census {
    let plan = world.plan.clone();
    let mut census = Census { acknowledged: world.ledger.acked.len() as u64, ..Census::default() };
    census.records = world.disk.streams().count() as u64;
    let (disk, ledger) = (&world.disk, &mut world.ledger);
    let records = Records::new(disk);
    census.repeats = same_identity_same_bytes(&records, ledger);
    dead_letters(&records, ledger, ended);
    for acked in ledger.acked.clone().iter().filter(|acked| acked.at.is_none()) {
        ledger.violated("I15", format!("{:?} was acknowledged without an append", acked.answer.submission));
    }
    for quiz in &plan.quizzes {
        let case = Case::new(disk, &records, &quiz.id, quiz.sections, plan.partitions);
        if ended == Ended::Done {
            case.ranking(ledger);
            case.final_is_final(ledger);
            case.books(ledger);
            case.verdicts(ledger);
        }
        case.acknowledged(ledger, plan.is_cluster);
        // On one machine the worker's clock says how far it is, and the log's when something was appended.
        case.ages(ledger, if plan.is_cluster { 0 } else { plan.timing.margin().as_millis() as u64 / 2 });
        case.counted_were_handed_in(ledger);
        case.replays(disk, ledger);
        case.count(&mut census);
    }
    census
}

/// I5: one identity, one content, whoever wrote it, and in whatever record. Returns how many effects came more than once.
fn same_identity_same_bytes(records: &Records, ledger: &mut Ledger) -> u64 {
    let mut seen: BTreeMap<(&QuizId, u16, u64, u32), Bytes> = BTreeMap::new();
    let mut repeats = 0;
    for (_, effect) in &records.standings {
        let content = codec::encode_effect(effect).expect("it was read from a record");
        let identity = (&effect.quiz, effect.section, effect.revision, effect.ordinal);
        match seen.get(&identity) {
            Some(first) if *first == content => repeats += 1,
            Some(_) => ledger.violated("I5", format!("effect {identity:?} has two contents")),
            None => {
                seen.insert(identity, content);
            }
        }
    }
    repeats
}

/// I10: dead letters are exactly the records that nobody can read.
fn dead_letters(records: &Records, ledger: &mut Ledger, ended: Ended) {
    let Records { poison, letters, .. } = records;
    for lost in poison.difference(letters).filter(|_| ended == Ended::Done) {
        ledger.violated("I10", format!("{lost:?} cannot be read and is no dead letter"));
    }
    for wrong in letters.difference(poison) {
        ledger.violated("I10", format!("{wrong:?} is a dead letter and can be read"));
    }
}

/// One quiz at the end: what is stored, what the log folds to, and the truth.
struct Case {
    truth: Truth,
    partitions: u16,
    effects: Vec<(Position, Effect)>,
    folded: Ranking,
    sections: Vec<Section>,
    stored: Result<Ranking, String>,
    rank: Rank,
    grade: Grade,
}

impl Case {
    fn new(disk: &Disk, records: &Records, quiz: &QuizId, sections: u16, partitions: u16) -> Self {
        let truth = Truth::new(records, quiz, sections);
        let rank = Rank::new(Arc::new(Silence));
        let unit = Unit { stage: Stage::Rank, partition: of_section(quiz, 0, partitions) };
        let mut effects = Vec::new();
        let mut folded = Ranking::new(quiz.clone());
        for (record, effect) in records.standings.iter().filter(|(_, effect)| effect.quiz == *quiz) {
            folded.apply(effect);
            effects.push((record.stamp.position, effect.clone()));
        }
        let sections = (0..sections).map(|section| fold(&truth, section)).collect();
        let stored = restore(&rank, quiz, &disk.unit(unit).rows);
        Self { truth, partitions, effects, folded, sections, stored, rank, grade: Grade::new(partitions, 0) }
    }

    fn quiz(&self) -> &QuizId {
        &self.truth.quiz
    }

    fn unit(&self, stage: Stage, section: u16) -> Unit {
        Unit { stage, partition: of_section(self.quiz(), section, self.partitions) }
    }

    /// I2 and I4: the stored ranking is the fold of the log, and both are the truth.
    fn ranking(&self, ledger: &mut Ledger) {
        let stored = match &self.stored {
            Ok(stored) => stored,
            Err(error) => return ledger.violated("I2", format!("{}: {error}", self.quiz())),
        };
        if *stored != self.folded {
            ledger.violated("I2", format!("{}: the stored ranking is not the fold of the log", self.quiz()));
        }
        let truth = self.truth.board();
        let (rows, more) = stored.page(None, usize::MAX);
        let as_row = |row: &operators::rank::Row| Row {
            rank: row.rank,
            participant: row.participant,
            name: row.name.to_string(),
            millionths: millionths(row.standing.points),
            right: row.standing.correct,
            time_ms: row.standing.time_ms,
            last_ms: row.standing.last_correct_at.0,
        };
        let rows: Vec<Row> = rows.iter().map(as_row).collect();
        let mut sorted = rows.clone();
        sorted.sort_by_key(|row| (row.rank, row.participant));
        if sorted != truth {
            ledger.violated("I2", format!("{}: ranked {sorted:?}, the truth is {truth:?}", self.quiz()));
        }
        let people: BTreeSet<ParticipantId> = rows.iter().map(|row| row.participant).collect();
        let ordered = rows.is_sorted_by_key(|row| row.rank);
        if people.len() != rows.len() || rows.len() != stored.len() || !ordered || more.is_some() {
            ledger.violated(
                "I4",
                format!("{}: not everybody once, in the order of ranks: {rows:?}", self.quiz()),
            );
        }
    }

    /// I9: once every section is sealed, nothing changes the ranking.
    fn final_is_final(&self, ledger: &mut Ledger) {
        let mut ranking = Ranking::new(self.quiz().clone());
        let mut closed: Option<(u64, Vec<operators::rank::Row>)> = None;
        for (_, effect) in &self.effects {
            ranking.apply(effect);
            if closed.is_none() && ranking.board().status.phase == Phase::Closed && ranking.is_final() {
                closed = Some((ranking.header().revision, ranking.page(None, usize::MAX).0));
            }
        }
        let last = Some((ranking.header().revision, ranking.page(None, usize::MAX).0));
        if closed != last {
            ledger.violated("I9", format!("{}: final as {closed:?}, then {last:?}", self.quiz()));
        }
    }

    /// I12: points awarded, ranked and recounted are one sum, and every answer is in the books once.
    fn books(&self, ledger: &mut Ledger) {
        let Ok(stored) = &self.stored else { return };
        let books = stored.books();
        let judged = || self.truth.judged.iter().flatten();
        let sum: i128 = judged().map(|judged| judged.millionths).sum();
        if millionths(books.points_awarded) != sum || millionths(books.points_ranked) != sum {
            let found = (books.points_awarded, books.points_ranked);
            ledger.violated("I12", format!("{}: awarded and ranked {found:?}, recounted {sum}", self.quiz()));
        }
        let mut questions: BTreeMap<Option<u16>, Tally> = BTreeMap::new();
        for judged in judged().filter(|judged| judged.told) {
            let question = judged.question.map(|question| question as u16);
            questions.entry(question).or_default().count(judged.verdict);
        }
        // Answers from before the publishing wait in the books of the section until it tells of another such answer.
        let named = |books: &BTreeMap<Option<u16>, Tally>| -> Vec<(Option<u16>, Tally)> {
            books
                .iter()
                .filter(|(question, _)| question.is_some())
                .map(|(question, tally)| (*question, *tally))
                .collect()
        };
        if named(&questions) != named(&books.questions) {
            ledger.violated(
                "I12",
                format!("{}: books {:?}, recounted {questions:?}", self.quiz(), books.questions),
            );
        }
    }

    /// Returns what the standings say of each answer record, by section and position.
    fn receipts(&self) -> BTreeMap<(u16, Position), Option<&Receipt>> {
        let mut receipts = BTreeMap::new();
        for (_, effect) in &self.effects {
            if let Change::ScoreChanged(score) = &effect.change {
                receipts.entry((effect.section, effect.position)).or_insert(score.receipt.as_ref());
            }
        }
        receipts
    }

    /// I13: late, early, counted or repeated as the recount says, answer by answer; overruled and replaced if it says so.
    fn verdicts(&self, ledger: &mut Ledger) {
        let receipts = self.receipts();
        // By identity: an effect may be there more than once.
        let overruled: BTreeMap<_, (ParticipantId, u16)> =
            self.effects.iter().filter_map(overruled).collect();
        let mut overruled: Vec<_> = overruled.into_values().collect();
        overruled.sort_unstable();
        let mut wanted_overruled = Vec::new();
        let mut instead: BTreeSet<(u16, Position)> = self.effects.iter().filter_map(instead).collect();
        for (section, judged) in (0..).zip(&self.truth.judged) {
            for judged in judged.iter().filter(|judged| judged.told) {
                let id = judged.answer.submission;
                let known = self.truth.is_participant(section, judged);
                let found = receipts.get(&(section, judged.stamp.position));
                let wanted = (known && !judged.resent).then_some(judged.first);
                if found.map(|receipt| receipt.map(|receipt| receipt.verdict)) != Some(wanted) {
                    ledger.violated("I13", format!("{id} is told {found:?}, the recount says {wanted:?}"));
                }
                let stands_in = judged.first == Verdict::Repeated && judged.verdict == Verdict::Counted;
                if stands_in != instead.remove(&(section, judged.stamp.position)) {
                    let found = if stands_in { "does not count" } else { "counts" };
                    ledger.violated("I13", format!("{id} {found} in the place of a late one"));
                }
                let question = judged.question.filter(|_| judged.first == Verdict::Counted);
                if judged.verdict == Verdict::Late
                    && let Some(question) = question
                {
                    wanted_overruled.push((judged.answer.participant, question as u16));
                }
            }
        }
        wanted_overruled.sort_unstable();
        if overruled != wanted_overruled {
            let detail = format!("overruled are {overruled:?}, the recount says {wanted_overruled:?}");
            ledger.violated("I13", detail);
        }
    }

    /// I1 and C17: an acknowledged answer is in the log, and if it was valid and in time, it or an earlier one counts.
    fn acknowledged(&self, ledger: &mut Ledger, is_cluster: bool) {
        for acked in ledger.acked.clone().iter().filter(|acked| acked.answer.quiz == *self.quiz()) {
            let HandIn { participant, submission, .. } = acked.answer;
            let section = participant.section(self.sections.len() as u16);
            let judged = &self.truth.judged[usize::from(section)];
            let Some(found) = judged.iter().find(|judged| is_it(judged, acked, is_cluster)) else {
                ledger.violated("I1", format!("{submission} was acknowledged and is not in the log"));
                continue;
            };
            let closes_at = self.truth.closes_at(&found.answer.question);
            let in_time = closes_at.is_none_or(|closes_at| found.at_ms <= closes_at);
            let sealed = self.truth.sealed(usize::from(section), found.place, &found.answer.question);
            if closes_at.is_some() && in_time && sealed {
                let (at, append) = (found.at_ms, found.stamp.append_at.0);
                let times = format!("scored at {at}, appended at {append}, closed at {closes_at:?}");
                ledger.violated("C17", format!("{submission} was acknowledged behind the Seal: {times}"));
            }
            if !self.truth.could_count(section, found) || !in_time {
                continue;
            }
            let counts = self.sections[usize::from(section)].participants().get(&participant);
            let question = found.question.map(|question| question as u16);
            let kept = counts.and_then(|p| {
                p.answers.iter().find(|answer| Some(answer.question) == question && !answer.late)
            });
            let earlier = kept.is_some_and(|kept| {
                let mut upto = judged.iter().filter(|judged| judged.place <= found.place);
                upto.any(|judged| {
                    judged.answer.submission == kept.submission && judged.answer.participant == participant
                })
            });
            if !earlier {
                let others = judged.iter().filter(|other| other.answer.participant == participant);
                let others: Vec<_> = others
                    .filter(|other| other.answer.question == found.answer.question)
                    .map(|other| {
                        (other.answer.submission, other.stamp, other.at_ms, other.first, other.verdict)
                    })
                    .collect();
                let closes_at = closes_at.unwrap_or_default();
                let detail =
                    format!("{submission} was acknowledged and in time for {closes_at} and does not count");
                ledger.violated("I1", format!("{detail}: {others:?}"));
            }
            if acked.answer.seen_open && found.first == Verdict::TooEarly {
                ledger.violated(
                    "I1",
                    format!("{submission} was too early although its question was seen open"),
                );
            }
        }
    }

    /// C17's other half: a view shows every decision that was appended before the time that it claims to be as of.
    fn ages(&self, ledger: &mut Ledger, slack_ms: u64) {
        let claims = ledger.claims.iter().filter(|((quiz, _), _)| quiz == self.quiz());
        let claims: Vec<(u64, u64)> = claims.map(|((_, number), as_of)| (*number, as_of.0)).collect();
        for (number, as_of) in claims {
            let before = |(at, _): &&(u64, _)| at + slack_ms < as_of;
            let decided = self.truth.commands.iter().filter(before).count() as u64;
            if number < decided {
                let detail = format!("a view as of {as_of} shows {number} decisions, there were {decided}");
                ledger.violated("age", format!("{}: {detail}", self.quiz()));
            }
        }
    }

    /// I3: nothing counts that nobody handed in.
    fn counted_were_handed_in(&self, ledger: &mut Ledger) {
        let mut counted: BTreeSet<SubmissionId> = BTreeSet::new();
        for (_, effect) in &self.effects {
            let Change::ScoreChanged(score) = &effect.change else { continue };
            let Some(receipt) = score.receipt.as_ref().filter(|r| r.verdict == Verdict::Counted) else {
                continue;
            };
            if !counted.insert(receipt.submission) {
                continue;
            }
            let same = |hand: &HandIn| {
                (&hand.quiz, hand.participant, hand.submission)
                    == (self.quiz(), score.participant, receipt.submission)
                    && (&hand.question, &hand.response) == (&receipt.question, &receipt.response)
            };
            if !ledger.handed_in.iter().any(same) {
                ledger.violated("I3", format!("{} counts and was never handed in", receipt.submission));
            }
        }
    }

    /// I16: from any stored state, the rest of the log leads to the same state as from none.
    fn replays(&self, disk: &Disk, ledger: &mut Ledger) {
        let last = |stage, section| {
            let unit = self.unit(stage, section);
            let stored = disk.unit(unit);
            (unit, stored.header.position.unwrap_or_default(), stored.rows)
        };
        let snapshots = || disk.snapshots.iter().map(|s| (s.unit, s.position, s.rows.clone()));
        for section in 0..self.sections.len() as u16 {
            let unit = self.unit(Stage::Grade, section);
            for (_, position, rows) in
                snapshots().filter(|s| s.0 == unit).chain([last(Stage::Grade, section)])
            {
                if let Err(error) = self.replay_section(section, position, &rows) {
                    ledger
                        .violated("I16", format!("{} section {section} at {position}: {error}", self.quiz()));
                }
            }
        }
        let unit = self.unit(Stage::Rank, 0);
        for (_, position, rows) in snapshots().filter(|s| s.0 == unit).chain([last(Stage::Rank, 0)]) {
            let replayed = restore(&self.rank, self.quiz(), &rows).map(|mut ranking| {
                let rest = self.effects.iter().filter(|(at, _)| *at > position);
                rest.for_each(|(_, effect)| {
                    ranking.apply(effect);
                });
                ranking
            });
            if replayed.as_ref() != Ok(&self.folded) {
                ledger.violated("I16", format!("{} ranking at {position} replays to another", self.quiz()));
            }
        }
    }

    fn replay_section(&self, section: u16, position: Position, rows: &Rows) -> Result<(), String> {
        let key = (self.quiz().clone(), section);
        let mut replayed = restore(&self.grade, &key, rows)?;
        for (_, stamp, event) in &self.truth.records[usize::from(section)] {
            if stamp.position > position {
                replayed.apply(event, *stamp, &mut Vec::new());
            }
        }
        replayed.take_touched();
        if replayed == self.sections[usize::from(section)] {
            Ok(())
        } else {
            Err("replays to another".into())
        }
    }

    fn count(&self, census: &mut Census) {
        for judged in self.truth.judged.iter().flatten() {
            census.answers.count(judged.verdict);
            census.overruled +=
                u64::from(judged.first == Verdict::Counted && judged.verdict == Verdict::Late);
            census.instead +=
                u64::from(judged.first == Verdict::Repeated && judged.verdict == Verdict::Counted);
        }
    }
}

/// Tells whether this record is the one that was acknowledged: where the gateway says, or else anywhere.
fn is_it(judged: &Judged, acked: &Acked, is_cluster: bool) -> bool {
    let same = judged.answer.submission == acked.answer.submission
        && judged.answer.participant == acked.answer.participant
        && judged.answer.response == acked.answer.response;
    let place: Option<(PartitionId, Stamp)> = acked.at;
    // The log of a cluster does not tell its writers when it took a record.
    let as_told = |stamp: Stamp| {
        if is_cluster { stamp.position == judged.stamp.position } else { stamp == judged.stamp }
    };
    same && place.is_none_or(|(partition, stamp)| partition == judged.partition && as_told(stamp))
}

/// Section, revision and ordinal of an effect.
type Identity = (u16, u64, u32);

fn overruled((_, effect): &(Position, Effect)) -> Option<(Identity, (ParticipantId, u16))> {
    if let Change::Overruled(overruled) = &effect.change {
        let identity = (effect.section, effect.revision, effect.ordinal);
        Some((identity, (overruled.participant, overruled.question)))
    } else {
        None
    }
}

fn instead((_, effect): &(Position, Effect)) -> Option<(u16, Position)> {
    if let Change::Overruled(overruled) = &effect.change {
        Some((effect.section, overruled.instead.as_ref()?.position))
    } else {
        None
    }
}

/// Returns a section folded from its records.
fn fold(truth: &Truth, section: u16) -> Section {
    let mut folded = Section::new(truth.quiz.clone(), section);
    for (_, stamp, event) in &truth.records[usize::from(section)] {
        folded.apply(event, *stamp, &mut Vec::new());
    }
    folded.take_touched();
    folded
}

fn restore<O: Operator>(operator: &O, key: &O::Key, rows: &Rows) -> Result<O::State, String> {
    let prefix = operator.prefix(key);
    let rows = rows.range(prefix.clone()..).take_while(|(row, _)| row.starts_with(&prefix));
    operator.restore(key, rows.map(|(row, value)| (row.clone(), value.clone())).collect())
}
