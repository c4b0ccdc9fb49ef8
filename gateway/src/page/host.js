// The host's view: the next step of the show, the run of questions, and whether the books balance.

import { call, hostToken, persist, uuid } from './api.js';
import { leaderboard } from './board.js';
import { count, fill, h, notice, phaseChip, points, say } from './dom.js';
import { follow, openQuestion } from './live.js';
import { countdown } from './question.js';
import { tokenField, tokenKept } from './token.js';

/** How often the books are read: soon after something happened, otherwise slowly. */
const BOOKS_SOON_MS = 1_000;
const BOOKS_IDLE_MS = 5_000;
const TOP = 8;

export function mountHost(context) {
  if (hostToken.get()) desk(context);
  else gate(context);
}

/** Asks for the host's token. */
function gate(context, why = null) {
  const { root, quiz, title, connection } = context;
  connection('idle');
  title(`Host ${quiz}`);
  const field = tokenField();
  fill(root, h('form', { class: 'panel gate', onsubmit(event) {
    event.preventDefault();
    if (!field.read()) return field.input.focus();
    hostToken.set(field.read());
    notice(null);
    desk(context);
  } },
  h('h1', { tabindex: '-1' }, 'Host this quiz'),
  h('p', { class: 'lead' }, 'The controls need a token with the role \u201chost\u201d.'),
  field.element,
  h('button', { type: 'submit', class: 'primary', 'data-testid': 'host-token-submit' }, 'Continue')));
  if (why) {
    notice(why);
    field.input.focus();
  }
}

