//! The characters of a GIFT question, with their places, and whether they may be control characters.

use super::Complaint;

/// One character.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    character: char,
    /// Written with a backslash, so never a control character.
    escaped: bool,
    line: usize,
    column: usize,
}

impl Mark {
    /// Tells whether this is `control` in its meaning as a control character.
    pub(super) fn is(self, control: char) -> bool {
        self.character == control && !self.escaped
    }
}

/// Returns the characters of some numbered lines without the white space around each, with the escapes resolved.
pub(super) fn marks(lines: &[(usize, &str)]) -> Vec<Mark> {
    let mut marks = Vec::with_capacity(lines.iter().map(|(_, line)| line.len() + 1).sum());
    for &(line, text) in lines {
        let mut characters = (1..).zip(text.trim_end().chars()).peekable();
        while characters.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        while let Some((column, character)) = characters.next() {
            let escape = |next: char| matches!(next, '~' | '=' | '#' | '{' | '}' | ':' | '\\' | 'n');
            let next = if character == '\\' { characters.next_if(|&(_, next)| escape(next)) } else { None };
            let (character, escaped) = match next {
                Some((_, 'n')) => ('\n', true),
                Some((_, next)) => (next, true),
                None => (character, false),
            };
            marks.push(Mark { character, escaped, line, column });
        }
        // No complaint begins at a line end, so its column does not matter.
        marks.push(Mark { character: '\n', escaped: false, line, column: 1 });
    }
    marks
}

/// Returns the characters as text.
pub(super) fn plain(marks: &[Mark]) -> String {
    marks.iter().map(|mark| mark.character).collect()
}

/// Returns the marks without white space around them.
pub(super) fn trim(marks: &[Mark]) -> &[Mark] {
    let white = |mark: &Mark| mark.character.is_whitespace();
    let start = marks.iter().position(|mark| !white(mark)).unwrap_or(marks.len());
    let end = marks.iter().rposition(|mark| !white(mark)).map_or(start, |last| last + 1);
    &marks[start..end]
}

/// Returns the place of the first such control character.
pub(super) fn find(marks: &[Mark], control: char) -> Option<usize> {
    marks.iter().position(|mark| mark.is(control))
}

/// Returns the place of the first such two control characters.
pub(super) fn find_pair(marks: &[Mark], pair: &str) -> Option<usize> {
    marks.windows(2).position(|two| starts_with(two, pair))
}

/// Tells whether the marks begin with these control characters.
pub(super) fn starts_with(marks: &[Mark], controls: &str) -> bool {
    let mut marks = marks.iter();
    controls.chars().all(|control| marks.next().is_some_and(|mark| mark.is(control)))
}

/// Returns a complaint at the first of the marks.
///
/// # Panics
/// Never with at least one mark; a caller that found something has one.
pub(super) fn at(marks: &[Mark], text: impl Into<String>) -> Complaint {
    let mark = marks.first().expect("a complaint is about a character that was found");
    Complaint { line: Some(mark.line), column: Some(mark.column), text: text.into() }
}
