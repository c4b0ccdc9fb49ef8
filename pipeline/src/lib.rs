//! Podium's machine room: the runner, the stages, the stores and the wiring of the binary.

pub mod boards;
pub mod cache;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod import;
pub mod notices;
pub mod progress;
pub mod runner;
pub mod stage;
pub mod store;
pub mod telemetry;
pub mod wire;
