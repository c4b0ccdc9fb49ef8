//! Requests that are wrong in every way a client can think of: each gets its 4xx with a code, and the server goes on as
//! if nothing had happened.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use serde_json::json;

use super::harness::{Client, Podium, Reply, submission};

mod bodies;
mod callers;
mod framing;

const QUIZ: &str = "door";

/// A server with an open quiz and one acknowledged answer, which must survive whatever a test does.
struct Door {
    podium: Podium,
    host: Client,
    ana: String,
    player: Client,
    _data: tempfile::TempDir,
}

impl Door {
    async fn open() -> Self {
        let data = tempfile::tempdir().unwrap();
        let podium = Podium::start(data.path()).await;
        let host = podium.host().await;
        let choices = json!([{"id": "a", "text": "A"}, {"id": "b", "text": "B"}]);
        let definition = json!({"title": "Door", "pace": "free", "questions": [
            {"id": "q0", "kind": "numeric", "text": "First?", "key": {"value": "1"}},
            {"id": "one", "kind": "single_choice", "text": "One?", "choices": choices, "key": {"choice": "a"}},
            {"id": "many", "kind": "multiple_choice", "text": "Many?", "choices": choices, "key": {"choices": ["a"]}},
            {"id": "number", "kind": "numeric", "text": "How many?", "key": {"value": "1"}},
            {"id": "words", "kind": "short_text", "text": "Who?", "key": {"accept": ["x"]}},
            {"id": "last", "kind": "numeric", "text": "Last?", "key": {"value": "1"}},
        ]});
        host.publish_and_open(QUIZ, &definition).await;
        let (ana, player) = podium.client().join(QUIZ, "Ana").await;
        let receipt = player.answer(QUIZ, "q0", &json!({"value": "1"}), &submission(1)).await;
        assert_eq!(receipt["verdict"], "counted");
        Self { podium, host, ana, player, _data: data }
    }

    /// Checks that the server works, has what it had, and took nothing in but the first answer.
    async fn is_well(&self) {
        let books = self.host.get(&format!("/v1/quizzes/{QUIZ}/books")).await.expect(200);
        assert_eq!((&books["received"], &books["counted"]), (&json!(1), &json!(1)), "{books}");
        assert_eq!(self.player.receipt(QUIZ, &submission(1)).await["points"], "1000");
        let receipt = self.player.answer(QUIZ, "last", &json!({"value": "1"}), &submission(2)).await;
        assert_eq!(receipt["verdict"], "counted");
        let metrics = self.podium.client().get("/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let faults: Vec<_> = metrics.lines().filter(|line| line.contains("status=\"5")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        let log = self.podium.stderr();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }

    async fn answer(&self, body: impl Into<Bytes>) -> Reply {
        self.try_answer(body).await.unwrap()
    }

    async fn try_answer(&self, body: impl Into<Bytes>) -> Result<Reply, String> {
        let request = self.player.request(Method::POST, &format!("/v1/quizzes/{QUIZ}/answers"));
        let request = request.header("content-type", "application/json");
        self.player.send(request.body(Full::new(body.into())).unwrap()).await
    }
}

/// Checks a refusal: status, code, pointer (`""`: none is needed), and that it is a problem document.
#[track_caller]
fn refused(what: &str, reply: &Reply, status: u16, code: &str, pointer: &str) {
    assert_eq!(reply.status.as_u16(), status, "{what}: {reply:?}");
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}: {reply:?}");
    let problem = reply.value();
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{what}: {reply:?}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {reply:?}");
    if !pointer.is_empty() {
        assert_eq!(problem["pointer"], pointer, "{what}: {reply:?}");
    }
}
