//! Making the table: once, however often and by however many, and never over somebody else's.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use ingest::aws::Aws;
use ingest::table::{Capacity, EXPIRES, Table, TableError};

use crate::faults::{Fault, Faults};

/// A DynamoDB without the table.
struct Double {
    aws: Aws,
    faults: Faults,
    name: String,
}

impl Double {
    async fn start() -> Self {
        static TABLES: AtomicU32 = AtomicU32::new(0);
        let number = TABLES.fetch_add(1, Ordering::Relaxed);
        let endpoint = match std::env::var("PODIUM_TEST_AWS_ENDPOINT") {
            Ok(endpoint) => endpoint,
            Err(_) => {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let endpoint = format!("http://{}", listener.local_addr().unwrap());
                let database = dynoxide::Database::memory().unwrap();
                tokio::spawn(dynoxide::server::serve_on(listener, database));
                endpoint
            }
        };
        let faults = Faults::new(0);
        let aws = Aws::at(&endpoint, faults.client()).await;
        Self { aws, faults, name: format!("podium-table-{}-{number}", std::process::id()) }
    }

    fn client(&self) -> Client {
        Client::new(self.aws.sdk())
    }

    async fn create(
        &self,
        capacity: impl Into<Option<Capacity>>,
        tags: &[(&str, &str)],
    ) -> Result<Table, TableError> {
        let tags: Vec<_> = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Table::create(&self.aws, &self.name, capacity, &tags).await
    }

    /// Returns the tags, sorted.
    async fn tags(&self, table: &Table) -> Vec<(String, String)> {
        let arn = table.describe().await.unwrap().table_arn.unwrap();
        let found = self.client().list_tags_of_resource().resource_arn(arn).send().await.unwrap();
        let mut tags: Vec<_> =
            found.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
        tags.sort();
        tags
    }

    /// Returns the attribute that items expire by.
    async fn expiry(&self) -> Option<String> {
        let found = self.client().describe_time_to_live().table_name(&self.name).send().await.unwrap();
        let found = found.time_to_live_description?;
        (found.time_to_live_status == Some(TimeToLiveStatus::Enabled)).then_some(found.attribute_name?)
    }

    /// Makes a table of somebody else's.
    async fn foreign(&self, keys: &[(&str, KeyType, ScalarAttributeType)]) {
        let mut call = self.client().create_table().table_name(&self.name);
        call = call.billing_mode(BillingMode::PayPerRequest);
        for (name, kind, attribute) in keys {
            let key = KeySchemaElement::builder().attribute_name(*name).key_type(kind.clone());
            let attribute =
                AttributeDefinition::builder().attribute_name(*name).attribute_type(attribute.clone());
            call = call.key_schema(key.build().unwrap()).attribute_definitions(attribute.build().unwrap());
        }
        call.send().await.unwrap();
    }

    async fn expire_by(&self, attribute: &str) {
        let setting = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build();
        let call = self.client().update_time_to_live().table_name(&self.name);
        call.time_to_live_specification(setting.unwrap()).send().await.unwrap();
    }
}

