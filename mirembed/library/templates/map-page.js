// The page: what is colored, chosen, found and selected, and how people move around.

const TOP = about.palette.length;
const RAMP_STEPS = 32;
const OTHER = RAMP_STEPS, UNKNOWN = RAMP_STEPS + 1, DIM = RAMP_STEPS + 2;
const SHAPE_ORDER = ["circle", "square", "triangle", "diamond", "plus"];
const MOST_RESULTS = 60, MOST_SELECTED = 200, MOST_RINGS = 150;
const DOUBLE = 2, STEP = 1.5;

const byId = (id) => document.getElementById(id);
const stage = byId("stage"), marks = byId("marks"), tip = byId("tip"), query = byId("query"), player = byId("player");
const scatter = new Scatter(byId("points"));
const pen = marks.getContext("2d");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const state = {
  column: columnNamed(about.color), isolated: new Set(), hits: null,
  chosen: -1, hovered: -1, selected: [], lassoing: false, outline: null, crosshair: false,
};

// Text from the files is shown as text, and isolated: letters written from right to left must not reorder the rest.
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
const bdi = (text) => element("bdi", { textContent: text });
const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// ---- Colors

let theme;

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  theme = {
    paper: color("--paper"), ink: color("--ink"), accent: color("--accent"), other: color("--other"), dim: color("--dim"),
    palette: about.palette.map((_, i) => color(`--color-${i + 1}`)),
    ramp: [1, 2, 3, 4, 5].map((i) => color(`--ramp-${i}`)),
  };
}

function mixed(colors, share) {
  const at = clamp(share, 0, 1) * (colors.length - 1), i = Math.min(Math.floor(at), colors.length - 2);
  const part = (color, j) => parseInt(color.slice(1 + 2 * j, 3 + 2 * j), 16);
  const channel = (j) => Math.round(part(colors[i], j) + (at - i) * (part(colors[i + 1], j) - part(colors[i], j)));
  return "#" + [0, 1, 2].map((j) => channel(j).toString(16).padStart(2, "0")).join("");
}

// Where there are many points, or one zooms out, they show through each other.
function opacity() {
  const zoom = scatter.view.scale / scatter.fitted.scale;
  return clamp(1.6 - 0.065 * Math.log2(n) + 0.08 * Math.log2(zoom), 0.5, 0.95);
}

function looks() {
  const solid = opacity();
  const gray = [
    { color: theme.other, shape: "circle", opacity: 0.8 * solid },
    { color: theme.other, shape: "ring", opacity: 0.8 * solid },
    { color: theme.dim, shape: "circle", opacity: 0.28 },
  ];
  const colored = state.column.numeric
    ? Array.from({ length: RAMP_STEPS }, (_, i) => ({ color: mixed(theme.ramp, i / (RAMP_STEPS - 1)), shape: "circle" }))
    : theme.palette.map((color, i) => ({ color, shape: SHAPE_ORDER[i % SHAPE_ORDER.length] }));
  while (colored.length < RAMP_STEPS) colored.push(gray[0]);
  return [...colored.map((look) => ({ ...look, opacity: solid })), ...gray];
}

// The ends of the color scale: 1 % of the values may lie beyond each, so that a wrong year does not flatten it.
function rangeOf(column) {
  if (!column.range) {
    const known = column.numbers.filter((value) => !Number.isNaN(value)).sort();
    const at = (share) => known[Math.round(share * (known.length - 1))];
    column.range = known.length ? { low: at(0.01), high: at(0.99), least: at(0), most: at(1), known: known.length } : { known: 0 };
  }
  return column.range;
}

// The look of a row by its column alone: that of its first value that has a color.
function lookOf(column, row) {
  if (column.numeric) {
    const value = column.numbers[row], { low, high } = rangeOf(column);
    if (Number.isNaN(value)) return UNKNOWN;
    return Math.round(clamp((value - low) / (high - low || 1), 0, 1) * (RAMP_STEPS - 1));
  }
  const codes = column.codesOf(row);
  if (!codes.length) return UNKNOWN;
  for (const code of codes) if (code < TOP) return code;
  return OTHER;
}

// Whether a row is emphasized: it is isolated in the legend, if anything is, and found, if something is searched for.
let emphasized = new Uint8Array(n).fill(1);

