//! Identities, times and positions: small values that every other file names.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A text is not an id: what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, or over [`limits::ID_CHARS_MAX`] characters.
    #[error("must have 1 to {} characters", limits::ID_CHARS_MAX)]
    Length,
    /// A character that an id cannot hold.
    #[error("may hold letters, digits, '-', '_' and '.', and starts with a letter or digit")]
    Character,
    /// Not a UUID.
    #[error("must be a UUID such as 0190b8a2-7c1e-7d9a-8f00-0123456789ab")]
    Uuid,
    /// Not 32 hexadecimal digits.
    #[error("must be 32 hexadecimal digits")]
    Hex,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > limits::ID_CHARS_MAX {
        return Err(IdError::Length);
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.as_bytes()[0].is_ascii_alphanumeric() || !text.bytes().all(legal) {
        return Err(IdError::Character);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Name of a quiz, chosen by its host.
    QuizId
);
text_id!(
    /// Name of a question, unique in its quiz.
    QuestionId
);
text_id!(
    /// Name of a choice, unique in its question.
    ChoiceId
);
text_id!(
    /// Name of one host command, so that sending it again changes nothing.
    CommandId
);

/// A participant of one quiz: a hash of quiz and subject, so that it tells nothing about the person.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(pub u128);

impl ParticipantId {
    /// Returns the section, of `sections`, that holds this participant: a fixed share by the high half of the hash.
    pub fn section(self, sections: u16) -> u16 {
        let high = (self.0 >> 64) as u64;
        // Multiply-shift maps the hash to equal ranges without the bias of a remainder.
        ((u128::from(high) * u128::from(sections)) >> 64) as u16
    }
}

/// Hashes a [`ParticipantId`] by taking its low half: it is a cryptographic hash already, and a fixed function keeps
/// state the same on every machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u128(&mut self, value: u128) {
        // The multiplication spreads the low bits over the high ones, which the table looks at first.
        self.0 = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A map keyed by participant that iterates in the order of insertion.
pub type ParticipantMap<V> = indexmap::IndexMap<ParticipantId, V, BuildHasherDefault<IdHasher>>;

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for ParticipantId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdError::Hex);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| IdError::Hex)
    }
}

/// A submission: the client's UUID, scoped to quiz and participant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionId(pub u128);

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            v >> 96,
            (v >> 80) & 0xffff,
            (v >> 64) & 0xffff,
            (v >> 48) & 0xffff,
            v & 0xffff_ffff_ffff
        )
    }
}
impl fmt::Debug for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for SubmissionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        let hyphens = [8, 13, 18, 23];
        if bytes.len() != 36 {
            return Err(IdError::Uuid);
        }
        let mut value = 0u128;
        for (at, &byte) in bytes.iter().enumerate() {
            if hyphens.contains(&at) {
                if byte != b'-' {
                    return Err(IdError::Uuid);
                }
                continue;
            }
            let digit = (byte as char).to_digit(16).ok_or(IdError::Uuid)?;
            value = (value << 4) | u128::from(digit);
        }
        Ok(Self(value))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Returns the time `ms` later, staying at the end of time instead of overflowing.
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Returns the time `ms` earlier, staying at 0 instead of underflowing.
    pub fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
    /// Returns the milliseconds from `earlier` to `self`, 0 when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A place in one partition. Opaque to readers; ordered only inside its partition.
///
/// Wide enough for a 56-digit sequence number with the sub-sequence number of an aggregated record; an offset uses the
/// lowest word only. Sequence numbers are comparable within one shard, and a partition moves to a shard of a higher
/// number when shards are split or merged: the shard's number comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// The number of the shard, 0 where there are none.
    pub shard: u32,
    /// The sequence number, most significant word first.
    pub sequence: [u64; 3],
    /// The place inside an aggregated record, 0 where there is none.
    pub sub: u64,
}

impl Position {
    /// Returns the position of the record at `offset`.
    pub fn from_offset(offset: u64) -> Self {
        Self { shard: 0, sequence: [0, 0, offset], sub: 0 }
    }
    /// Returns the offset, or `None` when this position is not an offset.
    pub fn offset(self) -> Option<u64> {
        let is_offset = self.shard == 0 && self.sequence[..2] == [0, 0] && self.sub == 0;
        is_offset.then_some(self.sequence[2])
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHUNK: u128 = 10_000_000_000_000_000_000; // 10^19, the largest power of ten in a u64.
        let mut words = self.sequence;
        let mut parts = Vec::with_capacity(4);
        loop {
            let mut rest = 0u128;
            for word in &mut words {
                let value = (rest << 64) | u128::from(*word);
                *word = (value / CHUNK) as u64;
                rest = value % CHUNK;
            }
            parts.push(rest);
            if words == [0; 3] {
                break;
            }
        }
        if self.shard != 0 {
            write!(f, "{}:", self.shard)?;
        }
        write!(f, "{}", parts.pop().unwrap_or_default())?;
        for part in parts.iter().rev() {
            write!(f, "{part:019}")?;
        }
        if self.sub != 0 {
            write!(f, ".{}", self.sub)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_prints_all_56_digits() {
        // 2^192 - 1, checked with an arbitrary-precision calculator.
        let largest = Position { shard: 0, sequence: [u64::MAX; 3], sub: 7 };
        assert_eq!(largest.to_string(), "6277101735386680763835789423207666416102355444464034512895.7");
        assert_eq!(Position::from_offset(0).to_string(), "0");
        assert_eq!(Position { shard: 3, sequence: [0, 1, 5], sub: 0 }.to_string(), "3:18446744073709551621");
    }

    #[test]
    fn ids_refuse_what_a_path_or_key_could_not_hold() {
        assert!("geo-1_a.b".parse::<QuizId>().is_ok());
        for bad in ["", "-a", "a/b", "a b", "é", "a\0", ".."] {
            assert!(bad.parse::<QuizId>().is_err(), "{bad:?}");
        }
        assert_eq!("x".repeat(65).parse::<QuizId>(), Err(IdError::Length));
    }

    #[test]
    fn a_submission_id_reads_what_it_prints() {
        let id: SubmissionId = "0190b8a2-7c1e-7d9a-8f00-0123456789AB".parse().unwrap();
        assert_eq!(id.to_string(), "0190b8a2-7c1e-7d9a-8f00-0123456789ab");
        assert!("0190b8a27c1e7d9a8f000123456789ab".parse::<SubmissionId>().is_err());
    }

    #[test]
    fn sections_share_participants_evenly() {
        let mut counts = [0u32; 8];
        for n in 0..8_000u128 {
            let hash = ParticipantId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            counts[usize::from(hash.section(8))] += 1;
        }
        assert!(counts.iter().all(|&c| (800..1_200).contains(&c)), "{counts:?}");
        assert_eq!(ParticipantId(u128::MAX).section(1), 0);
    }
}
