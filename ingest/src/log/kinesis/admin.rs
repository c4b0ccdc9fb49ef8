//! Making, checking, describing and scaling the streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamMode, StreamStatus};
use operators::id::UnixMillis;
use tokio::time::Instant;

use super::shards::{self, Shard};
use crate::aws::{Aws, explain};
use crate::error::ReadError;
use crate::limits::PARTITIONS_MAX;
use crate::log::Stream;
use crate::partition::PartitionId;

mod create;

pub use create::{Ready, create};

/// The tag that says how many partitions a stream has. It never changes. Kinesis allows no colon in a key.
pub const PARTITIONS_TAG: &str = "podium.partitions";
/// Time in which a stream becomes active after a change.
const ACTIVE_WITHIN: Duration = Duration::from_mins(5);
/// Pause between two looks at a stream: Kinesis takes twenty a second from an account.
const ACTIVE_PAUSE: Duration = Duration::from_millis(250);

/// The streams cannot be used, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// One is not there.
    #[error(
        "there is no stream {name} in {place}: make the streams with `podium streams create`, name others with --prefix, \
         or another region with AWS_REGION"
    )]
    Missing {
        /// Which.
        name: String,
        /// Where it was looked for.
        place: String,
    },
    /// One is there and is something else.
    #[error("stream {name} is not one of Podium's: {reason}; name others with --prefix")]
    Foreign {
        /// Which.
        name: String,
        /// How it differs.
        reason: String,
    },
    /// One has other partitions than was asked for, or than the first.
    #[error(
        "stream {name} has {found} partitions, not {wanted}: the number is fixed when streams are made, so ask for {found}, \
         or name others with --prefix"
    )]
    Partitions {
        /// Which.
        name: String,
        /// How many it has.
        found: u16,
        /// How many it should have.
        wanted: u16,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// They do not answer.
    #[error("Kinesis: {0}")]
    Unavailable(String),
}

/// Who decides how many shards a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Kinesis, by load; each record is paid for.
    OnDemand,
    /// Whoever runs it; each shard is paid for by the hour.
    Provisioned {
        /// Shards at first.
        shards: u32,
    },
}

/// A stream as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Which.
    pub stream: Stream,
    /// Its name at Kinesis.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `ACTIVE`, `UPDATING` and so on.
    pub status: String,
    /// `ON_DEMAND` or `PROVISIONED`, where it says so.
    pub mode: Option<String>,
    /// What its tag says.
    pub partitions: u16,
    /// How long records are kept.
    pub retention: Duration,
    /// Registered consumers, where it says so.
    pub consumers: Option<u32>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// All shards that are still known, by number.
    pub shards: Vec<Shard>,
}

/// Returns the name of a stream.
pub fn stream_name(prefix: &str, stream: Stream) -> String {
    format!("{prefix}{stream}")
}

/// Which stream exactly: one that was deleted and made again is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its name at Kinesis.
    pub name: String,
    /// Its ARN, which tells account and region.
    pub arn: String,
    /// When it was made, as Kinesis tells it.
    pub made: UnixMillis,
}

/// What all streams agree on, and which they are.
pub(super) struct Found {
    pub(super) partitions: u16,
    pub(super) origins: BTreeMap<Stream, Origin>,
    pub(super) retentions: BTreeMap<Stream, Duration>,
}

/// Kinesis, and where that is in words.
struct Account {
    client: Client,
    place: String,
}

impl Account {
    fn new(aws: &Aws) -> Self {
        Self { client: Client::new(aws.sdk()), place: aws.place() }
    }
}

/// Looks at all streams.
pub(super) async fn check(aws: &Aws, prefix: &str, wanted: Option<u16>) -> Result<Found, OpenError> {
    let at = &Account::new(aws);
    let (mut origins, mut retentions) = (BTreeMap::new(), BTreeMap::new());
    let mut agreed = wanted;
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let summary = summary(at, &name).await?;
        let (found, _) = tagged(at, &name).await?;
        let wanted = *agreed.get_or_insert(found);
        if found != wanted {
            return Err(OpenError::Partitions { name, found, wanted });
        }
        if !matches!(summary.stream_status(), StreamStatus::Active | StreamStatus::Updating) {
            let status = summary.stream_status();
            return Err(OpenError::Unavailable(format!("stream {name} is {status}; try again in a minute")));
        }
        let made = summary.stream_creation_timestamp().to_millis().ok().and_then(|ms| u64::try_from(ms).ok());
        let (arn, made) = (summary.stream_arn().to_owned(), UnixMillis(made.unwrap_or_default()));
        retentions.insert(stream, kept(&summary));
        origins.insert(stream, Origin { name, arn, made });
    }
    let partitions = agreed.expect("there is at least one stream");
    Ok(Found { partitions, origins, retentions })
}

