// A player's answers: each is sent under one submission id until it has a verdict, across reloads too.

import { Problem, backoff, call, kept, pause, persist, uuid } from './api.js';

/** How long the server may hold the request open for the verdict, in seconds. */
const WAIT_S = 2;
/** Pause between looks at a receipt when the server names none. */
const RECEIPT_MS = 700;

/** Keeps the answers of one player in one quiz. An entry is `{question, submission, answer, stage, receipt, problem}`;
 *  stages are sending, retrying, stored, graded, refused. `changed(entry)` is called whenever one moves on. */
export class Answers {
  #quiz;
  #player;
  #signal;
  #changed;
  #entries = new Map();

  constructor({ quiz, player, signal, changed }) {
    this.#quiz = quiz;
    this.#player = player;
    this.#signal = signal;
    this.#changed = changed;
    const saved = kept.get(`podium.answers.${quiz}`);
    if (saved?.participant !== player.participant) return;
    for (const entry of saved.entries) {
      this.#entries.set(entry.question, entry);
      // A page that was closed while sending does not know whether the answer arrived; the id makes asking again safe.
      if (!entry.receipt && entry.stage !== 'refused') this.#deliver(entry);
    }
  }

  get(question) {
    return this.#entries.get(question) ?? null;
  }

  /** Returns the ids of the questions with an answer that needs no other. */
  get settled() {
    return new Set([...this.#entries.values()].filter((entry) => !retryable(entry)).map((entry) => entry.question));
  }

  /** Hands in an answer, unless the question has one that stands. */
  give(question, answer) {
    const old = this.#entries.get(question);
    if (old && !retryable(old)) return;
    const entry = { question, submission: uuid(), answer, stage: 'sending', receipt: null, problem: null };
    this.#entries.set(question, entry);
    this.#save();
    this.#deliver(entry);
  }

  /** Takes over what the server remembers, for a browser that does not. */
  learn(receipts) {
    for (const receipt of receipts ?? []) {
      if (!receipt?.question || receipt.verdict !== 'counted') continue;
      const known = this.#entries.get(receipt.question);
      if (known && !known.receipt && known.stage !== 'refused') continue; // Its own delivery will tell.
      const answer = known?.answer ?? receipt.answer ?? null;
      this.#entries.set(receipt.question, { question: receipt.question, submission: receipt.submission, answer, stage: 'graded', receipt, problem: null });
    }
    this.#save();
  }

  async #deliver(entry) {
    this.#move(entry, 'sending');
    const waiting = () => this.#move(entry, 'retrying');
    try {
      const { status, data } = await persist(() => this.#send(entry), { signal: this.#signal, waiting });
      let receipt = status === 200 && data.status !== 'pending' ? data : null;
      if (!receipt) {
        this.#move(entry, 'stored');
        receipt = await this.#receipt(entry);
      }
      if (!receipt) return;
      entry.receipt = receipt;
      this.#move(entry, 'graded');
    } catch (problem) {
      if (this.#signal.aborted) return;
      entry.problem = { status: problem.status, code: problem.code, title: problem.title, detail: problem.detail };
      this.#move(entry, 'refused');
    }
  }

  #send(entry) {
    return call('POST', `/quizzes/${encodeURIComponent(this.#quiz)}/answers`, {
      token: this.#player.token,
      body: { question: entry.question, answer: entry.answer, submission: entry.submission },
      headers: { Prefer: `wait=${WAIT_S}` },
      signal: this.#signal,
    });
  }

  /** Returns the receipt once it is there. The answer is durable already, so this may take as long as it takes. */
  async #receipt(entry) {
    const path = `/quizzes/${encodeURIComponent(this.#quiz)}/submissions/${entry.submission}`;
    for (let attempt = 1; !this.#signal.aborted; attempt += 1) {
      try {
        const { data } = await call('GET', path, { token: this.#player.token, signal: this.#signal });
        if (data.status !== 'pending') return data;
        await pause(RECEIPT_MS, this.#signal);
      } catch (problem) {
        const pending = problem instanceof Problem && problem.code === 'receipt_pending';
        if (!pending && !problem.passing) throw problem;
        await pause(pending ? problem.retryAfterMs ?? RECEIPT_MS : backoff(attempt, problem), this.#signal);
      }
    }
    return null;
  }

  #move(entry, stage) {
    entry.stage = stage;
    if (this.#signal.aborted) return;
    this.#save();
    this.#changed(entry);
  }

  #save() {
    kept.set(`podium.answers.${this.#quiz}`, { participant: this.#player.participant, entries: [...this.#entries.values()] });
  }
}

/** Tells whether the question may be answered once more: nothing was used up by this entry. */
export function retryable(entry) {
  if (entry.stage === 'refused') return entry.problem?.code !== 'question_closed';
  return ['too_early', 'rejected'].includes(entry.receipt?.verdict);
}

const REASONS = {
  unknown_quiz: 'The quiz is not known.',
  unknown_question: 'The quiz has no such question.',
  wrong_shape: 'The answer does not fit the question.',
  not_participant: 'You are not in this quiz.',
};

/** Returns how an entry reads: `{tone, title, detail}`, or null while there is no verdict. */
export function verdictOf(entry) {
  if (entry?.stage === 'refused') {
    return entry.problem.code === 'question_closed'
      ? { tone: 'calm', title: 'Too late', detail: 'The question had closed when your answer arrived.' }
      : { tone: 'calm', title: entry.problem.title, detail: entry.problem.detail };
  }
  const receipt = entry?.receipt;
  if (!receipt) return null;
  const points = Number(receipt.points ?? 0);
  switch (receipt.verdict) {
    case 'counted':
      if (receipt.correct === true) return { tone: 'right', title: 'Correct', detail: null };
      if (receipt.correct === false && points > 0) return { tone: 'part', title: 'Partly right', detail: null };
      if (receipt.correct === false) return { tone: 'wrong', title: 'Not quite', detail: 'The next one is yours.' };
      return { tone: 'calm', title: 'Counted', detail: null };
    case 'repeated': return { tone: 'calm', title: 'Already answered', detail: 'Your first answer counts.' };
    case 'late': return { tone: 'calm', title: 'Too late', detail: 'The question had closed when your answer arrived.' };
    case 'too_early': return { tone: 'calm', title: 'Too early', detail: 'The question was not open yet. You can answer again.' };
    default: return { tone: 'calm', title: 'Not accepted', detail: REASONS[receipt.reason] ?? receipt.reason ?? null };
  }
}
