//! The bill: what one answer costs in a cluster, held against what it may cost.

use serde_json::{Value, json};

use super::mark;
use super::slo::{Metric, Unit};
use crate::cost::Costs;

/// Write units and calls that an answer may cost at 10,000 answers/s on one quiz of 100,000 participants.
const WRITE_UNITS_MAX: f64 = 0.5;
const CALLS_MAX: f64 = 0.05;
/// Bytes that an answer may take of a stream, for a shard, which takes 1 MiB/s, to carry 10,000 answers/s.
const SHARD_BYTES_PER_S: f64 = 1_048_576.0;
const STREAM_BYTES_MAX: f64 = SHARD_BYTES_PER_S / 10_000.0;

const CALLS: &str = "podium_dynamodb_calls_total";
const WRITE_UNITS: &str = "podium_dynamodb_write_units_total";
const READ_UNITS: &str = "podium_dynamodb_read_units_total";
const PUT_CALLS: &str = "podium_kinesis_put_calls_total";
const PUT_ENTRIES: &str = "podium_kinesis_put_entries_total";
const PUT_UNITS: &str = "podium_kinesis_put_units_total";
const PUT_BYTES: &str = "podium_kinesis_put_bytes_total";
const GET_CALLS: &str = "podium_kinesis_get_calls_total";
const GET_BYTES: &str = "podium_kinesis_get_bytes_total";

/// What a run has used, by the answers that it acknowledged.
pub(super) struct Bill<'a> {
    pub(super) costs: &'a Costs,
    pub(super) answers: f64,
}

