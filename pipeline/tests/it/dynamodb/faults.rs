//! Faults on the way to the table, by the number of the call: refused, not answered, cut off for good.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// It takes a moment, in which others overtake it.
    Delayed,
    /// It takes so long that others do all that they have to do.
    Held,
    /// The table says that it is too busy, and does nothing.
    Throttled,
    /// It never arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unanswered,
    /// Its caller gives it up, and it arrives some calls later all the same.
    Late,
}

/// Longer than a call takes.
const MOMENT: Duration = Duration::from_millis(3);
/// Longer than a whole commit takes.
const LONG: Duration = Duration::from_millis(150);

/// Decides by the number of the call, from 0, and the operation.
pub(super) type Plan = Arc<dyn Fn(u64, &str) -> Fault + Send + Sync>;

/// Returns a client whose calls go as planned.
pub(super) fn client(plan: Plan) -> SharedHttpClient {
    let inner = Builder::new().build_http();
    let calls = Arc::new(AtomicU64::new(0));
    let late = Late::default();
    http_client_fn(move |settings, components| {
        let inner = inner.http_connector(settings, components);
        let (plan, calls, late) = (plan.clone(), calls.clone(), late.clone());
        SharedHttpConnector::new(Faulty { inner, plan, calls, late })
    })
}

/// Calls on their way, with the number of the call that they arrive ahead of.
type Late = Arc<Mutex<Vec<(u64, HttpRequest)>>>;

/// Returns by how many calls a late one is overtaken.
fn lateness(number: u64) -> u64 {
    1 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 40
}

struct Faulty {
    inner: SharedHttpConnector,
    plan: Plan,
    calls: Arc<AtomicU64>,
    late: Late,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

fn gone() -> ConnectorError {
    ConnectorError::io("cut off".into())
}

fn throttled() -> HttpResponse {
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;
    HttpResponse::new(StatusCode::try_from(400).unwrap(), SdkBody::from(body))
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = (self.plan)(number, &operation);
        let inner = self.inner.clone();
        let arrived: Vec<_> = self.late.lock().unwrap().extract_if(.., |(due, _)| *due <= number).collect();
        if fault == Fault::Late {
            let request = request.try_clone().expect("a body in memory");
            self.late.lock().unwrap().push((number + lateness(number), request));
        }
        HttpConnectorFuture::new(async move {
            for (_, request) in arrived {
                // Nobody waits for its answer any more.
                let _ = inner.call(request).await;
            }
            match fault {
                Fault::None => inner.call(request).await,
                Fault::Delayed => {
                    tokio::time::sleep(MOMENT).await;
                    inner.call(request).await
                }
                Fault::Held => {
                    tokio::time::sleep(LONG).await;
                    inner.call(request).await
                }
                Fault::Throttled => Ok(throttled()),
                Fault::Lost | Fault::Late => Err(gone()),
                Fault::Unanswered => {
                    inner.call(request).await?;
                    Err(gone())
                }
            }
        })
    }
}
