//! Stages apart: what workers and gateways in different processes tell each other, and who runs what.
//!
//! Records tell everything that decides about answers: pulses in the streams say how far a stage is. Beats repeat it in
//! one item per worker, so that a gateway learns with one read how old its views are.

pub mod admin;
pub mod beats;
pub mod health;
pub mod herald;
#[cfg(feature = "cluster")]
pub mod identity;
pub mod shards;
pub mod shift;
pub mod worker;
