//! What callers read: the quiz as players may see it, rows, receipts and books. Nothing here has a place for a key.

use std::collections::BTreeMap;

use ingest::partition::{self, PartitionId};
use operators::definition::{Choice, Definition, Kind, Pace, RankingRule, Source};
use operators::effect::{Phase, Reason, Receipt, Tally, Verdict, Window};
use operators::id::{ParticipantId, QuizId, UnixMillis};
use operators::rank::Row;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Place, Points, Text, Time};
use crate::views::{BooksView, PlaceView, QuizView};

/// A quiz as players may see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuizState<'a> {
    /// What everybody sees, also in the list.
    #[serde(flatten)]
    pub summary: QuizSummary<'a>,
    /// The newest question that takes answers.
    pub question: Option<QuestionState<'a>>,
    /// Questions that were opened; in a free-paced quiz all of them once it is open.
    pub questions: Vec<QuestionState<'a>>,
    /// The gateway's time.
    #[schema(value_type = String, format = DateTime)]
    pub server_time: Time,
    /// The whole definition with its keys, for hosts only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub definition: Option<&'a Source>,
}

/// A quiz in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuizSummary<'a> {
    /// The quiz's id.
    #[schema(value_type = String)]
    pub quiz: &'a str,
    /// Its name.
    pub title: &'a str,
    /// Version of its definition.
    pub version: u64,
    /// `draft`, `open` or `closed`.
    pub phase: &'static str,
    /// No answer counts any more, and all are graded.
    pub r#final: bool,
    /// `host` or `free`.
    #[schema(value_type = String)]
    pub pace: Pace,
    /// Fixed shares of its participants.
    pub sections: u16,
    /// Number of questions.
    pub questions_total: usize,
    /// Number of participants.
    pub participants: u64,
}

/// A question as players may see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuestionState<'a> {
    /// The question's id.
    #[schema(value_type = String)]
    id: &'a str,
    /// Its place in the quiz, from 0.
    index: u16,
    /// What shape answers have.
    #[schema(value_type = String)]
    kind: Kind,
    /// The question as asked.
    text: &'a str,
    /// Its choices, for the kinds that have them.
    #[schema(value_type = Vec<Object>)]
    choices: &'a [Choice],
    /// Full points.
    #[schema(value_type = String)]
    points: Points,
    /// Milliseconds from opening to closing.
    time_limit_ms: Option<u64>,
    /// When it took its first answers.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Time,
    /// When it closes or closed, if that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    closes_at: Option<Time>,
}

/// Returns the window of the question that is asked now: the newest that has not closed.
pub fn current(view: &QuizView, now: UnixMillis) -> Option<&Window> {
    let asked = |window: &&Window| window.closes_at.is_none_or(|closes_at| closes_at > now);
    if view.status.phase != Phase::Open {
        return None;
    }
    view.status.windows.iter().rev().find(asked)
}

impl<'a> QuizSummary<'a> {
    /// Returns the quiz in short.
    pub fn new(view: &'a QuizView) -> Self {
        let source = view.definition.source();
        Self {
            quiz: view.quiz.as_str(),
            title: &source.title,
            version: view.status.version,
            phase: view.status.phase.name(),
            r#final: view.is_final,
            pace: source.pace,
            sections: source.sections,
            questions_total: source.questions.len(),
            participants: view.participants,
        }
    }
}

impl<'a> QuizState<'a> {
    /// Returns what players may see now: no question that was not opened, and never a key.
    pub fn new(view: &'a QuizView, now: UnixMillis) -> Self {
        let source = view.definition.source();
        let state = |window: &Window| QuestionState::new(source, window);
        let questions = match (source.pace, view.status.opened_at) {
            (Pace::Host, _) => view.status.windows.iter().filter_map(state).collect(),
            (Pace::Free, None) => Vec::new(),
            (Pace::Free, Some(opened_at)) => {
                let closes_at = view.status.closed_at;
                let indexes = (0u16..).take(source.questions.len());
                indexes.filter_map(|question| state(&Window { question, opened_at, closes_at })).collect()
            }
        };
        Self {
            summary: QuizSummary::new(view),
            question: current(view, now).and_then(state),
            questions,
            server_time: Time(now),
            definition: None,
        }
    }
}

