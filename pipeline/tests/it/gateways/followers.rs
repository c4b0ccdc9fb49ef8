//! Gateways of a cluster: what their copies show, when they find what another gateway showed, and what it costs.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use futures::poll;
use gateway::Clock;
use ingest::partition::of_key;
use operators::id::QuizId;
use pipeline::views::boards::Source;
use pipeline::views::replicas::Settings;
use serde_json::json;

use super::copies::Copied;
use super::feed::{score, stage};
use super::house::{Door, GRACE_MS, PARTITIONS, capitals, choice, house, house_with, settings, two_know_ana};
use super::screen::{Screen, newest, watch};
use super::sockets::{said, soon, websocket};

const SHORT: Duration = Duration::from_millis(1);

#[tokio::test]
async fn both_wires_carry_the_feed_of_a_copy() {
    let (mut house, a, b, players) = stage(SHORT, 64, 8).await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    let address = c.door.listen().await;
    let mut events = watch(&c.door, "geo", None).await;
    let mut socket = websocket(address, "", &[("sec-websocket-protocol", "podium.v1+json")]).await.unwrap();
    let (mut one, mut other) = (Screen::default(), Screen::default());
    one.take(events.next().await);
    other.take(said(&mut socket).await);
    for player in &players {
        score(&mut house, &a, player).await;
        house.b_catches_up().await;
        c.replicas.tick().await.unwrap();
        let feed = newest(&c.door, "geo").await;
        one.follow(&mut events, feed).await;
        while other.feed < Some(feed) {
            other.take(said(&mut socket).await);
        }
        one.check(&c.door, "geo").await;
        one.check(&a, "geo").await;
    }
    assert_eq!((&one.board, &one.quiz), (&other.board, &other.quiz));
}

#[tokio::test]
async fn a_feed_goes_on_when_its_copy_is_loaded_anew() {
    let (mut house, a, b, _) = stage(SHORT, 64, 1).await;
    // An open question would make the feed look at its close.
    house.command(&a, "geo", json!({"type": "close_question", "question": "q1"})).await;
    house.b_catches_up().await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    let mut events = watch(&c.door, "geo", None).await;
    let mut screen = Screen::default();
    screen.take(events.next().await);
    c.shelf.is_forgetful.store(true, Ordering::SeqCst);
    for name in ["Ana", "Ben", "Cleo"] {
        house.join(&a, "geo", name).await;
        house.b_catches_up().await;
        c.replicas.tick().await.unwrap();
        // Nobody but the feed asks for the copy.
        screen.follow(&mut events, newest(&a, "geo").await).await;
    }
    screen.check(&a, "geo").await;
}

#[tokio::test]
async fn the_feed_of_a_quiz_that_is_no_more_ends() {
    let (mut house, a, b, players) = stage(SHORT, 64, 1).await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    let address = c.door.listen().await;
    let mut events = watch(&c.door, "geo", None).await;
    events.next().await;
    let mut socket = websocket(address, "", &[]).await.unwrap();
    said(&mut socket).await;
    // Something moves the partition, and the quiz has gone.
    score(&mut house, &a, &players[0]).await;
    house.b_catches_up().await;
    c.forget("geo");
    c.replicas.tick().await.unwrap();
    assert!(soon(events.is_over()).await);
    let close = soon(futures::StreamExt::next(&mut socket)).await.unwrap().unwrap();
    assert!(close.is_close(), "{close:?}");
    c.door.get("/v1/quizzes/geo/live").send().await.refused(404, "unknown_quiz");
    c.door.get("/v1/quizzes/geo").send().await.refused(404, "unknown_quiz");
}

#[tokio::test]
async fn one_look_per_tick_serves_all_who_watch() {
    let (mut house, a, b, players) = stage(SHORT, 64, 1).await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut events = watch(&c.door, "geo", None).await;
        assert_eq!(events.next().await.event, "snapshot");
        crowd.push(events);
    }
    let [heads, changes] = c.shelf.reads();
    for player in &players[..5] {
        score(&mut house, &a, player).await;
        house.b_catches_up().await;
        c.replicas.tick().await.unwrap();
        let feed = newest(&a, "geo").await;
        for events in &mut crowd {
            while events.next().await.id < feed {}
        }
    }
    assert_eq!(c.shelf.reads(), [heads + 5, changes + 5]);
    c.replicas.tick().await.unwrap();
    assert_eq!(c.shelf.reads(), [heads + 5, changes + 5], "nothing has moved");
}

