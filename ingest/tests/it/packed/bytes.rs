//! What an answer takes of `standings`, with ids as random as real ones.

use std::sync::Arc;

use ingest::codec::{encode_effect, encode_effects};
use operators::definition::Definition;
use operators::effect::{Effect, Output};
use operators::event::{Answer, Command, Event, Response, Stamp};
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use operators::quiz::Section;

use super::{read, shown};
use crate::support::Random;

const QUESTIONS: usize = 10;
/// Records of one aggregate: a tenth of a second's on a shard that has what it can take.
const AGGREGATE: u64 = 100;
const START_MS: u64 = 1_795_204_800_000;

/// A quiz on the way, with where its records are.
struct Play {
    random: Random,
    sections: Vec<Section>,
    /// Records so far.
    place: u64,
    now_ms: u64,
    effects: Vec<Effect>,
}

fn definition() -> Arc<Definition> {
    let question = |n: usize| {
        format!(
            r#"{{"id":"q{n}","kind":"single_choice","text":"?","choices":[{{"id":"a","text":"A"}},{{"id":"b","text":"B"}},
            {{"id":"c","text":"C"}},{{"id":"d","text":"D"}}],"key":{{"choice":"b"}},"points":"1000",
            "time_limit_ms":20000,"award":"kahoot@1"}}"#
        )
    };
    let questions: Vec<String> = (1..=QUESTIONS).map(question).collect();
    let json = format!(r#"{{"title":"Capitals","questions":[{}]}}"#, questions.join(","));
    Arc::new(Definition::new(serde_json::from_str(&json).unwrap()).unwrap())
}

impl Play {
    fn new(sections: u16) -> Self {
        let quiz = || "friday-quiz-2026-11-20".parse().unwrap();
        let sections: Vec<Section> = (0..sections).map(|section| Section::new(quiz(), section)).collect();
        let mut play = Self { random: Random(7), sections, place: 0, now_ms: START_MS, effects: Vec::new() };
        play.command(&Command::Publish { definition: definition(), if_version: None });
        play
    }

    fn id(&mut self) -> u128 {
        (0..8).fold(0, |id, _| id << 16 | self.random.below(1 << 16) as u128)
    }

    fn apply(&mut self, section: usize, event: &Event) {
        // 56 digits, as Kinesis gives them, and where in the aggregate.
        let sequence =
            [0x25_4b0f_3a91, 0x6c31_9d04_55aa_1b02, 0x8f00_0000_1c00 + self.place / AGGREGATE * 4_097];
        let position = Position { shard: 3, sequence, sub: self.place % AGGREGATE };
        self.place += 1;
        let stamp = Stamp { position, append_at: UnixMillis(self.now_ms + 12) };
        let mut outputs = Vec::new();
        self.sections[section].apply(event, stamp, &mut outputs);
        self.effects.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Standings(effect) => Some(effect),
            Output::Copy { .. } => None,
        }));
    }

    /// Carries a command out in every section, as they do once they have its copy.
    fn command(&mut self, command: &Command) {
        let id = format!("c{}", self.place).parse().unwrap();
        self.apply(0, &Event::Command { id, content: 0, command: command.clone() });
        let (number, at) = (self.sections[0].header().number, UnixMillis(self.now_ms + 12));
        for section in 1..self.sections.len() {
            self.apply(section, &Event::Copy { number, at, command: command.clone() });
        }
    }

    /// Returns the effects of the answers to the last question.
    fn answers(mut self, players: usize) -> Vec<Effect> {
        let ids: Vec<ParticipantId> = (0..players).map(|_| ParticipantId(self.id())).collect();
        let section = |id: &ParticipantId, play: &Self| usize::from(id.section(play.sections.len() as u16));
        for id in &ids {
            let join = Event::Join { participant: *id, name: format!("Player {}", self.place) };
            self.apply(section(id, &self), &join);
        }
        self.command(&Command::Open);
        for question in 1..=QUESTIONS {
            let question: operators::id::QuestionId = format!("q{question}").parse().unwrap();
            self.command(&Command::OpenQuestion(question.clone()));
            self.effects.clear();
            for id in &ids {
                // One in fifty sends it twice, under another id.
                for _ in 0..1 + usize::from(self.random.below(50) == 0) {
                    // All within fifteen seconds; they come from two gateways, so not quite in order.
                    let received_at = UnixMillis(self.now_ms - self.random.below(8) as u64);
                    let choice = ["a", "b", "b", "c", "d"][self.random.below(5)];
                    // A random UUID has six fixed bits.
                    let submission = SubmissionId(self.id() & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62);
                    let (participant, response) = (*id, Response::Choice(choice.into()));
                    let question = question.clone();
                    let answer = Answer { participant, submission, question, response, received_at };
                    self.apply(section(id, &self), &Event::Answer(answer));
                }
                self.now_ms = START_MS + (self.now_ms - START_MS).max(1) + (15_000 / players as u64).max(1);
            }
            self.command(&Command::CloseQuestion(question));
            self.effects.retain(|effect| matches!(effect.change, operators::effect::Change::ScoreChanged(_)));
            self.now_ms += 10_000;
        }
        self.effects
    }
}

/// One shard takes 1 MB/s, so this many bytes allow 10,000 answers/s and more.
const BYTES_MAX: f64 = 70.0;

#[test]
fn an_answer_takes_few_bytes_of_standings() {
    for sections in [1, 4] {
        for players in [50, 500, 2_000] {
            let effects = Play::new(sections).answers(players);
            assert!(effects.len() >= players);
            let records = encode_effects(&effects).unwrap();
            assert_eq!(shown(&read(&records).0), shown(&effects));
            let per_answer = |bytes: usize| bytes as f64 / effects.len() as f64;
            let packed = per_answer(records.iter().map(|record| record.len()).sum());
            let single = per_answer(effects.iter().map(|effect| encode_effect(effect).unwrap().len()).sum());
            println!(
                "{sections} sections, {} answers: {packed:.1} bytes each in {} records, {single:.1} in their own",
                effects.len(),
                records.len()
            );
            assert!(packed <= BYTES_MAX, "{packed:.1} bytes an answer");
        }
    }
}