function isolatedLook(column, row) {
  if (!state.isolated.size) return lookOf(column, row);
  if (!column.numeric) for (const code of column.codesOf(row)) if (code < TOP && state.isolated.has(code)) return code;
  const look = lookOf(column, row);
  const kind = column.numeric && look !== UNKNOWN ? 0 : look;
  return state.isolated.has(kind) ? look : -1;
}

// In an order of their own, so that no class covers another; a fixed one, so that nothing flickers.
const shuffled = Uint32Array.from({ length: n }, (_, i) => i);
for (let i = n - 1, seed = 1; i > 0; i--) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  const j = seed % (i + 1);
  [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
}

// Gives each point its look, and sorts them: faint ones at the bottom, then gray, then colored ones. Few selected points
// get rings; if there are many, the others become faint.
function recolor() {
  const column = state.column;
  const layers = [[], [], []];
  const found = state.hits && new Set(state.hits);
  const selected = state.selected.length > MOST_RINGS && new Set(state.selected);
  for (const row of shuffled) {
    const look = isolatedLook(column, row);
    const shown = look >= 0 && (!found || found.has(row));
    emphasized[row] = shown ? 1 : 0;
    const gray = look === OTHER || look === UNKNOWN;
    const faint = !shown || (selected && !selected.has(row));
    scatter.lookOf[row] = faint ? DIM : look;
    layers[faint ? 0 : gray ? 1 : 2].push(row);
  }
  scatter.drawn = Uint32Array.from(layers.flat());
  redraw();
}

const allowed = (row) => emphasized[row] === 1;

function showLegend() {
  const column = state.column, legend = byId("legend");
  legend.replaceChildren();
  legend.className = column.numeric ? "ramp" : "";
  const counts = new Uint32Array(DIM);
  for (let row = 0; row < n; row++) {
    if (column.numeric) counts[Number.isNaN(column.numbers[row]) ? UNKNOWN : 0]++;
    else {
      const codes = column.codesOf(row);
      for (const code of codes) if (code < TOP) counts[code]++;
      const look = lookOf(column, row);
      if (look >= OTHER) counts[look]++;
    }
  }
  const entry = (kind, swatch, label, text = null) => {
    const button = element("button", { type: "button" }, swatch, label, element("span", { className: "number", textContent: counts[kind].toLocaleString("en") }));
    button.setAttribute("aria-pressed", state.isolated.has(kind));
    if (text !== null) button.title = text;
    button.addEventListener("click", () => {
      if (!state.isolated.delete(kind)) state.isolated.add(kind);
      button.setAttribute("aria-pressed", state.isolated.has(kind));
      byId("show-all").hidden = !state.isolated.size;
      legend.classList.toggle("isolating", state.isolated.size > 0);
      recolor();
    });
    legend.append(element("li", {}, button));
  };
  const swatch = (shape, color) => {
    const made = element("span", { className: `swatch ${shape}` });
    made.style.setProperty("--swatch", color);
    return made;
  };
  const gray = (kind, shape, label) => counts[kind] && entry(kind, swatch(shape, "var(--other)"), element("span", { className: "quiet", textContent: label }));
  if (column.numeric) {
    const { low, high, least, most, known } = rangeOf(column);
    if (known) {
      const ends = element("p", { className: "ends" },
        element("span", { textContent: `${least < low ? "≤ " : ""}${shortNumber(low)}` }),
        element("span", { textContent: `${most > high ? "≥ " : ""}${shortNumber(high)}` }));
      legend.append(element("li", {}, element("div", { className: "gradient" }), ends));
    }
    if (counts[UNKNOWN]) {
      entry(0, element("span", { className: "swatch circle graded" }), element("span", { className: "quiet", textContent: "known" }));
      gray(UNKNOWN, "ring", "unknown");
    }
  } else {
    const top = Math.min(TOP, column.values.length);
    for (let code = 0; code < top; code++) {
      entry(code, swatch(SHAPE_ORDER[code % SHAPE_ORDER.length], `var(--color-${code + 1})`), bdi(column.values[code]), column.values[code]);
    }
    gray(OTHER, "circle", `${counted(column.values.length - top, "other")}`);
    gray(UNKNOWN, "ring", column.several ? "none" : "unknown");
  }
  legend.classList.toggle("isolating", state.isolated.size > 0);
  byId("show-all").hidden = !state.isolated.size;
}

