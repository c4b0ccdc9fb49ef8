//! The judgement of one answer, without changing anything.

use super::{Counted, Section, Standby};
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
    /// What to keep of an answer that may count later.
    pub(super) standby: Option<Standby>,
    /// The submission that counts arrived once more.
    pub(super) resent: bool,
}

impl Judgement {
    fn unscored(verdict: Verdict, question: Option<u16>) -> Self {
        Self { verdict, question, counted: None, standby: None, resent: false }
    }
    fn rejected(reason: Reason, question: Option<u16>) -> Self {
        Self::unscored(Verdict::Rejected(reason), question)
    }
    fn resent(question: Option<u16>) -> Self {
        Self { resent: true, ..Self::unscored(Verdict::Repeated, question) }
    }
}

impl Section {
    pub(super) fn judge(&self, answer: &Answer, stamp: Stamp) -> Judgement {
        let Some(definition) = &self.definition else {
            return Judgement::rejected(Reason::UnknownQuiz, None);
        };
        let index = definition.index_of(&answer.question);
        let participant = self.participants.get(&answer.participant);
        let same = participant.and_then(|p| p.answers.iter().find(|a| a.submission == answer.submission));
        let resent = same.is_some();
        if same.is_some_and(|same| Some(same.question) != index) {
            // One submission is judged once: another body under its id, even for another question, is a repeat.
            return Judgement::resent(index);
        }
        let Some(index) = index else {
            return Judgement::rejected(Reason::UnknownQuestion, None);
        };
        let Some(participant) = participant else {
            return Judgement::rejected(Reason::NotParticipant, Some(index));
        };
        let Ok(picked) = definition.questions[usize::from(index)].pick(&answer.response) else {
            let wrong = Judgement::rejected(Reason::WrongShape, Some(index));
            return if resent { Judgement::resent(Some(index)) } else { wrong };
        };
        let at = scoring_time(answer.received_at, stamp.append_at);
        let verdict = self.timing(index, at);
        let taken = participant.answers.iter().find(|a| a.question == index);
        if let Some(taken) = taken.filter(|taken| !taken.late || verdict != Verdict::Counted) {
            let overtaken = verdict == Verdict::Counted && at < taken.at;
            let standby = overtaken.then(|| Standby {
                submission: answer.submission,
                response: answer.response.clone(),
                at,
                received_at: answer.received_at,
                position: stamp.position,
            });
            return Judgement { standby, resent, ..Judgement::unscored(Verdict::Repeated, Some(index)) };
        }
        let submission = answer.submission;
        let counted = (verdict == Verdict::Counted).then_some(Counted {
            submission,
            picked,
            at,
            question: index,
            late: false,
        });
        Judgement { counted, ..Judgement::unscored(verdict, Some(index)) }
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
