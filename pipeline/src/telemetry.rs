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

/// Counters of a cluster, of which a process has those of what it does: what AWS charges for, first of all.
const CLUSTER_COUNTERS: [(&str, &str); 14] = [
    (
        "podium_dynamodb_calls_total",
        "Calls to the table, by operation, without the tries that the SDK makes again",
    ),
    ("podium_dynamodb_write_units_total", "Write units that DynamoDB reported, by what they were spent on"),
    ("podium_dynamodb_read_units_total", "Read units that DynamoDB reported"),
    ("podium_kinesis_put_calls_total", "PutRecords calls, by stream"),
    (
        "podium_kinesis_put_entries_total",
        "Entries of PutRecords calls, by stream; each is an aggregate of records",
    ),
    ("podium_kinesis_put_units_total", "PUT payload units of 25 KB begun, by stream, as Kinesis bills them"),
    (
        "podium_kinesis_put_bytes_total",
        "Bytes of entries with their keys, by stream, as a shard's quota counts them",
    ),
    (
        "podium_kinesis_put_throttled_total",
        "Entries not taken because their shard was at its quota, by stream",
    ),
    ("podium_kinesis_get_calls_total", "GetRecords calls"),
    ("podium_kinesis_get_bytes_total", "Bytes that GetRecords calls of stages returned"),
    ("podium_kinesis_get_throttled_total", "GetRecords calls refused because their shard was at its quota"),
    (
        "podium_kinesis_read_records_total",
        "Entries that stages read from shards, by stream; each is an aggregate of records",
    ),
    ("podium_kinesis_subscriptions_total", "Subscriptions to shards, of enhanced fan-out"),
    (
        "podium_kinesis_misplaced_total",
        "Records set aside because they lie on another shard than their partition",
    ),
];

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("podium_log_records_total", "Records committed to the embedded log");
    describe_counter!("podium_log_overloaded_total", "Appends refused because the queue was full");
    describe_histogram!(
        "podium_log_commit_seconds",
        Unit::Seconds,
        "Time of one group commit, sync included"
    );
    describe_counter!("podium_stage_records_total", "Records read, by stage");
    describe_counter!("podium_stage_events_total", "Events applied, by stage: a record may hold many");
    describe_histogram!(
        "podium_stage_step_seconds",
        Unit::Seconds,
        "Time of one step with records, by stage"
    );
    describe_counter!(
        "podium_dead_letters_total",
        "Records set aside because they can never be read, by stream"
    );
    for (name, what) in CLUSTER_COUNTERS {
        describe_counter!(name, what);
    }
    describe_gauge!("podium_leases", "Leases that this worker works on, by stage");
    describe_gauge!(
        "podium_partitions_parked",
        "Partitions that cannot go on until a person has looked, by stage"
    );
}

/// Prints lines, to whom it may concern: a reader that is gone is no reason to stop.
pub fn say(lines: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{lines}");
}
