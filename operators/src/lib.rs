//! The rules of Podium: what an answer is worth and who stands where.
//!
//! Everything here is pure and total. An operator is a state plus an event in, a new state plus effects out: no I/O, no
//! clock, no randomness, no failure. Time arrives inside the record ([`event::Stamp`]), so replaying a log gives the
//! same bytes on every machine.
//!
//! * [`quiz`] folds a section of one quiz: commands, joins and answers become verdicts and points.
//! * [`rank`] folds the effects of all sections of a quiz into its ranking.
//! * [`policies`] holds the formulas: grading (a fraction) and award (points).

pub mod definition;
pub mod effect;
pub mod event;
pub mod id;
pub mod limits;
pub mod policies;
pub mod quiz;
pub mod rank;
