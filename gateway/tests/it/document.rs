//! The OpenAPI document: every operation of the contract is in it, with its errors.

use std::collections::{BTreeMap, BTreeSet};

use gateway::error::Code;
use serde_json::Value;

const CONTRACT: &[(&str, &str)] = &[
    ("get", "/healthz"),
    ("get", "/metrics"),
    ("get", "/readyz"),
    ("get", "/v1/quizzes"),
    ("get", "/v1/quizzes/{quiz}"),
    ("get", "/v1/quizzes/{quiz}/books"),
    ("get", "/v1/quizzes/{quiz}/leaderboard"),
    ("get", "/v1/quizzes/{quiz}/live"),
    ("get", "/v1/quizzes/{quiz}/participants/{participant}"),
    ("get", "/v1/quizzes/{quiz}/submissions/{submission}"),
    ("post", "/v1/quizzes/{quiz}/answers"),
    ("post", "/v1/quizzes/{quiz}/commands"),
    ("post", "/v1/quizzes/{quiz}/participants"),
    ("put", "/v1/quizzes/{quiz}"),
];

fn operations() -> BTreeMap<(String, String), Value> {
    let document = serde_json::to_value(gateway::document()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = paths.into_iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap().clone();
        item.into_iter().map(move |(method, operation)| ((method, path.clone()), operation))
    });
    operations.collect()
}

#[test]
fn the_document_holds_exactly_the_contract() {
    // The router is made from the same list as the document, so they cannot differ.
    let documented: BTreeSet<(String, String)> = operations().into_keys().collect();
    let contract = CONTRACT.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(documented, contract.collect());
}

#[test]
fn every_operation_lists_its_errors_and_every_code_belongs_to_one() {
    let mut described = BTreeSet::new();
    for ((method, path), operation) in operations() {
        let responses = operation["responses"].as_object().unwrap();
        let problems: Vec<_> = responses
            .iter()
            .filter(|(_, r)| r["content"].get("application/problem+json").is_some())
            .collect();
        assert!(!problems.is_empty(), "{method} {path} cannot fail?");
        for (status, response) in problems {
            let description = response["description"].as_str().unwrap();
            for code in Code::ALL.iter().filter(|code| description.contains(&format!("`{}`", code.name()))) {
                assert_eq!(code.status().as_str(), status, "{method} {path}");
                described.insert(*code);
            }
        }
        assert!(operation["summary"].is_string(), "{method} {path} says what it does");
    }
    // These are about requests that are no operation.
    let outside = [Code::NotFound, Code::MethodNotAllowed];
    let missing: Vec<_> =
        Code::ALL.iter().filter(|c| !described.contains(c) && !outside.contains(c)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = serde_json::to_value(gateway::document()).unwrap();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[test]
fn codes_are_told_apart_by_name() {
    let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
}