function desk(context) {
  const { quiz, root, signal: outer, title, connection } = context;
  const path = `/quizzes/${encodeURIComponent(quiz)}`;
  const token = hostToken.get();
  const over = new AbortController(); // Ends this console alone, when the token is refused.
  outer.addEventListener('abort', () => over.abort());
  const { signal } = over;

  let questions = null; // The definition's questions, keys included.
  let version = null;
  let busy = false;
  let ending = 0;
  let reading = 0;
  let readingAt = Infinity;
  const opened = new Set();

  const view = layout();
  fill(root, view.element);
  const live = follow(quiz, { token, connection, changed, refused: (problem) => refuse(problem) });
  const clock = countdown(live.model.clock, () => setTimeout(draw, 30));
  view.now.append(clock.element);
  signal.addEventListener('abort', () => { live.close(); clock.stop(); clearTimeout(ending); clearTimeout(reading); });
  readOpened();
  readBooks();

  function refuse(problem) {
    if (signal.aborted) return;
    if (problem.status === 401 || problem.status === 403) {
      over.abort();
      hostToken.forget();
      return gate(context, problem);
    }
    if (problem.status === 404) connection('idle');
    notice(problem);
  }

  function changed(model, what) {
    if (model.quiz.version !== version) {
      version = model.quiz.version;
      readQuestions();
    }
    draw();
    readBooksWithin(what.rows ? BOOKS_SOON_MS : BOOKS_SOON_MS / 2);
  }

  // Reading.

  async function readQuestions() {
    try {
      const { data } = await persist(() => call('GET', path, { token, signal }), { signal });
      questions = data.definition?.questions ?? [];
      draw();
    } catch (problem) {
      refuse(problem);
    }
  }

  /** Learns which questions were opened before this page came: players see exactly those, and may look without a token. */
  async function readOpened() {
    try {
      const { data } = await call('GET', path, { signal });
      if (data.pace === 'host') (data.questions ?? []).forEach((question) => opened.add(question.id));
      draw();
    } catch { /* With a foreign issuer nobody looks without a token; opening one twice is then refused in words. */ }
  }

  function readBooksWithin(ms) {
    if (readingAt <= Date.now() + ms) return;
    clearTimeout(reading);
    readingAt = Date.now() + ms;
    reading = setTimeout(readBooks, ms);
  }

  async function readBooks() {
    readingAt = 0; // One read at a time.
    try {
      const { data } = await call('GET', `${path}/books`, { token, signal });
      view.books.show(data, openQuestion(live.model), live.model.participants);
    } catch (problem) {
      if (!problem.passing) return refuse(problem);
    }
    readingAt = Infinity;
    if (!signal.aborted) readBooksWithin(BOOKS_IDLE_MS);
  }

  // Commands.

  async function command(type, question) {
    const id = uuid();
    await persist(() => call('POST', `${path}/commands`, { token, signal, body: { type, id, ...(question && { question }) } }), { signal, attemptsMax: 5 });
    if (type === 'open_question') opened.add(question);
  }

  async function act(steps) {
    if (busy) return;
    busy = true;
    notice(null);
    draw();
    try {
      await steps();
    } catch (problem) {
      refuse(problem);
    } finally {
      busy = false;
      if (!signal.aborted) draw();
    }
  }

  async function openNext(question) {
    const now = openQuestion(live.model);
    if (now) await command('close_question', now.id).catch(already);
    try {
      await command('open_question', question.id);
    } catch (problem) {
      // The server's clock decides whether the last one is over; ours may run ahead of it.
      if (problem.code !== 'another_open' || !live.model.quiz.question) throw problem;
      await command('close_question', live.model.quiz.question.id).catch(already);
      await command('open_question', question.id);
    }
  }

  function already(problem) {
    if (problem.code !== 'question_not_open') throw problem;
  }

  // Drawing.

  function draw() {
    const { model } = live;
    const state = model.quiz;
    if (!state || signal.aborted) return;
    title(state.title, phaseChip(state.phase, state.final));
    const question = openQuestion(model);
    if (model.quiz.question && state.pace === 'host') opened.add(model.quiz.question.id);
    clock.set(question);
    view.head(state, question, model.participants);
    const next = upcoming();
    const left = questions ? questions.filter((each) => !opened.has(each.id)).length : 0;
    view.controls({ state, question, next, busy, left, act: {
      open: () => act(() => command('open')),
      next: () => act(() => openNext(next)),
      closeQuestion: () => act(() => command('close_question', question.id).catch(already)),
      close: () => act(() => command('close')),
    } });
    view.run(questions ?? [], { opened, question, pace: state.pace, phase: state.phase, busy, open: (each) => act(() => openNext(each)) });
    view.board.update(model.standings.slice(0, TOP), { baseline: model.baseline });
  }

  /** Returns the first question never opened after the last one that was; one that was skipped comes at the end. */
  function upcoming() {
    if (!questions) return null;
    const last = questions.findLastIndex((question) => opened.has(question.id));
    const fresh = (question) => !opened.has(question.id);
    return questions.slice(last + 1).find(fresh) ?? questions.find(fresh) ?? null;
  }

  function layout() {
    const name = h('h1', { tabindex: '-1' });
    const facts = h('p', { class: 'lead' });
    const now = h('div', { class: 'now' });
    const text = h('p', { class: 'now-text' });
    now.append(text);
    const button = (testid, words) => h('button', { type: 'button', class: 'secondary', 'data-testid': testid, disabled: true }, words);
    const buttons = {
      open: button('host-open', 'Open the quiz'), next: button('host-next', 'Next question'),
      closeQuestion: button('host-close-question', 'Close question'), close: button('host-close', 'Close the quiz'),
    };
    let actions = {};
    let armed = false;
    for (const [kind, element] of Object.entries(buttons)) {
      element.addEventListener('click', () => {
        // Closing cannot be undone: with questions left it takes a second press.
        const ask = kind === 'close' && !armed && Number(element.dataset.left) > 0;
        armed = ask;
        element.toggleAttribute('data-armed', ask);
        if (ask) return say(element, `Press again: ${count(Number(element.dataset.left), 'question')} left out`);
        actions[kind]?.();
      });
    }
    buttons.close.addEventListener('blur', () => {
      armed = false;
      buttons.close.removeAttribute('data-armed');
      say(buttons.close, 'Close the quiz');
    });
    const group = h('div', { class: 'controls', role: 'group', 'aria-label': 'Controls' }, Object.values(buttons));
    const board = leaderboard({ label: 'The best of the board' });
    const books = booksCard();
    const keys = h('input', { type: 'checkbox', id: 'show-keys', onchange: () => list.classList.toggle('with-keys', keys.checked) });
    const list = h('ol', { class: 'run', role: 'list' });
    const element = h('div', { class: 'host' },
      h('section', { class: 'panel host-now', 'aria-label': 'Now' },
        name, facts, now, group,
        h('p', { class: 'host-foot' }, h('a', { href: `#/q/${encodeURIComponent(quiz)}/board`, target: '_blank', rel: 'noopener' }, 'Big screen in a new tab'), tokenKept(() => { over.abort(); gate(context); }, 'span'))),
      h('section', { class: 'panel host-books', 'aria-labelledby': 'books-title' }, h('h2', { id: 'books-title' }, 'Books'), books.element),
      h('section', { class: 'panel host-run', 'aria-labelledby': 'run-title' },
        h('div', { class: 'panel-head' }, h('h2', { id: 'run-title' }, 'Questions'),
          h('label', { class: 'switch', for: 'show-keys' }, keys, 'Show answers')),
        list),
      h('section', { class: 'panel host-board', 'aria-labelledby': 'top-title' }, h('h2', { id: 'top-title' }, 'Leaderboard'), board.element));
    return { element, now, board, books, head, controls, run };

    function head(state, question, participants) {
      say(name, state.title);
      say(facts, `${count(participants, 'player')} \u00b7 ${count(state.questions_total, 'question')} \u00b7 version ${state.version}`);
      say(text, question ? question.text : standing(state));
    }

    function controls({ state, question, next, busy: waiting, left, act: todo }) {
      actions = todo;
      const isOpen = state.phase === 'open';
      const host = state.pace === 'host';
      buttons.next.hidden = buttons.closeQuestion.hidden = !host;
      buttons.open.hidden = state.phase !== 'draft';
      const held = document.activeElement;
      // A command under way does not disable anything: the button that was pressed would lose the keyboard's focus.
      group.setAttribute('aria-busy', String(waiting));
      buttons.open.disabled = state.phase !== 'draft';
      buttons.next.disabled = !(isOpen && host && next);
      buttons.closeQuestion.disabled = !(isOpen && question);
      buttons.close.disabled = !isOpen;
      buttons.close.dataset.left = host ? left : 0;
      say(buttons.next, !next ? 'No question left' : question ? 'Next question' : `Open question ${questions.indexOf(next) + 1}`);
      group.hidden = state.phase === 'closed';
      const main = state.phase === 'draft' ? buttons.open : !host ? buttons.close : question ? buttons.closeQuestion : next ? buttons.next : buttons.close;
      for (const element of Object.values(buttons)) element.className = element === main ? 'primary' : 'secondary';
      if (Object.values(buttons).includes(held) && (held.disabled || held.hidden)) main.focus();
    }

    function run(all, { opened: done, question, pace, phase, busy: waiting, open }) {
      const print = JSON.stringify([all.map((each) => each.id), [...done], question?.id, phase, waiting, version]);
      if (list.dataset.print === print) return;
      list.dataset.print = print;
      fill(list, all.map((each, nth) => {
        const isOpen = each.id === question?.id;
        const was = done.has(each.id);
        return h('li', { class: 'run-row', 'data-state': isOpen ? 'open' : was ? 'done' : 'next' },
          h('span', { class: 'run-nth', 'aria-hidden': 'true' }, was && !isOpen ? '\u2713' : String(nth + 1)),
          h('div', {}, h('p', { class: 'run-text' }, each.text),
            h('p', { class: 'hint' }, [each.kind.replaceAll('_', ' '), each.points !== undefined && `${points(each.points)} points`, each.time_limit_ms && `${each.time_limit_ms / 1_000} s`].filter(Boolean).join(' \u00b7 ')),
            h('p', { class: 'run-key' }, keyText(each))),
          isOpen ? h('span', { class: 'chip', 'data-phase': 'open' }, 'Open')
            : !was && pace === 'host' && phase === 'open' && h('button', {
              type: 'button', class: 'link', disabled: waiting, 'data-testid': `host-open-${each.id}`,
              'aria-label': `Open question ${nth + 1}`, onclick: () => open(each),
            }, 'Open'));
      }));
    }
  }
}

