//! Live feeds: watchers that count what arrives, and probes whose answers are looked for in it.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::watch;

use super::stats::record;
use super::{Game, Hand, Job, Kind, Outcome};
use crate::client::{Call, Pause};
use crate::quiz::Pace;
use crate::schedule::Rng;
use crate::verify::ledger::Submission;

/// Time between two answers of a probe: longer than either takes to be seen, as long as all is well.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long a probe waits to be seen before it counts as unseen: twenty times the feed's longest interval.
const UNSEEN_AFTER: Duration = Duration::from_secs(10);

/// Splits a byte stream into server-sent events (WHATWG HTML, "Server-sent events"): lines end with LF or CRLF.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    searched: usize,
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// `id`, if it has one.
    pub(crate) id: Option<String>,
    /// `event`, or `message`.
    pub(crate) event: String,
    /// `data`, its lines joined.
    pub(crate) data: String,
}

impl Frames {
    /// Takes bytes and returns the events that they complete. Comments are none.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.buffer.extend(bytes.iter().filter(|byte| **byte != b'\r'));
        let mut frames = Vec::new();
        let mut from = 0;
        while let Some(at) = find(&self.buffer, self.searched.max(from)) {
            frames.extend(frame(&String::from_utf8_lossy(&self.buffer[from..at])));
            from = at + 2;
        }
        self.buffer.drain(..from);
        self.searched = self.buffer.len().saturating_sub(1);
        frames
    }
}

fn find(buffer: &[u8], from: usize) -> Option<usize> {
    buffer[from..].windows(2).position(|pair| pair == b"\n\n").map(|at| from + at)
}

fn frame(text: &str) -> Option<Frame> {
    let mut frame = Frame::default();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => frame.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut frame.event),
            "data" => lines.push(value),
            _ => {}
        }
    }
    if lines.is_empty() {
        return None;
    }
    frame.data = lines.join("\n");
    if frame.event.is_empty() {
        "message".clone_into(&mut frame.event);
    }
    Some(frame)
}

/// What a feed showed of a probe: its right answers, and when that was seen.
type Seen = (u64, Option<Instant>);

/// The probes of a run, by participant id.
#[derive(Default)]
pub(crate) struct Probes(HashMap<String, watch::Sender<Seen>>);

#[derive(Deserialize)]
struct Rows {
    #[serde(default)]
    standings: Vec<ShownRow>,
    #[serde(default)]
    changed: Vec<ShownRow>,
}

#[derive(Deserialize)]
struct ShownRow {
    participant: String,
    correct: u64,
}

impl Probes {
    /// Returns the probes of a game.
    pub(crate) fn of(game: &Game) -> Self {
        let scenario = &game.scenario;
        let probes = scenario.players..scenario.seats();
        let sender =
            |player: u32| (game.seats[player as usize].participant.clone(), watch::Sender::default());
        Self(probes.map(sender).collect())
    }

    fn look(&self, data: &str) {
        let Ok(rows) = serde_json::from_str::<Rows>(data) else { return };
        for row in rows.standings.into_iter().chain(rows.changed) {
            if let Some(probe) = self.0.get(&row.participant) {
                probe.send_if_modified(|seen| {
                    let newer = row.correct > seen.0;
                    if newer {
                        *seen = (row.correct, Some(Instant::now()));
                    }
                    newer
                });
            }
        }
    }
}

/// Watches the live feed of a quiz until the task is ended; looks for probes if there are any given.
pub(crate) async fn watch_feed(game: Arc<Game>, quiz: u32, probes: Option<Arc<Probes>>) {
    let path = format!("/v1/quizzes/{}/live", game.scenario.quiz_id(quiz));
    let Ok(path) = hyper::Uri::from_str(&path) else { return };
    let mut pause = Pause::new(Rng::new(game.scenario.run, 100));
    let mut last_id: Option<String> = None;
    loop {
        let resume = last_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok());
        let extra = resume.map(|id| (HeaderName::from_static("last-event-id"), id));
        let call =
            Call { method: Method::GET, path: path.clone(), bearer: None, extra, body: bytes::Bytes::new() };
        if let Ok((head, mut stream)) = game.drive.connection().stream(&call).await
            && head.status == StatusCode::OK
        {
            let mut frames = Frames::default();
            let mut newest = None;
            while let Some(chunk) = stream.chunk().await {
                pause.reset();
                for frame in frames.push(&chunk) {
                    count(&game, &frame, &mut newest);
                    if let Some(probes) = probes.as_ref().filter(|_| frame.event != "quiz") {
                        probes.look(&frame.data);
                    }
                    last_id = frame.id.or(last_id);
                }
                game.notes().stats.feed.bytes += chunk.len() as u64;
            }
        }
        game.notes().stats.feed.reconnects += 1;
        tokio::time::sleep(pause.next(None)).await;
    }
}

fn count(game: &Game, frame: &Frame, newest: &mut Option<u64>) {
    let id = frame.id.as_deref().and_then(|id| id.parse::<u64>().ok());
    let mut notes = game.notes();
    let feed = &mut notes.stats.feed;
    match feed.events.get_mut(&frame.event) {
        Some(count) => *count += 1,
        None => {
            feed.events.insert(frame.event.clone(), 1);
        }
    }
    if id.is_some() && id < *newest {
        feed.backwards += 1;
    }
    *newest = id.or(*newest);
}

