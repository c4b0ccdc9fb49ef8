//! The one DynamoDB table of a cluster: state, leases and progress, under a partition key `pk` and a sort key `sk`.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, TableDescription};

use crate::aws::{Aws, explain};

mod create;
pub mod usage;

pub use create::Capacity;

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
    /// Where it is, in words.
    pub place: String,
}

/// The table cannot be used, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is not there.
    #[error(
        "there is no table {name} in {place}: make it with `podium table create`, name another with --table, or another \
         region with AWS_REGION"
    )]
    Missing {
        /// Which.
        name: String,
        /// Where it was looked for.
        place: String,
    },
    /// It is there and something else.
    #[error("table {name} is not one of Podium's: {reason}; name another with --table")]
    Foreign {
        /// Which.
        name: String,
        /// How it differs.
        reason: String,
    },
    /// It is there and is not what was asked for.
    #[error("table {name} is there already, but {reason}")]
    Differs {
        /// Which.
        name: String,
        /// How it differs.
        reason: String,
    },
    /// It does not answer.
    #[error("DynamoDB: {0}")]
    Unavailable(String),
}

impl Table {
    /// Returns a table without looking at it.
    pub fn new(aws: &Aws, name: impl Into<String>) -> Self {
        Self { client: Client::new(aws.sdk()), name: name.into(), place: aws.place() }
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
                Err(self.missing())
            }
            Err(error) => Err(TableError::Unavailable(explain(&error))),
        }
    }

    /// Returns what is said when it is not there.
    pub fn missing(&self) -> TableError {
        TableError::Missing { name: self.name.clone(), place: self.place.clone() }
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
}
