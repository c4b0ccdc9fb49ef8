//! Handing in against a scripted server: what is sent again, what is known of it afterwards, what is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::stats::Stats;
use super::{Drive, Game, Job, Kind, Outcome};
use crate::client::{Failure, Target};
use crate::quiz::{Award, Pace, Paper, Scenario, Seat};
use crate::schedule::{Arrival, Ask};
use crate::verify::ledger::Submission;

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Act {
    /// Acknowledges it.
    Accept,
    /// Acknowledges it and closes the connection.
    AcceptAndClose,
    /// Answers with a status and headers.
    Say(&'static str),
    /// Closes the connection without a word.
    Hang,
}

/// Starts a server that acts by the script, one act per request; returns where, and what it is sent.
async fn serve(script: &'static [Act]) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, bodies) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut script = script.iter();
        while let Ok((mut socket, _)) = listener.accept().await {
            while let Some(body) = request(&mut socket).await {
                let id = body.split('"').rev().nth(1).unwrap().to_owned();
                told.send(body).unwrap();
                let accepted = format!(
                    r#"{{"submission":"{id}","received_at":"2026-11-20T10:00:02.001Z","position":"0-{}"}}"#,
                    script.len()
                );
                let (head, body, close) = match script.next().unwrap() {
                    Act::Accept => ("202 Accepted", accepted.as_str(), false),
                    Act::AcceptAndClose => ("202 Accepted", accepted.as_str(), true),
                    Act::Say(head) => (*head, r#"{"code":"question_closed"}"#, false),
                    Act::Hang => break,
                };
                let text = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                socket.write_all(text.as_bytes()).await.unwrap();
                if close {
                    break;
                }
            }
        }
    });
    (url, bodies)
}

/// Reads one request; returns its body.
async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    loop {
        let count = socket.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return Some(body.to_owned());
        }
    }
}

fn game(url: &str, backlog: usize, give_up: Duration) -> Game {
    let paper = Paper::drawn(Pace::Free, Award::Flat, 3, None, 1);
    let scenario = Scenario {
        run: 7,
        quizzes: 1,
        sections: 1,
        players: 2,
        probes: 0,
        names: Vec::new(),
        paper,
        duration: Duration::from_secs(1),
    };
    let seat = Seat { participant: "0".repeat(32), bearer: HeaderValue::from_static("Bearer x") };
    let drive = Drive {
        target: Arc::new(Target::parse(url, false).unwrap()),
        connections: 1,
        backlog,
        give_up,
        timeout: Duration::from_secs(5),
        watchers: 0,
    };
    Game::new(Arc::new(scenario), vec![seat.clone(), seat], drive).unwrap()
}

