//! One run from set-up to audit.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::header::HeaderValue;
use tokio::task::JoinSet;

use crate::args::Common;
use crate::client::Target;
use crate::cost::{Costs, Reading, Sources};
use crate::play::live::{Probe, Probes, watch_feed};
use crate::play::{Drive, Game, Notes, Released};
use crate::quiz::{Host, Pace, Scenario, join_all, wait_final};
use crate::report::machine::{Usage, usage};
use crate::schedule::Arrival;
use crate::verify::{Audited, Auditor};

/// What is to be played, ready to start.
pub(crate) struct Plan {
    /// Who and what.
    pub(crate) scenario: Scenario,
    /// When.
    pub(crate) arrivals: Box<dyn Iterator<Item = Arrival> + Send>,
    /// What is offered, in words.
    pub(crate) offered: String,
    /// Arrivals per second, on average.
    pub(crate) rate: f64,
    /// Whether quizzes close at the end of the arrivals, ready or not.
    pub(crate) closing: Closing,
}

/// When quizzes are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// When every answer had its chance.
    Drained,
    /// At the scheduled end.
    OnTime,
}

/// A finished run.
pub(crate) struct Finished {
    /// Who and what.
    pub(crate) scenario: Arc<Scenario>,
    /// What was offered, in words.
    pub(crate) offered: String,
    /// What was handed in and measured.
    pub(crate) notes: Notes,
    /// What the audit found.
    pub(crate) audited: Audited,
    /// From closing until everything was judged.
    pub(crate) settled: Duration,
    /// From the first intended start until the last answer had its outcome.
    pub(crate) elapsed: Duration,
    /// How long set-up took.
    pub(crate) set_up: Duration,
    /// What processes used.
    pub(crate) usages: Usages,
    /// What it cost in a cluster, if that was asked for, or why that is not known.
    pub(crate) costs: Option<Result<Costs>>,
}

/// What processes had used at several moments; the server's are missing where its process was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usages {
    /// The server before anything.
    pub(crate) server_before: Option<Usage>,
    /// The server when everybody had joined.
    pub(crate) server_begin: Option<Usage>,
    /// The server when the last answer had its outcome.
    pub(crate) server_end: Option<Usage>,
    /// The generator when the first answer was due.
    pub(crate) client_begin: Option<Usage>,
    /// The generator at the end.
    pub(crate) client_end: Option<Usage>,
}

/// Returns a host's token: the one given, or one made by the `podium` beside this program.
fn token(common: &Common) -> Result<String> {
    if let Some(token) = &common.token {
        return Ok(token.trim().to_owned());
    }
    let program = std::env::current_exe().context("where this program is")?.with_file_name("podium");
    let wanted = "give --token or PODIUM_TOKEN, or --data with the server's data folder";
    let made = std::process::Command::new(&program)
        .args(["token", "--role", "host", "--data"])
        .arg(&common.data)
        .output()
        .with_context(|| format!("cannot run {}: {wanted}", program.display()))?;
    if !made.status.success() {
        let reason = String::from_utf8_lossy(&made.stderr);
        bail!("{} token: {}: {wanted}", program.display(), reason.trim());
    }
    Ok(String::from_utf8(made.stdout).context("the token")?.trim().to_owned())
}

