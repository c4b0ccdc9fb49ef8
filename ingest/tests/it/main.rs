//! What `ingest` promises: bytes on the wire, the contract of every log, and the embedded log under crashes and damage.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod arbitrary;
mod contract;
mod crash;
mod damage;
#[cfg(feature = "cluster")]
mod faults;
mod generated;
mod golden;
#[cfg(feature = "cluster")]
mod kinesis;
mod lease;
mod packed;
mod proto_text;
mod samples;
mod support;
#[cfg(feature = "cluster")]
mod table;
mod wire;
