//! The stages: how records become states and states become rows, for each of the two folds.

use std::hash::Hash;

use ingest::codec::{DecodeError, Decoded};
use ingest::log::Record;
use operators::event::Stamp;
use operators::id::UnixMillis;

use crate::store::{Changes, Row, Stage};

pub mod grade;
mod key;
pub mod rank;

/// What a record means: its events in order, each with the state that it belongs to, or a pulse.
pub type Meaning<K, E> = Decoded<Vec<(K, E)>>;

/// What is known of a state's timers without the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Armed {
    /// Nothing: only the state tells.
    Load,
    /// All of it, so that the state need not be in memory for a time that may be far away.
    Wanted(Vec<(UnixMillis, Record)>),
}

/// What a runner runs: a pure fold with the two translations around it.
pub trait Operator: Send + Sync + 'static {
    /// Names one state.
    type Key: Clone + Ord + Hash + Send + Sync + 'static;
    /// One thing that a record says.
    type Event: Send + Sync;
    /// What applying an event makes for others.
    type Output: Send;
    /// What the fold keeps.
    type State: Send + Sync + 'static;

    /// Returns which stage this is.
    fn stage(&self) -> Stage;

    /// Returns the meaning of a record.
    ///
    /// # Errors
    /// As [`ingest::codec::decode_submission`].
    fn decode(&self, payload: &[u8]) -> Result<Meaning<Self::Key, Self::Event>, DecodeError>;

    /// Returns the prefix of the rows of one state.
    fn prefix(&self, key: &Self::Key) -> Vec<u8>;

    /// Returns the state of `key` from its rows, all of them in key order; from none, the state before any record.
    ///
    /// # Errors
    /// A row that cannot be read, in words.
    fn restore(&self, key: &Self::Key, rows: Vec<Row>) -> Result<Self::State, String>;

    /// Applies one event and pushes what it makes. Pure and total.
    fn apply(
        &self,
        state: &mut Self::State,
        event: &Self::Event,
        stamp: Stamp,
        outputs: &mut Vec<Self::Output>,
    );

    /// Returns the records of what a step made, few of them, in order within each partition of each stream. Another
    /// worker may cut the same outputs into other records.
    fn records(&self, outputs: Vec<Self::Output>) -> Vec<Record>;

    /// Adds what changed of the rows since the last call.
    fn rows(&self, key: &Self::Key, state: &mut Self::State, changes: &mut Changes);

    /// Returns how much memory a state stands for, in members.
    fn weight(&self, state: &Self::State) -> usize;

    /// Returns the records that this state wants appended, each at its time at the earliest. They are appended again
    /// until the state no longer wants them.
    fn timers(&self, state: &Self::State) -> Vec<(UnixMillis, Record)>;

    /// Returns the states that have timers, from the rows under [`Operator::timer_prefix`].
    fn armed(&self, rows: &[Row]) -> Vec<(Self::Key, Armed)>;

    /// Returns the prefix of the rows that name states with timers; `None` if this stage has none.
    fn timer_prefix(&self) -> Option<Vec<u8>>;

    /// Hears that the records of these states are durable.
    fn committed(&self, keys: &[Self::Key]);
}
