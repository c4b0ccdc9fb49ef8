//! Making, checking, describing and scaling the streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamMode, StreamModeDetails, StreamStatus};
use tokio::time::Instant;

use super::shards::{self, Shard};
use crate::aws::{Aws, explain};
use crate::error::ReadError;
use crate::limits::PARTITIONS_MAX;
use crate::log::Stream;
use crate::partition::PartitionId;

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
        "there is no stream {0} in this region: make the streams with `podium streams create`, or name others with --prefix"
    )]
    Missing(String),
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

/// What all streams agree on.
pub(super) struct Found {
    pub(super) partitions: u16,
    pub(super) arns: BTreeMap<Stream, String>,
    pub(super) retentions: BTreeMap<Stream, Duration>,
}

/// Looks at all streams.
pub(super) async fn check(client: &Client, prefix: &str, wanted: Option<u16>) -> Result<Found, OpenError> {
    let (mut arns, mut retentions) = (BTreeMap::new(), BTreeMap::new());
    let mut agreed = wanted;
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let summary = summary(client, &name).await?;
        let (found, _) = tagged(client, &name).await?;
        let wanted = *agreed.get_or_insert(found);
        if found != wanted {
            return Err(OpenError::Partitions { name, found, wanted });
        }
        if !matches!(summary.stream_status(), StreamStatus::Active | StreamStatus::Updating) {
            let status = summary.stream_status();
            return Err(OpenError::Unavailable(format!("stream {name} is {status}; try again in a minute")));
        }
        arns.insert(stream, summary.stream_arn().to_owned());
        retentions.insert(stream, kept(&summary));
    }
    let partitions = agreed.expect("there is at least one stream");
    Ok(Found { partitions, arns, retentions })
}

/// Returns for how long a stream keeps its records.
fn kept(found: &StreamDescriptionSummary) -> Duration {
    Duration::from_hours(u64::try_from(found.retention_period_hours()).unwrap_or_default())
}

/// Makes the streams that are not there, and returns once all can be used. Making them again changes nothing but their
/// retention, if it is another, and their tags.
///
/// # Errors
/// [`OpenError`].
pub async fn create(
    aws: &Aws,
    prefix: &str,
    partitions: u16,
    mode: Mode,
    retention: Option<Duration>,
    tags: &[(String, String)],
) -> Result<(), OpenError> {
    if partitions == 0 || partitions > PARTITIONS_MAX {
        return Err(OpenError::Invalid(format!("there can be 1 to {PARTITIONS_MAX} partitions")));
    }
    if let Mode::Provisioned { shards } = mode {
        fits(shards, partitions)?;
    }
    let client = Client::new(aws.sdk());
    let mut made = Vec::new();
    // All are begun before any is waited for.
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        match summary(&client, &name).await {
            // One that is being made has its tags in a moment.
            Ok(found) if found.stream_status() == &StreamStatus::Creating => made.push(name),
            Ok(_) => {
                let (found, _) = tagged(&client, &name).await?;
                if found != partitions {
                    return Err(OpenError::Partitions { name, found, wanted: partitions });
                }
            }
            Err(OpenError::Missing(name)) => {
                make(&client, &name, partitions, mode, tags).await?;
                made.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let found = active(&client, &name).await?;
        tag(&client, &name, made.contains(&name).then_some(partitions), tags).await?;
        if let Some(retention) = retention {
            retain(&client, &found, retention).await?;
        }
    }
    Ok(())
}

fn fits(shards: u32, partitions: u16) -> Result<(), OpenError> {
    let is_right = (1..=u32::from(partitions)).contains(&shards);
    let words = || format!("{partitions} partitions lie on 1 to {partitions} shards, not on {shards}");
    if is_right { Ok(()) } else { Err(OpenError::Invalid(words())) }
}

async fn make(
    client: &Client,
    name: &str,
    partitions: u16,
    mode: Mode,
    tags: &[(String, String)],
) -> Result<(), OpenError> {
    let mut call = client.create_stream().stream_name(name).tags(PARTITIONS_TAG, partitions.to_string());
    for (key, value) in tags {
        call = call.tags(key, value);
    }
    let (kind, shards) = match mode {
        Mode::OnDemand => (StreamMode::OnDemand, None),
        Mode::Provisioned { shards } => (StreamMode::Provisioned, i32::try_from(shards).ok()),
    };
    let kind = StreamModeDetails::builder().stream_mode(kind).build().expect("every required field is given");
    match call.stream_mode_details(kind).set_shard_count(shards).send().await {
        Ok(_) => Ok(()),
        // Somebody else was quicker.
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception()) => {
            Ok(())
        }
        Err(error) => Err(OpenError::Unavailable(format!("{name}: {}", explain(&error)))),
    }
}

/// Adds the tags that are not there.
async fn tag(
    client: &Client,
    name: &str,
    partitions: Option<u16>,
    tags: &[(String, String)],
) -> Result<(), OpenError> {
    let has = self::tags(client, name).await?;
    let partitions = partitions.map(|partitions| (PARTITIONS_TAG.to_owned(), partitions.to_string()));
    let wanted = partitions.into_iter().chain(tags.iter().cloned());
    let missing: Vec<_> = wanted.filter(|(key, value)| has.get(key) != Some(value)).collect();
    // Kinesis takes ten with one call.
    for some in missing.chunks(10) {
        let mut call = client.add_tags_to_stream().stream_name(name);
        for (key, value) in some {
            call = call.tags(key, value);
        }
        call.send().await.map_err(|error| OpenError::Unavailable(format!("{name}: {}", explain(&error))))?;
    }
    Ok(())
}