function colorBy(name) {
  state.column = columnNamed(name);
  state.isolated.clear();
  byId("color").value = name;
  showLegend();
  recolor();
}

// ---- Drawing

let scheduled = false;
let afterDrawing = [];

function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    scatter.looks = looks();
    scatter.draw(theme.paper);
    drawMarks();
    for (const then of afterDrawing.splice(0)) then();
  });
}

let marking = false;

function remark() {
  if (marking || scheduled) return;
  marking = true;
  requestAnimationFrame(() => { marking = false; drawMarks(); });
}

function drawMarks() {
  const ratio = scatter.ratio, radius = scatter.radius;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, scatter.shownWidth, scatter.shownHeight);
  const circle = (row, size, width, color) => {
    const [x, y] = scatter.toScreen(row);
    pen.beginPath();
    pen.arc(x, y, size, 0, 2 * Math.PI);
    pen.lineWidth = width;
    pen.strokeStyle = color;
    pen.stroke();
  };
  if (state.selected.length <= MOST_RINGS) {
    for (const row of state.selected) circle(row, radius + 2, 1.5, theme.accent);
  }
  if (state.chosen >= 0) {
    const from = scatter.toScreen(state.chosen);
    for (const [row] of neighborsOf(state.chosen)) {
      pen.beginPath();
      pen.moveTo(...from);
      pen.lineTo(...scatter.toScreen(row));
      pen.lineWidth = 1;
      pen.globalAlpha = 0.55;
      pen.strokeStyle = theme.ink;
      pen.stroke();
      pen.globalAlpha = 1;
      circle(row, radius + 2, 1.25, theme.ink);
    }
    circle(state.chosen, radius + 4.5, 4.5, theme.paper);
    circle(state.chosen, radius + 4.5, 2.5, theme.accent);
  }
  if (state.hovered >= 0) {
    circle(state.hovered, radius + 3, 3.5, theme.paper);
    circle(state.hovered, radius + 3, 1.75, theme.ink);
  }
  if (state.outline?.length) {
    pen.beginPath();
    for (const corner of state.outline) pen.lineTo(...corner);
    pen.closePath();
    pen.globalAlpha = 0.12;
    pen.fillStyle = theme.accent;
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 1.75;
    pen.strokeStyle = theme.accent;
    pen.stroke();
  }
  if (state.crosshair) {
    const [x, y] = [scatter.shownWidth / 2, scatter.shownHeight / 2];
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + 6 * dx, y + 6 * dy);
      pen.lineTo(x + 14 * dx, y + 14 * dy);
    }
    pen.lineWidth = 1.5;
    pen.strokeStyle = theme.accent;
    pen.stroke();
  }
}

// ---- The view

let motion = 0;

function limited(view) {
  const whole = scatter.fitted.scale;
  const [across, down] = [scatter.width, scatter.height].map((size) => Math.max(size, 0.2) / 2);
  return {
    x: clamp(view.x, 0.5 - across, 0.5 + across),
    y: clamp(view.y, 0.5 - down, 0.5 + down),
    scale: clamp(view.scale, 0.6 * whole, whole * Math.max(40, 6 * Math.sqrt(n))),
  };
}

function moveTo(view) {
  cancelAnimationFrame(motion);
  scatter.view = limited(view);
  hover(-1);
  redraw();
}

function glideTo(view) {
  const from = scatter.view, to = limited(view);
  if (calm.matches) return moveTo(to);
  cancelAnimationFrame(motion);
  const began = performance.now();
  const step = (now) => {
    const share = clamp((now - began) / 280, 0, 1), eased = 1 - (1 - share) ** 3;
    const between = (a, b) => a + (b - a) * eased;
    scatter.view = {
      x: between(from.x, to.x), y: between(from.y, to.y),
      scale: Math.exp(between(Math.log(from.scale), Math.log(to.scale))),
    };
    redraw();
    if (share < 1) motion = requestAnimationFrame(step);
  };
  motion = requestAnimationFrame(step);
}

// The view after zooming by a factor around a point of the screen.
function zoomed(factor, x = scatter.shownWidth / 2, y = scatter.shownHeight / 2) {
  const [mapX, mapY] = scatter.toMap(x, y);
  const { scale } = limited({ ...scatter.view, scale: scatter.view.scale * factor });
  return { x: mapX - (x - scatter.shownWidth / 2) / scale, y: mapY - (y - scatter.shownHeight / 2) / scale, scale };
}

