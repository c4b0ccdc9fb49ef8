//! Beats in the table: one item per worker, which it takes away when it ends; others do later, or DynamoDB does.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::aws::explain;
use ingest::table::{EXPIRES, PK, SK, Table, usage};

use super::{Beat, Beats, decode, encode};
use crate::store::{Stage, StoreError};

/// Attribute of the beat itself.
const BEAT: &str = "beat";
/// A worker's last beat is kept this long. What it says is true for ever, but others say more by then.
const KEPT_S: u64 = 3_600;

impl Beats for Table {
    fn put<'a>(
        &'a self,
        stage: Stage,
        worker: &'a str,
        beat: &'a Beat,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let call = self
                .client
                .put_item()
                .table_name(&self.name)
                .item(PK, AttributeValue::S(key(stage)))
                .item(SK, AttributeValue::S(worker.to_owned()))
                .item("entityType", AttributeValue::S("BEAT".into()))
                .item(BEAT, AttributeValue::B(Blob::new(encode(beat))))
                .item(EXPIRES, AttributeValue::N((now_s() + KEPT_S).to_string()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            usage::called("PutItem");
            let put = call.send().await.map_err(|error| StoreError::Unavailable(explain(&error)))?;
            usage::wrote("beat", put.consumed_capacity());
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, stage: Stage, worker: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let call = self
                .client
                .delete_item()
                .table_name(&self.name)
                .key(PK, AttributeValue::S(key(stage)))
                .key(SK, AttributeValue::S(worker.to_owned()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            usage::called("DeleteItem");
            let deleted = call.send().await.map_err(|error| StoreError::Unavailable(explain(&error)))?;
            usage::wrote("beat", deleted.consumed_capacity());
            Ok(())
        }
        .boxed()
    }

    fn sweep(&self, stage: Stage) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            for item in query(self, stage).await?.iter().filter(|item| !is_kept(item)) {
                if let Some(worker) = item.get(SK).and_then(|worker| worker.as_s().ok()) {
                    self.remove(stage, worker).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn all<'a>(&'a self, stage: Stage) -> BoxFuture<'a, Result<Vec<Beat>, StoreError>> {
        async move {
            let items = query(self, stage).await?;
            Ok(items.iter().filter(|item| is_kept(item)).filter_map(read).collect())
        }
        .boxed()
    }
}

type Item = HashMap<String, AttributeValue>;

async fn query(table: &Table, stage: Stage) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    let mut from = None;
    loop {
        let call = table
            .client
            .query()
            .table_name(&table.name)
            .consistent_read(true)
            .key_condition_expression("#pk = :stage")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":stage", AttributeValue::S(key(stage)))
            .set_exclusive_start_key(from)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        usage::called("Query");
        let page = call.send().await.map_err(|error| StoreError::Unavailable(explain(&error)))?;
        usage::read(page.consumed_capacity());
        items.extend(page.items.unwrap_or_default());
        from = page.last_evaluated_key;
        if from.is_none() {
            return Ok(items);
        }
    }
}

/// Returns a beat, or nothing for what is none: the others are no less true for it.
fn read(item: &Item) -> Option<Beat> {
    let bytes = item.get(BEAT).and_then(|value| value.as_b().ok());
    let reason = match bytes.map(|bytes| decode(bytes.as_ref())) {
        Some(Ok(beat)) => return Some(beat),
        Some(Err(error)) => error.to_string(),
        None => "it has no content".to_owned(),
    };
    let worker = item.get(SK).and_then(|worker| worker.as_s().ok());
    tracing::warn!(worker, reason, "a beat cannot be read");
    None
}

/// Tells whether a beat is younger than it is kept.
fn is_kept(item: &Item) -> bool {
    let expires = item.get(EXPIRES).and_then(|value| value.as_n().ok()).and_then(|value| value.parse().ok());
    expires.is_none_or(|expires: u64| expires >= now_s())
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn key(stage: Stage) -> String {
    format!("beat#{}", stage.name())
}
