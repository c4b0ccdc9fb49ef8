//! The simulated log and store as the code under test sees them: the real traits over the disks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::error::{AppendError, ReadError};
use ingest::log::{Log, ReadBatch, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::Position;
use pipeline::store::{Commit, Header, Row, Store, StoreError, Unit};

use super::disk::{Done, PageKey, Write};
use super::mutants::Mutant;
use super::world::{Caller, Shared, Unanswered, World, read, write};

/// The log, as one caller sees it.
pub(super) struct SimLog {
    pub(super) world: Shared,
    pub(super) caller: Caller,
}

impl Log for SimLog {
    fn partitions(&self) -> u16 {
        self.world.lock().plan.partitions
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        async move {
            match write(&self.world, self.caller, Write::Append(records)).await {
                Ok(Done::Stamps(stamps)) => Ok(stamps),
                Ok(Done::Written | Done::Refused(_) | Done::Taken(..)) => {
                    unreachable!("an append gives stamps")
                }
                Err(Unanswered) => Err(AppendError::Unavailable("simulated".into())),
            }
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        async move {
            let look = |world: &mut World| batch(world, stream, partition, after, limits);
            let mut found = read(&self.world, self.caller, look).await;
            let waits = !limits.wait.is_zero();
            if waits && matches!(&found, Ok(batch) if batch.records.is_empty()) {
                self.world.pause_for(stream, partition, limits.wait.as_millis() as u64).await;
                found = read(&self.world, self.caller, look).await;
            }
            let spoiled = self.world.lock().plan.mutant == Some(Mutant::DeadLetterOnTransient);
            if spoiled && found.is_err() && matches!(self.caller, Caller::Worker(_)) {
                return Ok(spoil(&self.world, stream, partition, after, limits));
            }
            found.map_err(|Unanswered| ReadError::Unavailable("simulated".into()))
        }
        .boxed()
    }
}

fn batch(
    world: &mut World,
    stream: Stream,
    partition: PartitionId,
    after: Option<Position>,
    limits: ReadLimits,
) -> ReadBatch {
    // Fewer than asked for is a right answer too.
    let records_max = world.rng.between(1, limits.records_max as u64) as usize;
    let all = world.disk.stream(stream, partition);
    let from = after.map_or(0, |after| all.partition_point(|record| record.stamp.position <= after));
    let records: Vec<_> = all[from..].iter().take(records_max).cloned().collect();
    let at_end = from + records.len() == all.len();
    ReadBatch { records, at_end, closed: false }
}

/// The planted bug "dead letter on a transient error": what could not be read is given up as unreadable.
fn spoil(
    world: &Shared,
    stream: Stream,
    partition: PartitionId,
    after: Option<Position>,
    limits: ReadLimits,
) -> ReadBatch {
    let mut batch = batch(&mut world.lock(), stream, partition, after, limits);
    if let Some(first) = batch.records.first_mut() {
        first.payload = vec![0xff; 4].into();
    }
    batch
}

/// The store, as one life of one worker sees it.
pub(super) struct SimStore {
    world: Shared,
    caller: Caller,
    owned: Mutex<BTreeMap<Unit, Owned>>,
}

/// What an owner knows of its unit without asking.
#[derive(Clone, Default)]
struct Owned {
    named: Vec<PageKey>,
    /// The last commit that was tried.
    tried: Option<Position>,
}

/// A header with more pages than this is compacted by the next commit.
const PAGES_MAX: usize = 24;

fn unavailable(_: Unanswered) -> StoreError {
    StoreError::Unavailable("simulated".into())
}

impl SimStore {
    pub(super) fn new(world: Shared, caller: Caller) -> Self {
        Self { world, caller, owned: Mutex::default() }
    }

    fn owned(&self) -> MutexGuard<'_, BTreeMap<Unit, Owned>> {
        self.owned.lock().expect("a panic ends the run")
    }

    async fn write(&self, step: Write) -> Result<Done, StoreError> {
        write(&self.world, self.caller, step).await.map_err(unavailable)
    }

    /// The cluster's rule: effects in chunks, then pages, then the header, each of them a call of its own.
    async fn commit_in_steps(&self, commit: &Commit) -> Result<(), StoreError> {
        let plan = self.world.lock().plan.clone();
        let mut owned = self.owned().get(&commit.unit).cloned().unwrap_or_default();
        let skips = plan.mutant == Some(Mutant::OutputsSkipped) && owned.tried >= Some(commit.position);
        self.owned().entry(commit.unit).or_default().tried = Some(commit.position);

        let mut effects = Vec::new();
        if !skips {
            effects
                .extend(commit.effects.chunks(plan.chunk_records).map(|chunk| Write::Append(chunk.to_vec())));
        }
        let page =
            |part| PageKey { unit: commit.unit, epoch: commit.from.epoch, position: commit.position, part };
        let mut pages = Vec::new();
        if owned.named.len() > PAGES_MAX {
            let merged = self.world.lock().disk.merged(&owned.named);
            pages.push(Write::Page(page(u8::MAX), merged));
            owned.named = vec![page(u8::MAX)];
        }
        // Two pages, so that a commit can stop between them.
        for (part, rows) in (0..).zip(commit.rows.chunks(commit.rows.len().div_ceil(2).max(1))) {
            owned.named.push(page(part));
            pages.push(Write::Page(page(part), rows.to_vec()));
        }
        let named = owned.named.clone();
        let header = Write::Header { unit: commit.unit, to: commit.to(), named };
        let steps: Vec<Write> = if plan.mutant == Some(Mutant::CheckpointBeforeRows) {
            [header].into_iter().chain(effects).chain(pages).collect()
        } else {
            effects.into_iter().chain(pages).chain([header]).collect()
        };
        let zombie_at = self.world.lock().zombie_at(commit.unit, steps.len());
        for (nth, step) in steps.into_iter().enumerate() {
            if zombie_at == Some(nth) {
                self.be_paused(commit).await;
            }
            if matches!(step, Write::Append(_)) {
                self.world.lock().note_effects(commit);
            }
            if let Done::Refused(found) = self.write(step).await? {
                self.accept_own(commit, found)?;
            }
        }
        self.owned().entry(commit.unit).or_default().named = owned.named;
        Ok(())
    }

    /// A condition that fails on one's own earlier write is success.
    fn accept_own(&self, commit: &Commit, found: Header) -> Result<(), StoreError> {
        if found == commit.to() {
            return Ok(());
        }
        self.world.lock().ledger.faults.fenced += 1;
        Err(StoreError::Fenced)
    }

    /// Stops until someone else has taken the unit and done something: the zombie that every seed has.
    async fn be_paused(&self, commit: &Commit) {
        self.world.lock().note("zombie sleeps", &[commit.from.epoch]);
        let extra = self.world.lock().rng.between(1, 600);
        while self.world.lock().disk.header(commit.unit).epoch == commit.from.epoch {
            self.world.pause(25).await;
        }
        self.world.pause(extra).await;
        let mut world = self.world.lock();
        world.ledger.faults.zombies += 1;
        world.slept.insert(commit.unit);
        world.note("zombie wakes", &[commit.from.epoch]);
    }
}

impl Store for SimStore {
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>> {
        async move {
            let look = |world: &mut World| world.disk.header(unit).epoch;
            let found = read(&self.world, self.caller, look).await.map_err(unavailable)?;
            match self.write(Write::Take { unit, found }).await? {
                Done::Taken(header, named) => {
                    let owned = Owned { named, tried: None };
                    self.owned().insert(unit, owned);
                    self.world.lock().ledger.faults.take_overs += 1;
                    Ok(header)
                }
                Done::Refused(_) => Err(StoreError::Unavailable("taken at the same time".into())),
                Done::Stamps(_) | Done::Written => unreachable!("taking over gives a header"),
            }
        }
        .boxed()
    }

    fn scan<'a>(
        &'a self,
        unit: Unit,
        epoch: Option<u64>,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        async move {
            let look = |world: &mut World| {
                let fenced = epoch.is_some_and(|epoch| world.disk.header(unit).epoch != epoch);
                if fenced && world.plan.mutant != Some(Mutant::LoadWithoutFence) {
                    return Err(StoreError::Fenced);
                }
                Ok(world.disk.scan(unit, prefix, after, limit))
            };
            read(&self.world, self.caller, look).await.map_err(unavailable)?
        }
        .boxed()
    }

    fn get<'a>(&'a self, unit: Unit, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        async move {
            let look = |world: &mut World| world.disk.row(unit, key);
            read(&self.world, self.caller, look).await.map_err(unavailable)
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if !self.world.lock().plan.embedded {
                return self.commit_in_steps(commit).await;
            }
            if self.world.lock().zombie_at(commit.unit, 1).is_some() {
                self.be_paused(commit).await;
            }
            match self.write(Write::Whole(Box::new(commit.clone()))).await? {
                Done::Refused(found) => self.accept_own(commit, found),
                Done::Written | Done::Stamps(_) | Done::Taken(..) => Ok(()),
            }
        }
        .boxed()
    }
}
