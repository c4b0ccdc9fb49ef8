//! The rank stage: rankings of quizzes over `standings`, and the rows that readers of receipts use.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ingest::codec::{self, DecodeError, part};
use ingest::log::Record;
use ingest::proto;
use operators::effect::{Effect, Receipt, Slot, Verdict};
use operators::event::Stamp;
use operators::id::{ParticipantId, QuizId, UnixMillis};
use operators::quiz::Desk;
use operators::rank::{Board, Header, Mark, Member, Parts, Ranking};
use prost::Message;
use rust_decimal::Decimal;

use super::{Armed, Meaning, Operator, key};
use crate::store::{Changes, Row, Stage};

/// Hears what a rank stage made visible.
pub trait Audience: Send + Sync {
    /// An effect was applied, or found applied before.
    fn applied(&self, effect: &Effect);
    /// A ranking will have moved to this place of its feed once [`Audience::committed`] names it.
    fn moved(&self, quiz: &QuizId, feed: u64);
    /// What was applied to these quizzes since the last call is durable.
    fn committed(&self, quizzes: &[QuizId]);
}

/// The rank operator.
pub struct Rank {
    audience: Arc<dyn Audience>,
}

impl Rank {
    /// Returns the operator; `audience` hears of every change.
    pub fn new(audience: Arc<dyn Audience>) -> Self {
        Self { audience }
    }
}

/// Nobody listens.
pub struct Silence;

impl Audience for Silence {
    fn applied(&self, _effect: &Effect) {}
    fn moved(&self, _quiz: &QuizId, _feed: u64) {}
    fn committed(&self, _quizzes: &[QuizId]) {}
}

const FAMILY_RANKING: u8 = b'r';
/// Receipts are for readers only, so they are no part of the rows that make a state.
const FAMILY_RECEIPT: u8 = b'v';
/// Quizzes in the order of their ids.
const FAMILY_INDEX: u8 = b'i';
const BOARD: u8 = b'b';
const HEADER: u8 = b'h';
const TALLY: u8 = b'k';
const MEMBER: u8 = b'm';
const MARK: u8 = b's';
/// Ends the key of a mark that a receipt was overruled.
const OVERRULED: u8 = b'x';
/// Ends the key of the receipt that counts instead.
const INSTEAD: u8 = b'y';
/// Stands for answers to unknown questions; question indexes stay below it.
const UNKNOWN: u16 = u16::MAX;

/// Returns the key of the row that a published quiz has.
pub fn board_key(quiz: &QuizId) -> Vec<u8> {
    key::join(&key::quiz(FAMILY_RANKING, quiz), BOARD, &[])
}

/// Returns the prefix of a participant's receipts.
pub fn receipts_prefix(quiz: &QuizId, participant: ParticipantId) -> Vec<u8> {
    key::join(&key::quiz(FAMILY_RECEIPT, quiz), 0, &[&participant.0.to_be_bytes()])
}

/// Returns the key of one receipt.
pub fn receipt_key(quiz: &QuizId, participant: ParticipantId, slot: Slot) -> Vec<u8> {
    let mut key = receipts_prefix(quiz, participant);
    match slot {
        Slot::Question(index) => key.extend_from_slice(&index.to_be_bytes()),
        Slot::Instead(index) => {
            key.extend_from_slice(&index.to_be_bytes());
            key.push(INSTEAD);
        }
        Slot::Recent(place) => {
            key.extend_from_slice(&UNKNOWN.to_be_bytes());
            key.push(place);
        }
    }
    key
}

/// Returns the key of the row that stands behind a receipt once its answer was overruled.
fn overruled_key(quiz: &QuizId, participant: ParticipantId, question: u16) -> Vec<u8> {
    let mut key = receipt_key(quiz, participant, Slot::Question(question));
    key.push(OVERRULED);
    key
}

