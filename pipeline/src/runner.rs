//! The runner: load, apply, commit, over and over, for one stage of one partition.
//!
//! Load does all the input, apply is pure, commit does all the output. A crash anywhere replays from the header's
//! position, makes the same effects with the same identities, and readers drop what they have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::codec::{self, DecodeError, Pulse};
use ingest::error::{AppendError, ReadError};
use ingest::log::{Log, ReadBatch, ReadLimits, Record, StoredRecord, Stream};
use operators::event::Stamp;
use operators::id::UnixMillis;

use crate::stage::{Armed, Operator};
use crate::store::{Changes, Commit, Header, Store, StoreError, Unit, scan_all};

pub mod cache;
pub mod clock;
mod error;
mod fire;
pub mod progress;
mod retry;
mod settings;

use cache::{Cache, Shared, read, write};
use clock::Clock;
pub use error::RunError;
use progress::Progress;
use retry::Retry;
pub use settings::Settings;

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Records read.
    pub records: usize,
    /// Events applied, which they hold.
    pub events: usize,
    /// The end of the partition was seen.
    pub at_end: bool,
    /// Nothing will ever come here again: everything is stored, and the runner is done.
    pub closed: bool,
}

/// Why a runner ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Nothing will ever come here again, and everything is stored.
    Closed,
}

/// Everything that a runner works with; several runners share one.
pub struct Parts<O: Operator> {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The states.
    pub cache: Arc<Cache<O>>,
    /// How far the stages are.
    pub progress: Arc<dyn Progress>,
    /// Bounds.
    pub settings: Settings,
}

impl<O: Operator> Clone for Parts<O> {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            cache: self.cache.clone(),
            progress: self.progress.clone(),
            settings: self.settings,
        }
    }
}

/// One stage of one partition, owned.
pub struct Runner<O: Operator> {
    parts: Parts<O>,
    operator: Arc<O>,
    unit: Unit,
    /// Where the stored state stands.
    header: Header,
    /// Where the states in memory stand.
    applied: Header,
    unstored: Unstored<O>,
    timers: BTreeMap<O::Key, Timer>,
}

/// What was applied, with its effects sent, and is not stored yet.
struct Unstored<O: Operator> {
    /// Held, so that no cache drops them.
    states: BTreeMap<O::Key, Shared<O::State>>,
    pulses: Vec<Pulse>,
    events: usize,
    /// When the first of it was applied.
    since: Option<UnixMillis>,
}

impl<O: Operator> Default for Unstored<O> {
    fn default() -> Self {
        Self { states: BTreeMap::new(), pulses: Vec::new(), events: 0, since: None }
    }
}

/// Records that a state wants appended, and when to try.
struct Timer {
    wanted: Vec<(UnixMillis, Record)>,
    next: UnixMillis,
}

/// The records of one step, decoded.
struct Decoded<O: Operator> {
    events: Vec<(Stamp, O::Key, O::Event)>,
    pulses: Vec<(Stamp, Pulse)>,
    dead: Vec<Record>,
    last: Option<Stamp>,
    newer: Option<u32>,
}

/// Events applied before they are stored at the latest, whatever the interval: bounds the memory of what is not.
const UNSTORED_EVENTS_MAX: usize = 50_000;
/// Payload bytes of effects sent at once, unless a single one is larger: half of what a shard takes a second, since all of
/// it is sent again when it does not get through in time.
const SEND_BYTES_MAX: usize = 512 << 10;
/// Pulses alone change nothing worth storing, but where they were read is noted this often.
const IDLE_CHECKPOINT: Duration = Duration::from_mins(1);

impl<O: Operator> Runner<O> {
    /// Takes the partition over: from here on no earlier owner can commit.
    ///
    /// # Errors
    /// `Corrupt`; an unanswered call is made again.
    pub async fn acquire(parts: Parts<O>, unit: Unit) -> Result<Self, RunError> {
        let operator = parts.cache.operator().clone();
        let mut retry = Retry::new(unit, "acquire");
        let header = loop {
            match parts.store.acquire(unit).await {
                Ok(header) => break header,
                Err(StoreError::Unavailable(reason)) => retry.pause(&*parts.clock, &reason).await,
                Err(error) => return Err(error.into()),
            }
        };
        let unstored = Unstored::default();
        let mut runner =
            Self { parts, operator, unit, header, applied: header, unstored, timers: BTreeMap::new() };
        runner.arm().await?;
        Ok(runner)
    }

