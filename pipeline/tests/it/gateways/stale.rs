//! A gateway whose view lags: it looks again, it says that it cannot tell yet, and it never refuses for good.

use std::pin::pin;

use futures::future::join_all;
use futures::poll;
use gateway::auth::Role;
use serde_json::json;

use super::house::{Door, VIEW_AGE_MS_MAX, capitals, choice, house, id};

#[tokio::test]
async fn an_answer_to_a_quiz_that_the_view_lacks_is_let_in_once_it_has_it() {
    let (mut house, a, b) = house().await;
    house.settle().await;
    house.b_catches_up().await;
    house.clock.advance(10);
    house.asked(&a, "geo", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;

    let mut answer = pin!(b.answer("geo", &ana.token, &choice("b", 1)).send());
    assert!(poll!(&mut answer).is_pending(), "B looks again instead of refusing");
    assert_eq!(b.log.appended(), 0);
    house.b_catches_up().await;
    let accepted = answer.await.ok(202);
    assert_eq!(b.log.appended(), 1);

    house.settle().await;
    let receipt = a.receipt("geo", &ana, accepted["submission"].as_str().unwrap()).send().await.ok(200);
    assert_eq!((&receipt["verdict"], &receipt["position"]), (&json!("counted"), &accepted["position"]));
}

#[tokio::test]
async fn joins_commands_and_publishing_look_again_too() {
    let (mut house, a, b) = house().await;
    house.settle().await;
    house.b_catches_up().await;
    house.clock.advance(10);
    house.publish(&a, "geo", capitals(1)).await;
    let host = house.host();

    let mut join = pin!(b.post("/v1/quizzes/geo/participants", &json!({"name": "Ana"})).send());
    let mut open = pin!(b.post("/v1/quizzes/geo/commands", &json!({"type": "open"})).token(&host).send());
    let mut changed = capitals(1);
    changed["title"] = json!("Capitals, again");
    let put = b.put("/v1/quizzes/geo", &changed).token(&host).header("if-match", "\"1\"");
    let mut put = pin!(put.send());
    assert!(poll!(&mut join).is_pending() && poll!(&mut open).is_pending() && poll!(&mut put).is_pending());
    assert_eq!(b.log.appended(), 0);
    house.b_catches_up().await;
    house.b_follows = true;
    assert_eq!(house.during(put).await.ok(200)["version"], 2);
    house.during(join).await.ok(201);
    house.during(open).await.ok(202);
}

#[tokio::test]
async fn whoever_joined_through_a_answers_through_b_at_once() {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    house.b_catches_up().await;
    let ana = house.join(&a, "geo", "Ana").await;
    // The token from joining is proof enough: B has not moved.
    b.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    let receipt = b.receipt("geo", &ana, &id(1)).send().await;
    assert_eq!(receipt.header("retry-after"), Some("1"));
    receipt.refused(404, "receipt_pending");

    // A subject's own token is not: B looks until it sees the participant.
    house.clock.advance(10);
    let bea = house.token(Role::Player, "bea");
    let join = a.post("/v1/quizzes/geo/participants", &json!({"name": "Bea"})).token(&bea);
    house.during(join.send()).await.ok(201);
    house.settle().await;
    let mut answer = pin!(b.answer("geo", &bea, &choice("b", 1)).send());
    assert!(poll!(&mut answer).is_pending());
    house.b_catches_up().await;
    answer.await.ok(202);

    house.settle().await;
    let books = a.get("/v1/quizzes/geo/books").token(&house.host()).send().await.ok(200);
    assert_eq!((&books["counted"], &books["received"]), (&json!(2), &json!(2)), "one id, two participants");
}

#[tokio::test]
async fn a_view_that_stays_stale_is_503_and_nothing_is_written() {
    let (mut house, a, b) = house().await;
    house.asked(&a, "old", 1).await;
    house.publish(&a, "draft", capitals(1)).await;
    house.b_catches_up().await;
    house.clock.advance(VIEW_AGE_MS_MAX + 1);
    house.asked(&a, "new", 1).await;
    let ana = house.join(&a, "new", "Ana").await;
    let bea = house.token(Role::Player, "bea");
    let join = a.post("/v1/quizzes/old/participants", &json!({"name": "Bea"})).token(&bea);
    house.during(join.send()).await.ok(201);
    house.settle().await;

    let host = house.host();
    let other = json!({"question": "q9", "answer": {"choice": "b"}, "submission": id(1)});
    let asks = vec![
        b.answer("new", &ana.token, &choice("b", 1)),
        b.answer("old", &bea, &choice("b", 1)),
        b.answer("draft", &bea, &other),
        b.answer("draft", &bea, &choice("z", 1)),
        b.post("/v1/quizzes/new/participants", &json!({"name": "Cid"})),
        b.post("/v1/quizzes/new/commands", &json!({"type": "close"})).token(&host),
        b.put("/v1/quizzes/new", &capitals(1)).token(&host).header("if-match", "\"1\""),
    ];
    for reply in join_all(asks.into_iter().map(|ask| ask.send())).await {
        reply.refused(503, "view_stale");
    }
    // A view that knows everything the answer needs, but is too old to tell whether the question is open.
    let cid = house.join(&a, "old", "Cid").await;
    b.answer("old", &cid.token, &choice("b", 1)).send().await.refused(503, "view_stale");
    // A quiz that opened has no newer version: what does not fit it never will.
    b.answer("old", &bea, &other).send().await.refused(422, "unknown_question");
    b.answer("old", &bea, &choice("z", 1)).send().await.refused(422, "unknown_choice");
    assert_eq!(b.log.appended(), 0);

    house.b_catches_up().await;
    b.answer("new", &ana.token, &choice("b", 1)).send().await.ok(202);
    b.answer("old", &bea, &choice("b", 1)).send().await.ok(202);
}

#[tokio::test]
async fn what_is_really_absent_is_refused_as_soon_as_the_view_is_newer_than_the_request() {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    house.b_catches_up().await;
    let (host, nobody) = (house.host(), house.token(Role::Player, "nobody"));
    let written = [a.log.appended(), b.log.appended()];
    let other = json!({"question": "q9", "answer": {"choice": "b"}, "submission": id(1)});
    let wrong = json!({"question": "q1", "answer": {"text": "Lima"}, "submission": id(1)});
    for door in [&a, &b] {
        let asks = [
            (door.answer("nil", &nobody, &choice("b", 1)), 404, "unknown_quiz"),
            (door.post("/v1/quizzes/nil/participants", &json!({"name": "Cid"})), 404, "unknown_quiz"),
            (
                door.post("/v1/quizzes/nil/commands", &json!({"type": "open"})).token(&host),
                404,
                "unknown_quiz",
            ),
            (door.answer("geo", &nobody, &choice("b", 1)), 403, "not_participant"),
            (door.answer("geo", &nobody, &other), 422, "unknown_question"),
            (door.answer("geo", &nobody, &wrong), 422, "wrong_shape"),
        ];
        let (asks, expected): (Vec<_>, Vec<_>) =
            asks.into_iter().map(|(ask, status, code)| (ask, (status, code))).unzip();
        let mut replies = pin!(join_all(asks.into_iter().map(|ask| ask.send())));
        assert!(poll!(&mut replies).is_pending());
        house.clock.advance(1);
        house.settle().await;
        house.b_catches_up().await;
        for (reply, (status, code)) in replies.await.into_iter().zip(expected) {
            reply.refused(status, code);
        }
    }
    assert_eq!([a.log.appended(), b.log.appended()], written, "what is refused is in no log");
}

#[tokio::test]
async fn a_view_of_the_same_millisecond_may_lack_what_was_written_in_it() {
    let (mut house, a, b) = house().await;
    house.settle().await;
    house.b_catches_up().await;
    // The clock stands still: B's view is as of now, and does not have what was published just after it looked.
    house.asked(&a, "geo", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;
    let mut answer = pin!(b.answer("geo", &ana.token, &choice("b", 1)).send());
    assert!(poll!(&mut answer).is_pending(), "not refused by a view that cannot know");
    house.b_catches_up().await;
    answer.await.ok(202);
}

#[tokio::test]
async fn an_answer_that_only_the_newest_version_takes_is_not_refused_by_an_older_one() {
    let (mut house, a, b) = house().await;
    house.publish(&a, "geo", capitals(1)).await;
    house.b_catches_up().await;
    house.clock.advance(10);
    let mut changed = capitals(1);
    changed["questions"][0]["choices"].as_array_mut().unwrap().push(json!({"id": "c", "text": "Cusco"}));
    house.publish(&a, "geo", changed).await;
    house.command(&a, "geo", json!({"type": "open"})).await;
    house.command(&a, "geo", json!({"type": "open_question", "question": "q1"})).await;
    let ana = house.join(&a, "geo", "Ana").await;

    let mut answer = pin!(b.answer("geo", &ana.token, &choice("c", 1)).send());
    assert!(poll!(&mut answer).is_pending(), "B's version lacks the choice: it looks again");
    house.b_catches_up().await;
    answer.await.ok(202);
    house.settle().await;
    let receipt = a.receipt("geo", &ana, &id(1)).send().await.ok(200);
    assert_eq!((&receipt["verdict"], &receipt["correct"]), (&json!("counted"), &json!(false)));
}

#[tokio::test]
async fn reads_through_b_are_older_but_whole() {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    house.join(&a, "geo", "Ana").await;
    house.b_catches_up().await;
    house.join(&a, "geo", "Bea").await;
    house.command(&a, "geo", json!({"type": "close"})).await;
    let board = async |door: &Door| door.get("/v1/quizzes/geo/leaderboard").send().await.ok(200);
    let quiz = async |door: &Door| door.get("/v1/quizzes/geo").send().await.ok(200);
    assert_eq!((&board(&b).await["participants"], &quiz(&b).await["phase"]), (&json!(1), &json!("open")));
    assert_eq!((&board(&a).await["participants"], &quiz(&a).await["phase"]), (&json!(2), &json!("closed")));
    house.b_catches_up().await;
    assert_eq!(board(&b).await, board(&a).await);
    assert_eq!(quiz(&b).await, quiz(&a).await);
}
