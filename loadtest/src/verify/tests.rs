//! The audit on hand-made runs: what must be equal is, and each planted fault is found.

use std::collections::HashMap;

use rust_decimal::Decimal;

use super::compare::{Books, Differences, Member, Row, compare_board, compare_books, compare_questions};
use super::ledger::Submission;
use super::recount::{Judged, Record, Recount, Standing, Timing, Window, explain, kahoot, ranks, recount};
use crate::quiz::{Asked, Award, Pace, Paper};

const OPENED: u64 = 1_000_000;
const CLOSES: u64 = 1_020_000;

fn paper(award: Award) -> Paper {
    let asked =
        |index| Asked { id: format!("q{index}"), points: 1_000, limit_ms: Some(20_000), award, key: 1 };
    let pace = if award == Award::Kahoot { Pace::Host } else { Pace::Free };
    Paper { pace, questions: (1..=2).map(asked).collect(), choices: vec!["a", "b"], boost: None }
}

fn timing() -> Timing {
    Timing { quiz: Some(Window { opened_at: OPENED, closes_at: CLOSES }), questions: HashMap::new() }
}

/// A record: submission, participant, question, choice, milliseconds after the opening, position.
fn record(submission: u32, player: u32, question: u16, choice: u8, after_ms: i64, position: &str) -> Record {
    let content = Submission { player, question, choice };
    let received_at = OPENED.checked_add_signed(after_ms).unwrap();
    Record { submission, content, received_at, position: position.parse().unwrap() }
}

fn count(award: Award, records: &mut [Record]) -> (Recount, Differences) {
    let mut differences = Differences::default();
    let recount = recount(&paper(award), &timing(), records, &mut differences);
    (recount, differences)
}

/// Three participants: 0 and 1 right in the same time, 2 wrong; one repeat, one late answer.
fn run() -> Vec<Record> {
    vec![
        record(0, 0, 0, 1, 2_000, "0-10"),
        record(1, 1, 0, 1, 2_000, "0-11"),
        record(2, 2, 0, 0, 1_000, "0-9"),
        record(3, 0, 0, 0, 3_000, "0-12"),
        record(4, 2, 1, 1, 20_001, "0-13"),
    ]
}

#[test]
fn the_first_valid_answer_in_the_log_wins_not_the_first_received() {
    // The later place was acknowledged and received first; a million-digit place would compare the same way.
    let mut records = [record(0, 0, 0, 1, 10, "0-100"), record(1, 0, 0, 0, 500, "0-99")];
    let (recount, _) = count(Award::Flat, &mut records);
    assert_eq!(records[0].submission, 1);
    assert_eq!(recount.judged, [Judged::Counted { points: 0, correct: false }, Judged::Repeated]);
}

#[test]
fn the_closing_millisecond_is_in_time_and_the_next_is_late() {
    let mut records = [
        record(0, 0, 0, 1, 20_000, "0-1"),
        record(1, 1, 0, 1, 20_001, "0-2"),
        record(2, 2, 0, 1, 0, "0-3"),
        record(3, 3, 0, 1, -1, "0-4"),
    ];
    let (recount, _) = count(Award::Flat, &mut records);
    let right = Judged::Counted { points: 1_000, correct: true };
    assert_eq!(recount.judged, [right, Judged::Late, right, Judged::TooEarly]);
}

#[test]
fn a_late_answer_does_not_use_up_the_question_but_a_counted_one_does() {
    // A gateway whose clock ran ahead: the answer after it in the log was received in time.
    let mut records = [
        record(0, 0, 0, 1, 20_005, "0-1"),
        record(1, 0, 0, 1, 19_999, "0-2"),
        record(2, 0, 0, 1, 20_006, "0-3"),
    ];
    let (recount, _) = count(Award::Flat, &mut records);
    let right = Judged::Counted { points: 1_000, correct: true };
    assert_eq!(recount.judged, [Judged::Late, right, Judged::Repeated]);
}

#[test]
fn kahoot_gives_the_published_points() {
    for (taken_ms, limit_ms, points) in [
        (2_000, 30_000, 967),
        (400, 20_000, 1_000),
        (500, 20_000, 988),
        (20_000, 20_000, 500),
        (500, 5_000, 950),
        (1_285, 5_000, 872),
        (5_000, 20_000, 875),
        (25_000, 20_000, 500),
        (0, 20_000, 1_000),
    ] {
        assert_eq!(kahoot(taken_ms, limit_ms, 1_000), points, "{taken_ms} of {limit_ms}");
    }
    assert_eq!(kahoot(1_000, 20_000, 0), 0);
}

