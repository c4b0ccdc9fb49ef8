//! Grading: which fraction of a question an answer got right.

use serde::{Deserialize, Serialize};

use crate::definition::{Key, Picked, normalise};

/// A grading policy by name and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Grading {
    /// 1 for exactly the key, else 0.
    #[default]
    #[serde(rename = "all_or_nothing@1")]
    AllOrNothing1,
}

/// An exact fraction from 0 to 1. Kept as a ratio because a decimal third times three is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// Parts that are right.
    pub numerator: u32,
    /// Parts in all, at least 1.
    pub denominator: u32,
}

impl Fraction {
    /// Nothing right.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };
    /// All right.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// Tells whether everything is right.
    pub fn is_whole(self) -> bool {
        self.numerator == self.denominator
    }
}

impl Grading {
    /// Returns the name with its version, as a definition writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllOrNothing1 => "all_or_nothing@1",
        }
    }

    /// Returns the fraction of the key that `picked` got right.
    pub fn grade(self, key: &Key, picked: &Picked) -> Fraction {
        match self {
            Self::AllOrNothing1 => {
                if matches(key, picked) {
                    Fraction::ONE
                } else {
                    Fraction::ZERO
                }
            }
        }
    }
}

fn matches(key: &Key, picked: &Picked) -> bool {
    match (key, picked) {
        (Key::Single(right), Picked::Choices(bits)) => *bits == 1u64 << right,
        (Key::Multiple(right), Picked::Choices(bits)) => bits == right,
        (Key::Range(min, max), Picked::Number(value)) => *min <= **value && **value <= *max,
        (Key::Text { accept, case_sensitive }, Picked::Text(text)) => {
            let form = normalise(text, *case_sensitive);
            accept.contains(&form)
        }
        (Key::Single(_) | Key::Multiple(_) | Key::Range(..) | Key::Text { .. }, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::Decimal;

    fn number(text: &str) -> Picked {
        Picked::Number(Box::new(text.parse().unwrap()))
    }

    #[test]
    fn only_exactly_the_key_counts() {
        let all = Grading::AllOrNothing1;
        assert_eq!(all.grade(&Key::Multiple(0b101), &Picked::Choices(0b101)), Fraction::ONE);
        assert_eq!(all.grade(&Key::Multiple(0b101), &Picked::Choices(0b111)), Fraction::ZERO);
        assert_eq!(all.grade(&Key::Multiple(0b101), &Picked::Choices(0)), Fraction::ZERO);
        let range = Key::Range("3.13".parse::<Decimal>().unwrap(), "3.15".parse().unwrap());
        assert_eq!(all.grade(&range, &number("3.150")), Fraction::ONE);
        assert_eq!(all.grade(&range, &number("3.1500000000000000000000000001")), Fraction::ZERO);
        let text = Key::Text { accept: vec!["paris".into()], case_sensitive: false };
        assert_eq!(all.grade(&text, &Picked::Text(Box::new("  PARIS ".into()))), Fraction::ONE);
        assert_eq!(all.grade(&text, &Picked::Choices(1)), Fraction::ZERO);
    }
}
