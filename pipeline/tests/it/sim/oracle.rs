//! The truth about a quiz, recomputed from the decoded log without any of the code under test.
//!
//! Every question is answered by searching the lists of records from their start, and the ranking is a sort. Points are
//! whole millionths.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ingest::codec::{self, Decoded};
use ingest::log::{StoredRecord, Stream};
use ingest::partition::PartitionId;
use operators::definition::{Kind, Pace, QuestionSource, Source, TieBreak};
use operators::effect::{Effect, Reason, Verdict};
use operators::event::{Answer, Command, Envelope, Event, Response, Scope, Stamp};
use operators::id::{CommandId, ParticipantId, Position, QuestionId, QuizId, UnixMillis};

use super::disk::Disk;

/// The longest delay that scoring believes, from the design.
const DELAY_MS: u64 = 5_000;

/// All records of a run, decoded once.
#[derive(Default)]
pub(super) struct Records {
    pub(super) submissions: Vec<(PartitionId, Stamp, Envelope)>,
    pub(super) standings: Vec<(StoredRecord, Effect)>,
    /// Where the records are that nobody can read.
    pub(super) poison: BTreeSet<Place>,
    /// Where the records were that are dead letters.
    pub(super) letters: BTreeSet<Place>,
}

/// Stream, partition and position.
pub(super) type Place = (String, PartitionId, Position);

impl Records {
    pub(super) fn new(disk: &Disk) -> Self {
        let mut records = Self::default();
        // Append times never go back, although the log's may: a record was appended with the latest time before it.
        let mut latest: BTreeMap<(Stream, PartitionId), UnixMillis> = BTreeMap::new();
        for (stream, partition, record) in disk.streams() {
            let append_at = latest.entry((stream, partition)).or_default();
            *append_at = record.stamp.append_at.max(*append_at);
            let stamp = Stamp { append_at: *append_at, ..record.stamp };
            let readable = match stream {
                Stream::Submissions => match codec::decode_submission(&record.payload) {
                    Ok(Decoded::Event(envelope)) => {
                        records.submissions.push((partition, stamp, envelope));
                        true
                    }
                    decoded => decoded.is_ok(),
                },
                Stream::Standings => match codec::decode_standings(&record.payload) {
                    Ok(Decoded::Event(effects)) => {
                        records.standings.extend(effects.into_iter().map(|effect| (record.clone(), effect)));
                        true
                    }
                    decoded => decoded.is_ok(),
                },
                Stream::Results => true,
                Stream::DeadLetters => {
                    let letter = codec::decode_dead_letter(&record.payload).expect("a dead letter");
                    records.letters.insert((letter.stream, letter.partition, letter.position))
                }
            };
            if !readable && stream != Stream::DeadLetters {
                records.poison.insert((stream.name().to_owned(), partition, record.stamp.position));
            }
        }
        records
    }
}

/// One quiz as its records tell it.
pub(super) struct Truth {
    pub(super) quiz: QuizId,
    /// Records by section.
    pub(super) records: Vec<Vec<(PartitionId, Stamp, Event)>>,
    /// Accepted commands with the append time of their record.
    pub(super) commands: Vec<(u64, Command)>,
    /// By section, how many commands it had carried out before each record, and at its end.
    carried_out: Vec<Vec<usize>>,
    /// By section, the judgement of every answer, in order.
    pub(super) judged: Vec<Vec<Judged>>,
}

/// The judgement of one answer record.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) place: usize,
    pub(super) partition: PartitionId,
    pub(super) stamp: Stamp,
    pub(super) answer: Answer,
    /// The judgement by what the section knew then.
    pub(super) first: Verdict,
    /// The judgement in the end: late, if a close that came before it reached the section only after it, and counted,
    /// if it stands in for such a one.
    pub(super) verdict: Verdict,
    /// Nothing but another answer kept it from counting, by what the section knew then.
    candidate: bool,
    /// Its submission counted before.
    pub(super) resent: bool,
    /// Somebody had published the quiz.
    pub(super) told: bool,
    /// Place of its question.
    pub(super) question: Option<usize>,
    pub(super) at_ms: u64,
    pub(super) millionths: i128,
    pub(super) right: bool,
    pub(super) taken_ms: u64,
}

