//! Starts and ends the real binary, and talks to it as any client does. Nothing here outlives its test.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) mod raw;

/// Longest wait for anything: two noisy cores may be slow, but a hang must fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_podium");

/// A child process whose output is collected; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// What a process has printed so far, and whether it has closed the pipe.
#[derive(Clone)]
struct Output {
    text: Arc<Mutex<String>>,
    ended: watch::Receiver<(usize, bool)>,
}

/// A process that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (progress, ended) = watch::channel((0, false));
        let shared = text.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            let mut count = 0;
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                shared.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
                count += 1;
                progress.send_replace((count, false));
            }
            progress.send_replace((count, true));
        });
        Self { text, ended }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

impl Process {
    /// Starts a program without any of our own settings in its environment.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PODIUM_"))
        {
            // What a test sets itself stays.
            if command.get_envs().all(|(set, _)| set != name) {
                command.env_remove(name);
            }
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let stdout = Output::collect(child.stdout.take().unwrap());
        let stderr = Output::collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Returns the first line of stdout that `pick` finds something in; `None` when the process ends without one.
    pub(crate) async fn line<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let seen = async {
            loop {
                let (_, ended) = *self.stdout.ended.borrow_and_update();
                if let Some(found) = self.stdout.text().lines().find_map(&pick) {
                    return Some(found);
                }
                if ended || self.stdout.ended.changed().await.is_err() {
                    return None;
                }
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| panic!("nothing announced; stderr:\n{}", self.stderr.text()))
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn end(mut self) -> Ended {
        for output in [self.stdout.clone(), self.stderr.clone()] {
            let mut ended = output.ended.clone();
            let closed = tokio::time::timeout(PATIENCE, ended.wait_for(|(_, ended)| *ended)).await;
            assert!(closed.is_ok(), "the process does not end; stderr:\n{}", self.stderr.text());
        }
        // Both pipes are closed, so the process is gone or going.
        let status = self.child.wait().unwrap();
        Ended { status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    /// Returns what it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success(), "kill -s {name} {pid}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the binary with these arguments to its end.
pub(crate) async fn podium(args: &[&str]) -> Ended {
    Process::spawn(Command::new(BINARY).args(args)).end().await
}

/// A running Podium.
pub(crate) struct Podium {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
}

impl Podium {
    /// Starts on a directory and waits until it says where it is.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// Starts with more arguments.
    pub(crate) async fn start_with(data: &Path, args: &[&str]) -> Self {
        let mut process = Self::launch(data, args);
        let address = process.line(announced).await;
        let Some(address) = address else { panic!("it did not start: {:?}", process.end().await) };
        Self { process, address, data: data.to_owned() }
    }

    /// Starts without waiting for anything.
    pub(crate) fn launch(data: &Path, args: &[&str]) -> Process {
        let mut command = Command::new(BINARY);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).args(args);
        Process::spawn(&mut command)
    }

    /// Returns where it is, as `http://…` without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns a client without a token.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Returns a client with a token that the binary minted.
    pub(crate) async fn host(&self) -> Client {
        self.client().with(&self.token(&["--role", "host"]).await)
    }

    /// Returns a token that the binary minted beside the running one.
    pub(crate) async fn token(&self, args: &[&str]) -> String {
        let data = self.data.to_str().unwrap();
        let ended = podium(&[&["token", "--data", data], args].concat()).await;
        assert!(ended.status.success(), "{ended:?}");
        ended.stdout.trim_end().to_owned()
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Interrupts it, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.process.signal("INT");
    }

    /// Waits for its end.
    pub(crate) async fn end(self) -> Ended {
        self.process.end().await
    }

    /// Returns what it has logged.
    pub(crate) fn stderr(&self) -> String {
        self.process.stderr.text()
    }
}

fn announced(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("Podium is up at http://")?.trim_end_matches('/').parse().ok()
}

/// One client: an address and perhaps a token.
#[derive(Clone)]
pub(crate) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
}

/// What came back.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = Http::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http();
        Self { http, address, token: None }
    }

    /// Returns the same client with another token.
    pub(crate) fn with(&self, token: &str) -> Self {
        self.holding(Some(token.to_owned()))
    }

    /// Returns the same client with another token, or none.
    pub(crate) fn holding(&self, token: Option<String>) -> Self {
        Self { token, ..self.clone() }
    }

    /// Returns a request to `path` with this client's token.
    pub(crate) fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection failed or nothing came in time; the outcome is unknown.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let answered = async {
            let response = self.http.request(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(PATIENCE, answered).await.map_err(|_| "no answer in time".to_owned())?
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let request = self.request(Method::GET, path).body(Full::default()).unwrap();
        self.send(request).await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(self.json(Method::PUT, path, body)).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.try_post(path, body).await.unwrap()
    }

    /// Sends JSON to a server that may be gone.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Result<Reply, String> {
        self.send(self.json(Method::POST, path, body)).await
    }

    /// Returns a JSON request.
    pub(crate) fn json(&self, method: Method, path: &str, body: &Value) -> Request<Full<Bytes>> {
        let request = self.request(method, path).header("content-type", "application/json");
        request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
    }

    /// Publishes a quiz and opens it.
    pub(crate) async fn publish_and_open(&self, quiz: &str, definition: &Value) {
        self.put(&format!("/v1/quizzes/{quiz}"), definition).await.expect(201);
        self.command(quiz, &json!({"type": "open"})).await;
    }

    /// Runs a host command, sent again under its id for as long as it is written and not visible.
    pub(crate) async fn command(&self, quiz: &str, command: &Value) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut command = command.clone();
        let id = format!("harness-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        command["id"] = command.get("id").cloned().unwrap_or(json!(id));
        until("a command", async || {
            let reply = self.post(&format!("/v1/quizzes/{quiz}/commands"), &command).await;
            (reply.status != 503).then(|| reply.expect(202))
        })
        .await;
    }

    /// Joins a quiz; returns the participant and a client with its token.
    pub(crate) async fn join(&self, quiz: &str, name: &str) -> (String, Self) {
        let joined = self.post(&format!("/v1/quizzes/{quiz}/participants"), &json!({"name": name})).await;
        let joined = joined.expect(201);
        (text(&joined["participant"]), self.with(joined["token"].as_str().unwrap()))
    }

    /// Hands in an answer and returns its receipt.
    pub(crate) async fn answer(&self, quiz: &str, question: &str, answer: &Value, submission: &str) -> Value {
        let body = json!({"question": question, "answer": answer, "submission": submission});
        self.post(&format!("/v1/quizzes/{quiz}/answers"), &body).await.expect(202);
        self.receipt(quiz, submission).await
    }

    /// Returns the receipt of a submission, once there is one.
    pub(crate) async fn receipt(&self, quiz: &str, submission: &str) -> Value {
        let path = format!("/v1/quizzes/{quiz}/submissions/{submission}");
        let graded = |reply: Reply| (reply.status == 200).then(|| reply.value());
        until("a receipt", async || graded(self.get(&path).await)).await
    }

    /// Waits until a closed quiz is final.
    pub(crate) async fn finality(&self, quiz: &str) {
        let path = format!("/v1/quizzes/{quiz}");
        let is_final = |state: &Value| (state["final"] == true).then_some(());
        until("the end of a quiz", async || is_final(&self.shown(&path).await)).await;
    }

    /// Returns what a path shows, asking again for as long as the views cannot be read.
    pub(crate) async fn shown(&self, path: &str) -> Value {
        until("a view", async || {
            let reply = self.get(path).await;
            (reply.status != 503).then(|| reply.expect(200))
        })
        .await
    }
}

impl Reply {
    /// Returns the body as JSON.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the JSON of an answer that has this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.value()
    }

    /// Returns the code of a problem document.
    pub(crate) fn code(&self) -> String {
        text(&self.value()["code"])
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

/// Asks again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        // Polling a server of our own: often enough not to slow a test, seldom enough not to slow the server.
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(found) = ask().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// Returns a JSON string's text.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Returns the n-th submission id of a test.
pub(crate) fn submission(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

/// Random numbers that a seed decides (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
