//! The ranking as text: standings go in, pages and ranks come out.
//!
//! ```text
//! ties correct,time      publish this list of tie-breaks (`ties none` for an empty one); before it, the default holds
//! join a b c             members in this order
//! a = 44 3 12 99         a's points, right answers, seconds for them, second of the last (trailing zeros left out)
//! board | page 2 | next 2 | around a 1 | rank a | percentile a | revision | again
//! ```

use std::fmt::Write;
use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::json;

use super::{Applied, Cursor, Ranking, Row};
use crate::definition::Definition;
use crate::effect::{Change, Effect, QuizChanged, QuizStatus, ScoreChanged, Standing, Tally};
use crate::event::{CommandOutcome, Decided};
use crate::id::{ParticipantId, Position, UnixMillis};

/// Runs the script and compares what readers saw; the only place in these tests that calls the API.
fn check(script: &str, expected: Expect) {
    let mut world =
        World { ranking: Ranking::new("geo".parse().unwrap()), sent: Vec::new(), numbers: 0, cursor: None };
    let mut text = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(said) = world.line(line) {
            writeln!(text, "{line} -> {said}").unwrap();
        }
    }
    expected.assert_eq(&text);
}

struct World {
    ranking: Ranking,
    sent: Vec<Effect>,
    numbers: u64,
    cursor: Option<Cursor>,
}

impl World {
    fn line(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["join", ref names @ ..] => {
                for name in names {
                    self.send(Change::Joined { participant: participant(name), name: (*name).to_owned() });
                }
                None
            }
            ["rename", who, name] => {
                self.send(Change::Joined { participant: participant(who), name: name.to_owned() });
                None
            }
            ["ties", list] => {
                self.ties(list);
                None
            }
            [who, "=", ref figures @ ..] => {
                self.score(who, figures);
                None
            }
            ["revision"] => Some(self.ranking.header().revision.to_string()),
            ["again"] => {
                let repeats = self.sent.iter().filter(|effect| self.ranking.apply(effect) == Applied::Repeat);
                Some(format!("{} of {} repeated", repeats.count(), self.sent.len()))
            }
            _ => Some(self.read(&words)),
        }
    }

    fn read(&mut self, words: &[&str]) -> String {
        match *words {
            ["board"] => rows(&self.ranking.page(None, 100).0),
            ["page", limit] => self.page(None, limit),
            ["next", limit] => {
                // A cursor travels as text.
                let cursor = self.cursor.map(|cursor| cursor.to_string().parse().unwrap());
                self.page(Some(cursor.expect("a page before")), limit)
            }
            ["around", who, limit] => self
                .ranking
                .around(participant(who), limit.parse().unwrap())
                .map_or("nobody".into(), |r| rows(&r)),
            ["rank", who] => self.ranking.row(participant(who)).map_or("nobody".into(), |r| rows(&[r])),
            ["percentile", who] => {
                self.ranking.percentile(participant(who)).map_or("nobody".into(), |share| share.to_string())
            }
            _ => panic!("not a line of a script: {words:?}"),
        }
    }

    fn page(&mut self, after: Option<Cursor>, limit: &str) -> String {
        let (page, next) = self.ranking.page(after, limit.parse().unwrap());
        self.cursor = next;
        format!("{}{}", rows(&page), if next.is_some() { "; more" } else { "" })
    }

    fn send(&mut self, change: Change) {
        let revision = self.sent.len() as u64 + 1;
        let quiz = self.ranking.quiz().clone();
        let position = Position::from_offset(revision);
        let effect = Effect { quiz, section: 0, revision, ordinal: 0, position, change };
        assert_eq!(self.ranking.apply(&effect), Applied::Effective);
        self.sent.push(effect);
    }

    fn score(&mut self, who: &str, figures: &[&str]) {
        let figure = |place: usize| figures.get(place).map_or(0, |text| text.parse::<u64>().unwrap());
        let standing = Standing {
            points: figures[0].parse().unwrap(),
            correct: figure(1) as u32,
            time_ms: figure(2) * 1_000,
            last_correct_at: UnixMillis(figure(3) * 1_000),
        };
        self.send(Change::ScoreChanged(Box::new(ScoreChanged {
            participant: participant(who),
            standing: Some(standing),
            receipt: None,
            tally: Tally::default(),
            question: None,
            awarded: standing.points,
        })));
    }

    fn ties(&mut self, list: &str) {
        let ties: Vec<_> = list.split(',').filter(|tie| *tie != "none").collect();
        let source = json!({"title": "T", "ranking": {"ties": ties},
            "questions": [{"id": "q1", "kind": "numeric", "text": "?", "key": {"value": "1"}}]});
        let definition = Definition::new(serde_json::from_value(source).unwrap()).unwrap();
        self.numbers += 1;
        let (number, version) = (self.numbers, self.numbers);
        self.send(Change::QuizChanged(Box::new(QuizChanged {
            decided: Decided {
                id: format!("publish{number}").parse().unwrap(),
                content: number,
                outcome: CommandOutcome::Accepted { number, version },
            },
            status: QuizStatus { number, version, ..QuizStatus::default() },
            definition: Some(Arc::new(definition)),
        })));
    }
}

