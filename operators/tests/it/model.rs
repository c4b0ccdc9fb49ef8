//! The rules once more, naively: every question is answered by searching the whole log from its start.
//!
//! Nothing here folds, caches or calls the code under test. It reads the JSON form of definitions and the records, and
//! takes points as whole millionths.

use operators::definition::{Kind, Pace, QuestionSource, RankMethod, Source, TieBreak};
use operators::effect::{Reason, Verdict};
use operators::event::{Answer, Command, CommandOutcome, Event, Refusal, Response, Scope, Stamp};
use operators::id::{CommandId, ParticipantId, QuestionId, SubmissionId};
use operators::policies::Award;
use rust_decimal::Decimal;

/// The longest delay that scoring believes, from the design.
const DELAY_MS: u64 = 5_000;

type Log = [(Event, Stamp)];

/// What the model says of all sections.
pub(crate) struct Model<'a> {
    logs: &'a [Vec<(Event, Stamp)>],
    /// Accepted commands in order, with the place of their record in section 0's log.
    pub(crate) accepted: Vec<(usize, u64, &'a Command)>,
    /// What readers are told of each command, in order.
    pub(crate) outcomes: Vec<(&'a CommandId, CommandOutcome)>,
    /// Rulings on the answers of each section, in order.
    pub(crate) rulings: Vec<Vec<Ruling<'a>>>,
    /// How many commands each section has carried out before each of its records, and at its end.
    carried_out: Vec<Vec<usize>>,
}

/// What the model says of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Ruling<'a> {
    pub(crate) place: usize,
    pub(crate) answer: &'a Answer,
    pub(crate) verdict: Verdict,
    /// Place of its question in the definition in force.
    pub(crate) question: Option<usize>,
    pub(crate) millionths: i128,
    pub(crate) right: bool,
    pub(crate) taken_ms: u64,
    pub(crate) at_ms: u64,
    /// The quiz exists, so that readers are told.
    pub(crate) told: bool,
    /// Its submission counted before.
    pub(crate) resent: bool,
    /// Nothing but another answer kept it from counting, by what its section knew then.
    candidate: bool,
    /// It counted until its section heard of a close that had come before it.
    pub(crate) overruled: bool,
    /// It counts in the place of one that was overruled.
    pub(crate) instead: bool,
}

impl Ruling<'_> {
    /// Tells whether it counts in the end.
    pub(crate) fn stands(&self) -> bool {
        (self.verdict == Verdict::Counted && !self.overruled) || self.instead
    }
}

/// One row of the model's leaderboard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) rank: u64,
    pub(crate) participant: ParticipantId,
    pub(crate) name: String,
    pub(crate) millionths: i128,
    pub(crate) right: u32,
    pub(crate) time_ms: u64,
    pub(crate) last_ms: u64,
}

impl<'a> Model<'a> {
    pub(crate) fn new(logs: &'a [Vec<(Event, Stamp)>]) -> Self {
        let rulings = vec![Vec::new(); logs.len()];
        let mut model =
            Self { logs, accepted: Vec::new(), outcomes: Vec::new(), rulings, carried_out: Vec::new() };
        model.decide();
        for (section, log) in logs.iter().enumerate() {
            let counts = (0..=log.len()).map(|place| model.count_carried_out(section, place)).collect();
            model.carried_out.push(counts);
            for (place, (event, stamp)) in log.iter().enumerate() {
                if let Event::Answer(answer) = event {
                    let ruling = model.rule(section, place, answer, stamp);
                    model.rulings[section].push(ruling);
                }
            }
            // What a section knows of closes in the end decides; a close only ever moves forward.
            for index in 0..model.rulings[section].len() {
                let ruling = &model.rulings[section][index];
                let entry = model.entry(section, log.len(), ruling.answer);
                let stands = entry.is_some_and(|(entry, late)| entry.place == ruling.place && !late);
                let counted = ruling.verdict == Verdict::Counted;
                let ruling = &mut model.rulings[section][index];
                ruling.overruled = counted && !stands;
                ruling.instead = !counted && stands;
            }
        }
        model
    }

