//! The simulated network: connections, servers, and a client of gateways.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use turmoil::net::{TcpListener, TcpStream};

/// Port of every server.
pub(crate) const PORT: u16 = 80;
/// Longest time to connect: the network repeats nothing that was lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time that a player waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// A connection of the simulated network.
pub(crate) struct Wire(TokioIo<TcpStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Makes connections for an HTTP client.
type Dial = BoxCloneSyncService<Uri, Wire, io::Error>;

/// An HTTP client on the simulated network, for the host that makes it.
pub(crate) type Http = Client<Dial, Full<Bytes>>;

/// Returns a client that keeps its connections.
pub(crate) fn http() -> Http {
    let dial = tower::service_fn(|uri: Uri| async move {
        let host = uri.host().unwrap_or_default().to_owned();
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, PORT))).await;
        Ok(Wire(TokioIo::new(connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)))
    });
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(BoxCloneSyncService::new(dial))
}

/// Answers every connection until the host crashes.
///
/// # Errors
/// The port is taken.
pub(crate) async fn serve<S, B>(service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // How a connection ends is its client's business.
            server.serve_connection_with_upgrades(TokioIo::new(stream), service).await.ok();
        });
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Reply {
    /// Returns the body as JSON.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A request as a client makes it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) body: Value,
}

impl Ask {
    /// Returns a request to read something.
    pub(crate) fn get(path: &str, token: Option<&str>) -> Self {
        let (token, body) = (token.map(str::to_owned), Value::Null);
        Self { method: Method::GET, path: path.into(), token, key: None, body }
    }

    /// Sends it to a gateway.
    ///
    /// # Errors
    /// The connection failed or nothing came in time: the outcome is unknown.
    pub(crate) async fn send(&self, http: &Http, gateway: &str) -> Result<Reply, String> {
        let mut request =
            Request::builder().method(&self.method).uri(format!("http://{gateway}{}", self.path));
        for (name, value) in [("idempotency-key", &self.key), ("authorization", &self.bearer())] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        let request = request.header("content-type", "application/json").body(Full::from(body)).unwrap();
        let answered = async {
            let response: Response<Incoming> =
                http.request(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Reply { status: parts.status, body })
        };
        tokio::time::timeout(PATIENCE, answered).await.map_err(|_| "no answer in time".to_owned())?
    }

    fn bearer(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }
}