/// One row of the ranking.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) rank: u64,
    pub(super) participant: ParticipantId,
    pub(super) name: String,
    pub(super) millionths: i128,
    pub(super) right: u32,
    pub(super) time_ms: u64,
    pub(super) last_ms: u64,
}

impl Truth {
    pub(super) fn new(all: &Records, quiz: &QuizId, sections: u16) -> Self {
        let mut records = vec![Vec::new(); usize::from(sections)];
        for (partition, stamp, envelope) in all.submissions.iter().filter(|(_, _, e)| e.quiz == *quiz) {
            records[usize::from(envelope.section)].push((*partition, *stamp, envelope.event.clone()));
        }
        let judged = vec![Vec::new(); records.len()];
        let mut truth =
            Self { quiz: quiz.clone(), records, commands: Vec::new(), carried_out: Vec::new(), judged };
        let zero = truth.decide();
        truth.carried_out.push(zero);
        for section in 1..truth.records.len() {
            truth.carried_out.push(truth.count_copies(section));
        }
        for section in 0..truth.records.len() {
            for place in 0..truth.records[section].len() {
                let (partition, stamp, event) = truth.records[section][place].clone();
                if let Event::Answer(answer) = event {
                    let judged = truth.judge(section, place, partition, stamp, answer);
                    truth.judged[section].push(judged);
                }
            }
            truth.settle(section);
        }
        truth
    }

    /// Decides on section 0's commands; returns how many were carried out before each record.
    fn decide(&mut self) -> Vec<usize> {
        let mut known: Vec<CommandId> = Vec::new();
        let mut counts = Vec::new();
        for (_, stamp, event) in &self.records[0] {
            counts.push(self.commands.len());
            let Event::Command { id, command, .. } = event else { continue };
            if known.contains(id) {
                continue;
            }
            known.push(id.clone());
            if is_accepted(&self.commands, command, stamp.append_at.0) {
                self.commands.push((stamp.append_at.0, command.clone()));
            }
        }
        counts.push(self.commands.len());
        counts
    }

    /// Returns up to which number a section had all copies before each record.
    fn count_copies(&self, section: usize) -> Vec<usize> {
        let mut seen: Vec<u64> = Vec::new();
        let mut counts = vec![0];
        for (_, _, event) in &self.records[section] {
            if let Event::Copy { number, .. } = event {
                seen.push(*number);
            }
            counts.push((1..).take_while(|number| seen.contains(number)).count());
        }
        counts
    }

    /// Returns the commands that a section has carried out before the record at `place`.
    fn known(&self, section: usize, place: usize) -> &[(u64, Command)] {
        // A planted bug may copy more than was accepted.
        &self.commands[..self.carried_out[section][place].min(self.commands.len())]
    }

    /// Returns the name under which somebody was in the quiz before the record at `place`.
    fn joined(&self, section: usize, place: usize, who: ParticipantId) -> Option<&str> {
        let mut name = None;
        for (before, (_, _, event)) in self.records[section][..place].iter().enumerate() {
            let Event::Join { participant, name: called } = event else { continue };
            let known = self.known(section, before);
            if *participant == who && source(known).is_some() && closed_at(known).is_none() {
                name = Some(called.as_str());
            }
        }
        name
    }

    /// Tells whether a Seal for this question, which was due, is before the record at `place`.
    pub(super) fn sealed(&self, section: usize, place: usize, question: &QuestionId) -> bool {
        self.records[section][..place].iter().enumerate().any(|(before, (_, stamp, event))| {
            let Event::Seal { scope } = event else { return false };
            let known = self.known(section, before);
            let due = match scope {
                Scope::Quiz => closed_at(known),
                Scope::Question(id) if id == question => {
                    window(known, question).and_then(|(_, closes)| closes)
                }
                Scope::Question(_) => None,
            };
            due.is_some_and(|at| at <= stamp.append_at.0)
        })
    }

