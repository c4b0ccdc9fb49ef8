//! What `ingest` promises: bytes on the wire, the contract of every log, and the embedded log under crashes and damage.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod arbitrary;
mod contract;
mod crash;
mod damage;
mod generated;
mod golden;
mod proto_text;
mod samples;
mod support;
mod wire;
