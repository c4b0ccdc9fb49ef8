//! The DynamoDB store: rows in immutable pages, and per unit a header item that names them.
//!
//! A commit writes its rows as a new run, sorted and cut into pages, and then moves the header by one conditional
//! write: same epoch, and from exactly the position that the commit starts at. The header's manifest names the runs;
//! of each key the newest run's row counts. Merging runs goes on in the background and rides on a later commit.
//!
//! Pages live in numbered slots, each an item with a key of its own. A slot that no manifest names is written over
//! when its page has been out of use for a while: that costs what writing alone costs, deleting would cost as much
//! again. A page carries the epoch and number it was written with, so a reader always knows whether it found the page
//! that was named; and writing to a slot is conditional on them, so that no earlier owner ever touches a later one's.
//! What a crash leaves behind is in slots that count as free, and is written over like any other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::log::Log;
use ingest::table::Table;

use super::{Commit, Header, Row, Store, StoreError, Unit};

mod cache;
mod calls;
mod compact;
mod follow;
mod manifest;
mod owner;
mod page;
mod read;
mod usage;
mod write;

use cache::{Miss, Pages};
use calls::Calls;
pub use manifest::Head;
use owner::Owner;
pub use usage::Usage;

/// How the store cuts, keeps and merges.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of rows in one page, before compression. A larger row has a page of its own.
    pub page_bytes_max: usize,
    /// Bytes of pages kept in memory, uncompressed.
    pub cache_bytes_max: usize,
    /// Runs of one level that are merged into one of the next. More means less writing and slower reading.
    pub fan_in: usize,
    /// Runs of a unit at which commits wait for the merge.
    pub runs_max: usize,
    /// How long merged runs are left alone for readers that began before.
    pub retired_for: Duration,
    /// Pages of one run that a merge reads at once.
    pub pages_ahead: usize,
    /// Free slots that are kept whatever their number: writing over a page costs as much as writing, deleting it as much
    /// again.
    pub free_slots_min: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // As a page is read whole, half of what an item may hold keeps single reads cheap.
            page_bytes_max: 128 << 10,
            cache_bytes_max: 128 << 20,
            // Each row is written once per level: at 16, three times within the first hour of a commit a second.
            fan_in: 16,
            runs_max: 128,
            // Followers look twice a second; a scan of a whole state takes seconds.
            retired_for: Duration::from_secs(60),
            pages_ahead: 4,
            free_slots_min: 64,
        }
    }
}

/// State in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoStore {
    inner: Arc<Inner>,
}

struct Inner {
    pages: Arc<Pages>,
    log: Arc<dyn Log>,
    options: Options,
    units: Mutex<HashMap<Unit, Arc<Owned>>>,
}

/// What this store knows of a unit that it owns, or owned.
#[derive(Default)]
struct Owned {
    /// Held while anything is written.
    owner: tokio::sync::Mutex<Option<Owner>>,
    /// Where the owner stands, for reading while it writes.
    head: Mutex<Option<Head>>,
}

impl Owned {
    fn head(&self) -> Option<Head> {
        // Nothing panics while holding the lock.
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, owner: Option<&Owner>) {
        let head = owner.map(|owner| owner.head().clone());
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }
}

/// Times that a reader starts over because what it read by is no longer there.
const RESTARTS_MAX: usize = 8;

impl DynamoStore {
    /// Returns the store of a table. Effects of commits, if they carry any, go to `log`, which may be any.
    pub fn new(table: Table, log: Arc<dyn Log>, options: Options) -> Self {
        let pages = Arc::new(Pages::new(Calls::new(table), options.cache_bytes_max));
        Self { inner: Arc::new(Inner { pages, log, options, units: Mutex::default() }) }
    }

    /// Returns calls and units used since this store was made, by all its clones.
    pub fn usage(&self) -> Usage {
        self.inner.pages.calls.meter.usage()
    }

