//! Kinesis and DynamoDB without AWS, in one small process that forgets everything when it ends.
//!
//! `cargo run --features cluster --example doubles [ADDR [TROUBLE]]` prints what `AWS_ENDPOINT_URL` is set to, and runs
//! until it is told to stop. ADDR is 127.0.0.1:0 by default: any free port. Of a thousand calls TROUBLE are throttled, as
//! many are not answered and as many are slow; 0 by default.

use anyhow::{Context, ensure};
use std::io::Write;
use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

#[path = "../tests/it/doubles.rs"]
mod doubles;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listen: SocketAddr =
        listen.parse().with_context(|| format!("{listen} is no address such as 127.0.0.1:4566"))?;
    ensure!(listen.ip().is_loopback(), "{listen} is not a loopback address: the doubles let anybody in");
    let trouble = std::env::args().nth(2).unwrap_or_else(|| "0".to_owned());
    let trouble = trouble.parse().ok().filter(|per_mille| *per_mille <= 333);
    let trouble = trouble.context("the trouble is how many calls of a thousand: 0 to 333")?;
    // From here on a signal is not missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let doubles =
        doubles::Doubles::start(listen).await.with_context(|| format!("cannot serve on {listen}"))?;
    doubles.disturb(trouble);
    writeln!(std::io::stdout(), "{}", doubles.endpoint()).context("nobody reads the address")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
