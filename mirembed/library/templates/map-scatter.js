// The points: drawn pixel by pixel, which takes milliseconds for 100 000 of them and needs no graphics card.

const SHAPES = {
  circle: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.88,
  triangle: (x, y) => y <= 0.72 && y >= 1.85 * Math.abs(x) - 1.22,
  diamond: (x, y) => Math.abs(x) + Math.abs(y) <= 1.22,
  plus: (x, y) => Math.min(Math.abs(x), Math.abs(y)) <= 0.4 && Math.max(Math.abs(x), Math.abs(y)) <= 1.12,
  ring: (x, y) => { const r = x * x + y * y; return r <= 1 && r >= 0.36; },
};
const SAMPLES = 4;
const MOST_PIXELS_PER_POINT = 2;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// How much of each pixel a shape covers, from 0 to 256, in a square of 2 reach + 1 pixels.
function coverage(shape, radius, reach) {
  const size = 2 * reach + 1;
  const covered = new Uint16Array(size * size);
  for (let i = 0; i < covered.length; i++) {
    let inside = 0;
    for (let j = 0; j < SAMPLES * SAMPLES; j++) {
      const x = (i % size) - reach + ((j % SAMPLES) + 0.5) / SAMPLES - 0.5;
      const y = Math.floor(i / size) - reach + (Math.floor(j / SAMPLES) + 0.5) / SAMPLES - 0.5;
      inside += SHAPES[shape](x / radius, y / radius);
    }
    covered[i] = 256 * inside / (SAMPLES * SAMPLES);
  }
  return covered;
}

// "#rrggbb" as a pixel: 0xffbbggrr.
const pixel = (color) => {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
};

