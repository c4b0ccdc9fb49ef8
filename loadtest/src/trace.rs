//! A real contest as a load: teams become participants, problems questions, and the clock runs faster.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use operators::id::QuestionId;
use serde::Deserialize;

use crate::schedule::{Arrival, Ask};

/// What was handed in at a contest.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Team ids in the order of their first hand-in: the index is the participant.
    pub(crate) teams: Vec<String>,
    /// Problem ids in the order of the contest's own list: the index is the question.
    pub(crate) problems: Vec<String>,
    /// How long the contest was.
    pub(crate) length: Duration,
    hand_ins: Vec<HandIn>,
}

#[derive(Debug, Clone, Copy)]
struct HandIn {
    at_ns: u64,
    team: u32,
    problem: u16,
    choice: u8,
}

/// The choices of every question, which are the outcomes of the contest's judge; the key is the first.
pub(crate) const CHOICES: [&str; 2] = ["CORRECT", "INCORRECT"];

#[derive(Deserialize)]
struct Run {
    team_id: String,
    problem_id: String,
    timestamp: u64,
    status: String,
}

#[derive(Deserialize)]
struct Config {
    start_time: u64,
    end_time: u64,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    id: String,
}

impl Trace {
    /// Reads `runs.json` and `config.json` of a folder.
    ///
    /// # Errors
    /// One line that names the file and what is wrong in it: nothing can be replayed.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read the trace {}", path.display()))
        };
        let (runs, config) = (text("runs.json")?, text("config.json")?);
        Self::parse(&runs, &config)
            .with_context(|| format!("the trace in {} is not usable", folder.display()))
    }

    fn parse(runs: &[u8], config: &[u8]) -> Result<Self> {
        let config: Config = serde_json::from_slice(config).context("config.json")?;
        let mut runs: Vec<Run> = serde_json::from_slice(runs).context("runs.json")?;
        let length = config.end_time.saturating_sub(config.start_time);
        if length == 0 {
            bail!("config.json: end_time is not after start_time");
        }
        if runs.is_empty() {
            bail!("runs.json: holds no submission");
        }
        runs.sort_by_key(|run| run.timestamp);
        let mut problems: Vec<String> = config.problems.into_iter().map(|problem| problem.id).collect();
        let mut teams = Vec::new();
        let mut team_of: HashMap<String, u32> = HashMap::new();
        let mut hand_ins = Vec::with_capacity(runs.len());
        for (at_ns, run) in within_seconds(&runs).into_iter().zip(&runs) {
            if run.timestamp > length {
                bail!("runs.json: a submission at second {} of a contest of {length} s", run.timestamp);
            }
            let Some(choice) = CHOICES.iter().position(|choice| *choice == run.status) else {
                bail!("runs.json: status {:?} is neither CORRECT nor INCORRECT", run.status);
            };
            if run.problem_id.parse::<QuestionId>().is_err() {
                bail!("runs.json: problem id {:?} cannot be a question's id", run.problem_id);
            }
            let problem = problems.iter().position(|id| *id == run.problem_id).unwrap_or_else(|| {
                problems.push(run.problem_id.clone());
                problems.len() - 1
            });
            let team = *team_of.entry(run.team_id.clone()).or_insert_with(|| {
                teams.push(run.team_id.clone());
                teams.len() as u32 - 1
            });
            hand_ins.push(HandIn { at_ns, team, problem: problem as u16, choice: choice as u8 });
        }
        Ok(Self { teams, problems, length: Duration::from_secs(length), hand_ins })
    }

    /// Returns the number of submissions.
    pub(crate) fn len(&self) -> usize {
        self.hand_ins.len()
    }

    /// Returns the submissions with their times shrunk (or stretched) so that the contest takes `duration`.
    pub(crate) fn arrivals(&self, duration: Duration) -> Vec<Arrival> {
        let (to, from) = (duration.as_nanos(), self.length.as_nanos());
        let warp = |at_ns: u64| (u128::from(at_ns) * to / from) as u64;
        let arrival = |hand_in: &HandIn| Arrival {
            at_ns: warp(hand_in.at_ns),
            player: hand_in.team,
            ask: Ask::Exact { question: hand_in.problem, choice: hand_in.choice },
        };
        self.hand_ins.iter().map(arrival).collect()
    }
}

