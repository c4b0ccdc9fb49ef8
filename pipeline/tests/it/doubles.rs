//! Kinesis and DynamoDB in this process, at one address: for tests, and for trying a cluster without AWS.
//!
//! Both keep everything in memory, so what they hold ends with them. A small front tells the two apart by the service
//! that a call names, so that one `AWS_ENDPOINT_URL` is enough. It also mends one thing: the double of Kinesis tells the
//! arrival of a record in whole seconds, where Kinesis tells milliseconds, and answers are scored by it. And calls of it
//! go one by one: it numbers records before it keeps them, so that a reader could pass by one that comes a moment later.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dynoxide::Database;
use ferrokinesis::store::StoreOptions;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Shards of all streams together: many times what any test or trial has.
const SHARDS_MAX: u32 = 1_000;
/// How long a stream is being made or changed: long enough for callers to see it, short enough not to slow them.
const CHANGE_MS: u64 = 50;

/// The two doubles; they end when this is dropped.
pub(crate) struct Doubles {
    address: SocketAddr,
    trouble: Arc<Trouble>,
    _tasks: JoinSet<()>,
}

/// Calls that go wrong, of a thousand of each kind of mishap.
#[derive(Default)]
pub(crate) struct Trouble {
    per_mille: AtomicU64,
    /// Calls so far, from which it is drawn what becomes of the next.
    calls: AtomicU64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    None,
    /// Too many at once: nothing was done.
    Throttled,
    /// It is done, and the connection breaks before the answer.
    Unanswered,
    /// Others overtake it.
    Slow,
}

impl Trouble {
    fn next(&self) -> Mishap {
        let rate = self.per_mille.load(Ordering::Relaxed);
        let mixed = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match (mixed >> 32) % 1_000 {
            n if n < rate => Mishap::Throttled,
            n if n < 2 * rate => Mishap::Unanswered,
            n if n < 3 * rate => Mishap::Slow,
            _ => Mishap::None,
        }
    }
}

/// How long a slow call takes: longer than many others together.
const SLOW: Duration = Duration::from_millis(300);

/// What either double answers.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>;

impl Doubles {
    /// Starts both; port 0 takes any that is free.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) async fn start(listen: SocketAddr) -> io::Result<Self> {
        let options = StoreOptions {
            create_stream_ms: CHANGE_MS,
            delete_stream_ms: CHANGE_MS,
            update_stream_ms: CHANGE_MS,
            shard_limit: SHARDS_MAX,
            ..StoreOptions::default()
        };
        let (kinesis, _) = ferrokinesis::create_app(options);
        let database = Database::memory().map_err(io::Error::other)?;
        // This one cannot be called but over a connection of its own.
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let dynamodb =
            DynamoDb { client: Client::builder(TokioExecutor::new()).build_http(), at: inner.local_addr()? };
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(dynoxide::server::serve_on(inner, database));
        let front = Front {
            kinesis: TowerToHyperService::new(kinesis),
            dynamodb,
            arrivals: Arc::default(),
            turn: Arc::default(),
            trouble: Arc::default(),
        };
        let trouble = front.trouble.clone();
        tasks.spawn(serve(listener, front));
        Ok(Self { address, trouble, _tasks: tasks })
    }

    /// Has so many calls of a thousand throttled from here on, as many not answered, and as many slow.
    pub(crate) fn disturb(&self, per_mille: u64) {
        self.trouble.per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Returns what `AWS_ENDPOINT_URL` is set to.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Where the DynamoDB double is, and who goes there.
#[derive(Clone)]
struct DynamoDb {
    client: Client<HttpConnector, Incoming>,
    at: SocketAddr,
}

impl DynamoDb {
    async fn call(&self, mut request: Request<Incoming>) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() =
            Uri::builder().scheme("http").authority(self.at.to_string()).path_and_query(path).build()?;
        Ok(boxed(self.client.request(request).await?))
    }
}

/// When records arrived, by sequence number and content: the newest of them. Streams that were made in the same second
/// give the same numbers.
#[derive(Default)]
pub(crate) struct Arrivals {
    ms: HashMap<Key, u64>,
    order: VecDeque<Key>,
}

/// A sequence number, and a hash of the record's content.
type Key = (String, u64);

/// Arrivals that are remembered; a reader that is further behind gets whole seconds.
const ARRIVALS_MAX: usize = 200_000;

