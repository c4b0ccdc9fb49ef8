//! The importers as a whole: formats, options, bounds, and bytes that nobody meant as a quiz.

use std::time::{Duration, Instant};

use operators::definition::Definition;
use proptest::prelude::*;

use super::draft::random;
use super::open_trivia_tests::{REAL, real};
use super::*;

/// GIFT as Moodle's manual writes it, with something of everything.
const GIFT: &str = "// c\n$CATEGORY: a/b\n\n::T::[html]Who is <b>x</b>&amp;?{~%50%a#f ~%50%b ~%-100%[plain]c \\= \\~\n####g}\n\n\
    N {#=3.14:0.01 =%0%2#x ~#no}\n\nR{#1..5}.\n\nS is {=%100%a\\*b =c} y\n\nF{FALSE#w#r}\n\nM{=a -> b}\n\nE{}\n\nD\n";

fn quiz(count: usize) -> String {
    (1..=count).map(|n| format!("#Q {n}\n^ a\nA a\nB b\n")).collect()
}

fn texts(text: &str, options: &Options) -> Vec<String> {
    let imported = import(text.as_bytes(), Format::OpenTriviaQa, options).unwrap();
    imported.source.questions.into_iter().map(|q| q.text).collect()
}

#[test]
fn formats_are_known_by_name_extension_and_content() {
    for format in Format::ALL {
        assert_eq!(format.name().to_uppercase().parse(), Ok(format));
    }
    assert_eq!(
        "csv".parse::<Format>().unwrap_err().to_string(),
        "no format is called \"csv\"; the formats are opentriviaqa and gift"
    );
    for name in REAL {
        assert_eq!(Format::detect(name, &real(name)), Some(Format::OpenTriviaQa));
    }
    assert_eq!(Format::detect("quiz.GIFT", b""), Some(Format::Gift));
    assert_eq!(Format::detect("quiz.txt", GIFT.as_bytes()), Some(Format::Gift));
    assert_eq!(Format::detect("quiz.txt", b"\xef\xbb\xbf\r\n#Q a\r\n"), Some(Format::OpenTriviaQa));
    for other in ["{\"title\": {}}", "[\n {\"a\": {}}]", "<?xml {}?>", "", "hello", "\u{feff}{}"] {
        assert_eq!(Format::detect("quiz", other.as_bytes()), None, "{other}");
    }
}

#[test]
fn settings_reach_every_question() {
    let host = import(quiz(2).as_bytes(), Format::OpenTriviaQa, &Options::default()).unwrap().source;
    assert_eq!((host.title.as_str(), host.pace, host.sections), ("Imported quiz", Pace::Host, 1));
    for q in &host.questions {
        assert_eq!(
            (q.award, q.time_limit_ms, q.points),
            (Award::Kahoot1, Some(20_000), Decimal::from(1_000))
        );
    }
    let title = Some("Capitals".to_owned());
    let options = Options { title, pace: Pace::Free, points: Decimal::TWO, ..Options::default() };
    let free = import(quiz(1).as_bytes(), Format::OpenTriviaQa, &options).unwrap().source;
    assert_eq!(free.title, "Capitals");
    let q = &free.questions[0];
    assert_eq!((q.award, q.time_limit_ms, q.points), (Award::Flat1, None, Decimal::TWO));
    // The JSON form is what a host would have written by hand.
    let json = serde_json::to_string(&free).unwrap();
    assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), free);
}

#[test]
fn wrong_options_are_told_once_without_a_line() {
    let options =
        Options { title: Some(" ".to_owned()), points: Decimal::NEGATIVE_ONE, ..Options::default() };
    let complaints = import(quiz(3).as_bytes(), Format::OpenTriviaQa, &options).unwrap_err();
    let said = "the option title: must not be empty\nthe option points: must be 0 to 1000000";
    assert_eq!(complaints.to_string(), said);
    let options =
        Options { pace: Pace::Free, award: Some(Award::Kahoot1), limit: Some(0), ..Options::default() };
    assert_eq!(import(b"", Format::Gift, &options).unwrap_err().list.len(), 2);
}

#[test]
fn a_limit_takes_the_first_and_looks_no_further() {
    let text = format!("{}#Q bad\n{}", quiz(2), quiz(1));
    let limit = |limit, skip_bad| Options { limit: Some(limit), skip_bad, ..Options::default() };
    assert_eq!(texts(&text, &limit(2, false)), ["1", "2"]);
    assert!(import(text.as_bytes(), Format::OpenTriviaQa, &limit(3, false)).is_err());
    assert_eq!(texts(&text, &limit(3, true)), ["1", "2", "1"]);
    assert_eq!(texts(&text, &limit(9, true)).len(), 3);
}

