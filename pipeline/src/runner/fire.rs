//! Records that states want appended at a time, such as Seals.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use ingest::error::AppendError;
use ingest::log::Record;
use operators::id::UnixMillis;

use super::{RunError, Runner};
use crate::stage::Operator;

/// A wanted record is appended again after this long, should the first have been lost.
const REARM: Duration = Duration::from_secs(1);
/// A record whose time has come by this worker's clock and not yet by the log's is looked at again after this long.
const HELD: Duration = Duration::from_millis(100);

/// States whose records are appended by one step: what comes of them is read together, and then all their states are in
/// memory.
const KEYS_AT_ONCE: usize = 8;

impl<O: Operator> Runner<O> {
    /// Returns up to which time records are appended that are wanted for one.
    ///
    /// Gateways go by their clocks when they acknowledge, and they may differ from the log's by a margin; this worker's may
    /// be ahead of both. Where pulses tell the log's time, also in a partition that is quiet, it has to agree.
    fn reached(&self, now: UnixMillis) -> UnixMillis {
        if self.parts.settings.checkpoint.is_zero() { now } else { now.min(self.applied.append_at) }
    }

    /// Appends the records whose time has come. Their effect is seen when they are read.
    pub(super) async fn fire(&mut self) -> Result<(), RunError> {
        let now = self.parts.clock.now();
        let reached = self.reached(now);
        let soonest = if reached < now { now.plus(HELD.as_millis() as u64) } else { now };
        let due = self.timers.iter().filter(|(_, timer)| timer.next <= now);
        // Those that became due last come first: a Seal must not wait behind quizzes that expired long ago.
        let due: BTreeSet<_> = due.map(|(key, timer)| (Reverse(timer.next), key.clone())).collect();
        // At once, since an append takes as long as a batch; the others are due at the next step.
        let mut records: Vec<Record> = Vec::new();
        for (_, key) in due.into_iter().take(KEYS_AT_ONCE) {
            let room = ingest::limits::BATCH_RECORDS_MAX - records.len();
            let Some(timer) = self.timers.get_mut(&key).filter(|_| room > 0) else { continue };
            let wanted = timer.wanted.iter().filter(|(at, _)| *at <= reached);
            records.extend(wanted.map(|(_, record)| record.clone()).take(room));
            // A later one may become due before these are tried again.
            let later = timer.wanted.iter().map(|(at, _)| *at).filter(|at| *at > reached).min();
            let again = now.plus(REARM.as_millis() as u64);
            timer.next = later.map_or(again, |at| at.max(soonest).min(again));
        }
        if records.is_empty() {
            return Ok(());
        }
        match self.parts.log.append(records).await {
            Ok(_) | Err(AppendError::Overloaded { .. } | AppendError::Unavailable(_)) => Ok(()),
            Err(AppendError::Invalid { reason, .. } | AppendError::Corrupt(reason)) => {
                Err(RunError::Corrupt(reason))
            }
        }
    }
}
