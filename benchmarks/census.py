"""Good, bad, odd and poisonous files in one run, a row each with the right status, no lost task: `make bench-census`.

300 sound pictures, 20 files of each of 20 bad kinds, 10 of each of 5 odd but sound ones (see `odd_kinds`), and 35 that
crash, hang or allocate without end. Then each poison alone, timed: what a crash costs, and how long a hang outlives its
deadline.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import odd_kinds
from benchmarks.measure import ROOT, command, lost_tasks, machine
from benchmarks.odd_kinds import BAD, ODD, POISONS
from toiletspark.config import loading
from toiletspark.images import decoding, sandbox
from toiletspark.images.decoding import Preprocessing

GOOD, OF_EACH_BAD, OF_EACH_ODD = 300, 20, 10
TIMEOUT_S = 2.0
TO_224 = Preprocessing(256, 224)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder:
        hook = Path(folder) / "poison.py"
        shutil.copy(ROOT / "tests" / "poison.py", hook)
        os.environ["TOILETSPARK_DECODE_HOOK"] = str(hook)
        expected = _files(Path(folder) / "files")
        found, figures = _run(Path(folder), expected)
        figures = {"orphans": _orphans(hook), **figures, **_poisons_alone()}
    del os.environ["TOILETSPARK_DECODE_HOOK"]
    wrong = {
        name: [status, found.get(name)]
        for name, status in expected.items()
        if found.get(name) != status
    }
    told = {
        "files": len(expected),
        "rows": figures.pop("rows"),
        "right_status": sum(found.get(name) == status for name, status in expected.items()),
        "wrong": dict(list(wrong.items())[:10]),
        "lost_tasks": figures.pop("lost_tasks"),
        "orphans": figures.pop("orphans"),
        "statuses": Counter(found.values()),
        "turned_pictures_equal": _turned_equal(),
        **figures,
        "machine": machine(),
    }
    print(json.dumps(told))


def _files(folder: Path) -> dict[str, str]:
    """Writes them all; the status that each must end in, by name."""
    folder.mkdir()
    made = {f"good {number}": ("ok", _jpeg(number)) for number in range(GOOD)}
    for kind, (status, make) in BAD.items():
        made |= {f"{kind} {number}": (status, make(number)) for number in range(OF_EACH_BAD)}
    for kind, make in ODD.items():
        made |= {f"{kind} {number}": ("ok", make(number)) for number in range(OF_EACH_ODD)}
    for kind, (status, count) in POISONS.items():
        made |= {
            f"{kind} {number}": (status, odd_kinds.poison(kind, number)) for number in range(count)
        }
    for name, (_, content) in made.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return {name: status for name, (status, _) in made.items()}


def _jpeg(number: int) -> bytes:
    return odd_kinds.encoded(odd_kinds.drawn(GOOD + number), "JPEG")


def _run(folder: Path, expected: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """One `toiletspark embed` of all; the status of each, and the run's figures."""
    names = np.random.default_rng(3).permutation(list(expected))
    pq.write_table(pa.table({"file": names}), folder / "images.parquet")
    (folder / "events").mkdir()
    sets = {
        "images.path": folder / "images.parquet",
        "images.url_prefix": f"{folder / 'files'}/",
        "images.columns.image_id": "file",
        "images.columns.image_url": "file",
        "images.columns.listing_id": "",
        "output.root": folder / "output",
        "backbone.weights": "random",
        "decode.timeout_s": TIMEOUT_S,
        "embed.images_per_task": 64,
        'spark.settings."spark.eventLog.enabled"': '"true"',
        'spark.settings."spark.eventLog.dir"': f'"file://{folder / "events"}"',
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    _, figures = command("embed", "--conf", "conf/local.toml", *words)
    rows = pq.read_table(
        folder / "output" / "image_ledger", columns=["image_id", "status"]
    ).to_pylist()
    return {row["image_id"]: row["status"] for row in rows}, {
        "rows": len(rows),
        "lost_tasks": lost_tasks(folder / "events"),
        **figures,
    }


def _poisons_alone() -> dict[str, float]:
    """Seconds that each costs beyond its own deadline, and the largest; and those of a sound picture for comparison."""
    limits = loading.load().decode.model_copy(update={"timeout_s": TIMEOUT_S})
    sound = _jpeg(1)
    sandbox.decode([sound], limits, TO_224)
    took: dict[str, list[float]] = {}
    for kind, (status, count) in POISONS.items():
        for number in range(count):
            started = time.monotonic()
            (bad,) = sandbox.decode([odd_kinds.poison(kind, number)], limits, TO_224)
            took.setdefault(status, []).append(time.monotonic() - started)
            assert bad.status == status, (kind, bad)
            assert sandbox.decode([sound], limits, TO_224)[0].status == "ok"
    return {
        "crash_s": round(statistics.median(took["crashed"]), 4),
        "crash_s_max": round(max(took["crashed"]), 4),
        "out_of_memory_s_max": round(max(took["out_of_memory"]), 4),
        "hang_beyond_timeout_s_max": round(max(took["decode_timeout"]) - TIMEOUT_S, 4),
    }


def _turned_equal() -> bool:
    """Whether pictures that EXIF turns give the pixels of their turned selves."""
    limits = loading.load().decode
    for number in range(OF_EACH_ODD):
        content = ODD["turned by exif"](number)
        upright = odd_kinds.encoded(decoding.open_upright(content, limits), "PNG")
        one, other = sandbox.decode([content, upright], limits, TO_224)
        if one.pixels is None or not np.array_equal(one.pixels, other.pixels):
            return False
    return True


def _orphans(hook: Path) -> int:
    """Processes that were given this hook and still live three seconds after their run; this one has none yet."""
    time.sleep(3.0)
    environments = (path / "environ" for path in Path("/proc").iterdir() if path.name.isdigit())
    ours = Path(f"/proc/{os.getpid()}/environ")
    return sum(str(hook).encode() in _read(path) for path in environments if path != ours)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has just ended


if __name__ == "__main__":
    main()