const panned = (dx, dy) => ({
  ...scatter.view, x: scatter.view.x - dx / scatter.view.scale, y: scatter.view.y - dy / scatter.view.scale,
});

// Move only as far as needed to see a point away from the edges.
function bringIntoView(row) {
  const [x, y] = scatter.toScreen(row);
  const margin = 40;
  const inside = x > margin && y > margin && x < scatter.shownWidth - margin && y < scatter.shownHeight - margin;
  if (!inside) glideTo({ ...scatter.view, x: scatter.x[row], y: scatter.y[row] });
}

// ---- A track

function hover(row, x, y) {
  if (row < 0) {
    tip.hidden = true;
    if (state.hovered >= 0) { state.hovered = -1; remark(); }
    marks.classList.remove("over");
    return;
  }
  if (row !== state.hovered) {
    state.hovered = row;
    const value = state.column.textsOf(row).join(", ");
    const place = ["artist", "album"].includes(state.column.name) ? "" : value;
    tip.replaceChildren(element("strong", {}, bdi(titleOf(row))));
    for (const line of [artistOf(row), albumOf(row), place && `${state.column.title}: ${place}`]) {
      if (line) tip.append(element("span", {}, bdi(line)));
    }
    tip.hidden = false;
    marks.classList.add("over");
    remark();
  }
  const above = y > tip.offsetHeight + 20;
  tip.style.left = `${clamp(x + 12, 6, scatter.shownWidth - tip.offsetWidth - 6)}px`;
  tip.style.top = `${above ? y - tip.offsetHeight - 12 : y + 18}px`;
}

// A list of tracks as buttons; each may have a number beside it.
function listTracks(list, rows, { numbers = null, most = rows.length } = {}) {
  list.replaceChildren(...rows.slice(0, most).map((row, i) => {
    const names = element("span", { className: "names" }, element("span", { className: "title" }, bdi(titleOf(row))));
    const below = [artistOf(row), albumOf(row)].filter(Boolean).join(" · ") || folderOf(row);
    names.append(element("span", { className: "below" }, bdi(below)));
    const button = element("button", { type: "button" }, names);
    if (numbers) button.append(element("span", { className: "number", textContent: numbers[i].toFixed(3) }));
    button.dataset.row = row;
    return element("li", {}, button);
  }));
  if (rows.length > most) {
    list.append(element("li", { className: "more", textContent: `and ${(rows.length - most).toLocaleString("en")} more` }));
  }
}

function choose(row) {
  state.chosen = row;
  hover(-1);
  byId("track").hidden = row < 0;
  document.body.classList.toggle("has-track", row >= 0);
  if (row < 0) {
    player.pause();
    return remark();
  }
  byId("track-title").replaceChildren(bdi(titleOf(row)));
  const by = [artistOf(row), albumOf(row)].filter(Boolean);
  byId("track-artist").replaceChildren(...by.flatMap((text, i) => (i ? [" · ", bdi(text)] : [bdi(text)])));
  const facts = columns.filter((column) => !["artist", "album"].includes(column.name)).flatMap((column) => {
    const values = column.textsOf(row);
    if (!values.length) return [];
    const value = element("dd", {}, ...values.flatMap((text, i) => (i ? [", ", bdi(text)] : [bdi(text)])));
    return [element("div", {}, element("dt", { textContent: column.title }), value)];
  });
  byId("facts").replaceChildren(...facts);
  byId("track-path").replaceChildren(bdi(pathOf(row)));
  const neighbors = neighborsOf(row);
  byId("neighbors-title").textContent = neighbors.length ? "Most similar" : "";
  byId("select-neighbors").hidden = !neighbors.length;
  listTracks(byId("neighbors"), neighbors.map(([other]) => other), { numbers: neighbors.map(([, value]) => value) });
  byId("sections").scrollTop = 0;
  unfold();
  prepare(row);
  remark();
}

// ---- Playing

const CANNOT_PLAY = "This browser cannot play the file: it may not know the format, or the file may have moved.";
const NOT_FROM_HERE = "Browsers play files from the disk only on a page that is opened from the disk. Save the map and open it as a file.";

function say(note, text) {
  note.textContent = text;
  note.hidden = !text;
}

