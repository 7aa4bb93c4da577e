"""The targets: what is attacked, with what input, and what must hold afterwards.

An example is a folder of files: what a stranger, a colleague or a broken disk may put there. A
check reads it as the product does. It may raise an error in four parts, or a row's status; any
other exception is a finding, and so is a crash, a hang, or memory without bounds, which only the
process around it can see (`benchmarks/fuzz.py`).
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzzing import bundled, pictures, written
from toiletspark.config import Config, Decode, loading
from toiletspark.errors import ToiletsparkError
from toiletspark.images import decoding
from toiletspark.images.decoding import Preprocessing
from toiletspark.images.sandbox import protocol
from toiletspark.images.statuses import STATUSES
from toiletspark.labels import class_folders, label_files
from toiletspark.labels.merge import SourceLabels, merge
from toiletspark.model.registry import load
from toiletspark.publishing import override_rules
from toiletspark.publishing.versions import log
from toiletspark.tables import arrow_io
from toiletspark.tables.runs import Store

CLASSES = ["toilet", "other"]
INPUT = Preprocessing(40, 32, jpeg_scaling=True)
_MOST_SIDE_PX = 2**31  # the ledger's columns are 32 bits wide
_THUMBNAIL_PX = 96

Files = dict[str, bytes]


@dataclass(frozen=True)
class Target:
    """One thing that reads what others have written.

    Attributes:
        files: the examples, names to contents; names may hold a slash.
        check: reads the folder they were written to.
        loads: modules that it imports on its way, so that their memory is not taken for the
            example's.
    """

    files: st.SearchStrategy[Files]
    check: Callable[[Path], None]
    loads: tuple[str, ...] = ()


def run(target: Target, folder: Path) -> None:
    """Reads an example; an error in four parts is a result too.

    Raises:
        Exception: a finding.
    """
    try:
        target.check(folder)
    except ToiletsparkError as error:
        parts = (error.doing, error.expected, error.found, error.todo)
        assert all(part.strip() for part in parts), parts
        str(error).encode("utf-8", "backslashreplace")


def write(files: Files, folder: Path) -> None:
    """Puts an example into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def decode_limits(max_pixels: int = 50_000_000) -> Decode:
    """conf/base.toml's, with all the formats that a conf may add."""
    limits = loading.load().decode
    return limits.model_copy(update={"formats": list(pictures.FORMATS), "max_pixels": max_pixels})


def _decode(folder: Path) -> None:
    content = (folder / "picture").read_bytes()
    limits = _LIMITS
    (outcome,) = decoding.decode([content], limits, INPUT)
    assert outcome.status in STATUSES, outcome.status
    assert outcome.detail.isprintable(), outcome.detail
    assert len(outcome.detail) <= 100, outcome.detail
    assert (
        0
        <= min(outcome.width, outcome.height)
        <= max(outcome.width, outcome.height)
        < _MOST_SIDE_PX
    )
    assert (outcome.pixels is not None) == (outcome.status == "ok")
    if outcome.pixels is None:
        return
    assert (outcome.pixels.shape, outcome.pixels.dtype) == (
        (INPUT.crop_px, INPUT.crop_px, 3),
        np.uint8,
    )
    size = decoding.measure(content, _LIMITS)
    assert (size.width, size.height) == (outcome.width, outcome.height)


def _thumbnail(folder: Path) -> None:
    small = decoding.thumbnail((folder / "picture").read_bytes(), _LIMITS, _THUMBNAIL_PX)
    if small is None:
        return
    again = decoding.open_checked(
        small, _LIMITS.model_copy(update={"min_side_px": 1, "formats": ["JPEG"]})
    )
    assert max(again.size) <= _THUMBNAIL_PX, again.size
    assert not {"exif", "icc_profile", "comment"} & {*again.info}


