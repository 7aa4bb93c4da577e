"""Decide, audit and publish a large catalog against overrides and the last version: `make bench-decide ROWS=5000000`.

The store is synthetic and two versions old: a catalog and scores are published, then comes another catalog, in which
other images could not be fetched, and another head, whose scores differ a little. The second publication is measured.

Every image has its own content, as a catalog has few copies and digests are what is wide in these tables. The first
CONTENTS of them have embeddings, and their scores are what the head gives these; the others repeat these scores, since
5,000,000 embeddings would be 5 GB that publishing never reads.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks import synthetic
from benchmarks.measure import command, machine
from benchmarks.synthetic import _constant, _digests, _embeddings, _names, _write
from toiletspark.model import bundle
from toiletspark.model.head import Head
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id

CONTENTS = 4000  # with embeddings; the first row group holds them
OVERRIDES = 10_000
CLASSES = ("toilet", "other")
BACKBONE = "synthetic"
FAILURES = {
    "truncated": 1,
    "denied": 2,
}  # of each 1,000 images the one of this number; timeouts change
STEPS = {  # the file that is written last of each
    "decide": (tables.DECISIONS.name, "_manifest.json"),
    "figures_and_unscored": (tables.UNSCORED.name, "_manifest.json"),
    "list": (tables.EXCLUSION_LIST.name, "_manifest.json"),
}


def main() -> None:
    asked = _asked()
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-", dir=asked.folder) as name:
        folder = Path(name)
        store = Store.open(f"{folder}/output")
        words = _words(folder, asked.set)
        embeddings = _embed(store)
        _scored(store, asked.rows, embeddings, seed=1, late=3)
        first, _ = command("publish", *words)
        _scored(store, asked.rows, embeddings, seed=2, late=4)
        _write_overrides(folder / "overrides.csv", asked.rows)
        told, figures = command(
            "publish", *words, "--set", f"overrides.path={folder}/overrides.csv"
        )
        seconds = told["seconds"]["publish_exclusions"]
        result = {
            "rows": asked.rows,
            "overrides": told["overrides"],
            "seconds": seconds,
            "steps": _steps(store, Path(told["exclusion_list"]).name, seconds),
            "first_version_seconds": first["seconds"]["publish_exclusions"],
            **{name: told[name] for name in ("version", "images", "kept", "excluded", "no_score")},
            "reasons": _reasons(store, told),
            **figures,
            "machine": machine(),
        }
    print(json.dumps(result))


def _words(folder: Path, sets: list[str]) -> list[str]:
    # of each 1,000 images the same ones fail, so all failures lie in a few strata, which the audits would not let pass
    bounds = ["publish.audits.max_share_policy=0.1", "publish.audits.max_rise_unscored=0.1"]
    settings = [f"output.root={folder}/output", "images.path=none", *bounds, *sets]
    return [
        "--conf",
        "conf/local.toml",
        *(word for setting in settings for word in ("--set", setting)),
    ]


def _embed(store: Store) -> pa.Table:
    """CONTENTS embeddings whose first feature tells toilets (one of 40) from the rest."""
    rng = np.random.default_rng(5)
    toilets = rng.random(CONTENTS) < 0.025
    tells = np.where(toilets, rng.normal(5, 1.2, CONTENTS), rng.normal(1.5, 1, CONTENTS)).clip(0, 8)
    made = _embeddings(0, CONTENTS, BACKBONE)
    vectors = (
        np.frombuffer(b"".join(made["embedding"].to_pylist()), "<f2").reshape(CONTENTS, -1).copy()
    )
    vectors[:, 0] = tells
    table = pa.table(
        {**made, "embedding": pa.array([row.tobytes() for row in vectors], pa.binary())}
    )
    run_id = new_run_id()
    _write(
        Path(store.folder(tables.EMBEDDINGS, run_id)),
        CONTENTS,
        lambda start, count: _columns(table.slice(start, count)),
    )
    store.commit(tables.EMBEDDINGS, run_id, config={}, inputs=Inputs(backbone_id=BACKBONE))
    return table


def _columns(table: pa.Table) -> dict[str, Any]:
    return {name: table.column(name).combine_chunks() for name in table.column_names}


def _head(store: Store, seed: int) -> Head:
    """A head whose scores differ from another seed's by some hundredths."""
    weight = (
        np.random.default_rng(seed)
        .normal(scale=0.002, size=(2, synthetic.DIMENSIONS))
        .astype(np.float32)
    )
    weight[:, 0] = (1, -1)
    head = Head(CLASSES, CLASSES[:1], BACKBONE, weight, np.array([-4, 4], np.float32))
    run_id = new_run_id()
    rows.write_file(store, tables.HEADS, run_id, [])
    bundle.write(store.folder(tables.HEADS, run_id), head)
    store.commit(
        tables.HEADS, run_id, config={}, inputs=Inputs(head_id=head.head_id, backbone_id=BACKBONE)
    )
    return head


