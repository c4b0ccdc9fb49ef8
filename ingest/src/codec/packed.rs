//! Effects of one step in few records: each leaves out what follows from those before it.
//!
//! Of an answer's effect only the two ids are random; nearly all else can be told from the effect before it. Both sides
//! fold the effects into the same [`Context`] and say only where the next differs from what it lets them expect. Nothing
//! is lost by that: an effect of any other form travels whole.

use std::collections::BTreeMap;

use operators::effect::{Change, Effect, Reason, Receipt, Tally, Verdict};
use operators::id::{Position, UnixMillis};
use rust_decimal::Decimal;

mod read;
mod write;

pub(super) use read::unpack;
pub(super) use write::pack;

/// The first reader that knows packed effects.
const MIN_READER: u32 = 3;
/// Bytes of the effects of one record: a thousand answers, and few enough that a hostile record cannot make many more
/// of them.
pub(super) const PACKED_BYTES_MAX: usize = 64 << 10;
/// Effects of one record: bounds the memory that it takes when read. An answer takes 50 bytes or more, so the bytes are
/// mostly reached first.
pub(super) const EFFECTS_MAX: usize = 1_024;
/// Bytes of a choice that is written once for all who chose it: as many as the id of a real one has, so that a table
/// entry cannot be multiplied into much.
const CHOICE_BYTES_MAX: usize = operators::limits::ID_CHARS_MAX;

/// What the effects so far let one expect of the next.
#[derive(Default)]
struct Context {
    /// Index of the section of the last effect.
    section: u32,
    /// Index of the question of the last score.
    question: u32,
    position: Position,
    received_at: UnixMillis,
    sections: BTreeMap<u32, Told>,
    /// By section and question; `None` for unknown questions.
    books: BTreeMap<(u32, Option<u16>), Book>,
}

/// What a section said last.
#[derive(Default)]
struct Told {
    revision: u64,
    awarded: Decimal,
}

/// What a section said last of a question.
#[derive(Default, Clone, Copy)]
struct Book {
    tally: Tally,
    /// When the question opened, by an answer's time less the time that it took.
    opened_at: u64,
}

impl Context {
    fn revision(&self) -> u64 {
        self.sections.get(&self.section).map_or(0, |told| told.revision).wrapping_add(1)
    }

    fn awarded(&self, points: Decimal) -> Decimal {
        let awarded = self.sections.get(&self.section).map(|told| told.awarded).unwrap_or_default();
        if points.is_zero() { awarded } else { awarded.saturating_add(points).normalize() }
    }

    fn book(&self, question: Option<u16>) -> Book {
        self.books.get(&(self.section, question)).copied().unwrap_or_default()
    }

    fn tally(&self, question: Option<u16>, verdict: Verdict) -> Tally {
        let mut tally = self.book(question).tally;
        // `Tally::count` may overflow on what no section ever counted.
        let count = match verdict {
            Verdict::Counted => &mut tally.counted,
            Verdict::Repeated => &mut tally.repeated,
            Verdict::Late => &mut tally.late,
            Verdict::TooEarly => &mut tally.too_early,
            Verdict::Rejected(reason) => &mut tally.rejected[reason as usize],
        };
        *count = count.wrapping_add(1);
        tally
    }

    fn taken_ms(&self, question: Option<u16>, received_at: UnixMillis) -> u64 {
        received_at.0.wrapping_sub(self.book(question).opened_at)
    }

    /// Takes an effect in, of the section and question that were set.
    fn note(&mut self, effect: &Effect) {
        self.position = effect.position;
        let told = self.sections.entry(self.section).or_default();
        told.revision = effect.revision;
        let Change::ScoreChanged(score) = &effect.change else { return };
        told.awarded = score.awarded;
        let book = self.books.entry((self.section, score.question)).or_default();
        book.tally = score.tally;
        let Some(receipt) = &score.receipt else { return };
        self.received_at = receipt.received_at;
        if let Some(taken_ms) = receipt.taken_ms {
            book.opened_at = receipt.received_at.0.wrapping_sub(taken_ms);
        }
    }
}

/// Returns the place so many records behind another, in the same aggregate if it is in one.
fn behind(position: Position, by: u64) -> Option<Position> {
    match position.offset() {
        Some(offset) => offset.checked_add(by).map(Position::from_offset),
        None => position.sub.checked_add(by).map(|sub| Position { sub, ..position }),
    }
}

/// Returns how an answer was judged that made no receipt, as far as one can tell.
fn unreceipted(is_stranger: bool) -> Verdict {
    if is_stranger { Verdict::Rejected(Reason::NotParticipant) } else { Verdict::Repeated }
}

/// Returns when a participant was last wholly right, if this answer or none was.
fn last_correct_at(receipt: Option<&Receipt>) -> UnixMillis {
    let right = receipt.filter(|receipt| receipt.fraction.is_some_and(|fraction| fraction.is_whole()));
    right.map_or(UnixMillis(0), |receipt| receipt.received_at)
}

/// Bits of a short decimal that tell its decimal places.
const SCALE_BITS: u32 = 3;
const _: () = assert!(operators::limits::POINTS_SCALE_MAX >> SCALE_BITS == 0, "points have a short form");

/// Returns a decimal as points have them: not negative, with few places. Not even trailing zeros are lost.
fn short(decimal: Decimal) -> Option<u64> {
    let scale = u64::from(decimal.scale());
    let digits = u64::try_from(decimal.mantissa()).ok()?;
    let fits = !decimal.is_sign_negative() && scale >> SCALE_BITS == 0 && digits >> (64 - SCALE_BITS) == 0;
    fits.then_some(digits << SCALE_BITS | scale)
}

fn long(short: u64) -> Decimal {
    let scale = short & ((1 << SCALE_BITS) - 1);
    Decimal::from_i128_with_scale((short >> SCALE_BITS).into(), scale as u32)
}

fn is_same(one: Decimal, other: Decimal) -> bool {
    // Equal numbers may be written with another number of zeros, which stored state would show.
    one.serialize() == other.serialize()
}

fn less(one: UnixMillis, other: UnixMillis) -> i64 {
    one.0.wrapping_sub(other.0) as i64
}

fn more(than: UnixMillis, by: i64) -> UnixMillis {
    UnixMillis(than.0.wrapping_add(by as u64))
}
