//! Calls over the network: lost, answered late or never, carried out twice, in part, or long after the caller gave up.

use pipeline::store::Unit;

use super::disk::{Done, Write};
use super::world::{Shared, World};

/// Who calls: what may happen to the call depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A worker of a unit: it may crash, and be paused for longer than its lease.
    Worker(Unit),
    /// What a process of a cluster does beside its runners; it may crash too.
    Process,
    /// A reader of a gateway: it may crash.
    Reader,
    /// A request at a gateway, or a host's: it may be very slow.
    Request,
    /// Nothing happens to its calls.
    Tester,
}

/// A call was not answered; it may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Lost on the way there.
    Lost,
    /// Carried out, and the answer lost.
    Mute,
    /// Given up by the caller, and carried out later.
    Late,
    /// Carried out twice.
    Twice,
    /// Carried out for some partitions only.
    Partial,
    /// The caller dies before or after it is carried out.
    CrashBefore,
    CrashAfter,
}

struct Course {
    before_ms: u64,
    after_ms: u64,
    fate: Fate,
}

impl World {
    fn course(&mut self, caller: Caller, writes: bool) -> Course {
        let rates = self.plan.rates;
        let (before_ms, after_ms) = (self.rng.below(4), self.rng.below(3));
        let mut course = Course { before_ms, after_ms, fate: Fate::Answered };
        if self.calm || caller == Caller::Tester {
            return course;
        }
        let worker = matches!(caller, Caller::Worker(_) | Caller::Process);
        if self.rng.chance(rates.slow) {
            self.ledger.faults.slow += 1;
            // A worker is paused around its lease; a request sometimes for longer than the grace.
            let ms = if worker {
                self.rng.between(100, 1_500)
            } else {
                self.rng.between(20, self.plan.slow_ms_max)
            };
            if worker && self.rng.chance(500) { course.after_ms = ms } else { course.before_ms = ms }
        }
        if let Caller::Worker(unit) = caller
            && self.is_recovering(unit)
            && self.rng.chance(300)
        {
            course.before_ms += self.rng.between(50, 900);
        }
        if self.rng.chance(rates.fail) {
            let fates: &[Fate] = match (writes, caller) {
                (true, Caller::Worker(_) | Caller::Process) => {
                    &[Fate::Lost, Fate::Mute, Fate::Late, Fate::Twice, Fate::Partial]
                }
                (true, _) => &[Fate::Lost, Fate::Mute, Fate::Late, Fate::Twice],
                (false, _) => &[Fate::Lost],
            };
            course.fate = fates[self.rng.below(fates.len() as u64) as usize];
        } else if caller != Caller::Request && self.rng.chance(rates.crash) {
            course.fate = if self.rng.chance(500) { Fate::CrashBefore } else { Fate::CrashAfter };
        }
        course
    }
}

/// Carries out a write with whatever goes wrong on the way.
pub(super) async fn write(world: &Shared, caller: Caller, write: Write) -> Result<Done, Unanswered> {
    let course = world.lock().course(caller, true);
    world.pause(course.before_ms).await;
    loop {
        let left = world.lock().outage_ms(caller, &write);
        let Some(left) = left else { break };
        world.pause(left).await;
    }
    let done = {
        let mut world = world.lock();
        match course.fate {
            Fate::CrashBefore => {
                world.die();
                None
            }
            Fate::Lost => {
                world.ledger.faults.lost += 1;
                world.note("lost", &[]);
                None
            }
            Fate::Late => {
                let at = world.now + world.rng.between(1, 1_500);
                world.sequence += 1;
                let key = (at, world.sequence);
                world.delayed.insert(key, write);
                None
            }
            Fate::Partial => {
                world.ledger.faults.partial += 1;
                let part = world.rng.next();
                world.perform(&write.part(part));
                None
            }
            Fate::Twice => {
                world.ledger.faults.twice += 1;
                let done = world.perform(&write);
                world.perform(&write);
                Some(done)
            }
            Fate::Answered | Fate::Mute | Fate::CrashAfter => Some(world.perform(&write)),
        }
    };
    world.pause(course.after_ms).await;
    match course.fate {
        Fate::CrashBefore => futures::future::pending().await,
        Fate::CrashAfter => {
            world.lock().die();
            futures::future::pending().await
        }
        Fate::Mute => {
            world.lock().ledger.faults.mute += 1;
            Err(Unanswered)
        }
        Fate::Answered | Fate::Lost | Fate::Late | Fate::Twice | Fate::Partial => done.ok_or(Unanswered),
    }
}

/// Reads with whatever goes wrong on the way.
pub(super) async fn read<T>(
    world: &Shared,
    caller: Caller,
    look: impl FnOnce(&mut World) -> T,
) -> Result<T, Unanswered> {
    let course = world.lock().course(caller, false);
    world.pause(course.before_ms).await;
    let seen = if course.fate == Fate::Lost { None } else { Some(look(&mut world.lock())) };
    world.pause(course.after_ms).await;
    if matches!(course.fate, Fate::CrashBefore | Fate::CrashAfter) {
        world.lock().die();
        return futures::future::pending().await;
    }
    seen.ok_or(Unanswered)
}
