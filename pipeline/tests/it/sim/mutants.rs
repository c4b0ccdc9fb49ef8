//! Planted bugs: what Podium would be with one of its rules left out. The production code stays as it is; the bug sits
//! in a wrapper around an operator, or where the simulated log, store or gateway asks for it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use gateway::Clock;
use ingest::codec::DecodeError;
use ingest::log::{Record, Stream};
use ingest::partition::of_section;
use operators::effect::{Change, Effect, Output, Standing, Verdict};
use operators::event::{Event, Stamp};
use operators::id::{QuizId, UnixMillis};
use operators::quiz::Section;
use operators::rank::Ranking;
use pipeline::stage::grade::{Grade, SectionKey};
use pipeline::stage::rank::Rank;
use pipeline::stage::{Armed, Meaning, Operator};
use pipeline::store::{Changes, Row, Stage};

use super::world::SkewedClock;

/// A rule left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The gateway answers 202 and then appends, once.
    AckBeforeAppend,
    /// The store moves the header, then writes effects and rows.
    CheckpointBeforeRows,
    /// The rank stage takes an effect that it has had already.
    NoVersionCondition,
    /// The header moves on whoever writes it.
    NoEpochOnCheckpoint,
    /// The rank stage adds the points of each effect to what it has.
    Increments,
    /// The worker's clock decides whether an answer is late.
    CloseByWallClock,
    /// A read that fails makes a dead letter.
    DeadLetterOnTransient,
    /// The Seal is appended at the close.
    SealWithoutGrace,
    /// A second answer to a question counts too.
    NoDedupe,
    /// A worker counts revisions from its own start.
    WorkerLocalVersion,
    /// An append that took ever so long is acknowledged.
    NoAckDeadline,
    /// The revision is the worker's time.
    VersionByTimestamp,
    /// A commit that is made again leaves out the effects.
    OutputsSkipped,
    /// Commands hold from when a worker happens to read them in a table.
    ConfigurationFromTable,
    /// A worker that lost its unit loads what the new owner stored, and goes on from its own position.
    LoadWithoutFence,
    /// The lease of a child is taken while there are records of its parent that nobody has read.
    ChildBeforeParent,
    /// The first owner of a child begins without the state of the parent.
    NoHandOver,
    /// A taker does not raise the epoch.
    LeaseWithoutFence,
    /// A grade worker says how far it is when it reads a pulse, ahead of the effects.
    PulseBeforeEffects,
    /// A rank worker says how far it is when it reads a pulse, ahead of the state.
    BeatBeforeState,
    /// A gateway believes a beat, and looks for the state later.
    ClaimBeforeCatchUp,
    /// Append times hold as the log gives them, which go back.
    NoClamp,
    /// The effects of an interval go out behind the state.
    EffectsAfterState,
}

impl Mutant {
    pub(super) const ALL: [Self; 23] = [
        Self::AckBeforeAppend,
        Self::CheckpointBeforeRows,
        Self::NoVersionCondition,
        Self::NoEpochOnCheckpoint,
        Self::Increments,
        Self::CloseByWallClock,
        Self::DeadLetterOnTransient,
        Self::SealWithoutGrace,
        Self::NoDedupe,
        Self::WorkerLocalVersion,
        Self::NoAckDeadline,
        Self::VersionByTimestamp,
        Self::OutputsSkipped,
        Self::ConfigurationFromTable,
        Self::LoadWithoutFence,
        Self::ChildBeforeParent,
        Self::NoHandOver,
        Self::LeaseWithoutFence,
        Self::PulseBeforeEffects,
        Self::BeatBeforeState,
        Self::ClaimBeforeCatchUp,
        Self::NoClamp,
        Self::EffectsAfterState,
    ];
    /// Those that do not live between the writes of one commit. Increments, for one, do: what is written at once is
    /// never applied twice.
    pub(super) const WITHOUT_PARTS: [Self; 8] = [
        Self::AckBeforeAppend,
        Self::CloseByWallClock,
        Self::DeadLetterOnTransient,
        Self::SealWithoutGrace,
        Self::NoDedupe,
        Self::WorkerLocalVersion,
        Self::NoAckDeadline,
        Self::VersionByTimestamp,
    ];
}

/// The grade operator with a planted bug.
pub(super) struct BentGrade {
    mutant: Mutant,
    inner: Grade,
    clock: SkewedClock,
}

/// A section with the rows that it owes from before it was bent.
pub(super) struct Bent {
    section: Section,
    owed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    forgets: Vec<Vec<u8>>,
}

