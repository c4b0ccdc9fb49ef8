//! Reading answers: what is taken, what is refused, and that no body makes a fault of ours.

use std::str::FromStr;

use gateway::error::{Code, seconds_up};
use gateway::json::answer::{HandIn, from_key, submission};
use gateway::json::{self, Place, Points, Time};
use ingest::partition::PartitionId;
use operators::definition::Source;
use operators::event::Response;
use operators::id::{Position, SubmissionId, UnixMillis};
use proptest::prelude::*;
use rust_decimal::Decimal;

const ID: &str = "0190b8a2-7c1e-7d9a-8f00-0123456789ab";

fn parse(answer: &str) -> Result<Response, Code> {
    let body = format!(r#"{{"question":"q1","answer":{answer}}}"#);
    HandIn::parse(body.as_bytes()).map(|hand_in| hand_in.response).map_err(|error| error.code())
}

#[test]
fn each_kind_of_answer_is_read() {
    assert_eq!(parse(r#"{"choice":"a"}"#), Ok(Response::Choice("a".into())));
    assert_eq!(parse(r#"{"choices":["c","a"]}"#), Ok(Response::Choices(vec!["c".into(), "a".into()])));
    assert_eq!(parse(r#"{"choices":[]}"#), Ok(Response::Choices(vec![])));
    assert_eq!(parse(r#"{"text":"S\u00e3o\nPaulo"}"#), Ok(Response::Text("São\nPaulo".into())));
    assert_eq!(parse(r#"{"value":"-3.140"}"#), Ok(Response::Value(Decimal::from_str("-3.140").unwrap())));
    let largest = "79228162514264337593543950335";
    assert_eq!(parse(&format!(r#"{{"value":"{largest}"}}"#)), Ok(Response::Value(Decimal::MAX)));
}

#[test]
fn everything_else_is_refused_as_the_callers_fault() {
    for (answer, code) in [
        (r#"{}"#, Code::InvalidBody),
        (r#"{"choice":"a","text":"b"}"#, Code::InvalidBody),
        (r#"{"choice":null}"#, Code::InvalidBody),
        (r#"{"choice":"a","points":"1000"}"#, Code::InvalidBody),
        (r#"{"choice":7}"#, Code::InvalidBody),
        (r#"{"choice":"a","choice":"b"}"#, Code::InvalidBody),
        (r#"{"order":["a"]}"#, Code::InvalidBody),
        (r#"{"value":3.14}"#, Code::InvalidBody),
        (r#"{"value":"1e3"}"#, Code::InvalidBody),
        (r#"{"value":"1_000"}"#, Code::InvalidBody),
        (r#"{"value":""}"#, Code::InvalidBody),
        (r#"{"value":"NaN"}"#, Code::InvalidBody),
        (r#"{"value":"1-1"}"#, Code::InvalidBody),
        (r#"{"value":"79228162514264337593543950336"}"#, Code::InvalidBody),
        (r#"{"value":"0.00000000000000000000000000001"}"#, Code::InvalidBody),
        (r#"{"text":"a\u0000b"}"#, Code::InvalidBody),
        (r#"{"text":"\ud800"}"#, Code::MalformedJson),
        ("\"\x01\"", Code::MalformedJson),
        ("1e400", Code::MalformedJson),
        ("{", Code::MalformedJson),
        ("", Code::MalformedJson),
        ("[]", Code::InvalidBody),
        ("null", Code::InvalidBody),
        (r#"["a"]"#, Code::InvalidBody),
    ] {
        assert_eq!(parse(answer), Err(code), "{answer}");
    }
    for fields in ["score", "points", "participant", "participant_id", "received_at", "client_time"] {
        let body = format!(r#"{{"question":"q1","answer":{{"choice":"a"}},"{fields}":1}}"#);
        assert_eq!(HandIn::parse(body.as_bytes()).unwrap_err().code(), Code::InvalidBody, "{fields}");
    }
    let body = format!(r#"{{"question":"q1","answer":{{"choice":"a"}},"submission":"{}"}}"#, &ID[1..]);
    assert_eq!(HandIn::parse(body.as_bytes()).unwrap_err().code(), Code::InvalidSubmission);
    assert_eq!(HandIn::parse(br#"["q1",{"choice":"a"}]"#).unwrap_err().code(), Code::InvalidBody);
    let deep = format!(r#"{{"question":{}"#, "[".repeat(60_000));
    assert!(HandIn::parse(deep.as_bytes()).unwrap_err().code().status().is_client_error());
    assert_eq!(HandIn::parse(b"{\"question\":\"\xff\"}").unwrap_err().code(), Code::MalformedJson);
}

#[test]
fn submission_and_key_name_one_thing() {
    let id: SubmissionId = ID.parse().unwrap();
    let other = from_key("order 66");
    assert_eq!(submission(Some(id), None).unwrap(), id);
    assert_eq!(submission(None, Some(ID)).unwrap(), id);
    assert_eq!(submission(Some(id), Some(&ID.to_uppercase())).unwrap(), id);
    assert_eq!(submission(Some(other), Some("order 66")).unwrap(), other);
    assert_eq!(submission(Some(id), Some("order 66")).unwrap_err().code(), Code::SubmissionConflict);
    assert_eq!(submission(None, None).unwrap_err().code(), Code::MissingSubmission);
    let uuid = other.to_string();
    assert_eq!((&uuid[14..15], "89ab".contains(&uuid[19..20])), ("8", true), "{uuid} is a version 8 UUID");
}

#[test]
fn a_wrong_body_is_told_where_it_is_wrong() {
    let pointer = |body: &str| {
        let error = json::parse::<Source>(body.as_bytes()).unwrap_err();
        (error.code(), error.pointer().unwrap_or_default().to_owned())
    };
    let question = |field: &str| format!(r#"{{"title":"t","questions":[{{"id":"q",{field}}}]}}"#);
    for (body, code, at) in [
        ("{", Code::MalformedJson, ""),
        (r#"{"title":1}"#, Code::InvalidBody, "/title"),
        ("[]", Code::InvalidBody, ""),
        (r#"{"titel":"t"}"#, Code::InvalidBody, "/titel"),
        (&question(r#""kind":"numeric","points":"many""#), Code::InvalidBody, "/questions/0/points"),
        (&question(r#""kind":"essay""#), Code::InvalidBody, "/questions/0/kind"),
        (
            &question(r#""kind":"numeric","text":"t","key":{"value":[]}"#),
            Code::InvalidBody,
            "/questions/0/key/value",
        ),
        (
            &question(r#""kind":"numeric","text":"t","key":{"a/b~":1}"#),
            Code::InvalidBody,
            "/questions/0/key/a~1b~0",
        ),
    ] {
        assert_eq!(pointer(body), (code, at.to_owned()), "{body}");
    }
}

#[test]
fn values_are_written_as_the_contract_says() {
    assert_eq!(Time(UnixMillis(1_800_000_000_007)).to_string(), "2027-01-15T08:00:00.007Z");
    assert_eq!(Time(UnixMillis(0)).to_string(), "1970-01-01T00:00:00.000Z");
    assert_eq!(&Time(UnixMillis(u64::MAX)).to_string()[..4], "9999");
    assert_eq!(Points("967.500".parse().unwrap()).to_string(), "967.5");
    assert_eq!(Place(PartitionId(3), Position::from_offset(4_182)).to_string(), "3-4182");
    let up = |ms| seconds_up(std::time::Duration::from_millis(ms));
    assert_eq!([up(0), up(1), up(1_000), up(1_001)], [1, 1, 1, 2]);
}

/// Bodies that are nearly answers: JSON of any shape under the right names.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<Option<i64>>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        "[-+0-9._e]{0,40}".prop_map(serde_json::Value::from),
    ];
    let name = prop_oneof![
        Just("question"),
        Just("answer"),
        Just("submission"),
        Just("choice"),
        Just("choices"),
        Just("value"),
        Just("text"),
        Just("other")
    ];
    let value = leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            prop::collection::hash_map(name.clone(), inner, 0..4)
                .prop_map(|map| map
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<serde_json::Map<_, _>>())
                .prop_map(serde_json::Value::from),
        ]
    });
    (value, any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(|(value, at, byte)| {
        let mut bytes = value.to_string().into_bytes();
        if let Some(byte) = byte {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_body_makes_a_fault_of_ours(bytes in prop_oneof![body(), prop::collection::vec(any::<u8>(), 0..200)]) {
        if let Err(error) = HandIn::parse(&bytes) {
            prop_assert!(error.code().status().is_client_error());
        }
        if let Err(error) = json::parse::<Source>(&bytes) {
            prop_assert!(error.code().status().is_client_error());
        }
    }

    #[test]
    fn every_key_stands_for_one_submission(key in "[ -~]{1,255}") {
        prop_assert_eq!(from_key(&key), from_key(&key));
        prop_assert_ne!(from_key(&key), from_key(&format!("{key}x")));
    }
}
