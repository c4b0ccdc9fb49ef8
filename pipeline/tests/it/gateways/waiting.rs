//! Waiting for a receipt: told when it is there, let go when it is not, and never more than there is room for.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::poll;
use gateway::views::Awaited;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::TokioIo;
use pipeline::views::notices::{Notices, Place, WAITERS_MAX};
use serde_json::json;
use tokio::net::TcpStream;

use super::house::{choice, id, two_know_ana};

fn places(notices: &Notices, count: usize) -> Vec<Place<'_>> {
    let (quiz, awaited) = ("other".parse().unwrap(), Awaited::Command("x".parse().unwrap()));
    let places: Vec<_> = (0..count).map_while(|_| notices.register(&quiz, &awaited)).collect();
    assert_eq!(places.len(), count, "so many places were free");
    places
}

/// Tells whether a place is free, without keeping it.
fn has_place(notices: &Notices) -> bool {
    notices.register(&"other".parse().unwrap(), &Awaited::Command("x".parse().unwrap())).is_some()
}

/// Returns when a condition holds.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it holds after a while");
}

#[tokio::test]
async fn whoever_waits_gets_the_receipt() {
    let (mut house, a, b, ana) = two_know_ana().await;
    let wait = a.answer("geo", &ana.token, &choice("b", 1)).header("prefer", "respond-async, wait=2");
    let reply = house.during(wait.send()).await;
    assert_eq!(reply.header("preference-applied"), Some("wait=2"));
    let receipt = reply.ok(200);
    assert_eq!((&receipt["verdict"], &receipt["points"]), (&json!("counted"), &json!("1000")));
    house.settle().await;
    assert_eq!(a.receipt("geo", &ana, &id(1)).send().await.ok(200), receipt);

    // Through B it comes once B has it.
    let bea = house.join(&a, "geo", "Bea").await;
    let mut wait = pin!(b.answer("geo", &bea.token, &choice("a", 1)).header("prefer", "wait=10").send());
    let settled = {
        assert!(poll!(&mut wait).is_pending());
        while b.log.appended() == 0 {
            tokio::task::yield_now().await;
            assert!(poll!(&mut wait).is_pending());
        }
        house.settle().await;
        assert!(poll!(&mut wait).is_pending(), "A has it, B does not");
        a.receipt("geo", &bea, &id(1)).send().await.ok(200)
    };
    house.b_catches_up().await;
    assert_eq!(wait.await.ok(200), settled);
}

#[tokio::test]
async fn whoever_waits_in_vain_gets_what_the_others_get() {
    let (mut house, a, b, ana) = two_know_ana().await;
    let wait = b.answer("geo", &ana.token, &choice("b", 1)).header("prefer", "wait=1");
    let began = std::time::Instant::now();
    let accepted = house.during(wait.send()).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "B was given its time");
    assert_eq!(accepted.header("preference-applied"), None);
    let location = accepted.header("location").unwrap().to_owned();
    accepted.ok(202);
    assert_eq!(a.get(&location).token(&ana.token).send().await.ok(200)["verdict"], "counted");

    for (n, no_wait) in
        ["wait=0", "wait=11", "wait=-1", "wait=soon", "wait", "return=minimal"].into_iter().enumerate()
    {
        let answer = b.answer("geo", &ana.token, &choice("b", 10 + n as u64)).header("prefer", no_wait);
        answer.send().await.ok(202);
    }
}

