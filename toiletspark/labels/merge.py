"""Labels: who said what of which image, when and how; and what becomes of it when somebody says something new.

Each import is merged with the newest run of `tables.LABELS` into a new one, by these rules:

- There is one row per (image_id, labeller): a labeller's newer word replaces the older one.
- A folder or a table has one voice. It is compared with what it said at its last import (`tables.LABEL_SOURCES`), and
  only what differs is a word; who imports it has said that. What it shows and no longer labels is gone.
- The table of overrides has one voice too, though each of its rows names its labeller.
- A file of the contact sheet or of Label Studio names labellers and times; it adds words and takes none back. A word
  that is older than the labeller's last one is not taken.
- Labellers who contradict each other about one content are a conflict: both words stay and are listed.

Nothing here needs Spark.
"""

from __future__ import annotations

import collections
import getpass
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from toiletspark.errors import LabelsError
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id

Key = tuple[str, str]


@dataclass(frozen=True)
class Label:
    """One word of one person.

    Attributes:
        image_id: of what.
        label: the class.
        content_digest: of the picture that was seen; None where the label came without it.
        how: see `tables.LABELS`.
        labeller: who; "" = whoever imports.
        labelled_at: when, with its time zone; None where nobody has noted it: the time of the import then.
    """

    image_id: str
    label: str
    content_digest: str | None
    how: str
    labeller: str = ""
    labelled_at: datetime | None = None


@dataclass(frozen=True)
class Said:
    """What one source says now.

    Attributes:
        labels: its words.
        shows: a source with one voice shows these images, and what it says of them is all; None: it only adds.
        waiting: what lies presorted in folders that nobody has looked through; no labels yet.
    """

    labels: list[Label]
    shows: frozenset[str] | None = None
    waiting: list[Label] = field(default_factory=list)


@dataclass
class Merged:
    """All labels that count after an import, and what it changed; `sources` as in `tables.LABEL_SOURCES`."""

    labels: dict[Key, Label]
    sources: list[dict[str, Any]]
    new: int = 0
    changed: collections.Counter[str] = field(default_factory=collections.Counter)
    gone: int = 0
    unchanged: int = 0
    outdated: int = 0
    waiting: int = 0

    def counts(self) -> dict[str, Any]:
        """The figures for manifest and summary."""
        names = ("new", "gone", "unchanged", "outdated", "waiting")
        return {
            **{name: getattr(self, name) for name in names},
            "changed": dict(sorted(self.changed.items())),
        }

    def told(self) -> str:
        """What changed since the last import, as in "12 new, 2 changed (toilet -> other 2), 1 gone, 480 unchanged"."""
        moves = ", ".join(f"{move} {count}" for move, count in self.changed.most_common())
        changed = f"{self.changed.total()} changed" + (f" ({moves})" if moves else "")
        rare = {
            "older than what is known": self.outdated,
            "presorted and not looked at": self.waiting,
        }
        more = [f"{count} {what}" for what, count in rare.items() if count]
        return ", ".join(
            [f"{self.new} new", changed, f"{self.gone} gone", f"{self.unchanged} unchanged", *more]
        )


def merge(
    known: Iterable[Label], sources: list[dict[str, Any]], said: Said, source: str, who: str
) -> Merged:
    """What counts after a source has spoken; see the rules above.

    Args:
        known: all labels so far, each with labeller and time.
        sources: rows of `tables.LABEL_SOURCES` so far.
        said: what the source says now.
        source: its name, a path.
        who: imports it.
    """
    mine = {row["image_id"]: row for row in sources if row["source"] == source}
    merged = Merged(
        {(label.image_id, label.labeller): label for label in known}, [], waiting=len(said.waiting)
    )
    # what lies as presorted was confirmed before, or moved away and brought back, if it has been a label
    words = [*said.labels, *(label for label in said.waiting if label.image_id in mine)]
    merged.waiting -= len(words) - len(said.labels)
    now = datetime.now(UTC)
    for word in words:
        before = mine.get(word.image_id)
        if before is not None and before["class"] == word.label:
            merged.unchanged += 1
            continue
        if before is not None:
            _forget(merged, before)
        _take(
            merged,
            replace(word, labeller=word.labeller or who),
            now,
            before["class"] if before else None,
        )
    _drop_gone(merged, mine, said, {word.image_id for word in words})
    merged.sources = [row for row in sources if row["source"] != source] + _said(
        mine, said, words, source, who
    )
    return merged


def newest(store: Store) -> list[Label]:
    """All labels that count now; none where nothing was imported yet."""
    return [_label(row) for row in rows.read(store.newest(tables.LABELS))]


def keep(
    store: Store, said: Said, labeller: str, config: dict[str, Any], source: str
) -> tuple[Run, Merged]:
    """Merges what was said with what is known, and keeps it as a new run; the newest run holds all that counts.

    Raises:
        LabelsError: there is not one label then.
    """
    last = store.newest(tables.LABELS)
    known = [_label(row) for row in rows.read(last)]
    earlier = rows.read(store.run(tables.LABEL_SOURCES, last.run_id)) if last else []
    merged = merge(known, earlier, said, source, labeller or getpass.getuser())
    _require_any(merged, source)
    labels = [merged.labels[key] for key in sorted(merged.labels)]
    run_id, inputs = new_run_id(), Inputs(source=source, before=last.run_id if last else None)
    disputed = [
        {"conflict": at, **_row(one)}
        for at, said_of in enumerate(conflicts(labels), 1)
        for one in said_of
    ]
    for table, found in ((tables.LABEL_SOURCES, merged.sources), (tables.CONFLICTS, disputed)):
        rows.write(store, table, run_id, found, config=config, inputs=inputs)
    counts = {
        **merged.counts(),
        "images": len({label.image_id for label in labels}),
        "per_class": dict(
            collections.Counter(
                name for _, name in sorted({(one.image_id, one.label) for one in labels})
            )
        ),
        "conflicts": disputed[-1]["conflict"] if disputed else 0,
    }
    written = rows.write(
        store, tables.LABELS, run_id, map(_row, labels), config=config, inputs=inputs, counts=counts
    )
    return written, merged


