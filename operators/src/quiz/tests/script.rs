//! The script language: one line per record or question, and the only place in these tests that calls the API.
//!
//! ```text
//! publish host sections=2 ties=time q1:single(b):1000:20s:kahoot q2:numeric(3.14~0.01) id=c1 if=1
//! open | open_question q1 | close_question q1 | close     host commands; `id=` names one, else each has its own
//! join p1 Ana                                             a participant; p1, p2 … fall into sections by hash
//! @12.5 p1 q1 b #1 at=11                                  append time in s (it stays), answer, submission, received
//! p1 q1 [a,c] #1 | p1 q1 =3.14 #1 | p1 q1 "lima" #1       the other kinds of answer
//! expire v1 due=90                                      the quiz is forgotten if it is final, has this version and it is time
//! seal q1 | seal quiz | seal q1 s1                        in every section, or in one
//! hold | copy 2 s1                                        no copies of commands from here on, except by hand
//! again | board | status | books | outcome c1 | unsealed | sealed 0  all effects again; what readers and runners see
//! ```

use std::fmt::Write;
use std::sync::Arc;

use expect_test::Expect;
use serde_json::{Value, json};

use super::super::Section;
use crate::definition::Definition;
use crate::effect::{Change, Effect, Output, ScoreChanged, Slot, Tally, Verdict};
use crate::event::{Answer, Command, CommandOutcome, Event, Response, Scope, Stamp};
use crate::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use crate::rank::{Applied, Ranking};

/// Second 0 of every script.
const START_MS: u64 = 1_700_000_000_000;

/// Runs the script and compares what was said of each line; then checks that the books balance.
pub(super) fn check(script: &str, expected: Expect) {
    let mut world = World::new();
    let mut text = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let said = world.line(line);
        writeln!(text, "{line} -> {}", if said.is_empty() { "nothing" } else { &said }).unwrap();
    }
    expected.assert_eq(&text);
    world.balance();
}

struct World {
    sections: Vec<Section>,
    ranking: Ranking,
    now_ms: u64,
    offset: u64,
    commands: u64,
    answers: u64,
    hold: bool,
    copies: Vec<(u16, u64, UnixMillis, Command)>,
    sent: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        let quiz: crate::id::QuizId = "geo".parse().unwrap();
        Self {
            sections: vec![Section::new(quiz.clone(), 0)],
            ranking: Ranking::new(quiz),
            now_ms: START_MS,
            offset: 0,
            commands: 0,
            answers: 0,
            hold: false,
            copies: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) -> String {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if let Some(time) = words[0].strip_prefix('@') {
            self.now_ms = millis(time);
            words.remove(0);
        }
        let named = |name: &str| words.iter().find_map(|word| word.strip_prefix(name).map(str::to_owned));
        let (id, at, if_version, due) = (named("id="), named("at="), named("if="), named("due="));
        words.retain(|word| !["id=", "at=", "if=", "due="].iter().any(|name| word.starts_with(name)));
        match words[..] {
            ["publish", ref rest @ ..] => {
                let definition = Arc::new(definition(rest));
                self.grow(definition.source().sections);
                let if_version = if_version.map(|version| version.parse().unwrap());
                self.command(id, Command::Publish { definition, if_version })
            }
            ["open"] => self.command(id, Command::Open),
            ["close"] => self.command(id, Command::Close),
            ["open_question", question] => self.command(id, Command::OpenQuestion(question.parse().unwrap())),
            ["close_question", question] => {
                self.command(id, Command::CloseQuestion(question.parse().unwrap()))
            }
            ["join", who, name] => {
                let participant = participant(who);
                let event = Event::Join { participant, name: name.into() };
                self.append(self.home(participant), &event)
            }
            ["expire", version] => {
                let version = version.strip_prefix('v').expect("a version").parse().unwrap();
                let due = UnixMillis(due.map_or(self.now_ms, |due| millis(&due)));
                let said = self.append(0, &Event::Expire { version, due });
                // With the answers their books are forgotten.
                self.answers = if said.is_empty() { self.answers } else { 0 };
                said
            }
            ["seal", what, ref rest @ ..] => self.seal(what, rest.first().copied()),
            ["copy", number, to] => self.copy(number.parse().unwrap(), section(to)),
            ["hold"] => {
                self.hold = true;
                String::new()
            }
            ["again"] => self.again(),
            ["board" | "status" | "books" | "outcome" | "unsealed" | "sealed", ..] => self.read(&words),
            [who, question, response, submission] => self.answer(who, question, response, submission, at),
            _ => panic!("not a line of a script: {line}"),
        }
    }

