// A question as people see it: the text, the answer controls by kind, the countdown.

import { announce, h, points, say, stillness } from './dom.js';

/** Kinds that this page can take an answer for. */
const CONTROLS = { single_choice: single, multiple_choice: multiple, numeric, short_text: text };
/** The last seconds, in which the countdown changes its colour. */
const URGENT_MS = 5_000;
const ANSWER_CHARS_MAX = 1_000;

/** Returns the heading of a question: which of how many, worth what, and the text. */
export function heading(question, total, { nth = question.index } = {}) {
  return h('div', { class: 'ask' },
    h('p', { class: 'ask-meta' },
      h('span', {}, Number.isInteger(nth) ? `Question ${nth + 1} of ${total}` : 'Question'),
      h('span', {}, `${points(question.points)} points`)),
    h('h1', { class: 'ask-text', tabindex: '-1', 'data-testid': 'question-text', 'data-question': question.id, 'data-length': lengthOf(question.text) }, question.text));
}

/** A question of 4,000 characters is legal; the longer, the smaller it is set. */
function lengthOf(text) {
  return text.length > 260 ? 'essay' : text.length > 110 ? 'long' : 'short';
}

/** Returns `{element, hint, lock, unlock}`: the answer controls. `answer(payload)` is called with the API's answer form. */
export function controls(question, answer) {
  const build = CONTROLS[question.kind];
  if (build) return build(question, answer);
  const element = h('p', { class: 'plain', 'data-testid': 'unknown-kind' },
    `This page cannot take answers of the kind \u201c${question.kind}\u201d yet. Another client of the quiz may.`);
  return { element, lock() {}, unlock() {} };
}

/** Returns the choices to look at, for the big screen. */
export function choices(question) {
  if (!question.choices?.length) return null;
  return h('ol', { class: 'choices', role: 'list', 'data-count': question.choices.length },
    question.choices.map((choice, nth) => h('li', { class: `choice hue-${nth % 6}`, 'data-testid': `choice-${choice.id}` }, badge(nth), h('bdi', { class: 'choice-text' }, choice.text))));
}

function grid(items) {
  return items.length > 4 ? 'choices many' : 'choices';
}

function badge(nth) {
  return h('span', { class: 'badge', 'aria-hidden': 'true' }, nth < 26 ? String.fromCharCode(65 + nth) : String(nth + 1));
}

function single(question, answer) {
  const buttons = question.choices.map((choice, nth) => h('button', {
    type: 'button', class: `choice hue-${nth % 6}`, 'data-testid': `choice-${choice.id}`, 'data-choice': choice.id,
    'aria-pressed': 'false', 'aria-keyshortcuts': nth < 9 ? String(nth + 1) : null,
    onclick: () => answer({ choice: choice.id }),
  }, badge(nth), h('bdi', { class: 'choice-text' }, choice.text)));
  const element = h('div', { class: grid(buttons), role: 'group', 'aria-label': 'Choose one answer', 'data-count': buttons.length }, buttons);
  return {
    element,
    hint: 'Choose one answer.',
    lock(payload) {
      for (const button of buttons) {
        button.setAttribute('aria-pressed', String(button.dataset.choice === payload?.choice));
        button.disabled = true;
      }
    },
    unlock: () => buttons.forEach((button) => { button.disabled = false; button.setAttribute('aria-pressed', 'false'); }),
    press: (nth) => buttons[nth]?.click(),
  };
}

function multiple(question, answer) {
  const boxes = question.choices.map((choice) => h('input', { type: 'checkbox', class: 'choice-box', name: 'choice', value: choice.id }));
  const send = h('button', { type: 'submit', class: 'primary', 'data-testid': 'answer-submit' }, 'Send answer');
  const hint = h('p', { class: 'hint' });
  const element = h('form', { class: 'answer', onsubmit: submit },
    h('fieldset', { class: grid(boxes), 'data-count': boxes.length },
      h('legend', { class: 'quiet' }, 'Choose all that apply'),
      question.choices.map((choice, nth) => h('label', { class: `choice hue-${nth % 6}`, 'data-testid': `choice-${choice.id}` },
        boxes[nth], badge(nth), h('bdi', { class: 'choice-text' }, choice.text), h('span', { class: 'tick', 'aria-hidden': 'true' })))),
    h('div', { class: 'answer-row afloat' }, hint, send));
  function submit(event) {
    event.preventDefault();
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    if (!chosen.length) return refuse(hint, 'Choose at least one.');
    answer({ choices: chosen });
  }
  return {
    element,
    hint: 'Choose all that apply.',
    lock(payload) {
      if (payload?.choices) boxes.forEach((box) => { box.checked = payload.choices.includes(box.value); });
      [...boxes, send].forEach((control) => { control.disabled = true; });
    },
    unlock: () => [...boxes, send].forEach((control) => { control.disabled = false; }),
    press(nth) {
      if (boxes[nth] && !boxes[nth].disabled) boxes[nth].checked = !boxes[nth].checked;
    },
  };
}

