//! Reading one partition across its chain of shards, one call to Kinesis after the other, for tools and tests.

use std::sync::Arc;
use std::time::Duration;

use operators::id::Position;
use tokio::time::Instant;

use super::reader::Start;
use super::reader::poll::{self, Refusal};
use super::records::{self, ANSWER_RECORDS_MAX, Backoff, Room};
use super::shards::Shard;
use super::{Kinesis, Stream};
use crate::error::ReadError;
use crate::log::{ReadBatch, ReadLimits, StoredRecord};
use crate::partition::PartitionId;

/// One read under way.
pub(super) struct Walk<'a> {
    log: &'a Kinesis,
    stream: Stream,
    partition: PartitionId,
    after: Option<Position>,
    until: Option<Instant>,
    wait: Duration,
    room: Room,
    records: Vec<StoredRecord>,
    /// A record did not fit any more.
    is_full: bool,
}

/// How the walk over one shard ended.
enum Walked {
    /// Nothing is behind what was read.
    Tip,
    /// No more fits.
    Full,
    /// The partition goes on on another shard.
    Ended,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        log: &'a Kinesis,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> Self {
        let until = Instant::now().checked_add(limits.wait);
        let (room, records) = (Room::new(&limits), Vec::new());
        Self { log, stream, partition, after, until, wait: limits.wait, room, records, is_full: false }
    }

    fn is_over(&self) -> bool {
        self.wait.is_zero() || self.until.is_some_and(|until| until <= Instant::now())
    }

    pub(super) async fn read(mut self) -> Result<ReadBatch, ReadError> {
        if self.partition.0 >= self.log.inner.partitions {
            return Err(ReadError::Corrupt(format!("{} has no partition {}", self.stream, self.partition)));
        }
        let mut shard = self.first().await?;
        loop {
            match self.walk(&shard).await? {
                Walked::Tip => return Ok(self.batch(true)),
                Walked::Full => return Ok(self.batch(false)),
                Walked::Ended => {}
            }
            match self.next(&shard).await? {
                Some(next) => shard = next,
                // The children are listed in a moment.
                None if self.is_over() || !self.records.is_empty() => return Ok(self.batch(false)),
                None => tokio::time::sleep(self.log.options().poll).await,
            }
        }
    }

    fn batch(self, at_end: bool) -> ReadBatch {
        ReadBatch { records: self.records, at_end, closed: false }
    }

    /// Returns the shard to begin with.
    async fn first(&self) -> Result<Shard, ReadError> {
        let found = |shards: &[Shard]| {
            let mut chain = shards.iter().filter(|shard| shard.partitions.contains(&self.partition));
            chain.find(|shard| self.after.is_none_or(|after| shard.number == after.shard)).cloned()
        };
        if let Some(shard) = self.seen().and_then(|seen| found(&seen)) {
            return Ok(shard);
        }
        let shards = self.look().await?;
        found(&shards).ok_or_else(|| {
            let name = self.log.name(self.stream);
            match self.after {
                None => ReadError::Unavailable(format!("{name} has no shard for {}", self.partition)),
                Some(after) => ReadError::Corrupt(format!(
                    "no shard of {name} that is still there has the position {after}: it is of another stream, or past the \
                     retention"
                )),
            }
        })
    }

    /// Returns the shard on which the partition goes on, if there is one yet.
    async fn next(&self, shard: &Shard) -> Result<Option<Shard>, ReadError> {
        match self.seen().and_then(|seen| self.find_next(shard, &seen)) {
            Some(next) => Ok(Some(next)),
            None => Ok(self.find_next(shard, &self.look().await?)),
        }
    }

    fn find_next(&self, shard: &Shard, shards: &[Shard]) -> Option<Shard> {
        let mut chain = shards.iter().filter(|shard| shard.partitions.contains(&self.partition));
        chain.find(|next| next.number > shard.number).cloned()
    }

    fn seen(&self) -> Option<Arc<Vec<Shard>>> {
        let seen = self.log.inner.seen.lock().expect("nothing panics while it holds the lock");
        seen.get(&self.stream).cloned()
    }

    async fn look(&self) -> Result<Arc<Vec<Shard>>, ReadError> {
        let shards = Arc::new(self.log.shards(self.stream).await?);
        let mut seen = self.log.inner.seen.lock().expect("nothing panics while it holds the lock");
        seen.insert(self.stream, shards.clone());
        Ok(shards)
    }

    async fn walk(&mut self, shard: &Shard) -> Result<Walked, ReadError> {
        let name = self.log.name(self.stream);
        let client = self.log.reading();
        let begin = self.after.filter(|after| after.shard == shard.number);
        let mut place = begin.map_or(Start::Oldest, Start::At);
        let mut iterator: Option<String> = None;
        let mut backoff = Backoff::default();
        loop {
            self.log.pace(self.stream, shard.number).await;
            let got = match iterator.take() {
                Some(iterator) => poll::get(&client, iterator).await,
                None => match poll::iterator(&client, &name, &shard.id, place).await {
                    Ok(iterator) => poll::get(&client, iterator).await,
                    Err(refusal) => Err(refusal),
                },
            };
            let answer = match got {
                Ok(answer) => answer,
                Err(Refusal::Expired) => continue,
                Err(Refusal::Throttled { .. }) if self.is_over() => {
                    return Err(ReadError::Unavailable("the shard is read by too many".into()));
                }
                Err(Refusal::Throttled { iterator: same }) => {
                    iterator = same;
                    backoff.pause().await;
                    continue;
                }
                Err(Refusal::Failed(error)) => return Err(error),
            };
            let is_behind = answer.millis_behind_latest().unwrap_or_default() > 0
                || answer.records().len() >= ANSWER_RECORDS_MAX;
            iterator = answer.next_shard_iterator;
            for record in answer.records {
                for (partition, record) in records::routed(record, shard, self.log.inner.partitions)? {
                    let position = record.stamp.position;
                    if let (Start::At(at), Some(begin)) = (place, begin)
                        && at.sequence < position.sequence
                    {
                        return Err(records::out_of_retention(&name, begin, Some(position)));
                    }
                    place = Start::After(position);
                    self.take(partition, record);
                }
            }
            match (&iterator, is_behind) {
                _ if self.is_full => return Ok(Walked::Full),
                (None, _) => return Ok(Walked::Ended),
                (Some(_), true) => {}
                (Some(_), false) if self.is_over() || !self.records.is_empty() => {
                    // A shard that has children tells its end with the next answer only.
                    if self.find_next(shard, &self.look().await?).is_none() {
                        return Ok(Walked::Tip);
                    }
                }
                (Some(_), false) => tokio::time::sleep(self.log.options().poll).await,
            }
        }
    }

    fn take(&mut self, partition: PartitionId, record: StoredRecord) {
        let is_new = self.after.is_none_or(|after| after < record.stamp.position);
        if partition != self.partition || !is_new || self.is_full {
            return;
        }
        if self.room.take(&record) {
            self.records.push(record);
        } else {
            self.is_full = true;
        }
    }
}