/// Returns the receipts of one participant from the rows under [`receipts_prefix`], overruled ones as they are now.
///
/// # Errors
/// A row that cannot be read.
pub fn receipts(rows: &[Row]) -> Result<Vec<Receipt>, DecodeError> {
    let mut receipts: Vec<Receipt> = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        // A mark stands right behind the receipt that it is about, and has no content of its own.
        if value.is_empty() && key.last() == Some(&OVERRULED) {
            receipts.last_mut().into_iter().for_each(overrule);
        } else {
            receipts.push(receipt(value)?);
        }
    }
    Ok(receipts)
}

fn overrule(receipt: &mut Receipt) {
    receipt.verdict = Verdict::Late;
    receipt.fraction = None;
    receipt.points = Decimal::ZERO;
    receipt.taken_ms = None;
}

/// Returns a receipt from its row.
///
/// # Errors
/// A row that cannot be read.
pub fn receipt(value: &[u8]) -> Result<Receipt, DecodeError> {
    let message = proto::Receipt::decode(value).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    part::receipt(message)
}

/// What a row is to somebody who follows one quiz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A receipt of a participant.
    Receipt(ParticipantId),
    /// A participant's place in the ranking.
    Member(ParticipantId),
    /// The quiz itself, or what a section has reached: a command may have become visible.
    Board,
    /// Another part of the ranking.
    Part,
}

/// Returns what a row is to a quiz; `None` for another's.
pub fn kind(quiz: &QuizId, key: &[u8]) -> Option<Kind> {
    let (&family, _) = key.split_first()?;
    if !matches!(family, FAMILY_RANKING | FAMILY_RECEIPT) {
        return None;
    }
    let rest = key.strip_prefix(key::quiz(family, quiz).as_slice())?;
    let (&kind, rest) = rest.split_first()?;
    match (family, kind) {
        (FAMILY_RECEIPT, _) => key::participant(rest).map(|(participant, _)| Kind::Receipt(participant)),
        (_, MEMBER) => key::participant(rest).map(|(participant, _)| Kind::Member(participant)),
        (_, BOARD | MARK) => Some(Kind::Board),
        _ => Some(Kind::Part),
    }
}

/// Returns the name in a participant's row of the ranking.
pub fn member_name(value: &[u8]) -> Option<String> {
    proto::Member::decode(value).ok().map(|member| member.name)
}

/// Returns the prefix of the rows that make a ranking.
pub fn prefix(quiz: &QuizId) -> Vec<u8> {
    key::quiz(FAMILY_RANKING, quiz)
}

/// Returns the key of a quiz in the index of quizzes, which is in the order of ids; `None`: the index's prefix.
pub fn index_key(quiz: Option<&QuizId>) -> Vec<u8> {
    let mut key = vec![FAMILY_INDEX];
    key.extend_from_slice(quiz.map_or("", QuizId::as_str).as_bytes());
    key
}

/// Returns the quiz of a row of the index, with its participants when it last changed.
pub fn index_entry((key, value): &Row) -> Option<(QuizId, u64)> {
    let quiz = std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()?;
    Some((quiz, proto::QuizIndex::decode(&**value).ok()?.participants))
}

/// Returns the prefix of the rows that hold what each section reported.
pub fn marks_prefix(quiz: &QuizId) -> Vec<u8> {
    key::join(&key::quiz(FAMILY_RANKING, quiz), MARK, &[])
}

impl Operator for Rank {
    type Key = QuizId;
    type Event = Effect;
    /// A ranking is read by its rows.
    type Output = Infallible;
    type State = Ranking;

    fn stage(&self) -> Stage {
        Stage::Rank
    }

    fn decode(&self, payload: &[u8]) -> Result<Meaning<QuizId, Effect>, DecodeError> {
        let keyed = |effect: Effect| (effect.quiz.clone(), effect);
        Ok(codec::decode_standings(payload)?.map(|effects| effects.into_iter().map(keyed).collect()))
    }

    fn prefix(&self, quiz: &QuizId) -> Vec<u8> {
        key::quiz(FAMILY_RANKING, quiz)
    }

    fn restore(&self, quiz: &QuizId, rows: Vec<Row>) -> Result<Ranking, String> {
        let rows = rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        let parts = parts(quiz, rows).map_err(|error| error.to_string())?;
        Ok(Ranking::assemble(quiz.clone(), parts))
    }

