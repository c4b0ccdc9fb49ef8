// Starts the live page: reads the address, mounts the view it names, unmounts the one before.

import { fill, h, notice, say } from './dom.js';
import { mountHome } from './home.js';
import { mountHost } from './host.js';
import { mountPlayer } from './player.js';
import { mountWall } from './wall.js';

const VIEWS = { '': mountPlayer, host: mountHost, board: mountWall };
const STATES = { connecting: 'Connecting', live: 'Connected', retrying: 'Reconnecting', idle: 'Not connected' };

const root = document.getElementById('view');
const crumb = document.getElementById('crumb');
const state = document.getElementById('connection');
const links = document.getElementById('links');
let mounted = null;

/** Returns what the address names: `{quiz, view}`. Never a token: a link that sets one would speak for its sender. */
function route() {
  const path = location.hash.replace(/^#\/?/, '');
  const [kind, quiz, view = ''] = path.split('/');
  if (kind !== 'q' || !quiz) return { quiz: null, view: '' };
  try {
    return { quiz: decodeURIComponent(quiz), view: Object.hasOwn(VIEWS, view) ? view : '' };
  } catch {
    return { quiz: null, view: '' };
  }
}

function mount() {
  const { quiz, view } = route();
  mounted?.abort();
  mounted = new AbortController();
  notice(null);
  fill(crumb);
  state.hidden = quiz === null;
  connection('connecting');
  document.documentElement.dataset.view = quiz === null ? 'home' : view || 'play';
  showLinks(quiz, view);
  const context = { quiz, root, signal: mounted.signal, title, connection };
  if (quiz === null) mountHome(context);
  else VIEWS[view](context);
  window.scrollTo({ top: 0 });
}

/** Names the quiz in the bar and in the tab; the bar is only touched when the words changed. */
function title(text, chip = null) {
  document.title = text ? `${text} \u2013 Podium` : 'Podium';
  const print = `${text} ${chip?.textContent}`;
  if (crumb.dataset.print === print) return;
  crumb.dataset.print = print;
  fill(crumb, text && h('bdi', { class: 'crumb-title' }, text), chip);
}

function connection(name) {
  state.dataset.state = name;
  say(state, STATES[name] ?? name);
}

function showLinks(quiz, view) {
  links.hidden = quiz === null;
  if (quiz === null) return fill(links);
  const base = `#/q/${encodeURIComponent(quiz)}`;
  const link = (words, name, href) => h('a', { href, 'aria-current': view === name ? 'page' : null }, words);
  fill(links, link('Play', '', base), link('Big screen', 'board', `${base}/board`), link('Host', 'host', `${base}/host`), h('a', { href: '#/' }, 'All quizzes'));
}

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault(); // The fragment is the route; following it would leave the view.
  root.focus();
});
window.addEventListener('hashchange', () => {
  mount();
  root.focus({ preventScroll: true });
});
mount();
