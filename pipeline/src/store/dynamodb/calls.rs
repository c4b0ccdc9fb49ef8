//! The calls to the table: each with its condition, what it costs, and what its errors ask for.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::primitives::Blob as Bytes;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use futures::FutureExt;
use ingest::aws::{explain, is_refused};
use ingest::proto::Manifest;
use ingest::table::{PK, SK, Table};
use operators::id::UnixMillis;

use super::manifest::{Head, corrupt, decode, encode, name, position_text};
use super::usage::{Meter, What};
use crate::store::{Header, StoreError, Unit};

/// The table and what it cost so far.
#[derive(Debug)]
pub(super) struct Calls {
    table: Table,
    pub(super) meter: Meter,
}

/// Who writes pages: an owner, and one life of it. No two lives ever write over each other's pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    pub(super) unit: Unit,
    pub(super) epoch: u64,
    /// Drawn.
    pub(super) life: u64,
}

/// A page's place: its slot, and the number that tells it from what was in that slot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageId {
    pub(super) slot: u64,
    pub(super) epoch: u64,
    pub(super) number: u64,
}

/// Whether a header moved.
pub(super) enum Moved {
    Yes,
    /// It is not where it was believed to be, but here.
    No(Option<Head>),
}

type Item = HashMap<String, AttributeValue>;

const HEADER: &str = "header";
const PAGE: &str = "page";
/// Names of attributes, as expressions refer to them: DynamoDB keeps many words for itself.
const EPOCH: (&str, &str) = ("#e", "epoch");
const POSITION: (&str, &str) = ("#p", "position");
const APPEND_AT: (&str, &str) = ("#a", "append_at");
const MANIFEST: (&str, &str) = ("#m", "manifest");
const WRITER: (&str, &str) = ("#w", "writer");
const NUMBER: (&str, &str) = ("#n", "number");
const DATA: (&str, &str) = ("#d", "data");
const KEY: (&str, &str) = ("#k", PK);
/// A slot is free for a page if what is in it was written by an earlier owner, or earlier by the same: an owner writes
/// to no slot that its manifest names, and nobody else may write under its epoch.
const SLOT_IS_OURS: &str = "#e < :e OR (#e = :e AND #w = :w AND #n <= :n)";

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn bytes(value: Vec<u8>) -> AttributeValue {
    AttributeValue::B(Bytes::new(value))
}

fn header_key(unit: Unit) -> [AttributeValue; 2] {
    [text(format!("unit#{}", name(unit))), text(HEADER)]
}

fn page_key(unit: Unit, slot: u64) -> [AttributeValue; 2] {
    // A key of its own for each slot, so that DynamoDB can spread them.
    [text(format!("page#{}#{slot:010}", name(unit))), text(PAGE)]
}

fn get_number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn get_bytes<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    Some(item.get(name)?.as_b().ok()?.as_ref())
}

fn head(unit: Unit, item: &Item) -> Result<Head, StoreError> {
    let missing = |name: &str| corrupt(unit, &format!("{name} is missing or of another type"));
    let epoch = get_number(item, EPOCH.1).ok_or_else(|| missing(EPOCH.1))?;
    // Nothing was committed yet.
    if !item.contains_key(MANIFEST.1) && !item.contains_key(POSITION.1) {
        let none = Head::new(epoch, UnixMillis(0), Manifest::default());
        return none.map_err(|reason| corrupt(unit, &reason));
    }
    let append_at = get_number(item, APPEND_AT.1).ok_or_else(|| missing(APPEND_AT.1))?;
    let manifest = get_bytes(item, MANIFEST.1).ok_or_else(|| missing(MANIFEST.1))?;
    let manifest = decode(unit, manifest).map_err(|reason| corrupt(unit, &format!("manifest: {reason}")))?;
    let head = Head::new(epoch, UnixMillis(append_at), manifest).map_err(|reason| corrupt(unit, &reason))?;
    let position = item.get(POSITION.1).and_then(|value| value.as_s().ok());
    if position != head.header.position.map(position_text).as_ref() {
        return Err(corrupt(unit, "its position is not that of its manifest"));
    }
    Ok(head)
}

