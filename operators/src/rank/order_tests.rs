//! The order against a sorted `Vec`, with few and with many keys, and in the patterns that hurt.

use super::*;
use proptest::prelude::*;

impl Order {
    /// Panics unless counts, fences, order and fill are as promised.
    fn check(&self) {
        assert_eq!(self.counts.len(), self.groups.len());
        assert_eq!(self.fences.members.len(), self.groups.len());
        let mut all: Vec<(Key, u32)> = Vec::new();
        let chunks: usize = self.groups.iter().map(|group| group.chunks.len()).sum();
        let mut seen = 0;
        for (at, group) in self.groups.iter().enumerate() {
            assert_eq!(self.fences.get(at), group.fences.get(0), "the list has a copy of the first fence");
            assert!(!group.chunks.is_empty() && group.chunks.len() <= GROUP);
            assert_eq!(group.counts.len(), group.chunks.len());
            assert_eq!(group.fences.members.len(), group.chunks.len());
            let start = all.len();
            for (chunk, (entries, len)) in group.iter(0).enumerate() {
                seen += 1;
                assert!(len <= CHUNK);
                let inner = seen > 1 && seen < chunks;
                assert!(!inner || len >= CHUNK / 2, "chunk {seen} of {chunks} has {len} entries");
                let fence = group.fences.get(chunk);
                assert!(seen > 1 || fence == LOWEST, "the first fence is the smallest pair");
                assert!(all.last().is_none_or(|&last| last < fence), "a fence is greater than all before it");
                assert!(len == 0 || fence <= entries.get(0), "a fence is at most its first entry");
                all.extend(entries.iter(0, len));
            }
            assert_eq!(self.counts[at] as usize, all.len() - start);
        }
        assert!(all.is_sorted_by(|a, b| a < b), "entries ascend");
        assert_eq!(self.len, all.len());
    }
}

/// Both, changed together.
#[derive(Default)]
struct Pair {
    order: Order,
    model: Vec<(Key, u32)>,
}

impl Pair {
    fn insert(&mut self, key: Key, member: u32) {
        self.order.insert(key, member);
        self.model.push((key, member));
        self.model.sort();
    }

    fn remove(&mut self, key: Key, member: u32) {
        let there = self.model.iter().position(|&entry| entry == (key, member));
        assert_eq!(self.order.remove(key, member), there.is_some());
        there.map(|at| self.model.remove(at));
    }

    fn replace(&mut self, old: Key, new: Key, member: u32) {
        self.order.replace(old, new, member);
        self.model.retain(|&entry| entry != (old, member));
        self.model.push((new, member));
        self.model.sort();
    }

    /// Asks everything that can be asked about a pair.
    fn ask(&self, key: Key, member: u32) {
        let count =
            |test: &dyn Fn(&(Key, u32)) -> bool| self.model.iter().filter(|entry| test(entry)).count();
        let (order, model) = (&self.order, &self.model);
        assert_eq!(order.len(), model.len());
        assert_eq!(order.is_empty(), model.is_empty());
        assert_eq!(order.better_than(key), count(&|entry| entry.0 < key));
        assert_eq!(order.count_equal_or_better(key), count(&|entry| entry.0 <= key));
        assert_eq!(order.index_of(key, member), model.iter().position(|&entry| entry == (key, member)));
        let after = order.index_after(key, member);
        assert_eq!(after, count(&|&entry| entry <= (key, member)));
        for index in [0, after, after.saturating_sub(1), model.len(), model.len() + 1] {
            let expected: Vec<_> = model.iter().copied().skip(index).take(150).collect();
            assert_eq!(order.iter_from(index).take(150).collect::<Vec<_>>(), expected);
        }
    }

    fn ask_all(&self) {
        self.order.check();
        assert!(self.order.iter_from(0).eq(self.model.iter().copied()));
        for &(key, member) in self.model.iter().step_by(self.model.len() / 50 + 1) {
            self.ask(key, member);
        }
        let loaded = Order::from_unsorted(self.model.iter().rev().copied().collect());
        loaded.check();
        assert!(loaded.iter_from(0).eq(self.model.iter().copied()));
    }
}

/// Numbers that look random and are the same in every run.
struct Draws(u64);

impl Draws {
    /// The next number, from 0 to `bound` exclusive.
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A key whose words have `width` values each, smallest and largest included.
    fn key(&mut self, width: u64) -> Key {
        Key(std::array::from_fn(|_| match self.below(width) {
            0 => i64::MIN,
            1 => i64::MAX,
            word => word as i64 - 3,
        }))
    }
}

/// `steps` random changes among `members` members, each with at most one key.
fn wander(seed: u64, members: u32, width: u64, steps: usize) {
    let mut draws = Draws(seed);
    let mut keys = vec![None; members as usize];
    let mut pair = Pair::default();
    for step in 0..steps {
        let member = draws.below(u64::from(members)) as u32;
        let key = draws.key(width);
        // Grows first, then shrinks, so that chunks split and join.
        let leaving = if step < steps / 2 { 1 } else { 5 };
        match keys[member as usize] {
            None => {
                pair.insert(key, member);
                keys[member as usize] = Some(key);
            }
            Some(old) if draws.below(8) < leaving => {
                pair.remove(old, member);
                keys[member as usize] = None;
            }
            Some(old) => {
                pair.replace(old, key, member);
                keys[member as usize] = Some(key);
            }
        }
        pair.order.check();
        pair.ask(key, member);
        pair.remove(draws.key(width), members);
    }
    pair.ask_all();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn answers_as_a_sorted_vec_does(seed: u64, members in 1u32..1200, width in prop_oneof![1u64..4, Just(1 << 40)]) {
        wander(seed, members, width, 1500);
    }

    #[test]
    fn loads_what_it_is_given(seed: u64, len in 0u32..3000, width in 1u64..9) {
        let mut draws = Draws(seed);
        let mut pair = Pair::default();
        pair.model = (0..len).map(|member| (draws.key(width), member)).collect();
        pair.order = Order::from_unsorted(pair.model.clone());
        pair.model.sort();
        pair.ask_all();
    }
}

