//! Encoding and decoding one record of each stream.

use std::hint::black_box;

use benches::{answer, open_section, quiz, stamp};
use criterion::{Criterion, criterion_group, criterion_main};
use ingest::codec;
use operators::effect::Output;
use operators::event::Envelope;

fn records(c: &mut Criterion) {
    let envelope = Envelope { quiz: quiz(), section: 0, event: answer(1, 1) };
    let submission = codec::encode_envelope(&envelope).expect("an answer is small");
    c.bench_function("codec/encode_answer", |b| b.iter(|| codec::encode_envelope(black_box(&envelope))));
    c.bench_function("codec/decode_answer", |b| b.iter(|| codec::decode_envelope(black_box(&submission))));

    let (mut section, next) = open_section(2, 2);
    let mut outputs = Vec::new();
    section.apply(&answer(1, 1), stamp(next), &mut outputs);
    let Some(Output::Standings(effect)) = outputs.pop() else { panic!("an answer makes one effect") };
    let standings = codec::encode_effect(&effect).expect("an effect is small");
    c.bench_function("codec/encode_score", |b| b.iter(|| codec::encode_effect(black_box(&effect))));
    c.bench_function("codec/decode_score", |b| b.iter(|| codec::decode_effect(black_box(&standings))));
}

criterion_group!(benches, records);
criterion_main!(benches);
