"""The demo's settings and its closing words; its steps are the ones that everybody runs."""

import json
import logging
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toiletspark.config import Config, loading
from toiletspark.demo.catalog import DemoCatalog
from toiletspark.demo.rooms import ROOMS
from toiletspark.errors import BackboneError
from toiletspark.model import weights

CLASS_OF_ROOM = {room: "toilet" if room == "toilet" else "other" for room in ROOMS}

_RANDOM_BACKBONE = """{error}

The demo goes on with a randomly initialised backbone (fixed seed). It sees shapes and colours,
but has never seen a photo: the chain is real, the quality is not ImageNet's.
Elsewhere this is an error.
"""


def settings(folder: Path, drawn: DemoCatalog, sets: list[str]) -> Config:
    """Returns the demo's configuration; with a random backbone where ImageNet's is out of reach."""
    paths = {
        "listings.path": drawn.listings,
        "images.path": drawn.images,
        "fetch.allow": json.dumps([str(folder.resolve())]),
        "output.root": folder / "output",
        "labels.folder": folder / "labelling",
    }
    sets = [f"{key}={path}" for key, path in paths.items()] + sets
    with resources.as_file(loading.conf_folder()) as conf:
        files = [conf / "local.toml", conf / "demo.toml"]
        config = loading.load(files, sets)
        try:
            weights.load_spec(config.backbone)
        except BackboneError as error:
            logging.getLogger("toiletspark").warning(_RANDOM_BACKBONE.format(error=error))
            sets = [*sets, "backbone.weights=random"]
            config = loading.load(files, sets)
        if config.backbone.weights == "random":
            # such a head is sure of nothing: the cost policy would exclude nearly every image
            config = loading.load(files, ["publish.policy.name=fixed", *sets])
    return config


def show(summary: dict[str, Any], config: Config) -> None:
    """Prints the figures, the steps' times, and the paths of all results."""
    times = Table("step", "wall time, s", title="Steps", title_justify="left")
    for name, seconds in summary["seconds"].items():
        times.add_row(name, f"{seconds:.1f}")
    times.add_row("in all", f"{sum(summary['seconds'].values()):.1f}")
    Console(width=100).print(_figures(summary), times)
    paths = {
        "the page": summary["report"],
        "the head": summary["head_report"],
        "contact sheet": summary["sheets"][0],
        "the sample": summary["sample_report"],
        "exclusion list": summary["exclusion_list"],
        "unscored": summary["unscored_table"],
        "feed": summary["feed"],
        "best images": summary["best_images"],
        "alerts": summary["alerts_csv"],
        "head's folder": summary["head"],
        "class folders": config.labels_folder,
    }
    for name, path in paths.items():
        print(f"{name:15} {path}")  # not by rich: a wrapped path cannot be clicked or copied


def _figures(summary: dict[str, Any]) -> Table:
    rate = summary["attempted"] / summary["seconds"]["embed_images"]
    figures = {
        "images in": summary["images"],
        "embedded now": summary["embedded"],
        "scored": summary["scored"],
        **{f"unscored: {status}": count for status, count in summary["unscored"].items()},
        "excluded": summary["excluded"],
        "feed: rows in / out": f"{summary['feed_in']} / {summary['feed_out']}",
        "listings with no image left": f"{summary['listings_with_none']} of {summary['listings']}",
        "images/s while embedding": f"{rate:.1f}" if summary["embedded"] else "nothing was new",
    }
    validation = dict(summary["validation"])
    intervals = validation.pop("intervals")
    for name, value in validation.items():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        if name in intervals:
            low, high = intervals[name]
            text += f" ({low:.3f} to {high:.3f})"
        figures[f"validation: {name.replace('_', ' ')}"] = "undefined" if value is None else text
    table = Table("what", "figure", title="The demo", title_justify="left")
    for name, value in figures.items():
        table.add_row(name, str(value))
    return table
