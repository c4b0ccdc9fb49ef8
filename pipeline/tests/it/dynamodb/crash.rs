//! A worker that dies between any two calls: what it was told is there, half a commit never is, and nothing piles up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline::store::dynamodb::Options;

use super::double::{Double, tiny};
use super::faults::{Fault, Plan};
use super::*;

/// Everything is lost from call `last` on; that one arrives if `arrives`.
fn dies_at(last: u64, arrives: bool) -> Plan {
    Arc::new(move |call, _| match call {
        call if call < last => Fault::None,
        call if call == last && arrives => Fault::Unanswered,
        _ => Fault::Lost,
    })
}

fn many(dice: &mut Dice) -> Changes {
    dice.rows(10)
}

/// Returns rows of a state of one page or two, so that even a short life gets some merges done.
fn few(dice: &mut Dice) -> Changes {
    let first = dice.roll(4) as u8;
    (first..first + 4).map(|key| (vec![key], Some(vec![dice.roll(256) as u8; 60]))).collect()
}

/// Commits until the worker dies; returns the rows before and after the commit that it died in, or `None` if it lived.
async fn work(
    store: &dyn Store,
    unit: Unit,
    dice: &mut Dice,
    make: fn(&mut Dice) -> Changes,
    rows: &mut Rows,
    commits: u64,
) -> Option<Rows> {
    let Ok(mut header) = store.acquire(unit).await else { return Some(rows.clone()) };
    let from = header.position.and_then(Position::offset).unwrap_or(0);
    for offset in from + 1..=from + commits {
        let step = commit(unit, header, offset, make(dice));
        let mut after = rows.clone();
        apply(&mut after, &step);
        if store.commit(&step).await.is_err() {
            return Some(after);
        }
        *rows = after;
        header = step.to();
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_may_die_between_any_two_calls() {
    let double = Double::start().await;
    let calm = double.store(tiny()).await;
    let mut died = 0;
    for last in 0..90u64 {
        for arrives in [false, true] {
            let unit = unit((last * 2 + u64::from(arrives)) as u16);
            let mut dice = Dice(last);
            let mut rows = Rows::new();
            let store = double.faulty(tiny(), dies_at(last, arrives)).await;
            let after = work(&store, unit, &mut dice, many, &mut rows, 14).await;
            drop(store);

            let header = calm.acquire(unit).await.unwrap();
            let found = all(&calm, unit, Some(header.epoch), 7).await.unwrap();
            if let Some(after) = after {
                died += 1;
                assert!(found == rows || found == after, "call {last}, {arrives}: half of a commit is there");
                rows = found;
            }
            assert!(work(&calm, unit, &mut dice, many, &mut rows, 6).await.is_none());
            assert_eq!(all(&calm, unit, None, 1_000).await, Ok(rows), "call {last}, {arrives}");
        }
    }
    assert!(died > 100, "{died} workers died");
}

/// Many workers one after the other on the same unit, each dead after a few calls: what they leave is written over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_dead_leave_behind_does_not_pile_up() {
    let double = Double::start().await;
    let unit = unit(0);
    let mut dice = Dice(7);
    let mut rows = Rows::new();
    let mut sizes = Vec::new();
    for round in 0..80u64 {
        let dies = dies_at(5 + dice.roll(40), round % 2 == 0);
        // Merges go on for some commits, so that many a worker dies with one half done.
        let slow: Plan = Arc::new(move |call, operation| {
            let fault = dies(call, operation);
            if fault == Fault::None && call % 5 < 2 { Fault::Delayed } else { fault }
        });
        let options = Options { cache_bytes_max: 0, ..tiny() };
        let store = double.faulty(options, slow).await;
        let after = work(&store, unit, &mut dice, few, &mut rows, 30).await;
        drop(store);
        let calm = double.store(tiny()).await;
        let found = all(&calm, unit, None, 1_000).await.unwrap();
        assert!(found == rows || Some(&found) == after.as_ref(), "round {round}");
        rows = found;
        sizes.push(double.items().await);
    }
    // Levels fill up at first. From then on there are as many slots as were ever in use at once.
    let (early, late) = (sizes[..40].iter().max().unwrap(), sizes[40..].iter().max().unwrap());
    assert!(late <= &(early * 5 / 4), "{sizes:?}");
}

/// A state that shrank gives its items back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_shrank_is_not_kept_for_ever() {
    let double = Double::start().await;
    let unit = unit(0);
    let deletes = Arc::new(AtomicU64::new(0));
    let counted = deletes.clone();
    let plan: Plan = Arc::new(move |_, operation| {
        counted.fetch_add(u64::from(operation == "DeleteItem"), Ordering::Relaxed);
        Fault::None
    });
    let store = double.faulty(tiny(), plan).await;
    let mut header = store.acquire(unit).await.unwrap();
    let key = |n: u64| format!("{n:06}").into_bytes();
    let large = (0..2_000).map(|n| (key(n), Some(vec![1; 100]))).collect();
    let step = commit(unit, header, 1, large);
    store.commit(&step).await.unwrap();
    header = step.to();
    let full = double.items().await;
    assert!(full > 500, "{full} items");
    let removed = (0..2_000).map(|n| (key(n), None)).collect();
    let step = commit(unit, header, 2, removed);
    store.commit(&step).await.unwrap();
    header = step.to();
    for offset in 3..400 {
        let step = commit(unit, header, offset, vec![(key(offset % 10), Some(vec![2; 10]))]);
        answered(async || store.commit(&step).await).await.unwrap();
        header = step.to();
    }
    let left = double.items().await;
    assert!(left < 150, "{left} of {full} items are left");
    assert!(deletes.load(Ordering::Relaxed) > 100);
    assert_eq!(all(&store, unit, None, 100).await.unwrap().len(), 10);
}
