//! What a quiz must look like in the end, worked out from what its players were told.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};

use crate::plan::Plan;

/// Choices of every question.
pub(crate) const CHOICES: [&str; 4] = ["a", "b", "c", "d"];
/// Participants.
pub(crate) const PLAYERS: usize = 6;
/// Questions.
pub(crate) const QUESTIONS: usize = 3;
/// How long a question that the host opens takes answers: longer than any seed.
const LIMIT_MS: u64 = 120_000;

/// One answer to hand in.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) who: usize,
    pub(crate) question: usize,
    pub(crate) choice: &'static str,
    /// 0 for the first answer to a question.
    pub(crate) nth: usize,
}

impl Task {
    pub(crate) fn submission(&self) -> String {
        let number = (self.who * QUESTIONS + self.question) * 2 + self.nth;
        format!("00000000-0000-4000-8000-{number:012x}")
    }
}

/// One answer that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) task: Task,
    /// Whether a try failed: it may be the one in the log.
    pub(crate) is_retried: bool,
    /// Position and time of receipt, as each copy was told.
    pub(crate) told: Vec<(String, String)>,
}

/// A quiz as it was played.
#[derive(Debug, Clone)]
pub(crate) struct Game {
    pub(crate) is_hosted: bool,
    sections: u16,
    /// Ids of the participants.
    pub(crate) players: Vec<String>,
    /// In the order of acknowledgement per participant.
    pub(crate) acked: Vec<Acked>,
}

/// Everything that a gateway says about a quiz that ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Story {
    pub(crate) quiz: Value,
    pub(crate) board: Value,
    pub(crate) books: Value,
    /// Of each participant.
    pub(crate) results: Vec<Value>,
}

/// Returns the right choice.
pub(crate) fn key(question: usize) -> &'static str {
    CHOICES[question % CHOICES.len()]
}

/// One participant, added up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Total {
    points: Decimal,
    correct: u64,
    time_ms: u64,
    last_correct_at: u64,
}

/// Partition, then what orders places in it: the shard, the sequence number by length and digits, the place in a record.
type Place = (u64, (u32, usize, String, u64));

impl Game {
    pub(crate) fn new(plan: &Plan) -> Self {
        let (is_hosted, sections) = (plan.is_hosted, plan.sections);
        Self { is_hosted, sections, players: Vec::new(), acked: Vec::new() }
    }

    pub(crate) fn definition(&self) -> Value {
        let question = |nth: usize| {
            let choices: Vec<Value> = CHOICES.iter().map(|id| json!({"id": id, "text": id})).collect();
            let limit = if self.is_hosted { json!(LIMIT_MS) } else { Value::Null };
            let award = if self.is_hosted { "kahoot@1" } else { "flat@1" };
            json!({"id": format!("q{nth}"), "kind": "single_choice", "text": format!("Question {nth}?"),
                "choices": choices, "key": {"choice": key(nth)}, "points": self.points(nth).to_string(),
                "time_limit_ms": limit, "award": award})
        };
        let questions: Vec<Value> = (0..QUESTIONS).map(question).collect();
        let pace = if self.is_hosted { "host" } else { "free" };
        json!({"title": "Turmoil", "pace": pace, "sections": self.sections, "questions": questions})
    }

    /// Returns the full points of a question: fractions show whether sums are exact.
    fn points(&self, nth: usize) -> Decimal {
        if self.is_hosted {
            return Decimal::ONE_THOUSAND;
        }
        Decimal::from(100 + 7 * nth) + Decimal::new(1 + nth as i64, 6)
    }

    /// Returns what a right answer is worth, as the award's public description says.
    fn awarded(&self, question: usize, taken_ms: u64) -> Decimal {
        let points = self.points(question);
        if !self.is_hosted || taken_ms < 500 {
            return points;
        }
        let part = Decimal::from(taken_ms) / Decimal::from(LIMIT_MS) / Decimal::TWO;
        ((Decimal::ONE - part) * points).round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero)
    }

    /// Checks what gateways say against what they acknowledged.
    pub(crate) fn check(&self, story: &Story) {
        let opened: BTreeMap<&str, u64> = rows(&story.quiz["questions"])
            .iter()
            .map(|question| (text(&question["id"]), ms(&question["opened_at"])))
            .collect();
        let mut totals = vec![Total::default(); PLAYERS];
        let mut places = BTreeSet::new();
        let mut repeated = 0;
        for (who, total) in totals.iter_mut().enumerate() {
            let receipts = receipts(&story.results[who]);
            let mut last = None;
            for ack in self.acked.iter().filter(|ack| ack.task.who == who) {
                let receipt = receipts.get(&ack.task.submission());
                let receipt = receipt.unwrap_or_else(|| panic!("acknowledged and lost: {ack:?}"));
                let place = check_place(ack, receipt);
                assert!(last < Some(place.clone()), "positions rise in the order of sending: {ack:?}");
                assert!(places.insert(place.clone()), "two answers at {place:?}");
                last = Some(place);
                if ack.task.nth > 0 {
                    assert_eq!(receipt["verdict"], "repeated", "{receipt}");
                    repeated += 1;
                } else {
                    self.score(ack, receipt, opened[format!("q{}", ack.task.question).as_str()], total);
                }
            }
        }
        assert_eq!(places.len() - repeated, PLAYERS * QUESTIONS, "everybody answered everything");
        check_board(&totals, story);
        check_books(&totals, repeated as u64, &story.books);
    }

    /// Checks a first answer's points and adds them to its participant's total.
    fn score(&self, ack: &Acked, receipt: &Value, opened_at: u64, total: &mut Total) {
        assert_eq!(receipt["verdict"], "counted", "{ack:?} {receipt}");
        let received_at = ms(&receipt["received_at"]);
        let taken_ms = received_at.checked_sub(opened_at).expect("answered after it was opened");
        assert_eq!(receipt["taken_ms"], taken_ms, "{receipt}");
        let is_right = ack.task.choice == key(ack.task.question);
        let points = if is_right { self.awarded(ack.task.question, taken_ms) } else { Decimal::ZERO };
        assert_eq!(receipt["correct"], is_right, "{ack:?} {receipt}");
        assert_eq!(decimal(&receipt["points"]), points, "{ack:?} {receipt}");
        total.points += points;
        if is_right {
            total.correct += 1;
            total.time_ms += taken_ms;
            total.last_correct_at = total.last_correct_at.max(received_at);
        }
    }
}

