//! A quiz as its host writes it: parsed from the JSON form, checked as a whole, immutable once published.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::event::Response;
use crate::id::{ChoiceId, QuestionId};
use crate::limits;
use crate::policies::{Award, Grading};

mod check;
mod read;
mod text;

pub use read::{Object, exact};
pub use text::normalise;

/// A checked quiz definition. [`Definition::source`] gives back the JSON form that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    source: Source,
    /// The questions in the order of the source.
    pub questions: Vec<Question>,
    index: BTreeMap<QuestionId, u16>,
}

/// One thing wrong with a definition: where (a JSON pointer), a stable code, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct Problem {
    /// JSON pointer into the definition, for example `/questions/3/key/choice`.
    pub pointer: String,
    /// Stable code in snake case.
    pub code: &'static str,
    /// A sentence for a person, without the pointer.
    pub detail: String,
}

/// The JSON form of a quiz. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What players see as the quiz's name.
    pub title: String,
    /// Who moves the quiz on.
    #[serde(default)]
    pub pace: Pace,
    /// Fixed shares of the participants, 1 to [`limits::SECTIONS_MAX`]; more than 1 for a mass event.
    #[serde(default = "one")]
    pub sections: u16,
    /// How participants are ranked.
    #[serde(default, deserialize_with = "read::object")]
    pub ranking: RankingRule,
    /// The questions, 1 to [`limits::QUESTIONS_MAX`].
    #[serde(deserialize_with = "read::objects")]
    pub questions: Vec<QuestionSource>,
}

fn one() -> u16 {
    1
}

/// Who moves the quiz on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The host opens each question; it takes answers until its limit or until it is closed.
    #[default]
    Host,
    /// Every question takes answers while the quiz is open.
    Free,
}

/// The JSON form of one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionSource {
    /// Name, unique in the quiz.
    pub id: QuestionId,
    /// What shape answers have.
    pub kind: Kind,
    /// The question as asked.
    pub text: String,
    /// Choices, for the kinds that have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "read::objects")]
    pub choices: Vec<Choice>,
    /// What is right.
    #[serde(deserialize_with = "read::object")]
    pub key: KeySource,
    /// Full points, 0 to [`limits::POINTS_MAX`] with at most [`limits::POINTS_SCALE_MAX`] decimals.
    #[serde(default = "thousand", deserialize_with = "read::decimal")]
    pub points: Decimal,
    /// Milliseconds from opening to closing; without it the host closes the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// How an answer becomes a fraction.
    #[serde(default)]
    pub grading: Grading,
    /// How a fraction becomes points.
    #[serde(default)]
    pub award: Award,
}

fn thousand() -> Decimal {
    Decimal::ONE_THOUSAND
}

/// What shape the answers to a question have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One of the choices.
    SingleChoice,
    /// A set of the choices.
    MultipleChoice,
    /// A decimal number.
    Numeric,
    /// A short text, compared with accepted forms.
    ShortText,
}

/// One choice of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Name, unique in the question.
    pub id: ChoiceId,
    /// The choice as shown.
    pub text: String,
}

/// The JSON form of a key; which fields belong depends on the kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeySource {
    /// `single_choice`: the right choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<ChoiceId>,
    /// `multiple_choice`: the right choices, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<ChoiceId>>,
    /// `numeric`: the right value, with `tolerance`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "read::optional_decimal")]
    pub value: Option<Decimal>,
    /// `numeric`: largest accepted distance from `value`, 0 by default.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "read::optional_decimal")]
    pub tolerance: Option<Decimal>,
    /// `numeric`: smallest accepted value of a range, instead of `value`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "read::optional_decimal")]
    pub min: Option<Decimal>,
    /// `numeric`: largest accepted value of a range.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "read::optional_decimal")]
    pub max: Option<Decimal>,
    /// `short_text`: the accepted forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<Vec<String>>,
    /// `short_text`: whether case matters, false by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
}

/// How equal points are told apart and equals are numbered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankingRule {
    /// How equals are numbered.
    pub method: RankMethod,
    /// What decides between equal points, first to last.
    pub ties: Vec<TieBreak>,
}

impl Default for RankingRule {
    fn default() -> Self {
        Self {
            method: RankMethod::Standard,
            ties: vec![TieBreak::Correct, TieBreak::Time, TieBreak::LastCorrect],
        }
    }
}

