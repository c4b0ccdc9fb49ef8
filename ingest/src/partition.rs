//! Partitions: equal ranges of the MD5 of the partition key, the same on every backend.

use std::fmt;

use md5::{Digest, Md5};
use operators::id::QuizId;

/// One ordered slice of a stream, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Returns the partition of a key among `partitions`: its MD5, read as a big-endian number, over equal ranges.
///
/// # Panics
/// If `partitions` is 0.
pub fn of_key(key: &str, partitions: u16) -> PartitionId {
    assert!(partitions > 0, "a stream has at least one partition");
    let digest: [u8; 16] = Md5::digest(key.as_bytes()).into();
    let high = u64::from_be_bytes(digest[..8].try_into().expect("16 bytes hold 8"));
    PartitionId(((u128::from(high) * u128::from(partitions)) >> 64) as u16)
}

/// Returns the partition that holds a section of a quiz: sections follow section 0's partition, one each, around.
pub fn of_section(quiz: &QuizId, section: u16, partitions: u16) -> PartitionId {
    let first = of_key(quiz.as_str(), partitions);
    PartitionId(((u32::from(first.0) + u32::from(section)) % u32::from(partitions)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_md5_values_fall_into_known_ranges() {
        // md5("") = d41d8cd9..., md5("a") = 0cc175b9..., md5("abc") = 90015098... (RFC 1321, appendix A.5).
        assert_eq!(of_key("", 4), PartitionId(3));
        assert_eq!(of_key("a", 4), PartitionId(0));
        assert_eq!(of_key("abc", 4), PartitionId(2));
        assert_eq!(of_key("abc", 256), PartitionId(0x90));
        assert_eq!(of_key("abc", 1), PartitionId(0));
    }

    #[test]
    fn sections_of_a_quiz_take_consecutive_partitions() {
        let quiz: QuizId = "abc".parse().unwrap();
        let places: Vec<u16> = (0..6).map(|s| of_section(&quiz, s, 4).0).collect();
        assert_eq!(places, [2, 3, 0, 1, 2, 3]);
    }
}
