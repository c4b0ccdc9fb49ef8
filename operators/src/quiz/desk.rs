//! The host's desk: section 0 decides on commands and numbers those that it accepts.

use std::collections::VecDeque;

use super::Section;
use crate::definition::Pace;
use crate::effect::{Change, Output, Phase, QuizChanged, QuizStatus};
use crate::event::{Command, CommandOutcome, Decided, Refusal, Stamp};
use crate::id::{CommandId, QuestionId, UnixMillis};
use crate::limits;

/// What is remembered of commands: by section 0, so that one that is sent again is not carried out again, and by the
/// ranking, so that it is answered as before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desk {
    /// The newest outcomes, oldest first, at most [`limits::COMMAND_OUTCOMES_MAX`].
    pub decided: VecDeque<Decided>,
}

impl Desk {
    /// Returns the decision on a command.
    pub fn find(&self, id: &CommandId) -> Option<&Decided> {
        self.decided.iter().rev().find(|decided| decided.id == *id)
    }

    /// Remembers a decision, forgetting the oldest when there are too many.
    pub fn remember(&mut self, decided: Decided) {
        if self.decided.len() >= limits::COMMAND_OUTCOMES_MAX {
            self.decided.pop_front();
        }
        self.decided.push_back(decided);
    }
}

impl Section {
    pub(super) fn command(
        &mut self,
        (id, content, command): (&CommandId, u64, &Command),
        stamp: Stamp,
        ordinal: &mut u32,
        outputs: &mut Vec<Output>,
    ) {
        if self.section != 0 || self.desk.find(id).is_some() {
            return;
        }
        let outcome = match self.decide(command, stamp.append_at) {
            Ok(Some(unchanged)) => unchanged,
            Ok(None) => {
                self.execute(command, stamp.append_at);
                CommandOutcome::Accepted { number: self.header.number, version: self.header.version }
            }
            Err(refusal) => CommandOutcome::Refused(refusal),
        };
        let republished = self.header.phase == Phase::Forgotten && matches!(command, Command::Publish { .. });
        if self.definition.is_none() && matches!(outcome, CommandOutcome::Refused(_)) && !republished {
            // Commands to a quiz that nobody published leave no trace: readers know it as absent, and the same command
            // may be sent again once it is there.
            return;
        }
        let decided = Decided { id: id.clone(), content, outcome };
        self.desk.remember(decided.clone());
        self.touched.desk = true;
        let accepted = matches!(outcome, CommandOutcome::Accepted { .. });
        let published = accepted && matches!(command, Command::Publish { .. });
        let definition = published.then(|| self.definition.clone()).flatten();
        let change = QuizChanged { decided, status: self.status(), definition };
        outputs.push(self.effect(*ordinal, stamp, Change::QuizChanged(Box::new(change))));
        *ordinal += 1;
        if accepted {
            let sections = self.definition.as_ref().map_or(1, |d| d.source().sections);
            self.copies(sections, command, stamp, outputs);
        }
    }

    /// Sends the command that was carried out last to the other sections.
    fn copies(&self, sections: u16, command: &Command, stamp: Stamp, outputs: &mut Vec<Output>) {
        outputs.extend((1..sections).map(|section| Output::Copy {
            quiz: self.quiz.clone(),
            section,
            number: self.header.number,
            at: stamp.append_at,
            command: command.clone(),
        }));
    }

    /// Returns when the quiz was closed, and its version, once nothing can change it any more; for section 0 alone, which
    /// decides when it is forgotten.
    pub fn finished(&self) -> Option<(UnixMillis, u64)> {
        let finished = self.section == 0 && self.header.sealed && self.header.phase == Phase::Closed;
        self.header.closed_at.filter(|_| finished).map(|at| (at, self.header.version))
    }

