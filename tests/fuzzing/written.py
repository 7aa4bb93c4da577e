"""Altered files of people and programs: labels, folders, configurations, overrides, versions."""

from __future__ import annotations

import json
import socket
import struct
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.fuzzing import altered
from tests.fuzzing.altered import Draw
from toiletspark.config import loading
from toiletspark.images import statuses
from toiletspark.images.decoding import Decoded
from toiletspark.images.sandbox import protocol
from toiletspark.publishing.versions import log
from toiletspark.tables import arrow_io, schemas
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store

Files = dict[str, bytes]
_TIMES = (
    "2026-11-25T10:00:00+01:00",
    "2026-11-25",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
    "soon",
)
_SHEET = {
    "format": "toiletspark-labels",
    "format_version": 1,
    "sheet": "s1",
    "labeller": "ada",
    "labels": [
        {"image_id": "a", "content_digest": "d1", "class": "toilet", "labelled_at": _TIMES[0]},
        {
            "image_id": "b",
            "content_digest": None,
            "class": "other",
            "labelled_at": "2026-11-25T10:00:00Z",
        },
    ],
}
_CHOICE = {
    "from_name": "choice",
    "to_name": "image",
    "type": "choices",
    "value": {"choices": ["toilet"]},
}
_EXPORT = [
    {
        "id": 1,
        "data": {"image": "x", "image_id": "a", "content_digest": "d1"},
        "annotations": [
            {"result": [_CHOICE], "completed_by": {"email": "ada@x"}, "updated_at": _TIMES[0]}
        ],
    },
    {
        "id": 2,
        "image_id": "b",
        "content_digest": None,
        "choice": "other",
        "annotator": 7,
        "created_at": _TIMES[0],
    },
]
_OVERRIDES = [
    {"image_id": "a", "content_digest": None, "decision": "keep", "who": "ada", "why": "a kitchen"},
    {
        "image_id": "",
        "content_digest": "d",
        "decision": "exclude",
        "label": "toilet",
        "who": "bo",
        "why": "see it",
    },
    {
        "image_id": "c",
        "decision": "keep",
        "who": "x",
        "why": "y",
        "when": "2026-11-30",
        "until": _TIMES[0],
    },
]
_TOML = (
    "1",
    "-1",
    "0x" + "f" * 6000,
    altered.HUGE,
    "inf",
    "nan",
    "1e400",
    "true",
    "''",
    '"\\u0000"',
    "[]",
    "{}",
)
_TOML += (
    "1979-05-27T07:32:00Z",
    "2026-13-45",
    '"${HOME}"',
    '"${NOT_SET}"',
    '"~x/y"',
    "[[1], ['a']]",
    '"""',
    "'é'",
)
_TOML += ("[" * 2000 + "]" * 2000, "{a = " * 200 + "1" + "}" * 200)


def stored_moment(moment: datetime) -> None:
    """The table's form of it."""
    pa.array([moment], pa.timestamp("us", tz="UTC"))


def label_files() -> st.SearchStrategy[Files]:
    """A contact sheet's file, or Label Studio's export."""
    return st.one_of(altered.json_bytes(_SHEET), altered.json_bytes(_EXPORT), _timed()).map(
        lambda content: {"labels.json": content}
    )


@st.composite
def _timed(draw: Draw) -> bytes:
    """Labels that are sound but for their time."""
    at: Any = draw(st.sampled_from(_TIMES) | st.integers(-(2**62), 2**62) | st.datetimes().map(str))
    word = {**_SHEET["labels"][0], "labelled_at": at}  # type: ignore[index]
    task = {**_EXPORT[0], "annotations": [{**_EXPORT[0]["annotations"][0], "updated_at": at}]}  # type: ignore[index]
    return json.dumps(draw(st.sampled_from([{**_SHEET, "labels": [word]}, [task]]))).encode()


# named by the digests of the image_ids a, b and c
_PICTURES = ("ca978112ca1bbdca.jpg", "3e23e8160039594a.jpg", "2e7d2c03a9507ae2.jpg")


@st.composite
def class_folders(draw: Draw) -> Files:
    """An export folder with pictures that somebody has moved; its index is sound, or not."""
    lines = [
        "file,image_id,content_digest",
        f"unlabelled/{_PICTURES[0]},a,d1",
        f"toilet/{_PICTURES[1]},b,",
        f"other/{_PICTURES[2]},c,d3",
    ]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["remove", "repeat", "text", "cell", "long"]))
        if kind == "remove" and len(lines) > 1:
            del lines[at]
        elif kind == "repeat":
            lines.insert(at, lines[at])
        elif kind == "text":
            lines[at] = draw(
                st.text(max_size=30)
                | st.sampled_from(["", ",", ",,,,,", '"', "file", "../..,a,b", "\0"])
            )
        else:
            cells = lines[at].split(",")
            cells[draw(st.integers(0, len(cells) - 1))] = (
                "x" * 200_000 if kind == "long" else draw(_cell())
            )
            lines[at] = ",".join(cells)
    index = "\r\n".join(lines).encode("utf-8", "surrogatepass")
    files = {"index.csv": draw(altered.data([index], most=2)) if draw(st.booleans()) else index}
    names = st.sampled_from(
        [*_PICTURES, "4.jpg", ".DS_Store", f"sub/{_PICTURES[0]}", f"é\n {_PICTURES[1]}"]
    )
    for folder in (
        "toilet",
        "other",
        "unlabelled",
        draw(st.sampled_from(["toilet", "other", "more", "."])),
    ):
        if draw(st.integers(0, 7)):
            files[f"{folder}/{draw(names)}"] = b""
    if not draw(st.integers(0, 9)):
        files["index.csv/inner"] = files.pop("index.csv")
    return files


