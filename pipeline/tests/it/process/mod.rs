//! The real binary on a port of its own: started, stopped, killed, misused and played with over HTTP.

mod canary;
#[cfg(feature = "cluster")]
mod cluster;
mod commands;
mod crash;
mod forget;
pub(crate) mod harness;
mod hostile;
#[cfg(feature = "cluster")]
mod operators;
#[cfg(feature = "cluster")]
mod setup;
mod start;
mod stop;
pub(crate) mod trivia;
