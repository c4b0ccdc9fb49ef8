//! The embedded store: effects, rows and header are one atomic write of the directory.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::BoxFuture;
use ingest::codec::part;
use ingest::error::ReadError;
use ingest::log::embedded::{Condition, Embedded, Write, WriteError};
use ingest::partition::PartitionId;
use ingest::proto;
use operators::id::UnixMillis;
use prost::Message;

use super::{Changes, Commit, Header, Row, Stage, Store, StoreError, Unit};

/// State in the same directory as the log.
#[derive(Clone)]
pub struct EmbeddedStore {
    storage: Embedded,
}

impl EmbeddedStore {
    /// Returns the store of a directory.
    pub fn new(storage: Embedded) -> Self {
        Self { storage }
    }

    /// Finishes what the process before was about to forget, in all units. To be called before anybody reads: a reader
    /// would find what is left of a state together with what is new of it.
    ///
    /// # Errors
    /// As a commit.
    pub async fn recover(&self, partitions: u16) -> Result<(), StoreError> {
        for partition in (0..partitions).map(PartitionId) {
            for stage in [Stage::Grade, Stage::Rank] {
                let unit = Unit { stage, partition };
                let (header, _) = self.header(unit)?;
                self.finish_forgetting(unit, header).await?;
            }
        }
        Ok(())
    }

    /// Removes what a commit has forgotten, a block at a time: a quiz may have more rows than memory holds. Nobody writes
    /// any other row of the unit meanwhile, so what was cut short is done by whoever takes the unit next.
    async fn finish_forgetting(&self, unit: Unit, header: Header) -> Result<(), StoreError> {
        let marker = forgetting_key(unit);
        let Some(bytes) = self.storage.row(&marker).map_err(read_error)? else { return Ok(()) };
        let message = proto::Forgetting::decode(&*bytes);
        let message = message.map_err(|error| StoreError::Corrupt(format!("what is forgotten: {error}")))?;
        let kept: BTreeSet<Vec<u8>> = message.kept.iter().map(|key| row_key(unit, key)).collect();
        for prefix in &message.prefixes {
            let prefix = row_key(unit, prefix);
            let mut after: Option<Vec<u8>> = None;
            loop {
                let block =
                    self.storage.rows(&prefix, after.as_deref(), FORGOTTEN_AT_ONCE).map_err(read_error)?;
                let Some((last, _)) = block.last() else { break };
                after = Some(last.clone());
                let keys = block.into_iter().map(|(key, _)| key).filter(|key| !kept.contains(key));
                self.remove(unit, header, keys).await?;
            }
        }
        self.remove(unit, header, std::iter::once(marker)).await
    }

    async fn remove(
        &self,
        unit: Unit,
        header: Header,
        keys: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = keys.map(|key| (key, None)).collect();
        let condition = Some(Condition { key: header_key(unit), expected: Some(encode_header(header)) });
        match self.storage.write(Write { condition, rows, records: Vec::new() }).await {
            Ok(_) => Ok(()),
            Err(WriteError::Condition { .. }) => Err(StoreError::Fenced),
            Err(WriteError::Append(error)) => Err(error.into()),
        }
    }

    fn header(&self, unit: Unit) -> Result<(Header, Option<Vec<u8>>), StoreError> {
        let bytes = self.storage.row(&header_key(unit)).map_err(read_error)?;
        let header = bytes.as_deref().map(decode_header).transpose()?;
        Ok((header.unwrap_or_default(), bytes))
    }
}

impl Store for EmbeddedStore {
    fn acquire<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Header, StoreError>> {
        async move {
            let (found, bytes) = self.header(unit)?;
            let mine = Header { epoch: found.epoch + 1, ..found };
            let condition = Some(Condition { key: header_key(unit), expected: bytes });
            let rows = vec![(header_key(unit), Some(encode_header(mine)))];
            match self.storage.write(Write { condition, rows, records: Vec::new() }).await {
                Ok(_) => self.finish_forgetting(unit, mine).await.map(|()| mine),
                // Somebody took it at the same moment: the caller may try again.
                Err(WriteError::Condition { .. }) => {
                    Err(StoreError::Unavailable("taken at the same time".into()))
                }
                Err(WriteError::Append(error)) => Err(error.into()),
            }
        }
        .boxed()
    }

