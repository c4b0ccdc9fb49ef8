//! Rankings in a gateway of a cluster: copies of what the rank stage has stored, brought up to date from the rows that
//! changed. One look at the workers' beats per tick serves all quizzes and all who watch them; a copy reads more only when
//! its partition has moved.
//!
//! A copy never claims to be newer than it is: what a beat claims was stored before the beat was written, and is taken
//! over by a copy only once the copy holds a state at least as far as the beat names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::views::{Awaited, Unavailable};
use ingest::partition::{PartitionId, of_key};
use operators::id::{Position, QuizId, UnixMillis};
use operators::rank::Ranking;
use tokio::sync::OnceCell;

use crate::cluster::beats::Beats;
use crate::runner::cache::{Shared, read, write};
use crate::runner::clock::Clock;
use crate::runner::progress::pulses::Ranked;
use crate::stage::rank::{self, Kind, board_key};
use crate::store::{Change, Follow, Row, SCAN_ROWS_MAX, Stage, StoreError, Unit};
use crate::views::boards::{Result, Source};
use crate::views::notices::Notices;

/// Settings of the copies.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between two looks at the beats.
    pub tick: Duration,
    /// Participants in all copies together.
    pub participants_max: usize,
    /// How far the clocks of this process and of the log may differ; over it nothing is called fresh.
    pub offset_max: Duration,
}

/// Copies of rankings.
pub struct Replicas<F: Follow> {
    store: F,
    beats: Arc<dyn Beats>,
    notices: Arc<Notices>,
    clock: Arc<dyn Clock>,
    partitions: u16,
    settings: Settings,
    state: Mutex<State<F::Head>>,
}

struct State<H> {
    partitions: Vec<Known<H>>,
    copies: HashMap<QuizId, Entry<H>>,
    uses: u64,
}

/// What is known of one partition of the rank stage.
struct Known<H> {
    claim: Ranked,
    /// The newest state that was looked at, and where it stands.
    head: Option<(Option<Position>, H)>,
}

/// A copy that callers load together.
type Cell<H> = Arc<OnceCell<Copy<H>>>;

struct Entry<H> {
    cell: Cell<H>,
    used: u64,
    /// What was claimed of the partition when the first asked: a load under way holds no less, but maybe no more.
    claim: Ranked,
}

/// A copy, with what may be said of it.
struct Copy<H> {
    ranking: Shared<Ranking>,
    at: Mutex<At<H>>,
}

struct At<H> {
    position: Option<Position>,
    head: H,
    claim: Ranked,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unit(partition: PartitionId) -> Unit {
    Unit { stage: Stage::Rank, partition }
}

fn unavailable(error: StoreError) -> Unavailable {
    Unavailable(error.to_string())
}

impl<F: Follow> Replicas<F> {
    /// Returns copies of nothing yet.
    pub fn new(
        store: F,
        beats: Arc<dyn Beats>,
        notices: Arc<Notices>,
        clock: Arc<dyn Clock>,
        partitions: u16,
        settings: Settings,
    ) -> Self {
        let known = (0..partitions).map(|_| Known { claim: Ranked::default(), head: None }).collect();
        let state = Mutex::new(State { partitions: known, copies: HashMap::new(), uses: 0 });
        Self { store, beats, notices, clock, partitions, settings, state }
    }

    /// Returns the time before which everything appended is visible, for any quiz.
    pub fn oldest(&self) -> UnixMillis {
        let state = lock(&self.state);
        state.partitions.iter().map(|known| known.claim.graded).min().unwrap_or_default()
    }

    /// Follows the rank stage for ever.
    pub async fn follow(&self) {
        loop {
            if let Err(Unavailable(reason)) = self.tick().await {
                // The age of the views tells readers; a person sees it in the log.
                tracing::warn!(reason, "the views could not be brought up to date");
            }
            self.clock.sleep(self.settings.tick).await;
        }
    }

