//! Faults between the AWS SDK and the service: refusals, lost requests and answers, entries left out, delays; one after
//! the other as told, or by chance from a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: it goes through.
    None,
    /// The service refuses it with this code; nothing is done.
    Refuse(u16, &'static str),
    /// The service carries it out and refuses it with this code, as if somebody had done it a moment before.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    RefuseDone(u16, &'static str),
    /// The connection breaks before the service hears of it.
    LoseRequest,
    /// The service carries it out, and the connection breaks before the answer.
    LoseAnswer,
    /// It arrives this much later.
    Delay(Duration),
    /// A PutRecords call of which every entry whose number has this bit clear is refused, and the others are written.
    LeaveOut(u8),
    /// A GetRecords call that finds nothing, this many milliseconds behind the end of the shard.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    Nothing(u64),
}

/// How often each fault happens, in thousandths of the calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chances {
    pub(crate) throttle: u64,
    pub(crate) fail: u64,
    pub(crate) lose_request: u64,
    pub(crate) lose_answer: u64,
    pub(crate) delay: u64,
    pub(crate) leave_out: u64,
    /// The longest delay.
    pub(crate) delay_max: Duration,
}

/// The layer; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    random: u64,
    /// By operation, `*` for those not named.
    chances: BTreeMap<String, Chances>,
    script: BTreeMap<String, VecDeque<Fault>>,
    calls: BTreeMap<String, usize>,
    happened: BTreeMap<&'static str, usize>,
}

impl Faults {
    /// Returns a layer that lets everything through until told otherwise.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { random: seed, ..State::default() })))
    }

    /// Returns a client over plain HTTP that goes through this layer.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn client(&self) -> SharedHttpClient {
        self.over(Builder::new().build_http())
    }

    /// Returns a client over another one that goes through this layer.
    pub(crate) fn over(&self, plain: SharedHttpClient) -> SharedHttpClient {
        let faults = self.clone();
        http_client_fn(move |settings, components| {
            let inner = plain.http_connector(settings, components);
            SharedHttpConnector::new(Layer { inner, faults: faults.clone() })
        })
    }

    /// Sets how often faults happen to an operation (`PutRecords`, or `*` for those not named).
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn chances(&self, operation: &str, chances: Chances) {
        self.state().chances.insert(operation.to_owned(), chances);
    }

    /// Begins the chances anew.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn seed(&self, seed: u64) {
        self.state().random = seed;
    }

    /// Says what happens to the next calls of an operation.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn next(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.entry(operation.to_owned()).or_default().extend(faults);
    }

    /// Lets everything through from now on.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.chances.clear();
        state.script.clear();
    }

    /// Returns how many tries of an operation there were.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.state().calls.get(operation).copied().unwrap_or_default()
    }

    /// Returns how many faults of each kind there were.
    #[allow(dead_code, reason = "not every crate that includes this file uses all of it")]
    pub(crate) fn happened(&self) -> BTreeMap<&'static str, usize> {
        self.state().happened.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn draw(&self, operation: &str) -> Fault {
        let mut state = self.state();
        *state.calls.entry(operation.to_owned()).or_default() += 1;
        let fault = match state.script.get_mut(operation).and_then(VecDeque::pop_front) {
            Some(fault) => fault,
            None => {
                let chances = state.chances.get(operation).or_else(|| state.chances.get("*")).copied();
                chances.map_or(Fault::None, |chances| state.by_chance(operation, chances))
            }
        };
        let kind = match fault {
            Fault::None => return fault,
            Fault::Refuse(..) | Fault::RefuseDone(..) => "refuse",
            Fault::LoseRequest => "lose request",
            Fault::LoseAnswer => "lose answer",
            Fault::Delay(_) => "delay",
            Fault::LeaveOut(_) => "leave out",
            Fault::Nothing(_) => "nothing",
        };
        *state.happened.entry(kind).or_default() += 1;
        fault
    }
}

