// The big screen: the way in, the question of the moment, the leaderboard, the podium at the end.

import { hostToken, identity } from './api.js';
import { leaderboard, podium } from './board.js';
import { count, fill, h, notice, phaseChip, say } from './dom.js';
import { follow, openQuestion } from './live.js';
import { fillNames } from './player.js';
import { choices, countdown, heading } from './question.js';
import { qr } from './qr.js';

/** Rows that can be read from the last seat. */
const TOP = 10;
const TOP_BESIDE = 8;
const NAMES = 60;

export function mountWall({ quiz, root, signal, title, connection }) {
  const board = leaderboard({ big: true });
  const scene = h('section', { class: 'scene', 'aria-label': 'Now' });
  const players = h('span', { class: 'wall-players', 'data-testid': 'participants' });
  const boardTitle = h('h2', {}, 'Leaderboard');
  const ranking = h('section', { class: 'wall-board', 'aria-label': 'Leaderboard' }, boardTitle, board.element);
  const invitation = h('span', {}, 'Join at ', h('strong', {}, location.host), ' with ', h('code', {}, quiz));
  const foot = h('p', { class: 'wall-foot' }, invitation, players, fullScreen());
  const wall = h('div', { class: 'wall' }, scene, ranking, foot);
  fill(root, wall);

  let key = null;
  let part = { update() {}, stop() {} };
  let ending = 0;
  const live = follow(quiz, {
    token: hostToken.get() ?? identity.get(quiz)?.token,
    connection,
    refused: (problem) => { connection('idle'); notice(problem); },
    changed: draw,
  });
  signal.addEventListener('abort', () => { live.close(); part.stop(); clearTimeout(ending); });

  function draw() {
    const { model } = live;
    const state = model.quiz;
    if (!state) return;
    title(state.title, phaseChip(state.phase, state.final));
    const question = openQuestion(model);
    clearTimeout(ending);
    if (question?.closes_at) ending = setTimeout(draw, Math.max(20, Date.parse(question.closes_at) - model.clock.now() + 20));
    const wanted = state.phase === 'draft' ? 'lobby' : state.phase === 'closed' ? 'closed' : question ? `question:${question.id}` : 'board';
    if (wanted !== key) {
      key = wanted;
      part.stop();
      wall.dataset.scene = wanted.split(':')[0];
      part = { update() {}, stop() {}, ...build(wanted, state, question) };
    }
    part.update();
    say(players, count(model.participants, 'player'));
    invitation.classList.toggle('over', state.phase === 'closed');
    // After the podium the board goes on with the fourth; without points there is nothing to rank yet.
    const from = wanted === 'closed' ? 3 : 0;
    const top = question ? TOP_BESIDE : TOP;
    wall.style.setProperty('--rows', String(top));
    ranking.hidden = wanted === 'lobby' || model.standings.length <= from;
    boardTitle.hidden = wanted === 'closed';
    board.update(wanted === 'lobby' ? [] : model.standings.slice(from, from + top), { baseline: model.baseline });
  }

  function build(wanted, state, question) {
    if (wanted === 'lobby') return lobby(state);
    if (wanted === 'closed') return closed(state);
    if (wanted === 'board') {
      fill(scene, h('p', { class: 'eyebrow' }, progress(state)), h('h1', { tabindex: '-1' }, h('bdi', {}, state.title)));
      return {};
    }
    const clock = countdown(live.model.clock);
    fill(scene, clock.element, heading(question, state.questions_total), choices(question),
      !question.choices?.length && h('p', { class: 'wall-hint' }, 'Write your answer on your phone.'));
    return { stop: clock.stop, update: () => clock.set(openQuestion(live.model)) };
  }

  function lobby(state) {
    const names = h('ul', { class: 'names', role: 'list', 'aria-label': 'Players' });
    const total = h('p', { class: 'wall-count' });
    const address = `${location.origin}${location.pathname}#/q/${encodeURIComponent(quiz)}`;
    fill(scene, h('div', { class: 'invite' },
      h('div', { class: 'invite-words' }, h('p', { class: 'eyebrow' }, 'Join now'), h('h1', { tabindex: '-1' }, h('bdi', {}, state.title)),
        h('p', { class: 'invite-address' }, location.host), h('p', { class: 'invite-id' }, h('span', { class: 'quiet' }, 'Quiz id '), h('code', {}, quiz))),
      h('div', { class: 'invite-code' }, qr(address, `Code that opens ${address}`))),
    h('div', { class: 'lobby-names' }, total, names));
    return { update() {
      say(total, live.model.participants ? `${count(live.model.participants, 'player')} in the room` : 'Waiting for the first player');
      fillNames(names, live.model.standings, live.model.participants, NAMES, null);
    } };
  }

  function closed() {
    const words = h('p', { class: 'eyebrow' });
    const steps = h('div', { class: 'wall-podium' });
    fill(scene, words, h('h1', { tabindex: '-1' }, h('bdi', {}, live.model.quiz.title)), steps);
    let print = null;
    return { update() {
      const { model } = live;
      say(words, model.quiz.final ? 'Final result' : 'Counting the last answers');
      const best = model.standings.slice(0, 3);
      const next = JSON.stringify(best);
      if (next === print) return;
      print = next;
      fill(steps, best.length > 0 && podium(best));
    } };
  }
}

/** Returns how far the quiz is, for the time between two questions. */
function progress(state) {
  if (state.pace === 'free') return `${count(state.questions_total, 'question')}, at your own pace`;
  const played = state.questions.length; // Those that were opened, by a screen that comes late too.
  if (played === 0) return 'Get ready';
  if (played >= state.questions_total) return 'That was the last question';
  return `${played} of ${state.questions_total} questions played`;
}

function fullScreen() {
  if (!document.fullscreenEnabled) return null;
  return h('button', { type: 'button', class: 'link', onclick() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => {});
  } }, 'Full screen');
}
