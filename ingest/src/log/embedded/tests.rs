//! What only the embedded log promises, with its disk in the test's hands.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;

use super::disk::{Disk, FjallDisk, Placed};
use super::{Embedded, Options, RowWrite, Write, open};
use crate::log::{Record, Stream};
use crate::partition::PartitionId;

mod conditions;
mod directory;
mod faults;
mod rows;
mod times;

const OPTIONS: Options = Options { partitions: 2 };

fn record(partition: u16, payload: &'static str) -> Record {
    let payload = Bytes::from_static(payload.as_bytes());
    Record { stream: Stream::Submissions, partition: PartitionId(partition), payload }
}

fn row(key: &str, value: Option<&str>) -> RowWrite {
    (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
}

fn put(key: &str, value: &str) -> Write {
    Write { rows: vec![row(key, Some(value))], ..Write::default() }
}

/// What a commit does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It works.
    None,
    /// Nothing reaches the disk.
    Lost,
    /// Everything reaches the disk, but it says otherwise.
    Written,
}

/// A disk that stops before each commit until the test lets it go on, and then does as it is told.
struct Gated {
    disk: FjallDisk,
    entered: mpsc::Sender<()>,
    told: mpsc::Receiver<Fault>,
}

impl Disk for Gated {
    fn commit(&mut self, records: Vec<Placed>, rows: Vec<RowWrite>) -> Result<(), String> {
        let _ = self.entered.send(());
        // Without anyone to tell, as at the end of a test, it works.
        match self.told.recv().unwrap_or(Fault::None) {
            Fault::None => self.disk.commit(records, rows),
            Fault::Lost => Err("input/output error".into()),
            Fault::Written => {
                self.disk.commit(records, rows)?;
                Err("input/output error".into())
            }
        }
    }
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.disk.row(key)
    }
    fn commits(&self) -> u64 {
        self.disk.commits()
    }
}

/// The test's side of a [`Gated`] disk.
struct Gate {
    entered: mpsc::Receiver<()>,
    tell: mpsc::Sender<Fault>,
}

impl Gate {
    /// Opens a directory whose commits wait for [`Gate::pass`].
    fn open(dir: &std::path::Path) -> (Embedded, Self) {
        let (entering, entered) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let gated = |disk| Gated { disk, entered: entering, told };
        let log = open::open_on(dir, OPTIONS, Duration::from_secs(1), gated).unwrap();
        (log, Self { entered, tell })
    }

    /// Waits until a commit has begun: what is written from here on is in a later one.
    fn entered(&self) {
        self.entered.recv().unwrap();
    }

    /// Lets one commit go on.
    fn pass(&self, fault: Fault) {
        self.tell.send(fault).unwrap();
    }
}

/// A disk that fails from a given commit on for one time, as a disk whose second sync succeeds falsely.
struct FailsOnce {
    disk: FjallDisk,
    fault: Arc<Mutex<Fault>>,
}

impl Disk for FailsOnce {
    fn commit(&mut self, records: Vec<Placed>, rows: Vec<RowWrite>) -> Result<(), String> {
        let fault = std::mem::replace(&mut *self.fault.lock().unwrap(), Fault::None);
        if fault != Fault::Lost {
            self.disk.commit(records, rows)?;
        }
        if fault == Fault::None { Ok(()) } else { Err("input/output error".into()) }
    }
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.disk.row(key)
    }
    fn commits(&self) -> u64 {
        self.disk.commits()
    }
}
