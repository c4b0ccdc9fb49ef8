//! What the store costs: calls and consumed units, counted as DynamoDB reports them.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::types::ConsumedCapacity;
use ingest::table::usage;

/// What write units were spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Pages of commits.
    Page,
    /// Headers.
    Header,
    /// Pages of merged runs.
    Compaction,
    /// Pages deleted.
    Delete,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Header => "header",
            Self::Compaction => "compaction",
            Self::Delete => "delete",
        }
    }
}

/// Calls and units that a store has used since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Calls, without the tries that the SDK made again.
    pub calls: u64,
    /// Write units of pages of commits.
    pub page_units: f64,
    /// Write units of headers.
    pub header_units: f64,
    /// Write units of pages of merged runs.
    pub compaction_units: f64,
    /// Write units of deletions.
    pub delete_units: f64,
    /// Read units.
    pub read_units: f64,
}

impl Usage {
    /// Returns all write units.
    pub fn write_units(&self) -> f64 {
        self.page_units + self.header_units + self.compaction_units + self.delete_units
    }
}

/// Counts, in half units: the smallest that DynamoDB reports.
#[derive(Debug, Default)]
pub(super) struct Meter {
    calls: AtomicU64,
    halves: [AtomicU64; 4],
    reads: AtomicU64,
}

fn add(sum: &AtomicU64, units: f64) {
    sum.fetch_add((units * 2.0).round() as u64, Ordering::Relaxed);
}

fn units(sum: &AtomicU64) -> f64 {
    sum.load(Ordering::Relaxed) as f64 / 2.0
}

impl Meter {
    pub(super) fn call(&self, operation: &'static str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        usage::called(operation);
    }

    pub(super) fn wrote(&self, what: What, consumed: Option<&ConsumedCapacity>) {
        add(&self.halves[what as usize], usage::wrote(what.name(), consumed));
    }

    pub(super) fn read(&self, consumed: Option<&ConsumedCapacity>) {
        add(&self.reads, usage::read(consumed));
    }

    pub(super) fn usage(&self) -> Usage {
        let [page_units, header_units, compaction_units, delete_units] = self.halves.each_ref().map(units);
        let calls = self.calls.load(Ordering::Relaxed);
        Usage {
            calls,
            page_units,
            header_units,
            compaction_units,
            delete_units,
            read_units: units(&self.reads),
        }
    }
}
