//! Comparing what the gateway shows with the audit's own count; every difference is told, none is explained away.

use std::collections::HashMap;

use rust_decimal::Decimal;
use serde::Deserialize;

use super::recount::{Recount, Standing, Tally, ranks};

/// What was found, in words.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// The first [`SHOWN_MAX`].
    pub(crate) shown: Vec<String>,
    /// How many there are in all.
    pub(crate) total: u64,
    /// What the audit knows of the first [`EXPLAINED_MAX`] participants whose figures differ.
    pub(crate) notes: Vec<String>,
    players: Vec<u32>,
    prefix: String,
}

/// Participants of each quiz whose answers are told one by one.
pub(crate) const EXPLAINED_MAX: usize = 3;

/// Enough to see the pattern, few enough to read.
pub(crate) const SHOWN_MAX: usize = 20;

impl Differences {
    /// Names what the next differences are about.
    pub(crate) fn about(&mut self, prefix: impl Into<String>) {
        self.prefix = prefix.into();
    }

    /// Adds one.
    pub(crate) fn add(&mut self, text: impl FnOnce() -> String) {
        self.total += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(format!("{}: {}", self.prefix, text()));
        }
    }

    /// Returns the first participants of this quiz whose figures differ.
    pub(crate) fn take_players(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.players)
    }

    /// Adds one if two values are not equal.
    pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, shown: T, expected: T) {
        if shown != expected {
            self.add(|| format!("{what} is {shown:?}, must be {expected:?}"));
        }
    }
}

/// One row of a leaderboard as the gateway shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Row {
    /// The rank.
    pub(crate) rank: u64,
    /// Who, as 32 hexadecimal digits.
    pub(crate) participant: String,
    /// As shown.
    pub(crate) name: String,
    /// Sum of points.
    pub(crate) points: Decimal,
    /// Right answers.
    pub(crate) correct: u64,
    /// Milliseconds taken for them.
    pub(crate) time_ms: u64,
    /// When the last of them was scored.
    #[serde(default, deserialize_with = "super::fetch::millis")]
    pub(crate) last_correct_at: u64,
}

/// The books of a quiz as the gateway shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Books {
    /// All records.
    pub(crate) received: u64,
    /// First valid answers.
    pub(crate) counted: u64,
    /// Later ones.
    pub(crate) repeated: u64,
    /// After the close.
    pub(crate) late: u64,
    /// Before the opening.
    pub(crate) too_early: u64,
    /// By reason.
    pub(crate) rejected: HashMap<String, u64>,
    /// Not judged yet.
    pub(crate) in_flight: u64,
    /// Sum of the points of all judgements.
    pub(crate) points_awarded: Decimal,
    /// Sum of the points of the ranking.
    pub(crate) points_ranked: Decimal,
    /// The same by question.
    pub(crate) questions: HashMap<String, Books>,
}

/// A participant of the quiz: index, id as shown, name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Index of the participant.
    pub(crate) player: u32,
    /// The id as the gateway writes it.
    pub(crate) id: String,
    /// The name it was given.
    pub(crate) name: String,
}

/// Compares a complete leaderboard with the recount: ranks, points, figures, names, and that everybody is there once.
pub(crate) fn compare_board(
    recount: &Recount,
    members: &[Member],
    rows: &[Row],
    differences: &mut Differences,
) {
    let standing =
        |member: &Member| (member.player, recount.standings.get(&member.player).copied().unwrap_or_default());
    let mut expected: Vec<(u32, Standing)> = members.iter().map(standing).collect();
    let rank_of: HashMap<u32, (u64, Standing)> =
        ranks(&mut expected).into_iter().zip(&expected).map(|(rank, (p, s))| (*p, (rank, *s))).collect();
    let mut missing: HashMap<&str, &Member> = members.iter().map(|m| (m.id.as_str(), m)).collect();
    differences.equal("the number of rows", rows.len(), members.len());
    let mut known: Vec<(&Row, &Member)> = Vec::with_capacity(rows.len());
    for row in rows {
        match missing.remove(row.participant.as_str()) {
            Some(member) => known.push((row, member)),
            None => differences.add(|| format!("{} is on the board twice, or never joined", row.participant)),
        }
    }
    let mut absent: Vec<_> = missing.into_values().collect();
    absent.sort_by_key(|member| member.player);
    for member in absent {
        differences.add(|| format!("{} ({}) is not on the board", member.name, member.id));
    }
    // Figures before ranks: one wrong total moves hundreds of ranks, and would be hidden by them.
    for (row, member) in &known {
        compare_figures(row, member, rank_of[&member.player].1, differences);
    }
    let mut last_rank = 0;
    for (row, member) in known {
        if row.rank < last_rank {
            differences
                .add(|| format!("rank {} of {} comes after rank {last_rank}", row.rank, row.participant));
        }
        last_rank = row.rank;
        let rank = rank_of[&member.player].0;
        if row.rank != rank {
            differences.add(|| {
                format!("the rank of {} ({}) is {}, must be {rank}", member.name, member.id, row.rank)
            });
        }
    }
}

