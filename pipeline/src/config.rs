//! Settings: flag over environment over file over default, checked as a whole.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use gateway::admission::Timing;
use serde::Deserialize;

pub mod cluster;

/// A duration written as `500ms`, `2s` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = jiff::SignedDuration::from_str(text).ok().and_then(|span| Duration::try_from(span).ok());
        parsed.map(Self).ok_or_else(|| format!("{text:?} is no duration such as 500ms, 2s or 1h"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The raw settings of `podium up`, from flags, the environment or a file; what is absent has a default.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Address to serve on; only a loopback address, as long as Podium is its own issuer [default: 127.0.0.1:8080]
    #[arg(long, env = "PODIUM_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Directory that holds everything; of a cluster the issuer's key alone [default: podium-data]
    #[arg(long, env = "PODIUM_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Partitions of every stream, fixed when they are made [default: 4; in a cluster as the streams say]
    #[arg(long, env = "PODIUM_PARTITIONS", value_name = "N")]
    pub partitions: Option<u16>,
    /// Time from a close to its Seal [default: 2s; in a cluster 5s]
    #[arg(long, env = "PODIUM_GRACE", value_name = "DURATION")]
    pub grace: Option<Span>,
    /// Time before the Seal from which nothing is acknowledged [default: 500ms; in a cluster 1s]
    #[arg(long, env = "PODIUM_MARGIN", value_name = "DURATION")]
    pub margin: Option<Span>,
    /// Greatest age of a view that still acknowledges answers [default: 1s; in a cluster 3500ms]
    #[arg(long, env = "PODIUM_VIEW_AGE_MAX", value_name = "DURATION")]
    pub view_age_max: Option<Span>,
    /// Least time between two frames of a quiz's live feed [default: 500ms]
    #[arg(long, env = "PODIUM_LIVE_INTERVAL", value_name = "DURATION")]
    pub live_interval: Option<Span>,
    /// Participants kept in memory per stage of a process, over all quizzes [default: 4000000]
    #[arg(long, env = "PODIUM_CACHE_PARTICIPANTS_MAX", value_name = "N")]
    pub cache_participants_max: Option<usize>,
    /// How long quizzes are kept after they are final, such as 720h; then nothing is left of them but in the log
    /// [default: for ever]
    #[arg(long, env = "PODIUM_KEEP_FINISHED", value_name = "DURATION")]
    pub keep_finished: Option<Span>,
    /// Log lines for people or as JSON [default: text]
    #[arg(long, env = "PODIUM_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log level, or `target=level` pairs separated by commas [default: info]
    #[arg(long, env = "PODIUM_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// Settings of stages apart; a `[cluster]` table in the file.
    #[arg(skip)]
    pub cluster: cluster::Raw,
}

/// Where settings come from on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct Sources {
    /// Settings file (TOML, the long flag names with underscores)
    #[arg(long, env = "PODIUM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    raw: Raw,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to serve on.
    pub listen: SocketAddr,
    /// Directory that holds everything.
    pub data: PathBuf,
    /// Partitions of every stream.
    pub partitions: u16,
    /// The times around a close.
    pub timing: Timing,
    /// Least time between two frames of a live feed.
    pub live_interval: Duration,
    /// Participants kept in memory per stage.
    pub cache_participants_max: usize,
    /// How long quizzes are kept after they are final; `None` for ever.
    pub keep_finished: Option<Duration>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log: String,
}

/// Shorter, nobody could read the result; longer than ten years is for ever.
const KEEP_FINISHED: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(87_600);

/// The directory used when none is named.
pub const DATA_DEFAULT: &str = "podium-data";

/// Everything wrong with the settings, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Variables of the environment that are not settings of a running Podium.
const OTHER_VARIABLES: [&str; 2] = ["PODIUM_URL", "PODIUM_TOKEN"];

impl Sources {
    /// Returns the checked settings.
    ///
    /// # Errors
    /// All problems at once.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Raw::default(),
        };
        check(self.raw, file, unknown_variables(std::env::vars_os().map(|(name, _)| name)), &Defaults::ONE)
    }
}

/// What differs between one process and stages apart.
struct Defaults {
    grace_ms: u64,
    margin_ms: u64,
    view_age_ms_max: u64,
}

impl Defaults {
    const ONE: Self = Self { grace_ms: 2_000, margin_ms: 500, view_age_ms_max: 1_000 };
    /// Records pass two streams that are polled, and a view is stored and followed: each takes its part of a second.
    const CLUSTER: Self = Self { grace_ms: 5_000, margin_ms: 1_000, view_age_ms_max: 3_500 };
}

fn read(path: &Path) -> Result<Raw, ConfigError> {
    let fail = |reason: String| ConfigError(vec![format!("{}: {reason}", path.display())]);
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let content = text.lines().nth(line - 1).unwrap_or_default().trim();
        fail(format!("line {line}, `{content}`: {}", error.message().replace('\n', " ")))
    })
}

/// Returns a complaint for each `PODIUM_…` variable that means nothing: a typing error must not be a silent default.
fn unknown_variables(names: impl Iterator<Item = std::ffi::OsString>) -> Vec<String> {
    let command = cluster::Sources::augment_args(clap::Command::new("podium"));
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .collect();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let podium = names.filter(|name| name.starts_with("PODIUM_") && !name.starts_with("PODIUM_TEST_"));
    let podium = podium.filter(|name| !name.starts_with("PODIUM_SIM_"));
    let unknown = podium.filter(|name| !known.contains(name) && !OTHER_VARIABLES.contains(&name.as_str()));
    unknown.map(|name| format!("{name} is set but is no setting; known are {}", known.join(", "))).collect()
}