def _answer(folder: Path) -> None:
    """A child that was taken over by what it decodes answers as it likes, and is gone."""
    text = (folder / "answer").read_bytes()
    for task in _TASKS:
        ours, theirs = socket.socketpair()
        with ours, theirs, contextlib.suppress(protocol.ProtocolError):
            theirs.sendall(text)
            theirs.shutdown(socket.SHUT_WR)
            outcome, picture = protocol.read_response(ours, task)
            assert outcome.status in STATUSES, outcome.status
            assert outcome.detail.isprintable(), outcome.detail
            assert (
                0
                <= min(outcome.width, outcome.height)
                <= max(outcome.width, outcome.height)
                < _MOST_SIDE_PX
            )
            assert task.accepts(len(picture)) if outcome.status == "ok" else not picture


def _bundle(folder: Path) -> None:
    head = load(str(folder))
    width = head.weight.shape[1]
    scores = head.exclusion_scores(head.probabilities(np.ones((3, width), np.float32)))
    assert scores.shape == (3,)
    json.dumps(head.facts)


def _labels(labels: SourceLabels) -> None:
    """Labels that were read can be merged and kept: ids, classes, digests and times are valid."""
    merged = merge([], [], labels, "a file", "somebody")
    for label in merged.labels.values():
        assert label.label in CLASSES
        assert isinstance(label.image_id, str)
        assert isinstance(label.labeller, str)
        assert label.content_digest is None or isinstance(label.content_digest, str)
        assert label.labelled_at is not None
        written.stored_moment(label.labelled_at)
        label.image_id.encode()


def _label_file(folder: Path) -> None:
    _labels(label_files.read(str(folder / "labels.json"), CLASSES))


def _class_folders(folder: Path) -> None:
    class_folders.any_labelled(folder, CLASSES)
    class_folders.exported_ids(folder)
    _labels(class_folders.read(folder, CLASSES, ["toilet"]))


def _overrides(folder: Path) -> None:
    """The rows as Spark hands them over: all text or null."""
    table = json.loads((folder / "rows.json").read_bytes())
    parsed = override_rules.parse(table, CLASSES, doing="reading overrides")
    resolved = override_rules.resolve(parsed)
    for override in parsed:
        for moment in (override.when, override.until):
            assert moment is None or isinstance(moment, datetime)
    override_rules.as_labels(resolved, {}, {}, CLASSES, CLASSES[:1])


def _conf(folder: Path) -> None:
    sets = (folder / "sets").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    suffix = ".json" if (folder / "conf.json").exists() else ".toml"
    result = loading.load([folder / f"conf{suffix}"], [text for text in sets if text])
    assert isinstance(result, Config)
    assert loading.Config.model_validate(result.resolved()) == result or _has_nan(result.resolved())
    json.dumps(result.recorded())


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return any(map(_has_nan, value)) if isinstance(value, list) else value != value


def _versions(folder: Path) -> None:
    store = Store(str(folder))
    for read in (
        lambda: log.current(str(folder)),
        lambda: arrow_io.read(log.current(str(folder), allow_stale=True)),
        lambda: log.live(store),
        lambda: log.published(str(folder)),
        lambda: [(one.run_id, one.counts, one.shows) for one in log.read_all(store)],
    ):
        run(Target(st.just({}), lambda _, read=read: read()), folder)


_LIMITS = decode_limits()
_TASKS = (
    protocol.Input(_LIMITS, INPUT),
    protocol.Thumbnail(_LIMITS, _THUMBNAIL_PX, 80),
    protocol.Measure(_LIMITS),
)
_PICTURE = pictures.files().map(lambda content: {"picture": content})
TARGETS = {
    "decode": Target(_PICTURE, _decode),
    "thumbnail": Target(_PICTURE, _thumbnail),
    "label_file": Target(written.label_files(), _label_file),
    "class_folders": Target(written.class_folders(), _class_folders, ("torchvision.datasets",)),
    "answer": Target(written.answers().map(lambda content: {"answer": content}), _answer),
    "bundle": Target(bundled.files(), _bundle),
    "conf": Target(written.confs(), _conf),
    "overrides": Target(written.overrides(), _overrides),
    "versions": Target(written.versions(), _versions),
}
