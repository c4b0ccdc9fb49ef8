//! How far the stages are, so that a view can say how old it is.

use ingest::codec::Pulse;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};

use crate::store::{Header, Unit};

pub mod local;
pub mod pulses;

/// Hears from runners how far they are.
pub trait Progress: Send + Sync {
    /// Notes what is known at the begin of a step, before it reads; `sent` is the last position whose effects are
    /// durable.
    fn begin(&self, unit: Unit, now: UnixMillis, sent: Option<Position>) -> Began;

    /// Notes what a step whose effects are durable has reached; `last` is the append time of its last record.
    fn end(&self, unit: Unit, began: Began, last: Option<UnixMillis>, at_end: bool);

    /// Hears of pulses that were read by a step, once its effects are durable.
    fn sent(&self, _unit: Unit, _pulses: &[(Stamp, Pulse)]) {}

    /// Hears of pulses once the state at them is stored, with where that stands.
    fn stored(&self, _unit: Unit, _header: Header, _pulses: &[Pulse]) {}
}

/// What a step knew when it began.
pub struct Began(Knew);

enum Knew {
    /// Nothing that matters: what it has reached is told by the records that it reads.
    Nothing,
    /// A grade step: the time, and how far the slowest partition was. Whatever that one had sent here by then was here
    /// before this step looked.
    Grade { now: UnixMillis, slowest: u64 },
    /// A rank step: how far the grade stage was, by partition. Whatever it had graded by then was in `standings` before
    /// this step looked.
    Rank(Vec<Times>),
}

impl Began {
    /// Returns what a step knew that goes by its records alone.
    pub fn unaware() -> Self {
        Self(Knew::Nothing)
    }
}

/// How far one partition of `submissions` was at one moment.
#[derive(Clone, Copy, Default)]
struct Times {
    graded: u64,
    settled: u64,
    through: Option<Position>,
}
