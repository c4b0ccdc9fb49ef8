//! How far stages in one process are: what each step knew of the others when it began, in memory that all share.
//!
//! All times are append times in `submissions`; "by a time" means everything readable by then that was appended before
//! it. A record becomes readable when its commit is durable, a few milliseconds after its append time; who decides by
//! these times leaves more slack than that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ingest::partition::{PartitionId, of_key, of_section};
use operators::id::{Position, QuizId, UnixMillis};

use super::{Began, Knew, Progress, Times};
use crate::store::{Stage, Unit};

/// What is known of one partition of `submissions`.
#[derive(Default)]
struct Reached {
    /// Everything by this time is graded, its effects durable.
    graded: AtomicU64,
    /// So is every copy of a command that any partition sent here for a command by this time.
    settled: AtomicU64,
    /// Everything up to this position is graded, its effects durable.
    through: Mutex<Option<Position>>,
}

impl Reached {
    fn raise(&self, times: Times) {
        self.graded.fetch_max(times.graded, Ordering::AcqRel);
        self.settled.fetch_max(times.settled, Ordering::AcqRel);
        let mut through = self.through();
        *through = times.through.max(*through);
    }
    fn read(&self) -> Times {
        let settled = self.settled.load(Ordering::Acquire);
        let graded = self.graded.load(Ordering::Acquire);
        Times { graded, settled, through: *self.through() }
    }
    fn through(&self) -> MutexGuard<'_, Option<Position>> {
        // Nothing panics while holding it.
        self.through.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to which append time every stage has applied everything, per partition.
pub struct Local {
    /// By partition of `submissions`: how far the grade stage is.
    graded: Vec<Reached>,
    /// By partition of `standings`, then of `submissions`: how much of that is ranked.
    ranked: Vec<Vec<Reached>>,
}

impl Local {
    /// Returns the progress of stages that have done nothing yet.
    pub fn new(partitions: u16) -> Self {
        let row = || (0..partitions).map(|_| Reached::default()).collect();
        Self { graded: row(), ranked: (0..partitions).map(|_| row()).collect() }
    }

    /// Returns the time before which everything appended for this quiz is in its views, host commands in all sections.
    pub fn as_of(&self, quiz: &QuizId, sections: u16) -> UnixMillis {
        let partitions = self.graded.len() as u16;
        let ranked = &self.ranked[usize::from(of_key(quiz.as_str(), partitions).0)];
        if sections <= 1 {
            // Nothing is copied, so no other partition matters.
            let place = of_section(quiz, 0, partitions);
            return UnixMillis(ranked[usize::from(place.0)].graded.load(Ordering::Acquire));
        }
        // More sections than partitions come around to the same ones.
        let places = (0..sections.min(partitions)).map(|section| of_section(quiz, section, partitions));
        let oldest = places.map(|place| ranked[usize::from(place.0)].settled.load(Ordering::Acquire)).min();
        UnixMillis(oldest.unwrap_or(0))
    }

    /// Returns the position in a partition of `submissions` up to which everything is in the quiz's views.
    pub fn through(&self, quiz: &QuizId, submissions: PartitionId) -> Option<Position> {
        let ranked = &self.ranked[usize::from(of_key(quiz.as_str(), self.graded.len() as u16).0)];
        *ranked[usize::from(submissions.0)].through()
    }

    /// Returns the time before which everything appended, for any quiz, is in its views.
    pub fn oldest(&self) -> UnixMillis {
        let times = self.ranked.iter().flatten().map(|reached| reached.settled.load(Ordering::Acquire));
        UnixMillis(times.min().unwrap_or(0))
    }
}

impl Progress for Local {
    fn begin(&self, unit: Unit, now: UnixMillis, durable: Option<Position>) -> Began {
        Began(match unit.stage {
            Stage::Grade => {
                self.graded[usize::from(unit.partition.0)]
                    .raise(Times { through: durable, ..Times::default() });
                let slowest = self.graded.iter().map(|reached| reached.graded.load(Ordering::Acquire)).min();
                Knew::Grade { now, slowest: slowest.unwrap_or(0) }
            }
            Stage::Rank => Knew::Rank(self.graded.iter().map(Reached::read).collect()),
        })
    }

