//! States in memory: loaded once, shared with readers, dropped when there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::OnceCell;

use crate::stage::Operator;
use crate::store::{Store, StoreError, Unit, scan_all};

/// A state that one runner writes and any reader may read.
pub type Shared<S> = Arc<RwLock<S>>;

/// The states of one stage, all partitions of it.
pub struct Cache<O: Operator> {
    operator: Arc<O>,
    store: Arc<dyn Store>,
    entries: Mutex<Entries<O>>,
    budget: Arc<Budget>,
}

/// How much a cache may hold. Over a bound, the states longest unused are dropped, those in somebody's hands never.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// States at most.
    pub states_max: usize,
    /// Members at most, over all states.
    pub weight_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        // Four million participants are about 1 GB in both stages together.
        Self { states_max: 10_000, weight_max: 4_000_000 }
    }
}

/// Bounds that several caches share. When they hold more together, those that hold more than an equal part give it up,
/// each when it is next settled, as happens at every checkpoint.
#[derive(Debug, Default)]
pub struct Budget {
    bounds: Bounds,
    caches: AtomicUsize,
    /// What all of them hold.
    states: AtomicUsize,
    weight: AtomicUsize,
}

impl Budget {
    /// Returns bounds that nobody uses yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    fn is_over(&self) -> bool {
        let Bounds { states_max, weight_max } = self.bounds;
        self.states.load(Ordering::Relaxed) > states_max || self.weight.load(Ordering::Relaxed) > weight_max
    }

    /// Takes what a cache held out of the sums, and what it holds in. Sums wrap, so the order does not matter.
    fn count(&self, held: (usize, usize), holds: (usize, usize)) {
        self.states.fetch_add(holds.0.wrapping_sub(held.0), Ordering::Relaxed);
        self.weight.fetch_add(holds.1.wrapping_sub(held.1), Ordering::Relaxed);
    }

    /// Returns the part of one cache: it holds one state at least.
    fn part(&self) -> Bounds {
        let caches = self.caches.load(Ordering::Relaxed).max(1);
        let Bounds { states_max, weight_max } = self.bounds;
        Bounds { states_max: (states_max / caches).max(1), weight_max: (weight_max / caches).max(1) }
    }
}

struct Entries<O: Operator> {
    map: HashMap<O::Key, Entry<O::State>>,
    clock: u64,
    /// States and weight of which the budget knows.
    counted: (usize, usize),
}

struct Entry<S> {
    cell: Arc<OnceCell<Shared<S>>>,
    used: u64,
    weight: usize,
}

impl<S> Entry<S> {
    /// Tells whether anybody holds the state or is loading it. New holders come only by way of the locked map.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.cell) > 1 || self.cell.get().is_some_and(|state| Arc::strong_count(state) > 1)
    }
}

impl<O: Operator> Cache<O> {
    /// Returns an empty cache over a store.
    pub fn new(operator: Arc<O>, store: Arc<dyn Store>, bounds: Bounds) -> Self {
        Self::sharing(operator, store, Arc::new(Budget::new(bounds)))
    }

    /// Returns an empty cache over a store that shares its bounds with others for as long as it is there.
    pub fn sharing(operator: Arc<O>, store: Arc<dyn Store>, budget: Arc<Budget>) -> Self {
        budget.caches.fetch_add(1, Ordering::Relaxed);
        let entries = Entries { map: HashMap::new(), clock: 0, counted: (0, 0) };
        Self { operator, store, entries: Mutex::new(entries), budget }
    }

    /// Returns the operator.
    pub fn operator(&self) -> &Arc<O> {
        &self.operator
    }

    /// Returns a state, loading it if it is not here, as [`Store::scan`] with this epoch. Callers at the same moment share
    /// one load.
    ///
    /// # Errors
    /// As [`Store::scan`]; `Corrupt` also for rows that do not make a state.
    pub async fn get(
        &self,
        unit: Unit,
        epoch: Option<u64>,
        key: &O::Key,
    ) -> Result<Shared<O::State>, StoreError> {
        let cell = {
            let mut entries = self.lock();
            entries.clock += 1;
            let used = entries.clock;
            let fresh = || Entry { cell: Arc::default(), used, weight: 0 };
            let entry = entries.map.entry(key.clone()).or_insert_with(fresh);
            entry.used = used;
            entry.cell.clone()
        };
        let mut loaded = None;
        let load = async || {
            let rows = scan_all(&*self.store, unit, epoch, &self.operator.prefix(key)).await?;
            let state = self.operator.restore(key, rows).map_err(StoreError::Corrupt)?;
            loaded = Some(self.operator.weight(&state));
            Ok::<_, StoreError>(Arc::new(RwLock::new(state)))
        };
        let state = cell.get_or_try_init(load).await.cloned()?;
        // What readers load counts as well as what a runner grows.
        if let Some(weight) = loaded {
            self.settle(&[(key.clone(), weight)]);
        }
        Ok(state)
    }

    /// Returns a state that is here already.
    pub fn peek(&self, key: &O::Key) -> Option<Shared<O::State>> {
        let mut entries = self.lock();
        entries.clock += 1;
        let used = entries.clock;
        let entry = entries.map.get_mut(key)?;
        entry.used = used;
        entry.cell.get().cloned()
    }