    fn scan<'a>(
        &'a self,
        unit: Unit,
        epoch: Option<u64>,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        async move {
            let after = after.map(|after| row_key(unit, after));
            let rows =
                self.storage.rows(&row_key(unit, prefix), after.as_deref(), limit).map_err(read_error)?;
            // Looked at after the rows: whoever wrote some of them had taken the unit before.
            if let Some(epoch) = epoch
                && self.header(unit)?.0.epoch != epoch
            {
                return Err(StoreError::Fenced);
            }
            Ok(rows.into_iter().map(|(key, value)| (key[UNIT_BYTES..].to_vec(), value)).collect())
        }
        .boxed()
    }

    fn get<'a>(&'a self, unit: Unit, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        let value = self.storage.row(&row_key(unit, key)).map_err(read_error);
        futures::future::ready(value).boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let unit = commit.unit;
            let to = commit.to();
            let Changes { forget, rows: changed } = &commit.changes;
            let mut rows = Vec::with_capacity(changed.len() + 2);
            rows.extend(changed.iter().map(|(key, value)| (row_key(unit, key), value.clone())));
            rows.push((header_key(unit), Some(encode_header(to))));
            if !forget.is_empty() {
                rows.push((forgetting_key(unit), Some(forgetting(&commit.changes))));
            }
            let condition =
                Some(Condition { key: header_key(unit), expected: Some(encode_header(commit.from)) });
            let write = Write { condition, rows, records: commit.effects.clone() };
            match self.storage.write(write).await {
                Ok(_) => {}
                Err(WriteError::Condition { found: Some(found) }) if found == encode_header(to) => {}
                Err(WriteError::Condition { .. }) => return Err(StoreError::Fenced),
                Err(WriteError::Append(error)) => return Err(error.into()),
            }
            if forget.is_empty() { Ok(()) } else { self.finish_forgetting(unit, to).await }
        }
        .boxed()
    }
}

/// Forgotten rows removed by one write.
const FORGOTTEN_AT_ONCE: usize = 8_192;

/// Bytes of the part of a key that names the unit.
const UNIT_BYTES: usize = 4;

/// Stored, so these numbers never change.
fn stage_byte(stage: Stage) -> u8 {
    match stage {
        Stage::Grade => 1,
        Stage::Rank => 2,
    }
}

fn unit_key(kind: u8, unit: Unit) -> Vec<u8> {
    let [high, low] = unit.partition.0.to_be_bytes();
    vec![kind, stage_byte(unit.stage), high, low]
}

fn header_key(unit: Unit) -> Vec<u8> {
    unit_key(b'h', unit)
}

fn forgetting_key(unit: Unit) -> Vec<u8> {
    unit_key(b'f', unit)
}

fn forgetting(changes: &Changes) -> Vec<u8> {
    let under = |key: &[u8]| changes.forget.iter().any(|prefix| key.starts_with(prefix));
    let written = changes.rows.iter().filter(|(key, value)| value.is_some() && under(key));
    let kept = written.map(|(key, _)| key.clone()).collect();
    proto::Forgetting { prefixes: changes.forget.clone(), kept }.encode_to_vec()
}

fn row_key(unit: Unit, key: &[u8]) -> Vec<u8> {
    let mut bytes = unit_key(b'r', unit);
    bytes.extend_from_slice(key);
    bytes
}

fn encode_header(header: Header) -> Vec<u8> {
    let position = header.position.map(part::position_bytes);
    proto::PartitionHeader { epoch: header.epoch, position, append_at: header.append_at.0 }.encode_to_vec()
}

fn decode_header(bytes: &[u8]) -> Result<Header, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt(format!("header: {reason}"));
    let header = proto::PartitionHeader::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
    let position = header.position.as_deref().map(part::position).transpose();
    let position = position.map_err(|error| corrupt(error.to_string()))?;
    Ok(Header { epoch: header.epoch, position, append_at: UnixMillis(header.append_at) })
}

fn read_error(error: ReadError) -> StoreError {
    match error {
        ReadError::Unavailable(reason) => StoreError::Unavailable(reason),
        ReadError::Corrupt(reason) => StoreError::Corrupt(reason),
    }
}
