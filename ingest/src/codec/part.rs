//! The parts that records and stored state share.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;

use md5::{Digest, Md5};
use operators::definition::{Definition, Source};
use operators::effect::{Phase, QuizStatus, Reason, Receipt, Slot, Standing, Tally, Verdict, Window};
use operators::event::{Command, CommandOutcome, Decided, Refusal, Response};
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use operators::policies::Fraction;
use prost::Message;
use rust_decimal::Decimal;

use super::DecodeError;
use crate::proto;

type Result<T> = std::result::Result<T, DecodeError>;

/// Returns a field that every writer sets.
pub fn need<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| DecodeError::Malformed(format!("{name} is missing")))
}

/// Returns an id or number from its text.
pub fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str, name: &str) -> Result<T> {
    text.parse().map_err(|error| DecodeError::Malformed(format!("{name}: {error}")))
}

/// Returns a small number, refusing what does not fit.
pub fn small<T: TryFrom<u32>>(value: u32, name: &str) -> Result<T> {
    T::try_from(value).map_err(|_| DecodeError::Malformed(format!("{name} is out of range")))
}

fn sixteen(bytes: &[u8], name: &str) -> Result<u128> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::Malformed(format!("{name} has not 16 bytes")))?;
    Ok(u128::from_be_bytes(bytes))
}

/// Returns a participant from its 16 bytes.
pub fn participant(bytes: &[u8]) -> Result<ParticipantId> {
    sixteen(bytes, "participant").map(ParticipantId)
}

/// Returns a submission from its 16 bytes.
pub fn submission(bytes: &[u8]) -> Result<SubmissionId> {
    sixteen(bytes, "submission").map(SubmissionId)
}

/// Returns a position as 8 bytes (an offset) or 32.
pub fn position_bytes(position: Position) -> Vec<u8> {
    match position.offset() {
        Some(offset) => offset.to_be_bytes().to_vec(),
        None => {
            let shard = (position.shard != 0).then(|| position.shard.to_be_bytes());
            let words = position.sequence.iter().chain([&position.sub]).flat_map(|word| word.to_be_bytes());
            shard.into_iter().flatten().chain(words).collect()
        }
    }
}

