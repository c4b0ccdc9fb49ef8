//! `standings`: effects and their messages.

use operators::effect::{Change, Effect, Overruled, Phase, QuizChanged, ScoreChanged};
use operators::event::Decided;

use super::event::{scope, seal};
use super::{DecodeError, FORGETS, part};
use crate::proto;

pub(super) fn standings(effect: &Effect) -> proto::Standings {
    use proto::standings::Change as Wire;
    let change = match &effect.change {
        Change::ScoreChanged(score) => Wire::Score(Box::new(proto::ScoreChanged {
            participant: score.participant.0.to_be_bytes().to_vec(),
            standing: score.standing.as_ref().map(part::standing_message),
            receipt: score.receipt.as_ref().map(part::receipt_message),
            tally: Some(part::tally_message(&score.tally)),
            question: score.question.map(u32::from),
            awarded: score.awarded.to_string(),
        })),
        Change::Overruled(overruled) => Wire::Overruled(Box::new(proto::Overruled {
            participant: overruled.participant.0.to_be_bytes().to_vec(),
            question: overruled.question.into(),
            standing: Some(part::standing_message(&overruled.standing)),
            tally: Some(part::tally_message(&overruled.tally)),
            awarded: overruled.awarded.to_string(),
            instead: overruled.instead.as_ref().map(part::receipt_message),
        })),
        Change::Joined { participant, name } => Wire::Joined(proto::Join {
            participant: participant.0.to_be_bytes().to_vec(),
            name: name.clone(),
        }),
        Change::QuizChanged(changed) => Wire::QuizChanged(Box::new(proto::QuizChanged {
            id: changed.decided.id.to_string(),
            content: changed.decided.content,
            outcome: Some(part::outcome_message(changed.decided.outcome)),
            status: Some(part::status_message(&changed.status)),
            definition: changed.definition.as_ref().map(|d| part::definition_bytes(d)).unwrap_or_default(),
        })),
        Change::Reached { number } => Wire::Reached(*number),
        Change::Sealed { scope } => Wire::Sealed(seal(scope)),
    };
    proto::Standings {
        min_reader: min_reader(&effect.change),
        quiz: effect.quiz.to_string(),
        section: effect.section.into(),
        revision: effect.revision,
        ordinal: effect.ordinal,
        position: part::position_bytes(effect.position),
        change: Some(change),
    }
}

/// Returns the oldest reader that understands a change.
fn min_reader(change: &Change) -> u32 {
    match change {
        Change::QuizChanged(changed) if changed.status.phase == Phase::Forgotten => FORGETS,
        Change::ScoreChanged(_)
        | Change::Overruled(_)
        | Change::Joined { .. }
        | Change::QuizChanged(_)
        | Change::Reached { .. }
        | Change::Sealed { .. } => 1,
    }
}

pub(super) fn effect(message: proto::Standings) -> Result<Effect, DecodeError> {
    use proto::standings::Change as Wire;
    let change = match part::need(message.change, "change")? {
        Wire::Score(score) => Change::ScoreChanged(Box::new(ScoreChanged {
            participant: part::participant(&score.participant)?,
            standing: score.standing.as_ref().map(part::standing).transpose()?,
            receipt: score.receipt.map(part::receipt).transpose()?,
            tally: part::tally(score.tally),
            question: score.question.map(|index| part::small(index, "question")).transpose()?,
            awarded: part::decimal(&score.awarded)?,
        })),
        Wire::Overruled(overruled) => Change::Overruled(Box::new(Overruled {
            participant: part::participant(&overruled.participant)?,
            question: part::small(overruled.question, "question")?,
            standing: part::standing(&part::need(overruled.standing, "standing")?)?,
            tally: part::tally(overruled.tally),
            awarded: part::decimal(&overruled.awarded)?,
            instead: overruled.instead.map(part::receipt).transpose()?,
        })),
        Wire::Joined(join) => {
            Change::Joined { participant: part::participant(&join.participant)?, name: join.name }
        }
        Wire::Pulse(_) => return Err(DecodeError::malformed("a pulse is about no quiz")),
        Wire::Effects(_) => return Err(DecodeError::malformed("many effects where one should be")),
        Wire::QuizChanged(changed) => Change::QuizChanged(Box::new(QuizChanged {
            decided: Decided {
                id: part::parse(&changed.id, "id")?,
                content: changed.content,
                outcome: part::outcome(changed.outcome)?,
            },
            status: part::status(changed.status)?,
            definition: part::optional_definition(&changed.definition)?,
        })),
        Wire::Reached(number) => Change::Reached { number },
        Wire::Sealed(seal) => Change::Sealed { scope: scope(&seal)? },
    };
    Ok(Effect {
        quiz: part::parse(&message.quiz, "quiz")?,
        section: part::small(message.section, "section")?,
        revision: message.revision,
        ordinal: message.ordinal,
        position: part::position(&message.position)?,
        change,
    })
}
