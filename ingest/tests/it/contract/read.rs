//! What a read promises.

use std::sync::Arc;
use std::time::Duration;

use futures::poll;
use ingest::log::{Log, ReadLimits, StoredRecord, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;

use super::Place;
use crate::support::{ALL, read_all, record};

const P0: PartitionId = PartitionId(0);

async fn append_texts(log: &impl Log, count: usize) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for n in 0..count {
        stamps.extend(log.append(vec![record(Stream::Submissions, 0, format!("{n:03}"))]).await.unwrap());
    }
    stamps
}

fn are_same<P: Place>(written: &[Stamp], read: &[StoredRecord]) -> bool {
    written.len() == read.len() && written.iter().zip(read).all(|(one, other)| P::is_same(*one, other.stamp))
}

pub(super) async fn from_any_position_in_pieces_of_any_size<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let stamps = append_texts(&log, 30).await;
    for start in 0..=30usize {
        let after = start.checked_sub(1).map(|n| stamps[n].position);
        for records_max in [1, 2, 7, 29, 30, 1_000] {
            let limits = ReadLimits { records_max, ..ALL };
            let batch = log.read(Stream::Submissions, P0, after, limits).await.unwrap();
            assert_eq!(batch.records.len(), records_max.min(30 - start));
            let read = read_all(&log, Stream::Submissions, 0, after, limits).await;
            assert!(are_same::<P>(&stamps[start..], &read));
        }
    }
}

pub(super) async fn bytes_are_bounded_but_one_record_always_comes<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let sizes = [10usize, 10, 10, 5_000, 10, 4_000, 0, 0];
    let records = sizes.iter().map(|&size| record(Stream::Submissions, 0, vec![1; size])).collect();
    let stamps = log.append(records).await.unwrap();
    for start in 0..sizes.len() {
        let after = start.checked_sub(1).map(|n| stamps[n].position);
        for bytes_max in [0, 1, 9, 10, 19, 20, 25, 30, 5_009, 5_010, 5_030, 9_999, 100_000] {
            let limits = ReadLimits { bytes_max, ..ALL };
            let batch = log.read(Stream::Submissions, P0, after, limits).await.unwrap();
            // As many as fit, and the first whatever its size.
            let mut bytes = 0;
            let fit = sizes[start..].iter().take_while(|&&size| {
                bytes += size;
                bytes <= bytes_max
            });
            let expected = fit.count().max(1);
            assert_eq!(batch.records.len(), expected, "from {start} with {bytes_max} bytes");
            assert_eq!(batch.at_end, start + expected == sizes.len());
        }
    }
}

pub(super) async fn the_end_is_told_truthfully<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let empty = log.read(Stream::Submissions, P0, None, ALL).await.unwrap();
    assert!(empty.at_end && empty.records.is_empty());
    let stamps = append_texts(&log, 5).await;
    for (records_max, at_end) in [(4, false), (5, true), (6, true)] {
        let batch = log.read(Stream::Submissions, P0, None, ReadLimits { records_max, ..ALL }).await.unwrap();
        assert_eq!(batch.at_end, at_end, "{records_max} records at most");
    }
    let last = log.read(Stream::Submissions, P0, Some(stamps[4].position), ALL).await.unwrap();
    assert!(last.at_end && last.records.is_empty());
}

/// A read that begins after an acknowledgement and reports the end has the record.
pub(super) async fn an_acknowledged_record_is_there_at_once<P: Place>() {
    let place = P::new();
    let log = Arc::new(place.open().await);
    let noise = log.clone();
    let noise = tokio::spawn(async move {
        for _ in 0..100 {
            noise.append(vec![record(Stream::Submissions, 0, "noise")]).await.unwrap();
        }
    });
    let mut after = None;
    for _ in 0..100 {
        let mine = log.append(vec![record(Stream::Submissions, 0, "mine")]).await.unwrap()[0];
        let read = read_all(&*log, Stream::Submissions, 0, after, ReadLimits { records_max: 3, ..ALL }).await;
        assert!(read.iter().any(|record| P::is_same(mine, record.stamp) && record.payload == "mine"));
        after = read.last().map(|record| record.stamp.position);
    }
    noise.await.unwrap();
}

pub(super) async fn a_waiting_read_wakes_when_something_is_appended<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let stamps = append_texts(&log, 2).await;
    let wait = Duration::from_secs(600);
    let mut first = log.read(Stream::Submissions, P0, Some(stamps[1].position), ReadLimits { wait, ..ALL });
    let mut second = log.read(Stream::Submissions, P0, Some(stamps[1].position), ReadLimits { wait, ..ALL });
    let mut other = log.read(Stream::Submissions, PartitionId(1), None, ReadLimits { wait, ..ALL });
    assert!(
        poll!(&mut first).is_pending() && poll!(&mut second).is_pending() && poll!(&mut other).is_pending()
    );
    // What is there already is returned without waiting.
    assert_eq!(
        log.read(Stream::Submissions, P0, None, ReadLimits { wait, ..ALL }).await.unwrap().records.len(),
        2
    );

    let stamp = log.append(vec![record(Stream::Submissions, 0, "new")]).await.unwrap()[0];
    for woken in [first, second] {
        let batch = tokio::time::timeout(Duration::from_secs(60), woken).await.expect("it wakes").unwrap();
        assert!(are_same::<P>(&[stamp], &batch.records));
        assert!(batch.at_end);
    }
    assert!(poll!(&mut other).is_pending(), "another partition is none of its business");
}

pub(super) async fn a_waiting_read_ends_with_nothing<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let limits = ReadLimits { wait: Duration::from_millis(20), ..ALL };
    let batch = log.read(Stream::Submissions, P0, None, limits).await.unwrap();
    assert!(batch.at_end && batch.records.is_empty());
}

pub(super) async fn streams_and_partitions_are_independent<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    for stream in Stream::ALL {
        for partition in 0..4 {
            // As many records as the partition's number says, told apart by their text.
            let texts =
                (0..partition).map(|n| record(stream, partition, format!("{stream} {partition} {n}")));
            log.append(texts.collect()).await.unwrap();
        }
    }
    drop(log);
    let log = place.open().await;
    for stream in Stream::ALL {
        for partition in 0..4 {
            let read = read_all(&log, stream, partition, None, ALL).await;
            let texts: Vec<_> =
                read.iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()).collect();
            assert_eq!(
                texts,
                (0..partition).map(|n| format!("{stream} {partition} {n}")).collect::<Vec<_>>()
            );
        }
    }
}

pub(super) async fn a_position_beyond_the_end_reads_nothing<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let stamps = append_texts(&log, 3).await;
    for position in P::beyond(stamps[2].position) {
        let batch = log.read(Stream::Submissions, P0, Some(position), ALL).await.unwrap();
        assert!(batch.at_end && batch.records.is_empty());
    }
}