fn participant(name: &str) -> ParticipantId {
    ParticipantId(u128::from(name.as_bytes()[0]))
}

fn rows(rows: &[Row]) -> String {
    let row = |row: &Row| format!("{} {} {}", row.rank, row.name, row.standing.points);
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

#[test]
fn equals_share_a_rank_and_the_next_rank_counts_them() {
    check(
        "join a b c d
         b = 5
         c = 5
         a = 9
         board
         rank c
         rank d",
        expect![[r#"
            board -> 1 a 9; 2 b 5; 2 c 5; 4 d 0
            rank c -> 2 c 5
            rank d -> 4 d 0
        "#]],
    );
    check(
        "join a b c d e f g
         g = 39
         f = 41
         e = 41
         d = 41
         c = 42
         b = 42
         a = 44
         board
         rank e
         rank g
         percentile a
         percentile b
         percentile d
         percentile g",
        expect![[r#"
            board -> 1 a 44; 2 b 42; 2 c 42; 4 d 41; 4 e 41; 4 f 41; 7 g 39
            rank e -> 4 e 41
            rank g -> 7 g 39
            percentile a -> 92.86
            percentile b -> 71.43
            percentile d -> 35.71
            percentile g -> 7.14
        "#]],
    );
}

#[test]
fn each_tie_break_decides_where_those_before_it_do_not() {
    check(
        "join a b c d e
         a = 10 1 5 50
         b = 10 2 9 90
         c = 10 2 7 90
         d = 10 2 7 80
         e = 11 0 0 0
         board
         ties none
         board
         ties time
         board
         ties last_correct,time
         board
         ties correct
         board
         ties correct,time
         board
         ties correct,time,last_correct
         board",
        expect![[r#"
            board -> 1 e 11; 2 d 10; 3 c 10; 4 b 10; 5 a 10
            board -> 1 e 11; 2 a 10; 2 b 10; 2 c 10; 2 d 10
            board -> 1 e 11; 2 a 10; 3 c 10; 3 d 10; 5 b 10
            board -> 1 e 11; 2 a 10; 3 d 10; 4 c 10; 5 b 10
            board -> 1 e 11; 2 b 10; 2 c 10; 2 d 10; 5 a 10
            board -> 1 e 11; 2 c 10; 2 d 10; 4 b 10; 5 a 10
            board -> 1 e 11; 2 d 10; 3 c 10; 4 b 10; 5 a 10
        "#]],
    );
}

#[test]
fn equals_in_everything_stay_in_the_order_of_joining() {
    check(
        "join c a b
         board
         a = 1
         b = 1
         c = 1
         board
         a = 2
         a = 1
         rename b z
         board",
        expect![[r#"
            board -> 1 c 0; 1 a 0; 1 b 0
            board -> 1 c 1; 1 a 1; 1 b 1
            board -> 1 c 1; 1 a 1; 1 z 1
        "#]],
    );
}

#[test]
fn points_below_zero_and_in_millionths_are_ranked_exactly() {
    check(
        "join a b c d
         a = -0.5
         b = 0.000001
         c = 0.000002
         board",
        expect![[r#"
            board -> 1 c 0.000002; 2 b 0.000001; 3 d 0; 4 a -0.5
        "#]],
    );
}

#[test]
fn a_page_goes_on_after_its_cursor_while_the_board_moves() {
    check(
        "join a b c d e f
         a = 60
         b = 50
         c = 40
         d = 40
         e = 20
         f = 10
         page 3
         next 2
         next 2
         page 3
         f = 70
         next 2
         page 4
         a = 5
         d = 99
         next 9
         page 6
         page 0
         page 99",
        expect![[r#"
            page 3 -> 1 a 60; 2 b 50; 3 c 40; more
            next 2 -> 3 d 40; 5 e 20; more
            next 2 -> 6 f 10
            page 3 -> 1 a 60; 2 b 50; 3 c 40; more
            next 2 -> 4 d 40; 6 e 20
            page 4 -> 1 f 70; 2 a 60; 3 b 50; 4 c 40; more
            next 9 -> 5 e 20; 6 a 5
            page 6 -> 1 d 99; 2 f 70; 3 b 50; 4 c 40; 5 e 20; 6 a 5
            page 0 -> 
            page 99 -> 1 d 99; 2 f 70; 3 b 50; 4 c 40; 5 e 20; 6 a 5
        "#]],
    );
}

#[test]
fn neighbours_stop_at_both_ends() {
    check(
        "join a b c d e
         a = 50
         b = 40
         c = 40
         d = 20
         around a 1
         around c 1
         around c 0
         around d 2
         around e 2
         around b 99
         around b 18446744073709551615
         around z 1
         rank z
         percentile z",
        expect![[r#"
            around a 1 -> 1 a 50; 2 b 40
            around c 1 -> 2 b 40; 2 c 40; 4 d 20
            around c 0 -> 2 c 40
            around d 2 -> 2 b 40; 2 c 40; 4 d 20; 5 e 0
            around e 2 -> 2 c 40; 4 d 20; 5 e 0
            around b 99 -> 1 a 50; 2 b 40; 2 c 40; 4 d 20; 5 e 0
            around b 18446744073709551615 -> 1 a 50; 2 b 40; 2 c 40; 4 d 20; 5 e 0
            around z 1 -> nobody
            rank z -> nobody
            percentile z -> nobody
        "#]],
    );
}

#[test]
fn a_percentile_counts_half_of_the_equals() {
    check(
        "join a
         percentile a
         join b c
         percentile a
         a = 1
         percentile a
         percentile b",
        expect![[r#"
            percentile a -> 50
            percentile a -> 50
            percentile a -> 83.33
            percentile b -> 33.33
        "#]],
    );
}

#[test]
fn the_revision_moves_with_every_change_that_readers_can_see() {
    check(
        "revision
         join a b
         revision
         a = 1 1
         revision
         a = 1 1
         join a
         revision
         rename a z
         revision
         ties none
         revision
         ties none
         revision
         again
         revision",
        expect![[r#"
            revision -> 0
            revision -> 2
            revision -> 3
            revision -> 3
            revision -> 4
            revision -> 5
            revision -> 5
            again -> 8 of 8 repeated
            revision -> 5
        "#]],
    );
}

#[test]
fn a_text_that_is_no_cursor_is_refused() {
    for bad in ["", "1", "1.2.3.4", "1.2.3.4.5.6", "x.0.0.0.0", "0.0.0.0.-1", "0.0.0.0.100000000"] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
    }
    let odd: Cursor = "8000000000000000.7fffffffffffffff.0.0.ffffffff".parse().unwrap();
    assert_eq!(odd.to_string().parse(), Ok(odd));
    assert_eq!(Ranking::new("geo".parse().unwrap()).page(Some(odd), 5), (Vec::new(), None));
}
