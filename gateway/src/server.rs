//! Connections: an accept loop of our own, since `axum::serve` sets no timeouts and counts nothing.
//!
//! A connection must send a request's head within 5 s, take what it is sent within 10 s, and may not send megabytes
//! without asking for anything. The number of connections is bounded, in all and per address.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service;

use crate::app::App;
use crate::limit::network;

mod guard;

use guard::{Guarded, Pulse};

/// Settings of the connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections at once; more wait in the system's backlog.
    pub connections_max: usize,
    /// Connections at once from one address (IPv6: one /64); loopback is left out.
    pub connections_per_address_max: u32,
    /// Time for a request's head, counted from the end of the one before: so also the longest idle time.
    pub head_within: Duration,
    /// Time in which a peer must take something of what is written to it.
    pub write_within: Duration,
    /// Time that open connections get when the server stops.
    pub drain_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            // A school behind one address, each pupil with a page and a live feed.
            connections_per_address_max: 2_000,
            head_within: Duration::from_secs(5),
            write_within: Duration::from_secs(10),
            drain_within: Duration::from_secs(10),
        }
    }
}

/// Headers of one request; a browser sends about 20.
const HEADERS_MAX: usize = 64;
/// Bytes of an HTTP/1.1 head, and of what is buffered of a connection.
const BUFFER_BYTES: usize = 32 << 10;
/// Bytes of an HTTP/2 head.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// Streams that a peer may open and reset before it is sent away.
const RESETS_MAX: usize = 20;
/// Time between HTTP/2 pings, and for their answer.
const PING: Duration = Duration::from_secs(20);
/// Pause when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often callers that no longer matter are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// Whose connection a request came over. Holding it keeps the connection counted.
#[derive(Clone)]
pub struct Peer(Arc<Seat>);

struct Seat {
    address: SocketAddr,
    addresses: Option<Addresses>,
    _permit: OwnedSemaphorePermit,
}

type Addresses = Arc<Mutex<HashMap<u128, u32>>>;

impl Peer {
    /// Returns the address at the other end.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        metrics::gauge!("podium_gateway_connections").decrement(1.0);
        let (Some(addresses), Some(network)) = (&self.addresses, network(self.address.ip())) else { return };
        let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&network);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Ended,
}

/// Serves the router on a listener until `shutdown` resolves, then drains: stops accepting, ends the live feeds, lets
/// requests in flight finish, and cuts off what is left after `drain_within`.
///
/// # Errors
/// The listener cannot be asked for its address.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let settings = app.settings.server.clone();
    let listening = listener.local_addr()?;
    tracing::info!(%listening, "the gateway listens");
    let seats = Arc::new(Semaphore::new(settings.connections_max));
    let addresses = Addresses::default();
    let phase = watch::Sender::new(Phase::Serving);
    let mut sweep = tokio::time::interval(SWEEP);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = seats.clone().acquire_owned().await.expect("nobody closes this semaphore");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            _ = sweep.tick() => { app.limits.sweep(); continue },
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let limit = settings.connections_per_address_max;
                let Some(seat) = seat(address, &addresses, limit, permit) else { continue };
                let connection = Connection { peer: Peer(Arc::new(seat)), router: router.clone() };
                tokio::spawn(connection.run(stream, settings.clone(), phase.subscribe()));
            }
            Err(error) if is_peers_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    phase.send_replace(Phase::Draining);
    app.live.drain();
    let all = u32::try_from(settings.connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(settings.drain_within, seats.acquire_many(all)).await.is_err() {
        let left = settings.connections_max - seats.available_permits();
        tracing::warn!(left, "connections were cut off");
    }
    phase.send_replace(Phase::Ended);
    Ok(())
}

/// Counts a connection in, unless its address has too many.
fn seat(
    address: SocketAddr,
    addresses: &Addresses,
    limit: u32,
    permit: OwnedSemaphorePermit,
) -> Option<Seat> {
    if let Some(network) = network(address.ip()) {
        let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(network).or_default();
        if *count >= limit {
            metrics::counter!("podium_gateway_shed_total", "reason" => "connections").increment(1);
            return None;
        }
        *count += 1;
    }
    metrics::gauge!("podium_gateway_connections").increment(1.0);
    Some(Seat { address, addresses: Some(addresses.clone()), _permit: permit })
}

/// Tells whether accepting failed because the peer was gone already.
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Connection {
    peer: Peer,
    router: Router,
}

impl Connection {
    async fn run(self, stream: TcpStream, settings: Settings, mut phase: watch::Receiver<Phase>) {
        // Small answers must not wait for the peer's delayed acknowledgement.
        stream.set_nodelay(true).ok();
        let pulse = Arc::new(Pulse::default());
        let io =
            TokioIo::new(Guarded::new(stream, pulse.clone(), settings.head_within, settings.write_within));
        let builder = builder(&settings);
        let Self { peer, router } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            pulse.beat();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            let answer = router.clone().call(request);
            async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Serving => {}
                Phase::Draining => connection.as_mut().graceful_shutdown(),
                Phase::Ended => return,
            }
            tokio::select! {
                // Peers that time out or talk nonsense are everyday, and metrics count requests, not connections.
                _ = connection.as_mut() => return,
                changed = phase.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn builder(settings: &Settings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_within)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_send_buf_size(BUFFER_BYTES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}
