//! The simulated log and store as the code under test sees them: the real traits over the disks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::codec::{self, Decoded, Pulse};
use ingest::error::{AppendError, ReadError};
use ingest::log::{Log, ReadBatch, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use pipeline::runner::progress::Progress;
use pipeline::runner::progress::pulses::Pulses;
use pipeline::store::{Changes, Commit, Header, Row, Stage, Store, StoreError, Unit};

use super::calls::{Caller, Unanswered, read, write};
use super::disk::{Done, PageKey, Write};
use super::mutants::Mutant;
use super::world::{EPOCH_MS, Shared, World};

/// The log, as one caller sees it.
pub(super) struct SimLog {
    world: Shared,
    caller: Caller,
    /// The shard whose records are read, and no others, with what else its runner has in hand.
    on: Option<OnShard>,
}

/// One partition of one shard, as the runner of a cluster's worker sees it.
struct OnShard {
    unit: Unit,
    shard: u32,
    store: Arc<SimStore>,
    pulses: Arc<Pulses>,
    /// The last effects that were not answered for.
    unanswered: Mutex<Option<Vec<Record>>>,
}

impl SimLog {
    /// Returns the log as a whole.
    pub(super) fn new(world: &Shared, caller: Caller) -> Self {
        Self { world: world.clone(), caller, on: None }
    }

    /// Returns the log as the runner of a unit on one shard sees it.
    pub(super) fn of_shard(
        world: &Shared,
        unit: Unit,
        shard: u32,
        store: Arc<SimStore>,
        pulses: Arc<Pulses>,
    ) -> Self {
        let on = Some(OnShard { unit, shard, store, pulses, unanswered: Mutex::default() });
        Self { world: world.clone(), caller: Caller::Worker(unit), on }
    }

    async fn write(&self, records: Vec<Record>) -> Result<Vec<Stamp>, AppendError> {
        match write(&self.world, self.caller, Write::Append(records)).await {
            Ok(Done::Stamps(stamps)) => Ok(stamps),
            Ok(Done::Written | Done::Refused(_) | Done::Taken(..) | Done::Lease(_)) => {
                unreachable!("an append gives stamps")
            }
            Err(Unanswered) => Err(AppendError::Unavailable("simulated".into())),
        }
    }

    /// Sends what a runner wants appended, in small calls, so that it can stop between them.
    async fn send(&self, on: &OnShard, records: Vec<Record>) -> Result<Vec<Stamp>, AppendError> {
        let plan = self.world.lock().plan.clone();
        let records = recut(&records, plan.effects_max);
        let are_effects = records.iter().any(|record| record.stream == Stream::Standings);
        if are_effects && plan.mutant == Some(Mutant::EffectsAfterState) {
            let stamps =
                vec![Stamp { position: Position::default(), append_at: UnixMillis(0) }; records.len()];
            on.store.outbox().extend(records);
            return Ok(stamps);
        }
        let skips = plan.mutant == Some(Mutant::OutputsSkipped);
        let unanswered = || on.unanswered.lock().expect("a panic ends the run");
        if are_effects && skips && unanswered().take().is_some_and(|last| last == records) {
            return Ok(Vec::new());
        }
        let chunks = records.chunks(plan.chunk_records);
        let zombie_at = self.world.lock().zombie_at(on.unit, chunks.len());
        let mut stamps = Vec::with_capacity(records.len());
        for (nth, chunk) in chunks.enumerate() {
            if zombie_at == Some(nth) {
                be_paused(&self.world, on.unit).await;
            }
            self.world.lock().note_effects(on.unit, on.store.epoch(on.unit));
            match self.write(chunk.to_vec()).await {
                Ok(found) => stamps.extend(found),
                Err(error) => {
                    *unanswered() = Some(records.clone());
                    return Err(error);
                }
            }
        }
        Ok(stamps)
    }

    /// The planted bugs that tell how far a stage is before it is there.
    fn tell_early(&self, on: &OnShard, batch: &ReadBatch) {
        let mutant = self.world.lock().plan.mutant;
        let mut pulses: Vec<(Stamp, Pulse)> = Vec::new();
        for record in &batch.records {
            let pulse = match on.unit.stage {
                Stage::Grade => pulse(codec::decode_submission(&record.payload).ok()),
                Stage::Rank => pulse(codec::decode_standings(&record.payload).ok()),
            };
            pulses.extend(pulse.map(|pulse| (record.stamp, pulse)));
        }
        if mutant == Some(Mutant::PulseBeforeEffects) {
            on.pulses.sent(on.unit, &pulses);
        }
        if mutant == Some(Mutant::BeatBeforeState) {
            let pulses: Vec<Pulse> = pulses.into_iter().map(|(_, pulse)| pulse).collect();
            on.pulses.stored(on.unit, Header::default(), &pulses);
        }
    }
}

/// Returns the same effects in records of fewer, so that a worker can stop between any two of them.
fn recut(records: &[Record], effects_max: usize) -> Vec<Record> {
    let mut cut = Vec::new();
    for record in records {
        let effects = match record.stream {
            Stream::Standings => codec::decode_effects(&record.payload).unwrap_or_default(),
            Stream::Submissions | Stream::Results | Stream::DeadLetters => Vec::new(),
        };
        if effects.is_empty() {
            cut.push(record.clone());
        }
        for some in effects.chunks(effects_max) {
            let payloads = codec::encode_effects(some).expect("they were in one record");
            cut.extend(payloads.into_iter().map(|payload| Record { payload, ..record.clone() }));
        }
    }
    cut
}

fn pulse<T>(decoded: Option<Decoded<T>>) -> Option<Pulse> {
    if let Some(Decoded::Pulse(pulse)) = decoded { Some(pulse) } else { None }
}

impl Log for SimLog {
    fn partitions(&self) -> u16 {
        self.world.lock().plan.partitions
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        async move {
            let mut stamps = match &self.on {
                Some(on) => self.send(on, records).await?,
                None => self.write(records).await?,
            };
            let world = self.world.lock();
            if world.plan.is_cluster {
                // Only readers get to know when the log took a record.
                stamps.iter_mut().for_each(|stamp| stamp.append_at = UnixMillis(EPOCH_MS + world.now));
            }
            Ok(stamps)
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
            let shard = self.on.as_ref().map(|on| on.shard);
            let look = |world: &mut World| batch(world, stream, partition, shard, after, limits);
            let mut found = read(&self.world, self.caller, look).await;
            let waits = !limits.wait.is_zero();
            if waits && matches!(&found, Ok(batch) if batch.records.is_empty() && !batch.closed) {
                self.world.pause_for(stream, partition, limits.wait.as_millis() as u64).await;
                found = read(&self.world, self.caller, look).await;
            }
            if let (Some(on), Ok(batch)) = (&self.on, &found) {
                self.tell_early(on, batch);
            }
            let spoiled = self.world.lock().plan.mutant == Some(Mutant::DeadLetterOnTransient);
            if spoiled && found.is_err() && matches!(self.caller, Caller::Worker(_)) {
                return Ok(spoil(&self.world, stream, partition, shard, after, limits));
            }
            found.map_err(|Unanswered| ReadError::Unavailable("simulated".into()))
        }
        .boxed()
    }
}

/// Returns what is behind a position, of one shard or of the whole partition.
fn batch(
    world: &mut World,
    stream: Stream,
    partition: PartitionId,
    shard: Option<u32>,
    after: Option<Position>,
    limits: ReadLimits,
) -> ReadBatch {
    // Fewer than asked for is a right answer too, and from shards it may be none at all.
    let records_max = world.rng.between(1, limits.records_max as u64) as usize;
    let records_max = if shard.is_some() && world.rng.chance(50) { 0 } else { records_max };
    let all = world.disk.stream(stream, partition);
    let from = after.map_or(0, |after| all.partition_point(|record| record.stamp.position <= after));
    let Some(shard) = shard else {
        let records: Vec<_> = all[from..].iter().take(records_max).cloned().collect();
        let at_end = from + records.len() == all.len();
        return ReadBatch { records, at_end, closed: false };
    };
    let begin = all.partition_point(|record| record.stamp.position.shard < shard);
    let end = all.partition_point(|record| record.stamp.position.shard <= shard);
    let unread = begin.saturating_sub(from);
    let from = from.max(begin).min(end);
    let records: Vec<_> = all[from..end].iter().take(records_max).cloned().collect();
    let closed = world.disk.lineage(stream).is_closed(shard) && from + records.len() == end;
    // Whatever such a log says about its end is not to be relied on.
    let at_end = world.rng.chance(500);
    if unread > 0 && !records.is_empty() {
        let detail =
            format!("{stream} {partition}: shard {shard} is read, {unread} records before it are not");
        world.ledger.violated("I14", detail);
    }
    ReadBatch { records, at_end, closed }
}

/// The planted bug "dead letter on a transient error": what could not be read is given up as unreadable.
fn spoil(
    world: &Shared,
    stream: Stream,
    partition: PartitionId,
    shard: Option<u32>,
    after: Option<Position>,
    limits: ReadLimits,
) -> ReadBatch {
    let mut batch = batch(&mut world.lock(), stream, partition, shard, after, limits);
    if let Some(first) = batch.records.first_mut() {
        first.payload = vec![0xff; 4].into();
    }
    batch
}

/// The store, as one life of one worker sees it.
pub(super) struct SimStore {
    world: Shared,
    caller: Caller,
    /// The shard that its units lie on.
    shard: u32,
    owned: Mutex<BTreeMap<Unit, Owned>>,
    /// Effects that a planted bug holds back until the state is stored.
    outbox: Mutex<Vec<Record>>,
}

/// What an owner knows of its unit without asking.
#[derive(Clone, Default)]
struct Owned {
    epoch: u64,
    named: Vec<PageKey>,
    /// The last commit that was tried.
    tried: Option<Position>,
}

fn unavailable(_: Unanswered) -> StoreError {
    StoreError::Unavailable("simulated".into())
}

impl SimStore {
    pub(super) fn new(world: Shared, caller: Caller) -> Self {
        Self { world, caller, shard: 0, owned: Mutex::default(), outbox: Mutex::default() }
    }

    /// Returns it as the runners on one shard have it.
    pub(super) fn on_shard(self, shard: u32) -> Self {
        Self { shard, ..self }
    }

    /// Returns the epoch in which a unit is owned here.
    fn epoch(&self, unit: Unit) -> u64 {
        self.owned().get(&unit).map_or(0, |owned| owned.epoch)
    }

    fn outbox(&self) -> MutexGuard<'_, Vec<Record>> {
        self.outbox.lock().expect("a panic ends the run")
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
            let sent = recut(&commit.effects, plan.effects_max);
            effects.extend(sent.chunks(plan.chunk_records).map(|chunk| Write::Append(chunk.to_vec())));
        }
        let page =
            |part| PageKey { unit: commit.unit, epoch: commit.from.epoch, position: commit.position, part };
        let mut pages = Vec::new();
        if owned.named.len() > plan.pages_max {
            // Pages that are gone were left behind by a later owner.
            let merged = self.world.lock().disk.merged(&owned.named).ok_or(StoreError::Fenced)?;
            pages.push(Write::Page(page(u8::MAX), merged));
            owned.named = vec![page(u8::MAX)];
        }
        // Two pages, so that a commit can stop between them.
        let Changes { forget, rows } = &commit.changes;
        if !forget.is_empty() {
            owned.named.push(page(u8::MAX - 1));
            pages.push(Write::Page(page(u8::MAX - 1), Changes { forget: forget.clone(), rows: Vec::new() }));
        }
        for (part, rows) in (0..).zip(rows.chunks(rows.len().div_ceil(2).max(1))) {
            owned.named.push(page(part));
            pages.push(Write::Page(page(part), rows.to_vec().into()));
        }
        let named = owned.named.clone();
        let header = Write::Header { unit: commit.unit, to: commit.to(), named };
        let held_back: Vec<Write> =
            self.outbox().chunks(plan.chunk_records).map(|chunk| Write::Append(chunk.to_vec())).collect();
        let steps: Vec<Write> = if plan.mutant == Some(Mutant::CheckpointBeforeRows) {
            [header].into_iter().chain(effects).chain(pages).collect()
        } else {
            effects.into_iter().chain(pages).chain([header]).chain(held_back).collect()
        };
        let zombie_at = self.world.lock().zombie_at(commit.unit, steps.len());
        for (nth, step) in steps.into_iter().enumerate() {
            if zombie_at == Some(nth) {
                be_paused(&self.world, commit.unit).await;
            }
            if matches!(step, Write::Append(_)) {
                self.world.lock().note_effects(commit.unit, commit.from.epoch);
            }
            if let Done::Refused(found) = self.write(step).await? {
                self.accept_own(commit, found)?;
            }
        }
        self.outbox().clear();
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
}

