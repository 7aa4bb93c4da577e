"""The share of toilets that are still in the feed, by the labels of a leak sample. No Spark.

A leak sample stands for all sound images that a version keeps or excludes. Nobody is asked about
images that were labelled before. The others are asked about in the order of a hash, so a labeller
who stops early has labelled a random part, which carries the weight of all.
"""

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Labels
from toiletspark.errors import OutputError
from toiletspark.hashing import hash_fraction
from toiletspark.labels import merge
from toiletspark.labels.merge import Label
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import Version
from toiletspark.sampling.estimates import Bootstrap, Share
from toiletspark.tables import arrow_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import DECISIONS, LEAKS

KIND = "leaks"
FEWEST = 30  # labels; below, no figure is shown
CONFLICT = object()  # in place of labels that contradict each other
_UNKNOWN = Share(None, 0.0, 1.0, 0)
DrawnRows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Meter:
    """The figures of one version by the labels of one leak sample."""

    run_id: str  # of the sample
    version: int
    drawn_at: str  # ISO 8601
    head_id: str  # of the version
    operating_threshold: float  # of the version
    classes: tuple[str, ...]  # that the feed must not show
    drawn: int  # contents in the sample
    labelled: int  # contents with a label
    missing: int  # contents without a label
    in_conflict: int  # contents whose labels contradict each other; they count for nothing
    asked: int  # contents that had no label when they were drawn
    asked_labelled: int  # of these, contents with a label now
    leaking: Share  # the share of the images in the feed that it must not show
    lost: Share  # the excluded share of the good images

    @property
    def thin(self) -> bool:
        """True if there are too few labels for figures."""
        return self.labelled < FEWEST or self.asked_labelled < min(FEWEST, self.asked)

    @property
    def progress(self) -> str:
        """The number of labels, as in "10 of 76, and 224 that were known before"."""
        before = self.labelled - self.asked_labelled
        known = f", and {before} that were known before" if before else ""
        return f"{self.asked_labelled} of {self.asked}{known}"

    def __str__(self) -> str:
        """The figures in words, or the number of labels if there are too few.

        "toilets still in the feed: 0.4 % (0.2 to 0.8), good photos lost: 0.6 % (0.3 to 1.1)"
        """
        if self.thin:
            return f"too few labels to say: {self.progress}"
        leaking = f"{named(self.classes)} still in the feed: {self.leaking}"
        return f"{leaking}, good photos lost: {self.lost}"

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        return {**asdict(self), "thin": self.thin, "said": str(self)}


def named(classes: Iterable[str]) -> str:
    """The classes that the feed must not show, in words.

    >>> named(["toilet", "floor_plan"]), named(["abbess"])
    ('toilets and floor plans', 'abbess')
    """
    plain = [name.replace("_", " ") for name in classes]
    return " and ".join(name if name.endswith("s") else f"{name}s" for name in plain)


def drawn_from(store: Store) -> tuple[Version, Run]:
    """The live version and its decisions, verified; an OutputError if there are none."""
    doing, version = "drawing a leak sample", log.live(store)
    decisions = store.run(DECISIONS, version.run_id) if version else None
    if version is None or decisions is None:
        raise OutputError(
            doing=doing,
            expected="a published version with its decisions",
            found=f"version {version.number} without them" if version else "no version",
            todo="run `toiletspark publish` first",
        )
    decisions.verify(doing=doing)
    return version, decisions


def seed_of(seed: int, version: Version) -> int:
    """The seed of a draw, another one for each version, also for a rollback."""
    return int(hash_fraction(seed, f"leaks:{version.number}:{version.run_id}") * 2**53)


def inputs_of(version: Version, decisions: Run) -> Inputs:
    """The inputs of a leak sample: its version, and the inputs of that."""
    return Inputs(
        kind=KIND,
        version=version.number,
        decisions=decisions.run_id,
        **decisions.inputs.model_dump(include=log.DECIDED_BY),
    )


def labels_of(drawn: DrawnRows, labels: Iterable[Label], conflicts: str) -> list[Any]:
    """The label of each drawn content: None without a label, `CONFLICT` if labels contradict.

    A label without a content_digest is about its image. Labels of people's own folders are left
    out: they choose what they label. `conflicts` is labels.conflicts; with "newest" the newest
    label counts.
    """
    by_subject: dict[tuple[str, str], list[Label]] = collections.defaultdict(list)
    for label in labels:
        if label.how == merge.IMAGE_FOLDER:
            continue
        digest = label.content_digest
        by_subject["content" if digest else "image", digest or label.image_id].append(label)
    answers = []
    for row in drawn:
        about = by_subject["content", row["content_digest"]] + by_subject["image", row["image_id"]]
        answers.append(_label(about, conflicts))
    return answers


