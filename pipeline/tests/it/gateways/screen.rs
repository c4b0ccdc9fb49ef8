//! What a client sees of a live feed: its events, and the screen that it keeps up to date by them.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::views::Page;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::house::Door;
use super::request::Body;

/// One event of a feed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct News {
    pub(super) event: String,
    pub(super) id: u64,
    pub(super) data: Value,
}

/// A feed of server-sent events as it is read.
pub(super) struct Events {
    body: Body,
    text: String,
}

impl Events {
    pub(super) fn new(body: Body) -> Self {
        Self { body, text: String::new() }
    }

    /// Returns the next event; comments and the like are passed over.
    pub(super) async fn next(&mut self) -> News {
        let next = async {
            loop {
                while let Some((block, rest)) = self.text.split_once("\n\n") {
                    let (block, rest) = (block.to_owned(), rest.to_owned());
                    self.text = rest;
                    if let Some(news) = News::parse(&block) {
                        return news;
                    }
                }
                let frame = self.body.frame().await.expect("a feed has no end").unwrap();
                self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("there is news")
    }
}

impl Events {
    /// Reads on to the end; tells whether it was a clean one.
    pub(super) async fn is_over(&mut self) -> bool {
        while let Some(frame) = self.body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    }
}

impl News {
    fn parse(block: &str) -> Option<Self> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let data = serde_json::from_str(field("data: ")?).unwrap();
        Some(Self { event: field("event: ")?.to_owned(), id: field("id: ")?.parse().unwrap(), data })
    }
}

/// Opens a feed.
pub(super) async fn watch(door: &Door, quiz: &str, seen: Option<&str>) -> Events {
    let mut ask = door.get(&format!("/v1/quizzes/{quiz}/live"));
    if let Some(seen) = seen {
        ask = ask.header("last-event-id", seen);
    }
    let response = ask.open().await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    Events::new(response.into_body())
}

/// What a client makes of a feed: the leaderboard and the quiz, kept up to date.
#[derive(Debug, Default, Clone)]
pub(super) struct Screen {
    pub(super) feed: Option<u64>,
    pub(super) board: Value,
    pub(super) quiz: Value,
    pub(super) frames: Vec<News>,
    rows: BTreeMap<String, Value>,
}

impl Screen {
    /// Applies one event as the document tells clients to; the sequence must never go back and never skip.
    pub(super) fn take(&mut self, news: News) {
        let data = &news.data;
        assert_eq!(data["feed"], news.id);
        assert!(self.feed.is_none_or(|feed| feed <= news.id), "the feed went back: {self:?} {news:?}");
        if news.event == "snapshot" {
            self.rows.clear();
        } else {
            assert_eq!(data["from"].as_u64(), self.feed, "a delta builds on what was seen");
        }
        let who = |row: &Value| row["participant"].as_str().unwrap().to_owned();
        for gone in data["removed"].as_array().into_iter().flatten() {
            assert!(self.rows.remove(gone.as_str().unwrap()).is_some());
        }
        for row in data["changed"].as_array().or(data["standings"].as_array()).into_iter().flatten() {
            self.rows.insert(who(row), row.clone());
        }
        if news.event != "quiz" {
            let mut rows: Vec<Value> = self.rows.values().cloned().collect();
            rows.sort_by_key(|row| row["rank"].as_u64());
            self.board = json!({"revision": data["revision"], "participants": data["participants"], "standings": rows});
        }
        if data["quiz"].is_object() {
            self.quiz = without_time(data["quiz"].clone());
        }
        self.feed = Some(news.id);
        self.frames.push(news);
    }

    /// Takes events up to this place of the feed.
    pub(super) async fn follow(&mut self, events: &mut Events, feed: u64) {
        while self.feed < Some(feed) {
            let news = events.next().await;
            self.take(news);
        }
        assert_eq!(self.feed, Some(feed));
    }

    /// Holds the screen against what the gateway says when asked.
    pub(super) async fn check(&self, door: &Door, quiz: &str) {
        let board = door.get(&format!("/v1/quizzes/{quiz}/leaderboard?limit=100")).send().await.ok(200);
        let mut rows = board["standings"].as_array().unwrap().clone();
        // Equals have no order that a feed tells.
        rows.sort_by_key(|row| (row["rank"].as_u64(), row["participant"].as_str().map(str::to_owned)));
        let (revision, participants) = (&board["revision"], &board["participants"]);
        let board = json!({"revision": revision, "participants": participants, "standings": rows});
        assert_eq!(self.board, board);
        assert_eq!(self.quiz, without_time(door.get(&format!("/v1/quizzes/{quiz}")).send().await.ok(200)));
    }
}

/// The time moves by itself, and the number of participants is the ranking's news.
fn without_time(mut quiz: Value) -> Value {
    for field in ["server_time", "participants"] {
        quiz.as_object_mut().unwrap().remove(field);
    }
    quiz
}

/// Returns how far the feed of a gateway's views is.
pub(super) async fn newest(door: &Door, quiz: &str) -> u64 {
    door.app.views.board(&quiz.parse().unwrap(), Page::After(None), 1).await.unwrap().unwrap().feed
}
