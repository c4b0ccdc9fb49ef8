//! Settings of stages apart. What AWS needs (endpoint, region, keys) is set as its SDK has it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ingest::log::Lost;
use serde::Deserialize;

use super::{Config, ConfigError, Defaults, Span, check, read, unknown_variables};

/// The table that is used when none is named.
pub const TABLE_DEFAULT: &str = "podium";
/// What the names of the streams begin with when nothing else is said.
pub const PREFIX_DEFAULT: &str = "podium-";
/// Partitions of streams that are made when no number is said.
pub const PARTITIONS_DEFAULT: u16 = 32;
/// Time between two checkpoints of a grader.
pub const GRADE_CHECKPOINT: Duration = Duration::from_secs(1);
/// Time between two checkpoints of a ranker: what readers see is stored, so it is stored as often as they are told.
pub const RANK_CHECKPOINT: Duration = Duration::from_millis(500);
/// Time between two looks of a gateway at how far the stages are.
pub const VIEW_TICK: Duration = Duration::from_millis(200);
/// Least pause between two polls on AWS: a shard takes five reads a second from all its readers together.
const POLL_MIN: Duration = Duration::from_millis(200);

/// A stage that runs in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum One {
    /// Serves clients.
    Gateway,
    /// Grades answers.
    Grade,
    /// Ranks what was graded.
    Rank,
}

/// The raw settings, from flags, the environment or the `[cluster]` table of the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[group(id = "cluster")]
pub struct Raw {
    /// DynamoDB table with state, leases and progress [default: podium]
    #[arg(long, env = "PODIUM_TABLE", value_name = "NAME")]
    pub table: Option<String>,
    /// What the names of the Kinesis streams begin with [default: podium-]
    #[arg(long, env = "PODIUM_STREAM_PREFIX", value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Address of a process's own /healthz, /readyz and /metrics, which a gateway then has nowhere else; only a loopback
    /// address [default: none]
    #[arg(long, env = "PODIUM_ADMIN_LISTEN", value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,
    /// Time between two checkpoints of a stage [default: 1s for grade, 500ms for rank]
    #[arg(long, env = "PODIUM_CHECKPOINT", value_name = "DURATION")]
    pub checkpoint: Option<Span>,
    /// How long a lease lasts without renewal: what a crash costs at most [default: 10s]
    #[arg(long, env = "PODIUM_LEASE", value_name = "DURATION")]
    pub lease: Option<Span>,
    /// Time between two signs of progress [default: 250ms]
    #[arg(long, env = "PODIUM_PULSE", value_name = "DURATION")]
    pub pulse: Option<Span>,
    /// Pause between two polls of a shard; its readers have five a second together [default: 250ms]
    #[arg(long, env = "PODIUM_POLL", value_name = "DURATION")]
    pub poll: Option<Span>,
    /// Read by enhanced fan-out under this consumer name instead of polling, a name per stage [default: poll]
    #[arg(long, env = "PODIUM_FAN_OUT", value_name = "NAME")]
    pub fan_out: Option<String>,
    /// In the file: partitions that the streams must have. On the command line one flag serves both.
    #[arg(skip)]
    pub partitions: Option<u16>,
    /// In the file: the times around a close, where a cluster's are others than one machine's.
    #[arg(skip)]
    pub grace: Option<Span>,
    /// As `grace`.
    #[arg(skip)]
    pub margin: Option<Span>,
    /// As `grace`.
    #[arg(skip)]
    pub view_age_max: Option<Span>,
}

/// Where settings come from on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct Sources {
    /// Settings file (TOML, the long flag names with underscores; those of a cluster in a `[cluster]` table)
    #[arg(long, env = "PODIUM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on where records may be gone from the streams unread, as after a rest longer than their retention: what is gone
    /// is lost. For one start, after a look at what stands still
    #[arg(long)]
    skip_lost: bool,
    #[command(flatten)]
    raw: super::Raw,
    #[command(flatten)]
    cluster: Raw,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Settings that one process has as well.
    pub base: Config,
    /// Partitions that the streams must have, if set.
    pub partitions: Option<u16>,
    /// The table.
    pub table: String,
    /// What the names of the streams begin with.
    pub prefix: String,
    /// Where a process serves its metrics.
    pub admin_listen: Option<SocketAddr>,
    /// Time between checkpoints, if set.
    pub checkpoint: Option<Duration>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// Time between pulses.
    pub pulse: Duration,
    /// Pause between polls.
    pub poll: Duration,
    /// Name of the consumer, for enhanced fan-out.
    pub fan_out: Option<String>,
    /// What becomes of partitions whose next record may be gone.
    pub lost: Lost,
}

