//! Podium's post office: carries outcomes to other services.
//!
//! Every sink has one anatomy: a configuration, a request and a [`Delivery`]. What is common to all of them lives here;
//! so far that is the verdict on one attempt and the [`retry`] schedule. No sink is wired yet.

pub mod retry;

use std::time::Duration;

/// What became of one attempt to deliver an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver has it.
    Delivered,
    /// Try again, not before the receiver's own wish if it has one.
    Retry {
        /// The receiver's `Retry-After`.
        after: Option<Duration>,
    },
    /// Never try again: it belongs to the dead letters.
    Reject {
        /// What the receiver said.
        reason: String,
    },
}
