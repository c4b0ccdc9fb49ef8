// The field in which a host pastes a token, shared by publishing and the host's view.

import { hostToken } from './api.js';
import { h } from './dom.js';

/** Returns a label with the field for the host's token. It reads like a password: hosts share their screens. */
export function tokenField() {
  const input = h('input', { type: 'password', id: 'host-token', 'data-testid': 'host-token', autocomplete: 'off', spellcheck: 'false',
    required: true, placeholder: 'eyJ\u2026', 'aria-describedby': 'host-token-hint' });
  const element = h('div', { class: 'field' },
    h('label', { for: 'host-token' }, 'Host token'),
    input,
    h('p', { class: 'hint', id: 'host-token-hint' }, 'Paste what ', h('code', {}, 'podium token --role host'),
      ' prints. It stays in this tab only.'));
  return { element, input, read: () => input.value.trim() };
}

/** Returns a line that says a token is there, with a way to forget it. */
export function tokenKept(forgotten, tag = 'p') {
  return h(tag, { class: 'hint token-kept' }, 'You are the host in this tab. ',
    h('button', { type: 'button', class: 'link', onclick: () => { hostToken.forget(); forgotten(); } }, 'Forget the token'));
}
