//! The generated wire types of package `podium.v1`; see `examples/generate.rs`.
#![allow(missing_docs, clippy::all, clippy::wildcard_enum_match_arm, unreachable_pub)]

include!("proto/podium.v1.rs");
