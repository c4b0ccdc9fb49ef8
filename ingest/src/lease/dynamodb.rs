//! Leases as items of the cluster's table, with the attributes of KCL 3.5.
//!
//! `pk` is `lease#` and the stage, `sk` the shard's id. What KCL does not have is `epoch`. A checkpoint is the shard's
//! own sequence number as Kinesis writes it, so that a person can compare it with what any tool of Kinesis prints.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use operators::id::Position;

use super::{Checkpoint, Lease, LeaseError, Leases};
use crate::aws::{explain, is_refused};
use crate::table::{PK, SK, Table, usage};

const KEY: &str = "leaseKey";
const OWNER: &str = "leaseOwner";
const COUNTER: &str = "leaseCounter";
const EPOCH: &str = "epoch";
const CHECKPOINT: &str = "checkpoint";
const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";
const SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
const PARENTS: &str = "parentShardId";
const CHILDREN: &str = "childShardIds";
const STARTING: &str = "startingHashKey";
const ENDING: &str = "endingHashKey";
const ENTITY: &str = "entityType";
/// The entity type of a lease. KCL keeps other things in the same table, such as `WORKER_METRICS`.
const LEASE: &str = "LEASE";
const TRIM_HORIZON: &str = "TRIM_HORIZON";
const SHARD_END: &str = "SHARD_END";

/// What units of leases are counted as.
const SPENT_ON: &str = "lease";

type Item = HashMap<String, AttributeValue>;

/// The leases of one stage in the table.
#[derive(Debug, Clone)]
pub struct Dynamo {
    table: Table,
    stage: String,
}

/// What became of a conditional write.
enum Written {
    /// It happened, and the item is this now.
    Done(Item),
    /// Its condition did not hold; the item is this, if there is one.
    Refused(Option<Item>),
}

impl Dynamo {
    /// Returns the leases of a stage, named as in metrics: `grade`, `rank`.
    pub fn new(table: Table, stage: impl Into<String>) -> Self {
        Self { table, stage: stage.into() }
    }

    fn pk(&self) -> AttributeValue {
        text(format!("lease#{}", self.stage))
    }

    fn update(&self, key: &str) -> UpdateItemFluentBuilder {
        let call = self.table.client.update_item().table_name(&self.table.name);
        call.key(PK, self.pk())
            .key(SK, text(key))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// Returns a write that only the owner of a lease in this epoch can make.
    fn as_owner(&self, held: &Lease, condition: &str) -> UpdateItemFluentBuilder {
        let owner = held.owner.clone().unwrap_or_default();
        self.update(&held.key)
            .condition_expression(condition)
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":epoch", number(held.epoch))
    }

    fn read(&self, item: &Item) -> Result<Lease, LeaseError> {
        read(item).map_err(|(name, wrong)| {
            let key = item.get(SK).and_then(|value| value.as_s().ok()).map_or("?", String::as_str);
            LeaseError::Corrupt(format!("`{name}` of lease {key} of stage {} {wrong}", self.stage))
        })
    }
}

/// What holds while a lease is its owner's.
const OWNED: &str = "leaseOwner = :owner AND epoch = :epoch";
/// The same, and no later renewal of the same owner has overtaken this one: it would take the checkpoint back.
const OWNED_BEFORE: &str = "leaseOwner = :owner AND epoch = :epoch AND leaseCounter < :next";

impl Leases for Dynamo {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Lease>, LeaseError>> {
        async move {
            let mut leases = Vec::new();
            let call = self.table.client.query().table_name(&self.table.name).consistent_read(true);
            let call =
                call.key_condition_expression("pk = :pk").expression_attribute_values(":pk", self.pk());
            let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
            let mut from = None;
            loop {
                usage::called("Query");
                let page = call.clone().set_exclusive_start_key(from).send().await;
                let page = page.map_err(|error| LeaseError::Unavailable(explain(&error)))?;
                usage::read(page.consumed_capacity());
                for item in page.items() {
                    let kind = item.get(ENTITY).and_then(|kind| kind.as_s().ok());
                    if kind.is_none_or(|kind| kind == LEASE) {
                        leases.push(self.read(item)?);
                    }
                }
                from = page.last_evaluated_key;
                if from.is_none() {
                    return Ok(leases);
                }
            }
        }
        .boxed()
    }

