//! How far the stages are, so that a view can say how old it is.

use std::sync::atomic::{AtomicU64, Ordering};

use ingest::partition::{PartitionId, of_key, of_section};
use operators::id::{QuizId, UnixMillis};

use crate::store::{Stage, Unit};

/// Up to which append time every stage has applied everything, per partition.
pub struct Progress {
    /// By partition of `submissions`: everything appended before this time is graded, its effects durable.
    graded: Vec<AtomicU64>,
    /// By partition of `standings`, then of `submissions`: everything appended before this time is ranked.
    ranked: Vec<Vec<AtomicU64>>,
}

/// What a step knew when it began.
pub enum Began {
    /// A grade step: the time.
    Grade(UnixMillis),
    /// A rank step: how far the grade stage was, by partition. Whatever it had graded by then was in `standings`
    /// before this step looked.
    Rank(Vec<u64>),
}

impl Progress {
    /// Returns the progress of stages that have done nothing yet.
    pub fn new(partitions: u16) -> Self {
        let row = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        Self { graded: row(), ranked: (0..partitions).map(|_| row()).collect() }
    }

    /// Notes what is known at the begin of a step, before it reads.
    pub fn begin(&self, unit: Unit, now: UnixMillis) -> Began {
        match unit.stage {
            Stage::Grade => Began::Grade(now),
            Stage::Rank => Began::Rank(self.graded.iter().map(|time| time.load(Ordering::Acquire)).collect()),
        }
    }

    /// Notes what a step that is durable has reached; `last` is the append time of its last record.
    pub fn end(&self, unit: Unit, began: Began, last: Option<UnixMillis>, at_end: bool) {
        let partition = usize::from(unit.partition.0);
        match began {
            Began::Grade(now) => {
                // Without having seen the end, records of the last one's millisecond may still be behind it.
                let reached = if at_end { Some(now) } else { last.map(|at| at.minus(1)) };
                if let Some(reached) = reached {
                    self.graded[partition].fetch_max(reached.0, Ordering::Release);
                }
            }
            Began::Rank(graded) if at_end => {
                for (ranked, graded) in self.ranked[partition].iter().zip(graded) {
                    ranked.fetch_max(graded, Ordering::Release);
                }
            }
            Began::Rank(_) => {}
        }
    }

    /// Returns the time before which everything appended for this quiz is in its views.
    pub fn as_of(&self, quiz: &QuizId, sections: u16) -> UnixMillis {
        let partitions = self.graded.len() as u16;
        let PartitionId(ranking) = of_key(quiz.as_str(), partitions);
        let ranked = &self.ranked[usize::from(ranking)];
        // More sections than partitions come around to the same ones.
        let places = (0..sections.min(partitions)).map(|section| of_section(quiz, section, partitions));
        let oldest = places.map(|place| ranked[usize::from(place.0)].load(Ordering::Acquire)).min();
        UnixMillis(oldest.unwrap_or(0))
    }

    /// Returns the time before which everything appended, for any quiz, is in its views.
    pub fn oldest(&self) -> UnixMillis {
        let times = self.ranked.iter().flatten().map(|time| time.load(Ordering::Acquire));
        UnixMillis(times.min().unwrap_or(0))
    }
}
