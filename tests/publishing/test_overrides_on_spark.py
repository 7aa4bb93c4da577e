"""Overrides on Spark: the table is read, a version obeys it, and it comes back as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import literal_config, stored
from toiletspark.config import Config
from toiletspark.errors import TableError
from toiletspark.feed import readers
from toiletspark.jobs import import_labels, publish_exclusions, run_chain
from toiletspark.launch.job import Job
from toiletspark.publishing import overrides
from toiletspark.tables import arrow_io, schemas, spark_io
from toiletspark.tables.manifest import TableInput
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

COLUMNS = ["image_id", "content_digest", "decision", "class", "who", "why", "when", "until"]
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return literal_config(
        {"output.root": tmp_path / "output", "overrides.path": tmp_path / "overrides.csv"}
    )


def written(config: Config, *said: tuple[str | None, ...]) -> Config:
    """Puts these rows in the table."""
    pd.DataFrame(said, columns=COLUMNS).to_csv(config.overrides.path, index=False)
    return config


# Reading


def test_a_table_with_its_own_names_and_types(spark: SparkSession, tmp_path: Path) -> None:
    """Times keep their zone in any session; a date is a whole day; numbers are ids."""
    berlin = pd.Timestamp("2026-11-30 18:00", tz="Europe/Berlin")
    frame = pd.DataFrame(
        {
            "photo.key": [7, 8],
            "what": ["keep", "exclude"],
            "by": "ann",
            "reason": ["a, b", '"so"'],
            "said at": [berlin, pd.NaT],
            "ends": [date(2026, 12, 1), None],
        }
    )
    frame.to_parquet(tmp_path / "o.parquet", coerce_timestamps="us")
    names = {
        "image_id": "photo.key",
        "content_digest": "",
        "decision": "what",
        "class": "",
        "who": "by",
    }
    columns = {**names, "why": "reason", "when": "said at", "until": "ends"}
    sets = {f"overrides.columns.{key}": name for key, name in columns.items()}
    config = literal_config(
        {"overrides.path": tmp_path / "o.parquet", "overrides.format": "parquet", **sets}
    )
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        first, second = sorted(overrides.read_rows(spark, config), key=lambda one: one.image_id)
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone or "UTC")
    assert (first.image_id, first.decision, first.note) == ("7", "keep", "ann: a, b")
    assert first.when == datetime(2026, 11, 30, 17, tzinfo=UTC)
    assert first.until == datetime(2026, 12, 1, 23, 59, 59, 999999, UTC)
    assert (second.note, second.when, second.until) == ('ann: "so"', None, None)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_an_end_of_all_time_in_any_zone(spark: SparkSession, zone: str) -> None:
    """9999-12-31 23:59:59 is how databases write for ever; of a session's zone or of UTC."""
    before = spark.conf.get("spark.sql.session.timeZone") or "UTC"
    none = {f"overrides.columns.{name}": "" for name in ("content_digest", "class", "when")}
    ends = ("TIMESTAMP '9999-12-31 23:59:59'", "TIMESTAMP '9999-12-31 23:59:59Z'")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        rows = " UNION ALL ".join(
            f"SELECT '{end[-2]}' AS image_id, 'keep' AS decision, 'x' AS who, 'y' AS why, "
            f"{end} AS until"
            for end in ends
        )
        read = overrides.read_rows(spark, literal_config({"overrides.query": rows, **none}))
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    assert sorted(one.image_id for one in read) == ["9", "Z"]
    assert all(one.counts_at(datetime(9999, 12, 30, tzinfo=UTC)) for one in read)


def test_ids_that_pandas_has_made_floats(spark: SparkSession, tmp_path: Path) -> None:
    """A row about a content has no image_id, and the whole column is float64."""
    frame = pd.DataFrame({name: ["x"] * 3 for name in ("who", "why")})
    frame = frame.assign(
        image_id=[1, 12345678, None], content_digest=[None, None, "d"], decision="exclude"
    )
    frame.to_parquet(tmp_path / "o.parquet")
    sets = {"overrides.path": tmp_path / "o.parquet", "overrides.format": "parquet"}
    none = {f"overrides.columns.{name}": "" for name in ("class", "when", "until")}
    read = overrides.read_rows(spark, literal_config({**sets, **none}))
    assert sorted(one.key for one in read) == [("", "d"), ("1", ""), ("12345678", "")]


