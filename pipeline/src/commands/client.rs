//! A small HTTP client for the commands that talk to a running gateway.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use gateway::auth::{Issuer, Role};
use gateway::{Clock, SystemClock};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::config::DATA_DEFAULT;

/// Where the gateway is and who asks.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The gateway
    #[arg(long, env = "PODIUM_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// A host's token; by default one is made with the key in --data
    #[arg(long, env = "PODIUM_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Directory of the running Podium, for its issuer's key
    #[arg(long, env = "PODIUM_DATA", default_value = DATA_DEFAULT, value_name = "DIR")]
    data: PathBuf,
}

/// A gateway to talk to.
pub struct Client {
    base: String,
    token: String,
    http: Http<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

/// Bytes of an answer at most; the largest is a page of quizzes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longer than any request may take at the gateway.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A token made for one command.
const TOKEN_TTL: Duration = Duration::from_mins(5);

impl Client {
    /// Returns a client for the target.
    ///
    /// # Errors
    /// An address that is not `http://host:port`, or no token and no key to make one.
    pub fn new(target: &Target) -> anyhow::Result<Self> {
        let uri: Uri = target.url.parse().with_context(|| format!("--url {}", target.url))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            bail!("--url {}: must be http://HOST:PORT; for TLS put a proxy on this machine", target.url);
        }
        let token = match &target.token {
            Some(token) => token.clone(),
            None => own_token(&target.data)?,
        };
        let http = Http::builder(TokioExecutor::new()).build_http();
        Ok(Self { base: target.url.trim_end_matches('/').to_owned(), token, http })
    }

    /// Sends a request; returns the status and the JSON of a good answer.
    ///
    /// # Errors
    /// The gateway's own words for any other answer, or that it cannot be reached.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .context("request")?;
        let unreachable = || format!("cannot reach {}: is Podium up there?", self.base);
        let answer = tokio::time::timeout(TIMEOUT, self.http.request(request)).await;
        let answer = answer.with_context(unreachable)?.with_context(unreachable)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?.to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok((status, value));
        }
        bail!(problem(status, &value));
    }
}

/// Returns a problem document as lines for a person.
fn problem(status: StatusCode, value: &Value) -> String {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = format!("{status}: {} ({})", text("detail"), text("code"));
    for problem in value.get("problems").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
        lines.push_str(&format!("\n  {}: {}", part("pointer"), part("detail")));
    }
    if status == StatusCode::UNAUTHORIZED {
        lines.push_str("\n  is --data the directory of the Podium that runs there?");
    }
    lines
}

fn own_token(data: &std::path::Path) -> anyhow::Result<String> {
    if !data.is_dir() {
        bail!("{} does not exist: start Podium first, or name its directory with --data", data.display());
    }
    let issuer = Issuer::open(data).with_context(|| format!("issuer key in {}", data.display()))?;
    Ok(issuer.mint("podium-cli", Role::Host, None, TOKEN_TTL, SystemClock.now()))
}
