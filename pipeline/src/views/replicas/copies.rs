//! The copies of a gateway by partition, and what is known of each partition.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures::future::{BoxFuture, Shared as Joint};
use gateway::views::Unavailable;
use ingest::partition::{PartitionId, of_key};
use operators::id::{Position, QuizId, UnixMillis};
use operators::rank::Ranking;

use super::Settings;
use crate::runner::cache::{Shared, read};
use crate::runner::progress::pulses::Ranked;
use crate::views::notices::Notices;

/// Where a state stands, and its name.
pub(super) type At<H> = (Option<Position>, H);

/// All copies, and what is known of each partition of the rank stage.
pub(super) struct Copies<H>(Mutex<State<H>>);

struct State<H> {
    partitions: Vec<Known<H>>,
    /// Counts looks at copies and loads that began.
    count: u64,
}

struct Known<H> {
    claim: Ranked,
    /// The newest state that was looked at.
    head: Option<At<H>>,
    copies: HashMap<QuizId, Entry<H>>,
}

struct Entry<H> {
    used: u64,
    /// What was claimed of the partition when the first asked: a load under way holds no less, but maybe no more.
    claim: Ranked,
    slot: Slot<H>,
}

enum Slot<H> {
    /// Under way, with the number of the load.
    Loading(u64, Loading<H>),
    Here(Arc<Copy<H>>),
}

/// A load that all who want the copy wait for, and any of them moves on.
pub(super) type Loading<H> = Joint<BoxFuture<'static, Loaded<H>>>;

/// What came of a load.
pub(super) enum Loaded<H> {
    Here(Arc<Copy<H>>),
    /// It has lost its place meanwhile: nobody brings it up to date, so nobody may see it.
    Lost,
    Unpublished,
    Unavailable(Unavailable),
}

impl<H> Clone for Loaded<H> {
    fn clone(&self) -> Self {
        match self {
            Self::Here(copy) => Self::Here(copy.clone()),
            Self::Lost => Self::Lost,
            Self::Unpublished => Self::Unpublished,
            Self::Unavailable(error) => Self::Unavailable(error.clone()),
        }
    }
}

/// A copy, with what may be said of it.
pub(super) struct Copy<H> {
    pub(super) ranking: Shared<Ranking>,
    place: Mutex<Place<H>>,
}

struct Place<H> {
    at: At<H>,
    claim: Ranked,
    /// Size of the quiz itself as stored: its definition for the most part.
    board_bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Clone> Copy<H> {
    pub(super) fn new(ranking: Ranking, at: At<H>, claim: Ranked, board_bytes: usize) -> Self {
        let place = Mutex::new(Place { at, claim, board_bytes });
        Self { ranking: Arc::new(RwLock::new(ranking)), place }
    }
    pub(super) fn position(&self) -> Option<Position> {
        lock(&self.place).at.0
    }
    pub(super) fn head(&self) -> H {
        lock(&self.place).at.1.clone()
    }
    /// Notes that the copy is at another state.
    pub(super) fn move_to(&self, at: At<H>, board_bytes: Option<usize>) {
        let mut place = lock(&self.place);
        place.at = at;
        place.board_bytes = board_bytes.unwrap_or(place.board_bytes);
    }
    fn weight(&self) -> (usize, usize) {
        (read(&self.ranking).len(), lock(&self.place).board_bytes)
    }
}

/// What is found of a quiz.
pub(super) enum Found<H> {
    Here(Arc<Copy<H>>),
    Loading(Loading<H>),
    /// A load that was begun just now.
    Begun(Loading<H>),
}

impl<H: Clone> Copies<H> {
    pub(super) fn new(partitions: u16) -> Self {
        let known = || Known { claim: Ranked::default(), head: None, copies: HashMap::new() };
        Self(Mutex::new(State { partitions: (0..partitions).map(|_| known()).collect(), count: 0 }))
    }

    /// Returns a copy that is here.
    pub(super) fn peek(&self, quiz: &QuizId) -> Option<Shared<Ranking>> {
        let mut state = lock(&self.0);
        state.count += 1;
        let used = state.count;
        let entry = state.of(quiz).copies.get_mut(quiz)?;
        entry.used = used;
        match &entry.slot {
            Slot::Here(copy) => Some(copy.ranking.clone()),
            Slot::Loading(..) => None,
        }
    }

    /// Returns the copy or the load under way, or begins one with its number and what is claimed now.
    pub(super) fn find(&self, quiz: &QuizId, load: impl FnOnce(u64, Ranked) -> Loading<H>) -> Found<H> {
        let mut state = lock(&self.0);
        state.count += 1;
        let used = state.count;
        let known = state.of(quiz);
        if let Some(entry) = known.copies.get_mut(quiz) {
            entry.used = used;
            return match &entry.slot {
                Slot::Here(copy) => Found::Here(copy.clone()),
                Slot::Loading(_, loading) => Found::Loading(loading.clone()),
            };
        }
        let claim = known.claim;
        let loading = load(used, claim);
        known.copies.insert(quiz.clone(), Entry { used, claim, slot: Slot::Loading(used, loading.clone()) });
        Found::Begun(loading)
    }

    /// Takes in what came of the load of this number.
    pub(super) fn install(&self, quiz: &QuizId, number: u64, loaded: Loaded<H>) -> Loaded<H> {
        let mut state = lock(&self.0);
        let copies = &mut state.of(quiz).copies;
        let place = copies
            .get_mut(quiz)
            .filter(|entry| matches!(entry.slot, Slot::Loading(under_way, _) if under_way == number));
        match (place, &loaded) {
            (Some(entry), Loaded::Here(copy)) => {
                entry.slot = Slot::Here(copy.clone());
                loaded
            }
            (Some(_), Loaded::Lost | Loaded::Unpublished | Loaded::Unavailable(_)) => {
                copies.remove(quiz);
                loaded
            }
            (None, Loaded::Here(_)) => Loaded::Lost,
            (None, Loaded::Lost | Loaded::Unpublished | Loaded::Unavailable(_)) => loaded,
        }
    }

