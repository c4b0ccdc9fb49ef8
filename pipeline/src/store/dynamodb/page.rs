//! Pages: sorted rows, cut at a size, with keys that leave out what they share with the one before, compressed.

use lz4_flex::block::{compress, decompress};

/// The form of a page's bytes: `[kind] [checksum: 8] [length: 4] [content]`.
const HEAD_BYTES: usize = 13;
/// Content as it is.
const PLAIN: u8 = 1;
/// Content compressed as one LZ4 block.
const LZ4: u8 = 2;
/// Longest content believed: far over the largest row, so that a damaged length takes no memory.
const CONTENT_BYTES_MAX: usize = 64 << 20;

/// Returns the bytes of a page; `seed` names whose it is, so that no page is taken for another unit's.
pub(super) fn seal(seed: u64, content: &[u8]) -> Vec<u8> {
    let packed = compress(content);
    let (kind, packed) = if packed.len() < content.len() { (LZ4, packed) } else { (PLAIN, content.to_vec()) };
    let mut bytes = Vec::with_capacity(HEAD_BYTES + packed.len());
    bytes.push(kind);
    bytes.extend_from_slice(&checksum(seed, &packed).to_le_bytes());
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&packed);
    bytes
}

/// Returns the content of a page.
///
/// # Errors
/// What is wrong with the bytes, in words.
pub(super) fn unseal(seed: u64, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let short = || "it is cut short".to_owned();
    let (head, packed) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(short)?;
    let (sum, length) = head[1..].split_first_chunk::<8>().ok_or_else(short)?;
    let length = u32::from_le_bytes(length.try_into().map_err(|_| short())?) as usize;
    if checksum(seed, packed) != u64::from_le_bytes(*sum) {
        return Err("its checksum is wrong".into());
    }
    let content = match head[0] {
        PLAIN => packed.to_vec(),
        LZ4 if length <= CONTENT_BYTES_MAX => {
            decompress(packed, length).map_err(|error| error.to_string())?
        }
        LZ4 => return Err("it claims to be too long".into()),
        kind => return Err(format!("it is of the unknown kind {kind}")),
    };
    if content.len() != length { Err("its length is wrong".into()) } else { Ok(content) }
}

/// Returns a checksum: eight bytes a step, each mixed with all before it. Against damage, not against forgers.
pub(super) fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| {
        let sum = (sum ^ word).wrapping_mul(ODD);
        sum ^ (sum >> 29)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(mix(ODD, seed), |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(sum, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// Rows of a page, its bytes checked: reading them cannot fail.
#[derive(Debug)]
pub(super) struct Rows {
    content: Vec<u8>,
}

/// Where a reader of [`Rows`] is.
#[derive(Debug, Default)]
pub(super) struct Place {
    at: usize,
    key: Vec<u8>,
}

impl Rows {
    /// Returns the rows of a page's content.
    ///
    /// # Errors
    /// Content that is no rows, in words.
    pub(super) fn new(content: Vec<u8>) -> Result<Self, String> {
        let mut rest = &*content;
        let mut length = 0;
        while !rest.is_empty() {
            let entry = entry(&mut rest, length).ok_or("its rows cannot be read")?;
            length = entry.shared + entry.key.len();
        }
        Ok(Self { content })
    }

    /// Returns the memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.content.len()
    }

    /// Returns the next row, and moves the place behind it. A removed row has no value.
    pub(super) fn next<'a>(&'a self, place: &mut Place) -> Option<(Vec<u8>, Option<&'a [u8]>)> {
        let mut rest = &self.content[place.at..];
        let entry = entry(&mut rest, place.key.len())?;
        place.key.truncate(entry.shared);
        place.key.extend_from_slice(entry.key);
        place.at = self.content.len() - rest.len();
        Some((place.key.clone(), entry.value))
    }

    /// Moves a place ahead of all rows below `key`.
    pub(super) fn seek(&self, place: &mut Place, key: &[u8]) {
        loop {
            let mut rest = &self.content[place.at..];
            let Some(entry) = entry(&mut rest, place.key.len()) else { return };
            let kept = place.key.split_off(entry.shared);
            place.key.extend_from_slice(entry.key);
            if &*place.key >= key {
                place.key.truncate(entry.shared);
                place.key.extend_from_slice(&kept);
                return;
            }
            place.at = self.content.len() - rest.len();
        }
    }
}

/// A row as stored.
struct Entry<'a> {
    /// Bytes that its key has in common with the one before.
    shared: usize,
    /// The others.
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

fn entry<'a>(rest: &mut &'a [u8], before: usize) -> Option<Entry<'a>> {
    let shared = number(rest)?;
    let key = number(rest)?;
    let value = number(rest)?;
    let key = rest.split_off(..key)?;
    let value = match value.checked_sub(1) {
        Some(length) => Some(rest.split_off(..length)?),
        None => None,
    };
    (shared <= before).then_some(Entry { shared, key, value })
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return usize::try_from(value).ok();
        }
    }
    None
}

fn push_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 127 {
        bytes.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A page that is full.
#[derive(Debug)]
pub(super) struct Full {
    /// Not over its first key, and over the last of the page before: as short as that allows.
    pub(super) fence: Vec<u8>,
    /// The rows.
    pub(super) content: Vec<u8>,
}

/// Cuts rows that come in key order into pages.
#[derive(Debug)]
pub(super) struct Builder {
    bytes_max: usize,
    content: Vec<u8>,
    fence: Vec<u8>,
    /// The key of the last row, of whichever page.
    last: Vec<u8>,
    /// The key of the first row of the first page.
    first: Option<Vec<u8>>,
}

impl Builder {
    /// Returns a builder of pages of this many bytes; a larger row gets a page of its own.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, content: Vec::new(), fence: Vec::new(), last: Vec::new(), first: None }
    }

    /// Adds a row behind those before; returns the page that was full without it.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Full> {
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        let full = self.content.len() + bytes > self.bytes_max && !self.content.is_empty();
        let full = full.then(|| self.cut());
        let common = self.last.iter().zip(key).take_while(|(a, b)| a == b).count();
        if self.content.is_empty() {
            let fence = if self.first.is_some() { common + 1 } else { key.len() };
            self.fence = key[..fence.min(key.len())].to_vec();
        }
        self.first.get_or_insert_with(|| key.to_vec());
        let shared = if self.content.is_empty() { 0 } else { common };
        push_number(&mut self.content, shared);
        push_number(&mut self.content, key.len() - shared);
        push_number(&mut self.content, value.map_or(0, |value| value.len() + 1));
        self.content.extend_from_slice(&key[shared..]);
        self.content.extend_from_slice(value.unwrap_or_default());
        self.last.truncate(common);
        self.last.extend_from_slice(&key[common..]);
        full
    }

    fn cut(&mut self) -> Full {
        Full { fence: std::mem::take(&mut self.fence), content: std::mem::take(&mut self.content) }
    }

    /// Returns the last page if there is one, and the first and the last key of all.
    pub(super) fn finish(mut self) -> (Option<Full>, Vec<u8>, Vec<u8>) {
        let rest = (!self.content.is_empty()).then(|| self.cut());
        (rest, self.first.unwrap_or_default(), self.last)
    }
}
