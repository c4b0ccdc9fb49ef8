//! Every bound that the rules hold, with the reason for its value.

/// Characters in a quiz, question, choice or command id: fits a URL path segment and a storage key comfortably.
pub const ID_CHARS_MAX: usize = 64;
/// Characters in a participant's name: what a leaderboard row can show on a phone.
pub const NAME_CHARS_MAX: usize = 64;
/// Characters in a quiz title.
pub const TITLE_CHARS_MAX: usize = 200;
/// Characters in a question or choice text.
pub const TEXT_CHARS_MAX: usize = 4_000;
/// Characters in a short-text answer or an accepted form.
pub const ANSWER_TEXT_CHARS_MAX: usize = 1_000;
/// Questions in one quiz: real question banks hold up to about 2,500 (and a question index fits 16 bits).
pub const QUESTIONS_MAX: usize = 4_096;
/// Choices of one question: a chosen set is kept as the bits of one `u64`.
pub const CHOICES_MAX: usize = 64;
/// Accepted forms of one short-text question.
pub const ACCEPTED_MAX: usize = 64;
/// Sections of one quiz: twice the default number of cluster partitions.
pub const SECTIONS_MAX: u16 = 64;
/// Highest value of one question. With [`POINTS_SCALE_MAX`] and [`QUESTIONS_MAX`] any total fits an `i64` of millionths.
pub const POINTS_MAX: i64 = 1_000_000;
/// Decimal places of points: totals are exact in millionths.
pub const POINTS_SCALE_MAX: u32 = 6;
/// Longest time limit of one question, 24 h, in milliseconds.
pub const TIME_LIMIT_MS_MAX: u64 = 86_400_000;
/// Commands held by a section while an earlier number is missing; hosts issue a few per minute.
pub const HELD_COMMANDS_MAX: usize = 1_024;
/// Outcomes of host commands remembered, so that a repeated command id is answered the same.
pub const COMMAND_OUTCOMES_MAX: usize = 256;
/// Receipts of unscored answers kept per participant (the newest).
pub const RECENT_RECEIPTS_MAX: u32 = 16;
/// Answers kept per participant and question for the case that the counted one is overruled. Each was received before
/// all the others and reached the log after them, within [`DELAY_MS_MAX`]; one or two are what retries make.
pub const STANDBYS_MAX: usize = 8;
/// Participants of one section; a member index fits 32 bits.
pub const PARTICIPANTS_MAX: usize = 4_000_000;
/// Problems reported at once for one definition: enough to mend a file in one go, bounded for the answer.
pub const PROBLEMS_MAX: usize = 50;
/// Longest time from the gateway's stamp to the append that scoring believes, in milliseconds. A gateway clock that is
/// wrong by more is pulled to within this of the append time; it must not be less than the grace of the Seal.
pub const DELAY_MS_MAX: u64 = 5_000;
