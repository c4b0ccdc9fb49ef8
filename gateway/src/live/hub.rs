//! One hub's task: waits for news, reads the views, publishes a frame, and rests for the interval.

use std::sync::Arc;
use std::time::Duration;

use operators::id::QuizId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Settings;
use super::frame::{Published, State};
use super::throttle::Throttle;
use crate::app::Clock;
use crate::json::shape::current;
use crate::views::{Page, Unavailable, Views};

/// Shortest sleep until a question closes: a clock that runs behind the runtime's must not make a busy loop.
const CLOSE_SLEEP_MIN: Duration = Duration::from_millis(10);

pub(super) struct Task {
    pub(super) views: Arc<dyn Views>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) quiz: QuizId,
    pub(super) feed: watch::Receiver<u64>,
    pub(super) published: watch::Sender<Option<Arc<Published>>>,
    pub(super) settings: Settings,
}

impl Task {
    /// Runs until aborted, until the views end the feed, or until there is no such quiz any more.
    pub(super) async fn run(mut self) {
        let start = Instant::now();
        let elapsed = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut throttle =
            Throttle::new(u64::try_from(self.settings.interval.as_millis()).unwrap_or(u64::MAX));
        let mut newest: Option<Arc<Published>> = None;
        loop {
            let expected = *self.feed.borrow_and_update();
            let state = match self.read().await {
                Ok(Some(state)) => Some(state),
                // Watchers are told by the end of their connection, and who comes back by 404.
                Ok(None) => return,
                Err(Unavailable(reason)) => {
                    tracing::warn!(reason, "the live feed could not be read");
                    None
                }
            };
            let behind = state.as_ref().is_none_or(|state| state.feed < expected);
            let next = state.and_then(|state| match &newest {
                Some(published) => published.next(state, self.settings.ring_frames),
                None => Some(Published::first(state)),
            });
            if let Some(next) = next {
                throttle.sent(elapsed());
                let next = Arc::new(next);
                newest = Some(next.clone());
                self.published.send_replace(Some(next));
            }
            if behind {
                // The view said that there is more than it showed: look again without waiting for further news.
                tokio::time::sleep(self.settings.interval).await;
                continue;
            }
            if self.news(newest.as_deref()).await.is_err() {
                return;
            }
            let due = throttle.due(elapsed());
            tokio::time::sleep_until(start + Duration::from_millis(due)).await;
        }
    }

    async fn read(&self) -> Result<Option<State>, Unavailable> {
        let page = self.views.board(&self.quiz, Page::After(None), self.settings.rows_max).await?;
        let Some(board) = page else { return Ok(None) };
        let quiz = self.views.quiz(&self.quiz).await?;
        Ok(quiz.map(|quiz| State::new(board, quiz, self.clock.now())))
    }

    /// Waits for the feed to move or for the current question to close by the clock.
    async fn news(&mut self, newest: Option<&Published>) -> Result<(), watch::error::RecvError> {
        let closes_at = newest.and_then(|published| {
            let state = published.state();
            current(&state.quiz, state.now)?.closes_at
        });
        let Some(closes_at) = closes_at else { return self.feed.changed().await };
        let left = Duration::from_millis(closes_at.since(self.clock.now())).max(CLOSE_SLEEP_MIN);
        tokio::select! {
            changed = self.feed.changed() => changed,
            () = tokio::time::sleep(left) => Ok(()),
        }
    }
}