#[tokio::test]
async fn what_another_gateway_showed_is_found_here_at_once() {
    let (mut house, a, b) = house().await;
    let c = Copied::new(&house, &b);
    for n in 0..6 {
        let quiz = format!("quiz-{n}");
        let path = format!("/v1/quizzes/{quiz}");
        // Whatever was looked at before is not what is there now.
        c.replicas.tick().await.unwrap();
        c.door.get(&path).send().await.refused(404, "unknown_quiz");
        house.publish(&a, &quiz, capitals(1)).await;
        house.b_catches_up().await;
        c.door.get(&path).send().await.ok(200);
        let ana = house.join(&a, &quiz, "Ana").await;
        house.b_catches_up().await;
        let place = c.door.get(&format!("{path}/participants/{}", ana.id)).token(&house.host()).send().await;
        assert_eq!(place.ok(200)["name"], "Ana");
        let around = format!("{path}/leaderboard?around={}", ana.id);
        c.door.get(&around).send().await.ok(200);
    }
}

#[tokio::test]
async fn a_flood_of_what_is_not_there_costs_few_looks() {
    let (mut house, a, b) = house().await;
    house.publish(&a, "geo", capitals(1)).await;
    house.b_catches_up().await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    let [heads, _] = c.shelf.reads();
    let paths: Vec<String> = (0..400).map(|n| format!("/v1/quizzes/nothing-{n}")).collect();
    let replies = join_all(paths.iter().map(|path| c.door.get(path).send_unknown())).await;
    assert!(replies.iter().all(|reply| reply.status == 404));
    let looks = c.shelf.reads()[0] - heads;
    assert!(looks <= 3 * usize::from(PARTITIONS), "{looks} looks");
}

