//! What the gateway decides without a log or a view: tokens, admission, parsing, frames, limits, the document.

#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod admission;
mod answer;
mod document;
mod limit;
mod live;
mod token;

use std::sync::Arc;

use gateway::views::QuizView;
use operators::definition::Definition;
use operators::effect::{Phase, QuizStatus};

/// Returns an open quiz with one question of each kind; `CANARY` stands wherever a key does.
fn quiz(pace: &str) -> QuizView {
    let source = serde_json::json!({
        "title": "Capitals", "pace": pace,
        "questions": [
            {"id": "q1", "kind": "single_choice", "text": "Capital of Peru?", "key": {"choice": "CANARY-b"},
             "choices": [{"id": "a", "text": "Quito"}, {"id": "CANARY-b", "text": "Lima"}]},
            {"id": "q2", "kind": "short_text", "text": "Capital of France?", "key": {"accept": ["CANARY"]}},
            {"id": "q3", "kind": "numeric", "text": "Pi?", "key": {"value": "77123.77123", "tolerance": "0.01"}},
        ],
    });
    let definition = Definition::new(serde_json::from_value(source).unwrap()).unwrap();
    QuizView {
        quiz: "geo".parse().unwrap(),
        definition: Arc::new(definition),
        status: QuizStatus { phase: Phase::Open, version: 1, number: 2, ..QuizStatus::default() },
        participants: 0,
        is_final: false,
        sealed: Vec::new(),
    }
}
