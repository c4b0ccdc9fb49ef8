//! The live feed, in process: a watcher's body is read, or not read, exactly as the test wants.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use gateway::views::{
    Awaited, BoardView, BooksView, Page, PlaceView, QuizView, Seen, Unavailable, Views, WaitError,
};
use operators::effect::Receipt;
use operators::id::{ParticipantId, QuizId, UnixMillis};
use serde_json::json;

use super::house::{Door, House, Player, choice, house_with, settings};
use super::screen::{Screen, newest, watch};

/// Returns a house with an open quiz and players, whose feeds rest this long between frames.
pub(super) async fn stage(
    interval: Duration,
    ring: usize,
    sections: u16,
) -> (House, Door, Door, Vec<Player>) {
    let mut settings = settings();
    (settings.live.interval, settings.live.ring_frames) = (interval, ring);
    let (mut house, a, b) = house_with(settings).await;
    house.asked(&a, "geo", sections).await;
    let players = house.crowd(&a, "geo", 12).await;
    house.b_catches_up().await;
    (house, a, b, players)
}

/// Lets one player score, which moves the feed.
pub(super) async fn score(house: &mut House, door: &Door, player: &Player) {
    door.answer("geo", &player.token, &choice("b", 1)).send().await.ok(202);
    house.clock.advance(700);
    house.settle().await;
}

const SHORT: Duration = Duration::from_millis(1);

#[tokio::test]
async fn snapshot_and_deltas_make_exactly_the_leaderboard() {
    for sections in [1, 8] {
        let (mut house, a, b, players) = stage(SHORT, 64, sections).await;
        let (mut at_a, mut at_b) = (watch(&a, "geo", None).await, watch(&b, "geo", None).await);
        let (mut screen_a, mut screen_b) = (Screen::default(), Screen::default());
        for (n, player) in players.iter().enumerate() {
            match n {
                5 => drop(house.join(&a, "geo", "late comer").await),
                8 => {
                    let close = json!({"type": "close_question", "question": "q1"});
                    house.command(&a, "geo", close).await;
                }
                9 => {
                    let open = json!({"type": "open_question", "question": "q2"});
                    house.command(&a, "geo", open).await;
                }
                _ => score(&mut house, &a, player).await,
            }
            screen_a.follow(&mut at_a, newest(&a, "geo").await).await;
            screen_a.check(&a, "geo").await;
            if n % 3 == 0 {
                house.b_catches_up().await;
                screen_b.follow(&mut at_b, newest(&b, "geo").await).await;
                screen_b.check(&b, "geo").await;
            }
        }
        house.b_catches_up().await;
        screen_b.follow(&mut at_b, newest(&b, "geo").await).await;
        assert_eq!((&screen_a.board, &screen_a.quiz), (&screen_b.board, &screen_b.quiz));
        assert!(screen_b.frames.len() < screen_a.frames.len(), "what B saw at once came as one frame");
        let kinds = |screen: &Screen| screen.frames.iter().filter(|news| news.event == "snapshot").count();
        assert_eq!((kinds(&screen_a), kinds(&screen_b)), (1, 1));
    }
}

#[tokio::test]
async fn within_an_interval_nobody_gets_a_second_frame() {
    let (mut house, a, _, players) = stage(Duration::from_hours(1), 64, 1).await;
    let mut events = watch(&a, "geo", None).await;
    let first = events.next().await;
    for player in &players {
        score(&mut house, &a, player).await;
    }
    assert!(newest(&a, "geo").await >= first.id + 12);
    // A second watcher gets what the hub has published: still the state before all those changes.
    let mut second = watch(&a, "geo", None).await;
    assert_eq!(second.next().await, first);
    assert!(futures::poll!(pin!(events.next())).is_pending());
}

#[tokio::test]
async fn frames_keep_their_distance_and_the_last_change_is_in_one() {
    let interval = Duration::from_millis(150);
    let (mut house, a, _, players) = stage(interval, 64, 1).await;
    let began = Instant::now();
    let mut events = watch(&a, "geo", None).await;
    let mut screen = Screen::default();
    screen.take(events.next().await);
    for player in &players {
        score(&mut house, &a, player).await;
    }
    screen.follow(&mut events, newest(&a, "geo").await).await;
    screen.check(&a, "geo").await;
    // Frames were sent between these two moments, each an interval after the one before: one-sided, so a slow machine
    // cannot break it, and a feed with a frame per change does.
    let gaps = u32::try_from(screen.frames.len() - 1).unwrap();
    // Times are taken in whole milliseconds, so a gap may lack a part of one.
    let least = (interval - Duration::from_millis(1)) * gaps;
    assert!(began.elapsed() >= least, "{gaps} gaps in {:?}", began.elapsed());
}