impl State {
    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn by_chance(&mut self, operation: &str, chances: Chances) -> Fault {
        let mut draw = self.random() % 1_000;
        let more = self.random();
        let mut falls = |chance: u64| {
            let is_it = draw < chance;
            draw = draw.wrapping_sub(chance);
            is_it
        };
        if falls(chances.throttle) {
            Fault::Refuse(400, "ProvisionedThroughputExceededException")
        } else if falls(chances.fail) {
            Fault::Refuse(500, "InternalFailure")
        } else if falls(chances.lose_request) {
            Fault::LoseRequest
        } else if falls(chances.lose_answer) {
            Fault::LoseAnswer
        } else if falls(chances.delay) {
            Fault::Delay(Duration::from_micros(more % (chances.delay_max.as_micros() as u64).max(1)))
        } else if falls(chances.leave_out) && operation == "PutRecords" {
            Fault::LeaveOut((more % 3) as u8)
        } else {
            Fault::None
        }
    }
}

/// What a refusal says: as of a wrong signature, on several lines.
const MESSAGE: &str =
    "a fault of the test\n\nThe Canonical String for this request should have been\n'POST\n/\n'";

#[derive(Debug)]
struct Layer {
    inner: SharedHttpConnector,
    faults: Faults,
}

impl HttpConnector for Layer {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let (inner, fault) = (self.inner.clone(), self.faults.draw(&operation));
        HttpConnectorFuture::new(async move {
            match fault {
                Fault::None => inner.call(request).await,
                Fault::Refuse(status, code) => {
                    Ok(answer(status, &json!({"__type": code, "message": MESSAGE})))
                }
                Fault::RefuseDone(status, code) => {
                    let done = inner.call(request).await?;
                    drop(done);
                    Ok(answer(status, &json!({"__type": code, "message": MESSAGE})))
                }
                Fault::LoseRequest => Err(broken()),
                Fault::LoseAnswer => {
                    let answer = inner.call(request).await?;
                    drop(answer);
                    Err(broken())
                }
                Fault::Delay(by) => {
                    tokio::time::sleep(by).await;
                    inner.call(request).await
                }
                Fault::LeaveOut(bit) => leave_out(&inner, request, bit).await,
                Fault::Nothing(behind_ms) => {
                    let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
                    let next = &body["ShardIterator"];
                    let found =
                        json!({"Records": [], "NextShardIterator": next, "MillisBehindLatest": behind_ms});
                    Ok(answer(200, &found))
                }
            }
        })
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io("a fault of the test: the connection broke".into())
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()));
    answer.headers_mut().insert("content-type", "application/x-amz-json-1.1");
    answer
}

/// Passes on every entry of a PutRecords call whose number has the bit set, and answers for all.
async fn leave_out(
    inner: &SharedHttpConnector,
    mut request: HttpRequest,
    bit: u8,
) -> Result<HttpResponse, ConnectorError> {
    let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
    let records = body["Records"].as_array().unwrap().clone();
    let is_passed = |index: usize| (index >> bit) & 1 == 1;
    let passed: Vec<Value> =
        records.iter().enumerate().filter(|(n, _)| is_passed(*n)).map(|(_, record)| record.clone()).collect();
    let failure =
        json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "a fault of the test"});
    let failed = records.len() - passed.len();
    let mut written = VecDeque::new();
    if !passed.is_empty() {
        body["Records"] = Value::Array(passed);
        let text = body.to_string();
        request.headers_mut().insert("content-length", text.len().to_string());
        *request.body_mut() = SdkBody::from(text);
        let mut found = inner.call(request).await?;
        let bytes = whole(found.body_mut()).await?;
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        let Some(entries) = said["Records"].as_array() else {
            return Ok(answer(found.status().as_u16(), &said));
        };
        written.extend(entries.iter().cloned());
    }
    let entries: Vec<Value> = (0..records.len())
        .map(|n| if is_passed(n) { written.pop_front().unwrap() } else { failure.clone() })
        .collect();
    Ok(answer(200, &json!({"FailedRecordCount": failed, "Records": entries})))
}

async fn whole(body: &mut SdkBody) -> Result<Vec<u8>, ConnectorError> {
    let body = std::mem::replace(body, SdkBody::empty());
    let bytes = aws_smithy_types::byte_stream::ByteStream::new(body).collect().await;
    bytes.map(|bytes| bytes.to_vec()).map_err(|error| ConnectorError::io(error.into()))
}
