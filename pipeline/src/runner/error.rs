//! Why a runner stops before it is told to.

use operators::id::Position;

use crate::store::StoreError;

/// Why a runner stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Someone else owns the partition now; that is normal after a take-over.
    #[error("another worker owns this partition")]
    Fenced,
    /// The next record was written by a newer Podium; hand over to one.
    #[error("the record after {after:?} needs reader {needed}: run a newer Podium")]
    NewerReader {
        /// The last record before it.
        after: Option<Position>,
        /// The reader version that it needs.
        needed: u32,
    },
    /// Call a person.
    #[error("storage is damaged: {0}")]
    Corrupt(String),
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced => Self::Fenced,
            StoreError::Corrupt(reason) | StoreError::Unavailable(reason) => Self::Corrupt(reason),
        }
    }
}
