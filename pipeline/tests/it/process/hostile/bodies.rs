//! Bodies that are no answers: no JSON, the wrong shape, numbers out of range, too much, another type.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use serde_json::{Value, json};

use super::{Door, QUIZ, refused};
use crate::process::harness::{Dice, submission};

/// Returns an answer's body with one field replaced, or removed by null.
fn answer_with(field: &str, value: Value) -> String {
    let mut body = json!({"question": "number", "answer": {"value": "1"}, "submission": submission(9)});
    if value.is_null() {
        body.as_object_mut().unwrap().remove(field);
    } else {
        body[field] = value;
    }
    body.to_string()
}

#[tokio::test]
async fn bodies_that_are_no_json_are_malformed() {
    let door = Door::open().await;
    let good = answer_with("submission", json!(submission(9)));
    let cut = good[..good.len() - 1].to_owned();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for body in [
        "",
        " ",
        "{",
        &cut,
        &format!("{good} x"),
        &format!("{good}{good}"),
        "\u{feff}{}",
        "{'question': 1}",
        "nul",
        &format!("{{\"question\":\"number\",\"answer\":{}}}", nested(129)),
        &nested(100_000 / 4),
        "{\"question\":\"\\ud800\",\"answer\":{}}",
        "{\"question\":\"number\",}",
        "{\"question\":\"a\nb\"}",
        "{\"question\":\"number\",\"answer\":{\"value\":1e}}",
    ] {
        let what: String = body.chars().take(60).collect();
        let reply = door.answer(body.to_owned()).await;
        let code = reply.code();
        assert!(
            (reply.status == 400 && code == "malformed_json")
                || (reply.status == 422 && code == "invalid_body"),
            "{what}: {reply:?}"
        );
    }
    for (what, body) in [
        ("bytes that are no UTF-8", b"{\"question\":\"\xff\xfe\",\"answer\":{\"value\":\"1\"}}".as_slice()),
        ("an overlong NUL", b"{\"question\":\"\xc0\x80\",\"answer\":{\"value\":\"1\"}}"),
        ("a NUL between tokens", b"{\"question\":\0\"number\"}"),
        ("a NUL in a text", b"{\"question\":\"num\0ber\"}"),
        ("UTF-16", b"{\0\"\0q\0\"\0:\x001\0}\0"),
    ] {
        refused(what, &door.answer(body).await, 400, "malformed_json", "");
    }
    door.is_well().await;
}

#[tokio::test]
async fn answers_of_a_wrong_shape_are_refused_where_they_are_wrong() {
    let door = Door::open().await;
    let deep = (0..100).fold(json!({"value": "1"}), |inner, _| json!([inner]));
    for (body, code, pointer) in [
        ("[]".to_owned(), "invalid_body", ""),
        ("\"x\"".to_owned(), "invalid_body", ""),
        ("null".to_owned(), "invalid_body", ""),
        ("{}".to_owned(), "invalid_body", ""),
        (answer_with("question", json!(1)), "invalid_body", "/question"),
        (answer_with("question", json!(["number"])), "invalid_body", "/question"),
        (answer_with("question", Value::Null), "invalid_body", ""),
        (answer_with("question", json!("nothing")), "unknown_question", "/question"),
        (answer_with("question", json!("num\0ber")), "unknown_question", "/question"),
        (answer_with("question", json!("")), "unknown_question", "/question"),
        (answer_with("question", json!("x".repeat(10_000))), "unknown_question", "/question"),
        (answer_with("answer", json!([])), "invalid_body", "/answer"),
        (answer_with("answer", json!("1")), "invalid_body", "/answer"),
        (answer_with("answer", Value::Null), "invalid_body", ""),
        (answer_with("answer", json!({})), "invalid_body", "/answer"),
        (answer_with("answer", deep), "invalid_body", "/answer"),
        (answer_with("answer", json!({"value": "1", "text": "1"})), "invalid_body", "/answer"),
        (answer_with("answer", json!({"value": 1})), "invalid_body", "/answer/value"),
        (answer_with("answer", json!({"values": "1"})), "invalid_body", ""),
        (answer_with("answer", json!({"choices": "a"})), "invalid_body", "/answer/choices"),
        (answer_with("answer", json!({"choices": [1]})), "invalid_body", "/answer/choices/0"),
        (answer_with("answer", json!({"text": "a\0b"})), "invalid_body", "/answer/text"),
        (answer_with("answer", json!({"text": "x"})), "wrong_shape", "/answer"),
        (answer_with("submission", json!("not-a-uuid")), "invalid_submission", "/submission"),
        (answer_with("submission", json!(7)), "invalid_body", "/submission"),
        (answer_with("received_at", json!("1970-01-01T00:00:00Z")), "invalid_body", ""),
        (answer_with("participant", json!("someone else")), "invalid_body", ""),
        ("{\"question\":\"number\",\"question\":\"one\"}".to_owned(), "invalid_body", ""),
    ] {
        let what: String = body.chars().take(120).collect();
        refused(&what, &door.answer(body).await, 422, code, pointer);
    }
    refused(
        "no id",
        &door.answer(answer_with("submission", Value::Null)).await,
        400,
        "missing_submission",
        "",
    );
    for (question, answer, code) in [
        ("one", json!({"choice": "z"}), "unknown_choice"),
        ("one", json!({"choices": ["a"]}), "wrong_shape"),
        ("many", json!({"choices": ["a", "a"]}), "repeated_choice"),
        ("many", json!({"choices": ["a", "z"]}), "unknown_choice"),
        ("words", json!({"text": "x".repeat(1_001)}), "too_long"),
        ("number", json!({"choice": "a"}), "wrong_shape"),
    ] {
        let body = json!({"question": question, "answer": answer, "submission": submission(9)});
        refused(&body.to_string(), &door.answer(body.to_string()).await, 422, code, "/answer");
    }
    door.is_well().await;
}