#[tokio::test]
async fn coming_back_to_the_same_gateway_brings_only_what_was_missed() {
    let (mut house, a, _, players) = stage(SHORT, 6, 1).await;
    let mut stays = watch(&a, "geo", None).await;
    let (mut screen, mut back) = (Screen::default(), Screen::default());
    screen.take(stays.next().await);
    let mut leaves = watch(&a, "geo", None).await;
    back.take(leaves.next().await);
    drop(leaves);
    for player in &players[..4] {
        score(&mut house, &a, player).await;
        screen.follow(&mut stays, newest(&a, "geo").await).await;
    }
    let seen = back.feed.unwrap();
    let mut returns = watch(&a, "geo", Some(&seen.to_string())).await;
    back.follow(&mut returns, newest(&a, "geo").await).await;
    assert_eq!(back.frames[1..], screen.frames[1..], "the very frames that were missed");
    back.check(&a, "geo").await;
    // Up to date: nothing comes until something happens.
    let mut again = watch(&a, "geo", Some(&back.feed.unwrap().to_string())).await;
    score(&mut house, &a, &players[4]).await;
    let news = again.next().await;
    assert_eq!((news.event.as_str(), news.data["from"].as_u64()), ("delta", back.feed));
    screen.follow(&mut stays, news.id).await;
    // Too old, never seen here, or no number: everything.
    for player in &players[5..] {
        score(&mut house, &a, player).await;
        screen.follow(&mut stays, newest(&a, "geo").await).await;
    }
    for strange in [seen.to_string(), "999999".to_owned(), "0".to_owned(), "x".to_owned(), "-1".to_owned()] {
        let news = watch(&a, "geo", Some(&strange)).await.next().await;
        assert_eq!((news.event.as_str(), Some(news.id)), ("snapshot", screen.feed), "{strange}");
    }
}

#[tokio::test]
async fn coming_back_to_the_other_gateway_brings_everything_unless_nothing_is_missing() {
    let (mut house, a, b, players) = stage(SHORT, 64, 1).await;
    let mut at_a = watch(&a, "geo", None).await;
    let mut screen = Screen::default();
    screen.take(at_a.next().await);
    let lagging = newest(&b, "geo").await;
    for player in &players[..3] {
        score(&mut house, &a, player).await;
    }
    screen.follow(&mut at_a, newest(&a, "geo").await).await;
    // B is behind: a new connection, which may start from an older state, and from there never goes back.
    let seen = screen.feed.unwrap().to_string();
    let mut at_b = watch(&b, "geo", Some(&seen)).await;
    let mut moved = Screen::default();
    moved.take(at_b.next().await);
    assert_eq!((moved.frames[0].event.as_str(), moved.feed), ("snapshot", Some(lagging)));
    house.b_catches_up().await;
    moved.follow(&mut at_b, newest(&b, "geo").await).await;
    assert_eq!((&moved.board, &moved.quiz), (&screen.board, &screen.quiz));
    // The same log is the same feed: whoever saw all of it at A misses nothing at B.
    let mut same = watch(&b, "geo", Some(&seen)).await;
    score(&mut house, &a, &players[3]).await;
    house.b_catches_up().await;
    let news = same.next().await;
    assert_eq!((news.event.as_str(), news.data["from"].as_u64()), ("delta", screen.feed));
    screen.take(news);
    screen.check(&b, "geo").await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_costs_nothing_and_gets_the_newest_state() {
    let (mut house, a, _, players) = stage(SHORT, 4, 1).await;
    let (mut slow, mut fast) = (watch(&a, "geo", None).await, watch(&a, "geo", None).await);
    let (mut dozing, mut awake) = (Screen::default(), Screen::default());
    dozing.take(slow.next().await);
    awake.take(fast.next().await);
    for player in &players {
        score(&mut house, &a, player).await;
        awake.follow(&mut fast, newest(&a, "geo").await).await;
    }
    assert!(awake.frames.len() > 10);
    dozing.follow(&mut slow, awake.feed.unwrap()).await;
    let kinds: Vec<_> = dozing.frames.iter().map(|news| news.event.as_str()).collect();
    assert_eq!(kinds, ["snapshot", "snapshot"], "the frames between were dropped");
    dozing.check(&a, "geo").await;
}

/// Views that can be replaced under a gateway, and how often their boards were read.
struct Replaced {
    views: RwLock<Arc<dyn Views>>,
    boards_read: AtomicUsize,
}

impl Replaced {
    fn now(&self) -> Arc<dyn Views> {
        self.views.read().unwrap().clone()
    }
    fn replace(&self, views: &Arc<dyn Views>) {
        *self.views.write().unwrap() = views.clone();
    }
    /// Returns once the boards were read again, and that once more.
    async fn read_again(&self) {
        let before = self.boards_read.load(Ordering::SeqCst);
        let again = async {
            while self.boards_read.load(Ordering::SeqCst) < before + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("the hub looks again");
    }
}

type Read<'a, T> = BoxFuture<'a, Result<T, Unavailable>>;

impl Views for Replaced {
    fn as_of(&self, quiz: &QuizId) -> UnixMillis {
        self.now().as_of(quiz)
    }
    fn quiz<'a>(&'a self, quiz: &'a QuizId) -> Read<'a, Option<Arc<QuizView>>> {
        Box::pin(async move { self.now().quiz(quiz).await })
    }
    fn quizzes<'a>(&'a self, after: Option<&'a QuizId>, limit: usize) -> Read<'a, Vec<Arc<QuizView>>> {
        Box::pin(async move { self.now().quizzes(after, limit).await })
    }
    fn board<'a>(&'a self, quiz: &'a QuizId, page: Page, limit: usize) -> Read<'a, Option<BoardView>> {
        self.boards_read.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { self.now().board(quiz, page, limit).await })
    }
    fn place<'a>(&'a self, quiz: &'a QuizId, participant: ParticipantId) -> Read<'a, Option<PlaceView>> {
        Box::pin(async move { self.now().place(quiz, participant).await })
    }
    fn counted<'a>(
        &'a self,
        quiz: &'a QuizId,
        who: ParticipantId,
        question: u16,
    ) -> Read<'a, Option<Receipt>> {
        Box::pin(async move { self.now().counted(quiz, who, question).await })
    }
    fn receipts<'a>(&'a self, quiz: &'a QuizId, participant: ParticipantId) -> Read<'a, Vec<Receipt>> {
        Box::pin(async move { self.now().receipts(quiz, participant).await })
    }
    fn books<'a>(&'a self, quiz: &'a QuizId) -> Read<'a, Option<BooksView>> {
        Box::pin(async move { self.now().books(quiz).await })
    }
    fn wait<'a>(
        &'a self,
        quiz: &'a QuizId,
        awaited: Awaited,
        within: Duration,
    ) -> BoxFuture<'a, Result<Seen, WaitError>> {
        Box::pin(async move { self.now().wait(quiz, awaited, within).await })
    }
    fn feed<'a>(&'a self, quiz: &'a QuizId) -> Read<'a, Option<tokio::sync::watch::Receiver<u64>>> {
        Box::pin(async move { self.now().feed(quiz).await })
    }
}