#[test]
fn time_is_taken_from_the_window_of_the_question() {
    let mut timing = timing();
    timing.questions.insert(0, Window { opened_at: OPENED + 5_000, closes_at: CLOSES });
    let mut records = [record(0, 0, 0, 1, 7_000, "0-1"), record(1, 0, 1, 1, 7_000, "0-2")];
    let mut differences = Differences::default();
    let recount = recount(&paper(Award::Kahoot), &timing, &mut records, &mut differences);
    // 2 s of 20 s: (1 - 0.05) * 1000. The other question was never opened.
    assert_eq!(recount.judged, [Judged::Counted { points: 950, correct: true }, Judged::TooEarly]);
    let last_correct_at = OPENED + 7_000;
    let expected = Standing { points: 950, correct: 1, time_ms: 2_000, last_correct_at };
    assert_eq!(recount.standings[&0], expected);
}

#[test]
fn equals_share_a_rank_and_the_next_rank_stays_empty() {
    let standing = |points, time_ms| Standing { points, correct: 1, time_ms, last_correct_at: 5 };
    let mut standings = [
        (0, standing(41, 9)),
        (1, standing(44, 9)),
        (2, standing(42, 9)),
        (3, standing(42, 9)),
        (4, standing(41, 8)),
    ];
    assert_eq!(ranks(&mut standings), [1, 2, 2, 4, 5]);
    assert_eq!(standings.map(|(player, _)| player), [1, 2, 3, 4, 0]);
}

#[test]
fn one_place_for_two_submissions_is_found() {
    let mut records = [record(0, 0, 0, 1, 1, "0-7"), record(1, 1, 0, 1, 1, "0-7")];
    assert_eq!(count(Award::Flat, &mut records).1.total, 1);
    let mut records = [record(0, 0, 0, 1, 1, "0-7"), record(1, 1, 0, 1, 1, "1-7")];
    assert_eq!(count(Award::Flat, &mut records).1.total, 0);
    let mut records = [record(0, 0, 0, 1, 1, "0-7"), record(1, 0, 1, 1, 1, "1-8")];
    assert_eq!(count(Award::Flat, &mut records).1.total, 1, "a participant that changed partition");
}

fn members() -> Vec<Member> {
    let member = |player: u32| Member { player, id: format!("{player:032x}"), name: format!("p{player}") };
    (0..3).map(member).collect()
}

/// The board that a right gateway shows for [`run`].
fn board() -> Vec<Row> {
    let row = |rank, player: u32, points: i64, correct, time_ms, last_correct_at| Row {
        rank,
        participant: format!("{player:032x}"),
        name: format!("p{player}"),
        points: Decimal::from(points),
        correct,
        time_ms,
        last_correct_at,
    };
    let at = OPENED + 2_000;
    vec![row(1, 1, 1_000, 1, 2_000, at), row(1, 0, 1_000, 1, 2_000, at), row(3, 2, 0, 0, 0, 0)]
}

fn books() -> Books {
    let mut books = Books { received: 5, counted: 3, repeated: 1, late: 1, ..Books::default() };
    (books.points_awarded, books.points_ranked) = (Decimal::from(2_000), Decimal::from(2_000));
    let first = Books { received: 4, counted: 3, repeated: 1, ..Books::default() };
    let second = Books { received: 1, late: 1, ..Books::default() };
    books.questions = HashMap::from([("q1".to_owned(), first), ("q2".to_owned(), second)]);
    books
}

fn check(board: &[Row], books: &Books, extra: u64) -> Differences {
    let mut records = run();
    let (recount, mut differences) = count(Award::Flat, &mut records);
    compare_board(&recount, &members(), board, &mut differences);
    compare_books(&recount, extra, books, &mut differences);
    compare_questions(&recount, &["q1", "q2"], extra, books, &mut differences);
    differences
}

#[test]
fn a_right_gateway_passes() {
    let differences = check(&board(), &books(), 0);
    assert_eq!(differences.total, 0, "{:?}", differences.shown);
}

#[test]
fn every_planted_fault_of_the_board_is_found() {
    type Plant = fn(&mut Vec<Row>);
    let plants: [(&str, Plant); 11] = [
        ("one point too many", |board| board[0].points += Decimal::ONE),
        ("a lost answer", |board| board[1].correct = 0),
        ("a millisecond of time", |board| board[0].time_ms += 1),
        ("a millisecond of the last correct", |board| board[1].last_correct_at -= 1),
        ("a last correct of somebody who has none", |board| board[2].last_correct_at = OPENED),
        ("equals told apart", |board| board[1].rank = 2),
        ("a dense rank", |board| board[2].rank = 2),
        ("a missing row", |board| drop(board.pop())),
        ("a row twice", |board| board[1] = board[0].clone()),
        ("a stranger", |board| board[2].participant = "f".repeat(32)),
        ("another order", |board| board.swap(0, 2)),
    ];
    for (what, plant) in plants {
        let mut board = board();
        plant(&mut board);
        assert!(check(&board, &books(), 9).total > 0, "{what} was not found");
    }
}

