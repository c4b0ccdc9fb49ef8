//! `podium quiz`: publish a definition, import a question file, list quizzes, all at a running gateway.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use hyper::{Method, StatusCode};
use operators::definition::Pace;
use operators::id::QuizId;
use rust_decimal::Decimal;
use serde_json::Value;

use super::runtime;
use crate::commands::client::{Client, Target};
use crate::config::Span;
use crate::import::{self, Format, Sample};
use crate::telemetry::say;

/// Which of the three.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: QuizCommand,
}

#[derive(Debug, Subcommand)]
enum QuizCommand {
    /// Publish a definition (JSON) as the next version of a quiz
    Publish {
        /// The definition
        file: PathBuf,
        /// The quiz
        #[arg(long, value_name = "ID")]
        quiz: QuizId,
        #[command(flatten)]
        target: Target,
    },
    /// Import a question file (OpenTriviaQA text or Moodle GIFT) as a quiz: all of it or nothing
    Import(Box<ImportArgs>),
    /// List the quizzes, one a line: id, phase, version, participants, title
    List {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The question file
    file: PathBuf,
    /// The quiz
    #[arg(long, value_name = "ID")]
    quiz: QuizId,
    /// opentriviaqa or gift; by default told from the file's name and content
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Title of the quiz; by default the file's name
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Let every question take answers while the quiz is open, instead of the host opening one at a time
    #[arg(long)]
    free: bool,
    /// Only the first N questions
    #[arg(long, value_name = "N", conflicts_with = "sample")]
    limit: Option<usize>,
    /// N questions drawn at random, the same ones for the same --seed
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Seed of --sample
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Leave out questions that cannot be imported, with a note for each, instead of refusing the file
    #[arg(long)]
    skip_bad: bool,
    /// Points of each question
    #[arg(long, value_name = "POINTS")]
    points: Option<Decimal>,
    /// Time limit of each question [default: 20s when the host opens questions]
    #[arg(long, value_name = "DURATION")]
    time_limit: Option<Span>,
    /// Print the definition instead of publishing it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs one of the three.
///
/// # Errors
/// An unreadable or wrong file, or what the gateway says.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        QuizCommand::Publish { file, quiz, target } => {
            let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
            publish(&target, &quiz, text)
        }
        QuizCommand::Import(args) => import(*args),
        QuizCommand::List { target } => list(&target),
    }
}

fn import(args: ImportArgs) -> anyhow::Result<()> {
    let name = args.file.display().to_string();
    let size = std::fs::metadata(&args.file).with_context(|| name.clone())?.len();
    if size > import::INPUT_BYTES_MAX as u64 {
        bail!("{name} has {size} bytes, more than {}", import::INPUT_BYTES_MAX);
    }
    let bytes = std::fs::read(&args.file).with_context(|| name.clone())?;
    let unknown = || format!("{name}: cannot tell its format; name it with --format opentriviaqa or gift");
    let format = args.format.or_else(|| Format::detect(&name, &bytes)).with_context(unknown)?;
    let stem = args.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut options = import::Options {
        title: args.title.or(stem),
        limit: args.limit,
        sample: args.sample.map(|count| Sample { count, seed: args.seed }),
        skip_bad: args.skip_bad,
        ..import::Options::default()
    };
    if args.free {
        options.pace = Pace::Free;
    }
    if let Some(Span(limit)) = args.time_limit {
        options.time_limit_ms = Some(limit.as_millis() as u64);
    }
    if let Some(points) = args.points {
        options.points = points;
    }
    let imported =
        import::import(&bytes, format, &options).with_context(|| format!("{name}: nothing was imported"))?;
    for note in &imported.notes {
        eprintln!("{name}:{}: {}", note.line, note.text);
    }
    if imported.notes_more > 0 {
        eprintln!("{name}: and {} more notes", imported.notes_more);
    }
    let questions = imported.source.questions.len();
    if args.dry_run {
        say(&serde_json::to_string_pretty(&imported.source)?);
        return Ok(());
    }
    publish(&args.target, &args.quiz, serde_json::to_vec(&imported.source)?)?;
    let skipped =
        if imported.skipped > 0 { format!(", {} left out", imported.skipped) } else { String::new() };
    say(&format!("{questions} questions from {name}{skipped}"));
    Ok(())
}

fn publish(target: &Target, quiz: &QuizId, definition: Vec<u8>) -> anyhow::Result<()> {
    let client = Client::new(target)?;
    let (status, answer) =
        runtime()?.block_on(client.send(Method::PUT, &format!("/v1/quizzes/{quiz}"), Some(definition)))?;
    let version = answer.get("version").and_then(Value::as_u64).unwrap_or_default();
    let what = if status == StatusCode::CREATED { "published" } else { "is now at" };
    say(&format!("{quiz} {what} version {version}"));
    Ok(())
}

fn list(target: &Target) -> anyhow::Result<()> {
    let client = Client::new(target)?;
    let runtime = runtime()?;
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = format!("/v1/quizzes?limit=1000{after}");
        let (_, answer) = runtime.block_on(client.send(Method::GET, &path, None))?;
        for quiz in answer.get("quizzes").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| quiz.get(name).and_then(Value::as_str).unwrap_or_default();
            let number = |name: &str| quiz.get(name).and_then(Value::as_u64).unwrap_or_default();
            let (id, phase, title) = (text("quiz"), text("phase"), text("title"));
            let (version, participants) = (number("version"), number("participants"));
            say(&format!("{id}\t{phase}\tversion {version}\t{participants} participants\t{title}"));
        }
        cursor = answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(());
        }
    }
}
