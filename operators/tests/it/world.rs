//! Carries out a plan: real sections and a real ranking, with their logs kept for the model.

use operators::effect::{Effect, Output};
use operators::event::{Answer, Command, Event, Scope, Stamp};
use operators::id::{Position, QuizId, SubmissionId, UnixMillis};
use operators::quiz::Section;
use operators::rank::{Applied, Ranking};

use crate::plan::{Act, Delivery, Plan, Step, UNKNOWN, participant, response};

/// A copy of a command as section 0 made it.
pub(crate) type Copied = (u64, UnixMillis, Command);

/// The sections of one quiz after a plan, and everything that went in and came out.
pub(crate) struct World {
    pub(crate) sections: Vec<Section>,
    /// The records of each section.
    pub(crate) logs: Vec<Vec<(Event, Stamp)>>,
    /// The outputs of each record of each section.
    pub(crate) outputs: Vec<Vec<Vec<Output>>>,
    /// The copies that section 0 made for each section.
    pub(crate) copies: Vec<Vec<Copied>>,
    now_ms: u64,
    offset: u64,
    next_copy: Vec<usize>,
    command: u64,
}

pub(crate) fn quiz() -> QuizId {
    "geo".parse().expect("an id")
}

impl World {
    pub(crate) fn run(plan: &Plan) -> Self {
        let count = usize::from(plan.sections);
        let mut world = Self {
            sections: (0..plan.sections).map(|section| Section::new(quiz(), section)).collect(),
            logs: vec![Vec::new(); count],
            outputs: vec![Vec::new(); count],
            copies: vec![Vec::new(); count],
            now_ms: 1_700_000_000_000,
            offset: 0,
            next_copy: vec![0; count],
            command: 0,
        };
        if plan.published {
            world.step(plan, &Step::Publish { variant: 0, if_version: None, id: 100 });
            world.step(plan, &Step::Copies { turned: false });
            for who in 0..10 {
                world.step(plan, &Step::Join { who, name: who });
            }
        }
        if plan.open {
            world.step(plan, &Step::Open { id: 100 });
            world.step(plan, &Step::Copies { turned: false });
        }
        for step in &plan.steps {
            world.step(plan, step);
        }
        world
    }

    fn step(&mut self, plan: &Plan, step: &Step) {
        let place = |number: u8| if number == UNKNOWN { number } else { number % plan.questions.len() as u8 };
        let question = |number: u8| format!("q{}", place(number)).parse().expect("an id");
        match step {
            Step::Wait { ms } => self.now_ms += ms,
            Step::Join { who, name } => {
                let participant = participant(*who);
                let event = Event::Join { participant, name: format!("name {name}") };
                self.append(participant.section(plan.sections), event);
            }
            Step::Answer { who, question: number, response: answer, submission, delay_ms } => {
                let participant = participant(*who);
                let answer = Answer {
                    participant,
                    submission: SubmissionId(u128::from(*submission)),
                    question: question(*number),
                    response: response(place(*number), *answer),
                    received_at: UnixMillis(self.now_ms.saturating_add_signed(-delay_ms)),
                };
                self.append(participant.section(plan.sections), Event::Answer(answer));
            }
            Step::Overtaken { question, who } => self.overtaken(plan, *question, *who),
            Step::Publish { variant, if_version, id } => {
                // The first version settles the number of sections: it is the planned one.
                let first = self.sections[0].definition().is_none();
                let definition = plan.definition(if first { 0 } else { *variant });
                self.command(plan, *id, Command::Publish { definition, if_version: *if_version });
            }
            Step::Open { id } => self.command(plan, *id, Command::Open),
            Step::OpenQuestion { question: number, id } => {
                self.command(plan, *id, Command::OpenQuestion(question(*number)));
            }
            Step::CloseQuestion { question: number, id } => {
                self.command(plan, *id, Command::CloseQuestion(question(*number)));
            }
            Step::Close { id } => self.command(plan, *id, Command::Close),
            Step::Seal { section, question: number } => {
                let scope = number.map_or(Scope::Quiz, |number| Scope::Question(question(number)));
                self.append(u16::from(*section) % plan.sections, Event::Seal { scope });
            }
            Step::Seals => self.seals(),
            Step::Copy { section, skip } => {
                let section = usize::from(*section) % self.sections.len();
                let place = self.next_copy[section].saturating_add_signed(isize::from(*skip));
                self.copy(section, place.min(self.copies[section].len().saturating_sub(1)));
            }
            Step::Copies { turned } => self.all_copies(*turned),
            Step::Again { section, back } => {
                let section = u16::from(*section) % plan.sections;
                let log = &self.logs[usize::from(section)];
                let back = log.len().checked_sub(1 + usize::from(*back));
                if let Some(event) = back.map(|place| log[place].0.clone()) {
                    self.append(section, event);
                }
            }
        }
    }

