//! The OpenAPI document against the router, both ways; what each request of the other tests answers is held against it
//! in `request`.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use super::house::{Door, house, id};
use super::request::{Reply, document};

/// The operations of design section 8 that the document describes.
const OPERATIONS: [(&str, &str); 14] = [
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/v1/quizzes"),
    ("GET", "/v1/quizzes/{quiz}"),
    ("GET", "/v1/quizzes/{quiz}/books"),
    ("GET", "/v1/quizzes/{quiz}/leaderboard"),
    ("GET", "/v1/quizzes/{quiz}/live"),
    ("GET", "/v1/quizzes/{quiz}/participants/{participant}"),
    ("GET", "/v1/quizzes/{quiz}/submissions/{submission}"),
    ("POST", "/v1/quizzes/{quiz}/answers"),
    ("POST", "/v1/quizzes/{quiz}/commands"),
    ("POST", "/v1/quizzes/{quiz}/participants"),
    ("PUT", "/v1/quizzes/{quiz}"),
];

async fn ask(door: &Door, method: &str, template: &str) -> Reply {
    let path = template.replace("{quiz}", "nil").replace("{participant}", &"0".repeat(32));
    let path = path.replace("{submission}", &id(1));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let body = (method != Method::GET).then(|| json!({}));
    door.ask(method, &path, body).send_unknown().await
}

#[tokio::test]
async fn the_document_and_the_router_hold_the_same_operations() {
    let (_house, a, b) = house().await;
    let mut described = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let expected = OPERATIONS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, expected.collect());
    let paths: BTreeSet<&str> = OPERATIONS.iter().map(|(_, path)| *path).collect();
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let is_described = OPERATIONS.contains(&(method, path));
            for door in [&a, &b] {
                let reply = ask(door, method, path).await;
                let is_routed = reply.code() != "method_not_allowed" && reply.code() != "not_found";
                assert_eq!(is_routed, is_described, "{method} {path}: {reply:?}");
                if !is_routed {
                    reply.refused(405, "method_not_allowed");
                }
            }
        }
    }
}

#[tokio::test]
async fn both_gateways_serve_one_and_the_same_document() {
    let (_house, a, b) = house().await;
    for door in [&a, &b] {
        let served = door.get("/openapi.json").send_unknown().await;
        assert_eq!(served.header("content-type"), Some("application/json"));
        assert_eq!(&served.ok(200), document());
        for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            let reply = door.get(path).send().await;
            assert_eq!((reply.status, reply.text.as_str()), (200, text));
        }
        door.get("/v1/nothing/here").send_unknown().await.refused(404, "not_found");
        door.get("/nothing").send_unknown().await.refused(404, "not_found");
        door.ask(Method::GET, "/v1/quizzes?limit=x", None).send().await.refused(422, "invalid_query");
    }
}

#[tokio::test]
async fn a_body_that_is_none_is_refused_with_a_problem_document() {
    let (mut house, a, b) = house().await;
    house.b_follows = true;
    house.asked(&a, "geo", 1).await;
    house.settle().await;
    let ana = house.join(&a, "geo", "Ana").await;
    let strange: [(Value, u16, &str); 6] = [
        (json!([]), 422, "invalid_body"),
        (json!({"question": "q1"}), 422, "invalid_body"),
        (
            json!({"question": "q1", "answer": {"choice": "b"}, "submission": id(1), "x": 1}),
            422,
            "invalid_body",
        ),
        (json!({"question": "q1", "answer": {"choice": "z"}, "submission": id(1)}), 422, "unknown_choice"),
        (json!({"question": "q1", "answer": {"text": "b"}, "submission": id(1)}), 422, "wrong_shape"),
        (json!({"question": "q1", "answer": {"choice": "b"}, "submission": "1"}), 422, "invalid_submission"),
    ];
    for (body, status, code) in strange {
        b.answer("geo", &ana.token, &body).send().await.refused(status, code);
    }
    let host = house.host();
    for (command, status, code) in [
        (json!({"type": "dance"}), 422, "unsupported_command"),
        (json!({"type": "open_question"}), 422, "invalid_body"),
        (json!({"type": "open_question", "question": "q9"}), 422, "unknown_question"),
        (json!({"type": "open_question", "question": "q2"}), 409, "another_open"),
        (json!({"type": "close_question", "question": "q2"}), 409, "question_not_open"),
        (json!({"type": "open_question", "question": "q1"}), 409, "question_opened"),
        (json!({"type": "open", "id": "not an id"}), 422, "invalid_id"),
    ] {
        let ask = b.post("/v1/quizzes/geo/commands", &command).token(&host);
        house.during(ask.send()).await.refused(status, code);
    }
    let problems = b.put("/v1/quizzes/new", &json!({"title": "", "questions": []})).token(&host).send().await;
    assert!(problems.json["problems"].as_array().is_some_and(|problems| problems.len() >= 2), "{problems:?}");
    problems.refused(422, "invalid_definition");
    for name in ["", " ", "a\u{0}b", "\u{202e}abc", &"x".repeat(65)] {
        let join = b.post("/v1/quizzes/geo/participants", &json!({"name": name}));
        join.send().await.refused(422, "invalid_name");
    }
    let large = json!({"name": "x".repeat(70_000)});
    b.post("/v1/quizzes/geo/participants", &large).send().await.refused(413, "body_too_large");
}
