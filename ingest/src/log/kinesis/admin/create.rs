//! Making the streams, whoever else is making them at the same time.

use std::cmp::Ordering;
use std::time::Duration;

use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamMode, StreamModeDetails, StreamStatus};
use tokio::time::Instant;

use super::{
    ACTIVE_PAUSE, Account, Mode, OpenError, PARTITIONS_TAG, active, fits, stream_name, summary, tagged,
};
use crate::aws::{Aws, explain};
use crate::limits::PARTITIONS_MAX;
use crate::log::Stream;

/// Time for whoever makes a stream to say how many partitions it has. Kinesis takes the tag with the call itself.
const TAGGED_WITHIN: Duration = Duration::from_secs(2);

/// A stream that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its name at Kinesis.
    pub name: String,
    /// Open shards, where it says so.
    pub shards: Option<u32>,
}

/// Makes the streams that are not there, and returns once all can be used. Making them again changes nothing but their
/// retention, if it is another, and their tags: another number of partitions or another mode than asked for is refused,
/// another number of shards stays.
///
/// Without a mode new streams are on demand.
///
/// # Errors
/// [`OpenError`].
pub async fn create(
    aws: &Aws,
    prefix: &str,
    partitions: u16,
    mode: impl Into<Option<Mode>>,
    retention: Option<Duration>,
    tags: &[(String, String)],
) -> Result<Vec<Ready>, OpenError> {
    let mode = mode.into();
    if partitions == 0 || partitions > PARTITIONS_MAX {
        return Err(OpenError::Invalid(format!("there can be 1 to {PARTITIONS_MAX} partitions")));
    }
    if let Some(Mode::Provisioned { shards }) = mode {
        fits(shards, partitions)?;
    }
    if tags.iter().any(|(key, _)| key == PARTITIONS_TAG) {
        return Err(OpenError::Invalid(format!("the tag {PARTITIONS_TAG} is taken")));
    }
    let at = &Account::new(aws);
    let mut mine = Vec::new();
    // All are begun before any is waited for; but not when somebody else is at it, who may want another number: each
    // would make a part.
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let is_settled = match summary(at, &name).await {
            Ok(found) => {
                same_mode(&found, mode)?;
                found.stream_status() != &StreamStatus::Creating
            }
            Err(OpenError::Missing { .. }) => {
                if make(at, &name, partitions, mode.unwrap_or(Mode::OnDemand), tags).await? {
                    mine.push(name);
                    continue;
                }
                false
            }
            Err(error) => return Err(error),
        };
        if !is_settled {
            settle(at, &name, partitions).await?;
        }
        let (found, _) = tagged(at, &name).await?;
        if found != partitions {
            return Err(OpenError::Partitions { name, found, wanted: partitions });
        }
    }
    let mut ready = Vec::new();
    for stream in Stream::ALL {
        let name = stream_name(prefix, stream);
        let found = active(at, &name).await?;
        same_mode(&found, mode)?;
        tag(at, &name, mine.contains(&name).then_some(partitions), tags).await?;
        if let Some(retention) = retention {
            retain(at, &found, retention).await?;
        }
        ready.push(Ready { name, shards: found.open_shard_count().try_into().ok() });
    }
    Ok(ready)
}

/// Makes a stream; returns whether it was this call that made it.
async fn make(
    at: &Account,
    name: &str,
    partitions: u16,
    mode: Mode,
    tags: &[(String, String)],
) -> Result<bool, OpenError> {
    let mut call = at.client.create_stream().stream_name(name).tags(PARTITIONS_TAG, partitions.to_string());
    for (key, value) in tags {
        call = call.tags(key, value);
    }
    let (kind, shards) = match mode {
        Mode::OnDemand => (StreamMode::OnDemand, None),
        Mode::Provisioned { shards } => (StreamMode::Provisioned, i32::try_from(shards).ok()),
    };
    let kind = StreamModeDetails::builder().stream_mode(kind).build().expect("every required field is given");
    match call.stream_mode_details(kind).set_shard_count(shards).send().await {
        Ok(_) => Ok(true),
        // Somebody else was quicker, or a try of ours whose answer was lost.
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception()) => {
            Ok(false)
        }
        Err(error) => Err(OpenError::Unavailable(format!("{name}: {}", explain(&error)))),
    }
}

/// Waits until a stream that somebody is making says how many partitions it has; says so itself if nobody does.
async fn settle(at: &Account, name: &str, partitions: u16) -> Result<(), OpenError> {
    active(at, name).await?;
    let began = Instant::now();
    while !super::tags(at, name).await?.contains_key(PARTITIONS_TAG) {
        if began.elapsed() > TAGGED_WITHIN {
            return tag(at, name, Some(partitions), &[]).await;
        }
        tokio::time::sleep(ACTIVE_PAUSE).await;
    }
    Ok(())
}

fn same_mode(found: &StreamDescriptionSummary, wanted: Option<Mode>) -> Result<(), OpenError> {
    let wanted = wanted.map(|mode| match mode {
        Mode::OnDemand => StreamMode::OnDemand,
        Mode::Provisioned { .. } => StreamMode::Provisioned,
    });
    let has = found.stream_mode_details().map(StreamModeDetails::stream_mode);
    let (Some(has), Some(wanted)) = (has, wanted) else { return Ok(()) };
    if *has == wanted {
        return Ok(());
    }
    let words = |mode: &StreamMode| mode.as_str().to_lowercase().replace('_', " ");
    Err(OpenError::Invalid(format!(
        "stream {} is there already, but it is {}, not {}: leave --mode out to keep it so, or change it with \
         `aws kinesis update-stream-mode`",
        found.stream_name(),
        words(has),
        words(&wanted)
    )))
}

/// Adds the tags that are not there.
async fn tag(
    at: &Account,
    name: &str,
    partitions: Option<u16>,
    tags: &[(String, String)],
) -> Result<(), OpenError> {
    let has = super::tags(at, name).await?;
    // The number is said once.
    let partitions = partitions.filter(|_| !has.contains_key(PARTITIONS_TAG));
    let partitions = partitions.map(|partitions| (PARTITIONS_TAG.to_owned(), partitions.to_string()));
    let wanted = partitions.into_iter().chain(tags.iter().cloned());
    let missing: Vec<_> = wanted.filter(|(key, value)| has.get(key) != Some(value)).collect();
    // Kinesis takes ten with one call.
    for some in missing.chunks(10) {
        let mut call = at.client.add_tags_to_stream().stream_name(name);
        for (key, value) in some {
            call = call.tags(key, value);
        }
        call.send().await.map_err(|error| OpenError::Unavailable(format!("{name}: {}", explain(&error))))?;
    }
    Ok(())
}

async fn retain(
    at: &Account,
    found: &StreamDescriptionSummary,
    retention: Duration,
) -> Result<(), OpenError> {
    let (name, has) = (found.stream_name(), found.retention_period_hours());
    let hours = i32::try_from(retention.as_secs().div_ceil(3_600)).unwrap_or(i32::MAX);
    let changed = match hours.cmp(&has) {
        Ordering::Equal => return Ok(()),
        Ordering::Greater => {
            let call = at.client.increase_stream_retention_period().stream_name(name);
            call.retention_period_hours(hours).send().await.map(drop).map_err(|error| explain(&error))
        }
        Ordering::Less => {
            let call = at.client.decrease_stream_retention_period().stream_name(name);
            call.retention_period_hours(hours).send().await.map(drop).map_err(|error| explain(&error))
        }
    };
    changed.map_err(|words| OpenError::Unavailable(format!("{name}: {words}")))?;
    active(at, name).await.map(drop)
}