async fn retain(
    client: &Client,
    found: &StreamDescriptionSummary,
    retention: Duration,
) -> Result<(), OpenError> {
    let (name, has) = (found.stream_name(), found.retention_period_hours());
    let hours = i32::try_from(retention.as_secs().div_ceil(3_600)).unwrap_or(i32::MAX);
    let changed = match hours.cmp(&has) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => {
            let call = client.increase_stream_retention_period().stream_name(name);
            call.retention_period_hours(hours).send().await.map(drop).map_err(|error| explain(&error))
        }
        std::cmp::Ordering::Less => {
            let call = client.decrease_stream_retention_period().stream_name(name);
            call.retention_period_hours(hours).send().await.map(drop).map_err(|error| explain(&error))
        }
    };
    changed.map_err(|words| OpenError::Unavailable(format!("{name}: {words}")))?;
    active(client, name).await.map(drop)
}

/// Returns what is known of all streams.
///
/// # Errors
/// [`OpenError`].
pub async fn describe(aws: &Aws, prefix: &str) -> Result<Vec<Description>, OpenError> {
    let client = Client::new(aws.sdk());
    let mut all = Vec::new();
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let found = summary(&client, &name).await?;
        let (partitions, tags) = tagged(&client, &name).await?;
        all.push(Description {
            stream,
            arn: found.stream_arn().to_owned(),
            status: found.stream_status().to_string(),
            mode: found.stream_mode_details().map(|details| details.stream_mode().to_string()),
            partitions,
            retention: kept(&found),
            consumers: found.consumer_count().and_then(|count| count.try_into().ok()),
            tags,
            shards: list(&client, &name, partitions).await?,
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
    let client = Client::new(aws.sdk());
    let name = stream_name(prefix, stream);
    let found = summary(&client, &name).await?;
    let (partitions, _) = tagged(&client, &name).await?;
    fits(shards, partitions)?;
    if found.stream_mode_details().is_some_and(|details| details.stream_mode() == &StreamMode::OnDemand) {
        let words = format!("stream {name} is on demand: Kinesis itself decides how many shards it has");
        return Err(OpenError::Invalid(words));
    }
    loop {
        active(&client, &name).await?;
        let found = list(&client, &name, partitions).await?;
        let Some(change) = next_change(&found, shards, partitions) else { return Ok(found) };
        let made = match &change {
            Change::Split { shard, at } => {
                let call = client.split_shard().stream_name(&name).shard_to_split(shard);
                let made = call.new_starting_hash_key(at.to_string()).send().await;
                made.map(drop).map_err(|error| explain(&error))
            }
            Change::Merge { left, right } => {
                let call = client.merge_shards().stream_name(&name).shard_to_merge(left);
                let made = call.adjacent_shard_to_merge(right).send().await;
                made.map(drop).map_err(|error| explain(&error))
            }
        };
        made.map_err(|words| OpenError::Unavailable(format!("{name}: {words}")))?;
        tracing::info!(name, ?change, "shards change");
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

async fn summary(client: &Client, name: &str) -> Result<StreamDescriptionSummary, OpenError> {
    match client.describe_stream_summary().stream_name(name).send().await {
        Ok(found) => found
            .stream_description_summary
            .ok_or_else(|| OpenError::Unavailable(format!("it says nothing about stream {name}"))),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(DescribeStreamSummaryError::is_resource_not_found_exception) =>
        {
            Err(OpenError::Missing(name.to_owned()))
        }
        Err(error) => Err(OpenError::Unavailable(explain(&error))),
    }
}

/// Waits until a stream can be changed.
async fn active(client: &Client, name: &str) -> Result<StreamDescriptionSummary, OpenError> {
    let began = Instant::now();
    loop {
        match summary(client, name).await {
            Ok(found) if found.stream_status() == &StreamStatus::Active => return Ok(found),
            // A stream is not listed at once when it was made.
            Ok(_) | Err(OpenError::Missing(_)) if began.elapsed() < ACTIVE_WITHIN => {}
            Ok(_) => return Err(OpenError::Unavailable(format!("stream {name} does not become active"))),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(ACTIVE_PAUSE).await;
    }
}

async fn tags(client: &Client, name: &str) -> Result<BTreeMap<String, String>, OpenError> {
    let mut all = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let call = client.list_tags_for_stream().stream_name(name).set_exclusive_start_tag_key(after.take());
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
async fn tagged(client: &Client, name: &str) -> Result<(u16, BTreeMap<String, String>), OpenError> {
    let tags = tags(client, name).await?;
    let foreign = |reason| OpenError::Foreign { name: name.to_owned(), reason };
    let tag = tags.get(PARTITIONS_TAG);
    let tag = tag.ok_or_else(|| foreign(format!("it has no tag {PARTITIONS_TAG}")))?;
    let partitions = tag.parse().ok().filter(|partitions| (1..=PARTITIONS_MAX).contains(partitions));
    let wrong =
        || foreign(format!("its tag {PARTITIONS_TAG} is {tag:?}, not a number from 1 to {PARTITIONS_MAX}"));
    Ok((partitions.ok_or_else(wrong)?, tags))
}

async fn list(client: &Client, name: &str, partitions: u16) -> Result<Vec<Shard>, OpenError> {
    shards::list(client, name, partitions).await.map_err(|error| match error {
        ReadError::Unavailable(words) | ReadError::Corrupt(words) => OpenError::Unavailable(words),
    })
}
