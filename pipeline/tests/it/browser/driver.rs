//! Starts chromedriver and browsers, and looks at pages as their readers do. Everything ends with its test.

use std::fs;
use std::path::Path;
use std::process::Command;

use fantoccini::elements::Element;
use fantoccini::{ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::harness::{Client, Process, until};

const INSTALL: &str = "is missing: infra/test.sh installs it";

/// A running chromedriver with its browsers.
pub(super) struct Driver {
    _process: Process,
    port: u16,
    profiles: TempDir,
}

/// What a page has to draw on.
#[derive(Clone, Copy)]
pub(super) struct Viewport {
    width: u32,
    height: u32,
    phone: bool,
}

pub(super) const PHONE: Viewport = Viewport { width: 390, height: 844, phone: true };
pub(super) const DESK: Viewport = Viewport { width: 1280, height: 800, phone: false };

/// One browser with one tab.
pub(super) struct Browser {
    name: String,
    client: fantoccini::Client,
    wire: Client,
    session: String,
}

/// A row of a leaderboard as the page has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) rank: u64,
    pub(super) name: String,
    pub(super) points: String,
}

impl Driver {
    /// Starts chromedriver on a free port.
    pub(super) async fn start() -> Self {
        for program in ["chromium", "chromedriver"] {
            let found = Command::new(program).arg("--version").output();
            assert!(found.is_ok_and(|output| output.status.success()), "{program} {INSTALL}");
        }
        let mut process = Process::spawn(Command::new("chromedriver").arg("--port=0"));
        let started = |line: &str| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        };
        let port = process.line(started).await.expect("chromedriver says where it listens");
        Self { _process: process, port, profiles: tempfile::tempdir().unwrap() }
    }

    /// Starts a browser that remembers nothing.
    pub(super) async fn browser(&self, name: &str, viewport: Viewport) -> Browser {
        let Viewport { width, height, phone } = viewport;
        let profile = self.profiles.path().join(name);
        let profile = format!("--user-data-dir={}", profile.display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let metrics =
            json!({"width": width, "height": height, "pixelRatio": 1, "mobile": phone, "touch": phone});
        let options = json!({"args": args, "mobileEmulation": {"deviceMetrics": metrics}});
        let Value::Object(capabilities) = json!({
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }) else {
            unreachable!("it is an object")
        };
        let address = ([127, 0, 0, 1], self.port).into();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&format!("http://{address}")).await;
        let client = client.unwrap_or_else(|error| panic!("no browser: {error}"));
        let session = client.session_id().await.unwrap().expect("a session that began has an id");
        Browser { name: name.to_owned(), client, wire: Client::new(address), session }
    }
}

impl Drop for Driver {
    /// Chromedriver dies without a word to its browsers, which are known by where they keep their profiles.
    fn drop(&mut self) {
        let ours = self.profiles.path().to_string_lossy().into_owned();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&ours) {
                let pid = process.file_name().to_string_lossy().into_owned();
                Command::new("kill").args(["-s", "KILL", &pid]).output().ok();
            }
        }
    }
}

fn testid(id: &str) -> String {
    format!("[data-testid=\"{id}\"]")
}

impl Browser {
    pub(super) async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Goes to another view of the page: only the fragment of the address changes.
    pub(super) async fn go(&self, fragment: &str) {
        self.client.execute("location.hash = arguments[0]", vec![json!(fragment)]).await.unwrap();
    }

    pub(super) async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    /// Returns a visible element, once there is one.
    async fn visible(&self, id: &str) -> Element {
        let found = async || {
            let element = self.client.find(Locator::Css(&testid(id))).await.ok()?;
            element.is_displayed().await.ok()?.then_some(element)
        };
        until(&format!("{}: a visible {id}", self.name), found).await
    }

    /// Waits until something can be seen.
    pub(super) async fn sees(&self, id: &str) {
        self.visible(id).await;
    }