impl Calls {
    pub(super) fn new(table: Table) -> Self {
        Self { table, meter: Meter::default() }
    }

    /// Returns the head of a unit as of now; `None` if nobody ever took it.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn head(&self, unit: Unit) -> Result<Option<Head>, StoreError> {
        self.meter.call("GetItem");
        let [pk, sk] = header_key(unit);
        let call = self.table.client.get_item().table_name(&self.table.name).key(PK, pk).key(SK, sk);
        let call = call.consistent_read(true).return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = call.send().boxed().await.map_err(|error| self.error(&error))?;
        self.meter.read(answer.consumed_capacity());
        answer.item.as_ref().map(|item| head(unit, item)).transpose()
    }

    /// Raises the epoch of a unit by one if it is still `found`; returns the head as it is then.
    ///
    /// # Errors
    /// `Unavailable`: also if somebody else raised it. `Corrupt`.
    pub(super) async fn raise(&self, unit: Unit, found: Option<u64>) -> Result<Head, StoreError> {
        self.meter.call("UpdateItem");
        let [pk, sk] = header_key(unit);
        let call = self.table.client.update_item().table_name(&self.table.name).key(PK, pk).key(SK, sk);
        let call = call.update_expression("SET #e = :new").expression_attribute_names(EPOCH.0, EPOCH.1);
        let call = call.expression_attribute_values(":new", number(found.unwrap_or(0) + 1));
        let call = match found {
            Some(found) => {
                call.condition_expression("#e = :found").expression_attribute_values(":found", number(found))
            }
            None => call.condition_expression("attribute_not_exists(#e)"),
        };
        // The head is that of the moment of the change: until then the last owner may have moved it.
        let call =
            call.return_values(ReturnValue::AllNew).return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = match call.send().boxed().await {
            Ok(answer) => answer,
            Err(error) if is_refused(&error) => {
                // By somebody else, or by an earlier try of this call: taking it once more is right in both cases.
                return Err(StoreError::Unavailable("taken at the same time".into()));
            }
            Err(error) => return Err(self.error(&error)),
        };
        self.meter.wrote(What::Header, answer.consumed_capacity());
        let item = answer.attributes.ok_or_else(|| corrupt(unit, "the answer does not hold it"))?;
        head(unit, &item)
    }

    /// Moves a header forward, from exactly where `from` says.
    ///
    /// # Errors
    /// `Unavailable`: nobody knows whether it moved. `Corrupt`.
    pub(super) async fn advance(&self, unit: Unit, from: Header, to: &Head) -> Result<Moved, StoreError> {
        self.meter.call("UpdateItem");
        let [pk, sk] = header_key(unit);
        let position = to.header.position.expect("a commit has a position");
        let call = self.table.client.update_item().table_name(&self.table.name).key(PK, pk).key(SK, sk);
        let call = call
            .update_expression("SET #p = :to, #a = :at, #m = :m")
            .expression_attribute_values(":e", number(from.epoch))
            .expression_attribute_values(":to", text(position_text(position)))
            .expression_attribute_values(":at", number(to.header.append_at.0))
            .expression_attribute_values(":m", bytes(encode(unit, &to.manifest)));
        let call = [EPOCH, POSITION, APPEND_AT, MANIFEST]
            .iter()
            .fold(call, |call, (short, name)| call.expression_attribute_names(*short, *name));
        // The manifest is made from the one before: it must not go over another that the same epoch wrote in between.
        let call = match from.position {
            Some(from) => call
                .condition_expression("#e = :e AND #p = :from AND #p < :to")
                .expression_attribute_values(":from", text(position_text(from))),
            None => call.condition_expression("#e = :e AND attribute_not_exists(#p)"),
        };
        let call = call
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().boxed().await {
            Ok(answer) => {
                self.meter.wrote(What::Header, answer.consumed_capacity());
                Ok(Moved::Yes)
            }
            Err(error) => {
                use aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException;
                if let Some(ConditionalCheckFailedException(failed)) = error.as_service_error() {
                    return Ok(Moved::No(failed.item().map(|item| head(unit, item)).transpose()?));
                }
                Err(self.error(&error))
            }
        }
    }

    /// Writes a page into a slot; returns whether the slot was free for it. Writing it again changes nothing.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn put(
        &self,
        writer: Writer,
        page: PageId,
        data: Vec<u8>,
        what: What,
    ) -> Result<bool, StoreError> {
        self.meter.call("PutItem");
        let [pk, sk] = page_key(writer.unit, page.slot);
        let call = self.table.client.put_item().table_name(&self.table.name).item(PK, pk).item(SK, sk);
        let call = call
            .item(EPOCH.1, number(page.epoch))
            .item(WRITER.1, number(writer.life))
            .item(NUMBER.1, number(page.number))
            .item(DATA.1, bytes(data))
            .condition_expression(format!("attribute_not_exists(#k) OR {SLOT_IS_OURS}"))
            .expression_attribute_values(":e", number(writer.epoch))
            .expression_attribute_values(":w", number(writer.life))
            .expression_attribute_values(":n", number(page.number));
        let call = [KEY, EPOCH, WRITER, NUMBER]
            .iter()
            .fold(call, |call, (short, name)| call.expression_attribute_names(*short, *name));
        let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().boxed().await {
            Ok(answer) => {
                self.meter.wrote(what, answer.consumed_capacity());
                Ok(true)
            }
            Err(error) if is_refused(&error) => Ok(false),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Returns the bytes of a page; `None` if it is no longer there.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn get(&self, unit: Unit, page: PageId) -> Result<Option<Vec<u8>>, StoreError> {
        // A page never changes, so a read at half the price is as good, unless it is too early to see it.
        for consistent in [false, true] {
            self.meter.call("GetItem");
            let [pk, sk] = page_key(unit, page.slot);
            let call = self.table.client.get_item().table_name(&self.table.name).key(PK, pk).key(SK, sk);
            let call =
                call.consistent_read(consistent).return_consumed_capacity(ReturnConsumedCapacity::Total);
            let answer = call.send().boxed().await.map_err(|error| self.error(&error))?;
            self.meter.read(answer.consumed_capacity());
            let Some(mut item) = answer.item else { continue };
            if get_number(&item, EPOCH.1) != Some(page.epoch)
                || get_number(&item, NUMBER.1) != Some(page.number)
            {
                continue;
            }
            if let Some(AttributeValue::B(data)) = item.remove(DATA.1) {
                return Ok(Some(data.into_inner()));
            }
        }
        Ok(None)
    }

    /// Deletes what is in a free slot.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn delete(&self, writer: Writer, slot: u64) -> Result<(), StoreError> {
        self.meter.call("DeleteItem");
        let [pk, sk] = page_key(writer.unit, slot);
        let call = self.table.client.delete_item().table_name(&self.table.name).key(PK, pk).key(SK, sk);
        let call = call
            .condition_expression("#e < :e OR (#e = :e AND #w = :w)")
            .expression_attribute_values(":e", number(writer.epoch))
            .expression_attribute_values(":w", number(writer.life));
        let call = [EPOCH, WRITER]
            .iter()
            .fold(call, |call, (short, name)| call.expression_attribute_names(*short, *name));
        let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().boxed().await {
            Ok(answer) => {
                self.meter.wrote(What::Delete, answer.consumed_capacity());
                Ok(())
            }
            // It is not there, or somebody else's by now.
            Err(error) if is_refused(&error) => Ok(()),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Returns what a failed call asks for: what time may mend is to be tried again, what only a person can is not.
    fn error<E>(&self, error: &SdkError<E>) -> StoreError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let code = error.as_service_error().and_then(|service| service.code());
        match code {
            Some("ResourceNotFoundException") => StoreError::Corrupt(self.table.missing().to_string()),
            Some(
                "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "IncompleteSignatureException"
                | "MissingAuthenticationTokenException"
                | "InvalidClientTokenId"
                | "AccessDeniedException"
                | "ValidationException"
                | "ItemCollectionSizeLimitExceededException",
            ) => StoreError::Corrupt(format!("table {}: {}", self.table.name, explain(error))),
            _ => StoreError::Unavailable(format!("table {}: {}", self.table.name, explain(error))),
        }
    }
}
