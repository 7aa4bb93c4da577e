"""The cost of fitting a head: `make bench-train ROWS=40000`.

A training set of synthetic labelled embeddings, written as Spark leaves it; then `python -m
training.train` with the defaults as a process of its own: reading, grouping, inner
cross-validation, the fit, its evaluation. Ends in one JSON line: seconds of the whole command, and
its peak memory (RSS, as the kernel counts it).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.measure import ROOT, machine
from toiletspark.model.embedding_codec import to_stored
from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store, new_run_id
from toiletspark.tables.schemas import TRAINING_SET

IMAGES_PER_LISTING = 4
TOILETS = 0.06
AGAIN = 0.005
_FEATURES, _TRAITS, _ROOMS = 512, 24, 6


def made(rows: int, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings as a backbone makes them, and labels, 1 for a toilet.

    Rooms of six kinds, of which one is a toilet; a listing's photos share its taste, each photo has
    moods of its own, and a few show another listing's photo again. Nine tenths of what embeddings
    have in common lie in few directions, as those of real photos do, and kinds overlap.

    Returns:
        float32, (rows, 512), >= 0, in the order of listings; int64, (rows,).
    """
    rng = np.random.default_rng(seed)
    kind = np.where(rng.random(rows) < TOILETS, 0, rng.integers(1, _ROOMS, rows))
    listing = np.arange(rows) // IMAGES_PER_LISTING
    traits = (
        rng.normal(0, 1.0, (_ROOMS, _TRAITS))[kind]
        + rng.normal(0, 0.5, (listing.max() + 1, _TRAITS))[listing]
    )
    traits += rng.normal(0, 0.8, (rows, _TRAITS))
    directions = rng.normal(0, 0.25, (_TRAITS, _FEATURES)).astype(np.float32)
    embeddings = traits.astype(np.float32) @ directions
    embeddings += rng.gamma(2.0, 0.4, _FEATURES).astype(np.float32)
    embeddings += rng.normal(0, 0.35, embeddings.shape).astype(np.float32)
    embeddings = np.maximum(embeddings, 0, out=embeddings)
    again, of = rng.integers(0, rows, (2, round(AGAIN * rows)))
    embeddings[again] = embeddings[of] * np.float32(1.01)
    kind[again] = kind[of]
    return embeddings, (kind == 0).astype(np.int64)


def write(root: str, rows: int) -> int:
    """A run of the training_set table; returns how many toilets it has."""
    embeddings, labels = made(rows)
    listings = np.arange(rows) // IMAGES_PER_LISTING
    columns = {
        "image_id": [f"image-{place:08}" for place in range(rows)],
        "listing_id": [f"listing-{listing:07}" for listing in listings],
        "stratum": [
            f"zip {listing % 50} x {'buy' if listing % 3 else 'rent'}" for listing in listings
        ],
        "content_digest": [f"{place:064x}" for place in range(rows)],
        "label": np.where(labels, "toilet", "other").tolist(),
        "weight": (1.0 + listings % 50 / 10).tolist(),
        "draw": ["20261124T000000000000Z-0000"] * rows,
        "embedding": to_stored(embeddings),
    }
    store = Store.open(root)
    run_id = new_run_id()
    file = io.BytesIO()
    shuffled = np.random.default_rng(2).permutation(rows)
    pq.write_table(pa.table(columns).take(pa.array(shuffled)), file, compression="snappy")
    storage.replace_bytes(f"{store.folder(TRAINING_SET, run_id)}/part-0.parquet", file.getvalue())
    store.commit(TRAINING_SET, run_id, config={}, inputs=Inputs(backbone_id="synthetic"))
    return int(labels.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of `toiletspark`"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as root:
        toilets = write(root, asked.rows)
        sets = [f"--set={text}" for text in (f"output.root={root}", *asked.set)]
        command = [sys.executable, "-m", "toiletspark.training.train", "--json", *sets]
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        output = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    told = {
        "seconds": round(seconds, 2),
        "peak_mb": round(used.ru_maxrss / 1024, 1),
        "rows": asked.rows,
    }
    summary = json.loads(output.splitlines()[-1])
    told |= {
        "toilets": toilets,
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "validation": summary["validation"],
    }
    print(json.dumps({**told, "machine": machine()}))


if __name__ == "__main__":
    main()
