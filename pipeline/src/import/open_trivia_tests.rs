//! OpenTriviaQA: the six real files whole, and small files that are wrong in one way each.

use operators::definition::{Definition, Kind};

use super::*;

fn read(text: &str) -> Result<Imported, Complaints> {
    import(text.as_bytes(), Format::OpenTriviaQa, &Options::default())
}

fn refusals(text: &str) -> Vec<String> {
    read(text).unwrap_err().list.iter().map(Complaint::to_string).collect()
}

pub(super) fn real(name: &str) -> Vec<u8> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/opentriviaqa/");
    std::fs::read(format!("{directory}{name}")).unwrap()
}

pub(super) const REAL: [&str; 6] =
    ["animals", "for-kids", "geography", "history", "science-technology", "video-games"];

#[test]
fn the_real_files_import_whole_without_leaving_anything_out() {
    // Counted by a regular expression over the whole file, in Python: questions, choices after dropping repetitions,
    // the sum of the places (from 1) of the keys, questions of several lines, and characters of all texts.
    for (name, questions, choices, keys, several_lines, characters) in [
        ("animals", 1366, 4765, 3076, 3, 159_826),
        ("for-kids", 759, 2700, 1710, 22, 109_636),
        ("geography", 842, 3240, 2026, 9, 115_396),
        ("history", 1645, 6196, 4031, 21, 288_488),
        ("science-technology", 2486, 9188, 5924, 5, 359_859),
        ("video-games", 599, 2109, 1377, 4, 70_852),
    ] {
        let bytes = real(name);
        let format = Format::detect(name, &bytes).unwrap();
        let imported = import(&bytes, format, &Options::default()).unwrap();
        let all = &imported.source.questions;
        let place = |q: &operators::definition::QuestionSource| {
            1 + q.choices.iter().position(|choice| Some(&choice.id) == q.key.choice.as_ref()).unwrap()
        };
        let texts = all.iter().flat_map(|q| q.choices.iter().map(|choice| &choice.text).chain([&q.text]));
        let found = (
            all.len(),
            all.iter().map(|q| q.choices.len()).sum::<usize>(),
            all.iter().map(place).sum::<usize>(),
            all.iter().filter(|q| q.text.contains('\n')).count(),
            texts.map(|text| text.chars().count()).sum::<usize>(),
        );
        assert_eq!(found, (questions, choices, keys, several_lines, characters), "{name}");
        assert_eq!((imported.skipped, imported.notes_more), (0, 0), "{name}");
        let skipping = Options { skip_bad: true, ..Options::default() };
        assert_eq!(import(&bytes, format, &skipping).unwrap(), imported, "{name}");
        assert!(Definition::new(imported.source).is_ok(), "{name}");
    }
}

