"use strict";
// The decisions of people on this sheet, undo and redo, and storage. Touches no element of the page.

const sheet = JSON.parse(document.getElementById("sheet").textContent);
const tiles = sheet.tiles;
const classes = sheet.classes;
const STORE = `toiletspark-sheet-${sheet.id}`;
const UNDOABLE = 5000; // single labels of all steps together that an undo may bring back after a reload

// decisions: tile number -> [class number, milliseconds since 1970]. past, future: steps, each a list of
// [tile number, decision before or null, decision after or null]. downloaded: a file has all of it.
const kept = { decisions: new Map(), past: [], future: [], labeller: "", downloaded: true };
let keeping = true; // the browser has taken the last save
const listeners = []; // called after every change with the numbers of the tiles that changed

/** The class of a tile: decided here, or else its earlier label; null if there is none. */
function labelOf(number) {
  const decision = kept.decisions.get(number);
  return decision ? classes[decision[0]] : tiles[number].label;
}

/** True if nothing is left to do: on a sheet that asks about labels, the present ones are no answer. */
function isLabelled(number) {
  return kept.decisions.has(number) || (!sheet.asks_about_labels && tiles[number].label !== null);
}

function differs(number) {
  const label = labelOf(number);
  return label !== null && tiles[number].suggested !== null && label !== tiles[number].suggested;
}

/** Gives each tile the class that classOf names for it; null takes its decision away, undefined leaves it as it is. */
function decide(numbers, classOf) {
  const at = Date.now();
  const step = [];
  for (const number of numbers) {
    const name = classOf(number);
    const label = name === null ? -1 : classes.indexOf(name);
    const before = kept.decisions.get(number) ?? null;
    if (name === undefined || (name !== null && label < 0) || (before ? before[0] : -1) === label) continue;
    step.push([number, before, label < 0 ? null : [label, at]]);
  }
  return doStep(step);
}

function doStep(step) {
  if (!step.length) return [];
  kept.past.push(step);
  kept.future = [];
  return applied(step, 2);
}

/** Takes the last step back; returns its tiles. */
function undo() {
  const step = kept.past.pop();
  if (!step) return [];
  kept.future.push(step);
  return applied(step, 1);
}

function redo() {
  const step = kept.future.pop();
  if (!step) return [];
  kept.past.push(step);
  return applied(step, 2);
}

function applied(step, side) {
  for (const change of step) {
    if (change[side]) kept.decisions.set(change[0], change[side]);
    else kept.decisions.delete(change[0]);
  }
  kept.downloaded = false;
  save();
  const numbers = step.map((change) => change[0]);
  for (const listener of listeners) listener(numbers);
  return numbers;
}

// In the browser

function save() {
  try {
    localStorage.setItem(STORE, JSON.stringify({
      decisions: [...kept.decisions], past: recent(kept.past), future: recent(kept.future),
      labeller: kept.labeller, downloaded: kept.downloaded,
    }));
    keeping = true;
  } catch { // no room left, private mode, or storage switched off
    keeping = false;
  }
}

/** The last steps, as many as fit. */
function recent(steps) {
  let first = steps.length;
  for (let room = UNDOABLE; first > 0 && (room -= steps[first - 1].length) >= 0;) first -= 1;
  return steps.slice(first);
}

/** Restores what this browser has kept of this sheet, also by another tab. */
function restore() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE));
    if (stored) Object.assign(kept, stored, { decisions: new Map(stored.decisions) });
  } catch {
    keeping = false;
  }
}

// As a file

/** The labels file for `toiletspark labels import`. JSON's escapes carry any id, also half a character. */
function labelsFile() {
  const numbers = [...kept.decisions.keys()].sort((a, b) => a - b);
  const labels = numbers.map((number) => {
    const [label, at] = kept.decisions.get(number);
    const { image_id, content_digest } = tiles[number];
    return { image_id, content_digest, class: classes[label], labelled_at: new Date(at).toISOString() };
  });
  const file = { format: "toiletspark-labels", format_version: 1, sheet: sheet.id, labeller: kept.labeller, labels };
  return JSON.stringify(file, null, 1);
}

/** Merges a labels file, the newer decision wins; returns the result in words. */
function takeUp(text) {
  const file = JSON.parse(text);
  if (file?.format !== "toiletspark-labels" || file.format_version !== 1 || !Array.isArray(file.labels)) {
    throw new Error("not a labels file");
  }
  const numberOf = new Map(tiles.map((tile, number) => [tile.image_id, number]));
  const step = [];
  const left = { older: 0, strange: 0 };
  for (const { image_id, content_digest, class: name, labelled_at } of file.labels) {
    const number = numberOf.get(image_id);
    const label = classes.indexOf(name);
    const at = Date.parse(labelled_at);
    const ours = tiles[number]?.content_digest;
    if (number === undefined || label < 0 || Number.isNaN(at) || (ours && content_digest && ours !== content_digest)) left.strange += 1;
    else {
      const before = kept.decisions.get(number) ?? null;
      if (before && before[1] >= at) left.older += 1;
      else step.push([number, before, [label, at]]);
    }
  }
  kept.labeller ||= String(file.labeller ?? "");
  doStep(step);
  return `${step.length} labels taken up`
    + (left.older ? `, ${left.older} as new or newer here` : "")
    + (left.strange ? `, ${left.strange} of other pictures or classes left out` : "");
}
