//! Beats in the table: one item per worker, deleted by DynamoDB some time after its last beat.

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
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        async move {
            let call = self
                .client
                .put_item()
                .table_name(&self.name)
                .item(PK, AttributeValue::S(key(stage)))
                .item(SK, AttributeValue::S(worker.to_owned()))
                .item("entityType", AttributeValue::S("BEAT".into()))
                .item(BEAT, AttributeValue::B(Blob::new(encode(beat))))
                .item(EXPIRES, AttributeValue::N((now.as_secs() + KEPT_S).to_string()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            usage::called("PutItem");
            let put = call.send().await.map_err(|error| StoreError::Unavailable(explain(&error)))?;
            usage::wrote("beat", put.consumed_capacity());
            Ok(())
        }
        .boxed()
    }

    fn all<'a>(&'a self, stage: Stage) -> BoxFuture<'a, Result<Vec<Beat>, StoreError>> {
        async move {
            let mut beats = Vec::new();
            let mut from = None;
            loop {
                let call = self
                    .client
                    .query()
                    .table_name(&self.name)
                    .consistent_read(true)
                    .key_condition_expression("#pk = :stage")
                    .expression_attribute_names("#pk", PK)
                    .expression_attribute_values(":stage", AttributeValue::S(key(stage)))
                    .set_exclusive_start_key(from)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total);
                usage::called("Query");
                let page = call.send().await.map_err(|error| StoreError::Unavailable(explain(&error)))?;
                usage::read(page.consumed_capacity());
                for item in page.items() {
                    let bytes = item.get(BEAT).and_then(|value| value.as_b().ok());
                    let bytes = bytes.ok_or_else(|| StoreError::Corrupt("a beat without content".into()))?;
                    beats.push(
                        decode(bytes.as_ref()).map_err(|error| StoreError::Corrupt(error.to_string()))?,
                    );
                }
                from = page.last_evaluated_key;
                if from.is_none() {
                    return Ok(beats);
                }
            }
        }
        .boxed()
    }
}

fn key(stage: Stage) -> String {
    format!("beat#{}", stage.name())
}
