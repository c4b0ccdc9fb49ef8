//! Checks a definition as a whole and turns it into the form that grading uses.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::{Key, KeySource, Kind, Pace, Problem, Question, QuestionSource, Source, normalise};
use crate::id::ChoiceId;
use crate::limits;
use crate::policies::Award;

/// Collects problems up to the limit.
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, pointer: String, code: &'static str, detail: impl Into<String>) {
        if self.0.len() < limits::PROBLEMS_MAX {
            self.0.push(Problem { pointer, code, detail: detail.into() });
        }
    }

    fn text(&mut self, pointer: String, text: &str, chars_max: usize) {
        if text.trim().is_empty() {
            self.add(pointer, "empty", "must not be empty");
        } else if text.chars().count() > chars_max {
            self.add(pointer, "too_long", format!("has more than {chars_max} characters"));
        } else if text.contains('\0') {
            self.add(pointer, "control_character", "holds a NUL character");
        }
    }
}

/// Returns the checked questions.
pub(super) fn check(source: &Source) -> Result<Vec<Question>, Vec<Problem>> {
    let mut problems = Problems(Vec::new());
    problems.text("/title".into(), &source.title, limits::TITLE_CHARS_MAX);
    if source.sections == 0 || source.sections > limits::SECTIONS_MAX {
        let detail = format!("must be 1 to {}", limits::SECTIONS_MAX);
        problems.add("/sections".into(), "out_of_range", detail);
    }
    let mut ties = source.ranking.ties.clone();
    ties.dedup();
    ties.sort_by_key(|tie| *tie as u8);
    ties.dedup();
    if ties.len() != source.ranking.ties.len() {
        problems.add("/ranking/ties".into(), "duplicate", "names a tie-break twice");
    }
    if source.questions.is_empty() || source.questions.len() > limits::QUESTIONS_MAX {
        let detail = format!("must hold 1 to {} questions", limits::QUESTIONS_MAX);
        problems.add("/questions".into(), "out_of_range", detail);
    }
    let mut seen = BTreeSet::new();
    let mut questions = Vec::with_capacity(source.questions.len());
    for (index, question) in source.questions.iter().enumerate() {
        if !seen.insert(question.id.as_str()) {
            problems.add(
                format!("/questions/{index}/id"),
                "duplicate",
                format!("{} names two questions", question.id),
            );
        }
        if let Some(checked) = self::question(&mut problems, index, source.pace, question) {
            questions.push(checked);
        }
    }
    if problems.0.is_empty() { Ok(questions) } else { Err(problems.0) }
}

fn question(problems: &mut Problems, index: usize, pace: Pace, q: &QuestionSource) -> Option<Question> {
    let at = |field: &str| format!("/questions/{index}/{field}");
    problems.text(at("text"), &q.text, limits::TEXT_CHARS_MAX);
    if q.points < Decimal::ZERO || q.points > Decimal::from(limits::POINTS_MAX) {
        problems.add(at("points"), "out_of_range", format!("must be 0 to {}", limits::POINTS_MAX));
    } else if q.points.normalize().scale() > limits::POINTS_SCALE_MAX {
        problems.add(
            at("points"),
            "too_precise",
            format!("has more than {} decimals", limits::POINTS_SCALE_MAX),
        );
    }
    if q.time_limit_ms.is_some_and(|ms| ms == 0 || ms > limits::TIME_LIMIT_MS_MAX) {
        problems.add(
            at("time_limit_ms"),
            "out_of_range",
            format!("must be 1 to {}", limits::TIME_LIMIT_MS_MAX),
        );
    }
    match (q.award, pace, q.time_limit_ms) {
        (Award::Kahoot1, Pace::Free, _) => {
            let detail = "kahoot@1 needs a clock, which a free-paced quiz does not have";
            problems.add(at("award"), "needs_clock", detail);
        }
        (Award::Kahoot1, Pace::Host, None) => {
            problems.add(at("time_limit_ms"), "missing", "kahoot@1 needs a time limit");
        }
        (Award::Kahoot1, Pace::Host, Some(_)) | (Award::Flat1, Pace::Host | Pace::Free, _) => {}
    }
    choices(problems, index, q);
    let key = key(problems, index, q)?;
    Some(Question {
        id: q.id.clone(),
        key,
        points: q.points.normalize(),
        time_limit_ms: q.time_limit_ms,
        grading: q.grading,
        award: q.award,
        choices: q.choices.iter().map(|choice| choice.id.clone()).collect(),
    })
}

