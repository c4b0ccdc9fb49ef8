//! States in memory: loaded once, shared with readers, dropped when there are too many.

use std::collections::HashMap;
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
    bounds: Bounds,
}

/// How much a cache may hold. Over a bound, the states longest unused are dropped; those of the current step stay.
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

struct Entries<O: Operator> {
    map: HashMap<O::Key, Entry<O::State>>,
    clock: u64,
}

struct Entry<S> {
    cell: Arc<OnceCell<Shared<S>>>,
    used: u64,
    weight: usize,
}

impl<O: Operator> Cache<O> {
    /// Returns an empty cache over a store.
    pub fn new(operator: Arc<O>, store: Arc<dyn Store>, bounds: Bounds) -> Self {
        Self { operator, store, entries: Mutex::new(Entries { map: HashMap::new(), clock: 0 }), bounds }
    }

    /// Returns the operator.
    pub fn operator(&self) -> &Arc<O> {
        &self.operator
    }

    /// Returns a state, loading it if it is not here. Callers at the same moment share one load.
    ///
    /// # Errors
    /// As [`Store::scan`]; `Corrupt` also for rows that do not make a state.
    pub async fn get(&self, unit: Unit, key: &O::Key) -> Result<Shared<O::State>, StoreError> {
        let cell = {
            let mut entries = self.lock();
            entries.clock += 1;
            let used = entries.clock;
            let fresh = || Entry { cell: Arc::default(), used, weight: 0 };
            let entry = entries.map.entry(key.clone()).or_insert_with(fresh);
            entry.used = used;
            entry.cell.clone()
        };
        let load = async || {
            let rows = scan_all(&*self.store, unit, &self.operator.prefix(key)).await?;
            let state = self.operator.restore(key, rows).map_err(StoreError::Corrupt)?;
            Ok(Arc::new(RwLock::new(state)))
        };
        cell.get_or_try_init(load).await.cloned()
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

    /// Notes the weights of states that a step changed, and drops the longest unused over the bounds. Only the runner
    /// calls it, between steps, when every state here equals what is stored.
    pub fn settle(&self, weights: &[(O::Key, usize)]) {
        let mut entries = self.lock();
        for (key, weight) in weights {
            if let Some(entry) = entries.map.get_mut(key) {
                entry.weight = *weight;
            }
        }
        let mut states = entries.map.len();
        let mut weight: usize = entries.map.values().map(|entry| entry.weight).sum();
        if states <= self.bounds.states_max && weight <= self.bounds.weight_max {
            return;
        }
        let mut oldest: Vec<_> = entries.map.iter().map(|(key, e)| (e.used, e.weight, key.clone())).collect();
        oldest.sort_unstable_by_key(|(used, _, _)| *used);
        for (_, freed, key) in oldest {
            if states <= self.bounds.states_max && weight <= self.bounds.weight_max {
                return;
            }
            if weights.iter().any(|(current, _)| *current == key) {
                continue;
            }
            entries.map.remove(&key);
            states -= 1;
            weight -= freed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<O>> {
        // Nothing panics while holding the lock, and the map is whole at every moment.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
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
