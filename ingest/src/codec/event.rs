//! `submissions`: events and their messages.

use operators::event::{Answer, Command, Envelope, Event, Scope};
use operators::id::UnixMillis;

use super::{DecodeError, FORGETS, part};
use crate::proto;

pub(super) fn submission(envelope: &Envelope) -> proto::Submission {
    use proto::submission::Event as Wire;
    let event = match &envelope.event {
        Event::Answer(answer) => Wire::Answer(proto::Answer {
            participant: answer.participant.0.to_be_bytes().to_vec(),
            submission: answer.submission.0.to_be_bytes().to_vec(),
            question: answer.question.to_string(),
            response: Some(part::response_message(&answer.response)),
            received_at: answer.received_at.0,
        }),
        Event::Join { participant, name } => {
            Wire::Join(proto::Join { participant: participant.0.to_be_bytes().to_vec(), name: name.clone() })
        }
        Event::Command { id, content, command } => {
            let command = Some(part::command_message(command));
            Wire::Command(proto::HostCommand { id: id.to_string(), command, content: *content })
        }
        Event::Copy { number, at, command } => {
            let command = Some(part::command_message(command));
            Wire::Copy(proto::CommandCopy { number: *number, at: at.0, command })
        }
        Event::Seal { scope } => Wire::Seal(seal(scope)),
        Event::Expire { version, due } => Wire::Expire(proto::Expire { version: *version, due: due.0 }),
    };
    proto::Submission {
        min_reader: min_reader(&envelope.event),
        quiz: envelope.quiz.to_string(),
        section: envelope.section.into(),
        event: Some(event),
    }
}

/// Returns the oldest reader that understands an event.
fn min_reader(event: &Event) -> u32 {
    match event {
        Event::Expire { .. } | Event::Copy { command: Command::Forget, .. } => FORGETS,
        Event::Answer(_)
        | Event::Join { .. }
        | Event::Command { .. }
        | Event::Copy { .. }
        | Event::Seal { .. } => 1,
    }
}

pub(super) fn envelope(message: proto::Submission) -> Result<Envelope, DecodeError> {
    use proto::submission::Event as Wire;
    let event = match part::need(message.event, "event")? {
        Wire::Answer(answer) => Event::Answer(Answer {
            participant: part::participant(&answer.participant)?,
            submission: part::submission(&answer.submission)?,
            question: part::parse(&answer.question, "question")?,
            response: part::response(answer.response)?,
            received_at: UnixMillis(answer.received_at),
        }),
        Wire::Join(join) => {
            Event::Join { participant: part::participant(&join.participant)?, name: join.name }
        }
        Wire::Command(command) => Event::Command {
            id: part::parse(&command.id, "id")?,
            content: command.content,
            command: part::command(command.command)?,
        },
        Wire::Copy(copy) => Event::Copy {
            number: copy.number,
            at: UnixMillis(copy.at),
            command: part::command(copy.command)?,
        },
        Wire::Seal(seal) => Event::Seal { scope: scope(&seal)? },
        Wire::Expire(expire) => Event::Expire { version: expire.version, due: UnixMillis(expire.due) },
        Wire::Pulse(_) => return Err(DecodeError::malformed("a pulse is about no quiz")),
    };
    Ok(Envelope {
        quiz: part::parse(&message.quiz, "quiz")?,
        section: part::small(message.section, "section")?,
        event,
    })
}

pub(super) fn seal(scope: &Scope) -> proto::Seal {
    match scope {
        Scope::Quiz => proto::Seal { question: String::new() },
        Scope::Question(question) => proto::Seal { question: question.to_string() },
    }
}

pub(super) fn scope(seal: &proto::Seal) -> Result<Scope, DecodeError> {
    if seal.question.is_empty() {
        return Ok(Scope::Quiz);
    }
    part::parse(&seal.question, "question").map(Scope::Question)
}