impl Sources {
    /// Returns the checked settings of one stage.
    ///
    /// # Errors
    /// All problems at once.
    pub fn resolve(self, one: One) -> Result<Cluster, ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => super::Raw::default(),
        };
        let problems = unknown_variables(std::env::vars_os().map(|(name, _)| name));
        let surroundings = Surroundings { one, has_endpoint: has_endpoint() };
        let cluster = merge(self.raw, self.cluster, file, problems, surroundings)?;
        Ok(Cluster { lost: if self.skip_lost { Lost::Skipped } else { Lost::Refused }, ..cluster })
    }

    /// Returns the settings of one process, and those of a cluster as a gateway has them, from the same sources. What is
    /// wrong with the latter is an error only if something of a cluster is set.
    ///
    /// # Errors
    /// All problems at once.
    pub fn both(self) -> Result<(Config, Result<Cluster, ConfigError>), ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => super::Raw::default(),
        };
        let is_meant = self.cluster.is_set() || file.cluster.is_set();
        let surroundings = Surroundings { one: One::Gateway, has_endpoint: has_endpoint() };
        let cluster = merge(self.raw.clone(), self.cluster, file.clone(), Vec::new(), surroundings);
        let mut problems = unknown_variables(std::env::vars_os().map(|(name, _)| name));
        if let (Err(ConfigError(wrong)), true) = (&cluster, is_meant) {
            problems.extend(wrong.iter().map(|problem| format!("[cluster] {problem}")));
        }
        Ok((check(self.raw, file, problems, &Defaults::ONE)?, cluster))
    }
}

impl Raw {
    fn is_set(&self) -> bool {
        let Self { table, prefix, admin_listen, checkpoint, lease, pulse, poll, fan_out, .. } = self;
        let Self { partitions, grace, margin, view_age_max, .. } = self;
        let spans = [checkpoint, lease, pulse, poll, grace, margin, view_age_max];
        let texts = [table, prefix, fan_out];
        texts.iter().any(|text| text.is_some())
            || spans.iter().any(|span| span.is_some())
            || admin_listen.is_some()
            || partitions.is_some()
    }
}

/// Returns the `[cluster]` table of a settings file, for commands that make what the stages use.
///
/// # Errors
/// The file cannot be read or has a mistake.
pub fn in_file(path: Option<&Path>) -> Result<Raw, ConfigError> {
    Ok(path.map(read).transpose()?.unwrap_or_default().cluster)
}

/// What settings are checked against besides each other.
#[derive(Debug, Clone, Copy)]
struct Surroundings {
    one: One,
    /// Whether what is called is somewhere else than AWS.
    has_endpoint: bool,
}

fn has_endpoint() -> bool {
    ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"].iter().any(|name| std::env::var_os(name).is_some())
}

