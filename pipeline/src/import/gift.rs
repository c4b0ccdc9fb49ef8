//! Moodle's GIFT: questions between blank lines, each with its answers in one pair of braces.
//!
//! Follows `question/format/gift/format.php` of Moodle 4 in what belongs to what; where Moodle guesses, this complains.

use std::iter::Peekable;

use super::draft::{Answer, Body, Draft};
use super::{Complaint, Note};

mod answers;
mod marks;
mod markup;

use marks::{Mark, at, find, find_pair, marks, plain, starts_with, trim};
use markup::TextFormat;

/// Bytes of one question: 64 choices of 4,000 characters with their feedback fit; what is read at once stays bounded.
const QUESTION_BYTES_MAX: usize = 512 * 1024;

/// Returns the questions of a file, read as they are asked for.
pub(super) fn drafts(text: &str) -> impl Iterator<Item = Draft> {
    let mut lines = (1..).zip(text.lines()).peekable();
    let mut notes = Vec::new();
    std::iter::from_fn(move || {
        while let Some(mut block) = block(&mut lines) {
            block.categories(&mut notes);
            if !block.lines.is_empty() || block.too_long {
                return Some(block.draft(std::mem::take(&mut notes)));
            }
        }
        None
    })
}

/// Lines between blank lines, without comments.
struct Block<'a> {
    lines: Vec<(usize, &'a str)>,
    first_line: usize,
    last_line: usize,
    too_long: bool,
}

fn block<'a>(lines: &mut Peekable<impl Iterator<Item = (usize, &'a str)>>) -> Option<Block<'a>> {
    let comment = |line: &str| line.trim_start().starts_with("//");
    while lines.next_if(|(_, line)| line.trim().is_empty() || comment(line)).is_some() {}
    let &(first_line, _) = lines.peek()?;
    let mut block = Block { lines: Vec::new(), first_line, last_line: first_line, too_long: false };
    let mut bytes = 0;
    while let Some((line, text)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
        block.last_line = line;
        bytes += text.len() + 1;
        block.too_long |= bytes > QUESTION_BYTES_MAX;
        if !block.too_long && !comment(text) {
            block.lines.push((line, text));
        }
    }
    Some(block)
}

impl Block<'_> {
    /// Takes category lines off the top: they need no blank line after them.
    fn categories(&mut self, notes: &mut Vec<Note>) {
        let count = self.lines.iter().take_while(|(_, line)| is_category(line)).count();
        for (line, _) in self.lines.drain(..count) {
            notes.push(Note { line, text: "categories are not kept".to_owned() });
        }
        if let Some(&(line, _)) = self.lines.first() {
            self.first_line = line;
        }
    }

    fn draft(self, notes: Vec<Note>) -> Draft {
        let mut question = Question { line: self.first_line, notes };
        let body = if self.too_long {
            let text = format!("the question that begins here has more than {QUESTION_BYTES_MAX} bytes");
            Err(Complaint::at(self.first_line, text))
        } else if let Some(&(line, _)) = self.lines.iter().find(|(_, line)| is_category(line)) {
            Err(Complaint::at(line, "leave a blank line before $CATEGORY"))
        } else {
            question.body(&marks(&self.lines))
        };
        let outcome = body.map_err(|complaint| vec![complaint]);
        Draft { first_line: self.first_line, last_line: self.last_line, outcome, notes: question.notes }
    }
}

fn is_category(line: &str) -> bool {
    line.trim_start().starts_with("$CATEGORY:")
}

/// What is before, inside and after the braces.
type Parts<'m> = (&'m [Mark], &'m [Mark], &'m [Mark]);

/// A question while it is read.
struct Question {
    line: usize,
    notes: Vec<Note>,
}

