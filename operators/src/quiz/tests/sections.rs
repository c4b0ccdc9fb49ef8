//! A quiz in several sections: numbered copies of commands, and publication once every section has them.

use expect_test::expect;

use super::check;

#[test]
fn every_section_carries_out_every_command() {
    check(
        "publish host sections=3 q1:single(b):1000:20s:kahoot
         join p1 Ana
         join p2 Bo
         join p3 Cy
         open
         @10 open_question q1
         @12 p1 q1 b #1
         @13 p2 q1 b #2
         @14 p3 q1 a #3
         @35 seal q1
         @40 close
         @45 seal quiz s0
         @45 seal quiz s2
         status
         @45 seal quiz s1
         status
         board
         books",
        expect![[r#"
            publish host sections=3 q1:single(b):1000:20s:kahoot -> s0 accepted 1 (v1); s1 reached 1; s2 reached 1
            join p1 Ana -> s1 p1 is Ana
            join p2 Bo -> s0 p2 is Bo
            join p3 Cy -> s2 p3 is Cy
            open -> s0 accepted 2 (v1); s1 reached 2; s2 reached 2
            @10 open_question q1 -> s0 accepted 3 (v1); s1 reached 3; s2 reached 3
            @12 p1 q1 b #1 -> s1 counted 950 in question 0, p1 has 950 (1 right in 2s), [counted 1]
            @13 p2 q1 b #2 -> s0 counted 925 in question 0, p2 has 925 (1 right in 3s), [counted 1]
            @14 p3 q1 a #3 -> s2 counted 0 in question 0, p3 has 0 (0 right in 0s), [counted 1]
            @35 seal q1 -> s0 sealed q1; s1 sealed q1; s2 sealed q1
            @40 close -> s0 accepted 4 (v1); s1 reached 4; s2 reached 4
            @45 seal quiz s0 -> s0 sealed quiz
            @45 seal quiz s2 -> s2 sealed quiz
            status -> 4 v1 closed; 0 from 10 to 30
            @45 seal quiz s1 -> s1 sealed quiz
            status -> 4 v1 closed, final; 0 from 10 to 30
            board -> 1 Ana 950; 2 Bo 925; 3 Cy 0
            books -> 1875 points, all [counted 3]; 0: [counted 3]
        "#]],
    );
}

#[test]
fn a_command_is_published_once_every_section_has_reached_it() {
    check(
        "hold
         publish host sections=3 q1:single(b) id=p
         publish host sections=3 q1:single(b) id=same
         status
         outcome p
         outcome same
         copy 1 s2
         outcome p
         copy 1 s1
         outcome p
         outcome same
         open id=o
         open id=again
         outcome again
         copy 2 s1
         status
         copy 2 s2
         outcome o
         status",
        expect![[r#"
            hold -> nothing
            publish host sections=3 q1:single(b) id=p -> s0 accepted 1 (v1)
            publish host sections=3 q1:single(b) id=same -> s0 unchanged (v1)
            status -> 0 v0 draft
            outcome p -> unknown yet
            outcome same -> unknown yet
            copy 1 s2 -> s2 reached 1
            outcome p -> unknown yet
            copy 1 s1 -> s1 reached 1
            outcome p -> accepted 1 (v1)
            outcome same -> unchanged (v1)
            open id=o -> s0 accepted 2 (v1)
            open id=again -> s0 refused: the quiz is open
            outcome again -> refused: the quiz is open
            copy 2 s1 -> s1 reached 2
            status -> 1 v1 draft
            copy 2 s2 -> s2 reached 2
            outcome o -> accepted 2 (v1)
            status -> 2 v1 open
        "#]],
    );
}

#[test]
fn copies_are_applied_in_the_order_of_their_numbers() {
    check(
        "hold
         publish host sections=2 q1:single(b):1000:20s
         @1 open
         @10 open_question q1
         @12 close_question q1
         copy 3 s1
         copy 2 s1
         @13 join p1 Ana
         copy 2 s1
         copy 1 s1
         status
         copy 1 s1
         copy 3 s1
         copy 4 s1
         copy 4 s1
         status
         again",
        expect![[r#"
            hold -> nothing
            publish host sections=2 q1:single(b):1000:20s -> s0 accepted 1 (v1)
            @1 open -> s0 accepted 2 (v1)
            @10 open_question q1 -> s0 accepted 3 (v1)
            @12 close_question q1 -> s0 accepted 4 (v1)
            copy 3 s1 -> nothing
            copy 2 s1 -> nothing
            @13 join p1 Ana -> nothing
            copy 2 s1 -> nothing
            copy 1 s1 -> s1 reached 3
            status -> 3 v1 open; 0 from 10 to 30
            copy 1 s1 -> nothing
            copy 3 s1 -> nothing
            copy 4 s1 -> s1 reached 4
            copy 4 s1 -> nothing
            status -> 4 v1 open; 0 from 10 to 12
            again -> 6 of 6 repeated
        "#]],
    );
}

#[test]
fn a_section_keeps_time_by_section_0_whenever_its_copy_arrives() {
    // p1 lives in section 1: its question opens at 10 everywhere, even where the copy arrives at 13.
    check(
        "publish host sections=2 q1:single(b):1000:20s:kahoot
         join p1 Ana
         open
         hold
         @10 open_question q1
         @12 p1 q1 b #1
         @13 copy 3 s1
         @14 p1 q1 b #1
         @30 p1 q1 b #2
         @31 close
         @36 copy 4 s1
         unsealed",
        expect![[r#"
            publish host sections=2 q1:single(b):1000:20s:kahoot -> s0 accepted 1 (v1); s1 reached 1
            join p1 Ana -> s1 p1 is Ana
            open -> s0 accepted 2 (v1); s1 reached 2
            hold -> nothing
            @10 open_question q1 -> s0 accepted 3 (v1)
            @12 p1 q1 b #1 -> s1 too early in recent 0, p1 has 0 (0 right in 0s), [too early 1]
            @13 copy 3 s1 -> s1 reached 3
            @14 p1 q1 b #1 -> s1 counted 900 in question 0, p1 has 900 (1 right in 4s), [counted 1 too early 1]
            @30 p1 q1 b #2 -> s1 repeated in recent 1, p1 has 900 (1 right in 4s), [counted 1 repeated 1 too early 1]
            @31 close -> s0 accepted 4 (v1)
            @36 copy 4 s1 -> s1 reached 4
            unsealed -> quiz at 31; quiz at 31
        "#]],
    );
}

#[test]
fn a_seal_that_overtakes_the_publication_is_remembered() {
    // Section 1 hangs; sections 0 and 2 go on through the whole question.
    check(
        "publish host sections=3 q1:single(b) id=v1
         hold
         publish host sections=3 q0:single(b) q1:single(b):1000:1s id=v2
         open
         @10 open_question q1
         copy 2 s2
         copy 3 s2
         copy 4 s2
         @16 seal q1 s0
         @16 seal q1 s2
         copy 2 s1
         copy 3 s1
         copy 4 s1
         @16 seal q1 s1
         sealed 0
         sealed 1",
        expect![[r#"
            publish host sections=3 q1:single(b) id=v1 -> s0 accepted 1 (v1); s1 reached 1; s2 reached 1
            hold -> nothing
            publish host sections=3 q0:single(b) q1:single(b):1000:1s id=v2 -> s0 accepted 2 (v2)
            open -> s0 accepted 3 (v2)
            @10 open_question q1 -> s0 accepted 4 (v2)
            copy 2 s2 -> s2 reached 2
            copy 3 s2 -> s2 reached 3
            copy 4 s2 -> s2 reached 4
            @16 seal q1 s0 -> s0 sealed q1
            @16 seal q1 s2 -> s2 sealed q1
            copy 2 s1 -> s1 reached 2
            copy 3 s1 -> s1 reached 3
            copy 4 s1 -> s1 reached 4
            @16 seal q1 s1 -> s1 sealed q1
            sealed 0 -> false
            sealed 1 -> true
        "#]],
    );
}

/// p1 and p3 are of sections that hear of the close late. What counts in the end is what section 0 would have counted.
#[test]
fn an_answer_overtaken_by_its_late_retry_counts_once_the_close_is_known() {
    check(
        "publish host sections=3 q1:single(b):1000:20s
         join p1 Ana
         join p3 Cy
         open
         @10 open_question q1
         hold
         @14 close_question q1
         @15 p1 q1 a #1
         @15.1 p1 q1 b #2 at=14.5
         @15.2 p1 q1 b #1 at=13.9
         @15.3 p1 q1 a #3 at=13.5
         @15.4 p1 q1 a #4 at=13.7
         @15 p3 q1 b #5
         copy 4 s1
         copy 4 s2
         @16 p1 q1 a #6 at=12
         @16 p1 q1 a #1 at=12
         @16 p3 q1 a #5
         @16 p3 q1 b #5 at=13.8
         @16 p3 q1 b #5 at=13.8
         @18 seal q1
         @19 p3 q1 b #7 at=14
         again
         board
         books",
        expect![[r#"
            publish host sections=3 q1:single(b):1000:20s -> s0 accepted 1 (v1); s1 reached 1; s2 reached 1
            join p1 Ana -> s1 p1 is Ana
            join p3 Cy -> s2 p3 is Cy
            open -> s0 accepted 2 (v1); s1 reached 2; s2 reached 2
            @10 open_question q1 -> s0 accepted 3 (v1); s1 reached 3; s2 reached 3
            hold -> nothing
            @14 close_question q1 -> s0 accepted 4 (v1)
            @15 p1 q1 a #1 -> s1 counted 0 in question 0, p1 has 0 (0 right in 0s), [counted 1]
            @15.1 p1 q1 b #2 at=14.5 -> s1 repeated in recent 0, p1 has 0 (0 right in 0s), [counted 1 repeated 1]
            @15.2 p1 q1 b #1 at=13.9 -> s1 no receipt, p1 has 0 (0 right in 0s), [counted 1 repeated 2]
            @15.3 p1 q1 a #3 at=13.5 -> s1 repeated in recent 1, p1 has 0 (0 right in 0s), [counted 1 repeated 3]
            @15.4 p1 q1 a #4 at=13.7 -> s1 repeated in recent 2, p1 has 0 (0 right in 0s), [counted 1 repeated 4]
            @15 p3 q1 b #5 -> s2 counted 1000 in question 0, p3 has 1000 (1 right in 5s), [counted 1]
            copy 4 s1 -> s1 question 0 of p1 is late after all, #1 counts 1000 instead, p1 has 1000, [counted 1 repeated 3 late 1]; s1 reached 4
            copy 4 s2 -> s2 question 0 of p3 is late after all, p3 has 0, [late 1]; s2 reached 4
            @16 p1 q1 a #6 at=12 -> s1 repeated in recent 3, p1 has 1000 (1 right in 3.9s), [counted 1 repeated 4 late 1]
            @16 p1 q1 a #1 at=12 -> s1 no receipt, p1 has 1000 (1 right in 3.9s), [counted 1 repeated 5 late 1]
            @16 p3 q1 a #5 -> s2 no receipt, p3 has 0 (0 right in 0s), [repeated 1 late 1]
            @16 p3 q1 b #5 at=13.8 -> s2 counted 1000 in question 0 instead, p3 has 1000 (1 right in 3.8s), [counted 1 repeated 1 late 1]
            @16 p3 q1 b #5 at=13.8 -> s2 no receipt, p3 has 1000 (1 right in 3.8s), [counted 1 repeated 2 late 1]
            @18 seal q1 -> s0 sealed q1; s1 sealed q1; s2 sealed q1
            @19 p3 q1 b #7 at=14 -> s2 repeated in recent 0, p3 has 1000 (1 right in 3.8s), [counted 1 repeated 3 late 1]
            again -> 31 of 31 repeated
            board -> 1 Cy 1000; 2 Ana 1000
            books -> 2000 points, all [counted 2 repeated 8 late 2]; 0: [counted 2 repeated 8 late 2]
        "#]],
    );
}

#[test]
fn a_finished_quiz_is_forgotten_by_every_section() {
    check(
        "publish free sections=2 q1:single(b)
         join p1 Ana
         join p2 Bo
         open
         p1 q1 b #1
         p2 q1 b #2
         @30 expire v1
         @40 close
         @42 expire v1
         @45 seal quiz
         @46 expire v2
         @47 expire v1 due=90
         board
         @90 expire v1
         @90 expire v1
         status
         board
         books
         unsealed
         p1 q1 b #3
         join p1 Ana
         open
         publish free sections=3 q1:single(a)
         publish free sections=2 q1:single(a) if=1
         publish free sections=2 q1:single(a) if=0
         join p1 Ann
         open
         p1 q1 a #1
         status
         board
         again",
        expect![[r#"
            publish free sections=2 q1:single(b) -> s0 accepted 1 (v1); s1 reached 1
            join p1 Ana -> s1 p1 is Ana
            join p2 Bo -> s0 p2 is Bo
            open -> s0 accepted 2 (v1); s1 reached 2
            p1 q1 b #1 -> s1 counted 1000 in question 0, p1 has 1000 (1 right in 0s), [counted 1]
            p2 q1 b #2 -> s0 counted 1000 in question 0, p2 has 1000 (1 right in 0s), [counted 1]
            @30 expire v1 -> nothing
            @40 close -> s0 accepted 3 (v1); s1 reached 3
            @42 expire v1 -> nothing
            @45 seal quiz -> s0 sealed quiz; s1 sealed quiz
            @46 expire v2 -> nothing
            @47 expire v1 due=90 -> nothing
            board -> 1 Ana 1000; 1 Bo 1000
            @90 expire v1 -> s0 accepted 4 (v1); s1 reached 4
            @90 expire v1 -> nothing
            status -> 4 v1 forgotten
            board -> nothing
            books -> 0 points, all []
            unsealed -> nothing
            p1 q1 b #3 -> nothing
            join p1 Ana -> nothing
            open -> nothing
            publish free sections=3 q1:single(a) -> s0 refused: the number of sections cannot change between versions
            publish free sections=2 q1:single(a) if=1 -> s0 refused: the quiz has another version
            publish free sections=2 q1:single(a) if=0 -> s0 accepted 5 (v2); s1 reached 5
            join p1 Ann -> s1 p1 is Ann
            open -> s0 accepted 6 (v2); s1 reached 6
            p1 q1 a #1 -> s1 counted 1000 in question 0, p1 has 1000 (1 right in 0s), [counted 1]
            status -> 6 v2 open
            board -> 1 Ann 1000
            again -> 22 of 22 repeated
        "#]],
    );
}

#[test]
fn a_quiz_is_shown_until_every_section_has_forgotten_it() {
    check(
        "publish free sections=2 q1:single(b)
         join p1 Ana
         join p2 Bo
         open
         p1 q1 b #1
         p2 q1 b #2
         close
         @5 seal quiz
         hold
         @9 expire v1
         board
         books
         publish free sections=2 q1:single(a)
         status
         copy 5 s1
         board
         status
         copy 4 s1
         status
         board
         again",
        expect![[r#"
            publish free sections=2 q1:single(b) -> s0 accepted 1 (v1); s1 reached 1
            join p1 Ana -> s1 p1 is Ana
            join p2 Bo -> s0 p2 is Bo
            open -> s0 accepted 2 (v1); s1 reached 2
            p1 q1 b #1 -> s1 counted 1000 in question 0, p1 has 1000 (1 right in 0s), [counted 1]
            p2 q1 b #2 -> s0 counted 1000 in question 0, p2 has 1000 (1 right in 0s), [counted 1]
            close -> s0 accepted 3 (v1); s1 reached 3
            @5 seal quiz -> s0 sealed quiz; s1 sealed quiz
            hold -> nothing
            @9 expire v1 -> s0 accepted 4 (v1)
            board -> 1 Ana 1000; 1 Bo 1000
            books -> 2000 points, all [counted 2]; 0: [counted 2]
            publish free sections=2 q1:single(a) -> s0 accepted 5 (v2)
            status -> 3 v1 closed, final
            copy 5 s1 -> nothing
            board -> 1 Ana 1000; 1 Bo 1000
            status -> 3 v1 closed, final
            copy 4 s1 -> s1 reached 5
            status -> 5 v2 draft
            board -> nothing
            again -> 15 of 15 repeated
        "#]],
    );
}