    /// Returns the runner reading another log from here on, which goes on where this one stands.
    pub fn reading(mut self, log: Arc<dyn Log>) -> Self {
        self.parts.log = log;
        self
    }

    /// Returns what it runs.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Returns where the stored state stands.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Loads the states that want a record appended, so that a close survives the owner that saw it.
    async fn arm(&mut self) -> Result<(), RunError> {
        let Some(prefix) = self.operator.timer_prefix() else { return Ok(()) };
        let mut retry = Retry::new(self.unit, "scan");
        let rows = loop {
            match scan_all(&*self.parts.store, self.unit, Some(self.header.epoch), &prefix).await {
                Ok(rows) => break rows,
                Err(StoreError::Unavailable(reason)) => retry.pause(&*self.parts.clock, &reason).await,
                Err(error) => return Err(error.into()),
            }
        };
        for (key, armed) in self.operator.armed(&rows) {
            match armed {
                Armed::Load => {
                    let state = self.load(&key).await?;
                    self.set_timer(&key, &state);
                }
                Armed::Wanted(wanted) => self.set_wanted(&key, wanted),
            }
        }
        Ok(())
    }

    /// Runs one step: reads what is there, or waits a little for it.
    ///
    /// # Errors
    /// [`RunError`]; the runner is of no more use then, and neither is its cache.
    pub async fn step(&mut self) -> Result<Step, RunError> {
        let began = self.parts.progress.begin(self.unit, self.parts.clock.now(), self.applied.position);
        let batch = match self.read().await {
            Ok(batch) => batch,
            Err(ReadError::Unavailable(_)) => {
                // What was read before is stored when its time has come, whatever becomes of the log.
                if self.is_due() {
                    self.checkpoint().await?;
                }
                self.parts.clock.sleep(retry::FIRST).await;
                return Ok(Step { records: 0, events: 0, at_end: false, closed: false });
            }
            Err(ReadError::Corrupt(reason)) => return Err(RunError::Corrupt(reason)),
        };
        let ReadBatch { records, at_end, closed } = batch;
        let read = records.len();
        let decoded = self.decode(records);
        let step = Step { records: read, events: decoded.events.len(), at_end, closed };
        let newer = decoded.newer;
        let last = decoded.last;
        let pulses = self.carry_out(decoded).await?;
        if newer.is_some() || step.closed || self.is_due() {
            self.checkpoint().await?;
        }
        if let Some(needed) = newer {
            return Err(RunError::NewerReader { after: self.header.position, needed });
        }
        self.fire().await?;
        self.parts.progress.end(self.unit, began, last.map(|stamp| stamp.append_at), step.at_end);
        self.parts.progress.sent(self.unit, &pulses);
        Ok(step)
    }

    /// Load, apply, and send what came of it; with an interval the state is stored later.
    async fn carry_out(&mut self, decoded: Decoded<O>) -> Result<Vec<(Stamp, Pulse)>, RunError> {
        let Some(last) = decoded.last else { return Ok(Vec::new()) };
        let mut states: BTreeMap<O::Key, Shared<O::State>> = BTreeMap::new();
        for (_, key, _) in &decoded.events {
            if !states.contains_key(key) {
                states.insert(key.clone(), self.load(key).await?);
            }
        }

        let mut outputs = Vec::with_capacity(decoded.events.len());
        for (stamp, key, event) in &decoded.events {
            let state = states.get(key).expect("every key of the batch was loaded");
            self.operator.apply(&mut write(state), event, *stamp, &mut outputs);
        }
        let mut effects = decoded.dead;
        effects.extend(self.operator.records(outputs));
        for (key, state) in &states {
            self.set_timer(key, state);
        }
        self.unstored.since.get_or_insert(self.parts.clock.now());
        self.unstored.events += decoded.events.len();
        self.unstored.pulses.extend(decoded.pulses.iter().map(|(_, pulse)| pulse.clone()));
        self.unstored.states.extend(states);
        self.applied.position = Some(last.position);
        self.applied.append_at = last.append_at;
        if self.parts.settings.checkpoint.is_zero() {
            self.store(effects).await?;
        } else {
            self.send(effects).await?;
            if self.unstored.states.is_empty() {
                // Nothing else waits to be stored, so the views are as these pulses say already.
                let pulses = std::mem::take(&mut self.unstored.pulses);
                self.parts.progress.stored(self.unit, self.header, &pulses);
            }
        }
        Ok(decoded.pulses)
    }

