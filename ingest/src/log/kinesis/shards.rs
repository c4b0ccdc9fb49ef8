//! Shards, and where Podium's partitions lie on them.

use aws_sdk_kinesis::Client;
use operators::id::Position;

use crate::aws::explain;
use crate::error::ReadError;
use crate::partition::PartitionId;

/// One shard of a stream: a range of hash keys, read from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// As Kinesis names it.
    pub id: String,
    /// The number in the name. A partition only ever moves to shards of higher numbers.
    pub number: u32,
    /// The shards that this one was made from; it is read after they were.
    pub parents: Vec<String>,
    /// The first hash key, in decimal.
    pub starting_hash_key: String,
    /// The last hash key, in decimal.
    pub ending_hash_key: String,
    /// The partitions whose middle lies on it, in order: all that this shard carries.
    pub partitions: Vec<PartitionId>,
    /// Nothing is written to it any more.
    pub is_closed: bool,
}

impl Shard {
    /// Returns the first and the last hash key.
    pub(super) fn range(&self) -> (u128, u128) {
        let key = |text: &str| text.parse().expect("was checked when the shard was listed");
        (key(&self.starting_hash_key), key(&self.ending_hash_key))
    }
}

/// Returns the hash key in the middle of a partition's range, which all its records carry.
pub(super) fn middle(partition: PartitionId, partitions: u16) -> u128 {
    // Half a range is 2^127 / N; what is lost by rounding is less than 2 N of some 2^117 at least.
    (2 * u128::from(partition.0) + 1) * ((1 << 127) / u128::from(partitions))
}

/// Returns the partition whose range a hash key falls into, by the rule of [`crate::partition::of_key`].
pub(super) fn of_hash(hash: u128, partitions: u16) -> PartitionId {
    PartitionId((((hash >> 64) * u128::from(partitions)) >> 64) as u16)
}

/// Returns the first hash key of a partition's range.
pub(super) fn first_hash(partition: PartitionId, partitions: u16) -> u128 {
    (u128::from(partition.0) << 64).div_ceil(u128::from(partitions)) << 64
}

/// Returns the name of a partition, which is its partition key in Kinesis.
pub(super) fn name(partition: PartitionId, partitions: u16) -> String {
    format!("{partition}/{partitions}")
}

/// Returns the partition that a partition key names, if it is one of our names.
pub(super) fn named(key: &str, partitions: u16) -> Option<PartitionId> {
    let partition = PartitionId(key.split_once('/')?.0.parse().ok()?);
    (partition.0 < partitions && name(partition, partitions) == key).then_some(partition)
}

/// Returns the number in a shard's name.
pub(super) fn number(id: &str) -> Option<u32> {
    id.strip_prefix("shardId-")?.parse().ok()
}

/// Returns a sequence number, a decimal of up to 56 digits, as words; `None` if it is not one.
pub(super) fn sequence(text: &str) -> Option<[u64; 3]> {
    if text.is_empty() {
        return None;
    }
    let mut words = [0u64; 3];
    for digit in text.bytes() {
        let mut carry = u128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        for word in words.iter_mut().rev() {
            let value = u128::from(*word) * 10 + carry;
            *word = value as u64;
            carry = value >> 64;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(words)
}

/// Returns the sequence number of a position, as Kinesis writes it.
pub(super) fn sequence_text(position: Position) -> String {
    Position { shard: 0, sub: 0, ..position }.to_string()
}

/// Returns all shards of a stream that Kinesis still knows, sorted by number.
pub(super) async fn list(client: &Client, stream: &str, partitions: u16) -> Result<Vec<Shard>, ReadError> {
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    loop {
        // The token stands for the name.
        let call = match token.take() {
            Some(token) => client.list_shards().next_token(token),
            None => client.list_shards().stream_name(stream),
        };
        let page = call.send().await.map_err(|error| ReadError::Unavailable(explain(&error)))?;
        for shard in page.shards() {
            shards.push(read(shard, partitions).ok_or_else(|| {
                ReadError::Corrupt(format!("{stream} has a shard that is not understood: {shard:?}"))
            })?);
        }
        token = page.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    shards.sort_by_key(|shard| shard.number);
    Ok(shards)
}

fn read(shard: &aws_sdk_kinesis::types::Shard, partitions: u16) -> Option<Shard> {
    let range = shard.hash_key_range()?;
    let (first, last): (u128, u128) =
        (range.starting_hash_key().parse().ok()?, range.ending_hash_key().parse().ok()?);
    let is_on_it = |partition: &PartitionId| (first..=last).contains(&middle(*partition, partitions));
    let parents = shard.parent_shard_id().into_iter().chain(shard.adjacent_parent_shard_id());
    Some(Shard {
        id: shard.shard_id().to_owned(),
        number: number(shard.shard_id())?,
        parents: parents.map(str::to_owned).collect(),
        starting_hash_key: first.to_string(),
        ending_hash_key: last.to_string(),
        partitions: (0..partitions).map(PartitionId).filter(is_on_it).collect(),
        is_closed: shard
            .sequence_number_range()
            .is_some_and(|range| range.ending_sequence_number().is_some()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PARTITIONS_MAX;

    #[test]
    fn the_middle_and_the_first_hash_of_a_partition_fall_into_it() {
        for partitions in (1..=100).chain([127, 128, 1_000, PARTITIONS_MAX]) {
            for partition in (0..partitions).map(PartitionId) {
                assert_eq!(of_hash(middle(partition, partitions), partitions), partition);
                let first = first_hash(partition, partitions);
                assert_eq!(of_hash(first, partitions), partition);
                assert!(partition.0 == 0 || of_hash(first - 1, partitions).0 == partition.0 - 1);
                assert_eq!(named(&name(partition, partitions), partitions), Some(partition));
            }
        }
        assert_eq!(of_hash(u128::MAX, 3), PartitionId(2));
    }

    #[test]
    fn the_md5_of_a_key_falls_into_the_partition_of_the_key() {
        // md5("abc") of RFC 1321.
        let hash = 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72;
        for partitions in [1, 4, 32, 37, 256] {
            assert_eq!(of_hash(hash, partitions), crate::partition::of_key("abc", partitions));
        }
    }

    #[test]
    fn only_our_own_names_are_names() {
        assert_eq!(named("17/32", 32), Some(PartitionId(17)));
        for other in
            ["", "/", "17", "17/", "32/32", "17/33", "017/32", "+17/32", "17/32 ", "-1/32", "99999/32"]
        {
            assert_eq!(named(other, 32), None, "{other:?}");
        }
    }

    #[test]
    fn sequence_numbers_are_read_as_they_are_written() {
        let texts = [
            "0",
            "18446744073709551616",
            "49590338271490256608559692538361571095921575989136588898",
            // 2^192 - 1, checked with an arbitrary-precision calculator.
            "6277101735386680763835789423207666416102355444464034512895",
        ];
        for text in texts {
            let sequence = sequence(text).unwrap();
            assert_eq!(sequence_text(Position { shard: 7, sequence, sub: 3 }), text);
        }
        assert_eq!(sequence("6277101735386680763835789423207666416102355444464034512896"), None);
        for bad in ["", "-1", "1a", " 1", "TRIM_HORIZON"] {
            assert_eq!(sequence(bad), None, "{bad:?}");
        }
        assert_eq!(number("shardId-000000000012"), Some(12));
        assert_eq!(number("shard-1"), None);
    }
}
