//! Random plans: a quiz, the records that reach its sections, and how its effects are delivered.

use std::sync::Arc;

use operators::definition::Definition;
use operators::event::Response;
use operators::id::ParticipantId;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Everything that one run needs; small numbers, so that a failing plan can be read.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) sections: u16,
    pub(crate) questions: Vec<Question>,
    pub(crate) free: bool,
    /// Which tie-breaks, in which order.
    pub(crate) ties: usize,
    /// Start with a published quiz that has participants.
    pub(crate) published: bool,
    /// And that is open.
    pub(crate) open: bool,
    /// Copies of commands arrive only by [`Step::Copy`].
    pub(crate) lag: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// A question; its kind follows from its place.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) points: &'static str,
    pub(crate) limit_ms: Option<u64>,
    pub(crate) kahoot: bool,
}

/// The number of a question that no quiz has; others are taken modulo the number of questions.
pub(crate) const UNKNOWN: u8 = 9;

/// One step of a run.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Wait {
        ms: u64,
    },
    Join {
        who: u8,
        name: u8,
    },
    Answer {
        who: u8,
        question: u8,
        response: u8,
        submission: u8,
        delay_ms: i64,
    },
    /// A question opens and closes while a section that hears of the close later counts answers to it, those received
    /// later before those received earlier.
    Overtaken {
        question: u8,
        who: u8,
    },
    Publish {
        variant: u8,
        if_version: Option<u64>,
        id: u8,
    },
    Open {
        id: u8,
    },
    OpenQuestion {
        question: u8,
        id: u8,
    },
    CloseQuestion {
        question: u8,
        id: u8,
    },
    Close {
        id: u8,
    },
    /// A Seal whether it is due or not.
    Seal {
        section: u8,
        question: Option<u8>,
    },
    /// What a runner does: every Seal that is due.
    Seals,
    /// A copy to one section: the next one, or one that is `skip` further, or one from before.
    Copy {
        section: u8,
        skip: i8,
    },
    /// All copies that a section has not had, in their order or the last first.
    Copies {
        turned: bool,
    },
    /// The nth record from the end of a section once more, as a repeated append would.
    Again {
        section: u8,
        back: u8,
    },
}

/// One act of one of the workers that emit a section's effects.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) section: u8,
    pub(crate) worker: u8,
    pub(crate) act: Act,
}

