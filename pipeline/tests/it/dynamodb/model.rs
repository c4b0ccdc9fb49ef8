//! Random commits, take-overs, restarts and faults against a map.

use std::sync::{Arc, Mutex};

use super::double::{Double, tiny};
use super::faults::{Fault, Plan};
use super::*;

/// Returns a plan by which one call in `one_in` meets a fault.
fn faulty(seed: u64, one_in: u64) -> Plan {
    let dice = Mutex::new(Dice(seed));
    Arc::new(move |_, _| {
        let mut dice = dice.lock().unwrap();
        match dice.roll(one_in) {
            0 => {
                let faults = [Fault::Throttled, Fault::Lost, Fault::Unanswered, Fault::Delayed, Fault::Late];
                faults[dice.roll(5) as usize]
            }
            _ => Fault::None,
        }
    })
}

/// Whatever happens on the way, the store holds what a map holds, to its owner and to everybody else.
async fn run(double: &Double, seed: u64, unit: Unit, one_in: u64) {
    let mut dice = Dice(seed);
    let mut store = double.faulty(tiny(), faulty(seed, one_in)).await;
    let mut model = Rows::new();
    let mut header = answered(async || store.acquire(unit).await).await.unwrap();
    let mut offset = 0;
    for act in 0..120 {
        match dice.roll(12) {
            0 => {
                store = double.faulty(tiny(), faulty(seed + 1_000 + act, one_in)).await;
                header = answered(async || store.acquire(unit).await).await.unwrap();
            }
            // A restart that knows where it was.
            1 => store = double.faulty(tiny(), faulty(seed + 2_000 + act, one_in)).await,
            2 => {
                let epoch = (dice.roll(2) == 0).then_some(header.epoch);
                let limit = 1 + dice.roll(9) as usize;
                assert_eq!(
                    all(&store, unit, epoch, limit).await,
                    Ok(model.clone()),
                    "seed {seed}, act {act}"
                );
            }
            3 => {
                for _ in 0..3 {
                    let key = format!("a/{:02}", dice.roll(30)).into_bytes();
                    let found = answered(async || store.get(unit, &key).await).await.unwrap();
                    assert_eq!(found.as_ref(), model.get(&key), "seed {seed}, act {act}");
                }
            }
            4 => {
                let after = format!("a/{:02}", dice.roll(30)).into_bytes();
                let scan = async || store.scan(unit, Some(header.epoch), b"a/", Some(&after), 5).await;
                let found = answered(scan).await.unwrap();
                let inside = model.iter().filter(|(key, _)| key.starts_with(b"a/") && **key > after);
                let expected: Vec<_> =
                    inside.map(|(key, value)| (key.clone(), value.clone())).take(5).collect();
                assert_eq!(found, expected, "seed {seed}, act {act}");
            }
            _ => {
                offset += 1 + dice.roll(3);
                let mut step = commit(unit, header, offset, dice.rows(12));
                if dice.roll(8) == 0 {
                    step.changes
                        .forget
                        .push([&b"a/"[..], b"b/", b"long prefix/"][dice.roll(3) as usize].to_vec());
                }
                answered(async || store.commit(&step).await).await.unwrap();
                apply(&mut model, &step);
                header = step.to();
            }
        }
    }
    let calm = double.store(tiny()).await;
    assert_eq!(all(&calm, unit, None, 1_000).await, Ok(model), "seed {seed}");
    let found = calm.head(unit).await.unwrap().unwrap();
    assert!(found.header.epoch >= header.epoch && found.header.position == header.position, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_a_map_whatever_happens_on_the_way() {
    let double = Double::start().await;
    for seed in 0..12 {
        run(&double, seed, unit(seed as u16), 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_a_map() {
    let double = Double::start().await;
    for seed in 100..108 {
        run(&double, seed, unit(seed as u16), u64::MAX).await;
    }
}