async fn hand_in(game: &Game, count: u32) -> Vec<Outcome> {
    let mut hand = game.hand(1);
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let content = Submission { player: 0, question: 1, choice: 2 };
        let submission = game.enter(content);
        let job = Job { intended: Duration::ZERO, submission, content, kind: Kind::Load };
        outcomes.push(game.hand_in(job, Instant::now(), &mut hand).await);
    }
    outcomes
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_submission_is_sent_again_as_it_was_until_it_is_acknowledged() {
    static SCRIPT: [Act; 4] = [
        Act::Say("429 Too Many Requests\r\nretry-after: 0"),
        Act::Hang,
        Act::Say("503 Service Unavailable"),
        Act::Accept,
    ];
    let (url, mut bodies) = serve(&SCRIPT).await;
    let game = game(&url, 10, PATIENCE);
    assert_eq!(hand_in(&game, 1).await, [Outcome::Acknowledged]);
    let first = bodies.recv().await.unwrap();
    let id = "00000000-0000-8007-8000-000000000000";
    assert_eq!(first, format!(r#"{{"question":"q2","answer":{{"choice":"c"}},"submission":"{id}"}}"#));
    for _ in 0..3 {
        assert_eq!(bodies.recv().await.unwrap(), first);
    }
    let notes = game.take_notes();
    // The lost request and the 503 may be in the log; the 429 is not.
    assert_eq!(notes.ledger.unknown, [0, 0]);
    assert_eq!(notes.ledger.acks.len(), 1);
    assert_eq!(notes.ledger.acks[0].received_at, 1_795_168_802_001);
    let Stats { acks, retries, statuses, failures, .. } = notes.stats;
    assert_eq!((acks, retries), (1, 3));
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [(202, 1), (429, 1), (503, 1)]);
    assert_eq!(failures.into_iter().collect::<Vec<_>>(), [(Failure::Lost, 1)]);
}

#[tokio::test]
async fn a_connection_closed_between_requests_is_no_failure() {
    static SCRIPT: [Act; 3] = [Act::AcceptAndClose, Act::AcceptAndClose, Act::Accept];
    let (url, _bodies) = serve(&SCRIPT).await;
    let game = game(&url, 10, PATIENCE);
    let mut hand = game.hand(1);
    for _ in 0..3 {
        let content = Submission { player: 1, question: 0, choice: 0 };
        let job =
            Job { intended: Duration::ZERO, submission: game.enter(content), content, kind: Kind::Load };
        assert_eq!(game.hand_in(job, Instant::now(), &mut hand).await, Outcome::Acknowledged);
        // The close reaches this end while the connection idles, as it does between arrivals.
        hand.connection.idle(tokio::time::sleep(Duration::from_millis(20))).await;
    }
    let notes = game.take_notes();
    assert!(notes.stats.failures.is_empty() && notes.ledger.unknown.is_empty());
}

#[tokio::test]
async fn a_closed_question_and_a_refusal_are_not_sent_again() {
    static SCRIPT: [Act; 2] = [Act::Say("409 Conflict"), Act::Say("403 Forbidden")];
    let (url, _bodies) = serve(&SCRIPT).await;
    let game = game(&url, 10, PATIENCE);
    assert_eq!(hand_in(&game, 2).await, [Outcome::Refused, Outcome::Refused]);
    let stats = game.take_notes().stats;
    assert_eq!((stats.closed, stats.refused, stats.retries), (1, 1, 0));
    assert!(stats.refusal.unwrap().starts_with("403"));
}

/// Returns the address of a port that nobody listens on.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn without_a_server_an_answer_is_given_up_and_known_to_be_absent() {
    let game = game(&nobody().await, 10, Duration::from_millis(60));
    assert_eq!(hand_in(&game, 1).await, [Outcome::GaveUp]);
    let notes = game.take_notes();
    assert_eq!((notes.stats.given_up, notes.ledger.unknown.len()), (1, 0));
    assert!(notes.stats.failures[&Failure::Refused] >= 2);
}

#[tokio::test]
async fn arrivals_over_the_backlog_are_counted_as_dropped() {
    let game = game(&nobody().await, 3, Duration::from_millis(1));
    let arrivals = (0..10).map(|_| Arrival { at_ns: 0, player: 0, ask: Ask::Fresh(0) });
    game.release(arrivals, Instant::now(), 1).await;
    game.work(Instant::now(), game.hand(1)).await;
    let notes = game.take_notes();
    assert_eq!((notes.stats.arrivals, notes.stats.dropped, notes.stats.given_up), (10, 7, 3));
    assert_eq!(notes.ledger.submissions.len(), 3, "what was dropped was never handed in");
}

#[tokio::test]
async fn repeats_are_drawn_from_what_was_acknowledged() {
    static SCRIPT: [Act; 4] = [Act::Accept; 4];
    let (url, mut bodies) = serve(&SCRIPT).await;
    let game = game(&url, 10, PATIENCE);
    let start = Instant::now();
    let asks = [Ask::Resend(5), Ask::Fresh(1), Ask::Resend(7), Ask::Another(9)];
    for (nth, ask) in asks.into_iter().enumerate() {
        // One at a time, so that each finds the one before acknowledged.
        let arrival = Arrival { at_ns: 0, player: nth as u32 % 2, ask };
        game.release(std::iter::once(arrival), start, 1).await;
        game.work(start, game.hand(1)).await;
    }
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(bodies.recv().await.unwrap());
    }
    let ledger = game.take_notes().ledger;
    // Nothing was acknowledged when the first came, so it was a fresh answer; a re-send is no new submission.
    assert_eq!(ledger.submissions.len(), 3);
    // Of 0 and 1 the bits 7 draw the second, of 0, 1 and 1 the bits 9 the first.
    assert_eq!(ledger.acks[2].submission, 1);
    assert_eq!(sent[2], sent[1]);
    let (original, other) = (ledger.submissions[0], ledger.submissions[2]);
    assert_eq!((other.player, other.question), (original.player, original.question));
    assert_ne!(other.choice, original.choice);
}
