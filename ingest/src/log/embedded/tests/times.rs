//! Append times when the clock goes back.

use operators::id::UnixMillis;

use super::*;
use crate::log::Log;

/// Writes as if the clock were a day ahead.
struct Ahead(FjallDisk);

const DAY_MS: u64 = 86_400_000;

impl Disk for Ahead {
    fn commit(&mut self, mut records: Vec<Placed>, rows: Vec<RowWrite>) -> Result<(), String> {
        records.iter_mut().for_each(|record| record.append_at = record.append_at.plus(DAY_MS));
        self.0.commit(records, rows)
    }
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.0.row(key)
    }
    fn commits(&self) -> u64 {
        self.0.commits()
    }
}

#[tokio::test]
async fn a_clock_that_went_back_over_a_restart_does_not_take_the_times_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open::open_on(dir.path(), OPTIONS, Duration::from_secs(1), Ahead).unwrap();
    let before = log.append(vec![record(0, "x")]).await.unwrap()[0].append_at.plus(DAY_MS);
    drop(log);
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    let stamps = log.append(vec![record(0, "y"), record(1, "z")]).await.unwrap();
    assert_eq!(stamps[0].append_at, before, "the time stands still until the clock has caught up");
    assert!(stamps[1].append_at < before, "other partitions go by the clock");
    assert_eq!(log.append(vec![record(0, "y")]).await.unwrap()[0].append_at, before);
}

#[test]
fn a_clock_that_goes_back_while_running_does_not_take_the_times_back() {
    let mut ends = std::collections::HashMap::new();
    let mut times = Vec::new();
    for now in [50, 70, 60, 10, 70, 71] {
        let stamps =
            super::super::committer::place(&mut ends, &mut Vec::new(), vec![record(0, "x")], UnixMillis(now));
        times.push(stamps[0].append_at.0);
    }
    assert_eq!(times, [50, 70, 70, 70, 70, 71]);
}
