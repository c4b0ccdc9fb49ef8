//! What the commands of the binary do.

use anyhow::Context;
use tracing_subscriber::filter::Targets;

use crate::config::{ConfigError, Sources, cluster};
use crate::{telemetry, wire};

pub mod client;
pub mod quiz;
pub mod stages;
pub mod streams;
pub mod table;
pub mod tags;
pub mod token;

/// Runs every stage until told to stop.
///
/// # Errors
/// Wrong settings, or as [`wire::up`].
pub fn up(sources: Sources) -> anyhow::Result<()> {
    let config = sources.resolve()?;
    let filter: Targets = config.log.parse().context("log")?;
    telemetry::logs(config.log_format, filter);
    runtime()?.block_on(wire::up(config))
}

/// Prints the resolved settings, those of a cluster behind those of one machine, as a file that gives them again.
///
/// # Errors
/// Everything that is wrong with them.
pub fn check(sources: cluster::Sources) -> anyhow::Result<()> {
    let (config, cluster) = sources.both()?;
    telemetry::say(config.to_toml().trim_end());
    match cluster {
        Ok(cluster) => telemetry::say(&format!("\n{}", cluster.to_toml().trim_end())),
        // Nobody who runs one machine need care.
        Err(ConfigError(_)) => telemetry::say(
            "# a cluster needs times of its own with these: grace, margin and view_age_max in a [cluster] table",
        ),
    }
    let key = config.data.join("issuer.key");
    let state = if key.exists() { "*** (kept in the data directory)" } else { "made on first use" };
    telemetry::say(&format!("# issuer key: {state}"));
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
