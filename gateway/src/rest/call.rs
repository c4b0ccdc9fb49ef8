//! Reading a request: path, query, headers and who is asking.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use operators::id::QuizId;

use crate::auth::{Caller, Role};
use crate::error::{Code, Error, Result};
use crate::json::answer::KEY_CHARS_MAX;

/// Longest time that `Prefer: wait` asks for.
const WAIT_S_MAX: u64 = 10;

/// Who is asking; nobody without a token.
pub(super) struct Who(pub(super) Option<Caller>);

impl Who {
    /// Returns the caller.
    pub(super) fn someone(self) -> Result<Caller> {
        self.0.ok_or_else(|| Code::TokenMissing.into())
    }
    /// Refuses everybody but hosts, of whichever quiz.
    pub(super) fn any_host(self) -> Result<Caller> {
        let caller = self.someone()?;
        if caller.role == Role::Host { Ok(caller) } else { Err(Code::WrongRole.into()) }
    }
    /// Refuses everybody but hosts of this quiz.
    pub(super) fn host(self, quiz: &QuizId) -> Result<Caller> {
        let caller = self.any_host()?;
        check_quiz(&caller, quiz).map(|()| caller)
    }
    /// Refuses those who may only read, and players of another quiz.
    pub(super) fn player(self, quiz: &QuizId) -> Result<Caller> {
        let caller = self.someone()?;
        match caller.role {
            Role::Viewer => Err(Code::WrongRole.into()),
            Role::Player | Role::Host => check_quiz(&caller, quiz).map(|()| caller),
        }
    }
    /// Tells whether this quiz's keys may be shown.
    pub(super) fn is_host(&self, quiz: &QuizId) -> bool {
        self.0.as_ref().is_some_and(|caller| is_host(caller, quiz))
    }
}

/// Tells whether a caller is a host, of this quiz or of all.
pub(super) fn is_host(caller: &Caller, quiz: &QuizId) -> bool {
    caller.role == Role::Host && check_quiz(caller, quiz).is_ok()
}

/// Refuses a token that was made for another quiz.
pub(super) fn check_quiz(caller: &Caller, quiz: &QuizId) -> Result<()> {
    match &caller.quiz {
        Some(only) if only != quiz => Err(Code::WrongQuiz.into()),
        Some(_) | None => Ok(()),
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(Self(parts.extensions.remove::<Caller>()))
    }
}

/// The quiz named in the path. A text that cannot be an id names no quiz.
pub(super) struct QuizPath(pub(super) QuizId);

impl<S: Send + Sync> FromRequestParts<S> for QuizPath {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let params = Segments::from_request_parts(parts, state).await?;
        params.get("quiz").parse().map(Self).map_err(|_| Code::UnknownQuiz.into())
    }
}

/// The segments of the path that vary.
pub(super) struct Segments(RawPathParams);

impl Segments {
    /// Returns a segment by the name that the route gives it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let malformed = || Error::new(Code::MalformedRequest, "the path holds bytes that are no text");
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| malformed())?;
        if params.iter().any(|(_, value)| value.contains('\0')) {
            return Err(malformed());
        }
        Ok(Self(params))
    }
}

/// The query's parameters. Unknown ones are ignored, known ones given twice are refused.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn new(uri: &Uri) -> Result<Self> {
        let malformed = |_| Error::new(Code::MalformedRequest, "the query cannot be read");
        Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| Self(pairs)).map_err(malformed)
    }

    /// Returns the value of a parameter, if it is given.
    pub(super) fn get<T: FromStr>(&self, name: &str, takes: &str) -> Result<Option<T>> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        let refuse = || Error::new(Code::InvalidQuery, format!("{name} {takes}"));
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(refuse());
        }
        value.parse().map(Some).map_err(|_| refuse())
    }

    /// Returns `limit`: 50 unless given, 1 to 1,000.
    pub(super) fn limit(&self) -> Result<usize> {
        let takes = "must be 1 to 1000";
        let limit = self.get::<usize>("limit", takes)?.unwrap_or(50);
        if (1..=1_000).contains(&limit) {
            return Ok(limit);
        }
        Err(Error::new(Code::InvalidQuery, format!("limit {takes}")))
    }
}

/// Returns the `Idempotency-Key`, with or without the quotes of a structured field.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(HeaderName::from_static("idempotency-key")).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let detail = "Idempotency-Key must be one text of 1 to 255 visible characters";
    let refuse = || Error::new(Code::InvalidSubmission, detail);
    let text = value.to_str().map_err(|_| refuse())?.trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if values.next().is_some() || key.is_empty() || key.len() > KEY_CHARS_MAX {
        return Err(refuse());
    }
    Ok(Some(key))
}

/// Returns the time of `Prefer: wait=n` (RFC 7240), n 1 to 10 seconds; anything else is no preference.
pub(super) fn prefer_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds: u64 = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().ok())?
    })?;
    (1..=WAIT_S_MAX).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Tells whether `If-None-Match` holds the tag, or any.
pub(super) fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    tags(headers, header::IF_NONE_MATCH).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// Returns the entity tags of a conditional header.
pub(super) fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_a_wait_of_1_to_10_seconds_is_a_preference() {
        let wait = |value| prefer_wait(&headers(&[("prefer", value)])).map(|time| time.as_secs());
        assert_eq!(wait("wait=2"), Some(2));
        assert_eq!(wait("respond-async, Wait = \"10\""), Some(10));
        for none in
            ["wait=0", "wait=11", "wait=-1", "wait=1.5", "wait", "waiting=2", "wait=99999999999999999999"]
        {
            assert_eq!(wait(none), None, "{none}");
        }
        assert_eq!(prefer_wait(&HeaderMap::new()), None);
    }

    #[test]
    fn a_key_may_be_quoted_and_is_given_once() {
        let key = |pairs: &[_]| idempotency_key(&headers(pairs)).map(|key| key.map(str::to_owned)).ok();
        assert_eq!(key(&[]), Some(None));
        assert_eq!(key(&[("idempotency-key", "\"abc\"")]), Some(Some("abc".into())));
        assert_eq!(key(&[("idempotency-key", "abc")]), Some(Some("abc".into())));
        for bad in
            [&[("idempotency-key", "")][..], &[("idempotency-key", "\"\"")], &[("idempotency-key", "é")]]
        {
            assert_eq!(key(bad), None, "{bad:?}");
        }
        assert_eq!(key(&[("idempotency-key", "a"), ("idempotency-key", "a")]), None);
    }

    #[test]
    fn a_known_tag_is_found_among_others() {
        let known = |value| none_match(&headers(&[("if-none-match", value)]), "\"5\"");
        assert!(known("\"5\"") && known("\"4\", W/\"5\"") && known("*"));
        assert!(!known("\"4\"") && !known("5") && !none_match(&HeaderMap::new(), "\"5\""));
    }
}
