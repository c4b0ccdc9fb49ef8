//! Closing a question (C17): what is acknowledged and was received in time counts, whatever lags, waits or is off.

use std::time::Duration;

use gateway::Clock;
use gateway::admission::Timing;
use operators::id::UnixMillis;
use serde_json::{Value, json};

use super::house::{
    DEADLINE_MS, Door, GRACE_MS, House, LIMIT_MS, MARGIN_MS, Player, VIEW_AGE_MS_MAX, choice, house,
    house_graced, house_with, id, settings,
};
use super::parts::Hold;
use super::request::Reply;

/// Returns the verdict of a player's only answer; `None` when there is none.
async fn verdict(door: &Door, player: &Player) -> Option<String> {
    let reply = door.receipt("geo", player, &id(1)).send().await;
    (reply.status == 200).then(|| reply.json["verdict"].as_str().unwrap().to_owned())
}

/// Lets a new player join through A and answer rightly through `door`.
async fn answer_by(house: &mut House, a: &Door, door: &Door, name: &str) -> (Player, Reply) {
    let player = house.join(a, "geo", name).await;
    let reply = door.answer("geo", &player.token, &choice("b", 1)).send().await;
    (player, reply)
}

#[tokio::test]
async fn a_question_is_answered_until_its_limit_and_acknowledged_until_the_deadline() {
    let (mut house, a, _) = house().await;
    house.asked(&a, "geo", 1).await;
    let mut seen = Vec::new();
    for (step_ms, expected) in [
        (LIMIT_MS, (202, Some("counted"))),
        (1, (202, Some("late"))),
        (DEADLINE_MS - 1, (202, Some("late"))),
        (1, (409, None)),
        (MARGIN_MS - 1, (409, None)),
        (1_000_000, (409, None)),
    ] {
        house.clock.advance(step_ms);
        house.settle().await;
        let (player, reply) = answer_by(&mut house, &a, &a, "Ana").await;
        if expected.0 == 409 {
            reply.refused(409, "question_closed");
        } else {
            reply.ok(202);
        }
        house.settle().await;
        assert_eq!(verdict(&a, &player).await.as_deref(), expected.1, "{step_ms} ms on");
        seen.push(expected.1);
    }
    let books = a.get("/v1/quizzes/geo/books").token(&house.host()).send().await.ok(200);
    let figures = ["received", "counted", "late", "in_flight"].map(|figure| books[figure].as_u64().unwrap());
    assert_eq!(figures, [3, 1, 2, 0], "what was refused is in no log: {seen:?}");
}

#[tokio::test]
async fn a_view_that_still_shows_the_question_open_acknowledges_nothing_too_late() {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    house.clock.advance(5_000);
    house.settle().await;
    house.b_catches_up().await;
    let shown = b.get("/v1/quizzes/geo").send().await.ok(200);
    house.command(&a, "geo", json!({"type": "close_question", "question": "q1"})).await;
    assert_eq!(b.get("/v1/quizzes/geo").send().await.ok(200), shown, "B believes it open for another 15 s");

    let (in_time, reply) = answer_by(&mut house, &a, &b, "in time").await;
    reply.ok(202);
    house.clock.advance(VIEW_AGE_MS_MAX);
    let (late, reply) = answer_by(&mut house, &a, &b, "late").await;
    reply.ok(202);
    house.clock.advance(1);
    let (stale, reply) = answer_by(&mut house, &a, &b, "stale").await;
    reply.refused(503, "view_stale");

    house.settle().await;
    house.b_catches_up().await;
    let (later, reply) = answer_by(&mut house, &a, &b, "later").await;
    reply.ok(202);
    house.clock.advance(DEADLINE_MS - VIEW_AGE_MS_MAX);
    house.settle().await;
    house.b_catches_up().await;
    let (over, reply) = answer_by(&mut house, &a, &b, "over").await;
    reply.refused(409, "question_closed");
    house.clock.advance(GRACE_MS);
    house.settle().await;
    for (player, expected) in
        [(in_time, Some("counted")), (late, Some("late")), (stale, None), (later, Some("late")), (over, None)]
    {
        assert_eq!(verdict(&a, &player).await.as_deref(), expected);
    }
}

/// Hands in an answer just at the close, holds its append, moves the clock on, and lets go.
async fn held(hold: Hold, held_ms: u64) -> (Reply, Option<String>) {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;
    house.clock.advance(LIMIT_MS);
    house.settle().await;
    house.b_catches_up().await;
    b.log.hold(hold);
    let answer = tokio::spawn(b.answer("geo", &ana.token, &choice("b", 1)).send());
    house.settle().await;
    house.clock.advance(held_ms);
    // Twice: the Seal is appended by one step and applied by the next.
    house.settle().await;
    house.settle().await;
    house.b_catches_up().await;
    assert!(!answer.is_finished(), "nothing is said while the append has not come back");
    b.log.release();
    let reply = house.during(answer).await.unwrap();
    house.settle().await;
    (reply, verdict(&a, &ana).await)
}

