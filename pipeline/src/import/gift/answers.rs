//! The answers of a GIFT question: choices, short texts, numbers, true or false.

use operators::limits;
use rust_decimal::Decimal;

use super::marks::{Mark, at, find, find_pair, plain, trim};
use super::markup::TextFormat;
use super::{Complaint, Question};
use crate::import::draft::{Answer, quote};

/// Said wherever an answer is worth a part of the points.
const NO_PARTIAL: &str = "this version has no partial credit";

/// One answer, begun by `=` or `~` or by nothing.
struct Item<'m> {
    /// All of it, for the place of a complaint.
    whole: &'m [Mark],
    /// Begun by `=`.
    right: bool,
    weight: Option<Weight>,
    /// Without weight and feedback, trimmed.
    text: &'m [Mark],
    feedback: bool,
}

/// A weight in percent.
#[derive(Clone, Copy)]
struct Weight {
    percent: Decimal,
    /// What the last digit is worth: a weight stands for anything less than this away from it.
    unit: Decimal,
}

impl Question {
    /// Reads `{T}`, `{FALSE#wrong#right}` and the like; none when it is something else.
    pub(super) fn truth(&mut self, marks: &[Mark]) -> Option<Answer> {
        let end = find(marks, '#').unwrap_or(marks.len());
        let word = plain(trim(&marks[..end]));
        let right = match word.to_ascii_uppercase().as_str() {
            "T" | "TRUE" => 0,
            "F" | "FALSE" => 1,
            _ => return None,
        };
        if end < marks.len() {
            self.note("feedback is not kept");
        }
        if word.contains(|c: char| c.is_ascii_lowercase()) {
            self.note("true or false in small letters, which Moodle takes for a text to type, is read as true or false");
        }
        Some(Answer::One { choices: vec!["True".to_owned(), "False".to_owned()], right })
    }

    /// Reads choices, of which at least one begins with `~`.
    pub(super) fn choice(&mut self, marks: &[Mark], format: TextFormat) -> Result<Answer, Complaint> {
        let items = self.items(marks, &['=', '~'], limits::CHOICES_MAX)?;
        if items.len() < 2 {
            return Err(at(marks, "a choice needs 2 answers, and this question has 1"));
        }
        let single = items.iter().any(|item| item.right);
        let mut rights = Vec::with_capacity(items.len());
        for item in &items {
            rights.push(if single { single_right(item)? } else { item.percent() > Decimal::ZERO });
        }
        if items.iter().any(|item| item.percent() < Decimal::ZERO) {
            self.note("negative weights are read as wrong; their penalty is not kept");
        }
        if !single {
            whole_credit(marks, &items)?;
        }
        let (choices, right) = self.distinct(&items, &rights, format)?;
        match (single, right.as_slice()) {
            (true, &[right]) => Ok(Answer::One { choices, right }),
            (true, _) => {
                let text =
                    "several choices begin with =, and one right choice is all that this version takes";
                Err(at(marks, text))
            }
            (false, _) => Ok(Answer::Several { choices, right }),
        }
    }

    /// Returns the texts of the choices without repetitions, and the places of the right ones.
    fn distinct(
        &mut self,
        items: &[Item],
        rights: &[bool],
        format: TextFormat,
    ) -> Result<(Vec<String>, Vec<usize>), Complaint> {
        let mut choices: Vec<(String, bool)> = Vec::with_capacity(items.len());
        for (item, &right) in items.iter().zip(rights) {
            let text = self.item_text(item, format)?;
            match choices.iter().find(|(other, _)| *other == text) {
                None => choices.push((text, right)),
                Some((_, other)) if *other == right => {
                    self.note(format!("repeated choice {} dropped", quote(&text)));
                }
                Some(_) => {
                    return Err(at(
                        item.whole,
                        format!("the choice {} is both right and wrong", quote(&text)),
                    ));
                }
            }
        }
        if choices.len() < 2 {
            return Err(at(items[0].whole, "a choice needs 2 different answers"));
        }
        let right = (0..choices.len()).filter(|&place| choices[place].1).collect();
        Ok((choices.into_iter().map(|(text, _)| text).collect(), right))
    }

