//! Everybody in order, and how many stand before: the counted sorted chunks under a leaderboard.
//!
//! Three levels: entries live in chunks of up to [`CHUNK`], chunks in groups of up to [`GROUP`], groups in one list.
//! Each level keeps, next to every child, its number of entries and its *fence*: a pair that is at most the child's
//! first entry and greater than every entry before it. A search walks fences down and sums counts on the way, so no
//! operation walks the members: the list of groups holds about 80 per million.
//!
//! Time is cache misses, not comparisons. A chunk therefore keeps one array per word of the key, and a search reads
//! only the arrays that it needs, several lines of memory at once. Separate arrays also cost no padding: an entry is 36
//! bytes; with all slack and index 37 when appended or loaded in order, 49 after random updates, 75 at the very worst
//! (every chunk but the first and the last is at least half full).
//!
//! Fences need not be tight: removing the first entry of a chunk leaves its fence. The first fence of all is the
//! smallest pair there is, so a search always finds a chunk.

use std::iter;
use std::ops::Range;

/// Entries per chunk. Smaller chunks make the fences too many for the near caches (32 and 64 are up to half slower, at
/// 1,000,000 members), larger ones are no faster, move more per update, and weigh more on a board of ten.
const CHUNK: usize = 128;

/// Chunks per group: one array of fences is 1 KB, and the list of groups stays short enough to be summed for every
/// rank, at about 80 per million entries.
const GROUP: usize = 128;

/// A chunk with fewer entries after a removal is joined or levelled with its neighbours, which bounds the slack. Below
/// the 5/8 that the sparsest split of two chunks leaves behind, so that a removal after it does not join again.
const CHUNK_MIN: usize = CHUNK * 9 / 16;

/// A full chunk gives entries to a neighbour with at least this much room; with less, the two become three. Small means
/// well filled, but levelling for one or two free places would be repeated at once.
const ROOM_MIN: usize = CHUNK / 8;

/// Three chunks become two only when this many places remain free, so that they do not split again at once.
const JOIN_ROOM_MIN: usize = CHUNK / 4;

/// A group with fewer chunks after a removal is joined or levelled with its neighbour: chunks need neighbours.
const GROUP_MIN: usize = GROUP / 4;

/// Words of a key, which is also how many arrays of words a chunk has.
const WORDS: usize = 4;

/// Words in one line of memory (64 bytes): a search looks at one word per line first, so that the lines load at once.
const LINE: usize = 8;

/// The fence of the first chunk: nothing is smaller.
const LOWEST: (Key, u32) = (Key([i64::MIN; WORDS]), 0);

/// Sort key of one member: lexicographically smaller is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct Key(pub [i64; WORDS]);

/// An ordered multiset of (key, member index) with order statistics; the order is by key, then by index.
///
/// Members may share a key, and places count from 0. A place costs O(log n) comparisons; an update additionally moves
/// about half a chunk. The same calls give the same structure on every machine.
#[derive(Clone, Debug, Default)]
pub struct Order {
    len: usize,
    fences: Fences,
    counts: Vec<u32>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    fences: Fences,
    counts: Vec<u16>,
    chunks: Vec<Box<Chunk>>,
}

/// Pairs in order: one array per word of the key and one of members.
#[derive(Clone, Debug, Default)]
struct Columns<W, M> {
    words: [W; WORDS],
    members: M,
}

/// One fence per child.
type Fences = Columns<Vec<i64>, Vec<u32>>;

/// Entries. How many they are, the group knows: one line of memory less on the way to an entry.
type Chunk = Columns<[i64; CHUNK], [u32; CHUNK]>;

/// Where a pair is or would be: group, chunk in the group, entry in the chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Spot {
    group: usize,
    chunk: usize,
    entry: usize,
}

