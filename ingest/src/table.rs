//! The one DynamoDB table of a cluster: state, leases and progress, under a partition key `pk` and a sort key `sk`.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TableDescription, TableStatus, Tag, TimeToLiveSpecification, TimeToLiveStatus,
};

use crate::aws::{Aws, explain};

pub mod usage;

/// Name of the partition key.
pub const PK: &str = "pk";
/// Name of the sort key.
pub const SK: &str = "sk";
/// Name of the attribute that holds the Unix second from which an item may be deleted.
pub const EXPIRES: &str = "expires";

/// The table, for whoever keeps something in it.
#[derive(Debug, Clone)]
pub struct Table {
    /// Calls it.
    pub client: Client,
    /// Its name.
    pub name: String,
}

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

/// The table cannot be used, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is not there.
    #[error(
        "there is no table {0} in this region: make it with `podium table create`, or name another with --table"
    )]
    Missing(String),
    /// It is there and something else.
    #[error("table {name} is not one of Podium's: {reason}; name another with --table")]
    Foreign {
        /// Which.
        name: String,
        /// How it differs.
        reason: String,
    },
    /// It does not answer.
    #[error("DynamoDB: {0}")]
    Unavailable(String),
}

/// Time in which a new table becomes active.
const ACTIVE_WITHIN: Duration = Duration::from_mins(2);

impl Table {
    /// Returns a table without looking at it.
    pub fn new(aws: &Aws, name: impl Into<String>) -> Self {
        Self { client: Client::new(aws.sdk()), name: name.into() }
    }

    /// Returns a table that is there and has the right keys.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn open(aws: &Aws, name: impl Into<String>) -> Result<Self, TableError> {
        let table = Self::new(aws, name);
        table.check(&table.describe().await?)?;
        Ok(table)
    }

    /// Makes the table unless it is there, and returns it once it can be used. Making it again changes nothing.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn create(
        aws: &Aws,
        name: impl Into<String>,
        capacity: Capacity,
        tags: &[(String, String)],
    ) -> Result<Self, TableError> {
        let table = Self::new(aws, name);
        match table.describe().await {
            Ok(found) => table.check(&found)?,
            Err(TableError::Missing(_)) => table.make(capacity, tags).await?,
            Err(error) => return Err(error),
        }
        table.wait_until_active().await?;
        table.expire().await?;
        Ok(table)
    }

    /// Returns what DynamoDB says of it.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn describe(&self) -> Result<TableDescription, TableError> {
        match self.client.describe_table().table_name(&self.name).send().await {
            Ok(found) => Ok(found.table.unwrap_or_else(|| TableDescription::builder().build())),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Err(TableError::Missing(self.name.clone()))
            }
            Err(error) => Err(TableError::Unavailable(explain(&error))),
        }
    }

    fn check(&self, found: &TableDescription) -> Result<(), TableError> {
        let key = |kind: &KeyType| {
            let name = found.key_schema().iter().find(|key| key.key_type() == kind)?.attribute_name();
            let attribute = found.attribute_definitions().iter().find(|a| a.attribute_name() == name)?;
            Some((name, attribute.attribute_type()))
        };
        for (kind, name) in [(KeyType::Hash, PK), (KeyType::Range, SK)] {
            if key(&kind) != Some((name, &ScalarAttributeType::S)) {
                let reason = format!(
                    "its {} key is not the text `{name}`",
                    if name == PK { "partition" } else { "sort" }
                );
                return Err(TableError::Foreign { name: self.name.clone(), reason });
            }
        }
        Ok(())
    }

    async fn make(&self, capacity: Capacity, tags: &[(String, String)]) -> Result<(), TableError> {
        let broken = "every required field is given";
        let mut call = self.client.create_table().table_name(&self.name);
        for (kind, name) in [(KeyType::Hash, PK), (KeyType::Range, SK)] {
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect(broken);
            let text = ScalarAttributeType::S;
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(text).build();
            call = call.key_schema(key).attribute_definitions(attribute.expect(broken));
        }
        call = match capacity {
            Capacity::OnDemand => call.billing_mode(BillingMode::PayPerRequest),
            Capacity::Provisioned { reads, writes } => {
                let units = ProvisionedThroughput::builder()
                    .read_capacity_units(reads.into())
                    .write_capacity_units(writes.into());
                call.billing_mode(BillingMode::Provisioned)
                    .provisioned_throughput(units.build().expect(broken))
            }
        };
        for (key, value) in tags {
            call = call.tags(Tag::builder().key(key).value(value).build().expect(broken));
        }
        match call.send().await {
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

    async fn wait_until_active(&self) -> Result<(), TableError> {
        let began = tokio::time::Instant::now();
        loop {
            match self.describe().await {
                Ok(found) if found.table_status() == Some(&TableStatus::Active) => return self.check(&found),
                Ok(_) | Err(TableError::Missing(_)) if began.elapsed() < ACTIVE_WITHIN => {}
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

    /// Turns on deletion by [`EXPIRES`].
    async fn expire(&self) -> Result<(), TableError> {
        let found = self.client.describe_time_to_live().table_name(&self.name).send().await;
        let found = found.map_err(|error| TableError::Unavailable(explain(&error)))?;
        let status = found.time_to_live_description.and_then(|found| found.time_to_live_status);
        if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
            return Ok(());
        }
        let setting = TimeToLiveSpecification::builder().attribute_name(EXPIRES).enabled(true).build();
        let setting = setting.expect("every required field is given");
        let call =
            self.client.update_time_to_live().table_name(&self.name).time_to_live_specification(setting);
        call.send().await.map(drop).map_err(|error| TableError::Unavailable(explain(&error)))
    }
}
