//! The bytes of every kind of record, as they were first written: what is in a log today is read for ever.
//!
//! `golden.txt` holds for each sample a line of bytes and a line that shows them by the `.proto` text. New kinds are
//! added with `PODIUM_GOLDEN=write cargo test -p ingest golden`; a line that is there already never changes.

use std::collections::BTreeMap;

use ingest::codec::{self, decode_effects, decode_envelope, encode_effect, encode_effects, encode_envelope};
use ingest::log::Stream;
use ingest::partition::PartitionId;
use operators::id::Position;

use crate::proto_text::{Schema, hex, unhex};
use crate::samples;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden.txt");

/// Returns the name, message and bytes of every sample.
fn encoded() -> Vec<(String, &'static str, Vec<u8>)> {
    let events = samples::envelopes().into_iter();
    let events = events
        .map(|(name, e)| (format!("event_{name}"), "Submission", encode_envelope(&e).unwrap().to_vec()));
    let effects = samples::effects().into_iter();
    let effects =
        effects.map(|(name, e)| (format!("effect_{name}"), "Standings", encode_effect(&e).unwrap().to_vec()));
    let (partition, position) = (PartitionId(3), Position::from_offset(40));
    let letter = codec::encode_dead_letter(
        Stream::Submissions,
        partition,
        position,
        "no event",
        &b"\x08\x01"[..].into(),
    );
    let packed = encode_effects(&samples::step()).unwrap();
    let packed = packed.into_iter().map(|bytes| ("packed_step".into(), "Standings", bytes.to_vec()));
    let letter = ("dead_letter".into(), "DeadLetter", letter.to_vec());
    events.chain(effects).chain(packed).chain([letter]).collect()
}

/// Returns the golden lines by name: bytes in hexadecimal digits, and what they show.
fn golden() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    let mut golden = BTreeMap::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    for entry in lines.chunks(3) {
        let [name, bytes, shown] = entry else { panic!("three lines an entry, not {entry:?}") };
        let old = golden.insert((*name).to_owned(), ((*bytes).to_owned(), (*shown).to_owned()));
        assert!(old.is_none(), "{name} is there twice");
    }
    golden
}

#[test]
fn golden_bytes_are_written_for_every_kind() {
    let schema = Schema::parse(include_str!("../../proto/podium/v1/records.proto"));
    let samples = encoded();
    let mut golden = golden();
    if std::env::var_os("PODIUM_GOLDEN").is_some() {
        let mut text = String::from("# Written once, never changed: see golden.rs.\n");
        for (name, message, bytes) in &samples {
            let fresh = || (hex(bytes), schema.show(message, bytes));
            let (bytes, shown) = golden.remove(name).unwrap_or_else(fresh);
            text.push_str(&format!("\n{name}\n{bytes}\n{shown}\n"));
        }
        std::fs::write(FILE, text).unwrap();
        return;
    }
    for (name, message, bytes) in samples {
        let (written, shown) = golden.remove(&name).unwrap_or_else(|| panic!("{name} has no golden bytes"));
        assert_eq!(hex(&bytes), written, "{name} is written differently now");
        assert_eq!(
            schema.show(message, &unhex(&written)),
            shown,
            "{name} means something else in the .proto now"
        );
    }
    assert!(golden.is_empty(), "nobody makes {:?} any more, and logs hold it", golden.keys());
}

#[test]
fn golden_bytes_are_read_as_what_was_written() {
    let golden = golden();
    let bytes = |family: &str, name: &str| unhex(&golden[&format!("{family}_{name}")].0);
    for (name, envelope) in samples::envelopes() {
        assert_eq!(decode_envelope(&bytes("event", name)).unwrap(), envelope, "{name}");
    }
    for (name, effect) in samples::effects() {
        assert_eq!(decode_effects(&bytes("effect", &name)).unwrap(), [effect], "{name}");
    }
    assert_eq!(decode_effects(&bytes("packed", "step")).unwrap(), samples::step());
    let letter = codec::decode_dead_letter(&bytes("dead", "letter")).unwrap();
    assert_eq!(
        (letter.partition, &*letter.stream, &*letter.reason),
        (PartitionId(3), "submissions", "no event")
    );
    assert_eq!((letter.position, &letter.payload[..]), (Position::from_offset(40), &b"\x08\x01"[..]));
}