    /// Looks at the beats once and brings the copies up to what they claim.
    ///
    /// # Errors
    /// What could not be read stays as it was, age included.
    pub async fn tick(&self) -> Result<()> {
        let beats = self.beats.all(Stage::Rank).await.map_err(unavailable)?;
        let mut claims = BTreeMap::<PartitionId, Ranked>::new();
        for (partition, ranked) in beats.into_iter().flat_map(|beat| beat.ranked) {
            claims.entry(partition).or_default().merge(&ranked);
        }
        let mut failed = None;
        for (partition, claim) in claims {
            if partition.0 >= self.partitions {
                continue;
            }
            if let Err(error) = self.bring_up(partition, &claim).await {
                failed = Some(error);
                continue;
            }
            let moved = {
                let known = &mut lock(&self.state).partitions[usize::from(partition.0)].claim;
                let before = known.position;
                known.merge(&claim);
                known.position != before
            };
            if moved {
                self.wake_newcomers(partition);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Brings every copy of a partition up to a claim.
    async fn bring_up(&self, partition: PartitionId, claim: &Ranked) -> Result<()> {
        let copies: Vec<(QuizId, Cell<F::Head>)> = {
            let state = lock(&self.state);
            let here = |quiz: &QuizId| of_key(quiz.as_str(), self.partitions) == partition;
            let copies = state.copies.iter().filter(|(quiz, entry)| here(quiz) && entry.cell.initialized());
            copies.map(|(quiz, entry)| (quiz.clone(), entry.cell.clone())).collect()
        };
        let behind: Vec<_> = copies
            .iter()
            .filter_map(|(quiz, cell)| Some((quiz, cell.get()?)))
            .filter(|(_, copy)| lock(&copy.at).position < claim.position)
            .collect();
        if !behind.is_empty() {
            let (position, head) = self.look(partition).await?;
            // Copies loaded at one time stand at one place: what changed since is read once for all of them.
            let mut groups = BTreeMap::<Option<Position>, Vec<_>>::new();
            for (quiz, copy) in behind {
                groups.entry(lock(&copy.at).position).or_default().push((quiz, copy));
            }
            for group in groups.into_values() {
                let from = lock(&group[0].1.at).head.clone();
                let changes = self.store.changes(unit(partition), &from, &head).await.map_err(unavailable)?;
                for (quiz, copy) in group {
                    self.catch_up(quiz, copy, changes.as_deref(), position, &head);
                }
            }
        }
        for copy in copies.iter().filter_map(|(_, cell)| cell.get()) {
            let mut at = lock(&copy.at);
            if at.position >= claim.position {
                at.claim.merge(claim);
            }
        }
        Ok(())
    }

    /// Wakes who waits for something in a quiz of which there is no copy: it may have been published just now.
    fn wake_newcomers(&self, partition: PartitionId) {
        let here = |quiz: &QuizId| of_key(quiz.as_str(), self.partitions) == partition;
        for quiz in self.notices.awaited_quizzes().iter().filter(|quiz| here(quiz)) {
            if !lock(&self.state).copies.get(quiz).is_some_and(|entry| entry.cell.initialized()) {
                self.notices.seen_all(quiz);
            }
        }
    }

    /// Reads where a partition stands now.
    async fn look(&self, partition: PartitionId) -> Result<(Option<Position>, F::Head)> {
        let found = self.store.head(unit(partition)).await.map_err(unavailable)?;
        let (header, head) = found.ok_or_else(|| Unavailable("a claim about nothing".into()))?;
        Ok(self.note(partition, header.position, head))
    }

    /// Notes a state that was looked at, unless a newer one is known: answers may overtake each other, and what was shown
    /// of a newer one must not be taken back. Returns the newest.
    fn note(
        &self,
        partition: PartitionId,
        position: Option<Position>,
        head: F::Head,
    ) -> (Option<Position>, F::Head) {
        let mut state = lock(&self.state);
        let known = &mut state.partitions[usize::from(partition.0)].head;
        match known {
            Some(newer) if newer.0 > position => newer.clone(),
            Some(_) | None => known.insert((position, head)).clone(),
        }
    }

    /// Takes changes over into one copy, and wakes who waits for them. A copy that cannot be brought up is dropped, and
    /// loaded anew by the next who asks.
    fn catch_up(
        &self,
        quiz: &QuizId,
        copy: &Copy<F::Head>,
        changes: Option<&[Change]>,
        position: Option<Position>,
        head: &F::Head,
    ) {
        let News { rows, awaited, commands } = match changes {
            Some(changes) => news(quiz, changes, self.notices.is_awaited()),
            None => return self.start_anew(quiz),
        };
        if !rows.is_empty() {
            let parts = rank::parts(quiz, rows).map_err(|error| error.to_string());
            let patched =
                parts.and_then(|parts| write(&copy.ranking).patch(parts).map_err(|error| error.to_string()));
            if let Err(reason) = patched {
                tracing::warn!(%quiz, reason, "a copy of a ranking is loaded anew");
                return self.start_anew(quiz);
            }
        }
        {
            let mut at = lock(&copy.at);
            at.position = position;
            at.head = head.clone();
        }
        let feed = read(&copy.ranking).header().feed;
        self.notices.seen(quiz, awaited, commands, feed);
    }

    /// Drops a copy; who waits looks again, and loads it.
    fn start_anew(&self, quiz: &QuizId) {
        lock(&self.state).copies.remove(quiz);
        self.notices.seen_all(quiz);
    }

    /// Returns a state of a partition that is at least as new as what has been claimed of it.
    async fn head(&self, partition: PartitionId) -> Result<Option<(Option<Position>, F::Head)>> {
        {
            let state = lock(&self.state);
            let known = &state.partitions[usize::from(partition.0)];
            let new_enough = |(position, _): &&(Option<Position>, F::Head)| *position >= known.claim.position;
            if let Some(head) = known.head.as_ref().filter(new_enough).filter(|(at, _)| at.is_some()) {
                return Ok(Some(head.clone()));
            }
        }
        match self.store.head(unit(partition)).await.map_err(unavailable)? {
            None => Ok(None),
            Some((header, head)) => Ok(Some(self.note(partition, header.position, head))),
        }
    }

    /// Reads rows of one state. If that is not kept any more, the next caller looks for a newer one.
    async fn scan_at(
        &self,
        partition: PartitionId,
        head: &F::Head,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let rows = self.store.scan_at(unit(partition), head, prefix, after, limit).await;
        if rows.is_err() {
            lock(&self.state).partitions[usize::from(partition.0)].head = None;
        }
        rows.map_err(unavailable)
    }

    async fn load(&self, quiz: &QuizId) -> std::result::Result<Copy<F::Head>, Missing> {
        let partition = of_key(quiz.as_str(), self.partitions);
        // The claim first: the state read after it holds everything that it says.
        let claim = lock(&self.state).partitions[usize::from(partition.0)].claim;
        let Some((position, head)) = self.head(partition).await? else { return Err(Missing::Unpublished) };
        let scan = async |prefix: &[u8], after: Option<&[u8]>, limit| {
            self.scan_at(partition, &head, prefix, after, limit).await
        };
        if scan(&board_key(quiz), None, 1).await?.is_empty() {
            return Err(Missing::Unpublished);
        }
        let prefix = rank::prefix(quiz);
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let after = rows.last().map(|(key, _)| key.clone());
            let page = scan(&prefix, after.as_deref(), SCAN_ROWS_MAX).await?;
            let last = page.len() < SCAN_ROWS_MAX;
            rows.extend(page);
            if last {
                break;
            }
        }
        let rows = rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        let parts = rank::parts(quiz, rows).map_err(|error| Unavailable(error.to_string()))?;
        let ranking = Arc::new(RwLock::new(Ranking::assemble(quiz.clone(), parts)));
        Ok(Copy { ranking, at: Mutex::new(At { position, head, claim }) })
    }

    /// Drops the copies longest unused while there are too many participants in all; not those that somebody watches.
    fn settle(&self) {
        let mut state = lock(&self.state);
        let weight = |entry: &Entry<F::Head>| entry.cell.get().map_or(0, |copy| read(&copy.ranking).len());
        let mut total: usize = state.copies.values().map(weight).sum();
        if total <= self.settings.participants_max {
            return;
        }
        let mut oldest: Vec<_> =
            state.copies.iter().map(|(quiz, entry)| (entry.used, weight(entry), quiz.clone())).collect();
        oldest.sort_unstable_by_key(|(used, _, _)| *used);
        // The newest is in somebody's hands.
        oldest.pop();
        for (_, freed, quiz) in oldest {
            if total <= self.settings.participants_max {
                return;
            }
            if !self.notices.is_wanted(&quiz) {
                state.copies.remove(&quiz);
                total -= freed;
            }
        }
    }

    fn cell(&self, quiz: &QuizId) -> Cell<F::Head> {
        let mut state = lock(&self.state);
        state.uses += 1;
        let used = state.uses;
        let claim = state.partitions[usize::from(of_key(quiz.as_str(), self.partitions).0)].claim;
        let fresh = || Entry { cell: Arc::default(), used, claim };
        let entry = state.copies.entry(quiz.clone()).or_insert_with(fresh);
        entry.used = used;
        entry.cell.clone()
    }

    /// Tells whether a copy is the one that is kept.
    fn has_place(&self, quiz: &QuizId, cell: &Cell<F::Head>) -> bool {
        lock(&self.state).copies.get(quiz).is_some_and(|entry| Arc::ptr_eq(&entry.cell, cell))
    }

    /// Returns what may be said of the view of a quiz that is read next. It may come from a load that began long ago.
    fn claim(&self, quiz: &QuizId) -> Ranked {
        let state = lock(&self.state);
        match state.copies.get(quiz) {
            Some(entry) => entry.cell.get().map_or(entry.claim, |copy| lock(&copy.at).claim),
            None => state.partitions[usize::from(of_key(quiz.as_str(), self.partitions).0)].claim,
        }
    }
}

/// Why there is no copy.
enum Missing {
    Unpublished,
    Unavailable(Unavailable),
}

impl From<Unavailable> for Missing {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

/// What changes tell of one quiz.
struct News<'a> {
    rows: Vec<(&'a [u8], Option<&'a [u8]>)>,
    awaited: Vec<Awaited>,
    commands: bool,
}

fn news<'a>(quiz: &QuizId, changes: &'a [Change], is_awaited: bool) -> News<'a> {
    let mut news = News { rows: Vec::new(), awaited: Vec::new(), commands: false };
    for (key, value) in changes {
        match rank::kind(quiz, key) {
            None => {}
            Some(Kind::Receipt(participant)) => {
                let receipt = value.as_deref().filter(|value| is_awaited && !value.is_empty());
                let receipt = receipt.and_then(|value| rank::receipt(value).ok());
                news.awaited
                    .extend(receipt.map(|receipt| Awaited::Submission(participant, receipt.submission)));
            }
            Some(Kind::Member(participant)) => {
                let name = value.as_deref().filter(|_| is_awaited).and_then(rank::member_name);
                news.awaited.extend(name.map(|name| Awaited::Participant(participant, name)));
                news.rows.push((key, value.as_deref()));
            }
            Some(Kind::Board) => {
                news.commands = true;
                news.rows.push((key, value.as_deref()));
            }
            Some(Kind::Part) => news.rows.push((key, value.as_deref())),
        }
    }
    news
}

impl<F: Follow> Source for Replicas<F> {
    fn peek(&self, quiz: &QuizId) -> Option<Shared<Ranking>> {
        let mut state = lock(&self.state);
        state.uses += 1;
        let used = state.uses;
        let entry = state.copies.get_mut(quiz)?;
        entry.used = used;
        entry.cell.get().map(|copy| copy.ranking.clone())
    }

