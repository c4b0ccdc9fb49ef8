//! Rows against a plain map: chunks, prefixes, pages, and readers beside a writer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::super::RowWrite;
use super::*;

/// Keys that are the start of one another and look like chunk numbers.
fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(255)], 0..4)
}

/// Values around the size of one, two and three chunks.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0..3usize, 3071..3074usize, 6143..6146usize, Just(9_300usize)];
    (any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length])
}

fn writes() -> impl Strategy<Value = Vec<RowWrite>> {
    let value = prop_oneof![3 => value().prop_map(Some), 1 => Just(None)];
    proptest::collection::vec((key(), value), 1..40)
}

fn scan(
    model: &BTreeMap<Vec<u8>, Vec<u8>>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows =
        model.iter().filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| &key[..] > after));
    rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_those_of_a_map(
        steps in proptest::collection::vec(writes(), 1..6),
        scans in proptest::collection::vec((key(), proptest::option::of(key()), 0..12usize), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut model = BTreeMap::new();
        {
            let log = Embedded::open(dir.path(), OPTIONS).unwrap();
            for rows in &steps {
                for (key, value) in rows {
                    match value {
                        Some(value) => model.insert(key.clone(), value.clone()),
                        None => model.remove(key),
                    };
                }
                runtime.block_on(log.write(Write { rows: rows.clone(), ..Write::default() })).unwrap();
            }
        }
        let log = Embedded::open(dir.path(), OPTIONS).unwrap();
        prop_assert_eq!(log.rows(b"", None, usize::MAX).unwrap(), scan(&model, b"", None, usize::MAX));
        for (prefix, after, limit) in scans {
            let after = after.as_deref();
            prop_assert_eq!(log.rows(&prefix, after, limit).unwrap(), scan(&model, &prefix, after, limit));
            prop_assert_eq!(log.row(&prefix).unwrap(), model.get(&prefix).cloned());
        }
    }
}

#[tokio::test]
async fn a_long_value_overwritten_by_a_shorter_and_removed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    let write = async |value: Option<Vec<u8>>| {
        log.write(Write { rows: vec![(b"k".to_vec(), value)], ..Write::default() }).await.unwrap();
    };
    for length in [1 << 20, 10_000, 5, 7_000, 0] {
        write(Some(vec![b'v'; length])).await;
        assert_eq!(log.row(b"k").unwrap().unwrap().len(), length);
        assert_eq!(log.rows(b"k", None, 9).unwrap().len(), 1);
    }
    write(Some(vec![b'v'; 10_000])).await;
    write(None).await;
    assert_eq!(log.row(b"k").unwrap(), None);
    assert_eq!(log.rows(b"", None, 9).unwrap(), []);
    write(Some(vec![b'v'; 4_000])).await;
    assert_eq!(log.row(b"k").unwrap().unwrap().len(), 4_000);
}

/// Pages go on after their last key, also where the next key begins with it.
#[tokio::test]
async fn pages_skip_no_key_that_begins_with_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    let names = ["geo", "geo-2", "geo2", "geography", "geology"];
    let rows = names.map(|name| row(name, Some(name))).to_vec();
    log.write(Write { rows, ..Write::default() }).await.unwrap();
    let mut seen: Vec<String> = Vec::new();
    while let Some((key, _)) = log.rows(b"geo", seen.last().map(String::as_bytes), 1).unwrap().pop() {
        seen.push(String::from_utf8(key).unwrap());
    }
    assert_eq!(seen, names);
}

/// A reader sees the rows of one write together or not at all, and every value whole, also while the database moves
/// what it has in memory to tables (enough is written for that to happen several times).
#[test]
fn readers_beside_a_writer_see_whole_writes() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    let write = |round: u8| {
        // Chunks of both lengths lie over each other.
        let value = vec![round; 9_000 + usize::from(round % 2) * 4_000];
        let rows = (0..16u8).map(|key| (vec![key], Some(value.clone()))).collect();
        Write { rows, ..Write::default() }
    };
    runtime.block_on(log.write(write(0))).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                let value = log.row(&[7]).unwrap().unwrap();
                assert!(value.iter().all(|byte| *byte == value[0]), "a value of two writes");
                let rows = log.rows(b"", None, 99).unwrap();
                assert_eq!(rows.len(), 16);
                assert!(rows.iter().all(|(_, value)| *value == rows[0].1), "rows of two writes");
                reads += 1;
            }
            reads
        });
        for round in 1..=250u8 {
            runtime.block_on(log.write(write(round))).unwrap();
            // What was acknowledged is seen by the next read.
            assert!(log.row(&[15]).unwrap().is_some_and(|value| value[0] == round));
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0, "the reader ran beside the writer");
    });
}
