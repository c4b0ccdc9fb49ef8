//! The real views of a gateway in a cluster: copies of rankings that follow what the rank stage has stored.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::views::{Page, Unavailable, Views};
use operators::id::{QuizId, UnixMillis};
use pipeline::store::{Change, Follow, Header, Row, StoreError, Unit};
use pipeline::views::boards::Boards;
use pipeline::views::notices::Notices;
use pipeline::views::replicas::{Replicas, Settings};

use super::super::calls::{Caller, Unanswered, read};
use super::super::disk::PageKey;
use super::super::gateway::{Seen, View};
use super::super::handles::SimLog;
use super::super::world::{Shared, SkewedClock, World};
use super::leases::SimBeats;

/// The states of the rank stage, as gateways follow them.
pub(in super::super) struct Followed(Shared);

impl Followed {
    /// A load is moved on by all who wait for it, requests and the gateway's own loop: it crashes none of them.
    async fn read<T>(&self, look: impl FnOnce(&mut World) -> T) -> Result<T, StoreError> {
        read(&self.0, Caller::Request, look).await.map_err(|Unanswered| gone())
    }

    /// What changed is read by one alone.
    async fn read_alone<T>(&self, look: impl FnOnce(&mut World) -> T) -> Result<T, StoreError> {
        let caller = if self.0.lock().is_play() { Caller::Request } else { Caller::Reader };
        read(&self.0, caller, look).await.map_err(|Unanswered| gone())
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("simulated".into())
}

impl Follow for Followed {
    type Head = Arc<Vec<PageKey>>;

    fn head<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Option<(Header, Self::Head)>, StoreError>> {
        let look = move |world: &mut World| {
            let stored = world.disk.units().get(&unit).filter(|stored| stored.header.epoch > 0)?;
            Some((stored.header, Arc::new(stored.named.clone())))
        };
        self.read(look).boxed()
    }

    fn changes<'a>(
        &'a self,
        _unit: Unit,
        from: &'a Self::Head,
        to: &'a Self::Head,
    ) -> BoxFuture<'a, Result<Option<Vec<Change>>, StoreError>> {
        async move { self.read_alone(|world| world.disk.changes(from, to)).await?.map_err(|_| gone()) }
            .boxed()
    }

    fn scan_at<'a>(
        &'a self,
        unit: Unit,
        head: &'a Self::Head,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        async move {
            let rows = self.read(|world| world.disk.scan_at(unit, head, prefix, after, limit)).await?;
            rows.ok_or_else(gone)
        }
        .boxed()
    }
}

/// What a gateway of a cluster knows.
pub(in super::super) struct Copies {
    boards: Boards,
    replicas: Arc<Replicas<Followed>>,
    /// What the gateway's own loop has seen last.
    seen: Mutex<BTreeMap<QuizId, Seen>>,
}

impl Copies {
    fn new(world: &Shared, number: usize) -> Self {
        let plan = world.lock().plan.clone();
        let clock = Arc::new(SkewedClock { world: world.clone(), skew_ms: plan.gateways[number] });
        let notices = Arc::new(Notices::default());
        let beats = Arc::new(SimBeats { world: world.clone(), caller: Caller::Reader });
        let settings = Settings {
            tick: Duration::from_millis(100),
            participants_max: plan.cluster.copied_max,
            // No two clocks differ by more than half a margin, as these are.
            ..Settings::of(plan.timing)
        };
        let store = Followed(world.clone());
        let replicas = Replicas::new(store, beats, notices.clone(), clock, plan.partitions, settings);
        let replicas = Arc::new(replicas);
        let log = Arc::new(SimLog::new(world, Caller::Request));
        Self { boards: Boards::new(replicas.clone(), log, notices), replicas, seen: Mutex::default() }
    }

    /// Returns a quiz as the gateway's own loop has seen it last.
    pub(in super::super) fn seen(&self, quiz: &QuizId) -> Option<Seen> {
        self.seen.lock().expect("a panic ends the run").get(quiz).cloned()
    }

    /// Looks at a quiz as a request does: at the age of the view, then at the view.
    pub(in super::super) async fn look(
        &self,
        world: &Shared,
        quiz: &QuizId,
    ) -> Result<Option<Seen>, Unavailable> {
        let as_of: UnixMillis = self.boards.as_of(quiz);
        let view = patient(world, self.boards.quiz(quiz)).await?;
        Ok(view.map(|view| (as_of, view)))
    }
}

/// Brings the copies of one gateway up to date for ever, at its leisure, and looks at all quizzes.
pub(in super::super) async fn follower(world: Shared, number: usize) {
    let copies = Arc::new(Copies::new(&world, number));
    // A gateway that starts again knows nothing yet.
    let connection = {
        let mut world = world.lock();
        world.views[number] = View::Copied(copies.clone());
        world.ledger.restarted(number);
        world.ledger.connect()
    };
    let quizzes: Vec<QuizId> = world.lock().plan.quizzes.iter().map(|quiz| quiz.id.clone()).collect();
    loop {
        let lag = {
            let mut world = world.lock();
            let frequent = world.rng.chance(950) || world.calm;
            if frequent { world.rng.between(60, 200) } else { world.rng.between(300, 1_500) }
        };
        world.pause(lag).await;
        // What could not be read is read by the next.
        let _ = patient(&world, copies.replicas.tick()).await;
        for quiz in &quizzes {
            let board = patient(&world, copies.boards.board(quiz, Page::After(None), 1)).await;
            if let Ok(Some(board)) = board {
                world.lock().ledger.board(connection, quiz, board.revision, board.feed);
            }
            if let Ok(seen) = copies.look(&world, quiz).await {
                let mut last = copies.seen.lock().expect("a panic ends the run");
                match seen {
                    Some(seen) => last.insert(quiz.clone(), seen),
                    None => last.remove(quiz),
                };
            }
        }
    }
}

/// Waits for what another task has under way, of which nobody is woken here: looks again every moment.
struct Patient<'a, F> {
    world: &'a Shared,
    inner: Pin<Box<F>>,
}

fn patient<F: Future>(world: &Shared, inner: F) -> Patient<'_, F> {
    Patient { world, inner: Box::pin(inner) }
}

impl<F: Future> Future for Patient<'_, F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.inner.as_mut().poll(context);
        if polled.is_pending() {
            let mut world = self.world.lock();
            let soon = world.now + 4;
            world.wake.get_or_insert(soon);
        }
        polled
    }
}