impl<'a> QuestionState<'a> {
    fn new(source: &'a Source, window: &Window) -> Option<Self> {
        let question = source.questions.get(usize::from(window.question))?;
        Some(Self {
            id: question.id.as_str(),
            index: window.question,
            kind: question.kind,
            text: &question.text,
            choices: &question.choices,
            points: Points(question.points),
            time_limit_ms: question.time_limit_ms,
            opened_at: Time(window.opened_at),
            closes_at: window.closes_at.map(Time),
        })
    }
}

/// One row of a leaderboard.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowState<'a> {
    /// Place; equals share one.
    rank: u64,
    /// Who.
    #[schema(value_type = String)]
    participant: Text<ParticipantId>,
    /// As shown.
    name: &'a str,
    /// Sum of points.
    #[schema(value_type = String)]
    points: Points,
    /// Wholly right answers.
    correct: u32,
    /// Milliseconds taken for them.
    time_ms: u64,
    /// When the last of them was handed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_correct_at: Option<Time>,
}

impl<'a> From<&'a Row> for RowState<'a> {
    fn from(row: &'a Row) -> Self {
        let standing = &row.standing;
        Self {
            rank: row.rank,
            participant: Text(row.participant),
            name: &row.name,
            points: Points(standing.points),
            correct: standing.correct,
            time_ms: standing.time_ms,
            last_correct_at: (standing.correct > 0).then_some(Time(standing.last_correct_at)),
        }
    }
}

/// A piece of a leaderboard.
#[derive(Debug, Serialize, ToSchema)]
pub struct BoardState<'a> {
    /// Changes of the ranking that took effect.
    pub revision: u64,
    /// Participants in all.
    pub participants: u64,
    /// The rule that ordered the rows.
    #[schema(value_type = Object)]
    pub rule: &'a RankingRule,
    /// The rows.
    pub standings: Vec<RowState<'a>>,
    /// Where the next page starts; null on the last one.
    pub next_cursor: Option<String>,
}

/// The judgement of one submission.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptState {
    /// The submission.
    submission: String,
    /// Who handed it in.
    participant: String,
    /// The question.
    question: String,
    /// `graded`.
    status: &'static str,
    /// `counted`, `repeated`, `late`, `too_early` or `rejected`.
    verdict: &'static str,
    /// Why it was rejected.
    reason: Option<&'static str>,
    /// Whether all of it was right; null when it did not count.
    correct: Option<bool>,
    /// Points awarded.
    #[schema(value_type = String)]
    points: Points,
    /// The award policy; null when it did not count.
    policy: Option<&'static str>,
    /// When the gateway had the whole request.
    #[schema(value_type = String, format = DateTime)]
    received_at: Time,
    /// Milliseconds from opening to scoring time; null when it did not count.
    taken_ms: Option<u64>,
    /// Place in the log.
    #[schema(value_type = String)]
    position: Place,
    /// The section's revision with it.
    revision: u64,
    /// How the points came about.
    steps: Vec<Step>,
}

/// One step of scoring.
#[derive(Debug, Serialize, ToSchema)]
pub struct Step {
    /// `grading` or `award`.
    step: &'static str,
    /// The policy with its version.
    policy: &'static str,
    /// What came out: a fraction or points.
    value: String,
}

/// Returns the partition of a participant's answers.
pub fn partition_of(view: &QuizView, participant: ParticipantId, partitions: u16) -> PartitionId {
    let section = participant.section(view.definition.source().sections);
    partition::of_section(&view.quiz, section, partitions)
}

impl ReceiptState {
    /// Returns a receipt of a participant as callers see it; `partition` is where the participant's answers are.
    pub fn new(
        receipt: &Receipt,
        participant: ParticipantId,
        definition: &Definition,
        partition: PartitionId,
    ) -> Self {
        let index = definition.index_of(&receipt.question);
        let question = index.and_then(|index| definition.questions.get(usize::from(index)));
        let scored = receipt.fraction.zip(question);
        let steps = scored.map_or_else(Vec::new, |(fraction, question)| {
            let value = format!("{}/{}", fraction.numerator, fraction.denominator);
            let grading = Step { step: "grading", policy: question.grading.name(), value };
            let value = Points(receipt.points).to_string();
            vec![grading, Step { step: "award", policy: question.award.name(), value }]
        });
        let (verdict, reason) = verdict(receipt.verdict);
        Self {
            submission: receipt.submission.to_string(),
            participant: participant.to_string(),
            question: receipt.question.to_string(),
            status: "graded",
            verdict,
            reason,
            correct: receipt.fraction.map(|fraction| fraction.is_whole()),
            points: Points(receipt.points),
            policy: scored.map(|(_, question)| question.award.name()),
            received_at: Time(receipt.received_at),
            taken_ms: receipt.taken_ms,
            position: Place(partition, receipt.position),
            revision: receipt.revision,
            steps,
        }
    }
}

