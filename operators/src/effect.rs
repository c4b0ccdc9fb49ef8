//! What a fold wants told outside: absolute state with a revision, never a delta.

use std::sync::Arc;

use rust_decimal::Decimal;

use crate::definition::Definition;
use crate::event::{Command, Decided, Response, Scope};
use crate::id::{ParticipantId, Position, QuestionId, QuizId, SubmissionId, UnixMillis};
use crate::policies::Fraction;

/// What a grade fold made of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To the quiz's partition of `standings`.
    Standings(Effect),
    /// A numbered command, to another section's partition of `submissions`.
    Copy {
        /// The quiz.
        quiz: QuizId,
        /// The section that it is for.
        section: u16,
        /// Number in the quiz.
        number: u64,
        /// When section 0's record was appended.
        at: UnixMillis,
        /// The command.
        command: Command,
    },
}

/// A change of one section, as of one revision of it. `(quiz, section, revision, ordinal)` is its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The quiz.
    pub quiz: QuizId,
    /// The section that says so.
    pub section: u16,
    /// Records of that section applied, this one included.
    pub revision: u64,
    /// Which of that record's effects, from 0.
    pub ordinal: u32,
    /// The position in `submissions` of the record that made it.
    pub position: Position,
    /// What is so now.
    pub change: Change,
}

/// What is so now.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An answer was judged.
    ScoreChanged(Box<ScoreChanged>),
    /// A counted answer turned out to be late: the close that it came after reached this section later than it did.
    Overruled(Box<Overruled>),
    /// A participant is in the quiz under this name.
    Joined {
        /// Who.
        participant: ParticipantId,
        /// As shown.
        name: String,
    },
    /// Section 0 decided on a command; `status` is the quiz after it.
    QuizChanged(Box<QuizChanged>),
    /// This section has applied all commands up to this number.
    Reached {
        /// The number.
        number: u64,
    },
    /// This section takes no more answers to `scope`.
    Sealed {
        /// What is sealed.
        scope: Scope,
    },
}

/// An answer was judged: the participant's standing, the receipt, the section's books.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreChanged {
    /// Who.
    pub participant: ParticipantId,
    /// The participant's standing after it; `None` for someone who is not in the quiz.
    pub standing: Option<Standing>,
    /// The judgement; `None` when a submission that counted arrived again, whose receipt stands.
    pub receipt: Option<Receipt>,
    /// The section's books of this question, or of unknown questions.
    pub tally: Tally,
    /// Index of the question whose books these are; `None`: unknown questions.
    pub question: Option<u16>,
    /// Sum of all points that this section awarded.
    pub awarded: Decimal,
}

/// A counted answer is late after all: its receipt says so from here on, and it is worth nothing. The first answer that
/// was received in time, if there is one behind it in the log, counts instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Overruled {
    /// Who.
    pub participant: ParticipantId,
    /// Index of the question.
    pub question: u16,
    /// The participant's standing after it.
    pub standing: Standing,
    /// The section's books of this question.
    pub tally: Tally,
    /// Sum of all points that this section awarded.
    pub awarded: Decimal,
    /// The judgement of the answer that counts instead.
    pub instead: Option<Receipt>,
}

/// The figures that rank a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Sum of points.
    pub points: Decimal,
    /// Answers that were wholly right.
    pub correct: u32,
    /// Sum of the milliseconds taken for them.
    pub time_ms: u64,
    /// Scoring time of the last of them.
    pub last_correct_at: UnixMillis,
}

impl Standing {
    /// Adds one counted answer.
    pub(crate) fn add(&mut self, fraction: Fraction, taken_ms: u64, points: Decimal, at: UnixMillis) {
        // Within the limits a total stays far below what a Decimal holds; saturating keeps the fold total all the same.
        self.points = self.points.saturating_add(points).normalize();
        if fraction.is_whole() {
            self.correct += 1;
            self.time_ms = self.time_ms.saturating_add(taken_ms);
            self.last_correct_at = self.last_correct_at.max(at);
        }
    }
}

/// The judgement of one submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The submission.
    pub submission: SubmissionId,
    /// The question as named by the client.
    pub question: QuestionId,
    /// What was handed in.
    pub response: Response,
    /// The judgement.
    pub verdict: Verdict,
    /// The right part, for a counted answer.
    pub fraction: Option<Fraction>,
    /// Points awarded for it.
    pub points: Decimal,
    /// When the gateway had the whole request.
    pub received_at: UnixMillis,
    /// Milliseconds from opening to scoring time, for a counted answer.
    pub taken_ms: Option<u64>,
    /// Where the record is.
    pub position: Position,
    /// The section's revision with it.
    pub revision: u64,
    /// Where readers keep it.
    pub slot: Slot,
}

