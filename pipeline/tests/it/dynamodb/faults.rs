//! Faults on the way to the table, by the number of the call: refused, not answered, cut off for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The table says that it is too busy, and does nothing.
    Throttled,
    /// It never arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unanswered,
}

/// Decides by the number of the call, from 0, and the operation.
pub(super) type Plan = Arc<dyn Fn(u64, &str) -> Fault + Send + Sync>;

/// Returns a client whose calls go as planned.
pub(super) fn client(plan: Plan) -> SharedHttpClient {
    let inner = Builder::new().build_http();
    let calls = Arc::new(AtomicU64::new(0));
    http_client_fn(move |settings, components| {
        let inner = inner.http_connector(settings, components);
        SharedHttpConnector::new(Faulty { inner, plan: plan.clone(), calls: calls.clone() })
    })
}

struct Faulty {
    inner: SharedHttpConnector,
    plan: Plan,
    calls: Arc<AtomicU64>,
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
        let fault = (self.plan)(self.calls.fetch_add(1, Ordering::SeqCst), &operation);
        let inner = self.inner.clone();
        HttpConnectorFuture::new(async move {
            match fault {
                Fault::None => inner.call(request).await,
                Fault::Delayed => {
                    for _ in 0..200 {
                        tokio::task::yield_now().await;
                    }
                    inner.call(request).await
                }
                Fault::Throttled => Ok(throttled()),
                Fault::Lost => Err(gone()),
                Fault::Unanswered => {
                    inner.call(request).await?;
                    Err(gone())
                }
            }
        })
    }
}
