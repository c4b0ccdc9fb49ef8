//! The leaderboard for everybody, and the books for hosts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use operators::id::ParticipantId;
use operators::rank::Cursor;

use super::call::{Params, QuizPath, Who, none_match};
use super::quizzes::respond;
use super::write::quiz as read;
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::json::shape::{BoardState, BooksState, RowState};
use crate::views::Page;

/// The leaderboard: from the top, after a cursor, or around a participant.
#[utoipa::path(get, path = "/v1/quizzes/{quiz}/leaderboard", tag = "leaderboard", params(
    ("quiz" = String, Path),
    ("limit" = Option<u16>, Query, description = "1 to 1,000, 50 by default; around: on either side"),
    ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ("around" = Option<String>, Query, description = "a participant"),
    ("If-None-Match" = Option<String>, Header, description = "the revision that is known"),
), responses(
    (status = 200, body = BoardState<'static>, headers(("ETag" = String, description = "the revision"))),
    (status = 304, description = "the revision is still the same"),
))]
pub(super) async fn leaderboard(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let params = Params::new(&uri)?;
    let limit = params.limit()?;
    let cursor = params.get::<Cursor>("cursor", "must come from an earlier page")?;
    let around = params.get::<ParticipantId>("around", "must be a participant's id")?;
    let page = match (cursor, around) {
        (Some(_), Some(_)) => {
            return Err(Error::new(Code::InvalidQuery, "cursor and around exclude each other"));
        }
        (None, Some(participant)) => Page::Around(participant),
        (cursor, None) => Page::After(cursor),
    };
    let Some(board) = app.views.board(&quiz, page, limit).await? else {
        read(&app, &quiz).await?;
        return Err(Code::UnknownParticipant.into());
    };
    let tag = format!("\"{}\"", board.revision);
    let mut response = if none_match(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let state = BoardState {
            revision: board.revision,
            participants: board.participants,
            rule: &board.rule,
            standings: board.rows.iter().map(RowState::from).collect(),
            next_cursor: board.next.map(|cursor| cursor.to_string()),
        };
        respond(StatusCode::OK, &state)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("digits fit a header"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The books of a quiz (hosts).
#[utoipa::path(get, path = "/v1/quizzes/{quiz}/books", tag = "leaderboard", params(("quiz" = String, Path)),
    responses((status = 200, body = BooksState<'static>)))]
pub(super) async fn books(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    who: Who,
) -> Result<Response> {
    who.host(&quiz)?;
    let view = read(&app, &quiz).await?;
    let books = app.views.books(&quiz).await?.ok_or(Code::UnknownQuiz)?;
    Ok(respond(StatusCode::OK, &BooksState::new(&books, &view.definition)))
}
