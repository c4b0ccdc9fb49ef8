//! What the gateway reads: views of quizzes and rankings. They may lag behind the log, and say by how much.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use operators::definition::{Definition, RankingRule};
use operators::effect::{QuizStatus, Receipt};
use operators::event::Decided;
use operators::id::{CommandId, ParticipantId, QuizId, SubmissionId, UnixMillis};
use operators::rank::{Books, Cursor, Row};
use rust_decimal::Decimal;
use tokio::sync::watch;

/// A view could not be read: ask again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the view did not answer: {0}")]
pub struct Unavailable(pub String);

/// A quiz as the gateway knows it, keys included: what a caller may see of it is decided at the door.
#[derive(Debug, Clone)]
pub struct QuizView {
    /// The quiz.
    pub quiz: QuizId,
    /// The definition in force.
    pub definition: Arc<Definition>,
    /// The newest status that every section has reached.
    pub status: QuizStatus,
    /// Participants that joined.
    pub participants: u64,
    /// No answer counts any more.
    pub is_final: bool,
    /// Questions, by index, whose answers are sealed.
    pub sealed: Vec<u16>,
}

/// A piece of a leaderboard.
#[derive(Debug, Clone)]
pub struct BoardView {
    /// Changes of the ranking that took effect.
    pub revision: u64,
    /// Sequence of the live feed.
    pub feed: u64,
    /// Participants in all.
    pub participants: u64,
    /// The rule that ordered the rows.
    pub rule: RankingRule,
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page starts.
    pub next: Option<Cursor>,
}

/// Which piece of a leaderboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// From the top or after a cursor.
    After(Option<Cursor>),
    /// A participant and the limit's number of neighbours on either side.
    Around(ParticipantId),
}

/// One participant's place.
#[derive(Debug, Clone)]
pub struct PlaceView {
    /// The row.
    pub row: Row,
    /// Share of participants below, in percent.
    pub percentile: Decimal,
}

/// The books of a quiz.
#[derive(Debug, Clone)]
pub struct BooksView {
    /// Figures as of the view.
    pub books: Books,
    /// Answers in the log that the view does not show yet.
    pub in_flight: u64,
}

/// Something that a caller waits to see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// The outcome of a host command.
    Command(CommandId),
    /// A participant under a name.
    Participant(ParticipantId, String),
    /// The judgement of a submission.
    Submission(ParticipantId, SubmissionId),
}

/// What was awaited, visible now.
#[derive(Debug, Clone)]
pub enum Seen {
    /// What became of the command of that id.
    Command(Decided),
    /// The participant is in the ranking.
    Participant,
    /// The receipt.
    Submission(Box<Receipt>),
}

/// Why waiting ended without seeing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// Not visible within the time.
    #[error("not visible yet")]
    TimedOut,
    /// Too many are waiting already; nothing was awaited.
    #[error("too many requests are waiting")]
    TooMany,
    /// The view could not be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The gateway's reads. Nothing here is ever used as state by an operator.
pub trait Views: Send + Sync + 'static {
    /// Returns when the views of this quiz were last known to hold everything that the log held.
    fn as_of(&self, quiz: &QuizId) -> UnixMillis;

    /// Returns a quiz, or `None` if nobody published it.
    fn quiz<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Arc<QuizView>>, Unavailable>>;

    /// Returns up to `limit` quizzes in the order of their ids, after one.
    fn quizzes<'a>(
        &'a self,
        after: Option<&'a QuizId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<QuizView>>, Unavailable>>;

    /// Returns a piece of the leaderboard; `None` for an unknown quiz, or an unknown participant to look around.
    fn board<'a>(
        &'a self,
        quiz: &'a QuizId,
        page: Page,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<BoardView>, Unavailable>>;

    /// Returns one participant's place.
    fn place<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
    ) -> BoxFuture<'a, Result<Option<PlaceView>, Unavailable>>;

    /// Returns the receipt of the answer that used up one question, by its index.
    fn counted<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
        question: u16,
    ) -> BoxFuture<'a, Result<Option<Receipt>, Unavailable>>;

    /// Returns all receipts kept of a participant: counted ones by question, then the newest unscored ones.
    fn receipts<'a>(
        &'a self,
        quiz: &'a QuizId,
        participant: ParticipantId,
    ) -> BoxFuture<'a, Result<Vec<Receipt>, Unavailable>>;

    /// Returns the books.
    fn books<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<BooksView>, Unavailable>>;

    /// Waits until something is visible. Register before the append, so that nothing is missed.
    ///
    /// The future does its first look when polled; waiters are bounded.
    fn wait<'a>(
        &'a self,
        quiz: &'a QuizId,
        awaited: Awaited,
        within: Duration,
    ) -> BoxFuture<'a, Result<Seen, WaitError>>;

    /// Returns the sequence of the quiz's live feed as it moves; `None` for an unknown quiz.
    fn feed<'a>(
        &'a self,
        quiz: &'a QuizId,
    ) -> BoxFuture<'a, Result<Option<watch::Receiver<u64>>, Unavailable>>;
}

/// Returns the judgement of a submission that holds: one that came too early and was handed in again, or that was
/// overruled and counted after all, has two.
pub fn newest(receipts: &[Receipt], submission: SubmissionId) -> Option<&Receipt> {
    let same = receipts.iter().filter(|receipt| receipt.submission == submission);
    same.max_by_key(|receipt| receipt.revision)
}
