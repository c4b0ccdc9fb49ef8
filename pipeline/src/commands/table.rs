//! `podium table`: makes the table of a cluster.

use std::path::PathBuf;

use clap::Subcommand;

use super::tags::Tag;

/// What to do with the table.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the table unless it is there, and wait until it can be used
    Create(Create),
}

/// Where it is and who pays how.
#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "read by the cluster alone"))]
struct Create {
    /// Settings file; its [cluster] table says what the flags do not
    #[arg(long, env = "PODIUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the DynamoDB table [default: podium]
    #[arg(long, env = "PODIUM_TABLE", value_name = "NAME")]
    table: Option<String>,
    /// on-demand: pay per request; provisioned: pay for --reads and --writes per second [default: as it is, on-demand
    /// when new]
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<super::streams::Mode>,
    /// Read units per second of a provisioned table that is new
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    reads: Option<u32>,
    /// Write units per second of a provisioned table that is new
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    writes: Option<u32>,
    /// Tag to put on it, any number of times
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<Tag>,
}

/// Makes the table.
///
/// # Errors
/// One line that says what to do: no region, no access, a table of somebody else.
#[cfg(feature = "cluster")]
pub fn run(args: Args) -> anyhow::Result<()> {
    use anyhow::bail;
    use ingest::aws::Aws;
    use ingest::table::{Capacity, Table};

    use super::streams::Mode;
    use crate::config::cluster::{TABLE_DEFAULT, in_file};

    let Command::Create(Create { config, table, mode, reads, writes, tags }) = args.command;
    let file = in_file(config.as_deref())?;
    let table = table.or(file.table).unwrap_or_else(|| TABLE_DEFAULT.into());
    let capacity = match (mode, reads, writes) {
        (None, None, None) => None,
        (Some(Mode::OnDemand), None, None) => Some(Capacity::OnDemand),
        (None | Some(Mode::OnDemand), ..) => bail!("--reads and --writes are for --mode provisioned"),
        (Some(Mode::Provisioned), Some(reads), Some(writes)) => Some(Capacity::Provisioned { reads, writes }),
        (Some(Mode::Provisioned), ..) => bail!("--mode provisioned needs --reads and --writes"),
    };
    let tags: Vec<_> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    super::runtime()?.block_on(async {
        let aws = Aws::from_env().await?;
        let made = Table::create(&aws, &table, capacity, &tags).await?;
        let has = Capacity::of(&made.describe().await?);
        let note = match (has, capacity) {
            (Capacity::Provisioned { reads, writes }, Some(wanted)) if has != wanted => {
                format!(
                    "; it keeps its {reads} read and {writes} write units: `aws dynamodb update-table` changes them"
                )
            }
            _ => String::new(),
        };
        crate::telemetry::say(&format!("table {table} is ready{note}"));
        Ok(())
    })
}

/// Says how to get a binary that can.
///
/// # Errors
/// Always: this one was built without.
#[cfg(not(feature = "cluster"))]
pub fn run(args: Args) -> anyhow::Result<()> {
    let Command::Create(_) = args.command;
    super::streams::built_without()
}
