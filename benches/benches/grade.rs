//! Judging one answer in a section with many participants: first answers, and repeats of them.

use std::hint::black_box;

use benches::{answer, open_section, stamp};
use criterion::{Criterion, criterion_group, criterion_main};

fn grade(c: &mut Criterion) {
    let participants = 1_000_000;
    let questions = 64;
    let (mut section, mut next) = open_section(participants, questions);
    let mut outputs = Vec::new();
    let mut n = 0u64;
    c.bench_function("grade/first_answer_1m", |b| {
        b.iter(|| {
            // Steps by a large odd number, so that neighbours in time are not neighbours in memory.
            let who = n.wrapping_mul(7_919) % participants;
            let event = answer(who, (n / participants) as usize % questions);
            section.apply(black_box(&event), stamp(next), &mut outputs);
            (n, next) = (n + 1, next + 1);
            outputs.clear();
            section.take_touched();
        });
    });
    let repeated = answer(0, 0);
    section.apply(&repeated, stamp(next), &mut outputs);
    c.bench_function("grade/repeated_answer_1m", |b| {
        b.iter(|| {
            section.apply(black_box(&repeated), stamp(next), &mut outputs);
            next += 1;
            outputs.clear();
            section.take_touched();
        });
    });
}

criterion_group!(benches, grade);
criterion_main!(benches);
