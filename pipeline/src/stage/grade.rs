//! The grade stage: sections of quizzes over `submissions`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ingest::codec::{self, DecodeError, part};
use ingest::log::{Record, Stream};
use ingest::partition::{PartitionId, of_key, of_section};
use ingest::proto;
use operators::definition::Picked;
use operators::effect::{Effect, Output};
use operators::event::{Envelope, Event, Stamp};
use operators::id::{ParticipantMap, QuizId, UnixMillis};
use operators::limits::DELAY_MS_MAX;
use operators::quiz::{Counted, Desk, Header, Participant, Section, SectionWindow, Standby, Standbys};
use prost::Message;

use super::{Armed, Meaning, Operator, key};
use crate::store::{Changes, Row, Stage};

/// The grade operator.
#[derive(Debug, Clone)]
pub struct Grade {
    partitions: u16,
    grace_ms: u64,
    keep: Option<Duration>,
}

impl Grade {
    /// Returns the operator for a log of `partitions`, sealing `grace_ms` after each close.
    ///
    /// # Panics
    /// If the grace exceeds [`DELAY_MS_MAX`], which settings never let through: a late append would score late.
    pub fn new(partitions: u16, grace_ms: u64) -> Self {
        assert!(grace_ms <= DELAY_MS_MAX, "the grace is within the longest delay that scoring believes");
        Self { partitions, grace_ms, keep: None }
    }

    /// Returns the operator forgetting quizzes this long after they are sealed.
    #[must_use]
    pub fn keeping(self, keep: Option<Duration>) -> Self {
        Self { keep, ..self }
    }

    /// Returns the record that makes a quiz be forgotten, and when its time is; `None` if quizzes are kept for ever.
    fn expiry(&self, quiz: &QuizId, (closed_at, version): (UnixMillis, u64)) -> Option<(UnixMillis, Record)> {
        let keep_ms = u64::try_from(self.keep?.as_millis()).unwrap_or(u64::MAX);
        let due = closed_at.plus(self.grace_ms.saturating_add(keep_ms));
        let event = Event::Expire { version, due };
        Some((due, self.submission(&Envelope { quiz: quiz.clone(), section: 0, event })))
    }

    fn submission(&self, envelope: &Envelope) -> Record {
        let payload =
            codec::encode_envelope(envelope).expect("copies and Seals are no larger than what was accepted");
        let partition = of_section(&envelope.quiz, envelope.section, self.partitions);
        Record { stream: Stream::Submissions, partition, payload }
    }
}

/// A quiz and one of its sections.
pub type SectionKey = (QuizId, u16);

const FAMILY_SECTION: u8 = b's';
const FAMILY_TIMER: u8 = b't';
const HEADER: u8 = b'h';
const DESK: u8 = b'd';
const TALLY: u8 = b'k';
const PARTICIPANT: u8 = b'p';
const ANSWER: u8 = b'q';

fn timer_key((quiz, section): &SectionKey) -> Vec<u8> {
    key::join(&key::quiz(FAMILY_TIMER, quiz), 0, &[&section.to_be_bytes()])
}

/// Returns what the timer row of a finished quiz holds: enough for its only timer.
fn finished_bytes((closed_at, version): (UnixMillis, u64)) -> Vec<u8> {
    [closed_at.0.to_be_bytes(), version.to_be_bytes()].concat()
}

fn finished(value: &[u8]) -> Option<(UnixMillis, u64)> {
    let (closed_at, rest) = value.split_first_chunk::<8>()?;
    let version = rest.try_into().ok().map(u64::from_be_bytes)?;
    Some((UnixMillis(u64::from_be_bytes(*closed_at)), version))
}

impl Operator for Grade {
    type Key = SectionKey;
    type Event = Event;
    type Output = Output;
    type State = Section;

    fn stage(&self) -> Stage {
        Stage::Grade
    }

