//! Who may commit, and what a commit leaves behind.

use std::collections::BTreeSet;

use pipeline::store::StoreError;

use super::*;

pub(super) async fn acquire_raises_the_epoch_and_keeps_the_position<P: Place>() {
    let place = P::new();
    let Opened { store, .. } = place.open().await;
    assert_eq!(store.acquire(UNIT).await, Ok(Header { epoch: 1, ..Header::default() }));
    let second = store.acquire(UNIT).await.unwrap();
    assert_eq!(second, Header { epoch: 2, ..Header::default() });
    store.commit(&step(second, 7)).await.unwrap();
    let third = Header { epoch: 3, position: Some(Position::from_offset(7)), append_at: UnixMillis(7) };
    assert_eq!(store.acquire(UNIT).await, Ok(third));
}

pub(super) async fn an_earlier_owner_is_fenced_and_changes_nothing<P: Place>() {
    let place = P::new();
    let Opened { store, log } = place.open().await;
    let old = store.acquire(UNIT).await.unwrap();
    let held = Commit { changes: vec![row("a", "old")].into(), effects: vec![effect("old")], ..step(old, 0) };
    store.commit(&held).await.unwrap();
    let new = store.acquire(UNIT).await.unwrap();

    let late = Commit {
        changes: vec![row("a", "late"), row("b", "late")].into(),
        effects: vec![effect("late")],
        ..step(after(&held), 1)
    };
    assert_eq!(store.commit(&late).await, Err(StoreError::Fenced));
    assert_eq!(rows(&*store, UNIT).await, [("a".to_owned(), "old".to_owned())]);
    assert_eq!(effects(&*log).await, ["old"]);
    assert_eq!(
        store.acquire(UNIT).await.unwrap().position,
        Some(held.position),
        "nor does the position move"
    );

    // Nor does the owner in between commit any more, and the newest does.
    assert_eq!(store.commit(&step(new, 1)).await, Err(StoreError::Fenced));
    let newest = Header { epoch: 3, ..new };
    store.commit(&Commit { changes: vec![row("a", "newest")].into(), ..step(newest, 1) }).await.unwrap();
    assert_eq!(store.commit(&late).await, Err(StoreError::Fenced), "not even to where the newest put it");
    assert_eq!(rows(&*store, UNIT).await, [("a".to_owned(), "newest".to_owned())]);
}

pub(super) async fn the_same_commit_twice_is_success<P: Place>() {
    let place = P::new();
    let Opened { store, log } = place.open().await;
    let header = store.acquire(UNIT).await.unwrap();
    let commit =
        Commit { changes: vec![row("a", "1")].into(), effects: vec![effect("e")], ..step(header, 0) };
    // At once, as when the first is slow, and after.
    let (first, second) = tokio::join!(store.commit(&commit), store.commit(&commit));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(store.commit(&commit).await, Ok(()));
    assert_eq!(effects(&*log).await, ["e"]);
    assert_eq!(rows(&*store, UNIT).await, [("a".to_owned(), "1".to_owned())]);
    store.commit(&step(after(&commit), 1)).await.unwrap();
}

pub(super) async fn a_commit_from_a_stale_position_is_fenced<P: Place>() {
    let place = P::new();
    let Opened { store, log } = place.open().await;
    let header = store.acquire(UNIT).await.unwrap();
    let first = Commit { changes: vec![row("a", "1")].into(), ..step(header, 3) };
    store.commit(&first).await.unwrap();
    let second = Commit { changes: vec![row("a", "2")].into(), ..step(after(&first), 5) };
    store.commit(&second).await.unwrap();

    let stale = |from, offset| Commit {
        changes: vec![row("a", "stale")].into(),
        effects: vec![effect("stale")],
        ..step(from, offset)
    };
    for commit in [
        first.clone(),
        stale(header, 9),
        stale(after(&first), 9),
        stale(Header { epoch: 9, ..after(&second) }, 9),
    ] {
        assert_eq!(store.commit(&commit).await, Err(StoreError::Fenced), "{commit:?}");
    }
    assert_eq!(rows(&*store, UNIT).await, [("a".to_owned(), "2".to_owned())]);
    assert!(effects(&*log).await.is_empty());
    store.commit(&step(after(&second), 6)).await.unwrap();
}

