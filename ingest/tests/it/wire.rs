//! The codec on anything: round trips, newer writers, damage, and noise.

use ingest::codec::{
    DecodeError, Decoded, Pulse, READER, Reached, TooLarge, decode_dead_letter, decode_effects,
    decode_envelope, decode_standings, decode_submission, encode_dead_letter, encode_effect, encode_envelope,
    encode_pulse,
};
use ingest::limits::RECORD_BYTES_MAX;
use ingest::log::Stream;
use ingest::partition::PartitionId;
use operators::event::{Answer, Event, Response};
use operators::id::{Position, UnixMillis};
use proptest::prelude::*;

use crate::{arbitrary, samples};

/// Returns the bytes of every sample, with the decoder's verdict on changed bytes of the same stream.
type Decode = fn(&[u8]) -> Result<String, DecodeError>;

fn samples() -> Vec<(String, Vec<u8>, Decode)> {
    let event: Decode = |bytes| decode_envelope(bytes).map(|event| format!("{event:?}"));
    let effect: Decode = |bytes| decode_effects(bytes).map(|effects| format!("{effects:?}"));
    let events = samples::envelopes().into_iter();
    let events = events.map(|(name, e)| (name.to_owned(), encode_envelope(&e).unwrap().to_vec(), event));
    let effects = samples::effects().into_iter();
    let effects = effects.map(|(name, e)| (name, encode_effect(&e).unwrap().to_vec(), effect));
    events.chain(effects).collect()
}

proptest! {
    #[test]
    fn events_round_trip(envelope in arbitrary::envelope()) {
        let bytes = encode_envelope(&envelope).unwrap();
        prop_assert_eq!(decode_envelope(&bytes).unwrap(), envelope);
    }

    #[test]
    fn effects_round_trip(effect in arbitrary::effect()) {
        let bytes = encode_effect(&effect).unwrap();
        prop_assert_eq!(decode_effects(&bytes).unwrap(), [effect]);
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_envelope(&bytes);
        let _ = decode_effects(&bytes);
        let _ = decode_dead_letter(&bytes);
    }

    #[test]
    fn damaged_records_are_read_or_refused_without_a_panic(
        pick in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let all = samples();
        let (_, bytes, decode) = &all[pick.index(all.len())];
        let mut bytes = bytes.clone();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&bytes);
    }
}

/// The event, or the change, is written last, so a record that was cut anywhere lacks something.
#[test]
fn truncated_records_are_malformed() {
    for (name, bytes, decode) in samples() {
        for length in 0..bytes.len() {
            let cut = decode(&bytes[..length]);
            assert!(matches!(cut, Err(DecodeError::Malformed(_))), "{name} cut to {length}: {cut:?}");
        }
    }
}

/// The first reader that there is not.
const NEWER: u8 = READER as u8 + 1;

#[test]
fn a_record_for_a_newer_reader_stops_this_one() {
    for (name, mut bytes, decode) in samples() {
        let oldest = if ["expire", "copy_forget", "changed_forgotten"].contains(&&*name) { 3 } else { 1 };
        assert_eq!(bytes[..2], [0x08, oldest], "{name} begins with min_reader");
        bytes[1] = NEWER;
        let newer = Err(DecodeError::NewerReader { needed: NEWER.into() });
        assert_eq!(decode(&bytes), newer, "{name}");
        // A kind of record that this reader never heard of, and one whose fields changed their wire type.
        assert_eq!(decode(&[0x08, NEWER, 0x7a, 1, 9]), newer);
        assert_eq!(decode(&[0x08, NEWER, 0x10, 5, 0x20, 5]), newer);
        assert!(matches!(decode(&[0x08, 1, 0x10, 5, 0x20, 5]), Err(DecodeError::Malformed(_))));
    }
}