/// Returns times in nanoseconds. The trace has whole seconds; its submissions of one second are spread evenly over it,
/// since starting them together would add bursts that the contest did not have.
fn within_seconds(runs: &[Run]) -> Vec<u64> {
    let mut times = Vec::with_capacity(runs.len());
    for second in runs.chunk_by(|a, b| a.timestamp == b.timestamp) {
        let share = 1_000_000_000 / second.len() as u64;
        times.extend((0..).zip(second).map(|(nth, run)| run.timestamp * 1_000_000_000 + nth * share));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(runs: &str) -> Result<Trace> {
        Trace::parse(runs.as_bytes(), br#"{"start_time": 100, "end_time": 200, "problems": [{"id": "A"}]}"#)
    }

    #[test]
    fn the_real_contest_is_replayed_with_its_closing_burst() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/contest");
        let trace = Trace::read(&folder).unwrap();
        assert_eq!((trace.len(), trace.teams.len(), trace.problems.len()), (34_262, 2_407, 12));
        assert_eq!(trace.length, Duration::from_secs(18_000));
        let arrivals = trace.arrivals(Duration::from_secs(60));
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at_ns));
        assert!(arrivals.iter().all(|arrival| arrival.at_ns < 60_000_000_000));
        // The last minute of 300 is the last 200 ms of 60 s, with 1,195 submissions.
        assert_eq!(arrivals.iter().filter(|arrival| arrival.at_ns >= 59_800_000_000).count(), 1_195);
        let right = arrivals.iter().filter(|a| matches!(a.ask, Ask::Exact { choice: 0, .. })).count();
        assert_eq!(right, 9_305);
    }

    #[test]
    fn submissions_of_one_second_are_spread_over_it_in_their_order() {
        let run = |team, status| {
            format!(r#"{{"team_id": "{team}", "problem_id": "A", "timestamp": 50, "status": "{status}"}}"#)
        };
        let trace = parse(&format!("[{}, {}]", run("x", "INCORRECT"), run("y", "CORRECT"))).unwrap();
        let times: Vec<_> =
            trace.arrivals(Duration::from_secs(10)).iter().map(|a| (a.at_ns, a.player)).collect();
        assert_eq!(times, [(5_000_000_000, 0), (5_050_000_000, 1)]);
    }

    #[test]
    fn a_broken_trace_is_told_in_one_line() {
        let cases = [
            ("[", "runs.json"),
            ("[]", "holds no submission"),
            (r#"[{"team_id": "x"}]"#, "problem_id"),
            (
                r#"[{"team_id": "x", "problem_id": "A", "timestamp": 101, "status": "CORRECT"}]"#,
                "second 101 of a contest of 100 s",
            ),
            (
                r#"[{"team_id": "x", "problem_id": "A", "timestamp": 1, "status": "PENDING"}]"#,
                "neither CORRECT nor INCORRECT",
            ),
            (
                r#"[{"team_id": "x", "problem_id": "A\"", "timestamp": 1, "status": "CORRECT"}]"#,
                "cannot be a question's id",
            ),
        ];
        for (runs, expected) in cases {
            let message = format!("{:#}", parse(runs).unwrap_err());
            assert!(message.contains(expected) && !message.contains('\n'), "{runs}: {message}");
        }
        let backwards = Trace::parse(b"[]", br#"{"start_time": 2, "end_time": 1}"#).unwrap_err();
        assert!(format!("{backwards:#}").contains("end_time is not after start_time"));
        assert!(
            format!("{:#}", Trace::read(Path::new("/nowhere")).unwrap_err()).contains("/nowhere/runs.json")
        );
    }
}