    fn apply(&self, state: &mut Ranking, effect: &Effect, _stamp: Stamp, _outputs: &mut Vec<Infallible>) {
        state.apply(effect);
        self.audience.applied(effect);
    }

    fn records(&self, _outputs: Vec<Infallible>) -> Vec<Record> {
        Vec::new()
    }

    fn rows(&self, quiz: &QuizId, state: &mut Ranking, changes: &mut Changes) {
        let touched = state.take_touched();
        let prefix = self.prefix(quiz);
        if touched.forgotten {
            changes.forget.extend([prefix.clone(), key::quiz(FAMILY_RECEIPT, quiz)]);
        }
        let rows = &mut changes.rows;
        if touched.header {
            let header = state.header();
            let message = proto::RankingHeader {
                revision: header.revision,
                feed: header.feed,
                forgotten: header.forgotten,
            };
            self.audience.moved(quiz, header.feed);
            rows.push((key::join(&prefix, HEADER, &[]), Some(message.encode_to_vec())));
        }
        if touched.board {
            rows.push((board_key(quiz), Some(board_message(state.board()).encode_to_vec())));
        }
        // A quiz that nobody published is in no list.
        let published = state.board().definition.is_some();
        if published && (touched.board || touched.joined) {
            let index = proto::QuizIndex { participants: state.len() as u64 };
            rows.push((index_key(Some(quiz)), Some(index.encode_to_vec())));
        }
        if !published && touched.forgotten {
            rows.push((index_key(Some(quiz)), None));
        }
        for section in touched.marks {
            let Some(mark) = state.sections().get(&section) else { continue };
            let row = key::join(&prefix, MARK, &[&section.to_be_bytes()]);
            rows.push((row, Some(mark_message(mark).encode_to_vec())));
        }
        for (section, question) in touched.books {
            let tally = state.sections().get(&section).and_then(|mark| mark.tallies.get(&question));
            let parts: [&[u8]; 2] = [&section.to_be_bytes(), &question.unwrap_or(UNKNOWN).to_be_bytes()];
            rows.push((
                key::join(&prefix, TALLY, &parts),
                tally.map(|t| part::tally_message(t).encode_to_vec()),
            ));
        }
        for index in BTreeSet::from_iter(touched.members) {
            let Some((id, member)) = state.members().get_index(index as usize) else { continue };
            let standing = Some(part::standing_message(&member.standing));
            let message = proto::Member { index, name: member.name.to_string(), standing };
            rows.push((key::join(&prefix, MEMBER, &[&id.0.to_be_bytes()]), Some(message.encode_to_vec())));
        }
        for (participant, question) in BTreeSet::from_iter(touched.overruled) {
            rows.push((overruled_key(quiz, participant, question), Some(Vec::new())));
        }
        // A ring slot may be written twice in one step: the later receipt is the one to keep.
        let receipts = touched.receipts.iter().map(|(participant, receipt)| {
            (receipt_key(quiz, *participant, receipt.slot), part::receipt_message(receipt).encode_to_vec())
        });
        rows.extend(BTreeMap::from_iter(receipts).into_iter().map(|(key, value)| (key, Some(value))));
    }

    fn weight(&self, state: &Ranking) -> usize {
        state.len()
    }

    fn timers(&self, _state: &Ranking) -> Vec<(UnixMillis, Record)> {
        Vec::new()
    }

    fn armed(&self, _rows: &[Row]) -> Vec<(QuizId, Armed)> {
        Vec::new()
    }

    fn timer_prefix(&self) -> Option<Vec<u8>> {
        None
    }

    fn committed(&self, quizzes: &[QuizId]) {
        self.audience.committed(quizzes);
    }
}

