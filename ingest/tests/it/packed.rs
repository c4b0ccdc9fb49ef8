//! Many effects in one record: nothing is lost, sizes are bounded, damage is refused, and an answer takes few bytes.

use ingest::codec::{DecodeError, READER, decode_effects, encode_effect, encode_effects};
use ingest::limits::RECORD_BYTES_MAX;
use ingest::proto::{self, standings::Change as Wire};
use operators::effect::{Change, Effect, Receipt, ScoreChanged, Slot, Standing, Tally, Verdict};
use operators::event::Response;
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use operators::policies::Fraction;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use rust_decimal::Decimal;

use crate::arbitrary;
use crate::samples;

mod bytes;

/// The most that a record of many may take.
const BYTES_MAX: usize = (64 << 10) + 16;
const EFFECTS_MAX: usize = 1_024;

/// Returns the effects of records, with how many each has.
fn read(records: &[impl AsRef<[u8]>]) -> (Vec<Effect>, Vec<usize>) {
    let read: Vec<Vec<Effect>> =
        records.iter().map(|record| decode_effects(record.as_ref()).unwrap()).collect();
    let counts = read.iter().map(Vec::len).collect();
    (read.concat(), counts)
}

/// Tells two effects apart that are equal and yet not the same: numbers that are written with other zeros.
fn shown(effects: &[Effect]) -> String {
    format!("{effects:?}")
}

/// As points have them, and as they never do.
const DECIMALS: [&str; 9] =
    ["0", "0.0", "1000", "948.5", "7.50", "0.333333", "0.1234567", "-1", "79228162514264337593543950335"];

/// Returns a step that is much as steps are: what follows from what was before mostly does, and sometimes does not.
fn step() -> impl Strategy<Value = Vec<Effect>> {
    let decimal =
        || proptest::sample::select(&DECIMALS[..]).prop_map(|text| text.parse::<Decimal>().unwrap());
    let numbers = (any::<[u8; 8]>(), any::<[u8; 8]>());
    let one = (numbers, decimal(), decimal(), arbitrary::effect());
    vec(one, 0..40).prop_map(|steps| {
        let mut last = Last::default();
        steps
            .into_iter()
            .map(|(numbers, points, total, any)| last.next(numbers, points, total, any))
            .collect()
    })
}

/// Whatever decides what the next effect is like.
type Numbers = ([u8; 8], [u8; 8]);

#[derive(Default)]
struct Last {
    revision: u64,
    position: Position,
    received_at: u64,
    tally: Tally,
    awarded: Decimal,
}

impl Last {
    fn next(&mut self, (a, b): Numbers, points: Decimal, total: Decimal, any: Effect) -> Effect {
        let ([kind, place, at, question, _, _, taken, told], [who, _, skip, off, ..]) = (a, b);
        self.revision = self.revision.wrapping_add((skip > 20).into());
        if skip > 240 {
            self.revision = self.revision.wrapping_add(off.into());
        }
        self.position = self.position(place, off);
        let (revision, position) = (self.revision, self.position);
        let quiz = ["geo-1", "geo-2"][usize::from(kind == 7)].parse().unwrap();
        let (section, ordinal) = (u16::from(kind % 2), u32::from(kind == 9));
        let effect = Effect { quiz, section, revision, ordinal, position, ..any };
        if kind < 40 {
            return effect;
        }
        self.received_at = self.received_at.wrapping_add(u64::from(at)).wrapping_sub(3);
        let question = (question > 8).then_some(u16::from(question % 2));
        let receipt = self.receipt((a, b), points, question);
        self.tally = Tally { late: u64::from(taken < 10), ..self.tally };
        self.tally.count(if told == 9 { Verdict::TooEarly } else { receipt.verdict });
        self.awarded = if told < 10 { total } else { (self.awarded.saturating_add(points)).normalize() };
        let last_correct_at = UnixMillis(if off < 30 { 5 } else { self.received_at });
        let standing =
            Standing { points: total, correct: u32::from(off % 4), time_ms: at.into(), last_correct_at };
        let change = Change::ScoreChanged(Box::new(ScoreChanged {
            participant: ParticipantId(who.into()),
            standing: (told > 30).then_some(standing),
            receipt: (told % 5 > 0).then_some(receipt),
            tally: self.tally,
            question,
            awarded: self.awarded,
        }));
        Effect { change, ..effect }
    }

    fn position(&self, place: u8, off: u8) -> Position {
        let by = u64::from(place % 3);
        match place {
            0..5 => Position::from_offset(u64::MAX - 1),
            5..10 => Position { shard: 3, sequence: [1, 2, 3], sub: u64::MAX - 1 },
            10..20 => Position { shard: 3, sequence: [1, 2, u64::from(off)], sub: 0 },
            20..40 => Position::from_offset(off.into()),
            _ if self.position.offset().is_some() => {
                Position::from_offset(self.position.sequence[2].wrapping_add(by))
            }
            _ => Position { sub: self.position.sub.wrapping_add(by), ..self.position },
        }
    }