class Scatter {
  // `looks` has a look for each code in `lookOf`: a color, a shape and an opacity. `drawn` has the rows in their order.
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.looks = [];
    this.lookOf = new Uint8Array(n);
    this.drawn = new Uint32Array(0);
    this.view = { x: 0.5, y: 0.5, scale: 1 };
    this.#normalize();
    this.#sortIntoCells();
  }

  // Put all points into the unit square, in its middle, with y pointing down.
  #normalize() {
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < 2 * n; i += 2) {
      const x = positions[i], y = -positions[i + 1];
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      if (y > bottom) bottom = y;
    }
    this.extent = Math.max(right - left, bottom - top) || 1;
    this.width = (right - left) / this.extent;
    this.height = (bottom - top) / this.extent;
    this.x = new Float32Array(n);
    this.y = new Float32Array(n);
    for (let row = 0; row < n; row++) {
      this.x[row] = 0.5 + (positions[2 * row] - (left + right) / 2) / this.extent;
      this.y[row] = 0.5 + (-positions[2 * row + 1] - (top + bottom) / 2) / this.extent;
    }
  }

  #cellOf(x, y) {
    const last = this.cells - 1;
    return clamp(Math.floor(y * this.cells), 0, last) * this.cells + clamp(Math.floor(x * this.cells), 0, last);
  }

  #sortIntoCells() {
    this.cells = clamp(Math.round(Math.sqrt(n / 4)), 1, 400);
    this.cellStarts = new Uint32Array(this.cells * this.cells + 1);
    const cell = new Uint32Array(n);
    for (let row = 0; row < n; row++) {
      cell[row] = this.#cellOf(this.x[row], this.y[row]);
      this.cellStarts[cell[row] + 1]++;
    }
    for (let i = 0; i < this.cells * this.cells; i++) this.cellStarts[i + 1] += this.cellStarts[i];
    const next = this.cellStarts.slice();
    this.inCells = new Uint32Array(n);
    for (let row = 0; row < n; row++) this.inCells[next[cell[row]]++] = row;
  }

  // Sizes are in CSS pixels; `insets` is the room at each edge that the whole map leaves free.
  resize(width, height, insets) {
    this.ratio = Math.min(MOST_PIXELS_PER_POINT, devicePixelRatio || 1);
    this.shownWidth = width;
    this.shownHeight = height;
    this.canvas.width = Math.max(1, Math.round(width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(height * this.ratio));
    this.insets = insets;
    this.image = null;
  }

  get fitted() {
    const { left, right, top, bottom } = this.insets;
    const scale = Math.max(1, Math.min(
      (this.shownWidth - left - right) / Math.max(this.width, 0.2),
      (this.shownHeight - top - bottom) / Math.max(this.height, 0.2),
    ));
    return { x: 0.5 + (right - left) / 2 / scale, y: 0.5 + (bottom - top) / 2 / scale, scale };
  }

  get isFitted() {
    const whole = this.fitted;
    return ["x", "y", "scale"].every((key) => Math.abs(this.view[key] - whole[key]) < 1e-9);
  }

  toScreen(row, view = this.view) {
    return [
      (this.x[row] - view.x) * view.scale + this.shownWidth / 2,
      (this.y[row] - view.y) * view.scale + this.shownHeight / 2,
    ];
  }

  toMap(x, y, view = this.view) {
    return [view.x + (x - this.shownWidth / 2) / view.scale, view.y + (y - this.shownHeight / 2) / view.scale];
  }

  // In CSS pixels: points of a large map are small, and grow as one zooms in.
  get radius() {
    const zoom = this.view.scale / this.fitted.scale;
    const least = clamp(11 / Math.pow(n, 0.19), 1.25, 4.6);
    return clamp(least * Math.pow(Math.max(zoom, 0.5), 0.42), 1.1, 7);
  }

  draw(paper) {
    const { ratio, view } = this;
    const { width, height } = this.canvas;
    const radius = this.radius * ratio;
    const outline = radius >= 2.4 ? Math.max(1, 0.16 * radius) : 0;
    const reach = Math.ceil(1.25 * radius + outline);
    const stride = width + 2 * reach;
    if (!this.image || this.image.width !== stride || this.image.height !== height + 2 * reach) {
      this.image = this.context.createImageData(stride, height + 2 * reach);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(pixel(paper));
    const stamps = this.looks.map((look) => this.#stamps(look, radius, outline, reach, stride, paper));
    const dx = (0.5 * this.shownWidth - view.x * view.scale) * ratio + reach;
    const dy = (0.5 * this.shownHeight - view.y * view.scale) * ratio + reach;
    const scale = view.scale * ratio, right = stride - reach, bottom = height + reach;
    for (const row of this.drawn) {
      const x = Math.round(this.x[row] * scale + dx), y = Math.round(this.y[row] * scale + dy);
      if (x < reach || y < reach || x >= right || y >= bottom) continue;
      for (const stamp of stamps[this.lookOf[row]]) this.#blend(stamp, y * stride + x);
    }
    this.context.putImageData(this.image, -reach, -reach);
  }

  // A stamp lists, from the middle of a point, its pixels and how opaque they are.
  #stamps({ color, shape, opacity }, radius, outline, reach, stride, paper) {
    const stamp = (size, ink, opaque) => {
      const covered = coverage(shape, size, reach);
      const offsets = [], alphas = [];
      covered.forEach((value, i) => {
        const alpha = Math.round(value * opaque);
        if (!alpha) return;
        offsets.push((Math.floor(i / (2 * reach + 1)) - reach) * stride + (i % (2 * reach + 1)) - reach);
        alphas.push(alpha);
      });
      const value = pixel(ink);
      return {
        offsets: Int32Array.from(offsets), alphas: Uint16Array.from(alphas),
        redBlue: value & 0xff00ff, green: value & 0x00ff00,
      };
    };
    const fill = stamp(radius, color, opacity);
    return outline && opacity > 0.3 && shape !== "ring" ? [stamp(radius + outline, paper, 0.75), fill] : [fill];
  }

  // Mix the color of a stamp into the pixels, red and blue together: each product needs 8 bits above its own.
  #blend({ offsets, alphas, redBlue, green }, middle) {
    const pixels = this.pixels;
    for (let i = 0; i < offsets.length; i++) {
      const at = middle + offsets[i], alpha = alphas[i], below = pixels[at];
      const rb = below & 0xff00ff, g = below & 0x00ff00;
      pixels[at] = 0xff000000
        | ((rb + (Math.imul(redBlue - rb, alpha) >>> 8)) & 0xff00ff)
        | ((g + (Math.imul(green - g, alpha) >> 8)) & 0x00ff00);
    }
  }

  // The nearest point within some CSS pixels for which `allowed` is true; -1 if there is none.
  nearest(x, y, pixels, allowed) {
    const [mapX, mapY] = this.toMap(x, y);
    const reach = pixels / this.view.scale;
    let best = -1, least = reach * reach;
    this.#forCells(mapX - reach, mapY - reach, mapX + reach, mapY + reach, (row) => {
      const distance = (this.x[row] - mapX) ** 2 + (this.y[row] - mapY) ** 2;
      if (distance <= least && allowed(row)) { least = distance; best = row; }
    });
    return best;
  }

  // The rows inside a polygon in CSS pixels: [[x, y], ...].
  inside(polygon, allowed) {
    const corners = polygon.map(([x, y]) => this.toMap(x, y));
    const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
    const found = [];
    this.#forCells(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (row) => {
      const x = this.x[row], y = this.y[row];
      let within = false;
      for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
        if ((ys[i] > y) !== (ys[j] > y) && x < (xs[j] - xs[i]) * (y - ys[i]) / (ys[j] - ys[i]) + xs[i]) within = !within;
      }
      if (within && allowed(row)) found.push(row);
    });
    return found.sort((a, b) => a - b);
  }

  #forCells(left, top, right, bottom, visit) {
    const bound = (value) => clamp(Math.floor(value * this.cells), 0, this.cells - 1);
    for (let y = bound(top); y <= bound(bottom); y++) {
      const from = this.cellStarts[y * this.cells + bound(left)];
      const to = this.cellStarts[y * this.cells + bound(right) + 1];
      for (let i = from; i < to; i++) visit(this.inCells[i]);
    }
  }
}
