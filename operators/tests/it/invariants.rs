//! The invariants that speak of what the rules compute, by their numbers in the design.

use std::collections::BTreeMap;

use operators::effect::{Change, Effect, ScoreChanged, Slot, Tally, Verdict};
use operators::event::{Event, Stamp};
use operators::id::ParticipantId;
use operators::rank::{Applied, Ranking};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::config;
use crate::model::{Model, Row, Ruling, millionths};
use crate::plan::{Plan, plans};
use crate::world::{World, standings};

/// Delivers everything; returns the ranking and the order in which participants became known to it.
fn delivered(world: &World, plan: &Plan) -> (Ranking, Vec<ParticipantId>) {
    let mut order = Vec::new();
    let ranking = world.deliver(&plan.deliveries, |_, effect, _| {
        if let Change::Joined { participant, .. } = &effect.change
            && !order.contains(participant)
        {
            order.push(*participant);
        }
    });
    (ranking, order)
}

fn row(row: &operators::rank::Row) -> Row {
    Row {
        rank: row.rank,
        participant: row.participant,
        name: row.name.to_string(),
        millionths: millionths(row.standing.points),
        right: row.standing.correct,
        time_ms: row.standing.time_ms,
        last_ms: row.standing.last_correct_at.0,
    }
}

fn board(ranking: &Ranking) -> Vec<Row> {
    let (rows, next) = ranking.page(None, usize::MAX);
    assert_eq!(next, None);
    rows.iter().map(row).collect()
}

fn tally(rulings: &[&Ruling]) -> Tally {
    let mut tally = Tally::default();
    for ruling in rulings {
        match ruling.verdict {
            Verdict::Counted if ruling.overruled => tally.late += 1,
            _ if ruling.instead => tally.counted += 1,
            Verdict::Counted => tally.counted += 1,
            Verdict::Repeated => tally.repeated += 1,
            Verdict::Late => tally.late += 1,
            Verdict::TooEarly => tally.too_early += 1,
            Verdict::Rejected(reason) => tally.rejected[reason as usize] += 1,
        }
    }
    tally
}

/// The books that readers have been told of: per question, all answers up to the last that was told.
fn told(model: &Model) -> BTreeMap<Option<u16>, Tally> {
    let mut books: BTreeMap<Option<u16>, Tally> = BTreeMap::new();
    for rulings in &model.rulings {
        let mut questions: BTreeMap<Option<u16>, Vec<&Ruling>> = BTreeMap::new();
        for ruling in rulings {
            questions.entry(ruling.question.map(|index| index as u16)).or_default().push(ruling);
        }
        for (question, rulings) in questions {
            if let Some(last) = rulings.iter().rposition(|r| r.told) {
                books.entry(question).or_default().add(&tally(&rulings[..=last]));
            }
        }
    }
    books
}