impl Order {
    /// An order without entries; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The order of `entries`, which may come in any order and must be distinct pairs.
    ///
    /// For loading after a restart: O(n log n), less when already sorted, and nearly full chunks.
    pub fn from_unsorted(mut entries: Vec<(Key, u32)>) -> Self {
        entries.sort_unstable();
        debug_assert!(entries.is_sorted_by(|a, b| a < b), "a member has one entry per key");
        let mut order = Self { len: entries.len(), ..Self::default() };
        // Even shares of seven eighths of a group leave room for the first splits.
        let groups = entries.len().div_ceil(CHUNK * GROUP * 7 / 8);
        for part in shares(&entries, groups) {
            let mut group = Group::default();
            for share in shares(part, part.len().div_ceil(CHUNK)) {
                group.put(group.chunks.len(), share[0], share);
            }
            if order.groups.is_empty() {
                group.fences.set(0, LOWEST);
            }
            order.put_group(order.groups.len(), group);
        }
        order
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the pair: O(log n), under a microsecond with 1,000,000 entries.
    ///
    /// # Panics
    /// In debug builds when this very pair is there: a member has one entry per key.
    pub fn insert(&mut self, key: Key, member: u32) {
        if self.groups.is_empty() {
            let mut group = Group::default();
            group.put(0, LOWEST, &[]);
            self.put_group(0, group);
        }
        let mut spot = self.seek(key, u64::from(member));
        while self.entries(spot) == CHUNK {
            self.make_room(spot, (key, member));
            spot = self.seek(key, u64::from(member));
        }
        debug_assert!(!self.holds(spot, key, member), "a member has one entry per key");
        self.put(spot, key, member);
    }

    /// Removes the pair; returns whether it was there. O(log n).
    pub fn remove(&mut self, key: Key, member: u32) -> bool {
        let Some(spot) = self.find(key, member) else { return false };
        self.take(spot);
        if self.entries(spot) < CHUNK_MIN {
            self.refill(spot);
        }
        true
    }

    /// Moves `member` from `old` to `new`: O(log n), cheapest when both are in one chunk.
    ///
    /// # Panics
    /// When (`old`, `member`) is not there: the caller's record of a member's key is the key in the order. In debug
    /// builds also when another (`new`, `member`) is.
    pub fn replace(&mut self, old: Key, new: Key, member: u32) {
        if old == new {
            return;
        }
        let from = self.find(old, member).expect("a member stands where its key says");
        let to = self.seek(new, u64::from(member));
        debug_assert!(!self.holds(to, new, member), "a member has one entry per key");
        if (from.group, from.chunk) == (to.group, to.chunk) {
            // Leaving its old place shifts everybody behind it by one.
            let entry = if to.entry > from.entry { to.entry - 1 } else { to.entry };
            self.chunk_mut(from).shift(from.entry, entry, (new, member));
            return;
        }
        if self.entries(from) > CHUNK_MIN && self.entries(to) < CHUNK {
            self.take(from);
            self.put(to, new, member);
        } else {
            self.remove(old, member);
            self.insert(new, member);
        }
    }

    /// The number of entries whose key is strictly better than `key`; the standard rank is one more. O(log n).
    pub fn better_than(&self, key: Key) -> usize {
        self.place(key, 0)
    }

    /// The number of entries whose key is `key` or better: the modified rank of somebody at `key`. O(log n).
    pub fn count_equal_or_better(&self, key: Key) -> usize {
        self.place(key, u64::from(u32::MAX) + 1)
    }

    /// The place of the pair, from 0, or `None` when it is not there. O(log n).
    pub fn index_of(&self, key: Key, member: u32) -> Option<usize> {
        self.find(key, member).map(|spot| self.count_before(spot))
    }

    /// The place of the first entry greater than the pair, whether the pair is there or not; `len` when there is none.
    ///
    /// For page cursors: the next page starts here, even when the last member seen has moved since. O(log n).
    pub fn index_after(&self, key: Key, member: u32) -> usize {
        self.place(key, u64::from(member) + 1)
    }

    /// The entries in order from place `index` on; none when `index` is `len` or more.
    ///
    /// O(log n) to start, then sequential reads.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = (Key, u32)> + '_ {
        let (group, rest) = descend(&self.counts, index);
        let (chunk, rest) = self.groups.get(group).map_or((0, 0), |group| descend(&group.counts, rest));
        // Only the first group and the first chunk are entered in their middle.
        let chunks = iter::once(chunk).chain(iter::repeat(0));
        let entries = iter::once(rest).chain(iter::repeat(0));
        let chunks = self.groups.iter().skip(group).zip(chunks).flat_map(|(group, at)| group.iter(at));
        chunks.zip(entries).flat_map(|((chunk, len), at)| chunk.iter(at, len))
    }

