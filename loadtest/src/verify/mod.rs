//! The audit: every total and rank is counted again from the acknowledgements and compared with what the gateway shows.

mod compare;
mod fetch;
pub(crate) mod ledger;
mod recount;
#[cfg(test)]
mod tests;

pub(crate) use compare::Differences;
pub(crate) use fetch::{Audited, Auditor, QuizState, parse_millis};