    fn grow(&mut self, sections: u16) {
        for number in self.sections.len() as u16..sections {
            self.sections.push(Section::new(self.ranking.quiz().clone(), number));
        }
    }

    fn home(&self, participant: ParticipantId) -> u16 {
        participant.section(self.sections.len() as u16)
    }

    fn command(&mut self, id: Option<String>, command: Command) -> String {
        self.commands += 1;
        let id = id.unwrap_or_else(|| format!("command{}", self.commands)).parse().unwrap();
        self.append(0, &Event::Command { id, content: 0, command })
    }

    fn answer(
        &mut self,
        who: &str,
        question: &str,
        response: &str,
        submission: &str,
        at: Option<String>,
    ) -> String {
        self.answers += 1;
        let participant = participant(who);
        let answer = Answer {
            participant,
            submission: SubmissionId(submission.strip_prefix('#').expect("a submission").parse().unwrap()),
            question: question.parse().unwrap(),
            response: parse_response(response),
            received_at: UnixMillis(at.map_or(self.now_ms, |at| millis(&at))),
        };
        self.append(self.home(participant), &Event::Answer(answer))
    }

    fn seal(&mut self, what: &str, only: Option<&str>) -> String {
        let scope = if what == "quiz" { Scope::Quiz } else { Scope::Question(what.parse().unwrap()) };
        let sections = only.map_or(0..self.sections.len() as u16, |only| section(only)..section(only) + 1);
        let said: Vec<_> = sections.map(|s| self.append(s, &Event::Seal { scope: scope.clone() })).collect();
        joined(said)
    }

    fn copy(&mut self, number: u64, to: u16) -> String {
        let found = self.copies.iter().find(|(section, known, ..)| (*section, *known) == (to, number));
        let (_, _, at, command) = found.expect("section 0 made this copy").clone();
        self.append(to, &Event::Copy { number, at, command })
    }

    /// Appends one record to a section and carries what comes out to where it belongs.
    fn append(&mut self, section: u16, event: &Event) -> String {
        let mut outputs = Vec::new();
        let stamp =
            Stamp { position: Position::from_offset(self.offset), append_at: UnixMillis(self.now_ms) };
        self.offset += 1;
        self.sections[usize::from(section)].apply(event, stamp, &mut outputs);
        let mut said = Vec::new();
        let mut fresh = Vec::new();
        for output in outputs {
            match output {
                Output::Standings(effect) => {
                    said.push(self.say(&effect));
                    assert_eq!(self.ranking.apply(&effect), Applied::Effective, "{effect:?}");
                    self.sent.push(effect);
                }
                Output::Copy { section, number, at, command, .. } => {
                    self.copies.push((section, number, at, command));
                    fresh.push((number, section));
                }
            }
        }
        if !self.hold {
            said.extend(fresh.into_iter().map(|(number, section)| self.copy(number, section)));
        }
        joined(said)
    }

    fn again(&mut self) -> String {
        let before = self.ranking.clone();
        let repeats = self.sent.iter().filter(|effect| self.ranking.apply(effect) == Applied::Repeat).count();
        assert_eq!(self.ranking, before, "a repeat changes nothing");
        format!("{repeats} of {} repeated", self.sent.len())
    }

    /// Every answer sent is in the books once, and what was awarded is what is ranked.
    fn balance(&self) {
        let of_sections = |section: &Section| {
            let questions = section.definition().map_or(0, |d| d.questions.len() as u16 + 8);
            let tallies = (0..questions).map(|question| section.tally(question).received());
            section.header().unknown.received() + tallies.sum::<u64>()
        };
        assert_eq!(self.sections.iter().map(of_sections).sum::<u64>(), self.answers);
        let books = self.ranking.books();
        assert_eq!(books.points_awarded, books.points_ranked);
    }