fn points(points: i64) -> Key {
    Key([points, 0, 0, 0])
}

/// More than one group, whatever the fill.
const MANY: u32 = (CHUNK * GROUP * 2) as u32;

/// Fills an order with a key per member, asks, then removes everybody in the order of `leaving`.
fn fill_and_drain(key: impl Fn(u32) -> Key, leaving: impl Fn(u32) -> u32) -> usize {
    let mut order = Order::new();
    for member in 0..MANY {
        order.insert(key(member), member);
    }
    order.check();
    let mut model: Vec<_> = (0..MANY).map(|member| (key(member), member)).collect();
    model.sort();
    assert!(order.iter_from(0).eq(model.iter().copied()));
    let chunks = order.groups.iter().map(|group| group.chunks.len()).sum();
    for (step, member) in (0..MANY).map(leaving).enumerate() {
        assert!(order.remove(key(member), member));
        assert!(!order.remove(key(member), member));
        if step % 512 == 0 || order.len() < 20 {
            order.check();
        }
    }
    assert!(order.is_empty() && order.groups.is_empty(), "nobody left, nothing kept");
    chunks
}

#[test]
fn ascending_and_equal_keys_fill_chunks() {
    let least = MANY as usize / CHUNK;
    assert_eq!(fill_and_drain(|member| points(i64::from(member)), |step| step), least);
    assert_eq!(fill_and_drain(|_| points(0), |step| MANY - 1 - step), least);
    // An odd multiplier visits every member once, far from the last one.
    assert_eq!(fill_and_drain(|_| points(0), |step| step.wrapping_mul(40_503) % MANY), least);
}

#[test]
fn descending_keys_fill_chunks() {
    let chunks = fill_and_drain(|member| points(-i64::from(member)), |step| step);
    assert_eq!(chunks, MANY as usize / CHUNK);
}

#[test]
fn scattered_keys_leave_bounded_slack() {
    let chunks = fill_and_drain(|member| points(i64::from(member.wrapping_mul(40_503) % MANY)), |step| step);
    assert!(chunks * CHUNK * 7 / 10 < MANY as usize, "{chunks} chunks");
}

#[test]
fn sawtooth_at_a_border_stays_sound() {
    for size in [1, CHUNK as u32, 2 * CHUNK as u32, (CHUNK * GROUP) as u32] {
        let entries: Vec<_> = (0..size).map(|member| (points(i64::from(member) * 1000), member)).collect();
        let mut order = Order::from_unsorted(entries.clone());
        for width in [1, 3, CHUNK as i64] {
            for at in [-1, i64::from(size) * 500, i64::from(size) * 1000] {
                for round in 0..3 {
                    (1..=width).for_each(|step| order.insert(points(at + step), size));
                    order.check();
                    (1..=width)
                        .for_each(|step| assert!(order.remove(points(at + step), size), "round {round}"));
                    order.check();
                }
            }
        }
        assert!(order.iter_from(0).eq(entries));
    }
}

#[test]
fn keeping_few_in_every_chunk_joins_chunks() {
    let mut order = Order::from_unsorted((0..MANY).map(|member| (points(0), member)).collect());
    for member in (0..MANY).filter(|member| member % 50 != 0) {
        assert!(order.remove(points(0), member));
    }
    order.check();
    assert_eq!(order.groups.len(), 1);
    assert!(order.groups[0].chunks.len() <= 2 * order.len() / CHUNK + 2);
}

#[test]
fn everybody_starts_equal_and_gains_points() {
    let mut draws = Draws(7);
    let mut keys = vec![points(0); MANY as usize];
    let mut order = Order::from_unsorted((0..MANY).map(|member| (points(0), member)).collect());
    for step in 0..60_000 {
        let member = draws.below(u64::from(MANY)) as usize;
        let new = Key([keys[member].0[0] - draws.below(500) as i64, draws.below(3) as i64, 0, 0]);
        order.replace(keys[member], new, member as u32);
        keys[member] = new;
        if step % 2000 == 0 {
            order.check();
            assert_eq!(order.better_than(new), keys.iter().filter(|&&key| key < new).count());
        }
    }
    let mut model: Vec<_> = keys.into_iter().zip(0..).collect();
    model.sort();
    assert!(order.iter_from(0).eq(model));
}

#[test]
fn the_smallest_and_the_largest_pair_are_entries_like_others() {
    let mut pair = Pair::default();
    for (key, member) in
        [(Key([i64::MAX; 4]), u32::MAX), (Key([i64::MIN; 4]), 0), (Key([i64::MIN; 4]), u32::MAX)]
    {
        pair.ask(key, member);
        pair.insert(key, member);
        pair.ask(key, member);
    }
    pair.ask_all();
}

#[test]
#[should_panic(expected = "a member stands where its key says")]
fn replacing_somebody_who_is_elsewhere_panics() {
    Order::from_unsorted(vec![(points(1), 1)]).replace(points(2), points(3), 1);
}
