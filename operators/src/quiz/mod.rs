//! One section of one quiz: a fold of commands, joins and answers into verdicts, points and standings.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;

use crate::definition::{Definition, Pace, Picked};
use crate::effect::{
    Change, Effect, Output, Phase, Receipt, ScoreChanged, Slot, Standing, Tally, Verdict, Window,
};
use crate::event::{Answer, Command, Event, Response, Scope, Stamp};
use crate::id::{ParticipantId, ParticipantMap, Position, QuizId, SubmissionId, UnixMillis};
use crate::limits;
use crate::policies::Fraction;
use crate::policies::award::Clock;

mod command;
mod desk;
mod judge;
mod overrule;
#[cfg(test)]
mod tests;

pub use desk::Desk;
use judge::Judgement;
pub use judge::scoring_time;

/// The state of one section: a pure function of the records of that section, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    quiz: QuizId,
    section: u16,
    header: Header,
    definition: Option<Arc<Definition>>,
    desk: Desk,
    tallies: BTreeMap<u16, Tally>,
    participants: ParticipantMap<Participant>,
    standbys: Standbys,
    touched: Touched,
}

/// Answers that count if the one before them is overruled, by participant and question, each received before those
/// ahead of it. Few ever are, so participants hold no place for them.
pub type Standbys = BTreeMap<(ParticipantId, u16), Vec<Standby>>;

/// The small part of a section's state, which changes with every record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Header {
    /// Records of this section applied.
    pub revision: u64,
    /// Number of the last command applied.
    pub number: u64,
    /// Version of the definition.
    pub version: u64,
    /// Where the quiz is in its life.
    pub phase: Phase,
    /// When the quiz opened.
    pub opened_at: Option<UnixMillis>,
    /// When the quiz closed.
    pub closed_at: Option<UnixMillis>,
    /// No answer to anything counts any more.
    pub sealed: bool,
    /// Questions that were opened, in order; empty in a free-paced quiz.
    pub windows: Vec<SectionWindow>,
    /// Commands that arrived before an earlier one.
    pub held: BTreeMap<u64, (UnixMillis, Command)>,
    /// Books of answers to no known question.
    pub unknown: Tally,
    /// Sum of all points awarded here.
    pub awarded: Decimal,
    /// Sections that the quiz had when it was forgotten, since their number is fixed; 0: it never was.
    pub sections: u16,
}

/// A window with what this section knows of its Seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionWindow {
    /// When the question takes answers.
    pub window: Window,
    /// No answer to it counts any more.
    pub sealed: bool,
}

/// One participant of the section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Participant {
    /// The figures that rank.
    pub standing: Standing,
    /// Unscored answers so far; the newest receipts of them are kept by readers.
    pub unscored: u32,
    /// Counted answers in the order of their arrival, at most one per question.
    pub answers: Vec<Counted>,
}

/// A valid answer behind a counted one that it was received before: a retry overtook it. Should the counted one turn
/// out to be late, this one may have been in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Standby {
    /// The submission.
    pub submission: SubmissionId,
    /// What was handed in.
    pub response: Response,
    /// Its scoring time.
    pub at: UnixMillis,
    /// When the gateway had the whole request.
    pub received_at: UnixMillis,
    /// Where the record is.
    pub position: Position,
}

/// A counted answer, kept so that it is found again when repeated and can be graded again.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The submission that counts.
    pub submission: SubmissionId,
    /// What was picked.
    pub picked: Picked,
    /// Its scoring time.
    pub at: UnixMillis,
    /// Index of the question.
    pub question: u16,
    /// It turned out to be late: it is worth nothing, and another that was in time may take its place.
    pub late: bool,
}

/// What changed since [`Section::take_touched`] was last called: what storage has to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Everything was forgotten; what else is named here came after that.
    pub forgotten: bool,
    /// The header changed.
    pub header: bool,
    /// The definition or the desk changed.
    pub desk: bool,
    /// Questions whose books changed.
    pub questions: Vec<u16>,
    /// Participants, by index, that joined or whose standing changed.
    pub participants: Vec<u32>,
    /// Counted answers, with their standbys, by participant index and place among that participant's answers.
    pub answers: Vec<(u32, u32)>,
}

impl Section {
    /// Returns the state before the first record.
    pub fn new(quiz: QuizId, section: u16) -> Self {
        Self {
            quiz,
            section,
            header: Header::default(),
            definition: None,
            desk: Desk::default(),
            tallies: BTreeMap::new(),
            participants: ParticipantMap::default(),
            standbys: Standbys::new(),
            touched: Touched::default(),
        }
    }

