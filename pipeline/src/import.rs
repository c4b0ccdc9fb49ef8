//! Quiz files of other programs, read into the form that a definition has here: all of a file or nothing of it.

use std::fmt;
use std::str::FromStr;

use operators::definition::{Definition, Pace, Source};
use operators::limits;
use operators::policies::Award;
use rust_decimal::Decimal;

mod decode;
mod draft;
mod gift;
mod open_trivia;

/// Bytes of a file that are read at most: the largest real bank at hand has 0.5 MB, and a whole file is held in memory.
pub const INPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Questions of a file that are read at most, so that memory stays bounded: 16 full quizzes to draw a sample from.
pub const FILE_QUESTIONS_MAX: usize = 65_536;
/// Notes that are kept; equal notes are one note already, so a person can still read this many.
pub const NOTES_MAX: usize = 200;
/// What a quiz is called when neither the caller nor the file says it.
const TITLE_DEFAULT: &str = "Imported quiz";

/// The way a quiz file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text files of the OpenTriviaQA collection: `#Q question`, `^ key`, `A option` to `D option`.
    OpenTriviaQa,
    /// Moodle's GIFT, as `question/format/gift` of Moodle 4 reads it.
    Gift,
}

/// A name that no format has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no format is called {0:?}; the formats are opentriviaqa and gift")]
pub struct UnknownFormat(pub String);

/// What to take from a file, and what every question of the quiz gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The title; without it "Imported quiz".
    pub title: Option<String>,
    /// Who moves the quiz on.
    pub pace: Pace,
    /// Reads no further than this many questions.
    pub limit: Option<usize>,
    /// Draws from the questions read.
    pub sample: Option<Sample>,
    /// Leaves out what cannot be imported, with a note for each, instead of refusing the file.
    pub skip_bad: bool,
    /// Full points of each question, 0 to [`limits::POINTS_MAX`].
    pub points: Decimal,
    /// Milliseconds from opening to closing of each question. Only a host-paced quiz has such a clock, so a free-paced
    /// one ignores it.
    pub time_limit_ms: Option<u64>,
    /// The award; without it `kahoot@1` where the questions have a clock and `flat@1` where they have none.
    pub award: Option<Award>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            title: None,
            pace: Pace::Host,
            limit: None,
            sample: None,
            skip_bad: false,
            points: Decimal::ONE_THOUSAND,
            // Kahoot's own default, on which its published examples are based.
            time_limit_ms: Some(20_000),
            award: None,
        }
    }
}

/// A random draw: the same file, count and seed always give the same questions, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many questions; all of them when the file has fewer.
    pub count: usize,
    /// Start of the random sequence.
    pub seed: u64,
}

/// A file read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The quiz, which [`Definition::new`] accepts. Questions are `q1`, `q2` …, choices `a`, `b` ….
    pub source: Source,
    /// What was read leniently or left out, by line, at most [`NOTES_MAX`]. Equal notes are one, which lists its lines.
    pub notes: Vec<Note>,
    /// How many notes there were beyond those.
    pub notes_more: usize,
    /// Questions left out because they cannot be imported; 0 without [`Options::skip_bad`].
    pub skipped: usize,
}

/// Something read leniently or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// One sentence for a person.
    pub text: String,
}

/// A reason why a file cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The line, from 1; none when it is about the file as a whole or about the options.
    pub line: Option<usize>,
    /// The character in that line, from 1, where that helps.
    pub column: Option<usize>,
    /// One sentence for a person.
    pub text: String,
}

/// Every reason why a file was not imported, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints {
    /// The first [`limits::PROBLEMS_MAX`].
    pub list: Vec<Complaint>,
    /// How many there were beyond those.
    pub more: usize,
}