/// Returns how many slots apart a probe answers.
fn apart(slot: Duration) -> usize {
    PROBE_EVERY.as_nanos().div_ceil(slot.as_nanos().max(1)).max(1) as usize
}

/// One probe: a participant that is always right, one answer per question, each looked for in the live feed.
pub(crate) struct Probe {
    /// Index of the participant.
    pub(crate) player: u32,
    /// What it hands in with.
    pub(crate) hand: Hand,
    seen: watch::Receiver<Seen>,
    right: u64,
    last: Option<u16>,
}

impl Probe {
    /// Returns the probe of a participant.
    pub(crate) fn new(game: &Game, probes: &Probes, player: u32) -> Option<Self> {
        let seen = probes.0.get(&game.seats[player as usize].participant)?.subscribe();
        let hand = game.hand(10_000 + u64::from(player));
        Some(Self { player, hand, seen, right: 0, last: None })
    }

    /// Answers the question that puts the probe at the top of the board.
    pub(crate) async fn boost(&mut self, game: &Game) {
        if let Some(question) = game.scenario.paper.boost {
            self.answer(game, question, Instant::now(), Duration::ZERO).await;
        }
    }

    /// Waits until the feed shows that; tells whether it does.
    pub(crate) async fn is_boosted(&mut self) -> bool {
        self.right > 0 && self.visible().await.is_some()
    }

    /// Answers one question per slot, `share` (0 to 1) into the slot, and measures until it is seen. It looks for one answer
    /// at a time, so with many questions it leaves some out: else each would be measured with the wait for those before.
    pub(crate) async fn play(mut self, game: &Game, start: Instant, share: f64) {
        let slots = game.scenario.paper.open_questions();
        let slot = game.scenario.duration / u32::from(slots);
        for index in (0..slots).step_by(apart(slot)) {
            let intended = slot * u32::from(index) + slot.mul_f64(share);
            tokio::time::sleep_until((start + intended).into()).await;
            let question = match game.scenario.paper.pace {
                Pace::Free => index,
                Pace::Host => game.current.load(Ordering::Relaxed),
            };
            if self.last == Some(question) {
                continue;
            }
            self.last = Some(question);
            if self.answer(game, question, start, intended).await != Outcome::Acknowledged {
                continue;
            }
            match self.visible().await {
                Some(at) => {
                    let latency = at.saturating_duration_since(start + intended);
                    record(&mut game.notes().stats.visible, latency);
                }
                None => {
                    game.notes().stats.unseen += 1;
                    // An answer that came late never shows: the next one is not to wait for it too.
                    self.right = self.seen.borrow().0;
                }
            }
        }
    }

    async fn answer(&mut self, game: &Game, question: u16, start: Instant, intended: Duration) -> Outcome {
        let choice = game.scenario.paper.questions[usize::from(question)].key;
        let content = Submission { player: self.player, question, choice };
        let submission = game.enter(content);
        let job = Job { intended, submission, content, kind: Kind::Probe };
        let outcome = game.hand_in(job, start, &mut self.hand).await;
        if outcome == Outcome::Acknowledged {
            self.right += 1;
        }
        outcome
    }

    /// Waits until the feed shows all right answers so far; returns when it did.
    async fn visible(&mut self) -> Option<Instant> {
        let right = self.right;
        let seen = self.seen.wait_for(|seen| seen.0 >= right);
        let seen = tokio::time::timeout(UNSEEN_AFTER, seen).await.ok()?.ok()?;
        seen.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        let text =
            ": hello\n\nid: 7\nevent: delta\ndata: {\"a\":\ndata: 1}\n\nretry: 10\n\nid:8\r\ndata:x\r\n\r\n";
        let expected = [
            Frame { id: Some("7".into()), event: "delta".into(), data: "{\"a\":\n1}".into() },
            Frame { id: Some("8".into()), event: "message".into(), data: "x".into() },
        ];
        for cut in 0..text.len() {
            let mut frames = Frames::default();
            let mut found = frames.push(&text.as_bytes()[..cut]);
            found.extend(frames.push(&text.as_bytes()[cut..]));
            assert_eq!(found, expected, "cut at {cut}");
        }
        let mut frames = Frames::default();
        let found: Vec<Frame> = text.bytes().flat_map(|byte| frames.push(&[byte])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_probe_leaves_time_to_be_seen() {
        let slots = [1, 570, 1_999, 2_000, 7_500].map(|ms| apart(Duration::from_millis(ms)));
        assert_eq!(slots, [2_000, 4, 2, 1, 1]);
        assert_eq!(apart(Duration::ZERO), 2_000_000_000);
    }

    #[test]
    fn a_probe_is_seen_in_snapshots_and_deltas_and_never_goes_back() {
        let probes = Probes(HashMap::from([("ab".to_owned(), watch::Sender::default())]));
        probes.look(r#"{"feed":1,"standings":[{"participant":"ab","correct":2,"rank":1},{"participant":"cd","correct":9}]}"#);
        assert_eq!(probes.0["ab"].borrow().0, 2);
        probes.look(r#"{"feed":2,"changed":[{"participant":"ab","correct":3}],"removed":[]}"#);
        assert_eq!(probes.0["ab"].borrow().0, 3);
        probes.look(r#"{"feed":1,"standings":[{"participant":"ab","correct":2}]}"#);
        assert_eq!(probes.0["ab"].borrow().0, 3);
    }
}
