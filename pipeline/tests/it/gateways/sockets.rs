//! Live feeds over real sockets: both wires, coming back, closing, and readers that do not read.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::feed::{score, stage};
use super::house::{House, house_with, settings};
use super::screen::{Events, News, Screen, newest, watch};

const SHORT: Duration = Duration::from_millis(1);

/// Nothing here takes this long: a hang fails instead of waiting for ever.
pub(super) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it does not hang")
}

/// Connects with as small a receive buffer as the system lets it be.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(address).await.unwrap()
}

/// Opens a feed of server-sent events.
async fn sse(address: SocketAddr, quiz: &str, seen: Option<u64>) -> Events {
    let stream = connect(address).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::get(format!("/v1/quizzes/{quiz}/live")).header("host", "podium.test");
    if let Some(seen) = seen {
        request = request.header("last-event-id", seen);
    }
    let response = soon(sender.send_request(request.body(Empty::<Bytes>::new()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    Events::new(response.into_body().map_err(|error| error.to_string()).boxed_unsync())
}

pub(super) type Socket = WebSocketStream<TcpStream>;

pub(super) async fn websocket(
    address: SocketAddr,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, tungstenite::Error> {
    let mut request = format!("ws://{address}/v1/quizzes/geo/live{query}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = connect(address).await;
    let (socket, response) = soon(client_async(request, stream)).await?;
    assert_eq!(response.status(), 101);
    Ok(socket)
}

pub(super) async fn said(socket: &mut Socket) -> News {
    loop {
        match soon(socket.next()).await.expect("a feed has no end").unwrap() {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                let event = message["event"].as_str().unwrap().to_owned();
                return News { event, id: message["id"].as_u64().unwrap(), data: message["data"].clone() };
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Binary(_) | Message::Close(_) | Message::Frame(_)) => {
                panic!("no news: {other:?}")
            }
        }
    }
}

#[tokio::test]
async fn both_wires_carry_the_same_feed() {
    for sections in [1, 8] {
        let (mut house, a, _, players) = stage(SHORT, 64, sections).await;
        let address = a.listen().await;
        let mut events = sse(address, "geo", None).await;
        let mut socket =
            websocket(address, "", &[("sec-websocket-protocol", "podium.v1+json")]).await.unwrap();
        let (mut one, mut other) = (Screen::default(), Screen::default());
        one.take(events.next().await);
        other.take(said(&mut socket).await);
        for player in &players {
            score(&mut house, &a, player).await;
            let feed = newest(&a, "geo").await;
            one.follow(&mut events, feed).await;
            while other.feed < Some(feed) {
                other.take(said(&mut socket).await);
            }
            one.check(&a, "geo").await;
        }
        assert_eq!((&one.board, &one.quiz, &one.frames), (&other.board, &other.quiz, &other.frames));

        // Coming back on either wire brings what was missed, and nothing else.
        let seen = one.frames[5].id;
        let mut events = sse(address, "geo", Some(seen)).await;
        let mut socket = websocket(address, &format!("?last_event_id={seen}"), &[]).await.unwrap();
        for missed in &one.frames[6..] {
            assert_eq!((&events.next().await, &said(&mut socket).await), (missed, missed));
        }
    }
}

#[tokio::test]
async fn a_websocket_is_for_pages_of_this_host() {
    let (_house, a, _, _) = stage(SHORT, 64, 1).await;
    let address = a.listen().await;
    let own = format!("http://{address}");
    for origin in ["http://evil.test", "null", "https://podium.test", &format!("{own}.evil.test"), ""] {
        match websocket(address, "", &[("origin", origin)]).await {
            Err(tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 403, "{origin}");
                assert_eq!(response.headers()["content-type"], "application/problem+json");
            }
            other => panic!("{origin} was let in: {other:?}"),
        }
    }
    websocket(address, "", &[("origin", &own)]).await.unwrap();
    websocket(address, "", &[]).await.unwrap();
    let foreign =
        a.get("/v1/quizzes/geo/live").header("upgrade", "websocket").header("origin", "http://evil.test");
    foreign.send().await.refused(403, "origin_refused");
    match websocket(address, "?last_event_id=x", &[]).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 422),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_closes_politely_from_either_side() {
    let (_house, a, _, _) = stage(SHORT, 64, 1).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let address = a.listen_until(async { stopped.await.unwrap_or_default() }).await;
    let mut leaves = websocket(address, "", &[]).await.unwrap();
    said(&mut leaves).await;
    // What a watcher says is not listened to, but pings are answered.
    leaves.send(Message::text("hello")).await.unwrap();
    leaves.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(soon(leaves.next()).await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"x")));
    let normal = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    leaves.close(Some(normal.clone())).await.unwrap();
    assert_eq!(soon(leaves.next()).await.unwrap().unwrap(), Message::Close(Some(normal)));
    assert!(soon(leaves.next()).await.is_none(), "and then the end, without an error");

    let mut stays = websocket(address, "", &[]).await.unwrap();
    said(&mut stays).await;
    let mut events = sse(address, "geo", None).await;
    events.next().await;
    stop.send(()).unwrap();
    let last = soon(stays.next()).await.unwrap().unwrap();
    let is_away = matches!(&last, Message::Close(Some(frame)) if frame.code == CloseCode::Away);
    assert!(is_away, "{last:?}");
    assert!(soon(stays.next()).await.is_none());
    assert!(soon(events.is_over()).await, "server-sent events end with the server");
    assert_eq!(a.get("/v1/quizzes/geo/live").send().await.code(), "not_ready");
}

/// Returns once somebody can sit down at a feed with one seat.
async fn until_a_seat_is_free(door: &super::house::Door) {
    let wait = async {
        while door.get("/v1/quizzes/geo/live").open().await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon(wait).await;
}

#[tokio::test]
async fn whoever_talks_too_much_or_vanishes_is_gone_and_its_seat_is_free() {
    let mut settings = settings();
    settings.live.watchers_max = 1;
    let (mut house, a, _) = house_with(settings).await;
    house.asked(&a, "geo", 1).await;
    let address = a.listen().await;
    let full = || a.get("/v1/quizzes/geo/live").send();

    let mut socket = websocket(address, "", &[]).await.unwrap();
    said(&mut socket).await;
    full().await.refused(503, "overloaded");
    socket.send(Message::text("x".repeat(64 << 10))).await.ok();
    let end =
        soon(async { while let Some(Ok(Message::Text(_) | Message::Ping(_))) = socket.next().await {} });
    end.await;
    until_a_seat_is_free(&a).await;

    let mut socket = websocket(address, "", &[]).await.unwrap();
    said(&mut socket).await;
    full().await.refused(503, "overloaded");
    drop(socket);
    until_a_seat_is_free(&a).await;

    let mut events = sse(address, "geo", None).await;
    events.next().await;
    full().await.refused(503, "overloaded");
    drop(events);
    until_a_seat_is_free(&a).await;
}

/// A quiz whose every quiz frame has a quarter of a megabyte, and whose host can open and close many questions.
fn bulky() -> Value {
    let text = |n: usize| "x".repeat(3_900) + &n.to_string();
    let choices: Vec<Value> = (0..60).map(|n| json!({"id": format!("c{n}"), "text": text(n)})).collect();
    let mut questions =
        vec![json!({"id": "q0", "kind": "single_choice", "text": "?", "key": {"choice": "c1"},
                                    "choices": choices})];
    questions.extend((1..60).map(
        |n| json!({"id": format!("q{n}"), "kind": "short_text", "text": "?", "key": {"accept": ["a"]}}),
    ));
    json!({"title": "Bulky", "questions": questions})
}

/// Publishes and opens the bulky quiz, its big question too.
async fn bulky_stage(settings: gateway::Settings) -> (House, super::house::Door) {
    let (mut house, a, _) = house_with(settings).await;
    house.publish(&a, "geo", bulky()).await;
    house.command(&a, "geo", json!({"type": "open"})).await;
    house.command(&a, "geo", json!({"type": "open_question", "question": "q0"})).await;
    (house, a)
}

/// Closes one question and opens the next: two frames.
async fn next_question(house: &mut House, door: &super::house::Door, n: usize) {
    house.command(door, "geo", json!({"type": "close_question", "question": format!("q{}", n - 1)})).await;
    house.command(door, "geo", json!({"type": "open_question", "question": format!("q{n}")})).await;
}

#[tokio::test]
async fn a_socket_that_is_not_read_gets_the_newest_state_and_not_all_that_led_to_it() {
    let mut settings = settings();
    (settings.live.interval, settings.live.ring_frames) = (SHORT, 4);
    // However slow the machine is: being slow is no reason here to be cut off.
    let patient = Duration::from_hours(1);
    (settings.server.write_within, settings.live.write_within) = (patient, patient);
    let (mut house, a) = bulky_stage(settings).await;
    let address = a.listen().await;
    let mut slow = sse(address, "geo", None).await;
    let mut slow_socket = websocket(address, "", &[]).await.unwrap();
    let mut fast = watch(&a, "geo", None).await;
    let (mut dozing, mut drowsy, mut awake) = (Screen::default(), Screen::default(), Screen::default());
    dozing.take(slow.next().await);
    drowsy.take(said(&mut slow_socket).await);
    awake.take(fast.next().await);
    for n in 1..30 {
        next_question(&mut house, &a, n).await;
        awake.follow(&mut fast, newest(&a, "geo").await).await;
    }
    // 14 MB were made; the system's buffers hold a few, the gateway holds four frames.
    dozing.follow(&mut slow, awake.feed.unwrap()).await;
    while drowsy.feed < awake.feed {
        drowsy.take(said(&mut slow_socket).await);
    }
    for screen in [&dozing, &drowsy] {
        let all = awake.frames.len();
        assert!(screen.frames.len() + 10 < all, "{} of {all} frames", screen.frames.len());
        let snapshots = screen.frames.iter().filter(|news| news.event == "snapshot").count();
        assert!(snapshots >= 2, "what was dropped is made up for by the whole");
        assert_eq!((&screen.board, &screen.quiz), (&awake.board, &awake.quiz));
        screen.check(&a, "geo").await;
    }
}

#[tokio::test]
async fn a_socket_that_takes_nothing_at_all_is_cut_off() {
    let mut settings = settings();
    (settings.live.interval, settings.live.watchers_max) = (SHORT, 1);
    settings.server.write_within = Duration::from_millis(100);
    let (mut house, a) = bulky_stage(settings).await;
    let mut stuck = sse(a.listen().await, "geo", None).await;
    stuck.next().await;
    let mut n = 1;
    let cut = async {
        while a.get("/v1/quizzes/geo/live").open().await.status() != 200 {
            if n < 60 {
                next_question(&mut house, &a, n).await;
                n += 1;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(cut).await;
    drop(stuck);
}
