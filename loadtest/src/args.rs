//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cost::{Endpoint, Process};
use crate::quiz::{Award, Pace};
use crate::report::slo::Slo;
use crate::schedule::Spacing;

/// Drives a Podium gateway at a set rate and audits every total afterwards.
///
/// Exit codes: 0 all right; 1 the audit found a difference; 2 the run is not valid (arrivals were dropped, answers were
/// refused, set-up failed); 99 a threshold was broken.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hands in answers at a steady rate.
    Run(Run),
    /// Replays a real contest, its closing burst included.
    Replay(Replay),
    /// Looks for the highest rate that keeps the thresholds.
    FindMax(FindMax),
}

/// A steady rate.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// Answers per second.
    #[arg(long, value_parser = rate)]
    pub(crate) rate: f64,
    /// How long answers are handed in, such as 30s or 5m.
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Duration,
    /// What is played.
    #[command(flatten)]
    pub(crate) game: Game,
    /// How it is driven.
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What is played at a steady rate.
#[derive(Debug, Clone, Args)]
pub(crate) struct Game {
    /// Participants [default: as many as answer in one second, ten seconds if the host opens questions].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub(crate) participants: Option<u32>,
    /// Quizzes that they are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) quizzes: u32,
    /// Questions [default: enough for every answer to be a first answer].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4_095))]
    pub(crate) questions: Option<u16>,
    /// How right answers become points.
    #[arg(long, value_enum, default_value_t = Award::Flat)]
    pub(crate) award: Award,
    /// Whether all questions are open at once or the host opens them in turn [default: free, host for kahoot@1].
    #[arg(long, value_enum)]
    pub(crate) pace: Option<Pace>,
    /// How arrivals are spaced.
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    pub(crate) arrivals: Spacing,
    /// Share of repeats, 0 to 1: half of them other answers, half the same submission again.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    pub(crate) repeat_share: f64,
}

/// A real contest.
#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    /// Folder with runs.json and config.json.
    #[arg(long)]
    pub(crate) trace: PathBuf,
    /// How many times faster than it was.
    #[arg(long, value_parser = rate, conflicts_with = "duration")]
    pub(crate) speed: Option<f64>,
    /// How long the contest takes [default: 60s].
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// How it is driven.
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The highest rate.
#[derive(Debug, Clone, Args)]
pub(crate) struct FindMax {
    /// The first rate, doubled until a threshold breaks.
    #[arg(long, default_value = "1000", value_parser = rate)]
    pub(crate) from: f64,
    /// Stop doubling here.
    #[arg(long, default_value = "100000", value_parser = rate)]
    pub(crate) to: f64,
    /// How long each step lasts.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Steps between the last good rate and the first bad one.
    #[arg(long, default_value_t = 3)]
    pub(crate) refine: u32,
    /// What is played.
    #[command(flatten)]
    pub(crate) game: Game,
    /// How it is driven.
    #[command(flatten)]
    pub(crate) common: Common,
}

/// How a run is driven, whatever is played.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// A host's token [default: made by `podium token` from --data].
    #[arg(long, env = "PODIUM_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// The data folder whose issuer signs the host's token.
    #[arg(long, default_value = "podium-data")]
    pub(crate) data: PathBuf,
    /// Allow a gateway that is not on this machine.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// Sections of each quiz.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) sections: u16,
    /// Connections that hand in answers [default: one for 20 answers per second, 64 to 1,000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) connections: Option<u32>,
    /// Plain watchers of the live feeds.
    #[arg(long, default_value_t = 0)]
    pub(crate) watchers: u32,
    /// Participants whose answers are looked for in the live feed [default: about four looks a second].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=50))]
    pub(crate) probes: Option<u32>,
    /// How long after its time an answer is handed in again.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) give_up: Duration,
    /// How long one request may take.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// How long after closing all answers may take to be judged.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) settle: Duration,
    /// Arrivals that may wait for a connection; over it they are dropped [default: 15 s worth of them].
    #[arg(long)]
    pub(crate) backlog: Option<usize>,
    /// A threshold such as ack_p99=20ms, visible_p99=1s, rate=9900, server_us_per_answer=30.
    #[arg(long = "slo", value_name = "NAME=VALUE")]
    pub(crate) slos: Vec<Slo>,
    /// Folder for report.json, report.html and latency.hlog.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
    /// The server's process, to measure its processor time and memory.
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// Where a stage of a cluster serves its metrics, to count what an answer costs; once for each process.
    #[arg(long = "metrics", value_name = "URL")]
    pub(crate) metrics: Vec<Endpoint>,
    /// A process by a name for the report, to measure its processor time per answer, such as grade=4711.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pub(crate) pids: Vec<Process>,
    /// Draws answers and arrivals; the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Reads a duration such as `500ms`, `30s`, `5m`, or plain seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("takes a number with us, ms, s, m or h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "takes a number with us, ms, s, m or h".to_owned())?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > Duration::from_secs(86_400) {
        return Err("must be over 0 and at most a day".to_owned());
    }
    Ok(duration)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if rate > 0.0 && rate <= 1_000_000.0 {
        Ok(rate)
    } else {
        Err("must be over 0 and at most a million".to_owned())
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be 0 to 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let cases = [("500ms", 500), ("30s", 30_000), ("30", 30_000), ("5m", 300_000), ("1.5s", 1_500)];
        for (text, ms) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1x", "0", "2d", "100h", "1e9"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
