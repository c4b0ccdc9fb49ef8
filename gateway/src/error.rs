//! What can be wrong with a request, and the only map from that to HTTP status codes.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ingest::codec::TooLarge;
use ingest::error::AppendError;
use operators::definition::{Misfit, Problem};
use operators::event::Refusal;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admission::Refused;
use crate::auth::TokenError;
use crate::views::Unavailable;

macro_rules! codes {
    ($($name:ident $status:literal $text:literal $doc:literal;)*) => {
        /// A stable code: what is wrong. Each has one HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $doc] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the code as written in a problem document.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// Returns the HTTP status.
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(status).expect("the table holds valid status codes")
            }
            /// Returns a sentence about the code.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc,)* }
            }
        }
    };
}

codes! {
    MalformedJson 400 "malformed_json" "The body is not JSON.";
    MalformedRequest 400 "malformed_request" "The path, the query or a header cannot be read.";
    MissingHost 400 "missing_host" "An HTTP/1.1 request needs exactly one Host header.";
    MissingSubmission 400 "missing_submission" "An answer needs a submission id or an Idempotency-Key.";
    TokenMissing 401 "token_missing" "The operation needs a token.";
    TokenInvalid 401 "token_invalid" "The token is not one of ours.";
    TokenExpired 401 "token_expired" "The token's time is over.";
    WrongRole 403 "wrong_role" "The token's role may not do this.";
    WrongQuiz 403 "wrong_quiz" "The token was made for another quiz.";
    NotParticipant 403 "not_participant" "The token's subject has not joined the quiz.";
    OriginRefused 403 "origin_refused" "A WebSocket may only be opened by a page of this host.";
    NotFound 404 "not_found" "There is nothing at this path.";
    UnknownQuiz 404 "unknown_quiz" "Nobody published such a quiz.";
    UnknownParticipant 404 "unknown_participant" "The quiz has no such participant, or not for this caller.";
    UnknownSubmission 404 "unknown_submission" "This cannot be a submission.";
    ReceiptPending 404 "receipt_pending" "The submission is not graded yet, or was never handed in.";
    MethodNotAllowed 405 "method_not_allowed" "The path does not take this method.";
    RequestTimeout 408 "request_timeout" "The body did not arrive in time.";
    QuestionClosed 409 "question_closed" "The question takes no more answers.";
    QuizOpen 409 "quiz_open" "The quiz is open.";
    QuizNotOpen 409 "quiz_not_open" "The quiz is not open.";
    QuizClosed 409 "quiz_closed" "The quiz is closed for good.";
    SectionsFixed 409 "sections_fixed" "The number of sections cannot change.";
    QuestionOpened 409 "question_opened" "The question was opened before.";
    QuestionNotOpen 409 "question_not_open" "The question is not open.";
    AnotherOpen 409 "another_open" "Another question is still open.";
    FreePaced 409 "free_paced" "The questions of a free-paced quiz open and close with it.";
    VersionMismatch 412 "version_mismatch" "The quiz has another version than the condition names.";
    BodyTooLarge 413 "body_too_large" "The body, or what it becomes in the log, is too large.";
    UnsupportedMediaType 415 "unsupported_media_type" "The body must be application/json.";
    UnsupportedEncoding 415 "unsupported_encoding" "The body must not be compressed.";
    InvalidBody 422 "invalid_body" "The body is JSON but not what the operation takes.";
    InvalidId 422 "invalid_id" "A text cannot be an id.";
    InvalidDefinition 422 "invalid_definition" "The quiz definition has problems, listed one by one.";
    InvalidName 422 "invalid_name" "A name has 1 to 64 characters, none of them control characters.";
    InvalidQuery 422 "invalid_query" "A query parameter has a value that it cannot have.";
    InvalidSubmission 422 "invalid_submission" "The submission id or the Idempotency-Key cannot be used.";
    SubmissionConflict 422 "submission_conflict" "Submission id and Idempotency-Key differ.";
    SubmissionReused 422 "submission_reused" "The id was used before with another content.";
    UnknownQuestion 422 "unknown_question" "The quiz has no such question.";
    WrongShape 422 "wrong_shape" "The answer does not have the shape of the question's kind.";
    UnknownChoice 422 "unknown_choice" "The question has no such choice.";
    RepeatedChoice 422 "repeated_choice" "The answer names a choice twice.";
    TooLong 422 "too_long" "The answer's text is too long.";
    UnsupportedCommand 422 "unsupported_command" "There is no such command.";
    RateLimited 429 "rate_limited" "Too many requests by this caller.";
    Internal 500 "internal" "A fault of ours.";
    Overloaded 503 "overloaded" "Too much at once: try again later.";
    LogUnavailable 503 "log_unavailable" "The log did not answer; repeating the request is safe.";
    ViewUnavailable 503 "view_unavailable" "The views did not answer.";
    ViewStale 503 "view_stale" "The view of the quiz is too old to decide; repeating the request is safe.";
    NotAcknowledged 503 "not_acknowledged" "The answer was written too late to be acknowledged; the receipt tells.";
    NotVisibleYet 503 "not_visible_yet" "Written, but not visible in time; repeating the request is safe.";
    NotReady 503 "not_ready" "Starting, stopping, or without views that can be trusted.";
    Timeout 503 "timeout" "The request took too long; repeating it is safe.";
}