    fn decode(&self, payload: &[u8]) -> Result<Meaning<SectionKey, Event>, DecodeError> {
        let keyed = |envelope: Envelope| vec![((envelope.quiz, envelope.section), envelope.event)];
        Ok(codec::decode_submission(payload)?.map(keyed))
    }

    fn prefix(&self, (quiz, section): &SectionKey) -> Vec<u8> {
        key::join(&key::quiz(FAMILY_SECTION, quiz), 0, &[&section.to_be_bytes()])
    }

    fn restore(&self, key: &SectionKey, rows: Vec<Row>) -> Result<Section, String> {
        let prefix = self.prefix(key).len();
        restore(key, prefix, rows).map_err(|error| error.to_string())
    }

    fn apply(&self, state: &mut Section, event: &Event, stamp: Stamp, outputs: &mut Vec<Output>) {
        state.apply(event, stamp, outputs);
    }

    fn records(&self, outputs: Vec<Output>) -> Vec<Record> {
        let mut standings: BTreeMap<PartitionId, Vec<Effect>> = BTreeMap::new();
        let mut copies = Vec::new();
        for output in outputs {
            match output {
                Output::Standings(effect) => {
                    standings.entry(of_key(effect.quiz.as_str(), self.partitions)).or_default().push(effect);
                }
                Output::Copy { quiz, section, number, at, command } => {
                    let event = Event::Copy { number, at, command };
                    copies.push(self.submission(&Envelope { quiz, section, event }));
                }
            }
        }
        let mut records = Vec::new();
        for (partition, effects) in standings {
            let payloads =
                codec::encode_effects(&effects).expect("an effect holds little more than its record");
            let stream = Stream::Standings;
            records.extend(payloads.into_iter().map(|payload| Record { stream, partition, payload }));
        }
        // A decision reaches the ranking before any section can answer to its copy.
        records.append(&mut copies);
        records
    }

    fn rows(&self, key: &SectionKey, state: &mut Section, changes: &mut Changes) {
        let touched = state.take_touched();
        let prefix = self.prefix(key);
        if touched.forgotten {
            changes.forget.push(prefix.clone());
        }
        let rows = &mut changes.rows;
        if touched.header {
            rows.push((
                key::join(&prefix, HEADER, &[]),
                Some(header_message(state.header()).encode_to_vec()),
            ));
            let unsealed = !state.unsealed().is_empty();
            let armed = if unsealed { Some(Vec::new()) } else { state.finished().map(finished_bytes) };
            rows.push((timer_key(key), armed));
        }
        if touched.desk {
            rows.push((key::join(&prefix, DESK, &[]), Some(desk_message(state).encode_to_vec())));
        }
        for question in BTreeSet::from_iter(touched.questions) {
            let tally = part::tally_message(&state.tally(question)).encode_to_vec();
            rows.push((key::join(&prefix, TALLY, &[&question.to_be_bytes()]), Some(tally)));
        }
        for index in BTreeSet::from_iter(touched.participants) {
            let Some((id, participant)) = state.participants().get_index(index as usize) else { continue };
            let standing = Some(part::standing_message(&participant.standing));
            let message = proto::Participant { standing, unscored: participant.unscored };
            let row = key::join(&prefix, PARTICIPANT, &[&id.0.to_be_bytes()]);
            rows.push((row, Some(message.encode_to_vec())));
        }
        // An answer may be counted and overruled in one step.
        for (index, place) in BTreeSet::from_iter(touched.answers) {
            let Some((id, participant)) = state.participants().get_index(index as usize) else { continue };
            let Some(counted) = participant.answers.get(place as usize) else { continue };
            let parts: [&[u8]; 2] = [&id.0.to_be_bytes(), &counted.question.to_be_bytes()];
            rows.push((
                key::join(&prefix, ANSWER, &parts),
                Some(counted_message(counted, place, state.standbys(*id, counted.question)).encode_to_vec()),
            ));
        }
    }

    fn weight(&self, state: &Section) -> usize {
        state.participants().len()
    }

