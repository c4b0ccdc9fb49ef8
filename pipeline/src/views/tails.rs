//! Answers in the log that the views do not show yet, counted by a gateway of a cluster for the books.
//!
//! While somebody asks for books, every shard that holds their quizzes is followed by one poller for all of them, a little
//! of the five calls a second that the graders need. It begins where everything before is known to be ranked, so there is
//! about a second of records to read, and what is ranked meanwhile is dropped. Nobody asks: nothing is read.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use gateway::views::Unavailable;
use ingest::codec;
use ingest::error::ReadError;
use ingest::log::{Log, ReadLimits, Stream};
use ingest::partition::{PartitionId, of_section};
use operators::event::Event;
use operators::id::{Position, QuizId};
use tokio::time::Instant;

use crate::cluster::shards::Shards;
use crate::views::boards::Result;

/// How long the first who asks waits until the shards are read to their ends.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two looks at what the pollers have read meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Time after which the place from where is counted moves up.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks at the list of shards: a split shows within it.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks while the shard of a partition is not there.
const LIST_AGAIN: Duration = Duration::from_millis(500);
/// After so long without a question nothing is read any more.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// Answers remembered in all, of about 50 bytes. With more in flight no more are read: there are at least that many.
const ANSWERS_MAX: usize = 262_144;
/// Records taken from a poller at once.
const BLOCK_RECORDS: usize = 4_096;

/// Counts what is in flight.
pub struct Tails {
    shards: Arc<dyn Shards>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    shards: BTreeMap<u32, Open>,
    answers: BTreeMap<PartitionId, VecDeque<Answer>>,
    count: usize,
    /// Up to where answers are dropped next: where the views were one trim ago, so that a request under way finds all.
    ranked: Vec<Option<Position>>,
    trimmed: Option<Instant>,
    listed: Option<Instant>,
    asked: Option<Instant>,
}

/// A shard that is followed.
struct Open {
    log: Arc<dyn Log>,
    lanes: BTreeMap<PartitionId, Lane>,
}

/// One partition of it.
struct Lane {
    read: Option<Position>,
    /// It was read to its end once; from then on it is as new as the last poll.
    is_whole: bool,
    /// The partition goes on on another shard.
    is_closed: bool,
}

struct Answer {
    position: Position,
    /// Hash of quiz and section.
    of: u64,
}

fn hash(quiz: &QuizId, section: u16) -> u64 {
    let mut hasher = DefaultHasher::new();
    (quiz.as_str(), section).hash(&mut hasher);
    hasher.finish()
}

/// Returns the section of an answer to this log's quizzes, hashed with its quiz.
fn answer_of(payload: &[u8]) -> Option<u64> {
    let envelope = codec::decode_envelope(payload).ok()?;
    matches!(envelope.event, Event::Answer(_)).then(|| hash(&envelope.quiz, envelope.section))
}

impl Tails {
    /// Returns a count over `submissions` that has read nothing.
    pub fn new(shards: Arc<dyn Shards>) -> Self {
        Self { shards, state: tokio::sync::Mutex::default() }
    }

