//! The REST contract under `/v1`: routes, the one middleware, and the document that describes both.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use operators::id::UnixMillis;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::{Caller, Role, Verifier};
use crate::error::{Code, Error, Result};
use crate::limit::{Allowance, Lane, Limited};
use crate::page;
use crate::server::Peer;

mod answers;
mod boards;
mod call;
mod commands;
mod document;
mod feed;
mod ops;
mod participants;
mod quizzes;
mod receipts;
mod write;

/// Returns the gateway's router: the API, the operations endpoints and the page.
pub fn router(app: Arc<App>) -> Router {
    describe();
    let (api, document) = routes().split_for_parts();
    let document = document.to_json().expect("the document is always JSON").into();
    api.merge(ops::document(document))
        .merge(page::routes())
        .fallback(async || Error::from(Code::NotFound))
        .method_not_allowed_fallback(async || Error::from(Code::MethodNotAllowed))
        .layer(from_fn_with_state(app.clone(), front))
        .with_state(app)
}

/// Returns the OpenAPI document.
pub fn document() -> OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<Arc<App>> {
    let mut router = OpenApiRouter::with_openapi(document::base())
        .routes(routes!(quizzes::list))
        .routes(routes!(quizzes::show, quizzes::publish))
        .routes(routes!(commands::command))
        .routes(routes!(participants::join))
        .routes(routes!(participants::result))
        .routes(routes!(answers::answer))
        .routes(routes!(receipts::receipt))
        .routes(routes!(boards::leaderboard))
        .routes(routes!(boards::books))
        .routes(routes!(feed::live))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::metrics));
    document::complete(router.get_openapi_mut());
    router
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("podium_gateway_requests_total", "Requests by route, method and status");
    describe_histogram!(
        "podium_gateway_request_seconds",
        Unit::Seconds,
        "Time to a response's head, by route"
    );
    describe_counter!(
        "podium_gateway_answers_total",
        "Answers by outcome: accepted, replayed or the refusal's code"
    );
    describe_counter!("podium_gateway_shed_total", "Requests and connections turned away, by reason");
    describe_gauge!("podium_gateway_connections", "Open connections");
    describe_gauge!("podium_live_watchers", "Watchers of live feeds");
    describe_gauge!("podium_live_hubs", "Quizzes that somebody watches");
    describe_counter!("podium_live_frames_total", "Frames made for live feeds, by event");
}

/// What every request passes: Host, token, rates, time; a panic becomes 500; then headers and metrics.
async fn front(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = method_name(request.method());
    let is_api = request.uri().path().starts_with("/v1/");
    let mut allowance = None;
    let mut response = match enter(&app, &mut request, is_api, &mut allowance) {
        Ok(()) if is_api => limited(&app, lane(&request), next.run(request)).await,
        Ok(()) => guarded(next.run(request), app.settings.request_within).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(allowance) = allowance {
        allowance.write(headers);
    }
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    measure(route, method, response.status(), started.elapsed());
    response
}

fn enter(app: &App, request: &mut Request, is_api: bool, allowance: &mut Option<Allowance>) -> Result<()> {
    check_host(request)?;
    if !is_api {
        return Ok(());
    }
    let caller = caller(app, request.headers(), app.clock.now());
    let taken = match (&caller, request.extensions().get::<Peer>()) {
        (Ok(Some(caller)), _) => app.limits.subject(caller).map(Some),
        // No token, or a bad one: guessing tokens is limited too.
        (Ok(None) | Err(_), Some(peer)) => app.limits.address(peer.address().ip()),
        (Ok(None) | Err(_), None) => Ok(None),
    };
    match taken {
        Ok(left) => *allowance = left,
        Err(Limited { retry_after, allowance: left }) => {
            *allowance = Some(left);
            shed("rate");
            return Err(Error::from(Code::RateLimited).retry_after(retry_after));
        }
    }
    if let Some(caller) = caller? {
        request.extensions_mut().insert(caller);
    }
    Ok(())
}

/// RFC 9112, 3.2: an HTTP/1.1 request has exactly one Host header.
fn check_host(request: &Request) -> Result<()> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 || hosts > 1 {
        return Err(Code::MissingHost.into());
    }
    Ok(())
}

/// Returns the bearer of the request's token, `None` without a token. Tokens are never taken from the URL.
fn caller(app: &App, headers: &HeaderMap, now: UnixMillis) -> Result<Option<Caller>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = || Error::new(Code::TokenInvalid, "Authorization must be one Bearer token");
    if values.next().is_some() {
        return Err(invalid());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid());
    }
    Ok(Some(app.issuer.verify(token.trim(), now)?))
}

fn lane(request: &Request) -> Lane {
    let is_host = request.extensions().get::<Caller>().is_some_and(|caller| caller.role == Role::Host);
    match *request.method() {
        _ if is_host => Lane::Host,
        Method::GET | Method::HEAD => Lane::Read,
        _ => Lane::Body,
    }
}

async fn limited(app: &App, lane: Lane, response: impl Future<Output = Response>) -> Response {
    let Some(_in_flight) = app.limits.enter(lane) else {
        shed("in_flight");
        return Error::from(Code::Overloaded).retry_after(Duration::from_secs(1)).into_response();
    };
    guarded(response, app.settings.request_within).await
}

/// Turns a panic into 500 and too long a time into 503.
async fn guarded(response: impl Future<Output = Response>, within: Duration) -> Response {
    match tokio::time::timeout(within, AssertUnwindSafe(response).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            Error::from(Code::Internal).into_response()
        }
        Err(_) => Error::from(Code::Timeout).retry_after(Duration::from_secs(1)).into_response(),
    }
}

fn shed(reason: &'static str) {
    metrics::counter!("podium_gateway_shed_total", "reason" => reason).increment(1);
}

fn measure(route: &str, method: &'static str, status: StatusCode, time: Duration) {
    // The recorder wants owned labels; a path template is short, and copying it is cheaper than a table of our own.
    let path = route.to_owned();
    metrics::histogram!("podium_gateway_request_seconds", "route" => path.clone()).record(time);
    let status = status.as_str().to_owned();
    metrics::counter!("podium_gateway_requests_total", "route" => path, "method" => method, "status" => status)
        .increment(1);
}

/// Returns the method as a label: callers may send any word, labels must be few.
fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}
