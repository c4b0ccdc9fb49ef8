//! What is forgotten goes from the table in the end, and what is noted about it stays small.

use super::double::{Double, tiny};
use super::*;

fn quiz(number: u64) -> Vec<u8> {
    format!("quiz {number:04}/").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_does_not_grow_with_what_is_forgotten() {
    const QUIZZES: u64 = 400;
    let double = Double::start().await;
    let store = double.store(tiny()).await;
    let unit = unit(1);
    let mut header = store.acquire(unit).await.unwrap();
    let (mut offset, mut sizes) = (0, Vec::new());
    for number in 0..QUIZZES {
        // Each is forgotten when ten others were played after it.
        let forget = number.checked_sub(10).map(quiz);
        for part in 0..2u8 {
            // Nothing that a compressor could make small.
            let mut dice = Dice(number * 2 + u64::from(part));
            let row = |n: u8| {
                let value = (0..30).map(|_| dice.roll(256) as u8).collect();
                ([quiz(number), vec![part, n]].concat(), Some(value))
            };
            offset += 1;
            let mut step = commit(unit, header, offset, (0..20).map(row).collect());
            step.changes.forget.extend(forget.iter().filter(|_| part == 0).cloned());
            answered(async || store.commit(&step).await).await.unwrap();
            header = step.to();
        }
        if number % 100 == 99 {
            sizes.push(double.sizes().await);
        }
    }
    let (written, live) = (QUIZZES * 40 * 30, 10 * 40 * 30);
    let kept: Vec<usize> = sizes.iter().map(|sizes| sizes.iter().sum()).collect();
    assert!(kept.iter().all(|bytes| (live..written as usize / 3).contains(bytes)), "{kept:?}");
    assert!(kept[3] < kept[0] * 2, "{kept:?}");
    let found = all(&store, unit, Some(header.epoch), 1_000).await.unwrap();
    assert_eq!(found.len(), 10 * 40);
    assert!(found.keys().all(|key| **key >= *quiz(QUIZZES - 10)));
    // What the header names is written with every commit: pages, slots and at most 129 prefixes.
    let largest = sizes[3].iter().max().unwrap();
    assert!(*largest < 12_000, "{largest}");
}