function prepare(row) {
  const note = byId("player-note");
  say(note, "");
  player.pause();
  const possible = location.protocol === "file:";
  player.hidden = !possible;
  if (!possible) return say(note, NOT_FROM_HERE);
  player.src = urlOf(row);
  if (byId("autoplay").checked) {
    player.play().catch((error) => { if (error.name === "NotSupportedError") say(note, CANNOT_PLAY); });
  }
}

player.addEventListener("error", () => { if (state.chosen >= 0) say(byId("player-note"), CANNOT_PLAY); });

// ---- Searching

function runSearch() {
  performance.mark("map-search-typed");
  const text = query.value.trim();
  byId("found").hidden = !text;
  const { rows, best } = text ? search(text, MOST_RESULTS) : { rows: null, best: [] };
  state.hits = rows;
  if (text) {
    byId("found-count").textContent = rows.length ? `${counted(rows.length, "track")} found` : "Nothing found";
    byId("select-found").hidden = !rows.length;
    listTracks(byId("results"), best);
    if (rows.length > best.length) byId("results").append(element("li", { className: "more", textContent: `and ${(rows.length - best.length).toLocaleString("en")} more: add a word, or select all` }));
    byId("sections").scrollTop = 0;
    unfold();
  }
  recolor();
  afterDrawing.push(() => performance.measure("map-search", "map-search-typed"));
}

// ---- Selecting

function select(rows) {
  state.selected = rows;
  const section = byId("selection");
  section.hidden = !rows.length;
  document.body.classList.toggle("has-selection", rows.length > 0);
  say(byId("selection-note"), "");
  if (rows.length) {
    byId("selection-count").textContent = `${counted(rows.length, "track")} selected`;
    listTracks(byId("selected"), rows, { most: MOST_SELECTED });
    unfold();
    section.scrollIntoView({ block: "nearest" });
  }
  recolor();
}

const inOneLine = (text) => text.replace(/[\p{Cc}\u2028\u2029]+/gu, " ").trim();

// An M3U8 file is UTF-8, with a path on each line: other names cannot be written into it.
const writable = (row) => !(row in about.urls) && !/[\n\r]/.test(pathOf(row));

function playlistOf(rows) {
  const entries = rows.filter(writable).flatMap((row) => {
    const name = [artistOf(row), titleOf(row)].filter(Boolean).join(" - ");
    return [`#EXTINF:${texts.seconds[row] || -1},${inOneLine(name)}`, pathOf(row)];
  });
  return ["#EXTM3U", ...entries, ""].join("\n");
}

function leftOut(rows) {
  const number = rows.length - rows.filter(writable).length;
  return number ? ` Left out: ${counted(number, "file")}; a playlist cannot contain the name.` : "";
}

function savePlaylist() {
  const link = element("a", {
    href: URL.createObjectURL(new Blob([playlistOf(state.selected)], { type: "audio/x-mpegurl" })),
    download: `${about.fileName}.m3u8`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(byId("selection-note"), `Saved ${link.download} to your downloads.${leftOut(state.selected)}`);
}

async function copyPaths() {
  const rows = state.selected.filter(writable), text = rows.map(pathOf).join("\n") + "\n";
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    copied = document.execCommand("copy");
    area.remove();
  }
  const done = copied ? `Copied ${counted(rows.length, "path")}.` : "This browser does not let the page copy; save a playlist.";
  say(byId("selection-note"), done + leftOut(state.selected));
}

function lassoMode(on) {
  state.lassoing = on;
  byId("lasso").setAttribute("aria-pressed", on);
  marks.classList.toggle("lassoing", on);
}

// ---- Mouse, finger and pen

const pointers = new Map();
let gesture = null;

const at = (event) => {
  const box = marks.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

const fingers = () => {
  const [[ax, ay], [bx, by]] = [...pointers.values()];
  return { x: (ax + bx) / 2, y: (ay + by) / 2, distance: Math.hypot(ax - bx, ay - by) || 1 };
};

marks.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  marks.setPointerCapture(event.pointerId);
  state.crosshair = false;
  cancelAnimationFrame(motion);
  const start = at(event);
  pointers.set(event.pointerId, start);
  if (pointers.size === 2) {
    state.outline = null;
    gesture = { kind: "pinch", from: fingers(), view: scatter.view };
  } else if (pointers.size === 1) {
    const kind = event.shiftKey ? "box" : state.lassoing ? "lasso" : "pan";
    gesture = { kind, start, view: scatter.view, moved: false };
  }
});

