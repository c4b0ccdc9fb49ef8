//! KPL aggregation: several records in one Kinesis record, in the format of the Kinesis Producer Library.
//!
//! `F3 89 9A C2`, a protobuf message with a table of partition keys, one of explicit hash keys, and the records, then the
//! MD5 of the message. Whatever is not exactly that is one plain record.

use bytes::{BufMut, Bytes, BytesMut};
use md5::{Digest, Md5};
use prost::Message;

/// What an aggregate begins with.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// Bytes of the MD5 at its end.
const DIGEST_BYTES: usize = 16;

/// The message of an aggregate. What is required on the wire is optional here, so that its absence is seen.
#[derive(Clone, PartialEq, Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, optional, tag = "1")]
    partition_key: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    hash_key: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

/// An aggregate, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Partition keys that its records name.
    pub(super) partition_keys: Vec<String>,
    /// Hash keys that they name.
    pub(super) hash_keys: Vec<u128>,
    /// The records, in order. Their indexes are inside the tables.
    pub(super) parts: Vec<Part>,
}

/// One record of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Which partition key.
    pub(super) partition_key: usize,
    /// Which hash key, if it has one of its own.
    pub(super) hash_key: Option<usize>,
    /// Its bytes.
    pub(super) data: Bytes,
}

/// Bytes that a record adds to an aggregate at most, besides its own: four tags and three lengths.
pub(super) const PART_BYTES_MAX: usize = 16;

/// Returns the records as one, under one partition key and one explicit hash key.
pub(super) fn pack<'a>(
    partition_key: &str,
    hash_key: &str,
    records: impl Iterator<Item = &'a Bytes>,
) -> Bytes {
    let entry = |data: &Bytes| Entry { partition_key: Some(0), hash_key: Some(0), data: Some(data.clone()) };
    let message = Aggregate {
        partition_keys: vec![partition_key.to_owned()],
        hash_keys: vec![hash_key.to_owned()],
        records: records.map(entry).collect(),
    };
    let length = message.encoded_len();
    let mut packed = BytesMut::with_capacity(MAGIC.len() + length + DIGEST_BYTES);
    packed.put_slice(&MAGIC);
    message.encode(&mut packed).expect("the buffer grows");
    let digest: [u8; DIGEST_BYTES] = Md5::digest(&packed[MAGIC.len()..]).into();
    packed.put_slice(&digest);
    packed.freeze()
}

/// Tells whether a reader might take the bytes for an aggregate, though they are a record.
pub(super) fn is_like_an_aggregate(record: &[u8]) -> bool {
    record.starts_with(&MAGIC)
}

/// Returns the records of an aggregate, or `None`: it is one plain record.
pub(super) fn unpack(record: &Bytes) -> Option<Unpacked> {
    let message = record.len().checked_sub(DIGEST_BYTES).filter(|end| *end >= MAGIC.len())?;
    if !is_like_an_aggregate(record) {
        return None;
    }
    let (message, digest) = (record.slice(MAGIC.len()..message), &record[message..]);
    let expected: [u8; DIGEST_BYTES] = Md5::digest(&message).into();
    if expected != digest {
        return None;
    }
    let Aggregate { partition_keys, hash_keys, records } = Aggregate::decode(message).ok()?;
    let hash_keys: Vec<u128> = hash_keys.iter().map(|key| key.parse().ok()).collect::<Option<_>>()?;
    let inside = |index: u64, table: usize| usize::try_from(index).ok().filter(|index| *index < table);
    let mut parts = Vec::with_capacity(records.len());
    for entry in records {
        let hash_key = match entry.hash_key {
            Some(index) => Some(inside(index, hash_keys.len())?),
            None => None,
        };
        let partition_key = inside(entry.partition_key?, partition_keys.len())?;
        parts.push(Part { partition_key, hash_key, data: entry.data? });
    }
    Some(Unpacked { partition_keys, hash_keys, parts })
}

#[cfg(test)]
mod tests;