    /// Decides on the commands of section 0, one after the other.
    fn decide(&mut self) {
        let mut known: Vec<&CommandId> = Vec::new();
        for (place, (event, stamp)) in self.logs[0].iter().enumerate() {
            let Event::Command { id, command, .. } = event else { continue };
            if known.contains(&id) {
                continue;
            }
            let commands: Vec<_> = self.accepted.iter().map(|(_, at, command)| (*at, *command)).collect();
            let outcome = match ruling_on(&commands, command, stamp.append_at.0) {
                Ok(Some(version)) => CommandOutcome::Unchanged { version },
                Ok(None) => {
                    self.accepted.push((place, stamp.append_at.0, command));
                    let number = self.accepted.len() as u64;
                    CommandOutcome::Accepted { number, version: version(self.accepted.iter().map(|a| a.2)) }
                }
                Err(refusal) => CommandOutcome::Refused(refusal),
            };
            // A command that was refused because nothing was published yet is forgotten: it may come again.
            if !self.accepted.is_empty() {
                known.push(id);
                self.outcomes.push((id, outcome));
            }
        }
    }

    fn count_carried_out(&self, section: usize, place: usize) -> usize {
        if section == 0 {
            return self.accepted.iter().filter(|(at, ..)| *at < place).count();
        }
        let here = |wanted: u64| {
            let mut copies = self.logs[section][..place].iter();
            copies.any(|(event, _)| matches!(event, Event::Copy { number, .. } if *number == wanted))
        };
        (1..).take_while(|number| here(*number)).count()
    }

    /// Returns the commands that a section has carried out before the record at `place`.
    fn commands(&self, section: usize, place: usize) -> Vec<(u64, &'a Command)> {
        let count = self.carried_out[section][place];
        self.accepted[..count].iter().map(|(_, at, command)| (*at, *command)).collect()
    }

    /// Returns the number of commands that a section has carried out in the end.
    pub(crate) fn reached(&self, section: usize) -> usize {
        self.commands(section, self.logs[section].len()).len()
    }

    /// Returns the number of commands that every section has carried out in the end.
    pub(crate) fn published(&self) -> usize {
        (0..self.logs.len()).map(|section| self.reached(section)).min().unwrap_or(0)
    }

