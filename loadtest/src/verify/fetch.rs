//! Reading from the gateway what the audit compares: the quiz, the whole leaderboard, books, receipts, own results.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::compare::{Books, Differences, Member, Row, compare_board, compare_books, compare_questions};
use super::ledger::{Ledger, Position, submission_id};
use super::recount::{Judged, Record, Recount, Timing, Window, explain, recount};
use crate::client::{Call, Connection, Pause};
use crate::quiz::{Host, Scenario, Seat};
use crate::schedule::Rng;

/// Receipts and own results that are looked at one by one: enough to meet a fault that touches one answer in thirty
/// with 97 % certainty.
const SAMPLE: usize = 100;
/// Rows asked for at once: the most that the gateway gives.
const PAGE: usize = 1_000;

/// Reads an RFC 3339 time as milliseconds since 1970; absent or null is 0.
pub(super) fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text: Option<std::borrow::Cow<'de, str>> = Option::deserialize(deserializer)?;
    text.map_or(Ok(0), |text| {
        parse_millis(&text).ok_or_else(|| serde::de::Error::custom(format!("{text} is no time")))
    })
}

/// Reads an RFC 3339 time as milliseconds since 1970.
pub(crate) fn parse_millis(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// A quiz as its host sees it.
#[derive(Debug, Deserialize)]
pub(crate) struct QuizState {
    /// No answer counts any more.
    #[serde(rename = "final", default)]
    pub(crate) is_final: bool,
    #[serde(default, deserialize_with = "millis")]
    opened_at: u64,
    #[serde(default, deserialize_with = "millis")]
    closed_at: u64,
    #[serde(default)]
    windows: Vec<QuestionWindow>,
    /// What players see of the questions that were opened: their windows too.
    #[serde(default)]
    questions: Vec<QuestionWindow>,
}

#[derive(Debug, Deserialize)]
struct QuestionWindow {
    #[serde(alias = "id")]
    question: String,
    #[serde(deserialize_with = "millis")]
    opened_at: u64,
    #[serde(default, deserialize_with = "millis")]
    closes_at: u64,
}

#[derive(Debug, Deserialize)]
struct Leaderboard {
    revision: serde_json::Value,
    participants: u64,
    rule: Rule,
    standings: Vec<Row>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    method: String,
    ties: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Receipt {
    submission: String,
    verdict: Option<String>,
    #[serde(default)]
    points: Option<Decimal>,
    #[serde(default)]
    correct: Option<bool>,
    #[serde(default, deserialize_with = "millis")]
    received_at: u64,
    position: String,
}

#[derive(Debug, Deserialize)]
struct OwnResult {
    points: Decimal,
    rank: u64,
}

/// What an audit looked at.
#[derive(Debug, Default)]
pub(crate) struct Audited {
    /// Participants whose totals and ranks were compared.
    pub(crate) participants: u64,
    /// Records counted again.
    pub(crate) records: u64,
    /// Of these, first valid answers.
    pub(crate) counted: u64,
    /// Of these, later ones.
    pub(crate) repeated: u64,
    /// Of these, late ones.
    pub(crate) late: u64,
    /// Submissions without an acknowledgement that turned out to be in the log.
    pub(crate) unknown_found: u64,
    /// Submissions without an acknowledgement that are not in the log.
    pub(crate) unknown_absent: u64,
    /// Receipts and own results compared one by one.
    pub(crate) samples: u64,
    /// What is wrong.
    pub(crate) differences: Differences,
}

/// Reads and compares, quiz by quiz.
pub(crate) struct Auditor<'a> {
    /// The run.
    pub(crate) scenario: &'a Scenario,
    /// The participants' places.
    pub(crate) seats: &'a [Seat],
    /// What was handed in and acknowledged.
    pub(crate) ledger: &'a Ledger,
    /// The host.
    pub(crate) host: &'a mut Host,
    /// For requests under a participant's own token.
    pub(crate) own: Connection,
    /// What was found so far.
    pub(crate) audited: Audited,
}

impl Auditor<'_> {
    /// Audits all quizzes.
    ///
    /// # Errors
    /// Something could not be read, so nothing can be said. Differences are not errors.
    pub(crate) async fn audit(mut self) -> Result<Audited> {
        let unknown = self.unknown_per_submission();
        let mut records = self.acknowledged();
        let mut extra = self.settle_unknown(&unknown, &mut records).await?;
        for quiz in 0..self.scenario.quizzes {
            let mine = records.remove(&quiz).unwrap_or_default();
            self.audit_quiz(quiz, mine, extra.remove(&quiz).unwrap_or(0)).await?;
        }
        Ok(self.audited)
    }

    async fn audit_quiz(&mut self, quiz: u32, mut records: Vec<Record>, extra: u64) -> Result<()> {
        let id = self.scenario.quiz_id(quiz);
        self.audited.differences.about(&id);
        let state = self.host.state(&id).await?;
        let timing = self.timing(&state);
        let recount = recount(&self.scenario.paper, &timing, &mut records, &mut self.audited.differences);
        let members: Vec<Member> = (0..self.scenario.seats())
            .filter(|player| self.scenario.quiz_of(*player) == quiz)
            .map(|player| Member {
                player,
                id: self.seats[player as usize].participant.clone(),
                name: self.scenario.name_of(player),
            })
            .collect();
        let rows = self.leaderboard(&id).await?;
        compare_board(&recount, &members, &rows, &mut self.audited.differences);
        for player in self.audited.differences.take_players() {
            let lines = explain(&self.scenario.paper, &timing, &records, &recount, player);
            self.audited.differences.notes.extend(lines);
        }
        let books: Books = self.read(&format!("/v1/quizzes/{id}/books")).await?;
        compare_books(&recount, extra, &books, &mut self.audited.differences);
        let names: Vec<&str> = self.scenario.paper.questions.iter().map(|asked| asked.id.as_str()).collect();
        compare_questions(&recount, &names, extra, &books, &mut self.audited.differences);
        self.sample(&id, &recount, &records, &rows, &members).await?;
        self.audited.participants += members.len() as u64;
        self.audited.records += recount.total.received();
        self.audited.counted += recount.total.counted;
        self.audited.repeated += recount.total.repeated;
        self.audited.late += recount.total.late;
        Ok(())
    }

    fn timing(&mut self, state: &QuizState) -> Timing {
        let until = |closes_at| if closes_at == 0 { u64::MAX } else { closes_at };
        let mut timing = Timing::default();
        if state.opened_at != 0 {
            timing.quiz = Some(Window { opened_at: state.opened_at, closes_at: until(state.closed_at) });
        }
        let questions = self.scenario.paper.questions.iter().map(|asked| asked.id.as_str());
        let index_of: HashMap<&str, u16> = questions.zip(0..).collect();
        for window in state.windows.iter().chain(&state.questions) {
            let Some(index) = index_of.get(window.question.as_str()) else {
                self.audited.differences.add(|| format!("a window of unknown question {}", window.question));
                continue;
            };
            let closes_at = until(window.closes_at);
            timing.questions.insert(*index, Window { opened_at: window.opened_at, closes_at });
        }
        timing
    }

    /// Returns one record per place that was acknowledged, by quiz. A submission acknowledged twice with one place is
    /// in the log once.
    fn acknowledged(&self) -> HashMap<u32, Vec<Record>> {
        let mut seen: HashMap<u32, Vec<&Position>> = HashMap::new();
        let mut records: HashMap<u32, Vec<Record>> = HashMap::new();
        for ack in &self.ledger.acks {
            let places = seen.entry(ack.submission).or_default();
            if places.contains(&&ack.position) {
                continue;
            }
            places.push(&ack.position);
            let content = self.ledger.submissions[ack.submission as usize];
            let (submission, received_at) = (ack.submission, ack.received_at);
            let record = Record { submission, content, received_at, position: ack.position.clone() };
            records.entry(self.scenario.quiz_of(content.player)).or_default().push(record);
        }
        records
    }

    fn unknown_per_submission(&self) -> HashMap<u32, u64> {
        let mut unknown = HashMap::new();
        for submission in &self.ledger.unknown {
            *unknown.entry(*submission).or_default() += 1;
        }
        unknown
    }

    /// Asks for the receipt of every submission of which a request got no answer: an earlier, unanswered request may be
    /// the one that counts. Returns, by quiz, how many requests remain that may be in the log unseen.
    async fn settle_unknown(
        &mut self,
        unknown: &HashMap<u32, u64>,
        records: &mut HashMap<u32, Vec<Record>>,
    ) -> Result<HashMap<u32, u64>> {
        let mut known: HashMap<u32, HashSet<Position>> = HashMap::new();
        for record in records.values().flatten().filter(|record| unknown.contains_key(&record.submission)) {
            known.entry(record.submission).or_default().insert(record.position.clone());
        }
        let mut submissions: Vec<u32> = unknown.keys().copied().collect();
        submissions.sort_unstable();
        let mut extra: HashMap<u32, u64> = HashMap::new();
        for submission in submissions {
            let content = self.ledger.submissions[submission as usize];
            let quiz = self.scenario.quiz_of(content.player);
            let mut unseen = unknown[&submission];
            let receipt = self.receipt(submission).await?;
            let places = known.entry(submission).or_default();
            match (&receipt, places.is_empty()) {
                (Some(_), true) => self.audited.unknown_found += 1,
                (None, true) => self.audited.unknown_absent += 1,
                (Some(_) | None, false) => {}
            }
            if let Some(receipt) = receipt {
                let position = receipt.position.parse::<Position>();
                let Ok(position) = position else {
                    bail!("a receipt has the position {:?}", receipt.position)
                };
                if places.insert(position.clone()) {
                    unseen -= 1;
                    let received_at = receipt.received_at;
                    let record = Record { submission, content, received_at, position };
                    records.entry(quiz).or_default().push(record);
                }
            }
            *extra.entry(quiz).or_default() += unseen;
        }
        Ok(extra)
    }

    /// Reads the whole leaderboard by pages.
    async fn leaderboard(&mut self, quiz: &str) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = Vec::new();
        let mut cursor = String::new();
        let mut first: Option<(serde_json::Value, u64)> = None;
        loop {
            let path = format!("/v1/quizzes/{quiz}/leaderboard?limit={PAGE}{cursor}");
            let page: Leaderboard = self.read(&path).await?;
            let differences = &mut self.audited.differences;
            match &first {
                None => {
                    differences.equal("the rank method", page.rule.method.as_str(), "standard");
                    let ties: Vec<&str> = page.rule.ties.iter().map(String::as_str).collect();
                    differences.equal("the tie-breaks", ties, vec!["correct", "time", "last_correct"]);
                    first = Some((page.revision, page.participants));
                }
                Some((revision, _)) if page.revision != *revision => {
                    differences
                        .add(|| format!("the board moved after final: {revision} to {}", page.revision));
                }
                Some(_) => {}
            }
            if page.standings.is_empty() && page.next_cursor.is_some() {
                bail!("{path} has no rows and yet a next page");
            }
            rows.extend(page.standings);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={}", escape(&next)),
                None => break,
            }
        }
        let participants = first.map_or(0, |(_, participants)| participants);
        self.audited.differences.equal("participants", participants, rows.len() as u64);
        Ok(rows)
    }

    /// Compares a random sample of receipts, and the own results of their participants.
    async fn sample(
        &mut self,
        quiz: &str,
        recount: &Recount,
        records: &[Record],
        rows: &[Row],
        members: &[Member],
    ) -> Result<()> {
        let mut per_submission: HashMap<u32, u32> = HashMap::new();
        for record in records {
            *per_submission.entry(record.submission).or_default() += 1;
        }
        // Of a submission that was recorded twice, either record may be the one that the receipt tells of.
        let mut chosen: Vec<usize> =
            (0..records.len()).filter(|&at| per_submission[&records[at].submission] == 1).collect();
        Rng::new(self.scenario.run, 6).shuffle(&mut chosen);
        chosen.truncate(SAMPLE);
        let rows: HashMap<&str, &Row> = rows.iter().map(|row| (row.participant.as_str(), row)).collect();
        let ids: HashMap<u32, &str> = members.iter().map(|m| (m.player, m.id.as_str())).collect();
        for at in chosen {
            let (record, judged) = (&records[at], recount.judged[at]);
            let receipt = self.receipt(record.submission).await?;
            let text = submission_id(self.scenario.run, record.submission).to_string();
            compare_receipt(record, judged, &text, receipt, &mut self.audited.differences);
            let player = record.content.player;
            let own: OwnResult = self.own_result(quiz, player).await?;
            if let Some(row) = rows.get(ids[&player]) {
                let differences = &mut self.audited.differences;
                differences.equal(&format!("own points of {}", row.name), own.points, row.points);
                differences.equal(&format!("own rank of {}", row.name), own.rank, row.rank);
            }
            self.audited.samples += 1;
        }
        Ok(())
    }

    async fn receipt(&mut self, submission: u32) -> Result<Option<Receipt>> {
        let player = self.ledger.submissions[submission as usize].player;
        let quiz = self.scenario.quiz_id(self.scenario.quiz_of(player));
        let participant = &self.seats[player as usize].participant;
        let id = submission_id(self.scenario.run, submission);
        let path = format!("/v1/quizzes/{quiz}/submissions/{id}?participant={participant}");
        let status = self.host.call(Method::GET, &path, Vec::new()).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => parse(&self.host.connection.reply, &path).map(Some),
            other => bail!("{path}: {other} {}", self.host.connection.reply_text()),
        }
    }

    async fn own_result(&mut self, quiz: &str, player: u32) -> Result<OwnResult> {
        let seat = &self.seats[player as usize];
        let bearer: &HeaderValue = &seat.bearer;
        let path = format!("/v1/quizzes/{quiz}/participants/{}", seat.participant);
        let uri = path.parse().context("a result's path")?;
        let call =
            Call { method: Method::GET, path: uri, bearer: Some(bearer), extra: None, body: Bytes::new() };
        let mut pause = Pause::new(Rng::new(self.scenario.run, 7));
        let head = self.own.settle(&call, std::time::Duration::from_secs(10), &mut pause).await?;
        if head.status != StatusCode::OK {
            bail!("{path}: {} {}", head.status, self.own.reply_text());
        }
        parse(&self.own.reply, &path)
    }

    async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let status = self.host.call(Method::GET, path, Vec::new()).await?;
        if status != StatusCode::OK {
            bail!("{path}: {status} {}", self.host.connection.reply_text());
        }
        parse(&self.host.connection.reply, path)
    }
}

