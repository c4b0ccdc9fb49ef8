//! Thresholds: what a run must keep, as given on the command line.

use std::str::FromStr;

use crate::args::duration;

/// A figure of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    /// Its name, as thresholds call it.
    pub(crate) name: &'static str,
    /// Its value, in its unit.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: Unit,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds; a threshold takes a duration.
    Millis,
    /// Microseconds; a threshold takes a duration or a number.
    Micros,
    /// A number.
    Count,
    /// A number per second, of which more is better.
    Rate,
    /// Bytes.
    Bytes,
    /// A number per answer, mostly a fraction.
    Each,
}

/// A threshold by the name of a figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slo {
    name: String,
    text: String,
}

/// A threshold held against a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    /// The threshold in words.
    pub(crate) text: String,
    /// Whether it was kept. A figure that the run does not have breaks it.
    pub(crate) kept: bool,
}

/// Figures that a threshold can name; a run lacks some of them, as without `--server-pid` or `--metrics`.
pub(crate) const NAMES: [&str; 30] = [
    "ack_p50",
    "ack_p90",
    "ack_p99",
    "ack_p999",
    "ack_max",
    "service_p50",
    "service_p99",
    "service_max",
    "visible_p50",
    "visible_p90",
    "visible_p99",
    "visible_max",
    "rate",
    "retries",
    "late_starts",
    "unacknowledged",
    "unseen",
    "client_us_per_answer",
    "server_us_per_answer",
    "server_rss",
    "server_bytes_per_participant",
    "settle_time",
    "dynamodb_calls_per_answer",
    "write_units_per_answer",
    "read_units_per_answer",
    "put_calls_per_answer",
    "put_units_per_answer",
    "get_calls_per_answer",
    "submissions_bytes_per_answer",
    "standings_bytes_per_answer",
];

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("takes NAME=VALUE, such as ack_p99=20ms")?;
        if !NAMES.contains(&name) {
            return Err(format!("knows {}", NAMES.join(", ")));
        }
        if duration(value).is_err() && value.parse::<f64>().is_err() {
            return Err(format!("{value} is neither a number nor a duration"));
        }
        Ok(Self { name: name.to_owned(), text: value.to_owned() })
    }
}

impl Slo {
    /// Holds the threshold against the figures of a run.
    pub(crate) fn check(&self, metrics: &[Metric]) -> Checked {
        let Some(metric) = metrics.iter().find(|metric| metric.name == self.name) else {
            return Checked { text: format!("{}: not measured in this run", self.name), kept: false };
        };
        let bound = self.bound(metric.unit);
        let (sign, kept) = match metric.unit {
            Unit::Rate => ("≥", metric.value >= bound),
            Unit::Millis | Unit::Micros | Unit::Count | Unit::Bytes | Unit::Each => {
                ("≤", metric.value <= bound)
            }
        };
        Checked { text: format!("{} {} {sign} {}", self.name, metric.show(), self.text), kept }
    }

    fn bound(&self, unit: Unit) -> f64 {
        let plain: Option<f64> = self.text.parse().ok();
        let seconds = || duration(&self.text).map_or(0.0, |duration| duration.as_secs_f64());
        match unit {
            // A plain number would be seconds elsewhere; beside a latency it means milliseconds.
            Unit::Millis => plain.unwrap_or_else(|| seconds() * 1e3),
            Unit::Micros => plain.unwrap_or_else(|| seconds() * 1e6),
            Unit::Count | Unit::Rate | Unit::Bytes | Unit::Each => plain.unwrap_or_else(seconds),
        }
    }
}

impl Metric {
    /// Returns the value with its unit.
    pub(crate) fn show(&self) -> String {
        match self.unit {
            Unit::Millis if self.value < 10.0 => format!("{:.2} ms", self.value),
            Unit::Millis if self.value < 10_000.0 => format!("{:.1} ms", self.value),
            Unit::Millis => format!("{:.2} s", self.value / 1e3),
            Unit::Micros => format!("{:.1} µs", self.value),
            Unit::Count => format!("{:.0}", self.value),
            Unit::Rate => format!("{:.1}/s", self.value),
            Unit::Bytes if self.value.abs() >= 1_048_576.0 => format!("{:.1} MiB", self.value / 1_048_576.0),
            Unit::Bytes => format!("{:.0} bytes", self.value),
            Unit::Each => super::bill::show(self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(slo: &str, name: &'static str, value: f64, unit: Unit) -> bool {
        slo.parse::<Slo>().unwrap().check(&[Metric { name, value, unit }]).kept
    }

    #[test]
    fn latencies_are_bounded_above_and_the_rate_below() {
        assert!(check("ack_p99=20ms", "ack_p99", 20.0, Unit::Millis));
        assert!(!check("ack_p99=20ms", "ack_p99", 20.1, Unit::Millis));
        assert!(check("ack_p99=20", "ack_p99", 19.0, Unit::Millis));
        assert!(check("visible_p99=1s", "visible_p99", 999.0, Unit::Millis));
        assert!(check("rate=9900", "rate", 9_950.0, Unit::Rate));
        assert!(!check("rate=9900", "rate", 9_850.0, Unit::Rate));
        assert!(check("server_us_per_answer=30", "server_us_per_answer", 29.0, Unit::Micros));
        assert!(check("write_units_per_answer=0.5", "write_units_per_answer", 0.5, Unit::Each));
        assert!(!check("write_units_per_answer=0.5", "write_units_per_answer", 0.501, Unit::Each));
        assert!(!check("ack_p99=20ms", "service_p99", 1.0, Unit::Millis), "not measured is not kept");
    }

    #[test]
    fn unknown_names_and_values_are_refused() {
        for bad in ["ack_p99", "ack=1ms", "ack_p99=fast", "ack_p99="] {
            assert!(bad.parse::<Slo>().is_err(), "{bad}");
        }
    }
}
