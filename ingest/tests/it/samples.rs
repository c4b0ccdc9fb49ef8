//! One fixed value of every kind of event, command and effect. Their bytes are in `golden.txt` for ever.

use std::sync::Arc;

use operators::definition::Definition;
use operators::effect::{
    Change, Effect, Overruled, Phase, QuizChanged, QuizStatus, Reason, Receipt, ScoreChanged, Slot, Standing,
    Tally, Verdict, Window,
};
use operators::event::{Answer, Command, CommandOutcome, Decided, Envelope, Event, Refusal, Response, Scope};
use operators::id::{ParticipantId, Position, SubmissionId, UnixMillis};
use operators::policies::Fraction;

const PARTICIPANT: ParticipantId = ParticipantId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const SUBMISSION: SubmissionId = SubmissionId(0x0190_b8a2_7c1e_7d9a_8f00_0123_4567_89ab);
/// 2026-11-20T20:00:00Z.
const AT: UnixMillis = UnixMillis(1_795_204_800_000);

/// Returns a checked definition from its JSON form.
pub(crate) fn definition(json: &str) -> Arc<Definition> {
    let source = serde_json::from_str(json).expect("the sample is JSON");
    Arc::new(Definition::new(source).expect("the sample is a definition"))
}

pub(crate) const SMALL: &str = r#"{"title":"Capitals","questions":[{"id":"q1","kind":"single_choice",
    "text":"Capital of Peru?","choices":[{"id":"a","text":"Quito"},{"id":"b","text":"Lima"}],
    "key":{"choice":"b"},"points":"1000","time_limit_ms":20000,"award":"kahoot@1"}]}"#;

fn answer(response: Response) -> Event {
    Event::Answer(Answer {
        participant: PARTICIPANT,
        submission: SUBMISSION,
        question: "q1".parse().unwrap(),
        response,
        received_at: AT,
    })
}

/// Returns every kind of event with a name.
pub(crate) fn envelopes() -> Vec<(&'static str, Envelope)> {
    let command = |command| Event::Command { id: "c-1".parse().unwrap(), content: 0, command };
    let publish = |if_version| Command::Publish { definition: definition(SMALL), if_version };
    let copy = |number, command| Event::Copy { number, at: AT, command };
    let question = || "q1".parse().unwrap();
    let events = [
        ("answer_choice", 0, answer(Response::Choice("b".into()))),
        ("answer_choices", 3, answer(Response::Choices(vec!["a".into(), "c".into()]))),
        ("answer_no_choices", 0, answer(Response::Choices(Vec::new()))),
        ("answer_value", 0, answer(Response::Value("-12.50".parse().unwrap()))),
        ("answer_text", 63, answer(Response::Text("Łódź".into()))),
        ("join", 0, Event::Join { participant: PARTICIPANT, name: "Zoë".into() }),
        ("publish", 0, command(publish(None))),
        ("publish_if_version", 0, command(publish(Some(0)))),
        ("open", 0, command(Command::Open)),
        ("open_question", 0, command(Command::OpenQuestion(question()))),
        ("close_question", 0, command(Command::CloseQuestion(question()))),
        ("close", 0, command(Command::Close)),
        ("copy_publish", 1, copy(1, publish(Some(7)))),
        ("copy_open", 1, copy(300, Command::Open)),
        ("seal_question", 1, Event::Seal { scope: Scope::Question(question()) }),
        ("seal_quiz", 0, Event::Seal { scope: Scope::Quiz }),
        ("expire", 0, Event::Expire { version: 2, due: AT }),
        ("copy_forget", 1, copy(301, Command::Forget)),
    ];
    let quiz = || "geo-1".parse().unwrap();
    events
        .into_iter()
        .map(|(name, section, event)| (name, Envelope { quiz: quiz(), section, event }))
        .collect()
}

fn receipt(verdict: Verdict, slot: Slot) -> Receipt {
    let counted = verdict == Verdict::Counted;
    Receipt {
        submission: SUBMISSION,
        question: "q1".parse().unwrap(),
        response: Response::Choice("b".into()),
        verdict,
        fraction: counted.then_some(Fraction { numerator: 2, denominator: 3 }),
        points: if counted { "666.666667".parse().unwrap() } else { "0".parse().unwrap() },
        received_at: AT,
        taken_ms: counted.then_some(1_234),
        position: Position::from_offset(40),
        revision: 41,
        slot,
    }
}