/// How equals are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankMethod {
    /// 1 2 2 4: one more than the number strictly better.
    #[default]
    Standard,
}

/// What decides between equal points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieBreak {
    /// More correct answers first.
    Correct,
    /// Less total time of correct answers first.
    Time,
    /// The earlier last correct answer first.
    LastCorrect,
}

/// A checked question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Name, unique in the quiz.
    pub id: QuestionId,
    /// What is right, by kind, in the form that grading compares.
    pub key: Key,
    /// Full points.
    pub points: Decimal,
    /// Milliseconds from opening to closing.
    pub time_limit_ms: Option<u64>,
    /// How an answer becomes a fraction.
    pub grading: Grading,
    /// How a fraction becomes points.
    pub award: Award,
    choices: Vec<ChoiceId>,
}

/// What is right, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// Index of the right choice.
    Single(u8),
    /// The right choices as bits, choice 0 lowest.
    Multiple(u64),
    /// Inclusive bounds of the right values.
    Range(Decimal, Decimal),
    /// Accepted forms, normalised.
    Text {
        /// Normalised accepted forms.
        accept: Vec<String>,
        /// Whether case matters.
        case_sensitive: bool,
    },
}

/// An answer in the compact form that state keeps: choices by index, text normalised.
///
/// 16 bytes: a million answers stay in memory, so rare large forms are boxed.
#[derive(Debug, Clone, PartialEq)]
pub enum Picked {
    /// Chosen choices as bits (a single choice has one bit).
    Choices(u64),
    /// A number.
    Number(Box<Decimal>),
    /// A text as handed in.
    Text(Box<String>),
}

/// Why a well-formed answer does not fit its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The answer has the shape of another kind.
    #[error("the answer has the wrong shape for this kind of question")]
    Shape,
    /// A choice that the question does not have.
    #[error("the question has no such choice")]
    UnknownChoice,
    /// The same choice twice.
    #[error("a choice is named twice")]
    RepeatedChoice,
    /// Text over [`limits::ANSWER_TEXT_CHARS_MAX`] characters.
    #[error("the text is longer than {} characters", limits::ANSWER_TEXT_CHARS_MAX)]
    TooLong,
}

impl Definition {
    /// Returns the checked definition.
    ///
    /// # Errors
    /// Every problem found, at most [`limits::PROBLEMS_MAX`], in the order of the source.
    pub fn new(source: Source) -> Result<Self, Vec<Problem>> {
        let questions = check::check(&source)?;
        let index = questions.iter().zip(0..).map(|(q, index)| (q.id.clone(), index)).collect();
        Ok(Self { source, questions, index })
    }

    /// Returns the JSON form.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the index of a question.
    pub fn index_of(&self, question: &QuestionId) -> Option<u16> {
        self.index.get(question).copied()
    }
}

impl Question {
    /// Returns the answer in the form that grading compares.
    ///
    /// # Errors
    /// [`Misfit`] when the answer cannot belong to this question.
    pub fn pick(&self, response: &Response) -> Result<Picked, Misfit> {
        match (&self.key, response) {
            (Key::Single(_), Response::Choice(choice)) => self.bit(choice).map(Picked::Choices),
            (Key::Multiple(_), Response::Choices(choices)) => {
                let mut bits = 0u64;
                for choice in choices {
                    let bit = self.bit(choice)?;
                    if bits & bit != 0 {
                        return Err(Misfit::RepeatedChoice);
                    }
                    bits |= bit;
                }
                Ok(Picked::Choices(bits))
            }
            (Key::Range(..), Response::Value(value)) => Ok(Picked::Number(Box::new(*value))),
            (Key::Text { .. }, Response::Text(text)) => {
                if text.chars().count() > limits::ANSWER_TEXT_CHARS_MAX {
                    return Err(Misfit::TooLong);
                }
                Ok(Picked::Text(Box::new(text.clone())))
            }
            (Key::Single(_) | Key::Multiple(_) | Key::Range(..) | Key::Text { .. }, _) => Err(Misfit::Shape),
        }
    }

    fn bit(&self, choice: &str) -> Result<u64, Misfit> {
        let index = self.choices.iter().position(|c| c.as_str() == choice).ok_or(Misfit::UnknownChoice)?;
        Ok(1 << index)
    }
}

#[cfg(test)]
mod tests;
