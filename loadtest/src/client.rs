//! Connections to the gateway: HTTP/1.1 kept alive, one request at a time each, driven by the task that waits for them.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::schedule::Rng;

/// Where the gateway is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    host: HeaderValue,
}

impl Target {
    /// Reads a URL such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// Not such a URL, a name that does not resolve, or a host that is not this machine and was not allowed.
    pub(crate) fn parse(url: &str, allow_remote: bool) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{url}: only http:// URLs can be driven; for TLS drive the gateway behind it");
        }
        if !matches!(uri.path(), "" | "/") {
            bail!("{url}: leave the path out, it is always /v1");
        }
        let authority = uri.authority().with_context(|| format!("{url} names no host"))?;
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(80);
        let mut addresses =
            (host, port).to_socket_addrs().with_context(|| format!("{host} does not resolve"))?;
        let address = addresses.next().with_context(|| format!("{host} has no address"))?;
        if !address.ip().is_loopback() && !allow_remote {
            bail!("{host} is not this machine: a load test of somebody else's needs --allow-remote");
        }
        Ok(Self { address, host: HeaderValue::from_str(authority.as_str()).context("the URL's host")? })
    }

    /// Returns the address behind the name.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// No connection: the server has not seen the request.
    Refused,
    /// The connection broke: unknown whether the server has taken the request.
    Lost,
    /// No answer within the time: unknown whether the server has taken the request.
    TimedOut,
}

impl Failure {
    /// Returns the name used in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Lost => "connection lost",
            Self::TimedOut => "timed out",
        }
    }
}

/// The head of an answer; its body is in [`Connection::reply`].
#[derive(Debug)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// Returns how long the server asks to wait, if it does so in whole seconds, at most a minute.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(60)))
    }
}

type Wire = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// One connection, made when it is needed and made again when it broke.
pub(crate) struct Connection {
    target: Arc<Target>,
    timeout: Duration,
    wire: Option<(SendRequest<Full<Bytes>>, Wire)>,
    /// The body of the last answer.
    pub(crate) reply: Vec<u8>,
}

/// What a request is made of.
pub(crate) struct Call<'a> {
    /// The method.
    pub(crate) method: Method,
    /// The path with its query.
    pub(crate) path: Uri,
    /// The `Authorization` header.
    pub(crate) bearer: Option<&'a HeaderValue>,
    /// One more header.
    pub(crate) extra: Option<(HeaderName, HeaderValue)>,
    /// The JSON body, empty for none.
    pub(crate) body: Bytes,
}

impl Call<'_> {
    fn request(&self, target: &Target) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, target.host.clone());
        if let Some(bearer) = self.bearer {
            headers.insert(hyper::header::AUTHORIZATION, bearer.clone());
        }
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some((name, value)) = &self.extra {
            headers.insert(name.clone(), value.clone());
        }
        request
    }
}

