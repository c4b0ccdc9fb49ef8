//! The contract of every log, as one suite that each backend passes.

use std::future::Future;

use ingest::log::Log;
use ingest::log::embedded::{Embedded, Options};
use operators::event::Stamp;
use operators::id::Position;

mod append;
mod read;

/// Where a log lives, so that it can be closed and opened again.
pub(crate) trait Place: Sized {
    /// The log.
    type Log: Log + 'static;
    /// Writers hear the times that readers see.
    const TELLS_TIMES: bool = true;
    /// Returns a place without a log yet.
    fn new() -> Self;
    /// Opens the log of this place with four partitions; the one opened before is gone.
    fn open(&self) -> impl Future<Output = Self::Log> + Send;
    /// Returns positions that the log may give to later records, or never.
    fn beyond(last: Position) -> Vec<Position>;
    /// Tells whether a writer and a reader mean the same record.
    fn is_same(written: Stamp, read: Stamp) -> bool {
        written.position == read.position && (!Self::TELLS_TIMES || written.append_at == read.append_at)
    }
}

/// Runs the suite on a backend.
macro_rules! contract {
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

macro_rules! contracts {
    ($($backend:ident: $place:ty),* $(,)?) => {
        $(contract!($backend, $place, [
            append::positions_rise_in_the_order_of_input,
            append::times_never_go_back_not_even_across_a_restart,
            append::stamps_are_those_that_are_read,
            append::a_batch_over_the_limit_is_invalid,
            append::a_record_that_cannot_be_appended_is_named,
            append::payloads_of_every_size_come_back,
            append::concurrent_appends_are_each_read_once_where_they_were_acknowledged,
            append::an_empty_append_changes_nothing,
            read::from_any_position_in_pieces_of_any_size,
            read::bytes_are_bounded_but_one_record_always_comes,
            read::the_end_is_told_truthfully,
            read::an_acknowledged_record_is_there_at_once,
            read::a_waiting_read_wakes_when_something_is_appended,
            read::a_waiting_read_ends_with_nothing,
            read::streams_and_partitions_are_independent,
            read::a_position_beyond_the_end_reads_nothing,
        ]);)*
    };
}

contracts!(embedded: Directory);
#[cfg(feature = "cluster")]
contracts!(kinesis: crate::kinesis::Streams);

/// A directory with an embedded log.
pub(crate) struct Directory(tempfile::TempDir);

impl Place for Directory {
    type Log = Embedded;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Embedded {
        Embedded::open(self.0.path(), Options { partitions: 4 }).unwrap()
    }

    fn beyond(last: Position) -> Vec<Position> {
        let last = last.offset().unwrap();
        [last + 1, last + 1_000, u64::MAX].map(Position::from_offset).into()
    }
}