    /// Returns a unit as of now; `None` if nobody ever took it.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn head(&self, unit: Unit) -> Result<Option<Head>, StoreError> {
        self.inner.pages.calls.head(unit).await
    }

    /// Returns what all commits after `seq` up to `head.seq` changed, oldest first, removed rows with no value; `None` if
    /// that was merged with earlier changes by now: then scan it all.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn changes_since(
        &self,
        unit: Unit,
        head: &Head,
        seq: u64,
    ) -> Result<Option<Vec<(Vec<u8>, Option<Vec<u8>>)>>, StoreError> {
        match read::changes(&self.inner.pages, unit, &head.manifest, seq).await {
            Ok(changes) => Ok(changes),
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::Gone(_)) => Ok(None),
        }
    }

    /// Returns up to `limit` rows whose key starts with `prefix`, in key order, after the key `after`, as of a head.
    ///
    /// # Errors
    /// `Unavailable`: also if the head is so old that its rows are gone: go on with a new one. `Corrupt`.
    pub async fn scan_at(
        &self,
        unit: Unit,
        head: &Head,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        match read::scan(&self.inner.pages, unit, &head.manifest, prefix, after, limit).await {
            Ok(rows) => Ok(rows),
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::Gone(what)) => match self.head(unit).await? {
                Some(now) if now.seq > head.seq => {
                    Err(StoreError::Unavailable(format!("{what}: look again")))
                }
                _ => Err(StoreError::Corrupt(what)),
            },
        }
    }

    fn owned(&self, unit: Unit) -> Arc<Owned> {
        let mut units = self.inner.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.entry(unit).or_default().clone()
    }

    /// Returns the head to read by: an owner's own, everybody else's the newest.
    async fn readable(&self, unit: Unit, epoch: Option<u64>) -> Result<Option<Head>, StoreError> {
        let Some(epoch) = epoch else { return self.head(unit).await };
        let owned = self.owned(unit).head();
        let head = match owned.filter(|head| head.header.epoch == epoch) {
            Some(head) => Some(head),
            None => self.head(unit).await?,
        };
        let is_over = head.as_ref().is_none_or(|head| head.header.epoch != epoch);
        if is_over { Err(StoreError::Fenced) } else { Ok(head) }
    }

    /// Returns the newer head to read by when what `head` names is gone.
    async fn newer(
        &self,
        unit: Unit,
        epoch: Option<u64>,
        head: &Head,
        gone: String,
    ) -> Result<Head, StoreError> {
        let Some(now) = self.head(unit).await? else { return Err(StoreError::Corrupt(gone)) };
        if epoch.is_some_and(|epoch| now.header.epoch != epoch) {
            return Err(StoreError::Fenced);
        }
        // Nothing has changed since: what is named must be there.
        if now.seq == head.seq { Err(StoreError::Corrupt(gone)) } else { Ok(now) }
    }

    async fn rows(
        &self,
        unit: Unit,
        epoch: Option<u64>,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let Some(mut head) = self.readable(unit, epoch).await? else { return Ok(Vec::new()) };
        for _ in 0..RESTARTS_MAX {
            match read::scan(&self.inner.pages, unit, &head.manifest, prefix, after, limit).await {
                Ok(rows) => return Ok(rows),
                Err(Miss::Failed(error)) => return Err(error),
                Err(Miss::Gone(what)) => head = self.newer(unit, epoch, &head, what).await?,
            }
        }
        Err(too_slow())
    }

    async fn row(&self, unit: Unit, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut head) = self.head(unit).await? else { return Ok(None) };
        for _ in 0..RESTARTS_MAX {
            match read::get(&self.inner.pages, unit, &head.manifest, key).await {
                Ok(value) => return Ok(value),
                Err(Miss::Failed(error)) => return Err(error),
                Err(Miss::Gone(what)) => head = self.newer(unit, None, &head, what).await?,
            }
        }
        Err(too_slow())
    }

    async fn take(&self, unit: Unit) -> Result<Header, StoreError> {
        let owned = self.owned(unit);
        let mut owner = owned.owner.lock().await;
        let calls = &self.inner.pages.calls;
        let found = calls.head(unit).await?.map(|head| head.header.epoch);
        let head = calls.raise(unit, found).await?;
        let header = head.header;
        *owner = Some(Owner::new(self.inner.pages.clone(), self.inner.options, unit, head));
        owned.note(owner.as_ref());
        Ok(header)
    }

    async fn step(&self, commit: &Commit) -> Result<(), StoreError> {
        let unit = commit.unit;
        let owned = self.owned(unit);
        let mut owner = owned.owner.lock().await;
        if owner.as_ref().is_none_or(|owner| owner.head().header != commit.from) {
            // Done already, or begun by an earlier life of this worker, or over.
            let head = match owner.as_ref().filter(|owner| owner.head().header == commit.to()) {
                Some(_) => return Ok(()),
                None => self.head(unit).await?.ok_or(StoreError::Fenced)?,
            };
            if head.header == commit.to() {
                return Ok(());
            }
            if head.header != commit.from {
                return Err(StoreError::Fenced);
            }
            *owner = Some(Owner::new(self.inner.pages.clone(), self.inner.options, unit, head));
        }
        if commit.from.position.is_some_and(|from| from >= commit.position) {
            return Err(StoreError::Fenced);
        }
        let Some(current) = owner.as_mut() else { return Err(StoreError::Fenced) };
        let done = current.commit(commit, &*self.inner.log).await;
        if done == Err(StoreError::Fenced) {
            *owner = None;
        }
        owned.note(owner.as_ref());
        done
    }
}

fn too_slow() -> StoreError {
    StoreError::Unavailable("pages go faster than they can be read".into())
}

impl Store for DynamoStore {
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>> {
        self.take(unit).boxed()
    }

    fn scan<'a>(
        &'a self,
        unit: Unit,
        epoch: Option<u64>,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.rows(unit, epoch, prefix, after, limit).boxed()
    }

    fn get<'a>(&'a self, unit: Unit, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        self.row(unit, key).boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        self.step(commit).boxed()
    }
}