    /// Tells whether what was applied is to be stored now.
    fn is_due(&self) -> bool {
        let Unstored { states, events, since, .. } = &self.unstored;
        let Some(since) = since else { return false };
        let interval = if states.is_empty() { IDLE_CHECKPOINT } else { self.parts.settings.checkpoint };
        let now = self.parts.clock.now();
        // A clock that was set back says nothing about the age.
        let is_old = now < *since || u128::from(now.since(*since)) >= interval.as_millis();
        *events >= UNSTORED_EVENTS_MAX || is_old
    }

    /// Stores everything that was applied and is not stored yet.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn checkpoint(&mut self) -> Result<(), RunError> {
        self.store(Vec::new()).await
    }

    async fn store(&mut self, effects: Vec<Record>) -> Result<(), RunError> {
        let unstored = std::mem::take(&mut self.unstored);
        let Some(position) = self.applied.position.filter(|_| self.applied != self.header) else {
            return Ok(());
        };
        let mut changes = Changes::default();
        let mut weights = Vec::with_capacity(unstored.states.len());
        for (key, state) in &unstored.states {
            self.operator.rows(key, &mut write(state), &mut changes);
            weights.push((key.clone(), self.operator.weight(&read(state))));
        }
        let append_at = self.applied.append_at;
        let commit = Commit { unit: self.unit, from: self.header, position, append_at, effects, changes };
        self.commit(&commit).await?;
        self.header = commit.to();
        self.applied = self.header;
        drop(unstored.states);
        self.parts.cache.settle(&weights);
        let keys: Vec<O::Key> = weights.into_iter().map(|(key, _)| key).collect();
        self.operator.committed(&keys);
        self.parts.progress.stored(self.unit, self.header, &unstored.pulses);
        Ok(())
    }

    /// Appends effects in order, however often it takes: readers drop the repeats.
    async fn send(&self, effects: Vec<Record>) -> Result<(), RunError> {
        let mut effects = effects.into_iter().peekable();
        while effects.peek().is_some() {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while chunk.len() < ingest::limits::BATCH_RECORDS_MAX
                && let Some(next) =
                    effects.next_if(|next| bytes == 0 || bytes + next.payload.len() <= SEND_BYTES_MAX)
            {
                bytes += next.payload.len();
                chunk.push(next);
            }
            let mut retry = Retry::new(self.unit, "append");
            loop {
                match self.parts.log.append(chunk.clone()).await {
                    Ok(_) => break,
                    Err(error @ (AppendError::Overloaded { .. } | AppendError::Unavailable(_))) => {
                        retry.pause(&*self.parts.clock, &error).await;
                    }
                    Err(AppendError::Invalid { reason, .. } | AppendError::Corrupt(reason)) => {
                        return Err(RunError::Corrupt(reason));
                    }
                }
            }
        }
        Ok(())
    }

    async fn read(&self) -> Result<ReadBatch, ReadError> {
        let Settings { records_max, bytes_max, wait, .. } = self.parts.settings;
        let now = self.parts.clock.now();
        let due = self.timers.values().map(|timer| timer.next.since(now)).min();
        let wait =
            if self.unstored.states.is_empty() { wait } else { wait.min(self.parts.settings.checkpoint) };
        let wait = due.map_or(wait, |ms| wait.min(Duration::from_millis(ms)));
        let limits = ReadLimits { records_max, bytes_max, wait };
        self.parts.log.read(self.unit.stage.input(), self.unit.partition, self.applied.position, limits).await
    }

    /// Decodes up to the first record that needs a newer reader; what can never be decoded becomes a dead letter.
    fn decode(&self, records: Vec<StoredRecord>) -> Decoded<O> {
        let events = Vec::with_capacity(records.len());
        let mut decoded = Decoded { events, pulses: Vec::new(), dead: Vec::new(), last: None, newer: None };
        let mut append_at = self.applied.append_at;
        for record in records {
            let position = record.stamp.position;
            append_at = append_at.max(record.stamp.append_at);
            let stamp = Stamp { append_at, position };
            match self.operator.decode(&record.payload) {
                Ok(codec::Decoded::Event(events)) => {
                    decoded.events.extend(events.into_iter().map(|(key, event)| (stamp, key, event)));
                }
                Ok(codec::Decoded::Pulse(pulse)) => decoded.pulses.push((stamp, pulse)),
                Err(DecodeError::NewerReader { needed }) => {
                    decoded.newer = Some(needed);
                    return decoded;
                }
                Err(error @ DecodeError::Malformed(_)) => {
                    let (input, partition) = (self.unit.stage.input(), self.unit.partition);
                    tracing::warn!(%input, %partition, %position, %error, "record set aside as dead letter");
                    metrics::counter!("podium_dead_letters_total", "stream" => input.name()).increment(1);
                    let payload = codec::encode_dead_letter(
                        input,
                        partition,
                        position,
                        &error.to_string(),
                        &record.payload,
                    );
                    decoded.dead.push(Record { stream: Stream::DeadLetters, partition, payload });
                }
            }
            decoded.last = Some(stamp);
        }
        decoded
    }

    async fn load(&self, key: &O::Key) -> Result<Shared<O::State>, RunError> {
        let mut retry = Retry::new(self.unit, "load");
        loop {
            match self.parts.cache.get(self.unit, Some(self.header.epoch), key).await {
                Ok(state) => return Ok(state),
                Err(StoreError::Unavailable(reason)) => retry.pause(&*self.parts.clock, &reason).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Commits, however often it takes: an unanswered commit may have happened, and the store knows its own.
    async fn commit(&self, commit: &Commit) -> Result<(), RunError> {
        let mut retry = Retry::new(self.unit, "commit");
        loop {
            match self.parts.store.commit(commit).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Unavailable(reason)) => retry.pause(&*self.parts.clock, &reason).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn set_timer(&mut self, key: &O::Key, state: &Shared<O::State>) {
        let wanted = self.operator.timers(&read(state));
        self.set_wanted(key, wanted);
    }

    fn set_wanted(&mut self, key: &O::Key, wanted: Vec<(UnixMillis, Record)>) {
        match wanted.iter().map(|(at, _)| *at).min() {
            None => {
                self.timers.remove(key);
            }
            Some(first) => {
                let unchanged = self.timers.get(key).filter(|timer| timer.wanted == wanted);
                let next = unchanged.map_or(first, |timer| timer.next);
                self.timers.insert(key.clone(), Timer { wanted, next });
            }
        }
    }

    /// Runs until told to stop, finishing the step it is in and storing what it did, or until nothing more can come.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run(mut self, stop: tokio::sync::watch::Receiver<bool>) -> Result<Ended, RunError> {
        while !*stop.borrow() {
            let began = std::time::Instant::now();
            let step = self.step().await?;
            if step.closed {
                return Ok(Ended::Closed);
            }
            if step.records > 0 {
                let stage = self.unit.stage.name();
                metrics::counter!("podium_stage_records_total", "stage" => stage)
                    .increment(step.records as u64);
                metrics::counter!("podium_stage_events_total", "stage" => stage)
                    .increment(step.events as u64);
                let seconds = began.elapsed().as_secs_f64();
                metrics::histogram!("podium_stage_step_seconds", "stage" => stage).record(seconds);
                if step.at_end {
                    self.parts.clock.sleep(self.parts.settings.linger).await;
                }
            }
        }
        self.checkpoint().await?;
        Ok(Ended::Stopped)
    }
}
