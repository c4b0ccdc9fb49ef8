//! Handing in an answer: the hot path. 202 is said only when the answer is durable and will be judged as on time or not
//! by what the log holds, never by when the gateway got round to it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::future::BoxFuture;
use ingest::partition::PartitionId;
use operators::definition::Definition;
use operators::effect::{Phase, Receipt, Verdict};
use operators::event::{Answer, Envelope, Event, Stamp};
use operators::id::{ParticipantId, QuestionId, QuizId, SubmissionId, UnixMillis};
use serde::Deserialize;
use utoipa::ToSchema;

use super::call::{QuizPath, Who, idempotency_key, prefer_wait};
use super::quizzes::respond;
use super::write::{Fresh, Misses, append, append_watched, fresh};
use crate::admission::{acknowledge, admit};
use crate::app::App;
use crate::auth::{Caller, participant_of};
use crate::error::{Code, Error, Result};
use crate::json::answer::{HandIn, submission};
use crate::json::shape::{Accepted, ReceiptState, partition_of};
use crate::json::{self, BODY_BYTES_MAX, Place, Text, Time};
use crate::views::{Awaited, Seen, WaitError};

/// An answer as the client writes it. Read by `json::answer`, described here.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "documentation only")]
pub(super) struct AnswerBody {
    /// Which question.
    question: String,
    /// `{"choice"}`, `{"choices"}`, `{"value"}` (a decimal as text) or `{"text"}`, as the question's kind has it.
    #[schema(value_type = Object)]
    answer: serde::de::IgnoredAny,
    /// A UUID of the client's own; or send an `Idempotency-Key`.
    submission: Option<String>,
}

/// Hands in an answer.
///
/// 202: it is durable. With `Prefer: wait=n` (n ≤ 10) 200 with the receipt, if it is graded within n seconds. A
/// repeated request with the same submission changes nothing and gets the same answer.
#[utoipa::path(post, path = "/v1/quizzes/{quiz}/answers", tag = "answers", params(
    ("quiz" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "the submission, instead of `submission`"),
    ("Prefer" = Option<String>, Header, description = "`wait=2`: answer with the receipt"),
), request_body = AnswerBody, responses(
    (status = 202, body = Accepted, description = "durable"),
    (status = 200, body = ReceiptState, description = "graded"),
))]
pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let (outcome, response) = match hand_in(&app, request).await {
        Ok((outcome, response)) => (outcome, Ok(response)),
        Err(error) => (error.code().name(), Err(error)),
    };
    metrics::counter!("podium_gateway_answers_total", "outcome" => outcome).increment(1);
    response
}

async fn hand_in(app: &Arc<App>, request: Request) -> Result<(&'static str, Response)> {
    let (mut parts, body) = request.into_parts();
    let QuizPath(quiz) = QuizPath::from_request_parts(&mut parts, app).await?;
    let caller = Who::from_request_parts(&mut parts, app).await?.player(&quiz)?;
    let bytes = json::body(&parts.headers, body, BODY_BYTES_MAX, app.settings.body_within).await?;
    let received_at = app.clock.now();
    let HandIn { question, response, submission: in_body } = HandIn::parse(&bytes)?;
    let submission = submission(in_body, idempotency_key(&parts.headers)?)?;
    let question: QuestionId = question.parse().map_err(|_| unknown_question())?;
    let (Fresh { view, as_of }, index) = locate(app, &quiz, &question, &response, received_at).await?;
    let participant = participant_of(&quiz, &caller.subject);
    check_joined(app, &quiz, &caller, participant, received_at).await?;
    let prefer = prefer_wait(&parts.headers);
    if let Some(receipt) = app.views.counted(&quiz, participant, index).await?
        && receipt.submission == submission
    {
        if receipt.response != response {
            return Err(Code::SubmissionReused.into());
        }
        let partition = partition_of(&view, participant, app.log.partitions());
        let shown = prefer.map(|_| ReceiptState::new(&receipt, participant, &view.definition, partition));
        return Ok(("replayed", replay(&quiz, &receipt, partition, shown.as_ref())));
    }
    admit(&view, index, received_at, app.clock.now(), as_of, &app.settings.timing)?;
    let section = participant.section(view.definition.source().sections);
    drop(view);
    let answer = Answer { participant, submission, question, response, received_at };
    let envelope = Envelope { quiz, section, event: Event::Answer(answer) };
    let (partition, stamp, wait) = write(app, &envelope, participant, submission, prefer).await?;
    let quiz = &envelope.quiz;
    let Fresh { view, as_of } = fresh(app, quiz).await?.ok_or(Code::ViewStale)?;
    acknowledge(&view, index, app.clock.now(), as_of, &app.settings.timing)?;
    if let Some(wait) = wait
        && let Ok(Seen::Submission(receipt)) = wait.await
        && is_judgement_of(&receipt, &envelope.event, stamp)?
    {
        let receipt = ReceiptState::new(&receipt, participant, &view.definition, partition);
        return Ok(("accepted", receipt_now(&receipt, prefer)));
    }
    let position = Place(partition, stamp.position);
    Ok(("accepted", accepted(quiz, submission, received_at, position)))
}