/// Where readers keep a receipt, so that they hold a bounded number per participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The counted answer to the question with this index, whether or not it was overruled later.
    Question(u16),
    /// The answer that counts instead of an overruled one.
    Instead(u16),
    /// One of the newest unscored answers: a ring of [`crate::limits::RECENT_RECEIPTS_MAX`].
    Recent(u8),
}

/// The judgement of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The first valid answer to its question: it is graded and its points are in the ranking.
    Counted,
    /// The question has an answer by this participant already.
    Repeated,
    /// Scored after the question closed, or after its Seal.
    Late,
    /// Before the question opened.
    TooEarly,
    /// Not an answer to anything.
    Rejected(Reason),
}

/// Why an answer was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The quiz was never published.
    UnknownQuiz,
    /// The quiz has no such question.
    UnknownQuestion,
    /// The answer does not fit the question's kind or choices.
    WrongShape,
    /// The participant did not join.
    NotParticipant,
}

impl Reason {
    /// All reasons, in the order of [`Tally::rejected`].
    pub const ALL: [Self; 4] =
        [Self::UnknownQuiz, Self::UnknownQuestion, Self::WrongShape, Self::NotParticipant];

    /// Returns the name used in receipts and books.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownQuiz => "unknown_quiz",
            Self::UnknownQuestion => "unknown_question",
            Self::WrongShape => "wrong_shape",
            Self::NotParticipant => "not_participant",
        }
    }
}

/// Answers by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Graded and ranked.
    pub counted: u64,
    /// Second and later answers.
    pub repeated: u64,
    /// After the close.
    pub late: u64,
    /// Before the opening.
    pub too_early: u64,
    /// By reason, in the order of [`Reason::ALL`].
    pub rejected: [u64; 4],
}

impl Tally {
    /// Counts one answer.
    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Counted => self.counted += 1,
            Verdict::Repeated => self.repeated += 1,
            Verdict::Late => self.late += 1,
            Verdict::TooEarly => self.too_early += 1,
            Verdict::Rejected(reason) => self.rejected[reason as usize] += 1,
        }
    }
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.counted += other.counted;
        self.repeated += other.repeated;
        self.late += other.late;
        self.too_early += other.too_early;
        for (mine, theirs) in self.rejected.iter_mut().zip(other.rejected) {
            *mine += theirs;
        }
    }
    /// Moves one answer from counted to late.
    pub fn overrule(&mut self) {
        self.counted = self.counted.saturating_sub(1);
        self.late += 1;
    }
    /// Moves one answer from repeated to counted.
    pub fn reinstate(&mut self) {
        self.repeated = self.repeated.saturating_sub(1);
        self.counted += 1;
    }
    /// Returns the number of answers in all.
    pub fn received(&self) -> u64 {
        self.counted + self.repeated + self.late + self.too_early + self.rejected.iter().sum::<u64>()
    }
}

/// Section 0's decision on a command.
#[derive(Debug, Clone, PartialEq)]
pub struct QuizChanged {
    /// The command and what became of it.
    pub decided: Decided,
    /// The quiz after it.
    pub status: QuizStatus,
    /// The definition, when the command published one.
    pub definition: Option<Arc<Definition>>,
}

/// A quiz's state as players may see it, apart from its definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuizStatus {
    /// Number of the last command in it.
    pub number: u64,
    /// Version of the definition.
    pub version: u64,
    /// Where the quiz is in its life.
    pub phase: Phase,
    /// When it opened.
    pub opened_at: Option<UnixMillis>,
    /// When it closed.
    pub closed_at: Option<UnixMillis>,
    /// Windows of the questions that were opened, in the order of opening.
    pub windows: Vec<Window>,
}

/// When a question takes answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Index of the question.
    pub question: u16,
    /// First moment.
    pub opened_at: UnixMillis,
    /// Last moment, if it is known.
    pub closes_at: Option<UnixMillis>,
}

/// Where a quiz is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Published (or not even that): it can be changed and joined.
    #[default]
    Draft,
    /// It takes answers.
    Open,
    /// It takes none any more.
    Closed,
    /// It finished long ago, and nothing is kept of it but its numbers. Publishing makes its next version.
    Forgotten,
}

impl Phase {
    /// Returns the name used in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Forgotten => "forgotten",
        }
    }
}
