//! Which answers are let in and acknowledged: pure decisions about time, taken before and after the append.
//!
//! The argument: a section's Seal is appended no earlier than `closes_at + grace`. The gateway acknowledges only while
//! its view is at most `view_age_max` old. So a closing that the view does not show happened less than `view_age_max`
//! ago, and `grace > margin + view_age_max` keeps its Seal at least a margin away. A closing that the view does show is
//! acknowledged up to `closes_at + grace - margin`. The margin covers clocks that differ and the way of the answer.

use std::time::Duration;

use operators::definition::Pace;
use operators::id::UnixMillis;
use operators::limits::DELAY_MS_MAX;

use crate::views::QuizView;

/// The times that closing a question depends on. Gateways and runners must be given the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    grace_ms: u64,
    margin_ms: u64,
    view_age_ms_max: u64,
}

/// Times that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// An acknowledged answer could come after the Seal.
    #[error("grace must be longer than margin and the view's greatest age together")]
    GraceTooShort,
    /// An answer appended just before the Seal could score late although it arrived in time.
    #[error("grace must be at most {DELAY_MS_MAX} ms, the append delay that scoring believes")]
    GraceTooLong,
}

impl Timing {
    /// Returns checked times, in whole milliseconds.
    ///
    /// # Errors
    /// [`TimingError`] names the rule that they break.
    pub fn new(grace: Duration, margin: Duration, view_age_max: Duration) -> Result<Self, TimingError> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (grace_ms, margin_ms, view_age_ms_max) = (ms(grace), ms(margin), ms(view_age_max));
        if grace_ms <= margin_ms.saturating_add(view_age_ms_max) {
            return Err(TimingError::GraceTooShort);
        }
        if grace_ms > DELAY_MS_MAX {
            return Err(TimingError::GraceTooLong);
        }
        Ok(Self { grace_ms, margin_ms, view_age_ms_max })
    }

    /// Returns the time from a closing to its Seal.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
    /// Returns the time before the Seal from which nothing is acknowledged.
    pub fn margin(&self) -> Duration {
        Duration::from_millis(self.margin_ms)
    }
    /// Returns the age from which a view acknowledges nothing.
    pub fn view_age_max(&self) -> Duration {
        Duration::from_millis(self.view_age_ms_max)
    }
    /// Tells whether a view as of `as_of` may acknowledge at `now`.
    pub fn is_fresh(&self, as_of: UnixMillis, now: UnixMillis) -> bool {
        now.since(as_of) <= self.view_age_ms_max
    }
    /// Returns the last moment at which an answer to something that closes at `closes_at` is acknowledged.
    pub fn deadline(&self, closes_at: UnixMillis) -> UnixMillis {
        closes_at.plus(self.grace_ms - self.margin_ms)
    }
}

impl Default for Timing {
    /// Grace 2 s, margin 500 ms, views at most 1 s old.
    fn default() -> Self {
        Self { grace_ms: 2_000, margin_ms: 500, view_age_ms_max: 1_000 }
    }
}

/// Why an answer is not let in, or not acknowledged although it may be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too late to be acknowledged; nothing was appended.
    #[error("the question takes no more answers")]
    QuestionClosed,
    /// The view is too old to tell whether the question is open.
    #[error("the view of the quiz is too old")]
    ViewStale,
    /// The append finished too late. Whether the answer counts is up to the Seal: the receipt tells.
    #[error("the answer was written too late to be acknowledged")]
    Unacknowledged,
}

/// Decides before the append. `as_of` must have been read before `view`. Early, late and repeated answers are let in:
/// their verdict is the fold's business.
///
/// # Errors
/// `ViewStale`: try again soon. `QuestionClosed`: for good.
pub fn admit(
    view: &QuizView,
    question: u16,
    received_at: UnixMillis,
    now: UnixMillis,
    as_of: UnixMillis,
    timing: &Timing,
) -> Result<(), Refused> {
    // A clock that stepped back between the two stamps must not reopen anything.
    let now = now.max(received_at);
    if !timing.is_fresh(as_of, now) {
        return Err(Refused::ViewStale);
    }
    if is_over(view, question, now, timing) { Err(Refused::QuestionClosed) } else { Ok(()) }
}

/// Decides after the append, with the view and its age read again and `now` read last.
///
/// # Errors
/// `ViewStale` and `Unacknowledged`: the answer may be in the log, and handing it in again is safe.
pub fn acknowledge(
    view: &QuizView,
    question: u16,
    now: UnixMillis,
    as_of: UnixMillis,
    timing: &Timing,
) -> Result<(), Refused> {
    if !timing.is_fresh(as_of, now) {
        return Err(Refused::ViewStale);
    }
    if is_over(view, question, now, timing) { Err(Refused::Unacknowledged) } else { Ok(()) }
}

/// Returns when the question closes, as far as the view knows: its own end or the quiz's, whichever is earlier.
pub fn closes_at(view: &QuizView, question: u16) -> Option<UnixMillis> {
    let status = &view.status;
    let own = match view.definition.source().pace {
        Pace::Host => status.windows.iter().find(|w| w.question == question).and_then(|w| w.closes_at),
        Pace::Free => None,
    };
    match (own, status.closed_at) {
        (Some(own), Some(closed)) => Some(own.min(closed)),
        (Some(at), None) | (None, Some(at)) => Some(at),
        (None, None) => None,
    }
}

fn is_over(view: &QuizView, question: u16, now: UnixMillis, timing: &Timing) -> bool {
    view.is_final
        || view.sealed.contains(&question)
        || closes_at(view, question).is_some_and(|closes_at| now > timing.deadline(closes_at))
}
