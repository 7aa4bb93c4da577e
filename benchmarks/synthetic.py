"""A catalog that was embedded long ago, without the pictures: what growth is measured on.

What never changes is made, not computed: digests and embeddings are numbers of chance with a fixed
seed, in tables as toiletspark would have left them. An unchanged image has a URL that leads
nowhere, so that reading a single one shows; a changed image has a new version and a small JPEG of
its own.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.measure import ROOT
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.demo.rooms import ROOMS, draw_room
from toiletspark.model import bundle, weights
from toiletspark.model.head import Head
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store

DIMENSIONS = 512
ROW_GROUP_ROWS = 10_000  # and so many embeddings are a file: a commit of 20,000 images leaves two
# of all else; a multiple, since a row follows from where its row group begins
FILE_ROWS = 1_000_000
IMAGES_PER_LISTING = 10
# the run of all that is stored; those of a benchmark come after it
LONG_AGO = "20200101T000000000000Z-0000"
SEED = 3
# fetching, decoding and embedding take some ms an image: the rest is toiletspark's own cost
TINY_BACKBONE = ("backbone.weights=random", "backbone.resize_px=40", "backbone.crop_px=32")
# a random head excludes every second image, and changed images are unlike the first ones
ANY_SHARE = (
    *(
        "publish.audits.max_share_excluded=1.0",
        "publish.audits.max_change_excluded=1e9",
        "publish.audits.max_psi=0",
    ),
    "publish.audits.max_share_listings_emptied=1.0",
)
_PICTURE_PX = (96, 72)
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


@dataclass(frozen=True)
class SyntheticCatalog:
    """Input tables and an output root with `rows` images in `folder`."""

    folder: Path
    rows: int

    @property
    def words(self) -> tuple[str, ...]:
        """The options of a toiletspark command that works on it."""
        return ("--conf", "conf/local.toml", *(f"--set={key}" for key in self._sets()))

    @property
    def config(self) -> Config:
        """The configuration that `words` give."""
        return conf_files.load([ROOT / "conf" / "local.toml"], list(self._sets()))

    def _sets(self) -> tuple[str, ...]:
        return (
            f"images.path={self.folder}/images",
            f'fetch.allow=["{self.folder}"]',
            "images.columns.image_version=image_version",
            f"listings.path={self.folder}/listings",
            f"output.root={self.folder}/output",
            f"score.head={self.folder}/head",
            "publish.policy.name=fixed",
            *ANY_SHARE,
            *TINY_BACKBONE,
        )


def make_catalog(folder: Path, rows: int) -> SyntheticCatalog:
    """Writes input tables and a store where each of `rows` images has a content and an embedding.

    Args:
        folder: where; new or empty.
        rows: images.

    Returns:
        What was made. No run of `catalog` is among it: `toiletspark embed` makes one, and reads no
        image.

    Cost: about 1.2 kB of disk a row; 10,000,000 rows take a minute or two and 0.5 GB of memory.
    """
    made = SyntheticCatalog(folder, rows)
    store = Store.open(f"{folder}/output")
    backbone_id = weights.load_spec(made.config.backbone).backbone_id
    listings = -(-rows // IMAGES_PER_LISTING)
    _write(folder / "listings", listings, _listings)
    change_images(made, 0, "1")
    contents: tuple[tuple[tables.Table, Callable[[int, int], dict[str, Any]], int], ...] = (
        (
            tables.EMBEDDINGS,
            lambda start, count: _embeddings(start, count, backbone_id),
            ROW_GROUP_ROWS,
        ),
        (tables.IMAGE_LEDGER, _attempts, FILE_ROWS),
    )
    for table, content, file_rows in contents:
        _write(Path(store.folder(table, LONG_AGO)), rows, content, file_rows)
        store.commit(table, LONG_AGO, config={}, inputs=Inputs(backbone_id=backbone_id))
    new_head(made, SEED)
    return made


def change_images(made: SyntheticCatalog, changed: int, version: str) -> None:
    """Writes the images table anew, with this version and a new JPEG for `changed` images.

    Args:
        made: the catalog.
        changed: how many; the others have version 1, with which they were embedded.
        version: of the changed ones; another version is another content.
    """
    numbers = np.arange(changed, dtype=np.int64) * made.rows // max(changed, 1)
    pictures = made.folder / f"pictures-{version}"
    pictures.mkdir(exist_ok=True)
    drawn = list(itertools.starmap(_jpeg, itertools.product(ROOMS, range(4))))
    for number in numbers.tolist():
        comment = f"{version}:{number}".encode()
        (pictures / f"{number}.jpg").write_bytes(_with_comment(drawn[number % len(drawn)], comment))
    for file in (made.folder / "images").glob("*.parquet"):
        file.unlink()
    _write(
        made.folder / "images",
        made.rows,
        lambda start, count: _images(start, count, numbers, version, made.folder),
    )


def new_head(
    made: SyntheticCatalog, seed: int, classes: tuple[str, ...] = ("toilet", "other")
) -> Head:
    """Puts a head of chance in place of the one before; the first class is excluded."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(scale=0.1, size=(len(classes), DIMENSIONS)).astype(np.float32)
    bias = (
        weight.sum(axis=1) * -_embedding_bits(0, 1000).view("<f2").astype(np.float32).mean()
    ).astype(np.float32)
    backbone_id = weights.load_spec(made.config.backbone).backbone_id
    head = Head(classes, classes[:1], backbone_id, weight, bias)  # the bias centres the scores
    bundle.write(str(made.folder / "head"), head)
    return head


