//! Simulation, ring (a): the real runner and operators on a simulated log and store, driven by an own seeded scheduler.
//!
//! One seed is one run: up to three quizzes, their hosts and players, two gateways with clocks that are off, and two
//! workers for every unit. Calls are lost, answered late or never, carried out twice, in part, or long after the caller
//! gave up; workers crash, and in every seed one sleeps in the midst of a commit until another has its unit.
//!
//! Nearly half of the seeds are a [`cluster`]: two processes for each stage share shards that split and merge, store at
//! intervals and tell how far they are by pulses and beats; the log's clock goes back by milliseconds, and the gateways
//! are the real copies of what is stored.
//!
//! | invariant | check |
//! |---|---|
//! | I1, C17 | [`checks`] `acknowledged` |
//! | I2, I4 | [`checks`] `ranking`: stored rows = fold of the log = [`oracle`] |
//! | I3 | [`checks`] `counted_were_handed_in` |
//! | I5 | [`checks`] `same_identity_same_bytes`; pages: [`disk`] |
//! | I6, I7 | [`ledger`] `row` and `header`, at every move of a header |
//! | I9 | [`checks`] `final_is_final` |
//! | I10 | [`checks`] `dead_letters` |
//! | I11 | [`run`]: everything is applied and sealed within a bound after the faults stop |
//! | I12 | [`checks`] `books` |
//! | I13 | [`checks`] `verdicts` |
//! | I14 | [`handles`] `batch`, at every read of a shard |
//! | I15 | [`checks`] `check` |
//! | I16 | [`checks`] `replays` |
//! | I18 | [`ledger`] `board` and `showed`, at every look of a reader |
//! | C17, I21: no view is older than it says | [`checks`] `ages` |
//!
//! `PODIUM_SIM_SEEDS` sets the number of seeds, `PODIUM_SIM_SEED` runs one with its trace, `PODIUM_SIM_MUTANT_SEEDS`
//! counts how many of so many seeds catch each planted bug ([`mutants`]), `PODIUM_SIM_MUTANT` names one of them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ingest::codec::{self, Decoded};
use operators::effect::{Phase, Tally};
use operators::id::Position;
use pipeline::store::{Stage, Unit};

mod calls;
mod checks;
mod cluster;
mod disk;
mod executor;
mod gateway;
mod handles;
mod ledger;
mod mutants;
mod oblivion;
mod oracle;
mod plan;
mod play;
mod workers;
mod world;

use checks::Census;
use executor::{Ended, Executor, Kind};
use ledger::{Faults, Violation};
use mutants::Mutant;
use oblivion::leftovers;
use plan::{KEEP_MS, Machine, PROCESSES, Plan, Setup};
use world::{Shared, World};

/// Steps that the people may take; a run has about ten thousand.
const STEPS_MAX: u64 = 200_000;
/// Virtual time that the people may take.
const PLAY_MS_MAX: u64 = 240_000;
/// I11: virtual time from the last fault until nothing is left to do: the longest pause, lease, back-off and grace.
const SETTLE_MS_MAX: u64 = 20_000;
/// Virtual time until everything that was appended is read by somebody.
const SETTLED_MS_MIN: u64 = 3_000;

/// What a run gave.
struct Report {
    violations: Vec<Violation>,
    hash: u64,
    faults: Faults,
    census: Census,
    steps: u64,
    ms: u64,
    trace: Vec<String>,
}

