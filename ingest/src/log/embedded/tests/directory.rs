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

/// A newer directory is told from a damaged one, and not touched.
#[test]
fn a_newer_format_is_refused_before_anything_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["2 2\n", "2 4 something\n", "next\n", ""] {
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

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = Embedded::open(&path, OPTIONS).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}
