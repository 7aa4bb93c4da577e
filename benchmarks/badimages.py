"""Broken, hostile and odd files: one row each, and no lost task: `make bench-badimages`."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.measure import SHARED, command, lost_tasks, machine
from toiletspark.config import loading as conf_files
from toiletspark.images import sandbox as decoding
from toiletspark.images.decoding import Preprocessing

CONF = ("--conf", "tests/conf/badimages.toml")


def main() -> None:
    files = [path for path in (SHARED / "badimages").iterdir() if path.name != "SOURCES.tsv"]
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as root:
        logs = Path(root) / "events"
        logs.mkdir()
        sets = [
            'spark.settings."spark.eventLog.enabled"="true"',
            f'spark.settings."spark.eventLog.dir"="file://{logs}"',
        ]
        words = [f"--set={key}" for key in sets]
        run, figures = command("run", *CONF, *words, env={"TOILETSPARK_OUTPUT": root})
        tables = [pq.read_table(run[name]) for name in ("scores", "unscored_table")]
        rows = [*tables[0]["image_id"].to_pylist(), *tables[1]["image_id"].to_pylist()]
        lost = lost_tasks(logs)
    slowest_s = max(map(_seconds, files))
    print(
        json.dumps(
            {
                "files": len(files),
                "rows": len(rows),
                "one_row_each": sorted(rows) == sorted(path.name for path in files),
                "scored": run["scored"],
                "unscored": run["unscored"],
                "lost_tasks": lost,
                "slowest_decode_s": round(slowest_s, 3),
                "worker_and_decoder_peak_mb": figures["worker_peak_mb"]
                + figures["decoder_peak_mb"],
                "seconds": run["seconds"],
                **figures,
                "machine": machine(),
            }
        )
    )


def _seconds(path: Path) -> float:
    """Reads that one file alone, whatever comes of it."""
    started = time.monotonic()
    decoding.decode([path.read_bytes()], conf_files.load().decode, Preprocessing(256, 224))
    return time.monotonic() - started


if __name__ == "__main__":
    main()
