// The visible pictures: filters, layout, and drawing. Thousands of elements would make every stroke slow, so a picture
// has an element only while it is near the window; its position is computed, also for the mouse.

const SIZES = [72, 96, 120, 144, 176, 208, 224]; // px a tile is wide; pictures are at most 224 px on either side
const GAP = 4;
const CAPTION = 18;
const HEADING = 30;
const NEAR = 900; // px beyond the window that are drawn too, so that scrolling meets finished pictures

const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const { grid, canvas } = element;
const selected = new Set();
const drawn = new Map(); // tile number -> its element
const headings = new Map(); // row -> its element
const spare = [];
const blocks = []; // pictures as base64, by block, once they were needed
let shown = []; // tile numbers under the present filter, in the sheet's order
let placeOf = []; // tile number -> place in shown, or undefined
let rows = []; // { top, first, count } of pictures, { top, heading } of sections
let rowOf = []; // place in shown -> row
let columns = 1;
let width = 0; // px of the canvas for which rows were made
let size = 3; // of SIZES
let focus = 0; // a tile number
let frame = 0; // the request to draw that is under way

let tileWidth = SIZES[size]; // px, so that rows end where the window does
let tileHeight = 0;

function byFilter(filter) {
  const words = filter.search.toLowerCase();
  const wanted = (tile, number) =>
    (filter.suggestion === "" || (tile.suggested ?? "-") === filter.suggestion)
    && (filter.state === "" || (filter.state === "differs" ? differs(number) : isLabelled(number) === (filter.state === "labelled")))
    && (filter.from === null || (tile.score !== null && tile.score >= filter.from))
    && (filter.to === null || (tile.score !== null && tile.score <= filter.to))
    && (words === "" || tile.image_id.toLowerCase().includes(words) || (tile.listing_id ?? "").toLowerCase().includes(words));
  shown = tiles.flatMap((tile, number) => (wanted(tile, number) ? [number] : []));
  placeOf = [];
  shown.forEach((number, place) => (placeOf[number] = place));
  for (const number of selected) if (placeOf[number] === undefined) selected.delete(number); // nobody labels unseen
  if (placeOf[focus] === undefined && shown.length) focus = shown.find((number) => number > focus) ?? shown.at(-1);
  layOut();
}

/** Rows of equal pictures; a section begins a new one, under its heading. */
function layOut() {
  width = canvas.clientWidth;
  columns = Math.max(1, Math.floor((width + GAP) / (SIZES[size] + GAP)));
  tileWidth = Math.max(1, Math.floor((width + GAP) / columns) - GAP);
  tileHeight = Math.round(tileWidth * 0.75) + CAPTION;
  grid.style.setProperty("--width", `${tileWidth}px`);
  grid.style.setProperty("--height", `${tileHeight}px`);
  rows = [];
  rowOf = [];
  let top = 0;
  let section = "";
  shown.forEach((number, place) => {
    let row = rows.at(-1);
    const begins = tiles[number].section !== section;
    if (begins) {
      section = tiles[number].section;
      rows.push({ top, heading: section, first: place });
      top += HEADING;
    }
    if (begins || !row || row.count === columns) {
      row = { top, first: place, count: 0 };
      rows.push(row);
      top += tileHeight + GAP;
    }
    row.count += 1;
    rowOf[place] = rows.length - 1;
  });
  canvas.style.height = `${top}px`;
  for (const one of [...drawn.values(), ...headings.values()]) one.remove();
  spare.push(...drawn.values());
  drawn.clear();
  headings.clear();
  element.none.hidden = shown.length > 0;
  draw();
}

/** The last row that begins at or above y. */
function rowAt(y) {
  let low = 0;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].top <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The numbers of the tiles that a rectangle of the canvas touches. */
function tilesIn(left, top, right, bottom) {
  const touched = [];
  const step = tileWidth + GAP;
  for (let r = rowAt(top); r < rows.length && rows[r].top <= bottom; r += 1) {
    const row = rows[r];
    if (row.heading !== undefined || row.top + tileHeight < top) continue;
    const from = Math.max(0, Math.ceil((left - tileWidth) / step));
    const to = Math.min(row.count - 1, Math.floor(right / step));
    for (let column = from; column <= to; column += 1) touched.push(shown[row.first + column]);
  }
  return touched;
}

function soonDraw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    draw();
  });
}

function draw() {
  const top = grid.scrollTop - NEAR;
  const bottom = grid.scrollTop + grid.clientHeight + NEAR;
  const from = rowAt(top);
  let to = from;
  while (to < rows.length && rows[to].top < bottom) to += 1;
  for (const [number, tile] of drawn) {
    const row = rowOf[placeOf[number]];
    if ((row < from || row >= to) && number !== focus) release(number, tile);
  }
  for (const [row, heading] of headings) {
    if (row < from || row >= to) {
      heading.remove();
      headings.delete(row);
    }
  }
  const added = document.createDocumentFragment();
  for (let r = from; r < to; r += 1) {
    if (rows[r].heading !== undefined) drawHeading(r, added);
    else for (let column = 0; column < rows[r].count; column += 1) drawTile(shown[rows[r].first + column], added);
  }
  if (placeOf[focus] !== undefined) drawTile(focus, added); // so that a screen reader finds what is active
  canvas.append(added);
}

