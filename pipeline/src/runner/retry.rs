//! Calls that are made again until they are answered, with longer and longer pauses.

use std::fmt::Display;
use std::time::Duration;

use super::clock::Clock;
use crate::store::Unit;

/// The first pause: what is lost now and then is made up for at once.
pub(super) const FIRST: Duration = Duration::from_millis(5);
/// The longest pause: an outage ends unnoticed for this long.
const LONGEST: Duration = Duration::from_secs(1);

/// One call of a runner, made again and again.
pub(super) struct Retry {
    unit: Unit,
    call: &'static str,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(unit: Unit, call: &'static str) -> Self {
        Self { unit, call, pause: FIRST }
    }

    /// Waits before the next try, longer each time. A person hears once of a call that stays unanswered.
    pub(super) async fn pause(&mut self, clock: &dyn Clock, reason: &(dyn Display + Sync)) {
        clock.sleep(self.pause).await;
        let longer = (self.pause * 2).min(LONGEST);
        if longer == LONGEST && self.pause < LONGEST {
            let Unit { stage, partition } = self.unit;
            let (stage, call) = (stage.name(), self.call);
            tracing::warn!(stage, %partition, call, %reason, "not answered for seconds; it is tried on");
        }
        self.pause = longer;
    }
}
