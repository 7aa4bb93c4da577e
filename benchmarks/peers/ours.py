"""toiletspark's runs: `toiletspark rescore` on an empty store, from URLs to a published list."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.measure import ROOT
from benchmarks.peers import pictures, processes, racehead
from benchmarks.peers.figures import THRESHOLD
from toiletspark.model import bundle

TIMEOUT_S = 7200.0
# embedded before the race: gives the backbone's id, and int8 its calibration
PREPARING_IMAGES = 600
_CONF = """
[images]
path = "{table}"
[images.columns]
listing_id = ""
[fetch]
allow = ["/"]
[labels]
classes = ["toilet", "other"]
exclude_classes = ["toilet"]
[backbone]
weights = "{weights}"
[publish]
operating_threshold = {threshold}
policy.name = "fixed"
[spark]
master = "local[{workers},4]"
[spark.settings]
"spark.driver.bindAddress" = "127.0.0.1"
"spark.driver.host" = "127.0.0.1"
"spark.ui.enabled" = "false"
"""


@dataclass(frozen=True)
class Prepared:
    """Prepared before the race: the head, and for int8 the calibrated backbone in its own store."""

    head: Path
    store: Path
    sets: tuple[str, ...]
    seconds: float


def fp32_runtime() -> str:
    """The runtime that our fp32 run uses, named as in the limit."""
    return "openvino_fp32" if int8_is_there() else "torch"


def int8_is_there() -> bool:
    """True if OpenVINO is installed beside toiletspark."""
    return find_spec("openvino") is not None


def sets_of(form: str) -> tuple[str, ...]:
    """The settings of a run: "fp32" with the fastest runtime, "torch" or "int8"."""
    if form == "int8":
        return ("backbone.precision=int8", "backbone.runtime=openvino")
    runtime = "torch" if form == "torch" else fp32_runtime().partition("_")[0]
    return (f"backbone.runtime={runtime}",)


def prepare(work: Path, form: str, files: list[Path], state: Path, workers: int) -> Prepared:
    """Embeds some images into a store that is not raced on, and makes a head for that backbone."""
    folder = work / f"prepared-{form}"
    sets = sets_of(form)
    table = pictures.table(
        folder / "table", ((file.stem, file) for file in files[:PREPARING_IMAGES])
    )
    conf = _write_conf(folder / "conf.toml", table, workers)
    summary, _ = _toiletspark("embed", conf, folder / "store", sets)
    bundle.write(str(folder / "head"), racehead.head(state, summary["backbone_id"]))
    return Prepared(folder / "head", folder / "store", sets, _seconds(summary))


def race(work: Path, table: Path, prepared: Prepared, workers: int) -> dict[str, Any]:
    """One run on an empty store.

    Returns:
        seconds of all steps without Spark's start, wall_s with it, memory, the scores by image_id,
        the published list's image_ids, and the summary.
    """
    shutil.rmtree(work, ignore_errors=True)
    store = work / "store"
    _bring_backbone(prepared.store, store)
    conf = _write_conf(work / "conf.toml", table, workers)
    sets = (*prepared.sets, f"score.head={prepared.head}")
    started = time.monotonic()
    summary, memory = _toiletspark("rescore", conf, store, sets)
    wall_s = time.monotonic() - started
    rows = pq.read_table(summary["scores"], columns=["image_id", "exclusion_score"])
    excluded = pq.read_table(summary["exclusion_list"], columns=["image_id"])[
        "image_id"
    ].to_pylist()
    return {
        "seconds": _seconds(summary),
        "wall_s": wall_s,
        "memory": memory.told(),
        "scores": dict(
            zip(rows["image_id"].to_pylist(), rows["exclusion_score"].to_pylist(), strict=True)
        ),
        "excluded": set(excluded),
        "summary": summary,
    }


def list_is_right(outcome: dict[str, Any]) -> bool:
    """True if exactly those images are on the list whose own score reaches the threshold."""
    return bool(
        outcome["excluded"]
        == {key for key, score in outcome["scores"].items() if score >= THRESHOLD}
    )


def _toiletspark(
    step: str, conf: Path, store: Path, sets: tuple[str, ...]
) -> tuple[dict[str, Any], processes.Peaks]:
    words = [f"--set={one}" for one in (f"output.root={store}", *sets)]
    program = [
        sys.executable,
        "-m",
        "toiletspark.jobs.cli",
        step,
        "--conf",
        str(conf),
        *words,
        "--json",
    ]
    return processes.run(program, {"PYTHONPATH": str(ROOT)}, timeout_s=TIMEOUT_S)


def _write_conf(path: Path, table: Path, workers: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        _CONF.format(table=table, weights=racehead.WEIGHTS, workers=workers, threshold=THRESHOLD)
    )
    return path


def _bring_backbone(prepared: Path, store: Path) -> None:
    """A calibrated backbone is made once for a catalog, like a head; the embeddings stay behind."""
    backbones = prepared / "backbones"
    if backbones.exists():
        shutil.copytree(backbones, store / "backbones")
        shutil.copy(prepared / "_toiletspark.json", store)


def _seconds(summary: dict[str, Any]) -> float:
    return round(sum(summary["seconds"].values()), 2)