fn owned(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_table_that_is_there_gets_the_tags_and_the_expiry_that_it_lacks() {
    let double = Double::start().await;
    let made = double.create(Capacity::OnDemand, &[("team", "a")]).await.unwrap();
    assert_eq!(Capacity::of(&made.describe().await.unwrap()), Capacity::OnDemand);
    assert_eq!(double.tags(&made).await, owned(&[("team", "a")]));
    assert_eq!(double.expiry().await.as_deref(), Some(EXPIRES));
    double.create(None, &[("team", "b"), ("stage", "test")]).await.unwrap();
    assert_eq!(double.tags(&made).await, owned(&[("stage", "test"), ("team", "b")]));
    double.create(None, &[]).await.unwrap();
    assert_eq!(double.tags(&made).await.len(), 2, "none is taken away");
    let asked = double.faults.calls("TagResource");
    double.create(None, &[("team", "b")]).await.unwrap();
    assert_eq!(double.faults.calls("TagResource"), asked, "what is there is not written again");
}

#[tokio::test]
async fn another_kind_of_capacity_is_refused_and_another_amount_is_kept() {
    let double = Double::start().await;
    let units = |reads, writes| Capacity::Provisioned { reads, writes };
    double.create(units(5, 6), &[]).await.unwrap();
    let said = double.create(Capacity::OnDemand, &[("team", "a")]).await.unwrap_err();
    assert!(matches!(said, TableError::Differs { .. }), "{said}");
    assert!(said.to_string().contains("provisioned, not on demand"), "{said}");
    for capacity in [None, Some(units(50, 60))] {
        let table = double.create(capacity, &[]).await.unwrap();
        assert_eq!(Capacity::of(&table.describe().await.unwrap()), units(5, 6));
        assert_eq!(double.tags(&table).await, [], "a refused call changes nothing");
    }
}

#[tokio::test]
async fn a_table_that_expires_by_another_attribute_is_refused() {
    let double = Double::start().await;
    let text = ScalarAttributeType::S;
    double.foreign(&[("pk", KeyType::Hash, text.clone()), ("sk", KeyType::Range, text)]).await;
    double.expire_by("ttl").await;
    let said = double.create(None, &[]).await.unwrap_err().to_string();
    assert!(said.contains("`ttl`, not `expires`") && !said.contains('\n'), "{said}");
    assert_eq!(double.expiry().await.as_deref(), Some("ttl"));
}

/// Two set it up at once: the second turns on what the first turned on a moment before.
#[tokio::test]
async fn expiry_that_somebody_else_turned_on_is_turned_on() {
    let double = Double::start().await;
    double.faults.next("UpdateTimeToLive", [Fault::RefuseDone(400, "ValidationException")]);
    double.create(None, &[]).await.unwrap();
    assert_eq!(double.expiry().await.as_deref(), Some(EXPIRES));
    let double = Double::start().await;
    double.faults.next("UpdateTimeToLive", [Fault::Refuse(400, "ValidationException")]);
    let said = double.create(None, &[]).await.unwrap_err().to_string();
    assert!(said.contains("ValidationException"), "what is not on is said: {said}");
    let (one, other) = tokio::join!(double.create(None, &[]), double.create(None, &[]));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test]
async fn a_table_with_other_keys_is_somebody_elses() {
    let (text, number) = (ScalarAttributeType::S, ScalarAttributeType::N);
    let (hash, range) = (KeyType::Hash, KeyType::Range);
    for (keys, named) in [
        (&[("id", hash.clone(), text.clone())][..], "partition key is not the text `pk`"),
        (&[("pk", hash.clone(), number), ("sk", range.clone(), text.clone())], "not the text `pk`"),
        (&[("pk", hash.clone(), text.clone())], "sort key is not the text `sk`"),
        (&[("pk", hash, text.clone()), ("version", range, text)], "not the text `sk`"),
    ] {
        let double = Double::start().await;
        double.foreign(keys).await;
        let opened = Table::open(&double.aws, &double.name).await.unwrap_err();
        for refused in [opened, double.create(None, &[]).await.unwrap_err()] {
            assert!(matches!(refused, TableError::Foreign { .. }), "{refused}");
            let said = refused.to_string();
            assert!(said.contains(named) && said.contains(&double.name) && !said.contains('\n'), "{said}");
        }
        assert_eq!(double.expiry().await, None, "nothing of it is changed");
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_missed_where_it_was_looked_for() {
    let double = Double::start().await;
    let said = Table::open(&double.aws, &double.name).await.unwrap_err().to_string();
    assert!(said.contains("podium table create") && said.contains("region us-east-1 at http://"), "{said}");
}

#[tokio::test]
async fn wrong_credentials_are_told_by_the_first_line() {
    let double = Double::start().await;
    for code in ["InvalidSignatureException", "UnrecognizedClientException", "AccessDeniedException"] {
        double.faults.next("DescribeTable", [Fault::Refuse(400, code); 3]);
        let said = Table::open(&double.aws, &double.name).await.unwrap_err().to_string();
        double.faults.stop();
        assert!(said.contains(code) && said.ends_with("(a fault of the test)"), "{said}");
    }
}