def _scored(store: Store, images: int, embeddings: pa.Table, *, seed: int, late: int) -> Run:
    """A catalog in which one image of 1,000 came too late, and its scores by a new head."""
    vectors = np.frombuffer(b"".join(embeddings.column("embedding").to_pylist()), "<f2")
    head = _head(store, seed)
    probabilities = head.probabilities(vectors.reshape(CONTENTS, -1).astype(np.float32))
    scores = head.exclusion_scores(probabilities)
    failed = {**FAILURES, "timeout": late}
    sound = int(_status(failed, np.arange(images))[1].sum())
    seen = _run(
        store,
        tables.CATALOG,
        images,
        functools.partial(_catalog_rows, failed),
        {"backbone_id": BACKBONE},
        sound=sound,
    )
    inputs = {"catalog": seen.run_id, "head_id": head.head_id, "backbone_id": BACKBONE}
    table = tables.SCORES.with_columns(tables.probability_columns(CLASSES))
    content = functools.partial(_score_rows, failed, head.head_id, scores, probabilities)
    return _run(store, table, images, content, inputs, images=images)


def _run(
    store: Store,
    table: tables.Table,
    count: int,
    content: Callable[[int, int], dict[str, Any]],
    inputs: dict[str, Any],
    **counts: int,
) -> Run:
    run_id = new_run_id()
    _write(Path(store.folder(table, run_id)), count, content)
    return store.commit(table, run_id, config={}, inputs=Inputs(**inputs), counts=counts)


def _catalog_rows(failed: dict[str, int], start: int, count: int) -> dict[str, Any]:
    numbers = np.arange(start, start + count)
    status, sound = _status(failed, numbers)
    listings = numbers // synthetic.IMAGES_PER_LISTING
    cities, kinds = [f"City {number}" for number in range(20)], ["rent", "sale", "share"]
    location, kind = cities * len(kinds), [kind for kind in kinds for _ in cities]
    at = pa.array(listings % len(location))
    strata = pa.array([f"{where} | {what}" for where, what in zip(location, kind, strict=True)])
    return {
        "image_id": _names("i", numbers),
        "image_version": _constant("0123456789abcdef", count),
        "listing_id": _names("L", listings),
        "position": pa.array(numbers % synthetic.IMAGES_PER_LISTING + 1, pa.int32()),
        "image_url": _names("https://photos.example.com/", numbers),
        "location": pa.array(location).take(at),
        "listing_type": pa.array(kind).take(at),
        "active": _constant(True, count),
        "stratum": strata.take(at),
        "status": status,
        "detail": _constant("", count),
        "content_digest": _nulled(_digests(start, count), sound),
        "embedding_file": pa.nulls(count, pa.int32()),  # nothing is scored here
        "embedding_row": pa.nulls(count, pa.int32()),
    }


