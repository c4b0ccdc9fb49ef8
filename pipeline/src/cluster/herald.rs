//! The herald of a worker: sends pulses into the streams and leaves beats, several times a second.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, join_all, join3, select};
use ingest::codec::{Pulse, Reached, encode_pulse};
use ingest::error::AppendError;
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
    /// The log or the table is slow. Most likely it was heard after all.
    #[error("no answer in time")]
    Late,
}

/// How long one pulse or beat is waited for: a partition that takes nothing must not hold up what others are told.
const WAIT: Duration = Duration::from_millis(500);
/// Beats after which what others left behind is cleared away: about once in ten minutes.
const SWEEP_EVERY: u32 = 2_400;

impl Herald {
    /// Tells for ever.
    pub async fn run(&self, stage: Stage) {
        let (mut told, mut is_heard, mut beats) = (BTreeMap::new(), true, 0);
        loop {
            let beat = match stage {
                Stage::Grade => self.grade(&mut told).await,
                Stage::Rank => self.rank().await,
            };
            let was_heard = std::mem::replace(&mut is_heard, beat.is_ok());
            match beat {
                Ok(()) if !was_heard => tracing::info!("the others hear again how far this worker is"),
                Err(error) if was_heard => {
                    tracing::warn!(%error, "not all others hear how far this worker is")
                }
                Ok(()) | Err(_) => {}
            }
            if beats % SWEEP_EVERY == 0
                && let Err(error) = self.beats.sweep(stage).await
            {
                tracing::debug!(%error, "old beats stay for now");
            }
            beats = beats.wrapping_add(1);
            self.clock.sleep(self.interval).await;
        }
    }

    /// Sends a pulse into every partition of `submissions` that this worker grades, tells every partition of `standings`
    /// what was graded since it was last told, and leaves a beat, each whatever becomes of the others; `told` remembers
    /// what all of `standings` was told.
    ///
    /// # Errors
    /// The first [`Unheard`].
    pub async fn grade(&self, told: &mut BTreeMap<PartitionId, Reached>) -> Result<(), Unheard> {
        let graded = self.pulses.graded();
        let slowest = self.slowest(&graded).await;
        // Nothing is said of the slowest then, and the rest is true without it.
        let known = slowest.as_ref().copied().unwrap_or_default();
        let pulse = encode_pulse(Stream::Submissions, &Pulse { slowest: known, reached: Vec::new() });
        let mine = self.pulses.owned(Stage::Grade);
        let news: Vec<Reached> =
            graded.iter().filter(|reached| told.get(&reached.partition) != Some(*reached)).copied().collect();
        let all = if news.is_empty() { 0 } else { self.log.partitions() };
        // Effects of what these say are durable: they go to `standings` behind them.
        let tidings = Pulse { slowest: UnixMillis(0), reached: news.clone() };
        let tidings = encode_pulse(Stream::Standings, &tidings);
        let grace_ms = self.grace.map(|grace| grace.as_millis() as u64);
        let (pulsed, heard, left) = join3(
            self.send(Stream::Submissions, mine, &pulse),
            self.send(Stream::Standings, (0..all).map(PartitionId).collect(), &tidings),
            self.leave(Stage::Grade, Beat { graded, ranked: Vec::new(), grace_ms }),
        )
        .await;
        if heard.is_ok() {
            told.extend(news.into_iter().map(|reached| (reached.partition, reached)));
        }
        slowest.map(drop).and(pulsed).and(heard).and(left)
    }

    /// Appends a pulse to partitions, each by itself; returns the first error.
    async fn send(&self, stream: Stream, to: Vec<PartitionId>, pulse: &Bytes) -> Result<(), Unheard> {
        let sent = to.into_iter().map(|partition| {
            let append = self.log.append(vec![Record { stream, partition, payload: pulse.clone() }]);
            self.in_time(async { append.await.map(drop).map_err(Unheard::from) })
        });
        join_all(sent).await.into_iter().collect()
    }

    async fn leave(&self, stage: Stage, beat: Beat) -> Result<(), Unheard> {
        self.in_time(async { Ok(self.beats.put(stage, &self.worker, &beat).await?) }).await
    }

    /// Waits for something, but not for long.
    async fn in_time<T>(&self, what: impl Future<Output = Result<T, Unheard>>) -> Result<T, Unheard> {
        match select(pin!(what), self.clock.sleep(WAIT)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(Unheard::Late),
        }
    }

    /// Returns the time by which every partition is graded, as far as this worker knows.
    async fn slowest(&self, mine: &[Reached]) -> Result<UnixMillis, Unheard> {
        let mut graded: BTreeMap<PartitionId, UnixMillis> = BTreeMap::new();
        let others = self.in_time(async { Ok(self.beats.all(Stage::Grade).await?) }).await?;
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
        self.leave(Stage::Rank, Beat { ranked, ..Beat::default() }).await
    }
}
