//! What is read of a unit's rows.

use pipeline::store::{SCAN_ROWS_MAX, scan_all};

use super::*;

async fn commit_rows(store: &dyn Store, unit: Unit, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
    let from = store.acquire(unit).await.unwrap();
    let offset = from.position.and_then(Position::offset).map_or(0, |offset| offset + 1);
    store.commit(&Commit { unit, changes: rows.into(), ..step(from, offset) }).await.unwrap();
}

pub(super) async fn rows_are_there_after_the_commit_and_not_before<P: Place>() {
    let place = P::new();
    let Opened { store, .. } = place.open().await;
    let header = store.acquire(UNIT).await.unwrap();
    assert!(rows(&*store, UNIT).await.is_empty(), "a header is no row");
    let first = Commit { changes: vec![row("a", "1"), row("b", "2")].into(), ..step(header, 0) };
    let unsent = store.commit(&first);
    drop(unsent);
    assert_eq!(store.get(UNIT, b"absent").await, Ok(None));
    store.commit(&first).await.unwrap();
    assert_eq!(store.get(UNIT, b"a").await, Ok(Some(b"1".to_vec())));
    assert_eq!(store.get(UNIT, b"").await, Ok(None));
    assert_eq!(rows(&*store, UNIT).await, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    store.commit(&Commit { changes: vec![row("a", "3")].into(), ..step(after(&first), 1) }).await.unwrap();
    assert_eq!(rows(&*store, UNIT).await, [("a".into(), "3".into()), ("b".into(), "2".into())]);
}

pub(super) async fn removed_rows_are_gone<P: Place>() {
    let place = P::new();
    let opened = place.open().await;
    let long = "x".repeat(20_000);
    commit_rows(&*opened.store, UNIT, vec![row("a", "1"), row("b", &long), row("c", "")]).await;
    let removed = vec![(b"b".to_vec(), None), (b"never".to_vec(), None)];
    commit_rows(&*opened.store, UNIT, removed).await;
    drop(opened);
    let store = place.open().await.store;
    assert_eq!(rows(&*store, UNIT).await, [("a".into(), "1".into()), ("c".into(), String::new())]);
    assert_eq!(store.get(UNIT, b"b").await, Ok(None));
    assert_eq!(store.get(UNIT, b"c").await, Ok(Some(Vec::new())), "an empty value is a value");
    commit_rows(&*store, UNIT, vec![row("b", "again")]).await;
    assert_eq!(store.get(UNIT, b"b").await, Ok(Some(b"again".to_vec())));
}

pub(super) async fn pages_and_prefixes_leak_nothing<P: Place>() {
    let place = P::new();
    let Opened { store, .. } = place.open().await;
    // Keys that begin with each other, that hold the lowest and the highest byte, and one of many pages.
    let mut keys: Vec<Vec<u8>> =
        ["", "a", "ab", "ab\0", "ab\0\0", "ab\0\x01", "abc", "b"].map(|key| key.as_bytes().to_vec()).to_vec();
    keys.extend([
        vec![255],
        vec![255, 255],
        b"ab\xff".to_vec(),
        b"ab\xff\xff".to_vec(),
        b"ab\xff\xff\xff".to_vec(),
    ]);
    keys.extend((0..50u8).map(|n| vec![b'q', n]));
    keys.sort();
    let value = |key: &[u8]| [b"value of ".as_slice(), key].concat();
    commit_rows(&*store, UNIT, keys.iter().map(|key| (key.clone(), Some(value(key)))).collect()).await;

    for prefix in
        [&b""[..], b"a", b"ab", b"ab\0", b"ab\0\0", b"abc", b"abcd", b"b", b"c", b"q", &[255], &[255, 255]]
    {
        let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        for limit in [1, 2, 3, 1_000] {
            let mut seen: Vec<Vec<u8>> = Vec::new();
            loop {
                let page =
                    store.scan(UNIT, None, prefix, seen.last().map(Vec::as_slice), limit).await.unwrap();
                assert!(page.len() <= limit && page.iter().all(|(key, bytes)| *bytes == value(key)));
                if page.is_empty() {
                    break;
                }
                seen.extend(page.into_iter().map(|(key, _)| key));
            }
            assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "{prefix:?} in pages of {limit}");
        }
    }
}

pub(super) async fn rows_of_any_size_come_back_whole<P: Place>() {
    let place = P::new();
    let opened = place.open().await;
    let count = SCAN_ROWS_MAX + 100;
    let mut written: Vec<_> =
        (0..count).map(|n| (format!("n{n:05}").into_bytes(), Some(n.to_be_bytes().to_vec()))).collect();
    for (n, size) in [1_000, 3_000, 3_071, 3_072, 3_073, 6_145, 100_000, 1 << 20].into_iter().enumerate() {
        written.push((format!("s{n}").into_bytes(), Some(vec![n as u8; size])));
    }
    commit_rows(&*opened.store, UNIT, written.clone()).await;
    drop(opened);
    let store = place.open().await.store;
    let read = scan_all(&*store, UNIT, None, b"").await.unwrap();
    assert!(
        read.iter()
            .map(|(key, value)| (key, Some(value)))
            .eq(written.iter().map(|(key, value)| (key, value.as_ref())))
    );
    assert_eq!(scan_all(&*store, UNIT, None, b"n").await.unwrap().len(), count);
}