    /// The number of entries before (`key`, `member`), where `member` may be one past every index.
    fn place(&self, key: Key, member: u64) -> usize {
        if self.is_empty() { 0 } else { self.count_before(self.seek(key, member)) }
    }

    fn count_before(&self, spot: Spot) -> usize {
        let groups: usize = self.counts[..spot.group].iter().map(|&count| count as usize).sum();
        groups + self.groups[spot.group].total(0..spot.chunk) + spot.entry
    }

    /// Where (`key`, `member`) is or would be inserted. There must be a group.
    fn seek(&self, key: Key, member: u64) -> Spot {
        let group = self.fences.child(key, member);
        let inner = &self.groups[group];
        let chunk = inner.fences.child(key, member);
        let entry = inner.chunks[chunk].lower_bound(inner.entries(chunk), key, member);
        Spot { group, chunk, entry }
    }

    fn find(&self, key: Key, member: u32) -> Option<Spot> {
        let spot = (!self.is_empty()).then(|| self.seek(key, u64::from(member)))?;
        self.holds(spot, key, member).then_some(spot)
    }

    fn entries(&self, spot: Spot) -> usize {
        self.groups[spot.group].entries(spot.chunk)
    }

    fn holds(&self, spot: Spot, key: Key, member: u32) -> bool {
        let chunk = &self.groups[spot.group].chunks[spot.chunk];
        spot.entry < self.entries(spot) && chunk.get(spot.entry) == (key, member)
    }

    fn chunk_mut(&mut self, spot: Spot) -> &mut Chunk {
        &mut self.groups[spot.group].chunks[spot.chunk]
    }

    fn put(&mut self, spot: Spot, key: Key, member: u32) {
        let len = self.entries(spot);
        self.chunk_mut(spot).shift(len, spot.entry, (key, member));
        self.groups[spot.group].counts[spot.chunk] += 1;
        self.counts[spot.group] += 1;
        self.len += 1;
    }

    fn take(&mut self, spot: Spot) {
        let len = self.entries(spot);
        self.chunk_mut(spot).shift(spot.entry, len - 1, LOWEST);
        self.groups[spot.group].counts[spot.chunk] -= 1;
        self.counts[spot.group] -= 1;
        self.len -= 1;
    }

    /// Takes one step towards room for `pair` in the full chunk at `spot`; at most two are needed.
    fn make_room(&mut self, spot: Spot, pair: (Key, u32)) {
        let last_group = spot.group + 1 == self.groups.len();
        let group = &mut self.groups[spot.group];
        let last = last_group && spot.chunk + 1 == group.chunks.len() && spot.entry == CHUNK;
        if group.chunks.len() == GROUP {
            // Whoever appends in order leaves full groups behind.
            self.split_group(spot.group, if last { GROUP - 1 } else { GROUP / 2 });
        } else if last {
            // Likewise full chunks: levelling would leave two thirds.
            group.put(group.chunks.len(), pair, &[]);
        } else if spot == (Spot { group: 0, chunk: 0, entry: 0 }) {
            group.fences.set(0, group.chunks[0].get(0));
            group.put(0, LOWEST, &[]);
        } else {
            let pairs = (spot.chunk.saturating_sub(1)..=spot.chunk).filter(|&at| at + 1 < group.chunks.len());
            match pairs.map(|at| (group.total(at..at + 2), at)).min() {
                None => group.spread(spot.chunk, 1, 2),
                Some((total, at)) if total + ROOM_MIN <= 2 * CHUNK => group.spread(at, 2, 2),
                Some((_, at)) => group.spread(at, 2, 3),
            }
        }
    }

