//! GIFT: each kind of question, each way of writing it, and what is refused.

use operators::definition::{Kind, QuestionSource};

use super::*;

fn read(text: &str) -> Result<Imported, Complaints> {
    import(text.as_bytes(), Format::Gift, &Options::default())
}

fn one(text: &str) -> QuestionSource {
    let mut questions = read(text).unwrap().source.questions;
    assert_eq!(questions.len(), 1, "{text}");
    questions.remove(0)
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn notes(text: &str) -> Vec<String> {
    read(text).unwrap().notes.iter().map(Note::to_string).collect()
}

/// The choices, the right ones with a star.
fn choices(text: &str) -> Vec<String> {
    let q = one(text);
    let right = |id| q.key.choice.iter().chain(q.key.choices.iter().flatten()).any(|key| key == id);
    q.choices.iter().map(|c| if right(&c.id) { format!("*{}", c.text) } else { c.text.clone() }).collect()
}

fn accepted(text: &str) -> Vec<String> {
    let q = one(text);
    assert_eq!(q.kind, Kind::ShortText);
    q.key.accept.unwrap()
}

#[test]
fn single_choice_and_missing_word() {
    let tomb = "Who's buried in Grant's tomb?{~Grant ~Jefferson =no one}";
    assert_eq!(one(tomb).kind, Kind::SingleChoice);
    assert_eq!(one(tomb).text, "Who's buried in Grant's tomb?");
    assert_eq!(choices(tomb), ["Grant", "Jefferson", "*no one"]);
    assert_eq!(one("Grant is {~buried =entombed ~living} in his tomb.").text, "Grant is _____ in his tomb.");
    let lines = "The holiday is on the {\r\n    ~second\r\n    =fourth#yes\r\n  // aside\r\n} Thursday\r\nof November.\r\n";
    assert_eq!(one(lines).text, "The holiday is on the _____ Thursday\nof November.");
    assert_eq!(choices(lines), ["second", "*fourth"]);
}

#[test]
fn several_answers_by_weights_that_make_a_whole() {
    let who = "Who? {~%-50%No one ~%50%Grant ~%50%His wife ~x}";
    assert_eq!(one(who).kind, Kind::MultipleChoice);
    assert_eq!(choices(who), ["No one", "*Grant", "*His wife", "x"]);
    assert_eq!(notes(who), ["line 1: negative weights are read as wrong; their penalty is not kept"]);
    for whole in ["%100%a", "%33%a ~%33%b ~%33%c", "%33.33333%a ~%33.33333%b ~%33.33333%c", "%70%a ~%30%b"] {
        assert_eq!(one(&format!("Q{{~{whole} ~%0%z}}")).kind, Kind::MultipleChoice, "{whole}");
    }
    for (parts, sum) in
        [("%50%a ~%49%b", "99"), ("%49%a ~%49%b", "98"), ("%60%a ~%60%b", "120"), ("%25%a", "25")]
    {
        let text = format!(
            "the positive weights add up to {sum} % instead of 100 %; this version has no partial credit"
        );
        assert_eq!(refusal(&format!("Q{{~{parts} ~z}}")), format!("line 1, column 3: {text}"));
    }
    assert_eq!(
        refusal("Q{=a ~%50%b\n  ~c}"),
        "line 1, column 6: this choice is worth 50 %; this version has no partial credit"
    );
    assert_eq!(choices("Q{=%100%a ~%-20%b}"), ["*a", "b"]);
}

#[test]
fn true_or_false() {
    assert_eq!(choices("The sun rises in the east.{T}"), ["*True", "False"]);
    assert_eq!(choices("S {\nFALSE#wrong#right\n####general\n}"), ["True", "*False"]);
    assert_eq!(notes("S {\nFALSE#wrong\n####general\n}"), ["line 1: feedback is not kept"]);
    assert_eq!(choices("S{false}"), ["True", "*False"]);
    let small =
        "true or false in small letters, which Moodle takes for a text to type, is read as true or false";
    assert_eq!(notes("S{false}"), [format!("line 1: {small}")]);
}

#[test]
fn short_texts() {
    assert_eq!(accepted("Two plus two equals {=four =4}."), ["four", "4"]);
    assert_eq!(accepted("Q{=%100%Frog#Good! =%100%toad =%0%*#no}"), ["Frog", "toad"]);
    assert_eq!(accepted("Q{=a\\*b =Frog =Frog}"), ["a*b", "Frog"]);
    assert_eq!(accepted("Q{Paris}"), ["Paris"]);
    assert_eq!(notes("Q{Paris}"), ["line 1: an answer without = is read as an accepted form"]);
    assert_eq!(
        refusal("Q{=Nazareth\n =%75%Nazereth#misspelled}"),
        "line 2, column 2: this answer is worth 75 %; this version has no partial credit"
    );
    assert!(refusal("Q{=Fr*g}").starts_with("line 1, column 3: a form with * stands for any text"));
}

#[test]
fn numbers() {
    let key = |answer: &str| {
        let q = one(&format!("Q{{{answer}}}"));
        assert_eq!(q.kind, Kind::Numeric);
        [q.key.value, q.key.tolerance, q.key.min, q.key.max].map(|part| part.map(|part| part.to_string()))
    };
    let near =
        |value: &str, tolerance: &str| [Some(value.to_owned()), Some(tolerance.to_owned()), None, None];
    let between = |min: &str, max: &str| [None, None, Some(min.to_owned()), Some(max.to_owned())];
    assert_eq!(key("#1822"), near("1822", "0"));
    assert_eq!(key("#3.14:0.01"), near("3.14", "0.01"));
    assert_eq!(key("# =%100%3.14 : 0.01 #good ~#wrong"), near("3.14", "0.01"));
    assert_eq!(key("#1..5"), between("1", "5"));
    assert_eq!(key("#\n=-1e2..-5.5#x"), between("-100", "-5.5"));
}

#[test]
fn numbers_that_are_refused() {
    let number = |answer: &str| refusal(&format!("Q{{#{answer}}}"));
    assert_eq!(number("5..1"), "line 1, column 4: the range ends before it begins");
    assert_eq!(number("5:-1"), "line 1, column 4: the tolerance after : is negative");
    for not in ["3,14", "*", "1_000", "1e999999999", "0x10", "", "1..", "99999999999999999999999999999999"] {
        assert!(read(&format!("Q{{#={not}}}")).is_err(), "{not}");
    }
    assert_eq!(number(""), "line 1: the numeric question has no right answer");
    assert_eq!(
        number("\n=1822:0\n=%50%1822:2"),
        "line 3, column 1: this answer is worth 50 %; this version has no partial credit"
    );
    assert_eq!(
        number("=1 =2"),
        "line 1, column 7: a numeric question takes one value or range, and this is a second"
    );
}

#[test]
fn escapes_titles_formats_and_markup() {
    let five =
        "::A \\: title:: Which equals 5? \\{\\}\\n{\n ~ \\= 2 + 2\n = \\= 2 + 3 # \\~\n ~ \\\\ \\# \\x }";
    assert_eq!(one(five).text, "Which equals 5? {}");
    assert_eq!(choices(five), ["= 2 + 2", "*= 2 + 3", "\\ # \\x"]);
    let html = "[html]<p>10<sup>6</sup> H<sub>2</sub>O,\n  &amp; caf&eacute;&nbsp;&#33;</p><br/>e<sup>x+1</sup>{\
        =[plain]<b>a</b> ~<b class\\=\"x\">b</b> ~a < b and c > d ~List<String> &who;}";
    assert_eq!(one(html).text, "10⁶ H₂O, & café !\n\ne^(x+1)");
    assert_eq!(choices(html), ["*<b>a</b>", "b", "a < b and c > d", "List<String> &who;"]);
    assert_eq!(
        notes(html),
        [
            "line 1: an entity (&name;) that is not known here is kept as it is written",
            "line 1: markup stripped from the text",
        ]
    );
    assert_eq!(one("[markdown]Who is **he**?{T}").text, "Who is **he**?");
    assert_eq!(one("[a] or [b]?{T}").text, "[a] or [b]?");
    assert_eq!(
        refusal("Q{=a\n~<img src\\=\"x\">}"),
        "line 2, column 1: the text holds <img>; only text can be shown"
    );
    assert_eq!(refusal("<!-- x {T}"), "line 1: the HTML comment <!-- is not closed");
    assert!(refusal("Q{=caf&#233; ~b}").starts_with("line 1, column 8: in an answer, the # of a character"));
}

#[test]
fn files_of_many_questions() {
    let text = "\u{feff}// comment\r\n$CATEGORY: $course$/Geo\r\n::T::A{T}\r\n// {\r\n\r\n\r\n$CATEGORY: x\r\n\r\n\
        ::U::B{T#f}\r\n  \r\nC{F#f}";
    let imported = read(text).unwrap();
    let texts: Vec<_> = imported.source.questions.iter().map(|q| (q.id.as_str(), q.text.as_str())).collect();
    assert_eq!(texts, [("q1", "A"), ("q2", "B"), ("q3", "C")]);
    assert_eq!(
        notes(text),
        [
            "line 2: categories are not kept (also line 7)",
            "line 3: question titles are not kept (also line 9)",
            "line 9: feedback is not kept (also line 11)",
        ]
    );
}

#[test]
fn what_is_not_supported_yet_says_so_by_line() {
    let text =
        "only words\nand more\n\nessay {}\n\n  essay {####general}\n\nmatch {=a -> b\n=c -> d}\n\nfine{T}\n";
    assert_eq!(
        refusal(text),
        "line 1: a text without answers (a description) is not supported yet\n\
         line 4: essay questions (empty braces) are not supported yet\n\
         line 6: essay questions (empty braces) are not supported yet\n\
         line 8: matching questions (=a -> b) are not supported yet"
    );
}

#[test]
fn what_is_written_wrongly_is_placed_by_line_and_column() {
    for (text, complaint) in [
        (
            "Q{=a ~b\n\n~c}",
            "line 1, column 2: this { is not closed before the blank line or the end of the file\n\
            line 3, column 3: this } closes nothing; as a plain character it is written \\}",
        ),
        ("\t Q }{", "line 1, column 5: this } closes nothing; as a plain character it is written \\}"),
        ("Q{=a{ ~b}", "line 1, column 5: a { inside the answers is written \\{"),
        (
            "Q{T}\nR{F}",
            "line 2, column 2: a question has one pair of braces; leave a blank line between questions",
        ),
        ("::Q{T}", "line 1, column 1: the title that begins with :: does not end with ::"),
        ("::t::{T}", "line 1: the question has no text"),
        ("Q{=a}\n$CATEGORY: x", "line 2: leave a blank line before $CATEGORY"),
        ("Q{~a}", "line 1, column 3: a choice needs 2 answers, and this question has 1"),
        ("Q{~a ~b}", "line 1, column 3: no choice is right: none begins with = or has a positive weight"),
        (
            "Q{=a =b ~c}",
            "line 1, column 3: several choices begin with =, and one right choice is all that this \
            version takes",
        ),
        ("Q{=a ~ ~c}", "line 1, column 6: the answer is empty"),
        ("Q{=a ~<b></b> ~c}", "line 1, column 6: the answer is empty"),
        ("Q{x =a ~c}", "line 1, column 3: an answer begins with = or ~, and this text has neither"),
        ("Q{=a ~a}", "line 1, column 6: the choice \"a\" is both right and wrong"),
        ("Q{=a =a ~b ~b ~b =b}", "line 1, column 18: the choice \"b\" is both right and wrong"),
    ] {
        assert_eq!(refusal(text), complaint, "{text:?}");
    }
    assert_eq!(notes("Q{=a ~b ~b}"), ["line 1: repeated choice \"b\" dropped"]);
}
