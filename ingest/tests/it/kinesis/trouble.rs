//! The log while Kinesis throttles, fails in part, loses answers, or is slow.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use ferrokinesis::store::StoreOptions;
use ingest::error::AppendError;
use ingest::log::kinesis::{Kinesis, Options};
use ingest::log::{Log, Stream};

use super::double::at_once;
use super::{Double, Follower, options};
use crate::faults::{Chances, Fault};
use crate::support::{ALL, read_all, record};

const STREAM: Stream = Stream::Standings;
const THROTTLED: Fault = Fault::Refuse(400, "ProvisionedThroughputExceededException");

async fn texts(log: &Kinesis, partition: u16) -> Vec<String> {
    let read = read_all(log, STREAM, partition, None, ALL).await;
    read.iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()).collect()
}

/// Appends to each partition one call after the other, each again until it is taken; returns what was to be written.
async fn append_with_patience(log: &Kinesis, partitions: u16, calls: usize) {
    let appender = |p: u16, log: Kinesis| async move {
        for call in 0..calls {
            let records: Vec<_> =
                (0..3).map(|n| record(STREAM, p, format!("{p}.{:05}", call * 3 + n))).collect();
            loop {
                match log.append(records.clone()).await {
                    Ok(_) => break,
                    Err(AppendError::Overloaded { .. } | AppendError::Unavailable(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    let tasks: Vec<_> = (0..partitions).map(|p| tokio::spawn(appender(p, log.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Every record is there, and its first copies are in order.
fn check_books(found: &[String], partition: u16, records: usize) {
    let mut seen = BTreeSet::new();
    let firsts: Vec<&String> = found.iter().filter(|text| seen.insert(text.as_str())).collect();
    let sent: Vec<String> = (0..records).map(|n| format!("{partition}.{n:05}")).collect();
    assert!(firsts.iter().copied().eq(&sent), "partition {partition}: {firsts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_were_refused_come_later_in_order_and_once() {
    let double = Double::with_streams(4, 2).await;
    let log = double.open().await;
    double.faults.chances("PutRecords", Chances { leave_out: 600, throttle: 100, ..Chances::default() });
    append_with_patience(&log, 4, 40).await;
    let happened = double.faults.happened();
    assert!(happened["leave out"] > 10 && happened["refuse"] > 0, "{happened:?}");
    double.faults.stop();
    for partition in 0..4 {
        let sent: Vec<String> = (0..120).map(|n| format!("{partition}.{n:05}")).collect();
        assert_eq!(texts(&log, partition).await, sent, "refusals are certain, so nothing is doubled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_together_keep_their_order_through_refusals() {
    let double = Double::with_streams(2, 1).await;
    let give_up = Duration::from_secs(60);
    let log = double.open_with(Options { give_up, ..options(double.prefix()) }).await;
    double.faults.chances("PutRecords", Chances { throttle: 300, leave_out: 300, ..Chances::default() });
    // Two fit into an aggregate, so that each partition has many to send.
    let mut calls: Vec<_> =
        (0..40u8).map(|n| log.append(vec![record(STREAM, u16::from(n % 2), vec![n; 100_000])])).collect();
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    for stamps in futures::future::join_all(calls).await {
        stamps.unwrap();
    }
    double.faults.stop();
    for partition in 0..2 {
        let read = read_all(&log, STREAM, partition, None, ALL).await;
        let numbers: Vec<u8> = read.iter().map(|record| record.payload[0]).collect();
        assert_eq!(numbers, (0..20).map(|n| n * 2 + partition as u8).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_faults_of_all_kinds_every_record_arrives_in_order_and_perhaps_again() {
    for seed in 0..6 {
        let double = Double::with_streams(4, 2).await;
        let options = Options { give_up: Duration::from_millis(300), ..options(double.prefix()) };
        let log = double.open_with(options).await;
        double.faults.seed(seed);
        let puts = Chances {
            throttle: 100,
            fail: 50,
            lose_request: 100,
            lose_answer: 100,
            delay: 200,
            leave_out: 200,
            delay_max: Duration::from_millis(20),
        };
        double.faults.chances("PutRecords", puts);
        double.faults.chances("GetRecords", Chances { leave_out: 0, ..puts });
        let reader = async {
            let mut follower = Follower::new(&log, STREAM);
            follower.until_seen(4 * 60).await;
            follower
        };
        let (follower, ()) = tokio::join!(reader, append_with_patience(&log, 4, 20));
        double.faults.stop();
        for partition in 0..4 {
            check_books(&follower.texts(partition), partition, 60);
            check_books(&texts(&log, partition).await, partition, 60);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out_by_trying_again_and_doubles_the_record() {
    let double = Double::with_streams(1, 1).await;
    let log = double.open().await;
    double.faults.next("PutRecords", [Fault::LoseAnswer]);
    let stamps = log.append(vec![record(STREAM, 0, "a")]).await.unwrap();
    let read = read_all(&log, STREAM, 0, None, ALL).await;
    assert_eq!(read.len(), 2, "the first copy was written and its answer lost");
    assert_eq!(read[1].stamp.position, stamps[0].position, "what is acknowledged is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_for_long_is_overloaded_and_nothing_is_written() {
    let double = Double::with_streams(1, 1).await;
    let give_up = Duration::from_millis(200);
    let log = double.open_with(Options { give_up, ..options(double.prefix()) }).await;
    double.faults.chances("PutRecords", Chances { throttle: 1_000, ..Chances::default() });
    let refused = log.append(vec![record(STREAM, 0, "a"), record(STREAM, 0, "b")]).await;
    assert!(matches!(refused, Err(AppendError::Overloaded { .. })), "{refused:?}");
    double.faults.stop();
    assert!(texts(&log, 0).await.is_empty());

    // A try whose answer was lost may have been written, whatever the tries after it say.
    double.faults.next("PutRecords", [Fault::LoseAnswer]);
    double.faults.next("PutRecords", [THROTTLED; 50]);
    let refused = log.append(vec![record(STREAM, 0, "c")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    double.faults.stop();
    assert_eq!(texts(&log, 0).await, ["c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() {
    let double = Double::with_streams(2, 1).await;
    let give_up = Duration::from_secs(600);
    let bounds =
        Options { give_up, queue_records_max: 10, queue_bytes_max: 1_000, ..options(double.prefix()) };
    let log = double.open_with(bounds).await;
    double.faults.chances("PutRecords", Chances { throttle: 1_000, ..Chances::default() });
    let many = (0..10).map(|n| record(STREAM, 0, format!("{n}"))).collect();
    let mut waiting = log.append(many);
    assert!(futures::poll!(&mut waiting).is_pending());
    let refused = futures::poll!(log.append(vec![record(STREAM, 1, "one more")]));
    let Poll::Ready(Err(AppendError::Overloaded { retry_after })) = refused else { panic!("{refused:?}") };
    assert!(!retry_after.is_zero());
    // Each stream has a queue of its own.
    double.faults.stop();
    log.append(vec![record(Stream::Results, 1, vec![0; 900])]).await.unwrap();
    assert_eq!(waiting.await.unwrap().len(), 10);
    // By bytes too; a call that is over the bound alone is taken when nothing else waits.
    log.append(vec![record(STREAM, 0, vec![0; 5_000])]).await.unwrap();
    double.faults.chances("PutRecords", Chances { throttle: 1_000, ..Chances::default() });
    let mut waiting = log.append(vec![record(STREAM, 0, vec![1; 600])]);
    assert!(futures::poll!(&mut waiting).is_pending());
    let refused = futures::poll!(log.append(vec![record(STREAM, 1, vec![1; 600])]));
    assert!(matches!(refused, Poll::Ready(Err(AppendError::Overloaded { .. }))), "{refused:?}");
    double.faults.stop();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_several_streams_is_written_in_their_order() {
    let double = Double::with_streams(2, 1).await;
    let give_up = Duration::from_millis(200);
    let log = double.open_with(Options { give_up, ..options(double.prefix()) }).await;
    let both = || vec![record(STREAM, 0, "first"), record(Stream::Submissions, 1, "second")];
    let stamps = log.append(both()).await.unwrap();
    assert_eq!(stamps.len(), 2);
    // While the first is not taken the second is not written.
    double.faults.chances("PutRecords", Chances { throttle: 1_000, ..Chances::default() });
    assert!(matches!(log.append(both()).await, Err(AppendError::Overloaded { .. })));
    double.faults.stop();
    assert_eq!(read_all(&log, Stream::Submissions, 1, None, ALL).await.len(), 1);
    // When only the first was taken, nobody may think that nothing was.
    double.faults.next("PutRecords", [Fault::None]);
    double.faults.next("PutRecords", [THROTTLED; 50]);
    let refused = log.append(both()).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    double.faults.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_record_that_was_given_up_nothing_of_its_call_is_written() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open().await;
    // Two of them do not fit into one aggregate.
    let large = |n: u8| record(STREAM, 0, vec![n; 200_000]);
    double.faults.next("PutRecords", [Fault::Refuse(400, "AccessDeniedException")]);
    let refused = log.append(vec![large(1), large(2), large(3)]).await;
    let Err(AppendError::Unavailable(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("the role lacks this permission"), "{words}");
    log.append(vec![large(4)]).await.unwrap();
    let read = read_all(&log, STREAM, 0, None, ALL).await;
    assert_eq!(read.iter().map(|record| record.payload[0]).collect::<Vec<_>>(), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_nobody_waits_for_leaves_the_log_in_order() {
    let double = Double::with_streams(1, 1).await;
    let log = double.open().await;
    double.faults.next("PutRecords", [THROTTLED; 3]);
    let mut given_up = log.append(vec![record(STREAM, 0, "given up")]);
    assert!(futures::poll!(&mut given_up).is_pending());
    drop(given_up);
    log.append(vec![record(STREAM, 0, "next")]).await.unwrap();
    let found = texts(&log, 0).await;
    assert!(found == ["given up", "next"] || found == ["next"], "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_iterator_that_expired_is_made_anew_where_reading_was() {
    let double = Double::with_streams(1, 1).await;
    let log = double.open().await;
    let mut follower = Follower::new(&log, STREAM);
    for round in 0..5 {
        let records = (0..10).map(|n| record(STREAM, 0, format!("{}", round * 10 + n))).collect();
        log.append(records).await.unwrap();
        double.faults.next("GetRecords", [Fault::Refuse(400, "ExpiredIteratorException"); 2]);
        follower.until((round + 1) * 10).await;
    }
    assert_eq!(follower.texts(0), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(double.faults.calls("GetShardIterator") >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_takes_a_megabyte_a_second_slows_writers_and_loses_nothing() {
    let double = Double::start(StoreOptions { enforce_limits: true, ..at_once() }).await;
    double.create(4, 2).await;
    let log =
        double.open_with(Options { give_up: Duration::from_secs(60), ..options(double.prefix()) }).await;
    let sent = (0..24u16).map(|n| record(STREAM, n % 4, vec![n as u8; 200_000]));
    let calls: Vec<_> = sent.map(|record| log.append(vec![record])).collect();
    for stamps in futures::future::join_all(calls).await {
        assert_eq!(stamps.unwrap().len(), 1);
    }
    for partition in 0..4 {
        let read = read_all(&log, STREAM, partition, None, ALL).await;
        let numbers: Vec<u8> = read.iter().map(|record| record.payload[0]).collect();
        assert_eq!(numbers, (0..6).map(|n| n * 4 + partition as u8).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_appends_travel_in_few_calls() {
    let double = Double::with_streams(8, 2).await;
    let log =
        double.open_with(Options { linger: Duration::from_millis(20), ..options(double.prefix()) }).await;
    let before = double.faults.calls("PutRecords");
    let calls: Vec<_> =
        (0..2_000u16).map(|n| log.append(vec![record(STREAM, n % 8, vec![1; 100])])).collect();
    for stamps in futures::future::join_all(calls).await {
        stamps.unwrap();
    }
    let calls = double.faults.calls("PutRecords") - before;
    assert!(calls <= 20, "{calls} calls for 2,000 records that were there at once");
}
