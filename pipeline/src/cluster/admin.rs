//! What a process of a cluster says of itself over HTTP: alive, ready, and its metrics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use gateway::app::Render;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Says what keeps a process from being ready, a line each.
pub type Problems = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Scrapers at once.
const CONNECTIONS_MAX: usize = 32;
/// Time for a request's head, and for a connection to lie idle.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Serves until told to stop; returns where.
///
/// # Errors
/// The address is taken.
pub async fn serve(
    address: SocketAddr,
    metrics: Render,
    problems: Problems,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: stop what uses it, or choose another with --admin-listen")
    })?;
    let address = listener.local_addr().context("the listener has no address")?;
    tokio::spawn(async move {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            let Ok((connection, _)) = accepted else {
                // No file descriptor is left, for now.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (metrics, problems) = (metrics.clone(), problems.clone());
            let answer = service_fn(move |request| {
                let answer = answer(&request, &metrics, &problems);
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            tokio::spawn(async move {
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
                // What a scraper does wrong is its own affair.
                let _ = http.serve_connection(TokioIo::new(connection), answer).await;
                drop(seat);
            });
        }
    });
    Ok(address)
}

fn answer(request: &Request<Incoming>, metrics: &Render, problems: &Problems) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") => match problems() {
            problems if problems.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
            problems => (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n"),
        },
        (&Method::GET, "/metrics") => (StatusCode::OK, metrics()),
        _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
