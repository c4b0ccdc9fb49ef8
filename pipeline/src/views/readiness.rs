//! Whether a gateway of a cluster is fit to be asked, and if not, why.

use std::time::Duration;

use operators::id::UnixMillis;

/// How long a gateway waits at its start for the last partition to be brought up to date.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long views may be too old before a gateway says that it is not ready: a lease that is taken over makes all
/// gateways wait alike, and none is better than another then.
const STALE_FOR: Duration = Duration::from_secs(15);

/// What is known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Time since this began, by a clock that does not jump.
    pub elapsed: Duration,
    /// Now, by the clock that answers are stamped with.
    pub now: UnixMillis,
    /// When the views of the partition that is farthest behind were whole.
    pub oldest: UnixMillis,
    /// When those of the newest were.
    pub newest: UnixMillis,
    /// Why views are not to be trusted, whatever their age.
    pub doubt: Option<&'a str>,
}

/// Judges a gateway from moment to moment.
#[derive(Debug)]
pub struct Judge {
    begun: UnixMillis,
    age_max: Duration,
    has_begun: bool,
    fresh_at: Duration,
}

impl Judge {
    /// Returns one for a gateway that began at `begun` and takes views of this age at most.
    pub fn new(begun: UnixMillis, age_max: Duration) -> Self {
        Self { begun, age_max, has_begun: false, fresh_at: Duration::ZERO }
    }

    /// Tells whether the gateway is ready.
    ///
    /// # Errors
    /// Why not, in words that stay the same while the reason does.
    pub fn judge(&mut self, known: &Known<'_>) -> Result<(), String> {
        if let Some(doubt) = known.doubt {
            return Err(doubt.to_owned());
        }
        let age = Duration::from_millis(known.now.since(known.newest));
        if age <= self.age_max {
            self.fresh_at = known.elapsed;
        }
        self.has_begun |= known.oldest >= self.begun;
        // One partition that stands still, as a damaged one does, must not keep every new gateway from serving the others.
        self.has_begun |= known.elapsed >= PATIENCE && known.newest >= self.begun;
        if !self.has_begun {
            return Err("starting: graders and rankers have not brought every partition up to date".into());
        }
        if known.elapsed.saturating_sub(self.fresh_at) > STALE_FOR {
            let age_max = self.age_max;
            return Err(format!(
                "all views are older than {age_max:?}: the stages stand still, or cannot be seen"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000;

    #[test]
    fn a_partition_that_stands_still_holds_a_new_gateway_up_for_a_while_only() {
        let mut judge = Judge::new(UnixMillis(100 * S), Duration::from_secs(3));
        let known = |second: u64| Known {
            elapsed: Duration::from_secs(second),
            now: UnixMillis((100 + second) * S),
            oldest: UnixMillis(7 * S),
            newest: UnixMillis((100 + second) * S),
            doubt: None,
        };
        assert!(judge.judge(&known(29)).unwrap_err().contains("starting"));
        assert_eq!(judge.judge(&known(30)), Ok(()));
    }

    #[test]
    fn a_gateway_is_ready_while_its_views_are_fresh_and_nothing_is_wrong() {
        let mut judge = Judge::new(UnixMillis(100 * S), Duration::from_secs(3));
        let known = |second: u64, oldest: u64, newest: u64| Known {
            elapsed: Duration::from_secs(second),
            now: UnixMillis((100 + second) * S),
            oldest: UnixMillis(oldest * S),
            newest: UnixMillis(newest * S),
            doubt: None,
        };
        assert!(judge.judge(&known(1, 99, 100)).unwrap_err().contains("starting"));
        assert_eq!(judge.judge(&known(2, 101, 101)), Ok(()));
        assert_eq!(
            judge.judge(&known(60, 101, 159)),
            Ok(()),
            "one partition that stands still is not this gateway's"
        );
        assert_eq!(judge.judge(&known(70, 101, 159)), Ok(()), "a lease is being taken over");
        let stale = judge.judge(&known(76, 101, 159)).unwrap_err();
        assert!(stale.contains("older than 3s"), "{stale}");
        assert_eq!(judge.judge(&known(77, 101, 176)), Ok(()));
        let doubt = Known { doubt: Some("the clock"), ..known(78, 177, 177) };
        assert_eq!(judge.judge(&doubt), Err("the clock".into()));
        assert_eq!(judge.judge(&known(79, 178, 178)), Ok(()));
    }
}