/// Plays a plan to its end and audits it.
///
/// # Errors
/// The run could not be set up, finished or read: it says nothing.
pub(crate) async fn play(plan: Plan, common: &Common) -> Result<Finished> {
    let target = Arc::new(Target::parse(&common.url, common.allow_remote)?);
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token(common)?)).context("the token")?;
    bearer.set_sensitive(true);
    let drive = Drive {
        target,
        // At 50 ms an answer all of them are busy: fewer would hold back what a crowd would not.
        connections: common.connections.unwrap_or((plan.rate / 20.0).clamp(64.0, 1_000.0) as u32),
        backlog: common.backlog.unwrap_or(((plan.rate * 15.0) as usize).max(1_000)),
        give_up: common.give_up,
        timeout: common.timeout,
        watchers: common.watchers,
    };
    let scenario = Arc::new(plan.scenario);
    let server = common.server_pid.map(|pid| pid.to_string());
    let server_usage = || server.as_deref().and_then(usage);
    let sources = Sources::new(&common.metrics, &common.pids).await?;
    let mut usages = Usages { server_before: server_usage(), ..Usages::default() };
    let run = scenario.run;
    let host = || Host::new(drive.connection(), bearer.clone(), common.give_up, run);
    let began = Instant::now();
    let (game, mut host_now) = set_up(&scenario, &drive, host()).await.context("set-up failed")?;
    let (mut tasks, probes) = spectators(&game, &mut host_now).await.context("set-up failed")?;
    let set_up = began.elapsed();
    let bill = Open::begin(sources).await?;
    usages.server_begin = server_usage();
    usages.client_begin = usage("self");
    let start = Instant::now();
    let conductor = tokio::spawn(conduct(game.clone(), host(), start, plan.closing));
    let ticker = tokio::spawn(tick(game.clone(), start));
    let (elapsed, released) = measured_phase(&game, plan.arrivals, start, common.seed, probes).await;
    if released == Released::Interrupted {
        conductor.abort();
    }
    ticker.abort();
    game.notes().stats.tick();
    usages.server_end = server_usage();
    usages.client_end = usage("self");
    if let Ok(conducted) = conductor.await {
        conducted.context("the host could not move the quiz on")?;
    }
    let closed = if plan.closing == Closing::OnTime && released == Released::All {
        start + scenario.duration
    } else {
        Instant::now()
    };
    // Once more where the conductor has closed on time: closing what is closed changes nothing.
    host_now.close(&scenario).await?;
    for quiz in 0..scenario.quizzes {
        wait_final(&mut host_now, &scenario.quiz_id(quiz), common.settle).await?;
    }
    let settled = closed.elapsed();
    let costs = Open::close(bill).await;
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    let notes = game.take_notes();
    let auditor = Auditor {
        scenario: &scenario,
        seats: &game.seats,
        ledger: &notes.ledger,
        host: &mut host_now,
        own: drive.connection(),
        audited: Audited::default(),
    };
    let audited = auditor.audit().await.context("the audit could not be done")?;
    let offered = plan.offered;
    Ok(Finished { scenario, offered, notes, audited, settled, elapsed, set_up, usages, costs })
}

/// A bill that is running up.
struct Open {
    sources: Sources,
    before: Reading,
}

impl Open {
    async fn begin(sources: Option<Sources>) -> Result<Option<Self>> {
        let Some(sources) = sources else { return Ok(None) };
        let before = sources.read().await?;
        Ok(Some(Self { sources, before }))
    }

    async fn close(open: Option<Self>) -> Option<Result<Costs>> {
        let Self { sources, before } = open?;
        Some(sources.read().await.and_then(|after| sources.between(&before, &after)))
    }
}

async fn set_up(scenario: &Arc<Scenario>, drive: &Drive, mut host: Host) -> Result<(Arc<Game>, Host)> {
    host.set_up(scenario).await?;
    let connections = (0..drive.connections).map(|_| drive.connection()).collect();
    let (seats, shown) = (scenario.seats(), std::io::stderr().is_terminal());
    let progress = move |player: u32| {
        if shown && (player + 1).is_multiple_of(100) {
            eprint!("\r\x1b[Kjoined {} of {seats}", player + 1);
        }
    };
    let seats = join_all(scenario, connections, drive.give_up, progress).await?;
    if shown {
        eprint!("\r\x1b[K");
    }
    for quiz in 0..scenario.quizzes {
        host.command(&scenario.quiz_id(quiz), "open", None).await?;
    }
    Ok((Arc::new(Game::new(scenario.clone(), seats, drive.clone())?), host))
}

/// Starts watchers, puts the probes at the top of the board, and opens the first question.
async fn spectators(game: &Arc<Game>, host: &mut Host) -> Result<(JoinSet<()>, Vec<Probe>)> {
    let scenario = &game.scenario;
    let mut tasks = JoinSet::new();
    for watcher in 0..game.drive.watchers {
        tasks.spawn(watch_feed(game.clone(), watcher % scenario.quizzes, None));
    }
    let mut probes = Vec::new();
    if let Some(boost) = scenario.paper.boost {
        let all = Arc::new(Probes::of(game));
        tasks.spawn(watch_feed(game.clone(), 0, Some(all.clone())));
        probes
            .extend((scenario.players..scenario.seats()).filter_map(|player| Probe::new(game, &all, player)));
        let (quiz, id) = (scenario.quiz_id(0), scenario.paper.questions[usize::from(boost)].id.clone());
        if scenario.paper.pace == Pace::Host {
            host.command(&quiz, "open_question", Some(&id)).await?;
        }
        for probe in &mut probes {
            probe.boost(game).await;
        }
        for probe in &mut probes {
            if !probe.is_boosted().await {
                bail!("the live feed of {quiz} does not show an answer within 10 s");
            }
        }
        if scenario.paper.pace == Pace::Host {
            host.command(&quiz, "close_question", Some(&id)).await?;
        }
    }
    if scenario.paper.pace == Pace::Host {
        open_question(game, host, 0).await?;
    }
    Ok((tasks, probes))
}