fn compare_figures(row: &Row, member: &Member, standing: Standing, differences: &mut Differences) {
    let before = differences.total;
    let who = format!("{} ({})", member.name, member.id);
    differences.equal(&format!("the name of {who}"), row.name.as_str(), member.name.as_str());
    differences.equal(&format!("the points of {who}"), row.points, Decimal::from(standing.points));
    differences.equal(&format!("the correct answers of {who}"), row.correct, standing.correct);
    differences.equal(&format!("the time of {who}"), row.time_ms, standing.time_ms);
    let last = standing.last_correct_at;
    differences.equal(&format!("the last correct answer of {who}"), row.last_correct_at, last);
    if differences.total > before && differences.players.len() < EXPLAINED_MAX {
        differences.players.push(member.player);
    }
}

/// Compares the books with the recount. `extra` records at most may be in the log without our knowledge: requests that
/// got no answer. They can only have repeated what is known, or come late.
pub(crate) fn compare_books(recount: &Recount, extra: u64, books: &Books, differences: &mut Differences) {
    let rejected: u64 = books.rejected.values().sum();
    let parts = books.counted + books.repeated + books.late + books.too_early + rejected + books.in_flight;
    differences.equal("received, against the sum of its parts,", books.received, parts);
    differences.equal("in_flight", books.in_flight, 0);
    differences.equal("rejected", rejected, 0);
    tally("", recount.total, extra, books, differences);
    let points: u64 = recount.standings.values().map(|standing| standing.points).sum();
    differences.equal("points_awarded", books.points_awarded, Decimal::from(points));
    differences.equal("points_ranked", books.points_ranked, Decimal::from(points));
}

/// Compares the books by question. Questions that the books leave out must have had no answer.
pub(crate) fn compare_questions(
    recount: &Recount,
    names: &[&str],
    extra: u64,
    books: &Books,
    differences: &mut Differences,
) {
    let none = Books::default();
    for (index, name) in (0..).zip(names) {
        let expected = recount.questions.get(&index).copied().unwrap_or_default();
        let shown = books.questions.get(*name).unwrap_or(&none);
        tally(&format!("question {name}: "), expected, extra, shown, differences);
    }
    for name in books.questions.keys().filter(|name| !names.contains(&name.as_str())) {
        differences.add(|| format!("the books have a question {name} that was never published"));
    }
}

fn tally(what: &str, expected: Tally, extra: u64, books: &Books, differences: &mut Differences) {
    differences.equal(&format!("{what}counted"), books.counted, expected.counted);
    differences.equal(&format!("{what}too_early"), books.too_early, expected.too_early);
    let least = |name: &str, shown: u64, least: u64, differences: &mut Differences| {
        if shown < least {
            differences.add(|| format!("{what}{name} is {shown}, must be at least {least}"));
        }
        shown.saturating_sub(least)
    };
    let more = least("repeated", books.repeated, expected.repeated, differences)
        + least("late", books.late, expected.late - expected.late_again, differences);
    let extra = extra + expected.late_again;
    if more < expected.late_again {
        differences.add(|| format!("{what}{} answers are missing", expected.late_again - more));
    }
    if more > extra {
        differences.add(|| {
            let (repeated, late) = (expected.repeated, expected.late);
            format!(
                "{what}repeated {} and late {} exceed {repeated} and {late} by {more}; unanswered requests explain {extra}",
                books.repeated, books.late
            )
        });
    }
}
