//! What others hear of a worker, although one partition hears nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::codec::Pulse;
use ingest::log::{Log, ReadLimits, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use pipeline::cluster::beats::{Beat, Beats};
use pipeline::cluster::herald::Herald;
use pipeline::runner::progress::Progress;
use pipeline::store::{Stage, StoreError};

use super::{Mood, PARTITIONS, START_MS, Scene, unit};
use crate::process::harness::PATIENCE;

/// Beats of one worker.
#[derive(Default)]
struct Board(Mutex<Vec<Beat>>);

impl Beats for Board {
    fn put<'a>(
        &'a self,
        _stage: Stage,
        _worker: &'a str,
        beat: &'a Beat,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.lock().unwrap().push(beat.clone());
        async { Ok(()) }.boxed()
    }

    fn remove<'a>(&'a self, _stage: Stage, _worker: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn sweep(&self, _stage: Stage) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn all<'a>(&'a self, _stage: Stage) -> BoxFuture<'a, Result<Vec<Beat>, StoreError>> {
        async { Err(StoreError::Unavailable("the table is out of reach".into())) }.boxed()
    }
}

#[tokio::test]
async fn one_deaf_partition_does_not_silence_a_worker() {
    let scene = Scene::new();
    let board = Arc::new(Board::default());
    for partition in 0..PARTITIONS {
        scene.pulses.own(unit(partition));
        let stamp = Stamp { position: Position::from_offset(7), append_at: UnixMillis(START_MS) };
        scene.pulses.sent(unit(partition), &[(stamp, Pulse { slowest: UnixMillis(0), reached: Vec::new() })]);
    }
    let herald = Herald {
        log: scene.log.clone(),
        beats: board.clone(),
        pulses: scene.pulses.clone(),
        clock: scene.clock.clone(),
        worker: "me".into(),
        interval: Duration::from_millis(10),
        grace: None,
    };
    scene.log.mood(1, Some(Mood::Deaf));
    let mut told = BTreeMap::new();
    let heard = tokio::time::timeout(PATIENCE, herald.grade(&mut told)).await.expect("it waits for nobody");
    assert!(heard.is_err(), "not all have heard it");
    let count = async |stream, partition| {
        let limits = ReadLimits { records_max: 9, bytes_max: 1 << 20, wait: Duration::ZERO };
        scene.log.read(stream, PartitionId(partition), None, limits).await.unwrap().records.len()
    };
    for partition in 0..PARTITIONS {
        assert_eq!(count(Stream::Standings, partition).await, 1, "what was graded is told");
        assert_eq!(count(Stream::Submissions, partition).await, usize::from(partition != 1));
    }
    assert_eq!(board.0.lock().unwrap()[0].graded.len(), usize::from(PARTITIONS));
    assert_eq!(told.len(), usize::from(PARTITIONS), "all of `standings` has heard it");
}