#[tokio::test]
async fn an_append_that_comes_back_after_the_deadline_is_never_acknowledged() {
    for hold in [Hold::Before, Hold::After] {
        let (reply, verdict) = held(hold, DEADLINE_MS).await;
        reply.ok(202);
        assert_eq!(verdict.as_deref(), Some("counted"), "acknowledged at the deadline: {hold:?}");
        for held_ms in [DEADLINE_MS + 1, GRACE_MS - 1] {
            let (reply, verdict) = held(hold, held_ms).await;
            reply.refused(503, "not_acknowledged");
            assert_eq!(verdict.as_deref(), Some("counted"), "in the log before the Seal: {hold:?}");
        }
    }
    // The Seal is in the log: what was there before it counts, what came after it does not.
    let (reply, verdict) = held(Hold::After, GRACE_MS).await;
    reply.refused(503, "not_acknowledged");
    assert_eq!(verdict.as_deref(), Some("counted"));
    let (reply, verdict) = held(Hold::Before, GRACE_MS).await;
    reply.refused(503, "not_acknowledged");
    assert_eq!(verdict.as_deref(), Some("late"));
}

#[tokio::test]
async fn an_append_during_which_the_view_went_stale_is_not_acknowledged() {
    let (mut house, a, b) = house().await;
    house.asked(&a, "geo", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;
    house.b_catches_up().await;
    b.log.hold(Hold::After);
    let answer = tokio::spawn(b.answer("geo", &ana.token, &choice("b", 1)).send());
    house.settle().await;
    house.clock.advance(VIEW_AGE_MS_MAX + 1);
    b.log.release();
    answer.await.unwrap().refused(503, "view_stale");
    // Handing it in again is safe.
    house.settle().await;
    house.b_catches_up().await;
    let again = b.answer("geo", &ana.token, &choice("b", 1)).send().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    again.ok(202);
}

/// A small generator: the same seed plays the same game.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// Returns how the host ends the question; `None` leaves that to its limit.
    fn close(&mut self) -> Option<Value> {
        match self.below(3) {
            0 => None,
            1 => Some(json!({"type": "close_question", "question": "q1"})),
            _ => Some(json!({"type": "close"})),
        }
    }

    /// Holds a gateway's appends back, or lets them go.
    fn hold(&mut self, door: &Door) {
        match self.below(6) {
            0 => door.log.hold(Hold::Before),
            1 => door.log.hold(Hold::After),
            2 | 3 => door.log.release(),
            _ => {}
        }
    }

    /// Steps some stages, or none; a grade stage that stalls makes no view younger.
    async fn step(&mut self, house: &mut House, is_stalled: bool) {
        match self.below(8) {
            _ if is_stalled => drop(house.rank().await),
            0 | 1 => {}
            2 => drop(house.grade().await),
            3 => drop(house.rank().await),
            _ => house.settle().await,
        }
        if self.below(3) > 0 {
            house.b_catches_up().await;
        }
    }
}

/// What one game saw.
#[derive(Debug, Default)]
struct Tally {
    counted: u32,
    late: u32,
    closed: u32,
    unacknowledged: u32,
    stale: u32,
}

/// Plays random answers, delays, lags and clocks around a close; returns a broken promise, if there is one.
async fn play(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut dice = Dice(seed);
    let (mut house, a, b) = house().await;
    let sections = if seed.is_multiple_of(2) { 1 } else { 3 };
    house.asked(&a, "geo", sections).await;
    let mut players = house.crowd(&a, "geo", 36).await;
    house.b_catches_up().await;
    let skew = |dice: &mut Dice| dice.below(2 * MARGIN_MS - 1) as i64 - (MARGIN_MS as i64 - 1);
    let skews = [skew(&mut dice), skew(&mut dice)];
    a.clock.skew(skews[0]);
    b.clock.skew(skews[1]);
    let close = dice.close();
    house.clock.advance(if close.is_some() { 3_000 } else { LIMIT_MS - 700 });
    let closes_after = 6 + dice.below(8);
    let stalls = dice.below(4) == 0;
    let mut answers = Vec::new();
    let mut closing = None;
    for turn in 0..48u64 {
        house.clock.advance([0, 1, 10, 40, 70, 100, 150, 230][dice.below(8) as usize]);
        dice.step(&mut house, stalls && turn >= closes_after).await;
        if turn == closes_after
            && let Some(close) = &close
        {
            a.log.release();
            let close = a.post("/v1/quizzes/geo/commands", close).token(&house.host());
            closing = Some(tokio::spawn(close.send()));
        }
        let (door, skew) = if dice.below(2) == 0 { (&a, skews[0]) } else { (&b, skews[1]) };
        dice.hold(door);
        if dice.below(8) > 0
            && let Some(player) = players.pop()
        {
            let (clock, send) =
                (house.clock.clone(), door.answer("geo", &player.token, &choice("b", 1)).send());
            let answer = tokio::spawn(async move { (send.await, clock.now()) });
            answers.push((player, skew, answer));
        }
        tokio::task::yield_now().await;
    }
    a.log.release();
    b.log.release();
    if let Some(closing) = closing {
        house.during(closing).await.unwrap().ok(202);
    }
    for ms in [0, 30_000, 1] {
        house.clock.advance(ms);
        house.settle().await;
        house.b_catches_up().await;
    }
    let mut replies = Vec::new();
    for (player, skew, answer) in answers {
        let (reply, at) = house.during(answer).await.unwrap();
        replies.push((player, skew, reply, at));
    }
    house.settle().await;
    judge(&house, &a, replies, tally).await
}

