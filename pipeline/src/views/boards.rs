//! The gateway's views: rankings, read under a lock, and rows of the rank stage, wherever they come from.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::views::{
    Awaited, BoardView, BooksView, Page, PlaceView, QuizView, Seen, Unavailable, Views, WaitError, newest,
};
use ingest::codec;
use ingest::log::{Log, ReadLimits, Stream};
use ingest::partition::{PartitionId, of_key, of_section};
use operators::effect::{Phase, Receipt, Slot};
use operators::event::Event;
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

    /// Returns the position in a partition of `submissions` up to which everything is in the quiz's views.
    fn through(&self, quiz: &QuizId, submissions: PartitionId) -> Option<Position>;
}

/// Views over rankings.
pub struct Boards {
    source: Arc<dyn Source>,
    log: Arc<dyn Log>,
    notices: Arc<Notices>,
}

/// Records read at once when counting what is in flight.
const IN_FLIGHT_BLOCK: u64 = 2_048;

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

    /// Counts the answers of a section in the log after `after`, the last that the ranking has of it.
    async fn in_flight(&self, quiz: &QuizId, section: u16, after: Option<Position>) -> Result<u64> {
        let partition: PartitionId = of_section(quiz, section, self.log.partitions());
        // A quiz at rest may share its partition with one that is not: what lies between was looked at already.
        let mut after = after.max(self.source.through(quiz, partition));
        let mut count = 0;
        loop {
            let limits = ReadLimits {
                records_max: IN_FLIGHT_BLOCK as usize,
                bytes_max: 4 << 20,
                wait: Duration::ZERO,
            };
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

fn is_answer(payload: &[u8], quiz: &QuizId, section: u16) -> bool {
    let Ok(envelope) = codec::decode_envelope(payload) else { return false };
    envelope.quiz == *quiz && envelope.section == section && matches!(envelope.event, Event::Answer(_))
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
        async move {
            let Some(state) = self.ranking(quiz).await? else { return Ok(None) };
            let ranking = read(&state);
            Ok(self.notices.view(&ranking, quiz_view))
        }
        .boxed()
    }

    fn quizzes<'a>(
        &'a self,
        after: Option<&'a QuizId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<QuizView>>>> {
        async move {
            let prefix = index_key(None);
            let after = after.map(|after| index_key(Some(after)));
            let mut entries = Vec::new();
            for partition in (0..self.log.partitions()).map(PartitionId) {
                let rows = self.source.scan(partition, &prefix, after.as_deref(), limit).await?;
                entries.extend(rows.iter().filter_map(index_entry));
            }
            entries.sort();
            entries.truncate(limit);
            let mut views = Vec::with_capacity(entries.len());
            for (quiz, participants) in entries {
                views.extend(self.glance(&quiz, participants).await?);
            }
            Ok(views)
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
            let Some(state) = self.ranking(quiz).await? else { return Ok(None) };
            let ranking = read(&state);
            let (rows, next) = match page {
                Page::After(cursor) => ranking.page(cursor, limit),
                Page::Around(participant) => match ranking.around(participant, limit) {
                    Some(rows) => (rows, None),
                    None => return Ok(None),
                },
            };
            Ok(Some(BoardView {
                revision: ranking.header().revision,
                feed: ranking.header().feed,
                participants: ranking.len() as u64,
                rule: ranking.rule(),
                rows,
                next,
            }))
        }
        .boxed()
    }

    fn place<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
    ) -> BoxFuture<'a, Result<Option<PlaceView>>> {
        async move {
            let Some(state) = self.ranking(quiz).await? else { return Ok(None) };
            let ranking = read(&state);
            let found = ranking.row(participant).zip(ranking.percentile(participant));
            Ok(found.map(|(row, percentile)| PlaceView { row, percentile }))
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
            let Some(state) = self.ranking(quiz).await? else { return Ok(None) };
            let (books, marks) = {
                let ranking = read(&state);
                let sections = ranking.board().definition.as_ref().map_or(1, |d| d.source().sections);
                let mark = |section| {
                    let mark = ranking.sections().get(&section);
                    (section, mark.filter(|mark| mark.newest.is_some()).map(|mark| mark.position))
                };
                (ranking.books(), (0..sections).map(mark).collect::<Vec<_>>())
            };
            let mut in_flight = 0;
            for (section, after) in marks {
                in_flight += self.in_flight(quiz, section, after).await?;
            }
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
            let Some(state) = self.ranking(quiz).await? else { return Ok(None) };
            let feed = read(&state).header().feed;
            Ok(Some(self.notices.feed(quiz, feed)))
        }
        .boxed()
    }
}
