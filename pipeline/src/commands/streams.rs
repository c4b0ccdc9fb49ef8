//! `podium streams`: makes, shows and scales the streams of a cluster.

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

#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Create {
    /// What the names of the streams begin with
    #[arg(long, env = "PODIUM_STREAM_PREFIX", default_value = "podium-", value_name = "TEXT")]
    prefix: String,
    /// Partitions of every stream, fixed when it is made: as many shards as it can ever have
    #[arg(long, env = "PODIUM_PARTITIONS", default_value_t = 32, value_name = "N")]
    partitions: u16,
    /// on-demand: Kinesis sees to the shards; provisioned: --shards does
    #[arg(long, value_enum, default_value = "on-demand", value_name = "MODE")]
    mode: Mode,
    /// Shards of each provisioned stream [default: 1]
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
    /// What the names of the streams begin with
    #[arg(long, env = "PODIUM_STREAM_PREFIX", default_value = "podium-", value_name = "TEXT")]
    prefix: String,
}

#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Scale {
    /// What the names of the streams begin with
    #[arg(long, env = "PODIUM_STREAM_PREFIX", default_value = "podium-", value_name = "TEXT")]
    prefix: String,
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

    use super::{Create, Describe, Mode, Scale};
    use crate::telemetry::say;

    pub(super) async fn create(args: Create) -> anyhow::Result<()> {
        let mode = match (args.mode, args.shards) {
            (Mode::OnDemand, None) => admin::Mode::OnDemand,
            (Mode::OnDemand, Some(_)) => bail!("--shards is for --mode provisioned"),
            (Mode::Provisioned, shards) => admin::Mode::Provisioned { shards: shards.unwrap_or(1) },
        };
        let retention = args.retention.map(|span| span.0);
        let tags: Vec<_> = args.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
        let aws = Aws::from_env().await?;
        admin::create(&aws, &args.prefix, args.partitions, mode, retention, &tags).await?;
        for stream in Stream::ALL {
            say(&format!("stream {} is ready", admin::stream_name(&args.prefix, stream)));
        }
        Ok(())
    }

    pub(super) async fn describe(args: Describe) -> anyhow::Result<()> {
        let aws = Aws::from_env().await?;
        for description in admin::describe(&aws, &args.prefix).await? {
            print(&description);
        }
        Ok(())
    }

    pub(super) async fn scale(args: Scale) -> anyhow::Result<()> {
        let aws = Aws::from_env().await?;
        let streams = args.stream.map_or(Stream::ALL.to_vec(), |stream| vec![stream]);
        for stream in streams {
            let shards = admin::scale(&aws, &args.prefix, stream, args.shards).await?;
            let open = shards.iter().filter(|shard| !shard.is_closed).count();
            say(&format!(
                "stream {} has {}",
                admin::stream_name(&args.prefix, stream),
                count(open, "open shard")
            ));
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
