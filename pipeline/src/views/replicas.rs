//! Rankings in a gateway of a cluster: copies of what the rank stage has stored, brought up to date from the rows that
//! changed. One look at the workers' beats per tick serves all quizzes and all who watch them; a copy reads more only when
//! its partition has moved. Partitions are brought up side by side: one that is slow makes no other wait.
//!
//! A copy never claims to be newer than it is: what a beat claims was stored before the beat was written, and is taken
//! over by a copy only once the copy holds a state at least as far as the beat names.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use gateway::admission::Timing;
use gateway::views::Unavailable;
use ingest::partition::{PartitionId, of_key};
use operators::id::{Position, QuizId, UnixMillis};
use operators::rank::Ranking;

use crate::cluster::beats::{Beat, Beats};
use crate::runner::cache::{Shared, read, write};
use crate::runner::clock::Clock;
use crate::runner::progress::pulses::Ranked;
use crate::stage::rank;
use crate::store::{Change, Follow, Row, Stage, StoreError, Unit};
use crate::views::boards::{Result, Source};
use crate::views::notices::Notices;
use crate::views::tails::Tails;

mod copies;
mod graders;
mod news;
mod reader;

use copies::{At, Copies, Copy, Loaded};
use graders::Graders;
use reader::Reader;

/// Settings of the copies.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between two looks at the beats.
    pub tick: Duration,
    /// Copies at most; those that somebody watches are kept over it.
    pub copies_max: usize,
    /// Participants in all copies together.
    pub participants_max: usize,
    /// Bytes of all definitions together, as stored.
    pub board_bytes_max: usize,
    /// How far the clocks of this process and of the log may differ; over it nothing is called fresh.
    pub offset_max: Duration,
    /// The time from a close to its Seal that this gateway goes by; if a grader seals sooner, nothing is called fresh.
    pub grace: Duration,
}

impl Settings {
    /// Returns the settings that go with the times of a gateway.
    pub fn of(timing: Timing) -> Self {
        Self {
            tick: Duration::from_millis(200),
            copies_max: 10_000,
            participants_max: 4_000_000,
            board_bytes_max: 128 << 20,
            // Two clocks that are off by as much, one this way and one that way, are a margin apart.
            offset_max: timing.margin() / 2,
            grace: timing.grace(),
        }
    }
}

/// Time between two looks at the beats of graders.
const GRADERS_EVERY: Duration = Duration::from_secs(1);
/// Least time between two reads of a partition's state because something was not found: of whatever it is asked, a table
/// is not read oftener.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Tells for certain by how many milliseconds the clock of this process is ahead; negative: behind. 0 while that is not
/// certain.
pub type Offset = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Copies of rankings.
pub struct Replicas<F: Follow> {
    reader: Reader<F>,
    beats: Arc<dyn Beats>,
    notices: Arc<Notices>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    turns: Vec<Turn>,
    graders: Mutex<Graders>,
    offset: Option<Offset>,
    tails: Option<Arc<Tails>>,
    doubt: Mutex<Option<String>>,
    /// Whether there is one, for those who ask with every request.
    is_doubted: AtomicBool,
}

/// Who may do what with one partition.
#[derive(Default)]
struct Turn {
    /// Held while copies are brought up: changes must not overtake each other.
    bringing: tokio::sync::Mutex<()>,
    /// Held while somebody looks again, with the time of the last such look.
    looking: tokio::sync::Mutex<Option<UnixMillis>>,
    /// Looks again that began.
    begun: AtomicU64,
    /// The newest of them that succeeded.
    done: AtomicU64,
}

/// Partitions that are being brought up.
#[derive(Default)]
struct UnderWay<'a> {
    partitions: BTreeSet<PartitionId>,
    futures: FuturesUnordered<BoxFuture<'a, (PartitionId, Result<()>)>>,
}

