//! The whole cluster in turmoil: real gateways, graders and rankers over the real AWS clients on a simulated network,
//! where hosts crash, part and lose answers, while players play.
//!
//! Time and chance are those of the simulation for everything in the process, also for the standard library, so that a
//! seed always goes the same way. That is why this is a program of its own, apart from the other tests: in it clocks
//! stand still outside a simulation, and the usual harness would wait for them in a loop. One seed takes one process.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod bugs;
mod cloud;
#[path = "../it/doubles.rs"]
#[allow(dead_code, reason = "what starts them on a real network is not used here")]
mod doubles;
#[path = "../../../ingest/tests/it/faults.rs"]
mod faults;
mod house;
mod model;
mod net;
mod plan;
mod play;
mod seed;
mod shelf;
mod world;

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cloud::KINESIS;
use plan::{Blow, Bug, GATEWAYS, GRADERS, Plan};

/// Seeds of a run, unless `PODIUM_SIM_TURMOIL_SEEDS` says otherwise.
const SEEDS: u64 = 300;
/// Seeds that are run twice.
const REPEATED: u64 = 10;
/// Seeds that are run with each mistake.
const WITH_MISTAKE: usize = 12;
/// Mistakes, and what is said at least once of each, as it shows in more than one way.
const MISTAKES: [(&str, &str); 3] =
    [("hasty-gateway", "acknowledged and lost"), ("late-effects", ""), ("half-commit", "")];
/// Processes at once.
const CHILDREN: usize = 2;

/// How a seed went.
#[derive(Debug)]
struct Outcome {
    seed: u64,
    ended_well: bool,
    said: String,
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.ended_well && self.told().is_some()
    }

    /// Returns the line that a seed ends with.
    fn told(&self) -> Option<&str> {
        self.said.lines().find(|line| line.starts_with("seed "))
    }
}

/// Runs seeds, each in a process of its own.
fn run(seeds: impl Iterator<Item = u64>, bug: &str) -> Vec<Outcome> {
    // Tests of one program run at the same time; their processes do not.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CHILDREN {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let outcome = child(*seed, bug);
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

fn child(seed: u64, bug: &str) -> Outcome {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("one_seed")
        .env("PODIUM_SIM_TURMOIL_SEED", seed.to_string())
        .env("PODIUM_SIM_TURMOIL_BUG", bug);
    let output = command.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Outcome { seed, ended_well: output.status.success(), said }
}

/// Every seed ends as it must.
fn seeds() {
    let count = std::env::var("PODIUM_SIM_TURMOIL_SEEDS").ok();
    let count = count.map_or(SEEDS, |count| count.parse().expect("PODIUM_SIM_TURMOIL_SEEDS is a number"));
    let outcomes = run(1..=count, "");
    assert_eq!(outcomes.len() as u64, count);
    let bad: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_good()).collect();
    let Some(first) = bad.first() else { return };
    let all: Vec<u64> = bad.iter().map(|outcome| outcome.seed).collect();
    panic!(
        "{}\nseeds {all:?} of {count} failed; the first said the above. Again:\n\
         PODIUM_SIM_TURMOIL_SEED={} cargo test -p pipeline --features cluster --test turmoil -- one_seed",
        first.said, first.seed
    );
}

/// The same seed goes the same way: everything that was answered, and when.
fn a_seed_repeats() {
    let [once, twice] = [(); 2].map(|()| run(1..=REPEATED, ""));
    for (once, twice) in once.iter().zip(&twice) {
        assert_eq!(once.told(), twice.told());
        assert!(once.told().is_some(), "{}", once.said);
    }
}

/// A mistake in the cluster is found by seeds that bring about what it is a mistake in.
fn mistakes_are_found() {
    for (bug, complaint) in MISTAKES {
        let is_fit = |seed: &u64| {
            Plan::new(*seed).blows.iter().any(|(_, blow)| match (Bug::named(bug), blow) {
                (Bug::HastyGateway, Blow::Part(host, KINESIS)) => GATEWAYS.contains(host),
                (Bug::LateEffects, Blow::Crash(host)) => GRADERS.contains(host),
                (Bug::HalfCommit, _) => true,
                _ => false,
            })
        };
        let outcomes = run((1..).filter(is_fit).take(WITH_MISTAKE), bug);
        let bad: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_good()).collect();
        let named = bad.iter().filter(|outcome| outcome.said.contains(complaint)).count();
        println!("{bug}: found by {} of {WITH_MISTAKE} seeds, {named} times as \"{complaint}\"", bad.len());
        assert!(named > 0, "no seed found {bug}");
    }
}

/// The seed that `PODIUM_SIM_TURMOIL_SEED` names. The other tests start it; by itself, without a seed, it does nothing.
fn one_seed() {
    let Ok(seed) = std::env::var("PODIUM_SIM_TURMOIL_SEED") else { return };
    let bug = std::env::var("PODIUM_SIM_TURMOIL_BUG").unwrap_or_default();
    seed::run(seed.parse().expect("PODIUM_SIM_TURMOIL_SEED is a number"), Bug::named(&bug));
}

/// All tests of this program.
const TESTS: [(&str, fn()); 4] = [
    ("seeds", seeds),
    ("a_seed_repeats", a_seed_repeats),
    ("mistakes_are_found", mistakes_are_found),
    ("one_seed", one_seed),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = TESTS.iter().filter(|(name, _)| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    });
    let mut code = ExitCode::SUCCESS;
    for (name, test) in chosen {
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
            continue;
        }
        let is_good = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if is_good { "ok" } else { "FAILED" });
        if !is_good {
            code = ExitCode::FAILURE;
        }
    }
    code
}
