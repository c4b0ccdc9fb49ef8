//! A whole quiz through the page alone: a host and two players in three browsers.

use super::driver::{Browser, DESK, Driver, PHONE, Row};
use crate::process::harness::Podium;
use crate::process::trivia;

const QUIZ: &str = "world";

/// Turns the host's tab to another view of the quiz, as its links and the back button do.
async fn turn(host: &Browser, view: &str) {
    host.go(&format!("#/q/{QUIZ}/{view}")).await;
}

/// Points of a verdict.
async fn verdict(player: &Browser, question: &str, correct: bool) -> u64 {
    player.holds("verdict", "question", question).await;
    player.holds("verdict", "correct", &correct.to_string()).await;
    player.data("verdict", "points").await.expect("a verdict has points").parse().unwrap()
}

/// Waits for a question.
async fn asked(player: &Browser, question: &str) {
    player.holds("question-text", "question", question).await;
}

/// Ana is right and first, Ben is wrong, on every kind of question that the sample has; returns Ana's points.
async fn play(host: &Browser, ana: &Browser, ben: &Browser) -> Vec<u64> {
    let mut points = Vec::new();
    host.click("host-next").await;
    asked(ana, "q1").await;
    ana.shot("player-question").await;
    ana.click("choice-b").await;
    points.push(verdict(ana, "q1", true).await);
    ana.shot("player-right").await;
    asked(ben, "q1").await;
    ben.click("choice-a").await;
    assert_eq!(verdict(ben, "q1", false).await, 0);
    ben.shot("player-wrong").await;
    host.shot("host-question").await;

    host.click("host-close-question").await;
    host.click("host-next").await;
    asked(ana, "q2").await;
    for choice in ["choice-a", "choice-b", "choice-d"] {
        ana.click(choice).await;
    }
    ana.shot("player-multiple").await;
    ana.click("answer-submit").await;
    points.push(verdict(ana, "q2", true).await);
    asked(ben, "q2").await;
    ben.click("choice-a").await;
    ben.click("answer-submit").await;
    assert_eq!(verdict(ben, "q2", false).await, 0);

    // Without closing the one before: the next question does that.
    host.click("host-next").await;
    asked(ana, "q3").await;
    ana.fill("numeric-input", "8849").await;
    ana.shot("player-number").await;
    ana.click("answer-submit").await;
    points.push(verdict(ana, "q3", true).await);
    asked(ben, "q3").await;
    ben.fill("numeric-input", "-12.5").await;
    ben.click("answer-submit").await;
    assert_eq!(verdict(ben, "q3", false).await, 0);

    host.click("host-next").await;
    asked(ana, "q4").await;
    ana.fill("text-input", "  republic of MALI ").await;
    ana.click("answer-submit").await;
    points.push(verdict(ana, "q4", true).await);
    asked(ben, "q4").await;
    ben.fill("text-input", "<b>Chad</b>").await;
    ben.click("answer-submit").await;
    assert_eq!(verdict(ben, "q4", false).await, 0);
    points
}