#[test]
fn a_wrong_total_is_told_before_the_ranks_that_it_moved_and_is_explained() {
    let mut board = board();
    board[0].points = Decimal::from(2_000);
    (board[0].rank, board[1].rank) = (1, 2);
    let mut records = run();
    let (recount, mut differences) = count(Award::Flat, &mut records);
    compare_board(&recount, &members(), &board, &mut differences);
    assert!(differences.shown[0].contains("the points of p1"), "{:?}", differences.shown);
    assert!(differences.shown[1].contains("the rank of p0"), "{:?}", differences.shown);
    assert_eq!(differences.take_players(), [1]);
    let lines = explain(&paper(Award::Flat), &timing(), &records, &recount, 2);
    assert_eq!(
        lines[1],
        "p2 q2, received 20001 ms after its opening, -1 ms to its closing, in partition 0 at Small(13): must be Late"
    );
}

#[test]
fn every_planted_fault_of_the_books_is_found() {
    type Plant = fn(&mut Books);
    let plants: [(&str, Plant); 12] = [
        ("received alone", |books| books.received += 1),
        ("counted twice", |books| (books.counted, books.received) = (4, 6)),
        ("one lost", |books| (books.counted, books.received) = (2, 4)),
        ("a repeat lost", |books| (books.repeated, books.received) = (0, 4)),
        ("a repeat from nowhere", |books| (books.repeated, books.received) = (2, 6)),
        ("late moved to repeated", |books| (books.repeated, books.late) = (2, 0)),
        ("too early", |books| (books.too_early, books.received) = (1, 6)),
        ("rejected", |books| {
            books.rejected.insert("wrong_shape".to_owned(), 1);
            books.received = 6;
        }),
        ("in flight", |books| (books.in_flight, books.received) = (1, 6)),
        ("awarded", |books| books.points_awarded += Decimal::ONE),
        ("ranked", |books| books.points_ranked -= Decimal::ONE),
        ("a question's counted", |books| books.questions.get_mut("q1").unwrap().counted = 2),
    ];
    for (what, plant) in plants {
        let mut books = books();
        plant(&mut books);
        assert!(check(&board(), &books, 0).total > 0, "{what} was not found");
    }
}

#[test]
fn unanswered_requests_explain_repeats_and_late_answers_and_no_more() {
    let mut more = books();
    (more.repeated, more.late, more.received) = (2, 2, 7);
    more.questions.get_mut("q1").unwrap().repeated = 2;
    more.questions.get_mut("q2").unwrap().late = 2;
    assert_eq!(check(&board(), &more, 2).total, 0);
    assert!(check(&board(), &more, 1).total > 0);
    let mut counted = books();
    (counted.counted, counted.received) = (4, 6);
    assert!(check(&board(), &counted, 5).total > 0, "what counts is known exactly");
}

#[test]
fn many_differences_are_all_counted_and_the_first_are_shown() {
    let mut differences = Differences::default();
    differences.about("load-1");
    for nth in 0..50 {
        differences.add(|| format!("number {nth}"));
    }
    assert_eq!((differences.total, differences.shown.len()), (50, 20));
    assert_eq!(differences.shown[0], "load-1: number 0");
}

#[test]
fn rows_and_books_are_read_as_the_gateway_writes_them() {
    let row: Row = serde_json::from_str(
        r#"{"rank": 1, "participant": "ab", "name": "Ana", "points": "967.5", "correct": 1, "time_ms": 2000,
            "last_correct_at": "2026-11-20T10:00:02.001Z", "moved": 3}"#,
    )
    .unwrap();
    assert_eq!((row.points.to_string().as_str(), row.last_correct_at), ("967.5", 1_795_168_802_001));
    let row: Row = serde_json::from_str(
        r#"{"rank": 1, "participant": "ab", "name": "A", "points": "0", "correct": 0, "time_ms": 0, "last_correct_at": null}"#,
    )
    .unwrap();
    assert_eq!(row.last_correct_at, 0);
    let books: Books = serde_json::from_str(
        r#"{"received": 3, "counted": 2, "repeated": 1, "late": 0, "too_early": 0, "rejected": {}, "in_flight": 0,
            "points_awarded": "2000", "points_ranked": "2000.0",
            "questions": {"q1": {"received": 3, "counted": 2, "repeated": 1, "rejected": {}}}}"#,
    )
    .unwrap();
    assert_eq!((books.questions["q1"].counted, books.points_awarded), (2, books.points_ranked));
}
