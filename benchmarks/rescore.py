"""A new head over stored embeddings, without an image: `make bench-rescore ROWS=1000000`.

The store is synthetic (`benchmarks/synthetic.py`); REPEATS heads are scored one after another, each
in a process of its own, and the median counts. `seconds` are those of `toiletspark score`, whose
JVM has just started and compiles while it works; `in_rescore` has those of the same step in as many
`toiletspark rescore`, the command of a schedule, whose JVM has looked at the catalog before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import synthetic
from benchmarks.measure import command, machine

FIRST_SEED = 100


def main() -> None:
    asked = _asked()
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-", dir=asked.folder) as folder:
        catalog = synthetic.make_catalog(Path(folder), asked.rows)
        command("embed", *catalog.words)
        seeds = iter(range(FIRST_SEED, FIRST_SEED + 2 * asked.repeats))
        runs = [score(catalog, next(seeds), asked.classes) for _ in range(asked.repeats)]
        in_rescore = [
            score(catalog, next(seeds), asked.classes, "rescore") for _ in range(asked.repeats)
        ]
    print(
        json.dumps(
            {
                "rows": asked.rows,
                "classes": asked.classes,
                **_speed(runs, asked.rows),
                "in_rescore": _speed(in_rescore, asked.rows),
                **{
                    name: max(run[name] for run in runs) for name in runs[0] if name.endswith("_mb")
                },
                "cpu_s": statistics.median(run["cpu_s"] for run in runs),
                "machine": machine(),
            }
        )
    )


def _speed(runs: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    seconds = [run["seconds"] for run in runs]
    return {"rows_per_s": round(rows / statistics.median(seconds)), "seconds": seconds}


def score(
    catalog: synthetic.SyntheticCatalog, seed: int, classes: int = 2, by: str = "score"
) -> dict[str, Any]:
    """Puts a new head on a catalog that `toiletspark embed` has seen.

    Args:
        catalog: whose images.
        seed: of the head.
        classes: of the head.
        by: the command, `score` or `rescore`.

    Returns:
        `seconds` of the scoring step, so without Spark's start, and what `measure.command` tells of
        time and memory.
    """
    synthetic.new_head(
        catalog, seed, ("toilet", *(f"room{number}" for number in range(1, classes)))
    )
    summary, figures = command(by, *catalog.words)
    if summary["scored"] != catalog.rows:
        raise SystemExit(f"{summary['scored']} of {catalog.rows} images were scored")
    return {"seconds": summary["seconds"]["score_catalog"], **figures}


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="stored embeddings, about 1.2 kB each"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument(
        "--folder", help="where the store is put for the time being; the system's own if not said"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
