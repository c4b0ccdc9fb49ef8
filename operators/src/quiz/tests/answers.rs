//! What becomes of an answer.

use expect_test::expect;

use super::check;

#[test]
fn the_first_valid_answer_wins_whatever_it_is_worth() {
    check(
        "publish host q1:single(b):1000:20s:kahoot
         join p1 Ana
         join p2 Bo
         open
         @10 open_question q1
         @12 p1 q1 a #1
         @13 p1 q1 b #2
         @14 p2 q1 b #3
         @15 p2 q1 a #4
         board
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s:kahoot -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            join p2 Bo -> p2 is Bo
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @12 p1 q1 a #1 -> counted 0 in question 0, p1 has 0 (0 right in 0s), [counted 1]
            @13 p1 q1 b #2 -> repeated in recent 0, p1 has 0 (0 right in 0s), [counted 1 repeated 1]
            @14 p2 q1 b #3 -> counted 900 in question 0, p2 has 900 (1 right in 4s), [counted 2 repeated 1]
            @15 p2 q1 a #4 -> repeated in recent 0, p2 has 900 (1 right in 4s), [counted 2 repeated 2]
            board -> 1 Bo 900; 2 Ana 0
            books -> 900 points, all [counted 2 repeated 2]; 0: [counted 2 repeated 2]
        "#]],
    );
}

#[test]
fn a_submission_that_counted_and_arrives_again_keeps_its_receipt() {
    check(
        "publish host q1:single(b):1000:20s q2:single(a)
         join p1 Ana
         open
         @10 open_question q1
         @12 p1 q1 b #1
         @12 p1 q1 b #1
         @13 p1 q1 a #1
         @14 p1 q1 [a] #1
         @60 open_question q2
         @61 p1 q2 a #1
         @62 p1 q9 a #1
         @63 p1 q2 a #2
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s q2:single(a) -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @12 p1 q1 b #1 -> counted 1000 in question 0, p1 has 1000 (1 right in 2s), [counted 1]
            @12 p1 q1 b #1 -> no receipt, p1 has 1000 (1 right in 2s), [counted 1 repeated 1]
            @13 p1 q1 a #1 -> no receipt, p1 has 1000 (1 right in 2s), [counted 1 repeated 2]
            @14 p1 q1 [a] #1 -> no receipt, p1 has 1000 (1 right in 2s), [counted 1 repeated 3]
            @60 open_question q2 -> accepted 4 (v1)
            @61 p1 q2 a #1 -> no receipt, p1 has 1000 (1 right in 2s), [repeated 1]
            @62 p1 q9 a #1 -> no receipt, p1 has 1000 (1 right in 2s), [repeated 1]
            @63 p1 q2 a #2 -> counted 1000 in question 1, p1 has 2000 (2 right in 5s), [counted 1 repeated 1]
            books -> 2000 points, all [counted 2 repeated 5]; unknown: [repeated 1]; 0: [counted 1 repeated 3]; 1: [counted 1 repeated 1]
        "#]],
    );
}

#[test]
fn an_answer_is_late_after_its_last_millisecond() {
    check(
        "publish host q1:single(b):1000:20s:kahoot
         join p1 Ana
         join p2 Bo
         join p3 Cy
         open
         @10 open_question q1
         @30 p1 q1 b #1
         @30.001 p2 q1 b #2
         @31 p3 q1 b #3 at=30
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s:kahoot -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            join p2 Bo -> p2 is Bo
            join p3 Cy -> p3 is Cy
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @30 p1 q1 b #1 -> counted 500 in question 0, p1 has 500 (1 right in 20s), [counted 1]
            @30.001 p2 q1 b #2 -> late in recent 0, p2 has 0 (0 right in 0s), [counted 1 late 1]
            @31 p3 q1 b #3 at=30 -> counted 500 in question 0, p3 has 500 (1 right in 20s), [counted 2 late 1]
            books -> 1000 points, all [counted 2 late 1]; 0: [counted 2 late 1]
        "#]],
    );
}

#[test]
fn an_answer_after_the_seal_is_late_whenever_it_was_received() {
    check(
        "publish host q1:single(b):1000:20s
         join p1 Ana
         open
         @10 open_question q1
         unsealed
         @29 seal q1
         @32 seal q1
         @32 seal q1
         unsealed
         @32 p1 q1 b #1 at=29
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            unsealed -> q1 at 30
            @29 seal q1 -> nothing
            @32 seal q1 -> sealed q1
            @32 seal q1 -> nothing
            unsealed -> nothing
            @32 p1 q1 b #1 at=29 -> late in recent 0, p1 has 0 (0 right in 0s), [late 1]
            books -> 0 points, all [late 1]; 0: [late 1]
        "#]],
    );
}

