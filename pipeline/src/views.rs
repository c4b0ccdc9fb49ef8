//! What gateways read: the rank stage's states, and who waits for them to move.

pub mod boards;
pub mod local;
pub mod notices;
pub mod readiness;
pub mod replicas;
pub mod tails;
