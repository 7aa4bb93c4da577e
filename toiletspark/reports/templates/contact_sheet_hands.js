// Mouse, keys, buttons and filters: what people do, and the messages to them.

// Keys of the classes after the ninth: letters that command nothing, as they lie on the keyboard
const CLASS_KEYS = [..."123456789", ..."qwertyiopsdfhjlzxcvbnm"];
const EDGE = 40; // px from the upper and lower edge of the window where dragging scrolls
const DRAG = 5; // px that a click may wobble
const filter = { suggestion: "", state: "", from: null, to: null, search: "" };
let anchor = 0; // where a selection with Shift begins
let drag = null; // { x, y: where it began, on the canvas; clientX, clientY: where it is; before: what was selected }

// Selecting

function select(numbers, more = false) {
  if (!more) selected.clear();
  for (const number of numbers) selected.add(number);
  tell();
}

function selectTo(number) {
  const [from, to] = [placeOf[anchor] ?? 0, placeOf[number]].sort((a, b) => a - b);
  select(shown.slice(from, to + 1));
}

function alike(numbers) {
  const groups = new Set(numbers.map((number) => tiles[number].group));
  return shown.filter((number) => groups.has(tiles[number].group));
}

function moveTo(number, { keepAnchor = false, scroll = true } = {}) {
  if (number === undefined) return;
  focus = number;
  if (!keepAnchor) anchor = number;
  if (scroll) reveal(number);
  draw();
  tell();
}

/** The tiles of a command: the large picture, or else the selected ones, or else the one in focus. */
function targets() {
  if (!element.large.open && selected.size) return shown.filter((number) => selected.has(number));
  return placeOf[focus] === undefined ? [] : [focus];
}

// Labelling

function labelTargets(classOf, what) {
  const numbers = targets();
  const taken = new Set(numbers);
  const next = shown.slice(placeOf[numbers.at(-1)]).find((number) => !taken.has(number));
  const changed = decide(numbers, classOf);
  selected.clear();
  announce(changed.length ? `${count(changed.length)} ${what}` : "nothing to change");
  if (next !== undefined) moveTo(next, { scroll: numbers.length === 1 });
  else tell();
}

function labelWith(name) {
  labelTargets(() => name, `labelled ${name}`);
}

function goBack(numbers, word) {
  announce(numbers.length ? `${word}: ${count(numbers.length)}` : `nothing to ${word === "undone" ? "undo" : "redo"}`);
  const visible = numbers.filter((number) => placeOf[number] !== undefined);
  if (!visible.length) return;
  select(visible.length > 1 ? visible : []);
  moveTo(visible[0]);
}

// Telling

const count = (number) => `${number.toLocaleString("en")} ${number === 1 ? "picture" : "pictures"}`;

function announce(text) {
  element.message.textContent = text;
}

function tell() {
  repaint();
  grid.setAttribute("aria-activedescendant", `t${focus}`);
  element.selected.textContent = selected.size ? `${selected.size.toLocaleString("en")} selected` : "";
  const { image_id, listing_id, score } = tiles[focus];
  element.focused.textContent = `${image_id} · listing ${listing_id ?? "none"}${score === null ? "" : ` · score ${score.toFixed(3)}`}`;
  element.shown.textContent = shown.length < tiles.length ? `${shown.length.toLocaleString("en")} shown` : "";
  if (element.large.open) showLarge();
}

/** Counts, and the state of the storage. */
function tellLabels() {
  const perClass = new Map(classes.map((name) => [name, 0]));
  let labelled = 0;
  tiles.forEach((_, number) => {
    const name = labelOf(number);
    if (perClass.has(name)) perClass.set(name, perClass.get(name) + 1);
    labelled += isLabelled(number);
  });
  element.progress.max = tiles.length;
  element.progress.value = labelled;
  element.labelled.textContent = `${labelled.toLocaleString("en")} of ${tiles.length.toLocaleString("en")} ${sheet.asks_about_labels ? "answered" : "labelled"}`;
  for (const button of element.classes.querySelectorAll("[data-class]")) {
    button.lastChild.textContent = perClass.get(button.dataset.class).toLocaleString("en");
  }
  element.saved.textContent = kept.downloaded ? "" : keeping ? "kept in this browser, not downloaded" : "not kept";
  element.trouble.hidden = keeping;
  element.trouble.textContent = "This browser does not keep your labels (its storage is full or switched off). Download them before you leave or reload this page.";
}

