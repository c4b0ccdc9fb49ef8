//! What can go wrong with a log, named by what the caller should do.

use std::time::Duration;

/// An append failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written: slow down.
    #[error("the log is overloaded")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// Unknown whether written: send again.
    #[error("the log did not answer: {0}")]
    Unavailable(String),
    /// Never retry: the record itself is wrong.
    #[error("record {index} cannot be appended: {reason}")]
    Invalid {
        /// Which of the call's records.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Stop and call a person: nothing is acknowledged until the log is opened again.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}

/// A read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Ask again.
    #[error("the log did not answer: {0}")]
    Unavailable(String),
    /// Stop and call a person.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}
