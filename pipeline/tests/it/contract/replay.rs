//! States to rows and back: a stage that was restored anywhere goes on exactly as one that never was.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use ingest::codec::{decode_envelope, encode_envelope};
use ingest::log::{Record, Stream};
use operators::definition::Definition;
use operators::effect::Phase;
use operators::event::{Answer, Command, Envelope, Event, Response, Scope, Stamp};
use operators::id::{ParticipantId, Position, QuestionId, QuizId, SubmissionId, UnixMillis};
use operators::rank::{Gap, Ranking};

use pipeline::stage::grade::Grade;
use pipeline::stage::rank::{self, Rank, Silence};
use pipeline::stage::{Armed, Operator};
use pipeline::store::Changes;
use proptest::prelude::*;

const GRACE_MS: u64 = 2_000;
const KEEP: std::time::Duration = std::time::Duration::from_secs(10);
const QUESTIONS: [&str; 5] = ["s", "m", "n", "t", "unknown"];

#[derive(Debug, Clone)]
enum Act {
    Join {
        who: u8,
        name: u8,
    },
    Answer {
        who: u8,
        submission: u8,
        question: u8,
        response: u8,
        late_ms: u16,
        section: u8,
    },
    Command {
        id: u8,
        command: u8,
    },
    /// A question is closed while answers to it are still counted by a section that has not heard of it.
    Round {
        question: u8,
        written: bool,
    },
    /// The oldest copies on their way to section 1, the second before the first if told so.
    Deliver {
        swapped: bool,
    },
    /// A copy that section 0 never sent, or one that comes again.
    Copy {
        number: u8,
        command: u8,
    },
    Seal {
        section: u8,
        scope: u8,
    },
    /// The quiz is closed and sealed, and section 0 is told to forget it: now, or before its time.
    Expire {
        early: bool,
    },
    Wait {
        ms: u16,
    },
    /// The ranking takes the next effects, after so many once more.
    Rank {
        next: u8,
        again: u8,
    },
    /// The states are written, and then loaded again if told so.
    Write {
        restore: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let answer = (any::<[u8; 4]>(), 0..30u8, any::<u16>()).prop_map(
        |([who, question, response, section], submission, ms)| Act::Answer {
            who,
            submission,
            question,
            response,
            late_ms: ms % 9_000,
            section,
        },
    );
    let act = prop_oneof![
        6 => any::<(u8, u8)>().prop_map(|(who, name)| Act::Join { who, name }),
        16 => answer,
        5 => (0..30u8, any::<u8>()).prop_map(|(id, command)| Act::Command { id, command }),
        2 => any::<(u8, bool)>().prop_map(|(question, written)| Act::Round { question, written }),
        5 => any::<bool>().prop_map(|swapped| Act::Deliver { swapped }),
        1 => (0..12u8, any::<u8>()).prop_map(|(number, command)| Act::Copy { number, command }),
        3 => any::<(u8, u8)>().prop_map(|(section, scope)| Act::Seal { section, scope }),
        1 => proptest::bool::weighted(0.2).prop_map(|early| Act::Expire { early }),
        3 => any::<u16>().prop_map(|ms| Act::Wait { ms: ms % 9_000 }),
        6 => (any::<u8>(), 0..20u8).prop_map(|(next, again)| Act::Rank { next: next % 12, again }),
        8 => any::<bool>().prop_map(|restore| Act::Write { restore }),
    ];
    proptest::collection::vec(act, 20..160)
}

fn quiz() -> QuizId {
    "geo-1".parse().unwrap()
}

fn question(number: u8) -> QuestionId {
    QUESTIONS[usize::from(number) % QUESTIONS.len()].parse().unwrap()
}

/// Returns one of four definitions that differ in pace, ties and points.
fn definition(number: u8) -> Arc<Definition> {
    let (pace, limit, award) = if number.is_multiple_of(2) {
        ("host", r#","time_limit_ms":4000"#, "kahoot@1")
    } else {
        ("free", "", "flat@1")
    };
    let ties = if number % 4 < 2 { r#"["time"]"# } else { r#"["correct","last_correct"]"# };
    let json = format!(
        r#"{{"title":"T{}","pace":"{pace}","sections":2,"ranking":{{"ties":{ties}}},"questions":[
        {{"id":"s","kind":"single_choice","text":"?","choices":[{{"id":"a","text":"A"}},{{"id":"b","text":"B"}}],
          "key":{{"choice":"b"}},"points":"333.3333"{limit},"award":"{award}"}},
        {{"id":"m","kind":"multiple_choice","text":"?","choices":[{{"id":"a","text":"A"}},{{"id":"b","text":"B"}}],
          "key":{{"choices":["a","b"]}}{limit},"award":"{award}"}},
        {{"id":"n","kind":"numeric","text":"?","key":{{"value":"1.50","tolerance":"0.1"}}}},
        {{"id":"t","kind":"short_text","text":"?","key":{{"accept":["Łódź"]}},"points":"0.5"}}]}}"#,
        number % 4
    );
    Arc::new(Definition::new(serde_json::from_str(&json).unwrap()).unwrap())
}