    fn receipt(&self, (a, b): Numbers, points: Decimal, question: Option<u16>) -> Receipt {
        let ([_, _, _, _, response, slot, taken, told], [who, fraction, _, off, ..]) = (a, b);
        let verdict = match told % 8 {
            0 => Verdict::Repeated,
            1 => Verdict::Late,
            _ => Verdict::Counted,
        };
        let counted = if off == 8 { fraction > 128 } else { verdict == Verdict::Counted };
        let fraction =
            Fraction { numerator: u32::from(fraction % 3), denominator: 1 + u32::from(fraction > 200) };
        let taken_ms = if taken > 20 { self.received_at.wrapping_sub(5) } else { 7 };
        Receipt {
            submission: SubmissionId(u128::from(who) << 64),
            question: ["q1", "q2"][usize::from(response % 2)].parse().unwrap(),
            response: match response {
                0..10 => Response::Choice("x".repeat(63 + usize::from(response % 3))),
                10..20 => Response::Text("x".repeat(usize::from(response) * 150)),
                _ => Response::Choice(["a", "b"][usize::from(response % 2)].into()),
            },
            verdict,
            fraction: counted.then_some(fraction),
            points,
            received_at: UnixMillis(self.received_at),
            taken_ms: (counted != (off == 9)).then_some(taken_ms),
            position: if off == 10 { Position::default() } else { self.position },
            revision: if off == 11 { 0 } else { self.revision },
            slot: match slot {
                0..50 => Slot::Recent(slot),
                50..60 => Slot::Instead(u16::from(slot % 2)),
                60..70 => Slot::Question(7),
                _ => Slot::Question(question.unwrap_or(1)),
            },
        }
    }
}

proptest! {
    #[test]
    fn any_effects_come_back_in_their_order(effects in vec(arbitrary::effect(), 0..30)) {
        let records = encode_effects(&effects).unwrap();
        prop_assert_eq!(shown(&read(&records).0), shown(&effects));
    }

    #[test]
    fn steps_come_back_in_their_order(effects in step()) {
        let records = encode_effects(&effects).unwrap();
        prop_assert_eq!(shown(&read(&records).0), shown(&effects));
        prop_assert!(records.len() <= 1 + effects.len() / 10, "{} records", records.len());
    }

    #[test]
    fn damage_is_read_or_refused_without_a_panic(
        effects in step(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for record in encode_effects(&effects).unwrap() {
            let mut bytes = record.to_vec();
            let cut = decode_effects(&bytes[..cut.index(bytes.len())]);
            prop_assert!(matches!(cut, Err(DecodeError::Malformed(_))), "cut: {:?}", cut);
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(read) = decode_effects(&bytes) {
                prop_assert!(read.len() <= EFFECTS_MAX);
                // Whatever it says now can be carried on.
                let again = encode_effects(&read).unwrap();
                prop_assert_eq!(shown(&self::read(&again).0), shown(&read));
            }
        }
    }
}

#[test]
fn few_effects_share_a_record_and_one_alone_is_as_it_always_was() {
    for (name, effect) in samples::effects() {
        assert_eq!(
            encode_effects(std::slice::from_ref(&effect)).unwrap(),
            [encode_effect(&effect).unwrap()],
            "{name}"
        );
    }
    assert!(encode_effects(&[]).unwrap().is_empty());
    let all: Vec<Effect> = samples::effects().into_iter().map(|(_, effect)| effect).collect();
    let records = encode_effects(&all).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0][..2], [0x08, 3], "older readers stop");
    assert_eq!(read(&records).0, all);
}

#[test]
fn a_record_holds_so_many_effects_and_bytes_and_a_large_one_is_alone() {
    let samples = samples::effects();
    let (_, reached) = samples.iter().find(|(name, _)| name == "reached").expect("there is one");
    let many =
        |count: usize, effect: &Effect| -> Vec<Effect> { (0..count).map(|_| effect.clone()).collect() };
    let joined = |name: String| Effect {
        change: Change::Joined { participant: ParticipantId(1), name },
        ..reached.clone()
    };
    for (effect, expected) in
        [(joined("x".into()), &[EFFECTS_MAX, EFFECTS_MAX, 452][..]), (reached.clone(), &[])]
    {
        let effects = many(2_500, &effect);
        let records = encode_effects(&effects).unwrap();
        assert!(records.iter().all(|record| record.len() <= BYTES_MAX));
        let (read, counts) = read(&records);
        assert_eq!(read, effects);
        assert!(expected.is_empty() || counts == expected, "{counts:?}");
    }
    for length in [2_048, 2_049, 4_000, 4_096, 5_000, 60_000, RECORD_BYTES_MAX - 1_000] {
        let large = joined("x".repeat(length));
        let effects =
            [many(40, &large), many(3, reached), vec![large.clone()], many(3, &joined("y".into()))].concat();
        let records = encode_effects(&effects).unwrap();
        let (read, counts) = read(&records);
        assert_eq!(read, effects);
        assert!(records.iter().zip(&counts).all(|(record, count)| *count == 1 || record.len() <= BYTES_MAX));
        assert_eq!(counts.len() > 40, length > 4_000, "{length}: {counts:?}");
    }
    assert!(encode_effects(&many(2, &joined("x".repeat(RECORD_BYTES_MAX)))).is_err());
}

