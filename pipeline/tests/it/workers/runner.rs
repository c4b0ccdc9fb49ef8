//! When a runner stores and seals, whatever the log and the clocks do.

use std::sync::Arc;
use std::time::Duration;

use ingest::codec::{Pulse, encode_pulse};
use ingest::log::{Log, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::Command;
use operators::id::UnixMillis;
use pipeline::runner::cache::{Bounds, Cache};
use pipeline::runner::{Parts, Runner};
use pipeline::stage::grade::Grade;

use super::{CHECKPOINT, GRACE_MS, Mood, PARTITIONS, START_MS, Scene, command, publish, unit};

impl Scene {
    async fn runner(&self) -> Runner<Grade> {
        let operator = Arc::new(Grade::new(PARTITIONS, GRACE_MS));
        let parts = Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            cache: Arc::new(Cache::new(operator, self.store.clone(), Bounds::default())),
            progress: self.pulses.clone(),
            settings: Self::settings(),
        };
        Runner::acquire(parts, unit(0)).await.unwrap()
    }

    /// Returns how many records partition 0 of `submissions` has.
    async fn submitted(&self) -> usize {
        let limits = ReadLimits { records_max: 100, bytes_max: 1 << 20, wait: Duration::ZERO };
        self.log.read(Stream::Submissions, PartitionId(0), None, limits).await.unwrap().records.len()
    }
}

#[tokio::test]
async fn what_was_applied_is_stored_although_the_log_cannot_be_read() {
    let scene = Scene::new();
    let stamp = scene.append(publish(0)).await;
    let mut runner = scene.runner().await;
    assert_eq!(runner.step().await.unwrap().records, 1);
    assert_eq!(runner.header().position, None, "it is not time yet");
    scene.log.mood(0, Some(Mood::Away));
    scene.clock.advance(CHECKPOINT.as_millis() as u64);
    assert_eq!(runner.step().await.unwrap().records, 0);
    assert_eq!(runner.header().position, Some(stamp.position));
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_no_checkpoint_up() {
    let scene = Scene::new();
    let stamp = scene.append(publish(0)).await;
    let mut runner = scene.runner().await;
    runner.step().await.unwrap();
    scene.clock.set(START_MS - 3_600_000);
    runner.step().await.unwrap();
    assert_eq!(runner.header().position, Some(stamp.position));
}

/// A grader whose clock is ahead must not seal answers out that gateways still acknowledge; and a partition to which
/// nobody answers is sealed by the time that pulses bring.
#[tokio::test]
async fn a_seal_waits_for_the_time_of_the_log() {
    let scene = Scene::new();
    scene.append(publish(0)).await;
    scene.append(command(0, "o", Command::Open)).await;
    scene.append(command(0, "c", Command::Close)).await;
    scene.clock.advance(3_600_000);
    let mut runner = scene.runner().await;
    for _ in 0..5 {
        runner.step().await.unwrap();
        scene.clock.advance(2_000);
    }
    assert_eq!(scene.submitted().await, 3, "by the log, the quiz was closed just now");
    scene.log_clock.advance(GRACE_MS);
    let pulse = Pulse { slowest: UnixMillis(0), reached: Vec::new() };
    let payload = encode_pulse(Stream::Submissions, &pulse);
    scene.append(Record { stream: Stream::Submissions, partition: PartitionId(0), payload }).await;
    runner.step().await.unwrap();
    assert_eq!(scene.submitted().await, 5, "and now it is sealed");
}