    fn end(&self, unit: Unit, began: Began, last: Option<UnixMillis>, at_end: bool) {
        let partition = usize::from(unit.partition.0);
        match began.0 {
            Knew::Grade { now, slowest } if at_end => {
                self.graded[partition].raise(Times {
                    graded: now.0,
                    settled: now.0.min(slowest),
                    through: None,
                });
            }
            Knew::Grade { .. } => {
                // Without having seen the end, records of the last one's millisecond may still be behind it.
                if let Some(last) = last {
                    self.graded[partition].raise(Times { graded: last.minus(1).0, ..Times::default() });
                }
            }
            Knew::Rank(graded) if at_end => {
                for (ranked, times) in self.ranked[partition].iter().zip(graded) {
                    ranked.raise(times);
                }
            }
            Knew::Rank(_) | Knew::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(stage: Stage, partition: u16) -> Unit {
        Unit { stage, partition: PartitionId(partition) }
    }

    #[test]
    fn a_view_is_as_old_as_what_the_rank_step_knew_when_it_began() {
        let progress = Local::new(1);
        let quiz: QuizId = "q".parse().unwrap();
        let early = progress.begin(unit(Stage::Rank, 0), UnixMillis(5), None);
        let grade = progress.begin(unit(Stage::Grade, 0), UnixMillis(10), None);
        progress.end(unit(Stage::Grade, 0), grade, None, true);
        progress.end(unit(Stage::Rank, 0), early, None, true);
        assert_eq!(progress.as_of(&quiz, 1), UnixMillis(0), "the rank step looked before that was graded");
        let later = progress.begin(unit(Stage::Rank, 0), UnixMillis(20), None);
        progress.end(unit(Stage::Rank, 0), later, None, true);
        assert_eq!(progress.as_of(&quiz, 1), UnixMillis(10));
    }

    #[test]
    fn a_section_is_settled_only_after_looking_again_for_copies() {
        let progress = Local::new(2);
        let quiz: QuizId = "q".parse().unwrap();
        let rank = |now| {
            for partition in 0..2 {
                let began = progress.begin(unit(Stage::Rank, partition), UnixMillis(now), None);
                progress.end(unit(Stage::Rank, partition), began, None, true);
            }
        };
        let grade = |partition, now| {
            let began = progress.begin(unit(Stage::Grade, partition), UnixMillis(now), None);
            progress.end(unit(Stage::Grade, partition), began, None, true);
        };
        grade(0, 10);
        grade(1, 11);
        rank(12);
        assert_eq!(progress.as_of(&quiz, 2), UnixMillis(0), "copies sent by 10 may not be applied by 11");
        grade(0, 20);
        grade(1, 21);
        rank(22);
        assert_eq!(progress.as_of(&quiz, 2), UnixMillis(10));
    }

    #[test]
    fn a_step_that_did_not_see_the_end_claims_less() {
        let progress = Local::new(1);
        let quiz: QuizId = "q".parse().unwrap();
        let began = progress.begin(unit(Stage::Grade, 0), UnixMillis(100), None);
        progress.end(unit(Stage::Grade, 0), began, Some(UnixMillis(50)), false);
        let began = progress.begin(unit(Stage::Rank, 0), UnixMillis(101), None);
        progress.end(unit(Stage::Rank, 0), began, None, true);
        assert_eq!(progress.as_of(&quiz, 1), UnixMillis(49));
    }

    #[test]
    fn a_view_is_through_what_was_committed_before_the_rank_step_looked() {
        let progress = Local::new(1);
        let quiz: QuizId = "q".parse().unwrap();
        let step = |stage, durable: Option<u64>, at_end| {
            let durable = durable.map(Position::from_offset);
            let began = progress.begin(unit(stage, 0), UnixMillis(1), durable);
            progress.end(unit(stage, 0), began, None, at_end);
            progress.through(&quiz, PartitionId(0)).and_then(|position| position.offset())
        };
        assert_eq!(step(Stage::Grade, Some(7), false), None, "not ranked");
        assert_eq!(step(Stage::Rank, None, false), None, "the rank step did not see the end");
        assert_eq!(step(Stage::Rank, None, true), Some(7));
        assert_eq!(step(Stage::Grade, Some(9), true), Some(7));
        assert_eq!(step(Stage::Rank, None, true), Some(9));
    }
}
