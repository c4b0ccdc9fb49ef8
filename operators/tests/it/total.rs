//! Totality: whatever a log holds, the fold takes it without a panic.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use operators::definition::{Definition, Source};
use operators::effect::Output;
use operators::event::{Answer, Command, Event, Response, Scope, Stamp};
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use operators::policies::award::Clock;
use operators::policies::{Award, Fraction};
use operators::quiz::Section;
use operators::rank::{Cursor, Ranking};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::config;
use crate::world::{quiz, standings};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(2),
        Just(3),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 63),
        any::<u64>()
    ]
}

fn decimal() -> impl Strategy<Value = Decimal> {
    let extreme = vec![
        Decimal::MAX,
        Decimal::MIN,
        Decimal::ZERO,
        -Decimal::ZERO,
        Decimal::new(1, 28),
        Decimal::new(-1, 28),
    ];
    prop_oneof![
        prop::sample::select(extreme),
        (any::<i64>(), 0..=28u32).prop_map(|(digits, scale)| Decimal::new(digits, scale)),
        (-5..5i64).prop_map(Decimal::from),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        4 => Just("\0".into()),
        1 => Just("ﬁ\u{300}\u{fdfa}".repeat(300)),
        1 => Just("x".repeat(5_000)),
        4 => "\\PC{0,8}",
        9 => (0..70u8).prop_map(|n| format!("c{n}")),
    ]
}

/// 70 ids, so that lists can be longer than 64.
fn many() -> impl Strategy<Value = Vec<String>> {
    let lengths = prop_oneof![4 => 0..4usize, 1 => 60..70usize];
    let id = prop_oneof![9 => (0..66u8).prop_map(|n| format!("c{n}")), 1 => text()];
    lengths.prop_flat_map(move |length| vec(id.clone(), length))
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        text().prop_map(Response::Choice),
        many().prop_map(Response::Choices),
        decimal().prop_map(Response::Value),
        text().prop_map(Response::Text),
    ]
}

/// Definitions at the limits of what is allowed, and a little past them.
fn source() -> impl Strategy<Value = Source> {
    let points = prop::sample::select(vec!["0", "1000000", "0.000001", "999999.999999", "1000000.1"]);
    let limit = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!(86_400_000)),
        number().prop_map(|n| json!(n))
    ];
    let key = (decimal(), prop::option::of(decimal()), many(), 0..5u8);
    let question = (points, limit, key, any::<bool>()).prop_map(|(points, limit, key, kahoot)| {
        let (value, tolerance, accept, kind) = key;
        let choices: Vec<_> = (0..64).map(|n| json!({"id": format!("c{n}"), "text": "?"})).collect();
        let mut question = match kind {
            0 => json!({"kind": "single_choice", "choices": choices, "key": {"choice": "c63"}}),
            1 => json!({"kind": "multiple_choice", "choices": choices, "key": {"choices": ["c0", "c63"]}}),
            2 => json!({"kind": "numeric", "key": {"value": value, "tolerance": tolerance}}),
            3 => json!({"kind": "numeric", "key": {"min": Decimal::MIN, "max": value}}),
            _ => json!({"kind": "short_text", "key": {"accept": accept}}),
        };
        question["text"] = json!("?");
        question["points"] = json!(points);
        if !limit.is_null() {
            question["time_limit_ms"] = limit;
        }
        question["award"] = json!(if kahoot { "kahoot@1" } else { "flat@1" });
        question
    });
    (vec(question, 0..6), prop::sample::select(vec![0, 1, 2, 64, 65]), any::<bool>()).prop_map(
        |(questions, sections, free)| {
            let questions: Vec<Value> = questions
                .into_iter()
                .enumerate()
                .map(|(place, mut question)| {
                    question["id"] = json!(format!("q{place}"));
                    question
                })
                .collect();
            let pace = if free { "free" } else { "host" };
            serde_json::from_value(
                json!({"title": "T", "sections": sections, "pace": pace, "questions": questions}),
            )
            .expect("the JSON form")
        },
    )
}

