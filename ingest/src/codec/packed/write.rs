//! Effects to records.

use std::collections::BTreeMap;

use bytes::Bytes;
use operators::effect::{Change, Effect, Receipt, ScoreChanged, Slot, Verdict};
use operators::event::Response;
use operators::id::{QuestionId, QuizId};
use prost::Message;

use super::{
    CHOICE_BYTES_MAX, Context, EFFECTS_MAX, MIN_READER, PACKED_BYTES_MAX, behind, is_same, last_correct_at,
    less, short, unreceipted,
};
use crate::codec::{TooLarge, effect as single, part, sized};
use crate::limits::RECORD_BYTES_MAX;
use crate::proto;

/// Bytes of a name or of a response that is no choice; with a longer one the effect travels whole.
const TEXT_BYTES_MAX: usize = 2 << 10;
/// Bytes of an effect that travels whole with others; a larger one gets a record of its own.
const WHOLE_BYTES_MAX: usize = 4 << 10;
/// Bytes that one more effect adds at most, with what it adds to the tables: more than a whole one, and more than a
/// text, the ids in the tables and all numbers together.
const ADDED_BYTES_MAX: usize = 5 << 10;

/// Returns records that hold these effects in this order.
///
/// # Errors
/// [`TooLarge`]: cannot happen for effects of records that were decoded.
pub(in crate::codec) fn pack(effects: &[Effect]) -> Result<Vec<Bytes>, TooLarge> {
    let mut records = Vec::new();
    let mut pack = Pack::default();
    for (place, effect) in effects.iter().enumerate() {
        if pack.is_full() {
            records.extend(std::mem::take(&mut pack).seal(&effects[..place])?);
        }
        if let Some(row) = pack.row(effect) {
            pack.push(row);
            continue;
        }
        let whole = single::standings(effect);
        if whole.encoded_len() > WHOLE_BYTES_MAX {
            records.extend(std::mem::take(&mut pack).seal(&effects[..place])?);
            records.push(sized(&whole, RECORD_BYTES_MAX)?);
            continue;
        }
        pack.min_reader = pack.min_reader.max(whole.min_reader);
        pack.push(proto::PackedEffect { whole: Some(Box::new(whole)), ..proto::PackedEffect::default() });
    }
    records.extend(pack.seal(effects)?);
    Ok(records)
}

/// A record that is being filled.
#[derive(Default)]
struct Pack {
    context: Context,
    sections: BTreeMap<(QuizId, u16), u32>,
    questions: BTreeMap<(Option<QuestionId>, Option<u16>), u32>,
    choices: BTreeMap<String, u32>,
    message: proto::Effects,
    bytes: usize,
    min_reader: u32,
}

impl Pack {
    fn is_full(&self) -> bool {
        self.message.effects.len() >= EFFECTS_MAX || self.bytes + ADDED_BYTES_MAX > PACKED_BYTES_MAX
    }

    fn push(&mut self, row: proto::PackedEffect) {
        self.bytes += field_len(row.encoded_len());
        self.message.effects.push(row);
    }

    /// Returns the record, if there is anything for it; `effects` end with its own.
    fn seal(self, effects: &[Effect]) -> Result<Option<Bytes>, TooLarge> {
        let message = match (&*self.message.effects, effects) {
            ([], _) | (_, []) => return Ok(None),
            // One alone gains nothing, and any reader knows its own record.
            ([_], [.., effect]) => single::standings(effect),
            _ => {
                let change = Some(proto::standings::Change::Effects(self.message.encode_to_vec()));
                let min_reader = self.min_reader.max(MIN_READER);
                proto::Standings { min_reader, change, ..proto::Standings::default() }
            }
        };
        sized(&message, RECORD_BYTES_MAX).map(Some)
    }

    /// Returns an effect by what is not to be expected of it; `None` if it has no such form.
    fn row(&mut self, effect: &Effect) -> Option<proto::PackedEffect> {
        let before = self.context.section;
        let section = self.section(effect);
        self.context.section = section;
        let row = match &effect.change {
            Change::ScoreChanged(score) => self.score(effect, score),
            Change::Joined { participant, name } if name.len() <= TEXT_BYTES_MAX => {
                let ids = participant.0.to_be_bytes().to_vec();
                Some(proto::PackedEffect { ids, name: Some(name.clone()), ..proto::PackedEffect::default() })
            }
            Change::Joined { .. }
            | Change::Overruled(_)
            | Change::QuizChanged(_)
            | Change::Reached { .. }
            | Change::Sealed { .. } => None,
        };
        let Some(mut row) = row else {
            self.context.section = before;
            return None;
        };
        row.section = (section != before).then_some(section);
        row.ordinal = effect.ordinal;
        row.revision = (effect.revision != self.context.revision()).then_some(effect.revision);
        let (here, there) = (effect.position, self.context.position);
        let after = match here.offset().zip(there.offset()) {
            Some((here, there)) => here.wrapping_sub(there),
            None => here.sub.wrapping_sub(there.sub),
        };
        if behind(there, after) == Some(here) {
            row.after = (after != 1).then_some(after);
        } else {
            row.position = part::position_bytes(here);
        }
        self.context.note(effect);
        Some(row)
    }