def _write(
    folder: Path,
    rows: int,
    content: Callable[[int, int], dict[str, Any]],
    file_rows: int | None = None,
) -> None:
    """Parquet files of FILE_ROWS rows, or as said, from content(start, count) for a row group."""
    file_rows = file_rows or FILE_ROWS
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, rows, file_rows)):
        groups = _groups(first, min(first + file_rows, rows), content)
        group = next(groups)
        path = folder / f"part-{number:05}.snappy.parquet"
        plain = [
            name
            for name in group.schema.names
            if name not in ("embedding", "content_digest", "image_id")
        ]
        # snappy is Spark's compression too
        with pq.ParquetWriter(
            path, group.schema, use_dictionary=plain, compression="snappy"
        ) as file:
            while group is not None:
                file.write_table(group, row_group_size=ROW_GROUP_ROWS)
                group = next(groups, None)


def _groups(
    start: int, stop: int, content: Callable[[int, int], dict[str, Any]]
) -> Iterator[pa.Table]:
    for first in range(start, stop, ROW_GROUP_ROWS):
        yield pa.table(content(first, min(ROW_GROUP_ROWS, stop - first)))


def _listings(start: int, count: int) -> dict[str, Any]:
    numbers = np.arange(start, start + count)
    return {
        "listing_id": _names("L", numbers),
        "location": pa.array([f"City {number}" for number in range(20)]).take(
            pa.array(numbers % 20)
        ),
        "listing_type": pa.array(["rent", "sale", "share"]).take(pa.array(numbers % 3)),
        "active": pa.array(numbers % 5 != 0),
    }


def _images(
    start: int, count: int, changed: NDArray[np.int64], version: str, folder: Path
) -> dict[str, Any]:
    numbers = np.arange(start, start + count)
    is_changed = pa.array(np.isin(numbers, changed))
    where = pc.if_else(is_changed, f"{folder}/pictures-{version}/", f"{folder}/nowhere/")
    return {
        "image_id": _names("i", numbers),
        "listing_id": _names("L", numbers // IMAGES_PER_LISTING),
        "image_url": pc.binary_join_element_wise(
            where, pa.array(numbers).cast(pa.string()), ".jpg", ""
        ),
        "image_version": pc.if_else(is_changed, version, "1"),
    }


def _embeddings(start: int, count: int, backbone_id: str) -> dict[str, Any]:
    bits = _embedding_bits(start, count)
    return {
        "content_digest": _digests(start, count),
        "backbone_id": _constant(backbone_id, count),
        "embedding": _fixed_width(pa.binary(), bits.reshape(count, -1).view(np.uint8)),
    }


def _attempts(start: int, count: int) -> dict[str, Any]:
    at = pa.scalar(datetime(2020, 1, 1, tzinfo=UTC), pa.timestamp("us", tz="UTC"))
    return {
        "image_id": _names("i", np.arange(start, start + count)),
        "image_version": _constant("1", count),
        "status": _constant("ok", count),
        "detail": _constant("", count),
        "content_digest": _digests(start, count),
        "width": _constant(pa.scalar(_PICTURE_PX[0], pa.int32()), count),
        "height": _constant(pa.scalar(_PICTURE_PX[1], pa.int32()), count),
        "bytes": _constant(pa.scalar(3000, pa.int64()), count),
        "attempts": _constant(pa.scalar(1, pa.int32()), count),
        "attempted_at": _constant(at, count),
    }


def _embedding_bits(start: int, count: int) -> NDArray[np.uint16]:
    """Embeddings as float16 bits, (count * 512,): in [0.125, 2), each power of two as often."""
    rng = np.random.default_rng([SEED, start, 0])
    bits = np.frombuffer(bytearray(rng.bytes(2 * DIMENSIONS * count)), dtype="<u2")
    bits &= 0x0FFF
    bits += 0x3000
    return bits


def _digests(start: int, count: int) -> pa.Array:
    """64 hexadecimal digits a row, the same for the same rows."""
    drawn = np.frombuffer(np.random.default_rng([SEED, start, 1]).bytes(32 * count), dtype=np.uint8)
    return _fixed_width(
        pa.string(), _HEX[np.stack([drawn >> 4, drawn & 15], axis=1)].reshape(count, 64)
    )


def _fixed_width(kind: pa.DataType, values: NDArray[np.uint8]) -> pa.Array:
    """Strings or binaries of one length from bytes (n, length), without a Python object a row."""
    rows, length = values.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * length
    return pa.Array.from_buffers(
        kind, rows, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    )


def _names(prefix: str, numbers: NDArray[np.int64]) -> pa.Array:
    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise(prefix, padded, "")


def _constant(value: Any, count: int) -> pa.Array:
    return pa.repeat(value, count)


def _jpeg(room: str, seed: int) -> bytes:
    file = io.BytesIO()
    draw_room(room, seed, _PICTURE_PX).save(file, "JPEG")
    return file.getvalue()


def _with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """The same picture as other bytes: a comment segment after the start of the image."""
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
