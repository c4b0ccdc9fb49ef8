//! What `pipeline` promises.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod browser;
mod contract;
#[cfg(feature = "cluster")]
mod doubles;
#[cfg(feature = "cluster")]
mod dynamodb;
mod gateways;
mod process;
mod sim;
mod tidy;
mod workers;
