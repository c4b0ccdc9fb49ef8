//! What survives every crash: the streams, and per unit a header that names the pages of its state.
//!
//! Nothing here waits or fails. A write is plain data, so that it can be carried out late, twice or in part.

use std::collections::{BTreeMap, BTreeSet};

use ingest::lease::Lease;
use ingest::log::{Record, StoredRecord, Stream};
use ingest::partition::PartitionId;
use operators::event::Stamp;
use operators::id::{Position, UnixMillis};
use pipeline::store::{Change, Changes, Commit, Header, Row, Stage, Unit};

use super::cluster::leases::{Items, Op};
use super::cluster::shards::Lineage;
use super::executor::Rng;
use super::ledger::Ledger;
use super::mutants::Mutant;
use super::plan::Plan;
use super::world::EPOCH_MS;

/// All rows of a unit.
pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Names a page: nobody else ever writes under the epoch of its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PageKey {
    pub(super) unit: Unit,
    pub(super) epoch: u64,
    pub(super) position: Position,
    pub(super) part: u8,
}

/// One step of a write, carried out whole or not at all.
#[derive(Debug, Clone)]
pub(super) enum Write {
    /// Records to the end of their partitions.
    Append(Vec<Record>),
    /// An immutable page, which means nothing until a header names it.
    Page(PageKey, Changes),
    /// The conditional write that moves a unit on.
    Header { unit: Unit, to: Header, named: Vec<PageKey> },
    /// A whole commit at once, as the embedded store does it.
    Whole(Box<Commit>),
    /// The conditional write that takes a unit over, on a shard of this number.
    Take { unit: Unit, found: u64, shard: u32 },
    /// A conditional write of a lease.
    Lease(Stage, Box<Op>),
    /// How far a worker is.
    Beat(Stage, String, Vec<u8>),
}

/// What came of a write.
#[derive(Debug, Clone)]
pub(super) enum Done {
    Stamps(Vec<Stamp>),
    Written,
    /// The condition did not hold: this is there instead.
    Refused(Header),
    /// Taken, with the pages that the header names.
    Taken(Header, Vec<PageKey>),
    /// The lease, if it is as the writer wants it.
    Lease(Option<Box<Lease>>),
}

/// What the store holds of one unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub(super) header: Header,
    pub(super) named: Vec<PageKey>,
    /// The named pages put together.
    pub(super) rows: Rows,
    /// How often it was taken over.
    pub(super) takes: u64,
    /// Pages that compaction has left behind, to be removed when the header moves on.
    left: Vec<PageKey>,
}

/// A state as it was stored at some time.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) unit: Unit,
    pub(super) position: Position,
    pub(super) rows: Rows,
}

/// Kept to be replayed from at the end of a run, which is the dearest of the checks.
const SNAPSHOTS_MAX: usize = 3;

/// The disks.
pub(super) struct Disk {
    streams: BTreeMap<(Stream, PartitionId), Vec<StoredRecord>>,
    skews_ms: Vec<i64>,
    units: BTreeMap<Unit, Stored>,
    pages: BTreeMap<PageKey, Changes>,
    lineages: BTreeMap<Stream, Lineage>,
    /// Milliseconds by which the append times of one partition may go back.
    jitter_ms: u64,
    mutant: Option<Mutant>,
    /// Leases and beats.
    pub(super) items: Items,
    /// States that were stored at some time.
    pub(super) snapshots: Vec<Snapshot>,
}

