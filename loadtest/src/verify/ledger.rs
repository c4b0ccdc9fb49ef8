//! What the gateway acknowledged, as the audit needs it: who answered what, when it was received, where it is.

use std::cmp::Ordering;
use std::str::FromStr;

use operators::id::SubmissionId;

/// Everything handed in during a run. Lists only grow; a submission is named by its index.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What was handed in.
    pub(crate) submissions: Vec<Submission>,
    /// Every acknowledgement, in the order of arrival; a submission may have several.
    pub(crate) acks: Vec<Ack>,
    /// One entry for each request of a submission that may or may not be in the log: it got no answer, or a 5xx.
    pub(crate) unknown: Vec<u32>,
}

/// An answer handed in by one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Submission {
    /// Index of the participant.
    pub(crate) player: u32,
    /// Index of the question.
    pub(crate) question: u16,
    /// Index of the choice.
    pub(crate) choice: u8,
}

/// The gateway's word that a submission is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Index of the submission.
    pub(crate) submission: u32,
    /// When the gateway had the request, in milliseconds since 1970.
    pub(crate) received_at: u64,
    /// Where the record is.
    pub(crate) position: Position,
}

/// A place in the log: ordered only within one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    /// The partition.
    pub(crate) partition: u32,
    /// The place in it.
    pub(crate) place: Place,
}

/// A place in a partition: a decimal that may exceed 128 bits, with a place inside an aggregated record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A decimal of up to 18 digits that stands alone: nearly all of them, without memory of its own.
    Small(u64),
    /// The number of the shard, digits without leading zeros, and the place inside the aggregated record.
    Large(u32, Box<str>, u64),
}

impl Place {
    fn parts(&self, buffer: &mut String) -> (u32, u64) {
        use std::fmt::Write;
        match self {
            Self::Small(value) => {
                let written = write!(buffer, "{value}");
                debug_assert!(written.is_ok(), "a String takes everything");
                (0, 0)
            }
            Self::Large(shard, digits, sub) => {
                buffer.push_str(digits);
                (*shard, *sub)
            }
        }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::Small(mine), Self::Small(theirs)) = (self, other) {
            return mine.cmp(theirs);
        }
        let (mut mine, mut theirs) = (String::new(), String::new());
        let ((shard, sub), (other_shard, other_sub)) = (self.parts(&mut mine), other.parts(&mut theirs));
        // A partition moves to shards of higher numbers only. Decimals without leading zeros: the longer is greater,
        // equal lengths compare as text.
        let digits = mine.len().cmp(&theirs.len()).then_with(|| mine.cmp(&theirs));
        shard.cmp(&other_shard).then(digits).then(sub.cmp(&other_sub))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (partition, place) = text.split_once('-').ok_or(NotAPosition)?;
        let (shard, place) = match place.split_once(':') {
            Some((shard, place)) => (shard.parse().map_err(|_| NotAPosition)?, place),
            None => (0, place),
        };
        let (digits, sub) = match place.split_once('.') {
            Some((digits, sub)) => (digits, sub.parse().map_err(|_| NotAPosition)?),
            None => (place, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAPosition);
        }
        let partition = partition.parse().map_err(|_| NotAPosition)?;
        let digits = match digits.trim_start_matches('0') {
            "" => "0",
            trimmed => trimmed,
        };
        let place = match digits.parse() {
            Ok(small) if shard == 0 && sub == 0 && digits.len() <= 18 => Place::Small(small),
            Ok(_) | Err(_) => Place::Large(shard, digits.into(), sub),
        };
        Ok(Self { partition, place })
    }
}

/// A text that is no position such as `3-1042`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAPosition;

/// Returns the id of a submission: made of the run and the index, so that nothing has to be kept for it.
///
/// A UUID of version 8 (RFC 9562): the run's bits, then the index.
pub(crate) fn submission_id(run: u64, submission: u32) -> SubmissionId {
    let high = (run & !0xf000) | 0x8000;
    let low = (1 << 63) | u64::from(submission);
    SubmissionId((u128::from(high) << 64) | u128::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn places_compare_as_decimals_of_any_length() {
        let rising = [
            "0-0",
            "0-7",
            "0-10",
            "0-999999999999999999",
            "0-1000000000000000000",
            "0-18446744073709551621",
            "0-49590338271490256608559692538361571095921575989136588898",
            "0-49590338271490256608559692538361571095921575989136588898.1",
            "0-49590338271490256608559692538361571095921575989136588898.12",
            "0-49590338271490256608559692538361571095921575989136588899",
            "0-2:7",
            "0-2:49590338271490256608559692538361571095921575989136588898.1",
            "0-10:3",
        ];
        for pair in rising.windows(2) {
            assert!(position(pair[0]).place < position(pair[1]).place, "{} {}", pair[0], pair[1]);
        }
        assert_eq!(position("3-007"), position("3-7"));
        assert_ne!(position("3-7"), position("4-7"));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for bad in ["", "7", "-7", "a-7", "1-", "1-7a", "1--7", "1-7.", "1-7.x", "1-:7", "1-x:7"] {
            assert_eq!(bad.parse::<Position>(), Err(NotAPosition), "{bad}");
        }
    }

    #[test]
    fn submission_ids_are_distinct_uuids() {
        let id = submission_id(0x0123_4567_89ab_cdef, 5);
        assert_eq!(id.to_string(), "01234567-89ab-8def-8000-000000000005");
        assert_ne!(id, submission_id(0x0123_4567_89ab_cdef, 6));
    }
}
