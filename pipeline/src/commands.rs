//! What the commands of the binary do.

use anyhow::Context;
use tracing_subscriber::filter::Targets;

use crate::config::Sources;
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

/// Prints the resolved settings.
///
/// # Errors
/// Everything that is wrong with them.
pub fn check(sources: Sources) -> anyhow::Result<()> {
    let config = sources.resolve()?;
    telemetry::say(config.to_toml().trim_end());
    let key = config.data.join("issuer.key");
    let state = if key.exists() { "*** (kept in the data directory)" } else { "made on first use" };
    telemetry::say(&format!("# issuer key: {state}"));
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
