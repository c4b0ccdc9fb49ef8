//! What `pipeline` promises.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod browser;
mod contract;
mod gateways;
mod process;
mod sim;
mod tidy;
