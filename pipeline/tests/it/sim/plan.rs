//! What a seed plans: the machine, how badly it behaves, and the quizzes that are played on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::admission::Timing;
use ingest::log::Stream;
use ingest::partition::{PartitionId, of_key};
use operators::definition::{Definition, Pace};
use operators::id::{ParticipantId, QuestionId, QuizId};
use pipeline::store::{Stage, Unit};
use serde_json::{Value, json};

use super::cluster::shards::Lineage;
use super::executor::Rng;
use super::mutants::Mutant;

/// Everything that one run needs to know beforehand.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) mutant: Option<Mutant>,
    pub(super) partitions: u16,
    /// Effects, rows and header are one write, as in the embedded store.
    pub(super) embedded: bool,
    /// Stages are apart, on shards, and gateways follow what is stored.
    pub(super) is_cluster: bool,
    pub(super) cluster: Cluster,
    pub(super) timing: Timing,
    pub(super) rates: Rates,
    /// How far each partition's append clock is off.
    pub(super) log_skews_ms: Vec<i64>,
    /// How far each gateway's clock is off.
    pub(super) gateways: Vec<i64>,
    /// How far the clocks of the first and the second worker of a unit are off.
    pub(super) workers: [i64; 2],
    pub(super) lease_ms: u64,
    pub(super) wait_ms: u64,
    pub(super) records_max: usize,
    /// States in a worker's cache; few mean many loads.
    pub(super) states_max: usize,
    pub(super) chunk_records: usize,
    /// Effects of one record at most: whoever takes over may pack them otherwise.
    pub(super) effects_max: usize,
    /// A header with more pages than this is compacted by the next commit.
    pub(super) pages_max: usize,
    /// The longest that a request is held up: longer than the grace.
    pub(super) slow_ms_max: u64,
    /// By unit, from which commit on the worker falls asleep in the midst of one, until someone else has its unit.
    pub(super) zombies: Vec<(Unit, u64)>,
    pub(super) quizzes: Vec<QuizPlan>,
    /// How long quizzes are kept once they are final: longer than they are played.
    pub(super) keep: Option<Duration>,
}

/// How long quizzes are kept where they are not kept for ever.
pub(super) const KEEP_MS: u64 = 300_000;

/// What only a cluster has.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster {
    pub(super) checkpoint_ms: u64,
    /// Time between two pulses or beats.
    pub(super) herald_ms: u64,
    pub(super) lease_ms: u64,
    /// By how much the append times of one partition may go back.
    pub(super) jitter_ms: u64,
    /// Participants in a gateway's copies at most.
    pub(super) copied_max: usize,
    /// Shards that each stage's input begins with.
    pub(super) shards: [u16; 2],
    /// When which stream is resharded.
    pub(super) reshards: Vec<(u64, Stream)>,
    /// Which process is started anew in good order, and when.
    pub(super) deployments: Vec<(usize, u64)>,
}

/// Processes of a cluster, two for each stage.
pub(super) const PROCESSES: usize = 4;

impl Cluster {
    fn new(rng: &mut Rng, partitions: u16, faults: bool) -> Self {
        let streams = [Stream::Submissions, Stream::Standings];
        let reshards = if faults { rng.between(1, 3) } else { 1 };
        let deployments = if faults { rng.below(3) } else { 0 };
        Self {
            checkpoint_ms: [50, 150, 400, 1_000][rng.below(4) as usize],
            herald_ms: rng.between(100, 250),
            lease_ms: rng.between(600, 1_200),
            jitter_ms: rng.between(2, 8),
            copied_max: if rng.chance(120) { 6 } else { 1_000 },
            shards: [(); 2].map(|()| rng.between(1, partitions.into()) as u16),
            reshards: (0..reshards)
                .map(|_| (rng.between(500, 9_000), streams[rng.below(2) as usize]))
                .collect(),
            deployments: (0..deployments)
                .map(|_| (rng.below(PROCESSES as u64) as usize, rng.between(1_000, 12_000)))
                .collect(),
        }
    }
}

/// Things that go wrong, per thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) fail: u64,
    pub(super) slow: u64,
    pub(super) crash: u64,
    /// Of commands that close something: a partition takes no records for a while.
    pub(super) outage: u64,
}

