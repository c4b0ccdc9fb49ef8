//! Opening a live feed: server-sent events, or a WebSocket when the request asks to upgrade.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::call::{Params, QuizPath};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::live::frame::{DeltaData, QuizData, SnapshotData};
use crate::live::wire;
use crate::server::Peer;

/// What a live feed carries; the event's name tells which.
#[derive(utoipa::ToSchema, serde::Serialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "documentation only")]
enum LiveEvent {
    /// `snapshot`: everything.
    Snapshot(SnapshotData<'static>),
    /// `delta`: rows that changed among the first 100.
    Delta(DeltaData<'static>),
    /// `quiz`: only the quiz changed; when it did so by the clock alone, `from` equals `feed`.
    Quiz(QuizData<'static>),
}

/// The live feed: what changed, at most every half second, always including the last change.
///
/// Server-sent events `snapshot`, `delta` and `quiz`, whose id is the feed sequence; `Last-Event-ID` resumes. With
/// `Upgrade: websocket` (subprotocol `podium.v1+json`) the same as messages `{"event","id","data"}`; there
/// `last_event_id` resumes.
#[utoipa::path(get, path = "/v1/quizzes/{quiz}/live", tag = "live", params(
    ("quiz" = String, Path),
    ("Last-Event-ID" = Option<u64>, Header, description = "the last event seen (server-sent events)"),
    ("last_event_id" = Option<u64>, Query, description = "the last event seen (WebSocket)"),
), responses(
    (status = 200, body = LiveEvent, content_type = "text/event-stream"),
    (status = 101, description = "a WebSocket"),
))]
pub(super) async fn live(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let (mut parts, _) = request.into_parts();
    let QuizPath(quiz) = QuizPath::from_request_parts(&mut parts, &app).await?;
    let settings = app.live.settings();
    if !wants_websocket(&parts.headers) {
        let seen =
            parts.headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let watch = app.live.watch(&quiz, seen).await?;
        return Ok(wire::events(watch, settings));
    }
    if !is_same_origin(&parts.headers) {
        return Err(Code::OriginRefused.into());
    }
    let seen = Params::new(&parts.uri)?.get::<u64>("last_event_id", "must be a number")?;
    let peer = parts.extensions.get::<Peer>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &app).await;
    let upgrade = upgrade.map_err(|error| Error::new(Code::MalformedRequest, error.to_string()))?;
    let watch = app.live.watch(&quiz, seen).await?;
    Ok(wire::upgrade(upgrade, watch, peer, settings))
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrades = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    upgrades
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Tells whether a page of this host opens the WebSocket, or no page at all. Browsers send their cookies and reach
/// addresses that others cannot, whatever page asks, and no CORS protects a WebSocket.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let (Some(host), Some((scheme, authority)), None) = (host, origin, origins.next()) else { return false };
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    bare(host) == bare(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_host_open_a_websocket() {
        let allowed = |host: &str, origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            is_same_origin(&headers)
        };
        assert!(is_same_origin(&HeaderMap::new()), "no page asks");
        assert!(allowed("localhost:8080", "http://localhost:8080"));
        assert!(allowed("Quiz.example", "https://quiz.example:443"));
        assert!(allowed("quiz.example:80", "http://quiz.example"));
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8081"),
            ("localhost:8080", "http://evil.example"),
            ("localhost:8080", "http://localhost:8080.evil.example"),
            ("localhost:8080", "null"),
            ("localhost:8080", "localhost:8080"),
        ] {
            assert!(!allowed(host, origin), "{origin} at {host}");
        }
    }
}
