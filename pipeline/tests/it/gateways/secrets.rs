//! What players may see: no key, no question before it is opened, through no operation of either gateway.

use gateway::auth::Role;
use serde_json::{Value, json};

use super::house::{Door, House, capitals, choice, house, id};
use super::screen::watch;

/// Returns everything that somebody without a host's role can read of the quiz, one text after the other.
async fn all_that_players_see(house: &House, door: &Door, token: &str, participant: &str) -> String {
    let mut texts = Vec::new();
    let paths = [
        "/v1/quizzes".to_owned(),
        "/v1/quizzes/geo".to_owned(),
        "/v1/quizzes/geo/leaderboard".to_owned(),
        format!("/v1/quizzes/geo/leaderboard?around={participant}"),
        format!("/v1/quizzes/geo/participants/{participant}"),
        format!("/v1/quizzes/geo/submissions/{}", id(1)),
        "/v1/quizzes/geo/books".to_owned(),
    ];
    let viewer = house.token(Role::Viewer, "viewer");
    for path in paths {
        texts.push(door.get(&path).send().await.text);
        texts.push(door.get(&path).token(token).send().await.text);
        texts.push(door.get(&path).token(&viewer).send().await.text);
    }
    let mut feed = watch(door, "geo", None).await;
    texts.push(feed.next().await.data.to_string());
    texts.join("\n")
}

#[tokio::test]
async fn players_never_see_a_key_nor_a_question_before_it_opens() {
    let (mut house, a, b) = house().await;
    house.b_follows = true;
    let shown = async |house: &mut House, player: &super::house::Player, unopened: usize| {
        house.settle().await;
        for door in [&a, &b] {
            let seen = all_that_players_see(house, door, &player.token, &player.id).await;
            assert!(
                !seen.contains("CANARY") && !seen.contains("77123") && !seen.contains("\"key\""),
                "{seen}"
            );
            assert!(!seen.contains("\"definition\""), "{seen}");
            let texts = ["Capital of Peru", "capital of France", "metres"];
            let hidden: Vec<_> = texts[3 - unopened..].iter().filter(|text| seen.contains(**text)).collect();
            assert!(hidden.is_empty(), "{hidden:?} in {seen}");
            assert!(
                texts[..3 - unopened].iter().all(|text| seen.contains(text)),
                "what was opened stays shown"
            );
        }
    };
    house.publish(&a, "geo", capitals(1)).await;
    let ana = house.join(&a, "geo", "Ana").await;
    shown(&mut house, &ana, 3).await;
    house.command(&a, "geo", json!({"type": "open"})).await;
    shown(&mut house, &ana, 3).await;
    house.command(&a, "geo", json!({"type": "open_question", "question": "q1"})).await;
    a.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    shown(&mut house, &ana, 2).await;
    house.command(&b, "geo", json!({"type": "close_question", "question": "q1"})).await;
    house.command(&b, "geo", json!({"type": "open_question", "question": "q2"})).await;
    let typed = json!({"question": "q2", "answer": {"text": "Lyon"}, "submission": id(2)});
    a.answer("geo", &ana.token, &typed).send().await.ok(202);
    shown(&mut house, &ana, 1).await;
    house.command(&a, "geo", json!({"type": "close"})).await;
    shown(&mut house, &ana, 1).await;

    for door in [&a, &b] {
        let definition =
            door.get("/v1/quizzes/geo").token(&house.host()).send().await.ok(200)["definition"].clone();
        let full: Value = capitals(1);
        assert_eq!(definition["questions"][1]["key"], full["questions"][1]["key"], "hosts see the keys");
    }
}

#[tokio::test]
async fn only_hosts_run_a_quiz_and_only_joined_players_answer() {
    let (mut house, a, b) = house().await;
    house.b_follows = true;
    house.asked(&a, "geo", 1).await;
    house.asked(&a, "other", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;
    let (player, viewer) = (house.token(Role::Player, "p"), house.token(Role::Viewer, "v"));
    let forged = gateway::auth::Issuer::from_key([8; 32]);
    let forged = forged.mint(
        "host",
        Role::Host,
        None,
        std::time::Duration::from_secs(60),
        gateway::Clock::now(&*house.clock),
    );
    let command = json!({"type": "close"});
    for door in [&a, &b] {
        for token in [&ana.token, &player, &viewer] {
            door.put("/v1/quizzes/geo", &capitals(1)).token(token).send().await.refused(403, "wrong_role");
            door.post("/v1/quizzes/geo/commands", &command)
                .token(token)
                .send()
                .await
                .refused(403, "wrong_role");
            door.get("/v1/quizzes/geo/books").token(token).send().await.refused(403, "wrong_role");
        }
        door.put("/v1/quizzes/geo", &capitals(1)).send().await.refused(401, "token_missing");
        door.put("/v1/quizzes/geo", &capitals(1)).token(&forged).send().await.refused(401, "token_invalid");
        door.answer("geo", &viewer, &choice("b", 1)).send().await.refused(403, "wrong_role");
        door.answer("other", &ana.token, &choice("b", 1)).send().await.refused(403, "wrong_quiz");
        let join = door.post("/v1/quizzes/geo/participants", &json!({"name": "V"}));
        join.token(&viewer).send().await.refused(403, "wrong_role");
    }
    // Tokens are any gateway's, and end for all at the same time.
    a.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    b.answer("geo", &ana.token, &choice("b", 2)).send().await.ok(202);
    house.clock.advance(24 * 3_600_000);
    for door in [&a, &b] {
        door.answer("geo", &ana.token, &choice("b", 3)).send().await.refused(401, "token_expired");
    }
}