    /// Clicks on something, once it can be clicked on.
    pub(super) async fn click(&self, id: &str) {
        let clicked = async || {
            let element = self.client.find(Locator::Css(&testid(id))).await.ok()?;
            (element.is_enabled().await.ok()? && element.click().await.is_ok()).then_some(())
        };
        until(&format!("{}: a {id} to click on", self.name), clicked).await;
    }

    /// Types into a field.
    pub(super) async fn fill(&self, id: &str, text: &str) {
        let field = self.visible(id).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Waits until a data attribute holds a value.
    pub(super) async fn holds(&self, id: &str, name: &str, value: &str) {
        let ask = async || self.data(id, name).await.filter(|found| found == value);
        until(&format!("{}: data-{name}={value:?} of {id}", self.name), ask).await;
    }

    /// Returns a data attribute, if it is there.
    pub(super) async fn data(&self, id: &str, name: &str) -> Option<String> {
        let script = "return document.querySelector(arguments[0])?.dataset[arguments[1]] ?? null";
        let value = self.client.execute(script, vec![json!(testid(id)), json!(name)]).await.ok()?;
        value.as_str().map(str::to_owned)
    }

    /// Returns the rows of the board in the order of the page, once they are as `is_right` says.
    pub(super) async fn rows(&self, is_right: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let script = "return [...document.querySelectorAll('[data-testid=board-row]')]
            .filter((row) => row.checkVisibility())
            .map((row) => [row.dataset.rank, row.querySelector('bdi').textContent, row.dataset.points])";
        let ask = async || {
            let rows = self.client.execute(script, Vec::new()).await.ok()?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let rows = rows.as_array()?.iter().map(|row| {
                Some(Row { rank: text(&row[0]).parse().ok()?, name: text(&row[1]), points: text(&row[2]) })
            });
            rows.collect::<Option<Vec<Row>>>().filter(|rows| is_right(rows))
        };
        until(&format!("{}: the right rows of the board", self.name), ask).await
    }

    /// Returns what the page shows as text.
    pub(super) async fn text(&self) -> String {
        self.client.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    /// Waits until the page shows a text.
    pub(super) async fn reads(&self, text: &str) {
        let shown = async || self.text().await.contains(text).then_some(());
        until(&format!("{}: the words {text:?}", self.name), shown).await;
    }

    /// Checks that nothing sticks out at the right: a page that scrolls sideways is broken on a phone.
    pub(super) async fn fits(&self) {
        let script = "const page = document.scrollingElement; return page.scrollWidth - page.clientWidth";
        assert_eq!(self.client.execute(script, Vec::new()).await.unwrap(), 0, "the page scrolls sideways");
    }

    /// Keeps what the page looks like as `target/page-….png`, once nothing moves but clocks and what never rests.
    pub(super) async fn shot(&self, name: &str) {
        let still = "return document.getAnimations().every((animation) => animation.playState !== 'running'
            || animation.effect.getTiming().iterations === Infinity
            || animation.effect.target?.closest('[role=timer]'))";
        let ask = async || (self.client.execute(still, Vec::new()).await.ok()? == true).then_some(());
        until(&format!("{}: the end of all motion", self.name), ask).await;
        self.fits().await;
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        fs::write(target.join(format!("page-{name}.png")), self.client.screenshot().await.unwrap()).unwrap();
    }

    /// Checks that the page broke no rule and threw no error, and ends the session.
    pub(super) async fn close(self) {
        let path = format!("/session/{}/se/log", self.session);
        let log = self.wire.post(&path, &json!({"type": "browser"})).await.expect(200);
        let entries = log["value"].as_array().unwrap();
        // A receipt that is not there yet is a 404 that the browser notes by itself.
        let ours = |entry: &&Value| entry["level"] == "SEVERE" && entry["source"] != "network";
        let faults: Vec<_> = entries.iter().filter(ours).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        self.client.close().await.unwrap();
    }
}
