//! Leases: many workers in a simulated cluster, and the real calls against a DynamoDB double.

#[cfg(feature = "cluster")]
mod dynamodb;
mod simulation;
mod table;
mod world;
