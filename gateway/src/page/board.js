// The leaderboard: rows that glide to their new rank, with points, movement and a bar for the distance to the leader.

import { count, h, points, say, stillness } from './dom.js';

const GLIDE_MS = 700;
const TALLY_MS = 600;
const EASE = 'cubic-bezier(.2, .8, .2, 1)';

/** Returns `{element, update}`; `update(rows, {baseline, me})` draws the rows in the given order. */
export function leaderboard({ label = 'Leaderboard', big = false } = {}) {
  const element = h('ol', { class: big ? 'board board-big' : 'board', role: 'list', 'aria-label': label });
  const lines = new Map();
  return { element, update };

  function update(rows, { baseline = null, me = null } = {}) {
    const still = stillness() || document.visibilityState === 'hidden';
    const before = new Map([...lines].map(([id, line]) => [id, line.element.getBoundingClientRect().top]));
    const first = lines.size === 0;
    const leader = Math.max(0, ...rows.map((row) => Number(row.points) || 0));
    const ids = new Set(rows.map((row) => row.participant));
    for (const [id, line] of lines) {
      if (ids.has(id)) continue;
      line.element.remove();
      lines.delete(id);
    }
    rows.forEach((row, place) => {
      const line = lines.get(row.participant) ?? draw(row.participant);
      lines.set(row.participant, line);
      // Only rows out of place are moved: a moved node restarts what a screen reader was reading.
      if (element.children[place] !== line.element) element.insertBefore(line.element, element.children[place] ?? null);
      line.set(row, { leader, still: still || first, baseline, me });
    });
    if (still) return;
    rows.forEach((row, place) => {
      const line = lines.get(row.participant).element;
      line.getAnimations().forEach((animation) => animation.id === 'glide' && animation.cancel());
      line.classList.remove('rising');
      const was = before.get(row.participant);
      const delta = was === undefined ? null : was - line.getBoundingClientRect().top;
      if (delta === null) enter(line, first ? place : 0);
      else if (Math.abs(delta) > 1) glide(line, delta);
    });
  }
}

function glide(line, delta) {
  line.classList.toggle('rising', delta > 0);
  const animation = line.animate([{ transform: `translateY(${delta}px)` }, { transform: 'none' }], { duration: GLIDE_MS, easing: EASE });
  animation.id = 'glide';
  animation.onfinish = () => line.classList.remove('rising');
}

function enter(line, place) {
  line.animate([{ opacity: 0, transform: 'translateY(12px)' }, { opacity: 1, transform: 'none' }],
    { duration: 350, delay: Math.min(place, 12) * 35, easing: EASE, fill: 'backwards' }).id = 'glide';
}

function draw(participant) {
  const rank = h('span', { class: 'row-rank' });
  const move = h('span', { class: 'row-move' });
  const name = h('bdi', { class: 'row-name' });
  const correct = h('span', { class: 'row-correct' });
  const total = h('span', { class: 'row-points' });
  const gauge = h('span', { class: 'row-gauge', 'aria-hidden': 'true' });
  const element = h('li', { class: 'row', 'data-testid': 'board-row', 'data-participant': participant },
    gauge, rank, h('span', { class: 'row-who' }, name, correct), move, total);
  let shown = 0;
  let timer = 0;
  return {
    element,
    set(row, { leader, still, baseline, me }) {
      element.dataset.rank = row.rank;
      element.dataset.points = row.points;
      element.classList.toggle('leading', row.rank === 1 && Number(row.points) > 0);
      element.classList.toggle('me', row.participant === me);
      say(rank, String(row.rank));
      say(name, row.name);
      say(correct, row.correct > 0 ? `${row.correct} correct` : '');
      movement(move, baseline, row);
      gauge.style.transform = `scaleX(${leader > 0 ? Math.max(0, Number(row.points) / leader) : 0})`;
      cancelAnimationFrame(timer);
      const [from, to] = [shown, Number(row.points)];
      if (still || from === to) {
        shown = to;
        return say(total, points(row.points));
      }
      // The visible figure runs up to the exact one; what tests and other readers use is in the data attributes.
      const start = performance.now();
      const step = (at) => {
        const part = Math.min(1, (at - start) / TALLY_MS);
        shown = part === 1 ? to : Math.round(from + (to - from) * (1 - (1 - part) ** 3));
        say(total, points(shown));
        if (part < 1) timer = requestAnimationFrame(step);
      };
      timer = requestAnimationFrame(step);
    },
  };
}

/** Shows how a row moved since the last question opened. */
export function movement(element, baseline, row) {
  const was = baseline?.get(row.participant);
  const [sign, kind, spoken] = !baseline ? ['', '', '']
    : was === undefined ? ['new', 'new', 'new']
    : was > row.rank ? [`\u25b2${was - row.rank}`, 'up', `up ${was - row.rank}`]
    : was < row.rank ? [`\u25bc${row.rank - was}`, 'down', `down ${row.rank - was}`]
    : ['', '', ''];
  element.dataset.move = kind;
  if (element.dataset.shown === sign) return;
  element.dataset.shown = sign;
  element.replaceChildren(h('span', { 'aria-hidden': 'true' }, sign), h('span', { class: 'quiet' }, spoken));
}

/** Returns the three steps with the best on them, second left and third right, as on a real podium. */
export function podium(rows) {
  const step = (row, place) => row && h('li', {
    class: 'step', 'data-place': place,
    'data-testid': 'board-row', 'data-participant': row.participant, 'data-rank': row.rank, 'data-points': row.points,
  },
    h('bdi', { class: 'step-name' }, row.name),
    h('span', { class: 'step-points' }, points(row.points), h('span', { class: 'step-unit' }, ' points')),
    h('span', { class: 'step-block' }, h('span', { class: 'quiet' }, 'Rank '), String(row.rank)));
  return h('ol', { class: 'podium', role: 'list', 'aria-label': `The best ${count(Math.min(3, rows.length), 'player')}` },
    step(rows[0], 1), step(rows[1], 2), step(rows[2], 3));
}
