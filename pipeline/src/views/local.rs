//! Rankings in one process: the rank stage's own states and rows.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::views::Unavailable;
use ingest::codec;
use ingest::log::{Log, ReadLimits, Stream};
use ingest::partition::{PartitionId, of_key, of_section};
use operators::event::Event;
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
    log: Arc<dyn Log>,
}

/// Rows that tell of one counted answer: its receipt and, behind it, the mark that it was overruled and what counts
/// instead.
const COUNTED_ROWS_MAX: usize = 3;
/// Records read at once when counting what is in flight.
const BLOCK_RECORDS: usize = 2_048;

impl InProcess {
    /// Returns the rankings in `cache`, which is over `store`, of what `log` holds.
    pub fn new(
        cache: Arc<Cache<Rank>>,
        store: Arc<dyn Store>,
        progress: Arc<Local>,
        log: Arc<dyn Log>,
    ) -> Self {
        Self { cache, store, progress, log }
    }

    /// Returns the time before which everything appended is visible, for any quiz.
    pub fn oldest(&self) -> UnixMillis {
        self.progress.oldest()
    }

    /// Counts the answers of a section in the log after `after`, the last that the ranking has of it.
    async fn behind(&self, quiz: &QuizId, section: u16, after: Option<Position>) -> Result<u64> {
        let partition = of_section(quiz, section, self.log.partitions());
        // A quiz at rest may share its partition with one that is not: what lies between was looked at already.
        let mut after = after.max(self.progress.through(quiz, partition));
        let mut count = 0;
        loop {
            let limits = ReadLimits { records_max: BLOCK_RECORDS, bytes_max: 4 << 20, wait: Duration::ZERO };
            let batch = self.log.read(Stream::Submissions, partition, after, limits).await;
            let batch = batch.map_err(|error| Unavailable(error.to_string()))?;
            count += batch.records.iter().filter(|record| is_answer(&record.payload, quiz, section)).count()
                as u64;
            let Some(last) = batch.records.last() else { return Ok(count) };
            // The embedded log never makes a reader wait, and other requests must have their turn.
            tokio::task::yield_now().await;
            after = Some(last.stamp.position);
            if batch.at_end {
                return Ok(count);
            }
        }
    }
}

fn is_answer(payload: &[u8], quiz: &QuizId, section: u16) -> bool {
    let Ok(envelope) = codec::decode_envelope(payload) else { return false };
    envelope.quiz == *quiz && envelope.section == section && matches!(envelope.event, Event::Answer(_))
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
            let unit = unit(of_key(quiz.as_str(), self.log.partitions()));
            let board = self.store.scan(unit, None, &board_key(quiz), None, 1).await.map_err(unavailable)?;
            if board.is_empty() {
                return Ok(None);
            }
            self.cache.get(unit, None, quiz).await.map(Some).map_err(unavailable)
        }
        .boxed()
    }

    /// Nothing newer is anywhere.
    fn renew<'a>(&'a self, _quiz: &'a QuizId) -> BoxFuture<'a, Result<bool>> {
        futures::future::ready(Ok(false)).boxed()
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

    fn in_flight<'a>(
        &'a self,
        quiz: &'a QuizId,
        marks: &'a [(u16, Option<Position>)],
    ) -> BoxFuture<'a, Result<u64>> {
        async move {
            let mut in_flight = 0;
            for &(section, after) in marks {
                in_flight += self.behind(quiz, section, after).await?;
            }
            Ok(in_flight)
        }
        .boxed()
    }
}