    fn create<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        async move {
            let mut item = write(lease);
            item.insert(PK.to_owned(), self.pk());
            item.insert(SK.to_owned(), text(&lease.key));
            let call = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
            let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
            usage::called("PutItem");
            match call.condition_expression("attribute_not_exists(pk)").send().await {
                Ok(put) => {
                    usage::wrote(SPENT_ON, put.consumed_capacity());
                    Ok(())
                }
                Err(error) if is_refused(&error) => Ok(()),
                Err(error) => Err(LeaseError::Unavailable(explain(&error))),
            }
        }
        .boxed()
    }

    fn take<'a>(
        &'a self,
        seen: &'a Lease,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>> {
        async move {
            let (counter, epoch) = (seen.counter + 1, seen.epoch + 1);
            let switches = seen.owner_switches + u64::from(seen.owner.is_some());
            let mut call = self
                .update(&seen.key)
                .update_expression(
                    "SET leaseOwner = :owner, leaseCounter = :counter, epoch = :epoch, \
                     ownerSwitchesSinceCheckpoint = :switches",
                )
                .expression_attribute_values(":owner", text(owner))
                .expression_attribute_values(":counter", number(counter))
                .expression_attribute_values(":epoch", number(epoch))
                .expression_attribute_values(":switches", number(switches))
                .expression_attribute_values(":end", text(SHARD_END))
                .expression_attribute_values(":seenCounter", number(seen.counter))
                .expression_attribute_values(":seenEpoch", number(seen.epoch));
            let stands = "leaseCounter = :seenCounter AND epoch = :seenEpoch AND checkpoint <> :end";
            call = match &seen.owner {
                Some(before) => call
                    .condition_expression(format!("{stands} AND leaseOwner = :seenOwner"))
                    .expression_attribute_values(":seenOwner", text(before)),
                None => call.condition_expression(format!("{stands} AND attribute_not_exists(leaseOwner)")),
            };
            match send(call).await? {
                Written::Done(item) => self.read(&item).map(Some),
                Written::Refused(Some(item)) => {
                    let found = self.read(&item)?;
                    let is_mine = found.owner.as_deref() == Some(owner) && found.epoch == epoch;
                    if is_mine { self.renew(&found, found.checkpoint).await } else { Ok(None) }
                }
                Written::Refused(None) => Ok(None),
            }
        }
        .boxed()
    }

    fn renew<'a>(
        &'a self,
        held: &'a Lease,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>> {
        async move {
            let mut held = held.clone();
            loop {
                let switches = if checkpoint == held.checkpoint { held.owner_switches } else { 0 };
                let call = self
                    .as_owner(&held, OWNED_BEFORE)
                    .expression_attribute_values(":next", number(held.counter + 1))
                    .update_expression(
                        "SET leaseCounter = :next, checkpoint = :at, checkpointSubSequenceNumber = :sub, \
                         ownerSwitchesSinceCheckpoint = :switches",
                    )
                    .expression_attribute_values(":switches", number(switches));
                let found = match send(at(call, checkpoint)).await? {
                    Written::Done(item) => return self.read(&item).map(Some),
                    Written::Refused(Some(item)) => self.read(&item)?,
                    Written::Refused(None) => return Ok(None),
                };
                if found.owner != held.owner || found.epoch != held.epoch {
                    return Ok(None);
                }
                // An earlier renewal has happened, unheard of. Others count from then, so it must move once more.
                held = found;
            }
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        held: &'a Lease,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'a, Result<(), LeaseError>> {
        let call = self.as_owner(held, OWNED).update_expression(
            "SET leaseCounter = leaseCounter + :one, checkpoint = :at, checkpointSubSequenceNumber = :sub \
             REMOVE leaseOwner",
        );
        let call = call.expression_attribute_values(":one", number(1));
        async move { send(at(call, checkpoint)).await.map(drop) }.boxed()
    }

    fn finish<'a>(&'a self, held: &'a Lease) -> BoxFuture<'a, Result<Option<Lease>, LeaseError>> {
        async move {
            let children = if held.children.is_empty() { "" } else { ", childShardIds = :children" };
            let mut call = self
                .as_owner(held, OWNED)
                .update_expression(format!(
                    "SET leaseCounter = leaseCounter + :one, checkpoint = :at, \
                     checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero{children} \
                     REMOVE leaseOwner"
                ))
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":zero", number(0));
            if !held.children.is_empty() {
                call = call.expression_attribute_values(":children", texts(&held.children));
            }
            match send(at(call, Checkpoint::ShardEnd)).await? {
                Written::Done(item) => self.read(&item).map(Some),
                Written::Refused(Some(item)) => {
                    let found = self.read(&item)?;
                    Ok((found.is_finished() && found.epoch == held.epoch).then_some(found))
                }
                Written::Refused(None) => Ok(None),
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, finished: &'a Lease) -> BoxFuture<'a, Result<(), LeaseError>> {
        async move {
            let call = self.table.client.delete_item().table_name(&self.table.name);
            let call = call.key(PK, self.pk()).key(SK, text(&finished.key));
            let call = call.condition_expression("checkpoint = :end");
            let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
            usage::called("DeleteItem");
            match call.expression_attribute_values(":end", text(SHARD_END)).send().await {
                Ok(deleted) => {
                    usage::wrote(SPENT_ON, deleted.consumed_capacity());
                    Ok(())
                }
                Err(error) if is_refused(&error) => Ok(()),
                Err(error) => Err(LeaseError::Unavailable(explain(&error))),
            }
        }
        .boxed()
    }
}

/// Sends a conditional update.
async fn send(call: UpdateItemFluentBuilder) -> Result<Written, LeaseError> {
    usage::called("UpdateItem");
    let error = match call.send().await {
        Ok(done) => {
            usage::wrote(SPENT_ON, done.consumed_capacity());
            return Ok(Written::Done(done.attributes.unwrap_or_default()));
        }
        Err(error) => error,
    };
    if let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = error.as_service_error() {
        return Ok(Written::Refused(refused.item.clone()));
    }
    Err(LeaseError::Unavailable(explain(&error)))
}

/// Adds a checkpoint to an update that sets `:at` and `:sub`.
fn at(call: UpdateItemFluentBuilder, checkpoint: Checkpoint) -> UpdateItemFluentBuilder {
    let (sequence, sub) = words(checkpoint);
    call.expression_attribute_values(":at", text(sequence)).expression_attribute_values(":sub", number(sub))
}

/// Returns a checkpoint as KCL writes it, with its sub-sequence number.
fn words(checkpoint: Checkpoint) -> (String, u64) {
    match checkpoint {
        Checkpoint::TrimHorizon => (TRIM_HORIZON.to_owned(), 0),
        Checkpoint::At(position) => (Position { shard: 0, sub: 0, ..position }.to_string(), position.sub),
        Checkpoint::ShardEnd => (SHARD_END.to_owned(), 0),
    }
}

/// Returns the attributes of a lease, without the table's keys.
fn write(lease: &Lease) -> Item {
    let (sequence, sub) = words(lease.checkpoint);
    let mut item = HashMap::from([
        (KEY.to_owned(), text(&lease.key)),
        (ENTITY.to_owned(), text(LEASE)),
        (COUNTER.to_owned(), number(lease.counter)),
        (EPOCH.to_owned(), number(lease.epoch)),
        (CHECKPOINT.to_owned(), text(sequence)),
        (SUB_SEQUENCE.to_owned(), number(sub)),
        (SWITCHES.to_owned(), number(lease.owner_switches)),
        (STARTING.to_owned(), text(&lease.starting_hash_key)),
        (ENDING.to_owned(), text(&lease.ending_hash_key)),
    ]);
    if let Some(owner) = &lease.owner {
        item.insert(OWNER.to_owned(), text(owner));
    }
    // DynamoDB has no empty sets.
    for (name, shards) in [(PARENTS, &lease.parents), (CHILDREN, &lease.children)] {
        if !shards.is_empty() {
            item.insert(name.to_owned(), texts(shards));
        }
    }
    item
}

/// What is wrong with an item: an attribute, and how.
type Wrong = (&'static str, &'static str);

fn read(item: &Item) -> Result<Lease, Wrong> {
    let get_text = |name: &'static str| match item.get(name) {
        Some(AttributeValue::S(value)) => Ok(Some(value.clone())),
        None => Ok(None),
        Some(_) => Err((name, "is no text")),
    };
    let get_number = |name: &'static str| match item.get(name) {
        Some(AttributeValue::N(value)) => value.parse().map_err(|_| (name, "is no number")),
        // KCL leaves some of them out.
        None => Ok(0),
        Some(_) => Err((name, "is no number")),
    };
    let get_texts = |name: &'static str| match item.get(name) {
        Some(AttributeValue::Ss(values)) => Ok(values.iter().cloned().collect()),
        None => Ok(BTreeSet::new()),
        Some(_) => Err((name, "is no set of texts")),
    };
    let key = get_text(KEY)?.ok_or((KEY, "is missing"))?;
    let checkpoint = get_text(CHECKPOINT)?.ok_or((CHECKPOINT, "is missing"))?;
    let checkpoint = match checkpoint.as_str() {
        TRIM_HORIZON => Checkpoint::TrimHorizon,
        SHARD_END => Checkpoint::ShardEnd,
        digits => {
            let shard = shard_number(&key).ok_or((KEY, "is no id of a shard"))?;
            let sequence = sequence(digits).ok_or((CHECKPOINT, "is no sequence number"))?;
            Checkpoint::At(Position { shard, sequence, sub: get_number(SUB_SEQUENCE)? })
        }
    };
    if !item.contains_key(COUNTER) {
        return Err((COUNTER, "is missing"));
    }
    Ok(Lease {
        key,
        owner: get_text(OWNER)?,
        counter: get_number(COUNTER)?,
        epoch: get_number(EPOCH)?,
        checkpoint,
        owner_switches: get_number(SWITCHES)?,
        parents: get_texts(PARENTS)?,
        children: get_texts(CHILDREN)?,
        starting_hash_key: get_text(STARTING)?.unwrap_or_default(),
        ending_hash_key: get_text(ENDING)?.unwrap_or_default(),
    })
}

