//! The leaderboard through both doors: pages of a board that moves, neighbours, and tags.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::house::{Door, House, Player, house, id};

/// Returns an open free-paced quiz with many questions of 10 points, and its players.
async fn sprint(sections: u16, count: usize) -> (House, Door, Door, Vec<Player>) {
    let (mut house, a, b) = house().await;
    let questions: Vec<Value> = (0..40)
        .map(|n| {
            let choices = json!([{"id": "a", "text": "A"}, {"id": "b", "text": "B"}]);
            json!({"id": format!("q{n}"), "kind": "single_choice", "text": "?", "key": {"choice": "b"},
                   "choices": choices, "points": "10"})
        })
        .collect();
    let definition = json!({"title": "Sprint", "pace": "free", "sections": sections, "questions": questions,
                            "ranking": {"ties": []}});
    house.publish(&a, "sprint", definition).await;
    house.command(&a, "sprint", json!({"type": "open"})).await;
    let players = house.crowd(&a, "sprint", count).await;
    house.b_catches_up().await;
    (house, a, b, players)
}

/// A player that answers its next question rightly.
struct Runners {
    players: Vec<Player>,
    answered: Vec<u64>,
}

impl Runners {
    fn new(players: &[Player]) -> Self {
        Self { players: players.to_vec(), answered: vec![0; players.len()] }
    }
    async fn score(&mut self, door: &Door, who: usize) {
        let n = self.answered[who];
        self.answered[who] += 1;
        let answer = json!({"question": format!("q{n}"), "answer": {"choice": "b"}, "submission": id(n)});
        door.answer("sprint", &self.players[who].token, &answer).send().await.ok(202);
    }
}

async fn page(door: &Door, query: &str) -> (Vec<Value>, Option<String>) {
    let page = door.get(&format!("/v1/quizzes/sprint/leaderboard?{query}")).send().await.ok(200);
    let cursor = page["next_cursor"].as_str().map(str::to_owned);
    (page["standings"].as_array().unwrap().clone(), cursor)
}

fn who(row: &Value) -> String {
    row["participant"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pages_of_a_moving_board_hold_everybody_who_did_not_move_and_nobody_twice() {
    for (seed, sections) in [(1u64, 1u16), (2, 8), (3, 1)] {
        let (mut house, a, b, players) = sprint(sections, 23).await;
        let mut runners = Runners::new(&players);
        let mut dice = seed;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            ((dice >> 33) % sides) as usize
        };
        for _ in 0..30 {
            runners.score(&a, roll(23)).await;
        }
        house.settle().await;
        house.b_catches_up().await;
        let (mut seen, mut moved) = (Vec::new(), BTreeSet::new());
        let mut cursor: Option<String> = None;
        for turn in 0.. {
            // Pages come from both gateways: a cursor means the same at each.
            let door = if turn % 2 == 0 { &a } else { &b };
            let after = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
            let (rows, next) = page(door, &format!("limit=4{after}")).await;
            assert!(rows.len() <= 4 && (next.is_some() || turn > 0));
            seen.extend(rows.iter().map(who));
            cursor = next;
            if cursor.is_none() {
                break;
            }
            let mover = roll(23);
            moved.insert(players[mover].id.clone());
            runners.score(&a, mover).await;
            house.settle().await;
            house.b_catches_up().await;
        }
        let distinct: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "nobody twice: seed {seed}");
        let stayed = players.iter().map(|player| player.id.clone()).filter(|id| !moved.contains(id));
        let missing: Vec<_> = stayed.filter(|id| !distinct.contains(id)).collect();
        assert!(missing.is_empty(), "who stayed is there: seed {seed}, {missing:?}");
    }
}