function showLarge() {
  const picture = pictureOf(focus);
  if (picture) element["large-picture"].src = picture;
  element["large-picture"].alt = spoken(focus);
  element["large-caption"].textContent = labelOf(focus) ?? (tiles[focus].suggested ? `${tiles[focus].suggested}?` : "not labelled");
  element["large-caption"].className = kept.decisions.has(focus) ? `given ${colourOf(labelOf(focus))}` : "";
  element["large-place"].textContent = `${placeOf[focus] + 1} of ${shown.length} · ${element.focused.textContent}`;
}

// Keys

function move(event, step) {
  if (!shown.length) return;
  const place = Math.min(Math.max((placeOf[focus] ?? 0) + step, 0), shown.length - 1);
  moveTo(shown[place], { keepAnchor: event.shiftKey });
  if (event.shiftKey) selectTo(shown[place]);
}

const COMMANDS = {
  ArrowLeft: (event) => move(event, -1),
  ArrowRight: (event) => move(event, 1),
  ArrowUp: (event) => move(event, -columns),
  ArrowDown: (event) => move(event, columns),
  PageUp: (event) => move(event, -columns * Math.max(1, Math.floor(grid.clientHeight / tileHeight) - 1)),
  PageDown: (event) => move(event, columns * Math.max(1, Math.floor(grid.clientHeight / tileHeight) - 1)),
  Home: (event) => move(event, -shown.length),
  End: (event) => move(event, shown.length),
  Enter: () => labelTargets((number) => tiles[number].suggested ?? undefined, "labelled as suggested"),
  k: () => labelTargets((number) => tiles[number].label ?? undefined, "kept their label"),
  0: () => labelTargets(() => null, "without a label"),
  Backspace: () => COMMANDS[0](),
  Delete: () => COMMANDS[0](),
  g: () => select(alike(targets())),
  u: () => goBack(undo(), "undone"),
  U: () => goBack(redo(), "redone"),
  " ": () => (element.large.open ? element.large.close() : openLarge()),
  "+": () => resize(1),
  "=": () => resize(1),
  "-": () => resize(-1),
  "/": () => element.search.focus(),
  "?": () => element.keys.showModal(),
  Escape: () => select([]),
};
const WITH_CTRL = { a: () => select(shown), z: COMMANDS.u, Z: COMMANDS.U, y: COMMANDS.U };

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.altKey || element.keys.open) return;
  if (at.matches("input")) {
    if (event.key === "Escape" || event.key === "Enter") grid.focus();
    return;
  }
  const own = at.matches("select, button") && [" ", "Enter", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key);
  if (own || (element.large.open && event.key === "Escape")) return; // the control's own
  const withCtrl = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 && !event.shiftKey ? event.key.toLowerCase() : event.key; // whatever Caps Lock says
  const name = classes[CLASS_KEYS.indexOf(key)];
  const command = withCtrl ? WITH_CTRL[key] : COMMANDS[key] ?? (name && (() => labelWith(name)));
  if (!command) return;
  event.preventDefault();
  command(event);
});

function openLarge() {
  if (!shown.length) return;
  element.large.showModal();
  showLarge();
}

function resize(step) {
  const wanted = Math.min(Math.max(size + step, 0), SIZES.length - 1);
  const ratio = grid.scrollTop / Math.max(1, canvas.clientHeight);
  size = wanted;
  layOut();
  grid.scrollTop = ratio * canvas.clientHeight;
  draw();
}

// Mouse

function onCanvas(clientX, clientY) {
  const box = canvas.getBoundingClientRect();
  return [clientX - box.left, clientY - box.top];
}

grid.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.pointerType === "touch" || event.target.closest(".heading")) return;
  if (event.offsetX > grid.clientWidth && event.target === grid) return; // the scroll bar
  const [x, y] = onCanvas(event.clientX, event.clientY);
  const more = event.ctrlKey || event.metaKey || event.shiftKey;
  drag = { x, y, clientX: event.clientX, clientY: event.clientY, before: more ? [...selected] : [], band: null };
  grid.setPointerCapture(event.pointerId);
});

