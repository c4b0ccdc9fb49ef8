//! The audit's own count: totals and ranks from what was acknowledged, written without a look at Podium's rules.

use std::collections::HashMap;

use super::Differences;
use super::ledger::{Position, Submission};
use crate::quiz::{Award, Paper};

/// Answers before this time get full points under `kahoot@1`.
const KAHOOT_FULL_MS: u64 = 500;

/// When a question took answers, in milliseconds since 1970, as the gateway says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// First moment.
    pub(crate) opened_at: u64,
    /// Last moment.
    pub(crate) closes_at: u64,
}

/// When one quiz took answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timing {
    /// The whole quiz.
    pub(crate) quiz: Option<Window>,
    /// Its questions, by index, where the gateway tells them one by one.
    pub(crate) questions: HashMap<u16, Window>,
}

/// One record that must be in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Index of the submission.
    pub(crate) submission: u32,
    /// What was handed in.
    pub(crate) content: Submission,
    /// When the gateway had it.
    pub(crate) received_at: u64,
    /// Where it is.
    pub(crate) position: Position,
}

/// What a record must have been judged to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The first valid answer.
    Counted {
        /// Points awarded.
        points: u64,
        /// Whether it is right.
        correct: bool,
    },
    /// A later one.
    Repeated,
    /// After the closing time.
    Late,
    /// Before the opening.
    TooEarly,
}

impl Judged {
    /// Returns the name used in receipts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counted { .. } => "counted",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::TooEarly => "too_early",
        }
    }
}

/// The figures that rank a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// Sum of points.
    pub(crate) points: u64,
    /// Right answers.
    pub(crate) correct: u64,
    /// Milliseconds taken for them.
    pub(crate) time_ms: u64,
    /// When the last of them was received, 0 for none.
    pub(crate) last_correct_at: u64,
}

impl Standing {
    /// Returns what sorts participants, the best first.
    fn key(&self) -> (std::cmp::Reverse<u64>, std::cmp::Reverse<u64>, u64, u64) {
        (std::cmp::Reverse(self.points), std::cmp::Reverse(self.correct), self.time_ms, self.last_correct_at)
    }
}

/// Records by judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// First valid answers.
    pub(crate) counted: u64,
    /// Later ones.
    pub(crate) repeated: u64,
    /// After the close.
    pub(crate) late: u64,
    /// Before the opening.
    pub(crate) too_early: u64,
    /// Those of the late ones that follow another late one to the same question. A section that has not heard of the
    /// close yet counts the first, calls the second repeated, and overrules the first only: both names are right.
    pub(crate) late_again: u64,
}

impl Tally {
    fn count(&mut self, judged: Judged) {
        match judged {
            Judged::Counted { .. } => self.counted += 1,
            Judged::Repeated => self.repeated += 1,
            Judged::Late => self.late += 1,
            Judged::TooEarly => self.too_early += 1,
        }
    }

    /// Returns all of them.
    pub(crate) fn received(&self) -> u64 {
        self.counted + self.repeated + self.late + self.too_early
    }
}

/// What the records of one quiz come to.
#[derive(Debug, Default)]
pub(crate) struct Recount {
    /// Standings by index of the participant; who answered nothing is absent.
    pub(crate) standings: HashMap<u32, Standing>,
    /// The judgement of each record, in the order of the records.
    pub(crate) judged: Vec<Judged>,
    /// All records.
    pub(crate) total: Tally,
    /// Records by question.
    pub(crate) questions: HashMap<u16, Tally>,
}

/// Counts the records of one quiz: per participant and question, the first valid one in the log wins. `records` come
/// back sorted that way.
pub(crate) fn recount(
    paper: &Paper,
    timing: &Timing,
    records: &mut [Record],
    differences: &mut Differences,
) -> Recount {
    let mut recount = Recount { judged: Vec::with_capacity(records.len()), ..Recount::default() };
    records.sort_by(|a, b| {
        let answer = |record: &Record| (record.content.player, record.content.question);
        answer(a).cmp(&answer(b)).then_with(|| a.position.place.cmp(&b.position.place))
    });
    for answers in records
        .chunk_by(|a, b| (a.content.player, a.content.question) == (b.content.player, b.content.question))
    {
        let (mut won, mut late) = (false, false);
        for record in answers {
            let judged = if won { Judged::Repeated } else { judge(paper, timing, record) };
            if let Judged::Counted { points, correct } = judged {
                won = true;
                let standing = recount.standings.entry(record.content.player).or_default();
                standing.points += points;
                if correct {
                    let at = record.received_at;
                    standing.correct += 1;
                    standing.time_ms += taken_ms(timing, record.content.question, at);
                    standing.last_correct_at = standing.last_correct_at.max(at);
                }
            }
            let question = recount.questions.entry(record.content.question).or_default();
            for tally in [&mut recount.total, question] {
                tally.count(judged);
                tally.late_again += u64::from(late && judged == Judged::Late);
            }
            late |= judged == Judged::Late;
            recount.judged.push(judged);
        }
    }
    check_places(records, differences);
    recount
}

