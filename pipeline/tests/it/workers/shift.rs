//! What cannot go on stands still alone.

use std::time::Duration;

use ingest::log::{Lost, Record, Stream};
use ingest::partition::PartitionId;
use pipeline::cluster::shift::Tools;
use pipeline::runner::{Ended, RunError};
use pipeline::stage::grade::Grade;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Mood, START_MS, Scene, publish, unit};
use crate::process::harness::until;

type Work = JoinHandle<Result<Ended, RunError>>;

/// Starts to work on all there is; stops when told so.
async fn start(tools: &Tools<Grade>) -> (Work, watch::Sender<bool>) {
    let shard = tools.shards.list(Stream::Submissions).await.unwrap().remove(0);
    let (stop, stopped) = watch::channel(false);
    (tokio::spawn(tools.clone().work(shard, stopped)), stop)
}

async fn end((work, stop): (Work, watch::Sender<bool>)) {
    stop.send_replace(true);
    assert_eq!(work.await.unwrap(), Ok(Ended::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_cannot_go_on_stands_still_and_the_others_go_on() {
    let scene = Scene::new();
    let good = scene.append(publish(0)).await;
    let later = scene.append(publish(1)).await;
    // For a reader that there is not yet, of a kind that this one never heard of.
    let payload = vec![0x08, 99, 0x7a, 1, 9].into();
    scene.append(Record { stream: Stream::Submissions, partition: PartitionId(2), payload }).await;
    scene.log.mood(1, Some(Mood::Damaged));
    let tools = scene.tools(0, None, Lost::Refused);
    let work = start(&tools).await;
    let problems = async |wanted: &[&str]| {
        until("its health", async || {
            let told = scene.health.problems().join("\n");
            wanted.iter().all(|words| told.contains(words)).then_some(told)
        })
        .await
    };
    problems(&["partition 1 of submissions stands still", "planted damage", "run a newer Podium"]).await;
    // The clock moves on, and what is good is stored.
    until("the checkpoint", async || {
        scene.clock.advance(1_000);
        (tools.pulses.stored_at(unit(0)) == Some(good.position)).then_some(())
    })
    .await;
    let another = scene.append(super::command(0, "o", operators::event::Command::Open)).await;
    until("the next checkpoint", async || {
        scene.clock.advance(1_000);
        (tools.pulses.stored_at(unit(0)) == Some(another.position)).then_some(())
    })
    .await;
    // Mended, it is taken up again by itself.
    scene.log.mood(1, None);
    until("the other's checkpoint", async || {
        scene.clock.advance(1_000);
        (tools.pulses.stored_at(unit(1)) == Some(later.position)).then_some(())
    })
    .await;
    let told = problems(&["partition 2 of submissions"]).await;
    assert!(!told.contains("partition 1 "), "{told}");
    end(work).await;
    assert!(!scene.health.problems().join("").contains("stands still"), "who gave it up has no say in it");
}

/// What was appended to a shard before its oldest record may be gone when nobody has looked for longer than records are
/// kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_comes_late_to_its_next_shard_waits_for_a_person() {
    let kept = Duration::from_hours(24);
    let scene = Scene::new();
    let first = scene.append(publish(0)).await;
    let tools = scene.tools(0, Some(kept), Lost::Refused);
    let work = start(&tools).await;
    until("the first step", async || {
        scene.clock.advance(1_000);
        (tools.pulses.stored_at(unit(0)) == Some(first.position)).then_some(())
    })
    .await;
    end(work).await;
    let next = scene.append(super::command(0, "o", operators::event::Command::Open)).await;

    scene.clock.set(START_MS + 25 * 3_600_000);
    let late = scene.tools(1, Some(kept), Lost::Refused);
    let work = start(&late).await;
    let told = until("its health", async || {
        Some(scene.health.problems().join("\n")).filter(|told| told.contains("partition 0 "))
    })
    .await;
    assert!(told.contains("25 hours old") && told.contains("--skip-lost"), "{told}");
    end(work).await;
    assert_eq!(late.pulses.stored_at(unit(0)), Some(first.position));

    let skipping = scene.tools(1, Some(kept), Lost::Skipped);
    let work = start(&skipping).await;
    until("what is there", async || {
        scene.clock.advance(1_000);
        (skipping.pulses.stored_at(unit(0)) == Some(next.position)).then_some(())
    })
    .await;
    end(work).await;
}