impl Connection {
    /// Returns a connection that will give each request up to `timeout`.
    pub(crate) fn new(target: Arc<Target>, timeout: Duration) -> Self {
        Self { target, timeout, wire: None, reply: Vec::new() }
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn send(&mut self, call: &Call<'_>) -> Result<Head, Failure> {
        let timeout = self.timeout;
        let outcome = tokio::time::timeout(timeout, self.exchange(call)).await;
        let outcome = outcome.unwrap_or(Err(Failure::TimedOut));
        if outcome.is_err() {
            self.wire = None;
        }
        outcome
    }

    /// Sends one request until it is answered with something other than "ask again", for up to `give_up`.
    ///
    /// # Errors
    /// The last failure or refusal when the time is over.
    pub(crate) async fn settle(
        &mut self,
        call: &Call<'_>,
        give_up: Duration,
        pause: &mut Pause,
    ) -> Result<Head> {
        let began = Instant::now();
        pause.reset();
        loop {
            let (problem, retry_after) = match self.send(call).await {
                Ok(head) if !is_retryable(head.status) => return Ok(head),
                Ok(head) => (format!("{} {}", head.status, self.reply_text()), head.retry_after()),
                Err(failure) => (failure.name().to_owned(), None),
            };
            if began.elapsed() >= give_up {
                bail!("{} {}: no answer within {give_up:?}, last: {problem}", call.method, call.path);
            }
            tokio::time::sleep(pause.next(retry_after)).await;
        }
    }

    /// Opens a stream that the server goes on writing to; the connection is given away with it.
    pub(crate) async fn stream(mut self, call: &Call<'_>) -> Result<(Head, Stream), Failure> {
        let request = call.request(&self.target);
        let timeout = self.timeout;
        self.connect().await?;
        let (mut sender, mut wire) = self.wire.take().ok_or(Failure::Refused)?;
        let work = async { sender.send_request(request).await.map_err(|_| Failure::Lost) };
        let opened = tokio::time::timeout(timeout, drive(&mut wire, work)).await;
        let (response, end) = opened.map_err(|_| Failure::TimedOut)?;
        let (head, body) = response?.into_parts();
        let head = Head { status: head.status, headers: head.headers };
        Ok((head, Stream { body, wire: (end == End::Open).then_some(wire), _sender: sender }))
    }

    /// Waits for something else while the connection stays in good order: a close by the server is noticed here, not
    /// by the next request.
    pub(crate) async fn idle<T>(&mut self, until: impl Future<Output = T>) -> T {
        let Some((_, wire)) = &mut self.wire else { return until.await };
        let (value, end) = drive(wire, until).await;
        if end == End::Closed {
            self.wire = None;
        }
        value
    }

    /// Returns the start of the last answer's body, for messages.
    pub(crate) fn reply_text(&self) -> String {
        String::from_utf8_lossy(&self.reply).chars().take(300).collect()
    }

    async fn exchange(&mut self, call: &Call<'_>) -> Result<Head, Failure> {
        let request = call.request(&self.target);
        self.ready().await?;
        let Some((sender, wire)) = &mut self.wire else { return Err(Failure::Refused) };
        let reply = &mut self.reply;
        reply.clear();
        let work = async {
            let response = sender.send_request(request).await.map_err(|_| Failure::Lost)?;
            let (head, mut body) = response.into_parts();
            collect(&mut body, reply).await?;
            Ok(Head { status: head.status, headers: head.headers })
        };
        let (head, end) = drive(wire, work).await;
        if end == End::Closed {
            self.wire = None;
        }
        head
    }

    /// Makes sure that a request can be sent: on the connection there is, else on a new one.
    async fn ready(&mut self) -> Result<(), Failure> {
        if let Some((sender, wire)) = &mut self.wire {
            if let (Ok(()), End::Open) = drive(wire, sender.ready()).await {
                return Ok(());
            }
            self.wire = None;
        }
        self.connect().await
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let socket = TcpStream::connect(self.target.address).await.map_err(|_| Failure::Refused)?;
        // Without this, a small request can wait for the acknowledgement of the one before.
        socket.set_nodelay(true).map_err(|_| Failure::Refused)?;
        let mut builder = http1::Builder::new();
        // Answers are small; the default of 400 kB would let thousands of connections hold gigabytes.
        builder.max_buf_size(64 * 1024);
        let handshake = builder.handshake(TokioIo::new(socket)).await;
        let (mut sender, mut wire) = handshake.map_err(|_| Failure::Refused)?;
        let (ready, _) = drive(&mut wire, sender.ready()).await;
        ready.map_err(|_| Failure::Refused)?;
        self.wire = Some((sender, wire));
        Ok(())
    }
}

/// An answer that goes on.
pub(crate) struct Stream {
    body: Incoming,
    wire: Option<Wire>,
    // Dropping it would end the connection.
    _sender: SendRequest<Full<Bytes>>,
}

impl Stream {
    /// Returns the next piece, or `None` when the stream has ended or broke.
    pub(crate) async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            let frame = match &mut self.wire {
                Some(wire) => {
                    let (frame, end) = drive(wire, self.body.frame()).await;
                    if end == End::Closed {
                        self.wire = None;
                    }
                    frame
                }
                None => self.body.frame().await,
            };
            if let Ok(data) = frame?.ok()?.into_data() {
                return Some(data);
            }
        }
    }
}

/// How long to wait before asking again: doubling from 25 ms to 1 s with jitter, and never less than the server asks.
#[derive(Debug)]
pub(crate) struct Pause {
    tries: u32,
    rng: Rng,
}

impl Pause {
    /// Returns the pauses of one task.
    pub(crate) fn new(rng: Rng) -> Self {
        Self { tries: 0, rng }
    }

    /// Starts over, for another request.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Returns the next pause.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let full_ms = (25u64 << self.tries.min(6)).min(1_000);
        self.tries += 1;
        let jittered = Duration::from_millis(full_ms / 2 + self.rng.below(full_ms / 2 + 1));
        retry_after.map_or(jittered, |asked| asked + jittered)
    }
}

/// Tells whether the same request may succeed later.
pub(crate) fn is_retryable(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

async fn collect(body: &mut Incoming, into: &mut Vec<u8>) -> Result<(), Failure> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| Failure::Lost)?.into_data() {
            into.extend_from_slice(&data);
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

/// Drives a connection and what waits for it in one task: no wake-ups between tasks, which would cost more than the
/// request itself.
async fn drive<T>(wire: &mut Wire, work: impl Future<Output = T>) -> (T, End) {
    let mut work = pin!(work);
    let mut end = End::Open;
    poll_fn(|cx| {
        if end == End::Open && Pin::new(&mut *wire).poll(cx).is_ready() {
            end = End::Closed;
        }
        match work.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready((value, end)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_driven_unasked() {
        assert!(Target::parse("http://127.0.0.1:8080", false).is_ok());
        assert!(Target::parse("http://[::1]:8080/", false).is_ok());
        assert!(Target::parse("http://localhost", false).is_ok());
        let refused = Target::parse("http://192.0.2.1:8080", false).unwrap_err().to_string();
        assert!(refused.contains("--allow-remote"), "{refused}");
        assert!(Target::parse("http://192.0.2.1:8080", true).is_ok());
        for bad in
            ["https://127.0.0.1", "127.0.0.1:8080", "http://127.0.0.1/v1", "http://", "ftp://127.0.0.1"]
        {
            assert!(Target::parse(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn pauses_grow_to_a_second_and_heed_the_server() {
        let mut pause = Pause::new(Rng::new(1, 1));
        let pauses: Vec<Duration> = (0..20).map(|_| pause.next(None)).collect();
        assert!(pauses[0] <= Duration::from_millis(25));
        assert!(pauses[19] >= Duration::from_millis(500) && pauses[19] <= Duration::from_secs(1));
        assert!(pause.next(Some(Duration::from_secs(3))) >= Duration::from_secs(3));
    }
}
