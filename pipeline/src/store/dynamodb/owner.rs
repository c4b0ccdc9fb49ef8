//! An owner: takes commits one after the other, each a new run and then one conditional write of the header.

use std::sync::Arc;
use std::time::Duration;

use ingest::codec::part;
use ingest::log::Log;
use ingest::proto::{Manifest, Run};
use tokio::time::Instant;

use super::Options;
use super::cache::Pages;
use super::calls::Moved;
use super::compact::{Merged, Merging};
use super::manifest::{Head, corrupt, forget, plan};
use super::page::Builder;
use super::usage::What;
use super::write::{RunDraft, Session};
use crate::store::{Commit, Header, StoreError, Unit};

/// How long a commit waits for the merge when there are too many runs, before it is to be asked for again: its caller has
/// a lease to keep.
const MERGE_WAIT: Duration = Duration::from_secs(1);
/// Forgotten prefixes at which a commit waits for the merge: they are part of the header, which is one item.
const FORGOTTEN_WAIT: usize = 1_024;
/// Slots emptied after one commit at most.
const DELETES_MAX: usize = 16;

/// The owner of a unit.
#[derive(Debug)]
pub(super) struct Owner {
    pages: Arc<Pages>,
    options: Options,
    head: Head,
    session: Arc<Session>,
    /// The commit that was begun and not answered.
    pending: Option<Pending>,
    merging: Option<Merging>,
    /// Since when the retired runs of the manifest are.
    retired_at: Vec<Instant>,
    /// How many of them, the oldest, have had their slots given back.
    released: usize,
}

/// A commit that may be asked for again: what was done of it is not done twice.
#[derive(Debug)]
struct Pending {
    from: Header,
    to: Header,
    effects_sent: usize,
    draft: RunDraft,
    /// First and last of the rows.
    keys: (Vec<u8>, Vec<u8>),
    forget: Vec<Vec<u8>>,
    next: Option<Next>,
}

/// The head that a commit makes. Once it was sent it may be in force, so it is not made anew.
#[derive(Debug)]
struct Next {
    head: Head,
    /// Slots that it names and the one before does not.
    named: Vec<u64>,
    /// Runs that it retires.
    retires: usize,
}

impl Owner {
    /// Returns the owner of what a head describes; whatever else is in the table is free for it.
    pub(super) fn new(pages: Arc<Pages>, options: Options, unit: Unit, head: Head) -> Self {
        let session = Session::new(unit, head.header.epoch, &head.manifest);
        // Readers that go by an older head may have begun just now.
        let retired_at = vec![Instant::now(); head.manifest.retired.len()];
        Self {
            pages,
            options,
            head,
            session: Arc::new(session),
            pending: None,
            merging: None,
            retired_at,
            released: 0,
        }
    }

    /// Returns where it stands.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Makes a commit durable that begins where this owner stands.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`]. After `Fenced` this is no owner any more.
    pub(super) async fn commit(&mut self, commit: &Commit, log: &dyn Log) -> Result<(), StoreError> {
        self.begin(commit);
        self.send_effects(commit, log).await?;
        self.put_rows().await?;
        let unit = commit.unit;
        let Some(Pending { next: Some(next), from, to, .. }) = &self.pending else {
            return Err(corrupt(unit, "a commit was not prepared"));
        };
        match self.pages.calls.advance(unit, *from, &next.head).await? {
            Moved::Yes => {}
            // Our own earlier try, whose answer was lost.
            Moved::No(Some(found)) if found.header == *to && found.manifest == next.head.manifest => {}
            // Somebody with the same epoch made the same step: theirs is the one in force.
            Moved::No(Some(found)) if found.header == *to => {
                *self = Self::new(self.pages.clone(), self.options, unit, found);
                return Ok(());
            }
            Moved::No(Some(_)) => return Err(StoreError::Fenced),
            Moved::No(None) => return Err(corrupt(unit, "it is gone")),
        }
        self.moved();
        Ok(())
    }

    fn begin(&mut self, commit: &Commit) {
        let to = commit.to();
        if self.pending.as_ref().is_some_and(|pending| pending.to == to && pending.from == commit.from) {
            return;
        }
        // Another commit instead: what the first took is free again, unless its head was sent and may yet be in force.
        if let Some(Pending { draft, next: None, .. }) = self.pending.take() {
            self.session.give(&draft.slots());
        }
        self.release();
        let mut rows: Vec<_> = commit.changes.rows.iter().collect();
        rows.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let seq = self.head.seq + 1;
        let mut draft = RunDraft::new(What::Page, 0, seq, seq);
        let mut builder = Builder::new(self.options.page_bytes_max);
        for (key, value) in rows {
            if let Some(full) = builder.push(key, value.as_deref()) {
                draft.push(&self.session, full, true);
            }
        }
        let (rest, first, last) = builder.finish();
        if let Some(full) = rest {
            draft.push(&self.session, full, true);
        }
        let keys = (first, last);
        let forget = commit.changes.forget.clone();
        self.pending =
            Some(Pending { from: commit.from, to, effects_sent: 0, draft, keys, forget, next: None });
    }

