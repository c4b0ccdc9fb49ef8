//! Publishing, joining and commands: seen by the next read, decided once however many gateways ask.

use std::pin::pin;

use futures::{future, poll};
use ingest::partition::of_section;
use serde_json::{Value, json};

use super::house::{Door, House, capitals, choice, house, house_with, id, settings};

fn titled(title: &str) -> Value {
    let mut definition = capitals(1);
    definition["title"] = json!(title);
    definition
}

async fn put(
    house: &mut House,
    door: &Door,
    quiz: &str,
    definition: &Value,
    condition: Option<(&'static str, &str)>,
) -> super::request::Reply {
    let mut put = door.put(&format!("/v1/quizzes/{quiz}"), definition).token(&house.host());
    if let Some((name, value)) = condition {
        put = put.header(name, value);
    }
    house.during(put.send()).await
}

#[tokio::test]
async fn what_is_written_through_a_is_read_through_a_at_once() {
    let (mut house, a, _) = house().await;
    let host = house.host();
    let published = put(&mut house, &a, "geo", &capitals(1), None).await;
    assert_eq!(
        (published.header("etag"), published.header("location")),
        (Some("\"1\""), Some("/v1/quizzes/geo"))
    );
    assert_eq!(published.ok(201), json!({"quiz": "geo", "version": 1}));
    // From here nothing is stepped but during a write: what it answered is there to be read.
    let shown = a.get("/v1/quizzes/geo").token(&host).send().await;
    assert_eq!(shown.header("etag"), Some("\"1\""));
    let shown = shown.ok(200);
    assert_eq!((&shown["phase"], &shown["definition"]["title"]), (&json!("draft"), &json!("Capitals")));
    let list = a.get("/v1/quizzes").send().await.ok(200);
    assert_eq!((&list["quizzes"][0]["quiz"], &list["next_cursor"]), (&json!("geo"), &Value::Null));

    let join = a.post("/v1/quizzes/geo/participants", &json!({"name": "Ana"}));
    let joined = house.during(join.send()).await;
    let place = joined.header("location").unwrap().to_owned();
    let joined = joined.ok(201);
    let own = a.get(&place).token(joined["token"].as_str().unwrap()).send().await.ok(200);
    assert_eq!((&own["name"], &own["rank"], &own["points"]), (&json!("Ana"), &json!(1), &json!("0")));
    let board = a.get("/v1/quizzes/geo/leaderboard").send().await.ok(200);
    assert_eq!(board["standings"][0]["participant"], joined["participant"]);

    let post = |command: Value| a.post("/v1/quizzes/geo/commands", &command).token(&host).send();
    house.during(post(json!({"type": "open"}))).await.ok(202);
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["phase"], "open");
    house.during(post(json!({"type": "open_question", "question": "q1"}))).await.ok(202);
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["question"]["id"], "q1");
    house.during(post(json!({"type": "close_question", "question": "q1"}))).await.ok(202);
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["question"], Value::Null);
    house.during(post(json!({"type": "close"}))).await.ok(202);
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["phase"], "closed");
}

#[tokio::test]
async fn of_two_hosts_who_replace_the_same_version_one_wins() {
    let (mut house, a, b) = house().await;
    house.b_follows = true;
    let host = house.host();
    house.publish(&a, "geo", capitals(1)).await;
    for version in 1..7u64 {
        let matches = format!("\"{version}\"");
        let ask = |door: &Door, title: &str| {
            door.put("/v1/quizzes/geo", &titled(title)).token(&host).header("if-match", &matches).send()
        };
        let (one, other) = (ask(&a, &format!("A {version}")), ask(&b, &format!("B {version}")));
        // Who comes first alternates; the log decides.
        let both = if version % 2 == 0 {
            house.during(future::join(one, other)).await
        } else {
            let (other, one) = house.during(future::join(other, one)).await;
            (one, other)
        };
        let mut statuses = [both.0.status, both.1.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412], "{both:?}");
        let (won, lost, by) =
            if both.0.status == 200 { (both.0, both.1, "A") } else { (both.1, both.0, "B") };
        lost.refused(412, "version_mismatch");
        assert_eq!(won.ok(200)["version"], version + 1);
        for door in [&a, &b] {
            let shown = door.get("/v1/quizzes/geo").send().await.ok(200);
            assert_eq!(
                (&shown["version"], &shown["title"]),
                (&json!(version + 1), &json!(format!("{by} {version}")))
            );
        }
    }
}

