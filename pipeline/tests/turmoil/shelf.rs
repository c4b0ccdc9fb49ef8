//! Reading from the double of Kinesis: what its own GetRecords would do, had it not to look back 24 hours from a clock that
//! begins with the simulation. Streams are not resharded here, so no shard ever ends.

use ferrokinesis::sequence::shard_ix_to_hex;
use ferrokinesis::store::Store;
use serde_json::{Value, json};

/// Answers GetShardIterator: an iterator names a stream, and the key of the first record to return.
pub(crate) fn iterator(request: &Value) -> Value {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let shard: i64 = text("ShardId").trim_start_matches("shardId-").parse().unwrap();
    let (shard, sequence) = (shard_ix_to_hex(shard), text("StartingSequenceNumber"));
    let key = match text("ShardIteratorType") {
        "TRIM_HORIZON" => format!("{shard}/"),
        "AT_SEQUENCE_NUMBER" => format!("{shard}/{sequence}"),
        "AFTER_SEQUENCE_NUMBER" => after(&format!("{shard}/{sequence}")),
        other => panic!("{other} is not one of the iterators that Podium asks for"),
    };
    json!({"ShardIterator": format!("{}|{key}", text("StreamName"))})
}

/// Answers GetRecords.
pub(crate) async fn records(store: &Store, request: &Value) -> Value {
    let (stream, from) = request["ShardIterator"].as_str().unwrap().split_once('|').unwrap();
    let shard = from.split('/').next().unwrap();
    let limit = request["Limit"].as_u64().unwrap_or(10_000) as usize;
    let found = store.get_records_range_limited(stream, from, &format!("{shard}0"), limit).await;
    let next = found.last().map_or_else(|| from.to_owned(), |(key, _)| after(key));
    let record = |(key, record): &(String, ferrokinesis::types::StoredRecord)| {
        json!({"SequenceNumber": key.split('/').nth(1), "Data": record.data, "PartitionKey": record.partition_key,
            "ApproximateArrivalTimestamp": record.approximate_arrival_timestamp})
    };
    let records: Vec<Value> = found.iter().map(record).collect();
    json!({"Records": records, "NextShardIterator": format!("{stream}|{next}"), "MillisBehindLatest": 0})
}

/// Returns the least key behind another: `!` sorts before all digits.
fn after(key: &str) -> String {
    format!("{key}!")
}