/// One quiz.
#[derive(Debug, Clone)]
pub(super) struct QuizPlan {
    pub(super) id: QuizId,
    pub(super) pace: Pace,
    pub(super) sections: u16,
    pub(super) questions: Vec<QuestionPlan>,
    pub(super) participants: Vec<ParticipantId>,
    pub(super) starts_at_ms: u64,
}

/// One question; those at even places are single choice, the others numeric.
#[derive(Debug, Clone)]
pub(super) struct QuestionPlan {
    pub(super) id: QuestionId,
    pub(super) limit_ms: Option<u64>,
    /// Full points are worth less with time.
    pub(super) clock: bool,
    pub(super) points: &'static str,
}

/// What is planned, before the seed has its say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) mutant: Option<Mutant>,
    /// Whether anything goes wrong at all.
    pub(super) faults: bool,
    /// What the machine is, whatever the seed says.
    pub(super) machine: Option<Machine>,
}

/// What a run takes place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// One process, a commit is one write.
    Embedded,
    /// One process, a commit is several writes.
    Parts,
    /// Stages apart.
    Cluster,
}

impl Setup {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, mutant: None, faults: true, machine: None }
    }
}

impl Machine {
    fn drawn(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..35 => Self::Embedded,
            35..58 => Self::Parts,
            _ => Self::Cluster,
        }
    }
}

impl Plan {
    pub(super) fn new(setup: Setup) -> Self {
        let rng = &mut Rng::new(setup.seed);
        let partitions = rng.between(1, 4) as u16;
        let quizzes: Vec<QuizPlan> =
            (0..rng.between(2, 3)).map(|nth| QuizPlan::new(rng, setup.seed, nth)).collect();
        let machine = setup.machine.unwrap_or_else(|| Machine::drawn(rng));
        let is_cluster = machine == Machine::Cluster;
        // Pulses, intervals and beats make views older. Behind the longest grace scoring hides most that comes late.
        let timings = if is_cluster {
            [(5_000, 1_000, 3_000), (4_000, 800, 2_800), (3_600, 600, 2_600)]
        } else {
            [(2_000, 500, 1_000), (1_200, 400, 500), (3_000, 1_000, 800)]
        };
        let timing = timings[rng.below(3) as usize];
        let ms = Duration::from_millis;
        let timing = Timing::new(ms(timing.0), ms(timing.1), ms(timing.2)).expect("times that go together");
        // No two clocks differ by half the margin.
        let skew_max = timing.margin().as_millis() as u64 / 4 - 1;
        let skew = |rng: &mut Rng| rng.between(0, 2 * skew_max).cast_signed() - skew_max.cast_signed();
        // Each kind of fault is absent, rare or frequent, so that seeds differ in character.
        let rate = |rng: &mut Rng, frequent: u64| [0, frequent / 4, frequent][rng.below(3) as usize];
        let rates = Rates {
            fail: rate(rng, 60),
            slow: rate(rng, 24),
            crash: rate(rng, if is_cluster { 4 } else { 12 }),
            outage: rate(rng, 300),
        };
        let zombies = Self::zombies(rng, &quizzes, partitions);
        Self {
            seed: setup.seed,
            mutant: setup.mutant,
            partitions,
            embedded: machine == Machine::Embedded,
            is_cluster,
            cluster: if is_cluster {
                Cluster::new(rng, partitions, setup.faults)
            } else {
                Cluster::default()
            },
            timing,
            rates: if setup.faults { rates } else { Rates::default() },
            log_skews_ms: (0..partitions).map(|_| skew(rng)).collect(),
            gateways: vec![skew(rng), skew(rng)],
            workers: [skew(rng), skew(rng)],
            lease_ms: rng.between(250, 500),
            wait_ms: rng.between(80, 200),
            records_max: [4, 8, 16, 64][rng.below(4) as usize],
            states_max: [1, 4, 16, 100][rng.below(4) as usize],
            chunk_records: rng.between(1, 6) as usize,
            effects_max: [1, 2, 5, usize::MAX][(setup.seed % 4) as usize],
            pages_max: [3, 8, 24][rng.below(3) as usize],
            slow_ms_max: if is_cluster { 6_500 } else { 4_500 },
            zombies: if setup.faults { zombies } else { Vec::new() },
            quizzes,
            // Planted bugs are caught by what comes before.
            keep: (setup.seed % 4 == 1 && setup.mutant.is_none() && setup.faults).then(|| ms(KEEP_MS)),
        }
    }

