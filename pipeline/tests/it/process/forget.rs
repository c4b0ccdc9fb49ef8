//! Quizzes that are kept for a while only: every stage forgets them after it, across restarts, and they may begin anew.

use serde_json::{Value, json};

use super::harness::raw::Raw;
use super::harness::{Client, Podium, submission, text, until};

/// Long enough to see the result, and to be killed in.
pub(super) const KEEP: [&str; 2] = ["--keep-finished", "2s"];

fn definition(title: &str, sections: u16) -> Value {
    json!({"title": title, "pace": "free", "sections": sections, "questions": [
        {"id": "q1", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}}]})
}

/// Plays a quiz to its end and another that stays open.
pub(super) async fn play(host: &Client) -> (String, Client) {
    host.publish_and_open("stays", &definition("Stays", 1)).await;
    let (_, player) = host.holding(None).join("stays", "Bo").await;
    player.answer("stays", "q1", &json!({"value": "2"}), &submission(1)).await;
    host.publish_and_open("goes", &definition("Goes", 2)).await;
    let mut last = None;
    for n in 2..6 {
        let (participant, player) = host.holding(None).join("goes", "Ana").await;
        let receipt = player.answer("goes", "q1", &json!({"value": "2"}), &submission(n)).await;
        assert_eq!(receipt["points"], "1000");
        last = Some((participant, player));
    }
    host.command("goes", &json!({"type": "close"})).await;
    host.finality("goes").await;
    let board = host.get("/v1/quizzes/goes/leaderboard").await.expect(200);
    assert_eq!(board["participants"], 4);
    last.expect("somebody played")
}

/// Waits until the quiz is forgotten, looks for what may be left of it, and plays it again.
pub(super) async fn forgotten(host: &Client, (participant, player): (String, Client)) {
    let player = host.holding(player.token);
    until("the forgetting", async || (host.get("/v1/quizzes/goes").await.status == 404).then_some(())).await;
    for path in ["/leaderboard", "/books", "/live", &format!("/participants/{participant}")] {
        let reply = host.get(&format!("/v1/quizzes/goes{path}")).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    assert_eq!(player.get(&format!("/v1/quizzes/goes/submissions/{}", submission(5))).await.status, 404);
    let list = host.get("/v1/quizzes").await.expect(200);
    let listed: Vec<_> = list["quizzes"].as_array().unwrap().iter().map(|quiz| text(&quiz["quiz"])).collect();
    assert_eq!(listed, ["stays"], "{list}");
    let board = host.get("/v1/quizzes/stays/leaderboard").await.expect(200);
    assert_eq!((&board["participants"], &board["standings"][0]["points"]), (&json!(1), &json!("1000")));

    // The id may be used again, with as many sections as before; nothing of the first life counts in the second.
    let refused = host.put("/v1/quizzes/goes", &definition("Goes again", 3)).await;
    assert_eq!(refused.code(), "sections_fixed", "{refused:?}");
    let again = host.put("/v1/quizzes/goes", &definition("Goes again", 2)).await;
    assert_eq!(
        (again.status.as_u16(), &again.headers["etag"]),
        (200, &"\"2\"".parse().unwrap()),
        "{again:?}"
    );
    host.command("goes", &json!({"type": "open"})).await;
    let (_, player) = host.holding(None).join("goes", "Cy").await;
    let receipt = player.answer("goes", "q1", &json!({"value": "2"}), &submission(5)).await;
    assert_eq!((&receipt["verdict"], &receipt["points"]), (&json!("counted"), &json!("1000")));
    until("the new board", async || {
        let board = host.get("/v1/quizzes/goes/leaderboard").await.expect(200);
        let names = board["standings"].as_array().unwrap().iter().map(|row| text(&row["name"]));
        (names.collect::<Vec<_>>() == ["Cy"] && board["participants"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiz_is_forgotten_some_time_after_it_is_final() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start_with(data.path(), &KEEP).await;
    let who = play(&podium.host().await).await;
    let mut feed = Raw::open(podium.address).await;
    let request = format!("GET /v1/quizzes/goes/live HTTP/1.1\r\nHost: {}\r\n\r\n", podium.address);
    feed.send(request).await;
    feed.until("event: snapshot").await.expect("the feed begins");
    // Killed before its time: what is to be forgotten is known to whoever comes next.
    podium.kill();
    let podium = Podium::start_with(data.path(), &KEEP).await;
    forgotten(&podium.host().await, who).await;
    // Of the first life nothing comes back with another start, whatever it keeps.
    podium.kill();
    let podium = Podium::start(data.path()).await;
    let board = podium.client().get("/v1/quizzes/goes/leaderboard").await.expect(200);
    assert_eq!((&board["participants"], &board["standings"][0]["name"]), (&json!(1), &json!("Cy")));
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_sent_away_when_a_quiz_is_forgotten() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start_with(data.path(), &KEEP).await;
    play(&podium.host().await).await;
    let mut feed = Raw::open(podium.address).await;
    let request = format!("GET /v1/quizzes/goes/live HTTP/1.1\r\nHost: {}\r\n\r\n", podium.address);
    feed.send(request).await;
    feed.until("event: snapshot").await.expect("the feed begins");
    // It ends; who asks again is told that there is nothing.
    feed.rest().await;
    assert_eq!(podium.client().get("/v1/quizzes/goes/live").await.status, 404);
}
