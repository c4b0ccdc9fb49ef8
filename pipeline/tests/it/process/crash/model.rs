//! What a quiz must look like after any number of crashes, worked out from the acknowledged answers alone.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};

use crate::process::harness::{Dice, submission, text};

/// Choices of every question.
const CHOICES: [&str; 4] = ["a", "b", "c", "d"];
/// Second answers of one participant. Each may be in the log twice, and the newest 16 unscored receipts are kept.
const REPEATS_MAX: usize = 8;

/// A quiz that is played over crashes.
#[derive(Clone, Copy)]
pub(in crate::process) struct Game {
    pub(in crate::process) seed: u64,
    pub(in crate::process) pace: &'static str,
    pub(in crate::process) sections: u16,
    pub(in crate::process) award: &'static str,
    pub(in crate::process) participants: usize,
    pub(in crate::process) rounds: usize,
    pub(in crate::process) questions_per_round: usize,
    /// Whether an answer that was sent once may be in the log twice, since the log did not answer a gateway.
    pub(in crate::process) unanswered: bool,
}

/// One answer to hand in.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) participant: usize,
    pub(super) question: usize,
    pub(super) choice: &'static str,
    pub(super) submission: String,
    /// How often it is sent at the same time.
    pub(super) copies: usize,
}

/// One answer that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Acked {
    pub(super) task: Task,
    /// Whether a try failed: it may be the one in the log.
    pub(super) retried: bool,
    /// Position and time of receipt, as each copy was told.
    pub(super) told: Vec<(String, String)>,
}

/// Everything that the server says about a quiz that ended.
#[derive(Debug, PartialEq)]
pub(super) struct Story {
    pub(super) quiz: Value,
    pub(super) board: Value,
    pub(super) books: Value,
    /// Of each participant.
    pub(super) results: Vec<Value>,
}

impl Game {
    pub(super) fn definition(&self) -> Value {
        let question = |nth: usize| {
            let choices: Vec<Value> = CHOICES.iter().map(|id| json!({"id": id, "text": id})).collect();
            let limit = if self.pace == "host" { json!(120_000) } else { Value::Null };
            json!({"id": format!("q{nth}"), "kind": "single_choice", "text": format!("Question {nth}?"),
                "choices": choices, "key": {"choice": key(nth)}, "points": self.points(nth).to_string(),
                "time_limit_ms": limit, "award": self.award})
        };
        let questions: Vec<Value> = (0..self.rounds * self.questions_per_round).map(question).collect();
        json!({"title": "Crashes", "pace": self.pace, "sections": self.sections, "questions": questions})
    }

    /// Returns the full points of a question: fractions show whether sums are exact.
    fn points(&self, nth: usize) -> Decimal {
        match self.award {
            "flat@1" => Decimal::from(100 + 7 * nth) + Decimal::new(1 + nth as i64, 6),
            _ => Decimal::ONE_THOUSAND,
        }
    }

    /// Returns what a right answer is worth, as the award's public description says.
    fn awarded(&self, question: usize, taken_ms: u64) -> Decimal {
        let points = self.points(question);
        match self.award {
            "flat@1" => points,
            "kahoot@1" if taken_ms < 500 => points,
            "kahoot@1" => {
                let part = Decimal::from(taken_ms) / Decimal::from(120_000) / Decimal::TWO;
                let exact = (Decimal::ONE - part) * points;
                exact.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero)
            }
            other => panic!("{other} is not described here"),
        }
    }

    /// Returns what each participant hands in, round by round, in order.
    pub(super) fn tasks(&self) -> Vec<Vec<Vec<Task>>> {
        let mut dice = Dice(self.seed);
        let mut repeats = vec![0; self.participants];
        let mut count = 0;
        let mut task = |participant, question, choice, copies| {
            count += 1;
            Task { participant, question, choice, submission: submission(count), copies }
        };
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let mut chains = Vec::new();
            for (participant, repeats) in repeats.iter_mut().enumerate() {
                let mut chain = Vec::new();
                for question in (round * self.questions_per_round..).take(self.questions_per_round) {
                    let right = dice.below(2) == 0;
                    let choice = if right { key(question) } else { CHOICES[dice.below(4) as usize] };
                    let copies = if dice.below(6) == 0 { 2 } else { 1 };
                    chain.push(task(participant, question, choice, copies));
                    if dice.below(6) == 0 && *repeats < REPEATS_MAX {
                        *repeats += 1;
                        chain.push(task(participant, question, key(question), 1));
                    }
                }
                chains.push(chain);
            }
            rounds.push(chains);
        }
        rounds
    }
}