    /// Returns the state put together from stored parts.
    pub fn restore(
        quiz: QuizId,
        section: u16,
        header: Header,
        definition: Option<Arc<Definition>>,
        desk: Desk,
        tallies: BTreeMap<u16, Tally>,
        participants: ParticipantMap<Participant>,
    ) -> Self {
        Self { header, definition, desk, tallies, participants, ..Self::new(quiz, section) }
    }

    /// Returns the state with these standbys, as part of [`Section::restore`].
    #[must_use]
    pub fn with_standbys(self, standbys: Standbys) -> Self {
        Self { standbys, ..self }
    }

    /// Returns the quiz.
    pub fn quiz(&self) -> &QuizId {
        &self.quiz
    }
    /// Returns the section's number.
    pub fn section(&self) -> u16 {
        self.section
    }
    /// Returns the small part of the state.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// Returns the definition in force.
    pub fn definition(&self) -> Option<&Arc<Definition>> {
        self.definition.as_ref()
    }
    /// Returns what section 0 remembers of commands.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }
    /// Returns the books of one question.
    pub fn tally(&self, question: u16) -> Tally {
        self.tallies.get(&question).copied().unwrap_or_default()
    }
    /// Returns the participants in the order of joining.
    pub fn participants(&self) -> &ParticipantMap<Participant> {
        &self.participants
    }
    /// Returns the answers that count if a participant's answer to a question is overruled.
    pub fn standbys(&self, participant: ParticipantId, question: u16) -> &[Standby] {
        self.standbys.get(&(participant, question)).map_or(&[], Vec::as_slice)
    }
    /// Returns what changed since the last call.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Applies one record and pushes what it wants told outside. Total: every record of this section is taken.
    pub fn apply(&mut self, event: &Event, stamp: Stamp, outputs: &mut Vec<Output>) {
        self.header.revision += 1;
        self.touched.header = true;
        let mut ordinal = 0;
        match event {
            Event::Answer(answer) => self.answer(answer, stamp, outputs),
            Event::Join { participant, name } => self.join(*participant, name, stamp, outputs),
            Event::Command { id, content, command } => {
                self.command((id, *content, command), stamp, &mut ordinal, outputs);
            }
            Event::Copy { number, at, command } => self.copy(*number, *at, command, stamp, outputs),
            Event::Seal { scope } => self.seal(scope, stamp, outputs),
            Event::Expire { version, due } => self.expire(*version, *due, stamp, outputs),
        }
    }

    fn effect(&self, ordinal: u32, stamp: Stamp, change: Change) -> Output {
        Output::Standings(Effect {
            quiz: self.quiz.clone(),
            section: self.section,
            revision: self.header.revision,
            ordinal,
            position: stamp.position,
            change,
        })
    }

    fn join(&mut self, participant: ParticipantId, name: &str, stamp: Stamp, outputs: &mut Vec<Output>) {
        let open = self.definition.is_some() && self.header.phase != Phase::Closed;
        let known = self.participants.contains_key(&participant);
        if !open || (!known && self.participants.len() >= limits::PARTICIPANTS_MAX) {
            return;
        }
        if !known {
            let (index, _) = self.participants.insert_full(participant, Participant::default());
            self.touched.participants.push(index as u32);
        }
        let name = name.chars().take(limits::NAME_CHARS_MAX).collect();
        outputs.push(self.effect(0, stamp, Change::Joined { participant, name }));
    }

    fn answer(&mut self, answer: &Answer, stamp: Stamp, outputs: &mut Vec<Output>) {
        let Judgement { verdict, question, counted, standby, resent } = self.judge(answer, stamp);
        // In a draft the questions may still be others: what is handed in belongs to none of them yet.
        let question = question.filter(|_| self.header.phase != Phase::Draft);
        let tally = match question {
            Some(index) => {
                self.touched.questions.push(index);
                self.tallies.entry(index).or_default()
            }
            None => &mut self.header.unknown,
        };
        tally.count(verdict);
        let tally = *tally;
        if self.definition.is_none() {
            return;
        }
        let mut receipt = Receipt {
            submission: answer.submission,
            question: answer.question.clone(),
            response: answer.response.clone(),
            verdict,
            fraction: None,
            points: Decimal::ZERO,
            received_at: answer.received_at,
            taken_ms: None,
            position: stamp.position,
            revision: self.header.revision,
            slot: Slot::Recent(0),
        };
        if let Some(counted) = counted {
            self.count(answer.participant, counted, &mut receipt);
        }
        if let Some(standby) = standby {
            self.stand_by((answer.participant, question.unwrap_or_default()), standby);
        }
        let mut standing = None;
        if let Some((index, _, participant)) = self.participants.get_full_mut(&answer.participant) {
            if verdict != Verdict::Counted && !resent {
                receipt.slot = Slot::Recent((participant.unscored % limits::RECENT_RECEIPTS_MAX) as u8);
                participant.unscored = participant.unscored.wrapping_add(1);
            }
            self.touched.participants.push(index as u32);
            standing = Some(participant.standing);
        }
        let receipt = (standing.is_some() && !resent).then_some(receipt);
        let awarded = self.header.awarded;
        let participant = answer.participant;
        let change = ScoreChanged { participant, standing, receipt, tally, question, awarded };
        outputs.push(self.effect(0, stamp, Change::ScoreChanged(Box::new(change))));
    }

