"""The cost of rescoring as a catalog grows, and as more of it changes: `make bench-growth
ROWS_MAX=1000000`.

For each size one synthetic store (`benchmarks/synthetic.py`), on which follow: a first `rescore`,
uncounted; a new head; and `rescore` with 0, 1 and 100 % of the images changed. Each measurement is
a line on stderr when it is taken. What is left out because it would embed more than CHANGED_MAX
pictures is listed, never estimated.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import rescore, synthetic
from benchmarks.measure import TemporaryIn, command, machine

EMBEDDINGS_FROM, CATALOG_FROM = 1_000, 10_000
CHANGED = (0.0, 0.01, 1.0)
NEW_HEAD_SEED = 200
Row = dict[str, Any]


def main(
    rows_min: int = EMBEDDINGS_FROM,
    rows_max: Annotated[int, typer.Option(help="10,000,000 take 30 GB of disk")] = 1_000_000,
    changed_max: Annotated[int, typer.Option(help="pictures to draw and embed at most")] = 100_000,
    folder: TemporaryIn = None,
) -> None:
    """Measures, and prints one JSON line."""
    sizes = [size for size in (10**power for power in range(3, 9)) if rows_min <= size <= rows_max]
    rows: list[Row] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="toiletspark-bench-", dir=folder) as made:
            for row in _measured(Path(made), size, changed_max):
                print(json.dumps(row), file=sys.stderr, flush=True)
                rows.append(row)
    left_out = [
        {"rows": size, "changed": share, "why": f"more than --changed-max {changed_max} pictures"}
        for size, share in itertools.product(sizes, CHANGED)
        if size * share > changed_max
    ]
    print(
        json.dumps(
            {
                "new_head": [row for row in rows if "changed" not in row],
                "growth": [row for row in rows if "changed" in row],
                "left_out": left_out,
                "machine": machine(),
            }
        )
    )


def _measured(folder: Path, size: int, changed_max: int) -> Iterator[Row]:
    """All measurements on one store, as they are taken."""
    catalog = synthetic.make_catalog(folder, size)
    command("rescore", *catalog.words)
    yield _rounded(
        {"rows": size, "head": "new", "images_read": 0, **rescore.score(catalog, NEW_HEAD_SEED)}
    )
    for number, share in enumerate(CHANGED if size >= CATALOG_FROM else ()):
        if size * share <= changed_max:
            yield _rescored(catalog, share, version=str(number + 2))


def _rescored(catalog: synthetic.SyntheticCatalog, share: float, version: str) -> Row:
    """One `rescore` after `share` of the images have changed.

    Raises:
        SystemExit: other images were read than those that have changed.
    """
    changed = round(catalog.rows * share)
    synthetic.change_images(catalog, changed, version)
    told, figures = command("rescore", *catalog.words)
    if (told["images"], told["embedded"], told["scored"]) != (catalog.rows, changed, catalog.rows):
        raise SystemExit(
            f"{changed} of {catalog.rows} images have changed, but toiletspark says {told}"
        )
    return _rounded(
        {
            "rows": catalog.rows,
            "changed": share,
            "seconds": sum(told["seconds"].values()),
            "images_read": told["fetched"],
            "steps": told["seconds"],
            **figures,
        }
    )


def _rounded(row: Row) -> Row:
    return {**row, "seconds": round(row["seconds"], 1)}


if __name__ == "__main__":
    typer.run(main)
