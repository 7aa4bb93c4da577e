"""Versions made without Spark: all four tables, of as many excluded images as a test says."""

import json
from pathlib import Path
from typing import Any

from tests.conftest import stored
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import runs, schemas
from toiletspark.tables.runs import Run, Store


def written(store: Store, excluded: int = 2, *, run_id: str | None = None) -> Run:
    """The tables of a version that nobody has published."""
    run_id = run_id or runs.new_run_id()
    images = [{"image_id": f"i{number}", "run_id": run_id} for number in range(excluded)]
    for table in (schemas.DECISIONS, schemas.UNSCORED, schemas.STRATA):
        stored(store, table, images if table is schemas.DECISIONS else [], run_id=run_id)
    return stored(store, schemas.EXCLUSION_LIST, images, run_id=run_id)


def published(
    store: Store, excluded: int = 2, head: str = "H", threshold: float = 0.5, **facts: Any
) -> Version:
    """One more version, and the pointer on it."""
    return log.publish(store, written(store, excluded), **said(excluded, head, threshold), **facts)


def killed_before_the_pointer(store: Store, excluded: int = 2) -> Version:
    """A version that stands in the log and that no reader has seen."""
    return log.commit(store, written(store, excluded), **said(excluded, "H", 0.5))


def said(excluded: int, head: str, threshold: float) -> dict[str, Any]:
    counts = {"images": 10, "kept": 10 - excluded, "excluded": excluded, "unscored": 0}
    return {"counts": counts, "head_id": head, "operating_threshold": threshold, "catalog": "c"}


def pointer(store: Store) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(pointer_file(store).read_text())
    return told


def pointer_file(store: Store) -> Path:
    return Path(store.root) / "exclusion_list" / "_current.json"
