//! What is read of a unit's rows.

use pipeline::store::{SCAN_ROWS_MAX, scan_all};

use super::*;

async fn commit_rows(store: &dyn Store, unit: Unit, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
    let from = store.acquire(unit).await.unwrap();
    let offset = from.position.and_then(Position::offset).map_or(0, |offset| offset + 1);
    store.commit(&Commit { unit, rows, ..step(from, offset) }).await.unwrap();
}

pub(super) async fn rows_are_there_after_the_commit_and_not_before<P: Place>() {
    let place = P::new();
    let Opened { store, .. } = place.open().await;
    let header = store.acquire(UNIT).await.unwrap();
    assert!(rows(&*store, UNIT).await.is_empty(), "a header is no row");
    let first = Commit { rows: vec![row("a", "1"), row("b", "2")], ..step(header, 0) };
    let unsent = store.commit(&first);
    drop(unsent);
    assert_eq!(store.get(UNIT, b"absent").await, Ok(None));
    store.commit(&first).await.unwrap();
    assert_eq!(store.get(UNIT, b"a").await, Ok(Some(b"1".to_vec())));
    assert_eq!(store.get(UNIT, b"").await, Ok(None));
    assert_eq!(rows(&*store, UNIT).await, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    store.commit(&Commit { rows: vec![row("a", "3")], ..step(after(&first), 1) }).await.unwrap();
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
