//! Records to effects.

use operators::effect::{Change, Effect, Receipt, ScoreChanged, Slot, Standing, Verdict};
use operators::event::Response;
use operators::id::{Position, QuestionId, QuizId, SubmissionId};
use operators::policies::Fraction;
use prost::Message;

use super::{
    CHOICE_BYTES_MAX, Context, EFFECTS_MAX, PACKED_BYTES_MAX, behind, last_correct_at, long, more,
    unreceipted,
};
use crate::codec::{DecodeError, READER, effect as single, part};
use crate::proto;

type Result<T> = std::result::Result<T, DecodeError>;

/// Returns the effects of a record in their order.
///
/// # Errors
/// As [`crate::codec::decode_standings`].
pub(in crate::codec) fn unpack(bytes: &[u8]) -> Result<Vec<Effect>> {
    if bytes.len() > PACKED_BYTES_MAX {
        return Err(DecodeError::malformed("too many bytes of effects"));
    }
    let message = proto::Effects::decode(bytes).map_err(DecodeError::malformed)?;
    if message.effects.is_empty() || message.effects.len() > EFFECTS_MAX {
        return Err(DecodeError::malformed("no effects, or too many"));
    }
    let mut unpack = Unpack {
        context: Context::default(),
        sections: message.sections.into_iter().map(section).collect::<Result<_>>()?,
        questions: message.questions.into_iter().map(question).collect::<Result<_>>()?,
        choices: message.choices,
    };
    if unpack.choices.iter().any(|choice| choice.len() > CHOICE_BYTES_MAX) {
        return Err(DecodeError::malformed("a choice is too long for the table"));
    }
    message.effects.into_iter().map(|row| unpack.effect(row)).collect()
}

fn section(message: proto::PackedSection) -> Result<(QuizId, u16)> {
    Ok((part::parse(&message.quiz, "quiz")?, part::small(message.section, "section")?))
}

fn question(message: proto::PackedQuestion) -> Result<(Option<QuestionId>, Option<u16>)> {
    let id = (!message.id.is_empty()).then(|| part::parse(&message.id, "question"));
    let index = message.index.map(|index| part::small(index, "question"));
    Ok((id.transpose()?, index.transpose()?))
}

/// A record that is being read.
struct Unpack {
    context: Context,
    sections: Vec<(QuizId, u16)>,
    questions: Vec<(Option<QuestionId>, Option<u16>)>,
    choices: Vec<String>,
}

impl Unpack {
    fn effect(&mut self, mut row: proto::PackedEffect) -> Result<Effect> {
        if let Some(whole) = row.whole {
            let needed = whole.min_reader;
            return if needed > READER {
                Err(DecodeError::NewerReader { needed })
            } else {
                single::effect(*whole)
            };
        }
        self.context.section = row.section.unwrap_or(self.context.section);
        let (quiz, section) = entry(&self.sections, self.context.section, "section")?.clone();
        let position = if row.position.is_empty() {
            let position = behind(self.context.position, row.after.unwrap_or(1));
            position.ok_or_else(|| DecodeError::malformed("position is out of range"))?
        } else {
            part::position(&row.position)?
        };
        let revision = row.revision.unwrap_or_else(|| self.context.revision());
        let change = match row.name.take() {
            Some(name) => Change::Joined { participant: part::participant(&row.ids)?, name },
            None => Change::ScoreChanged(Box::new(self.score(&mut row, position, revision)?)),
        };
        let effect = Effect { quiz, section, revision, ordinal: row.ordinal, position, change };
        self.context.note(&effect);
        Ok(effect)
    }

    fn score(
        &mut self,
        row: &mut proto::PackedEffect,
        position: Position,
        revision: u64,
    ) -> Result<ScoreChanged> {
        self.context.question = row.question.unwrap_or(self.context.question);
        let (id, question) = entry(&self.questions, self.context.question, "question")?.clone();
        let (participant, submission) = row.ids.split_at_checked(16).unwrap_or((&row.ids, &[]));
        let participant = part::participant(participant)?;
        let receipt = if submission.is_empty() {
            None
        } else {
            let submission = part::submission(submission)?;
            let mut receipt = self.receipt(row, submission, part::need(id, "question")?, question)?;
            (receipt.position, receipt.revision) = (position, revision);
            Some(receipt)
        };
        let received_at = receipt.as_ref().map_or(self.context.received_at, |receipt| receipt.received_at);
        let standing = (!row.stranger).then(|| Standing {
            points: long(row.total),
            correct: row.correct,
            time_ms: row.time_ms,
            last_correct_at: match row.last_correct {
                Some(by) => more(received_at, by),
                None => last_correct_at(receipt.as_ref()),
            },
        });
        let verdict = receipt.as_ref().map_or(unreceipted(row.stranger), |receipt| receipt.verdict);
        let tally = match row.tally.take() {
            Some(tally) => part::tally(Some(tally)),
            None => self.context.tally(question, verdict),
        };
        let points = receipt.as_ref().map(|receipt| receipt.points).unwrap_or_default();
        let awarded = row.awarded.map_or_else(|| self.context.awarded(points), long);
        Ok(ScoreChanged { participant, standing, receipt, tally, question, awarded })
    }

    /// Returns a receipt, its place apart.
    fn receipt(
        &self,
        row: &mut proto::PackedEffect,
        submission: SubmissionId,
        id: QuestionId,
        question: Option<u16>,
    ) -> Result<Receipt> {
        let received_at = more(self.context.received_at, row.received_after);
        let verdict = if row.verdict == 0 {
            Verdict::Counted
        } else {
            part::verdict(proto::Verdict::try_from(row.verdict).map_err(DecodeError::malformed)?)?
        };
        let (mut fraction, mut taken_ms) = (None, None);
        if verdict == Verdict::Counted {
            let denominator = row.denominator.unwrap_or(1);
            if denominator == 0 {
                return Err(DecodeError::malformed("fraction over zero"));
            }
            fraction = Some(Fraction { numerator: row.numerator, denominator });
            taken_ms = Some(row.taken_ms.unwrap_or_else(|| self.context.taken_ms(question, received_at)));
        }
        let slot = match row.recent {
            Some(place) => Slot::Recent(part::small(place, "slot")?),
            None if row.instead => Slot::Instead(part::need(question, "slot")?),
            None => Slot::Question(part::need(question, "slot")?),
        };
        let response = match row.response.take() {
            Some(response) => part::response(Some(response))?,
            None => Response::Choice(entry(&self.choices, row.choice, "choice")?.clone()),
        };
        let points = long(row.points);
        let (position, revision) = (Position::default(), 0);
        Ok(Receipt {
            submission,
            question: id,
            response,
            verdict,
            fraction,
            points,
            received_at,
            taken_ms,
            position,
            revision,
            slot,
        })
    }
}

fn entry<'a, T>(table: &'a [T], index: u32, name: &str) -> Result<&'a T> {
    part::need(table.get(index as usize), name)
}
