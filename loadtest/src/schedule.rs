//! When answers are meant to start: times fixed in advance, whatever the server does (an open loop), and the seeded
//! numbers that everything else is drawn from.

use std::time::Duration;

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spacing {
    /// Independent arrivals: exponential gaps, as a crowd makes them.
    Poisson,
    /// One every 1/rate seconds.
    Uniform,
}

/// A seeded stream of numbers (splitmix64, Steele, Lea and Flood 2014): one seed, one run.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Returns the stream of a seed; `stream` tells several streams of one run apart.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        rng.next();
        rng
    }

    /// Returns the next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number above 0 and at most 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Puts a list into random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The intended start times of a run, in nanoseconds from its start, rising, all before the end.
#[derive(Debug, Clone)]
pub(crate) struct Intended {
    spacing: Spacing,
    rate_milli: u64,
    end_ns: u64,
    index: u64,
    last_ns: f64,
    rng: Rng,
}

impl Intended {
    /// Returns the times of `rate` arrivals per second, exact to a thousandth, for `duration`.
    pub(crate) fn new(spacing: Spacing, rate: f64, duration: Duration, rng: Rng) -> Self {
        let rate_milli = ((rate * 1_000.0).round() as u64).max(1);
        let end_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { spacing, rate_milli, end_ns, index: 0, last_ns: 0.0, rng }
    }
}

impl Iterator for Intended {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let at = match self.spacing {
            Spacing::Uniform => {
                // Multiplied before divided: the millionth arrival is as exact as the first.
                let at = u128::from(self.index) * 1_000_000_000_000 / u128::from(self.rate_milli);
                u64::try_from(at).unwrap_or(u64::MAX)
            }
            Spacing::Poisson => {
                self.last_ns -= self.rng.unit().ln() * 1e12 / self.rate_milli as f64;
                self.last_ns as u64
            }
        };
        self.index += 1;
        (at < self.end_ns).then_some(at)
    }
}

/// One intended hand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Nanoseconds from the start of the run.
    pub(crate) at_ns: u64,
    /// Index of the participant.
    pub(crate) player: u32,
    /// What is handed in.
    pub(crate) ask: Ask,
}

/// What is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The participant's next question; the bits choose the answer.
    Fresh(u64),
    /// Another answer to a question that was answered already; the bits choose which.
    Another(u64),
    /// The same submission once more, as after a lost acknowledgement; the bits choose which.
    Resend(u64),
    /// A given answer to a given question.
    Exact {
        /// Index of the question.
        question: u16,
        /// Index of the choice.
        choice: u8,
    },
}

/// The arrivals of a run at a steady rate: participants in turn, in a shuffled order, with a share of repeats.
pub(crate) struct Crowd {
    intended: Intended,
    order: Vec<u32>,
    next: usize,
    repeat_share: f64,
    rng: Rng,
}

impl Crowd {
    /// Returns the arrivals; of `repeat_share` (0 to 1) of them one half is another answer, one half a re-send.
    pub(crate) fn new(intended: Intended, players: u32, repeat_share: f64, seed: u64) -> Self {
        let mut order: Vec<u32> = (0..players).collect();
        let mut rng = Rng::new(seed, 2);
        rng.shuffle(&mut order);
        Self { intended, order, next: 0, repeat_share, rng }
    }
}

impl Iterator for Crowd {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let at_ns = self.intended.next()?;
        let repeat = self.rng.unit() <= self.repeat_share;
        let bits = self.rng.next();
        let player = self.order[self.next];
        let ask = match (repeat, bits & 1) {
            (false, _) => {
                self.next = (self.next + 1) % self.order.len();
                Ask::Fresh(bits >> 1)
            }
            (true, 0) => Ask::Another(bits >> 1),
            (true, _) => Ask::Resend(bits >> 1),
        };
        Some(Arrival { at_ns, player, ask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_times_are_exact_to_the_last() {
        let rng = Rng::new(1, 0);
        let times: Vec<u64> =
            Intended::new(Spacing::Uniform, 3.0, Duration::from_secs(1), rng.clone()).collect();
        assert_eq!(times, [0, 333_333_333, 666_666_666]);
        let times: Vec<u64> =
            Intended::new(Spacing::Uniform, 10_000.0, Duration::from_secs(60), rng).collect();
        assert_eq!(times.len(), 600_000);
        assert_eq!((times[1], times[599_999]), (100_000, 59_999_900_000));
    }

    #[test]
    fn poisson_times_have_the_mean_and_the_spread_of_independent_arrivals() {
        for seed in 0..5 {
            let duration = Duration::from_secs(100);
            let times: Vec<u64> =
                Intended::new(Spacing::Poisson, 1_000.0, duration, Rng::new(seed, 0)).collect();
            // 100,000 arrivals: the count's deviation is 316, five of it is out of reach for a right generator.
            assert!((98_420..101_580).contains(&times.len()), "seed {seed}: {}", times.len());
            assert!(times.is_sorted());
            let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!(
                (0.97..1.03).contains(&(variance.sqrt() / mean)),
                "exponential gaps deviate by their mean"
            );
        }
    }

    #[test]
    fn a_seed_gives_one_run() {
        let crowd = |seed| {
            let intended = Intended::new(Spacing::Poisson, 500.0, Duration::from_secs(2), Rng::new(seed, 1));
            Crowd::new(intended, 7, 0.2, seed).collect::<Vec<_>>()
        };
        assert_eq!(crowd(7), crowd(7));
        assert_ne!(crowd(7), crowd(8));
    }

    #[test]
    fn everybody_has_a_turn_before_anybody_has_two() {
        let intended = Intended::new(Spacing::Uniform, 1_000.0, Duration::from_secs(1), Rng::new(1, 1));
        let mut turns = [0u32; 50];
        for arrival in Crowd::new(intended, 50, 0.0, 1) {
            turns[arrival.player as usize] += 1;
            assert!(turns.iter().max().unwrap() - turns.iter().min().unwrap() <= 1);
        }
        assert_eq!(turns, [20; 50]);
    }

    #[test]
    fn the_share_of_repeats_is_kept() {
        let intended = Intended::new(Spacing::Uniform, 10_000.0, Duration::from_secs(10), Rng::new(1, 1));
        let asks: Vec<Ask> = Crowd::new(intended, 100, 0.1, 3).map(|arrival| arrival.ask).collect();
        let again = asks.iter().filter(|ask| matches!(ask, Ask::Another(_))).count();
        let resent = asks.iter().filter(|ask| matches!(ask, Ask::Resend(_))).count();
        assert!((4_700..5_300).contains(&again), "{again}");
        assert!((4_700..5_300).contains(&resent), "{resent}");
    }
}
