//! Carries frames to one watcher: as server-sent events or over a WebSocket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::time::{Instant, timeout};

use super::frame::Frame;
use super::{Settings, Watch};
use crate::server::Peer;

/// The one subprotocol.
pub(crate) const PROTOCOL: &str = "podium.v1+json";

/// Bytes of a message from a watcher, who has nothing to say: pongs and a polite close.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Read buffer: the default of 128 KiB would be most of a connection's memory.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// Bytes that may wait to be written: above the largest snapshot, whose quiz state holds a whole definition's texts.
const WRITE_BUFFER_BYTES_MAX: usize = 4 << 20;
/// Time for a watcher to answer our close.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

struct Events {
    watch: Watch,
    queue: VecDeque<Arc<Frame>>,
    started: bool,
    keep_alive: Duration,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.started {
            self.started = true;
            return Some(Bytes::from_static(b"retry: 2000\n\n"));
        }
        let keep_alive = tokio::time::sleep(self.keep_alive);
        tokio::pin!(keep_alive);
        loop {
            if let Some(frame) = self.queue.pop_front() {
                return Some(frame.sse());
            }
            self.queue.extend(self.watch.take());
            if !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.watch.changed() => changed.ok()?,
                () = &mut keep_alive => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }
}

/// Returns the watch as an endless response of server-sent events. Hyper asks for more only while the watcher reads.
pub(crate) fn events(watch: Watch, settings: &Settings) -> Response {
    let events = Events { watch, queue: VecDeque::new(), started: false, keep_alive: settings.keep_alive };
    let stream = stream::unfold(events, async |mut events| {
        let bytes = events.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), events))
    });
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Returns the response that turns the connection into a WebSocket and carries the watch over it. `peer` keeps the
/// connection counted.
pub(crate) fn upgrade(
    upgrade: WebSocketUpgrade,
    watch: Watch,
    peer: Option<Peer>,
    settings: &Settings,
) -> Response {
    let settings = settings.clone();
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            converse(socket, watch, &settings).await;
            drop(peer);
        })
}

async fn converse(mut socket: WebSocket, mut watch: Watch, settings: &Settings) {
    let mut ping = tokio::time::interval_at(Instant::now() + settings.ping, settings.ping);
    let mut heard = Instant::now();
    loop {
        for frame in watch.take() {
            let sent = timeout(settings.write_within, socket.send(Message::Text(frame.message()))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
        tokio::select! {
            changed = watch.changed() => if changed.is_err() {
                drop(watch);
                return close(socket).await;
            },
            // Reading on until None lets the closing handshake finish; what a watcher says is not listened to.
            received = socket.recv() => match received {
                Some(Ok(_)) => heard = Instant::now(),
                Some(Err(_)) | None => return,
            },
            _ = ping.tick() => {
                if heard.elapsed() > settings.ping * 2 {
                    return;
                }
                let sent = timeout(settings.write_within, socket.send(Message::Ping(Bytes::new()))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

/// Says that the feed is over, as the gateway stops or the quiz is no more, and waits for the watcher's half of the
/// closing handshake.
async fn close(mut socket: WebSocket) {
    let away = CloseFrame { code: close_code::AWAY, reason: "the feed is over".into() };
    let shake = async {
        if socket.send(Message::Close(Some(away))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // A watcher that does not answer in time is cut off.
    timeout(CLOSE_WITHIN, shake).await.ok();
}
