//! Aggregates exchanged with `aws_kinesis_agg`, AWS's own package for Python, which `infra/test.sh` installs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use ingest::log::{Log, Stream};
use ingest::partition::of_key;
use serde_json::{Value, json};

use super::Double;
use crate::support::{ALL, Random, read_all, record};

const STREAM: Stream = Stream::Submissions;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let text = hex.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Asks the package.
fn python(asked: &Value) -> Value {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let mut child = Command::new(&python)
        .args(["-c", include_str!("interop.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} is made by infra/test.sh: {error}", python.display()));
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the package is installed by infra/test.sh, and takes what it is given");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_write_it_reads() {
    let double = Double::with_streams(4, 1).await;
    let log = double.open().await;
    let mut random = Random(1);
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in 0..20 {
        let records: Vec<_> = (0..1 + random.below(60))
            .map(|_| {
                let payload: Vec<u8> = (0..random.below(400)).map(|_| random.below(256) as u8).collect();
                (random.below(4) as u16, payload)
            })
            .collect();
        for (partition, payload) in &records {
            sent.entry(format!("{partition}/4")).or_default().push(hex(payload));
        }
        // A lone record that looks like an aggregate is one of the hard cases.
        let odd = (call % 4 == 0).then(|| (2, vec![0xf3, 0x89, 0x9a, 0xc2, call]));
        log.append(records.into_iter().map(|(p, payload)| record(STREAM, p, payload)).collect())
            .await
            .unwrap();
        if let Some((partition, payload)) = odd {
            sent.entry(format!("{partition}/4")).or_default().push(hex(&payload));
            log.append(vec![record(STREAM, partition, payload)]).await.unwrap();
        }
    }
    let (client, name) = (double.client(), format!("{}{STREAM}", double.prefix()));
    let shard = log.shards(STREAM).await.unwrap().remove(0);
    let call = client.get_shard_iterator().stream_name(&name).shard_id(&shard.id);
    let iterator = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let call = client.get_records().set_shard_iterator(iterator.shard_iterator);
    let written = call.send().await.unwrap().records;
    let unpack: Vec<Value> = written
        .iter()
        .map(|record| json!({"key": record.partition_key(), "data": hex(record.data().as_ref())}))
        .collect();
    let answer = python(&json!({"unpack": unpack, "pack": []}));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut aggregated, hashes) = (0, [1u128, 3, 5, 7].map(|eighth| (eighth << 125).to_string()));
    for (record, parts) in written.iter().zip(answer["unpacked"].as_array().unwrap()) {
        for part in parts.as_array().unwrap() {
            let key = part["key"].as_str().unwrap().to_owned();
            assert_eq!(Some(key.as_str()), record.partition_key(), "one key per aggregate");
            if let Some(hash) = part["hash"].as_str() {
                assert_eq!(
                    hash,
                    hashes[usize::from(key.as_bytes()[0] - b'0')],
                    "the middle of the partition"
                );
                aggregated += 1;
            }
            found.entry(key).or_default().push(part["data"].as_str().unwrap().to_owned());
        }
    }
    assert!(found == sent && aggregated > 100, "{aggregated} of the records were in aggregates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_writes_we_read() {
    let double = Double::with_streams(4, 1).await;
    let log = double.open().await;
    let mut random = Random(2);
    let mut sent: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    let mut pack = Vec::new();
    for _ in 0..12 {
        let mut records = Vec::new();
        for _ in 0..1 + random.below(40) {
            let payload: Vec<u8> = (0..random.below(300)).map(|_| random.below(256) as u8).collect();
            // Keys of ours with their hash key, and keys of anybody's without one.
            let partition = random.below(4) as u16;
            let (key, hash, to) = if random.below(2) == 0 {
                (
                    format!("{partition}/4"),
                    json!(((2 * u128::from(partition) + 1) << 125).to_string()),
                    partition,
                )
            } else {
                let key = format!("quiz-{}", random.below(9));
                let to = of_key(&key, 4).0;
                (key, Value::Null, to)
            };
            records.push(json!({"key": key, "hash": hash, "data": hex(&payload)}));
            sent.entry(to).or_default().push(payload);
        }
        pack.push(records);
    }
    let answer = python(&json!({"unpack": [], "pack": pack}));
    let (client, name) = (double.client(), format!("{}{STREAM}", double.prefix()));
    for packed in answer["packed"].as_array().unwrap() {
        let call = client.put_record().stream_name(&name).data(Blob::new(bytes(&packed["data"])));
        let call = call.partition_key(packed["key"].as_str().unwrap());
        call.set_explicit_hash_key(packed["hash"].as_str().map(str::to_owned)).send().await.unwrap();
    }
    for partition in 0..4 {
        let read = read_all(&log, STREAM, partition, None, ALL).await;
        assert!(read.iter().map(|record| &record.payload[..]).eq(sent[&partition].iter().map(Vec::as_slice)));
    }
}