grid.addEventListener("pointermove", (event) => {
  if (!drag) return;
  Object.assign(drag, { clientX: event.clientX, clientY: event.clientY });
  const [x, y] = onCanvas(event.clientX, event.clientY);
  if (!drag.band && Math.hypot(x - drag.x, y - drag.y) > DRAG) {
    drag.band = document.createElement("div");
    drag.band.className = "band";
    canvas.append(drag.band);
    requestAnimationFrame(stretch);
  }
});

/** While dragging, once a frame: scrolls at the edges, and selects what the band touches. */
function stretch() {
  if (!drag?.band) return;
  const box = grid.getBoundingClientRect();
  const beyond = Math.min(0, drag.clientY - box.top - EDGE) + Math.max(0, drag.clientY - box.bottom + EDGE);
  grid.scrollTop += Math.sign(beyond) * Math.min(60, Math.abs(beyond) / 2);
  const [x, y] = onCanvas(drag.clientX, drag.clientY);
  const [left, right] = [drag.x, x].sort((a, b) => a - b);
  const [top, bottom] = [drag.y, y].sort((a, b) => a - b);
  Object.assign(drag.band.style, { transform: `translate(${left}px, ${top}px)`, width: `${right - left}px`, height: `${bottom - top}px` });
  select([...drag.before, ...tilesIn(left, top, right, bottom)]);
  requestAnimationFrame(stretch);
}

grid.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { band, before } = drag;
  if (band) stretch();
  const [number] = tilesIn(drag.x, drag.y, drag.x, drag.y);
  drag = null;
  if (band) band.remove();
  else click(event, number, before);
});
grid.addEventListener("pointercancel", () => {
  drag?.band?.remove();
  drag = null;
});

function click(event, number, before) {
  if (number === undefined) return select([]);
  if (event.shiftKey) {
    selectTo(number);
    return moveTo(number, { keepAnchor: true, scroll: false });
  }
  if (event.ctrlKey || event.metaKey) select(before.includes(number) ? before.filter((one) => one !== number) : [...before, number]);
  else select([number]);
  return moveTo(number, { scroll: false });
}

grid.addEventListener("dblclick", (event) => {
  const [number] = tilesIn(...onCanvas(event.clientX, event.clientY), ...onCanvas(event.clientX, event.clientY));
  if (number !== undefined) select(alike([number]));
});

// Touch, and screen readers that click for their users
grid.addEventListener("click", (event) => {
  const tile = event.pointerType === "mouse" || event.pointerType === "pen" ? null : event.target.closest(".tile");
  if (tile) click(event, Number(tile.id.slice(1)), [...selected]);
});

// Buttons and filters

function classButton(name, number) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.class = name;
  const key = document.createElement("kbd");
  key.textContent = CLASS_KEYS[number] ?? "";
  const swatch = document.createElement("i");
  swatch.className = colourOf(name);
  button.append(key, swatch, name, " ", document.createElement("small"));
  button.addEventListener("click", () => labelWith(name));
  return button;
}

function commandButton(key, text, does) {
  const button = document.createElement("button");
  button.type = "button";
  const shownKey = document.createElement("kbd");
  shownKey.textContent = key;
  button.append(shownKey, text);
  button.addEventListener("click", does);
  return button;
}

function filterAgain() {
  const number = (text) => (text === "" ? null : Number(text));
  Object.assign(filter, {
    suggestion: element["of-suggestion"].value, state: element["of-state"].value, search: element.search.value,
    from: number(element["score-from"].value), to: number(element["score-to"].value),
  });
  byFilter(filter);
  tell();
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([labelsFile()], { type: "application/json" }));
  link.download = `toiletspark-labels-${sheet.id}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  kept.downloaded = true;
  save();
  tellLabels();
  announce(`${count(kept.decisions.size)} in the file`);
}

async function load() {
  const [file] = element.file.files;
  element.file.value = ""; // so that the same file can be chosen again
  if (!file) return;
  try {
    announce(takeUp(await file.text()));
  } catch (error) {
    announce(`${file.name} cannot be taken up: ${error.message}`);
  }
  element.labeller.value = kept.labeller;
}
