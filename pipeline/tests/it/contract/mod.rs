//! The contract of every store, as one suite that each backend passes, and of the translations between states and rows.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use ingest::log::embedded::{Embedded, Options};
use ingest::log::{Log, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::id::{Position, UnixMillis};
use pipeline::store::embedded::EmbeddedStore;
use pipeline::store::{Changes, Commit, Header, Stage, Store, Unit};

mod commit;
mod limits;
mod model;
mod replay;
mod rows;

/// A store and the log that its effects go to.
pub(crate) struct Opened {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// The log.
    pub(crate) log: Arc<dyn Log>,
}

/// Where a store lives, so that it can be closed and opened again.
pub(crate) trait Place: Sized {
    /// Returns a place without a store yet.
    fn new() -> Self;
    /// Opens the store of this place with two partitions; the one opened before is gone.
    fn open(&self) -> impl Future<Output = Opened> + Send;
}

macro_rules! contract {
    ($backend:ident, $place:ty) => {
        contract!(
            $backend,
            $place,
            [
                commit::acquire_raises_the_epoch_and_keeps_the_position,
                commit::an_earlier_owner_is_fenced_and_changes_nothing,
                commit::the_same_commit_twice_is_success,
                commit::a_commit_from_a_stale_position_is_fenced,
                commit::effects_come_in_order_once_per_commit,
                commit::owners_that_take_over_at_once_get_different_epochs,
                commit::two_owners_at_once_never_both_commit,
                commit::a_restart_keeps_everything,
                rows::rows_are_there_after_the_commit_and_not_before,
                rows::removed_rows_are_gone,
                rows::pages_and_prefixes_leak_nothing,
                rows::rows_of_any_size_come_back_whole,
                rows::forgotten_rows_are_gone,
                rows::a_forgetting_that_was_cut_short_is_whole,
                rows::units_do_not_see_each_other,
                model::random_owners_against_a_model,
            ]
        );
    };
    ($backend:ident, $place:ty, [$($module:ident :: $test:ident),* $(,)?]) => {
        mod $backend {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    $module::$test::<$place>().await;
                }
            )*
        }
    };
}

contract!(embedded, Directory);
#[cfg(feature = "cluster")]
contract!(dynamodb, crate::dynamodb::double::Cloud);

/// A directory with an embedded store.
struct Directory(tempfile::TempDir);

impl Place for Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Opened {
        let storage = Embedded::open(self.0.path(), Options { partitions: 2 }).unwrap();
        Opened { store: Arc::new(EmbeddedStore::new(storage.clone())), log: Arc::new(storage) }
    }
}

/// The unit that most tests work on.
const UNIT: Unit = Unit { stage: Stage::Grade, partition: PartitionId(1) };

/// Returns a step of [`UNIT`] to `offset` that changes nothing yet.
fn step(from: Header, offset: u64) -> Commit {
    Commit {
        unit: UNIT,
        from,
        position: Position::from_offset(offset),
        append_at: UnixMillis(offset),
        effects: Vec::new(),
        changes: Changes::default(),
    }
}

/// Returns where the owner stands after a commit.
fn after(commit: &Commit) -> Header {
    commit.to()
}

fn row(key: &str, value: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))
}

fn effect(text: &str) -> Record {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Record { stream: Stream::Standings, partition: PartitionId(0), payload }
}

/// Returns the texts of all effects.
async fn effects(log: &dyn Log) -> Vec<String> {
    let limits =
        ReadLimits { records_max: usize::MAX, bytes_max: usize::MAX, wait: std::time::Duration::ZERO };
    let batch = log.read(Stream::Standings, PartitionId(0), None, limits).await.unwrap();
    assert!(batch.at_end);
    batch.records.iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()).collect()
}

/// Returns all rows of a unit as text.
async fn rows(store: &dyn Store, unit: Unit) -> Vec<(String, String)> {
    let rows = store.scan(unit, None, b"", None, usize::MAX).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    rows.into_iter().map(|(key, value)| (text(key), text(value))).collect()
}