def spoken(store: Store, source: str, how: str) -> dict[str, str]:
    """The labels of a source with one voice that stand as it gave them (`how`): image_id -> the content seen, or ""."""
    last = store.newest(tables.LABELS)
    said = rows.read(store.run(tables.LABEL_SOURCES, last.run_id)) if last else []
    standing = {
        (row["image_id"], row["labeller"]): row for row in rows.read(last) if row["how"] == how
    }
    mine = [(row["image_id"], row["labeller"]) for row in said if row["source"] == source]
    return {key[0]: standing[key]["content_digest"] or "" for key in mine if key in standing}


def conflicts(labels: Iterable[Label]) -> list[list[Label]]:
    """The labels that contradict each other about one content, conflict by conflict, in the order of the images.

    A label without a digest is about whatever else is labelled under its image_id.
    """
    labels = list(labels)
    contents: dict[str, dict[str, None]] = {}
    for label in labels:
        if label.content_digest:
            contents.setdefault(label.image_id, {})[f"content {label.content_digest}"] = None
    about: dict[str, list[Label]] = {}
    for label in labels:
        own = (
            [f"content {label.content_digest}"]
            if label.content_digest
            else contents.get(label.image_id)
        )
        for content in own or [f"image {label.image_id}"]:
            about.setdefault(content, []).append(label)
    return [said for said in about.values() if len({label.label for label in said}) > 1]


def shown_conflict(said: list[Label]) -> str:
    """One conflict in a line, as in "'H1-2': toilet (ann, 2026-11-24, sheet), other (bob, 2026-11-20, folder)"."""
    words = [
        f"{label.label} ({label.labeller}, {label.labelled_at:%Y-%m-%d}, {label.how})"
        for label in said
    ]
    return f"{said[0].image_id!r}: {', '.join(words)}"


def _require_any(merged: Merged, source: str) -> None:
    if not merged.labels:
        raise LabelsError(
            doing=f"importing labels from {source}",
            expected="at least one label",
            found=f"none, and {merged.waiting} presorted pictures that nobody has looked at",
            todo="look through the class folders, move the mistakes, then run `toiletspark labels import "
            "--reviewed CLASS` for each class that you have looked through",
        )


def _take(merged: Merged, word: Label, now: datetime, was: str | None) -> None:
    """Puts a word in its labeller's row; `was` is what its source said before, if that is known."""
    key = (word.image_id, word.labeller)
    before, at = merged.labels.get(key), word.labelled_at or now
    if before is not None:
        then, same = before.labelled_at or at, _same_content(before, word)
        if same and before.label == word.label and was is None:
            merged.unchanged += 1
            seen = before.content_digest or word.content_digest
            merged.labels[key] = replace(
                before, labelled_at=max(then, word.labelled_at or then), content_digest=seen
            )
            return
        if (
            then > at
        ):  # of another content too: an old sheet that is read again shows the picture of its day
            merged.outdated += 1
            return
        was = was or (before.label if same else None)
    if was is None or was == word.label:
        merged.new += 1
    else:
        merged.changed[f"{was} -> {word.label}"] += 1
    merged.labels[key] = replace(word, labelled_at=at)


def _same_content(one: Label, other: Label) -> bool:
    return (
        not one.content_digest
        or not other.content_digest
        or one.content_digest == other.content_digest
    )


def _forget(merged: Merged, before: dict[str, Any]) -> bool:
    """Takes back what a source said, unless its labeller has said something else since."""
    key = (before["image_id"], before["labeller"])
    stands = key in merged.labels and merged.labels[key].label == before["class"]
    if stands:
        del merged.labels[key]
    return stands


def _drop_gone(
    merged: Merged, mine: dict[str, dict[str, Any]], said: Said, labelled: set[str]
) -> None:
    for image_id in (said.shows or frozenset()) & mine.keys() - labelled:
        merged.gone += _forget(merged, mine[image_id])


def _said(
    mine: dict[str, dict[str, Any]], said: Said, words: list[Label], source: str, who: str
) -> list[dict[str, Any]]:
    """What a source with one voice has said by now: who said it first stays with what it repeats."""
    if said.shows is None:
        return []
    kept = {image_id: row for image_id, row in mine.items() if image_id not in said.shows}
    for word in words:
        before = mine.get(word.image_id)
        repeated = before is not None and before["class"] == word.label
        kept[word.image_id] = (before if repeated else None) or {
            "source": source,
            "image_id": word.image_id,
            "class": word.label,
            "labeller": word.labeller or who,
        }
    return [kept[image_id] for image_id in sorted(kept)]


def _row(label: Label) -> dict[str, Any]:
    return {
        "image_id": label.image_id,
        "labeller": label.labeller,
        "class": label.label,
        "content_digest": label.content_digest,
        "labelled_at": label.labelled_at,
        "how": label.how,
    }


def _label(row: dict[str, Any]) -> Label:
    named = {
        name: row[name] for name in ("image_id", "content_digest", "how", "labeller", "labelled_at")
    }
    return Label(label=row["class"], **named)
