//! `podium gateway`, `podium grade` and `podium rank`: one stage, for a cluster.

pub use crate::config::cluster::One;
use crate::config::cluster::Sources;

/// Runs one stage until told to stop.
///
/// # Errors
/// Wrong settings; streams or a table that cannot be used; a stage that stopped.
#[cfg(feature = "cluster")]
pub fn run(one: One, sources: Sources) -> anyhow::Result<()> {
    use anyhow::Context;

    let config = sources.resolve(one)?;
    let filter = config.base.log.parse().context("log")?;
    crate::telemetry::logs(config.base.log_format, filter);
    let runtime = super::runtime()?;
    match one {
        One::Gateway => runtime.block_on(crate::wire::cluster::gateway(config)),
        One::Grade => runtime.block_on(crate::wire::cluster::grade(config)),
        One::Rank => runtime.block_on(crate::wire::cluster::rank(config)),
    }
}

/// Says how to get a binary that can.
///
/// # Errors
/// Always: this one was built without.
#[cfg(not(feature = "cluster"))]
pub fn run(_one: One, _sources: Sources) -> anyhow::Result<()> {
    anyhow::bail!(
        "this podium runs on one machine only; build one for a cluster with `cargo build --release --features cluster`"
    )
}