#[tokio::test]
async fn pages_of_a_board_that_stands_still_are_the_whole_board() {
    let (mut house, a, b, players) = sprint(8, 17).await;
    let mut runners = Runners::new(&players);
    for who in 0..17 {
        for _ in 0..who / 3 {
            runners.score(&a, who).await;
        }
    }
    house.settle().await;
    house.b_catches_up().await;
    let (whole, none) = page(&a, "limit=1000").await;
    assert_eq!((whole.len(), none), (17, None));
    assert_eq!(page(&b, "limit=1000").await.0, whole);
    for limit in [1, 5, 16, 17] {
        let (mut rows, mut cursor) = page(&a, &format!("limit={limit}")).await;
        while let Some(after) = cursor {
            let (more, next) = page(&b, &format!("limit={limit}&cursor={after}")).await;
            assert!(!more.is_empty(), "a cursor leads to something");
            rows.extend(more);
            cursor = next;
        }
        assert_eq!(rows, whole, "limit {limit}");
    }
    // Equals share a place, and the next one is counted on: 1 2 2 4.
    let mut by_points: BTreeMap<u64, u64> = BTreeMap::new();
    for row in &whole {
        *by_points.entry(row["points"].as_str().unwrap().parse().unwrap()).or_default() += 1;
    }
    for row in &whole {
        let points: u64 = row["points"].as_str().unwrap().parse().unwrap();
        let better: u64 = by_points.range(points + 1..).map(|(_, count)| count).sum();
        assert_eq!(row["rank"], better + 1);
    }
    for (n, expected) in whole.iter().enumerate() {
        for limit in [1usize, 3, 20] {
            let (around, cursor) = page(&b, &format!("around={}&limit={limit}", who(expected))).await;
            assert_eq!(
                (around.as_slice(), cursor),
                (&whole[n.saturating_sub(limit)..(n + limit + 1).min(17)], None)
            );
        }
    }
}

#[tokio::test]
async fn a_tag_says_whether_the_ranking_changed() {
    let (mut house, a, b, players) = sprint(1, 3).await;
    let mut runners = Runners::new(&players);
    let ask = |door: &Door, tag: &str| {
        door.get("/v1/quizzes/sprint/leaderboard").header("if-none-match", tag).send()
    };
    let first = a.get("/v1/quizzes/sprint/leaderboard").send().await;
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", first.json["revision"]));
    for door in [&a, &b] {
        for known in [tag.clone(), format!("W/{tag}"), format!("\"0\", {tag}"), "*".to_owned()] {
            let same = ask(door, &known).await;
            assert_eq!((same.status, same.text.as_str(), same.header("etag")), (304, "", Some(tag.as_str())));
        }
        assert_eq!(ask(door, "\"0\"").await.status, 200);
    }
    // An answer that changes nothing in the ranking is no change of it; one that does, is.
    let wrong = json!({"question": "q0", "answer": {"choice": "a"}, "submission": id(900)});
    a.answer("sprint", &players[2].token, &wrong).send().await.ok(202);
    house.settle().await;
    assert_eq!(ask(&a, &tag).await.status, 304);
    runners.score(&a, 0).await;
    house.settle().await;
    let changed = ask(&a, &tag).await;
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    assert_eq!(changed.ok(200)["standings"][0]["participant"], players[0].id);
    assert_eq!(ask(&b, &tag).await.status, 304, "B has not seen it");
    house.b_catches_up().await;
    assert_eq!(ask(&b, &tag).await.ok(200)["standings"][0]["participant"], players[0].id);
    house.join(&a, "sprint", "new").await;
    assert_eq!(ask(&a, &tag).await.ok(200)["participants"], 4);
}

#[tokio::test]
async fn a_query_that_cannot_be_meant_is_refused() {
    let (_house, a, b, players) = sprint(1, 1).await;
    let board = |query: &str| a.get(&format!("/v1/quizzes/sprint/leaderboard?{query}")).send();
    for query in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "cursor=1.2", "around=ana"] {
        board(query).await.refused(422, "invalid_query");
    }
    let both = format!("around={}&cursor=0.0.0.0.0", players[0].id);
    board(&both).await.refused(422, "invalid_query");
    board("around=00000000000000000000000000000000").await.refused(404, "unknown_participant");
    b.get("/v1/quizzes/nil/leaderboard").send().await.refused(404, "unknown_quiz");
    assert_eq!(board("limit=1000&unknown=1").await.status, 200);
}