#[test]
fn an_answer_before_the_opening_is_too_early_and_does_not_use_up_the_question() {
    check(
        "publish host q1:single(b):1000:20s
         join p1 Ana
         p1 q1 b #1
         open
         @9 p1 q1 b #1
         @10 open_question q1
         @10 p1 q1 b #1 at=9
         books",
        expect![[r#"
            publish host q1:single(b):1000:20s -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            p1 q1 b #1 -> too early in recent 0, p1 has 0 (0 right in 0s), [too early 1]
            open -> accepted 2 (v1)
            @9 p1 q1 b #1 -> too early in recent 1, p1 has 0 (0 right in 0s), [too early 1]
            @10 open_question q1 -> accepted 3 (v1)
            @10 p1 q1 b #1 at=9 -> counted 1000 in question 0, p1 has 1000 (1 right in 0s), [counted 1 too early 1]
            books -> 1000 points, all [counted 1 too early 2]; unknown: [too early 1]; 0: [counted 1 too early 1]
        "#]],
    );
}

#[test]
fn malformed_and_rejected_answers_do_not_use_up_the_question() {
    check(
        "p1 q1 b #1
         publish host q1:single(b) q2:multiple(a,c) q3:numeric(3.14~0.01) q4:text(Lima|lima_city)
         open
         open_question q1
         p1 q1 b #2
         join p1 Ana
         p1 q1 z #3
         p1 q1 [b] #4
         p1 q1 =1 #5
         p1 q9 b #6
         p1 q1 b #7
         close_question q1
         open_question q2
         p1 q2 [a,a] #8
         p1 q2 [a,z] #9
         p1 q2 [c,a] #10
         close_question q2
         open_question q3
         p1 q3 \"3.14\" #11
         p1 q3 =3.150 #12
         close_question q3
         open_question q4
         p1 q4 \"__LIMA__city\" #13
         board
         books",
        expect![[r#"
            p1 q1 b #1 -> nothing
            publish host q1:single(b) q2:multiple(a,c) q3:numeric(3.14~0.01) q4:text(Lima|lima_city) -> accepted 1 (v1)
            open -> accepted 2 (v1)
            open_question q1 -> accepted 3 (v1)
            p1 q1 b #2 -> no receipt, [not_participant 1]
            join p1 Ana -> p1 is Ana
            p1 q1 z #3 -> wrong_shape in recent 0, p1 has 0 (0 right in 0s), [wrong_shape 1 not_participant 1]
            p1 q1 [b] #4 -> wrong_shape in recent 1, p1 has 0 (0 right in 0s), [wrong_shape 2 not_participant 1]
            p1 q1 =1 #5 -> wrong_shape in recent 2, p1 has 0 (0 right in 0s), [wrong_shape 3 not_participant 1]
            p1 q9 b #6 -> unknown_question in recent 3, p1 has 0 (0 right in 0s), [unknown_quiz 1 unknown_question 1]
            p1 q1 b #7 -> counted 1000 in question 0, p1 has 1000 (1 right in 0s), [counted 1 wrong_shape 3 not_participant 1]
            close_question q1 -> accepted 4 (v1)
            open_question q2 -> accepted 5 (v1)
            p1 q2 [a,a] #8 -> wrong_shape in recent 4, p1 has 1000 (1 right in 0s), [wrong_shape 1]
            p1 q2 [a,z] #9 -> wrong_shape in recent 5, p1 has 1000 (1 right in 0s), [wrong_shape 2]
            p1 q2 [c,a] #10 -> counted 1000 in question 1, p1 has 2000 (2 right in 0s), [counted 1 wrong_shape 2]
            close_question q2 -> accepted 6 (v1)
            open_question q3 -> accepted 7 (v1)
            p1 q3 "3.14" #11 -> wrong_shape in recent 6, p1 has 2000 (2 right in 0s), [wrong_shape 1]
            p1 q3 =3.150 #12 -> counted 1000 in question 2, p1 has 3000 (3 right in 0s), [counted 1 wrong_shape 1]
            close_question q3 -> accepted 8 (v1)
            open_question q4 -> accepted 9 (v1)
            p1 q4 "__LIMA__city" #13 -> counted 1000 in question 3, p1 has 4000 (4 right in 0s), [counted 1]
            board -> 1 Ana 4000
            books -> 4000 points, all [counted 4 unknown_quiz 1 unknown_question 1 wrong_shape 6 not_participant 1]; unknown: [unknown_quiz 1 unknown_question 1]; 0: [counted 1 wrong_shape 3 not_participant 1]; 1: [counted 1 wrong_shape 2]; 2: [counted 1 wrong_shape 1]; 3: [counted 1]
        "#]],
    );
}

#[test]
fn someone_who_did_not_join_is_booked_and_gets_no_receipt() {
    check(
        "publish host q1:single(b)
         open
         open_question q1
         p7 q1 b #1
         p7 q9 b #2
         board
         books",
        expect![[r#"
            publish host q1:single(b) -> accepted 1 (v1)
            open -> accepted 2 (v1)
            open_question q1 -> accepted 3 (v1)
            p7 q1 b #1 -> no receipt, [not_participant 1]
            p7 q9 b #2 -> no receipt, [unknown_question 1]
            board -> nothing
            books -> 0 points, all [unknown_question 1 not_participant 1]; unknown: [unknown_question 1]; 0: [not_participant 1]
        "#]],
    );
}

#[test]
fn a_gateway_clock_is_believed_within_the_delay_only() {
    // Ahead: never later than the append. Behind: never more than 5 s before the append.
    check(
        "publish host q1:single(b):1000:20s:kahoot
         join p1 Ana
         join p2 Bo
         join p3 Cy
         join p4 Di
         open
         @10 open_question q1
         @18 p1 q1 b #1 at=99
         @18 p2 q1 b #2 at=12
         @36 p3 q1 b #3 at=12
         @35 p4 q1 b #4 at=12
         board",
        expect![[r#"
            publish host q1:single(b):1000:20s:kahoot -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            join p2 Bo -> p2 is Bo
            join p3 Cy -> p3 is Cy
            join p4 Di -> p4 is Di
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @18 p1 q1 b #1 at=99 -> counted 800 in question 0, p1 has 800 (1 right in 8s), [counted 1]
            @18 p2 q1 b #2 at=12 -> counted 925 in question 0, p2 has 925 (1 right in 3s), [counted 2]
            @36 p3 q1 b #3 at=12 -> late in recent 0, p3 has 0 (0 right in 0s), [counted 2 late 1]
            @35 p4 q1 b #4 at=12 -> counted 500 in question 0, p4 has 500 (1 right in 20s), [counted 3 late 1]
            board -> 1 Bo 925; 2 Ana 800; 3 Di 500; 4 Cy 0
        "#]],
    );
}

#[test]
fn points_follow_the_time_taken_and_wrong_answers_take_none() {
    check(
        "publish host q1:single(b):1000:30s:kahoot q2:single(b):12.5 q3:single(b):0
         join p1 Ana
         open
         @10 open_question q1
         @12 p1 q1 b #1
         @50 open_question q2
         @55.5 p1 q2 b #2
         @56 close_question q2
         @57 open_question q3
         @58 p1 q3 a #3
         board",
        expect![[r#"
            publish host q1:single(b):1000:30s:kahoot q2:single(b):12.5 q3:single(b):0 -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            open -> accepted 2 (v1)
            @10 open_question q1 -> accepted 3 (v1)
            @12 p1 q1 b #1 -> counted 967 in question 0, p1 has 967 (1 right in 2s), [counted 1]
            @50 open_question q2 -> accepted 4 (v1)
            @55.5 p1 q2 b #2 -> counted 12.5 in question 1, p1 has 979.5 (2 right in 7.5s), [counted 1]
            @56 close_question q2 -> accepted 5 (v1)
            @57 open_question q3 -> accepted 6 (v1)
            @58 p1 q3 a #3 -> counted 0 in question 2, p1 has 979.5 (2 right in 7.5s), [counted 1]
            board -> 1 Ana 979.5
        "#]],
    );
}

#[test]
fn unscored_receipts_take_turns_in_sixteen_places() {
    let mut script = String::from("publish host q1:single(b)\njoin p1 Ana\nopen\n");
    for submission in 1..=17 {
        script += &format!("p1 q9 b #{submission}\n");
    }
    check(
        &script,
        expect![[r#"
        publish host q1:single(b) -> accepted 1 (v1)
        join p1 Ana -> p1 is Ana
        open -> accepted 2 (v1)
        p1 q9 b #1 -> unknown_question in recent 0, p1 has 0 (0 right in 0s), [unknown_question 1]
        p1 q9 b #2 -> unknown_question in recent 1, p1 has 0 (0 right in 0s), [unknown_question 2]
        p1 q9 b #3 -> unknown_question in recent 2, p1 has 0 (0 right in 0s), [unknown_question 3]
        p1 q9 b #4 -> unknown_question in recent 3, p1 has 0 (0 right in 0s), [unknown_question 4]
        p1 q9 b #5 -> unknown_question in recent 4, p1 has 0 (0 right in 0s), [unknown_question 5]
        p1 q9 b #6 -> unknown_question in recent 5, p1 has 0 (0 right in 0s), [unknown_question 6]
        p1 q9 b #7 -> unknown_question in recent 6, p1 has 0 (0 right in 0s), [unknown_question 7]
        p1 q9 b #8 -> unknown_question in recent 7, p1 has 0 (0 right in 0s), [unknown_question 8]
        p1 q9 b #9 -> unknown_question in recent 8, p1 has 0 (0 right in 0s), [unknown_question 9]
        p1 q9 b #10 -> unknown_question in recent 9, p1 has 0 (0 right in 0s), [unknown_question 10]
        p1 q9 b #11 -> unknown_question in recent 10, p1 has 0 (0 right in 0s), [unknown_question 11]
        p1 q9 b #12 -> unknown_question in recent 11, p1 has 0 (0 right in 0s), [unknown_question 12]
        p1 q9 b #13 -> unknown_question in recent 12, p1 has 0 (0 right in 0s), [unknown_question 13]
        p1 q9 b #14 -> unknown_question in recent 13, p1 has 0 (0 right in 0s), [unknown_question 14]
        p1 q9 b #15 -> unknown_question in recent 14, p1 has 0 (0 right in 0s), [unknown_question 15]
        p1 q9 b #16 -> unknown_question in recent 15, p1 has 0 (0 right in 0s), [unknown_question 16]
        p1 q9 b #17 -> unknown_question in recent 0, p1 has 0 (0 right in 0s), [unknown_question 17]
    "#]],
    );
}

#[test]
fn a_free_paced_quiz_takes_every_question_from_open_to_close() {
    check(
        "publish free q1:single(b) q2:single(a)
         join p1 Ana
         join p2 Bo
         p1 q1 b #1
         @10 open
         open_question q1
         @11 p1 q1 b #2
         @14 p1 q2 a #3
         @20 close
         unsealed
         @21 p2 q1 b #4 at=20
         @22 p2 q2 a #5 at=20.001
         @25 seal q1
         @25 seal quiz
         unsealed
         @25 p2 q2 a #6 at=20
         status
         board
         books",
        expect![[r#"
            publish free q1:single(b) q2:single(a) -> accepted 1 (v1)
            join p1 Ana -> p1 is Ana
            join p2 Bo -> p2 is Bo
            p1 q1 b #1 -> too early in recent 0, p1 has 0 (0 right in 0s), [too early 1]
            @10 open -> accepted 2 (v1)
            open_question q1 -> refused: the quiz is free-paced: its questions open and close with it
            @11 p1 q1 b #2 -> counted 1000 in question 0, p1 has 1000 (1 right in 1s), [counted 1]
            @14 p1 q2 a #3 -> counted 1000 in question 1, p1 has 2000 (2 right in 5s), [counted 1]
            @20 close -> accepted 3 (v1)
            unsealed -> quiz at 20
            @21 p2 q1 b #4 at=20 -> counted 1000 in question 0, p2 has 1000 (1 right in 10s), [counted 2]
            @22 p2 q2 a #5 at=20.001 -> late in recent 0, p2 has 1000 (1 right in 10s), [counted 1 late 1]
            @25 seal q1 -> nothing
            @25 seal quiz -> sealed quiz
            unsealed -> nothing
            @25 p2 q2 a #6 at=20 -> late in recent 1, p2 has 1000 (1 right in 10s), [counted 1 late 2]
            status -> 3 v1 closed, final
            board -> 1 Ana 2000; 2 Bo 1000
            books -> 3000 points, all [counted 3 late 2 too early 1]; unknown: [too early 1]; 0: [counted 2]; 1: [counted 1 late 2]
        "#]],
    );
}
