//! Logs and metrics of the process.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use gateway::app::Render;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Upper bounds of duration histograms in seconds: 100 µs (a commit on a fast disk) to 10 s (a request's time-out).
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// How often old samples are folded away.
const UPKEEP: Duration = Duration::from_secs(5);

/// Libraries whose notes on every file they open are for their own developers; warnings come through.
const QUIET: [&str; 2] = ["fjall", "lsm_tree"];

/// Starts logging to standard error.
pub fn logs(format: LogFormat, filter: Targets) {
    // What is asked for by name comes later, and wins.
    let quiet = QUIET.map(|target| (target.to_owned(), LevelFilter::WARN));
    let level = filter.default_level().unwrap_or(LevelFilter::OFF);
    let filter = Targets::new().with_default(level).with_targets(quiet).with_targets(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call, as tests make it, keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
}

/// Starts collecting metrics; returns what `/metrics` answers with.
///
/// # Errors
/// Another recorder is installed already.
pub fn metrics() -> Result<Render, BuildError> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    let handle: PrometheusHandle = builder.install_recorder()?;
    describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(Arc::new(move || handle.render()))
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_histogram};
    describe_counter!("podium_log_records_total", "Records committed to the embedded log");
    describe_counter!("podium_log_overloaded_total", "Appends refused because the queue was full");
    describe_histogram!(
        "podium_log_commit_seconds",
        Unit::Seconds,
        "Time of one group commit, sync included"
    );
    describe_counter!("podium_stage_records_total", "Records applied, by stage");
    describe_histogram!(
        "podium_stage_step_seconds",
        Unit::Seconds,
        "Time of one step with records, by stage"
    );
    describe_counter!(
        "podium_dead_letters_total",
        "Records set aside because they can never be read, by stream"
    );
}

/// Prints lines, to whom it may concern: a reader that is gone is no reason to stop.
pub fn say(lines: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{lines}");
}
