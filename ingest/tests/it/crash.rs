//! The embedded log in a process that is killed: everything acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ingest::log::embedded::{Embedded, OpenError, Options};
use ingest::log::{Log, Stream};
use ingest::partition::PartitionId;

use crate::support::{ALL, Random, read_all, record};

const DIR: &str = "PODIUM_TEST_CRASH_DIR";
const SEED: &str = "PODIUM_TEST_CRASH_SEED";
pub(crate) const OPTIONS: Options = Options { partitions: 2 };

/// Returns what record `number` of a run holds: sizes of none to several chunks, content told by seed and number.
fn payload(seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let size = [8, 60, 300, 4_000, 20_000][random.below(5)];
    let mut bytes = [seed.to_be_bytes(), number.to_be_bytes()].concat();
    bytes.extend((0..size).map(|_| random.below(256) as u8));
    bytes
}

/// The process that is killed: four appenders, each writing the stamps that it was given to standard output. As a test
/// of its own it does nothing.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Embedded::open(Path::new(&dir), OPTIONS).unwrap();
        // On a line of its own, behind what the test harness has written.
        println!("\nopen");
        let appenders = (0..4u64).map(|who| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut random = Random(seed ^ (who << 32));
                for call in 0u64.. {
                    let numbers: Vec<u64> =
                        (0..1 + random.below(6) as u64).map(|n| who << 48 | call << 8 | n).collect();
                    let places: Vec<u16> = numbers.iter().map(|_| random.below(2) as u16).collect();
                    let records = numbers.iter().zip(&places);
                    let records =
                        records.map(|(&n, &p)| record(Stream::Submissions, p, payload(seed, n))).collect();
                    let stamps = log.append(records).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    for ((number, partition), stamp) in numbers.iter().zip(places).zip(stamps) {
                        let offset = stamp.position.offset().unwrap();
                        writeln!(out, "ack {partition} {offset} {} {number}", stamp.append_at.0).unwrap();
                    }
                    out.flush().unwrap();
                }
            })
        });
        futures::future::join_all(appenders).await;
    });
}

/// A running child.
pub(crate) struct Appender {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    seed: u64,
}

/// What was acknowledged, by partition and offset: append time and payload.
pub(crate) type Acknowledged = BTreeMap<(u16, u64), (u64, Vec<u8>)>;

impl Appender {
    /// Starts a child and waits until it has opened the directory.
    pub(crate) fn start(dir: &Path, seed: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crash::child", "--nocapture"]).env(DIR, dir).env(SEED, seed.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let opened = lines.by_ref().map(|line| line.unwrap()).any(|line| line == "open");
        assert!(opened, "the child opens the directory");
        Self { child, lines, seed }
    }

    /// Kills the child after it has reported `count` records; adds all that it reported.
    pub(crate) fn kill_after(mut self, count: usize, acknowledged: &mut Acknowledged) {
        for _ in 0..count {
            let line = self.lines.next().expect("the child goes on").unwrap();
            note(self.seed, &line, acknowledged);
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for line in self.lines {
            note(self.seed, &line.unwrap(), acknowledged);
        }
    }
}

fn note(seed: u64, line: &str, acknowledged: &mut Acknowledged) {
    let words: Vec<&str> = line.split(' ').collect();
    // The kill may cut the last line: nothing was promised with it.
    let ["ack", partition, offset, at, number] = *words else { return };
    let (Ok(partition), Ok(offset), Ok(at), Ok(number)) =
        (partition.parse(), offset.parse(), at.parse(), number.parse())
    else {
        return;
    };
    let old = acknowledged.insert((partition, offset), (at, payload(seed, number)));
    assert!(old.is_none(), "partition {partition} gave offset {offset} twice");
}

#[test]
fn everything_acknowledged_survives_kills_at_random() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(1);
    let mut acknowledged = Acknowledged::new();
    for round in 0..12 {
        // A child that reports nothing yet is killed in its first commits.
        let count = [0, 1, 30, 300, 1_000][random.below(5)] + random.below(10);
        Appender::start(dir.path(), round).kill_after(count, &mut acknowledged);
        let log = Embedded::open(dir.path(), OPTIONS).unwrap();
        runtime.block_on(check(&log, &acknowledged));
    }
    assert!(acknowledged.len() > 1_000, "{} records say little", acknowledged.len());
}

async fn check(log: &Embedded, acknowledged: &Acknowledged) {
    for partition in 0..2 {
        let records = read_all(log, Stream::Submissions, partition, None, ALL).await;
        assert_eq!(log.next_offset(Stream::Submissions, PartitionId(partition)), records.len() as u64);
        for (record, offset) in records.iter().zip(0u64..) {
            assert_eq!(record.stamp.position.offset(), Some(offset));
            if let Some((at, payload)) = acknowledged.get(&(partition, offset)) {
                assert!(
                    record.payload == payload && record.stamp.append_at.0 == *at,
                    "offset {offset} holds another"
                );
            }
        }
        assert!(records.is_sorted_by_key(|record| record.stamp.append_at));
        let mine = acknowledged.range((partition, 0)..(partition + 1, 0));
        let end = mine.last().map_or(0, |((_, offset), _)| offset + 1);
        assert!(
            records.len() as u64 >= end,
            "partition {partition} ends at {}, acknowledged {end}",
            records.len()
        );
    }
}

#[test]
fn a_directory_of_another_process_is_refused_until_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let child = Appender::start(dir.path(), 7);
    let error = Embedded::open(dir.path(), OPTIONS).err().unwrap();
    assert!(matches!(&error, OpenError::InUse(path) if path == dir.path()), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("in use by another process") && text.contains(dir.path().to_str().unwrap()),
        "{text}"
    );
    child.kill_after(10, &mut Acknowledged::new());
    assert!(Embedded::open(dir.path(), OPTIONS).is_ok());
}
