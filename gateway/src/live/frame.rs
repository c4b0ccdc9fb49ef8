//! Frames of the live feed: what is new since the last one, and which of them a watcher still needs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use operators::definition::RankingRule;
use operators::id::{ParticipantId, UnixMillis};
use operators::rank::Row;
use serde::Serialize;
use utoipa::ToSchema;

use crate::json::Text;
use crate::json::shape::{QuizState, RowState, current};
use crate::views::{BoardView, QuizView};

/// What watchers are shown, as read at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// Sequence of the live feed.
    pub feed: u64,
    /// Changes of the ranking that took effect.
    pub revision: u64,
    /// Participants in all.
    pub participants: u64,
    /// The rule in force.
    pub rule: RankingRule,
    /// The top of the leaderboard.
    pub rows: Vec<Row>,
    /// The quiz, read after the rows, so that it is never older than `feed`.
    pub quiz: Arc<QuizView>,
    /// When it was read.
    pub now: UnixMillis,
}

/// What kind of news a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Everything.
    Snapshot,
    /// Rows that changed, and the quiz if it did.
    Delta,
    /// Only the quiz changed. By the clock alone it does so without a new feed sequence: then `from` equals `feed`.
    Quiz,
}

impl Event {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
            Self::Quiz => "quiz",
        }
    }
}

/// One frame, serialised once for all watchers.
#[derive(Debug)]
pub struct Frame {
    /// What kind of news.
    pub event: Event,
    /// The feed sequence that it builds on; of a snapshot that went into the ring, the one before it.
    pub from: u64,
    /// The feed sequence that it leads to.
    pub feed: u64,
    /// The payload: one line of JSON.
    pub data: String,
    number: u64,
    sse: OnceLock<Bytes>,
    message: OnceLock<Utf8Bytes>,
}

/// Payload of `snapshot`.
#[derive(Serialize, ToSchema)]
pub(crate) struct SnapshotData<'a> {
    feed: u64,
    revision: u64,
    participants: u64,
    #[schema(value_type = Object)]
    rule: &'a RankingRule,
    standings: Vec<RowState<'a>>,
    quiz: QuizState<'a>,
}

/// Payload of `delta`: remove, then put the changed rows in; order by rank.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeltaData<'a> {
    feed: u64,
    from: u64,
    revision: u64,
    participants: u64,
    changed: Vec<RowState<'a>>,
    #[schema(value_type = Vec<String>)]
    removed: Vec<Text<ParticipantId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiz: Option<QuizState<'a>>,
}

/// Payload of `quiz`.
#[derive(Serialize, ToSchema)]
pub(crate) struct QuizData<'a> {
    feed: u64,
    from: u64,
    quiz: QuizState<'a>,
}

impl State {
    /// Returns what a board and a quiz, read in this order, show together.
    pub fn new(board: BoardView, quiz: Arc<QuizView>, now: UnixMillis) -> Self {
        let BoardView { revision, feed, participants, rule, rows, next: _ } = board;
        Self { feed, revision, participants, rule, rows, quiz, now }
    }

    fn quiz_state(&self) -> QuizState<'_> {
        QuizState::new(&self.quiz, self.now)
    }

    /// Tells whether players see the same quiz; the number of participants is the ranking's news.
    fn same_quiz(&self, other: &Self) -> bool {
        let (a, b) = (&self.quiz, &other.quiz);
        let question = |state: &Self| current(&state.quiz, state.now).map(|window| window.question);
        a.status == b.status
            && a.is_final == b.is_final
            && a.sealed == b.sealed
            && question(self) == question(other)
    }

    fn same_ranking(&self, other: &Self) -> bool {
        self.feed == other.feed && self.revision == other.revision && self.participants == other.participants
    }
}

/// Returns the rows that are new or different, and who left.
pub fn difference<'a>(old: &[Row], new: &'a [Row]) -> (Vec<&'a Row>, Vec<ParticipantId>) {
    let before: HashMap<ParticipantId, &Row> = old.iter().map(|row| (row.participant, row)).collect();
    let after: HashSet<ParticipantId> = new.iter().map(|row| row.participant).collect();
    let changed = new.iter().filter(|row| before.get(&row.participant) != Some(row)).collect();
    let removed = old.iter().map(|row| row.participant).filter(|who| !after.contains(who)).collect();
    (changed, removed)
}

fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("texts and numbers are always JSON")
}

impl Frame {
    fn new(event: Event, from: u64, feed: u64, number: u64, data: String) -> Self {
        Self { event, from, feed, data, number, sse: OnceLock::new(), message: OnceLock::new() }
    }

    fn snapshot(state: &State, from: u64, number: u64) -> Self {
        let data = SnapshotData {
            feed: state.feed,
            revision: state.revision,
            participants: state.participants,
            rule: &state.rule,
            standings: state.rows.iter().map(RowState::from).collect(),
            quiz: state.quiz_state(),
        };
        Self::new(Event::Snapshot, from, state.feed, number, json(&data))
    }