marks.addEventListener("pointermove", (event) => {
  const here = at(event);
  if (!pointers.has(event.pointerId)) {
    if (event.pointerType !== "touch") hover(scatter.nearest(...here, 9 + scatter.radius, allowed), ...here);
    return;
  }
  pointers.set(event.pointerId, here);
  if (!gesture) return;
  if (gesture.kind === "pinch") {
    if (pointers.size < 2) return;
    const now = fingers(), { from, view } = gesture;
    scatter.view = view;
    const shifted = panned(now.x - from.x, now.y - from.y);
    scatter.view = limited(shifted);
    return moveTo(zoomed(now.distance / from.distance, now.x, now.y));
  }
  const [dx, dy] = [here[0] - gesture.start[0], here[1] - gesture.start[1]];
  gesture.moved ||= Math.hypot(dx, dy) > (event.pointerType === "touch" ? 9 : 4);
  if (!gesture.moved) return;
  if (gesture.kind === "pan") {
    marks.classList.add("moving");
    scatter.view = gesture.view;
    moveTo(panned(dx, dy));
  } else {
    hover(-1);
    const [[left, top], [right, bottom]] = [gesture.start, here];
    if (gesture.kind === "box") state.outline = [[left, top], [right, top], [right, bottom], [left, bottom]];
    else (state.outline ??= [gesture.start]).push(here);
    remark();
  }
});

function endGesture(event, canceled) {
  if (!pointers.delete(event.pointerId)) return;
  const ended = gesture;
  marks.classList.remove("moving");
  if (ended?.kind === "pinch") {
    if (!pointers.size) gesture = null;
    return;
  }
  gesture = null;
  const outline = state.outline;
  state.outline = null;
  if (!ended || canceled) return remark();
  if (outline) {
    lassoMode(false);
    select(scatter.inside(outline, allowed));
  } else if (!ended.moved) {
    const reach = (event.pointerType === "touch" ? 20 : 9) + scatter.radius;
    choose(scatter.nearest(...at(event), reach, allowed));
  }
  remark();
}
marks.addEventListener("pointerup", (event) => endGesture(event, false));
marks.addEventListener("pointercancel", (event) => endGesture(event, true));
marks.addEventListener("pointerleave", () => hover(-1));
marks.addEventListener("dblclick", (event) => glideTo(zoomed(DOUBLE, ...at(event))));
marks.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  moveTo(zoomed(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), ...at(event)));
}, { passive: false });

// ---- Keys

const MOVES = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function keyOnMap(event) {
  if (MOVES[event.key]) {
    const step = Math.min(scatter.shownWidth, scatter.shownHeight) / (event.shiftKey ? 4 : 12);
    state.crosshair = true;
    moveTo(panned(...MOVES[event.key].map((way) => way * step)));
  } else if (event.key === "Enter" || event.key === " ") {
    state.crosshair = true;
    const middle = [scatter.shownWidth / 2, scatter.shownHeight / 2];
    choose(scatter.nearest(...middle, Math.max(...middle), allowed));
  } else return false;
  return true;
}

function keyAnywhere(event) {
  if (event.key === "/") {
    unfold();
    query.focus();
    query.select();
  } else if (event.key === "+" || event.key === "=") glideTo(zoomed(STEP));
  else if (event.key === "-") glideTo(zoomed(1 / STEP));
  else if (event.key === "0") glideTo(scatter.fitted);
  else if (event.key === "l" || event.key === "L") lassoMode(!state.lassoing);
  else return false;
  return true;
}

// Takes back the last thing that the reader would want to get out of.
function stepBack() {
  if (state.outline || state.lassoing) {
    state.outline = gesture = null;
    lassoMode(false);
    remark();
  } else if (query.value) {
    query.value = "";
    runSearch();
  } else if (state.chosen >= 0) choose(-1);
  else if (state.selected.length) select([]);
  else if (state.isolated.size) colorBy(state.column.name);
  if (document.activeElement === document.body || !document.activeElement.offsetParent) marks.focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.("input[type=search], select, textarea");
  if (event.key === "Escape") {
    event.preventDefault();
    return stepBack();
  }
  if (typing) return;
  if ((event.target === marks && keyOnMap(event)) || keyAnywhere(event)) event.preventDefault();
});

