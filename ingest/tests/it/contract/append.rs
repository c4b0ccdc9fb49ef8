//! What an append promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingest::error::AppendError;
use ingest::limits::{BATCH_RECORDS_MAX, RECORD_BYTES_MAX};
use ingest::log::{Log, ReadLimits, Stream};
use operators::event::Stamp;

use super::Place;
use crate::support::{ALL, Random, read_all, record};

pub(super) async fn positions_rise_in_the_order_of_input<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    assert_eq!(log.partitions(), 4);
    let mut last: BTreeMap<u16, Stamp> = BTreeMap::new();
    for call in 0..20u32 {
        // Partitions change within the call, and return.
        let records: Vec<_> = (0..13u32).map(|n| (((call + n) % 3) as u16, format!("{call}.{n}"))).collect();
        let sent = records.iter().map(|(p, text)| record(Stream::Submissions, *p, text.clone())).collect();
        let stamps = log.append(sent).await.unwrap();
        assert_eq!(stamps.len(), records.len());
        for ((partition, _), stamp) in records.iter().zip(stamps) {
            if let Some(before) = last.insert(*partition, stamp) {
                assert!(before.position < stamp.position);
                assert!(before.append_at <= stamp.append_at);
            }
        }
    }
    for partition in 0..3 {
        let read = read_all(&log, Stream::Submissions, partition, None, ALL).await;
        let texts: Vec<String> =
            read.iter().map(|r| String::from_utf8(r.payload.to_vec()).unwrap()).collect();
        let sent = (0..20u32).flat_map(|call| (0..13u32).map(move |n| (call, n)));
        let mine = sent.filter(|(call, n)| (call + n) % 3 == u32::from(partition));
        assert_eq!(texts, mine.map(|(call, n)| format!("{call}.{n}")).collect::<Vec<_>>());
        assert!(read.is_sorted_by(|a, b| a.stamp.position < b.stamp.position));
    }
}

pub(super) async fn times_never_go_back_not_even_across_a_restart<P: Place>() {
    let place = P::new();
    let mut newest: Option<Stamp> = None;
    for _ in 0..5 {
        let log = place.open().await;
        for _ in 0..3 {
            let stamps = log.append(vec![record(Stream::Results, 2, "x")]).await.unwrap();
            if let Some(before) = newest.replace(stamps[0]) {
                assert!(before.append_at <= stamps[0].append_at && before.position < stamps[0].position);
            }
        }
    }
    let log = place.open().await;
    assert_eq!(read_all(&log, Stream::Results, 2, None, ALL).await.len(), 15);
}

pub(super) async fn stamps_are_those_that_are_read<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let records: Vec<_> = (0..100u8).map(|n| record(Stream::Standings, 1, vec![n])).collect();
    let stamps = log.append(records).await.unwrap();
    let read = read_all(&log, Stream::Standings, 1, None, ALL).await;
    assert_eq!(read.len(), stamps.len());
    assert!(read.iter().zip(&stamps).all(|(record, stamp)| P::is_same(*stamp, record.stamp)));
    assert!(read.iter().enumerate().all(|(n, record)| record.payload[..] == [n as u8]));
}

pub(super) async fn a_batch_over_the_limit_is_invalid<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let records = |count| (0..count).map(|_| record(Stream::Submissions, 0, "x")).collect::<Vec<_>>();
    let refused = log.append(records(BATCH_RECORDS_MAX + 1)).await;
    assert!(matches!(refused, Err(AppendError::Invalid { index: BATCH_RECORDS_MAX, .. })), "{refused:?}");
    assert_eq!(log.append(records(BATCH_RECORDS_MAX)).await.unwrap().len(), BATCH_RECORDS_MAX);
    assert_eq!(read_all(&log, Stream::Submissions, 0, None, ALL).await.len(), BATCH_RECORDS_MAX);
}

pub(super) async fn a_record_that_cannot_be_appended_is_named<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    let good = || record(Stream::Submissions, 0, "good");
    let large = record(Stream::Submissions, 0, vec![0; RECORD_BYTES_MAX + 1]);
    let nowhere = record(Stream::Submissions, 4, "x");
    for bad in [large, nowhere] {
        let refused = log.append(vec![good(), good(), bad, good()]).await;
        assert!(matches!(refused, Err(AppendError::Invalid { index: 2, .. })), "{refused:?}");
    }
    assert!(
        read_all(&log, Stream::Submissions, 0, None, ALL).await.is_empty(),
        "nothing of the call is appended"
    );
}

pub(super) async fn payloads_of_every_size_come_back<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    // Around the sizes of chunks and pages, and the largest of all.
    let mut sizes = vec![0, 1, 100, 65_536, 100_000, RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX];
    sizes.extend(3_056..3_080);
    sizes.extend(6_130..6_140);
    let payload = |size: usize| (0..size).map(|n| (n * 31 % 251) as u8 ^ size as u8).collect::<Vec<u8>>();
    let records = sizes.iter().map(|&size| record(Stream::DeadLetters, 3, payload(size))).collect();
    log.append(records).await.unwrap();
    drop(log);
    let log = place.open().await;
    let read = read_all(&log, Stream::DeadLetters, 3, None, ReadLimits { bytes_max: 1 << 16, ..ALL }).await;
    assert_eq!(read.len(), sizes.len());
    for (record, size) in read.iter().zip(sizes) {
        assert!(record.payload == payload(size), "{size} bytes come back");
    }
}

pub(super) async fn concurrent_appends_are_each_read_once_where_they_were_acknowledged<P: Place>() {
    let place = P::new();
    let log = Arc::new(place.open().await);
    let appender = |who: u16, log: Arc<P::Log>| async move {
        let mut random = Random(u64::from(who));
        let mut acknowledged = Vec::new();
        for call in 0..40 {
            let count = 1 + random.below(8);
            let records: Vec<_> =
                (0..count).map(|n| (random.below(4) as u16, format!("{who}/{call}/{n}"))).collect();
            let sent =
                records.iter().map(|(p, text)| record(Stream::Submissions, *p, text.clone())).collect();
            let stamps = log.append(sent).await.unwrap();
            acknowledged.extend(records.into_iter().zip(stamps));
        }
        acknowledged
    };
    let tasks: Vec<_> = (0..16).map(|who| tokio::spawn(appender(who, log.clone()))).collect();
    let mut acknowledged: BTreeMap<(u16, String), Stamp> = BTreeMap::new();
    for task in tasks {
        let one = task.await.unwrap();
        let mut last = BTreeMap::new();
        for ((partition, text), stamp) in one {
            // One appender's calls follow each other, so their records do.
            assert!(last.insert(partition, stamp.position).is_none_or(|before| before < stamp.position));
            assert!(acknowledged.insert((partition, text), stamp).is_none());
        }
    }
    drop(log);
    let log = place.open().await;
    for partition in 0..4 {
        for stored in
            read_all(&log, Stream::Submissions, partition, None, ReadLimits { records_max: 100, ..ALL }).await
        {
            let text = String::from_utf8(stored.payload.to_vec()).unwrap();
            let written =
                acknowledged.remove(&(partition, text)).expect("it was acknowledged and not read yet");
            assert!(P::is_same(written, stored.stamp));
        }
    }
    assert!(acknowledged.is_empty(), "not read: {acknowledged:?}");
}

pub(super) async fn an_empty_append_changes_nothing<P: Place>() {
    let place = P::new();
    let log = place.open().await;
    assert_eq!(log.append(Vec::new()).await, Ok(Vec::new()));
    assert!(read_all(&log, Stream::Submissions, 0, None, ALL).await.is_empty());
}
