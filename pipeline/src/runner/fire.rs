//! Records that states want appended at a time, such as Seals.

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
        let due: BTreeSet<O::Key> =
            self.timers.iter().filter(|(_, timer)| timer.next <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(timer) = self.timers.get_mut(&key) else { continue };
            let records = timer.wanted.iter().filter(|(at, _)| *at <= reached);
            let records = records.map(|(_, record)| record.clone()).take(ingest::limits::BATCH_RECORDS_MAX);
            let records: Vec<Record> = records.collect();
            // A later one may become due before these are tried again.
            let later = timer.wanted.iter().map(|(at, _)| *at).filter(|at| *at > reached).min();
            let again = now.plus(REARM.as_millis() as u64);
            timer.next = later.map_or(again, |at| at.max(soonest).min(again));
            if records.is_empty() {
                continue;
            }
            match self.parts.log.append(records).await {
                Ok(_) | Err(AppendError::Overloaded { .. } | AppendError::Unavailable(_)) => {}
                Err(AppendError::Invalid { reason, .. } | AppendError::Corrupt(reason)) => {
                    return Err(RunError::Corrupt(reason));
                }
            }
        }
        Ok(())
    }
}
