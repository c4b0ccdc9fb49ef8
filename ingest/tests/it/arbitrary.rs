//! Random events and effects, of every kind and with values at the edges.

use operators::definition::Definition;
use operators::effect::{
    Change, Effect, Overruled, Phase, QuizChanged, QuizStatus, Reason, Receipt, ScoreChanged, Slot, Standing,
    Tally, Verdict, Window,
};
use operators::event::{Answer, Command, CommandOutcome, Decided, Envelope, Event, Response, Scope};
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use operators::policies::Fraction;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use rust_decimal::Decimal;
use std::sync::Arc;

use crate::samples::{REFUSALS, SMALL, definition};

fn id<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}".prop_map(|text| text.parse().unwrap())
}

fn millis() -> impl Strategy<Value = UnixMillis> {
    any::<u64>().prop_map(UnixMillis)
}

fn decimal() -> impl Strategy<Value = Decimal> {
    (any::<i64>(), 0..19u32).prop_map(|(number, scale)| Decimal::new(number, scale))
}

fn participant() -> impl Strategy<Value = ParticipantId> {
    any::<u128>().prop_map(ParticipantId)
}

fn submission() -> impl Strategy<Value = SubmissionId> {
    any::<u128>().prop_map(SubmissionId)
}

fn position() -> impl Strategy<Value = Position> {
    let wide =
        any::<(u32, [u64; 3], u64)>().prop_map(|(shard, sequence, sub)| Position { shard, sequence, sub });
    prop_oneof![any::<u64>().prop_map(Position::from_offset), wide]
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        any::<String>().prop_map(Response::Choice),
        vec(any::<String>(), 0..5).prop_map(Response::Choices),
        decimal().prop_map(Response::Value),
        any::<String>().prop_map(Response::Text),
    ]
}

fn definitions() -> impl Strategy<Value = Arc<Definition>> {
    let free = r#"{"title":"\"é\"","pace":"free","sections":64,"ranking":{"ties":["time"]},"questions":[
        {"id":"n","kind":"numeric","text":"?","key":{"min":"-0.5","max":"3"},"points":"0.000001"},
        {"id":"t","kind":"short_text","text":"?","key":{"accept":["Łódź"],"case_sensitive":true}},
        {"id":"m","kind":"multiple_choice","text":"?","choices":[{"id":"a","text":"?"},{"id":"b","text":"?"}],
         "key":{"choices":["a","b"]}}]}"#;
    prop_oneof![Just(definition(SMALL)), Just(definition(free))]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (definitions(), of(any::<u64>()))
            .prop_map(|(definition, if_version)| Command::Publish { definition, if_version }),
        Just(Command::Open),
        id().prop_map(Command::OpenQuestion),
        id().prop_map(Command::CloseQuestion),
        Just(Command::Close),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Quiz), id().prop_map(Scope::Question)]
}

/// Returns any event to any section.
pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let answer = (participant(), submission(), id(), response(), millis()).prop_map(
        |(participant, submission, question, response, received_at)| {
            Event::Answer(Answer { participant, submission, question, response, received_at })
        },
    );
    let event = prop_oneof![
        answer,
        (participant(), any::<String>()).prop_map(|(participant, name)| Event::Join { participant, name }),
        (id(), any::<u64>(), command()).prop_map(|(id, content, command)| Event::Command {
            id,
            content,
            command
        }),
        (any::<u64>(), millis(), command()).prop_map(|(number, at, command)| Event::Copy {
            number,
            at,
            command
        }),
        scope().prop_map(|scope| Event::Seal { scope }),
    ];
    (id(), any::<u16>(), event).prop_map(|(quiz, section, event)| Envelope { quiz, section, event })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let plain = [Verdict::Counted, Verdict::Repeated, Verdict::Late, Verdict::TooEarly];
    proptest::sample::select([&plain[..], &Reason::ALL.map(Verdict::Rejected)].concat())
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let fraction =
        (any::<u32>(), 1..=u32::MAX).prop_map(|(numerator, denominator)| Fraction { numerator, denominator });
    let slot = prop_oneof![
        any::<u16>().prop_map(Slot::Question),
        any::<u16>().prop_map(Slot::Instead),
        any::<u8>().prop_map(Slot::Recent),
    ];
    let judged = (verdict(), of(fraction), decimal(), of(any::<u64>()), slot);
    let handed_in = (submission(), id(), response(), millis(), position(), any::<u64>());
    (judged, handed_in).prop_map(
        |(
            (verdict, fraction, points, taken_ms, slot),
            (submission, question, response, received_at, position, revision),
        )| {
            let (submission, question) = (submission, question);
            Receipt {
                submission,
                question,
                response,
                verdict,
                fraction,
                points,
                received_at,
                taken_ms,
                position,
                revision,
                slot,
            }
        },
    )
}

