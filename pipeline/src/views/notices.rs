//! Who waits for what: requests that want to see their own change, and live feeds that want to see any.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::views::{Awaited, QuizView};
use operators::effect::{Change, Effect};
use operators::id::QuizId;
use operators::rank::Ranking;
use tokio::sync::watch;

use crate::stage::rank::Audience;

/// Requests that may wait at once: each holds a connection and a little memory.
pub const WAITERS_MAX: usize = 8_192;
/// Quiz views kept ready; over it all are dropped and made again as needed.
const VIEWS_MAX: usize = 1_024;

/// The audience of an in-process rank stage.
#[derive(Default)]
pub struct Notices {
    waiting: Mutex<Waiting>,
    staged: Mutex<HashMap<QuizId, Staged>>,
    feeds: Mutex<HashMap<QuizId, watch::Sender<u64>>>,
    views: Mutex<HashMap<QuizId, Kept>>,
}

#[derive(Default)]
struct Waiting {
    /// With how many wait for each.
    places: HashMap<(QuizId, Awaited), (watch::Sender<Notice>, usize)>,
    count: usize,
}

/// What was applied to one quiz and is not durable yet. A quiz has one runner, so these never mix two steps.
#[derive(Default)]
struct Staged {
    awaited: Vec<Awaited>,
    commands: bool,
    feed: u64,
}

/// A quiz view with what it depends on: commands, Seals and participants.
struct Kept {
    depends: (u64, usize, usize),
    view: Arc<QuizView>,
}

/// What those who wait are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It may be visible now.
    Look,
    /// It has become visible; something later may hide it again.
    Seen,
}

/// A place among those who wait, given back when dropped.
pub struct Place<'a> {
    notices: &'a Notices,
    key: (QuizId, Awaited),
    noticed: watch::Receiver<Notice>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these, and each is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notices {
    /// Returns a place among those who wait, or `None` when there are too many.
    pub fn register(&self, quiz: &QuizId, awaited: &Awaited) -> Option<Place<'_>> {
        let key = (quiz.clone(), awaited.clone());
        let mut waiting = lock(&self.waiting);
        if waiting.count >= WAITERS_MAX {
            return None;
        }
        waiting.count += 1;
        let place = waiting.places.entry(key.clone()).or_insert_with(|| (watch::channel(Notice::Look).0, 0));
        place.1 += 1;
        let noticed = place.0.subscribe();
        Some(Place { notices: self, key, noticed })
    }

    fn wake(&self, quiz: &QuizId, awaited: Vec<Awaited>, commands: bool) {
        let waiting = lock(&self.waiting);
        if waiting.count == 0 {
            return;
        }
        for awaited in awaited {
            if let Some((sender, _)) = waiting.places.get(&(quiz.clone(), awaited)) {
                sender.send_replace(Notice::Seen);
            }
        }
        if commands {
            let hosts = waiting
                .places
                .iter()
                .filter(|((of, awaited), _)| of == quiz && matches!(awaited, Awaited::Command(_)));
            hosts.for_each(|(_, (sender, _))| {
                sender.send_replace(Notice::Look);
            });
        }
    }

    /// Tells whether anybody waits for anything.
    pub fn is_awaited(&self) -> bool {
        lock(&self.waiting).count > 0
    }

    /// Returns the quizzes that somebody watches, or in which somebody waits for something.
    pub fn wanted(&self) -> BTreeSet<QuizId> {
        let mut wanted: BTreeSet<QuizId> =
            lock(&self.waiting).places.keys().map(|(quiz, _)| quiz.clone()).collect();
        let feeds = lock(&self.feeds);
        wanted.extend(feeds.iter().filter(|(_, sender)| !sender.is_closed()).map(|(quiz, _)| quiz.clone()));
        wanted
    }

    /// Wakes who waits for what has become visible of a quiz whose feed is at `feed` now, and who watches it.
    pub fn seen(&self, quiz: &QuizId, awaited: Vec<Awaited>, commands: bool, feed: u64) {
        self.wake(quiz, awaited, commands);
        self.move_feed(quiz, feed);
    }

    /// Lets everybody look again who waits for something of a quiz or watches it: nobody knows what has changed, or
    /// whether the quiz is still there.
    pub fn look_again(&self, quiz: &QuizId) {
        // What is kept of it may be of one that is no more.
        lock(&self.views).remove(quiz);
        {
            let waiting = lock(&self.waiting);
            let all = waiting.places.iter().filter(|((of, _), _)| of == quiz);
            all.for_each(|(_, (sender, _))| {
                sender.send_replace(Notice::Look);
            });
        }
        if let Some(sender) = lock(&self.feeds).get(quiz) {
            // The same number again is news as well.
            sender.send_modify(|_| ());
        }
    }

    fn move_feed(&self, quiz: &QuizId, feed: u64) {
        let mut feeds = lock(&self.feeds);
        match feeds.get(quiz) {
            Some(sender) if sender.is_closed() => {
                feeds.remove(quiz);
            }
            Some(sender) => {
                sender.send_if_modified(|newest| raise(newest, feed));
            }
            None => {}
        }
    }

    /// Returns the feed of a quiz that is at `feed` now.
    pub fn feed(&self, quiz: &QuizId, feed: u64) -> watch::Receiver<u64> {
        let mut feeds = lock(&self.feeds);
        let sender = feeds.entry(quiz.clone()).or_insert_with(|| watch::channel(feed).0);
        if sender.is_closed() {
            // Nobody has seen it move. The quiz may be another one under the same id, whose feed begins anew.
            *sender = watch::channel(feed).0;
        }
        sender.send_if_modified(|newest| raise(newest, feed));
        sender.subscribe()
    }

    /// Returns the view of a quiz, made again only when something that it shows has changed.
    pub fn view(
        &self,
        ranking: &Ranking,
        make: impl FnOnce(&Ranking) -> Option<Arc<QuizView>>,
    ) -> Option<Arc<QuizView>> {
        let seals =
            ranking.sections().values().map(|mark| mark.sealed.len() + usize::from(mark.closed)).sum();
        let depends = (ranking.board().status.number, seals, ranking.len());
        let mut views = lock(&self.views);
        if let Some(kept) = views.get(ranking.quiz()).filter(|kept| kept.depends == depends) {
            return Some(kept.view.clone());
        }
        if views.len() >= VIEWS_MAX {
            views.clear();
        }
        let view = make(ranking)?;
        views.insert(ranking.quiz().clone(), Kept { depends, view: view.clone() });
        Some(view)
    }
}

