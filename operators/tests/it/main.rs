//! Properties of the rules, against a model that was written without looking at their code.
//!
//! Each test draws quizzes, logs and deliveries at random. A failure prints the smallest plan found; to draw the same
//! plans each time, set `PROPTEST_RNG_SEED`.

mod invariants;
mod model;
mod plan;
mod replay;
mod total;
mod world;

use proptest::test_runner::Config;

/// Returns the settings of every property: 256 cases unless `PROPTEST_CASES` says otherwise. Nothing is written beside
/// the sources: a failure worth keeping becomes a script.
fn config() -> Config {
    Config { failure_persistence: None, max_shrink_iters: 4_096, ..Config::default() }
}
