//! Writing pages: runs cut into pages, pages put into slots that no manifest names.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt, StreamExt};
use ingest::proto::{Blob, Manifest, Run, RunIndex, RunPage};
use prost::Message;

use super::cache::{Pages, slots_of};
use super::calls::{PageId, Writer};
use super::manifest::seed;
use super::page::{Full, Rows, seal};
use super::usage::What;
use crate::store::{StoreError, Unit};

/// Bytes of one page item at most: DynamoDB takes 400 KB with names and keys.
const ITEM_BYTES_MAX: usize = 360 << 10;
/// Pages of a run that its manifest names itself. A run of more has an index, so that the header stays small.
const INLINE_PAGES_MAX: usize = 8;
/// Pages written at once.
pub(super) const PUTS_AT_ONCE: usize = 8;
/// Slots found taken before it is no coincidence: only another life under the same epoch can take one.
const TAKEN_MAX: usize = 64;

/// One life of an owner: which slots and numbers it may use.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) writer: Writer,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    /// May be written to.
    free: Vec<u64>,
    /// In use for something that no manifest names yet. Until one does, they are listed as free: should this life end,
    /// the next writes over whatever is in them.
    busy: BTreeSet<u64>,
    /// Not for this life: refused when it was written to, or with a deletion on its way that was not answered and may
    /// still come. The next life may have them.
    spoilt: BTreeSet<u64>,
    /// The next one that was never used.
    fresh: u64,
    /// The number of the next page.
    page: u64,
}

impl Session {
    /// Begins a life with what a manifest leaves free.
    pub(super) fn new(unit: Unit, epoch: u64, manifest: &Manifest) -> Self {
        let life = RandomState::new().build_hasher().finish();
        let free = manifest.free.clone();
        let slots = Slots {
            free,
            busy: BTreeSet::new(),
            spoilt: BTreeSet::new(),
            fresh: manifest.slots,
            page: manifest.pages,
        };
        Self { writer: Writer { unit, epoch, life }, slots: Mutex::new(slots) }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics while holding the lock.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> u64 {
        let mut slots = self.lock();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.fresh += 1;
            slots.fresh - 1
        });
        slots.busy.insert(slot);
        slot
    }

    fn numbers(&self, count: usize) -> u64 {
        let mut slots = self.lock();
        slots.page += count as u64;
        slots.page - count as u64
    }

    /// Hands slots back whose pages nobody names any more.
    pub(super) fn give(&self, given: &[u64]) {
        let mut slots = self.lock();
        for slot in given {
            slots.busy.remove(slot);
            slots.free.push(*slot);
        }
    }

    /// Hears that the manifest in force names these slots, or that they are not to be used again.
    pub(super) fn named(&self, named: &[u64]) {
        let mut slots = self.lock();
        for slot in named {
            slots.busy.remove(slot);
        }
    }

    /// Hears that a slot is not to be used again in this life.
    pub(super) fn spoil(&self, slot: u64) {
        let mut slots = self.lock();
        slots.busy.remove(&slot);
        slots.spoilt.insert(slot);
    }

    /// Writes down what is free next to what `named` takes, and the numbers given out.
    pub(super) fn note(&self, manifest: &mut Manifest, named: &[u64]) {
        let slots = self.lock();
        let named: BTreeSet<u64> = named.iter().copied().collect();
        let unnamed = slots.busy.iter().filter(|slot| !named.contains(slot));
        let all: BTreeSet<u64> = slots.free.iter().chain(unnamed).chain(&slots.spoilt).copied().collect();
        manifest.free = all.into_iter().collect();
        manifest.slots = slots.fresh;
        manifest.pages = slots.page;
    }

    /// Takes up to `limit` slots of those that are free beyond `keep`, to delete what is in them.
    pub(super) fn surplus(&self, keep: usize, limit: usize) -> Vec<u64> {
        let mut slots = self.lock();
        let count = slots.free.len().saturating_sub(keep).min(limit);
        let surplus: Vec<u64> = slots.free.drain(..count).collect();
        slots.busy.extend(&surplus);
        surplus
    }
}

/// Bytes on their way into slots. Writing them may fail half-way and be tried again.
#[derive(Debug)]
pub(super) struct Draft {
    blob: Blob,
    parts: Vec<Vec<u8>>,
    /// Parts that are written.
    written: usize,
}

impl Draft {
    fn new(session: &Session, content: &[u8]) -> Self {
        let bytes = seal(seed(session.writer.unit), content);
        let parts: Vec<Vec<u8>> = bytes.chunks(ITEM_BYTES_MAX).map(<[u8]>::to_vec).collect();
        let number = session.numbers(parts.len());
        Self { blob: Blob { epoch: session.writer.epoch, number, slots: Vec::new() }, parts, written: 0 }
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    async fn put(&mut self, pages: &Pages, session: &Session, what: What) -> Result<(), StoreError> {
        let mut taken = 0;
        while let Some(part) = self.parts.get(self.written) {
            if self.blob.slots.len() == self.written {
                self.blob.slots.push(session.take());
            }
            let slot = self.blob.slots[self.written];
            let Blob { epoch, number, .. } = self.blob;
            let page = PageId { slot, epoch, number: number + self.written as u64 };
            if pages.calls.put(session.writer, page, part.clone(), what).await? {
                self.written += 1;
                continue;
            }
            taken += 1;
            still_ours(pages, session.writer, taken).await?;
            self.blob.slots.pop();
            session.spoil(slot);
        }
        Ok(())
    }
}

/// Finds out why a slot was taken: mostly because somebody else owns the unit.
async fn still_ours(pages: &Pages, writer: Writer, taken: usize) -> Result<(), StoreError> {
    let head = pages.calls.head(writer.unit).await?;
    if taken > TAKEN_MAX || head.is_none_or(|head| head.header.epoch != writer.epoch) {
        return Err(StoreError::Fenced);
    }
    Ok(())
}

/// A run on its way.
#[derive(Debug, Default)]
pub(super) struct RunDraft {
    what: Option<What>,
    /// Fences and contents of pages that are not all written.
    drafts: Vec<(Vec<u8>, Draft, Option<Arc<Rows>>)>,
    index: Option<Draft>,
    run: Run,
    pages: Vec<RunPage>,
}

impl RunDraft {
    /// Begins a run over the commits `first` to `last`.
    pub(super) fn new(what: What, level: u32, first: u64, last: u64) -> Self {
        let run = Run { level, first, last, ..Run::default() };
        Self { what: Some(what), run, ..Self::default() }
    }