/// Stops until someone else has taken the unit and done something: the zombie that every seed has. A process of a
/// cluster stops as a whole.
async fn be_paused(world: &Shared, unit: Unit) {
    let (takes, extra, process) = {
        let mut world = world.lock();
        // Two that have the unit must not both fall asleep: nobody would be left to take it.
        if !world.slept.insert(unit) {
            return;
        }
        let takes = world.disk.units().get(&unit).map_or(0, |stored| stored.takes);
        world.note("zombie sleeps", &[takes]);
        let process = world.process();
        let task = world.task();
        world.asleep.extend(process.map(|process| (process, task)));
        (takes, world.rng.between(1, 600), process)
    };
    while world.lock().disk.units()[&unit].takes == takes {
        world.pause(25).await;
    }
    world.pause(extra).await;
    let mut world = world.lock();
    process.map(|process| world.asleep.remove(&process));
    world.ledger.faults.zombies += 1;
    world.note("zombie wakes", &[takes]);
}

impl Store for SimStore {
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>> {
        async move {
            let look = |world: &mut World| world.disk.header(unit).epoch;
            let found = read(&self.world, self.caller, look).await.map_err(unavailable)?;
            match self.write(Write::Take { unit, found, shard: self.shard }).await? {
                Done::Taken(header, named) => {
                    let owned = Owned { epoch: header.epoch, named, tried: None };
                    self.owned().insert(unit, owned);
                    self.world.lock().ledger.faults.take_overs += 1;
                    Ok(header)
                }
                Done::Refused(_) => Err(StoreError::Unavailable("taken at the same time".into())),
                Done::Stamps(_) | Done::Written | Done::Lease(_) => {
                    unreachable!("taking over gives a header")
                }
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
                be_paused(&self.world, commit.unit).await;
            }
            match self.write(Write::Whole(Box::new(commit.clone()))).await? {
                Done::Refused(found) => self.accept_own(commit, found),
                Done::Written | Done::Stamps(_) | Done::Taken(..) | Done::Lease(_) => Ok(()),
            }
        }
        .boxed()
    }
}