/** Returns what is going on while no question is open. */
function standing(state) {
  if (state.phase === 'draft') return 'The lobby is open: players can join.';
  if (state.phase === 'closed') return state.final ? 'Closed. The result is final.' : 'Closed. The last answers are being counted.';
  return state.pace === 'free' ? 'All questions are open, each player at their own pace.' : 'No question is open.';
}

/** Returns a key in words. */
function keyText(question) {
  const { key = {}, choices = [] } = question;
  const name = (id) => choices.find((choice) => choice.id === id)?.text ?? id;
  if (key.choice) return name(key.choice);
  if (key.choices) return key.choices.map(name).join(', ');
  if (key.value !== undefined) return key.tolerance && Number(key.tolerance) ? `${key.value} \u00b1 ${key.tolerance}` : key.value;
  if (key.min !== undefined) return `${key.min} to ${key.max}`;
  return key.accept?.join(' / ') ?? '';
}

const PARTS = [['counted', 'Counted'], ['repeated', 'Repeated'], ['late', 'Late'], ['too_early', 'Too early'], ['rejected', 'Rejected'], ['in_flight', 'In flight']];

/** The books as a small balance: every answer received is in exactly one place. */
function booksCard() {
  const received = h('dd', { 'data-testid': 'books-received' }, '\u2013');
  const verdict = h('span', { class: 'balance', role: 'status' });
  const cells = Object.fromEntries(PARTS.map(([field]) => [field, h('dd', { 'data-testid': `books-${field}` }, '\u2013')]));
  const bars = Object.fromEntries(PARTS.map(([field]) => [field, h('i', { class: `book-${field}` })]));
  const awarded = h('p', { class: 'hint' });
  const answered = h('p', { class: 'answered', 'data-testid': 'books-answered' });
  const element = h('div', { class: 'books', 'data-testid': 'books' }, answered,
    h('dl', { class: 'book-total' }, h('dt', {}, 'Received'), received, verdict),
    h('div', { class: 'book-bar', 'aria-hidden': 'true' }, Object.values(bars)),
    h('dl', { class: 'book-parts' }, PARTS.map(([field, words]) => h('div', { class: `book book-${field}` }, h('dt', {}, words), cells[field]))),
    awarded);
  return { element, show };

  function show(books, question, participants) {
    const value = (field) => (field === 'rejected' ? sum(books.rejected) : Number(books[field] ?? 0));
    const total = PARTS.reduce((whole, [field]) => whole + value(field), 0);
    const even = total === Number(books.received) && Number(books.points_awarded) === Number(books.points_ranked);
    say(received, points(books.received));
    element.dataset.balanced = String(even);
    element.dataset.received = books.received;
    for (const [field] of PARTS) {
      say(cells[field], points(value(field)));
      bars[field].hidden = value(field) === 0;
      bars[field].style.flexGrow = String(value(field));
    }
    say(verdict, even ? 'Balanced' : 'Settling');
    verdict.dataset.even = String(even);
    say(awarded, `${points(books.points_awarded)} points awarded, ${points(books.points_ranked)} in the ranking.`);
    const tally = question && books.questions?.[question.id];
    answered.hidden = !question;
    say(answered, question ? `${points(tally?.counted ?? 0)} of ${points(participants)} answered` : '');
  }
}

function sum(value) {
  return typeof value === 'object' && value !== null ? Object.values(value).reduce((whole, each) => whole + Number(each), 0) : Number(value ?? 0);
}