fn merge(
    base: super::Raw,
    flags: Raw,
    mut file: super::Raw,
    mut problems: Vec<String>,
    surroundings: Surroundings,
) -> Result<Cluster, ConfigError> {
    let in_file = std::mem::take(&mut file.cluster);
    file.grace = in_file.grace.or(file.grace);
    file.margin = in_file.margin.or(file.margin);
    file.view_age_max = in_file.view_age_max.or(file.view_age_max);
    // Those of the file's first part are the directory's.
    file.partitions = in_file.partitions;
    let partitions = base.partitions.or(in_file.partitions);
    let mut span = |name: &str, flag: Option<Span>, file: Option<Span>, default_ms, least_ms, most_ms| {
        let span = flag.or(file).map_or(Duration::from_millis(default_ms), |span| span.0);
        let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
        if span < least || span > most {
            problems.push(format!("{name}: must be {least:?} to {most:?}, not {span:?}"));
        }
        span
    };
    let checkpoint = flags.checkpoint.or(in_file.checkpoint);
    let checkpoint = checkpoint.map(|set| span("checkpoint", Some(set), None, 0, 50, 60_000));
    let lease = span("lease", flags.lease, in_file.lease, 10_000, 1_000, 300_000);
    let pulse = span("pulse", flags.pulse, in_file.pulse, 250, 20, 1_000);
    let poll = span("poll", flags.poll, in_file.poll, 250, 10, 5_000);
    let fan_out = flags.fan_out.or(in_file.fan_out);
    if poll < POLL_MIN && fan_out.is_none() && !surroundings.has_endpoint {
        problems.push(format!(
            "poll: must be at least {POLL_MIN:?}, not {poll:?}: a shard of Kinesis takes five reads a second from all its \
             readers together (a shorter one is for doubles, which AWS_ENDPOINT_URL names)"
        ));
    }
    let admin_listen = flags.admin_listen.or(in_file.admin_listen);
    if let Some(address) = admin_listen.filter(|address| !address.ip().is_loopback()) {
        problems.push(format!("admin_listen: {address} is not a loopback address; put a proxy in front"));
    }
    let base = match check(base, file, Vec::new(), &Defaults::CLUSTER) {
        Ok(base) => base,
        Err(ConfigError(more)) => {
            problems.extend(more);
            return Err(ConfigError(problems));
        }
    };
    let cluster = Cluster {
        base,
        partitions,
        table: flags.table.or(in_file.table).unwrap_or_else(|| TABLE_DEFAULT.into()),
        prefix: flags.prefix.or(in_file.prefix).unwrap_or_else(|| PREFIX_DEFAULT.into()),
        admin_listen,
        checkpoint,
        lease,
        pulse,
        poll,
        fan_out,
        lost: Lost::Refused,
    };
    problems.extend(cluster.too_slow(surroundings.one));
    if problems.is_empty() { Ok(cluster) } else { Err(ConfigError(problems)) }
}

impl Cluster {
    /// Returns how old views get at most when nothing is slow. A pulse passes both streams and is told to both stages
    /// and the table, each of which waits for the next look; and it is the newest until the next one arrives.
    fn view_age(&self, one: One) -> Duration {
        let poll = if self.fan_out.is_some() { Duration::ZERO } else { self.poll };
        // A grader's own checkpoints hold nothing up.
        let set = self.checkpoint.filter(|_| one != One::Grade);
        self.pulse * 3 + poll * 2 + set.unwrap_or(RANK_CHECKPOINT) + VIEW_TICK
    }

    fn too_slow(&self, one: One) -> Option<String> {
        let (age, most) = (self.view_age(one), self.base.timing.view_age_max());
        (age > most).then(|| {
            format!(
                "poll, pulse, checkpoint: views would be up to {age:?} old (two polls, three pulses, the checkpoint of rank \
                 and {VIEW_TICK:?}), over view_age_max, {most:?}: answers would be refused; shorten them, or raise \
                 view_age_max, and grace with it"
            )
        })
    }

