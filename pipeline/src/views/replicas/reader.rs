//! Reading states of the rank stage, and copies from them.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::views::Unavailable;
use ingest::partition::{PartitionId, of_key};
use operators::id::QuizId;
use operators::rank::Ranking;
use tokio::runtime::Handle;

use super::copies::{At, Copies, Copy, Found, Loaded, Loading};
use super::{unavailable, unit};
use crate::runner::progress::pulses::Ranked;
use crate::stage::rank::{self, board_key};
use crate::store::{Follow, Row, SCAN_ROWS_MAX};
use crate::views::boards::Result;

/// Reads what the rank stage has stored.
pub(super) struct Reader<F: Follow> {
    pub(super) store: Arc<F>,
    pub(super) copies: Arc<Copies<F::Head>>,
    pub(super) partitions: u16,
}

impl<F: Follow> Clone for Reader<F> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), copies: self.copies.clone(), partitions: self.partitions }
    }
}

/// Why there is no copy.
enum Missing {
    Unpublished,
    Unavailable(Unavailable),
}

impl From<Unavailable> for Missing {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl<F: Follow> Reader<F> {
    /// Reads where a partition stands now; `None` before its first owner.
    pub(super) async fn look(&self, partition: PartitionId) -> Result<Option<At<F::Head>>> {
        let found = self.store.head(unit(partition)).await.map_err(unavailable)?;
        Ok(found.map(|(header, head)| self.copies.note(partition, (header.position, head))))
    }

    /// Returns a state of a partition that is at least as new as what has been claimed of it.
    pub(super) async fn head(&self, partition: PartitionId) -> Result<Option<At<F::Head>>> {
        match self.copies.head(partition) {
            Some(head) => Ok(Some(head)),
            None => self.look(partition).await,
        }
    }

    /// Reads rows of one state. If that is not kept any more, the next caller looks for a newer one.
    pub(super) async fn scan_at(
        &self,
        partition: PartitionId,
        head: &F::Head,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let rows = self.store.scan_at(unit(partition), head, prefix, after, limit).await;
        if rows.is_err() {
            self.copies.forget_head(partition);
        }
        rows.map_err(unavailable)
    }

    /// Returns the copy of a quiz, loading it if it is not here. Callers at the same moment share one load, which goes on
    /// when they go away: a large quiz may take longer than any of them may wait.
    pub(super) async fn copy(&self, quiz: &QuizId) -> Loaded<F::Head> {
        let load = |number, claim| self.clone().loading(quiz.clone(), number, claim);
        match self.copies.find(quiz, load) {
            Found::Here(copy) => Loaded::Here(copy),
            Found::Loading(loading) => loading.await,
            Found::Begun(loading) => {
                // Without a runtime, as in a simulation, it goes on when the next asks.
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(loading.clone());
                }
                loading.await
            }
        }
    }

    fn loading(self, quiz: QuizId, number: u64, claim: Ranked) -> Loading<F::Head> {
        let load: BoxFuture<'static, _> = async move {
            let loaded = match self.load(&quiz, claim).await {
                Ok(copy) => Loaded::Here(Arc::new(copy)),
                Err(Missing::Unpublished) => Loaded::Unpublished,
                Err(Missing::Unavailable(error)) => Loaded::Unavailable(error),
            };
            self.copies.install(&quiz, number, loaded)
        }
        .boxed();
        load.shared()
    }

    /// Loads a copy; `claim` was read before: the state read after it holds everything that it says.
    async fn load(&self, quiz: &QuizId, claim: Ranked) -> std::result::Result<Copy<F::Head>, Missing> {
        let partition = of_key(quiz.as_str(), self.partitions);
        let Some(at) = self.head(partition).await? else { return Err(Missing::Unpublished) };
        let scan = async |prefix: &[u8], after: Option<&[u8]>, limit| {
            self.scan_at(partition, &at.1, prefix, after, limit).await
        };
        let board = scan(&board_key(quiz), None, 1).await?;
        let Some((_, board)) = board.first() else { return Err(Missing::Unpublished) };
        let prefix = rank::prefix(quiz);
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let after = rows.last().map(|(key, _)| key.clone());
            let page = scan(&prefix, after.as_deref(), SCAN_ROWS_MAX).await?;
            let last = page.len() < SCAN_ROWS_MAX;
            rows.extend(page);
            if last {
                break;
            }
        }
        let rows = rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        let parts = rank::parts(quiz, rows).map_err(|error| Unavailable(error.to_string()))?;
        Ok(Copy::new(Ranking::assemble(quiz.clone(), parts), at, claim, board.len()))
    }
}