/// A refused request: answered as `application/problem+json`.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    pointer: Option<String>,
    problems: Vec<Problem>,
    retry_after: Option<Duration>,
}

/// The result of everything that may refuse a request.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns a refusal with a sentence for a person.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = None;
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            pointer: None,
            problems: Vec::new(),
            retry_after,
        }))
    }
    /// Adds where in the body the fault is, as a JSON pointer.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }
    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }
    /// Returns a refusal of a definition, with all that is wrong with it.
    pub fn definition(problems: Vec<Problem>) -> Self {
        let first = problems.first();
        let detail = first.map_or_else(String::new, |first| first.detail.clone());
        let pointer = first.map(|first| first.pointer.clone());
        let inner = Inner {
            code: Code::InvalidDefinition,
            detail: detail.into(),
            pointer,
            problems,
            retry_after: None,
        };
        Self(Box::new(inner))
    }
    /// Returns the code.
    pub fn code(&self) -> Code {
        self.0.code
    }
    /// Returns where in the body the fault is.
    pub fn pointer(&self) -> Option<&str> {
        self.0.pointer.as_deref()
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code, code.meaning())
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Overloaded { retry_after } => Self::from(Code::Overloaded).retry_after(retry_after),
            AppendError::Unavailable(reason) => {
                tracing::warn!(reason, "an append failed");
                Self::from(Code::LogUnavailable).retry_after(Duration::from_secs(1))
            }
            AppendError::Invalid { reason, .. } => {
                tracing::warn!(reason, "the log refused a record");
                Self::new(Code::BodyTooLarge, "the log cannot hold this record")
            }
            AppendError::Corrupt(reason) => {
                tracing::error!(reason, "the log is damaged");
                Self::from(Code::LogUnavailable)
            }
        }
    }
}

impl From<TooLarge> for Error {
    fn from(error: TooLarge) -> Self {
        Self::new(Code::BodyTooLarge, error.to_string())
    }
}

impl From<Unavailable> for Error {
    fn from(Unavailable(reason): Unavailable) -> Self {
        tracing::warn!(reason, "a view failed");
        Self::from(Code::ViewUnavailable).retry_after(Duration::from_secs(1))
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::QuestionClosed => return Self::from(Code::QuestionClosed),
            Refused::ViewStale => Code::ViewStale,
            Refused::Unacknowledged => Code::NotAcknowledged,
        };
        Self::from(code).retry_after(Duration::from_secs(1))
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Expired => Code::TokenExpired,
            TokenError::Malformed | TokenError::Algorithm | TokenError::Signature | TokenError::Claims => {
                Code::TokenInvalid
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Self {
        let code = match misfit {
            Misfit::Shape => Code::WrongShape,
            Misfit::UnknownChoice => Code::UnknownChoice,
            Misfit::RepeatedChoice => Code::RepeatedChoice,
            Misfit::TooLong => Code::TooLong,
        };
        Self::new(code, misfit.to_string()).at("/answer")
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::UnknownQuiz => Code::UnknownQuiz,
            Refusal::UnknownQuestion => Code::UnknownQuestion,
            Refusal::QuizOpen => Code::QuizOpen,
            Refusal::QuizNotOpen => Code::QuizNotOpen,
            Refusal::QuizClosed => Code::QuizClosed,
            Refusal::VersionMismatch => Code::VersionMismatch,
            Refusal::SectionsFixed => Code::SectionsFixed,
            Refusal::QuestionOpened => Code::QuestionOpened,
            Refusal::QuestionNotOpen => Code::QuestionNotOpen,
            Refusal::AnotherOpen => Code::AnotherOpen,
            Refusal::FreePaced => Code::FreePaced,
        };
        Self::new(code, refusal.to_string())
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody<'a> {
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// Stable code in snake case.
    code: &'a str,
    /// A sentence for a person.
    detail: &'a str,
    /// Where in the body, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    /// Everything that is wrong with a quiz definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<ProblemItem<'a>>,
}

/// One thing wrong with a quiz definition.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemItem<'a> {
    /// Where, as a JSON pointer.
    pointer: &'a str,
    /// Stable code in snake case.
    code: &'a str,
    /// A sentence for a person.
    detail: &'a str,
}

impl<'a> From<&'a Problem> for ProblemItem<'a> {
    fn from(Problem { pointer, code, detail }: &'a Problem) -> Self {
        Self { pointer, code, detail }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Inner { code, detail, pointer, problems, retry_after } = *self.0;
        let status = code.status();
        let body = ProblemBody {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: code.name(),
            detail: &detail,
            pointer: pointer.as_deref(),
            problems: problems.iter().map(ProblemItem::from).collect(),
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers are always JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds_up(after)));
        }
        if let Some(challenge) = challenge(code) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Returns whole seconds, rounded up, at least 1: what `Retry-After` holds.
pub fn seconds_up(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

fn challenge(code: Code) -> Option<&'static str> {
    if code == Code::TokenMissing {
        return Some("Bearer realm=\"podium\"");
    }
    (code.status() == StatusCode::UNAUTHORIZED).then_some("Bearer realm=\"podium\", error=\"invalid_token\"")
}