    /// Returns the settings as the `[cluster]` table of a file that would give them again.
    pub fn to_toml(&self) -> String {
        let mut text = "[cluster]\n".to_owned();
        let ms = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let timing = self.base.timing;
        let lines = [
            ("table", Ok(quoted(&self.table))),
            ("prefix", Ok(quoted(&self.prefix))),
            ("partitions", self.partitions.map(|n| n.to_string()).ok_or("as the streams say")),
            ("grace", Ok(ms(timing.grace()))),
            ("margin", Ok(ms(timing.margin()))),
            ("view_age_max", Ok(ms(timing.view_age_max()))),
            ("checkpoint", self.checkpoint.map(ms).ok_or("1s for grade, 500ms for rank")),
            ("lease", Ok(ms(self.lease))),
            ("pulse", Ok(ms(self.pulse))),
            ("poll", Ok(ms(self.poll))),
            ("fan_out", self.fan_out.as_deref().map(quoted).ok_or("none: shards are polled")),
            (
                "admin_listen",
                self.admin_listen.map(|address| format!("\"{address}\"")).ok_or("none of its own"),
            ),
        ];
        for (name, value) in lines {
            let _ = match value {
                Ok(value) => writeln!(text, "{name} = {value}"),
                Err(unset) => writeln!(text, "# {name}: {unset}"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWS: Surroundings = Surroundings { one: One::Gateway, has_endpoint: false };

    fn resolved(text: &str, surroundings: Surroundings) -> Result<Cluster, Vec<String>> {
        let file: super::super::Raw = toml::from_str(text).unwrap();
        merge(super::super::Raw::default(), Raw::default(), file, Vec::new(), surroundings)
            .map_err(|ConfigError(problems)| problems)
    }

    fn problems(text: &str, surroundings: Surroundings) -> Vec<String> {
        resolved(text, surroundings).err().unwrap_or_default()
    }

    #[test]
    fn times_that_make_every_view_too_old_are_refused() {
        assert_eq!(problems("", AWS), Vec::<String>::new(), "the defaults go together");
        for (slow, age) in
            [("poll = \"5s\"", "11.45s"), ("pulse = \"1s\"", "4.2s"), ("checkpoint = \"60s\"", "61.45s")]
        {
            let said = problems(&format!("[cluster]\n{slow}"), AWS);
            assert!(said.len() == 1 && said[0].contains(age) && said[0].contains("3.5s"), "{slow}: {said:?}");
            assert!(!said[0].contains('\n'), "{said:?}");
        }
        let patient = "grace = \"5s\"\nmargin = \"500ms\"\nview_age_max = \"4400ms\"";
        assert_eq!(problems(&format!("[cluster]\npoll = \"1400ms\"\n{patient}"), AWS), Vec::<String>::new());
        let grade = Surroundings { one: One::Grade, ..AWS };
        assert_eq!(
            problems("[cluster]\ncheckpoint = \"60s\"", grade),
            Vec::<String>::new(),
            "a grader may be slow"
        );
        assert_eq!(
            problems("[cluster]\npoll = \"5s\"\nfan_out = \"a\"", AWS),
            Vec::<String>::new(),
            "nothing is polled"
        );
    }

    #[test]
    fn polls_beyond_the_quota_are_for_doubles() {
        let fast = "[cluster]\npoll = \"150ms\"";
        let said = problems(fast, AWS);
        assert!(said.len() == 1 && said[0].starts_with("poll: must be at least 200ms"), "{said:?}");
        assert_eq!(problems(fast, Surroundings { has_endpoint: true, ..AWS }), Vec::<String>::new());
        assert_eq!(problems(&format!("{fast}\nfan_out = \"a\""), AWS), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let said = problems(
            "listen = \"0.0.0.0:1\"\n[cluster]\npoll = \"1ms\"\nlease = \"1ms\"\nadmin_listen = \"0.0.0.0:2\"\npartitions = 0",
            AWS,
        );
        let starts =
            ["lease", "poll: must be 10ms", "poll: must be at least", "admin_listen", "listen", "partitions"];
        assert_eq!(said.len(), starts.len(), "{said:?}");
        for (said, start) in said.iter().zip(starts) {
            assert!(said.starts_with(start), "{said} instead of {start}");
        }
    }

    #[test]
    fn what_check_prints_gives_the_same_settings_again() {
        let file = "partitions = 4\ngrace = \"2500ms\"\n[cluster]\ngrace = \"4800ms\"\ntable = \"a\"\npartitions = 8";
        for text in ["", file] {
            let first = resolved(text, AWS).unwrap();
            let printed = format!("partitions = 4\ngrace = \"2s\"\n{}", first.to_toml());
            let second = resolved(&printed, AWS).unwrap();
            assert_eq!((second.to_toml(), second.partitions), (first.to_toml(), first.partitions));
        }
        let cluster = resolved(file, AWS).unwrap();
        assert_eq!(
            (cluster.partitions, cluster.base.timing.grace()),
            (Some(8), Duration::from_millis(4_800))
        );
        assert_eq!(resolved("partitions = 4", AWS).unwrap().partitions, None, "that is the directory's");
    }
}