    /// Drops a copy.
    pub(super) fn remove(&self, quiz: &QuizId) {
        lock(&self.0).of(quiz).copies.remove(quiz);
    }

    /// Tells whether there is a copy.
    pub(super) fn has(&self, quiz: &QuizId) -> bool {
        let mut state = lock(&self.0);
        let entry = state.of(quiz).copies.get(quiz);
        entry.is_some_and(|entry| matches!(entry.slot, Slot::Here(_)))
    }

    /// Returns the copies of a partition that do not stand as far as `position`.
    pub(super) fn behind(
        &self,
        partition: PartitionId,
        position: Option<Position>,
    ) -> Vec<(QuizId, Arc<Copy<H>>)> {
        let state = lock(&self.0);
        let copies = state.partitions[usize::from(partition.0)].copies.iter();
        let here = copies.filter_map(|(quiz, entry)| match &entry.slot {
            Slot::Here(copy) => Some((quiz, copy)),
            Slot::Loading(..) => None,
        });
        let behind = here.filter(|(_, copy)| copy.position() < position);
        behind.map(|(quiz, copy)| (quiz.clone(), copy.clone())).collect()
    }

    /// Takes over a claim about a partition for itself and its copies, those excepted that do not stand as far; tells
    /// whether its state has moved.
    pub(super) fn claim(&self, partition: PartitionId, claim: &Ranked) -> bool {
        let mut state = lock(&self.0);
        let known = &mut state.partitions[usize::from(partition.0)];
        let before = known.claim.position;
        known.claim.merge(claim);
        for entry in known.copies.values() {
            let Slot::Here(copy) = &entry.slot else { continue };
            let mut place = lock(&copy.place);
            if place.at.0 >= claim.position {
                place.claim.merge(claim);
            }
        }
        known.claim.position != before
    }

    /// Returns what may be said of the view of a quiz that is read next. It may come from a load that began long ago.
    pub(super) fn claimed(&self, quiz: &QuizId) -> Ranked {
        let mut state = lock(&self.0);
        let known = state.of(quiz);
        match known.copies.get(quiz) {
            Some(Entry { slot: Slot::Here(copy), .. }) => lock(&copy.place).claim,
            Some(entry) => entry.claim,
            None => known.claim,
        }
    }

    /// Returns what is claimed of every partition.
    pub(super) fn claims(&self) -> Vec<Ranked> {
        lock(&self.0).partitions.iter().map(|known| known.claim).collect()
    }

    /// Returns the newest state of a partition that was looked at, if it is as new as what has been claimed.
    pub(super) fn head(&self, partition: PartitionId) -> Option<At<H>> {
        let state = lock(&self.0);
        let known = &state.partitions[usize::from(partition.0)];
        let head = known.head.as_ref()?;
        (head.0 >= known.claim.position).then(|| head.clone())
    }

    /// Notes a state that was looked at, unless a newer one is known: answers may overtake each other, and what was shown
    /// of a newer one must not be taken back. Returns the newest.
    pub(super) fn note(&self, partition: PartitionId, at: At<H>) -> At<H> {
        let mut state = lock(&self.0);
        let known = &mut state.partitions[usize::from(partition.0)].head;
        match known {
            Some(newer) if newer.0 > at.0 => newer.clone(),
            Some(_) | None => known.insert(at).clone(),
        }
    }

    /// Forgets the state of a partition that was looked at: it is not kept any more.
    pub(super) fn forget_head(&self, partition: PartitionId) {
        lock(&self.0).partitions[usize::from(partition.0)].head = None;
    }

    /// Drops the copies longest unused over the bounds; not those that somebody watches or waits for.
    pub(super) fn settle(&self, settings: &Settings, notices: &Notices) {
        let mut state = lock(&self.0);
        let mut all = Vec::new();
        let (mut copies, mut participants, mut bytes) = (0, 0, 0);
        for known in &state.partitions {
            for (quiz, entry) in &known.copies {
                let Slot::Here(copy) = &entry.slot else { continue };
                let weight = copy.weight();
                copies += 1;
                participants += weight.0;
                bytes += weight.1;
                all.push((entry.used, weight, quiz));
            }
        }
        let fits = |copies: usize, participants: usize, bytes: usize| {
            copies <= settings.copies_max
                && participants <= settings.participants_max
                && bytes <= settings.board_bytes_max
        };
        if fits(copies, participants, bytes) {
            return;
        }
        all.sort_unstable_by_key(|(used, _, _)| *used);
        // The newest is in somebody's hands.
        all.pop();
        let wanted = notices.wanted();
        let mut dropped = BTreeSet::new();
        for (_, weight, quiz) in all {
            if fits(copies, participants, bytes) {
                break;
            }
            if !wanted.contains(quiz) {
                dropped.insert(quiz.clone());
                copies -= 1;
                participants -= weight.0;
                bytes -= weight.1;
            }
        }
        for quiz in dropped {
            state.of(&quiz).copies.remove(&quiz);
        }
    }
}

impl<H> State<H> {
    fn of(&mut self, quiz: &QuizId) -> &mut Known<H> {
        let partition = of_key(quiz.as_str(), self.partitions.len() as u16);
        &mut self.partitions[usize::from(partition.0)]
    }
}

impl<H: Clone> Copies<H> {
    /// Returns the time before which everything appended to any partition is in every view.
    pub(super) fn settled(&self) -> UnixMillis {
        self.claims().iter().map(|claim| claim.settled).min().unwrap_or_default()
    }
}
