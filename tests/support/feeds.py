"""A published version in literal rows, without Spark and without a head, for tests of the feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.conftest import stored
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import schemas
from toiletspark.tables.runs import Run, Store, new_run_id

Row = Mapping[str, Any]
_BY_SCORE = ("model", "hysteresis", "last_score")


def decided(
    image_id: str, decision: str = "keep", reason: str = "model", **more: Any
) -> dict[str, Any]:
    """A row of DECISIONS, and of CATALOG by the shared columns; sound and scored by default."""
    score = {"keep": 0.1, "exclude": 0.9}.get(decision) if reason in _BY_SCORE else None
    usual = {
        "listing_id": f"L{image_id[:1]}",
        "status": "ok",
        "detail": "",
        "exclusion_score": score,
    }
    return {"image_id": image_id, "decision": decision, "reason": reason, **usual, **more}


def publish(
    store: Store, rows: Iterable[Row], scores: Iterable[Row] = (), **options: Any
) -> Version:
    """Publishes decisions as a version, with their catalog and scores.

    Args:
        store: where.
        rows: see `decided`; position is the catalog's.
        scores: rows of SCORES, with p_<class> columns.
        options: of `log.publish`.
    """
    run_id = new_run_id()
    rows = list(rows)
    scores = list(scores)
    classes = [name for name in (scores[0] if scores else {}) if name.startswith("p_")]
    scored = schemas.SCORES.with_columns(dict.fromkeys(classes, "float"))
    seen, judged = (
        stored(store, schemas.CATALOG, [*map(dict, rows)]),
        stored(store, scored, [*map(dict, scores)]),
    )
    inputs = {"catalog": seen.run_id, "scores": judged.run_id}

    def written(table: schemas.Table, of: Iterable[Row]) -> Run:
        return stored(store, table, [*map(dict, of)], run_id=run_id, inputs=inputs)

    written(schemas.DECISIONS, rows)
    written(schemas.UNSCORED, (row for row in rows if row["status"] != "ok"))
    excluded = (row for row in rows if row["decision"] == "exclude")
    listed = written(
        schemas.EXCLUSION_LIST, ({**row, "reason": list_reason(row)} for row in excluded)
    )
    return log.publish(store, listed, **options)


def list_reason(row: Row) -> str:
    """The reason that the exclusion list has for what DECISIONS has."""
    return "model" if row["reason"] in _BY_SCORE else str(row["reason"])


# a feed with an id twice, no id, an id that is no word, and one that the version does not know
FEED = [
    ("a", 1),
    ("b", 2),
    ("b", 3),
    (None, 4),
    ("c", 5),
    ("A", 6),
    ("", 7),
    ("new", 8),
    ("d", 9),
    ("e", 10),
]
DECIDED = [
    *(decided(image_id) for image_id in ("a", "A", "", "not in the feed")),
    decided("b", "exclude"),
    decided("c", "exclude", "unscored", status="truncated"),
    decided("d", "unscored", "unscored", status="timeout"),
    decided("e", "exclude", "override"),
]