impl Write {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::Page(..) => "page",
            Self::Header { .. } => "header",
            Self::Whole(_) => "whole commit",
            Self::Take { .. } => "take over",
            Self::Lease(..) => "lease",
            Self::Beat(..) => "beat",
        }
    }

    /// Returns the partitions that it appends to.
    pub(super) fn touches(&self) -> BTreeSet<(Stream, PartitionId)> {
        let records = match self {
            Self::Append(records) => records,
            Self::Whole(commit) => &commit.effects,
            Self::Page(..) | Self::Header { .. } | Self::Take { .. } | Self::Lease(..) | Self::Beat(..) => {
                return BTreeSet::new();
            }
        };
        records.iter().map(|record| (record.stream, record.partition)).collect()
    }

    /// Returns it without the records of some partitions, as when a part of a call fails.
    pub(super) fn part(&self, bits: u64) -> Self {
        let Self::Append(records) = self else { return self.clone() };
        let kept = |r: &&Record| bits >> (u64::from(r.partition.0) * 4 + r.stream as u64) & 1 == 1;
        Self::Append(records.iter().filter(kept).cloned().collect())
    }
}

/// Returns a position as one number, for traces.
pub(super) fn number(position: Position) -> u64 {
    u64::from(position.shard) << 32 | position.sequence[2]
}

impl Done {
    pub(super) fn digest(&self) -> u64 {
        let position = |header: &Header| header.position.map_or(0, number);
        match self {
            Self::Stamps(stamps) => stamps.iter().fold(1, |sum, stamp| {
                sum ^ number(stamp.position).wrapping_mul(31).wrapping_add(stamp.append_at.0)
            }),
            Self::Written => 2,
            Self::Lease(lease) => lease.as_ref().map_or(3, |lease| lease.epoch << 32 | lease.counter),
            Self::Refused(header) | Self::Taken(header, _) => header.epoch << 32 | position(header),
        }
    }
}

