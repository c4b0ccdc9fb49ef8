//! What changed rows tell of one quiz.

use gateway::views::Awaited;
use operators::id::QuizId;

use crate::stage::rank::{self, Kind, board_key};
use crate::store::Change;

/// What changes tell of one quiz.
pub(super) struct News<'a> {
    /// Rows of the ranking.
    pub(super) rows: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// What somebody may wait for.
    pub(super) awaited: Vec<Awaited>,
    /// A command may have become visible.
    pub(super) commands: bool,
    /// The size of the quiz itself, if it changed.
    pub(super) board_bytes: Option<usize>,
    /// The quiz itself was removed.
    pub(super) is_gone: bool,
}

/// Returns what is in the changes about a quiz; what is awaited only if anybody waits for anything.
pub(super) fn of<'a>(quiz: &QuizId, changes: &'a [Change], is_awaited: bool) -> News<'a> {
    let mut news =
        News { rows: Vec::new(), awaited: Vec::new(), commands: false, board_bytes: None, is_gone: false };
    let board = board_key(quiz);
    for (key, value) in changes {
        match rank::kind(quiz, key) {
            None => {}
            Some(Kind::Receipt(participant)) => {
                let receipt = value.as_deref().filter(|value| is_awaited && !value.is_empty());
                let receipt = receipt.and_then(|value| rank::receipt(value).ok());
                news.awaited
                    .extend(receipt.map(|receipt| Awaited::Submission(participant, receipt.submission)));
            }
            Some(Kind::Member(participant)) => {
                let name = value.as_deref().filter(|_| is_awaited).and_then(rank::member_name);
                news.awaited.extend(name.map(|name| Awaited::Participant(participant, name)));
                news.rows.push((key, value.as_deref()));
            }
            Some(Kind::Board) => {
                news.commands = true;
                if *key == board {
                    news.board_bytes = value.as_ref().map(Vec::len);
                    news.is_gone = value.is_none();
                }
                news.rows.push((key, value.as_deref()));
            }
            Some(Kind::Part) => news.rows.push((key, value.as_deref())),
        }
    }
    news
}
