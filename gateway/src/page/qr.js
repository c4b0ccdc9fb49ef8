// Draws an address as a QR code (ISO/IEC 18004, byte mode, error correction M, versions 1 to 10), for phones in the hall.

/** Per version from 1: check bytes of a block, number of blocks, bytes in all, centres of the alignment patterns. */
const VERSIONS = [
  [10, 1, 26, []], [16, 1, 44, [6, 18]], [26, 1, 70, [6, 22]], [18, 2, 100, [6, 26]], [24, 2, 134, [6, 30]],
  [16, 4, 172, [6, 34]], [18, 4, 196, [6, 22, 38]], [22, 4, 242, [6, 24, 42]], [22, 5, 292, [6, 26, 46]], [26, 5, 346, [6, 28, 50]],
];
/** Light modules that readers need around the code. */
const QUIET = 4;

const MASKS = [
  (x, y) => (x + y) % 2 === 0, (x, y) => y % 2 === 0, (x) => x % 3 === 0, (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0, (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** Returns an SVG of the code, or null when the text is too long (over 213 bytes). */
export function qr(text, label) {
  const rows = matrix(text);
  if (!rows) return null;
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const side = rows.length + 2 * QUIET;
  svg.setAttribute('viewBox', `0 0 ${side} ${side}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  svg.setAttribute('class', 'qr');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : ''))).join(''));
  svg.append(path);
  return svg;
}

/** Returns the modules, rows of booleans, or null when the text does not fit. */
export function matrix(text) {
  const bytes = new TextEncoder().encode(text);
  const version = 1 + VERSIONS.findIndex(([check, blocks, total], nth) => bytes.length + (nth < 9 ? 2 : 3) <= total - check * blocks);
  if (version === 0) return null;
  const stream = interleave(pack(bytes, version), version);
  const codes = MASKS.map((_, mask) => place(stream, version, mask));
  return codes.reduce((best, code) => (penalty(code) < penalty(best) ? code : best));
}

/** Returns the data bytes: mode, length, text, end, padding. */
function pack(bytes, version) {
  const [check, blocks, total] = VERSIONS[version - 1];
  const room = total - check * blocks;
  const bits = [];
  const put = (value, width) => { for (let i = width - 1; i >= 0; i -= 1) bits.push((value >> i) & 1); };
  put(4, 4);
  put(bytes.length, version < 10 ? 8 : 16);
  bytes.forEach((byte) => put(byte, 8));
  put(0, Math.min(4, room * 8 - bits.length));
  while (bits.length % 8) bits.push(0);
  const data = [];
  for (let i = 0; i < bits.length; i += 8) data.push(bits.slice(i, i + 8).reduce((byte, bit) => byte * 2 + bit, 0));
  for (let pad = 0xec; data.length < room; pad ^= 0xec ^ 0x11) data.push(pad);
  return data;
}

/** Returns the bytes in the order of drawing: blocks dealt out byte by byte, data first, then check bytes. */
function interleave(data, version) {
  const [check, blocks] = VERSIONS[version - 1];
  const short = Math.floor(data.length / blocks);
  const longs = data.length % blocks;
  const parts = [];
  for (let at = 0, nth = 0; nth < blocks; nth += 1) {
    const size = short + (nth >= blocks - longs ? 1 : 0);
    parts.push(data.slice(at, at + size));
    at += size;
  }
  const divisor = generator(check);
  const checks = parts.map((part) => remainder(part, divisor));
  const out = [];
  for (let i = 0; i <= short; i += 1) parts.forEach((part) => i < part.length && out.push(part[i]));
  for (let i = 0; i < check; i += 1) checks.forEach((part) => out.push(part[i]));
  return out;
}

/** Returns the product in GF(256) with the polynomial 0x11d. */
function times(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> i) & 1) * a;
  }
  return product;
}

function generator(degree) {
  const poly = [...new Array(degree - 1).fill(0), 1];
  for (let i = 0, root = 1; i < degree; i += 1, root = times(root, 2)) {
    for (let j = 0; j < degree; j += 1) poly[j] = times(poly[j], root) ^ (poly[j + 1] ?? 0);
  }
  return poly;
}

function remainder(data, divisor) {
  const rest = divisor.map(() => 0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    divisor.forEach((term, i) => { rest[i] ^= times(term, factor); });
  }
  return rest;
}

/** Returns the modules with one mask. */
function place(stream, version, mask) {
  const size = 17 + 4 * version;
  const code = Array.from({ length: size }, () => new Array(size).fill(false));
  const fixed = Array.from({ length: size }, () => new Array(size).fill(false));
  const set = (x, y, dark) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    code[y][x] = Boolean(dark);
    fixed[y][x] = true;
  };
  patterns(set, size, version);
  format(set, size, mask);
  let bit = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5; // The column of the timing pattern holds no data.
    for (let step = 0; step < size; step += 1) {
      const y = (right + 1) & 2 ? step : size - 1 - step;
      for (const x of [right, right - 1]) {
        if (fixed[y][x]) continue;
        const dark = bit < stream.length * 8 && (stream[bit >> 3] >> (7 - (bit & 7))) & 1;
        bit += 1;
        code[y][x] = Boolean(dark) !== MASKS[mask](x, y);
      }
    }
  }
  return code;
}

function patterns(set, size, version) {
  for (let i = 0; i < size; i += 1) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  const square = (cx, cy, radius, dark) => {
    for (let dy = -radius; dy <= radius; dy += 1) {
      for (let dx = -radius; dx <= radius; dx += 1) set(cx + dx, cy + dy, dark(Math.max(Math.abs(dx), Math.abs(dy))));
    }
  };
  for (const [cx, cy] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(cx, cy, 4, (ring) => ring !== 2 && ring !== 4);
  const centres = VERSIONS[version - 1][3];
  const last = centres.length - 1;
  centres.forEach((x, i) => centres.forEach((y, j) => {
    const corner = (i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0);
    if (!corner) square(x, y, 2, (ring) => ring !== 1);
  }));
  if (version < 7) return;
  let rest = version;
  for (let i = 0; i < 12; i += 1) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
  const bits = (version << 12) | rest;
  for (let i = 0; i < 18; i += 1) {
    const [a, b] = [size - 11 + (i % 3), Math.floor(i / 3)];
    set(a, b, (bits >> i) & 1);
    set(b, a, (bits >> i) & 1);
  }
}

/** Writes error correction M (bits 00) and the mask, twice. */
function format(set, size, mask) {
  let rest = mask;
  for (let i = 0; i < 10; i += 1) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
  const bits = ((mask << 10) | rest) ^ 0x5412;
  const bit = (i) => (bits >> i) & 1;
  for (let i = 0; i <= 5; i += 1) set(8, i, bit(i));
  set(8, 7, bit(6));
  set(8, 8, bit(7));
  set(7, 8, bit(8));
  for (let i = 9; i < 15; i += 1) set(14 - i, 8, bit(i));
  for (let i = 0; i < 8; i += 1) set(size - 1 - i, 8, bit(i));
  for (let i = 8; i < 15; i += 1) set(8, size - 15 + i, bit(i));
  set(8, size - 8, true);
}

/** Returns how hard a code is to read: long runs, blocks, look-alikes of the corner squares, imbalance. */
function penalty(code) {
  const size = code.length;
  let score = 0;
  let dark = 0;
  const lines = [...code, ...code.map((_, x) => code.map((row) => row[x]))];
  for (const line of lines) {
    const text = line.map(Number).join('');
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) score += run.length - 2;
    for (let at = 0; at + 11 <= size; at += 1) {
      const piece = text.slice(at, at + 11);
      if (piece === '10111010000' || piece === '00001011101') score += 40;
    }
  }
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      dark += Number(code[y][x]);
      if (x && y && code[y][x] === code[y - 1][x] && code[y][x] === code[y][x - 1] && code[y][x] === code[y - 1][x - 1]) score += 3;
    }
  }
  return score + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}
