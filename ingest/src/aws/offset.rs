//! How far the clock of this machine is off, as the `Date` of AWS's answers tells.
//!
//! A `Date` has whole seconds, so one answer tells little. But many, each at another part of its second, leave the clock
//! only a narrow place between them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::date_time::{DateTime, Format};

/// Answers that count: a gateway makes several calls a second, and a clock that is set anew is to show soon.
const ANSWERS: usize = 64;
/// A `Date` is this old at most when it is written: what it cuts off, and as much again for servers that write the same
/// for a while.
const DATE_AGE_MS_MAX: i64 = 2_000;

/// Measures the clock by every answer.
#[derive(Debug, Default)]
pub struct Offset(Mutex<VecDeque<Bounds>>);

/// The clock is ahead by at least and at most so many milliseconds.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    least: i64,
    most: i64,
}

impl Offset {
    /// Takes in an answer: when it was asked for and when it came, by this clock, and the `Date` that it has.
    pub fn observe(&self, sent_ms: i64, received_ms: i64, date_ms: i64) {
        let bounds = Bounds { least: sent_ms - date_ms - DATE_AGE_MS_MAX, most: received_ms - date_ms };
        // Nothing panics while holding it.
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push_front(bounds);
        answers.truncate(ANSWERS);
    }

    /// Returns by how many milliseconds the clock is certainly ahead; negative: behind. 0: maybe neither.
    pub fn certain_ms(&self) -> i64 {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = Bounds { least: i64::MIN, most: i64::MAX };
        for bounds in answers.iter() {
            let both = Bounds { least: place.least.max(bounds.least), most: place.most.min(bounds.most) };
            if both.least > both.most {
                // The clock was set between the two: what was measured before says nothing about it now.
                break;
            }
            place = both;
        }
        if place.least > 0 && place.least != i64::MIN {
            return place.least;
        }
        if place.most < 0 { place.most } else { 0 }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns a client whose answers are taken in.
pub(super) fn observed(inner: SharedHttpClient, offset: Arc<Offset>) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        let inner = inner.http_connector(settings, components);
        SharedHttpConnector::new(Observed { inner, offset: offset.clone() })
    })
}

struct Observed {
    inner: SharedHttpConnector,
    offset: Arc<Offset>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

impl HttpConnector for Observed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (offset, sent_ms) = (self.offset.clone(), now_ms());
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            let date =
                answer.headers().get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
            if let Some(date_ms) = date.and_then(|date| date.to_millis().ok()) {
                offset.observe(sent_ms, now_ms(), date_ms);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every 130 ms, 30 ms each, at a machine whose clock is ahead by so much.
    fn measured(ahead_ms: i64) -> Offset {
        let offset = Offset::default();
        run(&offset, ahead_ms, ANSWERS as i64);
        offset
    }

    fn run(offset: &Offset, ahead_ms: i64, answers: i64) {
        for n in 0..answers {
            let server = 1_700_000_000_000 + n * 130;
            let date = server / 1_000 * 1_000;
            offset.observe(server - 15 + ahead_ms, server + 15 + ahead_ms, date);
        }
    }

    #[test]
    fn a_clock_that_goes_right_is_never_blamed() {
        for ahead in [0, 300, 1_000] {
            assert_eq!(measured(ahead).certain_ms(), 0, "{ahead}");
        }
        let one = Offset::default();
        one.observe(10_900, 10_990, 10_000);
        assert_eq!(one.certain_ms(), 0, "an answer late in its second");
        assert_eq!(Offset::default().certain_ms(), 0);
    }

    #[test]
    fn a_clock_that_is_behind_shows_within_a_tenth_of_a_second() {
        let behind = measured(-700).certain_ms();
        assert!((-700..=-600).contains(&behind), "{behind}");
    }

    #[test]
    fn a_clock_that_is_far_ahead_shows() {
        let ahead = measured(5_000).certain_ms();
        assert!((3_800..=5_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_clock_that_was_set_is_judged_by_what_came_after() {
        let offset = measured(-60_000);
        run(&offset, 0, 8);
        assert_eq!(offset.certain_ms(), 0);
        run(&offset, 9_000, 8);
        assert!(offset.certain_ms() > 7_000);
    }
}
