"""The published versions as a terminal table, and the ones that a rollback can show again."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toiletspark.config.command_line import Summary
from toiletspark.config.command_line import show as show_figures
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, Store
from toiletspark.tables.schemas import EXCLUSION_LIST

_FACTS = (
    *("run_id", "published_at", "head_id", "operating_threshold", "rolled_back_to", "because"),
    "valid_until",
)
_COUNTS = ("images", "kept", "excluded", "unscored")
# dropped in this order where the terminal is too narrow
_OPTIONAL = ("run", "kept", "valid until", "head", "unscored", "threshold")
_NUMBERS = ("version", "threshold", *_COUNTS, "rollback of")
_FILE_WIDTH = 200  # characters a line in files and pipes, where nothing folds long lines


def history(store: Store) -> Summary:
    """Returns current (the number of the live version, or null) and `versions`, oldest first.

    Of each its number, run_id, published_at, head_id, operating_threshold, images, kept, excluded,
    unscored, rolled_back_to, because, valid_until (null where it is not known), current, shown
    (false: readers never saw it, because its publisher was killed before), files_removed, expired.
    """
    live, versions = log.live(store), log.read_all(store)
    run_ids = sorted({version.run_id for version in versions})
    paths = [f"{store.folder(EXCLUSION_LIST, run_id)}/{MANIFEST}" for run_id in run_ids]
    manifests = zip(run_ids, storage.read_jsons(paths), strict=True)
    complete = {run_id for run_id, manifest in manifests if manifest}
    current = live.number if live else None
    rows = [_row(version, current, version.run_id in complete) for version in versions]
    return {"current": current, "versions": rows}


def show(summary: Summary, as_json: bool) -> None:
    """Prints the history: a line per version, or one JSON object."""
    if as_json:
        show_figures(summary, as_json)
        return
    if not summary["versions"]:
        print("no version was published yet")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    rows = [_cells(row) for row in summary["versions"]]
    unlimited = console.options.update(max_width=1000)
    for dropped in range(len(_OPTIONAL) + 1):
        table = _table(rows, _OPTIONAL[:dropped])
        if console.measure(table, options=unlimited).maximum <= console.width:
            break
    console.print(table)
    if dropped:
        print(f"too narrow for {', '.join(_OPTIONAL[:dropped])}: --json has all columns")


def _table(rows: list[dict[str, str]], dropped: tuple[str, ...]) -> Table:
    names = [name for name in rows[0] if name not in dropped]
    table = Table()
    for name in names:
        is_number = name in _NUMBERS
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def _row(version: Version, current: int | None, has_files: bool) -> Summary:
    facts = {name: getattr(version, name) for name in _FACTS}
    counts = {name: version.counts.get(name) for name in _COUNTS}
    until = facts["valid_until"]
    return {
        "version": version.number,
        **facts,
        **counts,
        "current": version.number == current,
        "shown": current is not None and version.number <= current,
        "files_removed": not has_files,
        "expired": bool(until and datetime.fromisoformat(until) < datetime.now(UTC)),
    }


def _cells(row: Summary) -> dict[str, str]:
    """The texts of a row by column, in the order of the columns."""
    threshold = row["operating_threshold"]
    counts = {name: "" if row[name] is None else f"{row[name]:,}" for name in _COUNTS}
    return {
        "version": str(row["version"]),
        "state": _state(row),
        "published": _minute(row["published_at"]),
        "head": row["head_id"] or "",
        "threshold": "" if threshold is None else f"{threshold:.3g}",
        **counts,
        "rollback of": str(row["rolled_back_to"] or ""),
        "valid until": _minute(row["valid_until"]),
        "run": row["run_id"],
    }


def _minute(time: str | None) -> str:
    return (time or "")[:16].replace("T", " ")


def _state(row: Summary) -> str:
    """The first of these that is true; it says whether one can go back to the version."""
    if row["files_removed"]:
        return "current, files removed" if row["current"] else "files removed"
    if row["current"]:
        return "current, expired" if row["expired"] else "current"
    return "" if row["shown"] else "never shown"
