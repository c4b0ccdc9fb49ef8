//! The embedded log on a disk that lost or changed something: it is refused, or nothing durable is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ingest::log::Stream;
use ingest::log::embedded::{Embedded, OpenError, Write};

use crate::crash::{Acknowledged, Appender, OPTIONS};
use crate::support::{ALL, Random, read_all, record};

/// The files of a directory, the zeros at their ends (journals are made long) kept as a number.
#[derive(Clone)]
struct Image(BTreeMap<PathBuf, (Vec<u8>, u64)>);

impl Image {
    fn take(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let mut bytes = fs::read(entry.path()).unwrap();
                let length = bytes.len() as u64;
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                files.insert(entry.path().strip_prefix(dir).unwrap().to_owned(), (bytes, length));
            }
        }
        Self(files)
    }

    fn put(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, (bytes, length)) in &self.0 {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(*length).unwrap();
        }
        // Empty folders are part of what the database expects.
        for keyspace in fs::read_dir(dir.path().join("store/keyspaces")).unwrap() {
            for folder in ["tables", "blobs"] {
                let _ = fs::create_dir_all(keyspace.as_ref().unwrap().path().join(folder));
            }
        }
        dir
    }

    fn journals(&mut self) -> Vec<(u64, &mut (Vec<u8>, u64))> {
        let number = |path: &Path| path.file_stem()?.to_str()?.parse().ok();
        let journals = self.0.iter_mut().filter(|(path, _)| path.extension().is_some_and(|e| e == "jnl"));
        let mut journals: Vec<(u64, _)> =
            journals.map(|(path, file)| (number(path).unwrap(), file)).collect();
        journals.sort_by_key(|(number, _)| *number);
        journals
    }

    /// Returns how many records the high-water mark promises, by partition.
    fn promised(&self) -> BTreeMap<u16, u64> {
        let mark = self.0.get(Path::new("high-water")).map(|(bytes, _)| bytes.as_slice()).unwrap_or_default();
        let words =
            std::str::from_utf8(mark).unwrap().lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let parse = |words: Vec<&str>| match *words {
            ["submissions", partition, end] => Some((partition.parse().unwrap(), end.parse().unwrap())),
            _ => None,
        };
        words.filter_map(parse).collect()
    }
}

/// What became of a damaged directory.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Fate {
    Refused,
    Whole,
    /// Acknowledged records are missing, but none that the high-water mark promised.
    Shorter,
}

/// Opens a damaged directory; fails if it opens and something promised is missing or wrong.
fn fate(image: &Image, acknowledged: &Acknowledged) -> Fate {
    let dir = image.put();
    let promised = image.promised();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = match Embedded::open(dir.path(), OPTIONS) {
        Ok(log) => log,
        Err(OpenError::Corrupt { .. }) => return Fate::Refused,
        Err(other) => panic!("damage is reported as {other:?}"),
    };
    let mut whole = true;
    for partition in 0..2 {
        let records = runtime.block_on(read_all(&log, Stream::Submissions, partition, None, ALL));
        let end = promised.get(&partition).copied().unwrap_or(0);
        assert!(
            records.len() as u64 >= end,
            "partition {partition} ends at {}, promised {end}",
            records.len()
        );
        for ((_, offset), (at, payload)) in acknowledged.range((partition, 0)..(partition + 1, 0)) {
            match records.get(*offset as usize) {
                Some(record) => assert!(record.payload == payload && record.stamp.append_at.0 == *at),
                None => whole = false,
            }
        }
    }
    if whole { Fate::Whole } else { Fate::Shorter }
}

/// Returns a directory whose process was killed, and the same after it was opened and closed, when its high-water mark
/// promises everything; and what was acknowledged.
fn killed(records: usize) -> (Image, Image, Acknowledged) {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    Appender::start(dir.path(), 99).kill_after(records, &mut acknowledged);
    let unmarked = Image::take(dir.path());
    drop(Embedded::open(dir.path(), OPTIONS).unwrap());
    (unmarked, Image::take(dir.path()), acknowledged)
}

fn count(fates: impl IntoIterator<Item = Fate>) -> BTreeMap<Fate, usize> {
    fates.into_iter().fold(BTreeMap::new(), |mut counts, fate| {
        *counts.entry(fate).or_default() += 1;
        counts
    })
}

#[test]
fn a_torn_tail_loses_nothing_that_the_mark_promises() {
    let mut random = Random(2);
    let (unmarked, marked, acknowledged) = killed(1_500);
    assert_eq!(fate(&unmarked, &acknowledged), Fate::Whole);
    assert_eq!(fate(&marked, &acknowledged), Fate::Whole);
    let mut torn = |image: &Image, n: usize| {
        let mut torn = image.clone();
        let (_, (bytes, length)) = torn.journals().pop().unwrap();
        let cut = 1 + random.below(if n.is_multiple_of(2) { 200 } else { bytes.len() - 1 });
        bytes.truncate(bytes.len() - cut);
        // The file ends there, or is followed by zeros as one is that was made long.
        if n.is_multiple_of(3) {
            *length = bytes.len() as u64;
        }
        fate(&torn, &acknowledged)
    };
    let fates = count((0..16).map(|n| torn(&unmarked, n)));
    println!("torn tail without a mark: {fates:?}");
    let fates = count((0..16).map(|n| torn(&marked, n)));
    println!("torn tail behind a mark: {fates:?}");
    assert!(!fates.contains_key(&Fate::Shorter));
}