#[tokio::test]
async fn a_partition_that_does_not_answer_ages_no_other() {
    let (mut house, a, b) = house().await;
    let quizzes: Vec<String> = (0..8).map(|n| format!("quiz-{n}")).collect();
    for quiz in &quizzes {
        house.publish(&a, quiz, capitals(1)).await;
    }
    house.b_catches_up().await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    for quiz in &quizzes {
        c.door.get(&format!("/v1/quizzes/{quiz}")).send().await.ok(200);
    }
    let place = |quiz: &String| of_key(quiz, PARTITIONS);
    let slow = &quizzes[0];
    let fast = quizzes.iter().find(|quiz| place(quiz) != place(slow)).unwrap();
    let before = c.as_of(slow);
    c.shelf.stick(place(slow));
    // Both partitions move, so that both are to be read.
    for quiz in [slow, fast] {
        house.command(&a, quiz, json!({"type": "open"})).await;
    }
    house.b_catches_up().await;
    let replicas = c.replicas.clone();
    let following = tokio::spawn(async move { replicas.follow().await });
    for _ in 0..3 {
        house.clock.advance(10);
        let now = house.clock.now();
        soon(async {
            while c.as_of(fast) < now {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(c.as_of(slow), before);
    c.shelf.release();
    let now = house.clock.now();
    soon(async {
        while c.as_of(slow) < now {
            tokio::task::yield_now().await;
        }
    })
    .await;
    following.abort();
}

#[tokio::test]
async fn copies_are_bounded_by_their_number_and_those_that_are_watched_stay() {
    let (mut house, a, b) = house().await;
    let quizzes: Vec<String> = (0..6).map(|n| format!("quiz-{n}")).collect();
    for quiz in &quizzes {
        house.publish(&a, quiz, capitals(1)).await;
    }
    house.b_catches_up().await;
    let kept = |c: &Copied| {
        let is_here = |quiz: &&String| c.replicas.peek(&quiz.parse().unwrap()).is_some();
        quizzes.iter().filter(is_here).cloned().collect::<Vec<_>>()
    };
    let bounds = Settings::of(settings().timing);
    let few = Settings { copies_max: 2, ..bounds.clone() };
    let small = Settings { board_bytes_max: 2_000, ..bounds };
    for bounds in [few, small] {
        let c = Copied::bounded(&house, &b, bounds);
        let mut watched = watch(&c.door, &quizzes[0], None).await;
        watched.next().await;
        for quiz in &quizzes {
            c.door.get(&format!("/v1/quizzes/{quiz}")).send().await.ok(200);
        }
        let kept = kept(&c);
        assert!(kept.len() <= 3 && kept.contains(&quizzes[0]) && kept.contains(&quizzes[5]), "{kept:?}");
    }
}

#[tokio::test]
async fn a_load_goes_on_when_the_request_that_began_it_has_gone() {
    let (mut house, a, b) = house().await;
    house.publish(&a, "geo", capitals(1)).await;
    house.b_catches_up().await;
    let c = Copied::new(&house, &b);
    let quiz: QuizId = "geo".parse().unwrap();
    c.shelf.stick(of_key("geo", PARTITIONS));
    {
        let mut request = pin!(c.door.get("/v1/quizzes/geo").send());
        assert!(poll!(&mut request).is_pending());
    }
    c.shelf.release();
    soon(async {
        while c.replicas.peek(&quiz).is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn answers_are_refused_while_a_grader_seals_sooner() {
    let (mut house, _, b, ana) = two_know_ana().await;
    let c = Copied::new(&house, &b);
    c.replicas.tick().await.unwrap();
    c.graders_say(&house, GRACE_MS).await;
    c.door.answer("geo", &ana.token, &choice("b", 1)).send().await.ok(202);
    assert_eq!(c.replicas.doubt(), None);
    c.graders_say(&house, GRACE_MS - 1).await;
    c.door.answer("geo", &ana.token, &choice("b", 2)).send().await.refused(503, "view_stale");
    let doubt = c.replicas.doubt().unwrap();
    assert!(doubt.contains("--grace") && doubt.contains("1999"), "{doubt}");
    c.door.app.ready.set(Err(doubt.clone()));
    let reply = c.door.get("/readyz").send().await;
    assert_eq!((reply.status, &reply.json["detail"]), (503, &json!(doubt)));
    c.graders_say(&house, GRACE_MS + 1).await;
    c.door.answer("geo", &ana.token, &choice("b", 3)).send().await.ok(202);
    house.settle().await;
}

#[tokio::test]
async fn books_count_what_is_in_flight_with_one_reader_for_all_who_ask() {
    for sections in [1, 4] {
        let (mut house, a, b, players) = stage(SHORT, 64, sections).await;
        let c = Copied::new(&house, &b);
        for player in &players[..4] {
            score(&mut house, &a, player).await;
        }
        house.b_catches_up().await;
        c.graders_say(&house, GRACE_MS).await;
        house.clock.advance(5);
        c.replicas.tick().await.unwrap();
        for player in &players[4..9] {
            a.answer("geo", &player.token, &choice("b", 9)).send().await.ok(202);
        }
        let host = house.host();
        let books = |door: &Door| door.get("/v1/quizzes/geo/books").token(&host).send();
        let expected = books(&a).await.ok(200);
        assert_eq!((&expected["counted"], &expected["in_flight"]), (&json!(4), &json!(5)));
        let replies = join_all((0..100).map(|_| books(&c.door))).await;
        for reply in replies {
            assert_eq!(reply.ok(200), expected);
        }
        assert_eq!(c.shards.opened.load(Ordering::SeqCst), 1);
        // What is ranked meanwhile is in flight no more.
        house.settle().await;
        house.b_catches_up().await;
        c.replicas.tick().await.unwrap();
        assert_eq!(books(&c.door).await.ok(200), books(&a).await.ok(200));
        assert_eq!(c.shards.opened.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_watcher_from_a_gateway_that_is_ahead_is_not_sent_back() {
    let mut patient = settings();
    (patient.live.interval, patient.live.catch_up_within) = (SHORT, Duration::from_hours(1));
    let (mut house, a, b) = house_with(patient).await;
    house.asked(&a, "geo", 1).await;
    let players = house.crowd(&a, "geo", 3).await;
    house.b_catches_up().await;
    score(&mut house, &a, &players[0]).await;
    let seen = newest(&a, "geo").await;
    assert!(newest(&b, "geo").await < seen);
    // The feed runs, and is behind.
    let mut stays = watch(&b, "geo", None).await;
    assert!(stays.next().await.id < seen);
    let mut events = watch(&b, "geo", Some(&seen.to_string())).await;
    assert!(poll!(pin!(events.next())).is_pending(), "what was seen is waited for");
    house.b_catches_up().await;
    score(&mut house, &a, &players[1]).await;
    house.b_catches_up().await;
    let news = events.next().await;
    assert!(news.id > seen, "{news:?}");
}