    fn timers(&self, state: &Section) -> Vec<(UnixMillis, Record)> {
        let seal = |(closes_at, scope): (UnixMillis, _)| {
            let envelope = Envelope {
                quiz: state.quiz().clone(),
                section: state.section(),
                event: Event::Seal { scope },
            };
            (closes_at.plus(self.grace_ms), self.submission(&envelope))
        };
        let expiry = state.finished().and_then(|finished| self.expiry(state.quiz(), finished));
        state.unsealed().into_iter().map(seal).chain(expiry).collect()
    }

    fn armed(&self, rows: &[Row]) -> Vec<(SectionKey, Armed)> {
        let parse = |(key, value): &Row| {
            let (quiz, rest) = key::split(key)?;
            let armed = match finished(value) {
                None => Armed::Load,
                Some(finished) => Armed::Wanted(self.expiry(&quiz, finished).into_iter().collect()),
            };
            Some(((quiz, key::number(rest.get(1..)?)?), armed))
        };
        rows.iter().filter_map(parse).collect()
    }

    fn timer_prefix(&self) -> Option<Vec<u8>> {
        Some(vec![FAMILY_TIMER])
    }

    fn committed(&self, _keys: &[SectionKey]) {}
}

fn header_message(header: &Header) -> proto::SectionHeader {
    proto::SectionHeader {
        revision: header.revision,
        number: header.number,
        version: header.version,
        phase: part::phase_message(header.phase),
        opened_at: header.opened_at.map(|at| at.0),
        closed_at: header.closed_at.map(|at| at.0),
        sealed: header.sealed,
        windows: header
            .windows
            .iter()
            .map(|w| proto::SectionWindow { window: Some(part::window_message(w.window)), sealed: w.sealed })
            .collect(),
        held: header
            .held
            .iter()
            .map(|(&number, (at, command))| proto::CommandCopy {
                number,
                at: at.0,
                command: Some(part::command_message(command)),
            })
            .collect(),
        unknown: Some(part::tally_message(&header.unknown)),
        awarded: header.awarded.to_string(),
        sections: header.sections.into(),
    }
}

fn header(message: proto::SectionHeader) -> Result<Header, DecodeError> {
    let mut windows = Vec::with_capacity(message.windows.len());
    for w in message.windows {
        windows
            .push(SectionWindow { window: part::window(part::need(w.window, "window")?)?, sealed: w.sealed });
    }
    let mut held = BTreeMap::new();
    for copy in message.held {
        held.insert(copy.number, (UnixMillis(copy.at), part::command(copy.command)?));
    }
    Ok(Header {
        revision: message.revision,
        number: message.number,
        version: message.version,
        phase: part::phase(message.phase)?,
        opened_at: message.opened_at.map(UnixMillis),
        closed_at: message.closed_at.map(UnixMillis),
        sealed: message.sealed,
        windows,
        held,
        unknown: part::tally(message.unknown),
        awarded: part::decimal(&message.awarded)?,
        sections: part::small(message.sections, "sections")?,
    })
}

fn desk_message(state: &Section) -> proto::Desk {
    proto::Desk {
        definition: state.definition().map(|d| part::definition_bytes(d)).unwrap_or_default(),
        outcomes: part::decided_messages(&state.desk().decided),
    }
}

fn counted_message(counted: &Counted, place: u32, standbys: &[Standby]) -> proto::Counted {
    use proto::counted::Picked as Wire;
    proto::Counted {
        submission: counted.submission.0.to_be_bytes().to_vec(),
        picked: Some(match &counted.picked {
            Picked::Choices(bits) => Wire::Choices(*bits),
            Picked::Number(number) => Wire::Number(number.to_string()),
            Picked::Text(text) => Wire::Text(text.to_string()),
        }),
        at: counted.at.0,
        place,
        late: counted.late,
        standbys: standbys
            .iter()
            .map(|standby| proto::Standby {
                submission: standby.submission.0.to_be_bytes().to_vec(),
                response: Some(part::response_message(&standby.response)),
                at: standby.at.0,
                received_at: standby.received_at.0,
                position: part::position_bytes(standby.position),
            })
            .collect(),
    }
}

