//! What the table costs, as DynamoDB itself reports it: calls, and units by what they were spent on.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::types::ConsumedCapacity;

/// Read units in halves: what a read costs that need not be the newest. Metrics count whole ones.
static READ_HALVES: AtomicU64 = AtomicU64::new(0);

/// Counts a call, without the tries that the SDK makes again.
pub fn called(operation: &'static str) {
    metrics::counter!("podium_dynamodb_calls_total", "operation" => operation).increment(1);
}

/// Counts what a write has consumed; returns it. A refused write consumes units too, of which DynamoDB says nothing.
pub fn wrote(what: &'static str, consumed: Option<&ConsumedCapacity>) -> f64 {
    let units = units(consumed);
    // DynamoDB rounds every write up to whole units.
    metrics::counter!("podium_dynamodb_write_units_total", "what" => what).increment(units.ceil() as u64);
    units
}

/// Counts what a read has consumed; returns it.
pub fn read(consumed: Option<&ConsumedCapacity>) -> f64 {
    let units = units(consumed);
    let halves = (units * 2.0).round() as u64;
    let before = READ_HALVES.fetch_add(halves, Ordering::Relaxed);
    let whole = (before + halves) / 2 - before / 2;
    metrics::counter!("podium_dynamodb_read_units_total").increment(whole);
    units
}

fn units(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or(0.0)
}