    /// Returns the part that an answer got right, the milliseconds it took and the points that it is worth.
    fn grade(&self, counted: &Counted) -> Option<(Fraction, u64, Decimal)> {
        let question = self.definition.as_ref()?.questions.get(usize::from(counted.question))?;
        let opened_at = self.window(counted.question).map_or(counted.at, |window| window.opened_at);
        let taken_ms = counted.at.since(opened_at);
        let fraction = question.grading.grade(&question.key, &counted.picked);
        let clock = Clock { taken_ms, limit_ms: question.time_limit_ms };
        Some((fraction, taken_ms, question.award.award(fraction, question.points, clock)))
    }

    /// Grades a counted answer into the participant's standing and the receipt.
    fn count(&mut self, participant: ParticipantId, counted: Counted, receipt: &mut Receipt) {
        let Some((fraction, taken_ms, points)) = self.grade(&counted) else { return };
        let Some((index, _, participant)) = self.participants.get_full_mut(&participant) else { return };
        participant.standing.add(fraction, taken_ms, points, counted.at);
        self.header.awarded = self.header.awarded.saturating_add(points).normalize();
        receipt.fraction = Some(fraction);
        receipt.points = points;
        receipt.taken_ms = Some(taken_ms);
        if let Some(place) = participant.answers.iter().position(|a| a.question == counted.question) {
            // The one that was here was overruled; its receipt stays what readers have of it.
            receipt.slot = Slot::Instead(counted.question);
            self.touched.answers.push((index as u32, place as u32));
            participant.answers[place] = counted;
            return;
        }
        receipt.slot = Slot::Question(counted.question);
        if participant.answers.len() == participant.answers.capacity() {
            // Doubling would leave half of a million small lists empty; an eighth at a time keeps them dense.
            let more = 1 + participant.answers.len() / 8;
            participant.answers.reserve_exact(more);
        }
        self.touched.answers.push((index as u32, participant.answers.len() as u32));
        participant.answers.push(counted);
    }

    /// Returns when a question takes answers, if it was opened.
    pub fn window(&self, question: u16) -> Option<Window> {
        let definition = self.definition.as_ref()?;
        match definition.source().pace {
            Pace::Host => self.section_window(question).map(|w| w.window),
            Pace::Free => {
                let opened_at = self.header.opened_at?;
                Some(Window { question, opened_at, closes_at: self.header.closed_at })
            }
        }
    }

    fn section_window(&self, question: u16) -> Option<&SectionWindow> {
        self.header.windows.iter().find(|w| w.window.question == question)
    }

    /// Returns the closing times whose Seal is not in the log yet, with what to seal; a runner appends each a grace
    /// after its time.
    pub fn unsealed(&self) -> Vec<(UnixMillis, Scope)> {
        if self.header.sealed {
            return Vec::new();
        }
        if let Some(closed_at) = self.header.closed_at {
            return vec![(closed_at, Scope::Quiz)];
        }
        let Some(definition) = &self.definition else { return Vec::new() };
        let open = self.header.windows.iter().filter(|w| !w.sealed);
        open.filter_map(|w| {
            let id = definition.questions.get(usize::from(w.window.question))?.id.clone();
            Some((w.window.closes_at?, Scope::Question(id)))
        })
        .collect()
    }

    fn seal(&mut self, scope: &Scope, stamp: Stamp, outputs: &mut Vec<Output>) {
        let fresh = match scope {
            Scope::Quiz => {
                let due = self.header.closed_at.is_some_and(|at| at <= stamp.append_at);
                due && !std::mem::replace(&mut self.header.sealed, true)
            }
            Scope::Question(id) => {
                let Some(index) = self.definition.as_ref().and_then(|d| d.index_of(id)) else { return };
                let found = self.header.windows.iter_mut().find(|w| w.window.question == index);
                let Some(window) = found else { return };
                let due = window.window.closes_at.is_some_and(|at| at <= stamp.append_at);
                due && !std::mem::replace(&mut window.sealed, true)
            }
        };
        if fresh {
            if *scope == Scope::Quiz {
                self.dismiss();
            }
            outputs.push(self.effect(0, stamp, Change::Sealed { scope: scope.clone() }));
        }
    }
}
