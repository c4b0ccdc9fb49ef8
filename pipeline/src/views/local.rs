//! Rankings in one process: the rank stage's own states and rows.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::views::Unavailable;
use ingest::partition::{PartitionId, of_key};
use operators::id::{Position, QuizId, UnixMillis};
use operators::rank::Ranking;

use crate::runner::cache::{Cache, Shared};
use crate::runner::progress::local::Local;
use crate::stage::rank::{Rank, board_key};
use crate::store::{Row, Stage, Store, StoreError, Unit};
use crate::views::boards::{Result, Source};

/// The states of the rank stage, shared with its runners.
pub struct InProcess {
    cache: Arc<Cache<Rank>>,
    store: Arc<dyn Store>,
    progress: Arc<Local>,
    partitions: u16,
}

/// Rows that tell of one counted answer: its receipt and, behind it, the mark that it was overruled and what counts
/// instead.
const COUNTED_ROWS_MAX: usize = 3;

impl InProcess {
    /// Returns the rankings in `cache`, which is over `store`.
    pub fn new(
        cache: Arc<Cache<Rank>>,
        store: Arc<dyn Store>,
        progress: Arc<Local>,
        partitions: u16,
    ) -> Self {
        Self { cache, store, progress, partitions }
    }

    /// Returns the time before which everything appended is visible, for any quiz.
    pub fn oldest(&self) -> UnixMillis {
        self.progress.oldest()
    }
}

fn unit(partition: PartitionId) -> Unit {
    Unit { stage: Stage::Rank, partition }
}

fn unavailable(error: StoreError) -> Unavailable {
    Unavailable(error.to_string())
}

impl Source for InProcess {
    fn peek(&self, quiz: &QuizId) -> Option<Shared<Ranking>> {
        self.cache.peek(quiz)
    }

    fn ranking<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Shared<Ranking>>>> {
        async move {
            if let Some(state) = self.cache.peek(quiz) {
                return Ok(Some(state));
            }
            let unit = unit(of_key(quiz.as_str(), self.partitions));
            let board = self.store.scan(unit, None, &board_key(quiz), None, 1).await.map_err(unavailable)?;
            if board.is_empty() {
                return Ok(None);
            }
            self.cache.get(unit, None, quiz).await.map(Some).map_err(unavailable)
        }
        .boxed()
    }

    fn scan<'a>(
        &'a self,
        partition: PartitionId,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>>> {
        async move { self.store.scan(unit(partition), None, prefix, after, limit).await.map_err(unavailable) }
            .boxed()
    }

    fn counted<'a>(&'a self, partition: PartitionId, key: &'a [u8]) -> BoxFuture<'a, Result<Vec<Row>>> {
        self.scan(partition, key, None, COUNTED_ROWS_MAX)
    }

    fn as_of(&self, quiz: &QuizId, sections: u16) -> UnixMillis {
        self.progress.as_of(quiz, sections)
    }

    fn through(&self, quiz: &QuizId, submissions: PartitionId) -> Option<Position> {
        self.progress.through(quiz, submissions)
    }
}
