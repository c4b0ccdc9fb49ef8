//! What a run came to: a table for people, JSON for programs, a page with pictures, an interval log.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::play::stats::Latencies;
use crate::session::Finished;

mod bill;
mod html;
pub(crate) mod machine;
pub(crate) mod slo;

use bill::Bill;
use slo::{Checked, Metric, Slo, Unit};

/// How a run ended; the worst of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All right.
    Good,
    /// The audit found a difference.
    Differs,
    /// The run does not say what was asked.
    Invalid,
    /// A threshold was broken.
    Broken,
}

impl Ending {
    /// Returns the exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Differs => 1,
            Self::Invalid => 2,
            Self::Broken => 99,
        }
    }
}

/// A run's report.
pub(crate) struct Report {
    /// How it ended.
    pub(crate) ending: Ending,
    /// The figures that thresholds can name.
    pub(crate) metrics: Vec<Metric>,
    /// The thresholds.
    pub(crate) checked: Vec<Checked>,
    /// Why the run is not valid.
    pub(crate) invalid: Vec<String>,
    finished: Finished,
}

impl Report {
    /// Returns the report of a finished run held against thresholds.
    pub(crate) fn new(finished: Finished, slos: &[Slo]) -> Self {
        let metrics = metrics(&finished);
        let checked: Vec<Checked> = slos.iter().map(|slo| slo.check(&metrics)).collect();
        let invalid = invalid(&finished);
        let ending = if finished.audited.differences.total > 0 {
            Ending::Differs
        } else if !invalid.is_empty() {
            Ending::Invalid
        } else if checked.iter().any(|checked| !checked.kept) {
            Ending::Broken
        } else {
            Ending::Good
        };
        Self { ending, metrics, checked, invalid, finished }
    }

    /// Returns the figure with this name in words, or a dash.
    pub(crate) fn show(&self, name: &str) -> String {
        self.metrics.iter().find(|metric| metric.name == name).map_or_else(|| "-".to_owned(), Metric::show)
    }