    fn joined(&self, section: usize, place: usize, who: ParticipantId) -> Option<&'a str> {
        let mut name = None;
        for (before, (event, _)) in self.logs[section][..place].iter().enumerate() {
            let Event::Join { participant, name: called } = event else { continue };
            let commands = self.commands(section, before);
            if *participant == who && source(&commands).is_some() && !has_close(&commands) {
                name = Some(called.as_str());
            }
        }
        name
    }

    /// Returns when a question takes answers, as known at `place`.
    pub(crate) fn window(
        &self,
        section: usize,
        place: usize,
        question: &QuestionId,
    ) -> Option<(u64, Option<u64>)> {
        window(&self.commands(section, place), question)
    }

    /// Tells whether a Seal of this scope, due when it was appended, is before `place`.
    pub(crate) fn sealed(&self, section: usize, place: usize, question: &QuestionId) -> bool {
        self.logs[section][..place].iter().enumerate().any(|(before, (event, stamp))| {
            let Event::Seal { scope } = event else { return false };
            let commands = self.commands(section, before);
            let closes_at = match scope {
                Scope::Quiz => commands.iter().find(|(_, c)| matches!(c, Command::Close)).map(|(at, _)| *at),
                Scope::Question(id) if id == question && !is_free(&commands) => {
                    window(&commands, question).and_then(|(_, closes_at)| closes_at)
                }
                Scope::Question(_) => None,
            };
            closes_at.is_some_and(|at| at <= stamp.append_at.0)
        })
    }

    /// Returns the answer that has used up a question of a participant before `place`, and whether it is known to be
    /// late there: the first that was in time, or failing that the first.
    fn entry(&self, section: usize, place: usize, answer: &Answer) -> Option<(&Ruling<'a>, bool)> {
        let (_, closes_at) = self.window(section, place, &answer.question).unwrap_or_default();
        let late = |ruling: &Ruling| closes_at.is_some_and(|closes_at| ruling.at_ms > closes_at);
        let mine = |r: &&Ruling| {
            r.answer.participant == answer.participant
                && r.answer.question == answer.question
                && r.place < place
        };
        let candidates = || self.rulings[section].iter().filter(|ruling| ruling.candidate).filter(mine);
        let found = candidates().find(|ruling| !late(ruling)).or(candidates().next())?;
        Some((found, late(found)))
    }

    fn rule(&self, section: usize, place: usize, answer: &'a Answer, stamp: &Stamp) -> Ruling<'a> {
        let commands = self.commands(section, place);
        let (append, received) = (stamp.append_at.0, answer.received_at.0);
        let at_ms = received.max(append.saturating_sub(DELAY_MS)).min(append);
        let mut ruling = Ruling {
            place,
            answer,
            verdict: Verdict::Rejected(Reason::UnknownQuiz),
            question: None,
            millionths: 0,
            right: false,
            taken_ms: 0,
            at_ms,
            told: false,
            resent: false,
            candidate: false,
            overruled: false,
            instead: false,
        };
        let Some(source) = source(&commands) else { return ruling };
        ruling.told = true;
        let opened = commands.iter().any(|(_, command)| matches!(command, Command::Open));
        ruling.question = source.questions.iter().position(|q| q.id == answer.question);
        let question = ruling.question.map(|index| &source.questions[index]);
        // Booked under no question while there may still be others.
        ruling.question = ruling.question.filter(|_| opened);
        let timing = match window(&commands, &answer.question) {
            None if has_close(&commands) => Verdict::Late,
            None => Verdict::TooEarly,
            Some((_, Some(closes_at))) if at_ms > closes_at => Verdict::Late,
            Some(_) if self.sealed(section, place, &answer.question) => Verdict::Late,
            Some(_) => Verdict::Counted,
        };
        let entry = self.entry(section, place, answer);
        // The same submission used up this question, or another.
        let same = self.rulings[section].iter().find(|r| {
            let same = r.answer.participant == answer.participant && r.answer.submission == answer.submission;
            let used_up =
                || self.entry(section, place, r.answer).is_some_and(|(entry, _)| entry.place == r.place);
            same && r.candidate && used_up()
        });
        ruling.resent = same.is_some();
        let elsewhere = same.is_some_and(|same| same.answer.question != answer.question);
        ruling.verdict = if elsewhere {
            Verdict::Repeated
        } else if question.is_none() {
            Verdict::Rejected(Reason::UnknownQuestion)
        } else if self.joined(section, place, answer.participant).is_none() {
            Verdict::Rejected(Reason::NotParticipant)
        } else if !question.is_some_and(|q| fits(q, &answer.response)) {
            if ruling.resent { Verdict::Repeated } else { Verdict::Rejected(Reason::WrongShape) }
        } else {
            ruling.candidate = timing == Verdict::Counted;
            match entry {
                Some((_, late)) if !late || timing != Verdict::Counted => Verdict::Repeated,
                Some(_) | None => {
                    ruling.resent = false;
                    timing
                }
            }
        };
        if let (true, Some(question)) = (ruling.candidate, question) {
            let opened_at = window(&commands, &answer.question).map_or(at_ms, |(opened_at, _)| opened_at);
            ruling.taken_ms = at_ms.saturating_sub(opened_at);
            ruling.right = is_right(question, &answer.response);
            ruling.millionths = if ruling.right { award(question, ruling.taken_ms) } else { 0 };
        }
        ruling
    }

    /// Returns the leaderboard; `order` is the order in which participants became known.
    pub(crate) fn board(&self, order: &[ParticipantId]) -> Vec<Row> {
        let commands: Vec<_> = self.accepted[..self.published()].iter().map(|(_, at, c)| (*at, *c)).collect();
        let (ties, method) = source(&commands).map_or(
            (vec![TieBreak::Correct, TieBreak::Time, TieBreak::LastCorrect], RankMethod::Standard),
            |source| (source.ranking.ties.clone(), source.ranking.method),
        );
        assert_eq!(method, RankMethod::Standard);
        let mut rows: Vec<Row> = order.iter().map(|participant| self.row(*participant)).collect();
        let unsorted = rows.clone();
        let better = |a: &Row, b: &Row| {
            let by = |tie: &TieBreak| match tie {
                TieBreak::Correct => b.right.cmp(&a.right),
                TieBreak::Time => a.time_ms.cmp(&b.time_ms),
                TieBreak::LastCorrect => a.last_ms.cmp(&b.last_ms),
            };
            ties.iter().map(by).fold(b.millionths.cmp(&a.millionths), std::cmp::Ordering::then)
        };
        rows.sort_by(better);
        for row in &mut rows {
            row.rank = 1 + unsorted.iter().filter(|other| better(other, row).is_lt()).count() as u64;
        }
        rows
    }

    fn row(&self, participant: ParticipantId) -> Row {
        let section = usize::from(participant.section(self.logs.len() as u16));
        let counted = self.rulings[section].iter().filter(|r| r.stands());
        let counted: Vec<_> = counted.filter(|r| r.answer.participant == participant).collect();
        let right = || counted.iter().filter(|r| r.right);
        Row {
            rank: 0,
            participant,
            name: self.joined(section, self.logs[section].len(), participant).unwrap_or_default().to_owned(),
            millionths: counted.iter().map(|r| r.millionths).sum(),
            right: right().count() as u32,
            time_ms: right().map(|r| r.taken_ms).sum(),
            last_ms: right().map(|r| r.at_ms).max().unwrap_or(0),
        }
    }

    /// Returns the sum of the points of all counted answers, in millionths.
    pub(crate) fn points(&self) -> i128 {
        self.rulings.iter().flatten().filter(|r| r.stands()).map(|r| r.millionths).sum()
    }

    /// Tells whether anybody handed this in, and the fold may therefore count it.
    pub(crate) fn handed_in(
        &self,
        who: ParticipantId,
        submission: SubmissionId,
        question: &QuestionId,
    ) -> bool {
        let same = |a: &Answer| (a.participant, a.submission, &a.question) == (who, submission, question);
        let of =
            |log: &Log| log.iter().any(|(event, _)| matches!(event, Event::Answer(answer) if same(answer)));
        self.logs.iter().any(|log| of(log))
    }
}

