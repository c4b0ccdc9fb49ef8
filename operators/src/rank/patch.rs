//! Bringing a copy of a ranking up to date from the parts that storage wrote, without applying the effects again.

use std::collections::BTreeMap;

use super::{Board, Header, Mark, Member, Ranking, key};
use crate::effect::Tally;
use crate::id::{ParticipantId, ParticipantMap};

/// Parts of a ranking as stored: all of them make a ranking, the changed ones bring a copy up to date.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts {
    /// The small part.
    pub header: Option<Header>,
    /// The quiz itself.
    pub board: Option<Board>,
    /// Marks of sections, without their books.
    pub marks: BTreeMap<u16, Mark>,
    /// Books of sections, by question; `None` for a question of a definition that is no more.
    pub tallies: Vec<(u16, Option<u16>, Option<Tally>)>,
    /// Members with their index.
    pub members: Vec<(u32, ParticipantId, Member)>,
}

/// Changes that do not follow on the copy: load it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// Members are missing between.
    #[error("member {index} comes after {len} members")]
    Members {
        /// Index of the member.
        index: u32,
        /// Members of the copy.
        len: usize,
    },
    /// The quiz was forgotten between.
    #[error("the quiz was forgotten")]
    Forgotten,
}

impl Ranking {
    /// Returns the ranking that all its parts make.
    pub fn assemble(quiz: crate::id::QuizId, mut parts: Parts) -> Self {
        for (section, question, tally) in parts.tallies {
            let tallies = &mut parts.marks.entry(section).or_default().tallies;
            tally.map(|tally| tallies.insert(question, tally));
        }
        parts.members.sort_by_key(|(index, _, _)| *index);
        let members: ParticipantMap<Member> =
            parts.members.into_iter().map(|(_, id, member)| (id, member)).collect();
        let header = parts.header.unwrap_or_default();
        Self::restore(quiz, header, parts.board.unwrap_or_default(), parts.marks, members)
    }

    /// Takes over the parts that changed. Parts of several changes, oldest first, may be taken over one by one.
    ///
    /// # Errors
    /// [`Gap`]: the copy is worth nothing any more.
    pub fn patch(&mut self, mut parts: Parts) -> Result<(), Gap> {
        // Every change of a ranking changes its header.
        if parts.header.as_ref().is_some_and(|header| header.forgotten != self.header.forgotten) {
            return Err(Gap::Forgotten);
        }
        if let Some(board) = parts.board {
            let old = self.rule();
            self.board = board;
            if old != self.rule() {
                self.sort();
            }
        }
        for (section, mut mark) in parts.marks {
            let found = self.sections.entry(section).or_default();
            mark.tallies = std::mem::take(&mut found.tallies);
            *found = mark;
        }
        for (section, question, tally) in parts.tallies {
            let tallies = &mut self.sections.entry(section).or_default().tallies;
            match tally {
                Some(tally) => tallies.insert(question, tally),
                None => tallies.remove(&question),
            };
        }
        parts.members.sort_by_key(|(index, _, _)| *index);
        for (index, id, member) in parts.members {
            self.put(index, id, member)?;
        }
        if let Some(header) = parts.header {
            self.header = header;
        }
        Ok(())
    }

    fn put(&mut self, index: u32, id: ParticipantId, member: Member) -> Result<(), Gap> {
        let rule = self.board.definition.as_ref().map(|d| &d.source().ranking);
        let new = key(rule, &member.standing);
        if let Some((found, _, old)) = self.members.get_full_mut(&id) {
            let before = key(rule, &old.standing);
            *old = member;
            self.order.replace(before, new, found as u32);
            return Ok(());
        }
        let len = self.members.len();
        if index as usize != len {
            return Err(Gap::Members { index, len });
        }
        self.members.insert(id, member);
        self.order.insert(new, index);
        Ok(())
    }
}