#[tokio::test]
async fn numbers_that_a_decimal_cannot_hold_exactly_are_refused() {
    let door = Door::open().await;
    let digits = "1234567890".repeat(4);
    let fraction = format!("0.{digits}");
    for value in [
        "1e999",
        "1e5",
        "NaN",
        "inf",
        "-",
        ".",
        "",
        " 1",
        "1 ",
        "1,5",
        "1_000",
        "0x10",
        "--1",
        "1.2.3",
        "\u{0661}",
        &digits,
        &fraction,
        &"9".repeat(10_000),
    ] {
        let body = answer_with("answer", json!({"value": value}));
        refused(
            &body[..body.len().min(100)],
            &door.answer(body.clone()).await,
            422,
            "invalid_body",
            "/answer/value",
        );
    }
    let quiz = |points: &str| {
        format!(
            "{{\"title\":\"T\",\"questions\":[{{\"id\":\"q\",\"kind\":\"numeric\",\"text\":\"?\",\
                 \"key\":{{\"value\":\"1\"}},\"points\":{points}}}]}}"
        )
    };
    for points in
        ["\"1e999\"", &format!("\"{digits}\""), "\"-1\"", "\"1000001\"", "\"0.0000001\"", "\"x\"", "[]"]
    {
        let request =
            door.host.request(Method::PUT, "/v1/quizzes/numbers").header("content-type", "application/json");
        let reply = door.host.send(request.body(Full::new(quiz(points).into())).unwrap()).await.unwrap();
        assert_eq!(reply.status, 422, "{points}: {reply:?}");
        assert_eq!(reply.value()["pointer"], "/questions/0/points", "{points}: {reply:?}");
    }
    assert_eq!(door.host.get("/v1/quizzes/numbers").await.status, 404);
    door.is_well().await;
}

#[tokio::test]
async fn bodies_that_are_too_large_or_of_another_type_are_refused() {
    let door = Door::open().await;
    // A server that hangs up on a sender may be heard or not: the reset can overtake the answer.
    for length in [65 << 10, 2 << 20] {
        if let Ok(reply) = door.try_answer(answer_with("answer", json!({"text": "x".repeat(length)}))).await {
            refused("a long text", &reply, 413, "body_too_large", "");
        }
    }
    let padded = format!("{}{}", answer_with("answer", json!({"value": "1"})), " ".repeat(64 << 10));
    if let Ok(reply) = door.try_answer(padded).await {
        refused("padding", &reply, 413, "body_too_large", "");
    }
    let quiz = json!({"title": "x".repeat(2 << 20), "questions": []});
    if let Ok(reply) = door.host.send(door.host.json(Method::PUT, "/v1/quizzes/large", &quiz)).await {
        refused("a quiz of 2 MiB", &reply, 413, "body_too_large", "");
    }
    let path = format!("/v1/quizzes/{QUIZ}/answers");
    let body = || Full::new(Bytes::from(answer_with("answer", json!({"value": "1"}))));
    for (name, value, code) in [
        ("content-type", "text/plain", "unsupported_media_type"),
        ("content-type", "application/jsonx", "unsupported_media_type"),
        ("content-type", "application/x-www-form-urlencoded", "unsupported_media_type"),
        ("x-nothing", "no type at all", "unsupported_media_type"),
    ] {
        let request = door.player.request(Method::POST, &path).header(name, value);
        refused(value, &door.player.send(request.body(body()).unwrap()).await.unwrap(), 415, code, "");
    }
    for encoding in ["gzip", "br", "deflate, gzip", "x"] {
        let request = door.player.request(Method::POST, &path).header("content-type", "application/json");
        let request = request.header("content-encoding", encoding).body(body()).unwrap();
        refused(encoding, &door.player.send(request).await.unwrap(), 415, "unsupported_encoding", "");
    }
    door.is_well().await;
}

#[tokio::test]
async fn mutated_answers_never_break_the_server() {
    let door = Door::open().await;
    let good = json!({"question": "one", "answer": {"choices": ["a", "b"]}, "submission": submission(9)})
        .to_string();
    let mut dice = Dice(9);
    for nth in 0..1_000 {
        let mut body = good.clone().into_bytes();
        for _ in 0..=dice.below(3) {
            if body.is_empty() {
                break;
            }
            let at = dice.below(body.len() as u64) as usize;
            match dice.below(4) {
                0 => drop(body.remove(at)),
                1 => body[at] = dice.below(256) as u8,
                2 => body.insert(at, b"{}[]\",:\\0 \0\xff"[dice.below(12) as usize]),
                _ => body.truncate(at.max(1)),
            }
        }
        // The host has the wider rate limit; it has not joined, so that nothing is ever taken in.
        let request = door.host.request(Method::POST, &format!("/v1/quizzes/{QUIZ}/answers"));
        let request =
            request.header("content-type", "application/json").body(Full::new(body.clone().into())).unwrap();
        let reply = door.host.send(request).await.unwrap();
        let status = reply.status.as_u16();
        assert!(
            (400..500).contains(&status) && status != 429,
            "{nth}: {}: {reply:?}",
            String::from_utf8_lossy(&body)
        );
        assert!(!reply.code().is_empty(), "{reply:?}");
    }
    door.is_well().await;
}
