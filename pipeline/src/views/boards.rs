//! The gateway's views: rankings, read under a lock, and rows of the rank stage, wherever they come from.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use gateway::views::{
    Awaited, BoardView, BooksView, Page, PlaceView, QuizView, Seen, Unavailable, Views, WaitError, newest,
};
use ingest::log::Log;
use ingest::partition::{PartitionId, of_key};
use operators::effect::{Phase, Receipt, Slot};
use operators::id::{ParticipantId, Position, QuizId, UnixMillis};
use operators::rank::Ranking;
use tokio::sync::watch;

use crate::runner::cache::{Shared, read};
use crate::stage::rank::{
    self, board_key, index_entry, index_key, marks_prefix, receipt_key, receipts, receipts_prefix,
};
use crate::store::{Row, SCAN_ROWS_MAX};
use crate::views::notices::{Notice, Notices};

/// Where rankings and rows of the rank stage come from.
pub trait Source: Send + Sync + 'static {
    /// Returns a ranking that is in memory.
    fn peek(&self, quiz: &QuizId) -> Option<Shared<Ranking>>;

    /// Returns a ranking, loading it if it is not in memory; a quiz that nobody published takes none.
    fn ranking<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Shared<Ranking>>>>;

    /// Brings the ranking up to what is stored now, as something was not found that another gateway may have shown already;
    /// tells whether it is worth looking once more.
    fn renew<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<bool>>;

    /// Returns rows of the rank stage, as [`Store::scan`](crate::store::Store::scan) does.
    fn scan<'a>(
        &'a self,
        partition: PartitionId,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>>>;

    /// Returns the rows that tell what became of a participant's counted answer, if they can be had within the time that
    /// every answer may take: in one process, not from another machine.
    fn counted<'a>(&'a self, partition: PartitionId, key: &'a [u8]) -> BoxFuture<'a, Result<Vec<Row>>>;

    /// Returns the time before which everything appended for a quiz is in its views.
    fn as_of(&self, quiz: &QuizId, sections: u16) -> UnixMillis;

    /// Counts the answers to sections of a quiz in the log after the last that the ranking has of each.
    fn in_flight<'a>(
        &'a self,
        quiz: &'a QuizId,
        marks: &'a [(u16, Option<Position>)],
    ) -> BoxFuture<'a, Result<u64>>;
}

/// Views over rankings.
pub struct Boards {
    source: Arc<dyn Source>,
    log: Arc<dyn Log>,
    notices: Arc<Notices>,
}

/// Partitions whose lists of quizzes, and quizzes of a list, that are read at once.
const READS_AT_ONCE: usize = 16;

/// What a view gives, or that it could not be read.
pub type Result<T> = std::result::Result<T, Unavailable>;

impl Boards {
    /// Returns the views of rankings from `source`, of which `notices` hears.
    pub fn new(source: Arc<dyn Source>, log: Arc<dyn Log>, notices: Arc<Notices>) -> Self {
        Self { source, log, notices }
    }

    fn partition(&self, quiz: &QuizId) -> PartitionId {
        of_key(quiz.as_str(), self.log.partitions())
    }

    async fn ranking(&self, quiz: &QuizId) -> Result<Option<Shared<Ranking>>> {
        let state = self.source.ranking(quiz).await?;
        Ok(state.filter(|state| read(state).board().definition.is_some()))
    }

    /// Returns what `find` finds in a quiz's ranking. What it does not find may have come since the ranking was read, so
    /// that is read once more before it is said that there is no such thing.
    async fn find<T>(
        &self,
        quiz: &QuizId,
        find: impl Fn(&Ranking) -> Option<T> + Send + Sync,
    ) -> Result<Option<T>> {
        let look = async || Ok(self.ranking(quiz).await?.and_then(|state| find(&read(&state))));
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        if self.source.renew(quiz).await? { look().await } else { Ok(None) }
    }

