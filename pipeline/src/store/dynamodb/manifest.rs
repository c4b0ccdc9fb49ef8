//! The manifest: which pages make a unit's rows, as its header item names them.

use std::sync::Arc;

use ingest::codec::part;
use ingest::proto::{Forgotten, Manifest, Run};
use operators::id::{Position, UnixMillis};
use prost::Message;

use super::page::{checksum, seal, unseal};
use crate::store::{Header, StoreError, Unit};

/// A unit as of one moment: where it stands, and what its rows are made of.
#[derive(Debug, Clone)]
pub struct Head {
    /// Who owns it and what is durable.
    pub header: Header,
    /// Commits so far; it rises with each.
    pub seq: u64,
    pub(super) manifest: Arc<Manifest>,
}

impl Head {
    /// Returns a head; the position is the manifest's.
    ///
    /// # Errors
    /// A position that cannot be read, in words.
    pub(super) fn new(epoch: u64, append_at: UnixMillis, manifest: Manifest) -> Result<Self, String> {
        let position = Some(&*manifest.position).filter(|bytes| !bytes.is_empty()).map(part::position);
        let position = position.transpose().map_err(|error| error.to_string())?;
        let header = Header { epoch, position, append_at };
        Ok(Self { header, seq: manifest.commits, manifest: Arc::new(manifest) })
    }
}

/// Returns the name of a unit in keys and messages, such as `grade#00017`.
pub(super) fn name(unit: Unit) -> String {
    format!("{}#{:05}", unit.stage.name(), unit.partition.0)
}

/// Returns what the checksums of a unit's bytes begin with.
pub(super) fn seed(unit: Unit) -> u64 {
    checksum(0, name(unit).as_bytes())
}

/// Digits of the largest sequence number of 192 bits.
const SEQUENCE_DIGITS: usize = 58;

/// Returns a position as text that compares as positions do: shard, sequence number and place, each of fixed width.
pub(super) fn position_text(position: Position) -> String {
    let sequence = Position { shard: 0, sub: 0, ..position };
    format!(
        "{:010}.{sequence:0>SEQUENCE_DIGITS$}.{:020}",
        position.shard,
        position.sub,
        sequence = sequence.to_string()
    )
}

/// Returns a manifest as stored.
pub(super) fn encode(unit: Unit, manifest: &Manifest) -> Vec<u8> {
    seal(seed(unit), &manifest.encode_to_vec())
}

/// Returns a manifest from its bytes.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn decode(unit: Unit, bytes: &[u8]) -> Result<Manifest, String> {
    let content = unseal(seed(unit), bytes)?;
    Manifest::decode(&*content).map_err(|error| error.to_string())
}

/// Returns the error of a header that cannot be read.
pub(super) fn corrupt(unit: Unit, reason: &str) -> StoreError {
    StoreError::Corrupt(format!("the header of unit {}: {reason}", name(unit)))
}

/// Returns the first key behind all that start with `prefix`; `None` if there is none.
pub(super) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut key = prefix[..=kept].to_vec();
    key[kept] += 1;
    Some(key)
}

/// Tells whether a run can hold keys from `start` on and below `end`.
pub(super) fn overlaps(run: &Run, start: &[u8], end: Option<&[u8]>) -> bool {
    run.page_count > 0 && *run.last_key >= *start && end.is_none_or(|end| *run.first_key < *end)
}

/// Prefixes that are noted as forgotten before all runs are merged, to get rid of them: they are written with every
/// commit.
const FORGOTTEN_MAX: usize = 128;

/// Returns which runs to merge next: all of the lowest level that has `fan_in` of them, which stand side by side. With too
/// many forgotten prefixes, all runs.
pub(super) fn plan(manifest: &Manifest, fan_in: usize) -> Option<std::ops::Range<usize>> {
    if manifest.forgotten.len() > FORGOTTEN_MAX && manifest.runs.len() > 1 {
        return Some(0..manifest.runs.len());
    }
    let levels = 0..=LEVEL_MAX;
    let mut full = levels.filter_map(|level| {
        let runs = &manifest.runs;
        let start = runs.iter().position(|run| run.level == level)?;
        let count = runs[start..].iter().take_while(|run| run.level == level).count();
        (count >= fan_in).then_some(start..start + count)
    });
    full.next()
}

/// What of a unit was forgotten since its older runs were written.
///
/// A run that reaches up to a commit or beyond holds nothing that this commit has forgotten: one that is merged from runs
/// on both sides of it leaves that out, and one that is merged from earlier runs ends before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Oblivion(Vec<Forgotten>);