    /// Returns the table for people.
    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<String> = vec![self.title()];
        lines.extend(self.rows().iter().map(|(name, value)| format!("  {name:<22} {value}")));
        for reason in &self.invalid {
            lines.push(format!("  ✗ not valid: {reason}"));
        }
        for checked in &self.checked {
            lines.push(format!("  {} {}", mark(checked.kept), checked.text));
        }
        let differences = &self.finished.audited.differences;
        lines.push(format!("  {} audit: {}", mark(differences.total == 0), self.audit_line()));
        lines.extend(differences.shown.iter().map(|difference| format!("      {difference}")));
        if differences.total > differences.shown.len() as u64 {
            lines.push(format!("      … {} differences in all", differences.total));
        }
        lines.extend(differences.notes.iter().map(|note| format!("      {note}")));
        lines.join("\n")
    }

    fn title(&self) -> String {
        format!("Podium load test {:08x}: {}", self.finished.scenario.run as u32, self.finished.offered)
    }

    fn audit_line(&self) -> String {
        let audited = &self.finished.audited;
        let unknown = audited.unknown_found + audited.unknown_absent;
        let mut line = format!(
            "{} participants, {} records counted again ({} counted, {} repeated, {} late), {} receipts and results read",
            audited.participants,
            audited.records,
            audited.counted,
            audited.repeated,
            audited.late,
            audited.samples
        );
        if unknown > 0 {
            let written = write!(
                line,
                "; of {unknown} never acknowledged {} are in the log, {} are not",
                audited.unknown_found, audited.unknown_absent
            );
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        line
    }

    /// Returns the table's rows: what, and how much.
    fn rows(&self) -> Vec<(String, String)> {
        let (finished, stats) = (&self.finished, &self.finished.notes.stats);
        let scenario = &finished.scenario;
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row("machine", machine::describe());
        row(
            "quizzes",
            format!(
                "{} with {} participants, {} questions, {} sections; {} probes; set up in {:.1} s",
                scenario.quizzes,
                scenario.players,
                scenario.paper.questions.len(),
                scenario.sections,
                scenario.probes,
                finished.set_up.as_secs_f64()
            ),
        );
        row("rate reached", self.show("rate"));
        row(
            "answers",
            format!(
                "{} due, {} acknowledged ({} replayed), {} closed, {} given up, {} dropped, {} started late",
                stats.arrivals,
                stats.acks,
                stats.replayed,
                stats.closed,
                stats.given_up,
                stats.dropped,
                stats.late_starts
            ),
        );
        let statuses: Vec<String> =
            stats.statuses.iter().map(|(s, count)| format!("{s} × {count}")).collect();
        let failures: Vec<String> =
            stats.failures.iter().map(|(why, count)| format!("{} × {count}", why.name())).collect();
        row("responses", [statuses, failures].concat().join(", "));
        row("retries", self.show("retries"));
        row("to acknowledgement", percentiles(&stats.intended));
        row("service time", percentiles(&stats.service));
        if scenario.probes > 0 {
            row("to live feed", format!("{}, unseen {}", percentiles(&stats.visible), stats.unseen));
        }
        row("settled after closing", self.show("settle_time"));
        if !stats.feed.events.is_empty() {
            let events: Vec<String> =
                stats.feed.events.iter().map(|(e, count)| format!("{e} × {count}")).collect();
            let mib = stats.feed.bytes as f64 / 1_048_576.0;
            row(
                "live feed",
                format!("{}, {mib:.1} MiB, reopened {}", events.join(", "), stats.feed.reconnects),
            );
        }
        row("generator", format!("{} of processor per answer", self.show("client_us_per_answer")));
        if finished.usages.server_end.is_some() {
            let (us, rss) = (self.show("server_us_per_answer"), self.show("server_rss"));
            let each = self.show("server_bytes_per_participant");
            row("server", format!("{us} of processor per answer, {rss} in memory, {each} per participant"));
        }
        rows.extend(bill(finished).map(|bill| bill.rows()).unwrap_or_default());
        rows
    }

    /// Writes `report.json`, `report.html` and `latency.hlog`.
    ///
    /// # Errors
    /// A file could not be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
        };
        write("report.json", format!("{:#}\n", self.json()).as_bytes())?;
        write("report.html", self.html().as_bytes())?;
        write("latency.hlog", self.finished.notes.stats.hlog())
    }

    fn html(&self) -> String {
        let mut facts = self.rows();
        facts.push(("audit".to_owned(), self.audit_line()));
        let stats = &self.finished.notes.stats;
        let differences = &self.finished.audited.differences.shown;
        html::page(&self.title(), self.ending, &facts, &self.checked, &self.invalid, differences, stats)
    }

    fn json(&self) -> Value {
        let (finished, stats) = (&self.finished, &self.finished.notes.stats);
        let metrics: serde_json::Map<String, Value> =
            self.metrics.iter().map(|metric| (metric_name(metric), json!(metric.value))).collect();
        let statuses: serde_json::Map<String, Value> =
            stats.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
        let failures: serde_json::Map<String, Value> =
            stats.failures.iter().map(|(why, count)| (why.name().to_owned(), json!(count))).collect();
        let checked = self.checked.iter().map(|c| json!({"text": c.text, "kept": c.kept}));
        let seconds = stats.seconds.iter().map(|s| json!([s.acks, s.p50_us, s.p99_us, s.max_us]));
        let audited = &finished.audited;
        json!({
            "run": format!("{:016x}", finished.scenario.run),
            "exit_code": self.ending.code(),
            "machine": machine::describe(),
            "offered": finished.offered,
            "participants": finished.scenario.players,
            "probes": finished.scenario.probes,
            "quizzes": finished.scenario.quizzes,
            "sections": finished.scenario.sections,
            "questions": finished.scenario.paper.questions.len(),
            "elapsed_s": finished.elapsed.as_secs_f64(),
            "set_up_s": finished.set_up.as_secs_f64(),
            "metrics": metrics,
            "costs": bill(finished).map(|bill| bill.json()),
            "answers": {
                "due": stats.arrivals, "acknowledged": stats.acks, "replayed": stats.replayed,
                "closed": stats.closed, "given_up": stats.given_up, "dropped": stats.dropped,
                "refused": stats.refused, "late_starts": stats.late_starts, "retries": stats.retries,
            },
            "statuses": statuses,
            "failures": failures,
            "feed": {
                "events": stats.feed.events, "bytes": stats.feed.bytes,
                "reopened": stats.feed.reconnects, "backwards": stats.feed.backwards,
            },
            "thresholds": checked.collect::<Vec<_>>(),
            "invalid": self.invalid,
            "audit": {
                "participants": audited.participants, "records": audited.records,
                "counted": audited.counted, "repeated": audited.repeated, "late": audited.late,
                "unknown_found": audited.unknown_found, "unknown_absent": audited.unknown_absent,
                "samples": audited.samples, "differences": audited.differences.total,
                "shown": audited.differences.shown, "notes": audited.differences.notes,
            },
            "seconds": {"columns": ["acks", "p50_us", "p99_us", "max_us"], "rows": seconds.collect::<Vec<_>>()},
        })
    }
}

fn mark(good: bool) -> char {
    if good { '✓' } else { '✗' }
}

/// Returns a figure's name with its unit.
fn metric_name(metric: &Metric) -> String {
    let name = metric.name;
    match metric.unit {
        Unit::Millis => format!("{name}_ms"),
        Unit::Micros | Unit::Count | Unit::Each => name.to_owned(),
        Unit::Rate => format!("{name}_per_s"),
        Unit::Bytes if name.contains("bytes") => name.to_owned(),
        Unit::Bytes => format!("{name}_bytes"),
    }
}