fn version<'c>(commands: impl Iterator<Item = &'c Command>) -> u64 {
    commands.filter(|command| matches!(command, Command::Publish { .. })).count() as u64
}

fn source<'c>(commands: &[(u64, &'c Command)]) -> Option<&'c Source> {
    commands.iter().rev().find_map(|(_, command)| match command {
        Command::Publish { definition, .. } => Some(definition.source()),
        Command::Open
        | Command::Close
        | Command::OpenQuestion(_)
        | Command::CloseQuestion(_)
        | Command::Forget => None,
    })
}

fn is_free(commands: &[(u64, &Command)]) -> bool {
    source(commands).is_some_and(|source| source.pace == Pace::Free)
}

fn has_close(commands: &[(u64, &Command)]) -> bool {
    commands.iter().any(|(_, command)| matches!(command, Command::Close))
}

fn window(commands: &[(u64, &Command)], question: &QuestionId) -> Option<(u64, Option<u64>)> {
    let source = source(commands)?;
    let limit_ms = source.questions.iter().find(|q| q.id == *question)?.time_limit_ms;
    let find = |wanted: &Command| commands.iter().find(|(_, command)| *command == wanted).map(|(at, _)| *at);
    let closed = find(&Command::Close);
    if source.pace == Pace::Free {
        return Some((find(&Command::Open)?, closed));
    }
    let opened_at = find(&Command::OpenQuestion(question.clone()))?;
    let ends = [limit_ms.map(|ms| opened_at + ms), find(&Command::CloseQuestion(question.clone())), closed];
    Some((opened_at, ends.into_iter().flatten().min()))
}

