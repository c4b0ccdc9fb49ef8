//! The wire format of records: protobuf `podium.v1` to the operators' types and back.

use bytes::Bytes;
use operators::effect::Effect;
use operators::event::{Command, Envelope, Event};
use operators::id::Position;
use prost::Message;

use crate::limits::RECORD_BYTES_MAX;
use crate::log::Stream;
use crate::partition::PartitionId;
use crate::proto;

mod effect;
mod event;
mod packed;
pub mod part;
mod pulse;

pub use pulse::{Pulse, Reached};

/// The reader version that this build is. Records name the oldest reader that understands them.
pub const READER: u32 = 3;
/// The oldest reader that knows quizzes which were forgotten.
const FORGETS: u32 = 3;

/// A record does not fit into a log, or what the stages make of it would not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record has {bytes} bytes, more than {max}")]
pub struct TooLarge {
    /// Encoded size.
    pub bytes: usize,
    /// Largest size for its kind.
    pub max: usize,
}

/// Bytes that a record from outside leaves free for what the stages add when they carry it on: a number and a time to
/// a copied command, a position and a status to an effect, a judgement and a standing to a receipt.
const ADDED_BYTES_MAX: usize = 4 << 10;

/// Bytes of all copies of one definition, a section each: they are written at once, and commits wait behind them.
const COPIES_BYTES_MAX: usize = 16 << 20;

/// A record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Wrong for ever: it belongs to the dead letters, and the partition goes on.
    #[error("malformed record: {0}")]
    Malformed(String),
    /// Written by a newer Podium: stop the partition, do not skip it.
    #[error("the record needs reader {needed}, this is reader {READER}")]
    NewerReader {
        /// What it needs.
        needed: u32,
    },
}

impl DecodeError {
    fn malformed(reason: impl std::fmt::Display) -> Self {
        Self::Malformed(reason.to_string())
    }
}

/// What a record of a stream says.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<T> {
    /// Something about one quiz.
    Event(T),
    /// How far the stages are.
    Pulse(Pulse),
}

impl<T> Decoded<T> {
    /// Returns the same with another way to say it.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Self::Event(event) => Decoded::Event(with(event)),
            Self::Pulse(pulse) => Decoded::Pulse(pulse),
        }
    }

    /// Returns what it says about a quiz.
    ///
    /// # Errors
    /// `Malformed`: it is about none.
    pub fn event(self) -> Result<T, DecodeError> {
        match self {
            Self::Event(event) => Ok(event),
            Self::Pulse(_) => Err(DecodeError::malformed("a pulse is about no quiz")),
        }
    }
}

/// Returns a `submissions` record.
///
/// # Errors
/// [`TooLarge`]: refuse the request that wanted it.
pub fn encode_envelope(envelope: &Envelope) -> Result<Bytes, TooLarge> {
    let max = match &envelope.event {
        Event::Command { command: Command::Publish { definition, .. }, .. } => {
            let copies = usize::from(definition.source().sections);
            (RECORD_BYTES_MAX - ADDED_BYTES_MAX).min(COPIES_BYTES_MAX / copies.max(1))
        }
        Event::Answer(_) | Event::Join { .. } | Event::Command { .. } => RECORD_BYTES_MAX - ADDED_BYTES_MAX,
        Event::Copy { .. } | Event::Seal { .. } | Event::Expire { .. } => RECORD_BYTES_MAX,
    };
    sized(&event::submission(envelope), max)
}

/// Returns the event of a `submissions` record.
///
/// # Errors
/// [`DecodeError`] says whether to go on.
pub fn decode_envelope(payload: &[u8]) -> Result<Envelope, DecodeError> {
    decode_submission(payload)?.event()
}

/// Returns what a `submissions` record says.
///
/// # Errors
/// [`DecodeError`] says whether to go on.
pub fn decode_submission(payload: &[u8]) -> Result<Decoded<Envelope>, DecodeError> {
    readable(payload)?;
    let mut message = proto::Submission::decode(payload).map_err(DecodeError::malformed)?;
    if let Some(proto::submission::Event::Pulse(pulse)) = &mut message.event {
        return pulse::pulse(std::mem::take(pulse)).map(Decoded::Pulse);
    }
    let envelope = event::envelope(message)?;
    // A definition from another writer may lack what ours spells out, but does not grow fourfold with it.
    if payload.len() > RECORD_BYTES_MAX / 4 {
        encode_envelope(&envelope).map_err(DecodeError::malformed)?;
    }
    Ok(Decoded::Event(envelope))
}

