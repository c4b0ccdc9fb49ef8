//! Podium's machine room: the runner, the stages, the stores and the wiring of the binary.

pub mod cluster;
pub mod commands;
pub mod config;
pub mod import;
pub mod runner;
pub mod stage;
pub mod store;
pub mod telemetry;
pub mod views;
pub mod wire;