def _score_rows(
    failed: dict[str, int],
    head_id: str,
    scores: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    start: int,
    count: int,
) -> dict[str, Any]:
    """In the order of digests, as scoring leaves them: the catalog's is another one."""
    numbers, digests = np.arange(start, start + count), _digests(start, count)
    _, sound = _status(failed, numbers)
    order = np.argsort(digests.to_numpy(zero_copy_only=False).astype("S64"))
    order = order[sound[order]]
    numbers, digests = numbers[order], digests.take(pa.array(order))
    contents = numbers % CONTENTS
    return {
        "image_id": _names("i", numbers),
        "listing_id": _names("L", numbers // synthetic.IMAGES_PER_LISTING),
        "content_digest": digests,
        "head_id": _constant(head_id, len(numbers)),
        "exclusion_score": pa.array(scores[contents]),
        **{
            f"p_{name}": pa.array(probabilities[contents, place])
            for place, name in enumerate(CLASSES)
        },
    }


def _status(
    failed: dict[str, int], numbers: NDArray[np.int64]
) -> tuple[pa.Array, NDArray[np.bool_]]:
    words = ["ok"] * 1000
    for status, place in failed.items():
        words[place] = status
    sound = np.array([word == "ok" for word in words])
    return pa.array(words).take(pa.array(numbers % 1000)), sound[numbers % 1000]


def _nulled(values: pa.Array, valid: NDArray[np.bool_]) -> pa.Array:
    return pa.compute.if_else(pa.array(valid), values, None)


def _write_overrides(path: Path, images: int) -> None:
    """Of images and contents, half each; one of 50 has expired, and one of 100 is about nothing that is there."""
    rng = np.random.default_rng(9)
    chosen = rng.choice(images, OVERRIDES, replace=False)
    digests = _digests_of(images, chosen)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["image_id", "content_digest", "decision", "class", "who", "why", "when", "until"]
        )
        for number, image in enumerate(chosen.tolist()):
            of_image = number % 2 == 0
            image_id = (f"i{image:09}" if number % 100 else f"gone {number}") if of_image else ""
            digest = "" if of_image else digests[number]
            decision = "keep" if number % 3 else "exclude"
            until = past if number % 50 == 1 else ""
            table.writerow(
                [
                    image_id,
                    digest,
                    decision,
                    "",
                    f"person {number % 7}",
                    "an agent asked",
                    past,
                    until,
                ]
            )


def _digests_of(images: int, chosen: NDArray[np.int64]) -> list[str]:
    """The contents of some images, which are made a row group at a time."""
    found = [""] * len(chosen)
    for file in range(0, images, synthetic.FILE_ROWS):
        for start in range(file, min(file + synthetic.FILE_ROWS, images), synthetic.ROW_GROUP_ROWS):
            stop = min(start + synthetic.ROW_GROUP_ROWS, file + synthetic.FILE_ROWS, images)
            inside = np.flatnonzero((chosen >= start) & (chosen < stop))
            digests = _digests(start, stop - start)
            for place in inside.tolist():
                found[place] = digests[int(chosen[place]) - start].as_py()
    return found


def _steps(store: Store, run_id: str, seconds: float) -> dict[str, float]:
    """Seconds of each step, by the times of what it wrote."""
    pointer = Path(store.root) / tables.EXCLUSION_LIST.name / "_current.json"
    before = pointer.stat().st_mtime - seconds
    took = {}
    for step, (table, name) in STEPS.items():
        ended = (Path(store.root) / table / run_id / name).stat().st_mtime
        took[step], before = round(ended - before, 1), ended
    return {**took, "publish": round(pointer.stat().st_mtime - before, 1)}


def _reasons(store: Store, told: dict[str, Any]) -> dict[str, int]:
    import pyarrow.dataset as ds

    reasons = ds.dataset(told["decisions"], format="parquet", exclude_invalid_files=True).to_table(
        ["reason"]
    )
    return {row["values"]: row["counts"] for row in reasons["reason"].value_counts().to_pylist()}


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=5_000_000, help="images, 0.3 kB of disk each and table"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the configuration"
    )
    parser.add_argument(
        "--folder", help="where the store is put for the time being; the system's own if not said"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