def _cell() -> st.SearchStrategy[str]:
    return st.sampled_from(altered.ODD_TEXTS) | st.text(max_size=10)


@st.composite
def confs(draw: Draw) -> Files:
    """A configuration file and values for `--set`; most keys exist."""
    sets = draw(st.lists(_assignment(), max_size=3))
    files = {"sets": "\0".join(sets).encode("utf-8", "surrogatepass")}
    kind = draw(st.sampled_from(["toml", "toml", "bytes", "json"]))
    if kind == "json":
        return {**files, "conf.json": draw(altered.json_bytes(_resolved()))}
    if kind == "bytes":
        return {**files, "conf.toml": draw(altered.data([loading.base_text().encode()]))}
    lines = draw(st.lists(_assignment(), max_size=4))
    return {**files, "conf.toml": "\n".join(lines).encode("utf-8", "surrogatepass")}


@cache
def _keys() -> list[str]:
    return [
        *loading.known_keys(),
        *('fetch.storage_options."s3".key', "sample.strata.other", "a b", "", "x.y", "="),
    ]


@st.composite
def _assignment(draw: Draw) -> str:
    value = draw(st.sampled_from(_TOML) | st.text(max_size=12) | altered.values().map(json.dumps))
    return f"{draw(st.sampled_from(_keys()))}={value}"


@cache
def _resolved() -> dict[str, Any]:
    return loading.load().resolved()


def overrides() -> st.SearchStrategy[Files]:
    """Rows of the table of overrides, with cells that are any text, or null."""
    cell = (
        st.none()
        | st.sampled_from([*altered.ODD_TEXTS, *_TIMES, "keep", "toilet"])
        | st.text(max_size=12)
    )
    cell |= st.sampled_from(
        ["0001-01-01T00:00:00+05:00", "10000-01-01", "2026-W48-1", "20261130", "2026-11-30T24:00"]
    )
    change = st.tuples(
        st.integers(0, 2), st.sampled_from(["when", "until", "image_id", "decision", "label"]), cell
    )

    def changed(changes: list[tuple[int, str, str | None]]) -> Files:
        table: list[dict[str, str | None]] = [dict(row) for row in _OVERRIDES]  # type: ignore[arg-type]
        for number, name, text in changes:
            table[number][name] = text
        return {"rows.json": json.dumps(table).encode()}

    return st.lists(change, max_size=4).map(changed)


@cache
def _published() -> Files:
    """A store with two published versions."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        for run_id in ("20260101T000000000000Z-aaaa", "20260102T000000000000Z-bbbb"):
            row = {"image_id": "a", "listing_id": "l", "run_id": run_id}
            entries = arrow_io.write(
                store, schemas.EXCLUSION_LIST, run_id, [row], config={}, inputs=Inputs()
            )
            log.publish(store, entries, valid_for_h=1e6, counts={"images": 1})
        result = (
            path
            for path in Path(folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in result}


@st.composite
def versions(draw: Draw) -> Files:
    """A store whose pointer, log, manifests or lists are altered, or partly gone."""
    files = dict(_published())
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(files)))
        if not draw(st.integers(0, 5)):
            del files[name]
        elif name.endswith(".json"):
            files[name] = draw(altered.json_bytes(json.loads(_published()[name])))
        else:
            files[name] = draw(altered.data([files[name]], most=3))
    return files


def answers() -> st.SearchStrategy[bytes]:
    """Responses of a decode child: altered sound ones, well-formed ones with odd numbers, any."""
    sound = [_answered(Decoded(status, "why", 40, 30), size) for status, size in _ANSWERS]
    return st.one_of(altered.data(sound), _odd_answers(), st.binary(max_size=400))


@st.composite
def _odd_answers(draw: Draw) -> bytes:
    status, detail = draw(_SAID)
    side = st.sampled_from(altered.ODD_NUMBERS)
    size = draw(st.sampled_from([size for _, size in _ANSWERS]))
    return (
        struct.pack("!BHIII", status, len(detail), draw(side), draw(side), size)
        + bytes(detail)
        + b"x" * size
    )


_SAID = st.tuples(st.integers(0, len(statuses.STATUSES)), st.binary(max_size=210))
# to a measure, an input, a thumbnail
_ANSWERS = (("ok", 0), ("ok", 3 * 32 * 32), ("ok", 5000), ("truncated", 0))


def _answered(outcome: Decoded, size: int) -> bytes:
    """The bytes that the child writes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol.write_response(theirs, outcome, b"x" * size)
        theirs.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: ours.recv(65536), b""))