/// Runs one seed to its end.
fn run(setup: Setup, trace: bool) -> Report {
    let plan = Arc::new(Plan::new(setup));
    let world = Shared::new(World::new(plan.clone(), trace));
    let mut executor = Executor::new(world.clone(), revive);
    let workers: Vec<Kind> = if plan.is_cluster {
        (0..PROCESSES).map(Kind::Process).collect()
    } else {
        (0..2 * plan.units().len()).map(Kind::Worker).collect()
    };
    for kind in workers {
        executor.spawn(kind, revive(&world, kind));
    }
    for number in 0..=plan.gateways.len() {
        executor.spawn(Kind::Reader(number), revive(&world, Kind::Reader(number)));
    }
    for (quiz, planned) in plan.quizzes.iter().enumerate() {
        executor.spawn(Kind::Play, Box::pin(play::host(world.clone(), quiz)));
        for number in 0..planned.participants.len() {
            executor.spawn(Kind::Play, Box::pin(play::player(world.clone(), quiz, number)));
        }
    }
    executor.spawn(Kind::Play, Box::pin(play::vandal(world.clone())));
    if plan.is_cluster {
        executor.spawn(Kind::Play, Box::pin(play::resharder(world.clone())));
    }

    let mut ended = executor.run(STEPS_MAX, PLAY_MS_MAX, Executor::played);
    let calm_at = world.lock().now;
    world.lock().calm = true;
    if ended == Ended::Done {
        // A worker of a cluster has read what is dead by then, and nobody waits for that.
        let rest_ms = if plan.is_cluster { SETTLED_MS_MIN } else { 0 };
        ended = executor.run(STEPS_MAX, calm_at + SETTLE_MS_MAX, |_| {
            let world = world.lock();
            world.now >= calm_at + rest_ms && world.is_settled()
        });
    }
    if ended == Ended::Stuck {
        let mut world = world.lock();
        let (now, left) = (world.now, world.left_to_do());
        let detail = format!("at {now} ms, quiet since {calm_at} ms, not settled: {left:?}");
        world.ledger.violated("I11", detail);
    }
    let mut census = checks::check(&mut world.lock(), ended);
    if plan.keep.is_some() && ended == Ended::Done {
        forget(&mut executor, &world);
        census.forgotten = plan.quizzes.len() as u64;
    }
    let steps = executor.steps();
    drop(executor);
    let mut world = world.lock();
    let hash = world.digest();
    Report {
        violations: world.ledger.violations().to_vec(),
        hash,
        faults: world.ledger.faults,
        census,
        steps,
        ms: world.now,
        trace: std::mem::take(&mut world.trace.lines),
    }
}

/// Lets the time pass for which quizzes are kept, and sees that nothing is left of them.
fn forget(executor: &mut Executor, world: &Shared) {
    // Leases run out meanwhile, as if the whole house had slept, and things go wrong once more for a while.
    let woken_at = {
        let mut world = world.lock();
        world.now += KEEP_MS;
        world.calm = false;
        world.now
    };
    let is_due = |world: &World| world.now >= woken_at + SETTLED_MS_MIN;
    let _ = executor.run(STEPS_MAX, woken_at + SETTLED_MS_MIN, |_| is_due(&world.lock()));
    world.lock().calm = true;
    let until = woken_at + SETTLED_MS_MIN + SETTLE_MS_MAX;
    let ended = executor.run(STEPS_MAX, until, |_| world.lock().is_forgotten());
    if ended == Ended::Stuck {
        let mut world = world.lock();
        let left = leftovers(&world.disk, &world.plan);
        world.ledger.violated("I11", format!("not forgotten: {left:?}"));
    }
}

fn revive(world: &Shared, kind: Kind) -> Pin<Box<dyn Future<Output = ()>>> {
    let graded = world.lock().graded.clone();
    let plan = world.lock().plan.clone();
    match kind {
        Kind::Worker(number) => workers::worker(world, number, graded),
        Kind::Process(number) => cluster::process::process(world, number),
        Kind::Reader(number) if number == plan.gateways.len() => Box::pin(gateway::watcher(world.clone())),
        Kind::Reader(number) if plan.is_cluster => Box::pin(cluster::copies::follower(world.clone(), number)),
        Kind::Reader(number) => Box::pin(gateway::reader(world.clone(), number, graded)),
        Kind::Part(_) => unreachable!("what goes on in a process is started by it"),
        Kind::Play => unreachable!("people do not crash"),
    }
}

impl World {
    /// Tells whether every record is applied and every quiz final.
    fn is_settled(&self) -> bool {
        let over = |quiz: &plan::QuizPlan| {
            let seen = self.views[0].quiz(&quiz.id);
            seen.is_some_and(|(_, view)| view.is_final && view.status.phase == Phase::Closed)
        };
        let applied = |unit| self.disk.header(unit).position >= self.last(unit);
        !self.is_writing() && self.plan.quizzes.iter().all(over) && self.plan.units().into_iter().all(applied)
    }

    /// Tells whether nobody is shown any quiz, and every record is applied.
    fn is_forgotten(&self) -> bool {
        let applied = |unit| self.disk.header(unit).position >= self.last(unit);
        let hidden = |quiz: &plan::QuizPlan| self.views.iter().all(|view| view.quiz(&quiz.id).is_none());
        // The dearest last.
        !self.is_writing()
            && self.plan.units().into_iter().all(applied)
            && self.plan.quizzes.iter().all(hidden)
            && leftovers(&self.disk, &self.plan).is_empty()
    }

