//! Values of any size as chunks under 4 KiB.
//!
//! The database recovers a torn last batch only if its values are small, so a larger value is cut: chunk `n` of a key
//! is stored under the key and `n`, and its first byte tells whether more follow. A shorter new value hides the further
//! chunks of a longer old one. Rows are read from a snapshot: otherwise a value that is being replaced would be put
//! together from chunks of both.

use std::ops::Bound;

use fjall::{Keyspace, Readable, Snapshot, UserKey};

use super::Row;
use crate::error::ReadError;

/// Bytes of one chunk: with its key it stays well under 4 KiB.
const CHUNK_BYTES: usize = 3 << 10;

const LAST: u8 = 0;
const MORE: u8 = 1;

/// Calls `put` with the key and value of each chunk.
pub(super) fn cut(key: &[u8], value: &[u8], mut put: impl FnMut(Vec<u8>, Vec<u8>)) {
    let mut rest = value;
    for index in 0u16.. {
        let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES));
        let mut bytes = Vec::with_capacity(1 + now.len());
        bytes.push(if later.is_empty() { LAST } else { MORE });
        bytes.extend_from_slice(now);
        put(chunk_key(key, index), bytes);
        rest = later;
        if rest.is_empty() {
            return;
        }
    }
}

/// Returns the key of the chunk that decides whether a value is there.
pub(super) fn first_key(key: &[u8]) -> Vec<u8> {
    chunk_key(key, 0)
}

fn chunk_key(key: &[u8], index: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 2);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes
}

/// Returns the value of `key` as of `view`.
pub(super) fn get(view: &Snapshot, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
    let mut value = Vec::new();
    for index in 0..u16::MAX {
        let Some(chunk) = view.get(keyspace, chunk_key(key, index)).map_err(corrupt)? else {
            if index == 0 {
                return Ok(None);
            }
            break;
        };
        let (&more, bytes) =
            chunk.split_first().ok_or_else(|| ReadError::Corrupt("an empty chunk".into()))?;
        value.extend_from_slice(bytes);
        if more == LAST {
            return Ok(Some(value));
        }
    }
    Err(missing())
}

/// Puts the chunks of a scan of records together again: their keys have one length and are never written twice, so
/// that chunks lie one behind the other.
#[derive(Default)]
pub(super) struct Joiner {
    key: Vec<u8>,
    value: Vec<u8>,
    /// The chunk that must come next; 0 between two values.
    next: u16,
}

impl Joiner {
    /// Takes the next stored pair; returns a whole key and value when this was its last chunk.
    pub(super) fn push(&mut self, stored: &UserKey, chunk: &[u8]) -> Result<Option<Row>, ReadError> {
        let (key, index) = split(stored)?;
        let (&more, bytes) =
            chunk.split_first().ok_or_else(|| ReadError::Corrupt("an empty chunk".into()))?;
        if index != self.next || (index > 0 && key != self.key) {
            return Err(missing());
        }
        if index == 0 {
            self.key = key.to_vec();
            self.value.clear();
        }
        self.value.extend_from_slice(bytes);
        if more == MORE {
            self.next += 1;
            return Ok(None);
        }
        self.next = 0;
        Ok(Some((std::mem::take(&mut self.key), std::mem::take(&mut self.value))))
    }
}

/// Returns up to `limit` whole values under `prefix` as of `view`, in key order, after the key `after`.
pub(super) fn scan(
    view: &Snapshot,
    keyspace: &Keyspace,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Row>, ReadError> {
    // First chunks are in the order of their keys, also where one key is the start of another; further chunks are not.
    let behind = after.map(first_key).filter(|first| **first >= *prefix);
    let start = behind.map_or(Bound::Included(prefix.to_vec()), Bound::Excluded);
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    for guard in view.range(keyspace, (start, Bound::Unbounded)) {
        let (stored, chunk) = guard.into_inner().map_err(corrupt)?;
        if !stored.starts_with(prefix) {
            break;
        }
        let (key, index) = split(&stored)?;
        if index > 0 || !key.starts_with(prefix) {
            continue;
        }
        let value = match chunk.split_first() {
            Some((&LAST, bytes)) => bytes.to_vec(),
            _ => get(view, keyspace, key)?.ok_or_else(missing)?,
        };
        found.push((key.to_vec(), value));
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

/// Tells whether no further chunk of the value follows.
pub(super) fn is_last(chunk: &[u8]) -> bool {
    chunk.first() == Some(&LAST)
}

pub(super) fn split(stored: &[u8]) -> Result<(&[u8], u16), ReadError> {
    let (key, index) = stored
        .split_last_chunk::<2>()
        .ok_or_else(|| ReadError::Corrupt("a key without chunk number".into()))?;
    Ok((key, u16::from_be_bytes(*index)))
}

fn missing() -> ReadError {
    ReadError::Corrupt("a chunk is missing".into())
}

pub(super) fn corrupt(error: fjall::Error) -> ReadError {
    ReadError::Corrupt(error.to_string())
}
