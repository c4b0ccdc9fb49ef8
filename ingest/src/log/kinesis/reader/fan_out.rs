//! Enhanced fan-out: a registered consumer to which Kinesis pushes a shard's records over a subscription of five minutes.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{
    ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::super::records::Backoff;
use super::super::shards;
use super::{Buffers, Start};
use crate::aws::explain;
use crate::error::ReadError;

/// Kinesis sends something every five seconds at least: a subscription that is silent for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Looks for a new consumer to become active, one every half second.
const ACTIVE_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Subscriber {
    client: Client,
    /// The stream's.
    arn: String,
    consumer: String,
    buffers: Arc<Buffers>,
}

/// Whether to subscribe again.
enum Subscription {
    Over,
    ShardEnded,
}

impl Subscriber {
    pub(super) fn new(client: Client, arn: String, consumer: String, buffers: Arc<Buffers>) -> Self {
        Self { client, arn, consumer, buffers }
    }

    /// Reads the shard to its end, one subscription after the other.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut consumer: Option<String> = None;
        let mut continuation: Option<String> = None;
        loop {
            let outcome = match &consumer {
                Some(consumer) => self.subscribe(consumer, &mut continuation, &mut backoff).await,
                None => match self.register().await {
                    Ok(arn) => {
                        consumer = Some(arn);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match outcome {
                Ok(Subscription::ShardEnded) => return,
                Ok(Subscription::Over) => {}
                Err(error @ ReadError::Corrupt(_)) => return self.buffers.fail(error),
                Err(error @ ReadError::Unavailable(_)) => {
                    self.buffers.fail(error);
                    // The consumer may have been deleted.
                    consumer = None;
                    backoff.pause().await;
                }
            }
        }
    }

    /// Returns the ARN of the consumer once it is active; registers it if it is not there.
    async fn register(&self) -> Result<String, ReadError> {
        loop {
            let call = self.client.describe_stream_consumer().stream_arn(&self.arn);
            match call.consumer_name(&self.consumer).send().await {
                Ok(found) => {
                    let found =
                        found.consumer_description.map(|found| (found.consumer_arn, found.consumer_status));
                    if let Some((arn, ConsumerStatus::Active)) = found {
                        return Ok(arn);
                    }
                }
                Err(error) => {
                    let is_missing =
                        error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception());
                    if !is_missing {
                        return Err(ReadError::Unavailable(explain(&error)));
                    }
                    let call = self.client.register_stream_consumer().stream_arn(&self.arn);
                    let registered = call.consumer_name(&self.consumer).send().await;
                    // Another shard's reader may have been quicker.
                    if let Err(error) = registered
                        && !error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception())
                    {
                        return Err(ReadError::Unavailable(explain(&error)));
                    }
                }
            }
            tokio::time::sleep(ACTIVE_PAUSE).await;
        }
    }

    /// Reads until the subscription ends, as each does within five minutes.
    async fn subscribe(
        &self,
        consumer: &str,
        continuation: &mut Option<String>,
        backoff: &mut Backoff,
    ) -> Result<Subscription, ReadError> {
        let call = self.client.subscribe_to_shard().consumer_arn(consumer).shard_id(&self.buffers.shard.id);
        let call = call.starting_position(self.position(continuation.as_deref()));
        let mut events = match call.send().await {
            Ok(answer) => answer.event_stream,
            Err(error) => {
                let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
                return Err(match code {
                    Some("InvalidArgumentException") if self.buffers.next() != Start::Oldest => {
                        let (name, words) = (&self.buffers.name, explain(&error));
                        let words = format!("{name} has nothing at the position to go on from: {words}");
                        ReadError::Corrupt(words)
                    }
                    Some(_) | None => ReadError::Unavailable(explain(&error)),
                });
            }
        };
        metrics::counter!("podium_kinesis_subscriptions_total").increment(1);
        loop {
            // What is not taken from the connection, Kinesis holds back.
            self.buffers.has_room().await;
            let event = match tokio::time::timeout(SILENCE_MAX, events.recv()).await {
                Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => event,
                Ok(Ok(Some(_))) => continue,
                Ok(Ok(None)) | Err(_) => return Ok(Subscription::Over),
                Ok(Err(error)) => {
                    return Err(ReadError::Unavailable(format!("the subscription broke: {error}")));
                }
            };
            backoff.reset();
            if self.take(event, continuation)? {
                return Ok(Subscription::ShardEnded);
            }
        }
    }

    /// Takes in an event; tells whether the shard has ended.
    fn take(
        &self,
        event: SubscribeToShardEvent,
        continuation: &mut Option<String>,
    ) -> Result<bool, ReadError> {
        let SubscribeToShardEvent {
            records,
            continuation_sequence_number,
            millis_behind_latest,
            child_shards,
            ..
        } = event;
        // Some servers name the children when the shard is closed, and others when it is read to its end.
        let has_children = child_shards.is_some_and(|children| !children.is_empty());
        let has_ended = continuation_sequence_number.is_empty() || (has_children && records.is_empty());
        self.buffers.take(records, millis_behind_latest == 0, has_ended)?;
        *continuation = Some(continuation_sequence_number).filter(|number| !number.is_empty());
        Ok(has_ended)
    }

    fn position(&self, continuation: Option<&str>) -> StartingPosition {
        let builder = StartingPosition::builder();
        let builder = match (continuation, self.buffers.next()) {
            (Some(continuation), _) => {
                builder.r#type(ShardIteratorType::AfterSequenceNumber).sequence_number(continuation)
            }
            (None, Start::Oldest) => builder.r#type(ShardIteratorType::TrimHorizon),
            (None, Start::At(position)) => builder
                .r#type(ShardIteratorType::AtSequenceNumber)
                .sequence_number(shards::sequence_text(position)),
            (None, Start::After(position)) => builder
                .r#type(ShardIteratorType::AfterSequenceNumber)
                .sequence_number(shards::sequence_text(position)),
        };
        builder.build().expect("every required field is given")
    }
}