    /// Reads accepted forms, each begun by `=` except perhaps the first.
    pub(super) fn short(&mut self, marks: &[Mark], format: TextFormat) -> Result<Answer, Complaint> {
        let items = self.items(marks, &['='], limits::ACCEPTED_MAX)?;
        if !items.iter().any(|item| item.right) {
            self.note("an answer without = is read as an accepted form");
        }
        let mut accept: Vec<String> = Vec::with_capacity(items.len());
        for item in &items {
            if !item.full()? {
                // Moodle hangs feedback on such forms, for example =%0%*#wrong.
                self.note("an accepted form with a weight of 0 is left out");
                continue;
            }
            let text = self.item_text(item, format)?;
            if text.replace("\\*", "").contains('*') {
                let text =
                    "a form with * stands for any text, which is not supported yet; a plain star is \\*";
                return Err(at(item.whole, text));
            }
            let text = text.replace("\\*", "*");
            if accept.contains(&text) {
                self.note(format!("repeated form {} dropped", quote(&text)));
            } else {
                accept.push(text);
            }
        }
        if accept.is_empty() {
            return Err(at(marks, "no form is right"));
        }
        Ok(Answer::Text { accept })
    }

    /// Reads what follows the `#` of a number: `3.14:0.01`, `1..5`, or one of these after `=`.
    pub(super) fn number(&mut self, marks: &[Mark]) -> Result<Answer, Complaint> {
        let end = find(marks, '~').unwrap_or(marks.len());
        if end < marks.len() {
            self.note("feedback is not kept");
        }
        let items = self.items(trim(&marks[..end]), &['='], limits::ACCEPTED_MAX)?;
        let mut full = Vec::with_capacity(items.len());
        for item in &items {
            if item.full()? {
                full.push(item);
            }
        }
        match full.as_slice() {
            [] => Err(Complaint::at(self.line, "the numeric question has no right answer")),
            [item] => item.number(),
            [_, second, ..] => {
                Err(at(second.whole, "a numeric question takes one value or range, and this is a second"))
            }
        }
    }

