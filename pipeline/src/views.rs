//! What gateways read: the rank stage's states, and who waits for them to move.

pub mod boards;
pub mod notices;