/// Returns the number in a shard's id, as in `shardId-000000000012`.
fn shard_number(id: &str) -> Option<u32> {
    id.strip_prefix("shardId-")?.parse().ok()
}

/// Returns a decimal number of up to 192 bits, most significant word first.
fn sequence(digits: &str) -> Option<[u64; 3]> {
    if digits.is_empty() {
        return None;
    }
    let mut words = [0u64; 3];
    for digit in digits.chars() {
        let mut carry = u128::from(digit.to_digit(10)?);
        for word in words.iter_mut().rev() {
            let value = u128::from(*word) * 10 + carry;
            *word = value as u64;
            carry = value >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(words)
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn texts(values: &BTreeSet<String>) -> AttributeValue {
    AttributeValue::Ss(values.iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_what_it_writes() {
        let largest = Position { shard: 12, sequence: [u64::MAX; 3], sub: u64::MAX };
        let usual = Position {
            sequence: sequence("49590338271490256608559692538361571095921575989136588898").unwrap(),
            ..largest
        };
        for checkpoint in
            [Checkpoint::At(largest), Checkpoint::At(usual), Checkpoint::TrimHorizon, Checkpoint::ShardEnd]
        {
            let lease = Lease {
                checkpoint,
                ..Lease::of_shard("shardId-000000000012", ["shardId-000000000003".to_owned()], "0", "9")
            };
            assert_eq!(read(&write(&lease)), Ok(lease));
        }
        assert_eq!(
            words(Checkpoint::At(usual)).0,
            "49590338271490256608559692538361571095921575989136588898"
        );
    }

    #[test]
    fn what_is_no_sequence_number_is_refused() {
        let over = "6277101735386680763835789423207666416102355444464034512896"; // 2^192
        for bad in ["", "LATEST", "12x", "-1", over] {
            assert_eq!(sequence(bad), None, "{bad:?}");
        }
        assert_eq!(sequence("18446744073709551621"), Some([0, 1, 5]));
    }

    #[test]
    fn an_item_that_is_no_lease_is_refused_by_the_name_of_the_attribute() {
        let good = write(&Lease::of_shard("shardId-000000000000", [], "0", "9"));
        for (name, value) in
            [(COUNTER, text("1")), (CHECKPOINT, text("LATEST")), (PARENTS, text("x")), (KEY, number(1))]
        {
            let mut bad = good.clone();
            bad.insert(name.to_owned(), value);
            assert_eq!(read(&bad).unwrap_err().0, name);
        }
        for name in [KEY, CHECKPOINT, COUNTER] {
            let mut bad = good.clone();
            bad.remove(name);
            assert_eq!(read(&bad), Err((name, "is missing")));
        }
    }
}
