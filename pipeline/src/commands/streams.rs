//! `podium streams`: makes, shows and scales the streams of a cluster.

use std::path::PathBuf;

use clap::Subcommand;
use ingest::log::Stream;

use super::tags::Tag;
use crate::config::Span;

/// What to do with the streams.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the four streams unless they are there, and wait until they can be used
    Create(Create),
    /// Show the streams, their shards and the partitions on each
    Describe(Describe),
    /// Split or merge the shards of provisioned streams, while they are in use
    Scale(Scale),
}

/// Who decides how many shards a stream has, or how many units a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// AWS, by load
    OnDemand,
    /// You, ahead
    Provisioned,
}

/// Which streams.
#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Names {
    /// Settings file; its [cluster] table says what the flags do not
    #[arg(long, env = "PODIUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the names of the streams begin with [default: podium-]
    #[arg(long, env = "PODIUM_STREAM_PREFIX", value_name = "TEXT")]
    prefix: Option<String>,
}

#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Create {
    #[command(flatten)]
    names: Names,
    /// Partitions of every stream, fixed when it is made: as many shards as it can ever have [default: 32]
    #[arg(long, env = "PODIUM_PARTITIONS", value_name = "N")]
    partitions: Option<u16>,
    /// on-demand: Kinesis sees to the shards; provisioned: --shards does [default: as it is, on-demand when new]
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<Mode>,
    /// Shards of each provisioned stream that is new [default: 1]
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// How long records are kept, 24h to 8760h [default: as it is, 24h when new]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// Tag to put on them, any number of times
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<Tag>,
}

#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Describe {
    #[command(flatten)]
    names: Names,
}

#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Scale {
    #[command(flatten)]
    names: Names,
    /// Shards that each is to have, at most one per partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    shards: u32,
    /// Only this stream: submissions, standings, results or dead-letters [default: all]
    #[arg(long, value_name = "STREAM", value_parser = stream)]
    stream: Option<Stream>,
}

fn stream(text: &str) -> Result<Stream, String> {
    let found = Stream::ALL.into_iter().find(|stream| stream.name() == text);
    found.ok_or_else(|| format!("must be one of {}", Stream::ALL.map(Stream::name).join(", ")))
}

/// Does it.
///
/// # Errors
/// One line that says what to do: no region, no access, streams that are missing or somebody else's.
#[cfg(feature = "cluster")]
pub fn run(args: Args) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match args.command {
            Command::Create(args) => real::create(args).await,
            Command::Describe(args) => real::describe(args).await,
            Command::Scale(args) => real::scale(args).await,
        }
    })
}

/// Says how to get a binary that can.
///
/// # Errors
/// Always: this one was built without.
#[cfg(not(feature = "cluster"))]
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(_) | Command::Describe(_) | Command::Scale(_) => built_without(),
    }
}

/// Says how to get a binary for a cluster.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cluster"))]
pub(super) fn built_without() -> anyhow::Result<()> {
    anyhow::bail!(
        "this podium runs on one machine only; build one for a cluster with `cargo build --release --features cluster`"
    )
}

#[cfg(feature = "cluster")]
mod real {
    use anyhow::bail;
    use ingest::aws::Aws;
    use ingest::log::Stream;
    use ingest::log::kinesis::Shard;
    use ingest::log::kinesis::admin::{self, Description};

    use super::{Create, Describe, Mode, Names, Scale};
    use crate::config::ConfigError;
    use crate::config::cluster::{PARTITIONS_DEFAULT, PREFIX_DEFAULT, Raw, in_file};
    use crate::telemetry::say;

    impl Names {
        /// Returns what the streams' names begin with, and what else the file says.
        fn resolve(self) -> Result<(String, Raw), ConfigError> {
            let file = in_file(self.config.as_deref())?;
            let prefix = self.prefix.or_else(|| file.prefix.clone());
            Ok((prefix.unwrap_or_else(|| PREFIX_DEFAULT.into()), file))
        }
    }

    pub(super) async fn create(args: Create) -> anyhow::Result<()> {
        let (prefix, file) = args.names.resolve()?;
        let mode = match (args.mode, args.shards) {
            (None, None) => None,
            (Some(Mode::OnDemand), None) => Some(admin::Mode::OnDemand),
            (None | Some(Mode::OnDemand), Some(_)) => bail!("--shards is for --mode provisioned"),
            (Some(Mode::Provisioned), shards) => {
                Some(admin::Mode::Provisioned { shards: shards.unwrap_or(1) })
            }
        };
        let partitions = args.partitions.or(file.partitions).unwrap_or(PARTITIONS_DEFAULT);
        let retention = args.retention.map(|span| span.0);
        let tags: Vec<_> = args.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
        let aws = Aws::from_env().await?;
        for ready in admin::create(&aws, &prefix, partitions, mode, retention, &tags).await? {
            let other = ready.shards.zip(args.shards).filter(|(has, wanted)| has != wanted);
            let note = other.map(|(has, wanted)| {
                let has = count(has as usize, "shard");
                format!("; it keeps its {has}: `podium streams scale --shards {wanted}` changes that")
            });
            say(&format!("stream {} is ready{}", ready.name, note.unwrap_or_default()));
        }
        Ok(())
    }

    pub(super) async fn describe(args: Describe) -> anyhow::Result<()> {
        let aws = Aws::from_env().await?;
        let (prefix, _) = args.names.resolve()?;
        for description in admin::describe(&aws, &prefix).await? {
            print(&description);
        }
        Ok(())
    }

    pub(super) async fn scale(args: Scale) -> anyhow::Result<()> {
        let aws = Aws::from_env().await?;
        let (prefix, _) = args.names.resolve()?;
        let streams = args.stream.map_or(Stream::ALL.to_vec(), |stream| vec![stream]);
        for stream in streams {
            let shards = admin::scale(&aws, &prefix, stream, args.shards).await?;
            let open = shards.iter().filter(|shard| !shard.is_closed).count();
            say(&format!("stream {} has {}", admin::stream_name(&prefix, stream), count(open, "open shard")));
        }
        Ok(())
    }

    /// Prints a stream on a line and its shards under it.
    fn print(stream: &Description) {
        let hours = stream.retention.as_secs() / 3_600;
        let mode = stream.mode.as_deref().map(|mode| format!(", {}", mode.to_lowercase().replace('_', "-")));
        let consumers = stream.consumers.filter(|consumers| *consumers > 0);
        let consumers =
            consumers.map(|consumers| format!(", {}", count(consumers as usize, "registered consumer")));
        say(&format!(
            "{}: {}{}, {}, records kept for {}{}",
            stream.name,
            stream.status.to_lowercase(),
            mode.unwrap_or_default(),
            count(stream.partitions.into(), "partition"),
            count(hours as usize, "hour"),
            consumers.unwrap_or_default()
        ));
        for shard in &stream.shards {
            say(&format!("  {}", line(shard)));
        }
    }

    fn line(shard: &Shard) -> String {
        let state = if shard.is_closed { "closed" } else { "open" };
        let partitions = match (shard.partitions.first(), shard.partitions.last()) {
            (Some(first), Some(last)) if first == last => format!("partition {first}"),
            (Some(first), Some(last)) => format!("partitions {first} to {last}"),
            _ => "no partition".to_owned(),
        };
        let parents = match shard.parents.as_slice() {
            [] => String::new(),
            parents => format!(", from {}", parents.join(" and ")),
        };
        format!("{} {state}, {partitions}{parents}", shard.id)
    }

    fn count(count: usize, what: &str) -> String {
        format!("{count} {what}{}", if count == 1 { "" } else { "s" })
    }
}