impl UnderWay<'_> {
    /// Goes on with them while something else is done.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some((partition, result)) = self.futures.next(), if !self.futures.is_empty() => {
                    self.partitions.remove(&partition);
                    if let Err(Unavailable(reason)) = result {
                        // The age of the views tells readers; a person sees it in the log.
                        tracing::warn!(%partition, reason, "views could not be brought up to date");
                    }
                }
            }
        }
    }
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
        let copies = Arc::new(Copies::new(partitions));
        Self {
            reader: Reader { store: Arc::new(store), copies, partitions },
            beats,
            notices,
            clock,
            settings,
            turns: (0..partitions).map(|_| Turn::default()).collect(),
            graders: Mutex::default(),
            offset: None,
            tails: None,
            doubt: Mutex::default(),
            is_doubted: AtomicBool::new(false),
        }
    }

    /// Returns these with a way to tell how far this clock is off.
    #[must_use]
    pub fn measured(self, offset: Offset) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// Returns these with a way to count what is in flight.
    #[must_use]
    pub fn counted(self, tails: Tails) -> Self {
        Self { tails: Some(Arc::new(tails)), ..self }
    }

    fn copies(&self) -> &Copies<F::Head> {
        &self.reader.copies
    }

    fn partition(&self, quiz: &QuizId) -> PartitionId {
        of_key(quiz.as_str(), self.reader.partitions)
    }

    /// Returns the times before which everything appended is visible: in the partition that is farthest behind, and in
    /// the newest.
    pub fn graded(&self) -> (UnixMillis, UnixMillis) {
        let graded = self.copies().claims().into_iter().map(|claim| claim.graded);
        let (mut oldest, mut newest) = (None, UnixMillis(0));
        for time in graded {
            oldest = Some(oldest.map_or(time, |oldest: UnixMillis| oldest.min(time)));
            newest = newest.max(time);
        }
        (oldest.unwrap_or_default(), newest)
    }

    /// Returns why nothing that is shown here is called fresh, if so.
    pub fn doubt(&self) -> Option<String> {
        lock(&self.doubt).clone()
    }

    /// Follows the stages for ever.
    pub async fn follow(&self) {
        let graders_every = (GRADERS_EVERY.as_millis() / self.settings.tick.as_millis().max(1)).max(1);
        let mut under_way = UnderWay::default();
        for tick in 0_u128.. {
            match under_way.during(self.beats.all(Stage::Rank)).await {
                Ok(beats) => {
                    for (partition, claim) in self.claims(beats) {
                        if under_way.partitions.insert(partition) {
                            let bringing =
                                self.take_over(partition, claim).map(move |done| (partition, done));
                            under_way.futures.push(bringing.boxed());
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the beats of rankers could not be read"),
            }
            if tick % graders_every == 0
                && let Err(Unavailable(reason)) = under_way.during(self.look_at_graders()).await
            {
                tracing::warn!(reason, "the beats of graders could not be read");
            }
            self.assess();
            self.copies().settle(&self.settings, &self.notices);
            if let Some(tails) = &self.tails {
                tails.rest();
            }
            under_way.during(self.clock.sleep(self.settings.tick)).await;
        }
    }

    /// Looks at the beats of rankers once and brings the copies up to what they claim.
    ///
    /// # Errors
    /// What could not be read stays as it was, age included.
    pub async fn tick(&self) -> Result<()> {
        let beats = self.beats.all(Stage::Rank).await.map_err(unavailable)?;
        let claims = self.claims(beats).into_iter();
        let taken = join_all(claims.map(|(partition, claim)| self.take_over(partition, claim))).await;
        self.copies().settle(&self.settings, &self.notices);
        taken.into_iter().collect()
    }

    /// Looks at the beats of graders once, and whether what they say goes with this gateway.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn look_at_graders(&self) -> Result<()> {
        let beats = self.beats.all(Stage::Grade).await.map_err(unavailable)?;
        lock(&self.graders).hear(&beats, self.copies().settled(), self.clock.now());
        self.assess();
        Ok(())
    }

    fn claims(&self, beats: Vec<Beat>) -> BTreeMap<PartitionId, Ranked> {
        let mut claims = BTreeMap::<PartitionId, Ranked>::new();
        let ranked = beats.into_iter().flat_map(|beat| beat.ranked);
        for (partition, ranked) in ranked.filter(|(partition, _)| partition.0 < self.reader.partitions) {
            claims.entry(partition).or_default().merge(&ranked);
        }
        claims
    }

    /// Judges whether what is read here can be trusted, and says so once when that changes.
    fn assess(&self) {
        let doubt = self.grace_doubt().or_else(|| self.offset_doubt());
        let mut known = lock(&self.doubt);
        if *known == doubt {
            return;
        }
        match &doubt {
            Some(reason) => tracing::error!(reason, "answers are refused"),
            None => tracing::info!("answers are let in again"),
        }
        self.is_doubted.store(doubt.is_some(), Ordering::Release);
        *known = doubt;
    }

    fn grace_doubt(&self) -> Option<String> {
        let (theirs, ours) = (lock(&self.graders).grace_ms()?, self.settings.grace.as_millis() as u64);
        (theirs < ours).then(|| {
            format!("a grader closes questions for good after a grace of {theirs} ms, and this gateway believes in {ours} ms: \
                     give all the same --grace")
        })
    }

    fn offset_doubt(&self) -> Option<String> {
        let ahead = self.offset.as_ref()?();
        let most = self.settings.offset_max.as_millis() as u64;
        // The words stay the same while the clock drifts on.
        (ahead.unsigned_abs() > most).then(|| {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            format!("the clock of this machine is more than {most} ms {way} that of AWS: synchronise it")
        })
    }

    /// Brings the copies of a partition up to a claim and then believes it.
    async fn take_over(&self, partition: PartitionId, claim: Ranked) -> Result<()> {
        let _turn = self.turn(partition).bringing.lock().await;
        if !self.copies().behind(partition, claim.position).is_empty() {
            let found = self.reader.look(partition).await?;
            let at = found.ok_or_else(|| Unavailable("a claim about nothing".into()))?;
            self.bring_up(partition, &at).await?;
        }
        if self.copies().claim(partition, &claim) {
            self.wake_newcomers(partition);
        }
        Ok(())
    }

    fn turn(&self, partition: PartitionId) -> &Turn {
        &self.turns[usize::from(partition.0)]
    }

    /// Brings every copy of a partition up to a state of it; called by one at a time.
    async fn bring_up(&self, partition: PartitionId, at: &At<F::Head>) -> Result<()> {
        // Copies loaded at one time stand at one place: what changed since is read once for all of them.
        let mut groups = BTreeMap::<Option<Position>, Vec<_>>::new();
        for (quiz, copy) in self.copies().behind(partition, at.0) {
            groups.entry(copy.position()).or_default().push((quiz, copy));
        }
        for group in groups.into_values() {
            let from = group[0].1.head();
            let changes =
                self.reader.store.changes(unit(partition), &from, &at.1).await.map_err(unavailable)?;
            for (quiz, copy) in group {
                self.catch_up(&quiz, &copy, changes.as_deref(), at);
            }
        }
        Ok(())
    }

    /// Wakes who waits for something in a quiz of which there is no copy, or watches it: it may have been published just
    /// now.
    fn wake_newcomers(&self, partition: PartitionId) {
        for quiz in self.notices.wanted() {
            if self.partition(&quiz) == partition && !self.copies().has(&quiz) {
                self.notices.look_again(&quiz);
            }
        }
    }

    /// Takes changes over into one copy, and wakes who waits for them. A copy that cannot be brought up is dropped, and
    /// loaded anew by the next who asks.
    fn catch_up(&self, quiz: &QuizId, copy: &Copy<F::Head>, changes: Option<&[Change]>, at: &At<F::Head>) {
        let Some(changes) = changes else { return self.start_anew(quiz) };
        let news = news::of(quiz, changes, self.notices.is_awaited());
        if news.is_gone {
            return self.start_anew(quiz);
        }
        if !news.rows.is_empty() {
            let parts = rank::parts(quiz, news.rows).map_err(|error| error.to_string());
            let patched =
                parts.and_then(|parts| write(&copy.ranking).patch(parts).map_err(|error| error.to_string()));
            if let Err(reason) = patched {
                tracing::warn!(%quiz, reason, "a copy of a ranking is loaded anew");
                return self.start_anew(quiz);
            }
        }
        copy.move_to(at.clone(), news.board_bytes);
        let feed = read(&copy.ranking).header().feed;
        self.notices.seen(quiz, news.awaited, news.commands, feed);
    }

    /// Drops a copy; who waits or watches looks again, and loads it if the quiz is still there.
    fn start_anew(&self, quiz: &QuizId) {
        self.copies().remove(quiz);
        self.notices.look_again(quiz);
    }

    /// Looks where a partition stands, and brings its copies up to it. All who ask meanwhile share the next look that
    /// begins.
    async fn look_again(&self, partition: PartitionId) -> Result<()> {
        let turn = self.turn(partition);
        let asked = turn.begun.load(Ordering::Acquire);
        let mut last = turn.looking.lock().await;
        if turn.done.load(Ordering::Acquire) > asked {
            return Ok(());
        }
        if let Some(last) = *last {
            let since = Duration::from_millis(self.clock.now().since(last));
            if let Some(left) = LOOK_AGAIN_AFTER.checked_sub(since).filter(|left| !left.is_zero()) {
                self.clock.sleep(left).await;
            }
        }
        let number = turn.begun.fetch_add(1, Ordering::AcqRel) + 1;
        *last = Some(self.clock.now());
        let _turn = turn.bringing.lock().await;
        if let Some(at) = self.reader.look(partition).await? {
            self.bring_up(partition, &at).await?;
        }
        turn.done.store(number, Ordering::Release);
        Ok(())
    }
}

impl<F: Follow> Source for Replicas<F> {
    fn peek(&self, quiz: &QuizId) -> Option<Shared<Ranking>> {
        self.copies().peek(quiz)
    }

    fn ranking<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Shared<Ranking>>>> {
        async move {
            loop {
                if let Some(ranking) = self.peek(quiz) {
                    return Ok(Some(ranking));
                }
                match self.reader.copy(quiz).await {
                    Loaded::Here(copy) => {
                        self.copies().settle(&self.settings, &self.notices);
                        return Ok(Some(copy.ranking.clone()));
                    }
                    Loaded::Lost => {}
                    Loaded::Unpublished => return Ok(None),
                    Loaded::Unavailable(error) => return Err(error),
                }
            }
        }
        .boxed()
    }

    fn renew<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<bool>> {
        async move { self.look_again(self.partition(quiz)).await.map(|()| true) }.boxed()
    }

    fn scan<'a>(
        &'a self,
        partition: PartitionId,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>>> {
        async move {
            let Some((_, head)) = self.reader.head(partition).await? else { return Ok(Vec::new()) };
            self.reader.scan_at(partition, &head, prefix, after, limit).await
        }
        .boxed()
    }

    /// Nothing: an answer that counted before is appended again, and the fold drops it.
    fn counted<'a>(&'a self, _partition: PartitionId, _key: &'a [u8]) -> BoxFuture<'a, Result<Vec<Row>>> {
        futures::future::ready(Ok(Vec::new())).boxed()
    }

    fn as_of(&self, quiz: &QuizId, sections: u16) -> UnixMillis {
        if self.is_doubted.load(Ordering::Acquire) {
            return UnixMillis(0);
        }
        let claim = self.copies().claimed(quiz);
        let as_of = if sections <= 1 { claim.graded } else { claim.settled };
        // A view from the future: this clock is behind, and would take old views for fresh ones.
        let latest = self.clock.now().plus(self.settings.offset_max.as_millis() as u64);
        if as_of > latest { UnixMillis(0) } else { as_of }
    }

    fn in_flight<'a>(
        &'a self,
        quiz: &'a QuizId,
        marks: &'a [(u16, Option<Position>)],
    ) -> BoxFuture<'a, Result<u64>> {
        async move {
            let tails = self.tails.as_ref().ok_or_else(|| Unavailable("nobody counts".into()))?;
            let settled = self.copies().settled();
            let ranked: Vec<_> = {
                let graders = lock(&self.graders);
                let partitions = (0..self.reader.partitions).map(PartitionId);
                partitions.map(|partition| graders.ranked(partition, settled)).collect()
            };
            tails.count(quiz, marks, &ranked).await
        }
        .boxed()
    }
}
