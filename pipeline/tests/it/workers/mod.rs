//! Runners, shifts and workers of a cluster in trouble: a log that is damaged, slow or out of reach, clocks that differ,
//! shards that cannot be listed or are gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::codec::encode_envelope;
use ingest::error::{AppendError, ReadError};
use ingest::log::embedded::{Embedded, Options};
use ingest::log::{Log, Lost, ReadBatch, ReadLimits, Record, Stream};
use ingest::partition::{PartitionId, of_key};
use operators::definition::Definition;
use operators::event::{Command, Envelope, Event, Stamp};
use operators::id::{Position, QuizId};
use pipeline::cluster::health::Health;
use pipeline::cluster::shards::{Shard, Shards};
use pipeline::cluster::shift::Tools;
use pipeline::runner::Settings;
use pipeline::runner::progress::pulses::Pulses;
use pipeline::stage::grade::Grade;
use pipeline::store::embedded::EmbeddedStore;
use pipeline::store::{Stage, Unit};

use crate::gateways::parts::{HandClock, TimedLog};

mod herald;
#[cfg(feature = "cluster")]
mod leases;
mod runner;
mod shift;

const PARTITIONS: u16 = 3;
const START_MS: u64 = 1_700_000_000_000;
const GRACE_MS: u64 = 2_000;
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What is wrong with one partition of `submissions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// It cannot be read just now.
    Away,
    /// It can never be read.
    Damaged,
    /// Appends to it are not answered.
    Deaf,
}

/// A log whose partitions have moods.
struct Moody {
    inner: TimedLog,
    moods: Mutex<BTreeMap<PartitionId, Mood>>,
}

impl Moody {
    fn mood(&self, partition: u16, mood: Option<Mood>) {
        let mut moods = self.moods.lock().unwrap();
        match mood {
            Some(mood) => moods.insert(PartitionId(partition), mood),
            None => moods.remove(&PartitionId(partition)),
        };
    }

    fn is(&self, stream: Stream, partition: PartitionId, mood: Mood) -> bool {
        stream == Stream::Submissions && self.moods.lock().unwrap().get(&partition) == Some(&mood)
    }
}

impl Log for Moody {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        if records.iter().any(|record| self.is(record.stream, record.partition, Mood::Deaf)) {
            return std::future::pending().boxed();
        }
        self.inner.append(records)
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        if self.is(stream, partition, Mood::Damaged) {
            return async { Err(ReadError::Corrupt("a planted damage".into())) }.boxed();
        }
        if self.is(stream, partition, Mood::Away) {
            return async { Err(ReadError::Unavailable("a planted outage".into())) }.boxed();
        }
        self.inner.read(stream, partition, after, limits)
    }
}

/// One shard with all partitions.
struct One {
    log: Arc<Moody>,
    number: u32,
    retention: Option<Duration>,
}

impl One {
    fn shard(&self) -> Shard {
        let lease = ingest::lease::Lease::of_shard(format!("shardId-{:012}", self.number), [], "0", "9");
        Shard { lease, number: self.number, partitions: (0..PARTITIONS).map(PartitionId).collect() }
    }
}

impl Shards for One {
    fn list(&self, _stream: Stream) -> BoxFuture<'_, Result<Vec<Shard>, ReadError>> {
        async { Ok(vec![self.shard()]) }.boxed()
    }

    fn retention(&self, _stream: Stream) -> Option<Duration> {
        self.retention
    }

    fn open(
        &self,
        _stream: Stream,
        _shard: &Shard,
        _from: BTreeMap<PartitionId, Option<Position>>,
    ) -> Arc<dyn Log> {
        self.log.clone()
    }
}

/// What all tests stand on. The log and the workers have clocks of their own, which stand still unless they are moved.
struct Scene {
    log: Arc<Moody>,
    log_clock: Arc<HandClock>,
    clock: Arc<HandClock>,
    store: Arc<EmbeddedStore>,
    pulses: Arc<Pulses>,
    health: Arc<Health>,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Embedded::open(dir.path(), Options { partitions: PARTITIONS }).unwrap();
        let [log_clock, clock] = [(); 2].map(|()| Arc::new(HandClock::at(START_MS)));
        let inner = TimedLog::new(storage.clone(), log_clock.clone());
        Self {
            log: Arc::new(Moody { inner, moods: Mutex::default() }),
            log_clock,
            clock,
            store: Arc::new(EmbeddedStore::new(storage)),
            pulses: Arc::default(),
            health: Arc::new(Health::new(Stage::Grade, Duration::from_secs(10))),
            _dir: dir,
        }
    }

    fn settings() -> Settings {
        Settings { wait: Duration::from_millis(1), checkpoint: CHECKPOINT, ..Settings::default() }
    }

    /// Returns a grader's tools; its shard has this number.
    fn tools(&self, number: u32, retention: Option<Duration>, lost: Lost) -> Tools<Grade> {
        Tools {
            log: self.log.clone(),
            shards: Arc::new(One { log: self.log.clone(), number, retention }),
            store: self.store.clone(),
            clock: self.clock.clone(),
            operator: Arc::new(Grade::new(PARTITIONS, GRACE_MS)),
            pulses: self.pulses.clone(),
            settings: Self::settings(),
            budget: Arc::default(),
            health: self.health.clone(),
            cool_down: Duration::from_millis(50),
            lost,
        }
    }

    async fn append(&self, record: Record) -> Stamp {
        self.log.append(vec![record]).await.unwrap()[0]
    }
}

fn unit(partition: u16) -> Unit {
    Unit { stage: Stage::Grade, partition: PartitionId(partition) }
}

/// Returns a quiz that lies on a partition.
fn quiz(partition: u16) -> QuizId {
    let names = (0..).map(|n| format!("quiz{n}"));
    let mut here = names.filter(|name| of_key(name, PARTITIONS) == PartitionId(partition));
    here.next().unwrap().parse().unwrap()
}

/// Returns a command to the quiz of a partition.
fn command(partition: u16, id: &str, command: Command) -> Record {
    let event = Event::Command { id: id.parse().unwrap(), content: 0, command };
    let envelope = Envelope { quiz: quiz(partition), section: 0, event };
    let payload = encode_envelope(&envelope).unwrap();
    Record { stream: Stream::Submissions, partition: PartitionId(partition), payload }
}

fn publish(partition: u16) -> Record {
    let json = r#"{"title": "T", "pace": "free", "questions":
        [{"id": "q", "kind": "numeric", "text": "?", "key": {"value": "1"}}]}"#;
    let definition = Arc::new(Definition::new(serde_json::from_str(json).unwrap()).unwrap());
    command(partition, "p", Command::Publish { definition, if_version: None })
}