    /// Returns the last record that a unit has to apply and store. A cluster does not hurry to store where pulses were
    /// read, nor what is dead.
    fn last(&self, unit: Unit) -> Option<Position> {
        let is_event = |payload: &[u8]| match unit.stage {
            Stage::Grade => matches!(codec::decode_submission(payload), Ok(Decoded::Event(_))),
            Stage::Rank => matches!(codec::decode_standings(payload), Ok(Decoded::Event(_))),
        };
        let mut records = self.disk.stream(unit.stage.input(), unit.partition).iter().rev();
        let last = records.find(|record| !self.plan.is_cluster || is_event(&record.payload));
        last.map(|record| record.stamp.position)
    }

    /// Returns what is not done, in words.
    fn left_to_do(&self) -> Vec<String> {
        let mut left = Vec::new();
        for unit in self.plan.units() {
            let last = self.last(unit);
            let header = self.disk.header(unit);
            if header.position < last {
                left.push(format!("{unit:?} is at {header:?} of {last:?}"));
            }
        }
        for quiz in &self.plan.quizzes {
            let seen = self.views[0].quiz(&quiz.id);
            left.extend(
                seen.map(|(_, view)| format!("{}: final {}, {:?}", quiz.id, view.is_final, view.status)),
            );
        }
        left
    }

    /// Returns a digest of everything that happened and of everything that is stored.
    fn digest(&mut self) -> u64 {
        let Self { trace, disk, .. } = self;
        for (stream, partition, record) in disk.streams() {
            trace.bytes(stream.name().as_bytes());
            trace.bytes(&partition.0.to_be_bytes());
            trace.bytes(&record.stamp.append_at.0.to_be_bytes());
            trace.bytes(&record.payload);
        }
        for stored in disk.units().values() {
            trace.bytes(&stored.header.epoch.to_be_bytes());
            for (key, value) in &stored.rows {
                trace.bytes(key);
                trace.bytes(value);
            }
        }
        trace.hash()
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Panics with everything that is needed to see the failure again.
fn fail(setup: Setup, report: &Report) -> ! {
    let again = run(setup, true);
    let from = again.trace.len().saturating_sub(60);
    for line in &again.trace[from..] {
        eprintln!("{line}");
    }
    for Violation { check, detail } in &report.violations {
        eprintln!("{check}: {detail}");
    }
    let seed = setup.seed;
    panic!("seed {seed}: PODIUM_SIM_SEED={seed} cargo test -p pipeline --test it sim::seeds -- --nocapture");
}

#[test]
fn seeds_keep_every_invariant() {
    if let Some(seed) = setting("PODIUM_SIM_SEED") {
        let setup = Setup::new(seed);
        let report = run(setup, true);
        report.trace.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("{:#?}", Plan::new(setup));
        if !report.violations.is_empty() {
            fail(setup, &report);
        }
        return;
    }
    let seeds = setting("PODIUM_SIM_SEEDS").unwrap_or(2_000);
    let (mut faults, mut steps, mut census) = (Faults::default(), 0, Census::default());
    let mut longest = (0, 0);
    for (seed, report) in side_by_side(seeds, Until::Violated, |seed| run(Setup::new(seed), false)) {
        if !report.violations.is_empty() {
            fail(Setup::new(seed), &report);
        }
        assert!(report.faults.zombies > 0, "seed {seed} has no zombie");
        faults.add(&report.faults);
        steps += report.steps;
        longest = longest.max((report.ms, report.steps));
        census.add(&report.census);
    }
    println!("{seeds} seeds, {steps} steps, the longest {longest:?}\n{faults:#?}\n{census:#?}");
    if seeds >= 1_000 {
        happened(seeds, &faults, &census);
    }
}

/// How far to run seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// All of them.
    Done,
    /// Up to the first with a violation.
    Violated,
}

/// Runs seeds on all cores, and returns their reports by seed.
fn side_by_side(seeds: u64, until: Until, run: impl Fn(u64) -> Report + Sync) -> BTreeMap<u64, Report> {
    let next = AtomicU64::new(0);
    let end = AtomicU64::new(seeds);
    let reports = Mutex::new(BTreeMap::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end.load(Ordering::Relaxed) {
            return;
        }
        let report = run(seed);
        if until == Until::Violated && !report.violations.is_empty() {
            end.fetch_min(seed + 1, Ordering::Relaxed);
        }
        reports.lock().expect("a panic ends the test").insert(seed, report);
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 1..cores {
            scope.spawn(work);
        }
        work();
    });
    let mut reports = reports.into_inner().expect("a panic ends the test");
    reports.retain(|seed, _| *seed < end.load(Ordering::Relaxed));
    reports
}

