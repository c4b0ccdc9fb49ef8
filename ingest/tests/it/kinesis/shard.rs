//! The log of one shard: what its readers get, from where, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest::error::{AppendError, ReadError};
use ingest::log::kinesis::{Kinesis, Options, Shard, ShardLog};
use ingest::log::{Log, Lost, ReadLimits, Stream};
use ingest::partition::PartitionId;
use operators::id::Position;

use super::{Double, Follower, LIMIT, scale};
use crate::faults::Fault;
use crate::support::{Random, record};

const STREAM: Stream = Stream::Submissions;
const WAIT: ReadLimits = ReadLimits { records_max: 1_000, bytes_max: 1 << 24, wait: LIMIT };

fn from(shard: &Shard, position: Option<Position>) -> BTreeMap<PartitionId, Option<Position>> {
    shard.partitions.iter().map(|partition| (*partition, position)).collect()
}

async fn texts(log: &ShardLog, partition: u16, after: Option<Position>, count: usize) -> Vec<String> {
    let (mut after, mut texts) = (after, Vec::new());
    while texts.len() < count {
        let batch = log.read(STREAM, PartitionId(partition), after, WAIT).await.unwrap();
        after = batch.records.last().map(|last| last.stamp.position).or(after);
        texts.extend(batch.records.iter().map(|r| String::from_utf8(r.payload.to_vec()).unwrap()));
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poller_serves_all_partitions_of_its_shard() {
    let double = Double::with_streams(8, 2).await;
    let log = double.open().await;
    let texts_of = |p: u16| (0..50).map(move |n| format!("{p}.{n}")).collect::<Vec<_>>();
    let sent = (0..8).flat_map(|p| texts_of(p).into_iter().map(move |text| record(STREAM, p, text)));
    log.append(sent.collect()).await.unwrap();
    let shards = log.shards(STREAM).await.unwrap();
    assert_eq!(shards.len(), 2);
    for shard in &shards {
        let before = double.faults.calls("GetShardIterator");
        let reader = log.shard(STREAM, shard, from(shard, None));
        assert_eq!(reader.partitions(), 8);
        for partition in &shard.partitions {
            assert_eq!(texts(&reader, partition.0, None, 50).await, texts_of(partition.0));
        }
        assert_eq!(double.faults.calls("GetShardIterator"), before + 1, "one poller");
        let elsewhere = (0..8).map(PartitionId).find(|p| !shard.partitions.contains(p)).unwrap();
        let refused = reader.read(STREAM, elsewhere, None, WAIT).await;
        assert!(matches!(refused, Err(ReadError::Corrupt(_))), "{refused:?}");
        let refused = reader.read(Stream::Results, shard.partitions[0], None, WAIT).await;
        assert!(matches!(refused, Err(ReadError::Corrupt(_))), "{refused:?}");
    }
    assert_eq!(shards.iter().flat_map(|shard| shard.partitions.clone()).count(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_goes_on_behind_any_record_also_inside_an_aggregate() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open().await;
    let sent = |p: u16| (0..20).map(move |n| record(STREAM, p, format!("{p}.{n}")));
    let stamps = log.append(sent(0).chain(sent(1)).collect()).await.unwrap();
    let is_aggregated =
        stamps[..20].windows(2).all(|pair| pair[0].position.sequence == pair[1].position.sequence);
    assert!(is_aggregated, "the records of one call to one partition travel together");
    let shard = &log.shards(STREAM).await.unwrap()[0];
    for (mine, other) in [(0, 7), (7, 19), (19, 0), (12, 12)] {
        let positions = BTreeMap::from([
            (PartitionId(0), Some(stamps[mine].position)),
            (PartitionId(1), Some(stamps[20 + other].position)),
        ]);
        let reader = log.shard(STREAM, shard, positions);
        for (partition, seen) in [(0u16, mine), (1, other)] {
            let after = stamps[usize::from(partition) * 20 + seen].position;
            let rest: Vec<String> = (seen + 1..20).map(|n| format!("{partition}.{n}")).collect();
            assert_eq!(texts(&reader, partition, Some(after), rest.len()).await, rest);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_may_be_repeated_and_does_not_go_back() {
    let double = Double::with_streams(1, 1).await;
    let log = double.open().await;
    let stamps = log.append((0..9).map(|n| record(STREAM, 0, format!("{n}"))).collect()).await.unwrap();
    let shard = &log.shards(STREAM).await.unwrap()[0];
    let reader = log.shard(STREAM, shard, from(shard, None));
    let limits = ReadLimits { records_max: 3, ..WAIT };
    let read = |after| reader.read(STREAM, PartitionId(0), after, limits);
    let first = read(None).await.unwrap();
    assert_eq!(read(None).await.unwrap().records, first.records);
    assert!(!first.at_end && !first.closed);
    let second = read(Some(stamps[2].position)).await.unwrap();
    assert_eq!(second.records[0].stamp.position, stamps[3].position);
    assert!(matches!(read(None).await, Err(ReadError::Corrupt(_))), "what was read past is gone");
    let end = read(Some(stamps[5].position)).await.unwrap();
    assert!(end.at_end && !end.closed && end.records.len() == 3);
}

/// Appends numbered records to all partitions, one appender per partition, until told to stop; returns how many.
async fn append_all_the_time(
    log: Kinesis,
    partitions: u16,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Vec<usize> {
    let appender = |p: u16, log: Kinesis, stop: tokio::sync::watch::Receiver<bool>| async move {
        let (mut sent, mut random) = (0, Random(u64::from(p)));
        while !*stop.borrow() {
            let count = 1 + random.below(5);
            let records = (sent..sent + count).map(|n| record(STREAM, p, format!("{p}.{n}"))).collect();
            log.append(records).await.unwrap();
            sent += count;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sent
    };
    let tasks: Vec<_> =
        (0..partitions).map(|p| tokio::spawn(appender(p, log.clone(), stop.clone()))).collect();
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_and_merges_under_load_lose_and_double_nothing() {
    let double = Double::with_streams(8, 2).await;
    let log = double.open().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let appenders = tokio::spawn(append_all_the_time(log.clone(), 8, stopped));
    let mut follower = Follower::new(&log, STREAM);
    for shards in [4, 8, 3, 1, 2] {
        let before = follower.count();
        follower.until(before + 200).await;
        let found = scale(&double, STREAM, shards).await;
        assert_eq!(found.iter().filter(|shard| !shard.is_closed).count(), shards as usize);
        let open = found.iter().filter(|shard| !shard.is_closed);
        assert!(open.map(|shard| shard.partitions.len()).all(|count| count > 0), "whole partitions on each");
    }
    let before = follower.count();
    follower.until(before + 200).await;
    stop.send_replace(true);
    let counts = appenders.await.unwrap();
    follower.until(counts.iter().sum()).await;
    for (partition, count) in counts.into_iter().enumerate() {
        let sent: Vec<String> = (0..count).map(|n| format!("{partition}.{n}")).collect();
        assert_eq!(follower.texts(partition as u16), sent, "partition {partition}");
    }
    let all = log.shards(STREAM).await.unwrap();
    let closed = all.iter().filter(|shard| shard.is_closed).count();
    assert_eq!(follower.finished(), closed, "each closed shard came to its end");
    // A walk without leases over the same chain reads the same.
    let walked = crate::support::read_all(&log, STREAM, 3, None, crate::support::ALL).await;
    assert!(walked == follower.records[&PartitionId(3)], "{} records", walked.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_shard_says_so_once_all_of_a_partition_was_handed_out() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open().await;
    let stamps = log.append((0..5).map(|n| record(STREAM, 0, format!("{n}"))).collect()).await.unwrap();
    let parent = log.shards(STREAM).await.unwrap().remove(0);
    let reader = log.shard(STREAM, &parent, from(&parent, None));
    scale(&double, STREAM, 2).await;
    let read = |p, after| reader.read(STREAM, PartitionId(p), after, ReadLimits { records_max: 3, ..WAIT });
    let idle = read(1, None).await.unwrap();
    assert!(idle.closed && idle.at_end && idle.records.is_empty());
    let first = read(0, None).await.unwrap();
    assert!(!first.closed && first.records.len() == 3);
    let last = read(0, Some(stamps[2].position)).await.unwrap();
    assert!(last.closed && last.records.len() == 2);
    assert!(read(0, Some(stamps[4].position)).await.unwrap().closed);
    // A partition that has moved on to a child finds nothing here.
    let moved = log.append(vec![record(STREAM, 0, "child")]).await.unwrap()[0];
    assert!(moved.position > stamps[4].position && moved.position.shard > parent.number);
    let again = log.shard(STREAM, &parent, from(&parent, Some(moved.position)));
    let nothing = again.read(STREAM, PartitionId(0), Some(moved.position), WAIT).await.unwrap();
    assert!(nothing.closed && nothing.records.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_past_the_retention_stops_its_partition_with_words() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open().await;
    let first = log.append(vec![record(STREAM, 0, "a"), record(STREAM, 1, "b")]).await.unwrap();
    let shard = &log.shards(STREAM).await.unwrap()[0];
    // A place before the oldest record, as it is when that record is not the oldest any more.
    let mut gone = first[0].position.min(first[1].position);
    gone.sequence[2] -= 1 << 36; // a second
    let positions = BTreeMap::from([(PartitionId(0), Some(gone)), (PartitionId(1), Some(first[1].position))]);
    let reader = log.shard(STREAM, shard, positions);
    let refused = reader.read(STREAM, PartitionId(0), Some(gone), WAIT).await;
    let Err(ReadError::Corrupt(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("no longer in") && words.contains("retention"), "{words}");
    let walked = log.read(STREAM, PartitionId(0), Some(gone), WAIT).await;
    assert!(matches!(walked, Err(ReadError::Corrupt(_))), "{walked:?}");
    log.append(vec![record(STREAM, 1, "c")]).await.unwrap();
    let after = Some(first[1].position);
    assert_eq!(texts(&reader, 1, after, 1).await, ["c"], "the other partition goes on");
}

/// A person may decide that what is gone was read, or is to be done without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_past_the_retention_is_skipped_when_told_so() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open_with(Options { lost: Lost::Skipped, ..super::options(double.prefix()) }).await;
    let first = log.append(vec![record(STREAM, 0, "a"), record(STREAM, 1, "b")]).await.unwrap();
    let shard = &log.shards(STREAM).await.unwrap()[0];
    for back in [1 << 36, 1 << 56] {
        // A second before, and days before the stream was made, which some doubles refuse.
        let mut gone = first[0].position.min(first[1].position);
        let (low, borrows) = gone.sequence[2].overflowing_sub(back);
        gone.sequence[2] = low;
        gone.sequence[1] -= u64::from(borrows);
        let reader = log.shard(STREAM, shard, from(shard, Some(gone)));
        assert_eq!(texts(&reader, 0, Some(gone), 1).await, ["a"]);
        assert_eq!(texts(&reader, 1, Some(gone), 1).await, ["b"]);
    }
}

/// A shard without any record is no proof that all of them were read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_shard_that_was_read_before_stops_its_partitions_too() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open().await;
    // Streams that were made together count alike.
    let elsewhere = log.append(vec![record(Stream::Results, 0, "a")]).await.unwrap()[0];
    let shard = &log.shards(STREAM).await.unwrap()[0];
    let position = Some(elsewhere.position);
    let reader = log.shard(STREAM, shard, from(shard, position));
    let refused = reader.read(STREAM, PartitionId(0), position, WAIT).await;
    let Err(ReadError::Corrupt(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("which is empty there") && words.contains("--skip-lost"), "{words}");
}

/// What nobody reads fills no buffer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_not_asked_for_holds_nobody_up() {
    let double = Double::with_streams(2, 1).await;
    let log = double.open().await;
    for _ in 0..40 {
        log.append(vec![record(STREAM, 0, vec![7u8; 900_000])]).await.unwrap();
    }
    let first = log.append(vec![record(STREAM, 1, "behind them")]).await.unwrap()[0].position;
    let shard = &log.shards(STREAM).await.unwrap()[0];
    let reader = log.shard(STREAM, shard, BTreeMap::from([(PartitionId(1), None)]));
    assert_eq!(texts(&reader, 1, None, 1).await, ["behind them"]);
    log.append(vec![record(STREAM, 1, "later")]).await.unwrap();
    let later = reader.read(STREAM, PartitionId(1), Some(first), WAIT).await.unwrap();
    assert_eq!(later.records.len(), 1, "it is read on");
}

/// Some have seen a place past the retention answer with nothing, and the same distance to the end, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_leads_nowhere_is_given_up() {
    let double = Double::with_streams(1, 1).await;
    let log = double.open().await;
    let stamp = log.append(vec![record(STREAM, 0, "a")]).await.unwrap()[0];
    let shard = &log.shards(STREAM).await.unwrap()[0];
    let mut gone = stamp.position;
    gone.sequence[2] -= 1 << 36;
    double.faults.next("GetRecords", std::iter::repeat_n(Fault::Nothing(86_400_000), 20));
    let reader = log.shard(STREAM, shard, from(shard, Some(gone)));
    let refused = reader.read(STREAM, PartitionId(0), Some(gone), WAIT).await;
    let Err(ReadError::Corrupt(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("no longer in"), "{words}");
    assert_eq!(double.faults.calls("GetShardIterator"), 2, "it looked from the oldest record");
}

/// A reader that is told how far it is behind does not wait for its next poll, nor takes itself to be at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_behind_hurries() {
    let double = Double::with_streams(1, 1).await;
    let seldom = Options { poll: Duration::from_hours(1), ..super::options(double.prefix()) };
    let log = double.open_with(seldom).await;
    log.append(vec![record(STREAM, 0, "a")]).await.unwrap();
    let shard = &log.shards(STREAM).await.unwrap()[0];
    double.faults.next("GetRecords", std::iter::repeat_n(Fault::Nothing(5_000), 3));
    let reader = log.shard(STREAM, shard, from(shard, None));
    let batch = reader.read(STREAM, PartitionId(0), None, WAIT).await.unwrap();
    assert_eq!((batch.records.len(), double.faults.calls("GetRecords")), (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_the_poller_and_not_the_memory() {
    let double = Double::with_streams(1, 1).await;
    let log = double.open().await;
    let large = vec![7u8; 900_000];
    let count = 40;
    for _ in 0..count {
        log.append(vec![record(STREAM, 0, large.clone())]).await.unwrap();
    }
    let shard = &log.shards(STREAM).await.unwrap()[0];
    let reader = log.shard(STREAM, shard, from(shard, None));
    let limits = ReadLimits { records_max: 1, ..WAIT };
    let (mut after, mut read) = (None, 0);
    while read < count {
        let batch = reader.read(STREAM, PartitionId(0), after, limits).await.unwrap();
        read += batch.records.len();
        after = batch.records.last().map(|last| last.stamp.position);
    }
    let refused = log.append(vec![record(STREAM, 9, "x")]).await;
    assert!(matches!(refused, Err(AppendError::Invalid { index: 0, .. })), "{refused:?}");
}
