//! Bytes that no HTTP client would send: each connection ends in a 4xx or without an answer, never in a 5xx, a second
//! reading of the same bytes, or a wait without end.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;

use super::{Door, QUIZ};
use crate::process::harness::raw::Raw;
use crate::process::harness::{Dice, submission};

/// Returns an answer's body, its length and the player's Authorization line.
fn answer(door: &Door) -> (String, String) {
    let body = json!({"question": "last", "answer": {"value": "1"}, "submission": submission(9)}).to_string();
    (
        body,
        format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            door.player.token.as_deref().unwrap()
        ),
    )
}

/// What came back on one connection: statuses and codes.
type Answers = Vec<(u16, String)>;

/// Sends bytes on a connection and returns everything that comes back until the server hangs up, which it does for
/// a peer that says no more.
async fn answers(door: &Door, bytes: &[u8]) -> Answers {
    let mut raw = Raw::open(door.podium.address).await;
    raw.send(bytes).await;
    let mut answers = Vec::new();
    while let Some(reply) = raw.response().await {
        let code = reply.code();
        answers.push((reply.status, code));
    }
    answers
}

/// Sends each on a connection of its own, all at once.
async fn all_answers<T: Clone>(door: &Door, cases: &[(T, Vec<u8>)]) -> Vec<(T, Answers)> {
    let answered = cases.iter().map(async |(what, bytes)| (what.clone(), answers(door, bytes).await));
    join_all(answered).await
}

fn only_client_errors(statuses: &Answers) -> bool {
    statuses.len() <= 1 && statuses.iter().all(|(status, _)| (400..500).contains(status))
}

