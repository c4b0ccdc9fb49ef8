//! Shards: pieces of a stream that are leased and read as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ingest::error::ReadError;
use ingest::lease::Lease;
use ingest::log::{Log, Stream};
use ingest::partition::PartitionId;
use operators::id::Position;

/// One shard of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The lease that it begins with; its key is the shard's id.
    pub lease: Lease,
    /// Its number in positions.
    pub number: u32,
    /// The partitions that lie on it.
    pub partitions: Vec<PartitionId>,
}

/// A log that comes in shards.
pub trait Shards: Send + Sync + 'static {
    /// Returns the shards of a stream that there are, closed ones included, sorted by number.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    fn list(&self, stream: Stream) -> BoxFuture<'_, Result<Vec<Shard>, ReadError>>;

    /// Returns for how long records are kept, unless for ever.
    fn retention(&self, stream: Stream) -> Option<Duration>;

    /// Returns the log of one shard alone, each of these partitions from behind a position; it reports `closed` at its
    /// end. The other partitions of the shard are not read.
    fn open(
        &self,
        stream: Stream,
        shard: &Shard,
        from: BTreeMap<PartitionId, Option<Position>>,
    ) -> Arc<dyn Log>;
}
