//! Publishing quizzes and reading them: hosts see keys, nobody else does.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use operators::definition::{Definition, Source};
use operators::event::{Command, CommandOutcome};
use operators::id::QuizId;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Params, QuizPath, Segments, Who, idempotency_key, tags};
use super::commands::{carry_out, command_id};
use super::write::{find, quiz as read};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::json::shape::{QuizList, QuizState, QuizSummary};
use crate::json::{self, PUBLISH_BYTES_MAX};

/// Quizzes in the order of their ids.
#[utoipa::path(get, path = "/v1/quizzes", tag = "quizzes", params(
    ("limit" = Option<u16>, Query, description = "1 to 1,000, 50 by default"),
    ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
), responses((status = 200, body = QuizList<'static>)))]
pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response> {
    let params = Params::new(&uri)?;
    let limit = params.limit()?;
    let after = params.get::<QuizId>("cursor", "must come from an earlier page")?;
    let mut views = app.views.quizzes(after.as_ref(), limit + 1).await?;
    let more = views.len() > limit;
    views.truncate(limit);
    let next_cursor = views.last().filter(|_| more).map(|view| &view.quiz);
    let list = QuizList { quizzes: views.iter().map(|view| QuizSummary::new(view)).collect(), next_cursor };
    Ok(respond(StatusCode::OK, &list))
}

/// A quiz as the caller may see it.
///
/// Hosts also get `definition`, keys included. Players see no question before it is opened.
#[utoipa::path(get, path = "/v1/quizzes/{quiz}", tag = "quizzes", params(("quiz" = String, Path)),
    responses((status = 200, body = QuizState<'static>, headers(("ETag" = String, description = "the version")))))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    who: Who,
) -> Result<Response> {
    let view = read(&app, &quiz).await?;
    let mut state = QuizState::new(&view, app.clock.now());
    if who.is_host(&quiz) {
        state.definition = Some(view.definition.source());
    }
    let mut response = respond(StatusCode::OK, &state);
    response.headers_mut().insert(header::ETAG, tag(view.status.version));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Authorization"));
    Ok(response)
}

/// A published version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Published<'a> {
    quiz: &'a str,
    version: u64,
}

/// Publishes a quiz or its next version (hosts).
///
/// Answers when the version is visible to any gateway. Content that is identical to the current version changes
/// nothing. `If-Match: "n"` publishes only over version n, `If-None-Match: *` only a new quiz.
#[utoipa::path(put, path = "/v1/quizzes/{quiz}", tag = "quizzes", params(
    ("quiz" = String, Path),
    ("If-Match" = Option<String>, Header, description = "the version that is replaced"),
    ("If-None-Match" = Option<String>, Header, description = "`*`: only a new quiz"),
), request_body(content = Object, description = "the definition", content_type = "application/json"), responses(
    (status = 201, body = Published<'static>, description = "a new quiz"),
    (status = 200, body = Published<'static>, description = "the next version, or identical content"),
))]
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    segments: Segments,
    who: Who,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let since = app.clock.now();
    let quiz: QuizId = match segments.get("quiz").parse() {
        Ok(quiz) => quiz,
        // Who may not publish at all is not told what an id must be.
        Err(error) => return Err(who.any_host().err().unwrap_or_else(|| invalid_id(&error))),
    };
    who.host(&quiz)?;
    let bytes = json::body(&headers, body, PUBLISH_BYTES_MAX, app.settings.body_within).await?;
    let source: Source = json::parse(&bytes)?;
    let definition = Arc::new(Definition::new(source).map_err(Error::definition)?);
    let if_version = match condition(&headers)? {
        Condition::None => None,
        Condition::Absent => Some(0),
        Condition::Versions(versions) => {
            // The log leaves no trace of a command to a quiz that does not exist, so this is decided here.
            let current = find(&app, &quiz, since).await?.ok_or(Code::VersionMismatch)?.view.status.version;
            let named = versions.contains(&current).then_some(current);
            Some(named.or(versions.first().copied()).ok_or(Code::VersionMismatch)?)
        }
        Condition::Present => {
            // A quiz that was published stays: whatever version it has when this is applied, it is there.
            find(&app, &quiz, since).await?.ok_or(Code::VersionMismatch)?;
            None
        }
    };
    let id = command_id(None, idempotency_key(&headers)?)?;
    let command = Command::Publish { definition, if_version };
    let (status, version) = match carry_out(&app, &quiz, &id, command).await? {
        CommandOutcome::Accepted { version: 1, .. } => (StatusCode::CREATED, 1),
        CommandOutcome::Accepted { version, .. } | CommandOutcome::Unchanged { version } => {
            (StatusCode::OK, version)
        }
        CommandOutcome::Refused(refusal) => return Err(refusal.into()),
    };
    let mut response = respond(status, &Published { quiz: quiz.as_str(), version });
    let location = HeaderValue::try_from(format!("/v1/quizzes/{quiz}")).expect("ids fit a header");
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::ETAG, tag(version));
    Ok(response)
}

fn invalid_id(error: &operators::id::IdError) -> Error {
    Error::new(Code::InvalidId, format!("the quiz's id {error}"))
}

/// What must be so for a publish to go ahead.
enum Condition {
    None,
    Absent,
    Present,
    Versions(Vec<u64>),
}

fn condition(headers: &HeaderMap) -> Result<Condition> {
    let refuse = |name| Error::new(Code::MalformedRequest, format!("{name} does not hold a version"));
    let mut known = tags(headers, header::IF_NONE_MATCH);
    match known.next() {
        None => {}
        Some("*") => return Ok(Condition::Absent),
        Some(_) => return Err(refuse("If-None-Match")),
    }
    let mut versions = Vec::new();
    for tag in tags(headers, header::IF_MATCH) {
        if tag == "*" {
            return Ok(Condition::Present);
        }
        let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        versions.push(digits.parse().map_err(|_| refuse("If-Match"))?);
    }
    Ok(if versions.is_empty() { Condition::None } else { Condition::Versions(versions) })
}

fn tag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits fit a header")
}

/// Returns a JSON response that no cache keeps.
pub(super) fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("texts and numbers are always JSON");
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