fn key(question: usize) -> &'static str {
    CHOICES[question % CHOICES.len()]
}

/// One participant, added up from receipts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Total {
    points: Decimal,
    correct: u64,
    time_ms: u64,
    last_correct_at: u64,
}

/// Checks what the server says against what it acknowledged, in the order of acknowledgement per participant.
pub(super) fn check(game: &Game, acked: &[Acked], story: &Story) {
    let opened: BTreeMap<String, u64> = questions(&story.quiz).collect();
    let mut totals = vec![Total::default(); game.participants];
    let mut places = BTreeSet::new();
    let mut repeated = 0;
    for (participant, total) in totals.iter_mut().enumerate() {
        let receipts = receipts(&story.results[participant]);
        let mut answered = BTreeSet::new();
        let mut last = None;
        for ack in acked.iter().filter(|ack| ack.task.participant == participant) {
            let receipt = receipts.get(&ack.task.submission);
            let receipt = receipt.unwrap_or_else(|| panic!("acknowledged and lost: {ack:?}"));
            let place = check_place(game, ack, receipt);
            assert!(
                last < Some(place.clone()),
                "positions of one participant rise in the order of sending: {ack:?}"
            );
            assert!(places.insert(place.clone()), "two answers at {place:?}");
            last = Some(place);
            if !answered.insert(ack.task.question) {
                assert_eq!(receipt["verdict"], "repeated", "{receipt}");
                repeated += 1;
                continue;
            }
            score(game, ack, receipt, opened[&format!("q{}", ack.task.question)], total);
        }
    }
    let counted = places.len() - repeated;
    check_board(&totals, story);
    check_books(&totals, counted as u64, repeated as u64, &story.books);
}

fn questions(quiz: &Value) -> impl Iterator<Item = (String, u64)> {
    let all = quiz["questions"].as_array().unwrap();
    all.iter().map(|question| (text(&question["id"]), ms(&question["opened_at"])))
}

/// Returns the first receipt of each submission. Only a repeated answer may have more: state keeps no trace of it, so
/// that sending it again is one more repetition.
fn receipts(result: &Value) -> BTreeMap<String, Value> {
    let mut map: BTreeMap<String, Value> = BTreeMap::new();
    for receipt in result["answers"].as_array().unwrap() {
        let known = map.entry(text(&receipt["submission"])).or_insert_with(|| receipt.clone());
        if known == receipt {
            continue;
        }
        assert_eq!(
            (&known["verdict"], &receipt["verdict"]),
            (&json!("repeated"), &json!("repeated")),
            "{receipt}"
        );
        if place(&text(&receipt["position"])) < place(&text(&known["position"])) {
            *known = receipt.clone();
        }
    }
    map
}

/// Checks when and where an answer was first written; returns the place.
fn check_place(game: &Game, ack: &Acked, receipt: &Value) -> Place {
    let (position, received_at) = (text(&receipt["position"]), text(&receipt["received_at"]));
    let found = place(&position);
    assert!(ack.told.iter().all(|(said, _)| found <= place(said)), "{ack:?} {receipt}");
    assert!(ack.told.iter().all(|(said, _)| found.0 == place(said).0), "one partition: {ack:?} {receipt}");
    let same = |(said, at): &(String, String)| (game.unanswered || *said == position) && *at == received_at;
    assert!(ack.retried || ack.told.iter().any(same), "{ack:?} {receipt}");
    found
}

