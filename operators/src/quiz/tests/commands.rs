//! What becomes of a host's command, and of joining.

use expect_test::expect;

use super::check;

#[test]
fn publishing_makes_versions_until_the_quiz_opens() {
    check(
        "open
         publish host q1:single(b)
         publish host q1:single(b)
         publish host q1:single(a)
         publish host q1:single(a) if=1
         publish host q1:single(c) if=1
         publish host q1:single(c) if=2
         publish host sections=2 q1:single(c)
         open
         publish host q1:single(b)
         publish host q1:single(c)
         close
         publish host q1:single(b)
         publish host q1:single(c)
         status",
        expect![[r#"
            open -> nothing
            publish host q1:single(b) -> accepted 1 (v1)
            publish host q1:single(b) -> unchanged (v1)
            publish host q1:single(a) -> accepted 2 (v2)
            publish host q1:single(a) if=1 -> refused: the quiz has another version
            publish host q1:single(c) if=1 -> refused: the quiz has another version
            publish host q1:single(c) if=2 -> accepted 3 (v3)
            publish host sections=2 q1:single(c) -> s0 refused: the number of sections cannot change between versions
            open -> s0 accepted 4 (v3)
            publish host q1:single(b) -> s0 refused: the quiz is open
            publish host q1:single(c) -> s0 unchanged (v3)
            close -> s0 accepted 5 (v3)
            publish host q1:single(b) -> s0 refused: the quiz is closed
            publish host q1:single(c) -> s0 unchanged (v3)
            status -> 5 v3 closed
        "#]],
    );
}

#[test]
fn a_publish_may_ask_to_be_the_first() {
    check(
        "publish host q1:single(b) if=3
         publish host q1:single(b) if=0
         publish host q1:single(a) if=0",
        expect![[r#"
            publish host q1:single(b) if=3 -> nothing
            publish host q1:single(b) if=0 -> accepted 1 (v1)
            publish host q1:single(a) if=0 -> refused: the quiz has another version
        "#]],
    );
}

#[test]
fn a_repeated_command_id_changes_nothing() {
    check(
        "publish host q1:single(b) id=x
         publish host q1:single(a) id=x
         open id=y
         open id=y
         open id=z
         close id=z
         outcome x
         outcome y
         outcome z
         status",
        expect![[r#"
            publish host q1:single(b) id=x -> accepted 1 (v1)
            publish host q1:single(a) id=x -> nothing
            open id=y -> accepted 2 (v1)
            open id=y -> nothing
            open id=z -> refused: the quiz is open
            close id=z -> nothing
            outcome x -> accepted 1 (v1)
            outcome y -> accepted 2 (v1)
            outcome z -> refused: the quiz is open
            status -> 2 v1 open
        "#]],
    );
}

#[test]
fn commands_out_of_turn_are_refused() {
    check(
        "publish host q1:single(b):1000:20s q2:single(b)
         close
         open_question q1
         open
         open
         close_question q1
         open_question q9
         @10 open_question q1
         @11 open_question q1
         @11 open_question q2
         @30 close_question q1
         @30 open_question q2
         @31 open_question q1
         @40 close_question q2
         @41 close_question q2
         close
         close
         open
         open_question q1
         status",
        expect![[r#"
            publish host q1:single(b):1000:20s q2:single(b) -> accepted 1 (v1)
            close -> refused: the quiz is not open
            open_question q1 -> refused: the quiz is not open
            open -> accepted 2 (v1)
            open -> refused: the quiz is open
            close_question q1 -> refused: the question is not open
            open_question q9 -> refused: the quiz has no such question
            @10 open_question q1 -> accepted 3 (v1)
            @11 open_question q1 -> refused: the question was opened before
            @11 open_question q2 -> refused: another question is still open
            @30 close_question q1 -> refused: the question is not open
            @30 open_question q2 -> accepted 4 (v1)
            @31 open_question q1 -> refused: the question was opened before
            @40 close_question q2 -> accepted 5 (v1)
            @41 close_question q2 -> refused: the question is not open
            close -> accepted 6 (v1)
            close -> refused: the quiz is closed
            open -> refused: the quiz is closed
            open_question q1 -> refused: the quiz is closed
            status -> 6 v1 closed; 0 from 10 to 30; 1 from 30 to 40
        "#]],
    );
}

#[test]
fn closing_a_question_moves_its_limit_forward_only() {
    check(
        "publish host q1:single(b):1000:20s:kahoot
         join p1 Ana
         join p2 Bo
         open
         @10 open_question q1
         @15 close_question q1
         status
         unsealed
         @16 p1 q1 b #1 at=15
         @16 p2 q1 b #2
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s:kahoot -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            join p2 Bo -> p2 is Bo
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @15 close_question q1 -> accepted 4 (v1)
            status -> 4 v1 open; 0 from 10 to 15
            unsealed -> q1 at 15
            @16 p1 q1 b #1 at=15 -> counted 875 in question 0, p1 has 875 (1 right in 5s), [counted 1]
            @16 p2 q1 b #2 -> late in recent 0, p2 has 0 (0 right in 0s), [counted 1 late 1]
            books -> 875 points, all [counted 1 late 1]; 0: [counted 1 late 1]
        "#]],
    );
}

#[test]
fn closing_the_quiz_closes_what_is_open() {
    check(
        "publish host q1:single(b):1000:20s q2:single(b) q3:single(b)
         join p1 Ana
         open
         @10 open_question q1
         @40 open_question q2
         unsealed
         @50 close
         status
         unsealed
         @51 p1 q2 b #1 at=50
         @51 p1 q1 b #2 at=50
         @51 p1 q3 b #3 at=50
         @49 seal quiz
         @55 seal quiz
         @55 seal quiz
         @56 p1 q2 b #4
         unsealed
         status
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s q2:single(b) q3:single(b) -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @40 open_question q2 -> accepted 4 (v1)
            unsealed -> q1 at 30
            @50 close -> accepted 5 (v1)
            status -> 5 v1 closed; 0 from 10 to 30; 1 from 40 to 50
            unsealed -> quiz at 50
            @51 p1 q2 b #1 at=50 -> counted 1000 in question 1, p1 has 1000 (1 right in 10s), [counted 1]
            @51 p1 q1 b #2 at=50 -> late in recent 0, p1 has 1000 (1 right in 10s), [late 1]
            @51 p1 q3 b #3 at=50 -> late in recent 1, p1 has 1000 (1 right in 10s), [late 1]
            @49 seal quiz -> nothing
            @55 seal quiz -> sealed quiz
            @55 seal quiz -> nothing
            @56 p1 q2 b #4 -> repeated in recent 2, p1 has 1000 (1 right in 10s), [counted 1 repeated 1]
            unsealed -> nothing
            status -> 5 v1 closed, final; 0 from 10 to 30; 1 from 40 to 50
            books -> 1000 points, all [counted 1 repeated 1 late 2]; 0: [late 1]; 1: [counted 1 repeated 1]; 2: [late 1]
        "#]],
    );
}

#[test]
fn joining_is_possible_from_publish_until_close() {
    check(
        "join p1 Ana
         publish host q1:single(b)
         join p1 Ana
         join p1 Ann
         join p1 Ann
         open
         join p2 Bo
         open_question q1
         p2 q1 b #1
         join p2 Bob
         board
         close
         join p1 Late
         join p3 Late
         board",
        expect![[r#"
            join p1 Ana -> nothing
            publish host q1:single(b) -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            join p1 Ann -> p1 is Ann
            join p1 Ann -> p1 is Ann
            open -> accepted 2 (v1)
            join p2 Bo -> p2 is Bo
            open_question q1 -> accepted 3 (v1)
            p2 q1 b #1 -> counted 1000 in question 0, p2 has 1000 (1 right in 0s), [counted 1]
            join p2 Bob -> p2 is Bob
            board -> 1 Bob 1000; 2 Ann 0
            close -> accepted 4 (v1)
            join p1 Late -> nothing
            join p3 Late -> nothing
            board -> 1 Bob 1000; 2 Ann 0
        "#]],
    );
}

#[test]
fn effects_that_arrive_again_are_dropped() {
    check(
        "publish host q1:single(b)
         join p1 Ana
         open
         open_question q1
         again
         p1 q1 b #1
         p1 q1 b #1
         again
         again
         board
         books",
        expect![[r#"
            publish host q1:single(b) -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            open -> accepted 2 (v1)
            open_question q1 -> accepted 3 (v1)
            again -> 4 of 4 repeated
            p1 q1 b #1 -> counted 1000 in question 0, p1 has 1000 (1 right in 0s), [counted 1]
            p1 q1 b #1 -> no receipt, p1 has 1000 (1 right in 0s), [counted 1 repeated 1]
            again -> 6 of 6 repeated
            again -> 6 of 6 repeated
            board -> 1 Ana 1000
            books -> 1000 points, all [counted 1 repeated 1]; 0: [counted 1 repeated 1]
        "#]],
    );
}