fn choices(problems: &mut Problems, index: usize, q: &QuestionSource) {
    let at = format!("/questions/{index}/choices");
    match q.kind {
        Kind::SingleChoice | Kind::MultipleChoice => {
            if q.choices.len() < 2 || q.choices.len() > limits::CHOICES_MAX {
                problems.add(
                    at.clone(),
                    "out_of_range",
                    format!("must hold 2 to {} choices", limits::CHOICES_MAX),
                );
            }
        }
        Kind::Numeric | Kind::ShortText => {
            if !q.choices.is_empty() {
                problems.add(at.clone(), "unexpected", "this kind of question has no choices");
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (nth, choice) in q.choices.iter().enumerate() {
        problems.text(format!("{at}/{nth}/text"), &choice.text, limits::TEXT_CHARS_MAX);
        if !seen.insert(choice.id.as_str()) {
            problems.add(format!("{at}/{nth}/id"), "duplicate", format!("{} names two choices", choice.id));
        }
    }
}

fn key(problems: &mut Problems, index: usize, q: &QuestionSource) -> Option<Key> {
    let at = format!("/questions/{index}/key");
    let (allowed, key): (&[&str], Option<Key>) = match q.kind {
        Kind::SingleChoice => (&["choice"], single(problems, &at, q)),
        Kind::MultipleChoice => (&["choices"], multiple(problems, &at, q)),
        Kind::Numeric => (&["value", "tolerance", "min", "max"], numeric(problems, &at, &q.key)),
        Kind::ShortText => (&["accept", "case_sensitive"], text(problems, &at, &q.key)),
    };
    for field in present(&q.key) {
        if !allowed.contains(&field) {
            let detail = format!("does not belong to this kind; it takes {}", allowed.join(", "));
            problems.add(format!("{at}/{field}"), "unexpected", detail);
        }
    }
    key
}

fn present(key: &KeySource) -> impl Iterator<Item = &'static str> {
    let fields = [
        ("choice", key.choice.is_some()),
        ("choices", key.choices.is_some()),
        ("value", key.value.is_some()),
        ("tolerance", key.tolerance.is_some()),
        ("min", key.min.is_some()),
        ("max", key.max.is_some()),
        ("accept", key.accept.is_some()),
        ("case_sensitive", key.case_sensitive.is_some()),
    ];
    fields.into_iter().filter_map(|(name, there)| there.then_some(name))
}

fn place(problems: &mut Problems, at: String, q: &QuestionSource, choice: &ChoiceId) -> Option<usize> {
    let found = q.choices.iter().position(|c| c.id == *choice).filter(|&place| place < limits::CHOICES_MAX);
    if found.is_none() {
        problems.add(at, "unknown_choice", format!("the question has no choice {choice}"));
    }
    found
}

fn single(problems: &mut Problems, at: &str, q: &QuestionSource) -> Option<Key> {
    let Some(choice) = &q.key.choice else {
        problems.add(format!("{at}/choice"), "missing", "names the right choice");
        return None;
    };
    let place = place(problems, format!("{at}/choice"), q, choice)?;
    u8::try_from(place).ok().map(Key::Single)
}

fn multiple(problems: &mut Problems, at: &str, q: &QuestionSource) -> Option<Key> {
    let Some(choices) = q.key.choices.as_ref().filter(|choices| !choices.is_empty()) else {
        problems.add(format!("{at}/choices"), "missing", "names the right choices, at least one");
        return None;
    };
    let mut bits = 0u64;
    for (nth, choice) in choices.iter().enumerate() {
        let bit = 1u64 << place(problems, format!("{at}/choices/{nth}"), q, choice)?;
        if bits & bit != 0 {
            problems.add(format!("{at}/choices/{nth}"), "duplicate", format!("{choice} is named twice"));
        }
        bits |= bit;
    }
    Some(Key::Multiple(bits))
}

fn numeric(problems: &mut Problems, at: &str, key: &KeySource) -> Option<Key> {
    match (key.value, key.min, key.max) {
        (Some(value), None, None) => {
            let tolerance = key.tolerance.unwrap_or_default();
            if tolerance < Decimal::ZERO {
                problems.add(format!("{at}/tolerance"), "out_of_range", "must not be negative");
                return None;
            }
            match (value.checked_sub(tolerance), value.checked_add(tolerance)) {
                (Some(min), Some(max)) => Some(Key::Range(min, max)),
                (None, _) | (_, None) => {
                    problems.add(at.to_owned(), "out_of_range", "value and tolerance exceed 96-bit decimals");
                    None
                }
            }
        }
        (None, Some(min), Some(max)) => {
            if key.tolerance.is_some() {
                problems.add(
                    format!("{at}/tolerance"),
                    "unexpected",
                    "goes with value, not with min and max",
                );
            }
            if min > max {
                problems.add(format!("{at}/min"), "out_of_range", "is greater than max");
                return None;
            }
            Some(Key::Range(min, max))
        }
        (None | Some(_), _, _) => {
            problems.add(at.to_owned(), "missing", "takes either value (and tolerance) or min and max");
            None
        }
    }
}

fn text(problems: &mut Problems, at: &str, key: &KeySource) -> Option<Key> {
    let case_sensitive = key.case_sensitive.unwrap_or(false);
    let Some(forms) = key.accept.as_ref().filter(|forms| !forms.is_empty()) else {
        problems.add(format!("{at}/accept"), "missing", "lists the accepted forms, at least one");
        return None;
    };
    if forms.len() > limits::ACCEPTED_MAX {
        problems.add(
            format!("{at}/accept"),
            "out_of_range",
            format!("lists more than {} forms", limits::ACCEPTED_MAX),
        );
    }
    for (nth, form) in forms.iter().enumerate() {
        problems.text(format!("{at}/accept/{nth}"), form, limits::ANSWER_TEXT_CHARS_MAX);
    }
    let accept = forms.iter().map(|form| normalise(form, case_sensitive)).collect();
    Some(Key::Text { accept, case_sensitive })
}