/// Returns a record of a stream that stages read, which tells how far they are.
///
/// # Panics
/// For a stream that no stage reads.
pub fn encode_pulse(stream: Stream, pulse: &Pulse) -> Bytes {
    let message = pulse::message(pulse);
    let bytes = match stream {
        Stream::Submissions => pulse::submission(message).encode_to_vec(),
        Stream::Standings => pulse::standings(message).encode_to_vec(),
        Stream::Results | Stream::DeadLetters => panic!("no stage reads {stream}"),
    };
    bytes.into()
}

/// Returns a `standings` record of one effect.
///
/// # Errors
/// [`TooLarge`]: cannot happen for effects of records that were decoded.
pub fn encode_effect(effect: &Effect) -> Result<Bytes, TooLarge> {
    sized(&effect::standings(effect), RECORD_BYTES_MAX)
}

/// Returns few `standings` records that hold these effects, all for one partition, in this order. An answer takes about
/// 60 bytes of them, a quarter of a record of its own.
///
/// # Errors
/// [`TooLarge`]: cannot happen for effects of records that were decoded.
pub fn encode_effects(effects: &[Effect]) -> Result<Vec<Bytes>, TooLarge> {
    packed::pack(effects)
}

/// Returns the effects of a `standings` record: one or more.
///
/// # Errors
/// [`DecodeError`] says whether to go on.
pub fn decode_effects(payload: &[u8]) -> Result<Vec<Effect>, DecodeError> {
    decode_standings(payload)?.event()
}

/// Returns what a `standings` record says: one or more effects, or a pulse.
///
/// # Errors
/// [`DecodeError`] says whether to go on.
pub fn decode_standings(payload: &[u8]) -> Result<Decoded<Vec<Effect>>, DecodeError> {
    use proto::standings::Change;
    readable(payload)?;
    let mut message = proto::Standings::decode(payload).map_err(DecodeError::malformed)?;
    if let Some(Change::Pulse(pulse)) = &mut message.change {
        return pulse::pulse(std::mem::take(pulse)).map(Decoded::Pulse);
    }
    if let Some(Change::Effects(effects)) = &message.change {
        return packed::unpack(effects).map(Decoded::Event);
    }
    effect::effect(message).map(|effect| Decoded::Event(vec![effect]))
}

/// What could not be processed, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The stream it was in.
    pub stream: String,
    /// Its partition.
    pub partition: PartitionId,
    /// Its position.
    pub position: Position,
    /// Why it is here.
    pub reason: String,
    /// The record as it was.
    pub payload: Bytes,
}

/// Returns a `dead-letters` record; the payload is cut if the letter would not fit the log with it.
pub fn encode_dead_letter(
    stream: Stream,
    partition: PartitionId,
    position: Position,
    reason: &str,
    payload: &Bytes,
) -> Bytes {
    // The frame around payload and reason is far smaller than this.
    const FRAME_BYTES: usize = 4 << 10;
    let fits = RECORD_BYTES_MAX - FRAME_BYTES;
    let letter = proto::DeadLetter {
        stream: stream.name().to_owned(),
        partition: u32::from(partition.0),
        position: part::position_bytes(position),
        reason: reason.chars().take(500).collect(),
        payload: payload.slice(..payload.len().min(fits)),
    };
    letter.encode_to_vec().into()
}

/// Returns a dead letter.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn decode_dead_letter(payload: &[u8]) -> Result<DeadLetter, DecodeError> {
    let letter = proto::DeadLetter::decode(payload).map_err(DecodeError::malformed)?;
    Ok(DeadLetter {
        stream: letter.stream,
        partition: PartitionId(u16::try_from(letter.partition).map_err(DecodeError::malformed)?),
        position: part::position(&letter.position)?,
        reason: letter.reason,
        payload: letter.payload,
    })
}

fn sized(message: &impl Message, max: usize) -> Result<Bytes, TooLarge> {
    let bytes = message.encoded_len();
    if bytes > max {
        return Err(TooLarge { bytes, max });
    }
    Ok(message.encode_to_vec().into())
}

/// What every record begins with. It is read on its own, so that a newer record is told from a malformed one even if
/// this reader knows nothing else in it.
#[derive(Clone, PartialEq, Message)]
struct Preface {
    #[prost(uint32, tag = "1")]
    min_reader: u32,
}

fn readable(payload: &[u8]) -> Result<(), DecodeError> {
    let needed = Preface::decode(payload).map_err(DecodeError::malformed)?.min_reader;
    if needed > READER { Err(DecodeError::NewerReader { needed }) } else { Ok(()) }
}
