//! What a seed decides: the quiz, what strikes the cluster, and when.

use std::time::Duration;

use crate::cloud::{DYNAMODB, KINESIS};

/// Gateways of the cluster.
pub(crate) const GATEWAYS: [&str; 2] = ["gateway-1", "gateway-2"];
/// Its graders.
pub(crate) const GRADERS: [&str; 2] = ["grader-1", "grader-2"];
/// Its rankers.
pub(crate) const RANKERS: [&str; 2] = ["ranker-1", "ranker-2"];
/// The time in which things happen, from when the quiz is open.
const STORM_MS: u64 = 5_000;

/// Numbers without end that are the same for one seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        names[self.below(names.len() as u64) as usize]
    }
}

/// Something that happens to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// A host crashes, in the midst of whatever it does.
    Crash(&'static str),
    /// It is started again.
    Restart(&'static str),
    /// Two hosts hear nothing of each other; what was under way is lost.
    Part(&'static str, &'static str),
    /// They hear each other again.
    Join(&'static str, &'static str),
    /// Everything between two hosts is held up on its way.
    Hold(&'static str, &'static str),
    /// It arrives after all.
    Release(&'static str, &'static str),
    /// The next call of this name is carried out, and its answer is lost.
    LoseAnswer(&'static str),
}

/// A mistake put into the cluster, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// None.
    None,
    /// Gateways acknowledge an answer although the log did not answer.
    HastyGateway,
    /// Workers store state before the effects that come of it are in the log.
    LateEffects,
    /// Every third commit writes the header, and not the rows.
    HalfCommit,
}

impl Bug {
    /// Returns the mistake of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "hasty-gateway" => Self::HastyGateway,
            "late-effects" => Self::LateEffects,
            "half-commit" => Self::HalfCommit,
            _ => Self::None,
        }
    }
}

/// All that a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Shards of a stream, of two partitions each.
    pub(crate) shards: u32,
    pub(crate) sections: u16,
    /// Whether the host opens one question after the other; else all are open at once.
    pub(crate) is_hosted: bool,
    /// What happens when, in order.
    pub(crate) blows: Vec<(Duration, Blow)>,
}

impl Plan {
    /// Returns the plan of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut blows = Vec::new();
        let workers = [GRADERS, RANKERS].concat();
        for _ in 0..=dice.below(2) {
            let worker = dice.one_of(&workers);
            let at = dice.ms(0, STORM_MS);
            blows.push((at, Blow::Crash(worker)));
            blows.push((at + dice.ms(50, 3_000), Blow::Restart(worker)));
        }
        if dice.below(4) == 0 {
            let (gateway, at) = (dice.one_of(&GATEWAYS), dice.ms(0, STORM_MS));
            blows.push((at, Blow::Crash(gateway)));
            blows.push((at + dice.ms(50, 2_000), Blow::Restart(gateway)));
        }
        let all = [GATEWAYS, GRADERS, RANKERS].concat();
        for _ in 0..=dice.below(2) {
            let (host, service, at) =
                (dice.one_of(&all), dice.one_of(&[KINESIS, DYNAMODB]), dice.ms(0, STORM_MS));
            blows.push((at, Blow::Part(host, service)));
            blows.push((at + dice.ms(300, 5_000), Blow::Join(host, service)));
        }
        if dice.below(2) == 0 {
            let (host, service, at) =
                (dice.one_of(&all), dice.one_of(&[KINESIS, DYNAMODB]), dice.ms(0, STORM_MS));
            blows.push((at, Blow::Hold(host, service)));
            blows.push((at + dice.ms(300, 5_000), Blow::Release(host, service)));
        }
        for _ in 0..2 + dice.below(6) {
            let call = dice.one_of(&["PutRecords", "PutRecords", "UpdateItem", "PutItem", "GetRecords"]);
            blows.push((dice.ms(0, STORM_MS), Blow::LoseAnswer(call)));
        }
        blows.push((dice.ms(0, STORM_MS / 2), Blow::LoseAnswer("PutRecords")));
        blows.sort_by_key(|(at, _)| *at);
        let (shards, sections) = (1 + dice.below(2) as u32, 1 + dice.below(2) as u16);
        Self { seed, shards, sections, is_hosted: dice.below(2) == 0, blows }
    }
}
