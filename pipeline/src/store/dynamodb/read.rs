//! Reading: runs merged into rows, the newest of each key.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use futures::FutureExt;
use ingest::proto::{Blob, Manifest, Run};

use super::cache::{Keep, Miss, Pages};
use super::manifest::{Oblivion, behind, overlaps, since};
use super::page::{Place, Rows};
use crate::store::{Row, Unit};

/// Key of a row and its value; a removed row has none.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Keys from `start` on and below `end`.
#[derive(Debug, Clone, Default)]
pub(super) struct Range {
    pub(super) start: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

/// How a reader goes through pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Pages of one run that are read at once.
    pub(super) ahead: usize,
    /// Whether they are remembered.
    pub(super) keep: Keep,
}

/// One run being read.
struct Cursor {
    blobs: VecDeque<Blob>,
    loaded: VecDeque<Arc<Rows>>,
    place: Place,
    range: Range,
    /// The newest commit in the run.
    last: u64,
}

impl Cursor {
    async fn open(pages: &Pages, unit: Unit, run: &Run, range: &Range) -> Result<Self, Miss> {
        let index = pages.pages_of(unit, run).await?;
        let below = |fence: &[u8], key: &[u8]| fence <= key;
        // Of the pages that begin at the start or ahead of it, only the last can hold it.
        let first = index.pages.partition_point(|page| below(&page.fence, &range.start)).saturating_sub(1);
        let inside = index.pages[first.min(index.pages.len())..].iter();
        let inside = inside.take_while(|page| range.end.as_ref().is_none_or(|end| page.fence < *end));
        let blobs = inside.filter_map(|page| page.blob.clone()).collect();
        Ok(Self {
            blobs,
            loaded: VecDeque::new(),
            place: Place::default(),
            range: range.clone(),
            last: run.last,
        })
    }

    /// Reads what is needed for the next row. Called again after an error, it goes on where it was.
    async fn fill(&mut self, pages: &Pages, unit: Unit, way: Way) -> Result<(), Miss> {
        if self.loaded.is_empty() && !self.blobs.is_empty() {
            let count = way.ahead.clamp(1, self.blobs.len());
            let loading = self.blobs.iter().take(count).map(|blob| pages.rows(unit, blob, way.keep).boxed());
            let loaded = futures::future::try_join_all(loading).await?;
            self.loaded = loaded.into();
            self.blobs.drain(..count);
            self.enter();
        }
        Ok(())
    }

    /// Goes to the first row of the range in the first page loaded.
    fn enter(&mut self) {
        self.place = Place::default();
        if let Some(rows) = self.loaded.front() {
            rows.seek(&mut self.place, &self.range.start);
        }
    }

    /// Returns the next row of what is loaded.
    fn next(&mut self) -> Option<Change> {
        loop {
            let rows = self.loaded.front()?;
            if let Some((key, value)) = rows.next(&mut self.place) {
                if self.range.end.as_ref().is_some_and(|end| key >= *end) {
                    self.loaded.clear();
                    self.blobs.clear();
                    return None;
                }
                return Some((key, value.map(<[u8]>::to_vec)));
            }
            self.loaded.pop_front();
            self.enter();
        }
    }
}

/// A row with the number of its cursor: of one key, the newest comes first.
type Next = (Vec<u8>, usize, Option<Vec<u8>>);

/// Runs being merged: each key once, with what the newest run says of it.
pub(super) struct Merge<'a> {
    pages: &'a Pages,
    unit: Unit,
    way: Way,
    /// Newest first.
    cursors: Vec<Cursor>,
    /// The next row of every cursor that has one.
    heads: BinaryHeap<Reverse<Next>>,
    /// Cursors whose next row is not among those yet.
    waiting: Vec<usize>,
    oblivion: Oblivion,
}