    /// Returns when a question closes, all commands considered.
    pub(super) fn closes_at(&self, question: &QuestionId) -> Option<u64> {
        window(&self.commands, question).and_then(|(_, closes)| closes)
    }

    /// Returns the answer that has used up a question of a participant before `place`, and whether it is known to be
    /// late by then: the first that was in time, or failing that the first.
    fn used_up_by(&self, section: usize, place: usize, answer: &Answer) -> Option<(&Judged, bool)> {
        let (_, closes_at) = window(self.known(section, place), &answer.question).unwrap_or_default();
        let is_late = |judged: &Judged| closes_at.is_some_and(|closes_at| judged.at_ms > closes_at);
        let same = |a: &Answer| (a.participant, &a.question) == (answer.participant, &answer.question);
        let all = self.judged[section].iter().filter(|j| j.candidate && j.place < place && same(&j.answer));
        let all: Vec<&Judged> = all.collect();
        let found = all.iter().find(|judged| !is_late(judged)).or(all.first())?;
        Some((found, is_late(found)))
    }

    /// Settles what counts in the end, by all that the section got to know.
    fn settle(&mut self, section: usize) {
        let end = self.records[section].len();
        for index in 0..self.judged[section].len() {
            let judged = &self.judged[section][index];
            let found = self.used_up_by(section, end, &judged.answer);
            let counts = found.is_some_and(|(found, late)| found.place == judged.place && !late);
            let judged = &mut self.judged[section][index];
            if counts {
                judged.verdict = Verdict::Counted;
            } else if judged.first == Verdict::Counted {
                judged.verdict = Verdict::Late;
            }
            if judged.verdict != Verdict::Counted {
                (judged.right, judged.millionths) = (false, 0);
            }
        }
    }

    fn judge(
        &self,
        section: usize,
        place: usize,
        partition: PartitionId,
        stamp: Stamp,
        answer: Answer,
    ) -> Judged {
        let known = self.known(section, place);
        let (append, received) = (stamp.append_at.0, answer.received_at.0);
        let at_ms = received.max(append.saturating_sub(DELAY_MS)).min(append);
        let source = source(known);
        let number = source.and_then(|s| s.questions.iter().position(|q| q.id == answer.question));
        let asked = source.and_then(|s| Some(&s.questions[number?]));
        let window = window(known, &answer.question);
        let timing = match window {
            None if closed_at(known).is_some() => Verdict::Late,
            None => Verdict::TooEarly,
            Some((_, Some(closes_at))) if at_ms > closes_at => Verdict::Late,
            Some(_) if self.sealed(section, place, &answer.question) => Verdict::Late,
            Some(_) => Verdict::Counted,
        };
        let of_submission = self.judged[section].iter().filter(|j| {
            j.answer.participant == answer.participant && j.answer.submission == answer.submission
        });
        // Did this very submission use up a question, this one or another?
        let mut before = of_submission.filter(|judged| judged.candidate);
        let before = before.find(|judged| {
            let found = self.used_up_by(section, place, &judged.answer);
            found.is_some_and(|(found, _)| found.place == judged.place)
        });
        let elsewhere = before.is_some_and(|before| before.answer.question != answer.question);
        let mut resent = before.is_some();
        let mut candidate = false;
        let first = match (source, asked) {
            (None, _) => Verdict::Rejected(Reason::UnknownQuiz),
            _ if elsewhere => Verdict::Repeated,
            (_, None) => Verdict::Rejected(Reason::UnknownQuestion),
            _ if self.joined(section, place, answer.participant).is_none() => {
                Verdict::Rejected(Reason::NotParticipant)
            }
            (_, Some(asked)) if !fits(asked, &answer.response) => {
                if resent {
                    Verdict::Repeated
                } else {
                    Verdict::Rejected(Reason::WrongShape)
                }
            }
            _ => {
                candidate = timing == Verdict::Counted;
                match self.used_up_by(section, place, &answer) {
                    Some((_, late)) if !late || !candidate => Verdict::Repeated,
                    _ => {
                        resent = false;
                        timing
                    }
                }
            }
        };
        let asked = asked.filter(|_| candidate);
        let taken_ms = window.map_or(0, |(opened_at, _)| at_ms.saturating_sub(opened_at));
        let right = asked.is_some_and(|asked| is_right(asked, &answer.response));
        let millionths = asked.filter(|_| right).map_or(0, |asked| worth(asked, taken_ms));
        Judged {
            place,
            partition,
            stamp,
            told: source.is_some(),
            answer,
            first,
            verdict: first,
            candidate,
            resent,
            // Booked under no question while there may still be others.
            question: number.filter(|_| at_of(known, &Command::Open).is_some()),
            at_ms,
            millionths,
            right,
            taken_ms,
        }
    }

