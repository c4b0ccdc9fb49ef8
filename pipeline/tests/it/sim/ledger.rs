//! What clients, gateways and the store's observers remember, so that the checks need to believe nobody.

use std::collections::BTreeMap;

use ingest::partition::PartitionId;
use ingest::proto;
use operators::event::{Response, Stamp};
use operators::id::{ParticipantId, QuestionId, QuizId, SubmissionId, UnixMillis};
use pipeline::store::{Header, Unit};
use prost::Message;

use super::gateway::Seen;

/// Everything remembered in one run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Answers that some client handed in, in the order of their arrival at a gateway.
    pub(super) handed_in: Vec<HandIn>,
    /// Answers that a gateway acknowledged.
    pub(super) acked: Vec<Acked>,
    /// How often each thing went wrong.
    pub(super) faults: Faults,
    violations: Vec<Violation>,
    headers: BTreeMap<Unit, (Header, u64)>,
    revisions: BTreeMap<(Unit, Vec<u8>), (u64, u64)>,
    boards: BTreeMap<(usize, QuizId), (u64, u64)>,
    /// By gateway, the newest decision on a quiz that it has shown.
    shown: BTreeMap<(usize, QuizId), u64>,
    /// By quiz and newest decision shown, the latest time that such a view claimed to be as of.
    pub(super) claims: BTreeMap<(QuizId, u64), UnixMillis>,
    connections: usize,
}

/// An answer at a gateway.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HandIn {
    pub(super) quiz: QuizId,
    pub(super) participant: ParticipantId,
    pub(super) submission: SubmissionId,
    pub(super) question: QuestionId,
    pub(super) response: Response,
    pub(super) received_at: UnixMillis,
    /// The client had seen the question open before it sent this.
    pub(super) seen_open: bool,
}

/// An acknowledged answer.
#[derive(Debug, Clone)]
pub(super) struct Acked {
    pub(super) answer: HandIn,
    /// Where the gateway says that it is; nowhere, if it never heard from the log.
    pub(super) at: Option<(PartitionId, Stamp)>,
}

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) check: &'static str,
    pub(super) detail: String,
}

/// How often each thing went wrong; a simulation in which nothing goes wrong checks nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) mute: u64,
    pub(super) late: u64,
    pub(super) twice: u64,
    pub(super) partial: u64,
    pub(super) slow: u64,
    pub(super) crashes: u64,
    pub(super) outages: u64,
    pub(super) take_overs: u64,
    /// Workers that slept in the midst of a commit until another had their unit, and went on.
    pub(super) zombies: u64,
    /// Writes of effects by a worker that had lost its unit.
    pub(super) zombie_effects: u64,
    /// Headers refused because the worker had lost its unit.
    pub(super) fenced: u64,
    pub(super) poison: u64,
    pub(super) stale_views: u64,
    pub(super) refused: u64,
    pub(super) unacknowledged: u64,
    /// Shards that were split, or two that were merged.
    pub(super) reshards: u64,
    /// Leases that were taken, and given up because their shard was read to its end.
    pub(super) leases: u64,
    pub(super) finished: u64,
}

impl Faults {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            lost,
            mute,
            late,
            twice,
            partial,
            slow,
            crashes,
            outages,
            take_overs,
            zombies,
            zombie_effects,
            ..
        } = other;
        let Self { fenced, poison, stale_views, refused, unacknowledged, .. } = other;
        let Self { reshards, leases, finished, .. } = other;
        self.reshards += reshards;
        self.leases += leases;
        self.finished += finished;
        self.lost += lost;
        self.mute += mute;
        self.late += late;
        self.twice += twice;
        self.partial += partial;
        self.slow += slow;
        self.crashes += crashes;
        self.outages += outages;
        self.take_overs += take_overs;
        self.zombies += zombies;
        self.zombie_effects += zombie_effects;
        self.fenced += fenced;
        self.poison += poison;
        self.stale_views += stale_views;
        self.refused += refused;
        self.unacknowledged += unacknowledged;
    }
}

