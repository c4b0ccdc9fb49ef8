//! One seed from its beginning to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mad_turmoil::time::SimClocksGuard;
use rand::SeedableRng;
use rand::rngs::StdRng;
use turmoil::{Builder, Sim};

use crate::plan::{Blow, Bug, GATEWAYS, GRADERS, Plan, RANKERS};
use crate::play::{self, Curtain};
use crate::world::World;
use crate::{cloud, faults, house};

/// A gateway that comes when all is over.
const LATECOMER: &str = "gateway-3";
/// Steps of the simulation: as coarse as the latencies allow, since each costs a little of every host.
const TICK: Duration = Duration::from_millis(10);
/// Everything must be over by then: a hang must fail.
const END: Duration = Duration::from_secs(120);

/// What happened to the cluster.
#[derive(Debug, Default)]
struct Counts {
    crashes: u32,
    partings: u32,
    holds: u32,
}

/// Runs one seed and checks everything.
pub(crate) fn run(seed: u64, bug: Bug) {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clocks = SimClocksGuard::init();
    let world = World::new(Plan::new(seed), bug);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(END)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(30))
        .enable_random_order()
        .build();
    found(&mut sim, &world);
    let curtain = Arc::new(Curtain::default());
    let counts = storm(&mut sim, &world, &curtain);

    let (game, story) = curtain.end.lock().unwrap().clone().expect("the game was played");
    game.check(&story);
    let trace = world.trace.clone();
    sim.host(LATECOMER, {
        let world = world.clone();
        move || house::gateway(world.clone())
    });
    sim.client("historian", play::look_back(world.clone(), LATECOMER, curtain.clone()));
    sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));

    let lost = world.faults.happened().get("lose answer").copied().unwrap_or_default();
    assert!(counts.crashes > 0 && counts.partings > 0 && lost > 0, "{counts:?}, {lost} answers lost");
    let looks = *curtain.looks.lock().unwrap();
    assert!(looks > 0, "nobody saw the leaderboard");
    let (lines, digest) = trace.digest();
    let (books, at) = (&story.books, sim.elapsed());
    println!(
        "seed {seed}: {digest:016x} of {lines} lines in {at:?}; {counts:?}, {lost} answers lost, {looks} looks, \
         {} received, {} repeated, {} late",
        books["received"], books["repeated"], books["late"]
    );
}

/// Starts the services, and makes streams and table.
fn found(sim: &mut Sim<'_>, world: &World) {
    let trace = world.trace.clone();
    sim.host(cloud::KINESIS, {
        let trace = trace.clone();
        move || cloud::kinesis(trace.clone())
    });
    sim.host(cloud::DYNAMODB, {
        let trace = trace.clone();
        move || cloud::dynamodb(trace.clone())
    });
    sim.client("founder", house::found(world.clone()));
    sim.run().unwrap_or_else(|error| panic!("seed {}: {error}", world.plan.seed));
}

/// Starts the cluster, lets players play, and strikes it as planned.
fn storm(sim: &mut Sim<'_>, world: &World, curtain: &Arc<Curtain>) -> Counts {
    for name in GRADERS {
        sim.host(name, {
            let world = world.clone();
            move || house::grader(world.clone())
        });
    }
    for name in RANKERS {
        sim.host(name, {
            let world = world.clone();
            move || house::ranker(world.clone())
        });
    }
    for name in GATEWAYS {
        sim.host(name, {
            let world = world.clone();
            move || house::gateway(world.clone())
        });
    }
    sim.client("hall", play::play(world.clone(), curtain.clone()));
    let (mut began, mut next, mut counts) = (None, 0, Counts::default());
    let blows = &world.plan.blows;
    loop {
        if curtain.is_open.load(Ordering::Acquire) {
            let since = sim.elapsed() - *began.get_or_insert_with(|| sim.elapsed());
            while let Some((_, blow)) = blows.get(next).filter(|(at, _)| *at <= since) {
                strike(sim, world, *blow, &mut counts);
                next += 1;
            }
            if next == blows.len() {
                curtain.is_calm.store(true, Ordering::Release);
            }
        }
        let is_over = sim.step();
        if is_over.unwrap_or_else(|error| panic!("seed {}: {error}", world.plan.seed)) {
            return counts;
        }
    }
}

fn strike(sim: &mut Sim<'_>, world: &World, blow: Blow, counts: &mut Counts) {
    world.trace.say(&format!("{:?} {blow:?}", sim.elapsed()));
    match blow {
        Blow::Crash(host) if sim.is_host_running(host) => {
            sim.crash(host);
            counts.crashes += 1;
        }
        // Down already: it stays so until the first of its restarts.
        Blow::Crash(_) => {}
        Blow::Restart(host) if sim.is_host_running(host) => {}
        Blow::Restart(host) => sim.bounce(host),
        Blow::Part(a, b) => {
            sim.partition(a, b);
            counts.partings += 1;
        }
        Blow::Join(a, b) => sim.repair(a, b),
        Blow::Hold(a, b) => {
            sim.hold(a, b);
            counts.holds += 1;
        }
        Blow::Release(a, b) => sim.release(a, b),
        Blow::LoseAnswer(call) => world.faults.next(call, [faults::Fault::LoseAnswer]),
    }
}
