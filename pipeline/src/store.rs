//! Where a stage keeps its state: rows and a header per partition, moved on together.

use futures::future::BoxFuture;
use ingest::error::AppendError;
use ingest::log::{Record, Stream};
use ingest::partition::PartitionId;
use operators::id::{Position, UnixMillis};

#[cfg(feature = "cluster")]
pub mod dynamodb;
pub mod embedded;

/// A stage of the pipeline that keeps state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Folds `submissions` into sections.
    Grade,
    /// Folds `standings` into rankings.
    Rank,
}

impl Stage {
    /// Returns the name used in metrics and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grade => "grade",
            Self::Rank => "rank",
        }
    }
    /// Returns the stream that the stage reads.
    pub fn input(self) -> Stream {
        match self {
            Self::Grade => Stream::Submissions,
            Self::Rank => Stream::Standings,
        }
    }
}

/// One stage's work on one partition: what a worker owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// The stage.
    pub stage: Stage,
    /// The partition of its input.
    pub partition: PartitionId,
}

/// Where a unit stands: who owns it and what is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Changes only with the owner; a taker sets stored + 1.
    pub epoch: u64,
    /// The last record whose effects and state are durable; the next one is the first that is not.
    pub position: Option<Position>,
    /// The append time that it was applied with. Those behind it are applied with no earlier one: append times never go
    /// back, although not every log keeps to that by itself.
    pub append_at: UnixMillis,
}

/// Everything that one step changes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Whose.
    pub unit: Unit,
    /// The header that the owner holds.
    pub from: Header,
    /// The last record of the step.
    pub position: Position,
    /// The append time that it was applied with.
    pub append_at: UnixMillis,
    /// Effects, in order. They are durable before, or with, anything below.
    pub effects: Vec<Record>,
    /// What becomes of the rows.
    pub changes: Changes,
}

/// What becomes of a unit's rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Prefixes of keys: all rows under them that earlier commits wrote are removed, however many there are.
    pub forget: Vec<Vec<u8>>,
    /// Rows to write, or with no value to remove; a key occurs once.
    pub rows: Vec<Change>,
}

impl From<Vec<Change>> for Changes {
    fn from(rows: Vec<Change>) -> Self {
        Self { forget: Vec::new(), rows }
    }
}

impl Commit {
    /// Returns the header that this commit leaves.
    pub fn to(&self) -> Header {
        Header { position: Some(self.position), append_at: self.append_at, ..self.from }
    }
}

/// A store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Someone else owns the unit: drop everything and stop.
    #[error("another worker owns this partition")]
    Fenced,
    /// Unknown whether it happened: do the same again.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// Stop and call a person.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

impl From<AppendError> for StoreError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Overloaded { .. } => Self::Unavailable("the log is overloaded".into()),
            AppendError::Unavailable(reason) => Self::Unavailable(reason),
            AppendError::Invalid { reason, .. } | AppendError::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// State of units, written whole or not at all.
pub trait Store: Send + Sync {
    /// Takes a unit over: raises its epoch, so that no earlier owner can commit any more, and returns its header.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>>;

    /// Returns up to `limit` rows of a unit whose key starts with `prefix`, in key order, after the key `after`.
    ///
    /// An owner gives its epoch, and never gets to see what a later owner wrote: going on from that, it would send
    /// effects which nobody can make again. Other readers give none.
    ///
    /// # Errors
    /// `Fenced`: the epoch is over. `Unavailable`, `Corrupt`.
    fn scan<'a>(
        &'a self,
        unit: Unit,
        epoch: Option<u64>,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    /// Returns the value of one row of a unit, for any reader.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    fn get<'a>(&'a self, unit: Unit, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>>;

    /// Makes a step durable: effects, then rows, then the header, which moves only from `commit.from` forward.
    ///
    /// Safe to call again with the same commit: finding the header where this commit puts it is success.
    ///
    /// # Errors
    /// `Fenced`: stop. `Unavailable`: call again with the same commit. `Corrupt`: call a person.
    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A change of one row: its key, and its value unless it was removed.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Where a unit stands, with the name of its state; `None` before its first owner.
pub type Standing<H> = Option<(Header, H)>;

/// A store whose states can be followed from elsewhere, by readers that own nothing.
pub trait Follow: Send + Sync + 'static {
    /// Names one state of a unit, whole.
    type Head: Clone + Send + Sync + 'static;

    /// Returns where a unit stands now and its state, strongly consistent; `None` before its first owner.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    fn head<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Standing<Self::Head>, StoreError>>;

    /// Returns the rows that changed from one state to a later one, oldest change first; `None` if that is not kept any
    /// more and the reader has to start anew.
    ///
    /// # Errors
    /// `Unavailable`: also when the later state is not kept any more, look for a newer one. `Corrupt`.
    fn changes<'a>(
        &'a self,
        unit: Unit,
        from: &'a Self::Head,
        to: &'a Self::Head,
    ) -> BoxFuture<'a, Result<Option<Vec<Change>>, StoreError>>;

    /// Returns rows of one state, as [`Store::scan`] does.
    ///
    /// # Errors
    /// `Unavailable`: also when this state is not kept any more, look for a newer one. `Corrupt`.
    fn scan_at<'a>(
        &'a self,
        unit: Unit,
        head: &'a Self::Head,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;
}

/// Rows read by one scan: enough to make the calls few, bounded in memory.
pub const SCAN_ROWS_MAX: usize = 4_096;

/// Returns all rows of a unit whose key starts with `prefix`, in key order.
///
/// # Errors
/// As [`Store::scan`].
pub async fn scan_all(
    store: &dyn Store,
    unit: Unit,
    epoch: Option<u64>,
    prefix: &[u8],
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|(key, _): &Row| key.clone());
        let page = store.scan(unit, epoch, prefix, after.as_deref(), SCAN_ROWS_MAX).await?;
        let last = page.len() < SCAN_ROWS_MAX;
        rows.extend(page);
        if last {
            return Ok(rows);
        }
    }
}
