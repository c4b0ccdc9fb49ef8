//! The binary `podium`: without a command it runs every stage in one process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pipeline::commands::stages::{self, One};
use pipeline::commands::{self, quiz, streams, table, token};
use pipeline::config::{Sources, cluster};
use pipeline::telemetry;

/// Millions of small, long-lived values and as many short-lived ones: the system's allocator took a seventh of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Scores live quizzes.
#[derive(Parser)]
#[command(name = "podium", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: Sources,
}

#[derive(Subcommand)]
enum Command {
    /// Run every stage in one process, with the live page at / (the default)
    Up(Sources),
    /// Print the resolved settings of one machine and of a cluster, or everything that is wrong with them
    Check(cluster::Sources),
    /// Print one token, nothing else
    Token(token::Args),
    /// Serve clients of a cluster
    Gateway(cluster::Sources),
    /// Grade answers in a cluster, with any number of others
    Grade(cluster::Sources),
    /// Rank what was graded in a cluster, with any number of others
    Rank(cluster::Sources),
    /// Publish, import or list quizzes at a running gateway
    Quiz(quiz::Args),
    /// Make, show or scale the streams of a cluster
    Streams(streams::Args),
    /// Make the table of a cluster
    Table(table::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let outcome = match cli.command {
        None => commands::up(cli.up),
        Some(Command::Up(sources)) => commands::up(sources),
        Some(Command::Check(sources)) => commands::check(sources),
        Some(Command::Token(args)) => token::run(&args),
        Some(Command::Gateway(sources)) => stages::run(One::Gateway, sources),
        Some(Command::Grade(sources)) => stages::run(One::Grade, sources),
        Some(Command::Rank(sources)) => stages::run(One::Rank, sources),
        Some(Command::Quiz(args)) => quiz::run(args),
        Some(Command::Streams(args)) => streams::run(args),
        Some(Command::Table(args)) => table::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podium: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Prints help as it is, and what is wrong with the flags on one line.
fn refused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        telemetry::say(error.render().to_string().trim_end());
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    // What is missing, or what was meant; not the usage, which --help prints.
    let rest: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let parts: Vec<&str> = std::iter::once(first.trim_end_matches(':')).chain(rest).collect();
    eprintln!("podium: {} (--help says more)", parts.join("; "));
    ExitCode::from(2)
}

/// Returns an error with its causes, without a cause that only repeats what stands before it.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
