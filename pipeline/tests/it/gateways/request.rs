//! Asking a gateway, in process; each answer is held against the OpenAPI document.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::App;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::service::Service;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::house::{Door, Player};

pub(super) type Body = UnsyncBoxBody<Bytes, String>;
/// A gateway's router as a function.
pub(super) type Call = Arc<dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Returns the router of a gateway.
pub(super) fn call(app: Arc<App>) -> Call {
    let service = TowerToHyperService::new(gateway::router(app));
    Arc::new(move |request| {
        let answer = service.call(request);
        async move {
            let answer = answer.await.unwrap_or_else(|never| match never {});
            answer.map(|body| body.map_err(|error| error.to_string()).boxed_unsync())
        }
        .boxed()
    })
}

/// A request in the making.
pub(super) struct Ask {
    call: Call,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) json: Value,
    pub(super) text: String,
}

impl Door {
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Ask {
        let host = vec![("host", "podium.test".to_owned())];
        Ask { call: self.call.clone(), method, path: path.to_owned(), headers: host, body }
    }
    pub(super) fn get(&self, path: &str) -> Ask {
        self.ask(Method::GET, path, None)
    }
    pub(super) fn put(&self, path: &str, body: &Value) -> Ask {
        self.ask(Method::PUT, path, Some(body.clone()))
    }
    pub(super) fn post(&self, path: &str, body: &Value) -> Ask {
        self.ask(Method::POST, path, Some(body.clone()))
    }
    /// Hands in an answer.
    pub(super) fn answer(&self, quiz: &str, token: &str, answer: &Value) -> Ask {
        self.post(&format!("/v1/quizzes/{quiz}/answers"), answer).token(token)
    }
    /// Asks for a participant's own receipt.
    pub(super) fn receipt(&self, quiz: &str, player: &Player, submission: &str) -> Ask {
        self.get(&format!("/v1/quizzes/{quiz}/submissions/{submission}")).token(&player.token)
    }
}

impl Ask {
    pub(super) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends it; returns once the answer's head is there.
    pub(super) async fn open(self) -> Response<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if self.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = self.body.map_or_else(Bytes::new, |body| body.to_string().into());
        (self.call)(request.body(Full::new(body)).unwrap()).await
    }

    /// Sends it and reads the whole answer, which must be one that the OpenAPI document knows.
    pub(super) async fn send(self) -> Reply {
        let (method, path) = (self.method.clone(), self.path.clone());
        let reply = self.send_unknown().await;
        let fault = undocumented(&method, &path, &reply);
        assert!(fault.is_none(), "{method} {path}: {} in {reply:?}", fault.unwrap_or_default());
        reply
    }

    /// Sends it and reads the whole answer, whatever it is.
    pub(super) async fn send_unknown(self) -> Reply {
        let (head, body) = self.open().await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let reply = Reply { status: head.status.as_u16(), headers: head.headers, json, text };
        if reply.status >= 400 {
            assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
            assert_eq!(reply.json["status"], reply.status, "{reply:?}");
            assert!(reply.json["code"].is_string() && reply.json["title"].is_string(), "{reply:?}");
        }
        reply
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    /// Returns the body of an answer that must have this status.
    pub(super) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json
    }
    /// Checks a refusal; one for now only must say when to come back.
    pub(super) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        if status == 503 {
            let after = self.header("retry-after").and_then(|after| after.parse::<u64>().ok());
            assert!(after.is_some_and(|after| after >= 1), "{self:?}");
        }
    }
    pub(super) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

/// Returns the OpenAPI document.
pub(super) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::from_str(&gateway::document().to_json().unwrap()).unwrap())
}

/// Tells whether a path is one of a template's.
fn fits(template: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (mut of, mut is) = (template.split('/'), path.split('/'));
    loop {
        match (of.next(), is.next()) {
            (None, None) => return true,
            (Some(of), Some(is)) if of.starts_with('{') || of == is => {}
            _ => return false,
        }
    }
}

/// Returns what the document does not say about this answer.
fn undocumented(method: &Method, path: &str, reply: &Reply) -> Option<String> {
    let paths = document()["paths"].as_object().unwrap();
    let Some((_, item)) = paths.iter().find(|(template, _)| fits(template, path)) else {
        return Some("no such path".to_owned());
    };
    let Some(operation) = item.get(method.as_str().to_lowercase()) else {
        return Some("no such method".to_owned());
    };
    let Some(response) = operation["responses"].get(reply.status.to_string()) else {
        return Some(format!("no status {}", reply.status));
    };
    let described = response["description"].as_str().unwrap_or_default();
    let known = reply.status < 400 || described.contains(&format!("`{}`", reply.code()));
    (!known).then(|| format!("no code {}", reply.code()))
}
