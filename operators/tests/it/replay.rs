//! Replays: any worker makes the same of the same records, from nothing or from what storage kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::definition::Definition;
use operators::effect::{Change, Effect, Output, Receipt, Slot, Tally};
use operators::event::Command;
use operators::id::{ParticipantId, ParticipantMap};
use operators::quiz::{Counted, Desk, Participant, Section, Standby, Standbys};
use operators::rank::{self, Applied, Board, Mark, Member, Ranking};
use proptest::prelude::*;

use crate::config;
use crate::plan::plans;
use crate::world::{World, quiz};

/// What storage has of a section: changed only by the rows that [`operators::quiz::Touched`] names.
#[derive(Default)]
struct Rows {
    header: operators::quiz::Header,
    definition: Option<Arc<Definition>>,
    desk: Desk,
    tallies: BTreeMap<u16, Tally>,
    participants: BTreeMap<u32, (ParticipantId, Participant)>,
    answers: BTreeMap<(u32, u32), (Counted, Vec<Standby>)>,
}

impl Rows {
    fn write(&mut self, section: &mut Section) {
        let touched = section.take_touched();
        if touched.header {
            self.header = section.header().clone();
        }
        if touched.desk {
            self.desk = section.desk().clone();
            self.definition = section.definition().cloned();
        }
        for question in touched.questions {
            self.tallies.insert(question, section.tally(question));
        }
        let member =
            |index: u32| section.participants().get_index(index as usize).expect("touched rows exist");
        for index in touched.participants {
            let (id, participant) = member(index);
            let (standing, unscored) = (participant.standing, participant.unscored);
            self.participants.insert(index, (*id, Participant { standing, unscored, answers: Vec::new() }));
        }
        for (index, place) in touched.answers {
            let (id, participant) = member(index);
            let counted = participant.answers[place as usize].clone();
            let standbys = section.standbys(*id, counted.question).to_vec();
            self.answers.insert((index, place), (counted, standbys));
        }
    }

    fn restore(&self, section: u16) -> Section {
        let mut participants: ParticipantMap<Participant> = ParticipantMap::default();
        for (place, (index, (id, participant))) in self.participants.iter().enumerate() {
            assert_eq!(place as u32, *index, "no row of a participant is missing");
            participants.insert(*id, participant.clone());
        }
        let mut all = Standbys::new();
        for ((index, place), (counted, standbys)) in &self.answers {
            let (_, participant) =
                participants.get_index_mut(*index as usize).expect("the participant has a row");
            assert_eq!(participant.answers.len() as u32, *place, "no row of an answer is missing");
            participant.answers.push(counted.clone());
            let (id, _) = participants.get_index(*index as usize).expect("the participant has a row");
            if !standbys.is_empty() {
                all.insert((*id, counted.question), standbys.clone());
            }
        }
        let (header, desk) = (self.header.clone(), self.desk.clone());
        Section::restore(
            quiz(),
            section,
            header,
            self.definition.clone(),
            desk,
            self.tallies.clone(),
            participants,
        )
        .with_standbys(all)
    }
}

/// What storage has of a ranking: changed only by the rows that [`rank::Touched`] names.
#[derive(Default)]
struct RankRows {
    header: rank::Header,
    board: Board,
    marks: BTreeMap<u16, Mark>,
    books: BTreeMap<(u16, Option<u16>), Tally>,
    members: BTreeMap<u32, (ParticipantId, Member)>,
    receipts: BTreeMap<(ParticipantId, Slot), Receipt>,
}

impl RankRows {
    fn write(&mut self, ranking: &mut Ranking) {
        let touched = ranking.take_touched();
        if touched.header {
            self.header = ranking.header().clone();
        }
        if touched.board {
            self.board = ranking.board().clone();
        }
        for section in touched.marks {
            // The books of a mark are rows of their own.
            let mark = Mark { tallies: BTreeMap::new(), ..ranking.sections()[&section].clone() };
            self.marks.insert(section, mark);
        }
        for (section, question) in touched.books {
            self.books.insert((section, question), ranking.sections()[&section].tallies[&question]);
        }
        for index in touched.members {
            let (id, member) = ranking.members().get_index(index as usize).expect("touched rows exist");
            self.members.insert(index, (*id, member.clone()));
        }
        for (participant, receipt) in touched.receipts {
            self.receipts.insert((participant, receipt.slot), receipt);
        }
    }

    fn restore(&self) -> Ranking {
        let mut marks = self.marks.clone();
        for ((section, question), tally) in &self.books {
            marks.get_mut(section).expect("the section has a row").tallies.insert(*question, *tally);
        }
        let mut members = ParticipantMap::default();
        for (place, (index, (id, member))) in self.members.iter().enumerate() {
            assert_eq!(place as u32, *index, "no row of a member is missing");
            members.insert(*id, member.clone());
        }
        Ranking::restore(quiz(), self.header.clone(), self.board.clone(), marks, members)
    }
}