fn percentiles(latencies: &Latencies) -> String {
    if latencies.is_empty() {
        return "none".to_owned();
    }
    let ms = |us: u64| {
        let metric = Metric { name: "", value: us as f64 / 1e3, unit: Unit::Millis };
        metric.show()
    };
    let at = |quantile| ms(latencies.value_at_quantile(quantile));
    let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {}", ms(latencies.max()))
}

fn metrics(finished: &Finished) -> Vec<Metric> {
    let stats = &finished.notes.stats;
    let mut metrics = Vec::new();
    let mut latency = |latencies: &Latencies, names: &[(&'static str, f64)]| {
        for &(name, quantile) in names.iter().filter(|_| !latencies.is_empty()) {
            let us = if quantile < 1.0 { latencies.value_at_quantile(quantile) } else { latencies.max() };
            metrics.push(Metric { name, value: us as f64 / 1e3, unit: Unit::Millis });
        }
    };
    let ack = [("ack_p50", 0.5), ("ack_p90", 0.9), ("ack_p99", 0.99), ("ack_p999", 0.999), ("ack_max", 1.0)];
    latency(&stats.intended, &ack);
    latency(&stats.service, &[("service_p50", 0.5), ("service_p99", 0.99), ("service_max", 1.0)]);
    let visible = [("visible_p50", 0.5), ("visible_p90", 0.9), ("visible_p99", 0.99), ("visible_max", 1.0)];
    latency(&stats.visible, &visible);
    let mut metric = |name, value, unit| metrics.push(Metric { name, value, unit });
    metric("rate", rate(finished), Unit::Rate);
    metric("retries", stats.retries as f64, Unit::Count);
    metric("late_starts", stats.late_starts as f64, Unit::Count);
    metric("unacknowledged", stats.given_up as f64, Unit::Count);
    metric("unseen", stats.unseen as f64, Unit::Count);
    metric("settle_time", finished.settled.as_secs_f64() * 1e3, Unit::Millis);
    let acks = finished.notes.ledger.acks.len().max(1) as f64;
    let usages = &finished.usages;
    let spent = |begin: Option<machine::Usage>, end: Option<machine::Usage>| {
        let spent: Duration = end?.cpu.checked_sub(begin?.cpu)?;
        Some(spent.as_secs_f64() * 1e6 / acks)
    };
    if let Some(us) = spent(usages.client_begin, usages.client_end) {
        metric("client_us_per_answer", us, Unit::Micros);
    }
    if let Some(us) = spent(usages.server_begin, usages.server_end) {
        metric("server_us_per_answer", us, Unit::Micros);
    }
    if let (Some(before), Some(begin)) = (usages.server_before, usages.server_begin) {
        let grown = begin.rss_bytes as f64 - before.rss_bytes as f64;
        metric("server_bytes_per_participant", grown / f64::from(finished.scenario.seats()), Unit::Bytes);
    }
    if let Some(end) = usages.server_end {
        metric("server_rss", end.rss_bytes as f64, Unit::Bytes);
    }
    metrics.extend(bill(finished).map(|bill| bill.metrics()).unwrap_or_default());
    metrics
}

/// Returns what the run cost, if that was asked for and could be counted.
fn bill(finished: &Finished) -> Option<Bill<'_>> {
    let costs = finished.costs.as_ref()?.as_ref().ok()?;
    Some(Bill { costs, answers: finished.notes.ledger.acks.len().max(1) as f64 })
}

/// Acknowledgements per second, from the first intended start to the last acknowledgement, or to the end of the
/// arrivals if that is later.
fn rate(finished: &Finished) -> f64 {
    let stats = &finished.notes.stats;
    let over = stats.last_ack.max(finished.scenario.duration.min(finished.elapsed));
    stats.acks as f64 / over.as_secs_f64().max(1e-3)
}

fn invalid(finished: &Finished) -> Vec<String> {
    let stats = &finished.notes.stats;
    let mut reasons = Vec::new();
    if stats.dropped > 0 {
        reasons.push(format!("{} arrivals found the backlog full and were not sent", stats.dropped));
    }
    if stats.refused > 0 {
        let first = stats.refusal.as_deref().unwrap_or_default();
        reasons.push(format!("{} answers were refused, the first with {first}", stats.refused));
    }
    if stats.given_up > 0 {
        reasons.push(format!("{} answers were not acknowledged in time and given up", stats.given_up));
    }
    if stats.unseen > 0 {
        reasons.push(format!("{} probes were never seen in the live feed", stats.unseen));
    }
    if stats.feed.backwards > 0 {
        reasons.push(format!("the live feed went back {} times", stats.feed.backwards));
    }
    if stats.acks == 0 {
        reasons.push("nothing was acknowledged".to_owned());
    }
    if let Some(Err(reason)) = &finished.costs {
        reasons.push(format!("what it cost is not known: {reason:#}"));
    }
    reasons
}
