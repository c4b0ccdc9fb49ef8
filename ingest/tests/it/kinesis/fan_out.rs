//! Enhanced fan-out: the same records by subscription, across subscriptions and shards.

use std::collections::BTreeMap;

use ferrokinesis::store::StoreOptions;
use ingest::log::kinesis::{Consumer, Options};
use ingest::log::{Log, Stream};

use super::double::at_once;
use super::{Double, Follower, options, scale};
use crate::faults::Fault;
use crate::support::record;

const STREAM: Stream = Stream::Submissions;

async fn double_of_short_subscriptions() -> (Double, Options) {
    let store = StoreOptions {
        subscribe_to_shard_session_ms: 700,
        subscribe_to_shard_event_record_limit: 20,
        ..at_once()
    };
    let double = Double::start(store).await;
    double.create(4, 2).await;
    let consumer = Consumer::FanOut { name: "grade".into() };
    let options = Options { consumer, ..options(double.prefix()) };
    (double, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_follow_each_other_without_gap_or_repeat() {
    let (double, options) = double_of_short_subscriptions().await;
    let log = double.open_with(options).await;
    let mut follower = Follower::new(&log, STREAM);
    let mut sent: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for round in 0..30u16 {
        let records = (0..8u16).map(|n| (n % 4, format!("{round}.{n}")));
        for (partition, text) in records.clone() {
            sent.entry(partition).or_default().push(text);
        }
        log.append(records.map(|(p, text)| record(STREAM, p, text)).collect()).await.unwrap();
        if round % 10 == 5 {
            // Another worker still holds the subscription, and then the line is cut.
            let faults =
                [Fault::Refuse(400, "ResourceInUseException"), Fault::LoseRequest, Fault::LoseAnswer];
            double.faults.next("SubscribeToShard", faults);
        }
        follower.until((usize::from(round) + 1) * 8).await;
    }
    for (partition, texts) in sent {
        assert_eq!(follower.texts(partition), texts);
    }
    assert!(double.faults.calls("SubscribeToShard") > 4, "subscriptions end and begin again");
    assert_eq!(double.faults.calls("GetRecords"), 0, "nobody polls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_follow_a_split_and_a_merge() {
    let (double, options) = double_of_short_subscriptions().await;
    let log = double.open_with(options).await;
    let mut follower = Follower::new(&log, STREAM);
    let mut count = 0;
    for (round, shards) in [(0, 4), (1, 1), (2, 3)] {
        let records = (0..40u16).map(|n| record(STREAM, n % 4, format!("{round}.{n:02}")));
        log.append(records.collect()).await.unwrap();
        scale(&double, STREAM, shards).await;
        count += 40;
        follower.until(count).await;
    }
    for partition in 0..4u16 {
        let rounds = (0..3).flat_map(|round| (0..10).map(move |n| (round, n * 4 + partition)));
        let sent: Vec<String> = rounds.map(|(round, n)| format!("{round}.{n:02}")).collect();
        assert_eq!(follower.texts(partition), sent);
    }
    assert!(follower.finished() >= 4);
}