fn score(standing: Option<Standing>, receipt: Option<Receipt>, question: Option<u16>) -> Change {
    let tally = Tally { counted: 1, repeated: 2, late: 3, too_early: 4, rejected: [5, 6, 0, 300] };
    let awarded = "12345.678900".parse().unwrap();
    Change::ScoreChanged(Box::new(ScoreChanged {
        participant: PARTICIPANT,
        standing,
        receipt,
        tally,
        question,
        awarded,
    }))
}

fn changed(outcome: CommandOutcome, phase: Phase, published: Option<Arc<Definition>>) -> Change {
    let window = |question, closes_at| Window { question, opened_at: AT.plus(5), closes_at };
    let draft = phase == Phase::Draft;
    let status = QuizStatus {
        number: 4,
        version: 2,
        phase,
        opened_at: (!draft).then_some(AT),
        closed_at: (phase == Phase::Closed).then_some(AT.plus(9)),
        windows: if draft { Vec::new() } else { vec![window(0, Some(AT.plus(9))), window(4_095, None)] },
    };
    Change::QuizChanged(Box::new(QuizChanged {
        decided: Decided { id: "c-1".parse().unwrap(), content: 0, outcome },
        status,
        definition: published,
    }))
}

fn overruled(standing: Standing, instead: Option<Receipt>) -> Change {
    let tally = Tally { counted: 3, late: 1, ..Tally::default() };
    let awarded = "1966.5".parse().unwrap();
    Change::Overruled(Box::new(Overruled {
        participant: PARTICIPANT,
        question: 7,
        standing,
        tally,
        awarded,
        instead,
    }))
}

/// Returns every kind of effect with a name.
pub(crate) fn effects() -> Vec<(String, Effect)> {
    let standing =
        Standing { points: "1966.5".parse().unwrap(), correct: 2, time_ms: 3_210, last_correct_at: AT };
    let accepted = CommandOutcome::Accepted { number: 4, version: 2 };
    let unscored = |verdict| score(Some(standing), Some(receipt(verdict, Slot::Recent(15))), Some(0));
    let mut changes = vec![
        (
            "score_counted".to_owned(),
            score(Some(standing), Some(receipt(Verdict::Counted, Slot::Question(0))), Some(0)),
        ),
        ("score_resent".into(), score(Some(Standing::default()), None, Some(4_095))),
        ("score_stranger".into(), score(None, None, None)),
        ("joined".into(), Change::Joined { participant: PARTICIPANT, name: "Zoë".into() }),
        ("changed_published".into(), changed(accepted, Phase::Draft, Some(definition(SMALL)))),
        ("changed_open".into(), changed(accepted, Phase::Open, None)),
        ("changed_closed".into(), changed(accepted, Phase::Closed, None)),
        ("changed_unchanged".into(), changed(CommandOutcome::Unchanged { version: 2 }, Phase::Draft, None)),
        ("changed_forgotten".into(), changed(accepted, Phase::Forgotten, None)),
        ("reached".into(), Change::Reached { number: 4 }),
        ("sealed_question".into(), Change::Sealed { scope: Scope::Question("q1".parse().unwrap()) }),
        ("sealed_quiz".into(), Change::Sealed { scope: Scope::Quiz }),
        ("overruled".into(), overruled(standing, None)),
        ("overruled_instead".into(), overruled(standing, Some(receipt(Verdict::Counted, Slot::Instead(7))))),
    ];
    let rejected = Reason::ALL.map(Verdict::Rejected);
    for verdict in [Verdict::Repeated, Verdict::Late, Verdict::TooEarly].into_iter().chain(rejected) {
        changes.push((format!("score_{verdict:?}"), unscored(verdict)));
    }
    for refusal in REFUSALS {
        changes.push((
            format!("refused_{refusal:?}"),
            changed(CommandOutcome::Refused(refusal), Phase::Draft, None),
        ));
    }
    let wide = Position { shard: 0, sequence: [1, u64::MAX, 2], sub: 3 };
    let place = |name: &str| if name == "reached" { wide } else { Position::from_offset(40) };
    let effect = |(name, change): (String, Change)| {
        let quiz = "geo-1".parse().unwrap();
        let position = place(&name);
        (name, Effect { quiz, section: 2, revision: 41, ordinal: 1, position, change })
    };
    changes.into_iter().map(effect).collect()
}