def test_what_counts_now(spark: SparkSession, config: Config) -> None:
    written(
        config,
        ("a", None, "keep", None, "ann", "old", "2026-01-01", None),
        ("a", None, "exclude", None, "bob", "new", "2026-02-01", None),
        (None, "d", "keep", None, "ann", "art", None, None),
        ("over", None, "keep", None, "ann", "sale ends", None, YESTERDAY),
    )
    read = overrides.read(spark, config, datetime.now(UTC))
    assert read is not None
    assert read.counts == {"total": 4, "in_force": 2, "expired": 1, "superseded": 1}
    by_image, by_content = ([tuple(row) for row in frame.collect()] for frame in read.frames)
    assert by_image == [("a", "exclude", "bob: new")]
    assert by_content == [("d", "keep", "ann: art")]
    assert overrides.read(spark, literal_config(), datetime.now(UTC)) is None
    nothing = overrides.read(spark, written(config), datetime.now(UTC))
    assert nothing is not None
    assert [frame.count() for frame in nothing.frames] == [0, 0]


def stopped(spark: SparkSession, config: Config) -> str:
    with pytest.raises(TableError) as raised:
        overrides.read_rows(spark, config)
    return str(raised.value)


def test_tables_that_cannot_be_taken(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config.overrides.path
    assert stopped(spark, config).startswith(
        f"while reading the overrides table {path}\n  expected: a csv file"
    )
    pd.DataFrame({"image": ["a"], "decision": "keep", "who": "x", "why": "y", "when": ""}).to_csv(
        path, index=False
    )
    assert stopped(spark, config) == (
        f"while reading the overrides table {path}\n"
        "  expected: the column 'image_id' (overrides.columns.image_id), "
        "the column 'content_digest' (overrides.columns.content_digest), "
        "the column 'class' (overrides.columns.class), "
        "the column 'until' (overrides.columns.until)\n"
        "  found:    the columns 'image', 'decision', 'who', 'why', "
        "'when' (did you mean 'image'?)\n"
        "  do:       set overrides.columns to the names of your columns; "
        '"" = your table has no such '
        "column (image_id or content_digest, class, when, until)"
    )
    said = [(name, None, "keep", None, "ann", "so", None, None) for name in "abc"]
    monkeypatch.setattr(overrides, "MOST", 2)
    assert stopped(spark, written(config, *said)) == (
        f"while reading the overrides table {path}\n"
        "  expected: at most 2 overrides: exceptions that people have made\n"
        "  found:    more\n"
        "  do:       remove the expired ones; so many decisions are labels: "
        "import them (labels.table) and train a head"
    )
    assert len(overrides.read_rows(spark, written(config, *said[:2]))) == 2
    wrong = stopped(spark, written(config, ("a", None, "drop", None, "ann", "so", None, None)))
    assert wrong.splitlines()[1:3] == [
        "  expected: the decision keep or exclude in each row",
        "  found:    'drop' in 1 row: 'a'",
    ]


# From the table to the list


IMAGES = {
    "a": 0.9,
    "b": 0.1,
    "c": 0.2,
    "copy 1": 0.3,
    "copy 2": 0.3,
    "both": 0.1,
    "late": None,
    "broken": None,
}
OVERRIDES = (
    ("a", None, "keep", None, "ann", "a designer's bath", "2026-11-20", None),
    ("b", None, "exclude", None, "bob", "a toilet behind the door", None, None),
    ("c", None, "exclude", None, "bob", "was wrong", None, YESTERDAY),
    (None, "copied", "exclude", None, "cem", "a floor plan", None, None),
    (None, "of both", "exclude", None, "cem", "first word", None, None),
    ("both", None, "keep", None, "ann", "last word", None, None),
    ("late", None, "exclude", None, "ann", "known for years", None, None),
    ("broken", None, "keep", None, "ann", "browsers show it", None, None),
    ("no such image", None, "keep", None, "ann", "sold", None, None),
)


def catalog_of(store: Store) -> None:
    """Copies share a content; late times out, and broken cannot be decoded."""
    digests = {"copy 1": "copied", "copy 2": "copied", "late": None, "broken": None}
    statuses = {"late": "timeout", "broken": "decode_failed"}
    common = [
        {"image_id": name, "listing_id": "L", "content_digest": digests.get(name, f"of {name}")}
        for name in IMAGES
    ]
    seen = [
        {**row, "stratum": "S", "status": statuses.get(row["image_id"], "ok"), "detail": ""}
        for row in common
    ]
    run = stored(store, schemas.CATALOG, seen)
    scored = [
        {**row, "head_id": "H", "exclusion_score": IMAGES[row["image_id"]]}
        for row in common
        if IMAGES[row["image_id"]] is not None
    ]
    stored(
        store,
        schemas.SCORES,
        scored,
        inputs={"catalog": run.run_id, "head_id": "H", "backbone_id": "B"},
    )


@pytest.mark.parametrize(
    ("image_id", "is_first", "pair"),
    [
        ("A", True, "'A' here and 'a' there"),
        (" a", False, "' a' here and 'a' there"),
        ("sold", True, "'sold' here and 'a' there"),
        ("sold", False, None),
    ],
    ids=["capitals", "a blank, later on", "another table's", "all have left since"],
)
def test_overrides_of_which_none_is_about_an_image(
    spark: SparkSession, image_id: str, is_first: bool, pair: str | None
) -> None:
    """Photos leave, so only the first version with a table of overrides needs one that meets."""
    columns = {"image_id": "string", "content_digest": "string", "override": "string"}
    decisions = spark_io.of_rows(spark, [("a", "d", None)], columns)
    frames = [
        spark_io.of_rows(spark, rows, {key: "string"})
        for key, rows in (("image_id", [(image_id,)]), ("content_digest", []))
    ]
    counts = {"total": 1, "in_force": 1, "expired": 0, "superseded": 0}
    active = overrides.ActiveOverrides((frames[0], frames[1]), counts, frozenset([(image_id, "")]))
    summary = active.summary(decisions)
    assert (summary["met"], summary["unmet_among"]) == (0, [image_id])
    if pair is None:
        overrides.require_met(active, summary, decisions, is_first=is_first)
        return
    with pytest.raises(TableError) as raised:
        overrides.require_met(active, summary, decisions, is_first=is_first)
    assert raised.value.found.endswith(f"of the catalog: {image_id!r}; for instance {pair}")


def test_overrides_beat_scores_and_failures(
    spark: SparkSession, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(config.output.root)
    catalog_of(store)
    told = publish_exclusions.step(Workspace.open(spark, written(config, *OVERRIDES)))
    counts = {"total": 9, "in_force": 8, "expired": 1, "superseded": 0, "met": 7, "unmet": 1}
    assert told["overrides"] == {**counts, "unmet_among": ["no such image"]}
    assert "1 of 8 overrides are about no image of the catalog: 'no such image'\n" in caplog.text
    manifest = json.loads(Path(told["exclusion_list"], "_manifest.json").read_text())
    assert manifest["counts"]["overrides"] == told["overrides"]
    decided = pd.read_parquet(told["decisions"]).set_index("image_id")
    facts = decided[["decision", "reason", "override"]]
    assert dict(zip(facts.index, facts.itertuples(index=False, name=None), strict=True)) == {
        "a": ("keep", "override", "ann: a designer's bath"),
        "b": ("exclude", "override", "bob: a toilet behind the door"),
        "c": ("keep", "model", None),
        "copy 1": ("exclude", "override", "cem: a floor plan"),
        "copy 2": ("exclude", "override", "cem: a floor plan"),
        "both": ("keep", "override", "ann: last word"),
        "late": ("exclude", "override", "ann: known for years"),
        "broken": ("keep", "override", "ann: browsers show it"),
    }
    listed = readers.read_current(spark, config.output.root).collect()
    excluded = {"b", "copy 1", "copy 2", "late"}
    assert {(row["image_id"], row["reason"]) for row in listed} == {
        (name, "override") for name in excluded
    }
    assert "overrides" not in publish_exclusions.step(
        Workspace.open(spark, literal_config({"output.root": config.output.root}))
    )
    listed = readers.read_current(spark, config.output.root).collect()
    assert {(row["image_id"], row["reason"]) for row in listed} == {
        ("a", "model"),
        ("broken", "unscored"),
    }


# Back as labels


def labels_in(told: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    found = pd.read_parquet(told["labels"]).astype(object)
    found = found.where(found.notna(), None)
    assert set(found.loc[found["labeller"] != "importer", "how"]) <= {"override"}
    return {
        row["image_id"]: (row["class"], row["labeller"], row["content_digest"])
        for _, row in found.iterrows()
    }


def test_overrides_come_back_as_labels(
    spark: SparkSession,
    make_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also expired ones; one about nothing keeps its word; a row that goes takes its label back."""
    images = pd.DataFrame({"image_id": [*IMAGES, "z"], "listing_id": "L1", "image_url": "u"})
    pd.DataFrame({"image_id": ["z"], "class": ["toilet"]}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    paths = {
        "labels.table.path": tmp_path / "labels.csv",
        "overrides.path": tmp_path / "overrides.csv",
    }
    config = make_config({**paths, "labels.labeller": "importer"}, images=images)
    store = Store.open(config.output.root)
    catalog_of(store)
    told = import_labels.step(
        Workspace.open(
            spark,
            written(config, *OVERRIDES, (None, "nowhere", "keep", None, "ann", "so", None, None)),
        )
    )
    right = {
        "a": ("other", "ann", "of a"),
        "b": ("toilet", "bob", "of b"),
        "c": ("toilet", "bob", "of c"),
        "copy 1": ("toilet", "cem", "copied"),
        "both": ("other", "ann", "of both"),
        "late": ("toilet", "ann", None),
        "broken": ("other", "ann", None),
        "no such image": ("other", "ann", None),
    }
    assert labels_in(told) == {**right, "z": ("toilet", "importer", None)}
    assert (told["labelled"], told["since_last"]) == (9, "1 new, 0 changed, 0 gone, 0 unchanged")
    since = "8 new, 0 changed, 0 gone, 0 unchanged"
    of_overrides = {"labels": 8, "without_class": 0, "without_image": 1, "since_last": since}
    assert told["labels_of_overrides"] == of_overrides
    assert f"labels of overrides: {since}\n" in caplog.text
    at = {
        row["image_id"]: row["labelled_at"] for row in arrow_io.read(store.newest(schemas.LABELS))
    }
    assert at["a"] == datetime(2026, 11, 20, tzinfo=UTC)

    # all others have ended
    stored(store, schemas.CATALOG, [{"image_id": "copy 0", "content_digest": "copied"}])
    again = import_labels.import_overrides(Workspace.open(spark, written(config, *OVERRIDES)))
    assert again["labels_of_overrides"]["since_last"] == "0 new, 0 changed, 0 gone, 8 unchanged"
    assert labels_in(again) == labels_in(told)

    first = store.run(schemas.LABELS, Path(again["labels"]).name)
    assert first is not None
    assert first.inputs.source == config.overrides.path
    assert first.inputs.source_table == TableInput(path=config.overrides.path)

    changed = ("b", None, "keep", "other", "bob", "looked again", None, None)
    fewer = import_labels.import_overrides(
        Workspace.open(spark, written(config, OVERRIDES[0], changed))
    )
    assert (
        fewer["labels_of_overrides"]["since_last"]
        == "0 new, 1 changed (toilet -> other 1), 6 gone, 1 unchanged"
    )
    assert labels_in(fewer) == {
        **{
            "a": ("other", "ann", "of a"),
            "b": ("other", "bob", None),
            "z": ("toilet", "importer", None),
        }
    }


def test_without_a_table_or_without_a_word_nothing_is_imported(
    spark: SparkSession, config: Config
) -> None:
    assert (
        import_labels.import_overrides(
            Workspace.open(spark, literal_config({"output.root": config.output.root}))
        )
        == {}
    )
    told = import_labels.import_overrides(Workspace.open(spark, written(config)))
    assert told == {"labels_of_overrides": {"labels": 0, "without_class": 0, "without_image": 0}}
    assert Store(config.output.root).newest(schemas.LABELS) is None


def test_the_chain_takes_overrides_once_their_contents_are_known(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noted(jobs: list[Job], *_: object) -> dict[str, Any]:
        order.extend(job.step.__name__ if job.name == "import_labels" else job.name for job in jobs)
        return {"seconds": {"jobs": 1.25}}

    monkeypatch.setattr(run_chain, "run_in_turn", noted)
    monkeypatch.setattr(run_chain, "to_feed", lambda work, begun: begun)
    told = run_chain.from_labels(Workspace.open(spark, config), {"seconds": {"jobs": 1.0}})
    assert order == ["import_source", "embed_images", "import_overrides", "train_head"]
    assert told["seconds"] == {"jobs": 3.5}  # of one job add up
    order.clear()
    run_chain.from_labels(
        Workspace.open(spark, literal_config({"output.root": config.output.root})), {}
    )
    assert order == ["import_source", "embed_images", "train_head"]