    /// Notes the weights of states, and drops the longest unused over the bounds.
    ///
    /// A state that a runner or a reader holds stays: between applying and committing it is ahead of what is stored, and
    /// loaded once more it would fall behind for good.
    pub fn settle(&self, weights: &[(O::Key, usize)]) {
        let mut entries = self.lock();
        for (key, weight) in weights {
            if let Some(entry) = entries.map.get_mut(key) {
                entry.weight = *weight;
            }
        }
        entries.count(&self.budget);
        let part = self.budget.part();
        let is_due = |(states, weight): (usize, usize)| {
            self.budget.is_over() && (states > part.states_max || weight > part.weight_max)
        };
        if !is_due(entries.counted) {
            return;
        }
        let mut oldest: Vec<_> = entries.map.iter().map(|(key, entry)| (entry.used, key.clone())).collect();
        oldest.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in oldest {
            if !is_due(entries.counted) {
                return;
            }
            let held = entries.map.get(&key).is_some_and(Entry::is_held);
            if held || weights.iter().any(|(current, _)| *current == key) {
                continue;
            }
            if let Some(entry) = entries.map.remove(&key) {
                let (states, weight) = entries.counted;
                let left = (states - 1, weight - entry.weight);
                self.budget.count(entries.counted, left);
                entries.counted = left;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<O>> {
        // Nothing panics while holding the lock, and the map is whole at every moment.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Operator> Entries<O> {
    /// Tells the budget what is here.
    fn count(&mut self, budget: &Budget) {
        let holds = (self.map.len(), self.map.values().map(|entry| entry.weight).sum());
        budget.count(self.counted, holds);
        self.counted = holds;
    }
}

impl<O: Operator> Drop for Cache<O> {
    fn drop(&mut self) {
        let counted = self.lock().counted;
        self.budget.count(counted, (0, 0));
        self.budget.caches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Locks a state for reading.
pub fn read<S>(state: &Shared<S>) -> std::sync::RwLockReadGuard<'_, S> {
    state.read().expect("a fold never panics, so its lock is never poisoned")
}

/// Locks a state for writing.
pub fn write<S>(state: &Shared<S>) -> std::sync::RwLockWriteGuard<'_, S> {
    state.write().expect("a fold never panics, so its lock is never poisoned")
}

#[cfg(test)]
mod tests {
    use ingest::log::embedded::{Embedded, Options};
    use ingest::partition::PartitionId;
    use operators::effect::{Change, Effect};
    use operators::id::{ParticipantId, Position, QuizId};

    use super::*;
    use crate::stage::rank::{Rank, Silence};
    use crate::store::Stage;
    use crate::store::embedded::EmbeddedStore;

    fn join(quiz: &QuizId, revision: u64) -> Effect {
        let change = Change::Joined { participant: ParticipantId(revision.into()), name: "Ana".into() };
        let position = Position::from_offset(revision);
        Effect { quiz: quiz.clone(), section: 0, revision, ordinal: 0, position, change }
    }

    /// One runner's step drops what others do not use, but not what another has applied and not yet committed: a
    /// reader would load the state without it, and the runner go on from there.
    #[tokio::test]
    async fn a_state_between_apply_and_commit_is_never_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Embedded::open(dir.path(), Options { partitions: 1 }).unwrap();
        let store = Arc::new(EmbeddedStore::new(storage));
        let bounds = Bounds { states_max: 2, weight_max: 1 };
        let cache = Cache::new(Arc::new(Rank::new(Arc::new(Silence))), store, bounds);
        let unit = Unit { stage: Stage::Rank, partition: PartitionId(0) };
        let [busy, idle, other]: [QuizId; 3] = ["busy", "idle", "other"].map(|id| id.parse().unwrap());

        drop(cache.get(unit, None, &idle).await.unwrap());
        let held = cache.get(unit, None, &busy).await.unwrap();
        for revision in 1..=3 {
            write(&held).apply(&join(&busy, revision));
        }
        let grown = cache.get(unit, None, &other).await.unwrap();
        cache.settle(&[(other.clone(), 5)]);
        assert!(cache.peek(&idle).is_none(), "nobody uses it");
        let seen = cache.get(unit, None, &busy).await.unwrap();
        assert!(Arc::ptr_eq(&seen, &held));
        assert_eq!(read(&seen).len(), 3);

        // Free again, it goes as any other, and what a reader loads is weighed.
        drop((held, seen));
        cache.settle(&[(other.clone(), 5)]);
        assert!(cache.peek(&busy).is_none());
        drop(grown);
        drop(cache.get(unit, None, &idle).await.unwrap());
        assert!(cache.peek(&other).is_none());
    }

    /// However many leases a process holds, what is set is what it uses.
    #[tokio::test]
    async fn caches_that_share_their_bounds_hold_no_more_together() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Embedded::open(dir.path(), Options { partitions: 1 }).unwrap();
        let store = Arc::new(EmbeddedStore::new(storage));
        let rank = Arc::new(Rank::new(Arc::new(Silence)));
        let budget = Arc::new(Budget::new(Bounds { states_max: 100, weight_max: 40 }));
        let cache = || Cache::sharing(rank.clone(), store.clone(), budget.clone());
        let unit = Unit { stage: Stage::Rank, partition: PartitionId(0) };
        let quizzes: Vec<QuizId> = (0..8).map(|n| format!("quiz{n}").parse().unwrap()).collect();
        let fill = async |cache: &Cache<Rank>| {
            for quiz in &quizzes {
                drop(cache.get(unit, None, quiz).await.unwrap());
                cache.settle(&[(quiz.clone(), 5)]);
            }
        };
        let held = |cache: &Cache<Rank>| quizzes.iter().filter(|quiz| cache.peek(quiz).is_some()).count();
        let first = cache();
        fill(&first).await;
        assert_eq!(held(&first), 8, "alone it has all of it");
        let second = cache();
        fill(&second).await;
        first.settle(&[]);
        assert_eq!((held(&first), held(&second)), (4, 4));
        drop(second);
        fill(&first).await;
        assert_eq!(held(&first), 8);
    }
}
