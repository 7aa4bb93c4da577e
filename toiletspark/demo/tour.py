"""The demo's settings and its closing words; the steps themselves are the ones that everybody runs."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.demo.catalog import DemoCatalog
from toiletspark.demo.rooms import ROOMS
from toiletspark.errors import BackboneError
from toiletspark.model import weights

CLASS_OF_ROOM = {room: "toilet" if room == "toilet" else "other" for room in ROOMS}


def settings(folder: Path, drawn: DemoCatalog, sets: list[str]) -> Config:
    """The demo's configuration; with a random backbone, and plain words, where ImageNet's cannot be had."""
    paths = {
        "listings.path": drawn.listings,
        "images.path": drawn.images,
        "fetch.allow": json.dumps([str(folder.resolve())]),  # where it has drawn them
        "output.root": folder / "output",
        "labels.folder": folder / "labelling",
    }
    sets = [*(f"{key}={path}" for key, path in paths.items()), *sets]
    with resources.as_file(conf_files.conf_folder()) as conf:
        files = [conf / "local.toml", conf / "demo.toml"]
        config = conf_files.load(files, sets)
        try:
            weights.load_spec(config.backbone)
        except BackboneError as error:
            print(f"toiletspark: {error}\n", file=sys.stderr)
            print(
                "The demo goes on with a randomly initialised backbone (fixed seed). It sees shapes and colours, "
                "but has never seen a\nphoto: the chain is real, the quality is not ImageNet's. Outside the demo "
                "this is an error.\n",
                file=sys.stderr,
            )
            config = conf_files.load(files, [*sets, "backbone.weights=random"])
    return config


def show(summary: dict[str, Any], config: Config) -> None:
    """What went in, what came out, how long it took, and where it lies."""
    console = Console(width=100)
    console.print(_figures(summary), _times(summary))
    print(_places(summary, config))  # as it is: a wrapped path cannot be clicked or copied


def _figures(summary: dict[str, Any]) -> Table:
    table = Table("what", "figure", title="The demo", title_justify="left")
    embed_s = summary["seconds"]["embed_images"]
    rate = f"{summary['attempted'] / embed_s:.1f}" if summary["embedded"] else "nothing was new"
    rows: list[tuple[str, Any]] = [
        ("images in", summary["images"]),
        ("embedded now", summary["embedded"]),
        ("scored", summary["scored"]),
        *((f"unscored: {status}", count) for status, count in summary["unscored"].items()),
        ("excluded", summary["excluded"]),
        ("feed: rows in / out", f"{summary['feed_in']} / {summary['feed_out']}"),
        (
            "listings with no image left",
            f"{summary['listings_with_none']} of {summary['listings']}",
        ),
        ("images/s while embedding", rate),
    ]
    rows += _validation(summary["validation"])
    for name, value in rows:
        table.add_row(name, str(value))
    return table


def _validation(told: dict[str, Any]) -> list[tuple[str, Any]]:
    """Figures with their intervals, and what they are figures of."""
    intervals = {
        name: f" ({low:.3f} to {high:.3f})" for name, (low, high) in told["intervals"].items()
    }
    return [
        (f"validation: {name.replace('_', ' ')}", f"{_figure(value)}{intervals.get(name, '')}")
        for name, value in told.items()
        if name != "intervals"
    ]


def _figure(value: float | int | str | None) -> str:
    return (
        "undefined" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    )


def _times(summary: dict[str, Any]) -> Table:
    table = Table("step", "wall time, s", title="Steps", title_justify="left")
    for name, seconds in summary["seconds"].items():
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("in all", f"{sum(summary['seconds'].values()):.1f}")
    return table


def _places(summary: dict[str, Any], config: Config) -> str:
    places = {
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
    return "\n".join(f"{name:15} {place}" for name, place in places.items())
