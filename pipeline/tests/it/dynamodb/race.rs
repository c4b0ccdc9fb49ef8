//! Writers that race: one header, and only one of them moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pipeline::store::dynamodb::{DynamoStore, Options};

use super::double::{Double, tiny};
use super::faults::{Fault, Plan};
use super::*;

/// A third of the calls of a writer takes a moment, and its header takes long while it is the slow one: who won once has
/// less to do in the next round, and would win for ever.
fn held_up(by: u64, slow: &Arc<AtomicU64>) -> Plan {
    let slow = slow.clone();
    Arc::new(move |call, operation| match operation {
        "UpdateItem" if slow.load(Ordering::SeqCst) == by => Fault::Held,
        _ if Dice(call * 2 + by).roll(3) == 0 => Fault::Delayed,
        _ => Fault::None,
    })
}

fn marked(round: u64, mark: u8, count: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    (0..count).map(|n| (format!("{n:02}").into_bytes(), Some(vec![mark, round as u8, 9, 9, 9, 9]))).collect()
}

/// Two that believe in the same epoch, as after a restart that was none: of each position one commit is in force, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_with_one_epoch() {
    let double = Double::start().await;
    let unit = unit(0);
    let slow = Arc::new(AtomicU64::new(0));
    let stores =
        [double.faulty(tiny(), held_up(0, &slow)).await, double.faulty(tiny(), held_up(1, &slow)).await];
    let calm = double.store(tiny()).await;
    let mut header = calm.acquire(unit).await.unwrap();
    let mut won = [0, 0];
    let mut rows = Rows::new();
    for round in 0..60u64 {
        // In every other round both make the same step, as two that fold the same log do.
        let same = round % 2 == 0;
        slow.store(round / 2 % 3, Ordering::SeqCst);
        let offset = round * 10 + 1;
        let offsets = if same { [offset, offset] } else { [offset, offset + 1] };
        let steps = [0, 1].map(|n| commit(unit, header, offsets[n], marked(round, n as u8, 40)));
        let (a, b) = tokio::join!(stores[0].commit(&steps[0]), stores[1].commit(&steps[1]));
        let moved = calm.head(unit).await.unwrap().unwrap().header;
        let found = all(&calm, unit, None, 1_000).await.unwrap();
        let winner = usize::from(found.values().next().unwrap()[0]);
        assert_eq!(moved, steps[winner].to());
        apply(&mut rows, &steps[winner]);
        assert_eq!(found, rows, "round {round}: the state is a mixture");
        let answers = [a, b];
        assert_eq!(answers[winner], Ok(()));
        if !same {
            assert_eq!(answers[1 - winner], Err(StoreError::Fenced), "round {round}");
        }
        won[winner] += 1;
        header = moved;
    }
    assert!(won[0] > 0 && won[1] > 0, "{won:?}");
}

/// A worker that slept through a take-over wakes in the middle of a commit or a merge: it changes nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_changes_nothing() {
    let double = Double::start().await;
    for seed in 0..12u64 {
        let unit = unit(seed as u16);
        let asleep = Arc::new(AtomicBool::new(false));
        let flag = asleep.clone();
        // While it sleeps, its calls are on their way; they arrive when the next owner has been at work for a while.
        let plan: Plan =
            Arc::new(move |_, _| if flag.load(Ordering::SeqCst) { Fault::Late } else { Fault::None });
        let zombie = double.faulty(tiny(), plan).await;
        let mut dice = Dice(seed);
        let mut rows = Rows::new();
        let mut header = zombie.acquire(unit).await.unwrap();
        let mut offset = 0;
        let mut step_by = async |store: &DynamoStore, header: &mut Header, rows: &mut Rows, count: u64| {
            for _ in 0..count {
                offset += 1;
                let step = commit(unit, *header, offset, dice.rows(10));
                store.commit(&step).await.unwrap();
                apply(rows, &step);
                *header = step.to();
            }
        };
        step_by(&zombie, &mut header, &mut rows, 5 + seed).await;
        asleep.store(true, Ordering::SeqCst);
        let late = commit(unit, header, 10_000, marked(1, 66, 60));
        assert!(zombie.commit(&late).await.is_err());
        let next = double.store(tiny()).await;
        let mut owner = next.acquire(unit).await.unwrap();
        step_by(&next, &mut owner, &mut rows, seed).await;
        asleep.store(false, Ordering::SeqCst);
        assert_eq!(zombie.commit(&late).await, Err(StoreError::Fenced), "seed {seed}");
        assert_eq!(all(&next, unit, Some(owner.epoch), 9).await.unwrap(), rows, "seed {seed}");
        step_by(&next, &mut owner, &mut rows, 12).await;
        assert_eq!(all(&double.store(tiny()).await, unit, None, 9).await.unwrap(), rows, "seed {seed}");
        assert_eq!(zombie.scan(unit, Some(header.epoch), b"", None, 9).await, Err(StoreError::Fenced));
    }
}

/// A deletion that was given up and comes later than the next page in its slot: that page stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_that_come_late_remove_no_page() {
    let double = Double::start().await;
    let deletions = Arc::new(AtomicU64::new(0));
    let counted = deletions.clone();
    let plan: Plan = Arc::new(move |_, operation| {
        let deletes = operation == "DeleteItem";
        counted.fetch_add(u64::from(deletes), Ordering::SeqCst);
        if deletes { Fault::Late } else { Fault::None }
    });
    let unit = unit(9);
    let store = double.faulty(Options { cache_bytes_max: 0, ..tiny() }, plan).await;
    let mut header = store.acquire(unit).await.unwrap();
    let mut rows = Rows::new();
    let key = |n: u64| format!("{n:04}").into_bytes();
    // A state that shrinks leaves slots to be emptied, and goes on taking free ones.
    for offset in 1..240u64 {
        let changes: Changes = match offset % 40 {
            1 => (0..120).map(|n| (key(n), Some(vec![offset as u8; 60]))).collect(),
            2 => (0..120).map(|n| (key(n), None)).collect(),
            _ => (0..6).map(|n| (key(n * 7), Some(vec![offset as u8; 80]))).collect(),
        };
        let step = commit(unit, header, offset, changes);
        answered(async || store.commit(&step).await).await.unwrap();
        apply(&mut rows, &step);
        header = step.to();
        if offset % 10 == 0 {
            assert_eq!(all(&store, unit, Some(header.epoch), 1_000).await.as_ref(), Ok(&rows), "{offset}");
        }
    }
    assert!(deletions.load(Ordering::SeqCst) > 40, "{deletions:?}");
}