/// Two records never share a place, and one participant's records never leave their partition.
fn check_places(records: &[Record], differences: &mut Differences) {
    let mut places: HashMap<&Position, u32> = HashMap::with_capacity(records.len());
    let mut homes: HashMap<u32, u32> = HashMap::new();
    for record in records {
        if let Some(other) = places.insert(&record.position, record.submission)
            && other != record.submission
        {
            let at = &record.position;
            differences
                .add(|| format!("submissions {other} and {} have one position {at:?}", record.submission));
        }
        let (player, partition) = (record.content.player, record.position.partition);
        let home = *homes.entry(player).or_insert(partition);
        if home != partition {
            differences
                .add(|| format!("participant {player} has answers in partitions {home} and {partition}"));
        }
    }
}

fn judge(paper: &Paper, timing: &Timing, record: &Record) -> Judged {
    let Some(window) = window(timing, record.content.question) else { return Judged::TooEarly };
    if record.received_at < window.opened_at {
        return Judged::TooEarly;
    }
    // The closing time itself is still in time.
    if record.received_at > window.closes_at {
        return Judged::Late;
    }
    let asked = &paper.questions[usize::from(record.content.question)];
    let correct = record.content.choice == asked.key;
    let taken_ms = record.received_at - window.opened_at;
    let points = match (correct, asked.award, asked.limit_ms) {
        (false, ..) => 0,
        (true, Award::Flat, _) | (true, Award::Kahoot, None) => asked.points,
        (true, Award::Kahoot, Some(limit_ms)) => kahoot(taken_ms, limit_ms, asked.points),
    };
    Judged::Counted { points, correct }
}

/// Tells what the audit knows of one participant's answers, a line for each record.
pub(crate) fn explain(
    paper: &Paper,
    timing: &Timing,
    records: &[Record],
    recount: &Recount,
    player: u32,
) -> Vec<String> {
    let mine = records.iter().zip(&recount.judged).filter(|(record, _)| record.content.player == player);
    let line = |(record, judged): (&Record, &Judged)| {
        let asked = &paper.questions[usize::from(record.content.question)].id;
        let when = window(timing, record.content.question).map_or_else(String::new, |window| {
            let opened = record.received_at as i128 - i128::from(window.opened_at);
            let closed = match window.closes_at {
                u64::MAX => String::new(),
                closes_at => {
                    format!(", {} ms to its closing", i128::from(closes_at) - i128::from(record.received_at))
                }
            };
            format!(", received {opened} ms after its opening{closed}")
        });
        let Position { partition, place } = &record.position;
        format!("p{player} {asked}{when}, in partition {partition} at {place:?}: must be {judged:?}")
    };
    mine.map(line).collect()
}

fn window(timing: &Timing, question: u16) -> Option<Window> {
    match timing.questions.get(&question) {
        Some(window) => Some(*window),
        None if timing.questions.is_empty() => timing.quiz,
        None => None,
    }
}

fn taken_ms(timing: &Timing, question: u16, at: u64) -> u64 {
    window(timing, question).map_or(0, |window| at.saturating_sub(window.opened_at))
}

/// Returns `(1 - (t / T) / 2) * P`, half up, and all of `P` under half a second, in whole numbers only.
///
/// Source: Kahoot support article 115002303908; 2 s of 30 s at 1,000 points give 967.
pub(crate) fn kahoot(taken_ms: u64, limit_ms: u64, points: u64) -> u64 {
    if taken_ms < KAHOOT_FULL_MS {
        return points;
    }
    let (dividend, divisor) = (points * (2 * limit_ms - taken_ms.min(limit_ms)), 2 * limit_ms);
    (2 * dividend + divisor) / (2 * divisor)
}

/// Numbers standings, given best first, as the standard method does: one more than those strictly better.
pub(crate) fn ranks(standings: &mut [(u32, Standing)]) -> Vec<u64> {
    standings.sort_by_key(|(player, standing)| (standing.key(), *player));
    let mut ranks: Vec<u64> = Vec::with_capacity(standings.len());
    for (place, (_, standing)) in standings.iter().enumerate() {
        match ranks.last() {
            Some(&rank) if standings[place - 1].1.key() == standing.key() => ranks.push(rank),
            Some(_) | None => ranks.push(place as u64 + 1),
        }
    }
    ranks
}
