//! Writing to the log and waiting to see it, and reading a view until its silence can be believed.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ingest::codec::encode_envelope;
use ingest::log::{Record, Stream};
use ingest::partition::{self, PartitionId};
use operators::event::{Envelope, Event, Stamp};
use operators::id::{QuizId, UnixMillis};
use tokio::time::Instant;

use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::views::{QuizView, Seen, WaitError};

/// First pause before a view is read again; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// A quiz, and when its view was known to be whole. The time was read first, so the view is at least that new.
pub(super) struct Fresh {
    pub(super) view: Arc<QuizView>,
    pub(super) as_of: UnixMillis,
}

/// Returns the quiz as the view has it.
pub(super) async fn quiz(app: &App, quiz: &QuizId) -> Result<Arc<QuizView>> {
    app.views.quiz(quiz).await?.ok_or_else(|| Code::UnknownQuiz.into())
}

/// Returns the quiz with its age.
pub(super) async fn fresh(app: &App, quiz: &QuizId) -> Result<Option<Fresh>> {
    let as_of = app.views.as_of(quiz);
    let view = app.views.quiz(quiz).await?;
    Ok(view.map(|view| Fresh { view, as_of }))
}

/// Something was not found in a view that may lag: whether to look again.
pub(super) struct Misses {
    since: UnixMillis,
    started: Instant,
    pause: Duration,
}

impl Misses {
    /// Starts for a request that arrived at `since`.
    pub(super) fn new(since: UnixMillis) -> Self {
        Self { since, started: Instant::now(), pause: PAUSE_FIRST }
    }

    /// Tells after a pause to look again, or at once that the miss is to be believed: the view, as of `as_of`, held
    /// everything that was in the log when the request arrived, or has been fresh for as long as it may lag. A view as
    /// of the very millisecond may lack what was appended in it.
    pub(super) async fn again(&mut self, app: &App, as_of: UnixMillis) -> Result<bool> {
        if as_of > self.since {
            return Ok(false);
        }
        let timing = &app.settings.timing;
        if self.started.elapsed() >= timing.view_age_max() {
            if timing.is_fresh(as_of, app.clock.now()) {
                return Ok(false);
            }
            return Err(Error::from(Code::ViewStale).retry_after(Duration::from_secs(1)));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(true)
    }
}

/// Returns a quiz once it is known, or that nobody published it once that is sure.
pub(super) async fn find(app: &App, quiz: &QuizId, since: UnixMillis) -> Result<Option<Fresh>> {
    let mut misses = Misses::new(since);
    loop {
        let as_of = app.views.as_of(quiz);
        if let Some(view) = app.views.quiz(quiz).await? {
            return Ok(Some(Fresh { view, as_of }));
        }
        if !misses.again(app, as_of).await? {
            return Ok(None);
        }
    }
}

/// Appends an event to a section; durable when this returns.
pub(super) async fn append(app: &App, envelope: &Envelope) -> Result<(PartitionId, Stamp)> {
    let payload = encode_envelope(envelope)?;
    let partition = partition::of_section(&envelope.quiz, envelope.section, app.log.partitions());
    let record = Record { stream: Stream::Submissions, partition, payload };
    let stamps = app.log.append(vec![record]).await?;
    let stamp = stamps.first().copied().expect("the log returns one stamp per record");
    Ok((partition, stamp))
}

/// Appends with a wait registered before: returns the stamp, and the wait with what it may have seen already.
pub(super) async fn append_watched<'a>(
    app: &App,
    envelope: &Envelope,
    mut wait: BoxFuture<'a, std::result::Result<Seen, WaitError>>,
) -> Result<(PartitionId, Stamp, BoxFuture<'a, std::result::Result<Seen, WaitError>>)> {
    let mut append = std::pin::pin!(append(app, envelope));
    tokio::select! {
        biased;
        // Nobody is let in to write when there is no room to wait.
        seen = &mut wait => {
            let (partition, stamp) = append.await?;
            Ok((partition, stamp, Box::pin(std::future::ready(seen))))
        }
        appended = &mut append => {
            let (partition, stamp) = appended?;
            Ok((partition, stamp, wait))
        }
    }
}

/// Appends an event and waits until its effect is visible to any gateway.
pub(super) async fn append_visibly(
    app: &App,
    quiz: &QuizId,
    section: u16,
    event: Event,
    awaited: crate::views::Awaited,
) -> Result<Seen> {
    let envelope = Envelope { quiz: quiz.clone(), section, event };
    let mut wait = app.views.wait(quiz, awaited, app.settings.visible_within);
    // The first look also takes a waiter's place; without one nothing is written.
    let early = futures::poll!(&mut wait);
    if let std::task::Poll::Ready(seen) = early {
        match seen {
            Ok(seen) => {
                // It was visible before: written by an earlier try of the same request.
                return Ok(seen);
            }
            Err(error) => return Err(unseen(error)),
        }
    }
    let (_, _, wait) = append_watched(app, &envelope, wait).await?;
    wait.await.map_err(unseen)
}

fn unseen(error: WaitError) -> Error {
    let code = match error {
        WaitError::TimedOut => Code::NotVisibleYet,
        WaitError::TooMany => Code::Overloaded,
        WaitError::Unavailable(error) => return error.into(),
    };
    Error::from(code).retry_after(Duration::from_secs(1))
}
