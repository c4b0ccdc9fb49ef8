//! What a run costs in a cluster: what the stages count at `/metrics`, and the processor time of each, before and after.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};

use crate::client::{Call, Connection, Target};
use crate::report::machine::usage;

/// What the names of the counters begin with that AWS would charge for.
const COUNTED: [&str; 2] = ["podium_dynamodb_", "podium_kinesis_"];
/// How long a stage may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a stage serves its metrics.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    url: String,
    target: Arc<Target>,
    path: Uri,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
        let path = if matches!(uri.path(), "" | "/") { "/metrics" } else { uri.path() };
        let authority = uri.authority().ok_or_else(|| format!("{url} names no host"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        // Whoever may read the metrics of a stage is on its machine.
        let target = Target::parse(&format!("{scheme}://{authority}"), false);
        let target = target.map_err(|error| format!("{error:#}"))?;
        let path = path.parse().map_err(|_| format!("{url} is not a URL"))?;
        Ok(Self { url: url.to_owned(), target: Arc::new(target), path })
    }
}

/// A process by a name for the report, such as `grade=4711`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    name: String,
    pid: u32,
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "takes NAME=PID, such as grade=4711".to_owned();
        let (name, pid) = text.split_once('=').ok_or_else(wanted)?;
        let pid = pid.parse().map_err(|_| wanted())?;
        if name.is_empty() { Err(wanted()) } else { Ok(Self { name: name.to_owned(), pid }) }
    }
}

/// A counter: its name, and the values of its labels.
pub(crate) type Series = (String, String);

/// What all sources said at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    at: Instant,
    counters: Vec<BTreeMap<Series, f64>>,
    processor: Vec<Option<Duration>>,
}

/// What a run has used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Costs {
    /// Over how long.
    pub(crate) over: Duration,
    /// By how much each counter grew, in all stages together.
    pub(crate) counters: BTreeMap<Series, f64>,
    /// Processor time of each process, by name; `None` if it was gone.
    pub(crate) processor: Vec<(String, Option<Duration>)>,
}

/// Everything that is asked before and after a run.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    endpoints: Vec<Endpoint>,
    processes: Vec<Process>,
}

impl Sources {
    /// Returns the sources once each has answered, `None` if there are none.
    ///
    /// # Errors
    /// One is named twice, and would be counted twice, or does not answer: better known before the run than after it.
    pub(crate) async fn new(endpoints: &[Endpoint], processes: &[Process]) -> Result<Option<Self>> {
        let sources = Self::named(endpoints, processes)?;
        if let Some(sources) = &sources {
            sources.read().await?;
        }
        Ok(sources)
    }

    fn named(endpoints: &[Endpoint], processes: &[Process]) -> Result<Option<Self>> {
        for (nth, endpoint) in endpoints.iter().enumerate() {
            if endpoints[..nth].iter().any(|other| other.target.address() == endpoint.target.address()) {
                bail!("--metrics {} is given twice", endpoint.url);
            }
        }
        if endpoints.is_empty() && processes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { endpoints: endpoints.to_vec(), processes: processes.to_vec() }))
    }

    /// Asks all of them.
    ///
    /// # Errors
    /// One of them does not answer as a stage does.
    pub(crate) async fn read(&self) -> Result<Reading> {
        let processor =
            self.processes.iter().map(|process| Some(usage(&process.pid.to_string())?.cpu)).collect();
        let mut counters = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            counters.push(scrape(endpoint).await.with_context(|| format!("--metrics {}", endpoint.url))?);
        }
        Ok(Reading { at: Instant::now(), counters, processor })
    }

    /// Returns what was used between two readings.
    ///
    /// # Errors
    /// A stage was started anew in between, so that what it used before is not known.
    pub(crate) fn between(&self, before: &Reading, after: &Reading) -> Result<Costs> {
        let mut counters = BTreeMap::<Series, f64>::new();
        for (endpoint, (before, after)) in
            self.endpoints.iter().zip(before.counters.iter().zip(&after.counters))
        {
            let lost = before.iter().any(|(series, was)| after.get(series).is_none_or(|is| is < was));
            if lost {
                bail!("--metrics {}: its process was started anew during the run", endpoint.url);
            }
            for (series, is) in after {
                let grown = is - before.get(series).unwrap_or(&0.0);
                *counters.entry(series.clone()).or_default() += grown;
            }
        }
        let spent = before.processor.iter().zip(&after.processor);
        let spent = spent.map(|(before, after)| (*after)?.checked_sub((*before)?));
        let names = self.processes.iter().map(|process| process.name.clone());
        Ok(Costs { over: after.at - before.at, counters, processor: names.zip(spent).collect() })
    }
}

impl Costs {
    /// Returns the sum of a counter over its labels.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.by_label(name).map(|(_, value)| value).sum()
    }

    /// Returns a counter by the value of its label.
    pub(crate) fn by_label<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        let named = self.counters.iter().filter(move |((counter, _), _)| counter == name);
        named.map(|((_, label), value)| (label.as_str(), *value))
    }

    /// Returns a counter for one value of its label.
    pub(crate) fn get(&self, name: &str, label: &str) -> f64 {
        self.by_label(name).filter(|(found, _)| *found == label).map(|(_, value)| value).sum()
    }

    /// Tells whether anything was counted: stages on one machine's own storage count nothing of the kind.
    pub(crate) fn is_counted(&self) -> bool {
        !self.counters.is_empty()
    }
}