#[tokio::test]
async fn of_two_hosts_who_make_the_same_quiz_one_does() {
    let (mut house, a, b) = house().await;
    house.b_follows = true;
    let host = house.host();
    let ask = |door: &Door, title: &str| {
        door.put("/v1/quizzes/geo", &titled(title)).token(&host).header("if-none-match", "*").send()
    };
    let (one, other) = house.during(future::join(ask(&a, "A"), ask(&b, "B"))).await;
    let (won, lost) = if one.status == 201 { (one, other) } else { (other, one) };
    assert_eq!(won.ok(201)["version"], 1);
    lost.refused(412, "version_mismatch");
}

#[tokio::test]
async fn publishing_follows_the_conditions_and_the_phase() {
    let (mut house, a, b) = house().await;
    house.b_follows = true;
    let first = titled("one");
    put(&mut house, &a, "geo", &first, Some(("if-match", "\"1\""))).await.refused(412, "version_mismatch");
    put(&mut house, &a, "geo", &first, Some(("if-match", "*"))).await.refused(412, "version_mismatch");
    put(&mut house, &a, "geo", &first, Some(("if-none-match", "*"))).await.ok(201);
    for door in [&a, &b] {
        let same = put(&mut house, door, "geo", &first, None).await;
        assert_eq!(same.header("etag"), Some("\"1\""));
        assert_eq!(same.ok(200)["version"], 1, "identical content is the same version");
    }
    put(&mut house, &b, "geo", &titled("two"), Some(("if-match", "\"7\", \"1\""))).await.ok(200);
    put(&mut house, &a, "geo", &titled("x"), Some(("if-match", "\"1\"")))
        .await
        .refused(412, "version_mismatch");
    put(&mut house, &a, "geo", &titled("x"), Some(("if-match", "one")))
        .await
        .refused(400, "malformed_request");
    let mut sections = titled("two");
    sections["sections"] = json!(2);
    put(&mut house, &b, "geo", &sections, None).await.refused(409, "sections_fixed");

    house.command(&a, "geo", json!({"type": "open"})).await;
    for door in [&a, &b] {
        put(&mut house, door, "geo", &titled("x"), None).await.refused(409, "quiz_open");
        put(&mut house, door, "geo", &titled("x"), Some(("if-match", "\"2\"")))
            .await
            .refused(409, "quiz_open");
        assert_eq!(put(&mut house, door, "geo", &titled("two"), None).await.ok(200)["version"], 2);
    }
    house.command(&b, "geo", json!({"type": "close"})).await;
    put(&mut house, &a, "geo", &titled("x"), None).await.refused(409, "quiz_closed");
}

#[tokio::test]
async fn if_match_any_version_does_not_depend_on_the_version_that_a_view_has() {
    let (mut house, a, b) = house().await;
    house.publish(&a, "geo", titled("one")).await;
    house.b_catches_up().await;
    house.publish(&a, "geo", titled("two")).await;
    let any = b.put("/v1/quizzes/geo", &titled("three")).token(&house.host()).header("if-match", "*");
    house.b_follows = true;
    assert_eq!(house.during(any.send()).await.ok(200)["version"], 3);
}

#[tokio::test]
async fn a_command_repeated_through_the_other_gateway_has_one_number() {
    let (mut house, a, b) = house().await;
    house.publish(&a, "geo", capitals(1)).await;
    house.b_catches_up().await;
    let host = house.host();
    let ask = |door: &Door| {
        door.post("/v1/quizzes/geo/commands", &json!({"type": "open", "id": "open-1"})).token(&host).send()
    };
    let first = house.during(ask(&a)).await.ok(202);
    // B has not seen it: the command goes into the log again and changes nothing there.
    house.b_follows = true;
    assert_eq!(house.during(ask(&b)).await.ok(202), first);
    assert_eq!(b.log.appended(), 1);
    // Both have seen it now.
    let (one, other) = house.during(future::join(ask(&a), ask(&b))).await;
    assert_eq!((one.ok(202), other.ok(202)), (first.clone(), first.clone()));
    assert_eq!(b.log.appended(), 1);
    let by_key = b.post("/v1/quizzes/geo/commands", &json!({"type": "open"})).token(&host);
    assert_eq!(house.during(by_key.header("idempotency-key", "open-1").send()).await.ok(202), first);
    // Another id is another command, which finds the quiz open.
    let again = b.post("/v1/quizzes/geo/commands", &json!({"type": "open", "id": "open-2"})).token(&host);
    house.during(again.send()).await.refused(409, "quiz_open");
    let number = house.command(&a, "geo", json!({"type": "open_question", "question": "q1"})).await;
    assert_eq!(number, first["number"].as_u64().unwrap() + 1, "the repeats took no number");
}

