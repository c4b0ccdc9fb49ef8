//! JSON at the door: reading bodies with exact complaints, and the small values that answers are written with.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ingest::partition::PartitionId;
use operators::definition::Object;
use operators::id::{Position, UnixMillis};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, Serializer};
use serde_path_to_error::{Path, Segment};

use crate::error::{Code, Error, Result};

pub mod answer;
pub mod shape;

/// Bytes of a body: an answer's text has at most 1,000 characters, so this is plenty.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a published definition: what the log holds as one record.
pub const PUBLISH_BYTES_MAX: usize = ingest::limits::RECORD_BYTES_MAX;

/// Returns the whole body of a JSON request.
///
/// # Errors
/// 413 over `bytes_max`, 415 for another type or a compressed body, 408 when it does not arrive in time.
pub async fn body(headers: &HeaderMap, body: Body, bytes_max: usize, within: Duration) -> Result<Bytes> {
    check_headers(headers)?;
    let too_large = || Error::new(Code::BodyTooLarge, format!("the body has more than {bytes_max} bytes"));
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(within, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(Code::MalformedRequest, "the body ended before it was whole")),
        Err(_) => Err(Code::RequestTimeout.into()),
    }
}

fn check_headers(headers: &HeaderMap) -> Result<()> {
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Code::UnsupportedEncoding.into());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Code::UnsupportedMediaType.into())
    }
}

/// Returns the value that JSON text holds.
///
/// # Errors
/// 400 when it is not JSON, 422 with a pointer when it is JSON of another shape.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        refuse(&error.into_inner()).at(pointer)
    })?;
    reader.end().map_err(|error| refuse(&error))?;
    Ok(value)
}

/// Turns what serde complains about into a refusal.
pub fn refuse(error: &serde_json::Error) -> Error {
    use serde_json::error::Category;
    let code = match error.classify() {
        Category::Data => Code::InvalidBody,
        Category::Io | Category::Syntax | Category::Eof => Code::MalformedJson,
    };
    Error::new(code, error.to_string())
}

/// Returns a path as a JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A time as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub UnixMillis);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0.0).ok();
        let time =
            ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}
impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A decimal as text without trailing zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Points(pub Decimal);

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.normalize(), f)
    }
}
impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Anything that prints, as a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A place in the log as callers see it: an opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub PartitionId, pub Position);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}
impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