impl Bent {
    fn owe(&mut self, changes: Changes) {
        self.owed.retain(|key, _| !changes.forget.iter().any(|prefix| key.starts_with(prefix)));
        self.forgets.extend(changes.forget);
        self.owed.extend(changes.rows);
    }
}

impl BentGrade {
    pub(super) fn new(mutant: Mutant, inner: Grade, clock: SkewedClock) -> Self {
        Self { mutant, inner, clock }
    }

    /// Puts the section together anew with something changed, which no operator would do.
    fn bend(&self, state: &mut Bent, change: impl FnOnce(&mut operators::quiz::Header, &mut Participants)) {
        let key = (state.section.quiz().clone(), state.section.section());
        let mut changes = Changes::default();
        self.inner.rows(&key, &mut state.section, &mut changes);
        state.owe(changes);
        let old = &state.section;
        let mut header = old.header().clone();
        let mut participants = old.participants().clone();
        let questions = old.definition().map_or(0, |definition| definition.questions.len()) as u16;
        let tallies = (0..questions).map(|question| (question, old.tally(question))).collect();
        change(&mut header, &mut participants);
        let definition = old.definition().cloned();
        state.section =
            Section::restore(key.0, key.1, header, definition, old.desk().clone(), tallies, participants);
    }

    /// Returns the append time that the log gives a record.
    fn unclamped(&self, section: &Section, stamp: Stamp) -> UnixMillis {
        let world = self.clock.world.lock();
        let partition = of_section(section.quiz(), section.section(), world.plan.partitions);
        let records = world.disk.stream(Stream::Submissions, partition);
        let place = records.binary_search_by_key(&stamp.position, |record| record.stamp.position);
        records[place.expect("it was read there")].stamp.append_at
    }

    /// Carries out what the table says and the log has not said yet.
    fn read_table(&self, state: &mut Bent, outputs: &mut Vec<Output>) {
        let quiz = state.section.quiz().clone();
        let table = self.clock.world.lock().table.clone();
        let fresh =
            table.into_iter().filter(|(of, id, _)| *of == quiz && state.section.desk().find(id).is_none());
        for (_, id, command) in fresh.collect::<Vec<_>>() {
            let stamp = Stamp { position: operators::id::Position::default(), append_at: self.clock.now() };
            self.inner.apply(&mut state.section, &Event::Command { id, content: 0, command }, stamp, outputs);
        }
    }
}

type Participants = operators::id::ParticipantMap<operators::quiz::Participant>;

impl Operator for BentGrade {
    type Key = SectionKey;
    type Event = Event;
    type Output = Output;
    type State = Bent;

    fn stage(&self) -> Stage {
        self.inner.stage()
    }
    fn decode(&self, payload: &[u8]) -> Result<Meaning<SectionKey, Event>, DecodeError> {
        self.inner.decode(payload)
    }
    fn prefix(&self, key: &SectionKey) -> Vec<u8> {
        self.inner.prefix(key)
    }
    fn restore(&self, key: &SectionKey, rows: Vec<Row>) -> Result<Bent, String> {
        let mut state =
            Bent { section: self.inner.restore(key, rows)?, owed: BTreeMap::new(), forgets: Vec::new() };
        if self.mutant == Mutant::WorkerLocalVersion {
            self.bend(&mut state, |header, _| header.revision = 0);
        }
        Ok(state)
    }

    fn apply(&self, state: &mut Bent, event: &Event, stamp: Stamp, outputs: &mut Vec<Output>) {
        let (mut event, mut stamp) = (event.clone(), stamp);
        let from = outputs.len();
        if self.mutant == Mutant::NoClamp {
            stamp.append_at = self.unclamped(&state.section, stamp);
        }
        if let Event::Answer(answer) = &mut event {
            if self.mutant == Mutant::CloseByWallClock {
                stamp.append_at = self.clock.now();
                answer.received_at = stamp.append_at;
            }
            if self.mutant == Mutant::NoDedupe {
                let who = answer.participant;
                self.bend(state, |_, participants| {
                    if let Some(participant) = participants.get_mut(&who) {
                        participant.answers.clear();
                    }
                });
            }
            if self.mutant == Mutant::ConfigurationFromTable && state.section.section() == 0 {
                self.read_table(state, outputs);
            }
        }
        self.inner.apply(&mut state.section, &event, stamp, outputs);
        if self.mutant == Mutant::VersionByTimestamp {
            let now = self.clock.now();
            outputs[from..].iter_mut().for_each(|output| stamp_with(output, now));
        }
    }