#[test]
fn a_sample_is_a_fair_draw_that_can_be_repeated() {
    let sample = |count, seed| Options { sample: Some(Sample { count, seed }), ..Options::default() };
    assert_eq!(texts(&quiz(10), &sample(3, 7)), texts(&quiz(10), &sample(3, 7)));
    assert_eq!(texts(&quiz(3), &sample(9, 7)), ["1", "2", "3"]);
    let mut drawn = [0u32; 10];
    for seed in 0..1_000 {
        let texts = texts(&quiz(10), &sample(3, seed));
        let numbers: Vec<usize> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.len() == 3 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        numbers.iter().for_each(|number| drawn[number - 1] += 1);
    }
    // 300 each are expected, with a standard deviation of 14.5.
    assert!(drawn.iter().all(|count| (240..360).contains(count)), "{drawn:?}");
}

#[test]
fn complaints_and_notes_are_bounded_and_counted() {
    let complaints =
        import("#Q x\n".repeat(75).as_bytes(), Format::OpenTriviaQa, &Options::default()).unwrap_err();
    assert_eq!((complaints.list.len(), complaints.more), (limits::PROBLEMS_MAX, 25));
    assert_eq!(complaints.list[49].line, Some(50));
    assert!(complaints.to_string().ends_with("\nand 25 more"));
    let skip = Options { skip_bad: true, ..Options::default() };
    let different: String = (0..250).map(|n| format!("#Q x\n^ {n}\nA a\nB b\n")).collect();
    let imported = import((different + &quiz(1)).as_bytes(), Format::OpenTriviaQa, &skip).unwrap();
    assert_eq!((imported.notes.len(), imported.notes_more, imported.skipped), (NOTES_MAX, 50, 250));
    let same = "#Q x\n".repeat(9) + &quiz(1);
    let imported = import(same.as_bytes(), Format::OpenTriviaQa, &skip).unwrap();
    assert_eq!(imported.notes.len(), 1);
    assert!(
        imported.notes[0].text.ends_with("(also lines 2, 3, 4, 5, 6 and 3 more)"),
        "{}",
        imported.notes[0]
    );
}

#[test]
fn sizes_are_bounded() {
    let refusal = |bytes: &[u8], format| import(bytes, format, &Options::default()).unwrap_err().to_string();
    let large = vec![b'x'; INPUT_BYTES_MAX + 1];
    for format in Format::ALL {
        assert_eq!(refusal(&large, format), "the file has 16777217 bytes; at most 16777216 are read");
        assert_eq!(refusal(b"", format), "the file holds no question that can be imported");
    }
    let many = quiz(limits::QUESTIONS_MAX + 1);
    assert_eq!(
        refusal(many.as_bytes(), Format::OpenTriviaQa),
        "line 16385: question 4097 begins here; a quiz takes at most 4096, so limit or sample"
    );
    let limit = Options { limit: Some(limits::QUESTIONS_MAX), ..Options::default() };
    assert_eq!(texts(&many, &limit).len(), limits::QUESTIONS_MAX);
    let long = format!("\n\n{}{{T}}\n\nQ{{T}}", "x\n".repeat(300_000));
    assert_eq!(
        refusal(long.as_bytes(), Format::Gift),
        "line 3: the question that begins here has more than 524288 bytes"
    );
    let flood = "#Q\n".repeat(FILE_QUESTIONS_MAX + 1);
    let options = Options { skip_bad: true, ..Options::default() };
    let complaints = import(flood.as_bytes(), Format::OpenTriviaQa, &options).unwrap_err();
    assert_eq!(
        complaints.list[0].to_string(),
        "line 65537: the file has more than 65536 questions; split it, or set a limit"
    );
    assert_eq!(complaints.list.len(), limits::PROBLEMS_MAX);
}

