// The player's view: join, wait, answer, see the verdict and one's place.

import { call, hostToken, identity, persist, uuid } from './api.js';
import { Answers, retryable, verdictOf } from './answers.js';
import { leaderboard, movement, podium } from './board.js';
import { announce, count, fill, gain, h, notice, ordinal, phaseChip, points, say } from './dom.js';
import { follow, openQuestion } from './live.js';
import { controls, countdown, heading } from './question.js';

/** Neighbours shown on either side. */
const NEIGHBOURS = 2;
/** Players ask for their place at a random moment within this time, so that a full hall does not ask at once. */
const SPREAD_MS = 1_500;
/** Rows shown between two questions. */
const BEST = 5;
/** Names shown in the lobby; more would only be a wall of text. */
const LOBBY_NAMES = 30;
const NAME_CHARS_MAX = 64;

const PROGRESS = {
  sending: 'Sending\u2026',
  retrying: 'Trying again. Your answer is kept.',
  stored: 'Stored. Waiting for the verdict\u2026',
  graded: 'Your answer is in.',
};

export function mountPlayer({ quiz, root, signal, title, connection }) {
  const path = `/quizzes/${encodeURIComponent(quiz)}`;
  const stage = h('section', { class: 'stage', 'aria-label': 'Quiz' });
  const verdict = h('div', { class: 'verdict-slot', role: 'status', 'aria-live': 'polite', 'aria-atomic': 'true' });
  const place = placeCard();
  const near = leaderboard({ label: 'Around you' });
  const around = h('section', { class: 'around', 'aria-labelledby': 'around-title', hidden: true },
    h('h2', { id: 'around-title' }, 'Around you'), near.element);
  fill(root, h('div', { class: 'player' },
    h('div', { class: 'play' }, verdict, stage),
    h('aside', { class: 'aside', 'aria-label': 'Your place' }, place.element, around)));
  fill(stage, h('p', { class: 'plain' }, 'Finding the quiz\u2026'));

  let player = identity.get(quiz);
  let answers = null;
  let playing = null; // Ends with the identity or the view.
  let own = null; // The last answer of GET …/participants/{id}.
  let neighbours = null;
  let shown = { key: null, update() {}, stop() {} };
  let lastQuestion = null; // The question whose verdict is on show.
  let free = { questions: null, version: null, nth: 0 };
  let ending = 0;
  let asking = 0;

  const live = follow(quiz, {
    token: player?.token ?? hostToken.get(),
    connection,
    refused: (problem) => {
      connection('idle');
      notice(problem);
      fill(stage, h('div', { class: 'panel lonely' }, h('h1', { tabindex: '-1' }, problem.status === 404 ? 'No such quiz' : 'This quiz cannot be shown'),
        h('p', {}, h('a', { href: '#/' }, 'All quizzes'))));
    },
    changed: draw,
  });
  signal.addEventListener('abort', () => { live.close(); playing?.abort(); shown.stop(); clearTimeout(ending); clearTimeout(asking); });
  const shortcut = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(input|textarea)$/i.test(event.target.tagName) && event.target.type !== 'checkbox') return;
    if (/^[1-9]$/.test(event.key)) shown.press?.(Number(event.key) - 1);
  };
  document.addEventListener('keydown', shortcut, { signal });
  if (player) enter();

  /** Starts playing as `player`. */
  function enter() {
    playing = new AbortController();
    answers = new Answers({ quiz, player, signal: playing.signal, changed: answered });
    askPlace(0);
  }

  /** Forgets an identity that the server does not accept, and offers to join again. */
  function leave(why) {
    playing.abort(); // Answers still on their way belong to the identity that goes.
    identity.forget(quiz);
    player = answers = own = neighbours = null;
    fill(verdict);
    notice(why);
    if (live.model.quiz) draw();
  }

  function draw() {
    const { model } = live;
    const state = model.quiz;
    if (!state) return;
    title(state.title, phaseChip(state.phase, state.final));
    const question = openQuestion(model);
    clearTimeout(ending);
    if (question?.closes_at) ending = setTimeout(draw, Math.max(20, Date.parse(question.closes_at) - model.clock.now() + 20));
    const key = stageKey(state, question);
    if (key !== shown.key) {
      shown.stop();
      if (key === 'free') loadQuestions();
      const hadFocus = stage.contains(document.activeElement) || document.activeElement === document.body;
      if (shown.key?.startsWith('question:')) askPlace(SPREAD_MS);
      shown = { update() {}, stop() {}, ...build(key, state, question), key };
      if (hadFocus && player) stage.querySelector('h1')?.focus({ preventScroll: true });
      if (key.startsWith('question:')) window.scrollTo({ top: 0 });
    }
    shown.update();
    drawVerdict();
    drawPlace();
  }

  function stageKey(state, question) {
    if (state.phase === 'closed') return 'closed';
    if (!player) return 'join';
    if (state.phase === 'draft') return 'lobby';
    if (state.pace === 'free') return 'free';
    return question ? `question:${question.id}` : 'between';
  }

  function build(key, state, question) {
    if (key === 'join') return joinStage(state);
    if (key === 'lobby') return lobbyStage();
    if (key === 'free') return freeStage();
    if (key === 'closed') return closedStage();
    if (key === 'between') return betweenStage();
    lastQuestion = question.id;
    announce(`Question ${question.index + 1}: ${question.text}`);
    return questionStage(question, state.questions_total);
  }

  // Stages.

  function joinStage(state) {
    const name = h('input', {
      id: 'join-name', 'data-testid': 'join-name', class: 'big-input', maxlength: NAME_CHARS_MAX, required: true,
      autocomplete: 'nickname', enterkeyhint: 'go', dir: 'auto', placeholder: 'Ana',
    });
    const submit = h('button', { type: 'submit', class: 'primary', 'data-testid': 'join-submit' }, 'Join');
    const facts = h('p', { class: 'lead' });
    let key = uuid(); // One person joins once, however often the request is repeated.
    let keyed = null;
    fill(stage, h('form', { class: 'panel join', onsubmit: join },
      h('p', { class: 'eyebrow' }, state.phase === 'open' ? 'The quiz is on. You can still join.' : 'You are invited'),
      h('h1', { tabindex: '-1' }, h('bdi', {}, state.title)), facts,
      h('label', { for: 'join-name', class: 'label' }, 'Your name on the leaderboard'),
      h('div', { class: 'input-row' }, name, submit)));
    async function join(event) {
      event.preventDefault();
      const wanted = name.value.trim();
      if (!wanted) return name.focus();
      if (keyed !== null && keyed !== wanted) key = uuid();
      keyed = wanted;
      submit.disabled = true;
      notice(null);
      try {
        const { data } = await persist(() => call('POST', `${path}/participants`, { body: { name: wanted }, headers: { 'Idempotency-Key': key }, signal }),
          { signal, attemptsMax: 5, waiting: () => say(submit, 'Trying again\u2026') });
        player = { participant: data.participant, token: data.token, name: wanted };
        identity.set(quiz, player);
        enter();
        draw();
      } catch (problem) {
        if (!signal.aborted) notice(problem);
      } finally {
        submit.disabled = false;
        say(submit, 'Join');
      }
    }
    return { update() {
      say(facts, [count(live.model.quiz.questions_total, 'question'), count(live.model.participants, 'player')].join(' \u00b7 '));
    } };
  }

  function lobbyStage() {
    const names = h('ul', { class: 'names', role: 'list', 'aria-label': 'Players' });
    const facts = h('p', { class: 'lead' });
    fill(stage, h('div', { class: 'panel lobby' },
      h('p', { class: 'eyebrow' }, 'You are in, ', h('bdi', {}, player.name)),
      h('h1', { tabindex: '-1' }, 'Waiting for the host'), h('span', { class: 'pulse', 'aria-hidden': 'true' }, h('i'), h('i'), h('i')),
      facts, names));
    return { update() {
      const { standings, participants } = live.model;
      say(facts, participants > 1 ? `${count(participants, 'player')} so far` : 'You are the first one here.');
      fillNames(names, standings, participants, LOBBY_NAMES, player.participant);
    } };
  }

  function questionStage(question, total) {
    const clock = countdown(live.model.clock);
    const form = controls(question, (answer) => answers.give(question.id, answer));
    const progress = h('p', { class: 'progress', role: 'status' });
    fill(stage, h('article', { class: 'question' }, clock.element, heading(question, total), progress, form.element));
    return {
      stop: clock.stop,
      press: (nth) => form.press?.(nth),
      update() {
        const now = openQuestion(live.model);
        clock.set(now?.id === question.id ? now : null);
        show(form, progress, answers.get(question.id));
      },
    };
  }

  function betweenStage() {
    const top = leaderboard({ label: 'The best five' });
    const next = h('p', { class: 'lead' });
    const head = h('h1', { tabindex: '-1' });
    fill(stage, h('div', { class: 'panel between' }, head, next, top.element));
    return { update() {
      const { model } = live;
      const started = scored(model);
      say(head, started ? 'Leaderboard' : 'Get ready');
      say(next, started || lastQuestion !== null ? 'The next question comes when the host opens it.' : 'The host opens the first question any moment.');
      // Before the first points everybody is first: no board worth looking at.
      top.update(started ? model.standings.slice(0, BEST) : [], { baseline: model.baseline, me: player.participant });
    } };
  }

  function closedStage() {
    const words = h('p', { class: 'lead' });
    const result = h('h1', { tabindex: '-1' });
    const steps = h('div', {});
    const board = leaderboard({ label: 'Final leaderboard' });
    fill(stage, h('div', { class: 'panel closed' }, words, result, steps, board.element));
    let print = null;
    return { update() {
      const { model } = live;
      const rank = place.rank();
      say(words, model.quiz.final ? 'Final result' : 'The quiz is over. The last answers are being counted.');
      say(result, player && rank ? `You finished ${ordinal(rank)} of ${model.participants}` : model.quiz.title);
      const best = model.standings.slice(0, 3);
      if (print !== (print = JSON.stringify(best))) fill(steps, best.length > 0 && podium(best));
      board.update(model.standings.slice(3, 10), { baseline: model.baseline, me: player?.participant });
      board.element.hidden = model.standings.length <= 3;
    } };
  }

  // Free pace: every question at any time, one after another.

  async function loadQuestions() {
    try {
      const { data } = await persist(() => call('GET', path, { token: player?.token, signal }), { signal });
      free.questions = data.questions ?? [];
      const first = free.questions.findIndex((question) => !answers?.settled.has(question.id));
      free.nth = Math.max(0, first);
      shown.update();
    } catch (problem) {
      if (!signal.aborted) notice(problem);
    }
  }

  function freeStage() {
    const steps = h('ol', { class: 'steps', role: 'list', 'aria-label': 'Questions' });
    const body = h('div', {});
    const back = h('button', { type: 'button', class: 'secondary', onclick: () => turn(free.nth - 1) }, 'Back');
    const next = h('button', { type: 'button', class: 'secondary', 'data-testid': 'free-next', onclick: () => turn(free.nth + 1) }, 'Next question');
    fill(stage, steps, body, h('div', { class: 'turn' }, back, next));
    let current = null;
    let form = null;
    let progress = null;
    function turn(nth) {
      free.nth = Math.min(Math.max(nth, 0), free.questions.length - 1);
      draw();
      stage.querySelector('h1')?.focus({ preventScroll: true });
    }
    return {
      press: (nth) => form?.press?.(nth),
      update() {
        if (!free.questions) return fill(body, h('p', { class: 'plain' }, 'Fetching the questions\u2026'));
        const question = free.questions[free.nth];
        if (!question) return fill(body, h('p', { class: 'plain' }, 'This quiz shows no questions.'));
        if (current !== question.id) {
          current = lastQuestion = question.id;
          form = controls(question, (answer) => answers.give(question.id, answer));
          progress = h('p', { class: 'progress', role: 'status' });
          fill(body, h('article', { class: 'question' }, heading(question, free.questions.length, { nth: free.nth }), progress, form.element));
        }
        fill(steps, free.questions.map((each, nth) => h('li', {}, h('button', {
          type: 'button', class: 'step-dot', 'aria-current': nth === free.nth ? 'step' : null, 'data-tone': verdictOf(answers.get(each.id))?.tone,
          'aria-label': `Question ${nth + 1}${answers.settled.has(each.id) ? ', answered' : ''}`, onclick: () => turn(nth),
        }, String(nth + 1)))));
        back.disabled = free.nth === 0;
        next.disabled = free.nth >= free.questions.length - 1;
        show(form, progress, answers.get(question.id));
      },
    };
  }

  // Answers and verdicts.

  function show(form, progress, entry) {
    if (!entry || retryable(entry)) {
      if (form.locked) form.unlock();
      form.locked = false;
    } else if (!form.locked) {
      form.lock(entry.answer);
      form.locked = true;
    }
    say(progress, form.locked ? PROGRESS[entry.stage] ?? '' : form.hint ?? '');
    progress.dataset.stage = entry?.stage ?? '';
  }

  function answered(entry) {
    if (entry.stage === 'refused' && (entry.problem.status === 401 || entry.problem.status === 403)) {
      return leave({ ...entry.problem, detail: entry.problem.detail ?? 'Join again to go on.' });
    }
    if (entry.stage === 'graded') askPlace(0);
    shown.update();
    drawVerdict();
  }

  function drawVerdict() {
    const state = live.model.quiz;
    const question = state?.phase === 'open' && player ? lastQuestion : null;
    const entry = question && answers?.get(question);
    let words = entry ? verdictOf(entry) : null;
    if (!words && !entry && question && shown.key === 'between') words = { tone: 'calm', title: 'No answer this time', detail: null };
    const print = words ? `${question} ${words.title} ${entry?.submission} ${entry?.receipt?.points}` : '';
    if (verdict.dataset.print === print) return;
    verdict.dataset.print = print;
    if (!words) return fill(verdict);
    const receipt = entry?.receipt;
    fill(verdict, h('div', {
      class: 'verdict', 'data-testid': entry ? 'verdict' : 'no-answer', 'data-tone': words.tone,
      'data-question': question, 'data-verdict': receipt?.verdict ?? entry?.problem?.code,
      'data-correct': receipt?.correct, 'data-points': receipt?.points,
    },
    h('span', { class: 'verdict-mark', 'aria-hidden': 'true' }, { right: '\u2713', part: '\u2248', wrong: '\u2715' }[words.tone] ?? 'i'),
    h('div', { class: 'verdict-words' }, h('strong', {}, words.title), words.detail && h('p', {}, words.detail)),
    receipt?.verdict === 'counted' && h('span', { class: 'verdict-points' }, gain(receipt.points), h('small', {}, ' points'))));
  }

  // Place.

  function askPlace(spread) {
    clearTimeout(asking);
    asking = setTimeout(readPlace, Math.random() * spread);
  }

  async function readPlace() {
    const who = player;
    if (!who) return;
    try {
      const { data } = await persist(() => call('GET', `${path}/participants/${who.participant}`, { token: who.token, signal }), { signal });
      if (player !== who) return;
      own = data;
      answers.learn(data.answers);
      // The feed carries the top of the board; only someone further down has to ask who is near.
      neighbours = null;
      if (!live.model.rows.has(who.participant)) {
        const { data: board } = await call('GET', `${path}/leaderboard?around=${who.participant}&limit=${NEIGHBOURS}`, { token: who.token, signal });
        neighbours = board.standings;
      }
      if (live.model.quiz) draw();
    } catch (problem) {
      if (signal.aborted || player !== who) return;
      if ([401, 403, 404].includes(problem.status)) leave({ title: 'Please join again', detail: 'The server does not know you in this quiz any more.', code: problem.code });
    }
  }

  function drawPlace() {
    const { model } = live;
    const row = player && model.rows.get(player.participant);
    const figures = row ?? own;
    place.element.hidden = !player || !figures;
    around.hidden = true;
    if (!player || !figures) return;
    const ranked = model.quiz.phase !== 'draft' && (scored(model) || answers.settled.size > 0);
    place.show({ name: row?.name ?? player.name, figures, percentile: own?.percentile, of: model.participants, ranked, baseline: model.baseline });
    const nth = model.standings.indexOf(row);
    const rows = row ? model.standings.slice(Math.max(0, nth - NEIGHBOURS), nth + NEIGHBOURS + 1) : neighbours ?? [];
    // Who is among the best sees the neighbours there already.
    const there = shown.key === 'between' && nth >= 0 && nth < BEST;
    around.hidden = rows.length < 2 || !ranked || !scored(model) || there;
    // On a phone nothing but the question is on show until it is answered.
    around.classList.toggle('later', shown.key?.startsWith('question:') && !verdict.firstChild);
    if (!around.hidden) near.update(rows, { baseline: model.baseline, me: player.participant });
  }
}

