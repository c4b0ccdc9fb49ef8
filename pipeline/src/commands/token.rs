//! `podium token`: mints tokens of the own issuer, beside a running Podium.

use std::path::PathBuf;

use anyhow::{Context, bail};
use gateway::auth::{Issuer, Role, SUBJECT_CHARS_MAX};
use gateway::{Clock, SystemClock};
use operators::id::QuizId;

use crate::config::{DATA_DEFAULT, Span};
use crate::telemetry::say;

/// Whom the token is for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// host, player or viewer
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// Who: the same subject is the same participant in a quiz
    #[arg(long, default_value = "podium-cli", value_name = "S")]
    subject: String,
    /// Valid for this quiz only
    #[arg(long, value_name = "ID")]
    quiz: Option<QuizId>,
    /// Valid for this long
    #[arg(long, default_value = "12h", value_name = "DURATION")]
    ttl: Span,
    /// Directory that holds the issuer's key
    #[arg(long, env = "PODIUM_DATA", default_value = DATA_DEFAULT, value_name = "DIR")]
    data: PathBuf,
}

/// Prints one token, nothing else.
///
/// # Errors
/// A subject that is too long, no access to the key.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let chars = args.subject.chars().count();
    if chars == 0 || chars > SUBJECT_CHARS_MAX || args.subject.chars().any(char::is_control) {
        bail!("--subject: must have 1 to {SUBJECT_CHARS_MAX} characters, none of them a control character");
    }
    std::fs::create_dir_all(&args.data).with_context(|| format!("cannot make {}", args.data.display()))?;
    let issuer =
        Issuer::open(&args.data).with_context(|| format!("issuer key in {}", args.data.display()))?;
    say(&issuer.mint(&args.subject, args.role, args.quiz.as_ref(), args.ttl.0, SystemClock.now()));
    Ok(())
}
