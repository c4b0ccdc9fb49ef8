//! What every format makes of a question, and how a quiz is put together from that.

use std::collections::BTreeMap;

use operators::definition::{Choice, Definition, KeySource, Kind, QuestionSource, RankingRule, Source};
use operators::limits;
use operators::policies::Grading;
use rust_decimal::Decimal;

use super::decode::Decoded;
use super::{
    Complaint, Complaints, FILE_QUESTIONS_MAX, Imported, NOTES_MAX, Note, Options, Sample, TITLE_DEFAULT,
};

/// One question as a format read it.
#[derive(Debug)]
pub(super) struct Draft {
    /// The line on which it begins, from 1.
    pub(super) first_line: usize,
    /// The line on which it ends.
    pub(super) last_line: usize,
    /// The question, or why there is none (at least one complaint).
    pub(super) outcome: Result<Body, Vec<Complaint>>,
    /// What was read leniently; of no interest when the question is left out.
    pub(super) notes: Vec<Note>,
}

/// A question without its name and settings.
#[derive(Debug, PartialEq)]
pub(super) struct Body {
    /// The question as asked.
    pub(super) text: String,
    /// What can be answered and what is right.
    pub(super) answer: Answer,
}

/// What can be answered and what is right; positions count from 0.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// One of the choices is right.
    One { choices: Vec<String>, right: usize },
    /// These and no others are right.
    Several { choices: Vec<String>, right: Vec<usize> },
    /// A number near `value`.
    Near { value: Decimal, tolerance: Decimal },
    /// A number from `min` to `max`.
    Between { min: Decimal, max: Decimal },
    /// One of these texts; case does not matter.
    Text { accept: Vec<String> },
}

/// A question that the rules accept.
struct Good {
    first_line: usize,
    last_line: usize,
    question: QuestionSource,
    notes: Vec<Note>,
}

/// Everything read from a file.
struct Reading {
    good: Vec<Good>,
    complaints: Complaints,
    /// The complaints again, as notes, when their questions are left out.
    left_out: Vec<Note>,
    skipped: usize,
}

/// Returns the quiz made of `drafts`, which are read no further than the options ask.
///
/// # Errors
/// [`Complaints`] about questions, or about their number.
pub(super) fn assemble(
    drafts: impl Iterator<Item = Draft>,
    decoded: &Decoded,
    options: &Options,
) -> Result<Imported, Complaints> {
    let mut reading = read(drafts, options)?;
    let refused = !reading.complaints.list.is_empty() && !options.skip_bad;
    if refused {
        return Err(reading.complaints);
    }
    if reading.good.is_empty() {
        reading
            .complaints
            .add(Complaint::whole("the file holds no question that can be imported".to_owned()));
        return Err(reading.complaints);
    }
    if let Some(sample) = options.sample {
        draw(&mut reading.good, sample);
    }
    if let Some(beyond) = reading.good.get(limits::QUESTIONS_MAX) {
        let max = limits::QUESTIONS_MAX;
        let text =
            format!("question {} begins here; a quiz takes at most {max}, so limit or sample", max + 1);
        return Err(Complaint::at(beyond.first_line, text).into());
    }
    let mut notes = reading.left_out;
    notes.extend(encoding_notes(decoded, &reading.good));
    let mut questions = Vec::with_capacity(reading.good.len());
    for (n, good) in (1..).zip(reading.good) {
        questions.push(QuestionSource { id: id(format!("q{n}")), ..good.question });
        notes.extend(good.notes);
    }
    let (notes, notes_more) = merge(notes);
    Ok(Imported { source: options.source(questions), notes, notes_more, skipped: reading.skipped })
}

fn read(drafts: impl Iterator<Item = Draft>, options: &Options) -> Result<Reading, Complaints> {
    let complaints = Complaints { list: Vec::new(), more: 0 };
    let mut reading = Reading { good: Vec::new(), complaints, left_out: Vec::new(), skipped: 0 };
    let limit = options.limit.unwrap_or(usize::MAX);
    for draft in drafts {
        if reading.good.len() + reading.skipped >= FILE_QUESTIONS_MAX {
            let text =
                format!("the file has more than {FILE_QUESTIONS_MAX} questions; split it, or set a limit");
            // First, because leaving out bad questions does not help against it.
            reading.complaints.list.insert(0, Complaint::at(draft.first_line, text));
            if reading.complaints.list.len() > limits::PROBLEMS_MAX {
                reading.complaints.list.pop();
                reading.complaints.more += 1;
            }
            return Err(reading.complaints);
        }
        let (first_line, last_line) = (draft.first_line, draft.last_line);
        match draft.outcome.and_then(|body| question(body, first_line, options)) {
            Ok(question) => reading.good.push(Good { first_line, last_line, question, notes: draft.notes }),
            Err(complaints) => {
                reading.skipped += 1;
                for complaint in complaints {
                    if let (true, Some(line)) = (options.skip_bad, complaint.line) {
                        let text = format!("question left out: {}", complaint.text);
                        reading.left_out.push(Note { line, text });
                    }
                    reading.complaints.add(complaint);
                }
            }
        }
        let counted =
            if options.skip_bad { reading.good.len() } else { reading.good.len() + reading.skipped };
        if counted >= limit {
            break;
        }
    }
    Ok(reading)
}

/// Returns the question in the form of a definition, without its final name, once the rules accept it.
fn question(body: Body, line: usize, options: &Options) -> Result<QuestionSource, Vec<Complaint>> {
    let question = options.question(body);
    match Definition::new(options.source(vec![question.clone()])) {
        Ok(_) => Ok(question),
        Err(problems) => Err(problems
            .into_iter()
            .map(|problem| {
                let field = problem.pointer.strip_prefix("/questions/0/").unwrap_or(&problem.pointer);
                Complaint::at(line, format!("the question that begins here: {field} {}", problem.detail))
            })
            .collect()),
    }
}