/// More are not kept: the first ones tell.
const VIOLATIONS_MAX: usize = 64;

impl Ledger {
    pub(super) fn violated(&mut self, check: &'static str, detail: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { check, detail });
        }
    }

    pub(super) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// I7: sees every header that a store takes.
    pub(super) fn header(&mut self, unit: Unit, header: Header) {
        let (last, newest) = self.headers.get(&unit).copied().unwrap_or_default();
        if header.epoch < newest {
            self.violated(
                "I7",
                format!("{unit:?}: fenced epoch {} moved the header, {newest} owns it", header.epoch),
            );
        }
        if header.position < last.position {
            self.violated("I7", format!("{unit:?}: the position went from {last:?} back to {header:?}"));
        }
        self.headers.insert(unit, (header, newest.max(header.epoch)));
    }

    /// I6: sees every row that becomes visible.
    pub(super) fn row(&mut self, unit: Unit, key: &[u8], value: Option<&[u8]>) {
        let (Some(value), Some(found)) = (value, revision_of(key)) else { return };
        let newest = match found {
            Revision::Ranking => proto::RankingHeader::decode(value).map(|h| (h.revision, h.feed)),
            Revision::Section => proto::SectionHeader::decode(value).map(|h| (h.revision, h.number)),
        };
        let Ok(newest) = newest else { return };
        let before = self.revisions.insert((unit, key.to_vec()), newest).unwrap_or_default();
        if newest.0 < before.0 || newest.1 < before.1 {
            self.violated(
                "I6",
                format!("{unit:?}: the revision of a row went from {before:?} back to {newest:?}"),
            );
        }
    }

    /// Returns the number of a new reader's connection.
    pub(super) fn connect(&mut self) -> usize {
        self.connections += 1;
        self.connections
    }

    /// I18: sees what a reader sees of a ranking.
    pub(super) fn board(&mut self, reader: usize, quiz: &QuizId, revision: u64, feed: u64) {
        let newest = (revision, feed);
        let before = self.boards.insert((reader, quiz.clone()), newest).unwrap_or_default();
        if newest.0 < before.0 || newest.1 < before.1 {
            self.violated("I18", format!("reader {reader} of {quiz} saw {newest:?} after {before:?}"));
        }
    }
}

impl Ledger {
    /// Notes what a gateway shows and claims.
    pub(super) fn seen(&mut self, quiz: &QuizId, seen: Option<&Seen>) {
        let Some((as_of, view)) = seen else { return };
        let claim = self.claims.entry((quiz.clone(), view.status.number)).or_default();
        *claim = (*as_of).max(*claim);
    }

    /// Returns the newest decision on a quiz that a gateway has shown.
    pub(super) fn newest(&self, gateway: usize, quiz: &QuizId) -> u64 {
        self.shown.get(&(gateway, quiz.clone())).copied().unwrap_or(0)
    }

    /// Forgets what a gateway has shown, which has started again.
    pub(super) fn restarted(&mut self, gateway: usize) {
        self.shown.retain(|(of, _), _| *of != gateway);
    }

    /// I18: sees what a gateway shows, to somebody who asked when it had shown `before` already.
    pub(super) fn showed(&mut self, gateway: usize, quiz: &QuizId, before: u64, number: u64) {
        if number < before {
            let detail = format!("gateway {gateway} showed decision {number} of {quiz} after {before}");
            self.violated("I18", detail);
        }
        let newest = self.shown.entry((gateway, quiz.clone())).or_default();
        *newest = number.max(*newest);
    }
}

enum Revision {
    Ranking,
    Section,
}

/// Tells which rows hold a revision: the headers of rankings and of sections.
fn revision_of(key: &[u8]) -> Option<Revision> {
    let (&family, rest) = key.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let rest = rest.get(usize::from(length)..)?;
    match (family, rest) {
        (b'r', [b'h']) => Some(Revision::Ranking),
        (b's', [0, _, _, b'h']) => Some(Revision::Section),
        _ => None,
    }
}
