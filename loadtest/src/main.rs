//! Drives a Podium gateway as a crowd of participants would, then counts every total again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

mod args;
mod client;
mod cost;
mod play;
mod quiz;
mod report;
mod schedule;
mod session;
mod trace;
mod verify;

use args::{Cli, Command, Common, FindMax, Game, Replay, Run};
use quiz::{Asked, Award, Pace, Paper, Scenario};
use report::slo::Slo;
use report::{Ending, Report};
use schedule::{Crowd, Intended, Rng, Spacing};
use session::{Closing, Plan};
use trace::Trace;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: at 10 µs an answer it drives more than two cores can serve, and no lock is ever waited for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.context("the runtime").and_then(|runtime| {
        runtime.block_on(async {
            match &cli.command {
                Command::Run(run) => Box::pin(play(steady(run)?, &run.common)).await,
                Command::Replay(replay) => Box::pin(play(contest(replay)?, &replay.common)).await,
                Command::FindMax(find) => Box::pin(find_max(find)).await,
            }
        })
    });
    match ended {
        Ok(ending) => ExitCode::from(ending.code()),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(Ending::Invalid.code())
        }
    }
}

async fn play(plan: Plan, common: &Common) -> Result<Ending> {
    session::check_report(common.report.as_deref())?;
    let report = Report::new(session::play(plan, common).await?, &common.slos);
    clear_line();
    println!("{}", report.text());
    if let Some(folder) = &common.report {
        report.write(folder)?;
        println!("  report in {}", folder.display());
    }
    Ok(report.ending)
}

fn clear_line() {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprint!("\r\x1b[K");
    }
}

/// Answers of one run: each takes about 60 bytes until the audit, so this is what 12 GB hold.
const ARRIVALS_MAX: f64 = 200e6;

/// Returns the plan of a steady rate.
fn steady(run: &Run) -> Result<Plan> {
    steady_plan(run.rate, run.duration, &run.game, &run.common)
}

fn steady_plan(rate: f64, duration: Duration, game: &Game, common: &Common) -> Result<Plan> {
    let pace = match (game.pace, game.award) {
        (Some(Pace::Free), Award::Kahoot) => bail!("kahoot@1 needs a clock: it goes with --pace host"),
        (Some(pace), _) => pace,
        (None, Award::Flat) => Pace::Free,
        (None, Award::Kahoot) => Pace::Host,
    };
    // One second's worth of participants keeps the paper short; a host gives everybody ten seconds for a question.
    let default = match pace {
        Pace::Free => rate,
        Pace::Host => rate * 10.0,
    };
    let players = game.participants.unwrap_or((default as u32).clamp(100, 100_000)).max(game.quizzes);
    let arrivals = rate * duration.as_secs_f64();
    if arrivals > ARRIVALS_MAX {
        bail!("{arrivals:.0} answers in one run are too many to audit: {ARRIVALS_MAX:.0} at most");
    }
    let questions = questions(pace, arrivals, players, duration, game.questions)?;
    let limit_ms = match pace {
        Pace::Free => None,
        Pace::Host => Some((duration / u32::from(questions)).as_millis() as u64),
    };
    let paper = Paper::drawn(pace, game.award, questions, limit_ms, common.seed);
    let scenario = scenario(common, paper, game.quizzes, players, Vec::new(), duration);
    let intended = Intended::new(game.arrivals, rate, duration, Rng::new(common.seed, 1));
    let spacing = match game.arrivals {
        Spacing::Poisson => "Poisson",
        Spacing::Uniform => "uniform",
    };
    let offered = format!("{rate} answers/s ({spacing} arrivals) for {} s", duration.as_secs_f64());
    let arrivals = Box::new(Crowd::new(intended, players, game.repeat_share, common.seed));
    Ok(Plan { scenario, arrivals, offered, rate, closing: Closing::Drained })
}

/// Returns how many questions make every answer a first answer, with a tenth to spare for Poisson's ups and downs.
fn questions(
    pace: Pace,
    arrivals: f64,
    players: u32,
    duration: Duration,
    wanted: Option<u16>,
) -> Result<u16> {
    let needed = (arrivals / f64::from(players)).ceil() * 1.1 + 1.0;
    let count = match (wanted, pace) {
        (Some(wanted), _) => wanted,
        (None, _) if needed > 4_095.0 => {
            let participants = (arrivals * 1.1 / 4_094.0).ceil();
            bail!("a paper holds 4,095 questions: take --participants {participants} or more")
        }
        (None, Pace::Free) => needed as u16,
        (None, Pace::Host) => (arrivals * 1.1 / f64::from(players)).ceil().max(1.0) as u16,
    };
    if pace == Pace::Host && duration / u32::from(count) < Duration::from_secs(1) {
        bail!("{count} questions would be open for less than a second each: take more --participants");
    }
    Ok(count)
}

fn scenario(
    common: &Common,
    paper: Paper,
    quizzes: u32,
    players: u32,
    names: Vec<String>,
    duration: Duration,
) -> Scenario {
    let looks = (4.0 * duration.as_secs_f64() / f64::from(paper.open_questions())).ceil() as u32;
    let probes = common.probes.unwrap_or(looks.clamp(1, 50));
    let paper = if probes > 0 { paper.with_boost() } else { paper };
    let run = session::run_bits();
    Scenario { run, quizzes, sections: common.sections, players, probes, names, paper, duration }
}