    /// Adds the next page. With `keep` it is remembered once it is written.
    pub(super) fn push(&mut self, session: &Session, full: Full, keep: bool) {
        let draft = Draft::new(session, &full.content);
        // What the builder made is rows.
        let rows = keep.then(|| Rows::new(full.content).ok().map(Arc::new)).flatten();
        self.run.byte_count += draft.bytes();
        self.run.page_count += 1;
        self.drafts.push((full.fence, draft, rows));
    }

    /// Returns the pages that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.drafts.len()
    }

    /// Writes the pages that wait. Called again after an error, it writes the rest.
    ///
    /// # Errors
    /// As a commit.
    pub(super) async fn put(&mut self, pages: &Pages, session: &Session) -> Result<(), StoreError> {
        let what = self.what.unwrap_or(What::Page);
        let mut puts = Vec::with_capacity(self.drafts.len());
        for (_, draft, _) in &mut self.drafts {
            puts.push(draft.put(pages, session, what).boxed());
        }
        let results: Vec<_> = futures::stream::iter(puts).buffer_unordered(PUTS_AT_ONCE).collect().await;
        // That somebody else owns the unit is worth more to know than that a call was not answered.
        let mut errors: Vec<StoreError> = results.into_iter().filter_map(Result::err).collect();
        errors.sort_by_key(|error| matches!(error, StoreError::Unavailable(_)));
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        for (fence, draft, rows) in self.drafts.drain(..) {
            if let Some(rows) = rows {
                pages.keep_rows(session.writer.unit, &draft.blob, rows);
            }
            self.pages.push(RunPage { fence, blob: Some(draft.blob) });
        }
        Ok(())
    }

    /// Writes what is left, and returns the run with the slots that it takes. Called again after an error, it goes on.
    ///
    /// # Errors
    /// As a commit.
    pub(super) async fn finish(
        &mut self,
        pages: &Pages,
        session: &Session,
        keys: (&[u8], &[u8]),
    ) -> Result<(Run, Vec<u64>), StoreError> {
        self.put(pages, session).await?;
        let (first_key, last_key) = (keys.0.to_vec(), keys.1.to_vec());
        let mut run = Run { first_key, last_key, ..self.run.clone() };
        if self.pages.len() <= INLINE_PAGES_MAX {
            run.pages.clone_from(&self.pages);
        } else {
            let index = || Draft::new(session, &RunIndex { pages: self.pages.clone() }.encode_to_vec());
            let draft = self.index.get_or_insert_with(index);
            draft.put(pages, session, self.what.unwrap_or(What::Page)).await?;
            run.index = Some(draft.blob.clone());
        }
        let slots = slots_of(&run, &self.pages);
        Ok((run, slots))
    }

    /// Returns all slots that were taken for it.
    pub(super) fn slots(&self) -> Vec<u64> {
        let drafts = self.drafts.iter().map(|(_, draft, _)| draft).chain(&self.index);
        let waiting = drafts.flat_map(|draft| draft.blob.slots.iter().copied());
        let written = self.pages.iter().filter_map(|page| page.blob.as_ref());
        written.flat_map(|blob| blob.slots.iter().copied()).chain(waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use ingest::partition::PartitionId;

    use super::*;
    use crate::store::Stage;

    /// A life may end at any time: every slot that it took and no manifest names is free for the next.
    #[test]
    fn no_slot_is_ever_lost() {
        let unit = Unit { stage: Stage::Rank, partition: PartitionId(0) };
        let session = Session::new(unit, 1, &Manifest { free: vec![2], slots: 4, ..Manifest::default() });
        let taken = [session.take(), session.take(), session.take()];
        assert_eq!(taken, [2, 4, 5]);
        let mut manifest = Manifest::default();
        session.note(&mut manifest, &[4]);
        assert_eq!((&*manifest.free, manifest.slots), (&[2, 5][..], 6));
        session.named(&[4]);
        session.give(&[2]);
        session.note(&mut manifest, &[]);
        assert_eq!(manifest.free, [2, 5]);
        assert_eq!(session.surplus(0, 9), [2]);
        session.note(&mut manifest, &[]);
        assert_eq!(manifest.free, [2, 5], "until it is empty");
        session.spoil(2);
        assert_eq!(session.take(), 6, "not in this life");
        session.note(&mut manifest, &[6]);
        assert_eq!(manifest.free, [2, 5], "but in the next");
    }
}