    /// See [`Step::Overtaken`].
    fn overtaken(&mut self, plan: &Plan, question: u8, who: u8) {
        let answer =
            |submission, delay_ms| Step::Answer { who, question, response: submission, submission, delay_ms };
        let opening = [
            Step::OpenQuestion { question, id: 100 },
            Step::Copies { turned: false },
            Step::Wait { ms: 1_000 },
        ];
        opening.iter().for_each(|step| self.step(plan, step));
        let close = Command::CloseQuestion(
            format!("q{}", question % plan.questions.len() as u8).parse().expect("an id"),
        );
        // Without its copies, whatever the plan says.
        self.append(
            0,
            Event::Command {
                id: format!("over{}", self.offset).parse().expect("an id"),
                content: 0,
                command: close,
            },
        );
        let behind = [
            Step::Wait { ms: 500 },
            answer(20 + question, 0),
            answer(30 + question, 100),
            answer(20 + question, 700),
            answer(40 + question, 900),
            Step::Copies { turned: false },
            answer(50 + question, 1_000),
            answer(20 + question, 900),
        ];
        behind.iter().for_each(|step| self.step(plan, step));
    }

    /// Ids below 100 are used as they are, so that some repeat; others are new each time.
    fn command(&mut self, plan: &Plan, id: u8, command: Command) {
        self.command += 1;
        let id = if id < 100 { format!("id{id}") } else { format!("new{}", self.command) };
        self.append(0, Event::Command { id: id.parse().expect("an id"), content: 0, command });
        if !plan.lag {
            self.all_copies(false);
        }
    }

    fn seals(&mut self) {
        for section in 0..self.sections.len() {
            for (at, scope) in self.sections[section].unsealed() {
                if at.0 <= self.now_ms {
                    self.append(section as u16, Event::Seal { scope });
                }
            }
        }
    }

    fn all_copies(&mut self, turned: bool) {
        for section in 1..self.sections.len() {
            let mut places: Vec<_> = (self.next_copy[section]..self.copies[section].len()).collect();
            if turned {
                places.reverse();
            }
            places.into_iter().for_each(|place| self.copy(section, place));
            self.next_copy[section] = self.copies[section].len();
        }
    }

    fn copy(&mut self, section: usize, place: usize) {
        let Some((number, at, command)) = self.copies[section].get(place).cloned() else { return };
        if place == self.next_copy[section] {
            self.next_copy[section] += 1;
        }
        self.append(section as u16, Event::Copy { number, at, command });
    }

    fn append(&mut self, section: u16, event: Event) {
        let stamp =
            Stamp { position: Position::from_offset(self.offset), append_at: UnixMillis(self.now_ms) };
        self.offset += 1;
        let mut outputs = Vec::new();
        let place = usize::from(section);
        self.sections[place].apply(&event, stamp, &mut outputs);
        for output in &outputs {
            if let Output::Copy { section, number, at, command, .. } = output {
                self.copies[usize::from(*section)].push((*number, *at, command.clone()));
            }
        }
        self.logs[place].push((event, stamp));
        self.outputs[place].push(outputs);
    }

    /// Returns the effects of one section in order.
    pub(crate) fn effects(&self, section: usize) -> Vec<&Effect> {
        self.outputs[section].iter().flatten().filter_map(standings).collect()
    }

    /// Delivers the effects of all sections to a ranking, as several workers per section would: each in order, from
    /// anywhere in what was emitted, at any time. Ends with everything delivered. `seen` is told of each delivery.
    pub(crate) fn deliver(
        &self,
        deliveries: &[Delivery],
        mut seen: impl FnMut(&Ranking, &Effect, Applied),
    ) -> Ranking {
        let mut ranking = Ranking::new(quiz());
        let streams: Vec<Vec<&Effect>> =
            (0..self.sections.len()).map(|section| self.effects(section)).collect();
        let mut emitted = vec![0; streams.len()];
        let mut workers = vec![[0; 3]; streams.len()];
        let mut emit =
            |ranking: &mut Ranking, section: usize, worker: &mut usize, count: usize, emitted: &mut usize| {
                for effect in streams[section].iter().skip(*worker).take(count) {
                    let applied = ranking.apply(effect);
                    seen(ranking, effect, applied);
                    *worker += 1;
                }
                *emitted = (*worker).max(*emitted);
            };
        let (during, after) = deliveries.split_at(deliveries.len() * 3 / 4);
        for (deliveries, whole) in [(during, true), (after, false)] {
            for Delivery { section, worker, act } in deliveries {
                let section = usize::from(*section) % workers.len();
                let worker = &mut workers[section][usize::from(*worker)];
                match act {
                    Act::Emit(count) => {
                        emit(&mut ranking, section, worker, usize::from(*count), &mut emitted[section])
                    }
                    Act::Restart(share) => *worker = emitted[section] * usize::from(*share) / 255,
                }
            }
            for section in 0..if whole { workers.len() } else { 0 } {
                emit(&mut ranking, section, &mut workers[section][0], usize::MAX, &mut emitted[section]);
            }
        }
        ranking
    }
}

/// Returns the effect in an output, if it is one.
pub(crate) fn standings(output: &Output) -> Option<&Effect> {
    match output {
        Output::Standings(effect) => Some(effect),
        Output::Copy { .. } => None,
    }
}