function numeric(question, answer) {
  const input = h('input', { type: 'text', inputmode: 'decimal', class: 'big-input', autocomplete: 'off', enterkeyhint: 'send',
    id: 'answer-input', 'data-testid': 'numeric-input', 'aria-describedby': 'answer-hint' });
  // The decimal keypad of phones has no minus sign.
  const sign = h('button', { type: 'button', class: 'sign', 'aria-label': 'Change the sign', onclick: () => {
    input.value = input.value.startsWith('-') ? input.value.slice(1) : `-${input.value}`;
    input.focus();
  } }, '\u00b1');
  return written({ input, beside: sign, label: 'Your number', hint: 'A number, with a point for decimals.', answer, read(value) {
    const plain = value.replace(/[\s_\u2019']/g, '').replace(/^\u2212/, '-').replace(/^([-+]?\d*),(\d+)$/, '$1.$2').replace(/^\+/, '');
    return /^-?(\d+\.?\d*|\.\d+)$/.test(plain) ? { value: plain.replace(/^(-?)\./, '$10.').replace(/\.$/, '') } : null;
  }, shown: (payload) => payload?.value });
}

function text(question, answer) {
  const input = h('input', { type: 'text', class: 'big-input', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', dir: 'auto',
    enterkeyhint: 'send', maxlength: ANSWER_CHARS_MAX, id: 'answer-input', 'data-testid': 'text-input', 'aria-describedby': 'answer-hint' });
  return written({ input, label: 'Your answer', hint: 'Extra spaces do not matter.', answer,
    read: (value) => (value.trim() ? { text: value.trim() } : null), shown: (payload) => payload?.text });
}

function written({ input, beside = null, label, hint: words, answer, read, shown }) {
  const hint = h('p', { class: 'hint', id: 'answer-hint' });
  const send = h('button', { type: 'submit', class: 'primary', 'data-testid': 'answer-submit' }, 'Send answer');
  const element = h('form', { class: 'answer', novalidate: true, onsubmit(event) {
    event.preventDefault();
    const payload = read(input.value.trim());
    if (!payload) {
      input.focus();
      return refuse(hint, input.value.trim() ? 'That is not a number.' : 'Write an answer first.');
    }
    answer(payload);
  } },
  h('label', { for: 'answer-input', class: 'label' }, label),
  h('div', { class: 'input-row' }, beside, input),
  h('div', { class: 'answer-row' }, hint, send));
  const all = [input, send, beside].filter(Boolean);
  return {
    element,
    hint: words,
    lock(payload) {
      input.value = shown(payload) ?? input.value;
      all.forEach((control) => { control.disabled = true; });
    },
    unlock: () => all.forEach((control) => { control.disabled = false; }),
  };
}

function refuse(hint, words) {
  say(hint, words);
  hint.classList.add('wrong');
  announce(words);
}

/** Returns `{element, set, stop}`: a bar and the seconds left. `ended` is called once when they run out. */
export function countdown(clock, ended = () => {}) {
  const bar = h('span', { class: 'countdown-bar' });
  const number = h('span', { class: 'countdown-number' });
  const element = h('div', { class: 'countdown', role: 'timer', 'aria-label': 'Time left', hidden: true },
    h('span', { class: 'countdown-track', 'aria-hidden': 'true' }, bar), number);
  let window = null;
  let timer = 0;
  let spoken = new Set();
  const stop = () => clearInterval(timer);
  return {
    element,
    stop,
    set(question) {
      stop();
      element.hidden = !question;
      if (!question) return;
      if (!question.closes_at) {
        element.classList.add('endless');
        return say(number, 'Open until the host closes it');
      }
      element.classList.remove('endless');
      const next = { id: question.id, opens: Date.parse(question.opened_at), closes: Date.parse(question.closes_at) };
      if (window?.id !== next.id) spoken = new Set();
      window = next;
      tick();
      // Without motion the bar steps with the seconds; otherwise it flows between ticks by its transition.
      timer = setInterval(tick, stillness() ? 500 : 200);
    },
  };

  function tick() {
    const left = Math.max(0, window.closes - clock.now());
    const seconds = Math.ceil(left / 1_000);
    bar.style.transform = `scaleX(${Math.min(1, left / Math.max(1, window.closes - window.opens))})`;
    element.classList.toggle('urgent', left <= URGENT_MS);
    say(number, seconds >= 120 ? `${Math.ceil(seconds / 60)} min` : String(seconds));
    if ([10, 5].includes(seconds) && !spoken.has(seconds)) {
      spoken.add(seconds);
      announce(`${seconds} seconds left`);
    }
    if (left === 0) {
      stop();
      ended();
    }
  }
}