/// What a worker does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Emits so many effects from where it is.
    Emit(u8),
    /// Starts anew from this share (of 255) of what the section has emitted.
    Restart(u8),
}

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let quiz = (1..=8u16, vec(question(), 1..=5), prop::bool::weighted(0.25), 0..TIES.len());
    let start = (prop::bool::weighted(0.9), prop::bool::weighted(0.75), prop::bool::weighted(0.5));
    let run = (vec(step(), 0..120), vec(delivery(), 0..60));
    (quiz, start, run).prop_map(
        |((sections, questions, free, ties), (published, open, lag), (steps, deliveries))| Plan {
            sections,
            questions,
            free,
            ties,
            published,
            open,
            lag,
            steps,
            deliveries,
        },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let points = prop::sample::select(vec!["1000", "0", "1", "12.5", "0.333333", "1000000"]);
    let limit_ms = prop::sample::select(vec![None, Some(1), Some(2_000), Some(7_000), Some(20_000)]);
    (points, limit_ms, any::<bool>()).prop_map(|(points, limit_ms, kahoot)| Question {
        points,
        limit_ms,
        kahoot,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![9 => 100..200u8, 1 => 0..4u8];
    let question = || prop_oneof![12 => 0..5u8, 1 => Just(UNKNOWN)];
    prop_oneof![
        8 => prop_oneof![3 => 0..2_000u64, 1 => 0..12_000u64].prop_map(|ms| Step::Wait { ms }),
        6 => (0..12u8, 0..4u8).prop_map(|(who, name)| Step::Join { who, name }),
        40 => (0..12u8, question(), any::<u8>(), 0..14u8, -1_000..6_000i64).prop_map(
            |(who, question, response, submission, delay_ms)| Step::Answer { who, question, response, submission, delay_ms }
        ),
        4 => (0..5u8, 0..12u8).prop_map(|(question, who)| Step::Overtaken { question, who }),
        2 => (0..4u8, prop::option::weighted(0.3, 0..3u64), id()).prop_map(|(variant, if_version, id)| Step::Publish { variant, if_version, id }),
        1 => id().prop_map(|id| Step::Open { id }),
        12 => (question(), id()).prop_map(|(question, id)| Step::OpenQuestion { question, id }),
        9 => (question(), id()).prop_map(|(question, id)| Step::CloseQuestion { question, id }),
        1 => id().prop_map(|id| Step::Close { id }),
        2 => (0..8u8, prop::option::of(question())).prop_map(|(section, question)| Step::Seal { section, question }),
        3 => Just(Step::Seals),
        8 => (0..8u8, prop_oneof![3 => Just(0), 2 => 1..3i8, 1 => -2..0i8]).prop_map(|(section, skip)| Step::Copy { section, skip }),
        3 => any::<bool>().prop_map(|turned| Step::Copies { turned }),
        3 => (0..8u8, 0..6u8).prop_map(|(section, back)| Step::Again { section, back }),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let act = prop_oneof![4 => (1..9u8).prop_map(Act::Emit), 1 => any::<u8>().prop_map(Act::Restart)];
    (0..8u8, 0..3u8, act).prop_map(|(section, worker, act)| Delivery { section, worker, act })
}

const TIES: [&[&str]; 7] = [
    &["correct", "time", "last_correct"],
    &[],
    &["time"],
    &["last_correct"],
    &["correct"],
    &["last_correct", "time", "correct"],
    &["time", "correct"],
];

impl Plan {
    /// Returns the definition: 0 as planned, 1 with other tie-breaks, 2 with the questions turned round, 3 with another
    /// number of sections.
    pub(crate) fn definition(&self, variant: u8) -> Arc<Definition> {
        let mut questions: Vec<Value> = (0..self.questions.len()).map(|place| self.question(place)).collect();
        let ties = if variant == 1 { TIES[(self.ties + 1) % TIES.len()] } else { TIES[self.ties] };
        if variant == 2 {
            questions.reverse();
        }
        let sections = if variant == 3 { self.sections + 1 } else { self.sections };
        let pace = if self.free { "free" } else { "host" };
        let title = format!("variant {variant}");
        let source = json!({"title": title, "pace": pace, "sections": sections, "ranking": {"ties": ties}, "questions": questions});
        let source = serde_json::from_value(source).expect("the JSON form");
        Arc::new(Definition::new(source).expect("a sound definition"))
    }

    fn question(&self, place: usize) -> Value {
        let planned = &self.questions[place];
        let choices: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| json!({"id": id, "text": id})).collect();
        let mut question = match place % 4 {
            0 => json!({"kind": "single_choice", "key": {"choice": "b"}, "choices": choices}),
            1 => json!({"kind": "multiple_choice", "key": {"choices": ["a", "c"]}, "choices": choices}),
            2 => json!({"kind": "numeric", "key": {"value": "3", "tolerance": "0.5"}}),
            _ => json!({"kind": "short_text", "key": {"accept": ["Lima", "la paz"]}}),
        };
        question["id"] = json!(format!("q{place}"));
        question["text"] = json!("?");
        question["points"] = json!(planned.points);
        if let Some(ms) = planned.limit_ms {
            question["time_limit_ms"] = json!(ms);
            if planned.kahoot && !self.free {
                question["award"] = json!("kahoot@1");
            }
        }
        question
    }
}

/// Returns the participant with this number; neighbours fall into different sections.
pub(crate) fn participant(who: u8) -> ParticipantId {
    let high = u64::from(who).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ParticipantId((u128::from(high) << 64) | u128::from(who))
}

/// Returns an answer: for nine of ten numbers one of the question's kind.
pub(crate) fn response(question: u8, number: u8) -> Response {
    let choices = |ids: &[&str]| Response::Choices(ids.iter().map(|id| (*id).to_owned()).collect());
    let value = |text: &str| Response::Value(text.parse().expect("a decimal"));
    let text = |text: &str| Response::Text(text.to_owned());
    let kind = if number < 230 { question } else { number };
    match (kind % 4, number % 8) {
        (0, 0..=4) => Response::Choice("b".into()),
        (0, 5..=6) => Response::Choice("d".into()),
        (0, _) => Response::Choice("z".into()),
        (1, 0..=3) => choices(&["c", "a"]),
        (1, 4) => choices(&[]),
        (1, 5) => choices(&["a", "b", "c"]),
        (1, 6) => choices(&["a", "a"]),
        (1, _) => choices(&["a", "z"]),
        (2, 0..=2) => value("3.0"),
        (2, 3) => value("3.5"),
        (2, 4) => value("2.500"),
        (2, 5) => value("3.501"),
        (2, _) => value("-3"),
        (_, 0..=2) => text(" LIMA  "),
        (_, 3) => text("La\tPaz"),
        (_, 4) => text(""),
        (_, _) => text("lapaz"),
    }
}
