//! Carrying out accepted commands, the same way in every section and in the order of their numbers.

use super::{Header, Section, SectionWindow, Touched};
use crate::effect::{Change, Output, Phase, Window};
use crate::event::{Command, Stamp};
use crate::id::{QuestionId, UnixMillis};
use crate::limits;

impl Section {
    /// Takes section 0's copy of a command: in its turn it is carried out, early it is held, late it is a repeat.
    pub(super) fn copy(
        &mut self,
        number: u64,
        at: UnixMillis,
        command: &Command,
        stamp: Stamp,
        outputs: &mut Vec<Output>,
    ) {
        if self.section == 0 || number <= self.header.number {
            return;
        }
        if number > self.header.number + 1 {
            if self.header.held.len() < limits::HELD_COMMANDS_MAX {
                self.header.held.insert(number, (at, command.clone()));
            }
            return;
        }
        self.execute(command, at);
        let mut closes = closes_something(command);
        while let Some((at, command)) = self.header.held.remove(&(self.header.number + 1)) {
            self.execute(&command, at);
            closes |= closes_something(&command);
        }
        let mut ordinal = 0;
        if closes {
            self.overrule(stamp, &mut ordinal, outputs);
        }
        let number = self.header.number;
        outputs.push(self.effect(ordinal, stamp, Change::Reached { number }));
    }

    pub(super) fn execute(&mut self, command: &Command, at: UnixMillis) {
        let header = &mut self.header;
        header.number += 1;
        match command {
            Command::Publish { definition, .. } => {
                header.version += 1;
                if header.phase == Phase::Forgotten {
                    header.phase = Phase::Draft;
                }
                self.definition = Some(definition.clone());
                self.touched.desk = true;
            }
            Command::Open => {
                header.phase = Phase::Open;
                header.opened_at = Some(at);
            }
            Command::OpenQuestion(question) => self.open_question(question, at),
            Command::CloseQuestion(question) => {
                let index = self.definition.as_ref().and_then(|d| d.index_of(question));
                let windows = self.header.windows.iter_mut();
                for open in windows.filter(|w| Some(w.window.question) == index) {
                    close(&mut open.window, at);
                }
            }
            Command::Close => {
                header.phase = Phase::Closed;
                header.closed_at = Some(at);
                for open in &mut header.windows {
                    close(&mut open.window, at);
                }
            }
            Command::Forget => self.forget(),
        }
    }

    /// Drops everything but what later records need: revision and number, by which readers know them from earlier ones,
    /// the version, and commands that came ahead of their turn.
    fn forget(&mut self) {
        let fresh = Self::new(self.quiz.clone(), self.section);
        let old = std::mem::replace(self, fresh);
        let sections = old.definition.as_ref().map_or(old.header.sections, |d| d.source().sections);
        let Header { revision, number, version, held, .. } = old.header;
        let phase = Phase::Forgotten;
        self.header = Header { revision, number, version, phase, held, sections, ..Header::default() };
        self.touched = Touched { forgotten: true, header: true, ..Touched::default() };
    }

    fn open_question(&mut self, question: &QuestionId, at: UnixMillis) {
        let Some(definition) = &self.definition else { return };
        let Some(index) = definition.index_of(question) else { return };
        let limit_ms = definition.questions[usize::from(index)].time_limit_ms;
        let window = Window { question: index, opened_at: at, closes_at: limit_ms.map(|ms| at.plus(ms)) };
        self.header.windows.push(SectionWindow { window, sealed: false });
    }
}

fn closes_something(command: &Command) -> bool {
    match command {
        Command::CloseQuestion(_) | Command::Close => true,
        Command::Publish { .. } | Command::Open | Command::OpenQuestion(_) | Command::Forget => false,
    }
}

/// A question closes once: a later closing does not move an earlier one.
fn close(window: &mut Window, at: UnixMillis) {
    window.closes_at = Some(window.closes_at.map_or(at, |closes_at| closes_at.min(at)));
}