/// Returns for how long a stream keeps its records.
fn kept(found: &StreamDescriptionSummary) -> Duration {
    Duration::from_hours(u64::try_from(found.retention_period_hours()).unwrap_or_default())
}

fn fits(shards: u32, partitions: u16) -> Result<(), OpenError> {
    let is_right = (1..=u32::from(partitions)).contains(&shards);
    let words = || format!("{partitions} partitions lie on 1 to {partitions} shards, not on {shards}");
    if is_right { Ok(()) } else { Err(OpenError::Invalid(words())) }
}

/// Returns what is known of all streams.
///
/// # Errors
/// [`OpenError`].
pub async fn describe(aws: &Aws, prefix: &str) -> Result<Vec<Description>, OpenError> {
    let at = &Account::new(aws);
    let mut all = Vec::new();
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let found = summary(at, &name).await?;
        let (partitions, tags) = tagged(at, &name).await?;
        all.push(Description {
            stream,
            arn: found.stream_arn().to_owned(),
            status: found.stream_status().to_string(),
            mode: found.stream_mode_details().map(|details| details.stream_mode().to_string()),
            partitions,
            retention: kept(&found),
            consumers: found.consumer_count().and_then(|count| count.try_into().ok()),
            tags,
            shards: list(at, &name, partitions).await?,
            name,
        });
    }
    Ok(all)
}

/// Splits and merges the shards of a provisioned stream, on borders between partitions, until there are so many; returns
/// all that are still known.
///
/// Shards are made before others are merged, so that there is never less room than now or at the end. What a change
/// that was cut short left is taken up when it is asked for again.
///
/// # Errors
/// [`OpenError`].
pub async fn scale(aws: &Aws, prefix: &str, stream: Stream, shards: u32) -> Result<Vec<Shard>, OpenError> {
    let at = &Account::new(aws);
    let name = stream_name(prefix, stream);
    let found = summary(at, &name).await?;
    let (partitions, _) = tagged(at, &name).await?;
    fits(shards, partitions)?;
    if found.stream_mode_details().is_some_and(|details| details.stream_mode() == &StreamMode::OnDemand) {
        let words = format!("stream {name} is on demand: Kinesis itself decides how many shards it has");
        return Err(OpenError::Invalid(words));
    }
    let mut failed: Option<(Change, String)> = None;
    loop {
        active(at, &name).await?;
        let found = list(at, &name, partitions).await?;
        let Some(change) = next_change(&found, shards, partitions) else { return Ok(found) };
        // A change that was made, its answer lost, is refused when the client asks for it again.
        if let Some((_, words)) = failed.take().filter(|(same, _)| *same == change) {
            return Err(OpenError::Unavailable(format!("{name}: {words}")));
        }
        let made = match &change {
            Change::Split { shard, at: border } => {
                let call = at.client.split_shard().stream_name(&name).shard_to_split(shard);
                let made = call.new_starting_hash_key(border.to_string()).send().await;
                made.map(drop).map_err(|error| explain(&error))
            }
            Change::Merge { left, right } => {
                let call = at.client.merge_shards().stream_name(&name).shard_to_merge(left);
                let made = call.adjacent_shard_to_merge(right).send().await;
                made.map(drop).map_err(|error| explain(&error))
            }
        };
        match made {
            Ok(()) => tracing::info!(name, ?change, "shards change"),
            Err(words) => failed = Some((change, words)),
        }
    }
}

/// One step towards a number of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Split { shard: String, at: u128 },
    Merge { left: String, right: String },
}

