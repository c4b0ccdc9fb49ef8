//! What one change and one question cost on a leaderboard of 1,000,000 members.
//!
//! Keys are as in a quiz that runs: points, best first, then the time of the last gain. Everybody starts at zero, and
//! four gains per member shuffle the board, so chunks are filled as they are after a while, not as after loading.

use criterion::{Criterion, criterion_group, criterion_main};
use operators::rank::order::{Key, Order};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The size that the README's figures are for.
const MEMBERS: usize = 1_000_000;

/// Operations per timed batch: enough to hide the clock, few enough for their arguments to stay in the near cache, so
/// that reading arguments is not measured as ranking.
const BATCH: u64 = 500;

/// Points of one gain, in thousandths, at most: a question is worth 1000.
const GAIN_MAX: u64 = 1_000_000;

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
}

/// A board and what its caller knows: everybody's key.
struct Board {
    order: Order,
    keys: Vec<Key>,
    draws: Draws,
    now_ms: i64,
}

impl Board {
    fn new() -> Self {
        let mut order = Order::new();
        let keys = vec![Key::default(); MEMBERS];
        for (member, &key) in (0..).zip(&keys) {
            order.insert(key, member);
        }
        let mut board = Self { order, keys, draws: Draws(7), now_ms: 0 };
        for _ in 0..4 * MEMBERS {
            let (old, new, member) = board.gain();
            board.order.replace(old, new, member);
        }
        board
    }

    fn member(&mut self) -> usize {
        self.draws.below(MEMBERS as u64) as usize
    }

    /// The key of a random member.
    fn key(&mut self) -> Key {
        let member = self.member();
        self.keys[member]
    }

    /// A random member gains points: the arguments of `replace`.
    fn gain(&mut self) -> (Key, Key, u32) {
        let member = self.member();
        self.now_ms += 1;
        let old = self.keys[member];
        let new = Key([old.0[0] - self.draws.below(GAIN_MAX) as i64, self.now_ms, 0, 0]);
        self.keys[member] = new;
        (old, new, member as u32)
    }
}

/// Times `run` per operation; `draw` makes its arguments before and `undo` cleans up after, both outside the clock.
fn bench<T: Copy>(
    criterion: &mut Criterion,
    name: &str,
    board: &mut Board,
    draw: impl Fn(&mut Board, u32) -> T,
    run: impl Fn(&mut Order, T),
    undo: impl Fn(&mut Order, T),
) {
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|operations| {
            let (mut spent, mut left) = (Duration::ZERO, operations);
            while left > 0 {
                let batch = left.min(BATCH) as u32;
                left -= u64::from(batch);
                let arguments: Vec<T> = (0..batch).map(|at| draw(board, at)).collect();
                let start = Instant::now();
                arguments.iter().for_each(|&argument| run(&mut board.order, argument));
                spent += start.elapsed();
                arguments.iter().for_each(|&argument| undo(&mut board.order, argument));
            }
            spent
        });
    });
}

fn rank(criterion: &mut Criterion) {
    let mut board = Board::new();
    let update = |order: &mut Order, (old, new, member)| order.replace(old, new, member);
    bench(criterion, "rank/update", &mut board, |board, _| board.gain(), update, |_, _| ());

    let question = |board: &mut Board, _| board.key();
    let better = |order: &mut Order, key| _ = black_box(order.better_than(key));
    bench(criterion, "rank/rank", &mut board, question, better, |_, _| ());

    criterion.bench_function("rank/top_100", |bencher| {
        bencher.iter(|| board.order.iter_from(0).take(100).for_each(|entry| _ = black_box(entry)));
    });

    // Somebody new arrives next to somebody who is there, and leaves again: the board keeps its size.
    let newcomer = |board: &mut Board, at| (board.key(), MEMBERS as u32 + at);
    let insert = |order: &mut Order, (key, member)| order.insert(key, member);
    let leave = |order: &mut Order, (key, member)| _ = order.remove(key, member);
    bench(criterion, "rank/insert", &mut board, newcomer, insert, leave);
}

criterion_group!(benches, rank);
criterion_main!(benches);
