//! The throttle of one hub: the first change goes out at once, further ones together at the end of the interval, and
//! the last change is never missed.

/// When the next frame may go out. Times are milliseconds of any one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    interval_ms: u64,
    sent_at: Option<u64>,
}

impl Throttle {
    /// Returns a throttle that lets a frame out at most every `interval_ms`.
    pub fn new(interval_ms: u64) -> Self {
        Self { interval_ms, sent_at: None }
    }

    /// Returns when a change seen at `now` goes out: now, or as soon as the interval since the last frame is over.
    pub fn due(&self, now: u64) -> u64 {
        self.sent_at.map_or(now, |sent_at| now.max(sent_at.saturating_add(self.interval_ms)))
    }

    /// Notes that a frame went out.
    pub fn sent(&mut self, now: u64) {
        self.sent_at = Some(now);
    }
}