pub(super) async fn effects_come_in_order_once_per_commit<P: Place>() {
    let place = P::new();
    let Opened { store, log } = place.open().await;
    let mut header = store.acquire(UNIT).await.unwrap();
    let mut sent = Vec::new();
    for offset in 0..20u64 {
        // More than one append call may hold, once.
        let count = if offset == 10 { 1_200 } else { offset % 4 };
        let texts: Vec<String> = (0..count).map(|n| format!("{offset}.{n}")).collect();
        let commit =
            Commit { effects: texts.iter().map(|text| effect(text)).collect(), ..step(header, offset) };
        store.commit(&commit).await.unwrap();
        sent.extend(texts);
        header = after(&commit);
    }
    assert_eq!(effects(&*log).await, sent);
}

pub(super) async fn owners_that_take_over_at_once_get_different_epochs<P: Place>() {
    let place = P::new();
    let store = place.open().await.store;
    let take = |store: Arc<dyn Store>| async move {
        loop {
            match store.acquire(UNIT).await {
                Ok(header) => return header.epoch,
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
            }
        }
    };
    let tasks: Vec<_> = (0..16).map(|_| tokio::spawn(take(store.clone()))).collect();
    let mut epochs = BTreeSet::new();
    for task in tasks {
        assert!(epochs.insert(task.await.unwrap()), "two owners hold one epoch");
    }
    assert_eq!(store.acquire(UNIT).await.unwrap().epoch, epochs.last().unwrap() + 1);
}

/// Whoever commits last before a take-over is the last: the taker starts exactly there.
pub(super) async fn two_owners_at_once_never_both_commit<P: Place>() {
    let place = P::new();
    let Opened { store, log } = place.open().await;
    let owner = |store: Arc<dyn Store>, name: char| async move {
        let mut committed = Vec::new();
        for _ in 0..30 {
            let Ok(mut header) = store.acquire(UNIT).await else { continue };
            for _ in 0..5 {
                let offset = header.position.and_then(Position::offset).map_or(0, |offset| offset + 1);
                let text = format!("{offset}{name}");
                let commit = Commit {
                    effects: vec![effect(&text)],
                    changes: vec![row("at", &text)].into(),
                    ..step(header, offset)
                };
                match store.commit(&commit).await {
                    Ok(()) => committed.push((offset, text)),
                    Err(error) => {
                        assert_eq!(error, StoreError::Fenced);
                        break;
                    }
                }
                header = after(&commit);
            }
        }
        committed
    };
    let other = tokio::spawn(owner(store.clone(), 'b'));
    let mut committed = owner(store.clone(), 'a').await;
    committed.extend(other.await.unwrap());
    committed.sort();
    assert!(
        committed.iter().map(|(offset, _)| *offset).eq(0..committed.len() as u64),
        "each position was committed once"
    );
    let texts: Vec<String> = committed.into_iter().map(|(_, text)| text).collect();
    assert_eq!(effects(&*log).await, texts);
    assert_eq!(rows(&*store, UNIT).await[0].1, *texts.last().unwrap());
}

pub(super) async fn a_restart_keeps_everything<P: Place>() {
    let place = P::new();
    let opened = place.open().await;
    let header = opened.store.acquire(UNIT).await.unwrap();
    let commit = Commit {
        changes: vec![row("a", "1"), row("b", "2")].into(),
        effects: vec![effect("e")],
        ..step(header, 0)
    };
    opened.store.commit(&commit).await.unwrap();
    drop(opened);

    let opened = place.open().await;
    assert_eq!(opened.store.commit(&commit).await, Ok(()), "one's own earlier commit is found again");
    assert_eq!(rows(&*opened.store, UNIT).await.len(), 2);
    assert_eq!(effects(&*opened.log).await, ["e"]);
    let next = opened.store.acquire(UNIT).await.unwrap();
    assert_eq!(next, Header { epoch: 2, ..after(&commit) });
    drop(opened);
    let opened = place.open().await;
    assert_eq!(opened.store.commit(&step(after(&commit), 1)).await, Err(StoreError::Fenced));
    opened.store.commit(&step(next, 1)).await.unwrap();
}
