//! What the gateway is made of: the log, the views, a clock, the issuer and the settings, put together once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ingest::log::Log;
use operators::id::UnixMillis;

use crate::admission::Timing;
use crate::auth::Issuer;
use crate::limit::{self, Limits};
use crate::live::{self, Live};
use crate::server;
use crate::views::Views;

/// Tells the time; tests skew it.
pub trait Clock: Send + Sync {
    /// Returns the time now.
    fn now(&self) -> UnixMillis;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Every setting of the gateway; the default is what `podium up` uses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The times around closing a question; the runner must have the same.
    pub timing: Timing,
    /// Request rates and requests in flight.
    pub limits: limit::Settings,
    /// The live feed.
    pub live: live::Settings,
    /// Connections.
    pub server: server::Settings,
    /// Whether `/metrics` is served here, and not on an address of its own.
    pub serves_metrics: bool,
    /// How long a token from joining is valid.
    pub join_token_ttl: Duration,
    /// How long publishing, joining and commands wait to become visible.
    pub visible_within: Duration,
    /// Time to read a request's body; over it 408.
    pub body_within: Duration,
    /// Time for a whole request up to its response's head; over it 503.
    pub request_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            limits: limit::Settings::default(),
            live: live::Settings::default(),
            server: server::Settings::default(),
            serves_metrics: true,
            // A day outlasts any quiz evening, and a lost token is worthless the day after.
            join_token_ttl: Duration::from_hours(24),
            visible_within: Duration::from_secs(5),
            body_within: Duration::from_secs(10),
            request_within: Duration::from_secs(15),
        }
    }
}

/// Writes the metrics in the Prometheus text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What `/readyz` says: yes, or why not.
#[derive(Debug)]
pub struct Readiness(Mutex<Option<String>>);

impl Readiness {
    /// Returns one that says no until it is told otherwise.
    pub fn starting() -> Self {
        Self(Mutex::new(Some("starting".into())))
    }
    /// Says yes from now on, or why not.
    pub fn set(&self, ready: Result<(), String>) {
        // Nothing panics while holding it.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready.err();
    }
    /// Returns why not; `None`: ready.
    pub fn why_not(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the wiring hands in.
pub struct Parts {
    /// Where answers, joins and commands go.
    pub log: Arc<dyn Log>,
    /// Where reads come from.
    pub views: Arc<dyn Views>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Mints and checks tokens.
    pub issuer: Issuer,
    /// What `/readyz` says.
    pub ready: Arc<Readiness>,
    /// What `/metrics` says.
    pub metrics: Render,
    /// The settings.
    pub settings: Settings,
}

/// The gateway's state, shared by all requests.
pub struct App {
    /// Where answers, joins and commands go.
    pub log: Arc<dyn Log>,
    /// Where reads come from.
    pub views: Arc<dyn Views>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Mints and checks tokens.
    pub issuer: Issuer,
    /// What `/readyz` says.
    pub ready: Arc<Readiness>,
    /// What `/metrics` says.
    pub metrics: Render,
    /// The settings.
    pub settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) live: Live,
}

impl App {
    /// Puts the gateway together. Does no I/O and needs no runtime.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { log, views, clock, issuer, ready, metrics, settings } = parts;
        let limits = Limits::new(&settings.limits);
        let live = Live::new(views.clone(), clock.clone(), settings.live.clone());
        Arc::new(Self { log, views, clock, issuer, ready, metrics, settings, limits, live })
    }
}
