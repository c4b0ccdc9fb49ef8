//! A Kinesis in this process, or the one that `PODIUM_TEST_AWS_ENDPOINT` names.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use aws_sdk_kinesis::Client;
use ferrokinesis::store::StoreOptions;
use ingest::aws::Aws;
use ingest::log::kinesis::admin::{self, Mode};
use ingest::log::kinesis::{Kinesis, Options};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tower::{Layer, Service};

use super::options;
use crate::faults::Faults;

/// A connection to it, with streams of its own.
pub(crate) struct Double {
    aws: Aws,
    prefix: String,
    pub(crate) faults: Faults,
    server: Option<tokio::task::AbortHandle>,
}

impl Drop for Double {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// What a double does unless a test says otherwise: changes happen at once.
pub(crate) fn at_once() -> StoreOptions {
    StoreOptions {
        create_stream_ms: 0,
        delete_stream_ms: 0,
        update_stream_ms: 0,
        shard_limit: 1_000,
        ..StoreOptions::default()
    }
}

impl Double {
    /// Returns one without streams.
    pub(crate) async fn start(store: StoreOptions) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (endpoint, server) = match std::env::var("PODIUM_TEST_AWS_ENDPOINT") {
            Ok(endpoint) => (endpoint, None),
            Err(_) => serve(store).await,
        };
        let faults = Faults::new(0);
        let aws = Aws::at(&endpoint, faults.client()).await;
        let prefix = format!("it-{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { aws, prefix, faults, server }
    }

    /// Returns a connection to another service of this kind.
    pub(crate) async fn at(endpoint: String) -> Self {
        let faults = Faults::new(0);
        let aws = Aws::at(&endpoint, faults.client()).await;
        Self { aws, prefix: "it-".into(), faults, server: None }
    }

    pub(crate) async fn with_streams(partitions: u16, shards: u32) -> Self {
        let double = Self::start(at_once()).await;
        double.create(partitions, shards).await;
        double
    }

    pub(crate) async fn create(&self, partitions: u16, shards: u32) {
        let mode = Mode::Provisioned { shards };
        admin::create(&self.aws, &self.prefix, partitions, mode, None, &[]).await.unwrap();
    }

    pub(crate) async fn open(&self) -> Kinesis {
        self.open_with(options(&self.prefix)).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Kinesis {
        Kinesis::open(&self.aws, options).await.unwrap()
    }

    pub(crate) fn aws(&self) -> &Aws {
        &self.aws
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns a client of the SDK itself.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.aws.sdk())
    }
}

async fn serve(store: StoreOptions) -> (String, Option<tokio::task::AbortHandle>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (app, _) = ferrokinesis::create_app(store);
    let app = app.layer(OneByOne::default());
    let server = tokio::spawn(ferrokinesis::serve_plain_http(listener, app, std::future::pending()));
    (endpoint, Some(server.abort_handle()))
}

/// One call at a time. The double numbers records before it stores them: two writers at once, and a reader between them
/// sees the higher number first and never the lower. Kinesis itself does not do that.
#[derive(Debug, Clone, Default)]
pub(crate) struct OneByOne(Arc<Mutex<()>>);

impl<S> Layer<S> for OneByOne {
    type Service = Alone<S>;

    fn layer(&self, inner: S) -> Alone<S> {
        Alone { inner, turn: self.0.clone() }
    }
}

/// A service that is called once at a time.
#[derive(Debug, Clone)]
pub(crate) struct Alone<S> {
    inner: S,
    turn: Arc<Mutex<()>>,
}

impl<S, R> Service<R> for Alone<S>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let turn = self.turn.clone();
        // The one that is ready goes, a copy stays.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        Box::pin(async move {
            let _turn = turn.lock().await;
            inner.call(request).await
        })
    }
}