impl Place<'_> {
    /// Returns when there was something to see since the last call.
    pub async fn noticed(&mut self) -> Notice {
        // The sender lives in the map for as long as a place does.
        let _ = self.noticed.changed().await;
        *self.noticed.borrow_and_update()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.notices.waiting);
        waiting.count -= 1;
        if let Some((_, count)) = waiting.places.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                waiting.places.remove(&self.key);
            }
        }
    }
}

impl Audience for Notices {
    fn applied(&self, effect: &Effect) {
        let mut staged = lock(&self.staged);
        let Staged { awaited, commands, .. } = staged.entry(effect.quiz.clone()).or_default();
        match &effect.change {
            Change::ScoreChanged(score) => awaited
                .extend(score.receipt.as_ref().map(|r| Awaited::Submission(score.participant, r.submission))),
            Change::Joined { participant, name } => {
                awaited.push(Awaited::Participant(*participant, name.clone()));
            }
            Change::QuizChanged(_) | Change::Reached { .. } => *commands = true,
            Change::Overruled(_) | Change::Sealed { .. } => {}
        }
    }

    fn moved(&self, quiz: &QuizId, feed: u64) {
        lock(&self.staged).entry(quiz.clone()).or_default().feed = feed;
    }

    fn committed(&self, quizzes: &[QuizId]) {
        for quiz in quizzes {
            let Some(staged) = lock(&self.staged).remove(quiz) else { continue };
            self.wake(quiz, staged.awaited, staged.commands);
            self.move_feed(quiz, staged.feed);
        }
    }
}

/// Feeds never go back.
fn raise(newest: &mut u64, feed: u64) -> bool {
    let moved = *newest < feed;
    *newest = feed.max(*newest);
    moved
}