/// Returns a position from its bytes.
pub fn position(bytes: &[u8]) -> Result<Position> {
    let (shard, bytes) = match bytes.split_first_chunk::<4>() {
        Some((shard, rest)) if bytes.len() == 36 => (u32::from_be_bytes(*shard), rest),
        _ => (0, bytes),
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
    match (words.as_slice(), rest) {
        (&[offset], []) if shard == 0 => Ok(Position::from_offset(offset)),
        (&[first, second, third, sub], []) => Ok(Position { shard, sequence: [first, second, third], sub }),
        _ => Err(DecodeError::Malformed("position has none of 8, 32 and 36 bytes".into())),
    }
}

/// Returns a definition as JSON.
pub fn definition_bytes(definition: &Definition) -> Vec<u8> {
    serde_json::to_vec(definition.source()).expect("a definition is plain data with text keys")
}

/// Returns a definition from JSON.
pub fn definition(bytes: &[u8]) -> Result<Arc<Definition>> {
    let source: Source = serde_json::from_slice(bytes).map_err(DecodeError::malformed)?;
    let checked = Definition::new(source);
    let definition = checked.map_err(|problems| match problems.first() {
        Some(problem) => DecodeError::malformed(problem),
        None => DecodeError::Malformed("definition".into()),
    })?;
    Ok(Arc::new(definition))
}

/// Returns a definition, or `None` for no bytes.
pub fn optional_definition(bytes: &[u8]) -> Result<Option<Arc<Definition>>> {
    if bytes.is_empty() { Ok(None) } else { definition(bytes).map(Some) }
}

/// Returns the message of a response.
pub fn response_message(response: &Response) -> proto::Response {
    use proto::response::Content;
    let content = match response {
        Response::Choice(choice) => Content::Choice(choice.clone()),
        Response::Choices(choices) => Content::Choices(proto::Choices { choices: choices.clone() }),
        Response::Value(value) => Content::Value(value.to_string()),
        Response::Text(text) => Content::Text(text.clone()),
    };
    proto::Response { content: Some(content) }
}

/// Returns a response from its message.
pub fn response(message: Option<proto::Response>) -> Result<Response> {
    use proto::response::Content;
    Ok(match need(message.and_then(|m| m.content), "response")? {
        Content::Choice(choice) => Response::Choice(choice),
        Content::Choices(choices) => Response::Choices(choices.choices),
        Content::Value(value) => Response::Value(parse(&value, "value")?),
        Content::Text(text) => Response::Text(text),
    })
}

/// Returns the message of a command.
pub fn command_message(command: &Command) -> proto::Command {
    use proto::command::Kind;
    let kind = match command {
        Command::Publish { definition, if_version } => Kind::Publish(proto::Publish {
            definition: definition_bytes(definition),
            if_version: *if_version,
        }),
        Command::Open => Kind::Open(proto::Open {}),
        Command::OpenQuestion(question) => Kind::OpenQuestion(question.to_string()),
        Command::CloseQuestion(question) => Kind::CloseQuestion(question.to_string()),
        Command::Close => Kind::Close(proto::Close {}),
        Command::Forget => Kind::Forget(proto::Forget {}),
    };
    proto::Command { kind: Some(kind) }
}

/// Returns a command from its message.
pub fn command(message: Option<proto::Command>) -> Result<Command> {
    use proto::command::Kind;
    Ok(match need(message.and_then(|m| m.kind), "command")? {
        Kind::Publish(publish) => {
            Command::Publish { definition: definition(&publish.definition)?, if_version: publish.if_version }
        }
        Kind::Open(_) => Command::Open,
        Kind::OpenQuestion(question) => Command::OpenQuestion(parse(&question, "question")?),
        Kind::CloseQuestion(question) => Command::CloseQuestion(parse(&question, "question")?),
        Kind::Close(_) => Command::Close,
        Kind::Forget(_) => Command::Forget,
    })
}

/// Returns the message of a standing.
pub fn standing_message(standing: &Standing) -> proto::Standing {
    proto::Standing {
        points: standing.points.to_string(),
        correct: standing.correct,
        time_ms: standing.time_ms,
        last_correct_at: standing.last_correct_at.0,
    }
}

/// Returns a standing from its message.
pub fn standing(message: &proto::Standing) -> Result<Standing> {
    Ok(Standing {
        points: decimal(&message.points)?,
        correct: message.correct,
        time_ms: message.time_ms,
        last_correct_at: UnixMillis(message.last_correct_at),
    })
}

/// Returns a decimal; no text is zero, as protobuf leaves it out.
pub fn decimal(text: &str) -> Result<Decimal> {
    if text.is_empty() { Ok(Decimal::ZERO) } else { parse(text, "decimal") }
}

/// Returns the message of a tally.
pub fn tally_message(tally: &Tally) -> proto::Tally {
    proto::Tally {
        counted: tally.counted,
        repeated: tally.repeated,
        late: tally.late,
        too_early: tally.too_early,
        rejected: tally.rejected.to_vec(),
    }
}

/// Returns a tally from its message.
pub fn tally(message: Option<proto::Tally>) -> Tally {
    let message = message.unwrap_or_default();
    let mut rejected = [0; 4];
    for (mine, theirs) in rejected.iter_mut().zip(&message.rejected) {
        *mine = *theirs;
    }
    Tally {
        counted: message.counted,
        repeated: message.repeated,
        late: message.late,
        too_early: message.too_early,
        rejected,
    }
}

/// Returns a verdict on the wire.
pub fn verdict_message(verdict: Verdict) -> proto::Verdict {
    match verdict {
        Verdict::Counted => proto::Verdict::Counted,
        Verdict::Repeated => proto::Verdict::Repeated,
        Verdict::Late => proto::Verdict::Late,
        Verdict::TooEarly => proto::Verdict::TooEarly,
        Verdict::Rejected(Reason::UnknownQuiz) => proto::Verdict::UnknownQuiz,
        Verdict::Rejected(Reason::UnknownQuestion) => proto::Verdict::UnknownQuestion,
        Verdict::Rejected(Reason::WrongShape) => proto::Verdict::WrongShape,
        Verdict::Rejected(Reason::NotParticipant) => proto::Verdict::NotParticipant,
    }
}

/// Returns a verdict from the wire.
pub fn verdict(message: proto::Verdict) -> Result<Verdict> {
    Ok(match message {
        proto::Verdict::Counted => Verdict::Counted,
        proto::Verdict::Repeated => Verdict::Repeated,
        proto::Verdict::Late => Verdict::Late,
        proto::Verdict::TooEarly => Verdict::TooEarly,
        proto::Verdict::UnknownQuiz => Verdict::Rejected(Reason::UnknownQuiz),
        proto::Verdict::UnknownQuestion => Verdict::Rejected(Reason::UnknownQuestion),
        proto::Verdict::WrongShape => Verdict::Rejected(Reason::WrongShape),
        proto::Verdict::NotParticipant => Verdict::Rejected(Reason::NotParticipant),
        proto::Verdict::Unspecified => return Err(DecodeError::Malformed("verdict is missing".into())),
    })
}

/// Returns the message of a receipt.
pub fn receipt_message(receipt: &Receipt) -> proto::Receipt {
    proto::Receipt {
        submission: receipt.submission.0.to_be_bytes().to_vec(),
        question: receipt.question.to_string(),
        response: Some(response_message(&receipt.response)),
        verdict: verdict_message(receipt.verdict).into(),
        fraction: receipt
            .fraction
            .map(|f| proto::Fraction { numerator: f.numerator, denominator: f.denominator }),
        points: receipt.points.to_string(),
        received_at: receipt.received_at.0,
        taken_ms: receipt.taken_ms,
        position: position_bytes(receipt.position),
        revision: receipt.revision,
        slot: Some(match receipt.slot {
            Slot::Question(index) => proto::receipt::Slot::Counted(index.into()),
            Slot::Instead(index) => proto::receipt::Slot::Instead(index.into()),
            Slot::Recent(place) => proto::receipt::Slot::Recent(place.into()),
        }),
    }
}

/// Returns a receipt from its message.
pub fn receipt(message: proto::Receipt) -> Result<Receipt> {
    let verdict = verdict(message.verdict())?;
    let fraction = message.fraction.map(|f| Fraction { numerator: f.numerator, denominator: f.denominator });
    if fraction.is_some_and(|f| f.denominator == 0) {
        return Err(DecodeError::Malformed("fraction over zero".into()));
    }
    Ok(Receipt {
        submission: submission(&message.submission)?,
        question: parse(&message.question, "question")?,
        response: response(message.response)?,
        verdict,
        fraction,
        points: decimal(&message.points)?,
        received_at: UnixMillis(message.received_at),
        taken_ms: message.taken_ms,
        position: position(&message.position)?,
        revision: message.revision,
        slot: match need(message.slot, "slot")? {
            proto::receipt::Slot::Counted(index) => Slot::Question(small(index, "slot")?),
            proto::receipt::Slot::Instead(index) => Slot::Instead(small(index, "slot")?),
            proto::receipt::Slot::Recent(place) => Slot::Recent(small(place, "slot")?),
        },
    })
}

/// Returns the hash of a command's content, whatever the version that it is conditional on: a publish tried again may
/// name another.
pub fn content_of(command: &Command) -> u64 {
    let mut message = command_message(command);
    if let Some(proto::command::Kind::Publish(publish)) = &mut message.kind {
        publish.if_version = None;
    }
    let digest: [u8; 16] = Md5::digest(message.encode_to_vec()).into();
    u64::from_be_bytes(*digest.first_chunk().expect("eight of sixteen bytes"))
}

/// Returns the messages of decisions.
pub fn decided_messages(decided: &VecDeque<Decided>) -> Vec<proto::CommandOutcome> {
    let message = |decided: &Decided| proto::CommandOutcome {
        id: decided.id.to_string(),
        content: decided.content,
        outcome: Some(outcome_message(decided.outcome)),
    };
    decided.iter().map(message).collect()
}

/// Returns decisions from their messages.
pub fn decided(messages: Vec<proto::CommandOutcome>) -> Result<VecDeque<Decided>> {
    let decided = |message: proto::CommandOutcome| {
        let (id, outcome) = (parse(&message.id, "id")?, outcome(message.outcome)?);
        Ok(Decided { id, content: message.content, outcome })
    };
    messages.into_iter().map(decided).collect()
}

/// Returns the message of an outcome.
pub fn outcome_message(outcome: CommandOutcome) -> proto::Outcome {
    use proto::outcome::Kind;
    let kind = match outcome {
        CommandOutcome::Accepted { number, version } => Kind::Accepted(proto::Accepted { number, version }),
        CommandOutcome::Unchanged { version } => Kind::Unchanged(version),
        CommandOutcome::Refused(refusal) => Kind::Refused(refusal_message(refusal).into()),
    };
    proto::Outcome { kind: Some(kind) }
}

/// Returns an outcome from its message.
pub fn outcome(message: Option<proto::Outcome>) -> Result<CommandOutcome> {
    use proto::outcome::Kind;
    Ok(match need(message.and_then(|m| m.kind), "outcome")? {
        Kind::Accepted(a) => CommandOutcome::Accepted { number: a.number, version: a.version },
        Kind::Unchanged(version) => CommandOutcome::Unchanged { version },
        Kind::Refused(refused) => {
            let refusal = proto::Refusal::try_from(refused).map_err(DecodeError::malformed)?;
            CommandOutcome::Refused(self::refusal(refusal)?)
        }
    })
}

fn refusal_message(refusal: Refusal) -> proto::Refusal {
    match refusal {
        Refusal::UnknownQuiz => proto::Refusal::UnknownQuiz,
        Refusal::UnknownQuestion => proto::Refusal::UnknownQuestion,
        Refusal::QuizOpen => proto::Refusal::QuizOpen,
        Refusal::QuizNotOpen => proto::Refusal::QuizNotOpen,
        Refusal::QuizClosed => proto::Refusal::QuizClosed,
        Refusal::VersionMismatch => proto::Refusal::VersionMismatch,
        Refusal::SectionsFixed => proto::Refusal::SectionsFixed,
        Refusal::QuestionOpened => proto::Refusal::QuestionOpened,
        Refusal::QuestionNotOpen => proto::Refusal::QuestionNotOpen,
        Refusal::AnotherOpen => proto::Refusal::AnotherOpen,
        Refusal::FreePaced => proto::Refusal::FreePaced,
    }
}

fn refusal(message: proto::Refusal) -> Result<Refusal> {
    Ok(match message {
        proto::Refusal::UnknownQuiz => Refusal::UnknownQuiz,
        proto::Refusal::UnknownQuestion => Refusal::UnknownQuestion,
        proto::Refusal::QuizOpen => Refusal::QuizOpen,
        proto::Refusal::QuizNotOpen => Refusal::QuizNotOpen,
        proto::Refusal::QuizClosed => Refusal::QuizClosed,
        proto::Refusal::VersionMismatch => Refusal::VersionMismatch,
        proto::Refusal::SectionsFixed => Refusal::SectionsFixed,
        proto::Refusal::QuestionOpened => Refusal::QuestionOpened,
        proto::Refusal::QuestionNotOpen => Refusal::QuestionNotOpen,
        proto::Refusal::AnotherOpen => Refusal::AnotherOpen,
        proto::Refusal::FreePaced => Refusal::FreePaced,
        proto::Refusal::Unspecified => return Err(DecodeError::Malformed("refusal is missing".into())),
    })
}

/// Returns the number of a phase on the wire.
pub fn phase_message(phase: Phase) -> i32 {
    match phase {
        Phase::Draft => proto::Phase::Draft,
        Phase::Open => proto::Phase::Open,
        Phase::Closed => proto::Phase::Closed,
        Phase::Forgotten => proto::Phase::Forgotten,
    }
    .into()
}

/// Returns a phase from its number.
pub fn phase(number: i32) -> Result<Phase> {
    Ok(match proto::Phase::try_from(number).map_err(DecodeError::malformed)? {
        proto::Phase::Draft => Phase::Draft,
        proto::Phase::Open => Phase::Open,
        proto::Phase::Closed => Phase::Closed,
        proto::Phase::Forgotten => Phase::Forgotten,
    })
}

/// Returns the message of a window.
pub fn window_message(window: Window) -> proto::Window {
    proto::Window {
        question: window.question.into(),
        opened_at: window.opened_at.0,
        closes_at: window.closes_at.map(|at| at.0),
    }
}

/// Returns a window from its message.
pub fn window(message: proto::Window) -> Result<Window> {
    Ok(Window {
        question: small(message.question, "question")?,
        opened_at: UnixMillis(message.opened_at),
        closes_at: message.closes_at.map(UnixMillis),
    })
}

/// Returns the message of a quiz status.
pub fn status_message(status: &QuizStatus) -> proto::QuizStatus {
    proto::QuizStatus {
        number: status.number,
        version: status.version,
        phase: phase_message(status.phase),
        opened_at: status.opened_at.map(|at| at.0),
        closed_at: status.closed_at.map(|at| at.0),
        windows: status.windows.iter().copied().map(window_message).collect(),
    }
}

/// Returns a quiz status from its message.
pub fn status(message: Option<proto::QuizStatus>) -> Result<QuizStatus> {
    let message = need(message, "status")?;
    Ok(QuizStatus {
        number: message.number,
        version: message.version,
        phase: phase(message.phase)?,
        opened_at: message.opened_at.map(UnixMillis),
        closed_at: message.closed_at.map(UnixMillis),
        windows: message.windows.into_iter().map(window).collect::<Result<_>>()?,
    })
}
