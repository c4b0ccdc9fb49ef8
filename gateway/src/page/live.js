// The live feed of one quiz: reads server-sent events, keeps the state they describe, reconnects, resumes.

import { Problem, backoff, pause, problemOf } from './api.js';

/** Silence after which the connection counts as lost: several keep-alives long, short enough for a live show. */
const SILENCE_MS = 45_000;
/** Silence that makes a page coming back from the background ask anew rather than trust a sleeping socket. */
const ASLEEP_MS = 12_000;
/** Samples of the server's clock kept: enough to contain one with little delay, few enough to follow a correction. */
const CLOCK_SAMPLES = 8;

/** The server's clock. Of the newest samples the one with the least delay is right: delay only makes it look earlier. */
export class Clock {
  #offsets = [];

  observe(serverTime) {
    const at = Date.parse(serverTime);
    if (!Number.isFinite(at)) return;
    this.#offsets.push(at - Date.now());
    if (this.#offsets.length > CLOCK_SAMPLES) this.#offsets.shift();
  }

  now() {
    return Date.now() + (this.#offsets.length ? Math.max(...this.#offsets) : 0);
  }
}

/** Follows a quiz until `close()`. `changed(model, what)` after every event, `connection(state)` with
 *  connecting | live | retrying, `refused(problem)` when trying again is pointless. */
export function follow(quiz, { token, changed, connection, refused }) {
  const model = {
    feed: null, revision: 0, participants: 0, rule: null, quiz: null,
    rows: new Map(), standings: [], baseline: null, clock: new Clock(),
  };
  const ended = new AbortController();
  let line = null; // Aborts the connection of the moment.
  let nap = null; // Cuts the wait before the next connection short.
  let heardAt = 0;
  let attempt = 0;

  run();
  const watchdog = setInterval(() => heardAt && Date.now() - heardAt > SILENCE_MS && line?.abort(), 5_000);
  const wake = () => {
    if (document.visibilityState === 'hidden') return;
    nap?.abort();
    if (heardAt && Date.now() - heardAt > ASLEEP_MS) line?.abort();
  };
  document.addEventListener('visibilitychange', wake);
  window.addEventListener('online', wake);

  return {
    model,
    close() {
      ended.abort();
      line?.abort();
      nap?.abort();
      clearInterval(watchdog);
      document.removeEventListener('visibilitychange', wake);
      window.removeEventListener('online', wake);
    },
  };

  async function run() {
    connection('connecting');
    while (!ended.signal.aborted) {
      const problem = await listen().catch((error) => (error instanceof Problem ? error : new Problem(0)));
      if (ended.signal.aborted) return;
      if (problem.status === 401 && token) {
        token = null; // The feed may be public even though this token is stale.
        continue;
      }
      if (!problem.passing) return refused(problem);
      attempt += 1;
      if (attempt > 1 || model.feed === null) connection('retrying');
      nap = new AbortController();
      await pause(attempt === 1 && !problem.retryAfterMs ? 50 + Math.random() * 400 : backoff(attempt, problem), nap.signal);
    }
  }

  async function listen() {
    line = new AbortController();
    const headers = { Accept: 'text/event-stream' };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (model.feed !== null) headers['Last-Event-ID'] = String(model.feed);
    heardAt = Date.now();
    const response = await fetch(`/v1/quizzes/${encodeURIComponent(quiz)}/live`, {
      headers, cache: 'no-store', credentials: 'omit', signal: line.signal,
    });
    if (!response.ok) throw await problemOf(response);
    connection('live');
    const reader = response.body.getReader();
    const parse = parser((event) => {
      attempt = 0;
      if (!apply(model, event, changed)) {
        model.feed = null; // A gap: only a snapshot can mend it.
        line.abort();
      }
    });
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      heardAt = Date.now();
      if (done) throw new Problem(0);
      parse(decoder.decode(value, { stream: true }));
    }
  }
}

/** Returns a function that takes pieces of an event stream and calls `emit({event, data})` per event. */
export function parser(emit) {
  let rest = '';
  let event = 'message';
  let data = [];
  return (piece) => {
    rest += piece;
    // A lone CR at the end may be the first half of CRLF, so it waits for the next piece.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const text of lines) {
      if (text === '') {
        if (data.length) emit({ event, data: data.join('\n') });
        event = 'message';
        data = [];
        continue;
      }
      const colon = text.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? text : text.slice(0, colon);
      const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') event = value;
      if (field === 'data') data.push(value);
    }
  };
}

/** Applies one event; returns false when something is missing in between. */
function apply(model, { event, data }, changed) {
  if (!['snapshot', 'delta', 'quiz'].includes(event)) return true; // A kind of a later server: nothing we show.
  const payload = JSON.parse(data);
  if (event !== 'snapshot') {
    if (model.feed === null) return false;
    if (payload.feed <= model.feed) return true; // Sent again after a resume.
    if (payload.from !== model.feed) return false;
  }
  const before = model.quiz;
  const rows = event === 'snapshot' ? payload.standings : payload.changed ?? [];
  if (event === 'snapshot') model.rows.clear();
  for (const id of payload.removed ?? []) model.rows.delete(id);
  for (const row of rows) model.rows.set(row.participant, row);
  model.feed = payload.feed;
  model.revision = payload.revision ?? model.revision;
  model.participants = payload.participants ?? model.participants;
  model.rule = payload.rule ?? model.rule;
  model.standings = [...model.rows.values()].sort(byRank);
  if (payload.quiz) {
    model.quiz = payload.quiz;
    model.clock.observe(payload.quiz.server_time);
  }
  const turned = model.quiz?.question && model.quiz.question.id !== before?.question?.id;
  if (turned || (!before && model.quiz)) model.baseline = ranks(model.standings);
  changed(model, { quiz: Boolean(payload.quiz), rows: event !== 'quiz' });
  return true;
}

function byRank(a, b) {
  return a.rank - b.rank || a.name.localeCompare(b.name) || (a.participant < b.participant ? -1 : 1);
}

/** Returns the ranks that movement is told against, or null while nobody has points: leaving a tie for first place
 *  is no fall. */
function ranks(standings) {
  if (!standings.some((row) => Number(row.points) !== 0)) return null;
  return new Map(standings.map((row) => [row.participant, row.rank]));
}

/** Returns the question that takes answers now. The feed is silent when a limit runs out, so the clock decides too. */
export function openQuestion(model) {
  const question = model.quiz?.phase === 'open' ? model.quiz.question : null;
  if (!question) return null;
  return question.closes_at && Date.parse(question.closes_at) <= model.clock.now() ? null : question;
}