impl Bill<'_> {
    fn each(&self, total: f64) -> f64 {
        total / self.answers
    }

    /// Returns the figures that thresholds can name.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        if !self.costs.is_counted() {
            return Vec::new();
        }
        let figures = [
            ("dynamodb_calls_per_answer", self.costs.sum(CALLS)),
            ("write_units_per_answer", self.costs.sum(WRITE_UNITS)),
            ("read_units_per_answer", self.costs.sum(READ_UNITS)),
            ("put_calls_per_answer", self.costs.sum(PUT_CALLS)),
            ("put_units_per_answer", self.costs.sum(PUT_UNITS)),
            ("get_calls_per_answer", self.costs.sum(GET_CALLS)),
            ("submissions_bytes_per_answer", self.costs.get(PUT_BYTES, "submissions")),
            ("standings_bytes_per_answer", self.costs.get(PUT_BYTES, "standings")),
        ];
        let metric = |(name, total)| Metric { name, value: self.each(total), unit: Unit::Each };
        figures.into_iter().map(metric).collect()
    }

    /// Returns what an answer may cost, in words, and whether it does not cost more.
    fn targets(&self) -> Vec<(String, bool)> {
        if !self.costs.is_counted() {
            return Vec::new();
        }
        let at_most = |what: &str, total: f64, most: f64| {
            let each = self.each(total);
            (format!("{} {what} per answer, at most {most}", show(each)), each <= most)
        };
        let mut targets = vec![
            at_most("write units", self.costs.sum(WRITE_UNITS), WRITE_UNITS_MAX),
            at_most("DynamoDB calls", self.costs.sum(CALLS), CALLS_MAX),
        ];
        for (stream, bytes) in self.costs.by_label(PUT_BYTES).filter(|(_, bytes)| *bytes > 0.0) {
            let carried = SHARD_BYTES_PER_S / self.each(bytes);
            let words =
                format!("one shard of {stream} carries {carried:.0} answers/s by bytes, at least 10000");
            targets.push((words, self.each(bytes) <= STREAM_BYTES_MAX));
        }
        targets
    }

    /// Returns the rows of the table.
    pub(super) fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        if self.costs.is_counted() {
            let over = self.costs.over.as_secs_f64();
            row(
                "costs",
                format!("of {:.0} answers in {over:.1} s, until all were judged; per answer:", self.answers),
            );
            row("DynamoDB calls", self.split(CALLS));
            row("write units", self.split(WRITE_UNITS));
            row("read units", self.split(READ_UNITS));
            for (stream, calls) in self.costs.by_label(PUT_CALLS).filter(|(_, calls)| *calls > 0.0) {
                let each = |name| show(self.each(self.costs.get(name, stream)));
                let (entries, units, bytes) = (each(PUT_ENTRIES), each(PUT_UNITS), each(PUT_BYTES));
                let calls = show(self.each(calls));
                let words = format!("{calls} calls, {entries} entries, {units} PUT units, {bytes} bytes");
                row(&format!("puts to {stream}"), words);
            }
            let (calls, bytes) = (self.costs.sum(GET_CALLS), self.costs.sum(GET_BYTES));
            row("GetRecords", format!("{} calls, {} bytes", show(self.each(calls)), show(self.each(bytes))));
            for (words, kept) in self.targets() {
                row("target", format!("{} {words}", mark(kept)));
            }
        }
        if !self.costs.processor.is_empty() {
            let words = self.processor().into_iter().map(|(name, us)| match us {
                Some(us) => format!("{name} {us:.1} µs"),
                None => format!("{name} not known"),
            });
            row("processor per answer", words.collect::<Vec<_>>().join(", "));
        }
        rows
    }

    /// Returns everything, with the counters as they grew.
    pub(super) fn json(&self) -> Value {
        let counters = self.costs.counters.iter().map(|((name, label), value)| {
            let name = if label.is_empty() { name.clone() } else { format!("{name}:{label}") };
            (name, json!(value))
        });
        let processor = self.processor().into_iter().map(|(name, us)| (name.to_owned(), json!(us)));
        let targets = self.targets().into_iter().map(|(text, kept)| json!({"text": text, "kept": kept}));
        json!({
            "answers": self.answers,
            "seconds": self.costs.over.as_secs_f64(),
            "counters": counters.collect::<serde_json::Map<_, _>>(),
            "processor_us_per_answer": processor.collect::<serde_json::Map<_, _>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }

    /// Returns a counter per answer, and what it is made of, the largest part first.
    fn split(&self, name: &str) -> String {
        let mut parts: Vec<(&str, f64)> =
            self.costs.by_label(name).filter(|(label, value)| !label.is_empty() && *value > 0.0).collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let parts: Vec<String> =
            parts.into_iter().map(|(label, value)| format!("{label} {}", show(self.each(value)))).collect();
        let all = show(self.each(self.costs.sum(name)));
        if parts.is_empty() { all } else { format!("{all}: {}", parts.join(", ")) }
    }

    fn processor(&self) -> Vec<(&str, Option<f64>)> {
        let spent = self.costs.processor.iter();
        let us = |spent: &std::time::Duration| self.each(spent.as_secs_f64() * 1e6);
        spent.map(|(name, spent)| (name.as_str(), spent.as_ref().map(us))).collect()
    }
}

/// Returns a share of something with as many digits as say something.
pub(super) fn show(each: f64) -> String {
    if each.abs() >= 10.0 { format!("{each:.1}") } else { format!("{each:.4}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn costs(write_units: f64, bytes: f64) -> Costs {
        let series = |name: &str, label: &str| (name.to_owned(), label.to_owned());
        let counters = [
            (series(CALLS, "PutItem"), 10.0),
            (series(CALLS, "Query"), 40.0),
            (series(WRITE_UNITS, "page"), write_units),
            (series(PUT_CALLS, "submissions"), 5.0),
            (series(PUT_BYTES, "submissions"), bytes),
        ];
        let processor =
            vec![("grade".to_owned(), Some(Duration::from_millis(50))), ("rank".to_owned(), None)];
        Costs { over: Duration::from_secs(1), counters: counters.into(), processor }
    }

    #[test]
    fn an_answer_that_costs_what_it_may_keeps_the_targets_and_one_that_costs_more_breaks_them() {
        let (cheap, dear) = (costs(500.0, 104_857.6), costs(501.0, 104_858.6));
        let kept = |costs: &Costs| {
            let targets = Bill { costs, answers: 1_000.0 }.targets();
            targets.into_iter().map(|(_, kept)| kept).collect::<Vec<_>>()
        };
        assert_eq!(kept(&cheap), [true, true, true]);
        assert_eq!(kept(&dear), [false, true, false]);
        let metrics = Bill { costs: &cheap, answers: 1_000.0 }.metrics();
        let found = metrics.iter().find(|metric| metric.name == "dynamodb_calls_per_answer").unwrap();
        assert_eq!((found.value, found.show().as_str()), (0.05, "0.0500"));
    }

    #[test]
    fn rows_say_what_an_answer_costs_and_of_what() {
        let costs = costs(500.0, 104_857.6);
        let rows = Bill { costs: &costs, answers: 1_000.0 }.rows();
        let value = |wanted: &str| rows.iter().find(|(name, _)| name == wanted).unwrap().1.as_str();
        assert_eq!(value("DynamoDB calls"), "0.0500: Query 0.0400, PutItem 0.0100");
        assert_eq!(value("processor per answer"), "grade 50.0 µs, rank not known");
        assert_eq!(value("target"), "✓ 0.5000 write units per answer, at most 0.5");
        assert!(value("puts to submissions").ends_with("104.9 bytes"));
    }

    #[test]
    fn a_run_without_a_cluster_has_no_targets() {
        let costs = Costs { over: Duration::from_secs(1), counters: [].into(), processor: Vec::new() };
        let bill = Bill { costs: &costs, answers: 1.0 };
        assert!(bill.rows().is_empty() && bill.metrics().is_empty() && bill.targets().is_empty());
    }
}
