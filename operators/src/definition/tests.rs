//! Definitions that must be taken and refused, each with the place of the fault.

use serde_json::{Value, json};

use super::*;

fn parse(json: &str) -> Result<Definition, Vec<Problem>> {
    Definition::new(serde_json::from_str(json).expect("the JSON form parses"))
}

fn question(fields: &str) -> String {
    format!(r#"{{"title":"T","questions":[{{"id":"q1","text":"?",{fields}}}]}}"#)
}

#[test]
fn the_contract_example_is_taken() {
    let definition = parse(
        r#"{"title": "Capitals", "pace": "host", "sections": 1,
            "ranking": {"method": "standard", "ties": ["correct", "time", "last_correct"]},
            "questions": [{"id": "q1", "kind": "single_choice", "text": "Capital of Peru?",
              "choices": [{"id": "a", "text": "Quito"}, {"id": "b", "text": "Lima"}],
              "key": {"choice": "b"}, "points": "1000", "time_limit_ms": 20000,
              "grading": "all_or_nothing@1", "award": "kahoot@1"}]}"#,
    )
    .unwrap();
    assert_eq!(definition.questions[0].key, Key::Single(1));
    assert_eq!(definition.source().ranking, RankingRule::default());
    let again: Source = serde_json::from_str(&serde_json::to_string(definition.source()).unwrap()).unwrap();
    assert_eq!(&again, definition.source());
}

#[test]
fn each_fault_is_named_with_its_place() {
    let choices = r#""choices":[{"id":"a","text":"A"},{"id":"b","text":"B"}]"#;
    let cases = [
        (
            format!(r#""kind":"single_choice",{choices},"key":{{"choice":"c"}}"#),
            "/questions/0/key/choice",
            "unknown_choice",
        ),
        (format!(r#""kind":"single_choice",{choices},"key":{{}}"#), "/questions/0/key/choice", "missing"),
        (
            format!(r#""kind":"single_choice",{choices},"key":{{"choice":"a","value":"1"}}"#),
            "/questions/0/key/value",
            "unexpected",
        ),
        (r#""kind":"single_choice","key":{"choice":"a"}"#.into(), "/questions/0/choices", "out_of_range"),
        (
            format!(r#""kind":"multiple_choice",{choices},"key":{{"choices":["a","a"]}}"#),
            "/questions/0/key/choices/1",
            "duplicate",
        ),
        (
            r#""kind":"numeric","key":{"value":"1","tolerance":"-1"}"#.into(),
            "/questions/0/key/tolerance",
            "out_of_range",
        ),
        (r#""kind":"numeric","key":{"min":"2","max":"1"}"#.into(), "/questions/0/key/min", "out_of_range"),
        (
            r#""kind":"numeric","key":{"value":"79228162514264337593543950335","tolerance":"1"}"#.into(),
            "/questions/0/key",
            "out_of_range",
        ),
        (r#""kind":"short_text","key":{"accept":[" "]}"#.into(), "/questions/0/key/accept/0", "empty"),
        (
            r#""kind":"numeric","key":{"value":"1"},"points":"-1""#.into(),
            "/questions/0/points",
            "out_of_range",
        ),
        (
            r#""kind":"numeric","key":{"value":"1"},"points":"0.0000001""#.into(),
            "/questions/0/points",
            "too_precise",
        ),
        (
            r#""kind":"numeric","key":{"value":"1"},"award":"kahoot@1""#.into(),
            "/questions/0/time_limit_ms",
            "missing",
        ),
    ];
    for (fields, pointer, code) in cases {
        let problems = parse(&question(&fields)).expect_err(&fields);
        assert!(problems.iter().any(|p| p.pointer == pointer && p.code == code), "{fields}: {problems:?}");
    }
}

#[test]
fn a_clock_award_needs_a_clock() {
    let json = r#"{"title":"T","pace":"free","questions":[{"id":"q1","kind":"numeric","text":"?","key":{"value":"1"},
        "time_limit_ms":1000,"award":"kahoot@1"}]}"#;
    assert_eq!(parse(json).unwrap_err()[0].code, "needs_clock");
}

#[test]
fn unknown_fields_and_policies_are_refused() {
    for json in [
        r#"{"title":"T","questions":[],"extra":1}"#,
        r#"{"title":"T","questions":[{"id":"q","kind":"numeric","text":"?","key":{"value":"1"},"award":"magic@1"}]}"#,
        r#"{"title":"T","questions":[{"id":"q","kind":"essay","text":"?","key":{}}]}"#,
        r#"{"title":"T","ranking":{"method":"dense2"},"questions":[]}"#,
    ] {
        assert!(serde_json::from_str::<Source>(json).is_err(), "{json}");
    }
}

#[test]
fn an_answer_of_another_shape_does_not_fit() {
    let definition = parse(&question(
        r#""kind":"multiple_choice","choices":[{"id":"a","text":"A"},{"id":"b","text":"B"}],"key":{"choices":["a"]}"#,
    ))
    .unwrap();
    let q = &definition.questions[0];
    assert_eq!(q.pick(&Response::Choice("a".into())), Err(Misfit::Shape));
    assert_eq!(q.pick(&Response::Choices(vec!["z".into()])), Err(Misfit::UnknownChoice));
    assert_eq!(q.pick(&Response::Choices(vec!["a".into(), "a".into()])), Err(Misfit::RepeatedChoice));
    assert_eq!(q.pick(&Response::Choices(vec!["b".into(), "a".into()])), Ok(Picked::Choices(3)));
}

/// Serde would read a struct from an array of its values, and a decimal with more digits than it holds.
#[test]
fn an_object_is_no_array_and_a_number_keeps_every_digit() {
    let question = |key: Value, points: Value| {
        json!({"title": "T", "questions": [
            {"id": "q", "kind": "numeric", "text": "?", "key": key, "points": points}]})
    };
    let read = |source: Value| serde_json::from_value::<Source>(source).map_err(|error| error.to_string());
    let exact = read(question(json!({"value": "-3.140", "tolerance": "0.000000000001"}), json!("1000.50")));
    let exact = exact.unwrap();
    assert_eq!(exact.questions[0].key.value.unwrap().to_string(), "-3.140");
    assert_eq!(exact.questions[0].points.to_string(), "1000.50");
    let key = || json!({"value": "1"});
    for (source, says) in [
        (question(json!(["b"]), json!("1")), "an object"),
        (question(key(), json!("1000.00000000000000000000000000000001")), "at most 28 digits"),
        (question(json!({"value": "0.12345678901234567890123456789"}), json!("1")), "at most 28 digits"),
        (question(json!({"value": "1", "tolerance": "1e-3"}), json!("1")), "1e-3"),
        (question(json!({"min": "٣"}), json!("1")), "at most 28 digits"),
        (question(key(), json!(1.5)), "in quotes"),
        (json!({"title": "T", "ranking": ["standard", []], "questions": []}), "an object"),
        (json!({"title": "T", "questions": [["q", "numeric", "?"]]}), "an object"),
        (
            json!({"title": "T", "questions": [{"id": "q", "kind": "single_choice", "text": "?",
                "key": {"choice": "a"}, "choices": [["a", "A"], ["b", "B"]]}]}),
            "an object",
        ),
    ] {
        let error = read(source).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}