    /// Tells whether whoever handed this in was in the quiz by then.
    pub(super) fn is_participant(&self, section: u16, judged: &Judged) -> bool {
        self.joined(usize::from(section), judged.place, judged.answer.participant).is_some()
    }

    /// Tells whether this is an answer to an open question, by a participant: only time can keep it from counting.
    pub(super) fn could_count(&self, section: u16, judged: &Judged) -> bool {
        let known = self.known(usize::from(section), judged.place);
        let asked = source(known).and_then(|source| Some(&source.questions[judged.question?]));
        let fits = asked.is_some_and(|asked| fits(asked, &judged.answer.response));
        fits && self.is_participant(section, judged) && window(known, &judged.answer.question).is_some()
    }

    /// Returns everybody's row, best first.
    pub(super) fn board(&self) -> Vec<Row> {
        let mut everybody: Vec<ParticipantId> = Vec::new();
        for (section, records) in self.records.iter().enumerate() {
            for (_, _, event) in records {
                let Event::Join { participant, .. } = event else { continue };
                let joined = self.joined(section, records.len(), *participant).is_some();
                if joined && !everybody.contains(participant) {
                    everybody.push(*participant);
                }
            }
        }
        let ties = source(&self.commands).map_or(Vec::new(), |source| source.ranking.ties.clone());
        let better = |a: &Row, b: &Row| {
            let by = |tie: &TieBreak| match tie {
                TieBreak::Correct => b.right.cmp(&a.right),
                TieBreak::Time => a.time_ms.cmp(&b.time_ms),
                TieBreak::LastCorrect => a.last_ms.cmp(&b.last_ms),
            };
            ties.iter().map(by).fold(b.millionths.cmp(&a.millionths), Ordering::then)
        };
        let unranked: Vec<Row> = everybody.iter().map(|who| self.row(*who)).collect();
        let rank = |row: &Row| 1 + unranked.iter().filter(|other| better(other, row).is_lt()).count() as u64;
        let mut rows: Vec<Row> = unranked.iter().map(|row| Row { rank: rank(row), ..row.clone() }).collect();
        rows.sort_by_key(|row| (row.rank, row.participant));
        rows
    }

    fn row(&self, participant: ParticipantId) -> Row {
        let section = usize::from(participant.section(self.records.len() as u16));
        let counted = self.judged[section].iter().filter(|j| j.verdict == Verdict::Counted);
        let counted: Vec<&Judged> = counted.filter(|j| j.answer.participant == participant).collect();
        let right = || counted.iter().filter(|j| j.right);
        Row {
            rank: 0,
            participant,
            name: self
                .joined(section, self.records[section].len(), participant)
                .unwrap_or_default()
                .to_owned(),
            millionths: counted.iter().map(|j| j.millionths).sum(),
            right: right().count() as u32,
            time_ms: right().map(|j| j.taken_ms).sum(),
            last_ms: right().map(|j| j.at_ms).max().unwrap_or(0),
        }
    }
}

fn source(known: &[(u64, Command)]) -> Option<&Source> {
    known.iter().rev().find_map(|(_, command)| {
        if let Command::Publish { definition, .. } = command { Some(definition.source()) } else { None }
    })
}

fn at_of(known: &[(u64, Command)], wanted: &Command) -> Option<u64> {
    known.iter().find(|(_, command)| command == wanted).map(|(at, _)| *at)
}

