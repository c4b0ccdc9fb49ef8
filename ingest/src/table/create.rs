//! Making the table, and bringing one that is there to what was asked for as far as that is harmless.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TableDescription, TableStatus, Tag, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::{EXPIRES, PK, SK, Table, TableError};
use crate::aws::{Aws, explain};

/// Time in which a new table becomes active.
const ACTIVE_WITHIN: Duration = Duration::from_mins(2);
/// Why a builder cannot fail.
const GIVEN: &str = "every required field is given";

/// Who pays how for reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// Per request.
    OnDemand,
    /// Units per second, bought ahead.
    Provisioned {
        /// Read units.
        reads: u32,
        /// Write units.
        writes: u32,
    },
}

impl Capacity {
    /// Returns what a table has. One that says nothing of it is provisioned.
    pub fn of(found: &TableDescription) -> Self {
        let mode = found.billing_mode_summary().and_then(|summary| summary.billing_mode());
        if mode == Some(&BillingMode::PayPerRequest) {
            return Self::OnDemand;
        }
        let units = found.provisioned_throughput();
        let count = |units: Option<i64>| units.and_then(|units| units.try_into().ok()).unwrap_or_default();
        Self::Provisioned {
            reads: count(units.and_then(|units| units.read_capacity_units())),
            writes: count(units.and_then(|units| units.write_capacity_units())),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::OnDemand => "on demand",
            Self::Provisioned { .. } => "provisioned",
        }
    }
}

impl Table {
    /// Makes the table unless it is there, and returns it once it can be used. One that is there gets the tags that it
    /// lacks and deletion by [`EXPIRES`]; its capacity stays as it is, and another kind than asked for is refused.
    ///
    /// Without a capacity a new table is on demand.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn create(
        aws: &Aws,
        name: impl Into<String>,
        capacity: impl Into<Option<Capacity>>,
        tags: &[(String, String)],
    ) -> Result<Self, TableError> {
        let table = Self::new(aws, name);
        let capacity = capacity.into();
        match table.describe().await {
            Ok(found) => table.check(&found)?,
            Err(TableError::Missing { .. }) => {
                table.make(capacity.unwrap_or(Capacity::OnDemand), tags).await?;
            }
            Err(error) => return Err(error),
        }
        // Even now it may be somebody else's who was quicker.
        let found = table.active().await?;
        let has = Capacity::of(&found);
        if let Some(wanted) = capacity.filter(|wanted| wanted.words() != has.words()) {
            let reason = format!(
                "it is {}, not {}: leave --mode out to keep it so, or change it with `aws dynamodb update-table`",
                has.words(),
                wanted.words()
            );
            return Err(TableError::Differs { name: table.name, reason });
        }
        table.tag(&found, tags).await?;
        table.expire().await?;
        Ok(table)
    }

    async fn make(&self, capacity: Capacity, tags: &[(String, String)]) -> Result<(), TableError> {
        let mut call = self.client.create_table().table_name(&self.name);
        for (kind, name) in [(KeyType::Hash, PK), (KeyType::Range, SK)] {
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect(GIVEN);
            let text = ScalarAttributeType::S;
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(text).build();
            call = call.key_schema(key).attribute_definitions(attribute.expect(GIVEN));
        }
        call = match capacity {
            Capacity::OnDemand => call.billing_mode(BillingMode::PayPerRequest),
            Capacity::Provisioned { reads, writes } => {
                let units = ProvisionedThroughput::builder()
                    .read_capacity_units(reads.into())
                    .write_capacity_units(writes.into());
                call.billing_mode(BillingMode::Provisioned)
                    .provisioned_throughput(units.build().expect(GIVEN))
            }
        };
        match call.set_tags(Some(list(tags))).send().await {
            Ok(_) => Ok(()),
            // Somebody else was quicker.
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(TableError::Unavailable(explain(&error))),
        }
    }

    async fn active(&self) -> Result<TableDescription, TableError> {
        let began = tokio::time::Instant::now();
        loop {
            match self.describe().await {
                Ok(found) if found.table_status() == Some(&TableStatus::Active) => {
                    self.check(&found)?;
                    return Ok(found);
                }
                Ok(_) | Err(TableError::Missing { .. }) if began.elapsed() < ACTIVE_WITHIN => {}
                Ok(_) => {
                    return Err(TableError::Unavailable(format!(
                        "table {} does not become active",
                        self.name
                    )));
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Adds the tags that are not there.
    async fn tag(&self, found: &TableDescription, tags: &[(String, String)]) -> Result<(), TableError> {
        if tags.is_empty() {
            return Ok(());
        }
        let arn = found.table_arn().unwrap_or_default();
        let has = self.tags(arn).await?;
        let missing: Vec<_> = tags.iter().filter(|tag| !has.contains(tag)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let call = self.client.tag_resource().resource_arn(arn).set_tags(Some(list(&missing)));
        call.send().await.map(drop).map_err(|error| TableError::Unavailable(explain(&error)))
    }

    async fn tags(&self, arn: &str) -> Result<Vec<(String, String)>, TableError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let call = self.client.list_tags_of_resource().resource_arn(arn).set_next_token(after);
            let page = call.send().await.map_err(|error| TableError::Unavailable(explain(&error)))?;
            all.extend(page.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())));
            after = page.next_token;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Turns on deletion by [`EXPIRES`].
    async fn expire(&self) -> Result<(), TableError> {
        if self.expires().await? {
            return Ok(());
        }
        let setting = TimeToLiveSpecification::builder().attribute_name(EXPIRES).enabled(true);
        let call = self.client.update_time_to_live().table_name(&self.name);
        let Err(error) = call.time_to_live_specification(setting.build().expect(GIVEN)).send().await else {
            return Ok(());
        };
        // Turning on what is on is refused: somebody else was quicker, or a try whose answer was lost.
        match self.expires().await {
            Ok(true) => Ok(()),
            Err(differs @ TableError::Differs { .. }) => Err(differs),
            Ok(false) | Err(_) => Err(TableError::Unavailable(explain(&error))),
        }
    }

    /// Tells whether items are deleted by [`EXPIRES`].
    async fn expires(&self) -> Result<bool, TableError> {
        let found = self.client.describe_time_to_live().table_name(&self.name).send().await;
        let found = found.map_err(|error| TableError::Unavailable(explain(&error)))?;
        let Some(found) = found.time_to_live_description else { return Ok(false) };
        let is_on = matches!(
            found.time_to_live_status(),
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        );
        match found.attribute_name() {
            Some(other) if is_on && other != EXPIRES => Err(TableError::Differs {
                name: self.name.clone(),
                reason: format!(
                    "its items expire by the attribute `{other}`, not `{EXPIRES}`: turn that off with \
                     `aws dynamodb update-time-to-live`, or name another with --table"
                ),
            }),
            Some(_) | None => Ok(is_on),
        }
    }
}

fn list(tags: &[(String, String)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build().expect(GIVEN)).collect()
}
