// The first view: the quizzes of this server, joining one by its id, starting a new one.

import { call, hostToken, persist } from './api.js';
import { count, fill, h, notice, phaseChip } from './dom.js';
import { sampleText } from './sample.js';
import { tokenField, tokenKept } from './token.js';

/** How often the list is read again while it is looked at. */
const REFRESH_MS = 10_000;
const PAGE_SIZE = 24;

export function mountHome({ root, signal, title }) {
  title('');
  const list = h('ul', { class: 'cards', 'data-testid': 'quiz-list', role: 'list', 'aria-label': 'Quizzes', 'aria-busy': 'true' });
  const more = h('button', { type: 'button', class: 'secondary', hidden: true }, 'Show more');
  fill(root,
    h('div', { class: 'home' },
      h('section', { class: 'hero' }, h('div', { class: 'hero-words' },
        h('h1', { tabindex: '-1' }, 'Quick minds, ', h('em', {}, 'fair points.')),
        h('p', {}, 'Join a live quiz with its id, follow one on the big screen, or start your own.'),
        joinForm()),
      h('div', { class: 'hero-steps', 'aria-hidden': 'true' }, [2, 1, 3].map((place) => h('span', { class: 'step', 'data-place': place }, h('span', { class: 'step-block' }, String(place)))))),
      h('section', { 'aria-labelledby': 'quizzes' }, h('h2', { id: 'quizzes' }, 'Quizzes'), list, more),
      publishSection(signal)));

  let cursor = null;
  let pages = 1;
  more.addEventListener('click', () => { pages += 1; refresh(); });
  refresh();
  const timer = setInterval(() => document.visibilityState === 'visible' && refresh(), REFRESH_MS);
  signal.addEventListener('abort', () => clearInterval(timer));

  async function refresh() {
    try {
      const quizzes = [];
      cursor = null;
      for (let page = 0; page < pages; page += 1) {
        const query = `?limit=${PAGE_SIZE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
        const { data } = await call('GET', `/quizzes${query}`, { token: hostToken.get(), signal });
        quizzes.push(...data.quizzes);
        cursor = data.next_cursor;
        if (!cursor) break;
      }
      if (signal.aborted) return;
      more.hidden = !cursor;
      show(quizzes);
    } catch (problem) {
      if (signal.aborted) return;
      if (problem.status === 401 && hostToken.get()) {
        hostToken.forget(); // A stale token must not hide the list that everybody may see.
        return refresh();
      }
      notice(problem);
      if (list.getAttribute('aria-busy')) fill(list, h('li', { class: 'empty' }, 'The list cannot be shown right now.'));
    }
  }

  function show(quizzes) {
    list.removeAttribute('aria-busy');
    const print = JSON.stringify(quizzes);
    if (list.dataset.print === print) return; // Unchanged: keep focus and reading position.
    list.dataset.print = print;
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    fill(list, quizzes.length ? quizzes.map(card) : h('li', { class: 'empty' },
      h('strong', {}, 'No quiz yet.'), ' Start one below: the sample is ready to play.'));
    if (focused) [...list.querySelectorAll('a')].find((link) => link.getAttribute('href') === focused)?.focus();
  }
}

function card(quiz) {
  const base = `#/q/${encodeURIComponent(quiz.quiz)}`;
  return h('li', { class: 'card', 'data-quiz': quiz.quiz },
    h('div', { class: 'card-head' }, phaseChip(quiz.phase), h('code', { class: 'card-id' }, quiz.quiz)),
    h('h3', {}, h('a', { class: 'card-link', href: base }, h('bdi', {}, quiz.title))),
    h('p', { class: 'card-facts' }, [
      quiz.questions_total !== undefined && count(quiz.questions_total, 'question'),
      quiz.participants !== undefined && count(quiz.participants, 'player'),
    ].filter(Boolean).join(' \u00b7 ')),
    h('p', { class: 'card-actions' },
      h('a', { href: `${base}/board`, 'aria-label': `Big screen of ${quiz.title}` }, 'Big screen'),
      h('a', { href: `${base}/host`, 'aria-label': `Host ${quiz.title}` }, 'Host')));
}

function joinForm() {
  const input = h('input', { id: 'join-id', 'data-testid': 'join-id', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', placeholder: 'quiz id', required: true, maxlength: 64 });
  return h('form', { class: 'join-id', onsubmit(event) {
    event.preventDefault();
    const id = input.value.trim();
    if (id) location.hash = `#/q/${encodeURIComponent(id)}`;
  } },
  h('label', { for: 'join-id', class: 'quiet' }, 'Quiz id'), input,
  h('button', { type: 'submit', class: 'primary', 'data-testid': 'join-id-submit' }, 'Join'));
}

function publishSection(signal) {
  const id = h('input', { id: 'publish-id', 'data-testid': 'publish-id', required: true, maxlength: 64, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false',
    pattern: '[A-Za-z0-9][A-Za-z0-9._\\-]*', placeholder: 'friday-quiz', 'aria-describedby': 'publish-id-hint' });
  const definition = h('textarea', { id: 'publish-definition', 'data-testid': 'publish-definition', required: true, rows: 14, spellcheck: 'false', autocomplete: 'off', wrap: 'off',
    placeholder: '{"title": "\u2026", "questions": [\u2026]}' });
  const file = h('input', { type: 'file', id: 'publish-file', accept: '.json,application/json', class: 'quiet', async onchange() {
    if (file.files[0]) definition.value = await file.files[0].text();
    file.value = '';
  } });
  const credentials = h('div', {});
  const submit = h('button', { type: 'submit', class: 'primary', 'data-testid': 'publish-submit' }, 'Publish');
  let field = null;
  ask();

  return h('section', { class: 'publish', 'aria-labelledby': 'publish-title' },
    h('h2', { id: 'publish-title' }, 'Start a quiz'),
    h('form', { class: 'panel', onsubmit: publish },
      h('div', { class: 'publish-top' },
        h('div', { class: 'field' }, h('label', { for: 'publish-id' }, 'Quiz id'), id,
          h('p', { class: 'hint', id: 'publish-id-hint' }, 'Players type it to join: letters, digits, - _ and .')),
        h('div', { class: 'publish-fill' },
          h('button', { type: 'button', class: 'secondary', 'data-testid': 'sample', onclick: useSample }, 'Use the sample'),
          h('label', { class: 'secondary button', for: 'publish-file' }, 'Load a file', file))),
      h('div', { class: 'field' }, h('label', { for: 'publish-definition' }, 'Definition (JSON)'), definition),
      credentials,
      h('div', { class: 'answer-row' }, h('p', { class: 'hint' }, 'A quiz that was published before gets its next version.'), submit)));

  function ask() {
    field = hostToken.get() ? null : tokenField();
    fill(credentials, field ? field.element : tokenKept(ask));
  }

  function useSample() {
    definition.value = sampleText();
    if (!id.value) id.value = `sample-${100 + Math.floor(Math.random() * 900)}`;
    definition.focus();
    definition.setSelectionRange(0, 0);
    definition.scrollTop = 0;
  }

  async function publish(event) {
    event.preventDefault();
    notice(null);
    const name = id.value.trim();
    const token = field?.read() || hostToken.get();
    try {
      JSON.parse(definition.value);
    } catch (error) {
      definition.focus();
      return notice({ title: 'The definition is not JSON', detail: error.message, code: 'malformed' });
    }
    submit.disabled = true;
    try {
      // The text goes out as written: parsing and printing again could change a number.
      await persist(() => call('PUT', `/quizzes/${encodeURIComponent(name)}`, { token, body: definition.value, signal }), { signal, attemptsMax: 4 });
      hostToken.set(token);
      location.hash = `#/q/${encodeURIComponent(name)}/host`;
    } catch (problem) {
      if (signal.aborted) return;
      if (problem.status === 401 || problem.status === 403) {
        hostToken.forget();
        ask();
        field.input.focus();
      }
      notice(problem);
    } finally {
      submit.disabled = false;
    }
  }
}