    fn score(&mut self, effect: &Effect, score: &ScoreChanged) -> Option<proto::PackedEffect> {
        let ids = score.participant.0.to_be_bytes().to_vec();
        let mut row = proto::PackedEffect { ids, ..proto::PackedEffect::default() };
        let receipt = score.receipt.as_ref();
        if let Some(receipt) = receipt {
            self.receipt(&mut row, receipt, effect, score.question)?;
        }
        row.stranger = score.standing.is_none();
        if let Some(standing) = &score.standing {
            row.total = short(standing.points)?;
            row.correct = standing.correct;
            row.time_ms = standing.time_ms;
            let at = standing.last_correct_at;
            let received_at = receipt.map_or(self.context.received_at, |receipt| receipt.received_at);
            row.last_correct = (at != last_correct_at(receipt)).then(|| less(at, received_at));
        }
        let verdict = receipt.map_or(unreceipted(row.stranger), |receipt| receipt.verdict);
        if self.context.tally(score.question, verdict) != score.tally {
            row.tally = Some(part::tally_message(&score.tally));
        }
        let points = receipt.map(|receipt| receipt.points).unwrap_or_default();
        if !is_same(self.context.awarded(points), score.awarded) {
            row.awarded = Some(short(score.awarded)?);
        }
        let question = self.question(receipt.map(|receipt| receipt.question.clone()), score.question);
        row.question = (question != self.context.question).then_some(question);
        self.context.question = question;
        Some(row)
    }

    fn receipt(
        &mut self,
        row: &mut proto::PackedEffect,
        receipt: &Receipt,
        effect: &Effect,
        question: Option<u16>,
    ) -> Option<()> {
        if (receipt.position, receipt.revision) != (effect.position, effect.revision) {
            return None;
        }
        row.ids.extend_from_slice(&receipt.submission.0.to_be_bytes());
        row.received_after = less(receipt.received_at, self.context.received_at);
        row.points = short(receipt.points)?;
        match (receipt.verdict, receipt.fraction, receipt.taken_ms) {
            (Verdict::Counted, Some(fraction), Some(taken_ms)) => {
                row.numerator = fraction.numerator;
                row.denominator = (fraction.denominator != 1).then_some(fraction.denominator);
                let expected = self.context.taken_ms(question, receipt.received_at);
                row.taken_ms = (taken_ms != expected).then_some(taken_ms);
            }
            (Verdict::Counted, _, _) | (_, Some(_), _) | (_, _, Some(_)) => return None,
            (verdict, None, None) => row.verdict = part::verdict_message(verdict).into(),
        }
        match receipt.slot {
            Slot::Question(index) if question == Some(index) => {}
            Slot::Instead(index) if question == Some(index) => row.instead = true,
            Slot::Recent(place) => row.recent = Some(place.into()),
            Slot::Question(_) | Slot::Instead(_) => return None,
        }
        match &receipt.response {
            Response::Choice(choice) if choice.len() <= CHOICE_BYTES_MAX => row.choice = self.choice(choice),
            Response::Choice(_) | Response::Choices(_) | Response::Value(_) | Response::Text(_) => {
                let message = part::response_message(&receipt.response);
                row.response = (message.encoded_len() <= TEXT_BYTES_MAX).then_some(message);
                row.response.as_ref()?;
            }
        }
        Some(())
    }

    fn section(&mut self, effect: &Effect) -> u32 {
        let key = (effect.quiz.clone(), effect.section);
        if let Some(&index) = self.sections.get(&key) {
            return index;
        }
        let index = self.sections.len() as u32;
        let entry = proto::PackedSection { quiz: effect.quiz.to_string(), section: effect.section.into() };
        self.bytes += field_len(entry.encoded_len());
        self.message.sections.push(entry);
        self.sections.insert(key, index);
        index
    }

    fn question(&mut self, id: Option<QuestionId>, question: Option<u16>) -> u32 {
        let current = self.context.question;
        let known = self.message.questions.get(current as usize).map(|known| known.index);
        if id.is_none() && known == Some(question.map(u32::from)) {
            return current;
        }
        let key = (id, question);
        if let Some(&index) = self.questions.get(&key) {
            return index;
        }
        let index = self.questions.len() as u32;
        let id = key.0.as_ref().map(QuestionId::to_string).unwrap_or_default();
        let entry = proto::PackedQuestion { id, index: question.map(u32::from) };
        self.bytes += field_len(entry.encoded_len());
        self.message.questions.push(entry);
        self.questions.insert(key, index);
        index
    }

    fn choice(&mut self, choice: &str) -> u32 {
        if let Some(&index) = self.choices.get(choice) {
            return index;
        }
        let index = self.choices.len() as u32;
        self.bytes += field_len(choice.len());
        self.message.choices.push(choice.to_owned());
        self.choices.insert(choice.to_owned(), index);
        index
    }
}

/// Returns the bytes of a field of this length, with its tag.
fn field_len(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}