    fn records(&self, outputs: Vec<Output>) -> Vec<Record> {
        self.inner.records(outputs)
    }

    fn rows(&self, key: &SectionKey, state: &mut Bent, changes: &mut Changes) {
        let mut fresh = Changes::default();
        self.inner.rows(key, &mut state.section, &mut fresh);
        state.owe(fresh);
        changes.forget.append(&mut state.forgets);
        changes.rows.extend(std::mem::take(&mut state.owed));
    }
    fn weight(&self, state: &Bent) -> usize {
        self.inner.weight(&state.section)
    }
    fn timers(&self, state: &Bent) -> Vec<(UnixMillis, Record)> {
        self.inner.timers(&state.section)
    }
    fn armed(&self, rows: &[Row]) -> Vec<(SectionKey, Armed)> {
        self.inner.armed(rows)
    }
    fn timer_prefix(&self) -> Option<Vec<u8>> {
        self.inner.timer_prefix()
    }
    fn committed(&self, keys: &[SectionKey]) {
        self.inner.committed(keys);
    }
}

/// Gives an effect the time as its revision; the record's own revision tells effects of one moment apart, which is
/// kinder than such a system would be.
fn stamp_with(output: &mut Output, now: UnixMillis) {
    if let Output::Standings(effect) = output {
        effect.ordinal = effect.revision as u32;
        effect.revision = now.0;
    }
}

/// The rank operator with a planted bug.
pub(super) struct BentRank {
    mutant: Mutant,
    inner: Rank,
}

impl BentRank {
    pub(super) fn new(mutant: Mutant, inner: Rank) -> Self {
        Self { mutant, inner }
    }

    /// Returns the effect as the bent stage takes it.
    fn bend(&self, state: &Ranking, effect: &Effect) -> Effect {
        let mut effect = effect.clone();
        if !matches!(self.mutant, Mutant::NoVersionCondition | Mutant::Increments) {
            return effect;
        }
        let newest = state.sections().get(&effect.section).and_then(|mark| mark.newest);
        if let Some((revision, ordinal)) =
            newest.filter(|newest| *newest >= (effect.revision, effect.ordinal))
        {
            (effect.revision, effect.ordinal) = (revision, ordinal + 1);
        }
        if self.mutant == Mutant::Increments
            && let Change::ScoreChanged(score) = &mut effect.change
            && let (Some(standing), Some(member)) = (score.standing, state.members().get(&score.participant))
        {
            let counted = score.receipt.as_ref().filter(|receipt| receipt.verdict == Verdict::Counted);
            let points =
                counted.map_or(member.standing.points, |r| (member.standing.points + r.points).normalize());
            score.standing = Some(Standing { points, ..standing });
        }
        effect
    }
}

impl Operator for BentRank {
    type Key = QuizId;
    type Event = Effect;
    type Output = Infallible;
    type State = Ranking;

    fn stage(&self) -> Stage {
        self.inner.stage()
    }
    fn decode(&self, payload: &[u8]) -> Result<Meaning<QuizId, Effect>, DecodeError> {
        self.inner.decode(payload)
    }
    fn prefix(&self, quiz: &QuizId) -> Vec<u8> {
        self.inner.prefix(quiz)
    }
    fn restore(&self, quiz: &QuizId, rows: Vec<Row>) -> Result<Ranking, String> {
        self.inner.restore(quiz, rows)
    }
    fn apply(&self, state: &mut Ranking, effect: &Effect, stamp: Stamp, outputs: &mut Vec<Infallible>) {
        let effect = self.bend(state, effect);
        self.inner.apply(state, &effect, stamp, outputs);
    }
    fn records(&self, outputs: Vec<Infallible>) -> Vec<Record> {
        self.inner.records(outputs)
    }
    fn rows(&self, quiz: &QuizId, state: &mut Ranking, changes: &mut Changes) {
        self.inner.rows(quiz, state, changes);
    }
    fn weight(&self, state: &Ranking) -> usize {
        self.inner.weight(state)
    }
    fn timers(&self, state: &Ranking) -> Vec<(UnixMillis, Record)> {
        self.inner.timers(state)
    }
    fn armed(&self, rows: &[Row]) -> Vec<(QuizId, Armed)> {
        self.inner.armed(rows)
    }
    fn timer_prefix(&self) -> Option<Vec<u8>> {
        self.inner.timer_prefix()
    }
    fn committed(&self, quizzes: &[QuizId]) {
        self.inner.committed(quizzes);
    }
}
