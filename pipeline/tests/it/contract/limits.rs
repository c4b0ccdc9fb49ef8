//! Records at the limit: what a stage makes of them fits the log as well.

use std::sync::Arc;

use ingest::codec::{self, DecodeError, encode_envelope};
use ingest::limits::RECORD_BYTES_MAX;
use ingest::log::Stream;
use operators::definition::Definition;
use operators::event::{Answer, Command, Envelope, Event, Response, Stamp};
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use pipeline::stage::Operator;
use pipeline::stage::grade::Grade;

/// Returns a definition whose texts have this many characters in all.
fn definition(characters: usize) -> Arc<Definition> {
    let texts = (0..characters.div_ceil(4_000)).map(|n| (characters - n * 4_000).min(4_000));
    let question = |(n, length): (usize, usize)| {
        let text = "x".repeat(length);
        format!(r#"{{"id":"{n}","kind":"numeric","text":"{text}","key":{{"value":"1"}}}}"#)
    };
    let questions: Vec<String> = texts.enumerate().map(question).collect();
    let json = format!(r#"{{"title":"T","sections":64,"questions":[{}]}}"#, questions.join(","));
    Arc::new(Definition::new(serde_json::from_str(&json).unwrap()).unwrap())
}

fn publish(characters: usize) -> Envelope {
    let command = Command::Publish { definition: definition(characters), if_version: None };
    Envelope {
        quiz: "q".parse().unwrap(),
        section: 0,
        event: Event::Command { id: "c".parse().unwrap(), content: 0, command },
    }
}

fn answer(characters: usize) -> Envelope {
    let answer = Answer {
        participant: ParticipantId(1),
        submission: SubmissionId(2),
        question: "0".parse().unwrap(),
        response: Response::Text("x".repeat(characters)),
        received_at: UnixMillis(1),
    };
    Envelope { quiz: "q".parse().unwrap(), section: 0, event: Event::Answer(answer) }
}

/// Returns the largest envelope that can be encoded, in characters.
fn largest(make: fn(usize) -> Envelope) -> Envelope {
    let (mut fits, mut over) = (1, RECORD_BYTES_MAX + 1);
    while fits + 1 < over {
        let middle = usize::midpoint(fits, over);
        if encode_envelope(&make(middle)).is_ok() { fits = middle } else { over = middle }
    }
    make(fits)
}

#[test]
fn what_comes_of_the_largest_records_fits_the_log() {
    let grade = Grade::new(4, 0);
    let mut sections =
        [0, 1].map(|section| grade.restore(&("q".parse().unwrap(), section), Vec::new()).unwrap());
    let mut offset = 0;
    let mut apply = |section: usize, payload: &[u8]| {
        offset += 1;
        let stamp = Stamp { position: Position::from_offset(offset), append_at: UnixMillis(u64::MAX / 2) };
        let (_, event) = grade.decode(payload).unwrap().event().unwrap().remove(0);
        let mut outputs = Vec::new();
        grade.apply(&mut sections[section], &event, stamp, &mut outputs);
        let effects = grade.records(outputs);
        assert!(effects.iter().all(|effect| effect.payload.len() <= RECORD_BYTES_MAX));
        effects
    };
    let published = apply(0, &encode_envelope(&largest(publish)).unwrap());
    let copies: Vec<_> = published.iter().filter(|effect| effect.stream == Stream::Submissions).collect();
    assert_eq!(copies.len(), 63);
    apply(1, &copies[0].payload);
    let join = Event::Join { participant: ParticipantId(1), name: "Zoë".into() };
    apply(0, &encode_envelope(&Envelope { event: join, ..publish(1) }).unwrap());
    let judged = apply(0, &encode_envelope(&largest(answer)).unwrap());
    assert_eq!(judged.len(), 1, "the receipt holds the whole answer");
}

/// A writer that knows no such limit does not stop the partition: its record is a dead letter.
#[test]
fn a_record_too_large_to_be_carried_on_is_malformed() {
    let mut payload = encode_envelope(&largest(answer)).unwrap().to_vec();
    assert!(codec::decode_envelope(&payload).is_ok());
    let bytes = payload.len();
    // The text grows by what an unknown field at its place would take: lengths keep their number of digits.
    let at = payload.windows(4).position(|window| window == b"xxxx").unwrap();
    let more = RECORD_BYTES_MAX - bytes;
    payload.splice(at..at, std::iter::repeat_n(b'x', more));
    lengthen(&mut payload, bytes, more);
    assert_eq!(payload.len(), RECORD_BYTES_MAX);
    let decoded = codec::decode_envelope(&payload);
    assert!(
        matches!(&decoded, Err(DecodeError::Malformed(reason)) if reason.contains("bytes")),
        "it is read"
    );
}

/// Adds to the three lengths (answer, response, text) that enclose the text of an encoded answer of `bytes` bytes.
fn lengthen(payload: &mut [u8], bytes: usize, more: usize) {
    let mut patched = 0;
    for at in 0..100 {
        let three = [payload[at], payload[at + 1], payload[at + 2]];
        let [a, b, c] = three.map(u32::from);
        let value = (a & 127 | (b & 127) << 7 | c << 14) as usize;
        if a > 127 && b > 127 && c < 128 && value <= bytes && value + 200 > bytes {
            let value = value + more;
            payload[at] = (value & 127 | 128) as u8;
            payload[at + 1] = (value >> 7 & 127 | 128) as u8;
            payload[at + 2] = (value >> 14) as u8;
            patched += 1;
        }
    }
    assert_eq!(patched, 3);
}