fn command(number: u8) -> Command {
    let what = question(number / 8);
    match number % 8 {
        0 | 1 => Command::Publish { definition: definition(number / 8), if_version: None },
        2 => Command::Publish { definition: definition(number / 8), if_version: Some(1) },
        3 => Command::Open,
        4 | 5 => Command::OpenQuestion(what),
        6 => Command::CloseQuestion(what),
        _ if number > 230 => Command::Close,
        _ => Command::Open,
    }
}

fn response(number: u8) -> Response {
    match number % 8 {
        0 => Response::Choice("a".into()),
        1 => Response::Choice("b".into()),
        2 => Response::Choices(vec!["a".into()]),
        3 => Response::Choices(vec!["b".into(), "a".into()]),
        4 => Response::Value("1.500".parse().unwrap()),
        5 => Response::Value("-1.5".parse().unwrap()),
        6 => Response::Text("łódź".into()),
        _ => Response::Text(String::new()),
    }
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// One state twice: one that is restored from its rows now and then, and one that never is.
struct Twin<O: Operator> {
    operator: O,
    key: O::Key,
    live: O::State,
    shadow: O::State,
    live_rows: Rows,
    shadow_rows: Rows,
}

impl<O: Operator<State: PartialEq + Debug, Key: Debug>> Twin<O> {
    fn new(operator: O, key: O::Key) -> Self {
        let empty = || operator.restore(&key, Vec::new()).unwrap();
        let (live, shadow) = (empty(), empty());
        Self { operator, key, live, shadow, live_rows: Rows::new(), shadow_rows: Rows::new() }
    }

    fn apply(&mut self, payload: &[u8], stamp: Stamp) -> Vec<Record> {
        let (mut outputs, mut same) = (Vec::new(), Vec::new());
        for (key, event) in self.operator.decode(payload).unwrap().event().unwrap() {
            assert_eq!(key, self.key);
            self.operator.apply(&mut self.live, &event, stamp, &mut outputs);
            self.operator.apply(&mut self.shadow, &event, stamp, &mut same);
        }
        let effects = self.operator.records(outputs);
        let same = self.operator.records(same);
        assert_eq!(effects, same, "whoever applies a record makes the same effects");
        effects
    }

    fn write(&mut self, restore: bool) {
        for (state, stored) in
            [(&mut self.live, &mut self.live_rows), (&mut self.shadow, &mut self.shadow_rows)]
        {
            let mut changes = Changes::default();
            self.operator.rows(&self.key, state, &mut changes);
            stored.retain(|key, _| !changes.forget.iter().any(|prefix| key.starts_with(prefix)));
            let mut keys = std::collections::BTreeSet::new();
            for (key, value) in changes.rows {
                assert!(keys.insert(key.clone()), "a key occurs once: {key:?}");
                match value {
                    Some(value) => stored.insert(key, value),
                    None => stored.remove(&key),
                };
            }
        }
        assert_eq!(self.live_rows, self.shadow_rows);
        let restored = self.restored();
        assert_eq!(restored, self.shadow);
        assert_eq!(restored, self.live);
        assert_eq!(self.operator.weight(&restored), self.operator.weight(&self.shadow));
        let timers = self.operator.timers(&self.shadow);
        assert_eq!(self.operator.timers(&restored), timers);
        if let Some(prefix) = self.operator.timer_prefix() {
            let armed = self.operator.armed(&under(&self.live_rows, &prefix));
            assert_eq!(
                armed.len(),
                usize::from(!timers.is_empty()),
                "a state that wants a record is named by a row"
            );
            for (key, armed) in armed {
                assert_eq!(key, self.key);
                if let Armed::Wanted(wanted) = armed {
                    assert_eq!(wanted, timers, "the row says what the state would");
                }
            }
        }
        if restore {
            self.live = restored;
        }
    }

    fn restored(&self) -> O::State {
        let rows = under(&self.live_rows, &self.operator.prefix(&self.key));
        self.operator.restore(&self.key, rows).unwrap()
    }
}

fn under(rows: &Rows, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Two sections of one quiz and its ranking.
struct World {
    sections: [Twin<Grade>; 2],
    ranking: Twin<Rank>,
    /// A reader's copy, brought up to date from the rows that changed.
    copy: Ranking,
    copies: VecDeque<Vec<u8>>,
    standings: Vec<Vec<u8>>,
    ranked: usize,
    offsets: [u64; 2],
    now: UnixMillis,
}

impl World {
    fn new() -> Self {
        let section = |section| Twin::new(Grade::new(4, GRACE_MS).keeping(Some(KEEP)), (quiz(), section));
        Self {
            sections: [section(0), section(1)],
            ranking: Twin::new(Rank::new(Arc::new(Silence)), quiz()),
            copy: Ranking::new(quiz()),
            copies: VecDeque::new(),
            standings: Vec::new(),
            ranked: 0,
            offsets: [0; 2],
            now: UnixMillis(1_795_204_800_000),
        }
    }

    fn event(&mut self, section: u16, event: Event) {
        let envelope = Envelope { quiz: quiz(), section, event };
        self.append(section, &encode_envelope(&envelope).unwrap());
    }

    fn append(&mut self, section: u16, payload: &[u8]) {
        let place = usize::from(section);
        self.now = self.now.plus(1);
        let stamp = Stamp { position: Position::from_offset(self.offsets[place]), append_at: self.now };
        self.offsets[place] += 1;
        for effect in self.sections[place].apply(payload, stamp) {
            match effect.stream {
                Stream::Standings => self.standings.push(effect.payload.to_vec()),
                Stream::Submissions => self.copies.push_back(effect.payload.to_vec()),
                Stream::Results | Stream::DeadLetters => panic!("nothing is sent there"),
            }
        }
    }

    fn act(&mut self, act: &Act) {
        let participant = |who: u8| ParticipantId(u128::from(who % 6) << 64);
        let section_of = |who: u8| u16::from(who % 2);
        match *act {
            Act::Join { who, name } => {
                let name = ["Ada", "Zoë", "", "x"][usize::from(name % 4)].repeat(1 + usize::from(name / 8));
                self.event(section_of(who), Event::Join { participant: participant(who), name });
            }
            Act::Answer { who, submission, question: q, response: r, late_ms, section } => {
                let answer = Answer {
                    participant: participant(who),
                    submission: SubmissionId(submission.into()),
                    question: question(q),
                    response: response(r),
                    received_at: self.now.plus(1_000).minus(late_ms.into()),
                };
                // Now and then one goes astray, to the section of another.
                let section = if section > 240 { section_of(section) } else { section_of(who) };
                self.event(section, Event::Answer(answer));
            }
            Act::Command { id, command: c } => {
                let id = format!("c{id}").parse().unwrap();
                self.event(u16::from(c == 77), Event::Command { id, content: 0, command: command(c) });
            }
            Act::Deliver { swapped } => {
                if swapped && self.copies.len() > 1 {
                    self.copies.swap(0, 1);
                }
                self.deliver(1);
            }
            Act::Round { question: q, written } => self.round(question(q), written),
            Act::Copy { number, command: c } => {
                self.event(1, Event::Copy { number: number.into(), at: self.now, command: command(c) });
            }
            Act::Seal { section, scope } => {
                let scope = if scope > 200 { Scope::Quiz } else { Scope::Question(question(scope)) };
                self.event(section_of(section), Event::Seal { scope });
            }
            Act::Expire { early } => self.expire(early),
            Act::Wait { ms } => self.now = self.now.plus(ms.into()),
            Act::Rank { next, again } => self.rank(next.into(), again.into()),
            Act::Write { restore } => self.write(restore),
        }
    }

    fn write(&mut self, restore: bool) {
        self.sections.iter_mut().for_each(|section| section.write(restore));
        let before = self.ranking.live_rows.clone();
        self.ranking.write(restore);
        let after = &self.ranking.live_rows;
        let prefix = self.ranking.operator.prefix(&quiz());
        let forgotten = self.copy.header().forgotten != self.ranking.shadow.header().forgotten;
        // Who follows is told of rows that were removed, not of those that were forgotten.
        let removed = before.keys().filter(|key| !forgotten && !after.contains_key(*key));
        let removed = removed.map(|key| (key.as_slice(), None));
        let written = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let changed = written.map(|(key, value)| (key.as_slice(), Some(value.as_slice()))).chain(removed);
        let parts = rank::parts(&quiz(), changed.filter(|(key, _)| key.starts_with(&prefix))).unwrap();
        let patched = self.copy.patch(parts);
        assert_eq!(patched, if forgotten { Err(Gap::Forgotten) } else { Ok(()) });
        if forgotten {
            self.copy = self.ranking.restored();
        }
        assert_eq!(self.copy, self.ranking.shadow);
    }

    fn expire(&mut self, early: bool) {
        self.command(Command::Close);
        self.deliver(usize::MAX);
        for section in [0, 1] {
            self.event(section, Event::Seal { scope: Scope::Quiz });
        }
        let version = self.sections[0].live.header().version;
        let due = if early { self.now.plus(60_000) } else { self.now };
        for version in [version + 1, version, version] {
            self.event(0, Event::Expire { version, due });
        }
        let phase = self.sections[0].live.header().phase;
        assert!(!early || phase != Phase::Forgotten || self.sections[0].live.finished().is_none());
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some(copy) = self.copies.pop_front() else { return };
            self.append(decode_envelope(&copy).unwrap().section, &copy);
        }
    }

    fn command(&mut self, command: Command) {
        let id = format!("round-{}", self.offsets[0]).parse().unwrap();
        self.event(0, Event::Command { id, content: 0, command });
    }

    /// Participants 1, 3 and 5 are of section 1, which hears of the close after their answers.
    fn round(&mut self, question: QuestionId, written: bool) {
        self.deliver(usize::MAX);
        self.command(Command::OpenQuestion(question.clone()));
        self.deliver(usize::MAX);
        for who in [1, 3, 5] {
            self.act(&Act::Join { who, name: who });
            if who == 3 {
                self.command(Command::CloseQuestion(question.clone()));
            }
            for response in 0..8 {
                let event = Answer {
                    participant: ParticipantId(u128::from(who) << 64),
                    submission: SubmissionId(u128::from(self.offsets[1]) << 8),
                    question: question.clone(),
                    response: self::response(response),
                    received_at: self.now.plus(1),
                };
                self.event(1, Event::Answer(event));
            }
        }
        if written {
            self.write(true);
        }
        self.deliver(usize::MAX);
    }

    fn rank(&mut self, next: usize, again: usize) {
        let from = self.ranked.saturating_sub(again);
        self.ranked = self.ranked.saturating_add(next).min(self.standings.len());
        for (payload, offset) in self.standings[from..self.ranked].iter().zip(from as u64..) {
            let stamp = Stamp { position: Position::from_offset(offset), append_at: self.now };
            let effects = self.ranking.apply(payload, stamp);
            assert!(effects.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn i16_replay_from_rows_equals_replay_from_empty(acts in acts()) {
        let mut world = World::new();
        // Most quizzes begin like this.
        world.event(0, Event::Command { id: "p".parse().unwrap(), content: 0, command: command(acts.len() as u8 & 0b1_1000) });
        world.event(0, Event::Command { id: "o".parse().unwrap(), content: 0, command: Command::Open });
        for act in &acts {
            world.act(act);
        }
        world.rank(usize::MAX, 0);
        world.act(&Act::Write { restore: true });
        world.act(&Act::Write { restore: true });
    }
}