    /// Appends effects in order. They go out ahead of the state that made them, so a crash sends them once more.
    async fn send_effects(&mut self, commit: &Commit, log: &dyn Log) -> Result<(), StoreError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        if pending.effects_sent == commit.effects.len() {
            return Ok(());
        }
        // Readers drop repeats, but what a later owner will never make again they could not tell.
        let head = self.pages.calls.head(commit.unit).await?;
        if head.is_none_or(|head| head.header != commit.from && head.header != commit.to()) {
            return Err(StoreError::Fenced);
        }
        while pending.effects_sent < commit.effects.len() {
            let rest = &commit.effects[pending.effects_sent..];
            let chunk = &rest[..rest.len().min(ingest::limits::BATCH_RECORDS_MAX)];
            log.append(chunk.to_vec()).await?;
            pending.effects_sent += chunk.len();
        }
        Ok(())
    }

    /// Writes the pages of the pending commit, and makes the head that names them.
    async fn put_rows(&mut self) -> Result<(), StoreError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        if pending.next.is_some() {
            return Ok(());
        }
        let (first, last) = &pending.keys;
        // A run without rows is one as well: followers tell by it that nothing changed.
        let (run, mut named) = pending.draft.finish(&self.pages, &self.session, (first, last)).await?;
        let merged = self.merged().await?;
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let mut manifest = (*self.head.manifest).clone();
        manifest.retired.drain(..self.released);
        let retires = merged.as_ref().map_or(0, |merged| merged.retired.len());
        if let Some(merged) = merged {
            named.extend(&merged.slots);
            install(&mut manifest, merged);
        }
        manifest.commits += 1;
        forget(&mut manifest, &pending.forget, run.first);
        manifest.runs.push(run);
        manifest.position = pending.to.position.map(part::position_bytes).unwrap_or_default();
        self.session.note(&mut manifest, &named);
        let Header { epoch, append_at, .. } = pending.to;
        let head = Head::new(epoch, append_at, manifest);
        let head = head.map_err(|reason| corrupt(self.session.writer.unit, &reason))?;
        pending.next = Some(Next { head, named, retires });
        Ok(())
    }

    /// Returns what the merge in the background made, if it is done. With far too many runs or
    /// forgotten prefixes it is waited for.
    async fn merged(&mut self) -> Result<Option<Merged>, StoreError> {
        let Some(merging) = &mut self.merging else { return Ok(None) };
        let Manifest { runs, forgotten, .. } = &*self.head.manifest;
        let urgent = runs.len() >= self.options.runs_max || forgotten.len() >= FORGOTTEN_WAIT;
        if !urgent && !merging.is_finished() {
            return Ok(None);
        }
        let merged = tokio::time::timeout(MERGE_WAIT, merging.wait()).await;
        let Ok(merged) = merged else {
            return Err(StoreError::Unavailable("the merge of its pages is behind".into()));
        };
        self.merging = None;
        merged.transpose()
    }

    /// The pending commit is in force.
    fn moved(&mut self) {
        let Some(Pending { next: Some(next), .. }) = self.pending.take() else { return };
        self.session.named(&next.named);
        self.retired_at.drain(..self.released);
        self.released = 0;
        self.retired_at.extend(std::iter::repeat_n(Instant::now(), next.retires));
        self.head = next.head;
        if self.merging.is_none()
            && let Some(range) = plan(&self.head.manifest, self.options.fan_in)
        {
            let (pages, session) = (self.pages.clone(), self.session.clone());
            self.merging = Some(Merging::start(pages, session, &self.head.manifest, range, self.options));
        }
        self.delete_surplus();
    }

    /// Gives the slots of runs back that were retired long enough ago.
    fn release(&mut self) {
        let kept = &self.head.manifest.retired[self.released..];
        let old =
            self.retired_at[self.released..].iter().take_while(|at| at.elapsed() >= self.options.retired_for);
        let old = old.count();
        for retired in &kept[..old] {
            self.session.give(&retired.slots);
        }
        self.released += old;
    }

    /// Empties free slots when there are more of them than pages: a state that shrank is not kept for ever.
    fn delete_surplus(&self) {
        let live: u64 = self.head.manifest.runs.iter().map(|run| run.page_count).sum();
        let surplus = self.session.surplus(self.options.free_slots_min.max(live as usize), DELETES_MAX);
        if surplus.is_empty() {
            return;
        }
        let (pages, session) = (self.pages.clone(), self.session.clone());
        tokio::spawn(async move {
            for slot in surplus {
                match pages.calls.delete(session.writer, slot).await {
                    Ok(()) => session.named(&[slot]),
                    Err(error) => {
                        // It may still be carried out: a page written here before that would be gone.
                        tracing::debug!(slot, %error, "page not deleted, its slot is left to the next owner");
                        session.spoil(slot);
                    }
                }
            }
        });
    }
}

/// Puts a merged run in the place of those that it was made of.
fn install(manifest: &mut Manifest, merged: Merged) {
    let Merged { run, retired, .. } = merged;
    let inside = |old: &Run| run.first <= old.first && old.last <= run.last;
    let at = manifest.runs.iter().position(inside).unwrap_or(manifest.runs.len());
    manifest.runs.retain(|old| !inside(old));
    manifest.runs.insert(at, run);
    manifest.retired.extend(retired);
}