/** Tells whether anybody has points yet. */
function scored(model) {
  return model.standings.some((row) => Number(row.points) !== 0);
}

/** The player's own figures: a card beside the question, a bar at the foot of a phone. */
function placeCard() {
  const name = h('bdi', { class: 'place-name' });
  const total = h('span', { class: 'place-figure', 'data-testid': 'own-points' });
  const rank = h('span', { class: 'place-figure', 'data-testid': 'own-rank' });
  const move = h('span', { class: 'row-move' });
  const percent = h('span', { class: 'place-note', 'data-testid': 'own-percentile' });
  let current = null;
  const element = h('section', { class: 'place', 'aria-label': 'Your place', hidden: true },
    h('p', { class: 'place-who' }, name, percent),
    h('p', { class: 'place-cell' }, h('span', { class: 'place-label' }, 'Points'), total),
    h('p', { class: 'place-cell' }, h('span', { class: 'place-label' }, 'Rank'), h('span', { class: 'place-rank' }, rank, move)));
  return {
    element,
    rank: () => current,
    show({ name: text, figures, percentile, of, ranked, baseline }) {
      current = figures.rank;
      say(name, text);
      say(total, points(figures.points));
      total.dataset.points = figures.points;
      say(rank, ranked ? ordinal(figures.rank) : '\u2013');
      rank.dataset.rank = figures.rank;
      movement(move, ranked ? baseline : null, { ...figures, participant: figures.participant });
      percent.dataset.percentile = percentile ?? '';
      say(percent, !ranked || percentile === undefined ? count(of, 'player') : `of ${points(of)} \u00b7 percentile ${Math.round(Number(percentile))}`);
    },
  };
}

/** Shows who is there, newest names kept by the order of the board. */
export function fillNames(list, standings, participants, most, me) {
  const print = JSON.stringify([standings.slice(0, most).map((row) => row.name), participants]);
  if (list.dataset.print === print) return;
  list.dataset.print = print;
  const there = new Set([...list.children].map((child) => child.dataset.participant));
  fill(list, standings.slice(0, most).map((row) => h('li', {
    'data-participant': row.participant, class: [row.participant === me && 'me', !there.has(row.participant) && 'fresh'].filter(Boolean).join(' '),
  }, h('bdi', {}, row.name))), participants > most && h('li', { class: 'rest' }, `and ${participants - Math.min(most, standings.length)} more`));
}