fn unknown_question() -> Error {
    Error::from(Code::UnknownQuestion).at("/question")
}

/// Returns the quiz and the index of a question that the answer fits.
async fn locate(
    app: &App,
    quiz: &QuizId,
    question: &QuestionId,
    response: &operators::event::Response,
    since: UnixMillis,
) -> Result<(Fresh, u16)> {
    let mut misses = Misses::new(since);
    loop {
        let as_of = app.views.as_of(quiz);
        let Some(view) = app.views.quiz(quiz).await? else {
            if misses.again(app, as_of).await? {
                continue;
            }
            return Err(Code::UnknownQuiz.into());
        };
        match fit(&view.definition, question, response) {
            Ok(index) => return Ok((Fresh { view, as_of }, index)),
            // Until it opens, a quiz may have a newer version than the view.
            Err(_) if view.status.phase == Phase::Draft && misses.again(app, as_of).await? => {}
            Err(misfit) => return Err(misfit),
        }
    }
}

/// Returns the index of the question, if the answer can be one to it.
fn fit(definition: &Definition, question: &QuestionId, response: &operators::event::Response) -> Result<u16> {
    let index = definition.index_of(question).ok_or_else(unknown_question)?;
    definition.questions[usize::from(index)].pick(response)?;
    Ok(index)
}

/// Tells whether a receipt is about the answer that was just written. An unscored one of an earlier try is not: the
/// question may have opened since.
///
/// # Errors
/// The submission counted before with another content.
fn is_judgement_of(receipt: &Receipt, event: &Event, stamp: Stamp) -> Result<bool> {
    let Event::Answer(answer) = event else { return Ok(false) };
    if receipt.verdict != Verdict::Counted {
        return Ok(receipt.position >= stamp.position);
    }
    if receipt.question != answer.question || receipt.response != answer.response {
        return Err(Code::SubmissionReused.into());
    }
    Ok(true)
}

/// Refuses a subject that has not joined. A token made by joining this quiz is proof: it was handed out only once the
/// participant was visible.
async fn check_joined(
    app: &App,
    quiz: &QuizId,
    caller: &Caller,
    participant: ParticipantId,
    since: UnixMillis,
) -> Result<()> {
    if caller.quiz.is_some() {
        return Ok(());
    }
    let mut misses = Misses::new(since);
    loop {
        let as_of = app.views.as_of(quiz);
        if app.views.place(quiz, participant).await?.is_some() {
            return Ok(());
        }
        if !misses.again(app, as_of).await? {
            return Err(Code::NotParticipant.into());
        }
    }
}

type Wait<'a> = BoxFuture<'a, std::result::Result<Seen, WaitError>>;

/// Appends; with a preference to wait, the wait is registered first.
async fn write<'a>(
    app: &'a App,
    envelope: &'a Envelope,
    participant: ParticipantId,
    submission: SubmissionId,
    prefer: Option<Duration>,
) -> Result<(PartitionId, Stamp, Option<Wait<'a>>)> {
    let Some(within) = prefer else {
        let (partition, stamp) = append(app, envelope).await?;
        return Ok((partition, stamp, None));
    };
    let wait = app.views.wait(&envelope.quiz, Awaited::Submission(participant, submission), within);
    let (partition, stamp, wait) = append_watched(app, envelope, wait).await?;
    Ok((partition, stamp, Some(wait)))
}

fn accepted(quiz: &QuizId, submission: SubmissionId, received_at: UnixMillis, position: Place) -> Response {
    let body = Accepted { submission: Text(submission), received_at: Time(received_at), position };
    let mut response = respond(StatusCode::ACCEPTED, &body);
    insert(response.headers_mut(), header::LOCATION, format!("/v1/quizzes/{quiz}/submissions/{submission}"));
    response
}

fn receipt_now(receipt: &ReceiptState, prefer: Option<Duration>) -> Response {
    let mut response = respond(StatusCode::OK, receipt);
    if let Some(within) = prefer {
        let applied = format!("wait={}", within.as_secs());
        insert(response.headers_mut(), HeaderName::from_static("preference-applied"), applied);
    }
    response
}

/// Answers a submission that counted before: as the first time, or with its receipt to one who would have waited.
fn replay(
    quiz: &QuizId,
    receipt: &Receipt,
    partition: PartitionId,
    shown: Option<&ReceiptState>,
) -> Response {
    let position = Place(partition, receipt.position);
    let mut response = match shown {
        Some(shown) => respond(StatusCode::OK, shown),
        None => accepted(quiz, receipt.submission, receipt.received_at, position),
    };
    let replayed = HeaderName::from_static("idempotent-replayed");
    response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    headers.insert(name, HeaderValue::try_from(value).expect("ids and numbers fit a header"));
}