    /// Forgets the quiz in all sections. It leaves no trace when it is not finished, was published again, or when it is
    /// too early, so that it may be asked again.
    pub(super) fn expire(&mut self, version: u64, due: UnixMillis, stamp: Stamp, outputs: &mut Vec<Output>) {
        if self.finished().is_none_or(|(_, current)| current != version) || stamp.append_at < due {
            return;
        }
        self.execute(&Command::Forget, stamp.append_at);
        let number = self.header.number;
        let outcome = CommandOutcome::Accepted { number, version };
        let id = format!("forgotten-{version}").parse().expect("letters and digits are an id");
        let change = QuizChanged {
            decided: Decided { id, content: number, outcome },
            status: self.status(),
            definition: None,
        };
        outputs.push(self.effect(0, stamp, Change::QuizChanged(Box::new(change))));
        self.copies(self.header.sections, &Command::Forget, stamp, outputs);
    }

    /// Returns `None` to carry the command out, or the outcome when there is nothing to do.
    fn decide(&self, command: &Command, at: UnixMillis) -> Result<Option<CommandOutcome>, Refusal> {
        let header = &self.header;
        if let Command::Publish { definition, if_version } = command {
            // Readers know a forgotten quiz as absent.
            let shown = if header.phase == Phase::Forgotten { 0 } else { header.version };
            if if_version.is_some_and(|version| version != shown) {
                return Err(Refusal::VersionMismatch);
            }
            if let Some(current) = &self.definition {
                if current.source() == definition.source() {
                    return Ok(Some(CommandOutcome::Unchanged { version: header.version }));
                }
                if current.source().sections != definition.source().sections {
                    return Err(Refusal::SectionsFixed);
                }
            }
            return match header.phase {
                Phase::Draft => Ok(None),
                Phase::Forgotten if ![0, definition.source().sections].contains(&header.sections) => {
                    Err(Refusal::SectionsFixed)
                }
                Phase::Forgotten => Ok(None),
                Phase::Open => Err(Refusal::QuizOpen),
                Phase::Closed => Err(Refusal::QuizClosed),
            };
        }
        let definition = self.definition.as_ref().ok_or(Refusal::UnknownQuiz)?;
        match (command, header.phase) {
            // It has no definition, and the fold alone decides when to forget.
            (_, Phase::Forgotten) | (Command::Forget, _) => Err(Refusal::UnknownQuiz),
            (_, Phase::Closed) => Err(Refusal::QuizClosed),
            (Command::Open, Phase::Draft) => Ok(None),
            (Command::Open, Phase::Open) => Err(Refusal::QuizOpen),
            (_, Phase::Draft) => Err(Refusal::QuizNotOpen),
            (Command::Close, Phase::Open) => Ok(None),
            (Command::OpenQuestion(question) | Command::CloseQuestion(question), Phase::Open) => {
                let index = definition.index_of(question).ok_or(Refusal::UnknownQuestion)?;
                if definition.source().pace == Pace::Free {
                    return Err(Refusal::FreePaced);
                }
                let opens = matches!(command, Command::OpenQuestion(_));
                self.decide_question(index, opens, at).map(|()| None)
            }
            (Command::Publish { .. }, Phase::Open) => Err(Refusal::QuizOpen),
        }
    }

    fn decide_question(&self, index: u16, opens: bool, at: UnixMillis) -> Result<(), Refusal> {
        let is_open = |closes_at: Option<UnixMillis>| closes_at.is_none_or(|closes_at| closes_at > at);
        match (self.section_window(index), opens) {
            (Some(_), true) => Err(Refusal::QuestionOpened),
            (None, true) if self.header.windows.iter().any(|w| is_open(w.window.closes_at)) => {
                Err(Refusal::AnotherOpen)
            }
            (None, true) => Ok(()),
            (Some(window), false) if is_open(window.window.closes_at) => Ok(()),
            (Some(_) | None, false) => Err(Refusal::QuestionNotOpen),
        }
    }

    fn status(&self) -> QuizStatus {
        let header = &self.header;
        QuizStatus {
            number: header.number,
            version: header.version,
            phase: header.phase,
            opened_at: header.opened_at,
            closed_at: header.closed_at,
            windows: header.windows.iter().map(|w| w.window).collect(),
        }
    }

    /// Returns the id of the question with this index.
    pub fn question_id(&self, index: u16) -> Option<&QuestionId> {
        self.definition.as_ref()?.questions.get(usize::from(index)).map(|q| &q.id)
    }
}
