//! What must be so once quizzes were kept for long enough: nothing is left of them but their numbers.

use ingest::partition::of_section;
use operators::effect::Phase;
use operators::quiz::Section;
use operators::rank::Books;
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;
use pipeline::stage::rank::{Kind, Rank, Silence, index_key, kind};
use pipeline::store::{Row, Stage, Unit};

use super::disk::Disk;
use super::plan::{Plan, QuizPlan};

/// Returns what is left of the quizzes that is not to be, in words.
pub(super) fn leftovers(disk: &Disk, plan: &Plan) -> Vec<String> {
    plan.quizzes.iter().flat_map(|quiz| of_quiz(disk, plan, quiz)).collect()
}

fn of_quiz(disk: &Disk, plan: &Plan, quiz: &QuizPlan) -> Vec<String> {
    let mut left = Vec::new();
    let mut note = |what: String| left.push(format!("{}: {what}", quiz.id));
    let rows = |stage, section, prefix: &[u8]| -> Vec<Row> {
        let unit = Unit { stage, partition: of_section(&quiz.id, section, plan.partitions) };
        disk.scan(unit, prefix, None, usize::MAX)
    };
    let grade = Grade::new(plan.partitions, 0);
    for section in 0..quiz.sections {
        let key = (quiz.id.clone(), section);
        let found = rows(Stage::Grade, section, &grade.prefix(&key));
        if found.len() > 1 {
            note(format!("section {section} has {} rows", found.len()));
        }
        if grade.armed(&rows(Stage::Grade, section, b"t")).iter().any(|(armed, _)| *armed == key) {
            note(format!("section {section} waits for something"));
        }
        match grade.restore(&key, found) {
            Ok(state) if state.header().phase == Phase::Forgotten => {
                let header = state.header().clone();
                let none = Section::restore(
                    quiz.id.clone(),
                    section,
                    header,
                    None,
                    <_>::default(),
                    <_>::default(),
                    <_>::default(),
                );
                if state != none {
                    note(format!("section {section} knows something"));
                }
            }
            Ok(state) => note(format!("section {section} is {}", state.header().phase.name())),
            Err(error) => note(error),
        }
    }
    for (key, _) in rows(Stage::Rank, 0, b"") {
        match kind(&quiz.id, &key) {
            Some(Kind::Member(who) | Kind::Receipt(who)) => note(format!("a row about {who}")),
            None if key == index_key(Some(&quiz.id)) => note("it is in the list".into()),
            Some(Kind::Board | Kind::Part) | None => {}
        }
    }
    let rank = Rank::new(std::sync::Arc::new(Silence));
    match rank.restore(&quiz.id, rows(Stage::Rank, 0, &rank.prefix(&quiz.id))) {
        Ok(ranking) => {
            let board = ranking.board();
            if board.definition.is_some() || board.status.phase != Phase::Forgotten {
                note(format!("the board is {}", board.status.phase.name()));
            }
            if ranking.books() != Books::default() || ranking.header().forgotten != 1 {
                note("the books have something".into());
            }
        }
        Err(error) => note(error),
    }
    left
}
