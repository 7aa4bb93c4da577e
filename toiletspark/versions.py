"""Versions of the exclusion list, and the pointer that names the one that counts. Without Spark: training asks it too.

<root>/exclusion_list/<run_id>/   one version, immutable
<root>/unscored/<run_id>/         its companion
<root>/exclusion_list/_current.json   the pointer: names the version that counts, moved last, at once
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from toiletspark import runs, storage, tables
from toiletspark.errors import AuditError, OutputError
from toiletspark.runs import Run, Store

POINTER = "_current.json"


def publish(store: Store, excluded: Run, not_scored: Run, *, images: int, scored: int) -> dict[str, Any]:
    """Moves the pointer to a version whose numbers add up.

    Args:
        store: where.
        excluded: the written exclusion list.
        not_scored: the written unscored table.
        images: rows of the catalog.
        scored: rows of the scores.

    Returns:
        What the pointer now says.

    Raises:
        AuditError: an image is in neither or in both of scores and unscored; nothing is published.
    """
    doing = f"auditing the exclusion list {excluded.run_id}"
    if scored + not_scored.rows != images or excluded.rows > scored:
        raise AuditError(
            doing=doing,
            expected=f"each of the {images} images in one of scores and unscored, the excluded among the scored",
            found=f"{scored} scored, {not_scored.rows} unscored, {excluded.rows} excluded",
            todo="the last version stays in force; run `toiletspark rescore` again, and report this if it comes back",
        )
    pointer = {
        "run_id": excluded.run_id,
        "exclusion_list": f"{tables.EXCLUSION_LIST.name}/{excluded.run_id}",
        "unscored": f"{tables.UNSCORED.name}/{not_scored.run_id}",
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": excluded.rows,
    }
    storage.replace_json(_pointer(store.root), pointer)
    return pointer


def current(root: str) -> Run:
    """The version that counts.

    Raises:
        OutputError: nothing was published, or its files are not what its manifest says.
    """
    doing = f"reading the current exclusion list of {root}"
    pointer = storage.read_json(_pointer(root))
    run = _named(root, pointer)
    if run is None:
        raise OutputError(
            doing=doing,
            expected=f"{tables.EXCLUSION_LIST.name}/{POINTER} that names a complete version",
            found="no pointer" if pointer is None else f"the version {pointer['run_id']} without a manifest",
            todo="run `toiletspark publish` first; an unreadable list must not be taken for an empty one",
        )
    if not _unchanged(run):
        raise OutputError(
            doing=doing,
            expected=f"the {len(run.manifest['files'])} files of the manifest of {run.run_id}, unchanged",
            found="other files, sizes or contents",
            todo="run `toiletspark publish` again; versions are never changed in place",
        )
    return run


def published(root: str) -> Run | None:
    """The version that the pointer names, as it stands, or None: for those who ask what is live, not for feeds."""
    return _named(root, storage.read_json(_pointer(root)))


def _unchanged(run: Run) -> bool:
    """Whether the files of a version are those of its manifest."""
    try:
        return bool(runs.described_files(run.folder) == run.manifest["files"])
    except (OSError, pa.ArrowInvalid):  # gone while it was read, or no longer Parquet
        return False


def _named(root: str, pointer: dict[str, Any] | None) -> Run | None:
    return Store(root).run(tables.EXCLUSION_LIST, pointer["run_id"]) if pointer else None


def _pointer(root: str) -> str:
    return f"{root}/{tables.EXCLUSION_LIST.name}/{POINTER}"