impl Question {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(Note { line: self.line, text: text.into() });
    }

    fn body(&mut self, marks: &[Mark]) -> Result<Body, Complaint> {
        let marks = self.untitled(marks)?;
        let (before, inside, after) = self.braces(marks)?;
        // Moodle puts the gap where the braces were unless they end the question.
        let gap = if after.is_empty() { "" } else { "_____" };
        let text = format!("{}{gap}{}", plain(before), plain(after));
        let (format, text) = TextFormat::split(text.trim(), TextFormat::Moodle);
        let text = self.clean(text, format).map_err(|why| Complaint::at(self.line, why))?;
        if text.is_empty() {
            return Err(Complaint::at(self.line, "the question has no text"));
        }
        let answer = self.answer(trim(inside), format)?;
        Ok(Body { text, answer })
    }

    /// Returns what follows the question's title, if it has one.
    fn untitled<'m>(&mut self, marks: &'m [Mark]) -> Result<&'m [Mark], Complaint> {
        let marks = trim(marks);
        if !starts_with(marks, "::") {
            return Ok(marks);
        }
        let Some(end) = find_pair(&marks[2..], "::") else {
            return Err(at(marks, "the title that begins with :: does not end with ::"));
        };
        self.note("question titles are not kept");
        Ok(trim(&marks[2 + end + 2..]))
    }

    /// Splits a question at its one pair of braces.
    fn braces<'m>(&self, marks: &'m [Mark]) -> Result<Parts<'m>, Complaint> {
        let (open, close) = match (find(marks, '{'), find(marks, '}')) {
            (None, None) => {
                let text = "a text without answers (a description) is not supported yet";
                return Err(Complaint::at(self.line, text));
            }
            (Some(open), None) => {
                let text = "this { is not closed before the blank line or the end of the file";
                return Err(at(&marks[open..], text));
            }
            (None, Some(close)) => {
                return Err(at(
                    &marks[close..],
                    "this } closes nothing; as a plain character it is written \\}",
                ));
            }
            (Some(open), Some(close)) if close < open => {
                return Err(at(
                    &marks[close..],
                    "this } closes nothing; as a plain character it is written \\}",
                ));
            }
            (Some(open), Some(close)) => (open, close),
        };
        let (inside, after) = (&marks[open + 1..close], &marks[close + 1..]);
        if let Some(second) = find(inside, '{') {
            return Err(at(&inside[second..], "a { inside the answers is written \\{"));
        }
        if let Some(second) = find(after, '{').or_else(|| find(after, '}')) {
            let text = "a question has one pair of braces; leave a blank line between questions";
            return Err(at(&after[second..], text));
        }
        Ok((&marks[..open], inside, after))
    }

    /// Returns the answers between the braces, of the kind that Moodle takes them for.
    fn answer(&mut self, marks: &[Mark], format: TextFormat) -> Result<Answer, Complaint> {
        let line = self.line;
        let unsupported = |what: &str| Err(Complaint::at(line, format!("{what} are not supported yet")));
        let marks = match find_last_general(marks) {
            Some(end) => {
                self.note("feedback is not kept");
                trim(&marks[..end])
            }
            None => marks,
        };
        let Some(first) = marks.first() else {
            return unsupported("essay questions (empty braces)");
        };
        if first.is('#') {
            return self.number(&marks[1..]);
        }
        if find(marks, '~').is_some() {
            return self.choice(marks, format);
        }
        if find(marks, '=').is_some() && find_pair(marks, "->").is_some() {
            return unsupported("matching questions (=a -> b)");
        }
        match self.truth(marks) {
            Some(truth) => Ok(truth),
            None => self.short(marks, format),
        }
    }

    /// Returns `text` as players see it.
    ///
    /// # Errors
    /// A sentence about what cannot be shown as text.
    fn clean(&mut self, text: &str, format: TextFormat) -> Result<String, String> {
        let clean = markup::clean(text, format)?;
        if clean.stripped {
            self.note("markup stripped from the text");
        }
        if clean.unknown {
            self.note("an entity (&name;) that is not known here is kept as it is written");
        }
        if matches!(format, TextFormat::Markdown) {
            self.note("Markdown is kept as it is written");
        }
        Ok(clean.text)
    }
}

/// Returns where the general feedback begins: Moodle takes the last `####`.
fn find_last_general(marks: &[Mark]) -> Option<usize> {
    marks.windows(4).rposition(|four| four.iter().all(|mark| mark.is('#')))
}