    /// Joins or levels the chunk at `spot`, which has become too empty, with its neighbours.
    fn refill(&mut self, spot: Spot) {
        let group = &mut self.groups[spot.group];
        let start = spot.chunk.saturating_sub(1).min(group.chunks.len().saturating_sub(3));
        let taken = group.chunks.len().min(3);
        let total = group.total(start..start + taken);
        let given = (total + JOIN_ROOM_MIN).div_ceil(CHUNK).clamp(1, taken);
        // Two small chunks alone in a group stay as they are when levelling would not make them big enough.
        if given < taken || total >= taken * CHUNK_MIN {
            group.spread(start, taken, given);
        }
        if group.chunks.len() < GROUP_MIN {
            self.refill_group(spot.group);
        }
    }

    /// Joins or levels a group that has become too small with a neighbour; drops the last group with its last entry.
    fn refill_group(&mut self, at: usize) {
        if self.len == 0 {
            *self = Self::default();
        }
        if self.groups.len() < 2 {
            return;
        }
        let left = at.saturating_sub(1);
        let right = self.take_group(left + 1);
        let mut joined = self.take_group(left);
        let (middle, chunks) = (joined.chunks.len(), joined.chunks.len() + right.chunks.len());
        joined.fences.splice(middle..middle, &right.fences.iter(0, chunks - middle).collect::<Vec<_>>());
        joined.counts.extend(right.counts);
        joined.chunks.extend(right.chunks);
        self.put_group(left, joined);
        // A joined group that is nearly full would split at the next insertion.
        if chunks > GROUP * 3 / 4 {
            self.split_group(left, chunks / 2);
        }
    }

    fn split_group(&mut self, at: usize, chunks: usize) {
        let (mut left, mut right) = (self.take_group(at), Group::default());
        let moved = chunks..left.chunks.len();
        right.fences.splice(0..0, &left.fences.iter(moved.start, moved.end).collect::<Vec<_>>());
        right.counts = left.counts.split_off(chunks);
        right.chunks = left.chunks.split_off(chunks);
        left.fences.splice(moved, &[]);
        self.put_group(at, right);
        self.put_group(at, left);
    }

    fn put_group(&mut self, at: usize, group: Group) {
        self.fences.splice(at..at, &[group.fences.get(0)]);
        self.counts.insert(at, group.total(0..group.chunks.len()) as u32);
        self.groups.insert(at, group);
    }

    fn take_group(&mut self, at: usize) -> Group {
        self.fences.splice(at..at + 1, &[]);
        self.counts.remove(at);
        self.groups.remove(at)
    }
}

impl Group {
    fn put(&mut self, at: usize, fence: (Key, u32), entries: &[(Key, u32)]) {
        self.fences.splice(at..at, &[fence]);
        self.counts.insert(at, entries.len() as u16);
        self.chunks.insert(at, Box::new(Chunk::of(entries)));
    }

    /// The chunks from `start` on, each with its number of entries.
    fn iter(&self, start: usize) -> impl Iterator<Item = (&Chunk, usize)> {
        let counts = self.counts[start..].iter().map(|&count| usize::from(count));
        self.chunks[start..].iter().map(|chunk| &**chunk).zip(counts)
    }

    /// The number of entries in `chunk`.
    fn entries(&self, chunk: usize) -> usize {
        usize::from(self.counts[chunk])
    }

    /// The number of entries in `chunks` together.
    fn total(&self, chunks: Range<usize>) -> usize {
        self.counts[chunks].iter().map(|&count| usize::from(count)).sum()
    }

    /// Spreads the entries of `taken` chunks from `start` evenly over `given` chunks in their place.
    fn spread(&mut self, start: usize, taken: usize, given: usize) {
        let end = start + taken;
        let entries: Vec<_> =
            self.iter(start).take(taken).flat_map(|(chunk, len)| chunk.iter(0, len)).collect();
        // The first fence still holds, and the level above has a copy of it.
        let fences: Vec<_> = shares(&entries, given).skip(1).map(|share| share[0]).collect();
        self.fences.splice(start + 1..end, &fences);
        self.counts.splice(start..end, shares(&entries, given).map(|share| share.len() as u16));
        self.chunks.splice(start..end, shares(&entries, given).map(|share| Box::new(Chunk::of(share))));
    }
}

impl<W: AsRef<[i64]> + AsMut<[i64]>, M: AsRef<[u32]> + AsMut<[u32]>> Columns<W, M> {
    fn get(&self, at: usize) -> (Key, u32) {
        (Key(self.words.each_ref().map(|words| words.as_ref()[at])), self.members.as_ref()[at])
    }

