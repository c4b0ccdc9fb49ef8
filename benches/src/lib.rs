//! What the benchmarks share: a quiz, its participants and a stream of answers, the same in every run.

use std::sync::Arc;

use operators::definition::{Definition, Pace, Source};
use operators::event::{Answer, Command, Event, Response, Stamp};
use operators::id::{ParticipantId, Position, QuestionId, QuizId, SubmissionId, UnixMillis};
use operators::quiz::Section;

/// Choices of every question; the first is right.
const CHOICES: [&str; 4] = ["a", "b", "c", "d"];

/// Returns the quiz of all benchmarks.
///
/// # Panics
/// Never: the id is legal.
pub fn quiz() -> QuizId {
    "bench".parse().expect("a legal id")
}

/// Returns the id of a question.
///
/// # Panics
/// Never: the id is legal.
pub fn question(index: usize) -> QuestionId {
    format!("q{index}").parse().expect("a legal id")
}

/// Returns a free-paced definition with `questions` single-choice questions.
///
/// # Panics
/// If `questions` is 0 or over the limit of a definition.
pub fn definition(questions: usize) -> Arc<Definition> {
    use operators::definition::{Choice, KeySource, Kind, QuestionSource, RankingRule};
    use operators::policies::{Award, Grading};
    let choice = |id: &str| Choice { id: id.parse().expect("a legal id"), text: id.to_uppercase() };
    let one = |index| QuestionSource {
        id: question(index),
        kind: Kind::SingleChoice,
        text: "Which one?".into(),
        choices: CHOICES.map(choice).to_vec(),
        key: KeySource { choice: Some(CHOICES[0].parse().expect("a legal id")), ..KeySource::default() },
        points: 1_000.into(),
        time_limit_ms: None,
        grading: Grading::AllOrNothing1,
        award: Award::Flat1,
    };
    let source = Source {
        title: "Bench".into(),
        pace: Pace::Free,
        sections: 1,
        ranking: RankingRule::default(),
        questions: (0..questions).map(one).collect(),
    };
    Arc::new(Definition::new(source).expect("a legal definition"))
}

/// Returns participant number `n`, spread over the id space.
pub fn participant(n: u64) -> ParticipantId {
    ParticipantId(u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Returns the stamp of record number `n`, a tenth of a millisecond after the one before.
pub fn stamp(n: u64) -> Stamp {
    Stamp { position: Position::from_offset(n), append_at: UnixMillis(1_000_000 + n / 10) }
}

/// Returns the answer of participant `n` to question `index`.
pub fn answer(n: u64, index: usize) -> Event {
    let choice = CHOICES[(n as usize * 7 + index * 3) % CHOICES.len()];
    Event::Answer(Answer {
        participant: participant(n),
        submission: SubmissionId(u128::from(n) << 64 | index as u128),
        question: question(index),
        response: Response::Choice(choice.into()),
        received_at: UnixMillis(1_000_000),
    })
}

/// Returns a section whose quiz is open and has `participants`, and the number of records that made it.
///
/// # Panics
/// If `questions` is 0 or over the limit of a definition.
pub fn open_section(participants: u64, questions: usize) -> (Section, u64) {
    let mut section = Section::new(quiz(), 0);
    let mut outputs = Vec::new();
    let id = |text: &str| text.parse().expect("a legal id");
    let publish = Command::Publish { definition: definition(questions), if_version: None };
    section.apply(
        &Event::Command { id: id("publish"), content: 0, command: publish },
        stamp(0),
        &mut outputs,
    );
    for n in 0..participants {
        let name = format!("Player {n}");
        section.apply(&Event::Join { participant: participant(n), name }, stamp(1 + n), &mut outputs);
        outputs.clear();
    }
    section.apply(
        &Event::Command { id: id("open"), content: 0, command: Command::Open },
        stamp(1 + participants),
        &mut outputs,
    );
    section.take_touched();
    (section, 2 + participants)
}
