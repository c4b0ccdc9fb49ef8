//! A disk that fails, and a queue that is full.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::*;
use crate::error::AppendError;
use crate::limits::{QUEUE_BYTES_MAX, QUEUE_CALLS_MAX, RECORD_BYTES_MAX};
use crate::log::{Log, ReadLimits};

const ALL: ReadLimits = ReadLimits { records_max: usize::MAX, bytes_max: usize::MAX, wait: Duration::ZERO };

async fn payloads(log: &Embedded, partition: u16) -> Vec<Bytes> {
    let batch = log.read(Stream::Submissions, PartitionId(partition), None, ALL).await.unwrap();
    batch.records.into_iter().map(|record| record.payload).collect()
}

#[tokio::test]
async fn i15_no_ack_after_a_failed_fsync() {
    for fault in [Fault::Lost, Fault::Written] {
        let dir = tempfile::tempdir().unwrap();
        let switch = Arc::new(Mutex::new(Fault::None));
        let fails = |disk| FailsOnce { disk, fault: switch.clone() };
        let log = open::open_on(dir.path(), OPTIONS, Duration::ZERO, fails).unwrap();
        log.append(vec![record(0, "before")]).await.unwrap();

        *switch.lock().unwrap() = fault;
        let failed = log.append(vec![record(0, "failed")]).await;
        assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
        for _ in 0..3 {
            // The disk works again, or says so.
            let after = log.append(vec![record(1, "after")]).await;
            assert!(matches!(after, Err(AppendError::Corrupt(_))), "{after:?}");
            let after = log.write(put("row", "after")).await;
            assert!(
                matches!(after, Err(super::super::WriteError::Append(AppendError::Corrupt(_)))),
                "{after:?}"
            );
        }
        assert_eq!(payloads(&log, 0).await, ["before"], "what was not acknowledged is not read either");
        drop(log);

        let log = Embedded::open(dir.path(), OPTIONS).unwrap();
        let whole: &[&str] = if fault == Fault::Lost { &["before"] } else { &["before", "failed"] };
        assert_eq!(payloads(&log, 0).await, whole);
        assert!(payloads(&log, 1).await.is_empty());
        log.append(vec![record(1, "again")]).await.unwrap();
        assert_eq!(payloads(&log, 1).await, ["again"]);
    }
}

#[tokio::test]
async fn calls_waiting_when_a_commit_fails_are_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (log, gate) = Gate::open(dir.path());
    let first = log.append(vec![record(0, "first")]);
    gate.entered();
    let waiting: Vec<_> = (0..10).map(|_| log.append(vec![record(0, "waiting")])).collect();
    gate.pass(Fault::Lost);
    assert!(matches!(first.await, Err(AppendError::Unavailable(_))));
    for answer in waiting {
        assert!(matches!(answer.await, Err(AppendError::Corrupt(_))));
    }
    assert_eq!(log.next_offset(Stream::Submissions, PartitionId(0)), 0);
}

#[tokio::test]
async fn a_high_water_mark_that_cannot_be_written_stops_acknowledgements() {
    let dir = tempfile::tempdir().unwrap();
    let log = open::open_on(dir.path(), OPTIONS, Duration::ZERO, |disk| disk).unwrap();
    std::fs::create_dir(dir.path().join("high-water.new")).unwrap();
    log.append(vec![record(0, "durable")]).await.unwrap();
    let after = log.append(vec![record(0, "after")]).await;
    assert!(matches!(after, Err(AppendError::Corrupt(_))), "{after:?}");
}

/// What a damaged journal can hide is bounded also when nothing more is written.
#[tokio::test]
async fn an_idle_log_is_marked_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = open::open_on(dir.path(), OPTIONS, Duration::from_millis(20), |disk| disk).unwrap();
    log.append(vec![record(1, "one"), record(1, "two")]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let marked = || std::fs::read_to_string(dir.path().join("high-water")).unwrap_or_default();
    while !marked().contains("submissions 1 2\n") {
        assert!(Instant::now() < deadline, "the mark says {:?}", marked());
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn the_queue_is_bounded_in_calls() {
    let dir = tempfile::tempdir().unwrap();
    let (log, gate) = Gate::open(dir.path());
    let first = log.append(vec![record(0, "first")]);
    gate.entered();
    let waiting: Vec<_> = (0..QUEUE_CALLS_MAX).map(|_| log.append(vec![record(0, "x")])).collect();
    let over = log.append(vec![record(0, "over")]).now_or_never().expect("it is refused at once");
    assert_eq!(over, Err(AppendError::Overloaded { retry_after: Duration::from_secs(1) }));

    for _ in 0..10 {
        gate.pass(Fault::None);
    }
    first.await.unwrap();
    for answer in waiting {
        answer.await.unwrap();
    }
    log.append(vec![record(0, "later")]).await.unwrap();
    assert_eq!(log.next_offset(Stream::Submissions, PartitionId(0)), QUEUE_CALLS_MAX as u64 + 2);
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, gate) = Gate::open(dir.path());
    let first = log.append(vec![record(0, "first")]);
    gate.entered();
    let large = || {
        let payload = Bytes::from(vec![7; RECORD_BYTES_MAX]);
        Record { stream: Stream::Submissions, partition: PartitionId(0), payload }
    };
    let fit = QUEUE_BYTES_MAX / RECORD_BYTES_MAX;
    let waiting: Vec<_> = (0..fit).map(|_| log.append(vec![large()])).collect();
    let over = log.append(vec![large()]).now_or_never().expect("it is refused at once");
    assert!(matches!(over, Err(AppendError::Overloaded { .. })), "{over:?}");

    drop(gate);
    first.await.unwrap();
    for answer in waiting {
        answer.await.unwrap();
    }
    // What left the queue is free again, and a call over the bound of its own is taken by an idle log.
    let rows = vec![(b"large".to_vec(), Some(vec![7; QUEUE_BYTES_MAX + 1]))];
    log.write(Write { rows, ..Write::default() }).await.unwrap();
    log.append(vec![large()]).await.unwrap();
}
