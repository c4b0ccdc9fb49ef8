//! Seeds of the simulated cluster: what must hold holds, and planted bugs are caught.

use super::table::Bug;
use super::world::World;

/// Simulated time with faults, time to settle, time in which nothing may move any more.
const PHASES_MS: (u64, u64, u64) = (100_000, 90_000, 30_000);
/// Seeds of one run; a bug in the planner shows within a few.
const SEEDS: u64 = 200;

/// Runs one seed; returns what happened.
fn run(seed: u64, bug: Bug) -> Result<Vec<String>, String> {
    let (faults, settling, quiet) = PHASES_MS;
    let mut world = World::new(seed, bug);
    while world.now_ms < faults {
        world.step()?;
    }
    world.calm();
    while world.now_ms < faults + settling {
        world.step()?;
    }
    world.is_settled().map_err(|fault| format!("{fault} after {settling} ms without a fault"))?;
    let takes = world.takes;
    while world.now_ms < faults + settling + quiet {
        world.step()?;
    }
    if world.takes != takes {
        return Err(format!("{} leases changed hands for nothing", world.takes - takes));
    }
    world.is_settled()?;
    Ok(world.trace)
}

fn caught(bug: Bug) {
    let caught = (0..SEEDS).find_map(|seed| Some((seed, run(seed, bug).err()?)));
    let Some((seed, fault)) = caught else { panic!("{bug:?} went unnoticed in {SEEDS} seeds") };
    println!("{bug:?} is caught by seed {seed}: {fault}");
}

#[test]
fn every_lease_finds_one_owner_whatever_happens_to_workers_and_shards() {
    let seeds = std::env::var("PODIUM_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let mut takes = 0;
    for seed in 0..seeds {
        match run(seed, Bug::None) {
            Ok(trace) => takes += trace.len(),
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
    assert!(takes > 10 * SEEDS as usize, "the runs are too quiet to show anything: {takes}");
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    for seed in 0..5 {
        assert_eq!(run(seed, Bug::None), run(seed, Bug::None));
    }
}

#[test]
fn an_epoch_that_does_not_rise_is_caught() {
    caught(Bug::NoEpochRaise);
}

#[test]
fn a_take_without_a_condition_is_caught() {
    caught(Bug::NoCondition);
}

#[test]
fn a_child_before_its_parent_is_caught() {
    caught(Bug::ChildBeforeParent);
}

#[test]
fn expiry_by_the_clock_of_the_owner_is_caught() {
    caught(Bug::WallClock);
}

#[test]
fn an_owner_that_goes_on_without_renewing_is_caught() {
    caught(Bug::EndlessBelief);
}

#[test]
fn stealing_back_and_forth_is_caught() {
    caught(Bug::PingPong);
}

#[test]
fn a_renewal_that_is_taken_for_done_without_being_written_is_caught() {
    caught(Bug::StillRenewal);
}