function release(number, tile) {
  tile.remove();
  drawn.delete(number);
  spare.push(tile);
}

function drawTile(number, added) {
  if (drawn.has(number)) return;
  const tile = spare.pop() ?? newTile();
  const row = rows[rowOf[placeOf[number]]];
  tile.id = `t${number}`;
  tile.style.transform = `translate(${(placeOf[number] - row.first) * (tileWidth + GAP)}px, ${row.top}px)`;
  tile.setAttribute("aria-posinset", placeOf[number] + 1);
  tile.setAttribute("aria-setsize", shown.length);
  drawn.set(number, tile);
  fill(number, tile);
  paint(number, tile);
  added.append(tile);
}

function newTile() {
  const tile = document.createElement("div");
  tile.setAttribute("role", "option");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.decoding = "async";
  picture.draggable = false;
  tile.append(picture, document.createElement("b"), document.createElement("span"));
  return tile;
}

/** A picture as a data: URL, or null while it has not arrived. */
function pictureOf(number) {
  const block = Math.floor(number / sheet.pictures_per_block);
  if (!blocks[block]) {
    const arrived = document.getElementById(`p${block}`);
    if (!arrived || (document.readyState === "loading" && !arrived.nextElementSibling)) return null;
    blocks[block] = arrived.textContent.split("\n");
  }
  return `data:image/jpeg;base64,${blocks[block][number % sheet.pictures_per_block]}`;
}

function fill(number, tile) {
  const picture = pictureOf(number);
  tile.classList.toggle("waiting", picture === null);
  if (picture) tile.firstChild.src = picture;
  else tile.firstChild.removeAttribute("src");
}

function paint(number, tile) {
  const { suggested, label, score } = tiles[number];
  const decision = kept.decisions.get(number);
  const name = labelOf(number);
  tile.className = `tile ${tile.classList.contains("waiting") ? "waiting " : ""}${name ? `${decision ? "given" : "earlier"} ${colourOf(name)}` : ""}`;
  tile.classList.toggle("selected", selected.has(number));
  tile.classList.toggle("focus", number === focus);
  tile.classList.toggle("differs", differs(number));
  tile.setAttribute("aria-selected", selected.has(number));
  tile.setAttribute("aria-label", spoken(number));
  const [, caption, aside] = tile.children;
  caption.textContent = name ?? "";
  if (name) aside.textContent = differs(number) ? `≠ ${suggested}` : "";
  else aside.textContent = `${suggested ? `${suggested}? ` : ""}${shortScore(score)}`;
}

const colourOf = (name) => (classes.includes(name) ? `c${classes.indexOf(name) % 8}` : "");

const shortScore = (score) => (score === null ? "" : score.toFixed(2));

function spoken(number) {
  const { image_id, listing_id, suggested, label } = tiles[number];
  const state = kept.decisions.has(number) ? `labelled ${labelOf(number)}` : label ? `earlier label ${label}` : "not labelled";
  return `${state}${suggested ? `, suggested ${suggested}` : ""}, image ${image_id}, listing ${listing_id ?? "none"}`;
}

function drawHeading(r, added) {
  if (headings.has(r)) return;
  const heading = document.createElement("button");
  heading.type = "button";
  heading.tabIndex = -1;
  heading.setAttribute("aria-hidden", "true"); // a listbox holds options alone; by key, filters and Ctrl-A do the same
  heading.className = "heading";
  const members = shown.filter((number) => tiles[number].section === rows[r].heading);
  heading.textContent = `${rows[r].heading} · ${members.length.toLocaleString("en")}`;
  heading.title = "Select these";
  heading.style.transform = `translate(0, ${rows[r].top}px)`;
  heading.addEventListener("click", () => {
    select(members);
    grid.focus();
  });
  headings.set(r, heading);
  added.append(heading);
}

function repaint() {
  for (const [number, tile] of drawn) paint(number, tile);
}

/** Scrolls as little as it takes to show a tile. */
function reveal(number) {
  const row = rows[rowOf[placeOf[number]]];
  if (!row) return;
  const above = rowOf[placeOf[number]] > 0 && rows[rowOf[placeOf[number]] - 1].heading !== undefined ? HEADING : 0;
  if (row.top - above < grid.scrollTop) grid.scrollTop = row.top - above;
  const below = row.top + tileHeight + GAP - grid.clientHeight;
  if (below > grid.scrollTop) grid.scrollTop = below;
}
