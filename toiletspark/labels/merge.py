"""Labels: who labelled which image, when and how, and how a new import is merged with them.

Each import is merged with the newest run of `schemas.LABELS` into a new one, by these rules:

- There is one row per (image_id, labeller): a labeller's newer label replaces the older one.
- A class folder or a table knows neither names nor times. It is compared with its own last import
  (`schemas.LABEL_SOURCES`), and only differences count, as labels of the person who imports it. A
  label that it has lost is taken back.
- The table of overrides is compared in the same way, though its rows name their labellers.
- A file of the contact sheet or of Label Studio names labellers and times. It only adds labels, and
  none that is older than the labeller's last one.
- A time that no clock can have shown (see `credible`) is put aside: the time of the import counts.
- Labellers who contradict each other about a content are in conflict: both labels stay, and are
  listed.

Nothing here needs Spark.
"""

import collections
import getpass
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from toiletspark.errors import LabelsError
from toiletspark.tables import arrow_io
from toiletspark.tables.manifest import Inputs, TableInput
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import CONFLICTS, LABEL_SOURCES, LABELS

IMAGE_FOLDER = "image_folder"  # the `how` of labels from folders that people made themselves
Key = tuple[str, str]  # image_id, labeller
_Row = dict[str, Any]  # of `LABEL_SOURCES`
# tools write an empty date as the first day that they know, up to 1980
_FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_CLOCKS_DIFFER = timedelta(days=1)


@dataclass(frozen=True)
class Label:
    """One label of one person."""

    image_id: str
    label: str
    content_digest: str | None  # of the picture that the person saw, if that is known
    how: str  # see `schemas.LABELS`
    labeller: str = ""  # "" is the person who imports
    labelled_at: datetime | None = None  # None: the time of the import


@dataclass(frozen=True)
class SourceLabels:
    """The labels that one source holds now, at most one per image and labeller.

    `covers`: images of which the source tells everything, so that a missing label is taken back;
    None: the source only adds labels. `table`: the user's table that it is, if it is one.
    """

    labels: list[Label]
    covers: frozenset[str] | None = None
    waiting: list[Label] = field(default_factory=list)  # presorted, and not looked through
    table: TableInput | None = None
    counts: dict[str, Any] = field(default_factory=dict)  # of rows that are no labels


@dataclass
class Merged:
    """All labels that count after an import, and how many it changed."""

    labels: dict[Key, Label]
    sources: list[dict[str, Any]] = field(default_factory=list)  # rows of `schemas.LABEL_SOURCES`
    new: int = 0
    changed: collections.Counter[str] = field(default_factory=collections.Counter)
    gone: int = 0
    unchanged: int = 0
    outdated: int = 0
    waiting: int = 0
    misdated: int = 0

    def counts(self) -> dict[str, Any]:
        """The figures for manifest and summary."""
        names = ("new", "gone", "unchanged", "outdated", "waiting", "misdated")
        changed = dict(sorted(self.changed.items()))
        return {**{name: getattr(self, name) for name in names}, "changed": changed}

    def summary(self) -> str:
        """The changes in words: "12 new, 2 changed (toilet -> other 2), 1 gone, 480 unchanged"."""
        moves = ", ".join(f"{move} {count}" for move, count in self.changed.most_common())
        changed = f"{self.changed.total()} changed" + (f" ({moves})" if moves else "")
        parts = [f"{self.new} new", changed, f"{self.gone} gone", f"{self.unchanged} unchanged"]
        if self.outdated:
            parts.append(f"{self.outdated} older than what is known")
        if self.misdated:
            parts.append(f"{self.misdated} with a date that no clock showed: the import's counts")
        if self.waiting:
            parts.append(f"{self.waiting} presorted and not looked at")
        return ", ".join(parts)


