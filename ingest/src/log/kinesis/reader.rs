//! The log of one shard: one poller or subscription fills a bounded buffer per partition, readers empty them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::BoxFuture;
use operators::event::Stamp;
use operators::id::Position;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::records::{self, Room};
use super::shards::Shard;
use super::{Consumer, Kinesis};
use crate::error::{AppendError, ReadError};
use crate::log::{Log, Lost, ReadBatch, ReadLimits, Record, StoredRecord, Stream};
use crate::partition::PartitionId;

mod fan_out;
pub(super) mod poll;

/// Records that one partition may hold in memory before its shard is read no further: a second of 10,000 answers/s.
const LANE_RECORDS_MAX: usize = 10_000;
/// Bytes of the same. One more answer of Kinesis, up to 10 MB, may come on top for the whole shard.
const LANE_BYTES_MAX: usize = 8 << 20;

/// Answers without a record after which a shard that has nothing behind them is taken to be empty.
const EMPTY_MIN: u32 = 2;

/// The records of one shard, for the owner of its lease.
///
/// A read returns what is buffered: `at_end` is as old as the last call to Kinesis. Reads of a partition go forward, each
/// from where the one before ended, or from the same place again. Dropping the log stops its poller.
pub struct ShardLog {
    kinesis: Kinesis,
    buffers: Arc<Buffers>,
    poller: AbortHandle,
}

impl ShardLog {
    pub(super) fn start(
        kinesis: Kinesis,
        stream: Stream,
        shard: &Shard,
        from: &BTreeMap<PartitionId, Option<Position>>,
    ) -> Self {
        let buffers = Arc::new(Buffers::new(&kinesis, stream, shard, from));
        let poller = match &kinesis.options().consumer {
            Consumer::Polling => {
                let poller = poll::Poller::new(kinesis.reading(), kinesis.options(), buffers.clone());
                tokio::spawn(poller.run()).abort_handle()
            }
            Consumer::FanOut { name } => {
                let arn = kinesis.arn(stream).to_owned();
                let reader = fan_out::Subscriber::new(kinesis.reading(), arn, name.clone(), buffers.clone());
                tokio::spawn(reader.run()).abort_handle()
            }
        };
        Self { kinesis, buffers, poller }
    }
}

impl Drop for ShardLog {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

/// Where to begin on a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With its oldest record.
    Oldest,
    /// With this record, which some partition has.
    At(Position),
    /// Behind this record.
    After(Position),
}

/// What was read from a shard and not handed out yet.
pub(super) struct Buffers {
    stream: Stream,
    /// The stream's name at Kinesis.
    pub(super) name: String,
    pub(super) shard: Shard,
    partitions: u16,
    lost: Lost,
    state: Mutex<State>,
    /// Counts changes, for readers that wait.
    changes: watch::Sender<u64>,
    /// Tells the poller that something was taken out.
    room: Notify,
}

#[derive(Default)]
struct State {
    lanes: BTreeMap<PartitionId, Lane>,
    /// It was looked whether the record to begin with is still there.
    is_checked: bool,
    /// Answers without a record before that.
    empty: u32,
    /// The place to begin with leads nowhere.
    from_oldest: bool,
    /// The last record that was read, whatever its partition.
    newest: Option<Position>,
    /// Nothing was behind it.
    at_tip: bool,
    /// Nothing ever will be.
    has_ended: bool,
    /// Why Kinesis cannot be read just now.
    unavailable: Option<String>,
}

#[derive(Default)]
struct Lane {
    records: VecDeque<StoredRecord>,
    bytes: usize,
    /// Everything up to here is not needed any more.
    floor: Option<Position>,
    corrupt: Option<ReadError>,
}

