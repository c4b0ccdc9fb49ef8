//! A worker's leases while shards cannot be listed or are gone; and what workers leave behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::codec::Reached;
use ingest::error::ReadError;
use ingest::lease::dynamodb::Dynamo;
use ingest::lease::plan::{self, Planner};
use ingest::lease::{Lease, Leases};
use ingest::log::{Log, Lost, Stream};
use ingest::partition::PartitionId;
use operators::id::{Position, UnixMillis};
use pipeline::cluster::beats::{Beat, Beats};
use pipeline::cluster::shards::{Shard, Shards};
use pipeline::cluster::worker::{Settings, WorkError, Worker};
use pipeline::store::Stage;
use tokio::sync::watch;

use super::{One, Scene};
use crate::dynamodb::double::Double;
use crate::process::harness::until;

/// A shard with all partitions, made from one that is not listed any more; or a list that is never answered again.
struct Listing {
    one: One,
    parent: Option<String>,
    hangs: watch::Receiver<bool>,
    looks: Arc<AtomicUsize>,
}

impl Shards for Listing {
    fn list(&self, stream: Stream) -> BoxFuture<'_, Result<Vec<Shard>, ReadError>> {
        if *self.hangs.borrow() {
            return std::future::pending().boxed();
        }
        async move {
            self.looks.fetch_add(1, Ordering::Relaxed);
            let mut shards = self.one.list(stream).await?;
            shards[0].lease.parents.extend(self.parent.clone());
            Ok(shards)
        }
        .boxed()
    }

    fn retention(&self, stream: Stream) -> Option<Duration> {
        self.one.retention(stream)
    }

    fn open(
        &self,
        stream: Stream,
        shard: &Shard,
        from: BTreeMap<PartitionId, Option<Position>>,
    ) -> Arc<dyn Log> {
        self.one.open(stream, shard, from)
    }
}

/// A worker at work.
struct Post {
    leases: Arc<Dynamo>,
    hang: watch::Sender<bool>,
    looks: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    working: tokio::task::JoinHandle<Result<(), WorkError>>,
}

impl Post {
    fn start(scene: &Scene, leases: Arc<Dynamo>, parent: Option<&str>, lost: Lost) -> Self {
        let (hang, hangs) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let one = One { log: scene.log.clone(), number: 1, retention: None };
        let looks = Arc::<AtomicUsize>::default();
        let parent = parent.map(str::to_owned);
        let shards = Arc::new(Listing { one, parent, hangs, looks: looks.clone() });
        let tools = pipeline::cluster::shift::Tools { shards, ..scene.tools(1, None, lost) };
        let durations = plan::Settings { duration: Duration::from_secs(1), ..plan::Settings::default() };
        let settings = Settings { tick: Duration::from_millis(50), shards_every: Duration::from_millis(100) };
        let worker = Worker::new(tools, leases.clone(), Planner::new("me", durations, 1), settings);
        Self { leases, hang, looks, stop, working: tokio::spawn(worker.run(stopped)) }
    }

    async fn lease(&self, key: &str) -> Option<Lease> {
        self.leases.list().await.unwrap().into_iter().find(|lease| lease.key == key)
    }

    async fn end(self) {
        self.stop.send_replace(true);
        assert_eq!(self.working.await.unwrap(), Ok(()));
    }
}

const PARENT: &str = "shardId-000000000000";
const CHILD: &str = "shardId-000000000001";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_while_shards_cannot_be_listed() {
    let (scene, double) = (Scene::new(), Double::start().await);
    let leases = Arc::new(Dynamo::new(double.plain_table().await, "grade"));
    let post = Post::start(&scene, leases, None, Lost::Refused);
    let owned = async || post.lease(CHILD).await.filter(|lease| lease.owner.as_deref() == Some("me"));
    let before = until("the lease", owned).await;
    post.hang.send_replace(true);
    // Several durations of a lease.
    let after =
        until("renewals", async || owned().await.filter(|now| now.counter > before.counter + 10)).await;
    assert_eq!(after.epoch, before.epoch, "nobody had to take it again");
    assert!(scene.health.problems().is_empty(), "{:?}", scene.health.problems());
    post.hang.send_replace(false);
    post.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_children_of_a_shard_that_is_gone_unread_wait_for_a_person() {
    let (scene, double) = (Scene::new(), Double::start().await);
    let leases = Arc::new(Dynamo::new(double.plain_table().await, "grade"));
    leases.create(&Lease::of_shard(PARENT, [], "0", "9")).await.unwrap();
    let post = Post::start(&scene, leases.clone(), Some(PARENT), Lost::Refused);
    until("the child's lease", async || post.lease(CHILD).await).await;
    let looks = async || post.looks.load(Ordering::Relaxed);
    let so_far = looks().await;
    until("more looks at the shards", async || (looks().await > so_far + 5).then_some(())).await;
    let [parent, child] = [post.lease(PARENT).await.unwrap(), post.lease(CHILD).await.unwrap()];
    assert_eq!((parent.owner, child.owner, parent.epoch), (None, None, 0));
    post.end().await;

    let post = Post::start(&scene, leases, Some(PARENT), Lost::Skipped);
    until("the child", async || post.lease(CHILD).await.filter(|lease| lease.owner.is_some())).await;
    // Once its child has begun, the lease of what is gone may be removed.
    assert!(post.lease(PARENT).await.is_none_or(|parent| parent.is_finished()));
    post.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_of_workers_that_are_gone_are_passed_over_and_cleared_away() {
    let table = Double::start().await.plain_table().await;
    let beat = |partition| {
        let (graded, settled) = (UnixMillis(7), UnixMillis(5));
        let through = Position::from_offset(3);
        let reached = Reached { partition: PartitionId(partition), graded, settled, through };
        Beat { graded: vec![reached], ..Beat::default() }
    };
    for (number, worker) in ["lives", "left", "expired"].into_iter().enumerate() {
        table.put(Stage::Grade, worker, &beat(number as u16)).await.unwrap();
    }
    let put = async |worker: &str, name: &str, value: AttributeValue| {
        let call = table.client.update_item().table_name(&table.name);
        let call = call.key("pk", AttributeValue::S("beat#grade".into()));
        let call = call.key("sk", AttributeValue::S(worker.into())).update_expression("SET #name = :value");
        let call =
            call.expression_attribute_names("#name", name).expression_attribute_values(":value", value);
        call.send().await.unwrap();
    };
    put("expired", "expires", AttributeValue::N("1000000000".into())).await;
    put("odd", "beat", AttributeValue::B(Blob::new([0x0a, 2, 8]))).await;
    table.remove(Stage::Grade, "left").await.unwrap();
    assert_eq!(table.all(Stage::Grade).await.unwrap(), [beat(0)]);

    let names = async || {
        let found = table.client.scan().table_name(&table.name).send().await.unwrap();
        let mut names: Vec<String> =
            found.items().iter().map(|item| item["sk"].as_s().unwrap().clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names().await, ["expired", "lives", "odd"]);
    table.sweep(Stage::Grade).await.unwrap();
    assert_eq!(names().await, ["lives", "odd"]);
}
