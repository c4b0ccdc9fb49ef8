//! Bounds of a runner's steps.

use std::time::Duration;

/// Bounds of one step.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Records of one step at most: bounds its memory and how long readers wait for a lock.
    pub records_max: usize,
    /// Payload bytes of one step at most. A record of effects holds many, so this bounds their number too: an answer
    /// takes 50 bytes or more in either stream, and in memory a dozen times that.
    pub bytes_max: usize,
    /// How long a step waits for a first record; a Seal and a shutdown wait this long at most.
    pub wait: Duration,
    /// How long effects go out before the state that made them is stored; zero stores it with them, at every step. A
    /// crash replays this much.
    pub checkpoint: Duration,
    /// How long a runner lets records gather after a step that had some: a step costs the same for one record as for
    /// fifty, so under load this divides the work, and a lone record is not held up.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            records_max: 2_048,
            // At most about ten thousand answers, 10 MB.
            bytes_max: 512 << 10,
            wait: Duration::from_millis(50),
            checkpoint: Duration::ZERO,
            linger: Duration::from_millis(5),
        }
    }
}