    /// Returns all rows under a prefix.
    async fn all(&self, partition: PartitionId, prefix: &[u8]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        loop {
            let after = rows.last().map(|(key, _): &Row| key.clone());
            let page = self.source.scan(partition, prefix, after.as_deref(), SCAN_ROWS_MAX).await?;
            let last = page.len() < SCAN_ROWS_MAX;
            rows.extend(page);
            if last {
                return Ok(rows);
            }
        }
    }

    /// Returns a quiz without loading its members, for a list.
    async fn glance(&self, quiz: &QuizId, participants: u64) -> Result<Option<Arc<QuizView>>> {
        if let Some(state) = self.source.peek(quiz) {
            return Ok(quiz_view(&read(&state)));
        }
        let partition = self.partition(quiz);
        let mut rows = self.all(partition, &board_key(quiz)).await?;
        rows.extend(self.all(partition, &marks_prefix(quiz)).await?);
        let rows = rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        let parts = rank::parts(quiz, rows).map_err(|error| Unavailable(error.to_string()))?;
        let view = quiz_view(&Ranking::assemble(quiz.clone(), parts));
        Ok(view.map(|view| Arc::new(QuizView { participants, ..Arc::unwrap_or_clone(view) })))
    }

    /// Looks for something awaited.
    async fn look(&self, quiz: &QuizId, awaited: &Awaited) -> Result<Option<Seen>> {
        match awaited {
            Awaited::Submission(participant, submission) => {
                let receipts = self.read_receipts(quiz, *participant).await?;
                let found = newest(&receipts, *submission).cloned();
                Ok(found.map(|receipt| Seen::Submission(Box::new(receipt))))
            }
            Awaited::Command(id) => {
                // Not only what is loaded: after a restart the command may be an old one, of which no effect will tell.
                // And also of a quiz that was forgotten: publishing it again may be refused.
                let Some(state) = self.source.ranking(quiz).await? else { return Ok(None) };
                let decided = read(&state).decided(id).cloned();
                Ok(decided.map(Seen::Command))
            }
            Awaited::Participant(participant, name) => {
                let Some(state) = self.ranking(quiz).await? else { return Ok(None) };
                let state = read(&state);
                let joined = state.members().get(participant).is_some_and(|member| *member.name == **name);
                Ok(joined.then_some(Seen::Participant))
            }
        }
    }

    async fn read_receipts(&self, quiz: &QuizId, participant: ParticipantId) -> Result<Vec<Receipt>> {
        let prefix = receipts_prefix(quiz, participant);
        let rows = self.all(self.partition(quiz), &prefix).await?;
        receipts(&rows).map_err(|error| Unavailable(error.to_string()))
    }
}

/// Returns what the gateway needs to know of a quiz, or `None` while it is not published.
pub fn quiz_view(ranking: &Ranking) -> Option<Arc<QuizView>> {
    let definition = ranking.board().definition.clone()?;
    let opened = ranking.board().status.windows.iter().map(|window| window.question);
    Some(Arc::new(QuizView {
        quiz: ranking.quiz().clone(),
        sealed: opened.filter(|&question| ranking.is_sealed(question)).collect(),
        status: ranking.board().status.clone(),
        participants: ranking.len() as u64,
        is_final: ranking.board().status.phase == Phase::Closed && ranking.is_final(),
        definition,
    }))
}

impl Views for Boards {
    fn as_of(&self, quiz: &QuizId) -> UnixMillis {
        let sections = self.source.peek(quiz).and_then(|state| {
            let ranking = read(&state);
            Some(ranking.board().definition.as_ref()?.source().sections)
        });
        // A quiz that is not in memory may have any number: its view, read next, must not be older than this says.
        self.source.as_of(quiz, sections.unwrap_or(u16::MAX))
    }

    fn quiz<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Arc<QuizView>>>> {
        async move { self.find(quiz, |ranking| self.notices.view(ranking, quiz_view)).await }.boxed()
    }