#[test]
fn the_real_files_leniencies_are_noted_by_line() {
    let notes = |name: &str| {
        let imported = import(&real(name), Format::OpenTriviaQa, &Options::default()).unwrap();
        imported.notes.iter().map(Note::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        notes("geography"),
        [
            "line 2014: repeated option \"The Lonely Sea\" dropped",
            "line 4379: repeated option \"Off the Southeast Coast of South America\" dropped",
        ]
    );
    assert_eq!(
        notes("history"),
        [
            "line 432: not UTF-8, so read as Windows-1252",
            "line 1698: UTF-8 with damaged characters, which were read as Windows-1252: look at the text \
             (also line 4268)",
        ]
    );
    assert_eq!(
        notes("video-games"),
        [
            "line 718: repeated option \"Zealot\" dropped",
            "line 1199: not UTF-8, so read as Windows-1252 (also line 1206)",
        ]
    );
    // Line 432 is in question 64, counted with grep.
    let first = |limit| {
        let options = Options { limit: Some(limit), ..Options::default() };
        import(&real("history"), Format::OpenTriviaQa, &options).unwrap().notes.len()
    };
    assert_eq!((first(64 - 1), first(64)), (0, 1));
    let history = import(&real("history"), Format::OpenTriviaQa, &Options::default()).unwrap();
    let tank = history
        .source
        .questions
        .iter()
        .flat_map(|q| &q.choices)
        .find(|c| c.text.starts_with("Sturmpanzer IV"));
    assert_eq!(tank.unwrap().text, "Sturmpanzer IV Brummbär");
}

#[test]
fn a_question_keeps_its_lines_and_its_options_their_order() {
    let text = "\u{feff}\r\n#Q Solve:\r\n\r\n  4x+4=12 \r\nA is what?\r\n^ 2\r\nA 1\r\nB 2\r\n\r\nC 3\r\n";
    let imported = read(text).unwrap();
    let q = &imported.source.questions[0];
    assert_eq!((q.id.as_str(), q.kind), ("q1", Kind::SingleChoice));
    assert_eq!(q.text, "Solve:\n\n4x+4=12\nA is what?");
    let choices: Vec<_> = q.choices.iter().map(|choice| (choice.id.as_str(), choice.text.as_str())).collect();
    assert_eq!(choices, [("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(q.key.choice.as_ref().unwrap().as_str(), "b");
    assert_eq!(imported.notes, []);
}

#[test]
fn a_key_is_found_leniently_but_never_guessed() {
    let found = |key: &str, options: &str| {
        let imported = read(&format!("#Q ?\n^ {key}\n{options}"))?;
        let key = imported.source.questions[0].key.choice.clone().unwrap();
        let note = imported.notes.first().map(|note| (note.line, note.text.clone()));
        Ok::<_, Complaints>((key.as_str().to_owned(), note))
    };
    let note = |leniency: &str| Some((2, format!("the key matches an option only after {leniency}")));
    assert_eq!(found("x", "A X\nB x"), Ok(("b".to_owned(), None)));
    assert_eq!(found("x ", "A y\nB  x"), Ok(("b".to_owned(), note("trimming"))));
    assert_eq!(found("THE  end", "A y\nB The end"), Ok(("b".to_owned(), note("trimming and case folding"))));
    assert_eq!(found("“Dont”.", "A Do\nB Don't"), Ok(("b".to_owned(), note("normalising punctuation"))));
    assert_eq!(found("−3/2", "A 3/2\nB -3/2"), Ok(("b".to_owned(), note("normalising punctuation"))));
    for (key, options, complaint) in [
        ("US", "A us\nB Us", "line 2: the key \"US\" could be option \"us\" or option \"Us\""),
        ("-1", "A 1\nB 0", "line 2: the key \"-1\" is none of the options \"1\", \"0\""),
        ("1.23", "A 12.3\nB 123", "line 2: the key \"1.23\" is none of the options \"12.3\", \"123\""),
        ("?", "A !\nB .", "line 2: the key \"?\" is none of the options \"!\", \".\""),
    ] {
        assert_eq!(found(key, options).unwrap_err().to_string(), complaint);
    }
}

#[test]
fn each_complaint_names_its_line() {
    let text = "stray\n\
        #Q no key\n\nA a\nB b\n\
        #Q two keys\n^ a\n^ b\nA a\nB b\n\
        #Q\n^ a\nA a\nB b\n\
        #Q gap\n^ a\nA a\nC b\n\
        #Q five\n^ a\nA a\nB b\nC c\nD d\nE e\n\
        #Q one\n^ a\nA a\nB a\n\
        #Q wrapped\n^ a\nA a\nand more\nB b\n\
        #Q empty\n^ a\nA a\nB \n\
        #Q keyless\n^\nA a\nB b\n\
        #Q good\n^ a\nA a\nB b\n";
    assert_eq!(
        refusals(text),
        [
            "line 1: this line belongs to no question; a question begins with \"#Q \"",
            "line 2: the question has no key, which is a line that begins with \"^ \"",
            "line 8: a second key; line 7 has the first",
            "line 11: the question has no text",
            "line 18: option B belongs here, not option C",
            "line 25: a question has at most 4 options",
            "line 26: a choice needs 2 options, and this question has 1",
            "line 33: this line is no option; an option is a capital letter, a space and a text",
            "line 38: the option is empty",
            "line 40: the key is empty",
        ]
    );
    let options = Options { skip_bad: true, ..Options::default() };
    let imported = import(text.as_bytes(), Format::OpenTriviaQa, &options).unwrap();
    assert_eq!((imported.source.questions.len(), imported.skipped), (1, 10));
    assert_eq!(
        (imported.source.questions[0].id.as_str(), imported.source.questions[0].text.as_str()),
        ("q1", "good")
    );
    assert_eq!(
        imported.notes[2].to_string(),
        "line 8: question left out: a second key; line 7 has the first"
    );
}

#[test]
fn what_only_the_rules_refuse_is_named_by_line_too() {
    let text = format!("#Q a\n^ a\nA a\nB b\n\n#Q {}\n^ a\nA a\nB b\0\n", "x".repeat(4_001));
    assert_eq!(
        refusals(&text),
        [
            "line 6: the question that begins here: text has more than 4000 characters",
            "line 6: the question that begins here: choices/1/text holds a NUL character",
        ]
    );
}
