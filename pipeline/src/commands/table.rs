//! `podium table`: makes the table of a cluster.

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
    /// Name of the DynamoDB table
    #[arg(long, env = "PODIUM_TABLE", default_value = "podium", value_name = "NAME")]
    table: String,
    /// on-demand: pay per request; provisioned: pay for --reads and --writes per second
    #[arg(long, value_enum, default_value = "on-demand", value_name = "MODE")]
    mode: super::streams::Mode,
    /// Read units per second of a provisioned table
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    reads: Option<u32>,
    /// Write units per second of a provisioned table
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

    let Command::Create(Create { table, mode, reads, writes, tags }) = args.command;
    let capacity = match (mode, reads, writes) {
        (Mode::OnDemand, None, None) => Capacity::OnDemand,
        (Mode::OnDemand, ..) => bail!("--reads and --writes are for --mode provisioned"),
        (Mode::Provisioned, Some(reads), Some(writes)) => Capacity::Provisioned { reads, writes },
        (Mode::Provisioned, ..) => bail!("--mode provisioned needs --reads and --writes"),
    };
    let tags: Vec<_> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    super::runtime()?.block_on(async {
        let aws = Aws::from_env().await?;
        Table::create(&aws, &table, capacity, &tags).await?;
        crate::telemetry::say(&format!("table {table} is ready"));
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