fn check(
    flags: Raw,
    file: Raw,
    mut problems: Vec<String>,
    defaults: &Defaults,
) -> Result<Config, ConfigError> {
    let listen = flags.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    if !listen.ip().is_loopback() {
        problems.push(format!(
            "listen: {listen} is not a loopback address; Podium is its own issuer of tokens, which is safe on loopback \
             only: use 127.0.0.1 or [::1] and put a proxy in front"
        ));
    }
    let partitions = flags.partitions.or(file.partitions).unwrap_or(4);
    if partitions == 0 || partitions > ingest::limits::PARTITIONS_MAX {
        problems
            .push(format!("partitions: must be 1 to {}, not {partitions}", ingest::limits::PARTITIONS_MAX));
    }
    let span = |flag: Option<Span>, file: Option<Span>, default_ms| {
        flag.or(file).map_or(Duration::from_millis(default_ms), |span| span.0)
    };
    let timing = Timing::new(
        span(flags.grace, file.grace, defaults.grace_ms),
        span(flags.margin, file.margin, defaults.margin_ms),
        span(flags.view_age_max, file.view_age_max, defaults.view_age_ms_max),
    );
    let timing = timing.map_err(|error| problems.push(format!("grace, margin, view_age_max: {error}")));
    let live_interval = span(flags.live_interval, file.live_interval, 500);
    if live_interval < Duration::from_millis(50) || live_interval > Duration::from_secs(60) {
        problems.push(format!("live_interval: must be 50ms to 60s, not {live_interval:?}"));
    }
    let cache_participants_max =
        flags.cache_participants_max.or(file.cache_participants_max).unwrap_or(4_000_000);
    let keep_finished = flags.keep_finished.or(file.keep_finished).map(|span| span.0);
    if let Some(keep) = keep_finished.filter(|keep| !KEEP_FINISHED.contains(keep)) {
        problems.push(format!("keep_finished: must be 1s to 87600h, not {keep:?}"));
    }
    let log = flags.log.or(file.log).unwrap_or_else(|| "info".to_owned());
    if let Err(error) = log.parse::<tracing_subscriber::filter::Targets>() {
        problems.push(format!("log: {error}"));
    }
    let (Ok(timing), true) = (timing, problems.is_empty()) else { return Err(ConfigError(problems)) };
    Ok(Config {
        listen,
        data: flags.data.or(file.data).unwrap_or_else(|| PathBuf::from(DATA_DEFAULT)),
        partitions,
        timing,
        live_interval,
        cache_participants_max,
        keep_finished,
        log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
        log,
    })
}

impl Config {
    /// Returns the settings as a file that would give them again.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let ms = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let lines = [
            ("listen", format!("\"{}\"", self.listen)),
            ("data", toml::Value::from(self.data.display().to_string()).to_string()),
            ("partitions", self.partitions.to_string()),
            ("grace", ms(self.timing.grace())),
            ("margin", ms(self.timing.margin())),
            ("view_age_max", ms(self.timing.view_age_max())),
            ("live_interval", ms(self.live_interval)),
            ("cache_participants_max", self.cache_participants_max.to_string()),
            ("log_format", format!("\"{format}\"")),
            ("log", toml::Value::from(self.log.clone()).to_string()),
        ];
        for (name, value) in lines {
            let _ = writeln!(text, "{name} = {value}");
        }
        let _ = match self.keep_finished {
            Some(keep) => writeln!(text, "keep_finished = {}", ms(keep)),
            None => writeln!(text, "# keep_finished is not set: for ever"),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Raw, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = Raw { partitions: Some(8), ..Raw::default() };
        let config =
            check(flags, file("partitions = 2\ngrace = \"3s\"").unwrap(), Vec::new(), &Defaults::ONE)
                .unwrap();
        assert_eq!((config.partitions, config.timing.grace()), (8, Duration::from_secs(3)));
        assert_eq!(config.listen.port(), 8080);
    }

    #[test]
    fn what_check_prints_gives_the_same_settings_again() {
        let config = check(Raw::default(), Raw::default(), Vec::new(), &Defaults::ONE).unwrap();
        let again =
            check(Raw::default(), file(&config.to_toml()).unwrap(), Vec::new(), &Defaults::ONE).unwrap();
        assert_eq!(config.to_toml(), again.to_toml());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let raw =
            file("listen = \"0.0.0.0:80\"\npartitions = 0\ngrace = \"1s\"\nlive_interval = \"1ms\"").unwrap();
        let ConfigError(problems) = check(Raw::default(), raw, Vec::new(), &Defaults::ONE).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn unknown_keys_and_variables_are_errors() {
        assert!(file("listn = \"127.0.0.1:80\"").is_err());
        assert!(file("grace = \"soon\"").is_err());
        let names = ["PODIUM_LISTN", "PODIUM_LISTEN", "PODIUM_TOKEN", "HOME"];
        let complaints = unknown_variables(names.into_iter().map(Into::into));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }
}
