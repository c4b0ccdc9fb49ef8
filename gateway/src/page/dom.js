// Small tools for building the page: elements, wording of numbers, announcements, notices.

/** Returns an element. Strings become text nodes, never markup, so nothing that the server says can be a script. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    // A state such as aria-pressed or data-correct is written out; a plain attribute is there or not.
    const state = /^(aria|data)-/.test(name);
    if (value === null || value === undefined || (value === false && !state)) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true && !state ? '' : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Sets a text only when it differs: a live region speaks on every change, even to the same words. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Says something to a screen reader without showing it. */
export function announce(text) {
  say(document.getElementById('announcer'), text);
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

/** Returns points, a decimal string, as people read them; two decimals are enough to look at. */
export function points(decimal) {
  const value = Number(decimal);
  return Number.isFinite(value) ? whole.format(value).replace('-', '\u2212') : String(decimal);
}

/** Returns points as a gain: "+967". */
export function gain(decimal) {
  return Number(decimal) > 0 ? `+${points(decimal)}` : points(decimal);
}

/** Returns "1 player", "2 players". */
export function count(number, one, many = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

const plural = new Intl.PluralRules('en', { type: 'ordinal' });
const endings = { one: 'st', two: 'nd', few: 'rd', other: 'th' };

/** Returns "1st", "22nd". */
export function ordinal(number) {
  return `${whole.format(number)}${endings[plural.select(number)]}`;
}

/** Tells whether the reader asked for less motion; asked each time, because the setting can change meanwhile. */
export function stillness() {
  return matchMedia('(prefers-reduced-motion: reduce)').matches;
}

/** Shows one calm notice at the top of the page, or clears it. Takes a Problem or `{title, detail}`. */
export function notice(problem) {
  const region = document.getElementById('notices');
  if (!problem) return fill(region);
  const close = h('button', { type: 'button', class: 'notice-close', 'aria-label': 'Dismiss', onclick: () => fill(region) }, '\u00d7');
  fill(region, h('div', { class: 'notice', 'data-testid': 'notice', 'data-code': problem.code },
    h('div', {},
      h('strong', {}, problem.title || 'Something did not work'),
      problem.detail && h('p', {}, problem.detail),
      problem.pointer && h('p', {}, h('code', {}, problem.pointer)),
      problem.problems?.length > 0 && h('ul', {}, problem.problems.slice(0, 8).map((each) =>
        h('li', {}, each.pointer && h('code', {}, each.pointer), ' ', each.detail ?? each.code ?? '')))),
    close));
  region.scrollIntoView({ block: 'nearest', behavior: stillness() ? 'auto' : 'smooth' });
}

/** Shows where a quiz is in its life. */
export function phaseChip(phase, final = false) {
  const words = { draft: 'Lobby', open: 'Live', closed: final ? 'Final' : 'Closed' };
  return h('span', { class: 'chip', 'data-phase': phase }, words[phase] ?? phase);
}
