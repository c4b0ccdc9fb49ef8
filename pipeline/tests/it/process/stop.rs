//! Stopping: SIGTERM finishes what was begun, exits with 0, and the next start has everything at once.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::raw::Raw;
use super::harness::{Client, Podium, submission, until};

const QUIZ: &str = "stop";

async fn open_quiz(podium: &Podium) -> (String, Client) {
    let definition = json!({"title": "Stop", "pace": "free", "questions": [
        {"id": "q1", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}},
        {"id": "q2", "kind": "numeric", "text": "2 + 2?", "key": {"value": "4"}}]});
    podium.host().await.publish_and_open(QUIZ, &definition).await;
    podium.client().join(QUIZ, "Ana").await
}

/// Returns an answer's head and body as sent by hand.
fn by_hand(player: &Client, question: &str, value: &str, submission: &str) -> (String, String) {
    let body =
        json!({"question": question, "answer": {"value": value}, "submission": submission}).to_string();
    let head = format!(
        "POST /v1/quizzes/{QUIZ}/answers HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        player.address,
        player.token.as_deref().unwrap(),
        body.len()
    );
    (head, body)
}

/// Waits until the process takes no new connections: it has begun to stop.
async fn no_longer_accepting(player: &Client) {
    until("the end of accepting", async || TcpStream::connect(player.address).is_err().then_some(())).await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_the_next_start_has_it_at_once() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let (participant, player) = open_quiz(&podium).await;
    player.answer(QUIZ, "q1", &json!({"value": "2"}), &submission(1)).await;
    let (head, body) = by_hand(&player, "q2", "4", &submission(2));
    let mut half = Raw::open(podium.address).await;
    half.send(head).await;
    half.send(&body[..body.len() / 2]).await;
    let mut feed = Raw::open(podium.address).await;
    feed.send(format!("GET /v1/quizzes/{QUIZ}/live HTTP/1.1\r\nHost: {}\r\n\r\n", podium.address)).await;
    feed.until("event: snapshot").await.expect("the feed begins");

    podium.terminate();
    no_longer_accepting(&player).await;
    half.send(&body[body.len() / 2..]).await;
    let reply = half.response().await.expect("a request in flight gets its answer");
    assert_eq!(reply.status, 202, "{reply:?}");
    assert!(reply.head.to_ascii_lowercase().contains("connection: close"), "{reply:?}");
    feed.rest().await;
    let ended = podium.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("WARN") && !ended.stderr.contains("ERROR"), "{}", ended.stderr);

    let begun = Instant::now();
    let podium = Podium::start(data.path()).await;
    println!("started again in {:?}", begun.elapsed());
    let player = podium.client().with(player.token.as_deref().unwrap());
    let result = player.get(&format!("/v1/quizzes/{QUIZ}/participants/{participant}")).await.expect(200);
    assert_eq!((&result["points"], &result["correct"]), (&json!("2000"), &json!(2)), "{result}");
}

#[tokio::test]
async fn a_client_that_stalls_does_not_keep_it_from_stopping() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let (_, player) = open_quiz(&podium).await;
    let (head, body) = by_hand(&player, "q1", "2", &submission(1));
    let mut stalled = Raw::open(podium.address).await;
    stalled.send(head).await;
    stalled.send(&body[..5]).await;
    let mut silent = Raw::open(podium.address).await;
    podium.terminate();
    let begun = Instant::now();
    let ended = podium.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "stopping took {took:?}");
    assert_eq!(silent.rest().await, "");
    let status = stalled.response().await.map(|reply| reply.status);
    assert!(status.is_none_or(|status| status == 408 || status == 503), "{status:?}");
}

#[tokio::test]
async fn ctrl_c_stops_it_too_and_the_directory_is_free_at_once() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let podium = Podium::start(data.path()).await;
        podium.interrupt();
        let ended = podium.end().await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
}
