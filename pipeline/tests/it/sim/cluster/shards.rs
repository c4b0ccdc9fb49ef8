//! The shards of one stream: each carries a run of partitions, until it is split or merged away.

use std::ops::Range;

use ingest::lease::Lease;
use ingest::partition::PartitionId;

use super::super::executor::Rng;

/// One shard.
#[derive(Debug, Clone)]
pub(in super::super) struct Shard {
    number: u32,
    parents: Vec<u32>,
    /// The partitions that lie on it; there may be none.
    partitions: Range<u16>,
    born_ms: u64,
    closed_ms: Option<u64>,
}

/// All shards that a stream ever had, by number.
#[derive(Debug, Clone)]
pub(in super::super) struct Lineage(Vec<Shard>);

/// A shard as the service lists it: as the lease it begins with, and whether it takes no more records.
#[derive(Debug, Clone)]
pub(in super::super) struct Listed {
    pub(in super::super) lease: Lease,
    pub(in super::super) is_closed: bool,
}

/// Returns a shard's id.
fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// Returns the number in a shard's id.
pub(in super::super) fn number(id: &str) -> u32 {
    let digits = id.strip_prefix("shardId-").expect("an id of a shard");
    digits.parse().expect("a number")
}

/// Returns the partitions that lie on the shard of a lease. Hash keys are numbers of partitions here.
pub(in super::super) fn partitions(lease: &Lease) -> impl Iterator<Item = PartitionId> + use<> {
    let [from, to] = [&lease.starting_hash_key, &lease.ending_hash_key].map(|key| {
        let number: u16 = key.parse().expect("a number");
        number
    });
    (from..to).map(PartitionId)
}

impl Lineage {
    /// Returns so many shards that carry about as many partitions each.
    pub(in super::super) fn new(partitions: u16, shards: u16) -> Self {
        let border = |shard: u16| shard * partitions / shards;
        let shard = |number: u16| Shard {
            number: number.into(),
            parents: Vec::new(),
            partitions: border(number)..border(number + 1),
            born_ms: 0,
            closed_ms: None,
        };
        Self((0..shards).map(shard).collect())
    }

    fn open(&self) -> Vec<&Shard> {
        let mut open: Vec<&Shard> = self.0.iter().filter(|shard| shard.closed_ms.is_none()).collect();
        open.sort_by_key(|shard| (shard.partitions.start, shard.partitions.end));
        open
    }

    /// Returns the number of the shard that takes the records of a partition.
    pub(in super::super) fn of(&self, partition: PartitionId) -> u32 {
        let open = self.0.iter().rev().filter(|shard| shard.closed_ms.is_none());
        let mut open = open.filter(|shard| shard.partitions.contains(&partition.0));
        open.next().expect("every partition lies on an open shard").number
    }

    /// Tells whether a shard takes no more records.
    pub(in super::super) fn is_closed(&self, number: u32) -> bool {
        self.0[number as usize].closed_ms.is_some()
    }

    /// Splits a shard or merges two; returns what was closed.
    pub(in super::super) fn reshard(&mut self, now: u64, rng: &mut Rng) -> Vec<u32> {
        let open: Vec<Shard> = self.open().into_iter().cloned().collect();
        let merges = open.len() > 1 && rng.chance(500);
        let (closed, ranges) = if merges {
            let at = rng.below(open.len() as u64 - 1) as usize;
            let [left, right] = [&open[at], &open[at + 1]];
            let merged = left.partitions.start..right.partitions.end;
            (vec![left.number, right.number], Vec::from([merged]))
        } else {
            let Shard { number, partitions: Range { start, end }, .. } =
                open[rng.below(open.len() as u64) as usize].clone();
            // A lone partition stays whole, and leaves one of the two without any.
            let middle =
                if end - start > 1 { rng.between((start + 1).into(), (end - 1).into()) as u16 } else { end };
            (vec![number], vec![start..middle, middle..end])
        };
        for number in &closed {
            self.0[*number as usize].closed_ms = Some(now);
        }
        for partitions in ranges {
            let number = self.0.len() as u32;
            let parents = closed.clone();
            self.0.push(Shard { number, parents, partitions, born_ms: now, closed_ms: None });
        }
        closed
    }

    /// Returns the shards as they were at some time.
    pub(in super::super) fn list(&self, at_ms: u64) -> Vec<Listed> {
        let born = self.0.iter().filter(|shard| shard.born_ms <= at_ms);
        born.map(|shard| {
            let parents = shard.parents.iter().map(|parent| id(*parent));
            let Range { start, end } = &shard.partitions;
            Listed {
                lease: Lease::of_shard(id(shard.number), parents, start.to_string(), end.to_string()),
                is_closed: shard.closed_ms.is_some_and(|closed_ms| closed_ms <= at_ms),
            }
        })
        .collect()
    }
}