fn record(effects: &proto::Effects, min_reader: u32) -> Vec<u8> {
    let change = Some(Wire::Effects(effects.encode_to_vec()));
    proto::Standings { min_reader, change, ..proto::Standings::default() }.encode_to_vec()
}

fn row() -> proto::PackedEffect {
    let (ids, name) = (vec![1; 16], Some("Zoë".to_owned()));
    proto::PackedEffect { ids, name, ..proto::PackedEffect::default() }
}

fn whole(message: proto::Standings) -> proto::PackedEffect {
    proto::PackedEffect { whole: Some(Box::new(message)), ..proto::PackedEffect::default() }
}

/// Returns a record of these effects of one section, with these choices.
fn packed(effects: Vec<proto::PackedEffect>, choices: &[String]) -> proto::Effects {
    let sections = vec![proto::PackedSection { quiz: "geo-1".into(), section: 0 }];
    let questions = vec![proto::PackedQuestion { id: "q1".into(), index: Some(0) }];
    proto::Effects { sections, questions, choices: choices.to_vec(), effects }
}

fn malformed(effects: &proto::Effects) -> String {
    match decode_effects(&record(effects, 3)) {
        Err(DecodeError::Malformed(reason)) => reason,
        other => panic!("not malformed: {other:?}"),
    }
}

#[test]
fn a_record_that_would_grow_is_malformed() {
    let few = |count| packed(vec![row(); count], &[]);
    assert_eq!(decode_effects(&record(&few(EFFECTS_MAX), 3)).unwrap().len(), EFFECTS_MAX);
    for count in [0, EFFECTS_MAX + 1, 3_000, 30_000] {
        malformed(&few(count));
    }
    // Empty effects take two bytes each.
    malformed(&packed(vec![proto::PackedEffect::default(); 32_000], &[]));
    malformed(&packed(vec![row()], &["x".repeat(65)]));
    malformed(&packed(vec![row()], &["x".repeat(70_000)]));
    assert!(decode_effects(&record(&packed(vec![row()], &vec!["x".repeat(64); 900]), 3)).is_ok());
    // Effects inside effects.
    let inner = || proto::Standings::decode(&*record(&few(2), 3)).unwrap();
    malformed(&packed(vec![whole(inner())], &[]));
    let pulse = proto::standings::Change::Pulse(proto::Pulse::default());
    malformed(&packed(vec![whole(proto::Standings { change: Some(pulse), ..inner() })], &[]));
}

#[test]
fn an_effect_that_makes_no_sense_is_malformed() {
    let score = || proto::PackedEffect { ids: vec![1; 32], name: None, ..row() };
    let choices = ["a".to_owned()];
    assert!(decode_effects(&record(&packed(vec![score()], &choices), 3)).is_ok());
    let far = i32::MAX as u32;
    let wrong = [
        proto::PackedEffect { section: Some(1), ..row() },
        proto::PackedEffect { ids: vec![1; 32], ..row() },
        proto::PackedEffect { ids: vec![1; 15], ..row() },
        proto::PackedEffect { after: Some(u64::MAX), position: Vec::new(), ..row() },
        proto::PackedEffect { position: vec![1; 7], ..row() },
        proto::PackedEffect { ids: Vec::new(), ..score() },
        proto::PackedEffect { ids: vec![1; 31], ..score() },
        proto::PackedEffect { question: Some(far), ..score() },
        proto::PackedEffect { choice: 1, ..score() },
        proto::PackedEffect { verdict: 9, ..score() },
        proto::PackedEffect { verdict: -1, ..score() },
        proto::PackedEffect { denominator: Some(0), ..score() },
        proto::PackedEffect { recent: Some(256), ..score() },
        proto::PackedEffect { response: Some(proto::Response::default()), ..score() },
    ];
    for (place, wrong) in wrong.into_iter().enumerate() {
        // The first takes the position to where one more is beyond the last.
        let reason =
            malformed(&packed(vec![proto::PackedEffect { after: Some(9), ..row() }, wrong], &choices));
        assert!(!reason.is_empty(), "{place}");
    }
    let unknown = proto::Effects {
        questions: vec![proto::PackedQuestion::default()],
        ..packed(vec![score()], &choices)
    };
    malformed(&unknown);
    for quiz in ["", "a b"] {
        let sections = vec![proto::PackedSection { quiz: quiz.into(), section: 0 }];
        malformed(&proto::Effects { sections, ..packed(vec![row()], &[]) });
    }
}

#[test]
fn a_newer_effect_among_others_stops_the_reader() {
    let newer = READER + 1;
    let needed = Err(DecodeError::NewerReader { needed: newer });
    assert_eq!(decode_effects(&record(&packed(vec![row()], &[]), newer)), needed);
    let inner = proto::Standings { min_reader: newer, ..proto::Standings::default() };
    assert_eq!(decode_effects(&record(&packed(vec![row(), whole(inner)], &[]), 3)), needed);
}