fn next_change(all: &[Shard], shards: u32, partitions: u16) -> Option<Change> {
    let mut open: Vec<(&Shard, u128)> =
        all.iter().filter(|shard| !shard.is_closed).map(|shard| (shard, shard.range().0)).collect();
    open.sort_by_key(|(_, start)| *start);
    // A border is told by the number of partitions whose middle is below it: which hash key it is exactly does not matter.
    let below = |start: u128| {
        (0..partitions).filter(|p| shards::middle(PartitionId(*p), partitions) < start).count() as u32
    };
    let wanted: BTreeSet<u32> = (0..shards).map(|n| n * u32::from(partitions) / shards).collect();
    let present: BTreeSet<u32> = open.iter().map(|(_, start)| below(*start)).collect();
    if let Some(&border) = wanted.difference(&present).next() {
        let (shard, _) = open.iter().rev().find(|(_, start)| below(*start) < border)?;
        let at = shards::first_hash(PartitionId(border as u16), partitions);
        return Some(Change::Split { shard: shard.id.clone(), at });
    }
    // What has no partition joins a neighbour, and so does what begins at a border that is not wanted.
    open.windows(2).find_map(|pair| {
        let (left, right) = (below(pair[0].1), below(pair[1].1));
        let is_needless = !wanted.contains(&right) || left == right;
        is_needless.then(|| Change::Merge { left: pair[0].0.id.clone(), right: pair[1].0.id.clone() })
    })
}

async fn summary(at: &Account, name: &str) -> Result<StreamDescriptionSummary, OpenError> {
    match at.client.describe_stream_summary().stream_name(name).send().await {
        Ok(found) => found
            .stream_description_summary
            .ok_or_else(|| OpenError::Unavailable(format!("it says nothing about stream {name}"))),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(DescribeStreamSummaryError::is_resource_not_found_exception) =>
        {
            Err(OpenError::Missing { name: name.to_owned(), place: at.place.clone() })
        }
        Err(error) => Err(OpenError::Unavailable(explain(&error))),
    }
}

/// Waits until a stream can be changed.
async fn active(at: &Account, name: &str) -> Result<StreamDescriptionSummary, OpenError> {
    let began = Instant::now();
    loop {
        match summary(at, name).await {
            Ok(found) if found.stream_status() == &StreamStatus::Active => return Ok(found),
            // A stream is not listed at once when it was made.
            Ok(_) | Err(OpenError::Missing { .. }) if began.elapsed() < ACTIVE_WITHIN => {}
            Ok(_) => return Err(OpenError::Unavailable(format!("stream {name} does not become active"))),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(ACTIVE_PAUSE).await;
    }
}

async fn tags(at: &Account, name: &str) -> Result<BTreeMap<String, String>, OpenError> {
    let mut all = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let call = at.client.list_tags_for_stream().stream_name(name);
        let call = call.set_exclusive_start_tag_key(after.take());
        let page = call.send().await.map_err(|error| OpenError::Unavailable(explain(&error)))?;
        for tag in page.tags() {
            all.insert(tag.key().to_owned(), tag.value().unwrap_or_default().to_owned());
        }
        after = page.tags().last().map(|tag| tag.key().to_owned()).filter(|_| page.has_more_tags());
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Returns how many partitions the tag says, and all tags.
async fn tagged(at: &Account, name: &str) -> Result<(u16, BTreeMap<String, String>), OpenError> {
    let tags = tags(at, name).await?;
    Ok((count(name, &tags)?, tags))
}

fn count(name: &str, tags: &BTreeMap<String, String>) -> Result<u16, OpenError> {
    let foreign = |reason| OpenError::Foreign { name: name.to_owned(), reason };
    let tag = tags.get(PARTITIONS_TAG);
    let tag = tag.ok_or_else(|| foreign(format!("it has no tag {PARTITIONS_TAG}")))?;
    let partitions = tag.parse().ok().filter(|partitions| (1..=PARTITIONS_MAX).contains(partitions));
    let wrong =
        || foreign(format!("its tag {PARTITIONS_TAG} is {tag:?}, not a number from 1 to {PARTITIONS_MAX}"));
    partitions.ok_or_else(wrong)
}

async fn list(at: &Account, name: &str, partitions: u16) -> Result<Vec<Shard>, OpenError> {
    shards::list(&at.client, name, partitions).await.map_err(|error| match error {
        ReadError::Unavailable(words) | ReadError::Corrupt(words) => OpenError::Unavailable(words),
    })
}