/// Checks a first answer's points and adds them to its participant's total.
fn score(game: &Game, ack: &Acked, receipt: &Value, opened_at: u64, total: &mut Total) {
    assert_eq!(receipt["verdict"], "counted", "{ack:?} {receipt}");
    let received_at = ms(&receipt["received_at"]);
    let taken_ms = received_at - opened_at;
    assert_eq!(receipt["taken_ms"], taken_ms, "{receipt}");
    let right = ack.task.choice == key(ack.task.question);
    let points = if right { game.awarded(ack.task.question, taken_ms) } else { Decimal::ZERO };
    assert_eq!(receipt["correct"], right, "{ack:?} {receipt}");
    assert_eq!(decimal(&receipt["points"]), points, "{ack:?} {receipt}");
    total.points += points;
    if right {
        total.correct += 1;
        total.time_ms += taken_ms;
        total.last_correct_at = total.last_correct_at.max(received_at);
    }
}

fn check_board(totals: &[Total], story: &Story) {
    let rows = story.board["standings"].as_array().unwrap();
    assert_eq!(story.board["participants"], totals.len());
    assert_eq!(rows.len(), totals.len());
    // More points first, then more correct answers, then less time, then the earlier last correct answer.
    let order =
        |total: &Total| (-total.points, u64::MAX - total.correct, total.time_ms, total.last_correct_at);
    let mut last = 0;
    for row in rows {
        let who = story.results.iter().position(|result| result["participant"] == row["participant"]);
        let total = &totals[who.unwrap_or_else(|| panic!("nobody joined as {row}"))];
        assert_eq!(decimal(&row["points"]), total.points, "{row}");
        assert_eq!(
            (&row["correct"], &row["time_ms"]),
            (&json!(total.correct), &json!(total.time_ms)),
            "{row}"
        );
        let rank = 1 + totals.iter().filter(|other| order(other) < order(total)).count() as u64;
        assert_eq!(row["rank"], rank, "{row}");
        assert_eq!(story.results[who.unwrap()]["rank"], rank, "{row}");
        assert!(rank >= last, "rows stand in the order of rank");
        last = rank;
    }
}

fn check_books(totals: &[Total], counted: u64, repeated: u64, books: &Value) {
    let sum: Decimal = totals.iter().map(|total| total.points).sum();
    assert_eq!(decimal(&books["points_awarded"]), sum, "{books}");
    assert_eq!(decimal(&books["points_ranked"]), sum, "{books}");
    assert_eq!(books["counted"], counted, "{books}");
    let number = |name: &str| books[name].as_u64().unwrap();
    // A try whose acknowledgement was lost is in the log as well, and counts as a repetition.
    assert!(number("repeated") >= repeated, "{books}");
    assert_eq!(number("received"), counted + number("repeated"), "{books}");
    for none in ["late", "too_early", "in_flight"] {
        assert_eq!(books[none], 0, "{books}");
    }
    assert!(books["rejected"].as_object().unwrap().values().all(|count| count == 0), "{books}");
}

/// Partition, then what orders places in it: the shard, the sequence number by length and digits, the place in a record.
type Place = (u64, (u32, usize, String, u64));

/// Returns a position such as `3-1042`, or `3-2:4957….7` where there are shards and aggregated records.
fn place(position: &str) -> Place {
    let (partition, rest) = position.split_once('-').unwrap();
    let (shard, rest) = rest.split_once(':').unwrap_or(("0", rest));
    let (digits, sub) = rest.split_once('.').unwrap_or((rest, "0"));
    assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "{position}");
    let within = (shard.parse().unwrap(), digits.len(), digits.to_owned(), sub.parse().unwrap());
    (partition.parse().unwrap(), within)
}

fn ms(time: &Value) -> u64 {
    let time: jiff::Timestamp = text(time).parse().unwrap();
    time.as_millisecond().try_into().unwrap()
}

fn decimal(value: &Value) -> Decimal {
    text(value).parse().unwrap()
}
