//! Podium's streams: what a record looks like, which partition it belongs to, and logs that keep it.

#[cfg(feature = "cluster")]
pub mod aws;
pub mod codec;
pub mod error;
pub mod lease;
pub mod limits;
pub mod log;
pub mod partition;
pub mod proto;
#[cfg(feature = "cluster")]
pub mod table;