/// Definitions that were drawn once: drawing one per record would take most of the time.
fn definition() -> impl Strategy<Value = Arc<Definition>> {
    static DRAWN: LazyLock<Vec<Arc<Definition>>> = LazyLock::new(|| {
        let mut runner = TestRunner::deterministic();
        let mut draw = || source().new_tree(&mut runner).expect("a source").current();
        std::iter::repeat_with(|| Definition::new(draw()).map(Arc::new))
            .filter_map(Result::ok)
            .take(64)
            .collect()
    });
    prop::sample::select(DRAWN.as_slice())
}

fn command() -> impl Strategy<Value = Command> {
    let question = || (0..7u8).prop_map(|n| format!("q{n}").parse().expect("an id"));
    prop_oneof![
        2 => (definition(), prop::option::of(number()))
            .prop_map(|(definition, if_version)| Command::Publish { definition, if_version }),
        2 => Just(Command::Open),
        4 => question().prop_map(Command::OpenQuestion),
        2 => question().prop_map(Command::CloseQuestion),
        1 => Just(Command::Close),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let who = || prop_oneof![Just(0), Just(1), Just(u128::MAX)].prop_map(ParticipantId);
    let question = || (0..7u8).prop_map(|n| format!("q{n}").parse().expect("an id"));
    let answer = (who(), 0..9u8, question(), response(), number());
    prop_oneof![
        10 => answer.prop_map(|(participant, submission, question, response, at)| {
            let (submission, received_at) = (SubmissionId(submission.into()), UnixMillis(at));
            Event::Answer(Answer { participant, submission, question, response, received_at })
        }),
        3 => (who(), text()).prop_map(|(participant, name)| Event::Join { participant, name }),
        5 => (0..99u8, command()).prop_map(|(id, command)| {
            Event::Command { id: format!("id{id}").parse().expect("an id"), content: 7, command }
        }),
        4 => (prop_oneof![1..6u64, number()], number(), command())
            .prop_map(|(number, at, command)| Event::Copy { number, at: UnixMillis(at), command }),
        2 => prop::option::of(question())
            .prop_map(|question| Event::Seal { scope: question.map_or(Scope::Quiz, Scope::Question) }),
    ]
}

/// Asks a ranking everything that a reader can ask.
fn read(ranking: &Ranking, cursor: Option<Cursor>, limit: usize) {
    ranking.page(cursor, limit);
    ranking.books();
    ranking.is_final();
    ranking.is_sealed(0);
    ranking.is_sealed(u16::MAX);
    for who in [0, 1, 2, u128::MAX].map(ParticipantId) {
        ranking.around(who, limit);
        ranking.row(who);
        ranking.percentile(who);
    }
    for id in 0..4 {
        ranking.decided(&format!("id{id}").parse().expect("an id"));
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_section_takes_any_record_in_any_order(
        events in vec((event(), number()), 0..60),
        section in prop::sample::select(vec![0, 1, 63, u16::MAX]),
    ) {
        let mut fold = Section::new(quiz(), section);
        let mut outputs: Vec<Output> = Vec::new();
        for (place, (event, append_at)) in events.iter().enumerate() {
            let stamp = Stamp { position: Position::from_offset(place as u64), append_at: UnixMillis(*append_at) };
            fold.apply(event, stamp, &mut outputs);
            fold.unsealed();
            fold.window(0);
            fold.question_id(u16::MAX);
        }
        let tallies: u64 = (0..7).map(|question| fold.tally(question).received()).sum();
        let answers = events.iter().filter(|(event, _)| matches!(event, Event::Answer(_))).count();
        prop_assert_eq!(tallies + fold.header().unknown.received(), answers as u64);
        prop_assert_eq!(fold.header().revision, events.len() as u64);
    }

    #[test]
    fn a_ranking_takes_any_effect_in_any_order(
        events in vec((event(), number()), 0..40),
        order in vec((any::<prop::sample::Index>(), 0..9u16), 0..60),
        cursor in prop::option::of([number(), number(), number(), number()]),
        limit in prop::sample::select(vec![0, 1, 2, usize::MAX]),
    ) {
        let mut fold = Section::new(quiz(), 0);
        let mut outputs: Vec<Output> = Vec::new();
        for (event, append_at) in &events {
            fold.apply(event, Stamp { position: Position::default(), append_at: UnixMillis(*append_at) }, &mut outputs);
        }
        let effects: Vec<_> = outputs.iter().filter_map(standings).collect();
        let mut ranking = Ranking::new(quiz());
        let cursor = cursor.map(|key| {
            let key: String = key.iter().map(|part| format!("{part:x}.")).collect();
            format!("{key}0").parse().expect("a cursor")
        });
        read(&ranking, cursor, limit);
        for (index, section) in order {
            if effects.is_empty() {
                break;
            }
            let mut effect = index.get(&effects).to_owned().clone();
            effect.section = section;
            ranking.apply(&effect);
            read(&ranking, cursor, limit);
        }
    }

    #[test]
    fn a_definition_is_taken_or_refused(source in source(), response in response()) {
        match Definition::new(source) {
            Ok(definition) => {
                for question in &definition.questions {
                    if let Ok(picked) = question.pick(&response) {
                        question.grading.grade(&question.key, &picked);
                    }
                }
            }
            Err(problems) => prop_assert!(!problems.is_empty() && problems.len() <= 50),
        }
    }
}

/// Nothing within the limits gets near these sums; a fold that restores them goes on all the same.
#[test]
fn sums_stay_at_the_end_of_their_range() {
    let mut fold = Section::new(quiz(), 0);
    let mut outputs = Vec::new();
    let source = json!({"title": "T", "pace": "free",
        "questions": [{"id": "q0", "kind": "numeric", "text": "?", "key": {"value": "1"}, "points": "1000000"}]});
    let source = serde_json::from_value(source).expect("the JSON form");
    let definition = Arc::new(Definition::new(source).expect("a sound definition"));
    let participant = ParticipantId(1);
    let id = |id: &str| id.parse().expect("an id");
    let first = Stamp { position: Position::default(), append_at: UnixMillis(0) };
    fold.apply(
        &Event::Command {
            id: id("a"),
            content: 0,
            command: Command::Publish { definition, if_version: None },
        },
        first,
        &mut outputs,
    );
    fold.apply(&Event::Join { participant, name: "Ana".into() }, first, &mut outputs);
    fold.apply(&Event::Command { id: id("b"), content: 0, command: Command::Open }, first, &mut outputs);
    let mut header = fold.header().clone();
    header.awarded = Decimal::MAX;
    let mut participants = fold.participants().clone();
    participants[0].standing.points = Decimal::MAX;
    participants[0].standing.time_ms = u64::MAX;
    participants[0].unscored = u32::MAX;
    let (definition, desk) = (fold.definition().cloned(), fold.desk().clone());
    let mut fold = Section::restore(quiz(), 0, header, definition, desk, BTreeMap::new(), participants);
    let last = Stamp { position: Position::default(), append_at: UnixMillis(u64::MAX) };
    for (submission, value) in [(1, 1), (2, 1)] {
        let (submission, response) = (SubmissionId(submission), Response::Value(value.into()));
        let question = "q0".parse().expect("an id");
        let received_at = UnixMillis(u64::MAX);
        fold.apply(
            &Event::Answer(Answer { participant, submission, question, response, received_at }),
            last,
            &mut outputs,
        );
    }
    let standing = fold.participants()[0].standing;
    assert_eq!((standing.points, standing.time_ms, standing.correct), (Decimal::MAX, u64::MAX, 1));
    assert_eq!(fold.header().awarded, Decimal::MAX);
    assert_eq!((fold.participants()[0].unscored, fold.tally(0).repeated), (0, 1));
}

#[test]
fn an_award_takes_any_clock() {
    for limit_ms in [None, Some(0), Some(1), Some(u64::MAX)] {
        for taken_ms in [0, 500, u64::MAX] {
            for award in [Award::Flat1, Award::Kahoot1] {
                let points =
                    award.award(Fraction::ONE, Decimal::from(1_000_000), Clock { taken_ms, limit_ms });
                assert!((500_000..=1_000_000).contains(&points.try_into().unwrap_or(0)), "{points}");
            }
        }
    }
}