    fn say(&self, effect: &Effect) -> String {
        let said = match &effect.change {
            Change::ScoreChanged(score) => self.say_score(score),
            Change::Overruled(overruled) => {
                let who = name_of(overruled.participant);
                let tally = say_tally(&overruled.tally);
                let instead = overruled.instead.as_ref();
                let instead = instead.map_or_else(String::new, |receipt| {
                    format!(", #{} counts {} instead", receipt.submission.0, receipt.points)
                });
                format!(
                    "question {} of {who} is late after all{instead}, {who} has {}, {tally}",
                    overruled.question, overruled.standing.points
                )
            }
            Change::Joined { participant, name } => format!("{} is {name}", name_of(*participant)),
            Change::QuizChanged(changed) => say_outcome(&changed.decided.outcome),
            Change::Reached { number } => format!("reached {number}"),
            Change::Sealed { scope: Scope::Quiz } => "sealed quiz".into(),
            Change::Sealed { scope: Scope::Question(id) } => format!("sealed {id}"),
        };
        let many = self.sections.len() > 1;
        if many { format!("s{} {said}", effect.section) } else { said }
    }

    fn say_score(&self, score: &ScoreChanged) -> String {
        let mut said = match &score.receipt {
            None => "no receipt".into(),
            Some(receipt) => {
                let points = (receipt.verdict == Verdict::Counted).then(|| format!(" {}", receipt.points));
                let slot = match receipt.slot {
                    Slot::Question(index) => format!("question {index}"),
                    Slot::Instead(index) => format!("question {index} instead"),
                    Slot::Recent(place) => format!("recent {place}"),
                };
                format!("{}{} in {slot}", verdict_name(receipt.verdict), points.unwrap_or_default())
            }
        };
        if let Some(s) = &score.standing {
            let who = name_of(score.participant);
            let time = seconds(s.time_ms);
            write!(said, ", {who} has {} ({} right in {time}s)", s.points, s.correct).unwrap();
        }
        write!(said, ", {}", say_tally(&score.tally)).unwrap();
        said
    }

    fn read(&self, words: &[&str]) -> String {
        match words {
            ["board"] => {
                let (rows, next) = self.ranking.page(None, 100);
                assert_eq!(next, None);
                let row =
                    |row: crate::rank::Row| format!("{} {} {}", row.rank, row.name, row.standing.points);
                joined(rows.into_iter().map(row).collect())
            }
            ["status"] => {
                let status = &self.ranking.board().status;
                let closing = |at: Option<UnixMillis>| at.map_or("…".into(), clock);
                let windows = status.windows.iter();
                let windows = windows.map(|w| {
                    format!("{} from {} to {}", w.question, clock(w.opened_at), closing(w.closes_at))
                });
                let finality = if self.ranking.is_final() { ", final" } else { "" };
                let head = format!("{} v{} {}{finality}", status.number, status.version, status.phase.name());
                joined(std::iter::once(head).chain(windows).collect())
            }
            ["books"] => {
                let books = self.ranking.books();
                let mut said =
                    vec![format!("{} points, all {}", books.points_awarded, say_tally(&books.total))];
                said.extend(books.questions.iter().map(|(question, tally)| match question {
                    Some(index) => format!("{index}: {}", say_tally(tally)),
                    None => format!("unknown: {}", say_tally(tally)),
                }));
                joined(said)
            }
            ["outcome", id] => self
                .ranking
                .decided(&id.parse().unwrap())
                .map_or("unknown yet".into(), |decided| say_outcome(&decided.outcome)),
            ["sealed", index] => self.ranking.is_sealed(index.parse().unwrap()).to_string(),
            ["unsealed"] => {
                let what = |scope: &Scope| match scope {
                    Scope::Quiz => "quiz".to_owned(),
                    Scope::Question(id) => id.to_string(),
                };
                let unsealed = self.sections.iter().flat_map(Section::unsealed);
                joined(unsealed.map(|(at, scope)| format!("{} at {}", what(&scope), clock(at))).collect())
            }
            _ => panic!("cannot read {words:?}"),
        }
    }
}

fn joined(said: Vec<String>) -> String {
    let said: Vec<_> = said.into_iter().filter(|text| !text.is_empty()).collect();
    said.join("; ")
}

fn millis(seconds: &str) -> u64 {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    let part: i64 = format!("{part:0<3}").parse().unwrap();
    START_MS.saturating_add_signed(whole.parse::<i64>().unwrap() * 1_000 + part)
}

fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn clock(at: UnixMillis) -> String {
    seconds(at.since(UnixMillis(START_MS)))
}

