//! The doubles of Kinesis and DynamoDB as hosts of their own, and how the AWS SDK reaches them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use dynoxide::{Database, DynoxideError};
use ferrokinesis::store::StoreOptions;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use ingest::aws::Aws;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::doubles::{Answer, Arrivals, boxed, mend, refused};
use crate::faults::Faults;
use crate::net::{self, Http};
use crate::shelf;
use crate::world::Trace;

/// The host of Kinesis.
pub(crate) const KINESIS: &str = "kinesis";
/// The host of DynamoDB.
pub(crate) const DYNAMODB: &str = "dynamodb";

/// Serves Kinesis. What it holds ends with the host, which nothing crashes.
pub(crate) async fn kinesis(trace: Trace) -> turmoil::Result {
    let options = StoreOptions {
        create_stream_ms: 50,
        delete_stream_ms: 50,
        update_stream_ms: 50,
        shard_limit: 1_000,
        ..StoreOptions::default()
    };
    let (app, store) = ferrokinesis::create_app(options);
    let app = TowerToHyperService::new(app);
    let arrivals = Arc::new(Mutex::new(Arrivals::default()));
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, store, arrivals, trace) = (app.clone(), store.clone(), arrivals.clone(), trace.clone());
        async move {
            let operation = operation(request.headers());
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else {
                return Ok(refused(StatusCode::BAD_REQUEST, "the connection broke"));
            };
            let body = body.to_bytes();
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let answer = match operation.as_str() {
                "GetShardIterator" => said(&shelf::iterator(&asked)),
                "GetRecords" => said(&shelf::records(&store, &asked).await),
                _ => {
                    let Ok(answer) = app.call(Request::from_parts(head, Full::new(body))).await;
                    boxed(answer)
                }
            };
            let tells_times = matches!(operation.as_str(), "GetRecords" | "PutRecords");
            let answer = if tells_times && answer.status().is_success() {
                mend(&asked, answer, &arrivals).await.unwrap()
            } else {
                answer
            };
            Ok::<_, Infallible>(noted(&trace, &operation, answer).await)
        }
    });
    Ok(net::serve(service).await?)
}

/// Serves DynamoDB. What it holds ends with the host, which nothing crashes.
pub(crate) async fn dynamodb(trace: Trace) -> turmoil::Result {
    let database = Database::memory()?;
    let service = service_fn(move |request: Request<Incoming>| {
        let (database, trace) = (database.clone(), trace.clone());
        async move {
            let operation = operation(request.headers());
            let answer = match request.into_body().collect().await {
                Ok(body) => table_call(&database, &operation, &body.to_bytes()),
                Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
            };
            Ok::<_, Infallible>(noted(&trace, &operation, answer).await)
        }
    });
    Ok(net::serve(service).await?)
}

fn said(answer: &Value) -> Answer {
    let head = Response::builder().header("content-type", "application/x-amz-json-1.1");
    boxed(head.body(Full::new(Bytes::from(answer.to_string()))).unwrap())
}

fn operation(headers: &hyper::HeaderMap) -> String {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    target.rsplit('.').next().unwrap_or_default().to_owned()
}

/// Writes down what was answered, and returns it.
async fn noted(trace: &Trace, operation: &str, answer: Answer) -> Answer {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    trace.note(operation, head.status, &body);
    boxed(Response::from_parts(head, Full::new(body)))
}

/// Carries out one call. The double's own server needs a socket, so this is the part of it that Podium uses.
fn table_call(database: &Database, operation: &str, body: &[u8]) -> Answer {
    let answer = match operation {
        "CreateTable" => answer(body, |request| database.create_table(request)),
        "DescribeTable" => answer(body, |request| database.describe_table(request)),
        "DescribeTimeToLive" => answer(body, |request| database.describe_time_to_live(request)),
        "UpdateTimeToLive" => answer(body, |request| database.update_time_to_live(request)),
        "GetItem" => answer(body, |request| database.get_item(request)),
        "PutItem" => answer(body, |request| database.put_item(request)),
        "UpdateItem" => answer(body, |request| database.update_item(request)),
        "DeleteItem" => answer(body, |request| database.delete_item(request)),
        "Query" => answer(body, |request| database.query(request)),
        other => panic!("{other} is not one of the calls that Podium makes"),
    };
    let (status, text) = match answer {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::from_u16(error.status_code()).unwrap(), error.to_json()),
    };
    let answer = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    boxed(answer.body(Full::new(Bytes::from(text))).unwrap())
}

fn answer<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    call: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}"));
    Ok(serde_json::to_string(&call(request)?).unwrap())
}

/// Returns a connection to both, through the faults.
pub(crate) async fn aws(faults: &Faults) -> Aws {
    let http = net::http();
    let plain: SharedHttpClient =
        http_client_fn(move |_, _| SharedHttpConnector::new(Line { http: http.clone() }));
    Aws::at("http://aws.test", faults.over(plain)).await
}

/// The way of one call: to whichever host has the service.
#[derive(Debug)]
struct Line {
    http: Http,
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.http.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let host = if target.starts_with("Kinesis") { KINESIS } else { DYNAMODB };
            let mut passed = Request::builder().method(request.method()).uri(format!("http://{host}/"));
            for (name, value) in request.headers() {
                passed = passed.header(name, value);
            }
            let body = request.body().bytes().map(Bytes::copy_from_slice).unwrap_or_default();
            let passed = passed.body(Full::new(body)).unwrap();
            let broken = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::io(error);
            let answer = http.request(passed).await.map_err(|error| broken(error.into()))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| broken(error.into()))?.to_bytes();
            let mut answer = HttpResponse::new(head.status.as_u16().try_into().unwrap(), SdkBody::from(body));
            for (name, value) in &head.headers {
                answer.headers_mut().append(name.as_str().to_owned(), value.to_str().unwrap().to_owned());
            }
            Ok(answer)
        })
    }
}