    fn set(&mut self, at: usize, (key, member): (Key, u32)) {
        for (words, word) in self.words.iter_mut().zip(key.0) {
            words.as_mut()[at] = word;
        }
        self.members.as_mut()[at] = member;
    }

    fn iter(&self, start: usize, end: usize) -> impl Iterator<Item = (Key, u32)> {
        let [first, second, third, fourth] = self.words.each_ref().map(|words| &words.as_ref()[start..end]);
        let words = first.iter().zip(second).zip(third.iter().zip(fourth));
        let members = &self.members.as_ref()[start..end];
        words.zip(members).map(|(((&a, &b), (&c, &d)), &member)| (Key([a, b, c, d]), member))
    }

    /// The number of pairs among the first `len` that are before (`key`, `member`).
    ///
    /// Narrows word by word to the pairs that share the words so far.
    fn lower_bound(&self, len: usize, key: Key, member: u64) -> usize {
        let (mut start, mut end) = (0, len);
        for (words, word) in self.words.iter().zip(key.0) {
            let words = &words.as_ref()[start..end];
            let (Some(&first), Some(&last)) = (words.first(), words.last()) else { return start };
            // Many share a score: then this word tells nobody apart.
            if first == word && last == word {
                continue;
            }
            let below = count_below(words, word);
            end = start + below + words[below..].iter().take_while(|&&other| other == word).count();
            start += below;
        }
        start + self.members.as_ref()[start..end].partition_point(|&other| u64::from(other) < member)
    }
}

impl Fences {
    /// The last child whose fence is at most (`key`, `member`).
    fn child(&self, key: Key, member: u64) -> usize {
        self.lower_bound(self.members.len(), key, member + 1) - 1
    }

    fn splice(&mut self, range: Range<usize>, fences: &[(Key, u32)]) {
        for (at, words) in self.words.iter_mut().enumerate() {
            words.splice(range.clone(), fences.iter().map(|(key, _)| key.0[at]));
        }
        self.members.splice(range, fences.iter().map(|&(_, member)| member));
    }
}

impl Chunk {
    /// A chunk of at most [`CHUNK`] entries, which are in order.
    fn of(entries: &[(Key, u32)]) -> Self {
        let mut chunk = Self { words: [[0; CHUNK]; WORDS], members: [0; CHUNK] };
        entries.iter().enumerate().for_each(|(at, &entry)| chunk.set(at, entry));
        chunk
    }

    /// Overwrites the entry at `from` with `entry` at `to`; those between move one place towards `from`.
    ///
    /// From the free place behind the last entry this inserts, to the last place it removes.
    fn shift(&mut self, from: usize, to: usize, entry: (Key, u32)) {
        let (between, target) = if from < to { (from + 1..to + 1, from) } else { (to..from, to + 1) };
        for words in &mut self.words {
            words.copy_within(between.clone(), target);
        }
        self.members.copy_within(between, target);
        self.set(to, entry);
    }
}

/// The number of `words`, which ascend, below `word`.
fn count_below(words: &[i64], word: i64) -> usize {
    let lines = words.iter().step_by(LINE).filter(|&&other| other < word).count();
    let start = lines.saturating_sub(1) * LINE;
    let end = (lines * LINE).min(words.len());
    start + words[start..end].iter().filter(|&&other| other < word).count()
}

/// The child that has place `index` and the place within it; the number of children when there are fewer entries.
fn descend<C: Copy + Into<u64>>(counts: &[C], index: usize) -> (usize, usize) {
    let mut rest = index as u64;
    for (child, &count) in counts.iter().enumerate() {
        if rest < count.into() {
            return (child, rest as usize);
        }
        rest -= count.into();
    }
    (counts.len(), 0)
}

/// Cuts `entries` into `parts` consecutive shares whose sizes differ by at most one.
fn shares<T>(entries: &[T], parts: usize) -> impl Iterator<Item = &[T]> {
    (0..parts).map(move |part| &entries[entries.len() * part / parts..entries.len() * (part + 1) / parts])
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
