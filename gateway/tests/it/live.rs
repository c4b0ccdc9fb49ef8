//! The live feed: a watcher that applies what it is sent has the newest state, however it came and went.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::live::frame::{Event, Frame, Published, Reader, State};
use gateway::live::throttle::Throttle;
use operators::definition::RankingRule;
use operators::effect::{Standing, Window};
use operators::id::{ParticipantId, UnixMillis};
use operators::rank::Row;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::Value;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const ROWS: usize = 5;

/// The top rows of a ranking given as points by participant.
fn state(feed: u64, points: &BTreeMap<u8, u16>, number: u64) -> State {
    let mut order: Vec<(u8, u16)> = points.iter().map(|(&who, &points)| (who, points)).collect();
    order.sort_by_key(|&(who, points)| (std::cmp::Reverse(points), who));
    let rank = |points: u16| 1 + order.iter().filter(|(_, other)| *other > points).count() as u64;
    let row = |&(who, points): &(u8, u16)| Row {
        rank: rank(points),
        participant: ParticipantId(u128::from(who)),
        name: format!("p{who}").into(),
        standing: Standing { points: Decimal::from(points), ..Standing::default() },
    };
    let mut quiz = crate::quiz("host");
    quiz.status.number = number;
    State {
        feed,
        revision: feed,
        participants: points.len() as u64,
        rule: RankingRule::default(),
        rows: order.iter().take(ROWS).map(row).collect(),
        quiz: Arc::new(quiz),
        now: NOW,
    }
}

/// A watcher, written from the contract: it keeps rows by participant and the last quiz and feed.
#[derive(Debug, Default)]
struct Client {
    feed: Option<u64>,
    participants: u64,
    rows: BTreeMap<String, Value>,
    quiz_version: Value,
}

impl Client {
    fn take(&mut self, frame: &Frame) {
        let data: Value = serde_json::from_str(&frame.data).unwrap();
        assert!(!frame.data.contains('\n'), "a frame is one line");
        let feed = data["feed"].as_u64().unwrap();
        assert!(self.feed.is_none_or(|before| before <= feed), "the feed went back");
        let key = |row: &Value| row["participant"].as_str().unwrap().to_owned();
        match frame.event {
            Event::Snapshot => {
                self.rows =
                    data["standings"].as_array().unwrap().iter().map(|r| (key(r), r.clone())).collect();
            }
            Event::Delta => {
                assert_eq!(data["from"].as_u64(), self.feed, "a delta builds on what was sent");
                for gone in data["removed"].as_array().unwrap() {
                    assert!(self.rows.remove(gone.as_str().unwrap()).is_some(), "only who was there leaves");
                }
                for row in data["changed"].as_array().unwrap() {
                    assert_ne!(
                        self.rows.insert(key(row), row.clone()).as_ref(),
                        Some(row),
                        "only changes are sent"
                    );
                }
            }
            Event::Quiz => assert_eq!(data["from"].as_u64(), self.feed),
        }
        if frame.event != Event::Quiz {
            self.participants = data["participants"].as_u64().unwrap();
        }
        if let Some(quiz) = data.get("quiz") {
            self.quiz_version = quiz["version"].clone();
        }
        self.feed = Some(feed);
    }

    fn ranked(&self) -> Vec<(u64, String)> {
        let mut rows: Vec<(u64, String)> = self
            .rows
            .values()
            .map(|r| (r["rank"].as_u64().unwrap(), r["points"].as_str().unwrap().into()))
            .collect();
        rows.sort();
        rows
    }
}

fn expected(state: &State) -> Vec<(u64, String)> {
    let mut rows: Vec<(u64, String)> =
        state.rows.iter().map(|row| (row.rank, row.standing.points.to_string())).collect();
    rows.sort();
    rows
}