fn compare_receipt(
    record: &Record,
    judged: Judged,
    id: &str,
    receipt: Option<Receipt>,
    differences: &mut Differences,
) {
    let Some(receipt) = receipt else {
        // Unscored answers keep a bounded number of receipts only.
        if let Judged::Counted { .. } = judged {
            differences.add(|| format!("the receipt of counted submission {id} is missing"));
        }
        return;
    };
    differences.equal("the submission of a receipt", receipt.submission.as_str(), id);
    // A second late answer may be called a repeat: see `Tally::late_again`.
    if judged != Judged::Late || receipt.verdict.as_deref() != Some(Judged::Repeated.name()) {
        differences.equal(&format!("the verdict of {id}"), receipt.verdict.as_deref(), Some(judged.name()));
    }
    differences.equal(&format!("received_at of {id}"), receipt.received_at, record.received_at);
    let position = receipt.position.parse().ok();
    differences.equal(&format!("the position of {id}"), position.as_ref(), Some(&record.position));
    let (points, correct) = match judged {
        Judged::Counted { points, correct } => (points, Some(correct)),
        Judged::Repeated | Judged::Late | Judged::TooEarly => (0, None),
    };
    differences.equal(
        &format!("the points of {id}"),
        receipt.points.unwrap_or_default(),
        Decimal::from(points),
    );
    if correct.is_some() {
        differences.equal(&format!("correctness of {id}"), receipt.correct, correct);
    }
}

fn parse<T: DeserializeOwned>(body: &[u8], path: &str) -> Result<T> {
    serde_json::from_slice(body).with_context(|| {
        let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
        format!("{path} answered {text}")
    })
}

/// Escapes an opaque cursor for a query.
fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            let written = write!(escaped, "%{byte:02X}");
            debug_assert!(written.is_ok(), "a String takes everything");
        }
    }
    escaped
}