/// Returns the quiz that a file holds, checked by the rules of a definition.
///
/// Takes at most [`INPUT_BYTES_MAX`] bytes, UTF-8 or, line by line, Windows-1252, with any line ends. Pure: the result
/// depends on the arguments alone.
///
/// # Errors
/// [`Complaints`], with nothing imported: mend the named lines, or let [`Options::skip_bad`] leave out their questions.
pub fn import(bytes: &[u8], format: Format, options: &Options) -> Result<Imported, Complaints> {
    if bytes.len() > INPUT_BYTES_MAX {
        let text = format!("the file has {} bytes; at most {INPUT_BYTES_MAX} are read", bytes.len());
        return Err(Complaint::whole(text).into());
    }
    options.check()?;
    let decoded = decode::decode(bytes)?;
    match format {
        Format::OpenTriviaQa => draft::assemble(open_trivia::drafts(&decoded.text), &decoded, options),
        Format::Gift => draft::assemble(gift::drafts(&decoded.text), &decoded, options),
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::OpenTriviaQa, Self::Gift];

    /// Returns the name by which [`Format::from_str`] knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenTriviaQa => "opentriviaqa",
            Self::Gift => "gift",
        }
    }

    /// Returns the format of a file by its extension or else by how it begins; none when it looks like neither.
    pub fn detect(file_name: &str, bytes: &[u8]) -> Option<Self> {
        if file_name.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("gift")) {
            return Some(Self::Gift);
        }
        /// Far enough to get past the comments at the top of a file.
        const LOOK_BYTES: usize = 64 * 1024;
        let look = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOK_BYTES)]);
        let look = look.trim_start_matches('\u{feff}').trim_start();
        if look.lines().any(open_trivia::is_question) {
            return Some(Self::OpenTriviaQa);
        }
        // JSON and XML have braces too, but no GIFT question begins with one of these.
        let array = look.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', '"']));
        if array || look.starts_with(['{', '<']) {
            return None;
        }
        let named = look.lines().any(|line| line.starts_with("::") || line.starts_with("$CATEGORY:"));
        (named || (look.contains('{') && look.contains('}'))).then_some(Self::Gift)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

impl Options {
    /// Tells of options that would make every question wrong, once instead of once for each.
    fn check(&self) -> Result<(), Complaints> {
        let mut list = Vec::new();
        if self.limit == Some(0) || self.sample.is_some_and(|sample| sample.count == 0) {
            list.push(Complaint::whole("a limit or sample of 0 questions leaves no quiz".to_owned()));
        }
        if let Err(problems) = Definition::new(self.source(vec![draft::probe(self)])) {
            list.extend(problems.into_iter().map(|problem| {
                let field = problem.pointer.rsplit('/').next().unwrap_or_default();
                Complaint::whole(format!("the option {field}: {}", problem.detail))
            }));
        }
        if list.is_empty() { Ok(()) } else { Err(Complaints { list, more: 0 }) }
    }

    fn time_limit_ms(&self) -> Option<u64> {
        match self.pace {
            Pace::Host => self.time_limit_ms,
            Pace::Free => None,
        }
    }

    fn award(&self) -> Award {
        let clock = self.time_limit_ms().is_some();
        self.award.unwrap_or(if clock { Award::Kahoot1 } else { Award::Flat1 })
    }
}

impl Complaint {
    fn at(line: usize, text: impl Into<String>) -> Self {
        Self { line: Some(line), column: None, text: text.into() }
    }

    fn whole(text: String) -> Self {
        Self { line: None, column: None, text }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: {}", self.text),
            (Some(line), None) => write!(f, "line {line}: {}", self.text),
            (None, _) => f.write_str(&self.text),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl Complaints {
    fn add(&mut self, complaint: Complaint) {
        if self.list.len() < limits::PROBLEMS_MAX {
            self.list.push(complaint);
        } else {
            self.more += 1;
        }
    }
}

impl From<Complaint> for Complaints {
    fn from(complaint: Complaint) -> Self {
        Self { list: vec![complaint], more: 0 }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, complaint) in self.list.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            complaint.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}

#[cfg(test)]
mod gift_tests;
#[cfg(test)]
mod open_trivia_tests;
#[cfg(test)]
mod tests;