proptest! {
    /// Watchers take at random moments, one of them reconnects with its last id each time, rings are short.
    #[test]
    fn applying_frames_gives_the_newest_top(
        changes in prop::collection::vec((0u8..12, 0u16..40, any::<bool>(), any::<bool>(), 0u64..3), 1..80),
        ring in 1usize..8,
    ) {
        let mut points = BTreeMap::new();
        let (mut feed, mut number) = (0, 0);
        let mut published = Published::first(state(feed, &points, number));
        let (mut steady, mut reader) = (Client::default(), Reader::new(None));
        let mut back = Client::default();
        for (who, score, takes, comes_back, commands) in changes {
            points.insert(who, score);
            feed += 1 + commands;
            number += commands / 2;
            let next = published.next(state(feed, &points, number), ring);
            published = next.expect("a moved feed is a change");
            if takes {
                reader.take(&published).iter().for_each(|frame| steady.take(frame));
                prop_assert_eq!(steady.ranked(), expected(published.state()));
                prop_assert_eq!(steady.feed, Some(feed));
                prop_assert_eq!(steady.participants, points.len() as u64);
            }
            if comes_back {
                let fresh = Reader::new(back.feed).take(&published);
                fresh.iter().for_each(|frame| back.take(frame));
                prop_assert_eq!(back.ranked(), expected(published.state()));
                prop_assert!(Reader::new(back.feed).take(&published).is_empty(), "up to date: nothing is sent");
            }
        }
    }

    /// The throttle in a simulated loop, against its promise.
    #[test]
    fn the_throttle_spaces_frames_and_never_misses_the_last_change(
        gaps in prop::collection::vec(0u64..1_200, 1..60), interval in 1u64..900,
    ) {
        let mut now = 0;
        let changes: Vec<u64> = gaps.iter().map(|gap| { now += gap; now }).collect();
        let mut throttle = Throttle::new(interval);
        let mut frames: Vec<u64> = Vec::new();
        let mut seen = 0;
        while let Some(&change) = changes.get(seen) {
            let woken = change.max(frames.last().copied().unwrap_or(0));
            let sent = throttle.due(woken);
            throttle.sent(sent);
            frames.push(sent);
            // A frame shows everything that happened up to it.
            seen = changes.partition_point(|&change| change <= sent);
        }
        prop_assert_eq!(frames[0], changes[0], "the first change goes out at once");
        prop_assert!(frames.windows(2).all(|pair| pair[1] - pair[0] >= interval));
        for change in &changes {
            let shown = frames.iter().find(|frame| *frame >= change).expect("every change is shown");
            prop_assert!(shown - change <= interval);
        }
    }
}

#[test]
fn a_view_that_went_back_is_not_shown() {
    let points = BTreeMap::from([(1, 10)]);
    let published = Published::first(state(5, &points, 1));
    assert!(published.next(state(4, &BTreeMap::new(), 0), 64).is_none());
    assert!(published.next(state(5, &points, 1), 64).is_none(), "nor one in which nothing moved");
    let id_of_another_server = Reader::new(Some(99)).take(&published);
    assert_eq!(id_of_another_server[0].event, Event::Snapshot);
}

#[test]
fn a_question_that_closes_by_the_clock_is_news_without_a_new_sequence() {
    let points = BTreeMap::from([(1, 10)]);
    let asked = |now: u64| {
        let mut state = state(5, &points, 1);
        let mut quiz = crate::quiz("host");
        let closes_at = Some(NOW.plus(20_000));
        quiz.status.windows = vec![Window { question: 1, opened_at: NOW, closes_at }];
        (state.quiz, state.now) = (Arc::new(quiz), NOW.plus(now));
        state
    };
    let open = Published::first(asked(19_999));
    let snapshot = Reader::new(None).take(&open);
    let data: Value = serde_json::from_str(&snapshot[0].data).unwrap();
    assert_eq!(data["quiz"]["question"]["id"], "q2");
    assert_eq!(
        data["quiz"]["questions"].as_array().unwrap().len(),
        1,
        "no question is shown before it opens"
    );
    let closed = open.next(asked(20_000), 64).unwrap();
    let frames = Reader::new(Some(5)).take(&closed);
    let data: Value = serde_json::from_str(&frames[0].data).unwrap();
    assert_eq!((frames[0].event, frames[0].from, frames[0].feed), (Event::Quiz, 5, 5));
    assert_eq!(data["quiz"]["question"], Value::Null);
}

#[test]
fn frames_read_the_same_on_both_wires() {
    let published = Published::first(state(7, &BTreeMap::from([(1, 10)]), 1));
    let frames = Reader::new(None).take(&published);
    let sse = String::from_utf8(frames[0].sse().to_vec()).unwrap();
    assert_eq!(sse, format!("id: 7\nevent: snapshot\ndata: {}\n\n", frames[0].data));
    let message: Value = serde_json::from_str(&frames[0].message()).unwrap();
    assert_eq!((&message["event"], &message["id"]), (&Value::from("snapshot"), &Value::from(7)));
    assert_eq!(message["data"], serde_json::from_str::<Value>(&frames[0].data).unwrap());
}

#[test]
fn no_frame_holds_a_key() {
    for pace in ["host", "free"] {
        let mut state = state(7, &BTreeMap::from([(1, 10)]), 1);
        let mut quiz = crate::quiz(pace);
        quiz.status.opened_at = Some(NOW);
        quiz.status.windows =
            (1..3).map(|question| Window { question, opened_at: NOW, closes_at: None }).collect();
        state.quiz = Arc::new(quiz);
        let data = Reader::new(None).take(&Published::first(state))[0].data.clone();
        // The right choice is shown among the choices, under its own name, once.
        assert_eq!(data.matches("CANARY").count(), usize::from(pace == "free"), "{data}");
        assert!(!data.contains("77123") && !data.contains("\"key\""), "{data}");
    }
}
