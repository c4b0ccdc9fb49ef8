//! `podium quiz`: publish a definition, import a question file, list quizzes, all at a running gateway.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use hyper::{Method, StatusCode};
use operators::id::QuizId;
use serde_json::Value;

use super::runtime;
use crate::client::{Client, Target};

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
    /// List the quizzes, one a line: id, phase, version, participants, title
    List {
        #[command(flatten)]
        target: Target,
    },
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
        QuizCommand::List { target } => list(&target),
    }
}

fn publish(target: &Target, quiz: &QuizId, definition: Vec<u8>) -> anyhow::Result<()> {
    let client = Client::new(target)?;
    let (status, answer) =
        runtime()?.block_on(client.send(Method::PUT, &format!("/v1/quizzes/{quiz}"), Some(definition)))?;
    let version = answer.get("version").and_then(Value::as_u64).unwrap_or_default();
    let what = if status == StatusCode::CREATED { "published" } else { "is now at" };
    println!("{quiz} {what} version {version}");
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
            println!("{id}\t{phase}\tversion {}\t{} participants\t{title}", number("version"), number("participants"));
        }
        cursor = answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(());
        }
    }
}
