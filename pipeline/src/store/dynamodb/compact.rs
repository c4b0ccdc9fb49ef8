//! Compaction: runs of one level merged into one of the next, in the background. The next commit installs the result.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ingest::proto::{Manifest, Retired, Run};
use tokio::task::JoinHandle;

use super::Options;
use super::cache::{Keep, Miss, Pages, slots_of};
use super::manifest::{LEVEL_MAX, Oblivion};
use super::page::Builder;
use super::read::{self, Change, Merge, Way};
use super::usage::What;
use super::write::{PUTS_AT_ONCE, RunDraft, Session};
use crate::store::StoreError;

/// First and longest pause before a call that was not answered is made again. Nobody waits for a merge.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// A merge that goes on in the background, and ends with its owner.
#[derive(Debug)]
pub(super) struct Merging(JoinHandle<Result<Merged, StoreError>>);

/// What a merge made.
#[derive(Debug)]
pub(super) struct Merged {
    /// The run.
    pub(super) run: Run,
    /// The slots that it takes.
    pub(super) slots: Vec<u64>,
    /// What it stands for: runs that stand side by side in the manifest.
    pub(super) retired: Vec<Retired>,
}

impl Merging {
    /// Begins to merge the runs at `range` of a manifest.
    pub(super) fn start(
        pages: Arc<Pages>,
        session: Arc<Session>,
        manifest: &Manifest,
        range: Range<usize>,
        options: Options,
    ) -> Self {
        // Below the oldest run there is nothing that a removed row could still cover.
        let oldest = range.start == 0;
        let runs = manifest.runs[range].to_vec();
        let oblivion = Oblivion::of(manifest, &[], None);
        Self(tokio::spawn(async move { merge(&pages, &session, (runs, oblivion), oldest, options).await }))
    }

    /// Tells whether it has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the end; `None` if it was given up.
    ///
    /// # Errors
    /// `Fenced`, `Corrupt`.
    pub(super) async fn wait(&mut self) -> Option<Result<Merged, StoreError>> {
        (&mut self.0).await.ok()
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn merge(
    pages: &Pages,
    session: &Session,
    (runs, oblivion): (Vec<Run>, Oblivion),
    oldest: bool,
    options: Options,
) -> Result<Merged, StoreError> {
    let unit = session.writer.unit;
    let way = Way { ahead: options.pages_ahead, keep: Keep::No };
    let mut pause = BACKOFF.0;
    let mut merge = loop {
        match Merge::open(pages, unit, &runs, &oblivion, &read::Range::default(), way).await {
            Ok(merge) => break merge,
            Err(miss) => retry(pages, session, miss, &mut pause).await?,
        }
    };
    let level = runs.iter().map(|run| run.level).max().unwrap_or(0);
    let first = runs.first().map_or(0, |run| run.first);
    let last = runs.last().map_or(0, |run| run.last);
    let mut draft = RunDraft::new(What::Compaction, (level + 1).min(LEVEL_MAX), first, last);
    let mut builder = Builder::new(options.page_bytes_max);
    while let Some((key, value)) = next(pages, session, &mut merge).await? {
        if oldest && value.is_none() {
            continue;
        }
        if let Some(full) = builder.push(&key, value.as_deref()) {
            draft.push(session, full, false);
            if draft.waiting() >= PUTS_AT_ONCE {
                put(pages, session, &mut draft).await?;
            }
            // Others wait for this thread as well.
            tokio::task::yield_now().await;
        }
    }
    let (rest, first_key, last_key) = builder.finish();
    if let Some(full) = rest {
        draft.push(session, full, false);
    }
    let mut pause = BACKOFF.0;
    let (run, slots) = loop {
        match draft.finish(pages, session, (&first_key, &last_key)).await {
            Ok(done) => break done,
            Err(error) => retry(pages, session, Miss::Failed(error), &mut pause).await?,
        }
    };
    let mut retired = Vec::with_capacity(runs.len());
    for run in runs {
        let mut pause = BACKOFF.0;
        let slots = loop {
            match pages.pages_of(unit, &run).await {
                Ok(index) => break slots_of(&run, &index.pages),
                Err(miss) => retry(pages, session, miss, &mut pause).await?,
            }
        };
        retired.push(Retired { run: Some(run), slots });
    }
    Ok(Merged { run, slots, retired })
}

async fn next(pages: &Pages, session: &Session, merge: &mut Merge<'_>) -> Result<Option<Change>, StoreError> {
    let mut pause = BACKOFF.0;
    loop {
        match merge.next().await {
            Ok(change) => return Ok(change),
            Err(miss) => retry(pages, session, miss, &mut pause).await?,
        }
    }
}

async fn put(pages: &Pages, session: &Session, draft: &mut RunDraft) -> Result<(), StoreError> {
    let mut pause = BACKOFF.0;
    loop {
        match draft.put(pages, session).await {
            Ok(()) => return Ok(()),
            Err(error) => retry(pages, session, Miss::Failed(error), &mut pause).await?,
        }
    }
}

/// Waits if trying again may help.
///
/// # Errors
/// `Fenced`, `Corrupt`.
async fn retry(pages: &Pages, session: &Session, miss: Miss, pause: &mut Duration) -> Result<(), StoreError> {
    match miss {
        Miss::Failed(StoreError::Unavailable(reason)) => {
            tracing::debug!(unit = ?session.writer.unit, reason, "merge not answered, trying again");
        }
        Miss::Failed(error) => return Err(error),
        // Only an owner that came later writes over what our manifest names.
        Miss::Gone(what) => match pages.calls.head(session.writer.unit).await {
            Ok(Some(head)) if head.header.epoch == session.writer.epoch => {
                return Err(StoreError::Corrupt(what));
            }
            Ok(_) => return Err(StoreError::Fenced),
            Err(_) => {}
        },
    }
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(BACKOFF.1);
    Ok(())
}
