//! How far the stages of one process are, as the pulses that they read tell. What these say stays true for ever, whoever
//! owns a partition afterwards, so nothing here is ever taken back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ingest::codec::{Pulse, Reached};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};

use super::{Began, Progress};
use crate::store::{Header, Stage, Unit};

/// How far one partition of `standings` is ranked and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ranked {
    /// Every record appended to the same partition of `submissions` before this is in it.
    pub graded: UnixMillis,
    /// Every record appended to any partition before this is, and so is every copy of a command.
    pub settled: UnixMillis,
    /// Every record of the same partition of `submissions` up to here is.
    pub through: Option<Position>,
    /// Where the stored state stands.
    pub position: Option<Position>,
}

impl Ranked {
    /// Takes in what another says of the same partition: both are true.
    pub fn merge(&mut self, other: &Self) {
        self.graded = self.graded.max(other.graded);
        self.settled = self.settled.max(other.settled);
        self.through = self.through.max(other.through);
        self.position = self.position.max(other.position);
    }
}

/// What the runners of one process have told.
#[derive(Default)]
pub struct Pulses(Mutex<State>);

#[derive(Default)]
struct State {
    /// How many times each: what is given up may have been taken up again before that is noted.
    owned: BTreeMap<Unit, usize>,
    stored: BTreeMap<Unit, Position>,
    graded: BTreeMap<PartitionId, Reached>,
    ranked: BTreeMap<PartitionId, Heard>,
}

/// What a partition of `standings` has heard of each of `submissions`, and is stored.
#[derive(Default)]
struct Heard {
    of: BTreeMap<PartitionId, Reached>,
    position: Option<Position>,
}

impl Pulses {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that this process runs a unit, so that it sends pulses there.
    pub fn own(&self, unit: Unit) {
        *self.lock().owned.entry(unit).or_default() += 1;
    }

    /// Notes that it does so once less.
    pub fn disown(&self, unit: Unit) {
        let mut state = self.lock();
        if let Some(times) = state.owned.get_mut(&unit) {
            *times -= 1;
            if *times == 0 {
                state.owned.remove(&unit);
            }
        }
    }

    /// Returns where the stored state of a unit stands, if it was stored here.
    pub fn stored_at(&self, unit: Unit) -> Option<Position> {
        self.lock().stored.get(&unit).copied()
    }

    /// Returns the partitions of a stage that this process runs.
    pub fn owned(&self, stage: Stage) -> Vec<PartitionId> {
        let state = self.lock();
        state.owned.keys().filter(|unit| unit.stage == stage).map(|unit| unit.partition).collect()
    }

    /// Returns how far the partitions of `submissions` are that this process has graded.
    pub fn graded(&self) -> Vec<Reached> {
        self.lock().graded.values().copied().collect()
    }

    /// Returns how far the partitions of `standings` are that this process has ranked, of a log of `partitions`.
    pub fn ranked(&self, partitions: u16) -> Vec<(PartitionId, Ranked)> {
        let state = self.lock();
        let ranked = state.ranked.iter().map(|(&partition, heard)| {
            let own = heard.of.get(&partition);
            let settled =
                (0..partitions).map(|of| heard.of.get(&PartitionId(of)).map(|reached| reached.settled));
            // A partition of which nothing was heard may be behind by anything.
            let settled = settled.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min());
            let ranked = Ranked {
                graded: own.map(|reached| reached.graded).unwrap_or_default(),
                settled: settled.unwrap_or_default(),
                through: own.map(|reached| reached.through),
                position: heard.position,
            };
            (partition, ranked)
        });
        ranked.collect()
    }
}

/// Keeps the later of two.
fn raise(known: &mut BTreeMap<PartitionId, Reached>, told: Reached) {
    let found = known.entry(told.partition).or_insert(told);
    found.graded = found.graded.max(told.graded);
    found.settled = found.settled.max(told.settled);
    found.through = found.through.max(told.through);
}

impl Progress for Pulses {
    fn begin(&self, _unit: Unit, _now: UnixMillis, _sent: Option<Position>) -> Began {
        Began::unaware()
    }

    fn end(&self, _unit: Unit, _began: Began, _last: Option<UnixMillis>, _at_end: bool) {}

    fn sent(&self, unit: Unit, pulses: &[(Stamp, Pulse)]) {
        if unit.stage != Stage::Grade || pulses.is_empty() {
            return;
        }
        let mut state = self.lock();
        for (stamp, pulse) in pulses {
            // Whoever sent it had read of every partition that it was graded by then, copies included; those were in
            // this partition ahead of it.
            let settled = pulse.slowest.min(stamp.append_at);
            let (graded, through) = (stamp.append_at, stamp.position);
            raise(&mut state.graded, Reached { partition: unit.partition, graded, settled, through });
        }
    }

    fn stored(&self, unit: Unit, header: Header, pulses: &[Pulse]) {
        let mut state = self.lock();
        state.stored.extend(header.position.map(|position| (unit, position)));
        if unit.stage != Stage::Rank {
            return;
        }
        let heard = state.ranked.entry(unit.partition).or_default();
        heard.position = heard.position.max(header.position);
        for reached in pulses.iter().flat_map(|pulse| &pulse.reached) {
            raise(&mut heard.of, *reached);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P0: PartitionId = PartitionId(0);
    const P1: PartitionId = PartitionId(1);

    fn stamp(append_at: u64, offset: u64) -> Stamp {
        Stamp { append_at: UnixMillis(append_at), position: Position::from_offset(offset) }
    }

    fn pulse(slowest: u64) -> Pulse {
        Pulse { slowest: UnixMillis(slowest), reached: Vec::new() }
    }

    #[test]
    fn a_partition_is_graded_by_the_time_of_the_pulse_that_it_read() {
        let pulses = Pulses::default();
        let unit = Unit { stage: Stage::Grade, partition: P1 };
        pulses.sent(unit, &[(stamp(50, 3), pulse(20)), (stamp(90, 7), pulse(95))]);
        pulses.sent(unit, &[(stamp(60, 4), pulse(10))]);
        let reached = pulses.graded();
        let expected = Reached {
            partition: P1,
            graded: UnixMillis(90),
            settled: UnixMillis(90),
            through: Position::from_offset(7),
        };
        assert_eq!(
            reached,
            [expected],
            "an earlier one takes nothing back, and no copy is settled before its record"
        );
    }

    #[test]
    fn a_ranking_is_settled_once_every_partition_was_heard_of() {
        let pulses = Pulses::default();
        let unit = Unit { stage: Stage::Rank, partition: P0 };
        let reached = |partition, time| Reached {
            partition,
            graded: UnixMillis(time),
            settled: UnixMillis(time - 5),
            through: Position::from_offset(time),
        };
        let told = |reached| Pulse { slowest: UnixMillis(0), reached };
        let header = |offset| Header { position: Some(Position::from_offset(offset)), ..Header::default() };
        pulses.stored(unit, header(1), &[told(vec![reached(P0, 40)])]);
        let ranked = |pulses: &Pulses| pulses.ranked(2)[0].1;
        let first = ranked(&pulses);
        assert_eq!((first.graded, first.settled), (UnixMillis(40), UnixMillis(0)));
        pulses.stored(unit, header(2), &[told(vec![reached(P1, 30)])]);
        let second = ranked(&pulses);
        assert_eq!((second.graded, second.settled), (UnixMillis(40), UnixMillis(25)));
        assert_eq!((second.through, second.position), (Some(Position::from_offset(40)), header(2).position));
    }
}