// Up and down go through a list of tracks, and from the search field into its results.
byId("sections").addEventListener("keydown", (event) => {
  const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const list = event.target.closest?.("ol.tracks");
  if (!way || !list) return;
  event.preventDefault();
  event.stopPropagation();
  const buttons = [...list.querySelectorAll("button")];
  const next = buttons.indexOf(event.target) + way;
  if (next < 0 && list.id === "results") return query.focus();
  buttons[clamp(next, 0, buttons.length - 1)].focus();
});
query.addEventListener("keydown", (event) => {
  const first = byId("results").querySelector("button");
  if (byId("found").hidden || !first) return;
  if (event.key === "ArrowDown") {
    event.preventDefault();
    first.focus();
  } else if (event.key === "Enter") first.click();
});

// ---- The panel

function fold(folded) {
  document.body.classList.toggle("folded", folded);
  byId("fold").setAttribute("aria-expanded", !folded);
}
const unfold = () => fold(false);

byId("fold").addEventListener("click", () => fold(!document.body.classList.contains("folded")));
byId("sections").addEventListener("click", (event) => {
  const button = event.target.closest("ol.tracks button");
  if (!button) return;
  choose(Number(button.dataset.row));
  bringIntoView(state.chosen);
});
byId("sections").addEventListener("pointerover", (event) => {
  const button = event.target.closest("ol.tracks button");
  const row = button && event.pointerType !== "touch" ? Number(button.dataset.row) : -1;
  if (row !== state.hovered) {
    state.hovered = row;
    remark();
  }
});
byId("sections").addEventListener("pointerleave", () => hover(-1));
query.addEventListener("input", runSearch);
byId("select-found").addEventListener("click", () => select([...state.hits]));
byId("select-neighbors").addEventListener("click", () => select([state.chosen, ...neighborsOf(state.chosen).map(([row]) => row)]));
byId("track").querySelector(".close").addEventListener("click", () => choose(-1));
byId("selection").querySelector(".close").addEventListener("click", () => select([]));
byId("save").addEventListener("click", savePlaylist);
byId("copy").addEventListener("click", copyPaths);
byId("lasso").addEventListener("click", () => lassoMode(!state.lassoing));
byId("zoom-in").addEventListener("click", () => glideTo(zoomed(STEP)));
byId("zoom-out").addEventListener("click", () => glideTo(zoomed(1 / STEP)));
byId("fit").addEventListener("click", () => glideTo(scatter.fitted));
byId("color").addEventListener("change", () => colorBy(byId("color").value));
byId("show-all").addEventListener("click", () => colorBy(state.column.name));

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* some browsers keep nothing for files */ }
}

function applyTheme(name) {
  document.documentElement.dataset.theme = name;
  readTheme();
  redraw();
}
byId("theme").addEventListener("click", () => {
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  remember("mirembed-theme", other);
  applyTheme(other);
});
preferred.addEventListener("change", () => applyTheme(preferred.matches ? "dark" : "light"));

try { byId("autoplay").checked = localStorage.getItem("mirembed-autoplay") !== "no"; } catch { /* as above */ }
byId("autoplay").addEventListener("change", (event) => remember("mirembed-autoplay", event.target.checked ? "yes" : "no"));

// ---- Begin

byId("count").append(`${counted(n, "track")} of `, bdi(about.dataset), ", model ", bdi(about.model));
byId("notes").replaceChildren(...about.notes.map((text) => element("p", { textContent: text })));
for (const column of columns) byId("color").append(element("option", { value: column.name, textContent: column.title }));

// The space that buttons and text take, in CSS pixels: no point should start under them.
function insets() {
  const narrow = matchMedia("(max-width: 44rem)").matches;
  return narrow ? { left: 14, right: 14, top: 64, bottom: 44 } : { left: 72, right: 20, top: 20, bottom: 48 };
}

new ResizeObserver(() => {
  const whole = scatter.isFitted;
  scatter.resize(stage.clientWidth, stage.clientHeight, insets());
  [marks.width, marks.height] = [scatter.canvas.width, scatter.canvas.height];
  if (whole) scatter.view = scatter.fitted;
  redraw();
}).observe(stage);

readTheme();
scatter.resize(stage.clientWidth, stage.clientHeight, insets());
scatter.view = scatter.fitted;
colorBy(about.color);
afterDrawing.push(() => {
  performance.mark("map-painted");
  setTimeout(indexLater, 50);
});
