//! The answer key as a canary: a quiz whose key appears nowhere else is played, and no byte sent to anybody but a host
//! contains it.

use futures::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::harness::raw::Raw;
use super::harness::{Client, Podium, submission};

const QUIZ: &str = "canary";
/// Every part of a key that could give it away, and the text of a question that nobody has opened.
const CANARIES: [&str; 6] = ["xylograph", "918273", "645546", "55443322", "66334455", "quokka"];

fn definition() -> Value {
    json!({"title": "Birds", "questions": [
        {"id": "q1", "kind": "short_text", "text": "Which word?", "key": {"accept": ["Xylograph", "the XYLOGRAPH"]}},
        {"id": "q2", "kind": "numeric", "text": "Which number?", "key": {"value": "918273.5", "tolerance": "0.645546"}},
        {"id": "q3", "kind": "numeric", "text": "Between?", "key": {"min": "55443322", "max": "66334455"}},
        {"id": "q4", "kind": "short_text", "text": "What is a quokka?", "key": {"accept": ["a quokka"]}},
    ]})
}

/// Everything that was sent, with what asked for it.
#[derive(Default)]
struct Overheard(Vec<(String, Vec<u8>)>);

impl Overheard {
    fn hear(&mut self, what: impl Into<String>, bytes: impl AsRef<[u8]>) {
        self.0.push((what.into(), bytes.as_ref().to_ascii_lowercase()));
    }

    /// Reads everything that a client can read, with its headers.
    async fn read_all(&mut self, who: &str, client: &Client, participants: &[&str]) {
        let quiz = format!("/v1/quizzes/{QUIZ}");
        let mut paths =
            ["", "/leaderboard", "/leaderboard?limit=1", "/books", "/answers", "/commands", "/nothing"]
                .map(|rest| format!("{quiz}{rest}"))
                .to_vec();
        paths.extend(["/v1/quizzes", "/openapi.json", "/healthz", "/readyz", "/"].map(str::to_owned));
        paths.extend(participants.iter().map(|id| format!("{quiz}/participants/{id}")));
        paths.extend(participants.iter().map(|id| format!("{quiz}/leaderboard?around={id}")));
        paths.extend([1, 2, 10, 11, 20, 21].map(|n| format!("{quiz}/submissions/{}", submission(n))));
        for path in paths {
            let reply = client.get(&path).await;
            assert_ne!(reply.status, 429, "an empty answer proves nothing");
            self.hear(format!("{who} GET {path}"), format!("{:?}", reply.headers));
            self.hear(format!("{who} GET {path}"), reply.body);
        }
    }

    /// Hands in answers of every shape, most of them wrong, and listens to what comes back.
    async fn try_answers(&mut self, who: &str, client: &Client, question: &str, first: u64) {
        let answers =
            [json!({"text": "x"}), json!({"value": "1"}), json!({"choice": "a"}), json!({"choices": []})];
        for (n, answer) in (first..).zip(&answers) {
            let body = json!({"question": question, "answer": answer, "submission": submission(n)});
            let mut request = client.json(hyper::Method::POST, &format!("/v1/quizzes/{QUIZ}/answers"), &body);
            request.headers_mut().insert("prefer", "wait=5".parse().unwrap());
            let reply = client.send(request).await.unwrap();
            self.hear(format!("{who} answers {question} with {answer}"), reply.body);
        }
    }