impl Disk {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            streams: BTreeMap::new(),
            skews_ms: plan.log_skews_ms.clone(),
            units: BTreeMap::new(),
            pages: BTreeMap::new(),
            lineages: plan.lineages(),
            jitter_ms: plan.cluster.jitter_ms,
            mutant: plan.mutant,
            items: Items::default(),
            snapshots: Vec::new(),
        }
    }

    /// Returns the shards of a stream of a cluster.
    pub(super) fn lineage(&self, stream: Stream) -> &Lineage {
        &self.lineages[&stream]
    }

    /// Splits or merges shards of a stream; returns what was closed.
    pub(super) fn reshard(&mut self, stream: Stream, now: u64, rng: &mut Rng) -> Vec<u32> {
        let lineage = self.lineages.get_mut(&stream);
        lineage.expect("a stream of a cluster").reshard(now, rng)
    }

    /// Returns all records of a partition.
    pub(super) fn stream(&self, stream: Stream, partition: PartitionId) -> &[StoredRecord] {
        self.streams.get(&(stream, partition)).map_or(&[], Vec::as_slice)
    }

    /// Returns all partitions with their records.
    pub(super) fn streams(&self) -> impl Iterator<Item = (Stream, PartitionId, &StoredRecord)> {
        self.streams.iter().flat_map(|((stream, partition), records)| {
            records.iter().map(move |record| (*stream, *partition, record))
        })
    }

    /// Returns what is stored of a unit.
    pub(super) fn unit(&self, unit: Unit) -> Stored {
        self.units.get(&unit).cloned().unwrap_or_default()
    }

    /// Returns the header of a unit.
    pub(super) fn header(&self, unit: Unit) -> Header {
        self.units.get(&unit).map(|stored| stored.header).unwrap_or_default()
    }

    /// Returns all units with their rows.
    pub(super) fn units(&self) -> &BTreeMap<Unit, Stored> {
        &self.units
    }

    /// Returns one row of a unit.
    pub(super) fn row(&self, unit: Unit, key: &[u8]) -> Option<Vec<u8>> {
        self.units.get(&unit)?.rows.get(key).cloned()
    }

    /// Returns rows in key order.
    pub(super) fn scan(&self, unit: Unit, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let Some(stored) = self.units.get(&unit) else { return Vec::new() };
        let from = after.map_or(prefix, |after| after.max(prefix));
        let rows = stored.rows.range(from.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let rows = rows.filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
        rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(super) fn perform(&mut self, now: u64, write: &Write, rng: &mut Rng, ledger: &mut Ledger) -> Done {
        match write {
            Write::Append(records) => Done::Stamps(self.append(now, records, rng)),
            Write::Page(key, changes) => {
                if self.pages.get(key).is_some_and(|there| there != changes) {
                    ledger.violated("I5", format!("page {key:?} was written twice with different rows"));
                }
                self.pages.insert(*key, changes.clone());
                Done::Written
            }
            Write::Header { unit, to, named } => {
                let found = self.header(*unit);
                let fits = self.mutant == Some(Mutant::NoEpochOnCheckpoint) || found.epoch == to.epoch;
                if !fits || to.position <= found.position {
                    return Done::Refused(found);
                }
                self.name(*unit, named, ledger);
                self.move_header(*unit, *to, rng, ledger);
                Done::Written
            }
            Write::Whole(commit) => self.whole(now, commit, rng, ledger),
            Write::Take { unit, found, shard } => self.take(*unit, *found, *shard, ledger),
            Write::Lease(stage, op) => Done::Lease(self.items.perform(*stage, op).map(Box::new)),
            Write::Beat(stage, worker, beat) => {
                self.items.beat(*stage, worker, beat);
                Done::Written
            }
        }
    }

    fn take(&mut self, unit: Unit, found: u64, shard: u32, ledger: &mut Ledger) -> Done {
        let stored = self.units.entry(unit).or_default();
        if stored.header.epoch != found {
            return Done::Refused(stored.header);
        }
        stored.takes += 1;
        if self.mutant != Some(Mutant::LeaseWithoutFence) || found == 0 {
            stored.header.epoch += 1;
        }
        let is_handed_over = stored.header.position.is_some_and(|position| position.shard < shard);
        if self.mutant == Some(Mutant::NoHandOver) && is_handed_over {
            stored.named.clear();
            stored.rows.clear();
        }
        ledger.header(unit, stored.header);
        Done::Taken(stored.header, stored.named.clone())
    }

    fn append(&mut self, now: u64, records: &[Record], rng: &mut Rng) -> Vec<Stamp> {
        assert!(records.len() <= ingest::limits::BATCH_RECORDS_MAX, "an append call is bounded");
        let mut stamps = Vec::with_capacity(records.len());
        for record in records {
            let partition = self.streams.entry((record.stream, record.partition)).or_default();
            let skew_ms = self.skews_ms[usize::from(record.partition.0)];
            let clock = UnixMillis((EPOCH_MS + now).saturating_add_signed(skew_ms));
            let last = partition.last().map(|last| last.stamp);
            let shard = self.lineages.get(&record.stream).map_or(0, |lineage| lineage.of(record.partition));
            let before = last.filter(|last| last.position.shard == shard);
            // Positions have gaps, as sequence numbers do. A new shard may begin anywhere.
            let offset = before.map_or(0, |before| before.position.sequence[2]) + 1 + rng.below(3);
            let append_at = if self.jitter_ms > 0 {
                UnixMillis(clock.0 - rng.below(self.jitter_ms))
            } else {
                last.map_or(clock, |last| last.append_at.max(clock))
            };
            let stamp = Stamp { position: Position { shard, ..Position::from_offset(offset) }, append_at };
            partition.push(StoredRecord { stamp, payload: record.payload.clone() });
            stamps.push(stamp);
        }
        stamps
    }

    fn whole(&mut self, now: u64, commit: &Commit, rng: &mut Rng, ledger: &mut Ledger) -> Done {
        let found = self.header(commit.unit);
        let to = commit.to();
        if found == to {
            return Done::Written;
        }
        if found != commit.from {
            return Done::Refused(found);
        }
        for records in commit.effects.chunks(ingest::limits::BATCH_RECORDS_MAX) {
            self.append(now, records, rng);
        }
        self.show(commit.unit, &commit.changes, ledger);
        self.move_header(commit.unit, to, rng, ledger);
        Done::Written
    }

    /// Names other pages; what they hold is what readers see from here on.
    fn name(&mut self, unit: Unit, named: &[PageKey], ledger: &mut Ledger) {
        let stored = self.units.entry(unit).or_default();
        for page in std::mem::take(&mut stored.left) {
            self.pages.remove(&page);
        }
        let fresh = named.strip_prefix(stored.named.as_slice());
        if fresh.is_none() {
            // Other pages than before: what is there has to be put together anew.
            stored.rows.clear();
            stored.left = stored.named.iter().filter(|page| !named.contains(page)).copied().collect();
        }
        let fresh = fresh.unwrap_or(named).to_vec();
        stored.named = named.to_vec();
        for key in fresh {
            // A page that is not there can only be a planted bug's.
            let changes = self.pages.get(&key).cloned().unwrap_or_default();
            self.show(unit, &changes, ledger);
        }
    }

    fn show(&mut self, unit: Unit, changes: &Changes, ledger: &mut Ledger) {
        let stored = self.units.entry(unit).or_default();
        for prefix in &changes.forget {
            stored.rows.retain(|key, _| !key.starts_with(prefix));
        }
        for (row, value) in &changes.rows {
            ledger.row(unit, row, value.as_deref());
            match value {
                Some(value) => stored.rows.insert(row.clone(), value.clone()),
                None => stored.rows.remove(row),
            };
        }
    }

    /// Returns some pages put together as one, as compaction writes it; `None` if one is not there any more.
    pub(super) fn merged(&self, named: &[PageKey]) -> Option<Changes> {
        let mut rows = BTreeMap::new();
        for key in named {
            let Changes { forget, rows: changed } = self.pages.get(key).or(self.lost_page())?;
            for prefix in forget {
                rows.retain(|key: &Vec<u8>, _| !key.starts_with(prefix));
            }
            rows.extend(changed.iter().cloned());
        }
        Some(rows.into_iter().filter(|(_, value)| value.is_some()).collect::<Vec<_>>().into())
    }

    /// Returns what stands for a page that a planted bug never wrote.
    fn lost_page(&self) -> Option<&Changes> {
        const NOTHING: &Changes = &Changes { forget: Vec::new(), rows: Vec::new() };
        (self.mutant == Some(Mutant::CheckpointBeforeRows)).then_some(NOTHING)
    }

    /// Returns what changed from one state to a later one; `None` if it has been compacted since.
    ///
    /// # Errors
    /// The later state is not there any more.
    pub(super) fn changes(&self, from: &[PageKey], to: &[PageKey]) -> Result<Option<Vec<Change>>, ()> {
        let Some(fresh) = to.strip_prefix(from) else { return Ok(None) };
        let mut changes = Vec::new();
        for page in fresh {
            changes.extend(self.pages.get(page).or(self.lost_page()).ok_or(())?.rows.iter().cloned());
        }
        Ok(Some(changes))
    }

    /// Returns rows of one state in key order; `None` if it is not there any more.
    pub(super) fn scan_at(
        &self,
        unit: Unit,
        named: &[PageKey],
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Option<Vec<Row>> {
        if self.units.get(&unit).is_some_and(|stored| stored.named == named) {
            return Some(self.scan(unit, prefix, after, limit));
        }
        let rows = self.merged(named)?.rows.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let rows = rows.filter(|(key, _)| key.starts_with(prefix));
        Some(rows.filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after)).take(limit).collect())
    }

    fn move_header(&mut self, unit: Unit, to: Header, rng: &mut Rng, ledger: &mut Ledger) {
        let stored = self.units.entry(unit).or_default();
        stored.header = to;
        ledger.header(unit, to);
        let Some(position) = to.position.filter(|_| rng.chance(40)) else { return };
        let snapshot = Snapshot { unit, position, rows: stored.rows.clone() };
        if self.snapshots.len() < SNAPSHOTS_MAX {
            self.snapshots.push(snapshot);
        } else {
            let place = rng.below(SNAPSHOTS_MAX as u64) as usize;
            self.snapshots[place] = snapshot;
        }
    }
}