/// Whether the gateway has seen the first one or only the log has it: nobody is told of something that was not done.
#[tokio::test]
async fn a_command_id_used_for_something_else_is_refused() {
    let (mut house, a, b) = house().await;
    let host = house.host();
    let other = {
        let mut other = capitals(1);
        other["title"] = json!("Other");
        other
    };
    let publish = |door: &Door, body: &Value| {
        door.put("/v1/quizzes/geo", body).token(&host).header("idempotency-key", "first").send()
    };
    assert_eq!(house.during(publish(&a, &capitals(1))).await.ok(201)["version"], 1);
    house.b_follows = true;
    house.during(publish(&b, &other)).await.refused(422, "submission_reused");
    house.during(publish(&a, &other)).await.refused(422, "submission_reused");
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["version"], 1);
    // The same content is the same command, whatever version it asks for.
    let again = a.put("/v1/quizzes/geo", &capitals(1)).token(&host).header("idempotency-key", "first");
    house.during(again.header("if-match", "\"1\"").send()).await.ok(201);

    let command = |door: &Door, body: Value| door.post("/v1/quizzes/geo/commands", &body).token(&host).send();
    house.during(command(&a, json!({"type": "open", "id": "c"}))).await.ok(202);
    for other in
        [json!({"type": "close", "id": "c"}), json!({"type": "open_question", "question": "q1", "id": "c"})]
    {
        house.during(command(&b, other)).await.refused(422, "submission_reused");
    }
    house.during(command(&a, json!({"type": "open_question", "question": "q1", "id": "q"}))).await.ok(202);
    let another = json!({"type": "open_question", "question": "q2", "id": "q"});
    house.during(command(&a, another)).await.refused(422, "submission_reused");
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["phase"], "open");
}

#[tokio::test]
async fn a_command_is_answered_when_every_section_has_it_and_readers_see_it() {
    let (mut house, a, _) = house().await;
    house.publish(&a, "geo", capitals(2)).await;
    let quiz = "geo".parse().unwrap();
    let (first, second) = (of_section(&quiz, 0, 2), of_section(&quiz, 1, 2));
    let mut open =
        pin!(a.post("/v1/quizzes/geo/commands", &json!({"type": "open"})).token(&house.host()).send());
    while a.log.appended() < 2 {
        assert!(poll!(&mut open).is_pending());
        tokio::task::yield_now().await;
    }
    for (step, taken) in [("nothing", 0), ("section 0 graded", 1), ("its copy graded", 1)] {
        match step {
            "section 0 graded" => assert_eq!(house.grade_one(first).await, taken),
            "its copy graded" => assert_eq!(house.grade_one(second).await, taken),
            _ => {}
        }
        assert!(poll!(&mut open).is_pending(), "not yet: {step}");
        assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["phase"], "draft");
        if step == "section 0 graded" {
            house.rank().await;
            assert!(poll!(&mut open).is_pending(), "section 1 does not know yet");
        }
    }
    house.rank().await;
    open.await.ok(202);
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["phase"], "open");
}

#[tokio::test]
async fn what_is_not_visible_in_time_is_503_and_safe_to_repeat() {
    let mut settings = settings();
    settings.visible_within = std::time::Duration::from_millis(100);
    let (mut house, a, b) = house_with(settings).await;
    let host = house.host();
    let publish = || b.put("/v1/quizzes/geo", &capitals(1)).token(&host).header("idempotency-key", "first");
    house.during(publish().send()).await.refused(503, "not_visible_yet");
    // Written all the same: through A it is there, and B says so once it has seen it.
    house.settle().await;
    assert_eq!(a.get("/v1/quizzes/geo").send().await.ok(200)["version"], 1);
    house.b_catches_up().await;
    assert_eq!(house.during(publish().send()).await.ok(201)["version"], 1);

    let open = || b.post("/v1/quizzes/geo/commands", &json!({"type": "open", "id": "o"})).token(&host);
    house.during(open().send()).await.refused(503, "not_visible_yet");
    let join = || {
        let join = b.post("/v1/quizzes/geo/participants", &json!({"name": "Ana"}));
        join.header("idempotency-key", "a-key-that-nobody-guesses")
    };
    house.during(join().send()).await.refused(503, "not_visible_yet");
    house.settle().await;
    house.b_catches_up().await;
    house.during(open().send()).await.ok(202);
    let joined = house.during(join().send()).await;
    assert_eq!(joined.header("idempotent-replayed"), Some("true"));
    let token = joined.ok(201)["token"].as_str().unwrap().to_owned();
    assert_eq!(a.get("/v1/quizzes/geo/leaderboard").send().await.ok(200)["participants"], 1);
    let early = json!({"question": "q2", "answer": {"text": "Paris"}, "submission": id(1)});
    b.answer("geo", &token, &early).send().await.ok(202);
    b.answer("geo", &token, &choice("b", 2)).send().await.ok(202);
}
