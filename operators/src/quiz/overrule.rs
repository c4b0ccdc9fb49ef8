//! Judging again what a section counted before it heard of a close.
//!
//! A close happens at one time for all sections, but its copy reaches another section's log a moment later. Answers in
//! between were counted by what that section knew; once the copy is there, those that score after the close are late,
//! and what counts is what would have counted had the section known of the close at once.

use rust_decimal::Decimal;

use super::{Counted, Section, Standby};
use crate::effect::{Change, Output, Overruled, Receipt, Slot, Standing, Verdict};
use crate::event::Stamp;
use crate::id::{ParticipantId, UnixMillis};
use crate::limits;

impl Section {
    /// Keeps an answer for the case that the counted one is overruled. Of those received no earlier than one that is
    /// kept already none would ever be taken.
    pub(super) fn stand_by(&mut self, key: (ParticipantId, u16), standby: Standby) {
        let kept = self.standbys.entry(key).or_default();
        if kept.len() < limits::STANDBYS_MAX && kept.last().is_none_or(|last| standby.at < last.at) {
            kept.push(standby);
            self.touch(key);
        }
    }

    /// Marks the counted answer of a participant to a question.
    fn touch(&mut self, (id, question): (ParticipantId, u16)) {
        let Some((index, _, participant)) = self.participants.get_full(&id) else { return };
        let place = participant.answers.iter().position(|answer| answer.question == question);
        self.touched.answers.extend(place.map(|place| (index as u32, place as u32)));
    }

    /// Forgets all standbys, once the whole section is sealed and no close is on its way any more. A question's own Seal
    /// is not enough: an earlier close of it by the host may still arrive behind the one by its time limit.
    pub(super) fn dismiss(&mut self) {
        for key in std::mem::take(&mut self.standbys).into_keys() {
            self.touch(key);
        }
    }

    /// Makes late what was counted and scores after its question's close; pushes one effect for each such answer.
    pub(super) fn overrule(&mut self, stamp: Stamp, ordinal: &mut u32, outputs: &mut Vec<Output>) {
        let questions = self.definition.as_ref().map_or(0, |definition| definition.questions.len());
        // Looked up once: a mass event has a hundred thousand participants here.
        let closes: Vec<Option<UnixMillis>> =
            (0..questions).map(|index| self.window(index as u16)?.closes_at).collect();
        let mut found = Vec::new();
        for (index, (id, participant)) in self.participants.iter().enumerate() {
            for (place, counted) in participant.answers.iter().enumerate() {
                let closes_at = closes.get(usize::from(counted.question)).copied().flatten();
                if let Some(closes_at) = closes_at.filter(|at| !counted.late && counted.at > *at) {
                    found.push((*id, place, index, closes_at));
                }
            }
        }
        // Not in the order of joining, which a state restored from rows does not have: the effects of a record are told
        // from each other by their number, so whoever applies it again must make them in the same order.
        found.sort_unstable();
        for (participant, place, index, closes_at) in found {
            let counted = &self.participants[index].answers[place];
            let question = counted.question;
            let points = self.grade(counted).map_or(Decimal::ZERO, |(_, _, points)| points);
            self.header.awarded = self.header.awarded.saturating_sub(points).normalize();
            self.participants[index].answers[place].late = true;
            self.tallies.entry(question).or_default().overrule();
            let instead = self.reinstate(index, place, closes_at);
            let standing = self.standing_of(index);
            self.participants[index].standing = standing;
            self.touched.questions.push(question);
            self.touched.participants.push(index as u32);
            self.touched.answers.push((index as u32, place as u32));
            let (tally, awarded) = (self.tally(question), self.header.awarded);
            let change = Overruled { participant, question, standing, tally, awarded, instead };
            outputs.push(self.effect(*ordinal, stamp, Change::Overruled(Box::new(change))));
            *ordinal += 1;
        }
    }

    /// Counts the first standby that was in time in the place of an overruled answer; returns its receipt.
    fn reinstate(&mut self, index: usize, place: usize, closes_at: UnixMillis) -> Option<Receipt> {
        let question = self.participants[index].answers[place].question;
        let key = (*self.participants.get_index(index)?.0, question);
        let kept = self.standbys.get_mut(&key)?;
        let first = kept.iter().position(|standby| standby.at <= closes_at)?;
        // Those ahead of it were received after the close.
        let Standby { submission, response, at, received_at, position } = kept.drain(..=first).next_back()?;
        if kept.is_empty() {
            self.standbys.remove(&key);
        }
        let asked = self.definition.as_ref()?.questions.get(usize::from(question))?;
        let id = asked.id.clone();
        let counted = Counted { submission, picked: asked.pick(&response).ok()?, at, question, late: false };
        let (fraction, taken_ms, points) = self.grade(&counted)?;
        self.participants[index].answers[place] = counted;
        self.header.awarded = self.header.awarded.saturating_add(points).normalize();
        self.tallies.entry(question).or_default().reinstate();
        Some(Receipt {
            submission,
            question: id,
            response,
            verdict: Verdict::Counted,
            fraction: Some(fraction),
            points,
            received_at,
            taken_ms: Some(taken_ms),
            position,
            revision: self.header.revision,
            slot: Slot::Instead(question),
        })
    }

    /// Returns a participant's standing, added up anew from the answers that count.
    fn standing_of(&self, index: usize) -> Standing {
        let mut standing = Standing::default();
        for counted in self.participants[index].answers.iter().filter(|counted| !counted.late) {
            if let Some((fraction, taken_ms, points)) = self.grade(counted) {
                standing.add(fraction, taken_ms, points, counted.at);
            }
        }
        standing
    }
}
