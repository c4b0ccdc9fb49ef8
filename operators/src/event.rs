//! What enters the `submissions` stream: the decoded meaning of its records.

use std::sync::Arc;

use rust_decimal::Decimal;

use crate::definition::Definition;
use crate::id::{CommandId, ParticipantId, Position, QuestionId, QuizId, SubmissionId, UnixMillis};

/// A decoded record of `submissions`, addressed to one section of one quiz.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The quiz.
    pub quiz: QuizId,
    /// The section, 0 for host commands.
    pub section: u16,
    /// What happened.
    pub event: Event,
}

/// Where and when a record was appended; all that a fold may know of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Place in the partition.
    pub position: Position,
    /// Time of the append, never earlier than that of the record before it in the partition.
    pub append_at: UnixMillis,
}

/// What happened to a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A participant handed in an answer.
    Answer(Answer),
    /// A participant joined, or changed the name.
    Join {
        /// Who.
        participant: ParticipantId,
        /// As shown on the leaderboard.
        name: String,
    },
    /// The host wants something; section 0 numbers it.
    Command {
        /// Repeating a command with the same id changes nothing.
        id: CommandId,
        /// Hash of the command: tells a repeat from another command under the same id.
        content: u64,
        /// What the host wants.
        command: Command,
    },
    /// Section 0's copy of an accepted command, for the other sections.
    Copy {
        /// Number in the quiz, from 1 without gaps.
        number: u64,
        /// When section 0's record was appended: the same in every section.
        at: UnixMillis,
        /// The command.
        command: Command,
    },
    /// No answer to `scope` counts from here on.
    Seal {
        /// What is sealed.
        scope: Scope,
    },
    /// A quiz that finished long ago is not kept any longer; section 0 numbers it like a command.
    Expire {
        /// Version of the quiz that is meant.
        version: u64,
        /// Not before this, by the time of the append: the clock that woke the writer may be wrong.
        due: UnixMillis,
    },
}

/// An answer as handed in.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Who.
    pub participant: ParticipantId,
    /// The client's id of this hand-in.
    pub submission: SubmissionId,
    /// Which question.
    pub question: QuestionId,
    /// The choice, number or text.
    pub response: Response,
    /// When the gateway had the whole request.
    pub received_at: UnixMillis,
}

/// The content of an answer, by the kind of question that it is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// `single_choice`: a choice id.
    Choice(String),
    /// `multiple_choice`: choice ids.
    Choices(Vec<String>),
    /// `numeric`: a number.
    Value(Decimal),
    /// `short_text`: a text.
    Text(String),
}

/// What a Seal covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One question.
    Question(QuestionId),
    /// The whole quiz.
    Quiz,
}

/// What a host may want.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make this definition the quiz's next version.
    Publish {
        /// The definition.
        definition: Arc<Definition>,
        /// Refuse unless this is the current version.
        if_version: Option<u64>,
    },
    /// Start the quiz.
    Open,
    /// Let a question of a host-paced quiz take answers.
    OpenQuestion(QuestionId),
    /// Stop a question before its limit.
    CloseQuestion(QuestionId),
    /// End the quiz.
    Close,
    /// Keep nothing of the quiz but its numbers: what section 0 makes of [`Event::Expire`]. No host can ask for it.
    Forget,
}

/// Why a host command was refused. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The quiz was never published.
    #[error("the quiz does not exist")]
    UnknownQuiz,
    /// The quiz has no such question.
    #[error("the quiz has no such question")]
    UnknownQuestion,
    /// The quiz is open.
    #[error("the quiz is open")]
    QuizOpen,
    /// The quiz is not open yet.
    #[error("the quiz is not open")]
    QuizNotOpen,
    /// The quiz is closed for good.
    #[error("the quiz is closed")]
    QuizClosed,
    /// Another version than the one named by `if_version`.
    #[error("the quiz has another version")]
    VersionMismatch,
    /// The number of sections cannot change once the quiz exists.
    #[error("the number of sections cannot change between versions")]
    SectionsFixed,
    /// The question was opened before.
    #[error("the question was opened before")]
    QuestionOpened,
    /// The question is not open.
    #[error("the question is not open")]
    QuestionNotOpen,
    /// Another question is still open.
    #[error("another question is still open")]
    AnotherOpen,
    /// Only a host-paced quiz opens questions one by one.
    #[error("the quiz is free-paced: its questions open and close with it")]
    FreePaced,
}

/// A host command that was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The command.
    pub id: CommandId,
    /// Hash of what it was, as in [`Event::Command`].
    pub content: u64,
    /// What became of it.
    pub outcome: CommandOutcome,
}

/// What became of a host command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Applied under this number.
    Accepted {
        /// Number in the quiz.
        number: u64,
        /// The quiz's version after it.
        version: u64,
    },
    /// A publish of exactly the current content: nothing to do.
    Unchanged {
        /// The quiz's version.
        version: u64,
    },
    /// Refused.
    Refused(Refusal),
}
