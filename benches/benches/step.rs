//! A step of the runner: five hundred answers read, graded, ranked and durable, on the embedded store.

use std::sync::Arc;
use std::time::Duration;

use benches::{answer, definition, participant, quiz};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ingest::codec;
use ingest::log::embedded::{Embedded, Options};
use ingest::log::{Log, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::{Command, Envelope, Event};
use pipeline::runner::Runner;
use pipeline::runner::cache::Bounds;
use pipeline::runner::clock::SystemClock;
use pipeline::stage::Operator;
use pipeline::store::embedded::EmbeddedStore;
use pipeline::store::{Stage, Unit};
use pipeline::wire::Stages;

/// Answers of one step.
const ANSWERS: u64 = 500;
/// Participants of the quiz.
const PARTICIPANTS: u64 = 10_000;
/// Questions of the quiz: enough that the answers of one run are first answers.
const QUESTIONS: usize = 1_000;

fn record(event: Event) -> Record {
    let envelope = Envelope { quiz: quiz(), section: 0, event };
    let payload = codec::encode_envelope(&envelope).expect("the record is small enough");
    Record { stream: Stream::Submissions, partition: PartitionId(0), payload }
}

async fn drain<O: Operator>(runner: &mut Runner<O>) {
    while runner.step().await.expect("the store is up").records > 0 {}
}

fn step(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = Embedded::open(dir.path(), Options { partitions: 1 }).expect("an empty directory opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let store = Arc::new(EmbeddedStore::new(log.clone()));
    let shared: Arc<dyn Log> = Arc::new(log.clone());
    let mut stages =
        Stages::new(shared, store, Arc::new(SystemClock), (Duration::from_secs(2), None), Bounds::default());
    // A step that finds nothing must not wait here.
    stages.grade.settings.wait = Duration::ZERO;
    stages.rank.settings.wait = Duration::ZERO;
    let unit = |stage| Unit { stage, partition: PartitionId(0) };
    let (mut grade, mut rank) = runtime.block_on(async {
        let grade = Runner::acquire(stages.grade.clone(), unit(Stage::Grade)).await.expect("the store is up");
        let rank = Runner::acquire(stages.rank.clone(), unit(Stage::Rank)).await.expect("the store is up");
        (grade, rank)
    });
    let publish = Command::Publish { definition: definition(QUESTIONS), if_version: None };
    let command =
        |id: &str, command| Event::Command { id: id.parse().expect("a legal id"), content: 0, command };
    let mut setup = vec![record(command("publish", publish)), record(command("open", Command::Open))];
    setup.extend(
        (0..PARTICIPANTS)
            .map(|n| record(Event::Join { participant: participant(n), name: format!("Player {n}") })),
    );
    runtime.block_on(async {
        for batch in setup.chunks(500) {
            log.append(batch.to_vec()).await.expect("the log is up");
        }
        drain(&mut grade).await;
        drain(&mut rank).await;
    });
    let mut n = 0u64;
    let mut group = c.benchmark_group("step");
    group.throughput(Throughput::Elements(ANSWERS)).sample_size(30);
    group.bench_function("grade_and_rank_500", |b| {
        b.iter_batched(
            || {
                let next = n..n + ANSWERS;
                n += ANSWERS;
                let events = next.map(|n| answer(n % PARTICIPANTS, (n / PARTICIPANTS) as usize % QUESTIONS));
                runtime.block_on(log.append(events.map(record).collect())).expect("the log is up");
            },
            |_| {
                runtime.block_on(async {
                    drain(&mut grade).await;
                    drain(&mut rank).await;
                });
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
