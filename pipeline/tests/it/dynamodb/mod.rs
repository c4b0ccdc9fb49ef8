//! The DynamoDB store under faults, in races, for followers, and what it costs.

use std::collections::BTreeMap;

use ingest::partition::PartitionId;
use operators::id::{Position, UnixMillis};
use pipeline::store::{Commit, Header, Stage, Store, StoreError, Unit};

mod cost;
mod crash;
pub(crate) mod double;
mod errors;
mod faults;
mod follow;
mod forget;
mod model;
mod race;

/// Rows of one commit, those to remove without a value.
type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Rows by key: what a store should hold.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn unit(partition: u16) -> Unit {
    Unit { stage: Stage::Grade, partition: PartitionId(partition) }
}

/// Returns a commit from `from` to `offset`.
fn commit(unit: Unit, from: Header, offset: u64, rows: Changes) -> Commit {
    let (position, append_at) = (Position::from_offset(offset), UnixMillis(offset));
    Commit { unit, from, position, append_at, effects: Vec::new(), changes: rows.into() }
}

fn apply(rows: &mut Rows, commit: &Commit) {
    rows.retain(|key, _| !commit.changes.forget.iter().any(|prefix| key.starts_with(prefix)));
    for (key, value) in &commit.changes.rows {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

/// Makes a call again for as long as it is not answered.
async fn answered<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..1_000 {
        match call().await {
            Err(StoreError::Unavailable(_)) => {}
            answer => return answer,
        }
    }
    panic!("never answered");
}

/// Returns all rows of a unit, read in pages of a few.
async fn all(store: &dyn Store, unit: Unit, epoch: Option<u64>, limit: usize) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    loop {
        let last = rows.last_key_value().map(|(key, _)| key.clone());
        let page = answered(async || store.scan(unit, epoch, b"", last.as_deref(), limit).await).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// Numbers without end that are the same for one seed.
struct Dice(u64);

impl Dice {
    /// Returns a number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// Returns a few rows over few keys, so that they meet again; some are removed, some large.
    fn rows(&mut self, max: u64) -> Changes {
        let mut rows = BTreeMap::new();
        for _ in 0..self.roll(max + 1) {
            let key = format!("{}/{:02}", ["a", "b", "long prefix"][self.roll(3) as usize], self.roll(30));
            let size = [0, 3, 40, 300][self.roll(4) as usize];
            let value = (self.roll(5) > 0).then(|| vec![self.roll(256) as u8; size]);
            rows.insert(key.into_bytes(), value);
        }
        rows.into_iter().collect()
    }
}
