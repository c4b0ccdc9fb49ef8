//! The ranking of one quiz: a fold of the effects of its sections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::definition::{Definition, RankingRule, TieBreak};
use crate::effect::{
    Change, Effect, Overruled, Phase, QuizChanged, QuizStatus, Receipt, ScoreChanged, Standing, Tally,
};
use crate::event::{CommandOutcome, Decided, Scope};
use crate::id::{CommandId, ParticipantId, ParticipantMap, Position, QuizId};
use crate::quiz::Desk;

pub mod order;
mod patch;
mod read;
#[cfg(test)]
mod tests;

use order::{Key, Order};
pub use patch::{Gap, Parts};
pub use read::{Cursor, Row};

/// The ranking of one quiz, with everything else that readers of the quiz may ask for.
#[derive(Debug, Clone)]
pub struct Ranking {
    quiz: QuizId,
    header: Header,
    board: Board,
    sections: BTreeMap<u16, Mark>,
    members: ParticipantMap<Member>,
    order: Order,
    touched: Touched,
}

/// The small part of a ranking's state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Changes of the ranking that took effect.
    pub revision: u64,
    /// Changes that took effect, of the ranking or of the quiz: the sequence of the live feed.
    pub feed: u64,
    /// How often the quiz was forgotten: a copy from before that has nothing in common with it.
    pub forgotten: u64,
}

/// The quiz itself as readers see it; changes with host commands only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Board {
    /// The definition in force.
    pub definition: Option<Arc<Definition>>,
    /// The newest status that every section has reached.
    pub status: QuizStatus,
    /// Decisions that some section has not reached yet, by number.
    pub pending: BTreeMap<u64, (QuizStatus, Option<Arc<Definition>>)>,
    /// The newest decisions on commands.
    pub desk: Desk,
}

/// What the ranking has of one section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// The last effect taken: revision and ordinal. Effects of a section arrive in order, repeated but never skipped,
    /// so this one mark tells every repeat.
    pub newest: Option<(u64, u32)>,
    /// Position in `submissions` of the record that made it.
    pub position: Position,
    /// Number of the last command that the section applied.
    pub number: u64,
    /// Books by question; `None` holds answers to unknown questions.
    pub tallies: BTreeMap<Option<u16>, Tally>,
    /// Sum of the points that the section awarded.
    pub awarded: Decimal,
    /// Questions that take no more answers.
    pub sealed: BTreeSet<u16>,
    /// The whole section takes no more answers.
    pub closed: bool,
}

/// One row of the ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As shown.
    pub name: Box<str>,
    /// The figures that rank.
    pub standing: Standing,
}

/// What changed since [`Ranking::take_touched`] was last called: what storage has to write.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Touched {
    /// Everything was forgotten, receipts included; what else is named here came after that.
    pub forgotten: bool,
    /// The header changed.
    pub header: bool,
    /// The board changed.
    pub board: bool,
    /// Sections whose mark changed, with the question whose books changed.
    pub books: BTreeSet<(u16, Option<u16>)>,
    /// Sections whose mark changed in any way.
    pub marks: BTreeSet<u16>,
    /// Members, by index, that are new or changed.
    pub members: Vec<u32>,
    /// Some of them are new.
    pub joined: bool,
    /// Receipts, which readers keep and the ranking does not.
    pub receipts: Vec<(ParticipantId, Receipt)>,
    /// Counted answers, by question, whose receipts are late from here on.
    pub overruled: Vec<(ParticipantId, u16)>,
}

/// The whole quiz in figures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// All answers.
    pub total: Tally,
    /// Answers by index of the question; `None` holds those to unknown questions.
    pub questions: BTreeMap<Option<u16>, Tally>,
    /// Sum of the points that all sections awarded.
    pub points_awarded: Decimal,
    /// Sum of the points of all members, counted separately.
    pub points_ranked: Decimal,
}

impl Ranking {
    /// Returns the state before the first effect.
    pub fn new(quiz: QuizId) -> Self {
        Self::restore(quiz, Header::default(), Board::default(), BTreeMap::new(), ParticipantMap::default())
    }

    /// Returns the state put together from stored parts; `members` in the order of their indexes.
    pub fn restore(
        quiz: QuizId,
        header: Header,
        board: Board,
        sections: BTreeMap<u16, Mark>,
        members: ParticipantMap<Member>,
    ) -> Self {
        let mut ranking =
            Self { quiz, header, board, sections, members, order: Order::new(), touched: Touched::default() };
        ranking.sort();
        ranking
    }

