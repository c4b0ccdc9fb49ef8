//! When to try again: exponential backoff with full jitter, honouring what the receiver asks for.

use std::time::Duration;

/// A retry schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Upper bound of the first pause.
    pub first: Duration,
    /// Upper bound of any pause, a receiver's wish included: one slow receiver must not park its queue for days.
    pub longest: Duration,
    /// Attempts in all, the first included.
    pub attempts_max: u32,
}

impl Schedule {
    /// Returns the pause after attempt number `attempt` (from 1), or `None` when that was the last one.
    ///
    /// The pause is drawn evenly from zero to `first * 2^(attempt - 1)`, at most `longest` ("full jitter": Amazon
    /// Builders' Library, *Timeouts, retries, and backoff with jitter*), and never less than `after`, capped at
    /// `longest`. `random` is the caller's draw, so that a simulation can repeat it.
    pub fn pause(&self, attempt: u32, after: Option<Duration>, random: u64) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(63);
        let bound_ms =
            self.first.as_millis().saturating_mul(1u128 << doublings).min(self.longest.as_millis());
        // Multiply-shift maps the draw to 0..=bound without the bias of a remainder.
        let jitter_ms = (u128::from(random) * (bound_ms + 1)) >> 64;
        let jitter = Duration::from_millis(u64::try_from(jitter_ms).unwrap_or(u64::MAX));
        Some(after.unwrap_or_default().min(self.longest).max(jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: Schedule =
        Schedule { first: Duration::from_millis(100), longest: Duration::from_secs(60), attempts_max: 12 };

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let bounds: Vec<_> =
            (1..12).map(|n| SCHEDULE.pause(n, None, u64::MAX).unwrap().as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000]);
        assert_eq!(SCHEDULE.pause(12, None, 0), None);
        assert_eq!(SCHEDULE.pause(1, None, 0), Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn a_receivers_wish_is_kept_within_the_longest(attempt in 1u32..12, after_ms in 0u64..100_000, random: u64) {
            let pause = SCHEDULE.pause(attempt, Some(Duration::from_millis(after_ms)), random).unwrap();
            prop_assert!(pause >= Duration::from_millis(after_ms.min(60_000)));
            prop_assert!(pause <= SCHEDULE.longest);
        }
    }
}
