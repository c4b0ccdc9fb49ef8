//! Keys of rows: one prefix per quiz (and section), one letter per kind of row.

use operators::id::{ParticipantId, QuizId};

/// Returns the key prefix of a quiz: its length keeps one quiz's prefix from being the start of another's.
pub(super) fn quiz(family: u8, quiz: &QuizId) -> Vec<u8> {
    let text = quiz.as_str().as_bytes();
    let mut key = Vec::with_capacity(2 + text.len() + 24);
    key.push(family);
    key.push(text.len() as u8);
    key.extend_from_slice(text);
    key
}

/// Reads what [`quiz`] wrote; returns the quiz and the rest of the key.
pub(super) fn split(key: &[u8]) -> Option<(QuizId, &[u8])> {
    let (&length, rest) = key.get(1..)?.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(text).ok()?.parse().ok()?, rest))
}

/// Returns `prefix` with more bytes.
pub(super) fn join(prefix: &[u8], kind: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + 1 + rest.iter().map(|part| part.len()).sum::<usize>());
    key.extend_from_slice(prefix);
    key.push(kind);
    for part in rest {
        key.extend_from_slice(part);
    }
    key
}

/// Reads a participant and the rest of a key.
pub(super) fn participant(key: &[u8]) -> Option<(ParticipantId, &[u8])> {
    let (bytes, rest) = key.split_first_chunk::<16>()?;
    Some((ParticipantId(u128::from_be_bytes(*bytes)), rest))
}

/// Reads a number of two bytes that ends a key.
pub(super) fn number(key: &[u8]) -> Option<u16> {
    key.try_into().ok().map(u16::from_be_bytes)
}