    fn quizzes<'a>(
        &'a self,
        after: Option<&'a QuizId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<QuizView>>>> {
        async move {
            let prefix = index_key(None);
            let after = after.map(|after| index_key(Some(after)));
            let partitions = (0..self.log.partitions()).map(PartitionId);
            let scans =
                partitions.map(|partition| self.source.scan(partition, &prefix, after.as_deref(), limit));
            let rows: Vec<_> = stream::iter(scans).buffer_unordered(READS_AT_ONCE).try_collect().await?;
            let mut entries: Vec<_> = rows.iter().flatten().filter_map(index_entry).collect();
            entries.sort();
            entries.truncate(limit);
            let glances = entries
                .into_iter()
                .map(|(quiz, participants)| async move { self.glance(&quiz, participants).await });
            let views: Vec<_> = stream::iter(glances).buffered(READS_AT_ONCE).try_collect().await?;
            Ok(views.into_iter().flatten().collect())
        }
        .boxed()
    }

    fn board<'a>(
        &'a self,
        quiz: &'a QuizId,
        page: Page,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<BoardView>>> {
        async move {
            self.find(quiz, |ranking| {
                let (rows, next) = match page {
                    Page::After(cursor) => ranking.page(cursor, limit),
                    Page::Around(participant) => (ranking.around(participant, limit)?, None),
                };
                Some(BoardView {
                    revision: ranking.header().revision,
                    feed: ranking.header().feed,
                    participants: ranking.len() as u64,
                    rule: ranking.rule(),
                    rows,
                    next,
                })
            })
            .await
        }
        .boxed()
    }

    fn place<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
    ) -> BoxFuture<'a, Result<Option<PlaceView>>> {
        async move {
            let place = |ranking: &Ranking| {
                let (row, percentile) = ranking.row(participant).zip(ranking.percentile(participant))?;
                Some(PlaceView { row, percentile })
            };
            self.find(quiz, place).await
        }
        .boxed()
    }

    fn counted<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
        question: u16,
    ) -> BoxFuture<'a, Result<Option<Receipt>>> {
        async move {
            let key = receipt_key(quiz, participant, Slot::Question(question));
            let rows = self.source.counted(self.partition(quiz), &key).await?;
            let receipts = receipts(&rows).map_err(|error| Unavailable(error.to_string()))?;
            Ok(receipts.into_iter().next_back())
        }
        .boxed()
    }

    fn receipts<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
    ) -> BoxFuture<'a, Result<Vec<Receipt>>> {
        self.read_receipts(quiz, participant).boxed()
    }

    fn books<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<BooksView>>> {
        async move {
            let found = self.find(quiz, |ranking| {
                let sections = ranking.board().definition.as_ref().map_or(1, |d| d.source().sections);
                let mark = |section| {
                    let mark = ranking.sections().get(&section);
                    (section, mark.filter(|mark| mark.newest.is_some()).map(|mark| mark.position))
                };
                Some((ranking.books(), (0..sections).map(mark).collect::<Vec<_>>()))
            });
            let Some((books, marks)) = found.await? else { return Ok(None) };
            let in_flight = self.source.in_flight(quiz, &marks).await?;
            Ok(Some(BooksView { books, in_flight }))
        }
        .boxed()
    }

    fn wait<'a>(
        &'a self,
        quiz: &'a QuizId,
        awaited: Awaited,
        within: Duration,
    ) -> BoxFuture<'a, std::result::Result<Seen, WaitError>> {
        // Registered now, not when first polled: a caller may append in between.
        let place = self.notices.register(quiz, &awaited);
        async move {
            let mut place = place.ok_or(WaitError::TooMany)?;
            let seen = async {
                loop {
                    if let Some(seen) = self.look(quiz, &awaited).await? {
                        return Ok(seen);
                    }
                    let notice = place.noticed().await;
                    if notice == Notice::Seen && matches!(awaited, Awaited::Participant(..)) {
                        // This very join was applied, even if a later one has changed the name again.
                        return Ok(Seen::Participant);
                    }
                }
            };
            tokio::time::timeout(within, seen).await.unwrap_or(Err(WaitError::TimedOut))
        }
        .boxed()
    }

    fn feed<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<watch::Receiver<u64>>>> {
        async move {
            let feed = self.find(quiz, |ranking| Some(ranking.header().feed)).await?;
            Ok(feed.map(|feed| self.notices.feed(quiz, feed)))
        }
        .boxed()
    }
}
