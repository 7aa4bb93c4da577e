"""Distinct image files made of the real photos, and the tables that point at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import SHARED

COPIES = 4  # of every image, in the tables with duplicates


def write(folder: Path, count: int) -> list[Path]:
    """Writes `count` JPEG files, no two with the same bytes.

    The photos of the shared folder in turn, each with a comment (its number) behind the start
    marker: other bytes, so another digest, and the same work for every decoder.

    Returns:
        The files, in order.
    """
    photos = sorted((SHARED / "photos" / "files").glob("*.jpg"))
    if not photos:
        raise SystemExit(
            f"there are no photos in {SHARED / 'photos' / 'files'}; "
            "TOILETSPARK_SHARED names the folder"
        )
    folder.mkdir(parents=True)
    files = [folder / f"{number:07d}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(
            with_comment(photos[number % len(photos)].read_bytes(), f"{number:07d}".encode())
        )
    return files


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """The same picture with a comment segment (FFFE, length, text) right after the start FFD8."""
    if not jpeg.startswith(b"\xff\xd8"):
        raise ValueError("not a JPEG")
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def copied(files: list[Path], folder: Path) -> Iterator[tuple[str, Path]]:
    """Every image COPIES times under as many URLs: the file, and copies under other names."""
    folder.mkdir(parents=True)
    for file in files:
        yield file.stem, file
        for copy in range(1, COPIES):
            other = folder / f"{file.stem}.{copy}.jpg"
            other.write_bytes(file.read_bytes())
            yield other.stem, other


def repeated(files: list[Path]) -> Iterator[tuple[str, Path]]:
    """Every image COPIES times under one URL; the rows of an image lie far apart."""
    yield from ((file.stem, file) for file in files)
    for copy in range(1, COPIES):
        yield from ((f"{file.stem}.{copy}", file) for file in files)


def original(image_id: str) -> str:
    """The image that an image_id of `copied` or `repeated` is a copy of."""
    return image_id.partition(".")[0]


def table(folder: Path, rows: Iterable[tuple[str, Path]]) -> Path:
    """A Parquet folder with the columns image_id (unique) and image_url (the file's path)."""
    folder.mkdir(parents=True)
    ids, files = zip(*rows, strict=True)
    columns = pa.table({"image_id": ids, "image_url": [str(file) for file in files]})
    pq.write_table(columns, folder / "part-0.parquet")
    return folder
