//! Pages by name: read once, kept while there is room. They never change, so nothing here is ever stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use ingest::proto::{Blob, Run, RunIndex, RunPage};
use prost::Message;

use super::calls::{Calls, PageId};
use super::manifest::{name, seed};
use super::page::{Rows, unseal};
use crate::store::{StoreError, Unit};

/// A page was not read.
#[derive(Debug)]
pub(super) enum Miss {
    /// It is not there: deleted, or something else is in its slot. Says which.
    Gone(String),
    /// As for any call.
    Failed(StoreError),
}

/// What to do with a page that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Somebody will ask again.
    Yes,
    /// It is read in passing, and what others use is not to go for it.
    No,
}

#[derive(Debug, Clone)]
enum Content {
    Rows(Arc<Rows>),
    Index(Arc<RunIndex>),
}

/// The pages of a table.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) calls: Calls,
    kept: Mutex<Kept>,
    bytes_max: usize,
}

/// The unit, and the first page of a blob.
type Key = (Unit, PageId);

#[derive(Debug, Default)]
struct Kept {
    pages: HashMap<Key, Entry>,
    /// By when they were last used.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    bytes: usize,
    used: u64,
}

/// Memory that an entry takes besides its content.
const ENTRY_BYTES: usize = 200;

impl Kept {
    fn get(&mut self, key: &Key) -> Option<Content> {
        let entry = self.pages.get_mut(key)?;
        self.order.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.order.insert(self.clock, *key);
        Some(entry.content.clone())
    }

    fn put(&mut self, key: Key, content: Content, bytes: usize, bytes_max: usize) {
        self.clock += 1;
        let entry = Entry { content, bytes: bytes + ENTRY_BYTES, used: self.clock };
        self.bytes += entry.bytes;
        self.order.insert(self.clock, key);
        if let Some(old) = self.pages.insert(key, entry) {
            self.order.remove(&old.used);
            self.bytes -= old.bytes;
        }
        while self.bytes > bytes_max
            && let Some((_, key)) = self.order.pop_first()
        {
            self.bytes -= self.pages.remove(&key).map_or(0, |entry| entry.bytes);
        }
    }
}

impl Pages {
    pub(super) fn new(calls: Calls, bytes_max: usize) -> Self {
        Self { calls, kept: Mutex::default(), bytes_max }
    }

    /// Returns rows.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) async fn rows(&self, unit: Unit, blob: &Blob, keep: Keep) -> Result<Arc<Rows>, Miss> {
        if let Some(Content::Rows(rows)) = self.kept(unit, blob) {
            return Ok(rows);
        }
        let content = self.content(unit, blob).await?;
        let rows = Arc::new(Rows::new(content).map_err(|reason| damaged(unit, blob, &reason))?);
        if keep == Keep::Yes {
            self.keep_rows(unit, blob, rows.clone());
        }
        Ok(rows)
    }

    /// Returns the pages of a run, in key order.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) async fn pages_of(&self, unit: Unit, run: &Run) -> Result<Arc<RunIndex>, Miss> {
        let Some(blob) = &run.index else { return Ok(Arc::new(RunIndex { pages: run.pages.clone() })) };
        if let Some(Content::Index(index)) = self.kept(unit, blob) {
            return Ok(index);
        }
        let content = self.content(unit, blob).await?;
        let index = RunIndex::decode(&*content).map_err(|error| damaged(unit, blob, &error.to_string()))?;
        let index = Arc::new(index);
        if let Some(key) = key(unit, blob) {
            self.lock().put(key, Content::Index(index.clone()), content.len() * 2, self.bytes_max);
        }
        Ok(index)
    }

    /// Remembers rows that were just written, or read.
    pub(super) fn keep_rows(&self, unit: Unit, blob: &Blob, rows: Arc<Rows>) {
        let bytes = rows.bytes();
        if let Some(key) = key(unit, blob) {
            self.lock().put(key, Content::Rows(rows), bytes, self.bytes_max);
        }
    }

    fn kept(&self, unit: Unit, blob: &Blob) -> Option<Content> {
        self.lock().get(&key(unit, blob)?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing panics while holding the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn content(&self, unit: Unit, blob: &Blob) -> Result<Vec<u8>, Miss> {
        let parts = page_ids(blob).map(|page| self.calls.get(unit, page).boxed());
        let parts = futures::future::try_join_all(parts).await.map_err(Miss::Failed)?;
        let parts: Option<Vec<Vec<u8>>> = parts.into_iter().collect();
        let bytes = parts.ok_or_else(|| Miss::Gone(format!("{} is gone", describe(unit, blob))))?.concat();
        unseal(seed(unit), &bytes).map_err(|reason| damaged(unit, blob, &reason))
    }
}

/// Returns the pages that a blob's bytes are in, in order.
pub(super) fn page_ids(blob: &Blob) -> impl Iterator<Item = PageId> {
    let (epoch, first) = (blob.epoch, blob.number);
    blob.slots.iter().zip(first..).map(move |(&slot, number)| PageId { slot, epoch, number })
}

/// Returns the slots that a run takes, with its index.
pub(super) fn slots_of(run: &Run, pages: &[RunPage]) -> Vec<u64> {
    let blobs = pages.iter().filter_map(|page| page.blob.as_ref()).chain(&run.index);
    blobs.flat_map(|blob| blob.slots.iter().copied()).collect()
}

fn key(unit: Unit, blob: &Blob) -> Option<Key> {
    Some((unit, page_ids(blob).next()?))
}

fn describe(unit: Unit, blob: &Blob) -> String {
    let Blob { epoch, number, slots } = blob;
    format!("page {number} of epoch {epoch} in slots {slots:?} of unit {}", name(unit))
}

fn damaged(unit: Unit, blob: &Blob, reason: &str) -> Miss {
    Miss::Failed(StoreError::Corrupt(format!("{}: {reason}", describe(unit, blob))))
}