def _label(labels: Sequence[Label], conflicts: str) -> Any:
    if conflicts != "newest" and len({label.label for label in labels}) > 1:
        return CONFLICT

    def age(label: Label) -> tuple[str, ...]:
        return str(label.labelled_at), label.labeller, label.image_id

    return max(labels, key=age).label if labels else None


def estimate(
    drawn: DrawnRows, labels: Sequence[Any], exclude_classes: Collection[str]
) -> tuple[Share, Share]:
    """`Meter.leaking` and `Meter.lost`, from rows of `schemas.LEAKS` and their `labels_of`.

    A content that some of its images keep in the feed and others do not counts on both sides. The
    intervals are never narrower than those of as many images drawn with equal probability, which
    leaves room for images that the head is sure of and wrong about, and that no draw contains yet.
    """
    is_labelled = np.array([isinstance(label, str) for label in labels], dtype=bool)
    if not is_labelled.any():
        return _UNKNOWN, _UNKNOWN
    weight = _weights(drawn, is_labelled)
    sides = [
        (index, side)
        for side in ("kept", "excluded")
        for index in np.flatnonzero(is_labelled).tolist()
        if drawn[index][side]
    ]
    bootstrap = Bootstrap(
        [drawn[index]["stratum"] or "" for index, _ in sides],
        [drawn[index]["listing_id"] or drawn[index]["image_id"] for index, _ in sides],
        [weight[index] * drawn[index][side] for index, side in sides],
    )
    bad = np.array([labels[index] in exclude_classes for index, _ in sides], dtype=bool)
    out = np.array([side == "excluded" for _, side in sides], dtype=bool)
    leaking, lost = bootstrap.shares(np.stack([bad, out]), np.stack([~out, ~bad]))
    return leaking, lost


def meter(run: Run, all_labels: Iterable[Label], section: Labels) -> Meter:
    """The figures of one leak sample, a run of `schemas.LEAKS`, by the labels that count."""
    drawn, inputs = arrow_io.read(run), run.inputs
    labels = labels_of(drawn, all_labels, section.conflicts)
    leaking, lost = estimate(drawn, labels, section.exclude_classes)
    asked = [label for row, label in zip(drawn, labels, strict=True) if row["rank"] is not None]
    return Meter(
        run_id=run.run_id,
        version=inputs.version,
        drawn_at=run.made_at,
        head_id=inputs.head_id,
        operating_threshold=inputs.operating_threshold,
        classes=tuple(section.exclude_classes),
        drawn=len(drawn),
        labelled=_number_labelled(labels),
        missing=sum(label is None for label in labels),
        in_conflict=sum(label is CONFLICT for label in labels),
        asked=len(asked),
        asked_labelled=_number_labelled(asked),
        leaking=leaking,
        lost=lost,
    )


def _number_labelled(labels: Iterable[Any]) -> int:
    return sum(isinstance(label, str) for label in labels)


def trend(store: Store, section: Labels) -> list[Meter]:
    """The figures of each version with a leak sample, oldest first, by the labels that count now.

    Of several samples of a version the newest counts; raises OutputError if none was drawn yet.
    Cost: the labels and all leak samples in memory, about 0.1 s per sample of 300.
    """
    store.require(LEAKS, doing="reading the leak meter", step="leaks draw")
    newest = {run.inputs.version: run for run in store.runs(LEAKS)}
    labels = merge.newest(store)
    return [meter(run, labels, section) for _, run in sorted(newest.items())]


def shown(meters: Sequence[Meter]) -> str:
    """The trend as lines for people, the newest sample last."""
    lines = [
        f"version {meter.version}, drawn {meter.drawn_at[:10]}, head {meter.head_id[:12]}, "
        f"threshold {meter.operating_threshold:.4g}: {meter}"
        for meter in meters
    ]
    newest = meters[-1]
    if newest.missing:
        todo = "`toiletspark labels sheet --queue leaks`"
        lines.append(f"{newest.missing} of the newest sample are not labelled yet: {todo}")
    if newest.in_conflict:
        conflict = "of the newest sample have labels that contradict each other"
        lines.append(f"{newest.in_conflict} {conflict}")
    return "\n".join(lines)


def _weights(drawn: DrawnRows, is_labelled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights, (n,), with which the labelled rows stand for all.

    Rows to ask about, of which perhaps only the first few have labels, and the others, which all
    have one, are weighted apart.
    """
    weight = np.array([1 / row["inclusion_probability"] for row in drawn])
    images = weight * np.array([row["kept"] + row["excluded"] for row in drawn])
    asked = np.array([row["rank"] is not None for row in drawn], dtype=bool)
    for group in (asked, ~asked):
        labelled_images = images[group & is_labelled].sum()
        if labelled_images > 0:
            weight[group] *= images[group].sum() / labelled_images
    return weight
