//! The live feed: one hub per watched quiz reads the views at most every interval and hands each frame to all watchers.
//!
//! A hub starts with its first watcher and ends with its last. Frames are made and serialised once. A watcher keeps
//! only how far it has read, so a slow one costs no memory: when it falls behind the ring it gets a fresh snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use operators::id::QuizId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::app::Clock;
use crate::error::{Code, Error, Result};
use crate::views::Views;

pub mod frame;
mod hub;
pub mod throttle;
pub(crate) mod wire;

use frame::{Frame, Published, Reader};

/// Settings of the live feed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Least time between two frames of a quiz.
    pub interval: Duration,
    /// Frames kept for watchers that come back or lag: at two a second half a minute of dropped network.
    pub ring_frames: usize,
    /// Rows of the leaderboard that watchers see.
    pub rows_max: usize,
    /// Quizzes watched at once.
    pub hubs_max: usize,
    /// Watchers at once.
    pub watchers_max: usize,
    /// How long a watcher that comes back from a gateway which is ahead of this one waits for what it has seen already:
    /// as old as views may be.
    pub catch_up_within: Duration,
    /// Silence after which server-sent events carry a comment.
    pub keep_alive: Duration,
    /// Time between WebSocket pings; a peer silent for two of them is dropped.
    pub ping: Duration,
    /// Time in which a watcher has to take a frame.
    pub write_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            ring_frames: 64,
            rows_max: 100,
            hubs_max: 1_024,
            watchers_max: 20_000,
            catch_up_within: Duration::from_secs(1),
            keep_alive: Duration::from_secs(15),
            ping: Duration::from_secs(20),
            write_within: Duration::from_secs(10),
        }
    }
}

/// All hubs of this process.
pub struct Live {
    views: Arc<dyn Views>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    hubs: Arc<Mutex<Hubs>>,
    seats: Arc<Semaphore>,
    draining: watch::Sender<bool>,
}

type Hubs = HashMap<QuizId, Entry>;

struct Entry {
    hub: Arc<Hub>,
    watchers: usize,
}

struct Hub {
    published: watch::Receiver<Option<Arc<Published>>>,
    task: AbortHandle,
}

/// One watcher's seat at a hub, until dropped.
pub(crate) struct Watch {
    quiz: QuizId,
    hub: Arc<Hub>,
    published: watch::Receiver<Option<Arc<Published>>>,
    draining: watch::Receiver<bool>,
    hubs: Arc<Mutex<Hubs>>,
    reader: Reader,
    /// Until when a feed that is behind what the watcher has seen is waited for.
    patient_until: Option<Instant>,
    _seat: OwnedSemaphorePermit,
}

/// The feed is over: the gateway stops, or there is no such quiz any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Live {
    pub(crate) fn new(views: Arc<dyn Views>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let seats = Arc::new(Semaphore::new(settings.watchers_max));
        Self { views, clock, settings, hubs: Arc::default(), seats, draining: watch::Sender::new(false) }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Ends all watches, so that their connections can close.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Takes a seat at the quiz's hub, starting it for the first watcher. `resume` is the last frame that a watcher
    /// which comes back has seen.
    pub(crate) async fn watch(&self, quiz: &QuizId, resume: Option<u64>) -> Result<Watch> {
        if *self.draining.borrow() {
            return Err(Code::NotReady.into());
        }
        let full =
            |detail: &'static str| Error::new(Code::Overloaded, detail).retry_after(Duration::from_secs(5));
        let seat = self.seats.clone().try_acquire_owned().map_err(|_| full("too many are watching"))?;
        if let Some(hub) = join(&mut lock(&self.hubs), quiz) {
            return Ok(self.seated(quiz, hub, resume, seat));
        }
        let feed = self.views.feed(quiz).await?.ok_or(Code::UnknownQuiz)?;
        let mut hubs = lock(&self.hubs);
        // Another first watcher may have been quicker.
        if let Some(hub) = join(&mut hubs, quiz) {
            return Ok(self.seated(quiz, hub, resume, seat));
        }
        if hubs.len() >= self.settings.hubs_max {
            return Err(full("too many quizzes are watched"));
        }
        let (sender, published) = watch::channel(None);
        let task = hub::Task {
            views: self.views.clone(),
            clock: self.clock.clone(),
            quiz: quiz.clone(),
            feed,
            published: sender,
            settings: self.settings.clone(),
        };
        let task = tokio::spawn(task.run()).abort_handle();
        let hub = Arc::new(Hub { published, task });
        hubs.insert(quiz.clone(), Entry { hub: hub.clone(), watchers: 1 });
        metrics::gauge!("podium_live_hubs").set(hubs.len() as f64);
        Ok(self.seated(quiz, hub, resume, seat))
    }

    fn seated(&self, quiz: &QuizId, hub: Arc<Hub>, resume: Option<u64>, seat: OwnedSemaphorePermit) -> Watch {
        metrics::gauge!("podium_live_watchers").increment(1.0);
        Watch {
            quiz: quiz.clone(),
            published: hub.published.clone(),
            hub,
            draining: self.draining.subscribe(),
            hubs: self.hubs.clone(),
            reader: Reader::new(resume),
            patient_until: resume.map(|_| Instant::now() + self.settings.catch_up_within),
            _seat: seat,
        }
    }
}

/// Counts a watcher in at a running hub.
fn join(hubs: &mut Hubs, quiz: &QuizId) -> Option<Arc<Hub>> {
    let entry = hubs.get_mut(quiz).filter(|entry| !entry.hub.task.is_finished())?;
    entry.watchers += 1;
    Some(entry.hub.clone())
}

fn lock(hubs: &Mutex<Hubs>) -> MutexGuard<'_, Hubs> {
    // Nothing panics while the lock is held; if it ever did, the map would still be whole.
    hubs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Returns the frames that this watcher has not seen yet, oldest first; none when it is up to date.
    pub(crate) fn take(&mut self) -> Vec<Arc<Frame>> {
        let Some(published) = self.published.borrow_and_update().clone() else { return Vec::new() };
        if self
            .patient_until
            .is_some_and(|until| self.reader.is_ahead_of(&published) && Instant::now() < until)
        {
            return Vec::new();
        }
        self.patient_until = None;
        self.reader.take(&published)
    }

    /// Waits until there may be something to take.
    pub(crate) async fn changed(&mut self) -> std::result::Result<(), Ended> {
        let patience = async {
            match self.patient_until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.published.changed() => changed.map_err(|_| Ended),
            () = patience => Ok(()),
            _ = self.draining.wait_for(|draining| *draining) => Err(Ended),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        metrics::gauge!("podium_live_watchers").decrement(1.0);
        let mut hubs = lock(&self.hubs);
        let Some(entry) = hubs.get_mut(&self.quiz) else { return };
        // A hub that ended by itself may have been replaced while its last watchers were leaving.
        if !Arc::ptr_eq(&entry.hub, &self.hub) {
            return;
        }
        entry.watchers -= 1;
        if entry.watchers == 0 {
            entry.hub.task.abort();
            hubs.remove(&self.quiz);
            metrics::gauge!("podium_live_hubs").set(hubs.len() as f64);
        }
    }
}