    /// One grade worker always becomes a zombie, a rank worker often, both at a commit that every quiz comes to.
    fn zombies(rng: &mut Rng, quizzes: &[QuizPlan], partitions: u16) -> Vec<(Unit, u64)> {
        let partition = of_key(quizzes[0].id.as_str(), partitions);
        let mut zombies = vec![(Unit { stage: Stage::Grade, partition }, rng.between(2, 4))];
        if rng.chance(600) {
            zombies.push((Unit { stage: Stage::Rank, partition }, rng.between(2, 4)));
        }
        zombies
    }

    /// Returns the shards that a cluster's streams begin with.
    pub(super) fn lineages(&self) -> BTreeMap<Stream, Lineage> {
        let streams = [Stream::Submissions, Stream::Standings].into_iter().zip(self.cluster.shards);
        let streams = streams.filter(|_| self.is_cluster);
        streams.map(|(stream, shards)| (stream, Lineage::new(self.partitions, shards))).collect()
    }

    /// Returns all units.
    pub(super) fn units(&self) -> Vec<Unit> {
        let stages = [Stage::Grade, Stage::Rank];
        (0..self.partitions)
            .flat_map(|partition| stages.map(|stage| Unit { stage, partition: PartitionId(partition) }))
            .collect()
    }
}

impl QuizPlan {
    fn new(rng: &mut Rng, seed: u64, nth: u64) -> Self {
        let pace = if rng.chance(300) { Pace::Free } else { Pace::Host };
        let question = |rng: &mut Rng, place: u64| {
            let clock = pace == Pace::Host && rng.chance(600);
            let limit_ms = (clock || rng.chance(300)).then(|| rng.between(600, 2_500));
            let points = ["1000", "12.5", "1", "0.333333"][rng.below(4) as usize];
            QuestionPlan { id: format!("q{place}").parse().expect("an id"), limit_ms, clock, points }
        };
        let questions = (0..rng.between(2, 4)).map(|place| question(rng, place)).collect();
        let people = rng.between(3, 6);
        Self {
            id: format!("quiz-{seed}-{nth}").parse().expect("an id"),
            pace,
            sections: if rng.chance(350) { 8 } else { 1 },
            questions,
            participants: (0..people).map(|_| person(rng)).collect(),
            starts_at_ms: rng.below(1_500),
        }
    }

    /// Returns the first version of the definition, or the second, which ranks by other rules.
    pub(super) fn definition(&self, version: u64) -> Arc<Definition> {
        let questions: Vec<Value> = self.questions.iter().enumerate().map(|(at, q)| q.json(at)).collect();
        let ties =
            if version == 1 { json!(["correct", "time", "last_correct"]) } else { json!(["last_correct"]) };
        let pace = if self.pace == Pace::Free { "free" } else { "host" };
        let source = json!({
            "title": format!("version {version}"), "pace": pace, "sections": self.sections,
            "ranking": {"ties": ties}, "questions": questions,
        });
        let source = serde_json::from_value(source).expect("the JSON form");
        Arc::new(Definition::new(source).expect("a sound definition"))
    }
}

impl QuestionPlan {
    fn json(&self, place: usize) -> Value {
        let mut question = if place.is_multiple_of(2) {
            let choices = ["a", "b", "c"].map(|id| json!({"id": id, "text": id}));
            json!({"kind": "single_choice", "key": {"choice": "b"}, "choices": choices})
        } else {
            json!({"kind": "numeric", "key": {"value": "3", "tolerance": "0.5"}})
        };
        question["id"] = json!(self.id);
        question["text"] = json!("?");
        question["points"] = json!(self.points);
        if let Some(ms) = self.limit_ms {
            question["time_limit_ms"] = json!(ms);
        }
        if self.clock {
            question["award"] = json!("kahoot@1");
        }
        question
    }
}

fn person(rng: &mut Rng) -> ParticipantId {
    ParticipantId(u128::from(rng.next()) << 64 | u128::from(rng.next()))
}