/// `p3` has the id whose halves are 3 times an odd constant, so that neighbours fall into different sections.
fn participant(word: &str) -> ParticipantId {
    let number: u64 = word.strip_prefix('p').expect("a participant").parse().unwrap();
    let high = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ParticipantId((u128::from(high) << 64) | u128::from(number))
}

fn name_of(participant: ParticipantId) -> String {
    format!("p{}", participant.0 as u64)
}

fn section(word: &str) -> u16 {
    word.strip_prefix('s').expect("a section").parse().unwrap()
}

fn parse_response(word: &str) -> Response {
    if let Some(value) = word.strip_prefix('=') {
        return Response::Value(value.parse().unwrap());
    }
    if let Some(text) = word.strip_prefix('"') {
        return Response::Text(text.trim_end_matches('"').replace('_', " "));
    }
    match word.strip_prefix('[') {
        Some(list) => Response::Choices(list.trim_end_matches(']').split(',').map(str::to_owned).collect()),
        None => Response::Choice(word.to_owned()),
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Counted => "counted",
        Verdict::Repeated => "repeated",
        Verdict::Late => "late",
        Verdict::TooEarly => "too early",
        Verdict::Rejected(reason) => reason.name(),
    }
}

fn say_tally(tally: &Tally) -> String {
    let mut figures = vec![
        ("counted", tally.counted),
        ("repeated", tally.repeated),
        ("late", tally.late),
        ("too early", tally.too_early),
    ];
    figures.extend(crate::effect::Reason::ALL.iter().map(|reason| reason.name()).zip(tally.rejected));
    let figures =
        figures.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}"));
    format!("[{}]", figures.collect::<Vec<_>>().join(" "))
}

fn say_outcome(outcome: &CommandOutcome) -> String {
    match outcome {
        CommandOutcome::Accepted { number, version } => format!("accepted {number} (v{version})"),
        CommandOutcome::Unchanged { version } => format!("unchanged (v{version})"),
        CommandOutcome::Refused(refusal) => format!("refused: {refusal}"),
    }
}

/// Reads `host|free [title=T] [sections=N] [ties=a,b] q1:single(b):1000:20s:kahoot …`.
fn definition(words: &[&str]) -> Definition {
    let mut quiz = json!({"title": "T", "pace": words[0], "questions": []});
    for word in &words[1..] {
        if let Some((name @ ("title" | "sections" | "ties"), value)) = word.split_once('=') {
            match name {
                "title" => quiz["title"] = json!(value),
                "sections" => quiz["sections"] = json!(value.parse::<u16>().unwrap()),
                _ => {
                    let ties: Vec<_> = value.split(',').filter(|tie| !tie.is_empty()).collect();
                    quiz["ranking"] = json!({"ties": ties});
                }
            }
            continue;
        }
        quiz["questions"].as_array_mut().unwrap().push(question(word));
    }
    Definition::new(serde_json::from_value(quiz).expect("the JSON form")).expect("a sound definition")
}

fn question(word: &str) -> Value {
    let mut parts = word.split(':');
    let id = parts.next().unwrap();
    let (kind, key) = parts.next().expect("a kind").trim_end_matches(')').split_once('(').expect("a key");
    let choices = json!([{"id":"a","text":"A"},{"id":"b","text":"B"},{"id":"c","text":"C"}]);
    let mut question = match kind {
        "single" => json!({"kind": "single_choice", "key": {"choice": key}, "choices": choices}),
        "multiple" => {
            let keys: Vec<_> = key.split(',').collect();
            json!({"kind": "multiple_choice", "key": {"choices": keys}, "choices": choices})
        }
        "numeric" => {
            let (value, tolerance) = key.split_once('~').unwrap_or((key, "0"));
            json!({"kind": "numeric", "key": {"value": value, "tolerance": tolerance}})
        }
        "text" => {
            json!({"kind": "short_text", "key": {"accept": key.replace('_', " ").split('|').collect::<Vec<_>>()}})
        }
        _ => panic!("no kind {kind}"),
    };
    question["id"] = json!(id);
    question["text"] = json!("?");
    for part in parts {
        match part.strip_suffix('s') {
            Some(limit) => question["time_limit_ms"] = json!(limit.parse::<u64>().unwrap() * 1_000),
            None if part == "kahoot" => question["award"] = json!("kahoot@1"),
            None => question["points"] = json!(part),
        }
    }
    question
}
