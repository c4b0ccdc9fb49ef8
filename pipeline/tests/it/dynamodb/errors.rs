//! What is wrong with a table, in words that name the place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use ingest::table::Table;
use pipeline::store::dynamodb::{DynamoStore, Options};

use super::double::{Double, tiny};
use super::faults::Fault;
use super::*;

type Item = HashMap<String, AttributeValue>;

async fn table(double: &Double) -> Table {
    double.table(Arc::new(|_, _| Fault::None)).await
}

/// Returns all items whose key begins so.
async fn items(table: &Table, begin: &str) -> Vec<Item> {
    let found = table.client.scan().table_name(&table.name).send().await.unwrap();
    let named = |item: &Item| item["pk"].as_s().unwrap().starts_with(begin);
    found.items().iter().filter(|item| named(item)).cloned().collect()
}

async fn put(table: &Table, item: Item) {
    table.client.put_item().table_name(&table.name).set_item(Some(item)).send().await.unwrap();
}

/// Turns one bit of an attribute.
fn flip(item: &mut Item, name: &str) {
    let mut bytes = item[name].as_b().unwrap().as_ref().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    item.insert(name.into(), AttributeValue::B(Blob::new(bytes)));
}

async fn filled(double: &Double, unit: Unit) -> (DynamoStore, Header) {
    let store = double.store(tiny()).await;
    let header = store.acquire(unit).await.unwrap();
    let rows = (0..100u8).map(|n| (vec![n], Some(vec![n; 20]))).collect();
    let step = commit(unit, header, 1, rows);
    store.commit(&step).await.unwrap();
    (store, step.to())
}

fn corrupt<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Corrupt(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_named() {
    let double = Double::start().await;
    let unit = unit(17);
    let (_, header) = filled(&double, unit).await;
    let table = table(&double).await;
    let mut pages = items(&table, "page#grade#00017").await;
    pages.sort_by_key(|item| item["pk"].as_s().unwrap().clone());
    let whole = pages[1].clone();

    flip(&mut pages[1], "data");
    put(&table, pages[1].clone()).await;
    let store = double.store(tiny()).await;
    let reason = corrupt(all(&store, unit, None, 1_000).await);
    assert!(reason.contains("page 1 of epoch 1 in slots [1] of unit grade#00017: its checksum"), "{reason}");

    // Gone altogether, under a header that did not move.
    let key = |name: &str| pages[1][name].clone();
    let delete = table.client.delete_item().table_name(&table.name).key("pk", key("pk")).key("sk", key("sk"));
    delete.send().await.unwrap();
    for epoch in [None, Some(header.epoch)] {
        let reason = corrupt(all(&store, unit, epoch, 1_000).await);
        assert!(reason.contains("page 1 of epoch 1 in slots [1] of unit grade#00017 is gone"), "{reason}");
    }
    put(&table, whole).await;
    assert_eq!(all(&store, unit, None, 1_000).await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_header_is_named() {
    let double = Double::start().await;
    let unit = unit(3);
    filled(&double, unit).await;
    let table = table(&double).await;
    let header = items(&table, "unit#").await.remove(0);
    assert_eq!(header["pk"].as_s().unwrap(), "unit#grade#00003");
    assert_eq!(header["sk"].as_s().unwrap(), "header");
    assert_eq!(header["epoch"].as_n().unwrap(), "1");
    let position = header["position"].as_s().unwrap();
    assert_eq!(position, &format!("{:010}.{:058}.{:020}", 0, 1, 0));

    let mut damaged = header.clone();
    flip(&mut damaged, "manifest");
    let mut moved = header.clone();
    moved.insert("position".into(), AttributeValue::S(position.replace('1', "2")));
    let mut cut = header.clone();
    cut.remove("manifest");
    for (item, what) in [(damaged, "checksum"), (moved, "position"), (cut, "manifest is missing")] {
        put(&table, item).await;
        let store = double.store(tiny()).await;
        for reason in [
            corrupt(store.scan(unit, None, b"", None, 9).await),
            corrupt(store.acquire(unit).await),
            corrupt(store.head(unit).await),
        ] {
            assert!(reason.contains("the header of unit grade#00003") && reason.contains(what), "{reason}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_is_named() {
    let double = Double::start().await;
    let store = double.elsewhere("nowhere").await;
    let reason = corrupt(store.acquire(unit(0)).await);
    assert!(reason.contains("no table nowhere") && reason.contains("podium table create"), "{reason}");
}

/// An owner whose pages were written over by a later one hears that it is over, and sees none of its rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_pages_are_gone_is_fenced() {
    let double = Double::start().await;
    let unit = unit(5);
    let forgetful = double.store(Options { cache_bytes_max: 0, retired_for: Duration::ZERO, ..tiny() }).await;
    let mut old = forgetful.acquire(unit).await.unwrap();
    let mut dice = Dice(1);
    let mut rows = Rows::new();
    for offset in 1..6 {
        let step = commit(unit, old, offset, dice.rows(12));
        forgetful.commit(&step).await.unwrap();
        apply(&mut rows, &step);
        old = step.to();
    }
    let next = double.store(tiny()).await;
    let mut header = next.acquire(unit).await.unwrap();
    let mut fenced = false;
    for offset in 6..60 {
        let step = commit(unit, header, offset, dice.rows(12));
        next.commit(&step).await.unwrap();
        header = step.to();
        match forgetful.scan(unit, Some(old.epoch), b"", None, 1_000).await {
            Ok(found) => assert!(!fenced && found == rows.clone().into_iter().collect::<Vec<_>>()),
            Err(error) => {
                assert_eq!(error, StoreError::Fenced);
                fenced = true;
            }
        }
    }
    assert!(fenced);
}
