//! Answers through both doors: one id counts once, receipts do not change, and the books balance at every moment.

use serde_json::{Value, json};

use super::house::{Door, House, choice, house, id, two_know_ana};

async fn books(house: &House, door: &Door) -> Value {
    let books = door.get("/v1/quizzes/geo/books").token(&house.host()).send().await.ok(200);
    let figure = |name: &str| books[name].as_u64().unwrap();
    let rejected: u64 = books["rejected"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let sum = figure("counted") + figure("repeated") + figure("late") + figure("too_early") + rejected;
    assert_eq!(figure("received"), sum + figure("in_flight"), "{books}");
    assert_eq!(books["points_awarded"], books["points_ranked"], "{books}");
    books
}

fn figures(books: &Value, names: [&str; 4]) -> [u64; 4] {
    names.map(|name| books[name].as_u64().unwrap())
}

#[tokio::test]
async fn one_hand_in_through_both_gateways_counts_once() {
    let (mut house, a, b, ana) = two_know_ana().await;
    let first = a.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    // B does not know: it goes into the log again.
    let second = b.answer("geo", &ana.token, &choice("b", 1)).send().await;
    assert_eq!(second.header("idempotent-replayed"), None);
    assert_ne!(second.ok(202)["position"], first["position"]);
    house.settle().await;
    let receipt = a.receipt("geo", &ana, &id(1)).send().await.ok(200);
    assert_eq!((&receipt["verdict"], &receipt["position"]), (&json!("counted"), &first["position"]));

    // Both know now, and say what was said first.
    house.b_catches_up().await;
    for door in [&a, &b] {
        let again = door.answer("geo", &ana.token, &choice("b", 1)).send().await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.ok(202), first);
        let waited = door.answer("geo", &ana.token, &choice("b", 1)).header("prefer", "wait=3");
        assert_eq!(waited.send().await.ok(200), receipt);
        assert_eq!(door.receipt("geo", &ana, &id(1)).send().await.ok(200), receipt, "stable everywhere");
    }
    let books = books(&house, &a).await;
    assert_eq!(figures(&books, ["received", "counted", "repeated", "in_flight"]), [2, 1, 1, 0]);
    assert_eq!(books["points_awarded"], "1000");
}

#[tokio::test]
async fn one_id_with_two_bodies_is_refused_where_it_is_known_and_repeated_elsewhere() {
    let (mut house, a, b, ana) = two_know_ana().await;
    let first = a.answer("geo", &ana.token, &choice("a", 1)).send().await.ok(202);
    house.settle().await;
    b.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    a.answer("geo", &ana.token, &choice("b", 1)).send().await.refused(422, "submission_reused");
    // Another id for the same question is a second answer.
    b.answer("geo", &ana.token, &choice("b", 2)).send().await.ok(202);
    house.settle().await;
    house.b_catches_up().await;
    b.answer("geo", &ana.token, &choice("b", 1)).send().await.refused(422, "submission_reused");
    for door in [&a, &b] {
        let receipt = door.receipt("geo", &ana, &id(1)).send().await.ok(200);
        assert_eq!((&receipt["position"], &receipt["points"]), (&first["position"], &json!("0")));
        assert_eq!(door.receipt("geo", &ana, &id(2)).send().await.ok(200)["verdict"], "repeated");
        let books = books(&house, door).await;
        assert_eq!(figures(&books, ["received", "counted", "repeated", "in_flight"]), [3, 1, 2, 0]);
        assert_eq!(books["points_awarded"], "0", "the first answer stands");
    }
}

#[tokio::test]
async fn a_hand_in_is_named_by_its_submission_or_its_key() {
    let (mut house, a, b, ana) = two_know_ana().await;
    let bare = json!({"question": "q1", "answer": {"choice": "b"}});
    let ask = |door: &Door, body: &Value| door.answer("geo", &ana.token, body);
    ask(&a, &bare).send().await.refused(400, "missing_submission");
    for key in ["", "\"\"", &"k".repeat(256)] {
        ask(&a, &bare).header("idempotency-key", key).send().await.refused(422, "invalid_submission");
    }
    let two = ask(&a, &bare).header("idempotency-key", "one").header("idempotency-key", "two");
    two.send().await.refused(422, "invalid_submission");
    let differ = ask(&a, &choice("b", 1)).header("idempotency-key", &id(2));
    differ.send().await.refused(422, "submission_conflict");
    assert_eq!(a.log.appended(), 4, "a refused answer is in no log");

    // A key that is a UUID is the submission; any other text stands for one, the same at every gateway.
    let by_key = ask(&a, &bare).header("idempotency-key", "my first answer").send().await.ok(202);
    let quoted = ask(&b, &bare).header("idempotency-key", "\"my first answer\"").send().await.ok(202);
    assert_eq!(by_key["submission"], quoted["submission"]);
    let by_id = ask(&a, &bare).header("idempotency-key", &id(9)).send().await.ok(202);
    assert_eq!(by_id["submission"], id(9));
    let both = ask(&b, &choice("b", 9)).header("idempotency-key", &id(9)).send().await.ok(202);
    assert_eq!(both["submission"], id(9));
    house.settle().await;
    let books = books(&house, &a).await;
    assert_eq!(figures(&books, ["received", "counted", "repeated", "in_flight"]), [4, 1, 3, 0]);
}

