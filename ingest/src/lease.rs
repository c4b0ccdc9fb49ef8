//! Leases: who may work on a shard for a stage, so that any number of workers share the shards and none is left alone.
//!
//! A lease is one item with KCL's attributes, so that whoever knows KCL can read it. Safety does not rest on it: state
//! is fenced by the epoch of each partition. A lease keeps two workers from doing the same work for long.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use operators::id::Position;

#[cfg(feature = "cluster")]
pub mod dynamodb;
pub mod plan;

/// How far the owner of a shard has come, for people; what a taker goes on from is in the headers of the partitions. The
/// later of two of one shard is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checkpoint {
    /// Nothing of the shard was read.
    TrimHorizon,
    /// Everything up to here is stored, in every partition of the shard.
    At(Position),
    /// The shard is closed and all of it is stored: its children may be read.
    ShardEnd,
}

/// The right of one worker to one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The shard's id.
    pub key: String,
    /// Who works on it.
    pub owner: Option<String>,
    /// Moves with every write: who sees it stand still for the duration of a lease may take the lease.
    pub counter: u64,
    /// Changes only with the owner.
    pub epoch: u64,
    /// How far it is.
    pub checkpoint: Checkpoint,
    /// How often it changed hands without coming forward.
    pub owner_switches: u64,
    /// The shards that it was split or merged from.
    pub parents: BTreeSet<String>,
    /// The shards that it was split or merged into, once the owner has read of them.
    pub children: BTreeSet<String>,
    /// The first hash key of the shard, a decimal number.
    pub starting_hash_key: String,
    /// The last hash key of the shard, a decimal number.
    pub ending_hash_key: String,
}

impl Lease {
    /// Returns the lease that a shard begins with: nobody's, at the oldest record.
    pub fn of_shard(
        key: impl Into<String>,
        parents: impl IntoIterator<Item = String>,
        starting_hash_key: impl Into<String>,
        ending_hash_key: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            owner: None,
            counter: 0,
            epoch: 0,
            checkpoint: Checkpoint::TrimHorizon,
            owner_switches: 0,
            parents: parents.into_iter().collect(),
            children: BTreeSet::new(),
            starting_hash_key: starting_hash_key.into(),
            ending_hash_key: ending_hash_key.into(),
        }
    }

    /// Tells whether the shard is read to its end.
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }
}

/// A call about leases did not end with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Unknown whether it happened: do the same again, or look at the list.
    #[error("the leases cannot be reached: {0}")]
    Unavailable(String),
    /// Stop and call a person: an item is no lease of Podium's.
    #[error("the leases are damaged: {0}")]
    Corrupt(String),
}

/// The leases of one stage.
///
/// Every change is one conditional write, and every one of them may be repeated after an answer that was lost: finding
/// one's own earlier write is success.
pub trait Leases: Send + Sync {
    /// Returns all leases, in the order of their keys.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn list(&self) -> BoxFuture<'_, Result<Vec<Lease>, LeaseError>>;

    /// Makes a lease unless there is one with its key.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn create<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>>;

    /// Makes `owner` the owner if the lease still stands as it was seen; returns it with the next epoch, or `None` when
    /// it has moved. An owner's name belongs to one run of one process.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn take<'a>(
        &'a self,
        seen: &'a Lease,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>>;

    /// Keeps a lease for another duration and notes how far its owner is; `None` when it has another owner.
    ///
    /// The counter has moved since this was called, also when an earlier call without an answer had moved it: others
    /// count from when they see it move.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn renew<'a>(
        &'a self,
        held: &'a Lease,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>>;

    /// Gives a lease back, so that another worker need not wait for its end. One that has another owner already stays
    /// with that.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn release<'a>(
        &'a self,
        held: &'a Lease,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'a, Result<(), LeaseError>>;

    /// Notes that the shard is read to its end, with the children named in `held`; `None` when it has another owner.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn finish<'a>(&'a self, held: &'a Lease) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>>;

    /// Removes a finished lease; one that is not finished stays.
    ///
    /// # Errors
    /// [`LeaseError`].
    fn delete<'a>(&'a self, finished: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>>;
}