fn standby(message: proto::Standby) -> Result<Standby, DecodeError> {
    Ok(Standby {
        submission: part::submission(&message.submission)?,
        response: part::response(message.response)?,
        at: UnixMillis(message.at),
        received_at: UnixMillis(message.received_at),
        position: part::position(&message.position)?,
    })
}

fn counted(message: proto::Counted, question: u16) -> Result<(u32, Counted), DecodeError> {
    use proto::counted::Picked as Wire;
    let counted = Counted {
        submission: part::submission(&message.submission)?,
        picked: match part::need(message.picked, "picked")? {
            Wire::Choices(bits) => Picked::Choices(bits),
            Wire::Number(number) => Picked::Number(Box::new(part::decimal(&number)?)),
            Wire::Text(text) => Picked::Text(Box::new(text)),
        },
        at: UnixMillis(message.at),
        question,
        late: message.late,
    };
    Ok((message.place, counted))
}

fn restore((quiz, section): &SectionKey, prefix: usize, rows: Vec<Row>) -> Result<Section, DecodeError> {
    let malformed = |what: &str| DecodeError::Malformed(what.to_owned());
    let decode = |error: prost::DecodeError| DecodeError::Malformed(error.to_string());
    let mut state_header = Header::default();
    let (mut definition, mut desk) = (None, Desk::default());
    let mut tallies = BTreeMap::new();
    let mut participants: ParticipantMap<Participant> = ParticipantMap::default();
    // Participants come before answers in key order, and each one's answers are put back into their places.
    let mut answers: Vec<(usize, u32, Counted)> = Vec::new();
    let mut standbys = Standbys::new();
    for (key, value) in rows {
        let (&kind, rest) =
            key.get(prefix..).and_then(<[u8]>::split_first).ok_or_else(|| malformed("short key"))?;
        match kind {
            HEADER => state_header = header(proto::SectionHeader::decode(&*value).map_err(decode)?)?,
            DESK => {
                let message = proto::Desk::decode(&*value).map_err(decode)?;
                definition = part::optional_definition(&message.definition)?;
                desk.decided = part::decided(message.outcomes)?;
            }
            TALLY => {
                let question = key::number(rest).ok_or_else(|| malformed("question of a tally"))?;
                tallies.insert(question, part::tally(Some(proto::Tally::decode(&*value).map_err(decode)?)));
            }
            PARTICIPANT => {
                let (id, _) = key::participant(rest).ok_or_else(|| malformed("participant"))?;
                let message = proto::Participant::decode(&*value).map_err(decode)?;
                let standing = part::standing(&part::need(message.standing, "standing")?)?;
                let unscored = message.unscored;
                participants.insert(id, Participant { standing, unscored, answers: Vec::new() });
            }
            ANSWER => {
                let (id, rest) =
                    key::participant(rest).ok_or_else(|| malformed("participant of an answer"))?;
                let question = key::number(rest).ok_or_else(|| malformed("question of an answer"))?;
                let index = participants
                    .get_index_of(&id)
                    .ok_or_else(|| malformed("an answer without participant"))?;
                let mut message = proto::Counted::decode(&*value).map_err(decode)?;
                let kept = std::mem::take(&mut message.standbys).into_iter().map(standby);
                let kept = kept.collect::<Result<Vec<_>, _>>()?;
                if !kept.is_empty() {
                    standbys.insert((id, question), kept);
                }
                let (place, counted) = counted(message, question)?;
                answers.push((index, place, counted));
            }
            _ => return Err(malformed("unknown kind of row")),
        }
    }
    answers.sort_by_key(|(index, place, _)| (*index, *place));
    for (index, _, counted) in answers {
        let (_, participant) = participants.get_index_mut(index).ok_or_else(|| malformed("answer"))?;
        participant.answers.push(counted);
    }
    let state =
        Section::restore(quiz.clone(), *section, state_header, definition, desk, tallies, participants);
    Ok(state.with_standbys(standbys))
}
