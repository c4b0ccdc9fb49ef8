//! Followers: a head, what changed since, and rows as of one head.

use std::time::Duration;

use pipeline::store::dynamodb::{DynamoStore, Head, Options};

use super::double::{Double, tiny};
use super::*;

async fn rows_at(store: &DynamoStore, unit: Unit, head: &Head) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    loop {
        let last = rows.last_key_value().map(|(key, _)| key.clone());
        let page = store.scan_at(unit, head, b"", last.as_deref(), 11).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// Follows a writer for a while; returns how often the changes were told apart and how often not.
async fn follow(options: Options, seed: u64, lag_max: u64) -> [u64; 2] {
    let double = Double::start().await;
    let unit = unit(3);
    let owner = double.store(options).await;
    let follower = double.store(options).await;
    assert!(follower.head(unit).await.unwrap().is_none());
    let mut dice = Dice(seed);
    let mut header = owner.acquire(unit).await.unwrap();
    assert_eq!(follower.head(unit).await.unwrap().unwrap().seq, 0);
    let mut snapshots = vec![Rows::new()];
    let (mut seq, mut seen) = (0, Rows::new());
    let mut told = [0, 0];
    for _ in 0..40 {
        for _ in 0..dice.roll(lag_max + 1) {
            // Now and then one without rows.
            let step = commit(unit, header, snapshots.len() as u64, dice.rows(6));
            owner.commit(&step).await.unwrap();
            let mut rows = snapshots.last().unwrap().clone();
            apply(&mut rows, &step);
            snapshots.push(rows);
            header = step.to();
        }
        let head = follower.head(unit).await.unwrap().unwrap();
        assert_eq!((head.seq, head.header), (snapshots.len() as u64 - 1, header));
        let expected = &snapshots[head.seq as usize];
        match follower.changes_since(unit, &head, seq).await.unwrap() {
            Some(changes) => {
                told[0] += 1;
                for (key, value) in changes {
                    match value {
                        Some(value) => seen.insert(key, value),
                        None => seen.remove(&key),
                    };
                }
            }
            None => {
                told[1] += 1;
                seen = rows_at(&follower, unit, &head).await.unwrap();
            }
        }
        assert_eq!(&seen, expected, "seq {seq} to {}", head.seq);
        assert_eq!(rows_at(&follower, unit, &head).await.as_ref(), Ok(expected));
        seq = head.seq;
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_has_what_the_owner_has() {
    let told = follow(tiny(), 1, 9).await;
    assert!(told[0] > 5 && told[1] > 5, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_looks_often_never_has_to_read_it_all() {
    let told = follow(Options { retired_for: Duration::from_secs(600), ..tiny() }, 2, 9).await;
    assert_eq!(told[1], 0);
}

/// Rows as of a head stay as they are, until they are gone: then that is said, and nothing else shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_shows_its_moment() {
    let double = Double::start().await;
    let unit = unit(3);
    let owner = double.store(tiny()).await;
    let follower = double.store(Options { cache_bytes_max: 0, ..tiny() }).await;
    let mut dice = Dice(3);
    let mut header = owner.acquire(unit).await.unwrap();
    let mut model = Rows::new();
    let mut first = None;
    let mut gone = false;
    for offset in 1..60 {
        let step = commit(unit, header, offset, dice.rows(9));
        owner.commit(&step).await.unwrap();
        apply(&mut model, &step);
        header = step.to();
        let (head, rows) = match &first {
            Some(first) => first,
            None => first.insert((follower.head(unit).await.unwrap().unwrap(), model.clone())),
        };
        match rows_at(&follower, unit, head).await {
            Ok(found) => assert!(found == *rows && !gone, "offset {offset}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                gone = true;
            }
        }
    }
    assert!(gone, "its pages were written over");
}
