//! What a cluster has and one machine has not: shards that split and merge, leases on them, processes that share the
//! work, and gateways that follow what is stored.

pub(super) mod copies;
pub(super) mod leases;
pub(super) mod process;
pub(super) mod shards;