def merge(
    known: Iterable[Label],
    sources: list[dict[str, Any]],
    imported: SourceLabels,
    source: str,
    importer: str,
) -> Merged:
    """Merges an import with the labels so far, by the rules above.

    Args:
        known: each with labeller and time.
        sources: rows of `schemas.LABEL_SOURCES` so far.
        source: its name: a path, a table's name or a query.
        importer: the labeller of labels without a name.
    """
    last_import = _by_image(row for row in sources if row["source"] == source)
    # a presorted picture was confirmed before, or moved away and back, if it has been a label
    confirmed = [label for label in imported.waiting if label.image_id in last_import]
    now = datetime.now(UTC)
    merged = Merged({(label.image_id, label.labeller): _dated(label, now) for label in known})
    merged.waiting = len(imported.waiting) - len(confirmed)
    by_image: dict[str, list[Label]] = collections.defaultdict(list)
    for label in [*imported.labels, *confirmed]:
        by_image[label.image_id].append(label)
    rows: list[_Row] = []
    for image_id, labels in by_image.items():
        last = last_import.pop(image_id, [])
        rows += _merge_image(merged, labels, last, _Import(source, importer, now))
        merged.gone += sum(_take_back(merged, row) for row in last)
    for image_id in list(last_import):
        if image_id in (imported.covers or ()):
            merged.gone += sum(_take_back(merged, row) for row in last_import.pop(image_id))
    merged.sources = [row for row in sources if row["source"] != source]
    if imported.covers is not None:
        rows += itertools.chain.from_iterable(last_import.values())
        merged.sources += sorted(rows, key=lambda row: (row["image_id"], row["class"]))
    return merged


def credible(at: datetime | None, now: datetime) -> datetime | None:
    """Returns a time that a clock may have shown; None for an empty date, or one of the future."""
    return at if at and _FIRST_DAY <= at <= now + _CLOCKS_DIFFER else None


def newest(store: Store) -> list[Label]:
    """All labels that count now; none where nothing was imported yet."""
    return _labels_of(store.newest(LABELS))


def save(
    store: Store, imported: SourceLabels, labeller: str, config: dict[str, Any], source: str
) -> tuple[Run, Merged]:
    """Merges an import with the known labels, and writes a run that holds all labels that count.

    Without a labeller, the user of this machine imports. Raises a LabelsError if no label counts.
    """
    last = store.newest(LABELS)
    sources = _source_rows_of(store, last)
    importer = labeller or getpass.getuser()
    merged = merge(_labels_of(last), sources, imported, source, importer)
    if not merged.labels:
        raise LabelsError(
            doing=f"importing labels from {source}",
            expected="at least one label",
            found=f"none, and {merged.waiting} presorted pictures that nobody has looked at",
            todo="look through the class folders, move the mistakes, then run `toiletspark labels "
            "import --reviewed CLASS` for each class that you have looked through",
        )
    labels = [merged.labels[key] for key in sorted(merged.labels)]
    disputed = []
    for number, conflict in enumerate(conflicts(labels), 1):
        disputed += [{"conflict": number, **_row(label)} for label in conflict]
    classes = sorted({(label.image_id, label.label) for label in labels})
    counts = {
        **merged.counts(),
        "images": len({label.image_id for label in labels}),
        "per_class": dict(collections.Counter(name for _, name in classes)),
        "conflicts": disputed[-1]["conflict"] if disputed else 0,
    }
    inputs = Inputs(source=source, before=last.run_id if last else None)
    if imported.table:
        inputs = inputs.updated(source_table=imported.table)
    run_id = store.new_run_id()
    arrow_io.write(store, LABEL_SOURCES, run_id, merged.sources, config=config, inputs=inputs)
    arrow_io.write(store, CONFLICTS, run_id, disputed, config=config, inputs=inputs)
    rows = map(_row, labels)
    run = arrow_io.write(store, LABELS, run_id, rows, config=config, inputs=inputs, counts=counts)
    return run, merged


def covered_images(store: Store, source: str) -> frozenset[str]:
    """The image_ids that a source has labelled in its last import."""
    rows = _source_rows_of(store, store.newest(LABELS))
    return frozenset(row["image_id"] for row in rows if row["source"] == source)


def labelled_contents(store: Store, source: str, how: str) -> dict[str, str]:
    """The contents that a source has labelled, by image_id ("" where it is not known).

    Only labels that still stand as the source gave them (`how`).
    """
    last = store.newest(LABELS)
    labels = {(label.image_id, label.labeller): label for label in _labels_of(last)}
    contents = {}
    for row in _source_rows_of(store, last):
        label = labels.get((row["image_id"], row["labeller"]))
        if row["source"] == source and label and label.how == how:
            contents[label.image_id] = label.content_digest or ""
    return contents


