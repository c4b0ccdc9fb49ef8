//! Joining a quiz, and one participant's own result.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use operators::effect::Phase;
use operators::event::Event;
use operators::id::{ParticipantId, QuizId};
use operators::limits::NAME_CHARS_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{QuizPath, Segments, Who, check_quiz, idempotency_key, is_host};
use super::quizzes::respond;
use super::write::{append_visibly, find, quiz as read};
use crate::app::App;
use crate::auth::{Caller, Role, participant_of};
use crate::error::{Code, Error, Result};
use crate::json::shape::{ReceiptState, ResultState, partition_of};
use crate::json::{self, BODY_BYTES_MAX};
use crate::views::{Awaited, Page};

/// Characters that an `Idempotency-Key` needs for joining: it stands for a person, so it must not be guessed.
const JOIN_KEY_CHARS_MIN: usize = 16;

/// Who joins.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinBody {
    /// As shown on the leaderboard: 1 to 64 characters.
    name: String,
}

/// A participant, with a token that hands in answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Joined {
    participant: String,
    token: String,
}

/// Joins the quiz, or changes the name.
///
/// A participant is a subject in a quiz. With a token it is the token's subject; without one a new subject, unless the
/// same `Idempotency-Key` (16 characters or more, kept secret) is sent again.
#[utoipa::path(post, path = "/v1/quizzes/{quiz}/participants", tag = "participants", params(
    ("quiz" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "makes joining without a token repeatable"),
), request_body = JoinBody, responses(
    (status = 201, body = Joined, description = "joined"),
    (status = 200, body = Joined, description = "had joined before"),
))]
pub(super) async fn join(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    Who(caller): Who,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    if let Some(caller) = &caller {
        check_quiz(caller, &quiz)?;
        if caller.role == Role::Viewer {
            return Err(Code::WrongRole.into());
        }
    }
    let bytes = json::body(&headers, body, BODY_BYTES_MAX, app.settings.body_within).await?;
    let since = app.clock.now();
    let JoinBody { name } = json::parse(&bytes)?;
    if !is_name(&name) {
        return Err(Error::from(Code::InvalidName).at("/name"));
    }
    let key = idempotency_key(&headers)?.filter(|_| caller.is_none());
    let subject = subject(&app, &quiz, caller.as_ref(), key)?;
    let participant = participant_of(&quiz, &subject);
    let view = find(&app, &quiz, since).await?.ok_or(Code::UnknownQuiz)?.view;
    let is_new_subject = caller.is_none() && key.is_none();
    let known = if is_new_subject { None } else { app.views.place(&quiz, participant).await? };
    let known = known.map(|place| place.row.name);
    if key.is_some() && known.as_deref().is_some_and(|known| *known != name) {
        return Err(Error::new(Code::SubmissionReused, "the Idempotency-Key joined under another name"));
    }
    if known.as_deref() != Some(&name) {
        if view.status.phase == Phase::Closed {
            return Err(Code::QuizClosed.into());
        }
        let section = participant.section(view.definition.source().sections);
        append_join(&app, &quiz, section, participant, name).await?;
    }
    let ttl = app.settings.join_token_ttl;
    let token = app.issuer.mint(&subject, Role::Player, Some(&quiz), ttl, app.clock.now());
    let status = if known.is_some() && caller.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = respond(status, &Joined { participant: participant.to_string(), token });
    let location = format!("/v1/quizzes/{quiz}/participants/{participant}");
    response
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::try_from(location).expect("ids fit a header"));
    if known.is_some() && key.is_some() {
        let replayed = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn append_join(
    app: &App,
    quiz: &QuizId,
    section: u16,
    participant: ParticipantId,
    name: String,
) -> Result<()> {
    let event = Event::Join { participant, name: name.clone() };
    match append_visibly(app, quiz, section, event, Awaited::Participant(participant, name)).await {
        Ok(_) => Ok(()),
        // A quiz that closed meanwhile takes nobody in, and says so only by its state.
        Err(error) if error.code() == Code::NotVisibleYet => match app.views.quiz(quiz).await? {
            Some(view) if view.status.phase == Phase::Closed => Err(Code::QuizClosed.into()),
            Some(_) | None => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn subject(app: &App, quiz: &QuizId, caller: Option<&Caller>, key: Option<&str>) -> Result<String> {
    match (caller, key) {
        (Some(caller), _) => Ok(caller.subject.clone().into()),
        (None, Some(key)) if key.len() < JOIN_KEY_CHARS_MIN => {
            let detail = "to join, an Idempotency-Key needs 16 characters or more that nobody can guess";
            Err(Error::new(Code::InvalidSubmission, detail))
        }
        (None, Some(key)) => Ok(app.issuer.derive(&["join", quiz.as_str(), key])),
        (None, None) => Ok(uuid::Uuid::new_v4().simple().to_string()),
    }
}

/// Tells whether a text can stand on a leaderboard: something to see, nothing that moves what stands around it.
fn is_name(name: &str) -> bool {
    // Line and paragraph separators, and the marks that turn the direction of following text.
    let moves =
        |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let chars = name.chars().count();
    chars <= NAME_CHARS_MAX && !name.trim().is_empty() && !name.chars().any(|c| c.is_control() || moves(c))
}

/// One participant's result: for the participant and for hosts.
#[utoipa::path(get, path = "/v1/quizzes/{quiz}/participants/{participant}", tag = "participants", params(
    ("quiz" = String, Path), ("participant" = String, Path),
), responses((status = 200, body = ResultState<'static>)))]
pub(super) async fn result(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    segments: Segments,
    who: Who,
) -> Result<Response> {
    let caller = who.someone()?;
    let unknown = || Error::from(Code::UnknownParticipant);
    let participant: ParticipantId = segments.get("participant").parse().map_err(|_| unknown())?;
    let is_self = check_quiz(&caller, &quiz).is_ok() && participant_of(&quiz, &caller.subject) == participant;
    let view = read(&app, &quiz).await?;
    if !is_host(&caller, &quiz) && !is_self {
        return Err(unknown());
    }
    // The board first: its revision is one that the place below already holds.
    let board = app.views.board(&quiz, Page::After(None), 1).await?.ok_or(Code::UnknownQuiz)?;
    let place = app.views.place(&quiz, participant).await?.ok_or_else(unknown)?;
    let receipts = app.views.receipts(&quiz, participant).await?;
    let partition = partition_of(&view, participant, app.log.partitions());
    let receipt = |receipt| ReceiptState::new(receipt, participant, &view.definition, partition);
    let answers = receipts.iter().map(receipt).collect();
    Ok(respond(StatusCode::OK, &ResultState::new(&place, board.participants, board.revision, answers)))
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_shows_and_stays_in_its_place() {
        for good in ["Ana", "Zoë 🎉", "نور", "a", &"é".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in
            ["", "  ", "a\nb", "a\0", "\u{202e}anA", "a\u{2066}b", "a\u{2028}b", "\u{7f}", &"é".repeat(65)]
        {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
