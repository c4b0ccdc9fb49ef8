//! Awards: how many points a fraction is worth.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use super::Fraction;
use crate::limits;

/// An award policy by name and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Award {
    /// Fraction times full points, rounded to [`limits::POINTS_SCALE_MAX`] decimals, half away from zero.
    #[default]
    #[serde(rename = "flat@1")]
    Flat1,
    /// `round((1 - (t / T) / 2) * P)` times the fraction, all of `P` under 0.5 s, rounded to a whole number, half away
    /// from zero. Source: Kahoot support article 115002303908, "How points work"; its own example: 2 s of 30 s at 1000
    /// points give 967.
    #[serde(rename = "kahoot@1")]
    Kahoot1,
}

/// What an award may look at besides the fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds from opening to the answer's scoring time.
    pub taken_ms: u64,
    /// The question's time limit, if it has one.
    pub limit_ms: Option<u64>,
}

/// Answers under this time get full points (Kahoot: half a second).
const KAHOOT_FULL_MS: u64 = 500;

impl Award {
    /// Returns the name with its version, as a definition writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat1 => "flat@1",
            Self::Kahoot1 => "kahoot@1",
        }
    }

    /// Returns the points for `fraction` of a question worth `points` (at most [`limits::POINTS_MAX`]).
    ///
    /// Total: no time limit counts as no time pressure, an answer past the limit counts as given at the limit.
    pub fn award(self, fraction: Fraction, points: Decimal, clock: Clock) -> Decimal {
        if fraction.numerator == 0 {
            return Decimal::ZERO;
        }
        let part =
            |full: Decimal| full * Decimal::from(fraction.numerator) / Decimal::from(fraction.denominator);
        match self {
            Self::Flat1 => round(part(points), limits::POINTS_SCALE_MAX),
            Self::Kahoot1 => match clock.limit_ms {
                Some(limit) if clock.taken_ms >= KAHOOT_FULL_MS => {
                    let limit = limit.clamp(1, limits::TIME_LIMIT_MS_MAX);
                    let taken = clock.taken_ms.min(limit);
                    // (2T - t) / 2T is exact; dividing last keeps the only inexact step before the rounding.
                    let numerator = points * Decimal::from(2 * limit - taken);
                    round(part(numerator) / Decimal::from(2 * limit), 0)
                }
                Some(_) | None => round(part(points), 0),
            },
        }
    }
}

fn round(value: Decimal, scale: u32) -> Decimal {
    value.round_dp_with_strategy(scale, RoundingStrategy::MidpointAwayFromZero).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kahoot(taken_ms: u64, limit_ms: u64, points: i64) -> Decimal {
        let clock = Clock { taken_ms, limit_ms: Some(limit_ms) };
        Award::Kahoot1.award(Fraction::ONE, Decimal::from(points), clock)
    }

    #[test]
    fn published_kahoot_vectors() {
        for (taken, limit, expected) in [
            (2_000, 30_000, 967),
            (400, 20_000, 1_000),
            (500, 20_000, 988),
            (20_000, 20_000, 500),
            (500, 5_000, 950),
            (5_000, 20_000, 875),
            (1_285, 5_000, 872), // exactly 871.5: half away from zero, where binary floats give 871
            (99_000, 20_000, 500),
        ] {
            assert_eq!(kahoot(taken, limit, 1_000), Decimal::from(expected), "{taken} of {limit}");
        }
        assert_eq!(kahoot(1_000, 20_000, 0), Decimal::ZERO);
    }

    #[test]
    fn kahoot_equals_exact_integer_arithmetic_on_every_millisecond() {
        // Independent: integers only, half up = (2a + b) / 2b.
        for limit in [5_000u64, 10_000, 20_000] {
            for taken in 500..=limit {
                let (a, b) = (1_000 * (2 * limit - taken), 2 * limit);
                assert_eq!(
                    kahoot(taken, limit, 1_000),
                    Decimal::from((2 * a + b) / (2 * b)),
                    "{taken} of {limit}"
                );
            }
        }
    }

    #[test]
    fn flat_gives_the_exact_part() {
        let clock = Clock { taken_ms: 9, limit_ms: None };
        let third = Fraction { numerator: 1, denominator: 3 };
        assert_eq!(Award::Flat1.award(third, Decimal::ONE_HUNDRED, clock).to_string(), "33.333333");
        assert_eq!(Award::Flat1.award(Fraction::ONE, "2.50".parse().unwrap(), clock).to_string(), "2.5");
        assert_eq!(Award::Flat1.award(Fraction::ZERO, Decimal::ONE_HUNDRED, clock), Decimal::ZERO);
    }
}