/// Returns the refusal, or the version when there is nothing to do.
fn ruling_on(commands: &[(u64, &Command)], command: &Command, now: u64) -> Result<Option<u64>, Refusal> {
    let opened = commands.iter().any(|(_, command)| matches!(command, Command::Open));
    let version = version(commands.iter().map(|(_, command)| *command));
    if let Command::Publish { definition, if_version } = command {
        return match source(commands) {
            _ if if_version.is_some_and(|wanted| wanted != version) => Err(Refusal::VersionMismatch),
            Some(current) if current == definition.source() => Ok(Some(version)),
            Some(current) if current.sections != definition.source().sections => Err(Refusal::SectionsFixed),
            _ if has_close(commands) => Err(Refusal::QuizClosed),
            _ if opened => Err(Refusal::QuizOpen),
            _ => Ok(None),
        };
    }
    let source = source(commands).ok_or(Refusal::UnknownQuiz)?;
    if has_close(commands) {
        return Err(Refusal::QuizClosed);
    }
    if *command == Command::Open {
        return if opened { Err(Refusal::QuizOpen) } else { Ok(None) };
    }
    if !opened {
        return Err(Refusal::QuizNotOpen);
    }
    let takes = |id: &QuestionId| {
        let known = window(commands, id);
        known.is_some_and(|(_, closes_at)| closes_at.is_none_or(|at| at > now))
    };
    if let Command::OpenQuestion(id) | Command::CloseQuestion(id) = command {
        if !source.questions.iter().any(|q| q.id == *id) {
            return Err(Refusal::UnknownQuestion);
        }
        if source.pace == Pace::Free {
            return Err(Refusal::FreePaced);
        }
        if matches!(command, Command::CloseQuestion(_)) {
            return if takes(id) { Ok(None) } else { Err(Refusal::QuestionNotOpen) };
        }
        if window(commands, id).is_some() {
            return Err(Refusal::QuestionOpened);
        }
        if source.questions.iter().any(|q| takes(&q.id)) {
            return Err(Refusal::AnotherOpen);
        }
    }
    Ok(None)
}

fn fits(question: &QuestionSource, response: &Response) -> bool {
    let known = |id: &String| question.choices.iter().any(|choice| choice.id.as_str() == id);
    match (question.kind, response) {
        (Kind::SingleChoice, Response::Choice(id)) => known(id),
        (Kind::MultipleChoice, Response::Choices(ids)) => {
            let once = ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1);
            once && ids.iter().all(known)
        }
        (Kind::Numeric, Response::Value(_)) => true,
        (Kind::ShortText, Response::Text(text)) => text.chars().count() <= 1_000,
        (Kind::SingleChoice | Kind::MultipleChoice | Kind::Numeric | Kind::ShortText, _) => false,
    }
}

fn is_right(question: &QuestionSource, response: &Response) -> bool {
    let key = &question.key;
    match response {
        Response::Choice(id) => key.choice.as_ref().is_some_and(|right| right.as_str() == id),
        Response::Choices(ids) => {
            let right: Vec<_> = key.choices.iter().flatten().map(|id| id.as_str()).collect();
            ids.len() == right.len() && ids.iter().all(|id| right.contains(&id.as_str()))
        }
        Response::Value(value) => {
            let (middle, tolerance) = (key.value.map_or(0, millionths), key.tolerance.map_or(0, millionths));
            (millionths(*value) - middle).abs() <= tolerance
        }
        // The plans hold ASCII texts only.
        Response::Text(text) => {
            let plain =
                |text: &str| text.to_ascii_lowercase().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            key.accept.iter().flatten().any(|form| plain(form) == plain(text))
        }
    }
}

/// `round((1 - (t / T) / 2) * P)`, half up, in whole numbers; everything under half a second.
fn award(question: &QuestionSource, taken_ms: u64) -> i128 {
    let points = millionths(question.points);
    let (numerator, denominator) = match (question.award, question.time_limit_ms) {
        (Award::Flat1, _) => return points,
        (Award::Kahoot1, Some(limit)) if taken_ms >= 500 => {
            let (taken, limit) = (i128::from(taken_ms), i128::from(limit));
            (points * (2 * limit - taken.min(limit)), 2 * limit * 1_000_000)
        }
        (Award::Kahoot1, _) => (points, 1_000_000),
    };
    (2 * numerator + denominator) / (2 * denominator) * 1_000_000
}

/// Returns a decimal in millionths, from its digits.
pub(crate) fn millionths(value: Decimal) -> i128 {
    assert!(value.scale() <= 6, "{value} has more than six decimals");
    value.mantissa() * 10i128.pow(6 - value.scale())
}