/// Seeds in which nothing happens would prove nothing: every kind of fault and of verdict must have been there.
fn happened(seeds: u64, faults: &Faults, census: &Census) {
    let Faults { lost, mute, late, twice, partial, slow, crashes, outages, take_overs, .. } = *faults;
    for count in [lost, mute, late, twice, partial, slow, crashes, take_overs, faults.zombies] {
        assert!(count >= seeds, "{faults:#?}");
    }
    for count in [outages, faults.zombie_effects, faults.fenced, faults.poison, faults.stale_views] {
        assert!(count >= seeds / 4, "{faults:#?}");
    }
    assert!(faults.refused >= seeds / 4 && faults.unacknowledged >= seeds / 20, "{faults:#?}");
    let Tally { counted, repeated, late, too_early, rejected: [_, question, shape, stranger] } =
        census.answers;
    for count in [counted, repeated, late, too_early, question, shape, stranger, census.repeats] {
        assert!(count >= seeds / 4, "{census:#?}");
    }
    assert!(census.overruled >= seeds / 50 && census.forgotten >= seeds / 4, "{census:#?}");
    // What only clusters have, which are less than half of the seeds.
    let Faults { reshards, leases, finished, .. } = *faults;
    assert!(reshards >= seeds / 2 && leases >= seeds && finished >= seeds / 2, "{faults:#?}");
}

#[test]
fn one_seed_run_twice_is_the_same_to_the_byte() {
    for seed in 0..30 {
        let [first, second] = [(), ()].map(|()| run(Setup::new(seed), false));
        assert_eq!((first.hash, first.steps), (second.hash, second.steps), "seed {seed}");
    }
}

#[test]
fn nothing_goes_wrong_where_nothing_goes_wrong() {
    for seed in 0..20 {
        let setup = Setup { faults: false, ..Setup::new(seed) };
        let report = run(setup, false);
        if !report.violations.is_empty() {
            fail(setup, &report);
        }
        assert_eq!(report.faults.crashes + report.faults.zombie_effects + report.faults.fenced, 0);
    }
}

#[test]
fn every_planted_bug_is_caught() {
    // More than enough for the rarest; a bug is sought until it is found.
    const SEEDS_MAX: u64 = 500;
    let counted = setting("PODIUM_SIM_MUTANT_SEEDS");
    let mut missed = Vec::new();
    println!("| planted bug | seeds that caught it | first | checks |\n|---|---|---|---|");
    let only = std::env::var("PODIUM_SIM_MUTANT").ok();
    for mutant in Mutant::ALL {
        if only.as_ref().is_some_and(|only| *only != format!("{mutant:?}")) {
            continue;
        }
        let bent = |seed| {
            run(Setup { mutant: Some(mutant), machine: Some(Machine::Cluster), ..Setup::new(seed) }, false)
        };
        let reports = match counted {
            Some(seeds) => side_by_side(seeds, Until::Done, bent),
            None => side_by_side(SEEDS_MAX, Until::Violated, bent),
        };
        let tried = reports.len();
        let catching = reports.into_iter().filter(|(_, report)| !report.violations.is_empty());
        let (mut caught, mut first) = (0, None);
        let mut checks = std::collections::BTreeSet::new();
        for (seed, report) in catching {
            caught += 1;
            first.get_or_insert(seed);
            checks.extend(report.violations.iter().map(|violation| violation.check));
        }
        println!("| {mutant:?} | {caught} of {tried} | {first:?} | {checks:?} |");
        match first {
            Some(seed) => clean_without(Setup { machine: Some(Machine::Cluster), ..Setup::new(seed) }),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// It is the bug that is caught: the same run without it is clean.
fn clean_without(setup: Setup) {
    let report = run(setup, false);
    if !report.violations.is_empty() {
        fail(setup, &report);
    }
}

/// The bugs that need no commit in several writes must show with the embedded store's single one as well.
#[test]
fn planted_bugs_are_caught_where_a_commit_is_one_write() {
    const SEEDS_MAX: u64 = 500;
    for mutant in Mutant::WITHOUT_PARTS {
        let caught = (0..SEEDS_MAX).find(|&seed| {
            let setup = Setup { mutant: Some(mutant), machine: Some(Machine::Embedded), ..Setup::new(seed) };
            !run(setup, false).violations.is_empty()
        });
        println!("{mutant:?} is caught by seed {caught:?}");
        let Some(seed) = caught else { panic!("{mutant:?} is not caught") };
        clean_without(Setup { machine: Some(Machine::Embedded), ..Setup::new(seed) });
    }
}
