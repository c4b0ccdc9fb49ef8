//! Every bound that the log holds, with the reason for its value.

/// Bytes of one record: a published definition of 4,096 questions fits. Kinesis takes 1 MiB with the partition key, and
/// 256 bytes are more than that key and the frame of an aggregate around one record.
pub const RECORD_BYTES_MAX: usize = (1 << 20) - 256;
/// Records of one append call: as many as one PutRecords takes.
pub const BATCH_RECORDS_MAX: usize = 500;
/// Append calls that may wait for the committer; over it the log is overloaded. At 10,000 calls/s this is 0.8 s.
pub const QUEUE_CALLS_MAX: usize = 8_192;
/// Records that one commit takes at most: bounds the time of one commit to a few milliseconds.
pub const COMMIT_RECORDS_MAX: usize = 4_096;
/// Bytes that may wait for the committer, for a few hundred megabytes of memory with everything that holds them.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes at which a commit takes no further call: a quarter of a second's worth of a slow disk.
pub const COMMIT_BYTES_MAX: usize = 16 << 20;
/// Partitions of a log: a partition number fits the storage key, and more would only cost file handles.
pub const PARTITIONS_MAX: u16 = 1_024;
