//! What the grade stage tells gateways: up to where it has graded, and how long after a close it seals.

use std::collections::{BTreeMap, VecDeque};

use ingest::partition::PartitionId;
use operators::id::{Position, UnixMillis};

use crate::cluster::beats::Beat;

/// Moments kept of a partition: at one a second, what the rank stage may lag behind before counts begin farther back.
const MOMENTS_MAX: usize = 64;
/// A worker that has graded nothing for so long runs no partition: whoever runs one hears of it several times a second.
const SILENT_MS_MAX: u64 = 30_000;

/// What was heard of the grade stage.
#[derive(Default)]
pub(super) struct Graders {
    /// By partition of `submissions`, oldest first: records appended before this time are at these positions or before.
    moments: BTreeMap<PartitionId, VecDeque<(UnixMillis, Position)>>,
    grace_ms: Option<u64>,
}

impl Graders {
    /// Takes in what the workers tell at a time. `settled` is the time before which everything appended is ranked.
    pub(super) fn hear(&mut self, beats: &[Beat], settled: UnixMillis, now: UnixMillis) {
        for reached in beats.iter().flat_map(|beat| &beat.graded) {
            let moments = self.moments.entry(reached.partition).or_default();
            // One that is ranked is enough.
            while moments.get(1).is_some_and(|(time, _)| *time < settled) {
                moments.pop_front();
            }
            let is_news = moments.back().is_none_or(|(_, position)| *position < reached.through);
            if is_news && moments.len() < MOMENTS_MAX {
                moments.push_back((reached.graded, reached.through));
            }
        }
        let runs = |beat: &&Beat| {
            let newest = beat.graded.iter().map(|reached| reached.graded).max();
            newest.is_some_and(|newest| now.since(newest) <= SILENT_MS_MAX)
        };
        self.grace_ms = beats.iter().filter(runs).filter_map(|beat| beat.grace_ms).min();
    }

    /// Returns a position in a partition of `submissions` up to which everything is ranked, the newest that is known.
    pub(super) fn ranked(&self, partition: PartitionId, settled: UnixMillis) -> Option<Position> {
        let moments = self.moments.get(&partition)?.iter().rev();
        moments.filter(|(time, _)| *time < settled).map(|(_, position)| *position).next()
    }

    /// Returns the shortest time from a close to its Seal that a running worker goes by.
    pub(super) fn grace_ms(&self) -> Option<u64> {
        self.grace_ms
    }
}

#[cfg(test)]
mod tests {
    use ingest::codec::Reached;

    use super::*;

    fn beat(grace_ms: u64, time: u64) -> Beat {
        let reached = Reached {
            partition: PartitionId(1),
            graded: UnixMillis(time),
            settled: UnixMillis(0),
            through: Position::from_offset(time),
        };
        Beat { graded: vec![reached], ranked: Vec::new(), grace_ms: Some(grace_ms) }
    }

    #[test]
    fn only_what_is_settled_is_ranked() {
        let mut graders = Graders::default();
        for time in [100, 200, 300] {
            graders.hear(&[beat(5, time)], UnixMillis(150), UnixMillis(300));
        }
        let ranked = |settled| graders.ranked(PartitionId(1), UnixMillis(settled));
        assert_eq!(ranked(100), None, "what was appended in that very millisecond may be missing");
        assert_eq!(ranked(150), Some(Position::from_offset(100)));
        assert_eq!(ranked(1_000), Some(Position::from_offset(300)));
        assert_eq!(graders.ranked(PartitionId(0), UnixMillis(1_000)), None);
    }

    #[test]
    fn while_ranking_stands_still_the_last_place_that_is_ranked_is_kept() {
        let mut graders = Graders::default();
        for time in 1..=1_000 {
            graders.hear(&[beat(5, time)], UnixMillis(2), UnixMillis(time));
        }
        assert_eq!(graders.ranked(PartitionId(1), UnixMillis(2)), Some(Position::from_offset(1)));
        assert_eq!(graders.moments[&PartitionId(1)].len(), MOMENTS_MAX);
        graders.hear(&[beat(5, 1_001)], UnixMillis(1_000), UnixMillis(1_001));
        graders.hear(&[beat(5, 1_002)], UnixMillis(1_002), UnixMillis(1_002));
        assert_eq!(graders.ranked(PartitionId(1), UnixMillis(1_002)), Some(Position::from_offset(1_001)));
    }

    #[test]
    fn the_shortest_grace_of_those_that_run_is_believed() {
        let mut graders = Graders::default();
        graders.hear(&[beat(5_000, 90_000), beat(2_000, 95_000)], UnixMillis(0), UnixMillis(100_000));
        assert_eq!(graders.grace_ms(), Some(2_000));
        graders.hear(&[beat(5_000, 130_000), beat(2_000, 95_000)], UnixMillis(0), UnixMillis(130_000));
        assert_eq!(graders.grace_ms(), Some(5_000), "the other has gone");
    }
}