async fn open_question(game: &Game, host: &mut Host, index: u16) -> Result<()> {
    let scenario = &game.scenario;
    let id = &scenario.paper.questions[usize::from(index)].id;
    for quiz in 0..scenario.quizzes {
        let quiz = scenario.quiz_id(quiz);
        if let Some(before) = index.checked_sub(1) {
            let before = &scenario.paper.questions[usize::from(before)].id;
            host.command(&quiz, "close_question", Some(before)).await?;
        }
        host.command(&quiz, "open_question", Some(id)).await?;
    }
    game.current.store(index, Ordering::Relaxed);
    Ok(())
}

/// Does what the host does during the run: opens questions in turn, or closes at the scheduled end.
async fn conduct(game: Arc<Game>, mut host: Host, start: Instant, closing: Closing) -> Result<()> {
    let scenario = &game.scenario;
    if scenario.paper.pace == Pace::Host {
        let count = scenario.paper.open_questions();
        for index in 1..count {
            let at = start + scenario.duration * u32::from(index) / u32::from(count);
            tokio::time::sleep_until(at.into()).await;
            open_question(&game, &mut host, index).await?;
        }
    }
    if closing == Closing::OnTime {
        tokio::time::sleep_until((start + scenario.duration).into()).await;
        host.close(scenario).await?;
    }
    Ok(())
}

/// Releases all arrivals and waits until each has its outcome; returns how long that took, and whether it was all.
async fn measured_phase(
    game: &Arc<Game>,
    arrivals: Box<dyn Iterator<Item = Arrival> + Send>,
    start: Instant,
    seed: u64,
    probes: Vec<Probe>,
) -> (Duration, Released) {
    let mut workers = JoinSet::new();
    for nth in 0..game.drive.connections {
        let game = game.clone();
        workers.spawn(async move {
            let hand = game.hand(20_000 + u64::from(nth));
            game.work(start, hand).await;
        });
    }
    let mut looking = JoinSet::new();
    let count = probes.len();
    for (nth, probe) in probes.into_iter().enumerate() {
        let game = game.clone();
        // Spread over the slot, and away from its ends, where a host-paced question is not open yet or any more.
        let share = 0.1 + 0.7 * (nth as f64 + 0.5) / count as f64;
        looking.spawn(async move { probe.play(&game, start, share).await });
    }
    let released = game.release(arrivals, start, seed).await;
    while workers.join_next().await.is_some() {}
    let elapsed = start.elapsed();
    if released == Released::Interrupted {
        looking.abort_all();
    }
    while looking.join_next().await.is_some() {}
    (elapsed, released)
}

/// Ends each second's figures; shows them on a terminal.
async fn tick(game: Arc<Game>, start: Instant) {
    let shown = std::io::stderr().is_terminal();
    for second in 1.. {
        tokio::time::sleep_until((start + Duration::from_secs(second)).into()).await;
        let (figures, dropped, retries) = {
            let stats = &mut game.notes().stats;
            (stats.tick(), stats.dropped, stats.retries)
        };
        if shown {
            let ms = |us: u64| us as f64 / 1e3;
            eprint!(
                "\r\x1b[K{second:>4} s  {:>6} acks/s  p50 {:.1} ms  p99 {:.1} ms  max {:.1} ms  retries {retries}  dropped {dropped}",
                figures.acks,
                ms(figures.p50_us),
                ms(figures.p99_us),
                ms(figures.max_us)
            );
            let flushed = std::io::stderr().flush();
            debug_assert!(flushed.is_ok(), "standard error is not buffered");
        }
    }
}

/// Random bits for the names of a run, so that it never meets the quizzes of another.
pub(crate) fn run_bits() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

/// Tells what is wrong with a path that a report would be written to, before the run rather than after it.
pub(crate) fn check_report(folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}