/// Returns the first receipt of each submission. Only a repeated answer may have more: state keeps no trace of it, so
/// that sending it again is one more repetition.
fn receipts(result: &Value) -> BTreeMap<String, Value> {
    let mut map: BTreeMap<String, Value> = BTreeMap::new();
    for receipt in rows(&result["answers"]) {
        let known = map.entry(text(&receipt["submission"]).to_owned()).or_insert_with(|| receipt.clone());
        if known == receipt {
            continue;
        }
        for verdict in [&known["verdict"], &receipt["verdict"]] {
            assert_ne!(verdict, "counted", "counted and told of twice: {known} {receipt}");
        }
        if place(text(&receipt["position"])) < place(text(&known["position"])) {
            *known = receipt.clone();
        }
    }
    map
}

/// Checks when and where an answer was first written; returns the place.
fn check_place(ack: &Acked, receipt: &Value) -> Place {
    let (position, received_at) = (text(&receipt["position"]), text(&receipt["received_at"]));
    let found = place(position);
    assert!(ack.told.iter().all(|(said, _)| found <= place(said)), "{ack:?} {receipt}");
    assert!(ack.told.iter().all(|(said, _)| found.0 == place(said).0), "one partition: {ack:?} {receipt}");
    // A gateway that heard nothing from the log wrote the same again, and told of the second: the time is that of both.
    let is_told = ack.told.iter().any(|(_, said)| said == received_at);
    assert!(ack.is_retried || is_told, "{ack:?} {receipt}");
    found
}

fn check_board(totals: &[Total], story: &Story) {
    let standings = rows(&story.board["standings"]);
    assert_eq!((&story.board["participants"], standings.len()), (&json!(PLAYERS), PLAYERS));
    // More points first, then more correct answers, then less time, then the earlier last correct answer.
    let order =
        |total: &Total| (-total.points, u64::MAX - total.correct, total.time_ms, total.last_correct_at);
    let mut last = 0;
    for row in standings {
        let who = story.results.iter().position(|result| result["participant"] == row["participant"]);
        let who = who.unwrap_or_else(|| panic!("nobody joined as {row}"));
        let total = &totals[who];
        assert_eq!(decimal(&row["points"]), total.points, "{row}");
        assert_eq!(
            (&row["correct"], &row["time_ms"]),
            (&json!(total.correct), &json!(total.time_ms)),
            "{row}"
        );
        let rank = 1 + totals.iter().filter(|other| order(other) < order(total)).count() as u64;
        assert_eq!(row["rank"], rank, "{row}");
        assert_eq!(story.results[who]["rank"], rank, "{row}");
        assert!(rank >= last, "rows stand in the order of rank");
        last = rank;
    }
}

fn check_books(totals: &[Total], repeated: u64, books: &Value) {
    let sum: Decimal = totals.iter().map(|total| total.points).sum();
    assert_eq!(decimal(&books["points_awarded"]), sum, "{books}");
    assert_eq!(decimal(&books["points_ranked"]), sum, "{books}");
    let number = |name: &str| books[name].as_u64().unwrap();
    let counted = (PLAYERS * QUESTIONS) as u64;
    assert_eq!(number("counted"), counted, "{books}");
    // A try whose acknowledgement was lost is in the log as well: a repetition, or late when it was long on its way.
    assert!(number("repeated") + number("late") >= repeated, "{books}");
    assert_eq!(number("received"), counted + number("repeated") + number("late"), "{books}");
    assert_eq!((number("too_early"), number("in_flight")), (0, 0), "{books}");
    assert!(books["rejected"].as_object().unwrap().values().all(|count| count == 0), "{books}");
}

/// Returns a position such as `3-1042`, or `3-2:4957….7` where there are shards and aggregated records.
fn place(position: &str) -> Place {
    let (partition, rest) = position.split_once('-').unwrap();
    let (shard, rest) = rest.split_once(':').unwrap_or(("0", rest));
    let (digits, sub) = rest.split_once('.').unwrap_or((rest, "0"));
    assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "{position}");
    let within = (shard.parse().unwrap(), digits.len(), digits.to_owned(), sub.parse().unwrap());
    (partition.parse().unwrap(), within)
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn ms(time: &Value) -> u64 {
    let time: jiff::Timestamp = text(time).parse().unwrap();
    time.as_millisecond().try_into().unwrap()
}

fn decimal(value: &Value) -> Decimal {
    text(value).parse().unwrap()
}