    fn ranking<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Shared<Ranking>>>> {
        async move {
            loop {
                if let Some(ranking) = self.peek(quiz) {
                    return Ok(Some(ranking));
                }
                // Callers at the same moment share one load.
                let cell = self.cell(quiz);
                match cell.get_or_try_init(|| self.load(quiz)).await {
                    // Nobody brings up a copy that has lost its place, nor may it show more than the one that has it.
                    Ok(_) if !self.has_place(quiz, &cell) => {}
                    Ok(copy) => {
                        self.settle();
                        return Ok(Some(copy.ranking.clone()));
                    }
                    Err(missing) => {
                        if !cell.initialized() && self.has_place(quiz, &cell) {
                            lock(&self.state).copies.remove(quiz);
                        }
                        return match missing {
                            Missing::Unpublished => Ok(None),
                            Missing::Unavailable(error) => Err(error),
                        };
                    }
                }
            }
        }
        .boxed()
    }

    fn scan<'a>(
        &'a self,
        partition: PartitionId,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>>> {
        async move {
            let Some((_, head)) = self.head(partition).await? else { return Ok(Vec::new()) };
            self.scan_at(partition, &head, prefix, after, limit).await
        }
        .boxed()
    }

    /// Nothing: an answer that counted before is appended again, and the fold drops it.
    fn counted<'a>(&'a self, _partition: PartitionId, _key: &'a [u8]) -> BoxFuture<'a, Result<Vec<Row>>> {
        futures::future::ready(Ok(Vec::new())).boxed()
    }

    fn as_of(&self, quiz: &QuizId, sections: u16) -> UnixMillis {
        let claim = self.claim(quiz);
        let as_of = if sections <= 1 { claim.graded } else { claim.settled };
        // A view from the future: this clock is behind, and would take old views for fresh ones.
        let latest = self.clock.now().plus(self.settings.offset_max.as_millis() as u64);
        if as_of > latest { UnixMillis(0) } else { as_of }
    }

    fn through(&self, quiz: &QuizId, submissions: PartitionId) -> Option<Position> {
        let through = self.claim(quiz).through;
        through.filter(|_| submissions == of_key(quiz.as_str(), self.partitions))
    }
}