impl Oblivion {
    /// Returns what a manifest says was forgotten of the keys from `start` on and below `end`.
    pub(super) fn of(manifest: &Manifest, start: &[u8], end: Option<&[u8]>) -> Self {
        let overlaps = |note: &&Forgotten| {
            end.is_none_or(|end| *note.prefix < *end)
                && behind(&note.prefix).is_none_or(|behind| *behind > *start)
        };
        Self(manifest.forgotten.iter().filter(overlaps).cloned().collect())
    }

    /// Tells whether a row of a run that ends with the commit `last` is no more.
    pub(super) fn hides(&self, key: &[u8], last: u64) -> bool {
        self.0.iter().any(|note| last < note.commit && key.starts_with(&note.prefix))
    }
}

/// Notes what a commit forgets, and drops the notes about which no run is old enough any more.
pub(super) fn forget(manifest: &mut Manifest, prefixes: &[Vec<u8>], commit: u64) {
    let Manifest { runs, forgotten, .. } = manifest;
    let replaced = |note: &Forgotten| prefixes.contains(&note.prefix);
    forgotten.retain(|note| runs.iter().any(|run| run.last < note.commit) && !replaced(note));
    forgotten.extend(prefixes.iter().map(|prefix| Forgotten { prefix: prefix.clone(), commit }));
}

/// The highest level: when it is full, all of a unit's rows are merged into one run.
pub(super) const LEVEL_MAX: u32 = 3;

/// Returns the runs that hold exactly what the commits behind `seq` changed, oldest first; `None` if some were merged
/// with what came before, and nobody keeps them apart any more.
pub(super) fn since(manifest: &Manifest, mut seq: u64) -> Option<Vec<&Run>> {
    let retired = manifest.retired.iter().filter_map(|retired| retired.run.as_ref());
    let all: Vec<&Run> = manifest.runs.iter().chain(retired).collect();
    let mut found = Vec::new();
    while seq < manifest.commits {
        let run = all.iter().filter(|run| run.first == seq + 1).max_by_key(|run| run.last)?;
        found.push(*run);
        seq = run.last;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_as_text_are_in_their_order() {
        let at = |shard, sequence, sub| Position { shard, sequence, sub };
        let sorted = [
            at(0, [0, 0, 0], 0),
            at(0, [0, 0, 9], u64::MAX),
            at(0, [0, 0, 10], 0),
            at(0, [u64::MAX; 3], 3),
            at(9, [0, 0, 1], 0),
            at(10, [0, 0, 0], 0),
            at(u32::MAX, [u64::MAX; 3], u64::MAX),
        ];
        let texts: Vec<String> = sorted.iter().map(|position| position_text(*position)).collect();
        assert!(texts.is_sorted_by(|a, b| a < b), "{texts:?}");
        assert!(texts.iter().all(|text| text.len() == 10 + 1 + SEQUENCE_DIGITS + 1 + 20));
    }

    #[test]
    fn the_key_behind_a_prefix() {
        assert_eq!(behind(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(behind(b"\xff"), None);
        assert_eq!(behind(b""), None);
    }

    fn run(level: u32, first: u64, last: u64) -> Run {
        Run { level, first, last, page_count: 1, ..Run::default() }
    }

    #[test]
    fn full_levels_are_merged_the_lowest_first() {
        let plan = |levels: &[u32]| {
            let runs = levels.iter().map(|level| run(*level, 0, 0)).collect();
            plan(&Manifest { runs, ..Manifest::default() }, 2)
        };
        assert_eq!(plan(&[2, 1, 0]), None);
        assert_eq!(plan(&[1, 1, 0]), Some(0..2));
        assert_eq!(plan(&[1, 1, 0, 0, 0]), Some(2..5));
        assert_eq!(plan(&[3, 3, 1]), Some(0..2));
    }

    #[test]
    fn what_changed_is_told_as_long_as_it_is_kept_apart() {
        let retired = |run| ingest::proto::Retired { run: Some(run), slots: Vec::new() };
        // 1 to 4 were merged, and 3 and 4 are still there.
        let manifest = Manifest {
            commits: 7,
            runs: vec![run(1, 1, 4), run(0, 5, 6), run(0, 7, 7)],
            retired: vec![retired(run(0, 3, 3)), retired(run(0, 4, 4))],
            ..Manifest::default()
        };
        let found =
            |seq| since(&manifest, seq).map(|runs| runs.iter().map(|run| run.first).collect::<Vec<_>>());
        assert_eq!(found(7), Some(vec![]));
        assert_eq!(found(6), Some(vec![7]));
        assert_eq!(found(5), None);
        assert_eq!(found(2), Some(vec![3, 4, 5, 7]));
        assert_eq!(found(1), None);
        assert_eq!(found(0), Some(vec![1, 5, 7]));
    }
}