#[tokio::test]
async fn heads_that_are_no_http_are_refused() {
    let door = Door::open().await;
    let host = "Host: x\r\nConnection: close\r\n";
    let many: String = (0..200).map(|nth| format!("X-{nth}: y\r\n")).collect();
    let wide = format!("X-Wide: {}\r\n", "y".repeat(100_000));
    let long = "x".repeat(100_000);
    let cases = [
        ("noise", b"\x00\x01\x02\xff\xfe\r\n\r\n".to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("HTTP/0.9", b"GET /healthz\r\n\r\n".to_vec()),
        ("HTTP/3.0", format!("GET /healthz HTTP/3.0\r\n{host}\r\n").into_bytes()),
        ("no version", format!("GET /healthz HTTP/\r\n{host}\r\n").into_bytes()),
        ("a space in the target", format!("GET /heal thz HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("a NUL in the target", format!("GET /heal\0thz HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("a NUL in a header", format!("GET /healthz HTTP/1.1\r\n{host}X-Y: a\0b\r\n\r\n").into_bytes()),
        ("a lone CR in a header", format!("GET /healthz HTTP/1.1\r\n{host}X-Y: a\rb\r\n\r\n").into_bytes()),
        ("a folded header", format!("GET /healthz HTTP/1.1\r\n{host}X-Y: a\r\n b\r\n\r\n").into_bytes()),
        ("a space before the colon", format!("GET /healthz HTTP/1.1\r\n{host}X-Y : a\r\n\r\n").into_bytes()),
        ("a header without a name", format!("GET /healthz HTTP/1.1\r\n{host}: a\r\n\r\n").into_bytes()),
        ("200 headers", format!("GET /healthz HTTP/1.1\r\n{host}{many}\r\n").into_bytes()),
        ("a header of 100 KB", format!("GET /healthz HTTP/1.1\r\n{host}{wide}\r\n").into_bytes()),
        ("a target of 100 KB", format!("GET /{long} HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("CONNECT", format!("CONNECT example.org:443 HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("an asterisk", format!("OPTIONS * HTTP/1.1\r\n{host}\r\n").into_bytes()),
        (
            "a foreign target",
            format!("GET http://example.org/v1/nothing HTTP/1.1\r\n{host}\r\n").into_bytes(),
        ),
        ("a method of its own", format!("BREW /healthz HTTP/1.1\r\n{host}\r\n").into_bytes()),
        (
            "an HTTP/2 preface and noise",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        ),
        ("bytes that are no text", [b"GET /\xff\xfe HTTP/1.1\r\n", host.as_bytes(), b"\r\n"].concat()),
    ];
    for (what, answers) in all_answers(&door, &cases).await {
        assert!(only_client_errors(&answers), "{what}: {answers:?}");
    }
    door.is_well().await;
}

#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let door = Door::open().await;
    let request = |hosts: &str| format!("GET /v1/quizzes HTTP/1.1\r\n{hosts}\r\n").into_bytes();
    let cases = ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n"].map(|hosts| (hosts, request(hosts)));
    for (hosts, answers) in all_answers(&door, &cases).await {
        assert_eq!(answers, [(400, "missing_host".to_owned())], "{hosts:?}");
    }
    let old = answers(&door, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(old[0].0, 200, "HTTP/1.0 needs none");
    door.is_well().await;
}

#[tokio::test]
async fn a_token_with_strange_bytes_is_no_token() {
    let door = Door::open().await;
    let token = door.host.token.clone().unwrap();
    let values = [
        b"Bearer \xff\xfe".to_vec(),
        b"Bearer".to_vec(),
        b"Bearer ".to_vec(),
        b"Basic aG9zdDpob3N0".to_vec(),
        format!("Bearer {token}\u{e9}").into_bytes(),
        format!("Bearer {token} {token}").into_bytes(),
        format!("{token} Bearer").into_bytes(),
        format!("Bearer {token}\r\nAuthorization: Bearer {token}").into_bytes(),
    ];
    let head = b"GET /v1/quizzes HTTP/1.1\r\nHost: x\r\nAuthorization: ".as_slice();
    let cases = values.map(|value| ((), [head, &value, b"\r\n\r\n"].concat()));
    for ((nth, _), ((), answers)) in cases.iter().enumerate().zip(all_answers(&door, &cases).await) {
        assert_eq!(answers, [(401, "token_invalid".to_owned())], "{nth}");
    }
    door.is_well().await;
}

#[tokio::test]
async fn a_body_of_disputed_length_is_never_taken_for_two_requests() {
    let door = Door::open().await;
    let (body, lines) = answer(&door);
    let smuggled = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{body}");
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let cases = [
        (
            "CL and TE",
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "TE and CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n".to_owned(),
            format!("0\r\n\r\n{smuggled}"),
        ),
        ("two lengths", format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), body.clone()),
        ("a list of lengths", format!("Content-Length: 0, {length}\r\n"), body.clone()),
        ("a negative length", "Content-Length: -1\r\n".to_owned(), body.clone()),
        ("a signed length", format!("Content-Length: +{length}\r\n"), body.clone()),
        ("a hexadecimal length", format!("Content-Length: 0x{length:x}\r\n"), body.clone()),
        ("a length beyond 64 bits", "Content-Length: 99999999999999999999\r\n".to_owned(), body.clone()),
        ("an unknown encoding", "Transfer-Encoding: xchunked\r\n".to_owned(), chunked.clone()),
        ("chunked not last", "Transfer-Encoding: chunked, gzip\r\n".to_owned(), chunked.clone()),
        (
            "a bad chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("zz\r\n{body}\r\n0\r\n\r\n"),
        ),
        (
            "a huge chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("ffffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk without an end",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{length:x}\r\n{body}"),
        ),
        ("a body that stops short", format!("Content-Length: {}\r\n", length + 10), body.clone()),
    ];
    let head = |framing: &str| {
        format!("POST /v1/quizzes/{QUIZ}/answers HTTP/1.1\r\nHost: x\r\n{lines}{framing}\r\n")
    };
    let cases = cases.map(|(what, framing, payload)| (what, (head(&framing) + &payload).into_bytes()));
    for (what, answers) in all_answers(&door, &cases).await {
        assert!(!answers.is_empty() && only_client_errors(&answers), "{what}: {answers:?}");
    }
    door.is_well().await;
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_cut_off_whatever_their_framing() {
    let door = Door::open().await;
    let (_, lines) = answer(&door);
    let head = format!("POST /v1/quizzes/{QUIZ}/answers HTTP/1.1\r\nHost: x\r\n{lines}");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16)).repeat(32);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let chunked = answers(&door, chunked.as_bytes()).await;
    // A server that hangs up on a sender may be heard or not: the reset can overtake the answer.
    assert!(chunked.is_empty() || chunked == [(413, "body_too_large".to_owned())], "{chunked:?}");
    // Announced and refused before it is sent.
    let mut polite = Raw::open(door.podium.address).await;
    polite.send(format!("{head}Content-Length: 2097152\r\nExpect: 100-continue\r\n\r\n")).await;
    let reply = polite.response().await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"), "{reply:?}");
    door.is_well().await;
}

#[tokio::test]
async fn peers_that_dawdle_are_sent_away() {
    let door = Door::open().await;
    let (body, lines) = answer(&door);
    let begun = Instant::now();
    let mut silent = Raw::open(door.podium.address).await;
    let mut head = Raw::open(door.podium.address).await;
    head.send("GET /v1/quizzes HTT").await;
    let mut second_head = Raw::open(door.podium.address).await;
    second_head.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal").await;
    let mut stalled = Raw::open(door.podium.address).await;
    let length = body.len();
    stalled
        .send(format!(
            "POST /v1/quizzes/{QUIZ}/answers HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {length}\r\n\r\n{{"
        ))
        .await;
    let (silent, head, second_head, stalled) =
        tokio::join!(silent.rest(), head.rest(), second_head.rest(), stalled.rest());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(silent, "");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    assert!(second_head.starts_with("HTTP/1.1 200"), "{second_head}");
    assert!(stalled.starts_with("HTTP/1.1 408") && stalled.contains("request_timeout"), "{stalled}");
    door.is_well().await;
}

#[tokio::test]
async fn random_damage_to_a_request_never_breaks_the_server() {
    let door = Door::open().await;
    // The host has not joined, so that what stays whole is refused as well.
    let body = json!({"question": "last", "answer": {"value": "1"}, "submission": submission(9)}).to_string();
    let token = door.host.token.as_deref().unwrap();
    let good = format!(
        "POST /v1/quizzes/{QUIZ}/answers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut dice = Dice(4);
    let cases = [(); 300].map(|()| {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len() as u64) as usize;
            match dice.below(3) {
                0 => bytes[at] = dice.below(256) as u8,
                1 => bytes.insert(at, b"\r\n\0: \xff;,%"[dice.below(9) as usize]),
                _ => drop(bytes.remove(at)),
            }
        }
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    });
    for (request, answers) in all_answers(&door, &cases).await {
        let fine = answers.iter().all(|(status, _)| (400..500).contains(status));
        assert!(fine, "{answers:?} for {request}");
    }
    door.is_well().await;
}