impl<'a> Merge<'a> {
    /// Begins to merge runs, given oldest first.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) async fn open(
        pages: &'a Pages,
        unit: Unit,
        runs: &[Run],
        oblivion: &Oblivion,
        range: &Range,
        way: Way,
    ) -> Result<Self, Miss> {
        let touched = runs.iter().rev().filter(|run| overlaps(run, &range.start, range.end.as_deref()));
        let cursors = touched.map(|run| Cursor::open(pages, unit, run, range).boxed());
        let mut cursors = futures::future::try_join_all(cursors).await?;
        // All at once: one by one they would take as many round trips as there are runs.
        let fills = cursors.iter_mut().map(|cursor| cursor.fill(pages, unit, way).boxed());
        futures::future::try_join_all(fills).await?;
        let waiting = (0..cursors.len()).collect();
        let oblivion = oblivion.clone();
        Ok(Self { pages, unit, way, cursors, heads: BinaryHeap::new(), waiting, oblivion })
    }

    /// Returns the next row, removed ones included. Called again after an error, it goes on where it was.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) async fn next(&mut self) -> Result<Option<Change>, Miss> {
        loop {
            self.settle().await?;
            let Some(Reverse((key, newest, value))) = self.heads.pop() else { return Ok(None) };
            self.waiting.push(newest);
            while let Some(Reverse((same, _, _))) = self.heads.peek()
                && *same == key
            {
                let older = self.heads.pop().map(|Reverse((_, older, _))| older);
                self.waiting.extend(older);
            }
            // With the newest of a key, all older ones are forgotten.
            if !self.oblivion.hides(&key, self.cursors[newest].last) {
                return Ok(Some((key, value)));
            }
        }
    }

    async fn settle(&mut self) -> Result<(), Miss> {
        while let Some(&number) = self.waiting.last() {
            let cursor = &mut self.cursors[number];
            let mut next = cursor.next();
            if next.is_none() && !cursor.blobs.is_empty() {
                cursor.fill(self.pages, self.unit, self.way).await?;
                next = cursor.next();
            }
            match next {
                Some((key, value)) => self.heads.push(Reverse((key, number, value))),
                // A page may end ahead of the start.
                None if !cursor.blobs.is_empty() => continue,
                None => {}
            }
            self.waiting.pop();
        }
        Ok(())
    }
}

/// Rows for which a reader takes several pages at once.
const MANY_ROWS: usize = 1_024;

/// Returns up to `limit` rows whose key starts with `prefix`, in key order, after the key `after`.
///
/// # Errors
/// [`Miss`].
pub(super) async fn scan(
    pages: &Pages,
    unit: Unit,
    manifest: &Manifest,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Row>, Miss> {
    // The first key behind another is that key and a zero.
    let behind_after = after.map(|after| [after, &[0]].concat()).unwrap_or_default();
    let range = Range { start: behind_after.max(prefix.to_vec()), end: behind(prefix) };
    let way = Way { ahead: if limit < MANY_ROWS { 1 } else { 4 }, keep: Keep::Yes };
    let oblivion = Oblivion::of(manifest, &range.start, range.end.as_deref());
    let mut merge = Merge::open(pages, unit, &manifest.runs, &oblivion, &range, way).await?;
    let mut rows = Vec::new();
    while rows.len() < limit
        && let Some((key, value)) = merge.next().await?
    {
        rows.extend(value.map(|value| (key, value)));
    }
    Ok(rows)
}

/// Returns the value of one row.
///
/// # Errors
/// [`Miss`].
pub(super) async fn get(
    pages: &Pages,
    unit: Unit,
    manifest: &Manifest,
    key: &[u8],
) -> Result<Option<Vec<u8>>, Miss> {
    let range = Range { start: key.to_vec(), end: Some([key, &[0]].concat()) };
    let oblivion = Oblivion::of(manifest, &range.start, range.end.as_deref());
    // The newest first: most keys that are asked for were written lately.
    for run in manifest.runs.iter().rev().filter(|run| overlaps(run, &range.start, range.end.as_deref())) {
        if oblivion.hides(key, run.last) {
            return Ok(None);
        }
        let mut cursor = Cursor::open(pages, unit, run, &range).await?;
        cursor.fill(pages, unit, Way { ahead: 1, keep: Keep::Yes }).await?;
        if let Some((_, value)) = cursor.next() {
            return Ok(value);
        }
    }
    Ok(None)
}

/// Returns what the commits behind `seq` changed, oldest first; `None` if that is no longer kept apart.
///
/// # Errors
/// [`Miss`].
pub(super) async fn changes(
    pages: &Pages,
    unit: Unit,
    manifest: &Manifest,
    seq: u64,
) -> Result<Option<Vec<Change>>, Miss> {
    let Some(runs) = since(manifest, seq) else { return Ok(None) };
    let mut changes = Vec::new();
    for run in runs {
        let way = Way { ahead: 4, keep: Keep::Yes };
        let run = std::slice::from_ref(run);
        // Who follows hears of a state's forgetting by that state's rows.
        let mut merge = Merge::open(pages, unit, run, &Oblivion::default(), &Range::default(), way).await?;
        while let Some(change) = merge.next().await? {
            changes.push(change);
        }
    }
    Ok(Some(changes))
}