#[tokio::test]
async fn waiters_are_bounded_and_nothing_is_written_for_whom_there_is_no_room() {
    let (mut house, _, b, ana) = two_know_ana().await;
    let notices = house.notices.clone();
    let mut taken = places(&notices, WAITERS_MAX);
    assert!(!has_place(&notices));
    let host = house.host();
    let join = || b.post("/v1/quizzes/geo/participants", &json!({"name": "Bea"}));
    let open = || b.post("/v1/quizzes/geo/commands", &json!({"type": "close", "id": "c"})).token(&host);
    house.during(join().send()).await.refused(503, "overloaded");
    house.during(open().send()).await.refused(503, "overloaded");
    assert_eq!(b.log.appended(), 0);
    // An answer needs no place: it is accepted, and its receipt is there to be asked for.
    let answer = b.answer("geo", &ana.token, &choice("b", 1)).header("prefer", "wait=2");
    house.during(answer.send()).await.ok(202);

    taken.truncate(WAITERS_MAX - 1);
    house.b_follows = true;
    house.during(join().send()).await.ok(201);
    house.during(open().send()).await.ok(202);
    assert!(has_place(&notices), "each gave its place back");
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_back() {
    let (house, _, b, ana) = two_know_ana().await;
    let notices = house.notices.clone();
    let others = places(&notices, WAITERS_MAX - 1);
    {
        let mut waits = pin!(b.answer("geo", &ana.token, &choice("b", 1)).header("prefer", "wait=10").send());
        assert!(poll!(&mut waits).is_pending());
        assert!(!has_place(&notices));
    }
    assert!(has_place(&notices));

    let stream = TcpStream::connect(b.listen().await).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request =
        Request::post("/v1/quizzes/geo/answers").header("host", "podium.test").header("prefer", "wait=10");
    let request = request.header("authorization", format!("Bearer {}", ana.token));
    let request = request.header("content-type", "application/json");
    let body = Full::new(Bytes::from(choice("b", 2).to_string()));
    let answer = tokio::spawn(sender.send_request(request.body(body).unwrap()));
    until(|| !has_place(&notices)).await;
    connection.abort();
    answer.abort();
    until(|| has_place(&notices)).await;
    drop(others);
    assert_eq!(places(&notices, WAITERS_MAX).len(), WAITERS_MAX, "no place was lost");
}

#[tokio::test]
async fn waiting_never_tells_an_older_judgement_than_that_of_what_was_just_handed_in() {
    let (mut house, a, _, ana) = two_know_ana().await;
    let paris =
        |submission| json!({"question": "q2", "answer": {"text": "Paris"}, "submission": id(submission)});
    let early = a.answer("geo", &ana.token, &paris(1)).header("prefer", "wait=5");
    assert_eq!(house.during(early.send()).await.ok(200)["verdict"], "too_early");
    house.command(&a, "geo", json!({"type": "close_question", "question": "q1"})).await;
    house.command(&a, "geo", json!({"type": "open_question", "question": "q2"})).await;
    // The same hand-in again, now that the question is open: it counts, and nobody is told "too early".
    let again = a.answer("geo", &ana.token, &paris(1)).header("prefer", "wait=5");
    let reply = house.during(again.send()).await;
    assert!(reply.status == 202 || reply.json["verdict"] == "counted", "{reply:?}");
    house.settle().await;
    let receipt = a.receipt("geo", &ana, &id(1)).send().await.ok(200);
    assert_eq!(receipt["verdict"], "counted");
}

#[tokio::test]
async fn an_id_used_for_another_question_is_never_answered_with_the_first_ones_receipt() {
    let (mut house, a, b, ana) = two_know_ana().await;
    let first = a.answer("geo", &ana.token, &choice("b", 1)).header("prefer", "wait=5");
    assert_eq!(house.during(first.send()).await.ok(200)["question"], "q1");
    let other = json!({"question": "q2", "answer": {"text": "Paris"}, "submission": id(1)});
    let reused = a.answer("geo", &ana.token, &other).header("prefer", "wait=5");
    house.during(reused.send()).await.refused(422, "submission_reused");
    // B hears of the first use only while it waits.
    house.b_follows = true;
    let bea = house.join(&a, "geo", "Bea").await;
    house.b_follows = false;
    a.answer("geo", &bea.token, &choice("b", 1)).send().await.ok(202);
    house.settle().await;
    house.b_follows = true;
    let reused = b.answer("geo", &bea.token, &choice("a", 1)).header("prefer", "wait=5");
    house.during(reused.send()).await.refused(422, "submission_reused");
    let books = a.get("/v1/quizzes/geo/books").token(&house.host()).send().await.ok(200);
    assert_eq!((&books["counted"], &books["points_awarded"]), (&json!(2), &json!("2000")));
}
