"""The share of wrong labels that a second look finds: `make bench-second-look`.

800 real photos; 5 % of their labels are flipped by a fixed seed, the real commands import them and
rank all labels, and what counts is the share of the flipped ones among the first 10 % of the queue.
Bathroom or not, and four room types.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.measure import SHARED, command, machine

FLIPPED, LOOKED_AT = 0.05, 0.1
CLASSES = {
    "bathroom or not": ["bathroom", "rest"],
    "four rooms": ["bathroom", "bedroom", "kitchen", "frontal"],
}


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", type=int, default=5)
    seeds = range(1, asked.parse_args().seeds + 1)
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as root:
        command("embed", "--conf", "tests/conf/photos.toml", env={"TOILETSPARK_OUTPUT": root})
        found = {task: [one(Path(root), task, seed) for seed in seeds] for task in CLASSES}
    shares = [one["found_share"] for one in itertools.chain.from_iterable(found.values())]
    print(
        json.dumps(
            {
                "found_share": statistics.median(shares),
                "found_share_least": min(shares),
                "flipped_share": FLIPPED,
                "looked_at_share": LOOKED_AT,
                **{task: summed(figures) for task, figures in found.items()},
                "machine": machine(),
            }
        )
    )


def one(root: Path, task: str, seed: int) -> dict[str, Any]:
    """Flips, imports, looks again; the labels are merged with those of the task before."""
    with (SHARED / "photos" / "photos.csv").open(newline="") as file:
        truth = {row["photo_id"]: row["room"] for row in csv.DictReader(file)}
    classes = CLASSES[task]
    truth = {photo_id: room if room in classes else "rest" for photo_id, room in truth.items()}
    labels, wrong = flipped(truth, classes, seed)
    table = root / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("photo_id", "room"), *labels.items()])
    said = ("--conf", "tests/conf/photos.toml", "--set", f"labels.table.path={table}")
    said += ("--set", f"labels.classes={json.dumps(classes)}", "--set", "labels.labeller=bench")
    environment = {"TOILETSPARK_OUTPUT": str(root)}
    command("labels", "import", *said, env=environment)
    told, figures = command("labels", "second-look", *said, env=environment)
    queue = sorted(pq.read_table(told["queue"]).to_pylist(), key=lambda row: row["rank"])
    first = {row["image_id"] for row in queue[: round(LOOKED_AT * len(queue))]}
    return {
        "found_share": len(first & wrong) / len(wrong),
        "flipped": len(wrong),
        "likely_wrong": told["likely_wrong"],
        "wall_s": figures["wall_s"],
    }


def flipped(
    truth: dict[str, str], classes: list[str], seed: int
) -> tuple[dict[str, str], set[str]]:
    """Labels of which FLIPPED are another class, drawn evenly; and the ids of these."""
    chosen = random.Random(seed)
    wrong = set(chosen.sample(sorted(truth), round(FLIPPED * len(truth))))
    others = {name: [other for other in classes if other != name] for name in classes}
    return {
        name: chosen.choice(others[room]) if name in wrong else room for name, room in truth.items()
    }, wrong


def summed(figures: list[dict[str, Any]]) -> dict[str, Any]:
    shares = [one["found_share"] for one in figures]
    return {
        "found_share": statistics.median(shares),
        "found_share_least": min(shares),
        "found_shares": [round(share, 3) for share in shares],
        "flipped": figures[0]["flipped"],
        "likely_wrong": [one["likely_wrong"] for one in figures],
        "wall_s": statistics.median(one["wall_s"] for one in figures),
    }


if __name__ == "__main__":
    main()