#[tokio::test]
async fn joining_is_repeatable_by_key_through_any_gateway() {
    let (mut house, a, b, _) = two_know_ana().await;
    let ask = |door: &Door, name: &str, key: &str| {
        let join = door.post("/v1/quizzes/geo/participants", &json!({"name": name}));
        join.header("idempotency-key", key).send()
    };
    let key = "sixteen-chars-ok";
    house.during(ask(&a, "Bea", "fifteen-chars-x")).await.refused(422, "invalid_submission");
    let first = house.during(ask(&a, "Bea", key)).await.ok(201);
    house.b_follows = true;
    let second = house.during(ask(&b, "Bea", key)).await.ok(201);
    assert_eq!(first["participant"], second["participant"], "one person, whichever gateway");
    for door in [&a, &b] {
        let again = house.during(ask(door, "Bea", key)).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.ok(201)["participant"], first["participant"]);
        house.during(ask(door, "Eva", key)).await.refused(422, "submission_reused");
    }
    assert_ne!(
        house.during(ask(&a, "Bea", "another-key-of-16")).await.ok(201)["participant"],
        first["participant"]
    );
    // With a token it is the subject who joins: 201, then 200; another name is a change of name.
    let token = house.token(gateway::auth::Role::Player, "cid");
    let named = |door: &Door, name: &str| {
        door.post("/v1/quizzes/geo/participants", &json!({"name": name})).token(&token).send()
    };
    let cid = house.during(named(&a, "Cid")).await.ok(201);
    house.settle().await;
    assert_eq!(house.during(named(&b, "Cid")).await.ok(200)["participant"], cid["participant"]);
    house.during(named(&b, "Cyd")).await.ok(200);
    let own = b.get(&format!("/v1/quizzes/geo/participants/{}", cid["participant"].as_str().unwrap()));
    assert_eq!(own.token(&token).send().await.ok(200)["name"], "Cyd");
    assert_eq!(a.get("/v1/quizzes/geo/leaderboard").send().await.ok(200)["participants"], 4);
}

#[tokio::test]
async fn of_two_joins_of_one_person_at_once_both_are_answered() {
    let (mut house, a, b, _) = two_know_ana().await;
    house.b_follows = true;
    let token = house.token(gateway::auth::Role::Player, "bea");
    let ask = |door: &Door, name: &str| {
        door.post("/v1/quizzes/geo/participants", &json!({"name": name})).token(&token).send()
    };
    // One of the names is never seen: both joins are applied before anybody looks.
    let both = futures::future::join(ask(&a, "Bea"), ask(&a, "Beatriz"));
    let both = futures::future::join(both, ask(&b, "Trix"));
    let within = std::time::Duration::from_secs(20);
    let answered = house.during(tokio::time::timeout(within, both)).await;
    let ((one, two), three) = answered.expect("nobody waits for a name that was changed again");
    assert_eq!(one.ok(201)["participant"], two.ok(201)["participant"]);
    three.ok(201);
    let board = a.get("/v1/quizzes/geo/leaderboard").send().await.ok(200);
    assert_eq!(board["participants"], 2);
}