    /// Returns the quiz.
    pub fn quiz(&self) -> &QuizId {
        &self.quiz
    }
    /// Returns the small part of the state.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// Returns the quiz as readers see it.
    pub fn board(&self) -> &Board {
        &self.board
    }
    /// Returns what is known of each section.
    pub fn sections(&self) -> &BTreeMap<u16, Mark> {
        &self.sections
    }
    /// Returns the members in the order of joining.
    pub fn members(&self) -> &ParticipantMap<Member> {
        &self.members
    }
    /// Returns the rule in force.
    pub fn rule(&self) -> RankingRule {
        self.board.definition.as_ref().map(|d| d.source().ranking.clone()).unwrap_or_default()
    }
    /// Returns what changed since the last call.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Returns what became of a command, once every section has carried it out.
    pub fn decided(&self, id: &CommandId) -> Option<&Decided> {
        let decided = self.board.desk.find(id)?;
        match decided.outcome {
            CommandOutcome::Accepted { number, .. } if number > self.board.status.number => None,
            CommandOutcome::Unchanged { version } if version > self.board.status.version => None,
            CommandOutcome::Accepted { .. }
            | CommandOutcome::Unchanged { .. }
            | CommandOutcome::Refused(_) => Some(decided),
        }
    }

    /// Tells whether no answer counts any more in any section.
    pub fn is_final(&self) -> bool {
        let sections = self.section_count();
        (0..sections).all(|section| self.sections.get(&section).is_some_and(|mark| mark.closed))
    }

    /// Tells whether no answer to this question counts any more in any section.
    pub fn is_sealed(&self, question: u16) -> bool {
        let sealed = |mark: &Mark| mark.closed || mark.sealed.contains(&question);
        (0..self.section_count()).all(|section| self.sections.get(&section).is_some_and(sealed))
    }

    fn section_count(&self) -> u16 {
        self.newest_definition().map_or(1, |d| d.source().sections)
    }

    /// Returns the last definition that section 0 accepted. Faster sections go by it before a slower one lets it be
    /// published; while the quiz is open no other follows.
    fn newest_definition(&self) -> Option<&Arc<Definition>> {
        let pending = self.board.pending.values().rev().find_map(|(_, definition)| definition.as_ref());
        pending.or(self.board.definition.as_ref())
    }

    /// Returns the books, summed over sections.
    pub fn books(&self) -> Books {
        let mut books = Books::default();
        for mark in self.sections.values() {
            for (question, tally) in &mark.tallies {
                books.questions.entry(*question).or_default().add(tally);
                books.total.add(tally);
            }
            books.points_awarded += mark.awarded;
        }
        books.points_ranked = self.members.values().map(|member| member.standing.points).sum();
        books
    }

    /// Applies one effect; tells whether it took effect. A repeat changes nothing, whoever sent it.
    pub fn apply(&mut self, effect: &Effect) -> Applied {
        let mark = self.sections.entry(effect.section).or_default();
        if mark.newest >= Some((effect.revision, effect.ordinal)) {
            return Applied::Repeat;
        }
        mark.newest = Some((effect.revision, effect.ordinal));
        mark.position = effect.position;
        self.touched.header = true;
        self.touched.marks.insert(effect.section);
        self.header.feed += 1;
        match &effect.change {
            Change::ScoreChanged(score) => self.score(effect.section, score),
            Change::Overruled(overruled) => {
                let Overruled { participant, question, standing, tally, awarded, ref instead } = **overruled;
                self.touched.overruled.push((participant, question));
                self.touched.receipts.extend(instead.iter().map(|receipt| (participant, receipt.clone())));
                self.book(effect.section, Some(question), tally, awarded);
                self.stand(participant, standing);
            }
            Change::Joined { participant, name } => self.joined(*participant, name),
            Change::QuizChanged(changed) => self.quiz_changed(changed),
            Change::Reached { number } => {
                mark.number = *number;
                self.publish();
            }
            Change::Sealed { scope } => self.sealed(effect.section, scope),
        }
        Applied::Effective
    }

    fn score(&mut self, section: u16, score: &ScoreChanged) {
        self.book(section, score.question, score.tally, score.awarded);
        if let Some(receipt) = &score.receipt {
            self.touched.receipts.push((score.participant, receipt.clone()));
        }
        if let Some(standing) = score.standing {
            self.stand(score.participant, standing);
        }
    }

    fn book(&mut self, section: u16, question: Option<u16>, tally: Tally, awarded: Decimal) {
        let mark = self.sections.entry(section).or_default();
        mark.tallies.insert(question, tally);
        mark.awarded = awarded;
        self.touched.books.insert((section, question));
    }

    fn stand(&mut self, participant: ParticipantId, standing: Standing) {
        let rule = self.board.definition.as_ref().map(|d| &d.source().ranking);
        let Some((index, _, member)) = self.members.get_full_mut(&participant) else { return };
        if member.standing == standing {
            return;
        }
        let (old, new) = (key(rule, &member.standing), key(rule, &standing));
        member.standing = standing;
        self.order.replace(old, new, index as u32);
        self.header.revision += 1;
        self.touched.members.push(index as u32);
    }

