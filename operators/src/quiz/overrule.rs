//! Judging again what a section counted before it heard of a close.
//!
//! A close happens at one time for all sections, but its copy reaches another section's log a moment later. Answers in
//! between were counted by what that section knew; once the copy is there, those that score after the close are late.

use rust_decimal::Decimal;

use super::Section;
use crate::effect::{Change, Output, Overruled, Standing};
use crate::event::Stamp;
use crate::id::UnixMillis;

impl Section {
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
                if !counted.late && closes_at.is_some_and(|closes_at| counted.at > closes_at) {
                    found.push((*id, place, index));
                }
            }
        }
        // Not in the order of joining, which a state restored from rows does not have: the effects of a record are told
        // from each other by their number, so whoever applies it again must make them in the same order.
        found.sort_unstable();
        for (_, place, index) in found {
            let counted = &self.participants[index].answers[place];
            let points = self.grade(counted).map_or(Decimal::ZERO, |(_, _, points)| points);
            self.header.awarded = self.header.awarded.saturating_sub(points).normalize();
            self.participants[index].answers[place].late = true;
            let standing = self.standing_of(index);
            let participant = &mut self.participants[index];
            participant.standing = standing;
            let question = participant.answers[place].question;
            let tally = self.tallies.entry(question).or_default();
            tally.overrule();
            let tally = *tally;
            self.touched.questions.push(question);
            self.touched.participants.push(index as u32);
            self.touched.answers.push((index as u32, place as u32));
            let Some((&participant, _)) = self.participants.get_index(index) else { continue };
            let awarded = self.header.awarded;
            let change = Overruled { participant, question, standing, tally, awarded };
            outputs.push(self.effect(*ordinal, stamp, Change::Overruled(Box::new(change))));
            *ordinal += 1;
        }
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
