//! A table in a double that runs in the test's process, or at the endpoint that the environment names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_smithy_types::retry::RetryConfig;
use dynoxide::{Database, server};
use futures::future::BoxFuture;
use ingest::aws::Aws;
use ingest::error::{AppendError, ReadError};
use ingest::log::embedded::{Embedded, Options as LogOptions};
use ingest::log::{Log, ReadBatch, ReadLimits, Record, Stream};
use ingest::partition::PartitionId;
use ingest::table::{Capacity, Table};
use operators::event::Stamp;
use operators::id::Position;
use pipeline::store::dynamodb::{DynamoStore, Options};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use super::faults::{Fault, Plan, client};
use crate::contract::{Opened, Place};

/// An endpoint with a table.
pub(crate) struct Double {
    endpoint: String,
    pub(super) table: String,
}

impl Double {
    /// Starts a double with an empty table. It ends with the test's runtime.
    pub(crate) async fn start() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let table = format!("podium-test-{}-{number}", std::process::id());
        let endpoint = match std::env::var("PODIUM_TEST_AWS_ENDPOINT") {
            Ok(endpoint) => endpoint,
            Err(_) => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let endpoint = format!("http://{}", listener.local_addr().unwrap());
                tokio::spawn(server::serve_on(listener, Database::memory().unwrap()));
                endpoint
            }
        };
        let double = Self { endpoint, table };
        let aws = Aws::at(&double.endpoint, client(Arc::new(|_, _| Fault::None))).await;
        Table::create(&aws, &double.table, Capacity::OnDemand, &[]).await.unwrap();
        double
    }

    /// Returns the table as reached with faults. The client tries a call twice, as soon as it can.
    pub(super) async fn table(&self, plan: Plan) -> Table {
        let aws = Aws::at(&self.endpoint, client(plan)).await;
        let retries = RetryConfig::standard()
            .with_max_attempts(2)
            .with_initial_backoff(Duration::from_millis(1))
            .with_max_backoff(Duration::from_millis(1));
        let config = aws_sdk_dynamodb::config::Builder::from(aws.sdk()).retry_config(retries).build();
        Table { client: Client::from_conf(config), name: self.table.clone(), place: aws.place() }
    }

    /// Returns the table as it is.
    pub(crate) async fn plain_table(&self) -> Table {
        self.table(Arc::new(|_, _| Fault::None)).await
    }

    /// Returns a store without faults.
    pub(super) async fn store(&self, options: Options) -> DynamoStore {
        self.faulty(options, Arc::new(|_, _| Fault::None)).await
    }

    /// Returns a store with faults. Its commits are to carry no effects: there is no log.
    pub(super) async fn faulty(&self, options: Options, plan: Plan) -> DynamoStore {
        DynamoStore::new(self.table(plan).await, Arc::new(NoLog), options)
    }

    /// Returns a store of another table, which is not there.
    pub(super) async fn elsewhere(&self, table: &str) -> DynamoStore {
        Self { endpoint: self.endpoint.clone(), table: table.into() }.store(tiny()).await
    }

    /// Returns the number of items, headers included.
    pub(super) async fn items(&self) -> usize {
        self.sizes().await.len()
    }

    /// Returns the bytes of the binary attributes of every item.
    pub(super) async fn sizes(&self) -> Vec<usize> {
        let table = self.plain_table().await;
        let mut pages = table.client.scan().table_name(&table.name).into_paginator().send();
        let mut sizes = Vec::new();
        while let Some(page) = pages.next().await {
            sizes.extend(page.unwrap().items().iter().map(|item| {
                let blobs = item.values().filter_map(|value| value.as_b().ok());
                blobs.map(|blob| blob.as_ref().len()).sum::<usize>()
            }));
        }
        sizes
    }
}

/// Takes nothing: the commits of these tests carry no effects.
struct NoLog;

impl Log for NoLog {
    fn partitions(&self) -> u16 {
        1
    }
    fn append<'a>(&'a self, _records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        panic!("a commit carries effects");
    }
    fn read<'a>(
        &'a self,
        _stream: Stream,
        _partition: PartitionId,
        _after: Option<Position>,
        _limits: ReadLimits,
    ) -> BoxFuture<'a, Result<ReadBatch, ReadError>> {
        panic!("a store reads no log");
    }
}

/// Returns options that make everything happen soon: pages of a few rows, merges of a few runs, no long waits.
pub(super) fn tiny() -> Options {
    Options {
        page_bytes_max: 400,
        cache_bytes_max: 4_000,
        fan_in: 3,
        runs_max: 12,
        retired_for: Duration::ZERO,
        pages_ahead: 2,
        free_slots_min: 2,
    }
}

/// A table and, for effects, a directory with an embedded log.
pub(crate) struct Cloud {
    double: OnceCell<Double>,
    log: tempfile::TempDir,
}

impl Place for Cloud {
    fn new() -> Self {
        Self { double: OnceCell::new(), log: tempfile::tempdir().unwrap() }
    }

    async fn open(&self) -> Opened {
        let double = self.double.get_or_init(Double::start).await;
        let log = Embedded::open(self.log.path(), LogOptions { partitions: 2 }).unwrap();
        let table = double.plain_table().await;
        // As by default, but with merges and slots used again within a test.
        let options = Options { fan_in: 4, retired_for: Duration::ZERO, ..Options::default() };
        let store = DynamoStore::new(table, Arc::new(log.clone()), options);
        Opened { store: Arc::new(store), log: Arc::new(log) }
    }
}