    fn check(&self, canaries: &[&str]) {
        for (what, bytes) in &self.0 {
            for canary in canaries {
                let leaked = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!leaked, "{what} gives away {canary}: {}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

/// Reads a live feed over a WebSocket until the quiz is closed.
async fn websocket(podium: &Podium) -> Vec<String> {
    let url = format!("ws://{}/v1/quizzes/{QUIZ}/live", podium.address);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "podium.v1+json".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut messages = Vec::new();
    while let Some(message) = socket.next().await {
        let text = message.unwrap().into_text().map(|text| text.to_string()).unwrap_or_default();
        let over = text.contains("\"phase\":\"closed\"");
        messages.push(text);
        if over {
            break;
        }
    }
    messages
}

#[tokio::test]
async fn i20_no_byte_to_a_player_or_viewer_holds_a_key() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let host = podium.host().await;
    host.publish_and_open(QUIZ, &definition()).await;
    let (ana, player) = podium.client().join(QUIZ, "Ana").await;
    let (ben, other) = podium.client().join(QUIZ, "Ben").await;
    let viewer = podium.client().with(&podium.token(&["--role", "viewer"]).await);
    let mut overheard = Overheard::default();
    let mut feed = Raw::open(podium.address).await;
    feed.send(format!("GET /v1/quizzes/{QUIZ}/live HTTP/1.1\r\nHost: podium\r\n\r\n")).await;
    let play = async {
        for (n, question) in [1, 10, 20].into_iter().zip(["q1", "q2", "q3"]) {
            host.command(QUIZ, &json!({"type": "open_question", "question": question})).await;
            overheard.try_answers("a player", &player, question, n).await;
            overheard.try_answers("a viewer", &viewer, question, n).await;
            overheard.try_answers("nobody", &podium.client(), question, n).await;
            // Before the question closes, let alone is sealed.
            for (who, client) in [("a player", &player), ("a viewer", &viewer), ("nobody", &podium.client())]
            {
                overheard.read_all(who, client, &[&ana, &ben]).await;
            }
            host.command(QUIZ, &json!({"type": "close_question", "question": question})).await;
        }
        other.answer_late(&mut overheard).await;
        host.command(QUIZ, &json!({"type": "close"})).await;
    };
    let (messages, ()) = tokio::join!(websocket(&podium), play);
    messages.iter().for_each(|message| overheard.hear("a WebSocket", message));
    let feed = feed.until("\"phase\":\"closed\"").await.expect("the feed tells of the close");
    assert!(feed.contains("event: snapshot") && feed.contains("event: quiz"), "{feed}");
    overheard.hear("the live feed", feed);
    host.finality(QUIZ).await;
    overheard.read_all("a player at the end", &player, &[&ana, &ben]).await;
    overheard.hear("the metrics", podium.client().get("/metrics").await.body);
    overheard.hear("the log", podium.stderr());
    assert!(overheard.0.len() > 100);
    overheard.check(&CANARIES);

    // The host does get all of it, so the canaries sing.
    let mut hosts = Overheard::default();
    hosts.hear("the host", host.get(&format!("/v1/quizzes/{QUIZ}")).await.body);
    for canary in CANARIES {
        assert!(String::from_utf8_lossy(&hosts.0[0].1).contains(canary), "{canary}");
    }
}

impl Client {
    /// Answers a question that was closed before, and one that nobody opened.
    async fn answer_late(&self, overheard: &mut Overheard) {
        for (n, question) in [(30, "q1"), (31, "q4"), (32, "q5")] {
            let body = json!({"question": question, "answer": {"text": "x"}, "submission": submission(n)});
            let reply = self.post(&format!("/v1/quizzes/{QUIZ}/answers"), &body).await;
            overheard.hear(format!("an answer to {question}"), reply.body);
        }
    }
}

#[tokio::test]
async fn tokens_and_keys_stay_out_of_the_log_and_the_metrics() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start_with(data.path(), &["--log", "trace"]).await;
    let host = podium.host().await;
    host.publish_and_open(QUIZ, &definition()).await;
    let (_, player) = podium.client().join(QUIZ, "Ana").await;
    player.get("/v1/quizzes").await.expect(200);
    let secret = std::fs::read_to_string(data.path().join("issuer.key")).unwrap();
    let metrics = String::from_utf8(podium.client().get("/metrics").await.body.to_vec()).unwrap();
    for (what, text) in [("the log", podium.stderr()), ("the metrics", metrics)] {
        for secret in [host.token.as_deref().unwrap(), player.token.as_deref().unwrap(), secret.trim()] {
            let signature = secret.rsplit('.').next().unwrap();
            assert!(!text.contains(signature), "{what} holds a secret");
        }
    }
}