pub(super) async fn units_do_not_see_each_other<P: Place>() {
    let place = P::new();
    let opened = place.open().await;
    let units = [(Stage::Grade, 0), (Stage::Grade, 1), (Stage::Rank, 0), (Stage::Rank, 1)];
    let units = units.map(|(stage, partition)| Unit { stage, partition: PartitionId(partition) });
    for unit in units {
        commit_rows(&*opened.store, unit, vec![row("k", &format!("{unit:?}")), row("j", "x")]).await;
    }
    // One unit changes hands, moves on and loses a row; the others do not notice.
    commit_rows(&*opened.store, units[1], vec![(b"j".to_vec(), None)]).await;
    drop(opened);
    let store = place.open().await.store;
    for unit in units {
        let mut expected = vec![("j".to_owned(), "x".to_owned()), ("k".to_owned(), format!("{unit:?}"))];
        let changed = unit == units[1];
        expected.drain(..usize::from(changed));
        assert_eq!(rows(&*store, unit).await, expected);
        let (epoch, offset) = if changed { (3, 1) } else { (2, 0) };
        let position = Some(Position::from_offset(offset));
        let append_at = UnixMillis(offset);
        assert_eq!(store.acquire(unit).await, Ok(Header { epoch, position, append_at }));
    }
}

pub(super) async fn forgotten_rows_are_gone<P: Place>() {
    let place = P::new();
    let opened = place.open().await;
    // More rows than are removed at once, beside others whose keys come right before and right behind.
    let many = (0..5_000u32).map(|n| ([b"q/".as_slice(), &n.to_be_bytes()].concat(), Some(vec![b'x'; 20])));
    let mut written: Vec<_> = many.collect();
    written.extend([row("q", "ahead"), row("q0", "behind"), row("z", "far")]);
    commit_rows(&*opened.store, UNIT, written).await;

    let forget = async |store: &dyn Store, changes: Changes| {
        let from = store.acquire(UNIT).await.unwrap();
        let offset = from.position.and_then(Position::offset).map_or(0, |offset| offset + 1);
        store.commit(&Commit { changes, ..step(from, offset) }).await.unwrap();
    };
    let with = vec![row("q/new", "1"), (b"z".to_vec(), None)];
    forget(&*opened.store, Changes { forget: vec![b"q/".to_vec()], rows: with }).await;
    let others =
        [("q".to_owned(), "ahead".to_owned()), ("q/new".into(), "1".into()), ("q0".into(), "behind".into())];
    assert_eq!(rows(&*opened.store, UNIT).await, others);
    assert_eq!(opened.store.get(UNIT, b"q/\0\0\0\x01").await, Ok(None));
    assert_eq!(opened.store.scan(UNIT, None, b"q/", None, 9).await.unwrap().len(), 1);

    // What comes later under the prefix is there, until it is forgotten in its turn.
    commit_rows(&*opened.store, UNIT, vec![row("q/later", "2")]).await;
    drop(opened);
    let store = place.open().await.store;
    assert_eq!(store.get(UNIT, b"q/later").await, Ok(Some(b"2".to_vec())));
    assert_eq!(rows(&*store, UNIT).await.len(), 4);
    forget(&*store, Changes { forget: vec![b"q/".to_vec(), b"never".to_vec()], rows: Vec::new() }).await;
    assert_eq!(rows(&*store, UNIT).await, [others[0].clone(), others[2].clone()]);
}

/// The same commit again, by whoever did not hear that it was done, and an owner that comes after it.
pub(super) async fn a_forgetting_that_was_cut_short_is_whole<P: Place>() {
    let place = P::new();
    let opened = place.open().await;
    commit_rows(&*opened.store, UNIT, (0..3_000).map(|n| row(&format!("q/{n:04}"), "x")).collect()).await;
    let from = opened.store.acquire(UNIT).await.unwrap();
    let changes = Changes { forget: vec![b"q/".to_vec()], rows: vec![row("q/0001", "kept")] };
    let commit = Commit { changes, ..step(from, 9) };
    {
        // Given up somewhere on the way.
        let mut sent = std::pin::pin!(opened.store.commit(&commit));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(3), &mut sent).await;
    }
    opened.store.commit(&commit).await.unwrap();
    opened.store.commit(&commit).await.unwrap();
    assert_eq!(rows(&*opened.store, UNIT).await, [("q/0001".to_owned(), "kept".to_owned())]);
    commit_rows(&*opened.store, UNIT, vec![row("q/0002", "later")]).await;
    drop(opened);
    let store = place.open().await.store;
    store.acquire(UNIT).await.unwrap();
    let left = [("q/0001".to_owned(), "kept".to_owned()), ("q/0002".to_owned(), "later".to_owned())];
    assert_eq!(rows(&*store, UNIT).await, left);
}
