//! The formulas, by name and version. A version never changes once published; a better formula gets a new version.
//!
//! Scoring has two stages: [`grade`] gives a fraction of what was right, [`award`] turns fraction and time into points.
//! Any grading goes with any award.

pub mod award;
pub mod grade;

pub use award::Award;
pub use grade::{Fraction, Grading};