async fn judge(
    house: &House,
    a: &Door,
    replies: Vec<(Player, i64, Reply, UnixMillis)>,
    tally: &mut Tally,
) -> Result<(), String> {
    a.clock.skew(0);
    let view = a.app.views.quiz(&"geo".parse().unwrap()).await.unwrap().unwrap();
    let closes_at = gateway::admission::closes_at(&view, 0).unwrap();
    let mut known = 0;
    for (player, skew, reply, acknowledged_at) in replies {
        let verdict = verdict(a, &player).await;
        known += u64::from(verdict.is_some());
        match (reply.status, reply.code()) {
            (202, _) => {
                let received: jiff::Timestamp = reply.json["received_at"].as_str().unwrap().parse().unwrap();
                let in_time = received.as_millisecond() as u64 <= closes_at.0;
                let broken = |what: &str| Err(format!("{what}: skew {skew}, {verdict:?}, {reply:?}"));
                if in_time && verdict.as_deref() != Some("counted") {
                    return broken("acknowledged and received in time, but it does not count");
                }
                if !in_time && skew <= 0 && verdict.as_deref() != Some("late") {
                    return broken("received late, but it counts");
                }
                if acknowledged_at >= closes_at.plus(GRACE_MS) {
                    return broken("acknowledged after the Seal");
                }
                if in_time { tally.counted += 1 } else { tally.late += 1 }
            }
            (409, "question_closed") if verdict.is_none() => tally.closed += 1,
            (503, "not_acknowledged") => tally.unacknowledged += 1,
            (503, "view_stale") => tally.stale += 1,
            _ => return Err(format!("unexpected: {verdict:?}, {reply:?}")),
        }
    }
    let books = a.get("/v1/quizzes/geo/books").token(&house.host()).send().await.ok(200);
    if books["received"] != known
        || books["in_flight"] != 0
        || books["points_awarded"] != books["points_ranked"]
    {
        return Err(format!("{known} receipts, but the books say {books}"));
    }
    Ok(())
}

#[tokio::test]
async fn c17_what_is_acknowledged_and_was_received_in_time_counts() {
    let mut tally = Tally::default();
    for seed in 0..10 {
        let played = play(seed, &mut tally).await;
        assert_eq!(played, Ok(()), "seed {seed}");
    }
    let reached = [tally.counted, tally.late, tally.closed, tally.unacknowledged, tally.stale];
    assert!(reached.iter().all(|&count| count > 2), "the games reach every outcome: {tally:?}");
}

#[tokio::test]
async fn c17_is_broken_by_stages_that_seal_sooner_than_the_gateways_believe() {
    let (mut house, a, b) = house_graced(settings(), 1).await;
    house.asked(&a, "geo", 1).await;
    let ana = house.join(&a, "geo", "Ana").await;
    house.clock.advance(LIMIT_MS);
    house.settle().await;
    house.b_catches_up().await;
    b.log.hold(Hold::Before);
    let answer = tokio::spawn(b.answer("geo", &ana.token, &choice("b", 1)).send());
    tokio::task::yield_now().await;
    // The Seal is in the log before the answer, and B does not know.
    house.clock.advance(1);
    house.settle().await;
    b.log.release();
    let replies = vec![(ana, 0, answer.await.unwrap(), house.clock.now())];
    house.settle().await;
    let judged = judge(&house, &a, replies, &mut Tally::default()).await;
    assert!(judged.is_err_and(|why| why.contains("it does not count")), "the check above can fail");
}

#[tokio::test]
async fn a_longer_grace_moves_the_deadline_with_it() {
    let ms = Duration::from_millis;
    let timing = Timing::new(ms(5_000), ms(MARGIN_MS), ms(VIEW_AGE_MS_MAX)).unwrap();
    let (mut house, a, _) = house_with(gateway::Settings { timing, ..settings() }).await;
    house.asked(&a, "geo", 1).await;
    house.clock.advance(LIMIT_MS + 4_500);
    house.settle().await;
    answer_by(&mut house, &a, &a, "Ana").await.1.ok(202);
    house.clock.advance(1);
    house.settle().await;
    answer_by(&mut house, &a, &a, "Bea").await.1.refused(409, "question_closed");
}