#[tokio::test]
async fn the_newest_sixteen_receipts_of_unscored_answers_are_kept() {
    let (mut house, a, b, ana) = two_know_ana().await;
    for n in 1..=20 {
        let door = if n % 2 == 0 { &a } else { &b };
        door.answer("geo", &ana.token, &choice("b", n)).send().await.ok(202);
    }
    house.settle().await;
    house.b_catches_up().await;
    for door in [&a, &b] {
        // The first counted, 19 did not, 3 of those are forgotten.
        for n in 1..=20 {
            let reply = door.receipt("geo", &ana, &id(n)).send().await;
            match n {
                1 => assert_eq!(reply.ok(200)["verdict"], "counted"),
                2..=4 => {
                    assert!(reply.header("retry-after").is_some());
                    reply.refused(404, "receipt_pending");
                }
                _ => assert_eq!(reply.ok(200)["verdict"], "repeated"),
            }
        }
        let own = door.get(&format!("/v1/quizzes/geo/participants/{}", ana.id)).token(&ana.token);
        let answers = own.send().await.ok(200)["answers"].as_array().unwrap().clone();
        assert_eq!(answers.len(), 17);
        assert_eq!(answers[0]["verdict"], "counted");
    }
    let books = books(&house, &a).await;
    assert_eq!(figures(&books, ["received", "counted", "repeated", "in_flight"]), [20, 1, 19, 0]);
}

#[tokio::test]
async fn a_result_and_a_receipt_are_for_oneself_and_for_hosts() {
    let (mut house, a, _, ana) = two_know_ana().await;
    let bea = house.join(&a, "geo", "Bea").await;
    house.asked(&a, "other", 1).await;
    let cid = house.join(&a, "other", "Cid").await;
    a.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    house.settle().await;
    let result = |token: &str| a.get(&format!("/v1/quizzes/geo/participants/{}", ana.id)).token(token).send();
    let own = result(&ana.token).await.ok(200);
    assert_eq!(result(&house.host()).await.ok(200), own);
    result(&bea.token).await.refused(404, "unknown_participant");
    result(&cid.token).await.refused(404, "unknown_participant");
    result(&house.token(gateway::auth::Role::Viewer, "v")).await.refused(404, "unknown_participant");
    let nobody = a.get(&format!("/v1/quizzes/geo/participants/{}", ana.id));
    nobody.send().await.refused(401, "token_missing");
    let unknown = a.get(&format!("/v1/quizzes/geo/participants/{}", "0".repeat(32))).token(&house.host());
    unknown.send().await.refused(404, "unknown_participant");

    let path = format!("/v1/quizzes/geo/submissions/{}?participant={}", id(1), ana.id);
    let receipt = |token: &str| a.get(&path).token(token).send();
    assert_eq!(receipt(&house.host()).await.ok(200)["participant"], ana.id);
    assert_eq!(receipt(&ana.token).await.ok(200)["verdict"], "counted");
    receipt(&bea.token).await.refused(404, "unknown_participant");
    receipt(&cid.token).await.refused(403, "wrong_quiz");
    a.receipt("geo", &bea, &id(1)).send().await.refused(404, "receipt_pending");
    a.receipt("geo", &ana, "not-a-uuid").send().await.refused(404, "unknown_submission");
}

#[tokio::test]
async fn books_count_what_is_in_the_log_and_not_in_the_view_exactly() {
    for sections in [1, 8] {
        let (mut house, a, b) = house().await;
        house.asked(&a, "geo", sections).await;
        house.asked(&a, "noise", 1).await;
        let players = house.crowd(&a, "geo", 12).await;
        let noise = house.join(&a, "noise", "Noise").await;
        house.b_catches_up().await;
        let names = ["received", "counted", "repeated", "in_flight"];
        for (n, player) in (0u64..).zip(&players) {
            // The grade stage stands still: all that is handed in, and nothing else, is in flight.
            let door = if n % 3 == 0 { &b } else { &a };
            door.answer("geo", &player.token, &choice("b", n)).send().await.ok(202);
            a.answer("noise", &noise.token, &choice("b", n)).send().await.ok(202);
            assert_eq!(figures(&books(&house, &a).await, names), [n + 1, 0, 0, n + 1]);
        }
        house.grade().await;
        assert_eq!(figures(&books(&house, &a).await, names), [12, 0, 0, 12], "graded is not ranked yet");
        house.rank().await;
        assert_eq!(figures(&books(&house, &a).await, names), [12, 12, 0, 0]);
        assert_eq!(figures(&books(&house, &b).await, names), [12, 0, 0, 12], "B is further behind");
        a.answer("geo", &players[0].token, &choice("a", 100)).send().await.ok(202);
        assert_eq!(figures(&books(&house, &a).await, names), [13, 12, 0, 1]);
        house.settle().await;
        house.b_catches_up().await;
        let (one, other) = (books(&house, &a).await, books(&house, &b).await);
        assert_eq!(one, other);
        assert_eq!(figures(&one, names), [13, 12, 1, 0]);
        assert_eq!(one["questions"]["q1"]["counted"], 12);
    }
}
