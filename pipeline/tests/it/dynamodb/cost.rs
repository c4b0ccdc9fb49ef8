//! What the store costs per answer at 10,000 answers a second on one quiz of 100,000, as the table reports it.

use std::time::Duration;

use ingest::codec::part::position_bytes;
use ingest::proto;
use operators::id::ParticipantId;
use pipeline::stage::rank::receipt_key;
use pipeline::store::dynamodb::{DynamoStore, Options};
use prost::Message;

use super::double::Double;
use super::*;

/// Long enough for merges of both stages; `PODIUM_COST_SECONDS` sets another.
const SECONDS: u64 = 36;
const ANSWERS_PER_SECOND: u64 = 10_000;
const PARTICIPANTS: u64 = 100_000;

/// Returns the same sixteen bytes for the same number, as a hash would.
fn id(of: u64) -> u128 {
    let mut dice = Dice(of);
    u128::from(dice.roll(u64::MAX)) << 64 | u128::from(dice.roll(u64::MAX))
}

fn participant(answer: u64) -> u128 {
    // Each answers once in a while, in no order.
    id(answer.wrapping_mul(7_919) % PARTICIPANTS)
}

fn standing(answer: u64) -> Option<proto::Standing> {
    let points = format!("{}.5", 1_000 * (answer / PARTICIPANTS) + answer % 997);
    let (correct, time_ms) = ((answer / PARTICIPANTS) as u32, answer % 20_000);
    Some(proto::Standing { points, correct, time_ms, last_correct_at: 1_790_000_000_000 + answer / 10 })
}

fn key(family: u8, rest: &[&[u8]]) -> Vec<u8> {
    [&[family, 5][..], b"geo-1", &rest.concat()].concat()
}

/// Rows of the grade stage: the participant, and the answer.
fn graded(answers: std::ops::Range<u64>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut rows = BTreeMap::new();
    for answer in answers {
        let who = participant(answer).to_be_bytes();
        let question = ((answer / PARTICIPANTS) as u16).to_be_bytes();
        let state = proto::Participant { standing: standing(answer), unscored: 0 };
        let counted = proto::Counted {
            submission: id(answer + 1_000_000_000).to_be_bytes().to_vec(),
            picked: Some(proto::counted::Picked::Choices(1 << (answer % 4))),
            at: 1_790_000_000_000 + answer / 10,
            place: question[1].into(),
            ..proto::Counted::default()
        };
        rows.insert(key(b's', &[&[0, 0, 0, b'p'], &who]), Some(state.encode_to_vec()));
        rows.insert(key(b's', &[&[0, 0, 0, b'q'], &who, &question]), Some(counted.encode_to_vec()));
    }
    rows.into_iter().collect()
}

/// Rows of the rank stage: the member, and the receipt.
fn ranked(answers: std::ops::Range<u64>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut rows = BTreeMap::new();
    for answer in answers {
        let who = participant(answer);
        let question = (answer / PARTICIPANTS) as u16;
        let index = (answer % PARTICIPANTS) as u32;
        let member = proto::Member { index, name: format!("Player {index}"), standing: standing(answer) };
        // A sequence number as Kinesis makes them, with the place in an aggregate.
        let sequence = [123_456, 0x4d2_0000_0000 + answer / 200, answer / 200 * 65_536];
        let position = Position { shard: 3, sequence, sub: answer % 200 };
        let receipt = proto::Receipt {
            submission: id(answer + 1_000_000_000).to_be_bytes().to_vec(),
            question: format!("q{question}"),
            response: Some(proto::Response { content: Some(proto::response::Content::Choice("a".into())) }),
            verdict: 1,
            fraction: Some(proto::Fraction { numerator: 1, denominator: 1 }),
            points: format!("{}.5", answer % 997),
            received_at: 1_790_000_000_000 + answer / 10,
            taken_ms: Some(answer % 20_000),
            position: position_bytes(position),
            revision: answer,
            slot: Some(proto::receipt::Slot::Counted(question.into())),
        };
        rows.insert(key(b'r', &[b"m", &who.to_be_bytes()]), Some(member.encode_to_vec()));
        let slot = operators::effect::Slot::Question(question);
        rows.insert(
            receipt_key(&"geo-1".parse().unwrap(), ParticipantId(who), slot),
            Some(receipt.encode_to_vec()),
        );
    }
    rows.into_iter().collect()
}

/// Plays a stage's part of the load, a commit every so many answers; returns the bytes of rows.
async fn play(store: &DynamoStore, unit: Unit, seconds: u64, per_second: u64) -> u64 {
    let mut header = store.acquire(unit).await.unwrap();
    let each = ANSWERS_PER_SECOND / per_second;
    let mut bytes = 0;
    for number in 0..seconds * per_second {
        let answers = number * each..(number + 1) * each;
        let rows = if unit.stage == Stage::Grade { graded(answers) } else { ranked(answers) };
        bytes +=
            rows.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        let step = commit(unit, header, number + 1, rows);
        store.commit(&step).await.unwrap();
        header = step.to();
    }
    bytes as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_costs() {
    let seconds = std::env::var("PODIUM_COST_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let double = Double::start().await;
    // The load is played faster than it would come: slots come back into use as early as that.
    let options = Options { retired_for: Duration::from_secs(3), ..Options::default() };
    let answers = (seconds * ANSWERS_PER_SECOND) as f64;
    let (mut units, mut calls) = (0.0, 0.0);
    for (stage, per_second) in [(Stage::Grade, 1), (Stage::Rank, 2)] {
        let store = double.store(options).await;
        let unit = Unit { stage, partition: PartitionId(0) };
        let bytes = play(&store, unit, seconds, per_second).await;
        let usage = store.usage();
        println!(
            "{}: {:.0} bytes of rows per answer; per answer {:.4} write units ({:.4} pages, {:.4} headers, {:.4} \
             merges, {:.4} deletions), {:.4} read units, {:.5} calls",
            stage.name(),
            bytes as f64 / answers,
            usage.write_units() / answers,
            usage.page_units / answers,
            usage.header_units / answers,
            usage.compaction_units / answers,
            usage.delete_units / answers,
            usage.read_units / answers,
            usage.calls as f64 / answers,
        );
        assert!(usage.compaction_units > 0.0, "there were merges");
        units += usage.write_units() / answers;
        calls += usage.calls as f64 / answers;
    }
    println!("both: {units:.4} write units and {calls:.5} calls per answer, {} items", double.items().await);
    assert!(units > 0.05 && units <= 0.5, "{units} write units per answer");
    assert!(calls <= 0.05, "{calls} calls per answer");
}