/// The host publishes the sample with a token from the command line.
async fn publish(host: &Browser, podium: &Podium) {
    host.goto(&podium.url()).await;
    host.sees("publish-id").await;
    host.shot("home").await;
    host.click("sample").await;
    host.fill("publish-id", QUIZ).await;
    host.fill("host-token", &podium.token(&["--role", "host"]).await).await;
    host.click("publish-submit").await;
    host.sees("host-open").await;
    host.reads("Around the world in five questions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiz_is_hosted_played_and_watched_through_the_page_alone() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let driver = Driver::start().await;
    let (host, ana, ben) = tokio::join!(
        driver.browser("host", DESK),
        driver.browser("ana", PHONE),
        driver.browser("ben", PHONE)
    );
    publish(&host, &podium).await;
    host.shot("host-lobby").await;

    // One comes by the address that the code on the big screen holds, the other types the quiz's id.
    ana.goto(&format!("{}/#/q/{QUIZ}", podium.url())).await;
    ana.sees("join-name").await;
    ana.shot("player-join").await;
    ana.fill("join-name", "Ana").await;
    ana.click("join-submit").await;
    ana.reads("Waiting for the host").await;
    ben.goto(&podium.url()).await;
    ben.reads("5 questions \u{b7} 1 player").await;
    ben.shot("player-home").await;
    ben.fill("join-id", QUIZ).await;
    ben.click("join-id-submit").await;
    ben.fill("join-name", "Ben \u{202f}<i>O\u{2019}Neill</i>").await;
    ben.click("join-submit").await;
    ben.reads("Waiting for the host").await;
    ana.shot("player-lobby").await;

    turn(&host, "board").await;
    host.reads("2 players in the room").await;
    host.shot("board-lobby").await;
    turn(&host, "host").await;
    host.click("host-open").await;
    let points = play(&host, &ana, &ben).await;
    let total = points.iter().sum::<u64>().to_string();
    ana.holds("own-points", "points", &total).await;
    ana.reload().await;
    ana.holds("own-points", "points", &total).await;
    assert!(ana.text().await.contains("Ana"), "a player who reloads is still the same");
    assert_eq!(verdict(&ana, "q4", true).await, points[3]);
    ana.shot("player-reloaded").await;

    let before = watch(&host, &total).await;
    finish(&host, &ana, &ben, &before).await;
    for browser in [host, ana, ben] {
        browser.close().await;
    }
    let ended = podium.stderr();
    assert!(!ended.contains("ERROR"), "{ended}");
}

/// Real questions from a file, imported as the README does it, hosted and played by thumb.
#[tokio::test(flavor = "multi_thread")]
async fn imported_trivia_is_played_through_the_page() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let said = trivia::import(&podium, "geography", &["--title", "Geography night"]).await;
    assert!(said.contains("842 questions"), "{said}");
    let driver = Driver::start().await;
    let (host, ana) = tokio::join!(driver.browser("geo-host", DESK), driver.browser("geo-ana", PHONE));
    host.goto(&format!("{}/#/q/geography/host", podium.url())).await;
    host.fill("host-token", &podium.token(&["--role", "host"]).await).await;
    host.click("host-token-submit").await;
    host.sees("host-open").await;
    ana.goto(&format!("{}/#/q/geography", podium.url())).await;
    ana.reads("Geography night").await;
    ana.fill("join-name", "Ana").await;
    ana.click("join-submit").await;
    ana.reads("Waiting for the host").await;
    host.click("host-open").await;

    let keys = trivia::keys(&podium, "geography", 2).await;
    let mut total = 0;
    for (number, key) in (1..).zip(&keys) {
        let question = format!("q{number}");
        host.click("host-next").await;
        asked(&ana, &question).await;
        ana.click(&format!("choice-{key}")).await;
        total += verdict(&ana, &question, true).await;
        host.click("host-close-question").await;
    }
    ana.shot("geography-player").await;
    ana.holds("own-points", "points", &total.to_string()).await;
    host.goto(&format!("{}/#/q/geography/board", podium.url())).await;
    let rows = host.rows(|rows| rows.first().is_some_and(|row| row.points == total.to_string())).await;
    assert_eq!((rows.len(), rows[0].name.as_str()), (1, "Ana"));
    host.shot("geography-board").await;
    for browser in [host, ana] {
        browser.close().await;
    }
}

/// The big screen shows both players in the right order with their points.
async fn watch(host: &Browser, total: &str) -> Vec<Row> {
    turn(host, "board").await;
    let rows = host.rows(|rows| rows.first().is_some_and(|row| row.points == total)).await;
    let shown: Vec<_> = rows.iter().map(|row| (row.rank, row.name.as_str(), row.points.as_str())).collect();
    assert_eq!(shown, [(1, "Ana", total), (2, "Ben \u{202f}<i>O\u{2019}Neill</i>", "0")]);
    host.shot("board-question").await;
    turn(host, "host").await;
    host.click("host-close-question").await;
    turn(host, "board").await;
    host.reload().await; // A screen that comes late says the same.
    host.reads("4 of 5 questions played").await;
    host.shot("board-between").await;
    turn(host, "host").await;
    rows
}

/// The host closes with a question left, which takes a second press; everybody sees the final result.
async fn finish(host: &Browser, ana: &Browser, ben: &Browser, rows: &[Row]) {
    ben.shot("player-between").await;
    host.click("host-close").await;
    host.reads("Press again: 1 question left out").await;
    host.click("host-close").await;
    host.reads("The result is final").await;
    host.shot("host-final").await;
    turn(host, "board").await;
    host.reads("Final result").await;
    assert_eq!(host.rows(|rows| rows.len() == 2).await, rows);
    host.shot("board-final").await;
    ana.reads("You finished 1st of 2").await;
    ana.shot("player-final").await;
    ben.reads("You finished 2nd of 2").await;
}
