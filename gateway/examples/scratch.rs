//! scratch
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use futures::future::BoxFuture;
use gateway::views::*;
use gateway::*;
use ingest::log::*;
use ingest::error::*;
use ingest::partition::PartitionId;
use operators::effect::*;
use operators::event::*;
use operators::id::*;
use operators::quiz::Section;
use operators::rank::Ranking;
use tokio::sync::watch;

#[derive(Default)]
struct State { n: u64, at: u64, sections: HashMap<QuizId, Section>, ranks: HashMap<QuizId, Ranking>, receipts: HashMap<(QuizId, ParticipantId), Vec<Receipt>>, feeds: HashMap<QuizId, watch::Sender<u64>>, }
struct House { state: Mutex<State>, moved: watch::Sender<u64> }
impl House {
    fn apply(&self, e: &Envelope) -> Stamp {
        let mut s = self.state.lock().unwrap();
        s.n += 1; s.at = s.at.max(SystemClock.now().0);
        let stamp = Stamp { position: Position::from_offset(s.n), append_at: UnixMillis(s.at) };
        let mut out = vec![];
        s.sections.entry(e.quiz.clone()).or_insert_with(|| Section::new(e.quiz.clone(), 0)).apply(&e.event, stamp, &mut out);
        for o in out { if let Output::Standings(effect) = o {
            if let Change::ScoreChanged(c) = &effect.change { if let Some(r) = &c.receipt { let v = s.receipts.entry((e.quiz.clone(), c.participant)).or_default(); v.retain(|x| x.slot != r.slot); v.push(r.clone()); } }
            let rank = s.ranks.entry(e.quiz.clone()).or_insert_with(|| Ranking::new(e.quiz.clone()));
            rank.apply(&effect);
            let feed = rank.header().feed;
            s.feeds.entry(e.quiz.clone()).or_insert_with(|| watch::Sender::new(0)).send_replace(feed);
        } }
        drop(s);
        self.moved.send_modify(|n| *n += 1);
        stamp
    }
}
impl Log for House {
    fn partitions(&self) -> u16 { 4 }
    fn append<'a>(&'a self, records: Vec<Record>) -> BoxFuture<'a, Result<Vec<Stamp>, AppendError>> {
        Box::pin(async move { Ok(records.iter().map(|r| { let e = ingest::codec::decode_envelope(&r.payload).unwrap(); self.apply(&e) }).collect()) })
    }
    fn read<'a>(&'a self, _: Stream, _: PartitionId, _: Option<Position>, _: ReadLimits) -> BoxFuture<'a, Result<ReadBatch, ReadError>> { unimplemented!() }
}
struct V(Arc<House>);
impl V {
    fn view(&self, q: &QuizId) -> Option<Arc<QuizView>> {
        let s = self.0.state.lock().unwrap(); let r = s.ranks.get(q)?;
        Some(Arc::new(QuizView { quiz: q.clone(), definition: r.board().definition.clone()?, status: r.board().status.clone(), participants: r.len() as u64, is_final: false, sealed: vec![] }))
    }
    fn look(&self, q: &QuizId, a: &Awaited) -> Option<Seen> {
        let s = self.0.state.lock().unwrap();
        match a {
            Awaited::Command(id) => s.ranks.get(q)?.board().outcomes.iter().find(|(k, _)| k == id).map(|(_, o)| Seen::Command(*o)),
            Awaited::Participant(p, name) => s.ranks.get(q)?.row(*p).filter(|r| *r.name == **name).map(|_| Seen::Participant),
            Awaited::Submission(p, id) => s.receipts.get(&(q.clone(), *p))?.iter().find(|r| r.submission == *id).map(|r| Seen::Submission(Box::new(r.clone()))),
        }
    }
}
impl Views for V {
    fn as_of(&self, _: &QuizId) -> UnixMillis { SystemClock.now() }
    fn quiz<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<Arc<QuizView>>, Unavailable>> { Box::pin(async move { Ok(self.view(quiz)) }) }
    fn quizzes<'a>(&'a self, after: Option<&'a QuizId>, limit: usize) -> BoxFuture<'a, Result<Vec<Arc<QuizView>>, Unavailable>> {
        Box::pin(async move { let mut ids: Vec<_> = self.0.state.lock().unwrap().ranks.keys().cloned().collect(); ids.sort(); Ok(ids.iter().filter(|q| after.is_none_or(|a| *q > a)).take(limit).filter_map(|q| self.view(q)).collect()) })
    }
    fn board<'a>(&'a self, quiz: &'a QuizId, page: Page, limit: usize) -> BoxFuture<'a, Result<Option<BoardView>, Unavailable>> {
        Box::pin(async move { let s = self.0.state.lock().unwrap(); let Some(r) = s.ranks.get(quiz) else { return Ok(None) };
            let (rows, next) = match page { Page::After(c) => r.page(c, limit), Page::Around(p) => match r.around(p, limit) { Some(r) => (r, None), None => return Ok(None) } };
            Ok(Some(BoardView { revision: r.header().revision, feed: r.header().feed, participants: r.len() as u64, rule: r.board().definition.as_ref().unwrap().source().ranking.clone(), rows, next })) })
    }
    fn place<'a>(&'a self, quiz: &'a QuizId, p: ParticipantId) -> BoxFuture<'a, Result<Option<PlaceView>, Unavailable>> {
        Box::pin(async move { let s = self.0.state.lock().unwrap(); Ok(s.ranks.get(quiz).and_then(|r| Some(PlaceView { row: r.row(p)?, percentile: r.percentile(p)? }))) })
    }
    fn counted<'a>(&'a self, quiz: &'a QuizId, p: ParticipantId, question: u16) -> BoxFuture<'a, Result<Option<Receipt>, Unavailable>> {
        Box::pin(async move { let s = self.0.state.lock().unwrap(); Ok(s.receipts.get(&(quiz.clone(), p)).and_then(|v| v.iter().find(|r| r.slot == Slot::Question(question)).cloned())) })
    }
    fn receipts<'a>(&'a self, quiz: &'a QuizId, p: ParticipantId) -> BoxFuture<'a, Result<Vec<Receipt>, Unavailable>> {
        Box::pin(async move { let s = self.0.state.lock().unwrap(); Ok(s.receipts.get(&(quiz.clone(), p)).cloned().unwrap_or_default()) })
    }
    fn books<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<BooksView>, Unavailable>> {
        Box::pin(async move { let s = self.0.state.lock().unwrap(); Ok(s.ranks.get(quiz).map(|r| BooksView { books: r.books(), in_flight: 0 })) })
    }
    fn wait<'a>(&'a self, quiz: &'a QuizId, awaited: Awaited, within: Duration) -> BoxFuture<'a, Result<Seen, WaitError>> {
        Box::pin(async move { let mut rx = self.0.moved.subscribe();
            let look = async { loop { rx.borrow_and_update(); if let Some(s) = self.look(quiz, &awaited) { return s } rx.changed().await.unwrap(); } };
            tokio::time::timeout(within, look).await.map_err(|_| WaitError::TimedOut) })
    }
    fn feed<'a>(&'a self, quiz: &'a QuizId) -> BoxFuture<'a, Result<Option<watch::Receiver<u64>>, Unavailable>> {
        Box::pin(async move { Ok(self.0.state.lock().unwrap().feeds.get(quiz).map(|f| f.subscribe())) })
    }
}
#[tokio::main]
async fn main() {
    let house = Arc::new(House { state: Mutex::default(), moved: watch::Sender::new(0) });
    let dir = std::env::args().nth(1).unwrap();
    let issuer = gateway::auth::Issuer::open(dir.as_ref()).unwrap();
    std::fs::write(format!("{dir}/host"), issuer.mint("h", gateway::auth::Role::Host, None, Duration::from_secs(9999), SystemClock.now())).unwrap();
    std::fs::write(format!("{dir}/player"), issuer.mint("p", gateway::auth::Role::Player, None, Duration::from_secs(9999), SystemClock.now())).unwrap();
    let app = App::new(Parts { log: house.clone(), views: Arc::new(V(house)), clock: Arc::new(SystemClock), issuer, ready: Arc::new(true.into()), metrics: Arc::new(|| "# none\n".into()), settings: Settings::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:18099").await.unwrap();
    let router = router(app.clone());
    serve(listener, app, router, async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap().recv().await; }).await.unwrap();
    println!("drained");
}