/// A question that is right if the options are, to find out what is wrong with them.
pub(super) fn probe(options: &Options) -> QuestionSource {
    let answer = Answer::One { choices: vec!["True".to_owned(), "False".to_owned()], right: 0 };
    options.question(Body { text: "?".to_owned(), answer })
}

impl Options {
    pub(super) fn source(&self, questions: Vec<QuestionSource>) -> Source {
        let title = self.title.clone().unwrap_or_else(|| TITLE_DEFAULT.to_owned());
        Source { title, pace: self.pace, sections: 1, ranking: RankingRule::default(), questions }
    }

    fn question(&self, body: Body) -> QuestionSource {
        let (kind, choices, key) = match body.answer {
            Answer::One { choices, right } => {
                let key = KeySource { choice: Some(choice_id(right)), ..KeySource::default() };
                (Kind::SingleChoice, choices, key)
            }
            Answer::Several { choices, right } => {
                let right = right.into_iter().map(choice_id).collect();
                (Kind::MultipleChoice, choices, KeySource { choices: Some(right), ..KeySource::default() })
            }
            Answer::Near { value, tolerance } => {
                let key =
                    KeySource { value: Some(value), tolerance: Some(tolerance), ..KeySource::default() };
                (Kind::Numeric, Vec::new(), key)
            }
            Answer::Between { min, max } => (
                Kind::Numeric,
                Vec::new(),
                KeySource { min: Some(min), max: Some(max), ..KeySource::default() },
            ),
            Answer::Text { accept } => {
                (Kind::ShortText, Vec::new(), KeySource { accept: Some(accept), ..KeySource::default() })
            }
        };
        let choices =
            choices.into_iter().enumerate().map(|(n, text)| Choice { id: choice_id(n), text }).collect();
        QuestionSource {
            id: id("q1".to_owned()),
            kind,
            text: body.text,
            choices,
            key,
            points: self.points,
            time_limit_ms: self.time_limit_ms(),
            grading: Grading::default(),
            award: self.award(),
        }
    }
}

/// Returns `a` to `z`, then `aa`, `ab` and so on.
fn choice_id<T: TryFrom<String, Error = operators::id::IdError>>(index: usize) -> T {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'a' + (rest % 26) as u8));
        rest /= 26;
    }
    id(letters.iter().rev().collect())
}

fn id<T: TryFrom<String, Error = operators::id::IdError>>(text: String) -> T {
    T::try_from(text).expect("a letter followed by letters or digits is an id")
}

/// Keeps a random `count` of the questions, in their order.
fn draw(good: &mut Vec<Good>, sample: Sample) {
    let mut places: Vec<usize> = (0..good.len()).collect();
    let count = sample.count.min(places.len());
    let mut state = sample.seed;
    for place in 0..count {
        let left = (places.len() - place) as u128;
        // Multiply-shift picks one of `left` from 64 random bits; the bias is below 2^-48 for any file read here.
        let pick = (u128::from(random(&mut state)) * left) >> 64;
        places.swap(place, place + pick as usize);
    }
    let mut kept = vec![false; good.len()];
    for &place in &places[..count] {
        kept[place] = true;
    }
    let mut kept = kept.into_iter();
    good.retain(|_| kept.next().unwrap_or(false));
}

/// Returns the next number of SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014; the constants are those of `java.util.SplittableRandom`.
pub(super) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns notes for the lines that were not UTF-8 and belong to a question that is kept.
fn encoding_notes(decoded: &Decoded, good: &[Good]) -> Vec<Note> {
    let windows = decoded.windows.iter().map(|&line| (line, "not UTF-8, so read as Windows-1252"));
    let damaged = decoded.damaged.iter().map(|&line| {
        (line, "UTF-8 with damaged characters, which were read as Windows-1252: look at the text")
    });
    let kept = |line: usize| {
        let after = good.partition_point(|good| good.first_line <= line);
        after > 0 && line <= good[after - 1].last_line
    };
    let notes = windows.chain(damaged).filter(|&(line, _)| kept(line));
    notes.map(|(line, text)| Note { line, text: text.to_owned() }).collect()
}

/// Returns the notes by line, equal ones as one that lists its lines, and how many were too many.
fn merge(mut notes: Vec<Note>) -> (Vec<Note>, usize) {
    /// Lines that a note lists besides its own, so that it stays a sentence.
    const LINES_MAX: usize = 5;
    notes.sort_by_key(|note| note.line);
    let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for Note { line, text } in notes {
        lines.entry(text).or_default().push(line);
    }
    let mut merged: Vec<Note> = Vec::with_capacity(lines.len());
    for (mut text, mut lines) in lines {
        lines.dedup();
        let (line, others) = (lines[0], &lines[1..]);
        if !others.is_empty() {
            let listed: Vec<String> = others.iter().take(LINES_MAX).map(usize::to_string).collect();
            let lines = if others.len() == 1 { "line" } else { "lines" };
            text.push_str(&format!(" (also {lines} {}", listed.join(", ")));
            if others.len() > LINES_MAX {
                text.push_str(&format!(" and {} more", others.len() - LINES_MAX));
            }
            text.push(')');
        }
        merged.push(Note { line, text });
    }
    merged.sort_by_key(|note| note.line);
    let more = merged.len().saturating_sub(NOTES_MAX);
    merged.truncate(NOTES_MAX);
    (merged, more)
}

/// Returns `text` in quotes, control characters escaped, cut to what fits a sentence.
pub(super) fn quote(text: &str) -> String {
    /// Enough to recognise an option by.
    const CHARS_MAX: usize = 60;
    let mut cut: String = text.chars().take(CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}