/// Writers add fields; readers that do not know them go on.
#[test]
fn unknown_fields_are_skipped() {
    // Field 1000 as a number, as bytes, as 8 and as 4 bytes.
    let unknown: [&[u8]; 4] = [
        &[0xc0, 0x3e, 7],
        &[0xc2, 0x3e, 2, 0xff, 0xff],
        &[0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xc5, 0x3e, 1, 2, 3, 4],
    ];
    for (name, bytes, decode) in samples() {
        let known = decode(&bytes).unwrap();
        for extra in unknown {
            assert_eq!(decode(&[&bytes, extra].concat()).unwrap(), known, "{name}, behind");
            assert_eq!(decode(&[extra, &bytes].concat()).unwrap(), known, "{name}, before");
        }
    }
    // Inside the answer (field 4), whose length grows with it.
    let (_, envelope) = samples::envelopes().swap_remove(0);
    let bytes = encode_envelope(&envelope).unwrap();
    let at = 2 + 2 + 5;
    assert_eq!(bytes[at], 0x22, "the answer begins after min_reader and the quiz");
    let length = bytes[at + 1];
    assert_eq!(usize::from(length), bytes.len() - at - 2);
    let longer = [&bytes[..=at], &[length + 3], &bytes[at + 2..], unknown[0]].concat();
    assert_eq!(decode_envelope(&longer).unwrap(), envelope);
}

#[test]
fn a_record_over_the_limit_is_not_encoded() {
    let (_, mut envelope) = samples::envelopes().swap_remove(0);
    let Event::Answer(answer) = envelope.event.clone() else { panic!("the first sample is an answer") };
    let mut sized = |length: usize| {
        let response = Response::Text("x".repeat(length));
        envelope.event = Event::Answer(Answer { response, ..answer.clone() });
        encode_envelope(&envelope)
    };
    // What comes from outside leaves room for what is made of it.
    let max = RECORD_BYTES_MAX - (4 << 10);
    let frame = sized(max - 200).unwrap().len() - (max - 200);
    assert_eq!(sized(max - frame).unwrap().len(), max);
    assert_eq!(sized(max - frame + 1), Err(TooLarge { bytes: max + 1, max }));
}

#[test]
fn a_dead_letter_always_fits_the_log() {
    let payload = vec![9; RECORD_BYTES_MAX].into();
    let widest = Position { shard: u32::MAX, sequence: [u64::MAX; 3], sub: u64::MAX };
    let reason = "\u{10ffff}".repeat(10_000);
    let letter = encode_dead_letter(Stream::DeadLetters, PartitionId(u16::MAX), widest, &reason, &payload);
    assert!(letter.len() <= RECORD_BYTES_MAX);
    let read = decode_dead_letter(&letter).unwrap();
    assert_eq!((read.position, read.reason.chars().count()), (widest, 500));
    assert!(payload.starts_with(&read.payload) && read.payload.len() > RECORD_BYTES_MAX - (8 << 10));
}

/// Stored for ever, so the bytes never change.
#[test]
fn a_pulse_is_read_as_it_was_sent_and_stops_a_reader_that_does_not_know_it() {
    let through = Position { shard: 3, sequence: [1, 2, 3], sub: 4 };
    let (graded, settled) = (UnixMillis(300), UnixMillis(200));
    let reached = Reached { partition: PartitionId(7), graded, settled, through };
    let pulse = Pulse { slowest: UnixMillis(150), reached: vec![reached] };
    for (stream, field) in [(Stream::Submissions, 0x4a), (Stream::Standings, 0x6a)] {
        let bytes = encode_pulse(stream, &pulse);
        assert_eq!(bytes[..3], [0x08, 2, field], "{stream}: min_reader, then the pulse");
        assert_eq!(bytes[4..7], [0x08, 0x96, 0x01], "{stream}: the slowest");
        let read = match stream {
            Stream::Submissions => decode_submission(&bytes).map(|read| read.map(drop)),
            Stream::Standings | Stream::Results | Stream::DeadLetters => {
                decode_standings(&bytes).map(|read| read.map(drop))
            }
        };
        assert_eq!(read, Ok(Decoded::Pulse(pulse.clone())));
    }
    assert!(matches!(
        decode_envelope(&encode_pulse(Stream::Submissions, &pulse)),
        Err(DecodeError::Malformed(_))
    ));
    assert!(matches!(
        decode_effects(&encode_pulse(Stream::Standings, &pulse)),
        Err(DecodeError::Malformed(_))
    ));
}