fn closed_at(known: &[(u64, Command)]) -> Option<u64> {
    at_of(known, &Command::Close)
}

/// Returns when a question takes answers: from when, and until when if that is known.
fn window(known: &[(u64, Command)], question: &QuestionId) -> Option<(u64, Option<u64>)> {
    let source = source(known)?;
    let asked = source.questions.iter().find(|q| q.id == *question)?;
    if source.pace == Pace::Free {
        return Some((at_of(known, &Command::Open)?, closed_at(known)));
    }
    let opened_at = at_of(known, &Command::OpenQuestion(question.clone()))?;
    let limit = asked.time_limit_ms.map(|ms| opened_at + ms);
    let ends = [limit, at_of(known, &Command::CloseQuestion(question.clone())), closed_at(known)];
    Some((opened_at, ends.into_iter().flatten().min()))
}

fn is_accepted(known: &[(u64, Command)], command: &Command, now: u64) -> bool {
    let versions =
        known.iter().filter(|(_, command)| matches!(command, Command::Publish { .. })).count() as u64;
    let opened = at_of(known, &Command::Open).is_some();
    if let Command::Publish { definition, if_version } = command {
        let same = source(known).is_some_and(|current| current == definition.source());
        let sections = source(known).is_none_or(|current| current.sections == definition.source().sections);
        return if_version.is_none_or(|wanted| wanted == versions) && !same && sections && !opened;
    }
    let Some(source) = source(known).filter(|_| closed_at(known).is_none()) else { return false };
    if *command == Command::Open {
        return !opened;
    }
    let takes = |id: &QuestionId| {
        window(known, id).is_some_and(|(_, closes_at)| closes_at.is_none_or(|closes_at| closes_at > now))
    };
    let hosted = source.pace == Pace::Host;
    if let Command::OpenQuestion(id) = command {
        let asked = source.questions.iter().any(|q| q.id == *id);
        let free = !source.questions.iter().any(|q| takes(&q.id));
        return opened && hosted && asked && window(known, id).is_none() && free;
    }
    if let Command::CloseQuestion(id) = command {
        return opened && hosted && takes(id);
    }
    opened
}

fn fits(question: &QuestionSource, response: &Response) -> bool {
    match response {
        Response::Choice(id) => {
            question.kind == Kind::SingleChoice
                && question.choices.iter().any(|choice| choice.id.as_str() == id)
        }
        Response::Value(_) => question.kind == Kind::Numeric,
        // No quiz of the simulation has the other kinds of questions.
        Response::Choices(_) | Response::Text(_) => false,
    }
}

fn is_right(question: &QuestionSource, response: &Response) -> bool {
    if let Response::Choice(id) = response {
        return question.key.choice.as_ref().is_some_and(|right| right.as_str() == id);
    }
    let Response::Value(value) = response else { return false };
    let (Some(middle), Some(tolerance)) = (question.key.value, question.key.tolerance) else { return false };
    (millionths(*value) - millionths(middle)).abs() <= millionths(tolerance)
}

/// `round((1 - (t / T) / 2) * P)`, half up, in whole numbers; everything under half a second, or without a clock.
fn worth(question: &QuestionSource, taken_ms: u64) -> i128 {
    let points = millionths(question.points);
    if question.award.name() != "kahoot@1" {
        return points;
    }
    let (numerator, denominator) = match question.time_limit_ms {
        Some(limit) if taken_ms >= 500 => {
            let (taken, limit) = (i128::from(taken_ms), i128::from(limit));
            (points * (2 * limit - taken.min(limit)), 2 * limit * 1_000_000)
        }
        Some(_) | None => (points, 1_000_000),
    };
    (2 * numerator + denominator) / (2 * denominator) * 1_000_000
}

/// Returns a decimal in millionths, from its digits.
pub(super) fn millionths(value: rust_decimal::Decimal) -> i128 {
    assert!(value.scale() <= 6, "{value} has more than six decimals");
    value.mantissa() * 10i128.pow(6 - value.scale())
}