    /// Returns what is new in `new`, `None` when nothing is.
    fn between(old: &State, new: &State, number: u64) -> Option<Self> {
        let (from, feed) = (old.feed, new.feed);
        let same_quiz = old.same_quiz(new);
        if old.rule != new.rule {
            return Some(Self::snapshot(new, from, number));
        }
        if old.same_ranking(new) && same_quiz {
            return None;
        }
        let (changed, removed) = difference(&old.rows, &new.rows);
        if !same_quiz && old.revision == new.revision && changed.is_empty() && removed.is_empty() {
            let data = json(&QuizData { feed, from, quiz: new.quiz_state() });
            return Some(Self::new(Event::Quiz, from, feed, number, data));
        }
        let data = DeltaData {
            feed,
            from,
            revision: new.revision,
            participants: new.participants,
            changed: changed.into_iter().map(RowState::from).collect(),
            removed: removed.into_iter().map(Text).collect(),
            quiz: (!same_quiz).then(|| new.quiz_state()),
        };
        Some(Self::new(Event::Delta, from, feed, number, json(&data)))
    }

    /// Returns the frame as a server-sent event.
    pub fn sse(&self) -> Bytes {
        let event = self.event.name();
        self.sse
            .get_or_init(|| format!("id: {}\nevent: {event}\ndata: {}\n\n", self.feed, self.data).into())
            .clone()
    }

    /// Returns the frame as a WebSocket message.
    pub fn message(&self) -> Utf8Bytes {
        let text = || {
            let event = self.event.name();
            format!("{{\"event\":\"{event}\",\"id\":{},\"data\":{}}}", self.feed, self.data).into()
        };
        self.message.get_or_init(text).clone()
    }
}

/// The newest state and the frames that led to it.
#[derive(Debug)]
pub struct Published {
    state: State,
    /// Number of the newest frame, from 0 for the first state, which had none.
    number: u64,
    frames: VecDeque<Arc<Frame>>,
    snapshot: OnceLock<Arc<Frame>>,
}

impl Published {
    /// Returns the first state of a hub.
    pub fn first(state: State) -> Self {
        Self { state, number: 0, frames: VecDeque::new(), snapshot: OnceLock::new() }
    }

    /// Returns what to publish after `state` was read, `None` when nobody would see a change. A view that went back is
    /// not shown.
    pub fn next(&self, state: State, ring_frames: usize) -> Option<Self> {
        if state.feed < self.state.feed || state.revision < self.state.revision {
            return None;
        }
        let number = self.number + 1;
        let frame = Arc::new(Frame::between(&self.state, &state, number)?);
        metrics::counter!("podium_live_frames_total", "event" => frame.event.name()).increment(1);
        let skip = (self.frames.len() + 1).saturating_sub(ring_frames);
        let frames = self.frames.iter().skip(skip).cloned().chain([frame]).collect();
        Some(Self { state, number, frames, snapshot: OnceLock::new() })
    }

    /// Returns the newest state.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn snapshot(&self) -> Arc<Frame> {
        let make = || Arc::new(Frame::snapshot(&self.state, self.state.feed, self.number));
        self.snapshot.get_or_init(make).clone()
    }
}

/// How far one watcher has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    resume: Option<u64>,
    seen: Option<u64>,
    feed: u64,
}

impl Reader {
    /// Returns a watcher that has read nothing, or everything up to a feed sequence.
    pub fn new(resume: Option<u64>) -> Self {
        Self { resume, seen: None, feed: 0 }
    }

    /// Tells whether the watcher has seen more, elsewhere, than there is here.
    pub fn is_ahead_of(&self, published: &Published) -> bool {
        self.resume.is_some_and(|resume| resume > published.state.feed)
    }

    /// Returns the frames to send next, and notes them as sent. Their feed sequence never goes back.
    pub fn take(&mut self, published: &Published) -> Vec<Arc<Frame>> {
        let frames = &published.frames;
        let after = |number: u64| frames.iter().filter(|f| f.number > number).cloned().collect();
        let mut fresh: Vec<Arc<Frame>> = match (self.seen, self.resume.take()) {
            (Some(seen), _) if seen == published.number => Vec::new(),
            (Some(seen), _) if frames.front().is_some_and(|first| first.number <= seen + 1) => after(seen),
            (None, Some(id)) => match frames.iter().find(|frame| frame.from == id) {
                Some(first) => after(first.number - 1),
                None if id == published.state.feed => Vec::new(),
                None => vec![published.snapshot()],
            },
            (Some(_) | None, _) => vec![published.snapshot()],
        };
        fresh.retain(|frame| frame.feed >= self.feed);
        self.seen = Some(published.number);
        self.feed = self.feed.max(published.state.feed);
        fresh
    }
}
