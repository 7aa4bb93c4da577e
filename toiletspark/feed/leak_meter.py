"""The leak meter: what the labels of a leak sample say of the version that it was drawn from. Without Spark.

A leak sample stands for all sound images that a version keeps or excludes. What was drawn and labelled before is not
asked about again; the rest is asked in the order of a hash, so whoever stops early has labelled a part that stands for
the rest: the labelled ones of those that were asked about then carry the weight of all of these.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Labels
from toiletspark.errors import OutputError
from toiletspark.hashing import hash_fraction
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import Label
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.sampling.estimates import Bootstrap, Share
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store

KIND = "leaks"
FEWEST = 30  # labels, below which no figure is told as if it were known
CONFLICT = object()  # of labels that contradict each other
_UNKNOWN = Share(None, 0.0, 1.0, 0)


@dataclass(frozen=True)
class Meter:
    """What is known of one version by the labels of one leak sample.

    Attributes:
        run_id: of the sample.
        version: its number; 0 of versions from before there were numbers.
        drawn_at: ISO.
        head_id: of the version.
        operating_threshold: of the version.
        classes: that the feed must not show.
        drawn: contents.
        labelled: of them.
        missing: of them: nobody has labelled these yet.
        in_conflict: of them: labels contradict each other, so they count for nothing.
        asked: how many of the drawn ones nobody had labelled when they were drawn.
        asked_labelled: of these.
        leaking: of the images in the feed, the share that it must not show.
        lost: of the good images, the share that is excluded.
    """

    run_id: str
    version: int
    drawn_at: str
    head_id: str
    operating_threshold: float
    classes: tuple[str, ...]
    drawn: int
    labelled: int
    missing: int
    in_conflict: int
    asked: int
    asked_labelled: int
    leaking: Share
    lost: Share

    @property
    def thin(self) -> bool:
        """Whether there are too few labels to say anything."""
        return self.labelled < FEWEST or self.asked_labelled < min(FEWEST, self.asked)

    @property
    def progress(self) -> str:
        """How many labels there are, as in "10 of 76, and 224 that were known before"."""
        before = self.labelled - self.asked_labelled
        return f"{self.asked_labelled} of {self.asked}" + (
            f", and {before} that were known before" if before else ""
        )

    def __str__(self) -> str:
        """As in "toilets still in the feed: 0.4 % (0.2 to 0.8), good photos lost: 0.6 % (0.3 to 1.1)"."""
        if self.thin:
            return f"too few labels to say: {self.progress}"
        return f"{named(self.classes)} still in the feed: {self.leaking}, good photos lost: {self.lost}"

    def told(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "thin": self.thin, "said": str(self)}


def named(classes: Iterable[str]) -> str:
    """What the feed must not show, in words.

    >>> named(["toilet", "floor_plan"]), named(["abbess"])
    ('toilets and floor plans', 'abbess')
    """
    plain = [name.replace("_", " ") for name in classes]
    return " and ".join(name if name.endswith("s") else f"{name}s" for name in plain)


def drawn_from(store: Store) -> tuple[Version, Run]:
    """The version that is live, and its decisions.

    Raises:
        OutputError: there is none, or it is one from before there were decisions.
    """
    version = versions.live(store)
    decisions = versions.companion(store, version, tables.DECISIONS)
    if version is None or decisions is None:
        raise OutputError(
            doing="drawing a leak sample",
            expected="a published version with its decisions",
            found=f"version {version.run_id}, which has none"
            if version
            else "nothing was published yet",
            todo="run `toiletspark publish` first",
        )
    versions.require_unchanged(decisions, doing="drawing a leak sample")
    return version, decisions


def seed_of(seed: int, version: Version) -> int:
    """What a draw is made with: another one for each version, also for one that shows an older one again."""
    return int(hash_fraction(seed, f"leaks:{version.number}:{version.run_id}") * 2**53)


def inputs_of(version: Version, decisions: Run) -> Inputs:
    """The inputs of a leak sample: its version, and what that was made from."""
    return Inputs(
        kind=KIND,
        version=version.number,
        decisions=decisions.run_id,
        head_id=decisions.inputs.head_id,
        operating_threshold=decisions.inputs.operating_threshold,
        catalog=decisions.inputs.catalog,
    )


def said_of(drawn: Sequence[Mapping[str, Any]], said: Iterable[Label], conflicts: str) -> list[Any]:
    """The label of each drawn content: None where there is none, `CONFLICT` where they contradict each other.

    A label is about the content that was seen; one that came without it is about its image.

    Args:
        drawn: rows with content_digest and image_id.
        said: the labels that count.
        conflicts: labels.conflicts; newest: the newest word counts.
    """
    about: dict[tuple[str, str], list[Label]] = collections.defaultdict(list)
    for label in said:
        key = (
            ("content", label.content_digest) if label.content_digest else ("image", label.image_id)
        )
        about[key].append(label)
    found: list[Any] = []
    for row in drawn:
        words = about[("content", row["content_digest"])] + about[("image", row["image_id"])]
        agreed = {word.label for word in words}
        if len(agreed) > 1 and conflicts != "newest":
            found.append(CONFLICT)
        else:
            newest = max(
                words,
                key=lambda word: (str(word.labelled_at), word.labeller, word.image_id),
                default=None,
            )
            found.append(newest.label if newest else None)
    return found


def estimate(
    drawn: Sequence[Mapping[str, Any]], said: Sequence[Any], exclude_classes: Collection[str]
) -> tuple[Share, Share]:
    """The two figures of a version.

    A content that some of its images leave in the feed and others do not counts on both sides, with its images there.

    Args:
        drawn: rows of `tables.LEAKS`.
        said: see `said_of`.
        exclude_classes: what the feed must not show.

    Returns:
        `Meter.leaking` and `Meter.lost`; their intervals are never narrower than those of as many images drawn by
        plain chance, which leaves room for what the head is sure of and wrong about, and no draw has met yet.
    """
    labelled = np.array([isinstance(label, str) for label in said], dtype=bool)
    if not labelled.any():
        return _UNKNOWN, _UNKNOWN
    weight = _standing_for_all(drawn, labelled)
    sides = [
        (at, side)
        for side in ("kept", "excluded")
        for at in np.flatnonzero(labelled).tolist()
        if drawn[at][side]
    ]
    bootstrap = Bootstrap(
        [drawn[at]["stratum"] or "" for at, _ in sides],
        [drawn[at]["listing_id"] or drawn[at]["image_id"] for at, _ in sides],
        [weight[at] * drawn[at][side] for at, side in sides],
    )
    bad = np.array([said[at] in exclude_classes for at, _ in sides], dtype=bool)
    out = np.array([side == "excluded" for _, side in sides], dtype=bool)
    leaking, lost = bootstrap.shares(np.stack([bad, out]), np.stack([~out, ~bad]))
    return leaking, lost


def meter(run: Run, said: Iterable[Label], section: Labels) -> Meter:
    """Reads one leak sample.

    Args:
        run: of `tables.LEAKS`.
        said: the labels that count.
        section: which classes are to be excluded, and what becomes of conflicts.
    """
    drawn, inputs = rows.read(run), run.inputs
    found = said_of(drawn, said, section.conflicts)
    leaking, lost = estimate(drawn, found, section.exclude_classes)
    is_label = [isinstance(label, str) for label in found]
    asked = [row["rank"] is not None for row in drawn]
    return Meter(
        run_id=run.run_id,
        version=inputs.version,
        drawn_at=run.made_at,
        head_id=inputs.head_id,
        operating_threshold=inputs.operating_threshold,
        classes=tuple(section.exclude_classes),
        drawn=len(drawn),
        labelled=sum(is_label),
        missing=sum(label is None for label in found),
        in_conflict=sum(label is CONFLICT for label in found),
        asked=sum(asked),
        asked_labelled=sum(one and other for one, other in zip(asked, is_label, strict=True)),
        leaking=leaking,
        lost=lost,
    )


def trend(store: Store, section: Labels) -> list[Meter]:
    """What is known of each version that has a leak sample, oldest first, by the labels that count now.

    Of several samples of one version the newest counts. Cost: the labels and all leak samples in memory, about 0.1 s
    per sample of 300.

    Raises:
        OutputError: none was drawn yet.
    """
    store.require(tables.LEAKS, doing="reading the leak meter", step="leaks draw")
    newest = {int(run.inputs.version): run for run in store.runs(tables.LEAKS)}
    said = labels.newest(store)
    return [meter(run, said, section) for _, run in sorted(newest.items())]


def shown(meters: Sequence[Meter]) -> str:
    """The trend as lines for people; what the newest sample says stands last."""
    lines = []
    for one in meters:
        about = f"version {one.version}, drawn {one.drawn_at[:10]}, head {one.head_id[:12]}"
        lines.append(f"{about}, threshold {one.operating_threshold:.4g}: {one}")
    newest = meters[-1]
    if newest.missing:
        lines.append(
            f"{newest.missing} of the newest sample are not labelled yet: `toiletspark labels sheet --queue leaks`"
        )
    if newest.in_conflict:
        lines.append(
            f"{newest.in_conflict} of the newest sample have labels that contradict each other"
        )
    return "\n".join(lines)


def _standing_for_all(
    drawn: Sequence[Mapping[str, Any]], labelled: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weights per image, (n,), with which the labelled rows stand for all: those asked about, and those known before.

    These two are apart, since all of the one have labels, and of the other perhaps only the first few.
    """
    weight = np.array([1 / row["inclusion_probability"] for row in drawn])
    images = weight * np.array([row["kept"] + row["excluded"] for row in drawn])
    asked = np.array([row["rank"] is not None for row in drawn], dtype=bool)
    for group in (asked, ~asked):
        if (there := images[group & labelled].sum()) > 0:
            weight[group] *= images[group].sum() / there
    return weight