fn verdict(verdict: Verdict) -> (&'static str, Option<&'static str>) {
    match verdict {
        Verdict::Counted => ("counted", None),
        Verdict::Repeated => ("repeated", None),
        Verdict::Late => ("late", None),
        Verdict::TooEarly => ("too_early", None),
        Verdict::Rejected(reason) => ("rejected", Some(reason.name())),
    }
}

/// One participant's own result.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultState<'a> {
    /// The place, points and figures.
    #[serde(flatten)]
    row: RowState<'a>,
    /// Share of participants below, counting half of the equals, in percent.
    #[schema(value_type = String)]
    percentile: Points,
    /// Participants in all.
    participants: u64,
    /// Changes of the ranking that took effect.
    revision: u64,
    /// Receipts: counted answers by question, then the newest unscored ones.
    answers: Vec<ReceiptState>,
}

impl<'a> ResultState<'a> {
    /// Returns one participant's result.
    pub fn new(place: &'a PlaceView, participants: u64, revision: u64, answers: Vec<ReceiptState>) -> Self {
        Self {
            row: (&place.row).into(),
            percentile: Points(place.percentile),
            participants,
            revision,
            answers,
        }
    }
}

/// Answers by verdict.
#[derive(Debug, Serialize, ToSchema)]
pub struct TallyState {
    /// The sum of the others, in this view.
    received: u64,
    /// Graded and ranked.
    counted: u64,
    /// Second and later answers.
    repeated: u64,
    /// After the close.
    late: u64,
    /// Before the opening.
    too_early: u64,
    /// By reason.
    #[schema(value_type = Object)]
    rejected: BTreeMap<&'static str, u64>,
}

impl From<&Tally> for TallyState {
    fn from(tally: &Tally) -> Self {
        Self {
            received: tally.received(),
            counted: tally.counted,
            repeated: tally.repeated,
            late: tally.late,
            too_early: tally.too_early,
            rejected: Reason::ALL.iter().map(|reason| reason.name()).zip(tally.rejected).collect(),
        }
    }
}

/// The books of a quiz: `received = counted + repeated + late + too_early + rejected + in_flight`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BooksState<'a> {
    /// All questions together; `received` includes what is in flight.
    #[serde(flatten)]
    total: TallyState,
    /// Answers in the log that the view does not show yet.
    in_flight: u64,
    /// Sum of the points that the sections awarded.
    #[schema(value_type = String)]
    points_awarded: Points,
    /// Sum of the points of all participants, counted separately.
    #[schema(value_type = String)]
    points_ranked: Points,
    /// By question.
    #[schema(value_type = Object)]
    questions: BTreeMap<&'a str, TallyState>,
    /// Answers to questions that the quiz does not have, or did not have for certain: those before it opened.
    unknown_questions: TallyState,
}

impl<'a> BooksState<'a> {
    /// Returns the books under the questions' names.
    pub fn new(view: &BooksView, definition: &'a Definition) -> Self {
        let books = &view.books;
        let mut total = TallyState::from(&books.total);
        total.received += view.in_flight;
        let questions = (0u16..).zip(&definition.questions).map(|(index, question)| {
            let tally = books.questions.get(&Some(index)).copied().unwrap_or_default();
            (question.id.as_str(), TallyState::from(&tally))
        });
        let unknown = books.questions.get(&None).copied().unwrap_or_default();
        Self {
            total,
            in_flight: view.in_flight,
            points_awarded: Points(books.points_awarded),
            points_ranked: Points(books.points_ranked),
            questions: questions.collect(),
            unknown_questions: TallyState::from(&unknown),
        }
    }
}

/// A durable answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The submission.
    #[schema(value_type = String)]
    pub submission: Text<operators::id::SubmissionId>,
    /// When the gateway had the whole request.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Time,
    /// Place in the log.
    #[schema(value_type = String)]
    pub position: Place,
}

/// A page of quizzes.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuizList<'a> {
    /// In the order of their ids.
    pub quizzes: Vec<QuizSummary<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(value_type = Option<String>)]
    pub next_cursor: Option<&'a QuizId>,
}
