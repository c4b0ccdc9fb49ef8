//! OpenTriviaQA's text files: `#Q question`, `^ key`, then `A option` to `D option`.

use std::iter::Peekable;

use operators::definition::normalise;

use super::draft::{Answer, Body, Draft, quote};
use super::{Complaint, Note};

/// Options of one question: the collection has 2 or 4, lettered from A.
const OPTIONS_MAX: usize = 4;

/// Returns the questions of a file, read as they are asked for.
pub(super) fn drafts(text: &str) -> impl Iterator<Item = Draft> {
    let mut lines = (1..).zip(text.lines()).peekable();
    std::iter::from_fn(move || next(&mut lines))
}

/// Tells whether a question begins with this line.
pub(super) fn is_question(line: &str) -> bool {
    marked(line, "#Q").is_some()
}

/// Returns what follows a mark at the start of a line and the space after it.
fn marked<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(mark)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix([' ', '\t', '\r'])
}

/// A question while its lines are read.
struct Raw<'a> {
    line: usize,
    last_line: usize,
    text: String,
    key: Option<(usize, &'a str)>,
    options: Vec<(usize, &'a str)>,
    complaints: Vec<Complaint>,
    notes: Vec<Note>,
}

fn next<'a>(lines: &mut Peekable<impl Iterator<Item = (usize, &'a str)>>) -> Option<Draft> {
    let (line, first) = lines.find(|(_, line)| !line.trim().is_empty())?;
    let mut raw = Raw {
        line,
        last_line: line,
        text: String::new(),
        key: None,
        options: Vec::new(),
        complaints: Vec::new(),
        notes: Vec::new(),
    };
    match marked(first, "#Q") {
        Some(text) => raw.text.push_str(text.trim()),
        None => raw.complain(line, "this line belongs to no question; a question begins with \"#Q \""),
    }
    while let Some((line, text)) = lines.next_if(|(_, line)| !is_question(line)) {
        raw.line(line, text);
    }
    Some(raw.conclude())
}

impl<'a> Raw<'a> {
    fn complain(&mut self, line: usize, text: impl Into<String>) {
        self.complaints.push(Complaint::at(line, text));
    }

    fn line(&mut self, line: usize, text: &'a str) {
        let blank = text.trim().is_empty();
        if !blank {
            self.last_line = line;
        }
        if !self.complaints.is_empty() {
            // What follows a line out of place cannot be trusted to be what it looks like.
            return;
        }
        match (self.key, marked(text, "^")) {
            (None, Some(key)) => self.key = Some((line, key)),
            (Some((first, _)), Some(_)) => {
                self.complain(line, format!("a second key; line {first} has the first"));
            }
            (None, None) => {
                // Verses and sums are laid out on lines of their own, and blank lines are part of that.
                self.text.push('\n');
                self.text.push_str(text.trim());
            }
            (Some(_), None) if blank => {}
            (Some(_), None) => self.option(line, text),
        }
    }

    fn option(&mut self, line: usize, text: &'a str) {
        let letter = text.chars().next().filter(char::is_ascii_uppercase);
        let Some((letter, option)) = letter.and_then(|letter| {
            let mark = letter.encode_utf8(&mut [0; 4]).to_owned();
            marked(text, &mark).map(|option| (letter, option))
        }) else {
            self.complain(line, "this line is no option; an option is a capital letter, a space and a text");
            return;
        };
        let Some(expected) = ('A'..='D').nth(self.options.len()) else {
            self.complain(line, format!("a question has at most {OPTIONS_MAX} options"));
            return;
        };
        if letter != expected {
            self.complain(line, format!("option {expected} belongs here, not option {letter}"));
            return;
        }
        self.options.push((line, option));
    }

    fn conclude(mut self) -> Draft {
        let body = if self.complaints.is_empty() { self.body() } else { None };
        let outcome = body.ok_or(self.complaints);
        Draft { first_line: self.line, last_line: self.last_line, outcome, notes: self.notes }
    }

