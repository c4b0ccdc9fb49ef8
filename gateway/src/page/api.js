// Talking to the gateway: one request, retries that are safe, what the browser remembers.

/** An answer that is no success, or no answer at all (status 0). */
export class Problem extends Error {
  constructor(status, body = {}, retryAfterMs = null) {
    super(body.title ?? `status ${status}`);
    this.status = status;
    this.code = body.code ?? (status === 0 ? 'unreachable' : `http_${status}`);
    this.title = body.title ?? (status === 0 ? 'The server cannot be reached' : `The server answered ${status}`);
    this.detail = body.detail ?? (status === 0 ? 'Check the connection; this page goes on trying.' : null);
    this.pointer = body.pointer ?? null;
    this.problems = body.problems ?? body.errors ?? null;
    this.retryAfterMs = retryAfterMs;
  }

  /** Tells whether the same request may succeed later. */
  get passing() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

/** How long one request may take: longer than the server's own five seconds for a command, short of losing patience. */
const REQUEST_MS = 15_000;

/** Sends one request; returns `{status, data, headers}`. Throws a `Problem` for everything but success. */
export async function call(method, path, { token, body, headers = {}, signal } = {}) {
  const timer = new AbortController();
  const stop = () => timer.abort();
  const timeout = setTimeout(stop, REQUEST_MS);
  signal?.addEventListener('abort', stop);
  try {
    const response = await fetch(`/v1${path}`, {
      method,
      headers: {
        Accept: 'application/json',
        ...(token && { Authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      cache: 'no-store',
      credentials: 'omit',
      signal: timer.signal,
    });
    if (!response.ok) throw await problemOf(response);
    const text = await response.text();
    return { status: response.status, data: text ? JSON.parse(text) : null, headers: response.headers };
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(0);
  } finally {
    clearTimeout(timeout);
    signal?.removeEventListener('abort', stop);
  }
}

/** Returns what an unsuccessful response says. */
export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body ?? {}, retryAfter(response.headers.get('Retry-After')));
}

function retryAfter(value) {
  if (!value) return null;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 60_000) : null;
}

/** Returns how long to wait before attempt `attempt` (from 1): at least what the server asked for, and spread out, so
 *  that a thousand phones do not come back in the same instant. */
export function backoff(attempt, problem) {
  const grown = Math.min(500 * 2 ** (attempt - 1), 8_000);
  return (problem?.retryAfterMs ?? 0) + grown * (0.5 + Math.random() / 2);
}

/** Waits; ends at once, without an error, when the signal fires. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done);
  });
}

/** Repeats `send` while its problem is a passing one. `send` must be safe to repeat: same ids every time. */
export async function persist(send, { signal, waiting = () => {}, attemptsMax = Infinity } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await send();
    } catch (problem) {
      if (!(problem instanceof Problem) || !problem.passing || attempt >= attemptsMax || signal?.aborted) throw problem;
      const ms = backoff(attempt, problem);
      waiting(ms, attempt, problem);
      await pause(ms, signal);
      if (signal?.aborted) throw problem;
    }
  }
}

/** Returns a random UUID; `crypto.randomUUID` is missing where the page came over plain HTTP from another machine. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** What the browser remembers as JSON. A browser that refuses storage still plays, it only forgets on reload. */
function memory(area) {
  const spare = new Map();
  const open = () => { try { return window[area]; } catch { return null; } };
  return {
    get(key) {
      try { return JSON.parse(open()?.getItem(key) ?? spare.get(key) ?? 'null'); } catch { return null; }
    },
    set(key, value) {
      const text = JSON.stringify(value);
      spare.set(key, text);
      try { open()?.setItem(key, text); } catch { /* full or refused: the spare copy serves until the reload */ }
    },
    remove(key) {
      spare.delete(key);
      try { open()?.removeItem(key); } catch { /* nothing was kept */ }
    },
  };
}

export const kept = memory('localStorage');
const tab = memory('sessionStorage');

/** The host's token stays in this tab only: it rules every quiz of this server. */
export const hostToken = {
  get: () => tab.get('podium.host'),
  set: (token) => tab.set('podium.host', token),
  forget: () => tab.remove('podium.host'),
};

/** Who this browser plays as, per quiz: `{participant, token, name}`. */
export const identity = {
  get: (quiz) => kept.get(`podium.player.${quiz}`),
  set: (quiz, value) => kept.set(`podium.player.${quiz}`, value),
  forget: (quiz) => {
    kept.remove(`podium.player.${quiz}`);
    kept.remove(`podium.answers.${quiz}`);
  },
};