#[test]
fn hostile_files_take_linear_time() {
    // 32 times less than is read, so that the test stays short without optimisation.
    const FILE_BYTES: usize = INPUT_BYTES_MAX / 32;
    let unit = |unit: &str| unit.repeat(FILE_BYTES / unit.len());
    let block = 500 * 1024;
    // One question just below its own bound, over and over: what is quadratic in a question shows here.
    let blocks = |unit: &str| {
        let one = format!("{}{{=a ~b}}\n\n", unit.repeat(block / unit.len()));
        one.repeat(FILE_BYTES / one.len())
    };
    let files = [
        unit("\n"),
        unit("{"),
        unit("}"),
        unit("{\n\n"),
        unit("~%"),
        unit("::"),
        unit("#"),
        unit("\\"),
        unit("a{T}\n\n"),
        unit("#Q a\n^ b\n"),
        unit("^ "),
        unit("A \n"),
        unit("#Q"),
        unit("\u{fffd}"),
        blocks("<"),
        blocks("<b "),
        blocks("<!--"),
        blocks("&"),
        blocks("&#1"),
        blocks("<sup>"),
        blocks("\\n<p>"),
    ];
    for file in &files {
        for format in Format::ALL {
            let start = Instant::now();
            let read = import(file.as_bytes(), format, &Options::default());
            // Linear takes under a second even without optimisation, quadratic takes minutes.
            assert!(start.elapsed() < Duration::from_secs(20), "{format}: {:?}", &file[..9]);
            assert!(read.is_err(), "{format}: {:?}", &file[..9]);
        }
    }
    // Bytes of every value, none of them UTF-8.
    let bytes = vec![0x93; INPUT_BYTES_MAX];
    assert!(import(&bytes, Format::Gift, &Options::default()).is_err());
}

/// Imports in both ways, and holds what comes out against what is promised of it.
fn holds(bytes: &[u8], format: Format) {
    for skip_bad in [false, true] {
        match import(bytes, format, &Options { skip_bad, ..Options::default() }) {
            Ok(imported) => {
                assert!(skip_bad || imported.skipped == 0);
                assert!(
                    imported.notes.len() <= NOTES_MAX && imported.notes.is_sorted_by_key(|note| note.line)
                );
                Definition::new(imported.source).unwrap();
            }
            Err(complaints) => {
                assert!((1..=limits::PROBLEMS_MAX).contains(&complaints.list.len()));
                let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
                for complaint in &complaints.list {
                    assert!(complaint.line.is_none_or(|line| (1..=lines).contains(&line)), "{complaint}");
                    assert!(
                        !complaint.text.contains('\n') && complaint.text.chars().count() < 500,
                        "{complaint}"
                    );
                }
            }
        }
    }
}

#[test]
fn damaged_real_files_are_imported_or_refused_but_never_break() {
    // Characters that mean something in either format, so that damage goes deep.
    const MEANING: &[u8] = b"#Q^ABCD \r\n{}=~%#:\\<>&;/-.$[]\0\x80\xff\xe2";
    let gift = GIFT.repeat(4).into_bytes();
    for seed in 0..60u64 {
        let mut state = seed;
        let mut pick = |below: usize| (random(&mut state) % below as u64) as usize;
        let name = REAL[pick(REAL.len())];
        let whole = real(name);
        // A part of the file: damage at many seeds is worth more than size.
        let start = pick(whole.len() - 20_000);
        for (mut bytes, format) in
            [(whole[start..start + 20_000].to_vec(), Format::OpenTriviaQa), (gift.clone(), Format::Gift)]
        {
            for _ in 0..1 + pick(40) {
                let at = pick(bytes.len());
                match pick(4) {
                    0 => bytes[at] = MEANING[pick(MEANING.len())],
                    1 => bytes.insert(at, MEANING[pick(MEANING.len())]),
                    2 => drop(bytes.remove(at)),
                    _ => drop(bytes.drain(at..(at + pick(50)).min(bytes.len()))),
                }
            }
            for format in [format, Format::Gift] {
                holds(&bytes, format);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_imported_or_refused(bytes: Vec<u8>) {
        for format in Format::ALL {
            Format::detect("", &bytes);
            holds(&bytes, format);
        }
    }

    #[test]
    fn any_words_of_the_formats_are_imported_or_refused(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "=", "~", "%50%", "%100%", "%-5%", "#", "####", "::", ":", "..", "->", "\\", "\\n", "T", "1", "a",
            "<sup>", "</sup>", "<b>", "<img>", "&amp;", "&#", ";", "[html]", "\n", "\n\n", "//", "$CATEGORY:", " ", "*",
            "#Q ", "\n#Q ", "\n^ ", "\nA ", "\nB ", "é", "\0", "e9", "-", "{=a ~b}", "Q{", "}\n\n",
        ]), 0..60),
    ) {
        for format in Format::ALL {
            holds(words.concat().as_bytes(), format);
        }
    }
}