    /// Returns the question, or none after complaining.
    fn body(&mut self) -> Option<Body> {
        let text = self.text.trim().to_owned();
        if text.is_empty() {
            self.complain(self.line, "the question has no text");
        }
        let Some((key_line, key)) = self.key else {
            self.complain(self.line, "the question has no key, which is a line that begins with \"^ \"");
            return None;
        };
        if key.trim().is_empty() {
            self.complain(key_line, "the key is empty");
        }
        for (line, _) in self.options.clone().into_iter().filter(|(_, option)| option.trim().is_empty()) {
            self.complain(line, "the option is empty");
        }
        let options = self.distinct();
        if options.len() < 2 {
            self.complain(
                self.line,
                format!("a choice needs 2 options, and this question has {}", options.len()),
            );
        }
        if !self.complaints.is_empty() {
            return None;
        }
        let right = match find(key, &options) {
            Ok((right, leniency)) => {
                if let Some(leniency) = leniency {
                    let text = format!("the key matches an option only after {leniency}");
                    self.notes.push(Note { line: key_line, text });
                }
                right
            }
            Err(complaint) => {
                self.complain(key_line, complaint);
                return None;
            }
        };
        let choices = options.into_iter().map(|option| option.trim().to_owned()).collect();
        Some(Body { text, answer: Answer::One { choices, right } })
    }

    /// Returns the options without those that repeat an earlier one, which are noted.
    fn distinct(&mut self) -> Vec<&'a str> {
        let mut distinct: Vec<&str> = Vec::with_capacity(self.options.len());
        for &(line, option) in &self.options {
            if distinct.iter().any(|other| other.trim() == option.trim()) {
                let text = format!("repeated option {} dropped", quote(option.trim()));
                self.notes.push(Note { line, text });
            } else {
                distinct.push(option);
            }
        }
        distinct
    }
}

/// A form in which a key may equal an option, and what it takes to get there.
type Form = (Option<&'static str>, fn(&str) -> String);

/// The forms, strictest first: a looser one is tried only when no option matches in a stricter one.
const FORMS: [Form; 4] = [
    (None, str::to_owned),
    (Some("trimming"), |text| text.trim().to_owned()),
    (Some("trimming and case folding"), |text| normalise(text, false)),
    (Some("normalising punctuation"), loose),
];

/// Returns the place of the option that `key` means, and how leniently it was found.
fn find(key: &str, options: &[&str]) -> Result<(usize, Option<&'static str>), String> {
    for (leniency, form) in FORMS {
        let wanted = form(key);
        if wanted.is_empty() {
            // Nothing but punctuation is left, which would equal anything else of that kind.
            continue;
        }
        let mut hits = options.iter().enumerate().filter(|(_, option)| form(option) == wanted);
        match (hits.next(), hits.next()) {
            (Some((place, _)), None) => return Ok((place, leniency)),
            (Some((_, one)), Some((_, other))) => {
                let (key, one, other) = (quote(key.trim()), quote(one.trim()), quote(other.trim()));
                return Err(format!("the key {key} could be option {one} or option {other}"));
            }
            (None, _) => {}
        }
    }
    let listed: Vec<String> = options.iter().map(|option| quote(option.trim())).collect();
    Err(format!("the key {} is none of the options {}", quote(key.trim()), listed.join(", ")))
}

/// Returns `text` with plain dashes, and without quotes, apostrophes or a stop at its end.
///
/// Signs and decimal points stay: 3/2 and -3/2 are different answers, and so are 1.23 and 12.3.
fn loose(text: &str) -> String {
    let plain = normalise(text, false).replace(['‐', '‑', '–', '—', '−'], "-");
    // The collection has lost most of its apostrophes, so they cannot tell options apart.
    let plain = plain.replace(['\'', '‘', '’', '‚', '`', '´', '′', '"', '“', '”', '„', '«', '»', '″'], "");
    plain.trim().trim_end_matches(['.', ',', ';', ':', '!', '?', ' ']).to_owned()
}