fn board_message(board: &Board) -> proto::Board {
    let definition = |d: &Arc<_>| part::definition_bytes(d);
    proto::Board {
        definition: board.definition.as_ref().map(definition).unwrap_or_default(),
        status: Some(part::status_message(&board.status)),
        pending: board
            .pending
            .values()
            .map(|(status, published)| proto::Pending {
                status: Some(part::status_message(status)),
                definition: published.as_ref().map(definition).unwrap_or_default(),
            })
            .collect(),
        outcomes: part::decided_messages(&board.desk.decided),
    }
}

fn board(message: proto::Board) -> Result<Board, DecodeError> {
    let mut pending = BTreeMap::new();
    for decision in message.pending {
        let status = part::status(decision.status)?;
        pending.insert(status.number, (status, part::optional_definition(&decision.definition)?));
    }
    Ok(Board {
        definition: part::optional_definition(&message.definition)?,
        status: part::status(message.status)?,
        pending,
        desk: Desk { decided: part::decided(message.outcomes)? },
    })
}

fn mark_message(mark: &Mark) -> proto::Mark {
    proto::Mark {
        revision: mark.newest.map(|(revision, _)| revision),
        ordinal: mark.newest.map_or(0, |(_, ordinal)| ordinal),
        position: part::position_bytes(mark.position),
        number: mark.number,
        awarded: mark.awarded.to_string(),
        sealed: mark.sealed.iter().copied().map(u32::from).collect(),
        closed: mark.closed,
    }
}

fn mark(message: proto::Mark) -> Result<Mark, DecodeError> {
    Ok(Mark {
        newest: message.revision.map(|revision| (revision, message.ordinal)),
        position: part::position(&message.position)?,
        number: message.number,
        tallies: BTreeMap::new(),
        awarded: part::decimal(&message.awarded)?,
        sealed: message.sealed.into_iter().map(|q| part::small(q, "sealed")).collect::<Result<_, _>>()?,
        closed: message.closed,
    })
}

/// Returns the parts of a quiz's ranking that rows under its prefix hold; a row without a value was removed.
///
/// # Errors
/// A row that cannot be read.
pub fn parts<'a>(
    quiz: &QuizId,
    rows: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<Parts, DecodeError> {
    let prefix = key::quiz(FAMILY_RANKING, quiz).len();
    let malformed = |what: &str| DecodeError::Malformed(what.to_owned());
    let decode = |error: prost::DecodeError| DecodeError::Malformed(error.to_string());
    let mut parts = Parts::default();
    for (key, value) in rows {
        let (&kind, rest) =
            key.get(prefix..).and_then(<[u8]>::split_first).ok_or_else(|| malformed("short key"))?;
        if kind == TALLY {
            let (section, question) = rest.split_at_checked(2).ok_or_else(|| malformed("tally"))?;
            let both = key::number(section).zip(key::number(question));
            let (section, question) = both.ok_or_else(|| malformed("tally"))?;
            let tally = value.map(proto::Tally::decode).transpose().map_err(decode)?;
            let question = (question != UNKNOWN).then_some(question);
            parts.tallies.push((section, question, tally.map(|tally| part::tally(Some(tally)))));
            continue;
        }
        let value = value.ok_or_else(|| malformed("a part of a ranking is never removed"))?;
        match kind {
            HEADER => {
                let message = proto::RankingHeader::decode(value).map_err(decode)?;
                parts.header = Some(Header {
                    revision: message.revision,
                    feed: message.feed,
                    forgotten: message.forgotten,
                });
            }
            BOARD => parts.board = Some(board(proto::Board::decode(value).map_err(decode)?)?),
            MARK => {
                let section = key::number(rest).ok_or_else(|| malformed("section"))?;
                parts.marks.insert(section, mark(proto::Mark::decode(value).map_err(decode)?)?);
            }
            MEMBER => {
                let (id, _) = key::participant(rest).ok_or_else(|| malformed("member"))?;
                let message = proto::Member::decode(value).map_err(decode)?;
                let standing = part::standing(&part::need(message.standing, "standing")?)?;
                parts.members.push((message.index, id, Member { name: message.name.into(), standing }));
            }
            _ => return Err(malformed("unknown kind of row")),
        }
    }
    Ok(parts)
}
