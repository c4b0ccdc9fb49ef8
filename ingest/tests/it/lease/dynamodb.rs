//! The real calls, against a DynamoDB double in this process or the endpoint that is given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use ingest::aws::Aws;
use ingest::lease::dynamodb::Dynamo;
use ingest::lease::{Checkpoint, Lease, LeaseError, Leases};
use ingest::table::{Capacity, Table};
use operators::id::Position;

/// Returns a table of its own.
async fn table() -> Table {
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
    let http = aws_smithy_http_client::Builder::new().build_http();
    let aws = Aws::at(&endpoint, http).await;
    let name = format!("podium-leases-{}-{number}", std::process::id());
    Table::create(&aws, name, Capacity::OnDemand, &[]).await.unwrap()
}

async fn leases() -> Dynamo {
    Dynamo::new(table().await, "grade")
}

fn shard(number: u32) -> Lease {
    Lease::of_shard(format!("shardId-{number:012}"), [], "0", "340282366920938463463374607431768211455")
}

fn position(shard: u32, offset: u64) -> Position {
    // A sequence number of 56 digits, as Kinesis has them: 7 * 2^182 + offset.
    Position { shard, sequence: [7 << 54, 0, offset], sub: 3 }
}

/// Returns an item of the table as lines of name, type and value.
async fn item(table: &Table, pk: &str, sk: &str) -> String {
    let call = table.client.get_item().table_name(&table.name).consistent_read(true);
    let call = call.key("pk", AttributeValue::S(pk.to_owned())).key("sk", AttributeValue::S(sk.to_owned()));
    let item = call.send().await.unwrap().item.unwrap();
    let lines: BTreeMap<String, String> = item
        .into_iter()
        .map(|(name, value)| {
            let value = match (value.as_s(), value.as_n(), value.as_ss()) {
                (Ok(text), ..) => format!("S {text}"),
                (_, Ok(number), _) => format!("N {number}"),
                (.., Ok(texts)) => {
                    let texts: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
                    format!("SS {}", texts.into_iter().collect::<Vec<_>>().join(" "))
                }
                other => panic!("{name} is {other:?}"),
            };
            (name, value)
        })
        .collect();
    lines.into_iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

#[tokio::test]
async fn an_item_is_one_that_people_who_know_kcl_can_read() {
    let table = table().await;
    let leases = Dynamo::new(table.clone(), "grade");
    let parents = ["shardId-000000000004".to_owned(), "shardId-000000000003".to_owned()];
    let lease =
        Lease::of_shard("shardId-000000000012", parents, "0", "85070591730234615865843651857942052863");
    leases.create(&lease).await.unwrap();
    let taken = leases.take(&lease, "worker-7").await.unwrap().unwrap();
    leases.renew(&taken, Checkpoint::At(position(12, 41))).await.unwrap().unwrap();
    let found = item(&table, "lease#grade", "shardId-000000000012").await;
    let wanted = "checkpoint: S 42909875144244888034033716760208657141324695421140860969\n\
                  checkpointSubSequenceNumber: N 3\n\
                  endingHashKey: S 85070591730234615865843651857942052863\n\
                  entityType: S LEASE\n\
                  epoch: N 1\n\
                  leaseCounter: N 2\n\
                  leaseKey: S shardId-000000000012\n\
                  leaseOwner: S worker-7\n\
                  ownerSwitchesSinceCheckpoint: N 0\n\
                  parentShardId: SS shardId-000000000003 shardId-000000000004\n\
                  pk: S lease#grade\n\
                  sk: S shardId-000000000012\n\
                  startingHashKey: S 0\n";
    assert_eq!(found, wanted);
    let mut held = leases.list().await.unwrap().remove(0);
    held.children = BTreeSet::from(["shardId-000000000020".to_owned()]);
    leases.finish(&held).await.unwrap().unwrap();
    let found = item(&table, "lease#grade", "shardId-000000000012").await;
    assert!(found.contains("checkpoint: S SHARD_END\n"), "{found}");
    assert!(found.contains("childShardIds: SS shardId-000000000020\n"), "{found}");
    assert!(!found.contains("leaseOwner"), "{found}");
}

#[tokio::test]
async fn of_many_takers_one_wins_and_each_owner_has_an_epoch_of_its_own() {
    let leases = leases().await;
    leases.create(&shard(0)).await.unwrap();
    for round in 0..10u64 {
        let seen = leases.list().await.unwrap().remove(0);
        assert_eq!(seen.epoch, round);
        let names: Vec<String> = (0..8).map(|taker| format!("worker-{round}-{taker}")).collect();
        let takes = names.iter().map(|name| leases.take(&seen, name));
        let taken = futures::future::join_all(takes).await;
        let winners: Vec<Lease> = taken.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!((winners[0].epoch, winners[0].counter), (seen.epoch + 1, seen.counter + 1));
        assert_eq!(leases.list().await.unwrap(), winners);
        assert_eq!(winners[0].owner_switches, round);
    }
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_may_be_made_again() {
    let leases = leases().await;
    let seen = shard(0);
    leases.create(&seen).await.unwrap();
    leases.create(&seen).await.unwrap();
    let lost = leases.take(&seen, "a").await.unwrap().unwrap();
    let taken = leases.take(&seen, "a").await.unwrap().unwrap();
    assert_eq!((taken.epoch, taken.counter), (lost.epoch, lost.counter + 1), "it moves before others' eyes");
    let at = Checkpoint::At(position(0, 5));
    leases.renew(&taken, at).await.unwrap().unwrap();
    let renewed = leases.renew(&taken, at).await.unwrap().unwrap();
    assert_eq!((renewed.counter, renewed.epoch, renewed.checkpoint), (taken.counter + 2, taken.epoch, at));
    leases.release(&renewed, at).await.unwrap();
    let released = leases.list().await.unwrap();
    leases.release(&renewed, Checkpoint::TrimHorizon).await.unwrap();
    assert_eq!(leases.list().await.unwrap(), released, "the second changes nothing");
    let again = leases.take(&released[0], "a").await.unwrap().unwrap();
    let finished = leases.finish(&again).await.unwrap();
    assert!(finished.is_some());
    assert_eq!(leases.finish(&again).await.unwrap(), finished);
    assert_eq!(leases.take(&finished.unwrap(), "b").await.unwrap(), None, "nobody reads it again");
}

#[tokio::test]
async fn an_earlier_owner_can_neither_renew_nor_release_nor_finish() {
    let leases = leases().await;
    leases.create(&shard(0)).await.unwrap();
    let mine = leases.take(&shard(0), "a").await.unwrap().unwrap();
    let theirs = leases.take(&mine, "b").await.unwrap().unwrap();
    let own_again = leases.take(&theirs, "a").await.unwrap().unwrap();
    for old in [&mine, &theirs] {
        assert_eq!(leases.renew(old, Checkpoint::TrimHorizon).await.unwrap(), None);
        assert_eq!(leases.finish(old).await.unwrap(), None);
        leases.release(old, Checkpoint::ShardEnd).await.unwrap();
        assert_eq!(leases.list().await.unwrap(), std::slice::from_ref(&own_again));
    }
}

#[tokio::test]
async fn only_a_finished_lease_is_deleted() {
    let leases = leases().await;
    leases.create(&shard(0)).await.unwrap();
    let taken = leases.take(&shard(0), "a").await.unwrap().unwrap();
    leases.delete(&taken).await.unwrap();
    assert_eq!(leases.list().await.unwrap(), std::slice::from_ref(&taken));
    let finished = leases.finish(&taken).await.unwrap().unwrap();
    leases.delete(&finished).await.unwrap();
    leases.delete(&finished).await.unwrap();
    assert_eq!(leases.list().await.unwrap(), []);
    assert_eq!(leases.renew(&taken, Checkpoint::TrimHorizon).await.unwrap(), None);
    assert_eq!(leases.take(&taken, "b").await.unwrap(), None);
}

#[tokio::test]
async fn a_list_has_every_lease_of_its_stage_and_nothing_else() {
    let table = table().await;
    let (grade, rank) = (Dynamo::new(table.clone(), "grade"), Dynamo::new(table.clone(), "rank"));
    // Far more than one page of a megabyte holds.
    let many: Vec<Lease> = (0..40).map(shard).collect();
    let long = "x".repeat(60_000);
    for lease in &many {
        let children = BTreeSet::from([long.clone()]);
        grade.create(&Lease { children, ..lease.clone() }).await.unwrap();
    }
    rank.create(&shard(77)).await.unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let metrics = table.client.put_item().table_name(&table.name).item("pk", text("lease#grade"));
    let metrics = metrics.item("sk", text("worker-1")).item("entityType", text("WORKER_METRICS"));
    metrics.send().await.unwrap();
    let found: Vec<String> = grade.list().await.unwrap().into_iter().map(|lease| lease.key).collect();
    assert_eq!(found, many.iter().map(|lease| lease.key.clone()).collect::<Vec<_>>());
    assert_eq!(rank.list().await.unwrap(), [shard(77)]);
}

#[tokio::test]
async fn what_is_wrong_is_said_by_name() {
    let table = table().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = table.client.put_item().table_name(&table.name).item("pk", text("lease#grade"));
    put.item("sk", text("shardId-000000000000")).item("leaseKey", text("x")).send().await.unwrap();
    let Err(LeaseError::Corrupt(words)) = Dynamo::new(table.clone(), "grade").list().await else { panic!() };
    assert_eq!(words, "`checkpoint` of lease shardId-000000000000 of stage grade is missing");
    let missing = Table { name: "podium-leases-nowhere".to_owned(), ..table.clone() };
    let refused = Dynamo::new(missing, "grade").list().await;
    assert!(matches!(refused, Err(LeaseError::Unavailable(_))), "{refused:?}");
}
