//! What a run measures while it runs: latencies, outcomes, one line per second.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::client::Failure;

/// Longest latency that is told apart, in microseconds: an hour, longer than any run waits.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Latencies in microseconds, exact to a thousandth.
pub(crate) type Latencies = Histogram<u64>;

fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds and digits are legal constants")
}

/// Records a latency.
pub(crate) fn record(latencies: &mut Latencies, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX).max(1));
}

/// One second of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Second {
    /// Acknowledgements in it.
    pub(crate) acks: u64,
    /// Median latency, in microseconds.
    pub(crate) p50_us: u64,
    /// 99th percentile.
    pub(crate) p99_us: u64,
    /// The longest.
    pub(crate) max_us: u64,
}

/// What watchers of live feeds saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed {
    /// Events by name.
    pub(crate) events: BTreeMap<String, u64>,
    /// Bytes of the streams.
    pub(crate) bytes: u64,
    /// Streams that ended and were opened again.
    pub(crate) reconnects: u64,
    /// Events whose id was lower than that of the event before on the same stream.
    pub(crate) backwards: u64,
}

/// What a run measured.
pub(crate) struct Stats {
    /// From the intended start to the acknowledgement.
    pub(crate) intended: Latencies,
    /// From the start of the request that was acknowledged.
    pub(crate) service: Latencies,
    /// From a probe's intended start until a live feed shows it.
    pub(crate) visible: Latencies,
    interval: Latencies,
    /// The run by seconds.
    pub(crate) seconds: Vec<Second>,
    hlog: Vec<u8>,
    /// Arrivals that came due.
    pub(crate) arrivals: u64,
    /// Arrivals over the bound of the backlog: they were not sent.
    pub(crate) dropped: u64,
    /// Hand-ins that started more than [`LATE_START`] after their time.
    pub(crate) late_starts: u64,
    /// Hand-ins that were acknowledged.
    pub(crate) acks: u64,
    /// Acknowledgements that the gateway said to be repeats.
    pub(crate) replayed: u64,
    /// Hand-ins refused because the question was closed.
    pub(crate) closed: u64,
    /// Hand-ins that nobody acknowledged in time.
    pub(crate) given_up: u64,
    /// Requests sent again.
    pub(crate) retries: u64,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by why.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// Hand-ins refused for a reason that a right client does not meet.
    pub(crate) refused: u64,
    /// The first such refusal.
    pub(crate) refusal: Option<String>,
    /// Probes that never showed.
    pub(crate) unseen: u64,
    /// Live feeds.
    pub(crate) feed: Feed,
    /// When the last acknowledgement came, from the start.
    pub(crate) last_ack: Duration,
}

/// A start later than this is the generator's or the backlog's delay and not the timer's grain of 1 ms.
pub(crate) const LATE_START: Duration = Duration::from_millis(10);

impl Stats {
    /// Returns empty figures for a run that starts now.
    pub(crate) fn new() -> Self {
        let mut hlog = Vec::new();
        let mut header = IntervalLogWriterBuilder::new();
        header.add_comment("[Histogram log format version 1.3]");
        header.add_comment("[Podium loadtest: microseconds from the intended start to the acknowledgement]");
        header.with_start_time(SystemTime::now()).with_base_time(SystemTime::now());
        let mut serializer = V2DeflateSerializer::new();
        let begun = header.begin_log_with(&mut hlog, &mut serializer);
        debug_assert!(begun.is_ok(), "memory takes everything");
        drop(begun);
        hlog.extend_from_slice(
            b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        );
        Self {
            intended: latencies(),
            service: latencies(),
            visible: latencies(),
            interval: latencies(),
            seconds: Vec::new(),
            hlog,
            arrivals: 0,
            dropped: 0,
            late_starts: 0,
            acks: 0,
            replayed: 0,
            closed: 0,
            given_up: 0,
            retries: 0,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            refused: 0,
            refusal: None,
            unseen: 0,
            feed: Feed::default(),
            last_ack: Duration::ZERO,
        }
    }

    /// Takes an acknowledgement `at` from the start of the run.
    pub(crate) fn acknowledged(&mut self, at: Duration, intended: Duration, service: Duration) {
        record(&mut self.intended, intended);
        record(&mut self.interval, intended);
        record(&mut self.service, service);
        self.acks += 1;
        self.last_ack = self.last_ack.max(at);
    }

    /// Ends a second of the run; returns it.
    pub(crate) fn tick(&mut self) -> Second {
        let begun = Duration::from_secs(self.seconds.len() as u64);
        let mut serializer = V2DeflateSerializer::new();
        let builder = IntervalLogWriterBuilder::new();
        if let Ok(mut writer) = builder.begin_log_with(&mut self.hlog, &mut serializer) {
            let written = writer.write_histogram(&self.interval, begun, Duration::from_secs(1), None);
            debug_assert!(written.is_ok(), "memory takes everything");
        }
        let second = Second {
            acks: self.interval.len(),
            p50_us: self.interval.value_at_quantile(0.50),
            p99_us: self.interval.value_at_quantile(0.99),
            max_us: self.interval.max(),
        };
        self.seconds.push(second);
        self.interval.reset();
        second
    }

    /// Returns the interval log, in the format of HdrHistogram's tools.
    pub(crate) fn hlog(&self) -> &[u8] {
        &self.hlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_interval_log_reads_back() {
        let mut stats = Stats::new();
        let ms = Duration::from_millis;
        stats.acknowledged(ms(500), ms(3), ms(2));
        assert_eq!(stats.tick().acks, 1);
        stats.acknowledged(ms(1_500), ms(7), ms(2));
        stats.acknowledged(ms(1_700), ms(9), ms(2));
        assert_eq!(stats.tick().acks, 2);
        let mut lengths = Vec::new();
        for entry in IntervalLogIterator::new(stats.hlog()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = base64_decode(interval.encoded_histogram());
                let histogram: Latencies = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                lengths.push((interval.start_timestamp(), histogram.len()));
            }
        }
        assert_eq!(lengths, [(Duration::ZERO, 1), (Duration::from_secs(1), 2)]);
    }

    fn base64_decode(text: &str) -> Vec<u8> {
        let value = |byte: u8| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                .iter()
                .position(|b| *b == byte)
        };
        let bits: Vec<u32> = text.bytes().filter_map(value).map(|value| value as u32).collect();
        let mut bytes = Vec::new();
        for group in bits.chunks(4) {
            let word = group.iter().fold(0, |word, six| (word << 6) | six) << (6 * (4 - group.len()));
            bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
        }
        bytes
    }
}
