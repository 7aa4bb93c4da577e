// Puts the page together. Runs before the pictures have arrived.

element.classes.append(
  ...classes.map(classButton),
  commandButton("⏎", "as suggested", () => COMMANDS.Enter()),
  ...(tiles.some((tile) => tile.label !== null) ? [commandButton("k", "keep", () => COMMANDS.k())] : []),
  commandButton("0", "none", () => COMMANDS[0]()),
  commandButton("u", "undo", () => COMMANDS.u()),
  commandButton("U", "redo", () => COMMANDS.U()),
);
for (const name of [...new Set(tiles.map((tile) => tile.suggested ?? "-"))].sort()) {
  element["of-suggestion"].append(new Option(name === "-" ? "no suggestion" : name, name));
}
element["of-suggestion"].hidden = tiles.every((tile) => tile.suggested === null);
for (const name of ["score-from", "score-to"]) element[name].parentElement.hidden = tiles.every((tile) => tile.score === null);

for (const name of ["of-suggestion", "of-state", "score-from", "score-to", "search"]) element[name].addEventListener("input", filterAgain);
element.all.addEventListener("click", () => select(shown));
element.smaller.addEventListener("click", () => resize(-1));
element.larger.addEventListener("click", () => resize(1));
element.help.addEventListener("click", () => element.keys.showModal());
element.download.addEventListener("click", download);
element.load.addEventListener("click", () => element.file.click());
element.file.addEventListener("change", load);
element.labeller.addEventListener("input", () => {
  kept.labeller = element.labeller.value;
  kept.downloaded &&= kept.decisions.size === 0; // the file that was downloaded bears another name
  save();
  tellLabels();
});
// after a button, keys belong to the pictures again; those who work with keys alone stay where they are
document.querySelector("header").addEventListener("click", (event) => {
  if (event.detail && event.target.closest("button")) grid.focus();
});
element.large.addEventListener("click", () => element.large.close());
for (const dialog of [element.large, element.keys]) dialog.addEventListener("close", () => grid.focus());

grid.addEventListener("scroll", soonDraw, { passive: true });
new ResizeObserver(() => (canvas.clientWidth === width ? draw() : layOut())).observe(grid);
const arrivals = new MutationObserver(arrived);
arrivals.observe(document.documentElement, { childList: true, subtree: true });
document.addEventListener("DOMContentLoaded", () => {
  arrivals.disconnect();
  arrived();
});

/** Gives pictures to the tiles that were drawn before theirs had arrived. */
function arrived() {
  for (const [number, tile] of drawn) if (tile.classList.contains("waiting")) fill(number, tile);
}

listeners.push(() => {
  if (filter.state) byFilter(filter); // what was labelled may have left the view, or come back
  tellLabels();
  tell();
});
window.addEventListener("storage", (event) => { // another tab with this sheet
  if (event.key !== STORE) return;
  restore();
  tellLabels();
  filterAgain();
});
window.addEventListener("beforeunload", (event) => {
  if (!kept.downloaded) event.preventDefault();
});

restore();
element.labeller.value = kept.labeller;
resize(0);
filterAgain();
tellLabels();
grid.focus({ preventScroll: true });
