//! Encoding and decoding one record of each stream, and a step's effects that share records.

use std::hint::black_box;

use benches::{answer, open_section, quiz, stamp};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ingest::codec;
use operators::effect::{Effect, Output};
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
    c.bench_function("codec/decode_score", |b| b.iter(|| codec::decode_effects(black_box(&standings))));
}

/// Answers of one step.
const ANSWERS: u64 = 500;

/// Per answer, to compare with a record of its own.
fn steps(c: &mut Criterion) {
    let (mut section, next) = open_section(ANSWERS, 1);
    let mut outputs = Vec::new();
    for n in 0..ANSWERS {
        section.apply(&answer(n, 0), stamp(next + n), &mut outputs);
    }
    let standings = |output| match output {
        Output::Standings(effect) => effect,
        Output::Copy { .. } => panic!("an answer makes no copy"),
    };
    let effects: Vec<Effect> = outputs.into_iter().map(standings).collect();
    let records = codec::encode_effects(&effects).expect("effects are small");
    let mut group = c.benchmark_group("codec/step");
    group.throughput(Throughput::Elements(ANSWERS));
    group.bench_function("encode_scores", |b| b.iter(|| codec::encode_effects(black_box(&effects))));
    group.bench_function("decode_scores", |b| {
        b.iter(|| records.iter().map(|record| codec::decode_effects(black_box(record))).collect::<Vec<_>>());
    });
    group.finish();
}

criterion_group!(benches, records, steps);
criterion_main!(benches);