/// Returns the plan of a contest's replay: the outcome that its judge gave is the choice, and `CORRECT` is the key.
fn contest(replay: &Replay) -> Result<Plan> {
    let trace = Trace::read(&replay.trace)?;
    let duration = match (replay.duration, replay.speed) {
        (Some(duration), _) => duration,
        (None, Some(speed)) => trace.length.div_f64(speed),
        (None, None) => Duration::from_secs(60),
    };
    let asked = |problem: &String| Asked {
        id: problem.clone(),
        points: 1,
        limit_ms: None,
        award: Award::Flat,
        key: 0,
    };
    let questions = trace.problems.iter().map(asked).collect();
    let paper = Paper { pace: Pace::Free, questions, choices: trace::CHOICES.to_vec(), boost: None };
    let rate = trace.len() as f64 / duration.as_secs_f64();
    let offered = format!(
        "{} submissions of {} teams in {:.1} s, {:.0} times faster than they were",
        trace.len(),
        trace.teams.len(),
        duration.as_secs_f64(),
        trace.length.as_secs_f64() / duration.as_secs_f64()
    );
    let arrivals = Box::new(trace.arrivals(duration).into_iter());
    let players = trace.teams.len() as u32;
    let scenario = scenario(&replay.common, paper, 1, players, trace.teams, duration);
    Ok(Plan { scenario, arrivals, offered, rate, closing: Closing::OnTime })
}

/// Doubles the rate until a threshold breaks, then halves the gap between the last good rate and the first bad one.
async fn find_max(find: &FindMax) -> Result<Ending> {
    let (mut good, mut bad) = (None, None);
    let (mut rate, mut refined) = (find.from, 0);
    loop {
        let report = step(find, rate).await?;
        clear_line();
        println!(
            "{:>9.0}/s offered  {:>11} reached  ack p99 {:>9}  visible p99 {:>9}  client {:>8}  server {:>8}  {}",
            rate,
            report.show("rate"),
            report.show("ack_p99"),
            report.show("visible_p99"),
            report.show("client_us_per_answer"),
            report.show("server_us_per_answer"),
            verdict(&report)
        );
        match report.ending {
            Ending::Differs => {
                println!("{}", report.text());
                return Ok(Ending::Differs);
            }
            Ending::Good => good = Some(rate),
            Ending::Invalid | Ending::Broken => bad = Some(rate),
        }
        rate = match (good, bad) {
            (Some(good), Some(bad)) if refined < find.refine => {
                refined += 1;
                f64::midpoint(good, bad).round()
            }
            (Some(good), None) if good < find.to => (good * 2.0).min(find.to),
            (Some(_), _) | (None, _) => break,
        };
    }
    match good {
        Some(good) => {
            println!("highest rate with every threshold kept: {good:.0} answers/s");
            Ok(Ending::Good)
        }
        None => {
            println!("the first rate, {:.0} answers/s, breaks a threshold already", find.from);
            Ok(Ending::Broken)
        }
    }
}

async fn step(find: &FindMax, rate: f64) -> Result<Report> {
    let mut common = find.common.clone();
    if common.slos.is_empty() {
        common.slos.extend("ack_p99=50ms".parse::<Slo>());
    }
    // Poisson arrivals of a short step are off by chance: four deviations of their number are no fault of the server.
    let chance = 4.0 * (rate / find.duration.as_secs_f64()).sqrt();
    common.slos.extend(format!("rate={}", (rate * 0.98 - chance).floor()).parse::<Slo>());
    let plan = steady_plan(rate, find.duration, &find.game, &common)?;
    Ok(Report::new(session::play(plan, &common).await?, &common.slos))
}

fn verdict(report: &Report) -> String {
    let broken = report.checked.iter().filter(|checked| !checked.kept).map(|checked| checked.text.clone());
    let reasons: Vec<String> = report.invalid.iter().cloned().chain(broken).collect();
    if reasons.is_empty() { "✓".to_owned() } else { format!("✗ {}", reasons.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_can_be_a_first_answer() {
        let second = Duration::from_secs(1);
        assert_eq!(questions(Pace::Free, 30_000.0, 1_000, second * 30, None).unwrap(), 34);
        assert_eq!(questions(Pace::Free, 10.0, 100, second, None).unwrap(), 2);
        let refused = questions(Pace::Free, 6e6, 1_000, second * 600, None).unwrap_err().to_string();
        assert!(refused.contains("--participants 1613"), "{refused}");
        assert!(questions(Pace::Free, 6e6, 1_613, second * 600, None).unwrap() <= 4_095);
    }

    #[test]
    fn a_host_leaves_each_question_open_for_a_second_at_least() {
        let second = Duration::from_secs(1);
        assert_eq!(questions(Pace::Host, 30_000.0, 10_000, second * 30, None).unwrap(), 4);
        assert!(questions(Pace::Host, 30_000.0, 100, second * 30, None).is_err());
    }
}