def conflicts(labels: Iterable[Label]) -> list[list[Label]]:
    """The labels that contradict each other about a content, grouped, in the order of the images.

    A label without a digest is about whatever else is labelled under its image_id.
    """
    labels = list(labels)
    contents: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for label in labels:
        if label.content_digest:
            contents[label.image_id][f"content {label.content_digest}"] = None
    about: dict[str, list[Label]] = collections.defaultdict(list)
    for label in labels:
        topics = list(contents.get(label.image_id, [f"image {label.image_id}"]))
        if label.content_digest:
            topics = [f"content {label.content_digest}"]
        for topic in topics:
            about[topic].append(label)
    return [group for group in about.values() if len({label.label for label in group}) > 1]


def shown_conflict(labels: list[Label]) -> str:
    """A conflict in a line: "'H1': toilet (ann, 2026-11-24, sheet), other (bob, ...)"."""
    texts = []
    for label in labels:
        texts.append(f"{label.label} ({label.labeller}, {label.labelled_at:%Y-%m-%d}, {label.how})")
    return f"{labels[0].image_id!r}: {', '.join(texts)}"


@dataclass(frozen=True)
class _Import:
    """The source of an import, the person who makes it, and its time."""

    source: str
    importer: str
    now: datetime


def _merge_image(
    merged: Merged, labels: list[Label], last: list[_Row], current: _Import
) -> list[_Row]:
    """Merges a source's labels of an image with its rows of the last import.

    Removes from `last` what the source still says, or has changed; returns the new rows. A repeated
    label stays with its first importer.
    """
    rows, changed = [], []
    for label in labels:
        same = next((row for row in last if row["class"] == label.label), None)
        if same is None:
            changed.append(label)
            continue
        last.remove(same)
        rows.append(same)
        merged.unchanged += 1
    for label in changed:
        before = last.pop(0) if last else None
        if before is not None:
            _take_back(merged, before)
        merged.misdated += bool(label.labelled_at and not credible(label.labelled_at, current.now))
        dated = _dated(replace(label, labeller=label.labeller or current.importer), current.now)
        _add(merged, dated, current.now, before["class"] if before else None)
        named = {"image_id": label.image_id, "labeller": dated.labeller}
        rows.append({"source": current.source, **named, "class": label.label})
    return rows


def _dated(label: Label, now: datetime) -> Label:
    """The label with a time that a clock may have shown."""
    if label.labelled_at is None or credible(label.labelled_at, now):
        return label
    return replace(label, labelled_at=now)


def _by_image(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    by_image: dict[str, list[_Row]] = collections.defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row)
    return dict(by_image)


def _add(merged: Merged, label: Label, now: datetime, was: str | None) -> None:
    """Puts a label into its labeller's row; `was` is the class at the source's last import."""
    key = (label.image_id, label.labeller)
    before = merged.labels.get(key)
    at = label.labelled_at or now
    if before is not None:
        then = before.labelled_at or at
        digests = {before.content_digest, label.content_digest} - {None, ""}
        same_content = len(digests) < 2
        if same_content and before.label == label.label and was is None:
            merged.unchanged += 1
            latest = max(then, label.labelled_at or then)
            digest = before.content_digest or label.content_digest
            # somebody who was asked about a drawn image has answered, see `training_set.settle`
            how = label.how if before.how == IMAGE_FOLDER else before.how
            known = replace(before, labelled_at=latest, content_digest=digest, how=how)
            merged.labels[key] = known
            return
        if then > at:  # also of another content: an old sheet shows the picture of its day
            merged.outdated += 1
            return
        was = was or (before.label if same_content else None)
    if was is None or was == label.label:
        merged.new += 1
    else:
        merged.changed[f"{was} -> {label.label}"] += 1
    merged.labels[key] = replace(label, labelled_at=at)


def _take_back(merged: Merged, row: dict[str, Any]) -> bool:
    """Removes a label that a source gave, unless its labeller has changed it since."""
    key = (row["image_id"], row["labeller"])
    stands = key in merged.labels and merged.labels[key].label == row["class"]
    if stands:
        del merged.labels[key]
    return stands


def _source_rows_of(store: Store, run: Run | None) -> list[dict[str, Any]]:
    return arrow_io.read(store.run(LABEL_SOURCES, run.run_id)) if run else []


def _labels_of(run: Run | None) -> list[Label]:
    labels = []
    for row in arrow_io.read(run):
        row["label"] = row.pop("class")
        labels.append(Label(**row))
    return labels


def _row(label: Label) -> dict[str, Any]:
    return {**vars(label), "class": label.label}
