//! A table of leases as the simulation has it: the conditional writes in a few lines, and bugs that can be planted.

use std::collections::BTreeMap;

use ingest::lease::{Checkpoint, Lease};
use operators::id::Position;

/// What is wrong in a run that must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Nothing.
    None,
    /// Taking a lease leaves its epoch.
    NoEpochRaise,
    /// Whoever takes a lease gets it, however it stands.
    NoCondition,
    /// Workers do not know which shards are parents.
    ChildBeforeParent,
    /// A lease is over when the time that its owner wrote is long past on the observer's clock.
    WallClock,
    /// An owner that cannot renew goes on for ever.
    EndlessBelief,
    /// A renewal that finds an earlier one of its own counts, although others have waited since that one.
    StillRenewal,
    /// A lease is stolen from a worker that has one more.
    PingPong,
}

/// The leases as they stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) leases: BTreeMap<String, Lease>,
}

impl Table {
    pub(super) fn list(&self) -> Vec<Lease> {
        self.leases.values().cloned().collect()
    }

    pub(super) fn create(&mut self, lease: &Lease) {
        self.leases.entry(lease.key.clone()).or_insert_with(|| lease.clone());
    }

    pub(super) fn take(&mut self, seen: &Lease, owner: &str, bug: Bug) -> Option<Lease> {
        let lease = self.leases.get_mut(&seen.key)?;
        let stands = lease.counter == seen.counter && lease.owner == seen.owner && lease.epoch == seen.epoch;
        if (!stands || lease.is_finished()) && bug != Bug::NoCondition {
            return None;
        }
        lease.owner = Some(owner.to_owned());
        lease.counter = seen.counter + 1;
        lease.epoch = seen.epoch + u64::from(bug != Bug::NoEpochRaise);
        Some(lease.clone())
    }

    pub(super) fn renew(&mut self, held: &Lease, bug: Bug) -> Option<Lease> {
        let lease = self.owned(held)?;
        let is_repeat = lease.counter > held.counter;
        lease.counter += u64::from(!is_repeat || bug != Bug::StillRenewal);
        lease.checkpoint = Checkpoint::At(Position::default());
        Some(lease.clone())
    }

    pub(super) fn release(&mut self, held: &Lease) {
        if let Some(lease) = self.owned(held) {
            lease.owner = None;
            lease.counter += 1;
        }
    }

    pub(super) fn finish(&mut self, held: &Lease) -> bool {
        let Some(lease) = self.owned(held) else { return false };
        lease.owner = None;
        lease.counter += 1;
        lease.checkpoint = Checkpoint::ShardEnd;
        true
    }

    pub(super) fn delete(&mut self, key: &str) -> bool {
        let is_finished = self.leases.get(key).is_some_and(Lease::is_finished);
        is_finished && self.leases.remove(key).is_some()
    }

    fn owned(&mut self, held: &Lease) -> Option<&mut Lease> {
        let lease = self.leases.get_mut(&held.key)?;
        (lease.owner == held.owner && lease.epoch == held.epoch).then_some(lease)
    }
}
