//! The body of an answer: read in one pass from borrowed bytes, since ten thousand arrive in a second.

use std::borrow::Cow;

use operators::definition::{Object, exact};
use operators::event::Response;
use operators::id::SubmissionId;
use rust_decimal::Decimal;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::parse;
use crate::error::{Code, Error, Result};

/// Characters of an `Idempotency-Key`.
pub const KEY_CHARS_MAX: usize = 255;

/// An answer as the client wrote it.
#[derive(Debug, PartialEq)]
pub struct HandIn<'a> {
    /// Which question, not checked yet.
    pub question: Cow<'a, str>,
    /// What is handed in.
    pub response: Response,
    /// The client's id, if it is in the body.
    pub submission: Option<SubmissionId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    question: Cow<'a, str>,
    #[serde(borrow)]
    answer: Object<Fields<'a>>,
    #[serde(borrow, default)]
    submission: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(default)]
    choice: Option<String>,
    #[serde(default)]
    choices: Option<Vec<String>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(default)]
    text: Option<String>,
}

impl<'a> HandIn<'a> {
    /// Returns what a body holds.
    ///
    /// # Errors
    /// 400 when it is not JSON, 422 when it is no answer: unknown fields, more or less than one kind of answer, a
    /// number beyond 96-bit decimals, a submission that is no UUID.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let body: Body<'a> = match serde_json::from_slice(bytes) {
            Ok(Object(body)) => body,
            // Keeping track of the path costs time, so only what is wrong is read again, for the pointer.
            Err(_) => parse(bytes)?,
        };
        let submission = body.submission.map(|text| text.parse::<SubmissionId>());
        let submission = submission
            .transpose()
            .map_err(|error| Error::new(Code::InvalidSubmission, error.to_string()).at("/submission"))?;
        Ok(Self { question: body.question, response: body.answer.0.response()?, submission })
    }
}

impl Fields<'_> {
    fn response(self) -> Result<Response> {
        match self {
            Self { choice: Some(choice), choices: None, value: None, text: None } => {
                Ok(Response::Choice(without_nul(choice, "/answer/choice")?))
            }
            Self { choice: None, choices: Some(choices), value: None, text: None } => {
                let choices = choices.into_iter().map(|choice| without_nul(choice, "/answer/choices"));
                choices.collect::<Result<_>>().map(Response::Choices)
            }
            Self { choice: None, choices: None, value: Some(value), text: None } => {
                decimal(&value).map(Response::Value)
            }
            Self { choice: None, choices: None, value: None, text: Some(text) } => {
                Ok(Response::Text(without_nul(text, "/answer/text")?))
            }
            Self { .. } => {
                let detail = "must hold exactly one of choice, choices, value and text";
                Err(Error::new(Code::InvalidBody, detail).at("/answer"))
            }
        }
    }
}

/// SQL stores and C strings end at a NUL, so no text with one is let in.
fn without_nul(text: String, pointer: &'static str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::new(Code::InvalidBody, "holds a NUL character").at(pointer));
    }
    Ok(text)
}

/// Returns the number that a text writes, exactly: digits with at most one point and one sign.
fn decimal(text: &str) -> Result<Decimal> {
    exact(text).ok_or_else(|| {
        let detail = "must be a decimal number of at most 28 digits, such as \"3.14\"";
        Error::new(Code::InvalidBody, detail).at("/answer/value")
    })
}

/// Returns the submission that the body and the `Idempotency-Key` name together.
///
/// # Errors
/// 400 when neither does, 422 when they differ.
pub fn submission(body: Option<SubmissionId>, key: Option<&str>) -> Result<SubmissionId> {
    match (body, key.map(from_key)) {
        (Some(body), Some(key)) if body != key => Err(Code::SubmissionConflict.into()),
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(Code::MissingSubmission.into()),
    }
}

/// Returns the submission that an `Idempotency-Key` stands for: itself when it is a UUID, else a version 8 UUID made
/// of the first 16 bytes of its SHA-256.
pub fn from_key(key: &str) -> SubmissionId {
    key.parse().unwrap_or_else(|_| SubmissionId(hashed_uuid(key).as_u128()))
}

/// Returns a version 8 UUID that depends on `text` only.
pub fn hashed_uuid(text: &str) -> uuid::Uuid {
    let digest: [u8; 32] = Sha256::digest(text).into();
    uuid::Uuid::new_v8(digest[..16].try_into().expect("32 bytes hold 16"))
}
