//! The herald of a worker: sends pulses into the streams and leaves beats, several times a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::codec::{Pulse, Reached, encode_pulse};
use ingest::error::AppendError;
use ingest::limits::BATCH_RECORDS_MAX;
use ingest::log::{Log, Record, Stream};
use ingest::partition::PartitionId;
use operators::id::UnixMillis;

use super::beats::{Beat, Beats};
use crate::runner::clock::Clock;
use crate::runner::progress::pulses::Pulses;
use crate::store::{Stage, StoreError};

/// Tells the others how far the stages of this process are.
pub struct Herald {
    /// Where pulses go.
    pub log: Arc<dyn Log>,
    /// Where beats go.
    pub beats: Arc<dyn Beats>,
    /// What the runners have told.
    pub pulses: Arc<Pulses>,
    /// When.
    pub clock: Arc<dyn Clock>,
    /// The name of this worker.
    pub worker: String,
    /// Time between two pulses: a view is at least this old.
    pub interval: Duration,
    /// The time from a close to its Seal, if this worker grades.
    pub grace: Option<Duration>,
}

/// A pulse or beat could not be left. The next one says more.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// The log did not take a pulse.
    #[error("pulse: {0}")]
    Pulse(#[from] AppendError),
    /// The table did not take or give beats.
    #[error("beat: {0}")]
    Beat(#[from] StoreError),
}

impl Herald {
    /// Tells for ever.
    pub async fn run(&self, stage: Stage) {
        let mut told = BTreeMap::new();
        loop {
            let beat = match stage {
                Stage::Grade => self.grade(&mut told).await,
                Stage::Rank => self.rank().await,
            };
            if let Err(error) = beat {
                tracing::warn!(%error, "the others do not hear how far this worker is");
            }
            self.clock.sleep(self.interval).await;
        }
    }

    /// Sends a pulse into every partition of `submissions` that this worker grades, and tells every partition of
    /// `standings` what was graded since it was last told; `told` remembers that.
    ///
    /// # Errors
    /// [`Unheard`].
    pub async fn grade(&self, told: &mut BTreeMap<PartitionId, Reached>) -> Result<(), Unheard> {
        let graded = self.pulses.graded();
        let slowest = self.slowest(&graded).await?;
        let pulse = encode_pulse(Stream::Submissions, &Pulse { slowest, reached: Vec::new() });
        let mine = self.pulses.owned(Stage::Grade).into_iter();
        let mut records: Vec<Record> = mine
            .map(|partition| Record { stream: Stream::Submissions, partition, payload: pulse.clone() })
            .collect();
        // Effects of what these say are durable: they go to `standings` behind them.
        let news: Vec<Reached> =
            graded.iter().filter(|reached| told.get(&reached.partition) != Some(*reached)).copied().collect();
        if !news.is_empty() {
            let pulse = Pulse { slowest: UnixMillis(0), reached: news.clone() };
            let payload = encode_pulse(Stream::Standings, &pulse);
            let all = (0..self.log.partitions()).map(PartitionId);
            let to = |partition| Record { stream: Stream::Standings, partition, payload: payload.clone() };
            records.extend(all.map(to));
        }
        for chunk in records.chunks(BATCH_RECORDS_MAX) {
            self.log.append(chunk.to_vec()).await?;
        }
        told.extend(news.into_iter().map(|reached| (reached.partition, reached)));
        let grace_ms = self.grace.map(|grace| grace.as_millis() as u64);
        self.beats.put(Stage::Grade, &self.worker, &Beat { graded, ranked: Vec::new(), grace_ms }).await?;
        Ok(())
    }

    /// Returns the time by which every partition is graded, as far as this worker knows.
    async fn slowest(&self, mine: &[Reached]) -> Result<UnixMillis, Unheard> {
        let mut graded: BTreeMap<PartitionId, UnixMillis> = BTreeMap::new();
        let others = self.beats.all(Stage::Grade).await?;
        for reached in others.iter().flat_map(|beat| &beat.graded).chain(mine) {
            let known = graded.entry(reached.partition).or_default();
            *known = reached.graded.max(*known);
        }
        let all = (0..self.log.partitions()).map(|partition| graded.get(&PartitionId(partition)).copied());
        let all = all.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min());
        Ok(all.unwrap_or_default())
    }

    /// Leaves a beat that says how far the rankings of this worker are.
    ///
    /// # Errors
    /// [`Unheard`].
    pub async fn rank(&self) -> Result<(), Unheard> {
        let ranked = self.pulses.ranked(self.log.partitions());
        let beat = Beat { ranked, ..Beat::default() };
        self.beats.put(Stage::Rank, &self.worker, &beat).await?;
        Ok(())
    }
}