impl Buffers {
    fn new(
        kinesis: &Kinesis,
        stream: Stream,
        shard: &Shard,
        from: &BTreeMap<PartitionId, Option<Position>>,
    ) -> Self {
        let here = from.iter().filter(|(partition, _)| shard.partitions.contains(partition));
        let lanes = here.map(|(&partition, &floor)| (partition, Lane { floor, ..Lane::default() })).collect();
        Self {
            stream,
            name: kinesis.name(stream),
            shard: shard.clone(),
            partitions: kinesis.partitions(),
            lost: kinesis.options().lost,
            state: Mutex::new(State { lanes, ..State::default() }),
            changes: watch::Sender::new(0),
            room: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    /// Returns where to go on reading.
    pub(super) fn next(&self) -> Start {
        let state = self.state();
        if let Some(newest) = state.newest {
            return Start::After(newest);
        }
        if state.from_oldest {
            return Start::Oldest;
        }
        let mut start: Option<Position> = None;
        for lane in state.lanes.values() {
            match lane.floor {
                // The partition has moved on from here already.
                Some(floor) if floor.shard > self.shard.number => {}
                Some(floor) if floor.shard == self.shard.number => {
                    start = Some(start.map_or(floor, |other| other.min(floor)));
                }
                Some(_) | None => return Start::Oldest,
            }
        }
        start.map_or(Start::Oldest, Start::At)
    }

    /// Tells whether a place to begin with may be given up for the oldest record: a person has decided so.
    fn may_start_over(&self) -> bool {
        self.lost == Lost::Skipped && matches!(self.next(), Start::At(_))
    }

    /// Goes on with the oldest record: what readers have had already is passed over.
    fn start_over(&self) {
        self.state().from_oldest = true;
    }

    /// Waits until every partition has room for more.
    pub(super) async fn has_room(&self) {
        loop {
            let is_full =
                |lane: &Lane| lane.records.len() >= LANE_RECORDS_MAX || lane.bytes >= LANE_BYTES_MAX;
            if !self.state().lanes.values().any(is_full) {
                return;
            }
            self.room.notified().await;
        }
    }

    /// Takes in what Kinesis returned; returns the number of its records.
    pub(super) fn take(
        &self,
        found: Vec<aws_sdk_kinesis::types::Record>,
        at_tip: bool,
        has_ended: bool,
    ) -> Result<usize, ReadError> {
        let count = found.len();
        let mut routed = Vec::with_capacity(count);
        for record in found {
            routed.extend(records::routed(record, &self.shard, self.partitions)?);
        }
        let mut state = self.state();
        if !state.is_checked {
            match routed.first() {
                Some((_, first)) => self.check_retention(&mut state, Some(first.stamp.position)),
                // Kinesis answers with nothing now and then although there is something.
                None if has_ended || (at_tip && state.empty >= EMPTY_MIN) => {
                    self.check_retention(&mut state, None);
                }
                None => state.empty += 1,
            }
        }
        let State { lanes, newest, .. } = &mut *state;
        for (partition, record) in routed {
            let position = record.stamp.position;
            // A subscription that begins anew may repeat the last.
            if newest.is_some_and(|newest| position <= newest) {
                continue;
            }
            *newest = Some(position);
            // Nobody reads this partition here.
            let Some(lane) = lanes.get_mut(&partition) else { continue };
            if lane.corrupt.is_none() && lane.floor.is_none_or(|floor| floor < position) {
                lane.bytes += record.payload.len();
                lane.records.push_back(record);
            }
        }
        state.at_tip = at_tip;
        state.has_ended = has_ended;
        state.unavailable = None;
        drop(state);
        metrics::counter!("podium_kinesis_read_records_total", "stream" => self.stream.name())
            .increment(count as u64);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(count)
    }

    /// The shard is read from the first position of its partitions, so the record there comes first, or it is gone, and
    /// with it maybe others that nobody has read.
    fn check_retention(&self, state: &mut State, first: Option<Position>) {
        state.is_checked = true;
        let (name, shard) = (&self.name, &self.shard.id);
        for (partition, lane) in &mut state.lanes {
            let Some(floor) = lane.floor.filter(|floor| floor.shard == self.shard.number) else { continue };
            if first.is_some_and(|first| (floor.shard, floor.sequence) >= (first.shard, first.sequence)) {
                continue;
            }
            match self.lost {
                Lost::Refused => lane.corrupt = Some(records::out_of_retention(name, floor, first)),
                Lost::Skipped => {
                    let oldest = first.map(|first| first.to_string());
                    tracing::warn!(stream = name, shard, %partition, after = %floor, oldest, "what is gone is skipped");
                }
            }
        }
    }

    /// Tells readers why nothing comes.
    pub(super) fn fail(&self, error: ReadError) {
        let mut state = self.state();
        match error {
            ReadError::Unavailable(reason) => {
                if state.unavailable.is_none() {
                    tracing::warn!(shard = self.shard.id, stream = self.name, reason, "shard cannot be read");
                }
                state.unavailable = Some(reason);
            }
            ReadError::Corrupt(_) => {
                for lane in state.lanes.values_mut() {
                    lane.corrupt = Some(error.clone());
                }
            }
        }
        state.at_tip = false;
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn read_now(
        &self,
        partition: PartitionId,
        after: Option<Position>,
        limits: &ReadLimits,
    ) -> Result<ReadBatch, ReadError> {
        let mut state = self.state();
        let State { lanes, at_tip, has_ended, .. } = &mut *state;
        let shard = &self.shard.id;
        let lane = lanes
            .get_mut(&partition)
            .ok_or_else(|| ReadError::Corrupt(format!("partition {partition} is not on {shard}")))?;
        if let Some(error) = &lane.corrupt {
            return Err(error.clone());
        }
        if after < lane.floor {
            let words = format!("partition {partition} of {shard} was read further already");
            return Err(ReadError::Corrupt(words));
        }
        lane.floor = after;
        let mut has_taken = false;
        while let Some(first) = lane.records.front()
            && Some(first.stamp.position) <= after
        {
            lane.bytes -= first.payload.len();
            lane.records.pop_front();
            has_taken = true;
        }
        let mut room = Room::new(limits);
        let records: Vec<_> = lane.records.iter().take_while(|record| room.take(record)).cloned().collect();
        let is_all = records.len() == lane.records.len();
        let batch =
            ReadBatch { records, at_end: is_all && (*at_tip || *has_ended), closed: is_all && *has_ended };
        drop(state);
        if has_taken {
            self.room.notify_one();
        }
        Ok(batch)
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> Result<ReadBatch, ReadError> {
        let until = Instant::now().checked_add(limits.wait);
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let batch = self.read_now(partition, after, &limits)?;
            if !batch.records.is_empty() || batch.closed || limits.wait.is_zero() {
                return Ok(batch);
            }
            let changed = changes.changed();
            let is_over = match until {
                Some(until) => tokio::time::timeout_at(until, changed).await.is_err(),
                None => changed.await.is_err(),
            };
            if is_over {
                let unavailable = self.state().unavailable.clone();
                return unavailable.map_or(Ok(batch), |reason| Err(ReadError::Unavailable(reason)));
            }
        }
    }
}

impl Log for ShardLog {
    fn partitions(&self) -> u16 {
        self.kinesis.partitions()
    }

    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        self.kinesis.append(records)
    }

    fn read<'a>(
        &'a self,
        stream: Stream,
        partition: PartitionId,
        after: Option<Position>,
        limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        if stream != self.buffers.stream {
            let words = format!("this is the log of a shard of {}, not of {stream}", self.buffers.stream);
            return futures::future::ready(Err(ReadError::Corrupt(words))).boxed();
        }
        self.buffers.read(partition, after, limits).boxed()
    }
}
