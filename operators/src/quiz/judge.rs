//! The judgement of one answer, without changing anything.

use super::{Counted, Participant, Section};
use crate::effect::{Phase, Reason, Verdict};
use crate::event::{Answer, Stamp};
use crate::id::UnixMillis;
use crate::limits;

/// What an answer is, before it is booked.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// Index of the question, if the quiz has it.
    pub(super) question: Option<u16>,
    /// What to keep of a counted answer.
    pub(super) counted: Option<Counted>,
    /// The submission that counts arrived once more.
    pub(super) resent: bool,
}

impl Judgement {
    fn unscored(verdict: Verdict, question: Option<u16>) -> Self {
        Self { verdict, question, counted: None, resent: false }
    }
    fn rejected(reason: Reason, question: Option<u16>) -> Self {
        Self::unscored(Verdict::Rejected(reason), question)
    }
}

impl Section {
    pub(super) fn judge(&self, answer: &Answer, stamp: Stamp) -> Judgement {
        let Some(definition) = &self.definition else {
            return Judgement::rejected(Reason::UnknownQuiz, None);
        };
        let index = definition.index_of(&answer.question);
        let participant = self.participants.get(&answer.participant);
        let counts = |p: &Participant| p.answers.iter().any(|a| a.submission == answer.submission);
        if participant.is_some_and(counts) {
            // One submission is judged once: another body under its id, even for another question, is a repeat.
            return Judgement { resent: true, ..Judgement::unscored(Verdict::Repeated, index) };
        }
        let Some(index) = index else {
            return Judgement::rejected(Reason::UnknownQuestion, None);
        };
        let Some(participant) = participant else {
            return Judgement::rejected(Reason::NotParticipant, Some(index));
        };
        let Ok(picked) = definition.questions[usize::from(index)].pick(&answer.response) else {
            return Judgement::rejected(Reason::WrongShape, Some(index));
        };
        if participant.answers.iter().any(|a| a.question == index) {
            return Judgement::unscored(Verdict::Repeated, Some(index));
        }
        let at = scoring_time(answer.received_at, stamp.append_at);
        let verdict = self.timing(index, at);
        let submission = answer.submission;
        let counted = (verdict == Verdict::Counted).then_some(Counted {
            submission,
            picked,
            at,
            question: index,
            late: false,
        });
        Judgement { verdict, question: Some(index), counted, resent: false }
    }

    /// Early is a matter of order in the log, late of scoring time or of the Seal, whichever says so first.
    fn timing(&self, index: u16, at: UnixMillis) -> Verdict {
        let Some(window) = self.window(index) else {
            return if self.header.phase == Phase::Closed { Verdict::Late } else { Verdict::TooEarly };
        };
        let sealed = self.header.sealed || self.section_window(index).is_some_and(|w| w.sealed);
        let closed = window.closes_at.is_some_and(|closes_at| at > closes_at);
        if sealed || closed { Verdict::Late } else { Verdict::Counted }
    }
}

/// Returns the time that scores: the gateway's, within [`limits::DELAY_MS_MAX`] before the append and never after it.
pub fn scoring_time(received_at: UnixMillis, append_at: UnixMillis) -> UnixMillis {
    received_at.clamp(append_at.minus(limits::DELAY_MS_MAX), append_at)
}