    /// Counts the answers to sections of a quiz behind the last of each that the view has. `ranked` holds, by partition
    /// of `submissions`, a position up to which everything is in all views.
    ///
    /// # Errors
    /// Not known yet, or the log cannot be read.
    pub async fn count(
        &self,
        quiz: &QuizId,
        marks: &[(u16, Option<Position>)],
        ranked: &[Option<Position>],
    ) -> Result<u64> {
        let until = Instant::now() + FIRST_WITHIN;
        let partitions = ranked.len() as u16;
        let wanted: Vec<PartitionId> =
            marks.iter().map(|&(section, _)| of_section(quiz, section, partitions)).collect();
        loop {
            {
                let mut state = self.state.lock().await;
                state.asked = Some(Instant::now());
                if let Err(error) = state.advance(&*self.shards, &wanted, ranked).await {
                    // Begun anew by the next who asks.
                    *state = State::default();
                    return Err(Unavailable(error.to_string()));
                }
                if wanted.iter().all(|partition| state.is_whole(*partition)) {
                    let sections = marks.iter().zip(&wanted);
                    return Ok(sections.map(|(mark, of)| state.behind(quiz, *mark, *of, ranked)).sum());
                }
            }
            if Instant::now() >= until {
                return Err(Unavailable("the end of the log was not reached in time".into()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops reading if nobody has asked for a while.
    pub fn rest(&self) {
        if let Ok(mut state) = self.state.try_lock()
            && state.asked.is_some_and(|asked| asked.elapsed() >= IDLE_AFTER)
        {
            *state = State::default();
        }
    }
}

impl State {
    async fn advance(
        &mut self,
        shards: &dyn Shards,
        wanted: &[PartitionId],
        ranked: &[Option<Position>],
    ) -> std::result::Result<(), ReadError> {
        let is_open = |partition: &PartitionId| self.open(*partition).is_some_and(|lane| !lane.is_closed);
        let every = if wanted.iter().all(is_open) { LIST_EVERY } else { LIST_AGAIN };
        if self.listed.is_none_or(|listed| listed.elapsed() >= every) {
            self.list(shards, wanted, ranked).await?;
        }
        self.trim(ranked);
        for open in self.shards.values_mut() {
            for (partition, lane) in &mut open.lanes {
                let answers = self.answers.entry(*partition).or_default();
                self.count += lane
                    .drain(&*open.log, *partition, answers, ANSWERS_MAX.saturating_sub(self.count))
                    .await?;
            }
        }
        Ok(())
    }

    /// Follows the shards on which the partitions lie behind what is ranked.
    async fn list(
        &mut self,
        shards: &dyn Shards,
        wanted: &[PartitionId],
        ranked: &[Option<Position>],
    ) -> std::result::Result<(), ReadError> {
        self.listed = Some(Instant::now());
        let from = |partition: &PartitionId| ranked.get(usize::from(partition.0)).copied().flatten();
        for shard in shards.list(Stream::Submissions).await? {
            let is_wanted =
                |partition: &PartitionId| wanted.contains(partition) || self.answers.contains_key(partition);
            let is_ahead =
                |partition: &PartitionId| from(partition).is_none_or(|at| at.shard <= shard.number);
            let is_needed =
                shard.partitions.iter().any(|partition| is_wanted(partition) && is_ahead(partition));
            if !is_needed || self.shards.contains_key(&shard.number) {
                continue;
            }
            let starts = shard.partitions.iter().map(|partition| Some((*partition, Some(from(partition)?))));
            let starts: BTreeMap<_, _> = starts.collect::<Option<_>>().ok_or_else(|| {
                ReadError::Unavailable("the stages have not told yet how far they are".into())
            })?;
            let lane = |(&partition, &read): (&PartitionId, &Option<Position>)| {
                (partition, Lane { read, is_whole: false, is_closed: false })
            };
            let lanes = starts.iter().map(lane).collect();
            let log = shards.open(Stream::Submissions, &shard, starts);
            self.shards.insert(shard.number, Open { log, lanes });
        }
        Ok(())
    }

    /// Drops what was ranked one trim ago, and shards of which everything was.
    fn trim(&mut self, ranked: &[Option<Position>]) {
        if self.trimmed.is_some_and(|trimmed| trimmed.elapsed() < TRIM_EVERY) {
            return;
        }
        self.trimmed = Some(Instant::now());
        let before = std::mem::replace(&mut self.ranked, ranked.to_vec());
        let of = |partition: PartitionId| before.get(usize::from(partition.0)).copied().flatten();
        for (partition, answers) in &mut self.answers {
            let is_ranked = |answer: &Answer| Some(answer.position) <= of(*partition);
            while answers.front().is_some_and(is_ranked) {
                answers.pop_front();
                self.count -= 1;
            }
        }
        self.shards.retain(|number, open| {
            let is_behind = |(partition, lane): (&PartitionId, &Lane)| {
                lane.is_closed && of(*partition).is_some_and(|at| at.shard > *number)
            };
            !open.lanes.iter().all(is_behind)
        });
    }

    /// Returns the newest shard on which a partition is followed.
    fn open(&self, partition: PartitionId) -> Option<&Lane> {
        self.shards.values().rev().find_map(|open| open.lanes.get(&partition))
    }

    fn is_whole(&self, partition: PartitionId) -> bool {
        let mut lanes = self.shards.values().filter_map(|open| open.lanes.get(&partition));
        let all = lanes.all(|lane| lane.is_whole);
        let goes_on = self.open(partition).is_some_and(|newest| !newest.is_closed);
        self.count >= ANSWERS_MAX || (all && goes_on)
    }

    fn behind(
        &self,
        quiz: &QuizId,
        (section, mark): (u16, Option<Position>),
        partition: PartitionId,
        ranked: &[Option<Position>],
    ) -> u64 {
        let after = mark.max(ranked[usize::from(partition.0)]);
        let of = hash(quiz, section);
        // Two shards may be read side by side, so they are in no order.
        let answers = self.answers.get(&partition).into_iter().flatten();
        answers.filter(|answer| answer.of == of && Some(answer.position) > after).count() as u64
    }
}

impl Lane {
    /// Takes what the poller has read; returns how many answers that were, at most about `room`.
    async fn drain(
        &mut self,
        log: &dyn Log,
        partition: PartitionId,
        answers: &mut VecDeque<Answer>,
        room: usize,
    ) -> std::result::Result<usize, ReadError> {
        let before = answers.len();
        while !self.is_closed && answers.len() - before < room {
            let records_max = BLOCK_RECORDS.min(room - (answers.len() - before));
            let limits = ReadLimits { records_max, bytes_max: 4 << 20, wait: Duration::ZERO };
            let batch = log.read(Stream::Submissions, partition, self.read, limits).await?;
            for record in &batch.records {
                let position = record.stamp.position;
                answers.extend(answer_of(&record.payload).map(|of| Answer { position, of }));
            }
            self.read = batch.records.last().map(|last| Some(last.stamp.position)).unwrap_or(self.read);
            self.is_whole |= batch.at_end || batch.closed;
            self.is_closed = batch.closed;
            if batch.records.is_empty() {
                break;
            }
        }
        Ok(answers.len() - before)
    }
}