/// A write whose records and rows say how many came before it.
fn numbered(number: u64, payload_bytes: usize) -> Write {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(8 + payload_bytes, b'.');
    let text = number.to_string().into_bytes();
    let rows = vec![
        (b"count".to_vec(), Some(text.clone())),
        (format!("row {}", number % 7).into_bytes(), Some(text)),
    ];
    Write { rows, records: vec![record(Stream::Submissions, 0, payload)], condition: None }
}

/// Returns a directory with `count` numbered writes, closed, so that its mark promises them all.
fn written(count: u64, payload_bytes: usize) -> Image {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let log = Embedded::open(dir.path(), OPTIONS).unwrap();
    for number in 1..=count {
        runtime.block_on(log.write(numbered(number, payload_bytes))).unwrap();
    }
    drop(log);
    Image::take(dir.path())
}

/// Opens a directory made by [`written`]; returns why not, or fails if a record or a row is not the last one written.
fn refusal(image: &Image, count: u64) -> Option<String> {
    let dir = image.put();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = match Embedded::open(dir.path(), OPTIONS) {
        Ok(log) => log,
        Err(OpenError::Corrupt { reason, .. }) => return Some(reason),
        Err(other) => panic!("damage is reported as {other:?}"),
    };
    let records = runtime.block_on(read_all(&log, Stream::Submissions, 0, None, ALL));
    assert!(
        records
            .iter()
            .map(|record| record.payload[..8].to_vec())
            .eq((1..=count).map(|n| n.to_be_bytes().to_vec()))
    );
    for (key, value) in log.rows(b"", None, usize::MAX).unwrap() {
        let rest = key.strip_prefix(b"row ").map(|n| std::str::from_utf8(n).unwrap().parse::<u64>().unwrap());
        let last = (1..=count).rev().find(|n| rest.is_none_or(|rest| n % 7 == rest)).unwrap();
        assert_eq!(String::from_utf8(value).unwrap(), last.to_string(), "{}", String::from_utf8_lossy(&key));
    }
    None
}

fn refusals(refusals: impl IntoIterator<Item = Option<String>>) -> BTreeMap<String, usize> {
    refusals.into_iter().fold(BTreeMap::new(), |mut counts, refusal| {
        let reason = refusal.unwrap_or_else(|| "intact".to_owned());
        *counts.entry(reason.replace(|c: char| c.is_ascii_digit(), "")).or_default() += 1;
        counts
    })
}

/// Returns the places in a journal where a batch ends: its trailer.
fn ends(journal: &[u8]) -> Vec<usize> {
    journal.windows(4).enumerate().filter(|(_, window)| *window == b"FJL\x03").map(|(at, _)| at).collect()
}

#[test]
fn a_flipped_bit_in_a_journal_is_refused_or_harmless() {
    let mut random = Random(3);
    let image = written(60, 5_000);
    assert_eq!(refusal(&image, 60), None);
    let mut flipped = |at: usize| {
        let mut flipped = image.clone();
        let (_, (bytes, _)) = flipped.journals().pop().unwrap();
        bytes[at] ^= 1 << random.below(8);
        refusal(&flipped, 60)
    };
    let journal = image.clone().journals().pop().unwrap().1.0.clone();
    let mut places = Random(4);
    let anywhere: Vec<usize> = (0..24).map(|_| places.below(journal.len())).collect();
    println!("anywhere: {:?}", refusals(anywhere.into_iter().map(&mut flipped)));
    // Its checksum and trailer, and the next one's count, number and lengths.
    let end = ends(&journal)[30];
    println!("where a batch ends: {:?}", refusals((end - 12..end + 60).map(&mut flipped)));
}

/// The database replays later journals behind the gap that a damaged one leaves.
#[test]
fn a_gap_before_the_last_journal_is_refused() {
    let mut image = written(60, 100);
    // What one journal holds in two, as after the first was full.
    let (_, (bytes, length)) = image.journals().pop().unwrap();
    let ends = ends(bytes);
    let later = bytes.split_off(ends[40] + 4);
    *length = bytes.len() as u64;
    let later_length = later.len() as u64;
    image.0.insert("store/1.jnl".into(), (later, later_length));
    assert_eq!(refusal(&image, 60), None);

    // The trailer is what tells a batch that is complete from one that was not written to its end.
    let (_, (bytes, _)) = image.journals().swap_remove(0);
    bytes[ends[20]] = 0;
    let reason = refusal(&image, 60).expect("it is refused");
    assert!(reason.contains("are missing"), "{reason}");
}
