//! Reading a ranking: pages, one participant's rank, the neighbours around a participant.

use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};

use super::order::Key;
use super::{Member, Ranking, key};
use crate::effect::Standing;
use crate::id::ParticipantId;

/// One row of a leaderboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// One more than the number of participants that are strictly better.
    pub rank: u64,
    /// Who.
    pub participant: ParticipantId,
    /// As shown.
    pub name: Box<str>,
    /// The figures that rank.
    pub standing: Standing,
}

/// Where a page of the leaderboard starts: after this key and member, whatever moved since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Key, u32);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.0 {
            write!(f, "{part:x}.")?;
        }
        write!(f, "{:x}", self.1)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let mut parts = text.split('.');
        let mut key = [0i64; 4];
        for part in &mut key {
            // Written as the two's complement bits, so that a negative part needs no sign.
            let bits = u64::from_str_radix(parts.next().ok_or(CursorError)?, 16).map_err(|_| CursorError)?;
            *part = bits.cast_signed();
        }
        let member = u32::from_str_radix(parts.next().ok_or(CursorError)?, 16).map_err(|_| CursorError)?;
        if parts.next().is_some() {
            return Err(CursorError);
        }
        Ok(Self(Key(key), member))
    }
}

/// A text that is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor from an earlier page")]
pub struct CursorError;

impl Ranking {
    /// Returns the number of participants.
    pub fn len(&self) -> usize {
        self.members.len()
    }
    /// Tells whether nobody joined.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns up to `limit` rows from the start or after a cursor, and the cursor of the next page if there is one.
    pub fn page(&self, after: Option<Cursor>, limit: usize) -> (Vec<Row>, Option<Cursor>) {
        let from = after.map_or(0, |Cursor(key, member)| self.order.index_after(key, member));
        let rows = self.rows(from, limit);
        let more = from + rows.len() < self.len();
        let last = rows.last().and_then(|row| self.members.get_full(&row.participant));
        let next = last.filter(|_| more).map(|(index, _, member)| Cursor(self.key_of(member), index as u32));
        (rows, next)
    }

    /// Returns the participant with up to `limit` neighbours on either side.
    pub fn around(&self, participant: ParticipantId, limit: usize) -> Option<Vec<Row>> {
        let (index, _, member) = self.members.get_full(&participant)?;
        let place = self.order.index_of(self.key_of(member), index as u32)?;
        let from = place.saturating_sub(limit);
        Some(self.rows(from, (place - from + 1).saturating_add(limit)))
    }

    /// Returns one participant's row.
    pub fn row(&self, participant: ParticipantId) -> Option<Row> {
        let member = self.members.get(&participant)?;
        let rank = self.order.better_than(self.key_of(member)) as u64 + 1;
        Some(Row { rank, participant, name: member.name.clone(), standing: member.standing })
    }

    /// Returns the share of participants below, counting half of the equals: `(below + equal / 2) / all * 100`, to two
    /// decimals. This is the usual definition of a percentile rank; the best of many nears 100, a lone one has 50.
    pub fn percentile(&self, participant: ParticipantId) -> Option<Decimal> {
        let key = self.key_of(self.members.get(&participant)?);
        let all = self.len() as u64;
        let better = self.order.better_than(key) as u64;
        let not_worse = self.order.count_equal_or_better(key) as u64;
        let doubled = 2 * (all - not_worse) + (not_worse - better);
        let share = Decimal::from(doubled * 50) / Decimal::from(all);
        Some(share.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero).normalize())
    }

    fn key_of(&self, member: &Member) -> Key {
        key(self.board.definition.as_ref().map(|d| &d.source().ranking), &member.standing)
    }

    fn rows(&self, from: usize, limit: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::with_capacity(limit.min(self.len().saturating_sub(from)));
        let mut last: Option<(Key, u64)> = None;
        for (key, index) in self.order.iter_from(from).take(limit) {
            let rank = match last {
                Some((previous, rank)) if previous == key => rank,
                Some(_) => (from + rows.len()) as u64 + 1,
                None => self.order.better_than(key) as u64 + 1,
            };
            last = Some((key, rank));
            let (&participant, member) =
                self.members.get_index(index as usize).expect("the order holds indexes of members only");
            rows.push(Row { rank, participant, name: member.name.clone(), standing: member.standing });
        }
        rows
    }
}
