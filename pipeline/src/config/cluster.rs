//! Settings of stages apart. What AWS needs (endpoint, region, keys) is set as its SDK has it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ingest::log::Lost;
use serde::Deserialize;

use super::{Config, ConfigError, Defaults, Span, check, read, unknown_variables};

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
    /// Address of a worker's own /healthz, /readyz and /metrics; only a loopback address [default: none]
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
    /// The table.
    pub table: String,
    /// What the names of the streams begin with.
    pub prefix: String,
    /// Where a worker serves its metrics.
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
    /// Returns the checked settings.
    ///
    /// # Errors
    /// All problems at once.
    pub fn resolve(self) -> Result<Cluster, ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => super::Raw::default(),
        };
        let (flags, in_file) = (self.cluster, file.cluster.clone());
        let mut problems = unknown_variables(std::env::vars_os().map(|(name, _)| name));
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
        let admin_listen = flags.admin_listen.or(in_file.admin_listen);
        if let Some(address) = admin_listen.filter(|address| !address.ip().is_loopback()) {
            problems.push(format!("admin_listen: {address} is not a loopback address; put a proxy in front"));
        }
        let base = check(self.raw, file, problems, &Defaults::CLUSTER)?;
        Ok(Cluster {
            base,
            table: flags.table.or(in_file.table).unwrap_or_else(|| "podium".into()),
            prefix: flags.prefix.or(in_file.prefix).unwrap_or_else(|| "podium-".into()),
            admin_listen,
            checkpoint,
            lease,
            pulse,
            poll,
            fan_out: flags.fan_out.or(in_file.fan_out),
            lost: if self.skip_lost { Lost::Skipped } else { Lost::Refused },
        })
    }
}
