//! For operators: is it alive, is it ready, what does it count, and what can it do.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use crate::app::App;
use crate::error::{Code, Error, Result};

/// Alive: the process answers.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: started, not stopping, and the views can be trusted. Otherwise 503 says why.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200, body = String)))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str> {
    match app.ready.why_not() {
        None => Ok("ready\n"),
        Some(reason) => Err(Error::new(Code::NotReady, reason)),
    }
}

/// Metrics in the Prometheus text format, unless they have an address of their own.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response> {
    if !app.settings.serves_metrics {
        return Err(Code::NotFound.into());
    }
    Ok(typed((app.metrics)(), "text/plain; version=0.0.4; charset=utf-8"))
}

/// Returns the route of the OpenAPI document, which cannot describe itself.
pub(super) fn document(json: Bytes) -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(async move || typed(json.clone(), "application/json")))
}

fn typed(body: impl IntoResponse, kind: &'static str) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