fn standing() -> impl Strategy<Value = Standing> {
    (decimal(), any::<u32>(), any::<u64>(), millis()).prop_map(
        |(points, correct, time_ms, last_correct_at)| Standing { points, correct, time_ms, last_correct_at },
    )
}

fn tally() -> impl Strategy<Value = Tally> {
    any::<([u64; 4], [u64; 4])>().prop_map(|([counted, repeated, late, too_early], rejected)| Tally {
        counted,
        repeated,
        late,
        too_early,
        rejected,
    })
}

fn score() -> impl Strategy<Value = Change> {
    (participant(), of(standing()), of(receipt()), tally(), of(any::<u16>()), decimal()).prop_map(
        |(participant, standing, receipt, tally, question, awarded)| {
            let score = ScoreChanged { participant, standing, receipt, tally, question, awarded };
            Change::ScoreChanged(Box::new(score))
        },
    )
}

fn overruled() -> impl Strategy<Value = Change> {
    (participant(), any::<u16>(), standing(), tally(), decimal(), of(receipt())).prop_map(
        |(participant, question, standing, tally, awarded, instead)| {
            let overruled = Overruled { participant, question, standing, tally, awarded, instead };
            Change::Overruled(Box::new(overruled))
        },
    )
}

fn changed() -> impl Strategy<Value = Change> {
    let outcome = prop_oneof![
        any::<(u64, u64)>().prop_map(|(number, version)| CommandOutcome::Accepted { number, version }),
        any::<u64>().prop_map(|version| CommandOutcome::Unchanged { version }),
        proptest::sample::select(&REFUSALS[..]).prop_map(CommandOutcome::Refused),
    ];
    let window = (any::<u16>(), millis(), of(millis())).prop_map(|(question, opened_at, closes_at)| Window {
        question,
        opened_at,
        closes_at,
    });
    let phase = proptest::sample::select(&[Phase::Draft, Phase::Open, Phase::Closed][..]);
    let status = (any::<(u64, u64)>(), phase, of(millis()), of(millis()), vec(window, 0..4)).prop_map(
        |((number, version), phase, opened_at, closed_at, windows)| QuizStatus {
            number,
            version,
            phase,
            opened_at,
            closed_at,
            windows,
        },
    );
    (id(), any::<u64>(), outcome, status, of(definitions())).prop_map(
        |(id, content, outcome, status, definition)| {
            let decided = Decided { id, content, outcome };
            Change::QuizChanged(Box::new(QuizChanged { decided, status, definition }))
        },
    )
}

/// Returns any effect of any section.
pub(crate) fn effect() -> impl Strategy<Value = Effect> {
    let change = prop_oneof![
        score(),
        overruled(),
        (participant(), any::<String>()).prop_map(|(participant, name)| Change::Joined { participant, name }),
        changed(),
        any::<u64>().prop_map(|number| Change::Reached { number }),
        scope().prop_map(|scope| Change::Sealed { scope }),
    ];
    (id(), any::<(u16, u64, u32)>(), position(), change).prop_map(
        |(quiz, (section, revision, ordinal), position, change)| Effect {
            quiz,
            section,
            revision,
            ordinal,
            position,
            change,
        },
    )
}