#[tokio::test]
async fn i18_a_feed_never_goes_back() {
    let mut settings = settings();
    settings.live.interval = SHORT;
    let (mut house, a, b, _) = stage(SHORT, 64, 1).await;
    // Without a question that closes by the clock, a hub looks again only for news, or because it knows of more.
    house.command(&a, "geo", json!({"type": "close_question", "question": "q1"})).await;
    house.b_catches_up().await;
    let views = RwLock::new(a.app.views.clone());
    let replaced = Arc::new(Replaced { views, boards_read: AtomicUsize::new(0) });
    let door = Door::over(replaced.clone(), &a, &settings);
    let mut events = watch(&door, "geo", None).await;
    let mut screen = Screen::default();
    for n in 0..12 {
        house.join(&a, "geo", &format!("seen {n}")).await;
        let reached = newest(&a, "geo").await;
        screen.follow(&mut events, reached).await;
        if n % 4 == 3 {
            // The view behind the feed falls back to B's, which lags; the next change is only news of it.
            replaced.replace(&b.app.views);
            assert!(newest(&door, "geo").await < reached);
            house.join(&a, "geo", "unseen").await;
            // The hub reads on, since it is told that there is more than it sees.
            replaced.read_again().await;
            let late = watch(&door, "geo", None).await.next().await;
            assert_eq!(late.id, reached, "also a new watcher of this hub is not shown what it had overtaken");
            house.b_catches_up().await;
            screen.follow(&mut events, newest(&b, "geo").await).await;
            screen.check(&door, "geo").await;
            replaced.replace(&a.app.views);
        }
    }
    let ids: Vec<u64> = screen.frames.iter().map(|news| news.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}

#[tokio::test]
async fn watchers_of_a_quiz_share_a_hub_that_ends_with_the_last_of_them() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let gauge = |name: &str| {
        let text = rendered.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    let (mut house, a, b, players) = stage(SHORT, 64, 1).await;
    house.publish(&a, "other", super::house::capitals(1)).await;
    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(watch(&a, "geo", None).await);
    }
    let first = watchers[0].next().await;
    for events in &mut watchers[1..] {
        assert_eq!(events.next().await, first);
    }
    assert_eq!((gauge("podium_live_hubs"), gauge("podium_live_watchers")), (1.0, 50.0));
    let frames = || gauge("podium_live_frames_total{event=\"delta\"}");
    let before = frames();
    score(&mut house, &a, &players[0]).await;
    let delta = watchers[0].next().await;
    for events in &mut watchers[1..] {
        assert_eq!(events.next().await, delta);
    }
    assert_eq!(frames() - before, 1.0, "made once for all");
    let other = watch(&a, "other", None).await;
    assert_eq!((gauge("podium_live_hubs"), gauge("podium_live_watchers")), (2.0, 51.0));
    drop(other);
    watchers.truncate(1);
    assert_eq!((gauge("podium_live_hubs"), gauge("podium_live_watchers")), (1.0, 1.0));
    drop(watchers);
    assert_eq!((gauge("podium_live_hubs"), gauge("podium_live_watchers")), (0.0, 0.0));
    // Nobody watches: nothing is made, and the next watcher starts a hub with everything.
    let before = frames();
    score(&mut house, &a, &players[1]).await;
    let news = watch(&a, "geo", None).await.next().await;
    assert_eq!((news.event.as_str(), frames() - before), ("snapshot", 0.0));
    b.get("/v1/quizzes/nil/live").send().await.refused(404, "unknown_quiz");
}
