//! Time as an argument: what a runner may know of it.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
pub use gateway::SystemClock;

/// A clock that can also be waited on. Operators never see it.
pub trait Clock: gateway::Clock {
    /// Returns after a while.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

impl Clock for SystemClock {
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