/// Returns a step in which effects are as those before let one expect, and differ from it in every way.
pub(crate) fn step() -> Vec<Effect> {
    let standing = |points: &str, correct, time_ms, last_correct_at| {
        Some(Standing { points: points.parse().unwrap(), correct, time_ms, last_correct_at })
    };
    let tally = |counted, repeated, strangers| Tally {
        counted,
        repeated,
        rejected: [0, 0, 0, strangers],
        ..Tally::default()
    };
    let placed = |mut receipt: Receipt, place: u64, after_ms| {
        (receipt.position, receipt.revision) = (aggregated(place), 41 + place);
        receipt.received_at = AT.plus(after_ms);
        Some(receipt)
    };
    let right = |place, after_ms| Receipt {
        fraction: Some(Fraction::ONE),
        points: "1000".parse().unwrap(),
        taken_ms: Some(1_234 + after_ms),
        ..placed(receipt(Verdict::Counted, Slot::Question(0)), place, after_ms).unwrap()
    };
    let wrong = |place, after_ms| Receipt {
        fraction: Some(Fraction::ZERO),
        points: "0".parse().unwrap(),
        response: Response::Choice("a".into()),
        ..right(place, after_ms)
    };
    let unscored = |verdict, place| placed(receipt(verdict, Slot::Recent(15)), place, 9);
    let numeric = Receipt { response: Response::Value("-12.50".parse().unwrap()), ..right(6, 20) };
    let thirds = Receipt { points: "666.666667".parse().unwrap(), ..right(7, 20) };
    let (two_thirds, unknown) = (Some(Fraction { numerator: 2, denominator: 3 }), "q9".parse().unwrap());
    let thirds = Receipt { fraction: two_thirds, slot: Slot::Instead(0), taken_ms: Some(7), ..thirds };
    let unknown = Receipt { question: unknown, ..unscored(Verdict::Late, 8).unwrap() };
    let at = |after_ms| AT.plus(after_ms);
    let scores = [
        (standing("1966.5", 2, 3_210, AT), Some(right(0, 0)), tally(1, 2, 3), Some(0), "1000"),
        (standing("1000", 1, 1_236, at(2)), Some(right(1, 2)), tally(2, 2, 3), Some(0), "2000"),
        (standing("0", 0, 0, UnixMillis(0)), Some(wrong(2, 3)), tally(3, 2, 3), Some(0), "2000"),
        (standing("7.50", 1, 88, at(1)), Some(wrong(3, 1)), tally(4, 2, 3), Some(0), "2000"),
        (standing("7.50", 1, 88, AT), unscored(Verdict::Repeated, 4), tally(4, 3, 3), Some(0), "2000"),
        (None, None, tally(4, 3, 4), Some(0), "2000"),
        (standing("8", 1, 88, AT), Some(numeric), tally(5, 3, 4), Some(0), "3000.0"),
        (standing("9", 1, 88, AT), Some(thirds), tally(8, 3, 4), Some(0), "3666.666667"),
        (standing("9", 1, 88, AT), Some(unknown), tally(0, 0, 1), None, "3666.666667"),
    ];
    let score = |(place, (standing, receipt, tally, question, awarded)): (usize, (_, _, _, _, &str))| {
        let (participant, awarded) = (PARTICIPANT, awarded.parse().unwrap());
        let score = ScoreChanged { participant, standing, receipt, tally, question, awarded };
        (place as u64, Change::ScoreChanged(Box::new(score)))
    };
    let effect = |(place, change)| {
        let (revision, position) = (41 + place, aggregated(place));
        Effect { quiz: "geo-1".parse().unwrap(), section: 2, revision, ordinal: 0, position, change }
    };
    let mut effects: Vec<Effect> = scores.into_iter().enumerate().map(score).map(effect).collect();
    let joined = || Change::Joined { participant: PARTICIPANT, name: "Zoë".into() };
    effects.push(Effect { section: 3, ordinal: 1, ..effect((9, joined())) });
    effects.push(Effect { revision: 900, position: Position::from_offset(40), ..effect((0, joined())) });
    effects.push(effect((12, Change::Reached { number: 4 })));
    effects.push(Effect { quiz: "geo-2".parse().unwrap(), ..effect((13, joined())) });
    effects
}

/// Returns a place in an aggregate of a log that has shards.
fn aggregated(place: u64) -> Position {
    Position { shard: 3, sequence: [1, u64::MAX, 2], sub: place }
}

pub(crate) const REFUSALS: [Refusal; 11] = [
    Refusal::UnknownQuiz,
    Refusal::UnknownQuestion,
    Refusal::QuizOpen,
    Refusal::QuizNotOpen,
    Refusal::QuizClosed,
    Refusal::VersionMismatch,
    Refusal::SectionsFixed,
    Refusal::QuestionOpened,
    Refusal::QuestionNotOpen,
    Refusal::AnotherOpen,
    Refusal::FreePaced,
];
