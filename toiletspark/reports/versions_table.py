"""The versions as a table, for people who ask what was published when, and to which one they could go back."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from toiletspark.config.command_line import Summary
from toiletspark.config.command_line import show as show_figures
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, Store
from toiletspark.tables.schemas import EXCLUSION_LIST

_FACTS = (
    "run_id",
    "published_at",
    "head_id",
    "operating_threshold",
    "rolled_back_to",
    "because",
    "valid_until",
)
_LEFT_OUT = (
    "run",
    "kept",
    "valid until",
    "head",
    "unscored",
    "threshold",
)  # in this order, where the terminal is too narrow
_WIDE = 200  # of files and pipes, where nothing folds long lines
_COUNTS = ("images", "kept", "excluded", "unscored")
_HEADS = (
    "version",
    "state",
    "published",
    "head",
    "threshold",
    *_COUNTS,
    "rollback of",
    "valid until",
    "run",
)


def history(store: Store) -> Summary:
    """All versions, oldest first.

    Returns:
        current (the number of the live version, or null) and `versions`: of each its number, run_id, published_at,
        head_id, operating_threshold, images, kept, excluded, unscored, rolled_back_to, because, valid_until (null where
        it does not tell), current, shown (false: readers have not seen it, its publisher was killed before),
        files_removed, expired.
        Version 0 is one of before there was a log.
    """
    live, log = versions.live(store), versions.log(store)
    log = [live, *log] if live and not live.number else log
    names = sorted({version.run_id for version in log})
    manifests = storage.read_jsons(
        [f"{store.folder(EXCLUSION_LIST, run_id)}/{MANIFEST}" for run_id in names]
    )
    there = {run_id for run_id, manifest in zip(names, manifests, strict=True) if manifest}
    current = live.number if live else None
    return {
        "current": current,
        "versions": [_row(version, current, version.run_id in there) for version in log],
    }


def show(summary: Summary, as_json: bool) -> None:
    """Prints the history: a line per version, or one JSON object."""
    if as_json:
        show_figures(summary, as_json)
        return
    if not summary["versions"]:
        print("no version was published yet")
        return
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDE)
    anything = console.options.update(max_width=1000)
    left_out: list[str] = []
    table = _table(summary, left_out)
    while console.measure(table, options=anything).maximum > console.width and len(left_out) < len(
        _LEFT_OUT
    ):
        left_out.append(_LEFT_OUT[len(left_out)])
        table = _table(summary, left_out)
    console.print(table)
    if left_out:
        print(f"too narrow for {', '.join(left_out)}: --json tells them")


def _table(summary: Summary, left_out: list[str]) -> Table:
    shown = [at for at, head in enumerate(_HEADS) if head not in left_out]
    numbers = ("version", "threshold", *_COUNTS, "rollback of")
    columns = [
        Column(_HEADS[at], justify="right" if _HEADS[at] in numbers else "left", overflow="fold")
        for at in shown
    ]
    table = Table(*columns)
    for row in summary["versions"]:
        cells = _cells(row)
        table.add_row(*(Text(cells[at]) for at in shown))
    return table


def _row(version: Version, current: int | None, files: bool) -> Summary:
    row: Summary = {"version": version.number}
    row |= {name: version.said.get(name) for name in _FACTS}
    row |= {name: version.counts.get(name) for name in _COUNTS}
    until = row["valid_until"]
    return row | {
        "current": version.number == current,
        "shown": current is not None and version.number <= current,
        "files_removed": not files,
        "expired": bool(until) and datetime.fromisoformat(until) < datetime.now(UTC),
    }


def _cells(row: Summary) -> list[str]:
    counts = [f"{row[name]:,}" if row[name] is not None else "" for name in _COUNTS]
    threshold = (
        f"{row['operating_threshold']:.3g}" if row["operating_threshold"] is not None else ""
    )
    went = str(row["rolled_back_to"] or "")
    times = [
        str(row[name] or "")[:16].replace("T", " ") for name in ("published_at", "valid_until")
    ]  # to the minute
    head = str(row["head_id"] or "")
    return [
        str(row["version"]),
        _state(row),
        times[0],
        head,
        threshold,
        *counts,
        went,
        times[1],
        row["run_id"],
    ]


def _state(row: Summary) -> str:
    """What somebody who wants to go back to it must know; the first of these that is so."""
    if row["files_removed"]:
        return "current, files removed" if row["current"] else "files removed"
    if row["current"]:
        return "current, expired" if row["expired"] else "current"
    return "" if row["shown"] else "never shown"