async fn scrape(endpoint: &Endpoint) -> Result<BTreeMap<Series, f64>> {
    let mut connection = Connection::new(endpoint.target.clone(), TIMEOUT);
    let call = Call {
        method: Method::GET,
        path: endpoint.path.clone(),
        bearer: None,
        extra: None,
        body: Bytes::new(),
    };
    let head = match connection.send(&call).await {
        Ok(head) => head,
        Err(failure) => bail!("{}", failure.name()),
    };
    if head.status != StatusCode::OK {
        bail!("{}: is it where a stage serves its metrics?", head.status);
    }
    counters(std::str::from_utf8(&connection.reply).context("the answer is no text")?)
}

/// Returns the counters of a Prometheus exposition that AWS would charge for.
fn counters(text: &str) -> Result<BTreeMap<Series, f64>> {
    let mut counters = BTreeMap::new();
    for line in text.lines().filter(|line| COUNTED.iter().any(|prefix| line.starts_with(prefix))) {
        let read = || {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let values = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let values: Vec<&str> = values.map(|(_, value)| value.trim_matches('"')).collect();
            Some(((name.to_owned(), values.join(",")), value.parse::<f64>().ok()?))
        };
        let Some((series, value)) = read() else { bail!("{line:?} is no counter") };
        *counters.entry(series).or_default() += value;
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP podium_dynamodb_calls_total Calls\n\
        # TYPE podium_dynamodb_calls_total counter\n\
        podium_dynamodb_calls_total{operation=\"PutItem\"} 12\n\
        podium_dynamodb_calls_total{operation=\"Query\"} 3\n\
        podium_dynamodb_read_units_total 4\n\
        podium_stage_records_total{stage=\"grade\"} 99\n";

    fn reading(texts: &[&str], cpu_ms: &[Option<u64>]) -> Reading {
        let counters = texts.iter().map(|text| counters(text).unwrap()).collect();
        let processor = cpu_ms.iter().map(|ms| ms.map(Duration::from_millis)).collect();
        Reading { at: Instant::now(), counters, processor }
    }

    fn sources() -> Sources {
        let endpoints = ["http://127.0.0.1:9001", "http://127.0.0.1:9002/metrics"];
        let endpoints = endpoints.map(|url| url.parse().unwrap());
        let processes = ["grade=1".parse().unwrap(), "rank=2".parse().unwrap()];
        Sources::named(&endpoints, &processes).unwrap().unwrap()
    }

    #[test]
    fn what_all_stages_have_used_since_is_added_up() {
        let before = reading(&[TEXT, ""], &[Some(100), Some(50)]);
        let grown = TEXT.replace(" 12\n", " 20\n");
        let after = reading(&[&grown, TEXT], &[Some(350), None]);
        let costs = sources().between(&before, &after).unwrap();
        assert_eq!(costs.get("podium_dynamodb_calls_total", "PutItem"), 20.0);
        assert_eq!(costs.sum("podium_dynamodb_calls_total"), 23.0);
        assert_eq!(costs.sum("podium_dynamodb_read_units_total"), 4.0);
        assert_eq!(costs.sum("podium_stage_records_total"), 0.0, "nobody pays for it");
        let spent = [("grade".to_owned(), Some(Duration::from_millis(250))), ("rank".to_owned(), None)];
        assert_eq!(costs.processor, spent);
    }

    #[test]
    fn a_stage_that_was_started_anew_spoils_the_count() {
        let (before, less) = (reading(&[TEXT, TEXT], &[]), TEXT.replace(" 12\n", " 2\n"));
        for after in [less.as_str(), ""] {
            let refused = sources().between(&before, &reading(&[TEXT, after], &[])).unwrap_err().to_string();
            assert!(refused.contains("http://127.0.0.1:9002/metrics"), "{refused}");
        }
    }

    #[test]
    fn metrics_are_read_on_this_machine_only_and_once() {
        assert_eq!("http://127.0.0.1:9001".parse::<Endpoint>().unwrap().path, "/metrics");
        for bad in
            ["https://127.0.0.1:9001/metrics", "127.0.0.1:9001", "/metrics", "http://192.0.2.1/metrics"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        let twice =
            ["http://127.0.0.1:9001", "http://127.0.0.1:9001/metrics"].map(|url| url.parse().unwrap());
        assert!(Sources::named(&twice, &[]).is_err());
        assert!(Sources::named(&[], &[]).unwrap().is_none());
        for bad in ["grade", "grade=", "=1", "grade=x"] {
            assert!(bad.parse::<Process>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_counter_is_refused() {
        assert!(counters("podium_dynamodb_calls_total{operation=\"Query\"} many").is_err());
        assert!(counters("podium_dynamodb_calls_total").is_err());
    }
}
