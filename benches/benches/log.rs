//! The embedded log: one durable append alone, and five hundred at once.

use std::hint::black_box;
use std::time::Duration;

use benches::{answer, quiz};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ingest::codec;
use ingest::log::embedded::{Embedded, Options};
use ingest::log::{Log, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::Envelope;

fn log(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = Embedded::open(dir.path(), Options { partitions: 4 }).expect("an empty directory opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let envelope = Envelope { quiz: quiz(), section: 0, event: answer(1, 1) };
    let payload = codec::encode_envelope(&envelope).expect("an answer is small");
    let record = Record { stream: Stream::Submissions, partition: PartitionId(0), payload };
    let mut group = c.benchmark_group("log");
    for count in [1usize, 500] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("append_durable_{count}"), |b| {
            b.iter(|| runtime.block_on(log.append(vec![record.clone(); count])).expect("the log is up"));
        });
    }
    let limits = ReadLimits { records_max: 500, bytes_max: 1 << 20, wait: Duration::ZERO };
    runtime.block_on(log.append(vec![record; 500])).expect("the log is up");
    group.bench_function("read_500", |b| {
        b.iter(|| {
            let read = log.read(Stream::Submissions, PartitionId(0), black_box(None), limits);
            runtime.block_on(read).expect("the log is up").records.len()
        });
    });
    group.finish();
}

criterion_group!(benches, log);
criterion_main!(benches);
