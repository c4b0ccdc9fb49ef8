//! The table of leases and of beats, as one caller sees it: the real traits over the disks.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::lease::{Checkpoint, Lease, LeaseError, Leases};
use pipeline::cluster::beats::{Beat, Beats, decode, encode};
use pipeline::store::{Stage, StoreError};

use super::super::calls::{Caller, Unanswered, read, write};
use super::super::disk::{Done, Write};
use super::super::mutants::Mutant;
use super::super::world::Shared;

/// A conditional write of one lease.
#[derive(Debug, Clone)]
pub(in super::super) enum Op {
    Create(Lease),
    Take(Lease, String),
    Renew(Lease, Checkpoint),
    Release(Lease, Checkpoint),
    Finish(Lease),
    Delete(Lease),
}

/// What the table holds beside the states.
#[derive(Debug, Default)]
pub(in super::super) struct Items {
    leases: BTreeMap<(Stage, String), Lease>,
    /// The newest beat of each worker, and the one before it.
    beats: BTreeMap<(Stage, String), [Vec<u8>; 2]>,
}

impl Items {
    /// Carries out a write; returns the lease if it is now as the writer wants it.
    pub(in super::super) fn perform(&mut self, stage: Stage, op: &Op) -> Option<Lease> {
        let (Op::Create(named)
        | Op::Take(named, _)
        | Op::Renew(named, _)
        | Op::Release(named, _)
        | Op::Finish(named)
        | Op::Delete(named)) = op;
        let key = (stage, named.key.clone());
        if let Op::Create(lease) = op {
            return Some(self.leases.entry(key).or_insert_with(|| lease.clone()).clone());
        }
        let found = self.leases.get_mut(&key)?;
        let is_owned = found.owner.is_some() && (&found.owner, found.epoch) == (&named.owner, named.epoch);
        match op {
            Op::Create(_) => {}
            Op::Take(seen, owner) => {
                let stands =
                    (found.counter, found.epoch, &found.owner) == (seen.counter, seen.epoch, &seen.owner);
                if stands && !found.is_finished() {
                    found.owner = Some(owner.clone());
                    found.counter += 1;
                    found.epoch += 1;
                }
                let is_mine = found.owner.as_ref() == Some(owner) && found.epoch == seen.epoch + 1;
                return is_mine.then(|| found.clone());
            }
            Op::Renew(held, checkpoint) => {
                if is_owned && found.counter <= held.counter {
                    found.counter = held.counter + 1;
                    found.checkpoint = *checkpoint;
                }
                return is_owned.then(|| found.clone());
            }
            Op::Release(_, checkpoint) if is_owned => {
                (found.owner, found.checkpoint) = (None, *checkpoint);
                found.counter += 1;
            }
            Op::Finish(held) => {
                if is_owned {
                    (found.owner, found.checkpoint) = (None, Checkpoint::ShardEnd);
                    found.children.clone_from(&held.children);
                    found.counter += 1;
                }
                return (found.is_finished() && found.epoch == held.epoch).then(|| found.clone());
            }
            Op::Delete(_) if found.is_finished() => {
                self.leases.remove(&key);
            }
            Op::Release(..) | Op::Delete(_) => {}
        }
        None
    }

    fn of(&self, stage: Stage) -> Vec<Lease> {
        let of_stage = self.leases.iter().filter(|((of, _), _)| *of == stage);
        of_stage.map(|(_, lease)| lease.clone()).collect()
    }

    /// Leaves a beat in the place of the last one.
    pub(in super::super) fn beat(&mut self, stage: Stage, worker: &str, beat: &[u8]) {
        let places = self.beats.entry((stage, worker.to_owned())).or_default();
        let before = std::mem::replace(&mut places[0], beat.to_vec());
        places[1] = before;
    }
}

/// The leases of one stage, as a process sees them.
pub(in super::super) struct SimLeases {
    pub(in super::super) world: Shared,
    pub(in super::super) stage: Stage,
}

impl SimLeases {
    async fn write(&self, op: Op) -> Result<Option<Lease>, LeaseError> {
        match write(&self.world, Caller::Process, Write::Lease(self.stage, Box::new(op))).await {
            Ok(Done::Lease(lease)) => Ok(lease.map(|lease| *lease)),
            Ok(Done::Stamps(_) | Done::Written | Done::Refused(_) | Done::Taken(..)) => {
                unreachable!("a lease is answered with a lease")
            }
            Err(Unanswered) => Err(LeaseError::Unavailable("simulated".into())),
        }
    }
}

impl Leases for SimLeases {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Lease>, LeaseError>> {
        async move {
            let found = read(&self.world, Caller::Process, |world| world.disk.items.of(self.stage)).await;
            found.map_err(|Unanswered| LeaseError::Unavailable("simulated".into()))
        }
        .boxed()
    }
    fn create<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        async move { self.write(Op::Create(lease.clone())).await.map(drop) }.boxed()
    }
    fn take<'a>(
        &'a self,
        seen: &'a Lease,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>> {
        self.write(Op::Take(seen.clone(), owner.to_owned())).boxed()
    }
    fn renew<'a>(
        &'a self,
        held: &'a Lease,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>> {
        self.write(Op::Renew(held.clone(), checkpoint)).boxed()
    }
    fn release<'a>(
        &'a self,
        held: &'a Lease,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'a, Result<(), LeaseError>> {
        async move { self.write(Op::Release(held.clone(), checkpoint)).await.map(drop) }.boxed()
    }
    fn finish<'a>(&'a self, held: &'a Lease) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>> {
        self.write(Op::Finish(held.clone())).boxed()
    }
    fn delete<'a>(&'a self, finished: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        async move { self.write(Op::Delete(finished.clone())).await.map(drop) }.boxed()
    }
}

/// The beats, as workers and gateways see them.
pub(in super::super) struct SimBeats {
    pub(in super::super) world: Shared,
    pub(in super::super) caller: Caller,
}

impl Beats for SimBeats {
    fn put<'a>(
        &'a self,
        stage: Stage,
        worker: &'a str,
        beat: &'a Beat,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let write =
                write(&self.world, self.caller, Write::Beat(stage, worker.to_owned(), encode(beat))).await;
            write.map(drop).map_err(|Unanswered| StoreError::Unavailable("simulated".into()))
        }
        .boxed()
    }

    fn remove<'a>(&'a self, _stage: Stage, _worker: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn sweep(&self, _stage: Stage) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn all<'a>(&'a self, stage: Stage) -> BoxFuture<'a, Result<Vec<Beat>, StoreError>> {
        async move {
            let caller = self.caller;
            let found = read(&self.world, caller, |world| {
                let lags = world.plan.mutant == Some(Mutant::ClaimBeforeCatchUp) && caller == Caller::Reader;
                let beats = world.disk.items.beats.iter().filter(|((of, _), _)| *of == stage);
                beats.map(|(_, places)| claimed(places, lags)).collect::<Vec<_>>()
            });
            found.await.map_err(|Unanswered| StoreError::Unavailable("simulated".into()))
        }
        .boxed()
    }
}

/// Returns the newest beat; with the planted bug, saying that the state of the one before is enough for it.
fn claimed([newest, before]: &[Vec<u8>; 2], lags: bool) -> Beat {
    let mut beat = decode(newest).expect("a beat");
    if lags {
        let before: BTreeMap<_, _> = decode(before).expect("a beat").ranked.into_iter().collect();
        for (partition, ranked) in &mut beat.ranked {
            ranked.position = before.get(partition).and_then(|ranked| ranked.position);
        }
    }
    beat
}
