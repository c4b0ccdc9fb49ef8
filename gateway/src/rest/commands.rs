//! Host commands: appended to section 0, answered when their outcome is visible.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use ingest::codec::part::content_of;
use operators::event::{Command, CommandOutcome, Event};
use operators::id::{CommandId, QuestionId, QuizId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{QuizPath, Who, idempotency_key};
use super::quizzes::respond;
use super::write::{append_visibly, find};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::json::answer::hashed_uuid;
use crate::json::{self, BODY_BYTES_MAX};
use crate::views::{Awaited, Seen};

/// A command as the host writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandBody {
    /// `open`, `open_question`, `close_question` or `close`.
    r#type: String,
    /// The question, for `open_question` and `close_question`.
    #[serde(default)]
    question: Option<String>,
    /// Sending a command again under the same id changes nothing.
    #[serde(default)]
    id: Option<String>,
}

/// A command that was carried out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done<'a> {
    /// The command's id.
    #[schema(value_type = String)]
    command: &'a CommandId,
    /// Its number in the quiz; null when there was nothing to do.
    number: Option<u64>,
    /// The quiz's version after it.
    version: u64,
}

/// Runs the quiz: `open`, `open_question`, `close_question`, `close` (hosts).
///
/// Answers when the command is applied and visible to any gateway.
#[utoipa::path(post, path = "/v1/quizzes/{quiz}/commands", tag = "quizzes", params(
    ("quiz" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "the command's id, instead of `id`"),
), request_body = CommandBody, responses((status = 202, body = Done<'static>)))]
pub(super) async fn command(
    State(app): State<Arc<App>>,
    QuizPath(quiz): QuizPath,
    who: Who,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    who.host(&quiz)?;
    let bytes = json::body(&headers, body, BODY_BYTES_MAX, app.settings.body_within).await?;
    let since = app.clock.now();
    // The type first: a command of a newer Podium is refused as such, not for its fields.
    json::parse::<CommandType>(&bytes)?.check()?;
    let body: CommandBody = json::parse(&bytes)?;
    let command = body.command()?;
    let id = command_id(body.id.as_deref(), idempotency_key(&headers)?)?;
    // The log leaves no trace of a command to a quiz that does not exist, so this is decided here.
    find(&app, &quiz, since).await?.ok_or(Code::UnknownQuiz)?;
    let outcome = carry_out(&app, &quiz, &id, command).await?;
    let (number, version) = match outcome {
        CommandOutcome::Accepted { number, version } => (Some(number), version),
        CommandOutcome::Unchanged { version } => (None, version),
        CommandOutcome::Refused(refusal) => return Err(refusal.into()),
    };
    Ok(respond(StatusCode::ACCEPTED, &Done { command: &id, number, version }))
}

/// Hands a command in and returns what became of it, or of the same one if it was handed in before.
pub(super) async fn carry_out(
    app: &App,
    quiz: &QuizId,
    id: &CommandId,
    command: Command,
) -> Result<CommandOutcome> {
    let content = content_of(&command);
    let event = Event::Command { id: id.clone(), content, command };
    match append_visibly(app, quiz, 0, event, Awaited::Command(id.clone())).await? {
        Seen::Command(decided) if decided.content == content => Ok(decided.outcome),
        Seen::Command(_) => Err(Code::SubmissionReused.into()),
        Seen::Participant | Seen::Submission(_) => Err(Code::Internal.into()),
    }
}

/// The command's type, whatever else there is.
#[derive(Deserialize)]
struct CommandType {
    r#type: String,
}

impl CommandType {
    fn check(&self) -> Result<()> {
        let known = ["open", "open_question", "close_question", "close"];
        if known.contains(&self.r#type.as_str()) { Ok(()) } else { Err(unsupported()) }
    }
}

fn unsupported() -> Error {
    let detail = "type must be open, open_question, close_question or close";
    Error::new(Code::UnsupportedCommand, detail).at("/type")
}

impl CommandBody {
    fn command(&self) -> Result<Command> {
        let unexpected = || Error::new(Code::InvalidBody, "this command takes no question").at("/question");
        let plain = |command| if self.question.is_none() { Ok(command) } else { Err(unexpected()) };
        match self.r#type.as_str() {
            "open" => plain(Command::Open),
            "close" => plain(Command::Close),
            "open_question" => self.question().map(Command::OpenQuestion),
            "close_question" => self.question().map(Command::CloseQuestion),
            _ => Err(unsupported()),
        }
    }

    fn question(&self) -> Result<QuestionId> {
        let missing = || Error::new(Code::InvalidBody, "this command needs a question").at("/question");
        let question = self.question.as_deref().ok_or_else(missing)?;
        question.parse().map_err(|_| Error::from(Code::UnknownQuestion).at("/question"))
    }
}

/// Returns the id of a command: from the body, from the `Idempotency-Key`, or a new one. A key that cannot be an id
/// stands for a UUID made of its hash.
pub(super) fn command_id(body: Option<&str>, key: Option<&str>) -> Result<CommandId> {
    let from_key = |key: &str| {
        let hashed = || hashed_uuid(key).to_string().parse().expect("a UUID is an id");
        key.parse().unwrap_or_else(|_| hashed())
    };
    let body: Option<CommandId> =
        body.map(str::parse).transpose().map_err(|error: operators::id::IdError| {
            Error::new(Code::InvalidId, format!("the command's id {error}")).at("/id")
        })?;
    match (body, key.map(from_key)) {
        (Some(body), Some(key)) if body != key => {
            let detail: Cow<'static, str> = "id and Idempotency-Key differ".into();
            Err(Error::new(Code::SubmissionConflict, detail))
        }
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Ok(uuid::Uuid::new_v4().to_string().parse().expect("a UUID is an id")),
    }
}