    /// Splits the answers where one of `controls` begins the next; every answer has a text.
    fn items<'m>(
        &mut self,
        marks: &'m [Mark],
        controls: &[char],
        items_max: usize,
    ) -> Result<Vec<Item<'m>>, Complaint> {
        let begins = |mark: &Mark| controls.iter().any(|&control| mark.is(control));
        let mut items = Vec::new();
        let mut rest = marks;
        while !rest.is_empty() {
            let end = rest.iter().skip(1).position(begins).map_or(rest.len(), |end| end + 1);
            if items.len() == items_max {
                return Err(at(rest, format!("a question takes at most {items_max} answers")));
            }
            items.push(Item::new(&rest[..end])?);
            rest = &rest[end..];
        }
        if items.len() > 1 && !items[0].whole.first().is_some_and(begins) {
            return Err(at(items[0].whole, "an answer begins with = or ~, and this text has neither"));
        }
        if items.iter().any(|item| item.feedback) {
            self.note("feedback is not kept");
        }
        Ok(items)
    }

    fn item_text(&mut self, item: &Item, format: TextFormat) -> Result<String, Complaint> {
        let text = plain(item.text);
        let (format, text) = TextFormat::split(&text, format);
        let text = self.clean(text, format).map_err(|why| at(item.whole, why))?;
        if text.is_empty() {
            return Err(at(item.whole, "the answer is empty"));
        }
        // A choice is one line on the players' screens, whatever the layout of the file.
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl<'m> Item<'m> {
    fn new(whole: &'m [Mark]) -> Result<Self, Complaint> {
        let begun = whole.first().is_some_and(|mark| mark.is('=') || mark.is('~'));
        let right = whole.first().is_some_and(|mark| mark.is('='));
        let (weight, rest) = Weight::split(trim(&whole[usize::from(begun)..]));
        let end = find(rest, '#').unwrap_or(rest.len());
        let text = trim(&rest[..end]);
        if entity_cut(&rest[..end], &rest[end..]) {
            let text = "in an answer, the # of a character reference such as &#233; is written \\#";
            return Err(at(&rest[end..], text));
        }
        if text.is_empty() {
            return Err(at(whole, "the answer is empty"));
        }
        Ok(Self { whole, right, weight, text, feedback: end < rest.len() })
    }

    fn percent(&self) -> Decimal {
        self.weight.map_or(Decimal::ZERO, |weight| weight.percent)
    }

    /// Tells whether a form is worth all the points; the other forms are worth nothing.
    fn full(&self) -> Result<bool, Complaint> {
        match self.weight.map(|weight| weight.percent) {
            None => Ok(true),
            Some(percent) if percent == Decimal::ONE_HUNDRED => Ok(true),
            Some(percent) if percent <= Decimal::ZERO => Ok(false),
            Some(percent) => Err(at(self.whole, format!("this answer is worth {percent} %; {NO_PARTIAL}"))),
        }
    }

    fn number(&self) -> Result<Answer, Complaint> {
        let parse = |marks: &[Mark]| {
            let text = plain(trim(marks));
            let held = number(&text);
            held.ok_or_else(|| {
                at(self.whole, format!("{} is no number that can be held exactly", quote(&text)))
            })
        };
        if let Some(dots) = find_pair(self.text, "..") {
            let (min, max) = (parse(&self.text[..dots])?, parse(&self.text[dots + 2..])?);
            if min > max {
                return Err(at(self.whole, "the range ends before it begins"));
            }
            return Ok(Answer::Between { min, max });
        }
        let colon = find(self.text, ':');
        let value = parse(&self.text[..colon.unwrap_or(self.text.len())])?;
        let tolerance = colon.map_or(Ok(Decimal::ZERO), |colon| parse(&self.text[colon + 1..]))?;
        if tolerance < Decimal::ZERO {
            return Err(at(self.whole, "the tolerance after : is negative"));
        }
        Ok(Answer::Near { value, tolerance })
    }
}

/// Returns a number with a decimal point, perhaps with an exponent; none when it is no number or would be rounded.
fn number(text: &str) -> Option<Decimal> {
    // The library takes 1_000 for a number, which a person may have meant as anything.
    if text.contains('_') {
        return None;
    }
    if text.contains(['e', 'E']) {
        return Decimal::from_scientific(text).ok();
    }
    Decimal::from_str_exact(text).ok()
}

/// Tells whether a choice of a question with `=` is the right one.
fn single_right(item: &Item) -> Result<bool, Complaint> {
    let percent = item.percent();
    let partial = if item.right {
        item.weight.is_some() && percent != Decimal::ONE_HUNDRED
    } else {
        percent > Decimal::ZERO
    };
    if partial {
        return Err(at(item.whole, format!("this choice is worth {percent} %; {NO_PARTIAL}")));
    }
    Ok(item.right)
}

/// Complains unless the positive weights are the parts of a whole, so that all of them together are the key.
fn whole_credit(marks: &[Mark], items: &[Item]) -> Result<(), Complaint> {
    let positive: Vec<Weight> =
        items.iter().filter_map(|item| item.weight).filter(|weight| weight.percent > Decimal::ZERO).collect();
    let Some(first) = positive.first() else {
        return Err(at(marks, "no choice is right: none begins with = or has a positive weight"));
    };
    let sum: Decimal = positive.iter().map(|weight| weight.percent).sum();
    // Equal parts are written rounded or cut, for example three times 33; unequal ones only as far as Moodle rounds.
    let equal = positive.iter().all(|weight| weight.percent == first.percent);
    let count = Decimal::from(positive.len());
    let off = (sum - Decimal::ONE_HUNDRED).abs();
    let near = if equal { off < first.unit * count } else { off <= Decimal::new(5, 2) };
    if near {
        return Ok(());
    }
    let text = format!("the positive weights add up to {sum} % instead of 100 %; {NO_PARTIAL}");
    Err(at(marks, text))
}

impl Weight {
    /// Takes a weight such as `%-33.333%` off the front; a text that only looks like one stays.
    fn split(marks: &[Mark]) -> (Option<Self>, &[Mark]) {
        /// Characters between the signs: more than Moodle writes, and few enough to be exact.
        const CHARS_MAX: usize = 16;
        let whole = (None, marks);
        let Some((first, rest)) = marks.split_first() else { return whole };
        let Some(end) = rest.iter().take(CHARS_MAX + 1).position(|mark| mark.is('%')) else { return whole };
        if !first.is('%') {
            return whole;
        }
        let text = plain(&rest[..end]);
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let shaped = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let Some(percent) = text.trim_end_matches('.').parse::<Decimal>().ok().filter(|_| shaped) else {
            return whole;
        };
        (Some(Self { percent, unit: Decimal::new(1, percent.scale()) }), trim(&rest[end + 1..]))
    }
}

/// Tells whether a `#` that would begin feedback is the one of `&#233;`.
fn entity_cut(before: &[Mark], from: &[Mark]) -> bool {
    /// The longest reference to a character is `#x10FFFF;`.
    const CHARS_MAX: usize = 9;
    let reference = plain(&from[..from.len().min(CHARS_MAX)]);
    let digits = reference.strip_prefix('#').and_then(|rest| rest.split_once(';')).map(|(digits, _)| digits);
    let numeric = |digits: &str| {
        let hex = digits.strip_prefix(['x', 'X']).unwrap_or(digits);
        !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    before.last().is_some_and(|mark| mark.is('&')) && digits.is_some_and(numeric)
}
