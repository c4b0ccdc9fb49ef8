//! Admission: the truth table, and the promise that nothing is acknowledged too close to a Seal.

use std::time::Duration;

use gateway::admission::{Refused, Timing, TimingError, acknowledge, admit};
use gateway::views::QuizView;
use operators::effect::{Phase, Window};
use operators::id::UnixMillis;
use proptest::prelude::*;

const OPENED: UnixMillis = UnixMillis(1_000_000);
const CLOSES: UnixMillis = UnixMillis(1_020_000);

fn at(ms_after_close: i64) -> UnixMillis {
    UnixMillis(CLOSES.0.checked_add_signed(ms_after_close).unwrap())
}

fn opened(closes_at: Option<UnixMillis>) -> QuizView {
    let mut view = crate::quiz("host");
    view.status.opened_at = Some(OPENED);
    view.status.windows.push(Window { question: 0, opened_at: OPENED, closes_at });
    view
}

/// The decisions before and after the append, both at `now` with a view as of `as_of`.
fn both(view: &QuizView, now: UnixMillis, as_of: UnixMillis) -> (Result<(), Refused>, Result<(), Refused>) {
    let timing = Timing::default();
    (admit(view, 0, now, now, as_of, &timing), acknowledge(view, 0, now, as_of, &timing))
}

const LET_IN: (Result<(), Refused>, Result<(), Refused>) = (Ok(()), Ok(()));
const OVER: (Result<(), Refused>, Result<(), Refused>) =
    (Err(Refused::QuestionClosed), Err(Refused::Unacknowledged));
const STALE: (Result<(), Refused>, Result<(), Refused>) = (Err(Refused::ViewStale), Err(Refused::ViewStale));

#[test]
fn times_are_checked_together() {
    let ms = Duration::from_millis;
    assert_eq!(Timing::new(ms(2_000), ms(500), ms(1_000)), Ok(Timing::default()));
    assert_eq!(Timing::new(ms(1_500), ms(500), ms(1_000)), Err(TimingError::GraceTooShort));
    assert!(Timing::new(ms(1_501), ms(500), ms(1_000)).is_ok());
    assert!(Timing::new(ms(5_000), ms(500), ms(1_000)).is_ok());
    assert_eq!(Timing::new(ms(5_001), ms(500), ms(1_000)), Err(TimingError::GraceTooLong));
    assert_eq!(Timing::new(ms(5_000), Duration::MAX, Duration::MAX), Err(TimingError::GraceTooShort));
}

#[test]
fn answers_are_let_in_until_the_deadline_whatever_their_verdict() {
    let view = opened(Some(CLOSES));
    for (after_close, expected) in
        [(-19_000, LET_IN), (0, LET_IN), (1, LET_IN), (1_500, LET_IN), (1_501, OVER), (9_999_999, OVER)]
    {
        let now = at(after_close);
        assert_eq!(both(&view, now, now), expected, "{after_close} ms after the close");
    }
    // Too early, and a question without a limit.
    assert_eq!(both(&crate::quiz("host"), at(0), at(0)), LET_IN);
    assert_eq!(both(&opened(None), at(99_999_999), at(99_999_999)), LET_IN);
}

#[test]
fn a_stale_view_decides_nothing() {
    let view = opened(None);
    assert_eq!(both(&view, at(0), at(-1_000)), LET_IN);
    assert_eq!(both(&view, at(0), at(-1_001)), STALE);
    assert_eq!(both(&view, at(0), UnixMillis(0)), STALE);
    // Also not that a question is over: a newer view may say otherwise.
    assert_eq!(both(&opened(Some(CLOSES)), at(50_000), at(0)), STALE);
    // A view from the future is one whose clock is ahead of ours.
    assert_eq!(both(&view, at(0), at(400)), LET_IN);
}

#[test]
fn closing_the_quiz_closes_its_questions() {
    let mut view = opened(None);
    view.status.phase = Phase::Closed;
    view.status.closed_at = Some(CLOSES);
    assert_eq!(both(&view, at(1_500), at(1_500)), LET_IN);
    assert_eq!(both(&view, at(1_501), at(1_501)), OVER);
    // A limit that would end after the quiz does not outlive it.
    let mut view = opened(Some(at(60_000)));
    view.status.closed_at = Some(CLOSES);
    assert_eq!(both(&view, at(1_501), at(1_501)), OVER);
}

#[test]
fn a_free_paced_quiz_closes_as_a_whole() {
    let mut view = crate::quiz("free");
    assert_eq!(both(&view, at(0), at(0)), LET_IN);
    view.status.opened_at = Some(OPENED);
    assert_eq!(both(&view, at(9_999), at(9_999)), LET_IN);
    view.status.closed_at = Some(CLOSES);
    assert_eq!(both(&view, at(1_500), at(1_500)), LET_IN);
    assert_eq!(both(&view, at(1_501), at(1_501)), OVER);
}

#[test]
fn what_is_sealed_or_final_is_over_whatever_the_clock_says() {
    let mut view = opened(Some(CLOSES));
    view.sealed.push(0);
    assert_eq!(both(&view, at(-10_000), at(-10_000)), OVER);
    view.sealed = vec![1];
    assert_eq!(both(&view, at(-10_000), at(-10_000)), LET_IN);
    view.is_final = true;
    assert_eq!(both(&view, at(-10_000), at(-10_000)), OVER);
}

#[test]
fn a_clock_that_steps_back_reopens_nothing() {
    let view = opened(Some(CLOSES));
    let decided = admit(&view, 0, at(1_501), at(1_400), at(1_400), &Timing::default());
    assert_eq!(decided, Err(Refused::QuestionClosed));
}

proptest! {
    /// The truth: a question that closes at `closes_at` by a command which the view shows only if it is old enough.
    /// Whatever is acknowledged is at least a margin away from the earliest Seal.
    #[test]
    fn nothing_is_acknowledged_within_a_margin_of_the_seal(
        grace in 2u64..=5_000, margin in 0u64..5_000, age_max in 0u64..5_000,
        closes in 0u64..20_000, lag in 0u64..10_000, now in 0u64..40_000,
    ) {
        let ms = Duration::from_millis;
        let Ok(timing) = Timing::new(ms(grace), ms(margin), ms(age_max)) else { return Ok(()) };
        let (closes, now) = (UnixMillis(CLOSES.0 + closes), UnixMillis(CLOSES.0 + now));
        let as_of = now.minus(lag);
        // The view holds everything up to as_of: the closing too, unless it came later.
        let view = opened((closes <= as_of).then_some(closes));
        if acknowledge(&view, 0, now, as_of, &timing).is_ok() && now >= closes {
            prop_assert!(now.0 + margin <= closes.0 + grace, "{} ms after the close", now.0 - closes.0);
        }
        // What is let in can be acknowledged at the same moment, and the other way round.
        let admitted = admit(&view, 0, now, now, as_of, &timing).is_ok();
        prop_assert_eq!(admitted, acknowledge(&view, 0, now, as_of, &timing).is_ok());
    }
}