impl Arrivals {
    /// Returns when a record arrived: now, if nobody has seen it yet.
    fn of(&mut self, key: Key) -> u64 {
        if let Some(ms) = self.ms.get(&key) {
            return *ms;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.ms.insert(key.clone(), ms);
        self.order.push_back(key);
        if self.order.len() > ARRIVALS_MAX {
            self.order.pop_front().and_then(|oldest| self.ms.remove(&oldest));
        }
        ms
    }

    /// Notes the arrivals that an answer of PutRecords tells, or corrects those in one of GetRecords.
    fn mend(&mut self, asked: &Value, answer: &mut Value) {
        for (index, record) in answer["Records"].as_array_mut().into_iter().flatten().enumerate() {
            let Some(sequence) = record["SequenceNumber"].as_str() else { continue };
            let data = record["Data"].as_str().or_else(|| asked["Records"][index]["Data"].as_str());
            let mut hasher = DefaultHasher::new();
            data.unwrap_or_default().hash(&mut hasher);
            let key = (sequence.to_owned(), hasher.finish());
            let told = record["ApproximateArrivalTimestamp"].as_f64();
            let ms = self.of(key);
            // What was forgotten keeps its whole second.
            if told.is_some_and(|told| ms as f64 / 1_000.0 - told < 2.0) {
                record["ApproximateArrivalTimestamp"] = Value::from(ms as f64 / 1_000.0);
            }
        }
    }
}

/// Both doubles behind one address.
#[derive(Clone)]
struct Front<K> {
    kinesis: K,
    dynamodb: DynamoDb,
    arrivals: Arc<Mutex<Arrivals>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    trouble: Arc<Trouble>,
}

/// Answers every connection until it is dropped.
async fn serve<K, B>(listener: TcpListener, front: Front<K>)
where
    K: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    K::Future: Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that failed before it was taken is none.
                let Ok((stream, _)) = accepted else { continue };
                stream.set_nodelay(true).ok();
                let front = front.clone();
                let service = service_fn(move |request| {
                    let front = front.clone();
                    async move { disturbed(request, &front).await }
                });
                connections.spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    // How a client ends its connection is its own business.
                    server.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Answers a call, or does with it what trouble there is.
///
/// # Errors
/// The connection is to break.
async fn disturbed<K, B>(request: Request<Incoming>, front: &Front<K>) -> io::Result<Answer>
where
    K: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    // Asked again for the same merge, this double makes a second shard of the two, which Kinesis refuses.
    let reshards =
        target.is_some_and(|target| target.ends_with(".SplitShard") || target.ends_with(".MergeShards"));
    match front.trouble.next() {
        Mishap::Unanswered if reshards => Ok(route(request, front).await),
        Mishap::None => Ok(route(request, front).await),
        Mishap::Throttled => {
            let body = r#"{"__type":"ProvisionedThroughputExceededException","message":"slow down"}"#;
            let mut answer = Response::new(Full::new(Bytes::from(body)));
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            Ok(boxed(answer))
        }
        Mishap::Unanswered => {
            route(request, front).await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Mishap::Slow => {
            tokio::time::sleep(SLOW).await;
            Ok(route(request, front).await)
        }
    }
}

async fn route<K, B>(request: Request<Incoming>, front: &Front<K>) -> Answer
where
    K: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let target =
        request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    if let Some(operation) = target.strip_prefix("Kinesis_20131202.") {
        let tells_times = matches!(operation, "PutRecords" | "GetRecords");
        let (head, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let turn = front.turn.lock().await;
        let Ok(answer) = front.kinesis.call(Request::from_parts(head, Full::new(body.clone()))).await;
        drop(turn);
        if tells_times && answer.status().is_success() {
            let asked = serde_json::from_slice(&body).unwrap_or_default();
            let mended = mend(&asked, answer, &front.arrivals).await;
            return mended.unwrap_or_else(|error| refused(StatusCode::BAD_GATEWAY, &error.to_string()));
        }
        return boxed(answer);
    }
    if target.starts_with("DynamoDB_20120810.") {
        let answer = front.dynamodb.call(request).await;
        return answer.unwrap_or_else(|error| refused(StatusCode::BAD_GATEWAY, &error.to_string()));
    }
    refused(StatusCode::NOT_FOUND, "there is a double of Kinesis and one of DynamoDB here, and nothing else")
}

/// Returns an answer of the double with arrivals in milliseconds.
pub(crate) async fn mend<B>(
    asked: &Value,
    answer: Response<B>,
    arrivals: &Mutex<Arrivals>,
) -> Result<Answer, Box<dyn Error + Send + Sync>>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (mut head, body) = answer.into_parts();
    let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
    // Only JSON; the other encoding that Kinesis speaks is not used by its SDK.
    let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) else {
        return Ok(boxed(Response::from_parts(head, Full::new(bytes))));
    };
    arrivals.lock().unwrap_or_else(PoisonError::into_inner).mend(asked, &mut json);
    // Both tell of the bytes as they were.
    head.headers.remove("content-length");
    head.headers.remove("x-amz-crc32");
    Ok(boxed(Response::from_parts(head, Full::new(Bytes::from(serde_json::to_vec(&json)?)))))
}

pub(crate) fn boxed<B>(answer: Response<B>) -> Answer
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

pub(crate) fn refused(status: StatusCode, words: &str) -> Answer {
    let mut answer = boxed(Response::new(Full::new(Bytes::from(format!("{words}\n")))));
    *answer.status_mut() = status;
    answer
}
