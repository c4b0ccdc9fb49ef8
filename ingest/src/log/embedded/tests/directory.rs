//! Opening and leaving a directory.

use super::super::OpenError;
use super::*;
use crate::log::Log;

#[tokio::test]
async fn a_directory_in_use_is_refused_and_free_again_right_after_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let log = Embedded::open(dir.path(), OPTIONS).unwrap();
        let clone = log.clone();
        if round == 0 {
            let second = Embedded::open(dir.path(), OPTIONS).err().unwrap();
            assert!(matches!(&second, OpenError::InUse(path) if path == dir.path()), "{second:?}");
            assert!(second.to_string().contains("in use"), "{second}");
        }
        drop(log);
        // The clone keeps everything alive.
        assert_eq!(clone.append(vec![record(0, "x")]).await.unwrap()[0].position.offset(), Some(round));
        drop(clone);
    }
}

/// A request that nobody waits for any more, and one whose log is gone, both come to an end.
#[tokio::test]
async fn what_waits_when_the_last_handle_goes_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    for _ in 0..50 {
        drop(log.append(vec![record(1, "given up")]));
    }
    drop(log);
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    assert_eq!(log.next_offset(Stream::Submissions, PartitionId(1)), 50);
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(dir.path(), OPTIONS).unwrap());
    let error = Embedded::open(dir.path(), Options { partitions: 3 }).err().unwrap();
    assert!(matches!(error, OpenError::Partitions { found: 2, wanted: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("was made with 2 partitions, not 3"), "{error}");
    for partitions in [0, 1_025] {
        let error = Embedded::open(dir.path(), Options { partitions }).err().unwrap();
        assert!(matches!(error, OpenError::PartitionsRange(_)), "{error:?}");
    }
    assert!(Embedded::open(dir.path(), OPTIONS).is_ok());
}

/// A directory with another layout is told from a damaged one, and not touched.
#[test]
fn another_format_is_refused_before_anything_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["1 2\n", "3 2\n", "3 4 something\n", "next\n", ""] {
        std::fs::write(dir.path().join("format"), text).unwrap();
        let error = Embedded::open(dir.path(), OPTIONS).err().unwrap();
        assert!(matches!(&error, OpenError::Format { found, .. } if found == text.trim()), "{error:?}");
        assert!(!dir.path().join("store").exists());
    }
}

#[tokio::test]
async fn records_without_the_file_that_names_their_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    log.append(vec![record(1, "x")]).await.unwrap();
    drop(log);
    std::fs::remove_file(dir.path().join("format")).unwrap();
    // Opened with fewer partitions, records would be out of reach.
    let error = Embedded::open(dir.path(), Options { partitions: 1 }).err().unwrap();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_directory_that_ends_before_its_high_water_mark_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    log.append(vec![record(1, "x")]).await.unwrap();
    drop(log);
    let path = dir.path().join("high-water");
    let mark = std::fs::read_to_string(&path).unwrap();
    assert_eq!(mark, "1\nsubmissions 1 1\n");
    for lie in [
        "2\nsubmissions 1 1\n",
        "1\nsubmissions 1 2\n",
        "1\nstandings 0 1\n",
        "1\nsubmissions 1\n",
        "x\n",
        "",
    ] {
        std::fs::write(&path, lie).unwrap();
        let error = Embedded::open(dir.path(), OPTIONS).err().unwrap();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{lie:?}: {error:?}");
    }
    std::fs::write(&path, mark).unwrap();
    assert!(Embedded::open(dir.path(), OPTIONS).is_ok());
}

/// A commit is one batch of several keyspaces, and each is put back on its own from what its tables and the journals
/// hold. Whatever one of them lost shows when it is opened, long before somebody reads there.
#[tokio::test]
async fn a_keyspace_that_lost_what_another_kept_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    let large = Bytes::from(vec![7; 8_000]);
    for n in 0..40u64 {
        let payload = if n == 20 { large.clone() } else { Bytes::copy_from_slice(&n.to_be_bytes()) };
        let record = Record { stream: Stream::Submissions, partition: PartitionId(1), payload };
        log.write(Write { records: vec![record], ..put("row", "x") }).await.unwrap();
    }
    drop(log);
    let reason = |keyspace: &str, change: &dyn Fn(&fjall::Keyspace)| {
        let copy = tempfile::tempdir().unwrap();
        copy_all(dir.path(), copy.path());
        let database = fjall::Database::builder(copy.path().join("store")).open().unwrap();
        change(&database.keyspace(keyspace, || unreachable!("it is there")).unwrap());
        drop(database);
        match Embedded::open(copy.path(), OPTIONS) {
            Err(OpenError::Corrupt { reason, .. }) => reason,
            other => panic!("opened: {}", other.is_ok()),
        }
    };
    let stored = |offset: u64, chunk: u16| [&offset.to_be_bytes()[..], &chunk.to_be_bytes()].concat();
    let lost =
        |offset, chunk| reason("submissions-1", &move |log| log.remove(stored(offset, chunk)).unwrap());
    assert_eq!(lost(0, 0), "submissions partition 1 lacks the record at offset 0");
    assert_eq!(lost(7, 0), "submissions partition 1 lacks the record at offset 7");
    assert_eq!(lost(20, 0), "submissions partition 1 lacks the record at offset 20");
    assert_eq!(lost(20, 1), "submissions partition 1 lacks the record at offset 20");
    assert_eq!(lost(20, 2), "submissions partition 1 lacks the record at offset 20");
    assert_eq!(lost(39, 0), "submissions partition 1 ends at 39, its rows at 40");
    let end = [&b"end:\x01\0\x01"[..], &[u8::MAX; 2]].concat();
    let older = reason("rows", &|rows| rows.insert(end.clone(), 38u64.to_be_bytes()).unwrap());
    assert_eq!(older, "submissions partition 1 ends at 40, its rows at 38");
    let without = reason("rows", &|rows| rows.remove(end.clone()).unwrap());
    assert_eq!(without, "submissions partition 1 ends at 40, its rows at 0");
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = Embedded::open(&path, OPTIONS).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}