fn score(effect: &Effect) -> Option<&ScoreChanged> {
    match &effect.change {
        Change::ScoreChanged(score) => Some(score),
        Change::Joined { .. }
        | Change::Overruled(_)
        | Change::QuizChanged(_)
        | Change::Reached { .. }
        | Change::Sealed { .. } => None,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i2_the_leaderboard_is_what_an_independent_recomputation_gives(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        let (ranking, order) = delivered(&world, &plan);
        let expected = model.board(&order);
        prop_assert_eq!(board(&ranking), expected);
        // Every verdict, one by one, and what it was worth.
        for section in 0..world.logs.len() {
            for ruling in &model.rulings[section] {
                let effect = world.outputs[section][ruling.place].iter().find_map(standings);
                prop_assert_eq!(effect.is_some(), ruling.told);
                let Some(score) = effect.and_then(score) else { continue };
                prop_assert_eq!(score.question.map(usize::from), ruling.question);
                prop_assert_eq!(score.receipt.is_none(), ruling.resent || score.standing.is_none());
                let Some(receipt) = &score.receipt else { continue };
                prop_assert_eq!(receipt.verdict, ruling.verdict, "{:?}", receipt);
                let counted = ruling.verdict == Verdict::Counted;
                prop_assert_eq!(millionths(receipt.points), if counted { ruling.millionths } else { 0 });
                prop_assert_eq!(receipt.taken_ms, counted.then_some(ruling.taken_ms));
                prop_assert_eq!(receipt.fraction.map(|f| f.is_whole()), counted.then_some(ruling.right));
                prop_assert_eq!(matches!(receipt.slot, Slot::Question(_) | Slot::Instead(_)), counted);
            }
        }
    }

    #[test]
    fn commands_are_decided_numbered_copied_and_published_as_the_model_says(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        let mut outcomes = Vec::new();
        for effect in world.effects(0) {
            if let Change::QuizChanged(changed) = &effect.change {
                outcomes.push((&changed.decided.id, changed.decided.outcome));
            }
        }
        prop_assert_eq!(&outcomes, &model.outcomes);
        for (section, copies) in world.copies.iter().enumerate().skip(1) {
            let copies: Vec<_> = copies.iter().map(|(number, at, command)| (*number, at.0, command)).collect();
            let accepted = model.accepted.iter().zip(1..);
            let accepted: Vec<_> = accepted.map(|((_, at, command), number)| (number, *at, *command)).collect();
            prop_assert_eq!(copies, accepted, "section {}", section);
            prop_assert_eq!(world.sections[section].header().number, model.reached(section) as u64);
        }
        let (ranking, _) = delivered(&world, &plan);
        let published = model.published() as u64;
        prop_assert_eq!(ranking.board().status.number, published);
        for (id, outcome) in &model.outcomes {
            let visible = match outcome {
                operators::event::CommandOutcome::Accepted { number, .. } => *number <= published,
                operators::event::CommandOutcome::Unchanged { version } => *version <= ranking.board().status.version,
                operators::event::CommandOutcome::Refused(_) => true,
            };
            let decided = ranking.decided(id).map(|decided| decided.outcome);
            prop_assert_eq!(decided, visible.then_some(*outcome));
        }
    }

    #[test]
    fn the_books_hold_every_answer_once(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        let mut received = 0;
        for (section, rulings) in world.sections.iter().zip(&model.rulings) {
            for question in 0..8 {
                let of: Vec<_> = rulings.iter().filter(|r| r.question == Some(question)).collect();
                prop_assert_eq!(section.tally(question as u16), tally(&of));
                received += section.tally(question as u16).received();
            }
            let unknown: Vec<_> = rulings.iter().filter(|r| r.question.is_none()).collect();
            prop_assert_eq!(section.header().unknown, tally(&unknown));
            received += section.header().unknown.received();
        }
        let answers = world.logs.iter().flatten().filter(|(event, _)| matches!(event, Event::Answer(_))).count();
        prop_assert_eq!(received, answers as u64);
        let books = delivered(&world, &plan).0.books();
        let told = told(&model);
        let mut total = Tally::default();
        told.values().for_each(|tally| total.add(tally));
        prop_assert_eq!(books.total, total);
        prop_assert_eq!(books.questions, told);
    }

    /// Sections report in any order, but none before section 0 has reported the commands that it goes by.
    #[test]
    fn a_question_is_sealed_once_every_section_says_so(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        let mut ranking = Ranking::new(crate::world::quiz());
        for effect in (0..world.logs.len()).flat_map(|section| world.effects(section)) {
            ranking.apply(effect);
        }
        let sealed = |section: usize, question: &str| {
            model.sealed(section, world.logs[section].len(), &question.parse().expect("an id"))
        };
        // A question that no quiz has is sealed by the quiz's Seal only.
        prop_assert_eq!(ranking.is_final(), (0..world.logs.len()).all(|section| sealed(section, "none")));
        for (index, question) in world.sections[0].definition().iter().flat_map(|d| d.questions.iter()).enumerate() {
            let everywhere = (0..world.logs.len()).all(|section| sealed(section, question.id.as_str()));
            prop_assert_eq!(ranking.is_sealed(index as u16), everywhere);
        }
    }

    #[test]
    fn i3_nothing_counts_that_nobody_handed_in(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        for section in &world.sections {
            let questions = section.definition().map_or(&[][..], |d| &d.questions);
            for (participant, kept) in section.participants() {
                for (place, counted) in kept.answers.iter().enumerate() {
                    let question = &questions[usize::from(counted.question)].id;
                    prop_assert!(model.handed_in(*participant, counted.submission, question));
                    let twice = kept.answers[..place].iter().any(|earlier| earlier.question == counted.question);
                    prop_assert!(!twice, "one answer counts per question");
                }
            }
        }
        for effect in (0..world.logs.len()).flat_map(|section| world.effects(section)) {
            let Some((score, receipt)) = score(effect).and_then(|s| Some((s, s.receipt.as_ref()?))) else { continue };
            prop_assert!(model.handed_in(score.participant, receipt.submission, &receipt.question));
            let (Event::Answer(answer), Stamp { position, .. }) = world
                .logs
                .iter()
                .flatten()
                .find(|(_, stamp)| stamp.position == receipt.position)
                .expect("a receipt names its record")
            else {
                panic!("a receipt names an answer");
            };
            prop_assert_eq!(position, &effect.position);
            prop_assert_eq!(&answer.response, &receipt.response);
            prop_assert_eq!(answer.received_at, receipt.received_at);
        }
    }

    #[test]
    fn i4_ranks_are_a_total_and_stable_order(plan in plans(), limit in 1..7usize) {
        let world = World::run(&plan);
        let (ranking, order) = delivered(&world, &plan);
        let rows = board(&ranking);
        let expected = Model::new(&world.logs).board(&order);
        let mut listed: Vec<_> = rows.iter().map(|row| row.participant).collect();
        listed.sort();
        let mut known = order;
        known.sort();
        prop_assert_eq!(listed, known, "each participant has one row");
        // Pages of any size, one participant's row, the neighbours: all say the same.
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = ranking.page(cursor, limit);
            paged.extend(page.iter().map(row));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert_eq!(&paged, &rows);
        for (place, expected) in expected.iter().enumerate() {
            prop_assert_eq!(&rows[place], expected);
            prop_assert_eq!(ranking.row(expected.participant).map(|r| row(&r)), Some(expected.clone()));
            let around = ranking.around(expected.participant, limit).expect("is a member");
            let (from, to) = (place.saturating_sub(limit), rows.len().min(place + limit + 1));
            prop_assert_eq!(around.iter().map(row).collect::<Vec<_>>(), &rows[from..to]);
            // Below plus half of the equals, in hundredths of a percent, half up; from ranks alone.
            let equal = rows.iter().filter(|other| other.rank == expected.rank).count() as i128;
            let below = rows.iter().filter(|other| other.rank > expected.rank).count() as i128;
            let all = rows.len() as i128;
            let hundredths = ((2 * below + equal) * 10_000 + all) / (2 * all);
            let percentile = ranking.percentile(expected.participant).expect("is a member");
            prop_assert_eq!(millionths(percentile), hundredths * 10_000);
        }
    }

    #[test]
    fn i6_versions_never_go_back_and_repeats_change_nothing(plan in plans()) {
        let world = World::run(&plan);
        let mut effective: Vec<Effect> = Vec::new();
        let mut before = Ranking::new(crate::world::quiz());
        let ranking = world.deliver(&plan.deliveries, |ranking, effect, applied| {
            let newest = |ranking: &Ranking| ranking.sections().get(&effect.section).and_then(|mark| mark.newest);
            match applied {
                Applied::Repeat => assert!(*ranking == before, "a repeat changed something: {effect:?}"),
                Applied::Effective => {
                    assert!(newest(ranking) > newest(&before));
                    assert!(ranking.header().revision >= before.header().revision);
                    assert!(ranking.header().feed > before.header().feed);
                    assert!(ranking.board().status.number >= before.board().status.number);
                    if ranking.page(None, 99) != before.page(None, 99) || ranking.rule() != before.rule() {
                        assert!(ranking.header().revision > before.header().revision, "{effect:?}");
                    }
                    effective.push(effect.clone());
                }
            }
            before = ranking.clone();
        });
        let mut once = Ranking::new(crate::world::quiz());
        for effect in &effective {
            prop_assert_eq!(once.apply(effect), Applied::Effective);
        }
        prop_assert_eq!(once, ranking);
        prop_assert_eq!(effective.len(), (0..world.logs.len()).map(|s| world.effects(s).len()).sum::<usize>());
    }

    #[test]
    fn i12_the_points_awarded_are_the_points_ranked(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        let books = delivered(&world, &plan).0.books();
        prop_assert_eq!(books.points_awarded, books.points_ranked);
        prop_assert_eq!(millionths(books.points_awarded), model.points());
        let of_sections: i128 = world.sections.iter().map(|section| millionths(section.header().awarded)).sum();
        prop_assert_eq!(of_sections, model.points());
    }

    #[test]
    fn i13_an_answer_is_late_if_and_only_if_it_scores_after_the_close_or_follows_the_seal(plan in plans()) {
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        for section in 0..world.logs.len() {
            for ruling in &model.rulings[section] {
                let effect = world.outputs[section][ruling.place].iter().find_map(standings);
                let Some(verdict) = effect.and_then(score).and_then(|s| s.receipt.as_ref()).map(|r| r.verdict) else {
                    continue;
                };
                if !matches!(verdict, Verdict::Counted | Verdict::Late) {
                    continue;
                }
                let question = &ruling.answer.question;
                let sealed = model.sealed(section, ruling.place, question);
                let late = match model.window(section, ruling.place, question) {
                    // Never opened, and now it never will be.
                    None => true,
                    Some((_, closes_at)) => sealed || closes_at.is_some_and(|at| ruling.at_ms > at),
                };
                prop_assert_eq!(verdict == Verdict::Late, late, "{:?}", ruling);
            }
            // And what its section could not know yet is put right once the close is there.
            let mut overruled: Vec<_> = world.effects(section).iter().filter_map(|effect| match &effect.change {
                Change::Overruled(o) => Some((o.participant, usize::from(o.question))),
                Change::ScoreChanged(_)
                | Change::Joined { .. }
                | Change::QuizChanged(_)
                | Change::Reached { .. }
                | Change::Sealed { .. } => None,
            }).collect();
            let rulings = model.rulings[section].iter().filter(|ruling| ruling.overruled);
            let mut expected: Vec<_> = rulings.filter_map(|r| Some((r.answer.participant, r.question?))).collect();
            overruled.sort();
            expected.sort();
            prop_assert_eq!(overruled, expected);
            let effects = world.effects(section);
            let instead = effects.iter().filter_map(|effect| match &effect.change {
                Change::Overruled(o) => o.instead.as_ref(),
                Change::ScoreChanged(_)
                | Change::Joined { .. }
                | Change::QuizChanged(_)
                | Change::Reached { .. }
                | Change::Sealed { .. } => None,
            });
            let mut instead: Vec<_> = instead.map(|r| (r.position, millionths(r.points), r.taken_ms)).collect();
            let rulings = model.rulings[section].iter().filter(|ruling| ruling.instead);
            let position = |place: usize| world.logs[section][place].1.position;
            let of = |r: &Ruling| (position(r.place), r.millionths, Some(r.taken_ms));
            let mut expected: Vec<_> = rulings.map(of).collect();
            instead.sort();
            expected.sort();
            prop_assert_eq!(instead, expected);
            prop_assert!(section > 0 || model.rulings[0].iter().all(|ruling| !ruling.overruled));
        }
    }
}

/// A generator that only makes refused answers would prove nothing.
#[test]
fn the_plans_reach_every_verdict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut total = Tally::default();
    let (mut resent, mut held, mut versions, mut overruled, mut instead) = (0, 0, 0, 0, 0);
    for _ in 0..300 {
        let plan = plans().new_tree(&mut runner).expect("a plan").current();
        let world = World::run(&plan);
        let model = Model::new(&world.logs);
        total.add(&tally(&model.rulings.iter().flatten().collect::<Vec<_>>()));
        overruled += model.rulings.iter().flatten().filter(|r| r.overruled).count();
        instead += model.rulings.iter().flatten().filter(|r| r.instead).count();
        resent += model.rulings.iter().flatten().filter(|r| r.resent).count();
        for section in 1..world.logs.len() {
            let mut reached = 0;
            for effect in world.effects(section) {
                if let Change::Reached { number } = effect.change {
                    held += usize::from(number > reached + 1);
                    reached = number;
                }
            }
        }
        versions += usize::from(world.sections[0].header().version > 1);
    }
    let figures = [total.counted, total.repeated, total.late, total.too_early];
    assert!(figures.iter().chain(&total.rejected).all(|&count| count >= 50), "{total:?}");
    assert!(
        resent >= 30 && held >= 10 && versions >= 10,
        "{total:?} {resent} resent, {held} held, {versions} republished"
    );
    assert!(overruled >= 50 && instead >= 20, "{overruled} overruled, {instead} count instead");
}
