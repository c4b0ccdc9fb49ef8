//! Limits that keep one caller, or all of them together, from taking more than there is.
//!
//! Rates are per subject and, without a token, per address; over them a request gets 429. Requests in flight are
//! counted for the whole process, in three lanes; over the limit a request gets 503 at once instead of joining a queue.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::auth::{Caller, Role};
use crate::error::seconds_up;

/// How often one caller may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    const fn of(per_second: u32, burst: u32) -> Self {
        match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
            (Some(per_second), Some(burst)) => Self { per_second, burst },
            (None, _) | (_, None) => panic!("a rate is at least one"),
        }
    }

    /// Returns the seconds, rounded up, in which `requests` become free again.
    pub fn refill_s(self, requests: u32) -> u32 {
        requests.div_ceil(self.per_second.get())
    }
}

/// Settings of the limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Per player or viewer.
    pub player: Rate,
    /// Per host.
    pub host: Rate,
    /// Per address without a token (IPv6: per /64); loopback addresses are left out.
    pub address: Rate,
    /// Requests in flight in this process, per [`Lane`].
    pub in_flight_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            player: Rate::of(50, 100),
            host: Rate::of(500, 1_000),
            // A classroom behind one address joins at once and reads the leaderboard.
            address: Rate::of(200, 1_000),
            // As many as the log's queue holds: the next append would be refused anyway.
            in_flight_max: ingest::limits::QUEUE_CALLS_MAX,
        }
    }
}

type Keyed = RateLimiter<u64, DashMapStateStore<u64>, DefaultClock, StateInformationMiddleware>;

struct Bucket {
    name: &'static str,
    rate: Rate,
    policy: HeaderValue,
    state: Keyed,
}

/// The process's limits.
pub struct Limits {
    player: Bucket,
    host: Bucket,
    address: Bucket,
    hasher: RandomState,
    clock: DefaultClock,
    in_flight: [AtomicUsize; 3],
    in_flight_max: usize,
}

/// Requests that share their places in flight. Whoever sends bodies slowly takes those of other bodies, not those of
/// readers and hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Requests of hosts.
    Host,
    /// Other requests with a body.
    Body,
    /// Other requests.
    Read,
}

/// What is left of a rate: written into the response's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    policy: HeaderValue,
    name: &'static str,
    /// Requests left now.
    pub remaining: u32,
    /// Seconds until the whole burst is free again, or after a refusal until the next request is.
    pub reset_s: u32,
}

/// A rate is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// When the next request will pass.
    pub retry_after: Duration,
    /// For the headers.
    pub allowance: Allowance,
}

/// One request in flight, until dropped.
pub struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bucket {
    fn new(name: &'static str, rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let state = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        Self { name, rate, policy: text(policy(name, rate)), state }
    }

    fn take(&self, key: u64, clock: &DefaultClock) -> Result<Allowance, Limited> {
        match self.state.check_key(&key) {
            Ok(snapshot) => {
                let remaining = snapshot.remaining_burst_capacity();
                let used = self.rate.burst.get().saturating_sub(remaining);
                Ok(self.allowance(remaining, self.rate.refill_s(used)))
            }
            Err(until) => {
                let retry_after = until.wait_time_from(clock.now());
                let reset_s = u32::try_from(seconds_up(retry_after)).unwrap_or(u32::MAX);
                Err(Limited { retry_after, allowance: self.allowance(0, reset_s) })
            }
        }
    }

    fn allowance(&self, remaining: u32, reset_s: u32) -> Allowance {
        Allowance { policy: self.policy.clone(), name: self.name, remaining, reset_s }
    }
}

impl Limits {
    /// Returns fresh limits.
    pub fn new(settings: &Settings) -> Self {
        Self {
            player: Bucket::new("player", settings.player),
            host: Bucket::new("host", settings.host),
            address: Bucket::new("address", settings.address),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
            in_flight: Default::default(),
            in_flight_max: settings.in_flight_max,
        }
    }

    /// Takes one request from a caller's rate.
    ///
    /// # Errors
    /// [`Limited`] says when to come back.
    pub fn subject(&self, caller: &Caller) -> Result<Allowance, Limited> {
        let bucket = match caller.role {
            Role::Host => &self.host,
            Role::Player | Role::Viewer => &self.player,
        };
        bucket.take(self.hasher.hash_one(&caller.subject), &self.clock)
    }

    /// Takes one request from an address's rate; `None` for a loopback address, which has none.
    ///
    /// # Errors
    /// [`Limited`] says when to come back.
    pub fn address(&self, address: IpAddr) -> Result<Option<Allowance>, Limited> {
        match network(address) {
            Some(network) => self.address.take(self.hasher.hash_one(network), &self.clock).map(Some),
            None => Ok(None),
        }
    }

    /// Counts a request in, until the guard is dropped; `None` when there are too many.
    pub fn enter(&self, lane: Lane) -> Option<InFlight<'_>> {
        let in_flight = &self.in_flight[lane as usize];
        let guard = InFlight(in_flight);
        // The guard undoes the count also when the request is turned away.
        let before = in_flight.fetch_add(1, Ordering::Relaxed);
        (before < self.in_flight_max).then_some(guard)
    }

    /// Forgets callers that have their whole burst again; call it every minute or so.
    pub fn sweep(&self) {
        for bucket in [&self.player, &self.host, &self.address] {
            bucket.state.retain_recent();
            bucket.state.shrink_to_fit();
        }
    }
}

impl Allowance {
    /// Writes `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("ratelimit-policy"), self.policy.clone());
        let left = format!("\"{}\";r={};t={}", self.name, self.remaining, self.reset_s);
        headers.insert(HeaderName::from_static("ratelimit"), text(left));
    }
}

/// Returns what shares one rate: an IPv4 address or an IPv6 /64; `None` for loopback.
pub fn network(address: IpAddr) -> Option<u128> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(v4) => Some(u128::from(v4.to_bits())),
        IpAddr::V6(v6) => Some(v6.to_bits() >> 64 << 64),
    }
}

/// Returns the value of `RateLimit-Policy`: quota and window in seconds.
pub fn policy(name: &str, rate: Rate) -> String {
    format!("\"{name}\";q={};w={}", rate.burst, rate.refill_s(rate.burst.get()))
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("names and numbers fit a header")
}
