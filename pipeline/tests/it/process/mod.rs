//! The real binary on a port of its own: started, stopped, killed, misused and played with over HTTP.

mod canary;
mod commands;
mod crash;
pub(crate) mod harness;
mod hostile;
mod start;
mod stop;
pub(crate) mod trivia;