/// Compares all that a section holds, the order of participants included, which equality of maps leaves out.
fn assert_same(one: &Section, other: &Section) {
    assert_eq!(one.header(), other.header());
    assert_eq!(one.desk(), other.desk());
    assert_eq!(one.definition(), other.definition());
    let all =
        |section: &Section| section.participants().iter().map(|(id, p)| (*id, p.clone())).collect::<Vec<_>>();
    assert_eq!(all(one), all(other));
    for question in 0..16 {
        assert_eq!(one.tally(question), other.tally(question));
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i5_every_worker_makes_the_same_effects_of_the_same_records(plan in plans()) {
        let world = World::run(&plan);
        for (number, log) in world.logs.iter().enumerate() {
            let mut replayed = Section::new(quiz(), number as u16);
            let mut identities = Vec::new();
            for (place, (event, stamp)) in log.iter().enumerate() {
                let mut outputs = Vec::new();
                replayed.apply(event, *stamp, &mut outputs);
                prop_assert_eq!(&outputs, &world.outputs[number][place]);
                let revision = place as u64 + 1;
                for effect in outputs.iter().filter_map(crate::world::standings) {
                    prop_assert_eq!((effect.section, effect.revision), (number as u16, revision));
                    prop_assert_eq!(effect.position, stamp.position);
                    identities.push((effect.revision, effect.ordinal));
                }
                prop_assert_eq!(replayed.header().revision, revision);
            }
            prop_assert!(identities.windows(2).all(|pair| pair[0] < pair[1]), "identities rise strictly");
            assert_same(&replayed, &world.sections[number]);
        }
    }

    /// Commits after any number of records; every commit could be where a worker starts.
    #[test]
    fn i16_a_section_restored_from_its_rows_goes_on_as_if_never_stopped(plan in plans(), batch in 1..9usize) {
        let world = World::run(&plan);
        for (number, log) in world.logs.iter().enumerate() {
            let mut rows = Rows::default();
            let mut section = Section::new(quiz(), number as u16);
            let mut batches = log.iter().zip(&world.outputs[number]);
            for _ in 0..log.len().div_ceil(batch) {
                for ((event, stamp), expected) in batches.by_ref().take(batch) {
                    let mut outputs = Vec::new();
                    section.apply(event, *stamp, &mut outputs);
                    prop_assert_eq!(&outputs, expected);
                }
                rows.write(&mut section);
                let restored = rows.restore(number as u16);
                assert_same(&restored, &section);
                prop_assert_eq!(&restored, &section, "and nothing is left to write");
                section = restored;
            }
            assert_same(&section, &world.sections[number]);
        }
    }

    #[test]
    fn i16_a_ranking_restored_from_its_rows_goes_on_as_if_never_stopped(plan in plans(), batch in 1..9usize) {
        let world = World::run(&plan);
        let mut delivered: Vec<Effect> = Vec::new();
        let whole = world.deliver(&plan.deliveries, |_, effect, _| delivered.push(effect.clone()));
        let mut rows = RankRows::default();
        let mut ranking = Ranking::new(quiz());
        let mut receipts: BTreeMap<(ParticipantId, Slot), Receipt> = BTreeMap::new();
        for effects in delivered.chunks(batch) {
            for effect in effects {
                let judged = match &effect.change {
                    Change::ScoreChanged(score) => Some((score.participant, &score.receipt)),
                    Change::Overruled(overruled) => Some((overruled.participant, &overruled.instead)),
                    Change::Joined { .. }
                    | Change::QuizChanged(_)
                    | Change::Reached { .. }
                    | Change::Sealed { .. } => None,
                };
                if let (Applied::Effective, Some((who, Some(receipt)))) = (ranking.apply(effect), judged) {
                    receipts.insert((who, receipt.slot), receipt.clone());
                }
            }
            rows.write(&mut ranking);
            let restored = rows.restore();
            prop_assert_eq!(&restored, &ranking);
            prop_assert_eq!(restored.page(None, 99), ranking.page(None, 99));
            ranking = restored;
        }
        prop_assert_eq!(ranking, whole);
        prop_assert_eq!(rows.receipts, receipts);
    }

    /// A worker that restarts from an earlier checkpoint writes the copies of commands once more.
    #[test]
    fn copies_that_arrive_again_in_order_change_nothing_but_the_revision(plan in plans()) {
        let world = World::run(&plan);
        for (number, log) in world.logs.iter().enumerate().skip(1) {
            let mut section = world.sections[number].clone();
            let Some((_, stamp)) = log.last() else { continue };
            let before = section.header().clone();
            let mut outputs: Vec<Output> = Vec::new();
            let had = world.copies[number].iter().take_while(|(copy, ..)| *copy <= before.number);
            for (copy, at, command) in had {
                let command: Command = command.clone();
                let event = operators::event::Event::Copy { number: *copy, at: *at, command };
                section.apply(&event, *stamp, &mut outputs);
            }
            prop_assert_eq!(outputs, vec![]);
            let after = operators::quiz::Header { revision: before.revision, ..section.header().clone() };
            prop_assert_eq!(after, before);
        }
    }
}
