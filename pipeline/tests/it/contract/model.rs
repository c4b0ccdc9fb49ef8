//! Two owners doing anything in any order, against a model that is a map and a header.

use std::collections::BTreeMap;

use pipeline::store::StoreError;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Acquire(usize),
    /// Commit from where the owner believes to stand; it believes the answer.
    Commit(usize, u64, Option<u8>, Vec<(u8, Option<u8>)>),
    /// The owner's last commit once more.
    Again(usize),
    /// Commit from where the owner stood before its last commit.
    Stale(usize),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let owner = 0..2usize;
    let rows = proptest::collection::btree_map(0..6u8, proptest::option::weighted(0.8, any::<u8>()), 0..4);
    let rows = rows.prop_map(|rows| rows.into_iter().collect());
    // Rows have two bytes of key, of which the first may be forgotten.
    let forget = proptest::option::weighted(0.15, 0..2u8);
    prop_oneof![
        2 => owner.clone().prop_map(Act::Acquire),
        8 => (owner.clone(), 1..4u64, forget, rows)
            .prop_map(|(owner, by, forget, rows)| Act::Commit(owner, by, forget, rows)),
        2 => owner.clone().prop_map(Act::Again),
        2 => owner.prop_map(Act::Stale),
        1 => Just(Act::Restart),
    ]
}

#[derive(Default)]
struct Model {
    header: Header,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    effects: Vec<String>,
}

impl Model {
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if self.header == after(commit) {
            return Ok(());
        }
        if self.header != commit.from {
            return Err(StoreError::Fenced);
        }
        self.header = after(commit);
        self.rows.retain(|key, _| !commit.changes.forget.iter().any(|prefix| key.starts_with(prefix)));
        for (key, value) in commit.changes.rows.clone() {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
        self.effects.extend(commit.effects.iter().map(|e| String::from_utf8(e.payload.to_vec()).unwrap()));
        Ok(())
    }
}

pub(super) async fn random_owners_against_a_model<P: Place>() {
    // The same acts every time.
    let mut runner = TestRunner::deterministic();
    let acts = proptest::collection::vec(act(), 40..120);
    for _ in 0..12 {
        run::<P>(acts.new_tree(&mut runner).unwrap().current()).await;
    }
}

async fn run<P: Place>(acts: Vec<Act>) {
    let place = P::new();
    let mut opened = place.open().await;
    let mut model = Model::default();
    let mut owners: [(Header, Option<Commit>); 2] = Default::default();
    for (number, act) in [Act::Acquire(0), Act::Acquire(1)].iter().chain(&acts).enumerate() {
        let (owner, commit) = match act {
            Act::Restart => {
                drop(opened);
                opened = place.open().await;
                continue;
            }
            Act::Acquire(owner) => {
                model.header.epoch += 1;
                let header = opened.store.acquire(UNIT).await.unwrap();
                assert_eq!(header, model.header, "act {number} of {acts:?}");
                owners[*owner] = (header, None);
                continue;
            }
            Act::Commit(owner, by, forget, rows) => {
                let (header, _) = owners[*owner];
                let rows = rows
                    .iter()
                    .map(|(key, value)| (vec![*key / 3, *key], value.map(|value| vec![value])))
                    .collect();
                let changes = Changes { forget: forget.iter().map(|prefix| vec![*prefix]).collect(), rows };
                let offset = header.position.and_then(Position::offset).unwrap_or(0) + by;
                let effects = (0..by % 3).map(|n| effect(&format!("{number}.{n}"))).collect();
                (*owner, Commit { changes, effects, ..step(header, offset) })
            }
            Act::Again(owner) => match &owners[*owner].1 {
                Some(commit) => (*owner, commit.clone()),
                None => continue,
            },
            Act::Stale(owner) => match &owners[*owner].1 {
                Some(commit) => {
                    (*owner, Commit { effects: vec![effect("stale")], ..step(commit.from, 1_000_000) })
                }
                None => continue,
            },
        };
        let answer = opened.store.commit(&commit).await;
        assert_eq!(answer, model.commit(&commit), "act {number} of {acts:?}");
        if answer.is_ok() {
            owners[owner] = (after(&commit), Some(commit));
        }
    }
    let stored = opened.store.scan(UNIT, None, b"", None, usize::MAX).await.unwrap();
    assert_eq!(stored, model.rows.into_iter().collect::<Vec<_>>(), "{acts:?}");
    assert_eq!(effects(&*opened.log).await, model.effects, "{acts:?}");
}
