"""A new head over stored embeddings, without an image: `make bench-rescore ROWS=1000000`.

The store is synthetic (`benchmarks/synthetic.py`); REPEATS heads are scored one after another, each
in a process of its own, and the median counts. `seconds` are those of `toiletspark score`, whose
JVM has just started and compiles while it works; `in_rescore` has those of the same step in as many
`toiletspark rescore`, the command of a schedule, whose JVM has looked at the catalog before.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import synthetic
from benchmarks.measure import TemporaryIn, command, machine

FIRST_SEED = 100


def main(
    rows: Annotated[int, typer.Option(help="stored embeddings, about 1.2 kB each")] = 1_000_000,
    repeats: int = 3,
    classes: int = 2,
    folder: TemporaryIn = None,
) -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-", dir=folder) as made:
        catalog = synthetic.make_catalog(Path(made), rows)
        command("embed", *catalog.words)
        seeds = iter(range(FIRST_SEED, FIRST_SEED + 2 * repeats))
        runs = [score(catalog, next(seeds), classes) for _ in range(repeats)]
        in_rescore = [score(catalog, next(seeds), classes, "rescore") for _ in range(repeats)]
    print(
        json.dumps(
            {
                "rows": rows,
                "classes": classes,
                **_speed(runs, rows),
                "in_rescore": _speed(in_rescore, rows),
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


if __name__ == "__main__":
    typer.run(main)
