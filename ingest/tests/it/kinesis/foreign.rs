//! Records of other producers, and records that look like something else.

use std::collections::BTreeMap;

use aws_sdk_kinesis::primitives::Blob;
use bytes::Bytes;
use ingest::codec::{DecodeError, decode_submission};
use ingest::limits::RECORD_BYTES_MAX;
use ingest::log::kinesis::{Kinesis, MISPLACED};
use ingest::log::{Log, Stream};
use ingest::partition::of_key;
use md5::{Digest, Md5};

use super::{Double, Follower};
use crate::support::{ALL, read_all, record};

const STREAM: Stream = Stream::Submissions;

async fn put(double: &Double, key: &str, hash: Option<u128>, data: &[u8]) {
    let name = format!("{}{STREAM}", double.prefix());
    let call = double.client().put_record().stream_name(name).partition_key(key).data(Blob::new(data));
    call.set_explicit_hash_key(hash.map(|hash| hash.to_string())).send().await.unwrap();
}

async fn payloads(log: &Kinesis, partition: u16) -> Vec<Bytes> {
    let read = read_all(log, STREAM, partition, None, ALL).await;
    read.into_iter().map(|record| record.payload).collect()
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

/// An aggregate of short texts with the index of their partition key.
fn aggregate(keys: &[&str], records: &[(u8, &str)]) -> Vec<u8> {
    let mut message: Vec<u8> = keys.iter().flat_map(|key| field(1, key.as_bytes())).collect();
    for (key, text) in records {
        message.extend(field(3, &[vec![8, *key], field(3, text.as_bytes())].concat()));
    }
    let digest: [u8; 16] = Md5::digest(&message).into();
    [&[0xf3, 0x89, 0x9a, 0xc2][..], &message, &digest].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_record_goes_by_its_partition_key() {
    let double = Double::with_streams(4, 4).await;
    let log = double.open().await;
    let mut expected: BTreeMap<u16, Vec<Bytes>> = BTreeMap::new();
    for key in ["a", "b", "c", "quiz-1", "quiz-2", "3/5", "é"] {
        put(&double, key, None, key.as_bytes()).await;
        expected.entry(of_key(key, 4).0).or_default().push(Bytes::from(key));
    }
    // One of our names, with the hash key that belongs to it.
    put(&double, "2/4", Some((5 << 125) + 1), b"named").await;
    expected.entry(2).or_default().push(Bytes::from("named"));
    for partition in 0..4 {
        assert_eq!(payloads(&log, partition).await, expected.remove(&partition).unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_of_several_keys_goes_record_by_record() {
    let double = Double::with_streams(4, 1).await;
    let log = double.open().await;
    let keys = ["a", "abc", "", "1/4"];
    let records = [(0, "a0"), (1, "b1"), (3, "d2"), (2, "c3"), (0, "a4"), (3, "d5")];
    put(&double, "a", None, &aggregate(&keys, &records)).await;
    let mut expected: BTreeMap<u16, Vec<(u64, String)>> = BTreeMap::new();
    for (sub, (key, text)) in records.iter().enumerate() {
        let partition = if *key == 3 { 1 } else { of_key(keys[usize::from(*key)], 4).0 };
        expected.entry(partition).or_default().push((sub as u64, (*text).to_owned()));
    }
    let mut follower = Follower::new(&log, STREAM);
    follower.until(records.len()).await;
    for partition in 0..4 {
        let read = read_all(&log, STREAM, partition, None, ALL).await;
        let found: Vec<_> = read
            .iter()
            .map(|r| (r.stamp.position.sub, String::from_utf8(r.payload.to_vec()).unwrap()))
            .collect();
        assert_eq!(found, expected.remove(&partition).unwrap_or_default());
        assert_eq!(follower.records[&ingest::partition::PartitionId(partition)], read);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_aggregate_is_one_plain_record() {
    let double = Double::with_streams(4, 2).await;
    let log = double.open().await;
    let good = aggregate(&["a"], &[(0, "one"), (0, "two")]);
    let mut wrong_digest = good.clone();
    *wrong_digest.last_mut().unwrap() ^= 1;
    let mut wrong_magic = good.clone();
    wrong_magic[0] = 0;
    let beyond = aggregate(&["a"], &[(1, "no such key")]);
    let cut = good[..good.len() - 3].to_vec();
    let broken = [wrong_digest, wrong_magic, beyond, cut, good[..4].to_vec()];
    for bytes in &broken {
        put(&double, "a", None, bytes).await;
    }
    assert_eq!(payloads(&log, of_key("a", 4).0).await, broken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_ours_that_looks_like_an_aggregate_stays_what_it_is() {
    let double = Double::with_streams(4, 2).await;
    let log = double.open().await;
    let mut records = vec![aggregate(&["x"], &[(0, "hidden")]), vec![0xf3, 0x89, 0x9a, 0xc2], Vec::new()];
    // Also the largest one, of which nothing may be left out and nothing added.
    let mut large = aggregate(&["x"], &[(0, "hidden")]);
    large.resize(RECORD_BYTES_MAX, 0);
    records.push(large);
    for bytes in &records {
        log.append(vec![record(STREAM, 3, bytes.clone())]).await.unwrap();
    }
    assert!(payloads(&log, 3).await == records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_on_a_foreign_shard_becomes_a_dead_letter_and_the_shard_goes_on() {
    let double = Double::with_streams(4, 2).await;
    let log = double.open().await;
    log.append(vec![record(STREAM, 0, "before")]).await.unwrap();
    // Partition 3 is on the second shard; this hash key is on the first.
    put(&double, "3/4", Some(1), b"astray").await;
    log.append(vec![record(STREAM, 1, "other"), record(STREAM, 0, "after")]).await.unwrap();
    let found = payloads(&log, 0).await;
    assert_eq!((&found[0][..], &found[2][..]), (&b"before"[..], &b"after"[..]));
    assert!(found[1].starts_with(MISPLACED) && found[1].ends_with(b"\"3/4\"\nastray"), "{:?}", found[1]);
    let decoded = decode_submission(&found[1]);
    assert!(matches!(decoded, Err(DecodeError::Malformed(_))), "{decoded:?}");
    assert!(payloads(&log, 3).await.is_empty());
    let mut follower = Follower::new(&log, STREAM);
    follower.until(4).await;
    assert_eq!(follower.texts(1), ["other"]);
    assert!(follower.texts(3).is_empty());
}
