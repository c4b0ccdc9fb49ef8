//! The receipt of one submission: for the participant and for hosts.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use operators::id::{ParticipantId, SubmissionId};

use super::call::{Params, QuizPath, Segments, Who, check_quiz};
use super::quizzes::respond;
use super::write::quiz as read;
use crate::app::App;
use crate::auth::{Role, participant_of};
use crate::error::{Code, Error, Result};
use crate::json::shape::{ReceiptState, partition_of};
use crate::views::newest;

/// The receipt of a submission.
///
/// Not graded yet, or never handed in: 404 `receipt_pending` with `Retry-After`.
#[utoipa::path(get, path = "/v1/quizzes/{quiz}/submissions/{submission}", tag = "answers", params(
    ("quiz" = String, Path), ("submission" = String, Path),
    ("participant" = Option<String>, Query, description = "whose submission it is, for hosts"),
), responses((status = 200, body = ReceiptState)))]
pub(super) async fn receipt(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    segments: Segments,
    who: Who,
    uri: Uri,
) -> Result<Response> {
    let caller = who.someone()?;
    check_quiz(&caller, &quiz)?;
    let asked = Params::new(&uri)?.get::<ParticipantId>("participant", "must be a participant's id")?;
    let own = participant_of(&quiz, &caller.subject);
    let participant = asked.unwrap_or(own);
    let view = read(&app, &quiz).await?;
    if caller.role != Role::Host && participant != own {
        return Err(Code::UnknownParticipant.into());
    }
    let submission: SubmissionId =
        segments.get("submission").parse().map_err(|_| Error::from(Code::UnknownSubmission))?;
    let receipts = app.views.receipts(&quiz, participant).await?;
    let Some(receipt) = newest(&receipts, submission) else {
        // A token made by joining proves that its subject joined, also to a view that has not seen it yet.
        let has_joined = participant == own && caller.quiz.is_some();
        let is_known =
            has_joined || !receipts.is_empty() || app.views.place(&quiz, participant).await?.is_some();
        let code = if is_known { Code::ReceiptPending } else { Code::UnknownParticipant };
        return Err(Error::from(code).retry_after(Duration::from_secs(1)));
    };
    let partition = partition_of(&view, participant, app.log.partitions());
    Ok(respond(StatusCode::OK, &ReceiptState::new(receipt, participant, &view.definition, partition)))
}
