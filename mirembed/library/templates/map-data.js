// What the page shows: the program wrote it into script elements, as JSON or as arrays of numbers in Base64.

performance.mark("map-started");

function block(name) {
  const element = document.getElementById(`data-${name}`);
  const text = element.textContent;
  element.remove();
  return text;
}

function array(name, Type) {
  const text = block(name);
  if (Uint8Array.fromBase64) return new Type(Uint8Array.fromBase64(text).buffer);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Type(bytes.buffer);
}

const INTEGERS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };

const about = JSON.parse(block("about"));
const n = about.n;
const positions = array("positions", Float32Array);

// A property of the tracks: numbers, or texts of which a track may have several or none. Decoded when first needed.
class Column {
  constructor(description, number) {
    Object.assign(this, description);
    this.number = number;
  }

  get numeric() { return this.kind === "numbers"; }

  get numbers() { return this.#keep("numbers", () => array(`numbers-${this.number}`, Float32Array)); }

  // The distinct texts, the most frequent first.
  get values() { return this.#keep("values", () => JSON.parse(block(`values-${this.number}`))); }

  get codes() { return this.#keep("codes", () => array(`codes-${this.number}`, INTEGERS[this.width])); }

  // Where the codes of each track end; null if each track has one.
  get ends() {
    return this.#keep("ends", () => {
      if (!this.several) return null;
      const counts = array(`counts-${this.number}`, Uint8Array);
      const ends = new Uint32Array(n);
      for (let row = 0, end = 0; row < n; row++) ends[row] = end += counts[row];
      return ends;
    });
  }

  codesOf(row) {
    if (!this.ends) return this.codes.subarray(row, row + 1);
    return this.codes.subarray(row ? this.ends[row - 1] : 0, this.ends[row]);
  }

  textsOf(row) {
    if (!this.numeric) return Array.from(this.codesOf(row), (code) => this.values[code]);
    const value = this.numbers[row];
    return Number.isNaN(value) ? [] : [shortNumber(value)];
  }

  #keep(name, make) {
    const value = make();
    Object.defineProperty(this, name, { value });
    return value;
  }
}

const columns = about.columns.map((description, number) => new Column(description, number));
const columnNamed = (name) => columns.find((column) => column.name === name);

const texts = {};
const lazily = (name, make) => Object.defineProperty(texts, name, {
  configurable: true,
  get() {
    const value = make();
    Object.defineProperty(texts, name, { value });
    return value;
  },
});
lazily("titles", () => JSON.parse(block("titles")));
lazily("files", () => JSON.parse(block("files")));
lazily("seconds", () => array("seconds", Uint16Array));
lazily("neighbors", () => array("neighbors", INTEGERS[about.neighborWidth]));
lazily("similarities", () => array("similarities", Uint16Array));

const titleOf = (row) => texts.titles[row] ?? texts.files[row].replace(/\.[^.]+$/, "");
const artistOf = (row) => columnNamed("artist")?.textsOf(row).join(", ") ?? "";
const albumOf = (row) => columnNamed("album")?.textsOf(row)[0] ?? "";
const folderOf = (row) => columnNamed("folder").textsOf(row)[0];

function pathOf(row) {
  const folder = folderOf(row);
  return [about.root, folder === "." ? [] : folder, texts.files[row]].flat().join("/").replace(/^\/\//, "/");
}

// The address of the file. Those of files whose names are not valid UTF-8 come with the page.
const urlOf = (row) => about.urls[row] ?? "file://" + pathOf(row).split("/").map(encodeURIComponent).join("/");

function neighborsOf(row) {
  const { low, high } = about.similarity;
  const found = [];
  for (let i = row * about.k; i < (row + 1) * about.k; i++) {
    found.push([texts.neighbors[i], low + (high - low) * texts.similarities[i] / 65535]);
  }
  return found;
}

function shortNumber(value) {
  if (Number.isInteger(value)) return String(value);
  return Number(value.toPrecision(3)).toString();
}

// Search: every word of the query must occur in the title, artist, album or path, whatever its case and accents.
const index = [];
const ROWS_AT_ONCE = 4000;

const folded = (text) => text.normalize("NFKD").replace(/\p{M}+/gu, "").toUpperCase().toLowerCase();

function indexRows(first) {
  const rows = [];
  for (let row = first; row < Math.min(n, first + ROWS_AT_ONCE); row++) {
    rows.push(`${titleOf(row)}\n${artistOf(row)}\n${albumOf(row)}\n${pathOf(row)}`.replaceAll("\0", " "));
  }
  const text = folded(rows.join("\0"));
  const starts = [0];
  for (let at = text.indexOf("\0"); at >= 0; at = text.indexOf("\0", at + 1)) starts.push(at + 1);
  starts.push(text.length + 1);
  index.push({ first, text, starts });
}

// Index while the browser has nothing else to do, some thousand tracks at a time.
function indexLater() {
  const first = index.length * ROWS_AT_ONCE;
  if (first >= n) return performance.mark("map-indexed");
  indexRows(first);
  setTimeout(indexLater);
}

// The rows that match, and the first `most` of them with those first whose title begins with the query.
function search(query, most) {
  while (index.length * ROWS_AT_ONCE < n) indexRows(index.length * ROWS_AT_ONCE);
  const whole = folded(query).trim();
  const words = whole.split(/\s+/).sort((a, b) => b.length - a.length);
  const rows = [], ranks = [[], [], []];
  for (const { first, text, starts } of index) {
    let i = 0;
    for (let at = text.indexOf(words[0]); at >= 0; at = text.indexOf(words[0], starts[i])) {
      while (starts[i + 1] <= at) i++;
      const record = text.slice(starts[i], starts[i + 1] - 1);
      if (words.every((word) => record.includes(word))) {
        const row = first + i;
        rows.push(row);
        if (ranks[0].length < most) {
          const found = record.indexOf(whole);
          const rank = found === 0 ? 0 : found > 0 && found < record.indexOf("\n") ? 1 : 2;
          if (ranks[rank].length < most) ranks[rank].push(row);
        }
      }
      i++;
      if (i + 1 >= starts.length) break;
    }
  }
  return { rows, best: ranks.flat().slice(0, most) };
}
