//! Conditional writes, alone and several in one commit.

use super::super::{Condition, WriteError};
use super::*;
use crate::error::AppendError;

fn when(key: &str, expected: Option<&str>, mut write: Write) -> Write {
    let expected = expected.map(|value| value.as_bytes().to_vec());
    write.condition = Some(Condition { key: key.as_bytes().to_vec(), expected });
    write
}

fn found(value: Option<&str>) -> WriteError {
    WriteError::Condition { found: value.map(|value| value.as_bytes().to_vec()) }
}

#[tokio::test]
async fn a_write_whose_condition_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    assert_eq!(log.write(when("h", Some("1"), put("h", "2"))).await, Err(found(None)));
    log.write(when("h", None, put("h", "1"))).await.unwrap();
    assert_eq!(log.write(when("h", None, put("h", "2"))).await, Err(found(Some("1"))));

    let mut both = when("h", Some("0"), put("other", "x"));
    both.records = vec![record(0, "effect")];
    assert_eq!(log.write(both.clone()).await, Err(found(Some("1"))));
    assert_eq!(log.row(b"other").unwrap(), None);
    assert_eq!(log.next_offset(Stream::Submissions, PartitionId(0)), 0);

    both.condition = Some(Condition { key: b"h".to_vec(), expected: Some(b"1".to_vec()) });
    assert_eq!(log.write(both).await.unwrap().len(), 1);
    assert_eq!(log.row(b"other").unwrap(), Some(b"x".to_vec()));

    // A row that is removed is absent for a condition, whatever it held.
    log.write(Write { rows: vec![row("h", None)], ..Write::default() }).await.unwrap();
    log.write(when("h", None, put("h", "3"))).await.unwrap();
}

#[tokio::test]
async fn writes_of_one_commit_see_those_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, gate) = Gate::open(dir.path());
    let first = log.write(put("unrelated", ""));
    gate.entered();
    let taken = log.write(when("h", None, put("h", "1")));
    let beaten = log.write(when("h", None, put("h", "2")));
    let next = log.write(when("h", Some("1"), put("h", "3")));
    // The row of a later condition may be changed by a write without one, or with one about another row.
    let blind = log.write(put("g", "1"));
    let sees_blind = log.write(when("g", Some("1"), put("f", "1")));
    let sees_aside = log.write(when("f", Some("1"), put("f", "2")));
    let removed = log.write(Write { rows: vec![row("g", None)], ..Write::default() });
    let sees_removed = log.write(when("g", None, put("e", "1")));
    gate.pass(Fault::None);
    gate.pass(Fault::None);

    first.await.unwrap();
    taken.await.unwrap();
    assert_eq!(beaten.await, Err(found(Some("1"))));
    next.await.unwrap();
    blind.await.unwrap();
    sees_blind.await.unwrap();
    sees_aside.await.unwrap();
    removed.await.unwrap();
    sees_removed.await.unwrap();

    let check = |log: &Embedded| {
        let held =
            [b"h", b"g", b"f", b"e"].map(|key| log.row(key).unwrap().map(|v| String::from_utf8(v).unwrap()));
        assert_eq!(held, [Some("3".into()), None, Some("2".into()), Some("1".into())]);
    };
    check(&log);
    drop((log, gate));
    check(&Embedded::open(dir.path(), OPTIONS).unwrap());
}

/// The refusal names what an earlier write of the same commit put there, so it may not be heard before that is durable.
#[tokio::test]
async fn a_refusal_is_no_more_durable_than_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let (log, gate) = Gate::open(dir.path());
    let first = log.write(put("unrelated", ""));
    gate.entered();
    let write = log.write(when("h", None, put("h", "1")));
    let repeat = log.write(when("h", None, put("h", "1")));
    gate.pass(Fault::None);
    gate.pass(Fault::Lost);
    first.await.unwrap();
    for answer in [write.await, repeat.await] {
        assert!(matches!(answer, Err(WriteError::Append(AppendError::Unavailable(_)))), "{answer:?}");
    }
    drop((log, gate));
    assert_eq!(Embedded::open(dir.path(), OPTIONS).unwrap().row(b"h").unwrap(), None);
}
