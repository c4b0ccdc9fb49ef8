//! What all hosts of one seed share: its plan, its faults, and a trace of everything that was said.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hyper::StatusCode;

use crate::faults::Faults;
use crate::plan::{Bug, Plan};

/// Everything that was answered in a seed, as one number and, if asked for, as text.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Digest>>);

struct Digest {
    hash: u64,
    count: u64,
    is_told: bool,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let is_told = std::env::var_os("PODIUM_SIM_TURMOIL_TRACE").is_some();
        Self(Arc::new(Mutex::new(Digest { hash: 0xcbf2_9ce4_8422_2325, count: 0, is_told })))
    }

    /// Notes what was answered, and when.
    pub(crate) fn note(&self, what: &str, status: StatusCode, body: &[u8]) {
        let mut line = String::new();
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let body = String::from_utf8_lossy(body);
        write!(line, "{at:?} {what} {status} {body}").unwrap();
        self.say(&line);
    }

    /// Notes a line.
    pub(crate) fn say(&self, line: &str) {
        let mut digest = self.0.lock().unwrap();
        // FNV-1a.
        digest.hash = line
            .bytes()
            .fold(digest.hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        digest.count += 1;
        if digest.is_told {
            println!("{line}");
        }
    }

    /// Returns the number of lines and the number that stands for them all.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let digest = self.0.lock().unwrap();
        (digest.count, digest.hash)
    }
}

/// One seed's world. Clones share everything.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) bug: Bug,
    /// On every call to AWS of every host.
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    lives: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new(plan: Plan, bug: Bug) -> Self {
        let faults = Faults::new(plan.seed);
        Self { plan: Arc::new(plan), bug, faults, trace: Trace::new(), lives: Arc::default() }
    }

    /// Returns a number that no other run of any host has.
    pub(crate) fn life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }
}