    fn joined(&mut self, participant: ParticipantId, name: &str) {
        if let Some((index, _, member)) = self.members.get_full_mut(&participant) {
            if *member.name != *name {
                member.name = name.into();
                self.header.revision += 1;
                self.touched.members.push(index as u32);
            }
            return;
        }
        let standing = Standing::default();
        let (index, _) = self.members.insert_full(participant, Member { name: name.into(), standing });
        let rule = self.board.definition.as_ref().map(|d| &d.source().ranking);
        self.order.insert(key(rule, &standing), index as u32);
        self.touched.joined = true;
        self.header.revision += 1;
        self.touched.members.push(index as u32);
    }

    fn quiz_changed(&mut self, changed: &QuizChanged) {
        self.touched.board = true;
        self.board.desk.remember(changed.decided.clone());
        if matches!(changed.decided.outcome, CommandOutcome::Accepted { .. }) {
            self.sections.entry(0).or_default().number = changed.status.number;
            let decision = (changed.status.clone(), changed.definition.clone());
            self.board.pending.insert(changed.status.number, decision);
            self.publish();
        }
    }

    /// Shows the decisions that every section has carried out: an answer sent after reading them finds them applied.
    fn publish(&mut self) {
        while let Some((&number, (_, definition))) = self.board.pending.first_key_value() {
            let sections = definition.as_ref().map_or(self.section_count(), |d| d.source().sections);
            let reached = |section| self.sections.get(&section).is_some_and(|mark| mark.number >= number);
            if !(0..sections).all(reached) {
                return;
            }
            let Some((_, (status, definition))) = self.board.pending.pop_first() else { return };
            self.board.status = status;
            self.touched.board = true;
            if self.board.status.phase == Phase::Forgotten {
                self.forget();
            }
            if let Some(definition) = definition {
                let old = self.rule();
                self.board.definition = Some(definition);
                if old != self.rule() {
                    // The rule is part of every leaderboard answer, so it moves the revision even if nobody moves.
                    self.header.revision += 1;
                    self.sort();
                }
            }
        }
    }

    /// Drops everything but what tells later effects from earlier ones. No participant of a next version can be here
    /// yet: it is not shown to anybody before every section has forgotten this one.
    fn forget(&mut self) {
        self.members = ParticipantMap::default();
        self.order = Order::new();
        self.board.definition = None;
        self.board.desk = Desk::default();
        for mark in self.sections.values_mut() {
            let Mark { newest, position, number, .. } = *mark;
            *mark = Mark { newest, position, number, ..Mark::default() };
        }
        self.header.revision += 1;
        self.header.forgotten += 1;
        let marks = self.sections.keys().copied().collect();
        self.touched = Touched { forgotten: true, header: true, board: true, marks, ..Touched::default() };
    }

    fn sealed(&mut self, section: u16, scope: &Scope) {
        let index = match scope {
            Scope::Quiz => None,
            Scope::Question(id) => self.newest_definition().and_then(|d| d.index_of(id)),
        };
        let mark = self.sections.entry(section).or_default();
        mark.closed |= *scope == Scope::Quiz;
        mark.sealed.extend(index);
    }

    fn sort(&mut self) {
        let rule = self.board.definition.as_ref().map(|d| &d.source().ranking);
        let entries =
            self.members.values().zip(0..).map(|(member, index)| (key(rule, &member.standing), index));
        self.order = Order::from_unsorted(entries.collect());
    }
}

/// What an effect did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It changed the ranking, the books or the quiz.
    Effective,
    /// It was there before.
    Repeat,
}

impl PartialEq for Ranking {
    /// Compares what is ranked, not how the order is laid out in memory.
    fn eq(&self, other: &Self) -> bool {
        self.quiz == other.quiz
            && self.header == other.header
            && self.board == other.board
            && self.sections == other.sections
            && self.members.iter().eq(other.members.iter())
            && self.order.iter_from(0).eq(other.order.iter_from(0))
    }
}

/// Returns the sort key of a standing: points first, then the rule's tie-breaks, each turned so that less is better.
fn key(rule: Option<&RankingRule>, standing: &Standing) -> Key {
    let mut key = [-millionths(standing.points), 0, 0, 0];
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let ties = rule.map_or(&[TieBreak::Correct, TieBreak::Time, TieBreak::LastCorrect][..], |r| &r.ties);
    for (place, tie) in key[1..].iter_mut().zip(ties) {
        *place = match tie {
            TieBreak::Correct => -i64::from(standing.correct),
            TieBreak::Time => signed(standing.time_ms),
            TieBreak::LastCorrect => signed(standing.last_correct_at.0),
        };
    }
    Key(key)
}

/// Returns points in millionths: exact, since points have at most [`crate::limits::POINTS_SCALE_MAX`] decimals.
fn millionths(points: Decimal) -> i64 {
    let scaled = points.saturating_mul(Decimal::from(1_000_000)).trunc();
    scaled.to_i64().unwrap_or(if points.is_sign_negative() { i64::MIN + 1 } else { i64::MAX })
}
