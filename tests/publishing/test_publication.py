"""Publishing: every image in one table, complete versions only, and a pointer that moves last."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored
from tests.support.small_versions import pointer_file
from toiletspark import __version__
from toiletspark.config import Config, Publish
from toiletspark.errors import AuditError, ConfigError, HeadError, OutputError
from toiletspark.feed import readers
from toiletspark.jobs import publish_exclusions
from toiletspark.model import bundle
from toiletspark.model.head import Head
from toiletspark.publishing import decisions, publication
from toiletspark.publishing.thresholds import Settled
from toiletspark.publishing.versions import log, rollback
from toiletspark.scoring.scores import table_of
from toiletspark.tables import runs, schemas, spark_io, storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

SCORES = {"a": 0.95, "b": 0.6, "c": 0.5, "d": 0.4, "e": 0.0}
HEAD = Head(
    ("toilet", "other"), ("toilet",), "B", np.zeros((2, 512), np.float32), np.zeros(2, np.float32)
)
UNSCORED = {
    "x": ("missing", "FileNotFoundError"),
    "y": ("truncated", "the file ends before the picture does"),
}


def prepare(
    store: Store,
    scores: dict[str, float] = SCORES,
    unscored: dict[str, Any] = UNSCORED,
    unembedded: str = "",
    head_id: str = "H",
) -> Run:
    """A catalog and its scores, as the steps before publishing leave them."""
    what = {**dict.fromkeys([*scores, *unembedded], ("ok", "")), **unscored}
    catalog = [
        {"image_id": image_id, "listing_id": f"L{image_id}", "status": status, "detail": detail}
        for image_id, (status, detail) in what.items()
    ]
    seen = stored(store, schemas.CATALOG, catalog)
    rows = [
        {
            "image_id": image_id,
            "listing_id": f"L{image_id}",
            "content_digest": image_id,
            "head_id": head_id,
            "exclusion_score": score,
        }
        for image_id, score in scores.items()
    ]
    inputs = {"catalog": seen.run_id, "head_id": head_id, "backbone_id": "B"}
    return stored(store, table_of(HEAD), rows, inputs=inputs)


def with_threshold(config: Config, threshold: float) -> Config:
    return config.model_copy(
        update={"publish": config.publish.model_copy(update={"operating_threshold": threshold})}
    )


def listed(frame: Any) -> dict[str, float]:
    scored = (row for row in frame.collect() if row["exclusion_score"] is not None)
    return {row["image_id"]: round(row["exclusion_score"], 4) for row in scored}


# What is written


def test_every_image_is_in_one_of_scores_and_unscored(
    spark: SparkSession, config: Config, store: Store
) -> None:
    scores = prepare(store)
    told = publish_exclusions.step(Workspace.open(spark, config))
    assert told == {
        "version": 1,
        "images": 7,
        "kept": 2,
        "excluded": 4,
        "no_score": 2,
        "policy": 0,
        "scored": 5,
        "unscored": {"missing": 1, "truncated": 1},
        "operating_threshold": 0.5,
        "threshold_reason": "fixed by publish.operating_threshold",
        "exclusion_list": told["exclusion_list"],
        "unscored_table": told["unscored_table"],
        "decisions": told["decisions"],
        "alarms": [],
        "removed": [],
    }
    run_id = Path(told["exclusion_list"]).name
    excluded = readers.read_current(spark, config.output.root).orderBy("image_id").toPandas()
    assert list(excluded.columns) == list(schemas.EXCLUSION_LIST.columns)
    assert [tuple(row) for row in excluded.itertuples(index=False)] == [
        *(
            (image_id, f"L{image_id}", "model", pytest.approx(score), "H", run_id)
            for image_id, score in {"a": 0.95, "b": 0.6, "c": 0.5}.items()
        ),
        ("y", "Ly", "unscored", pytest.approx(np.nan, nan_ok=True), None, run_id),
    ]
    unscored = pd.read_parquet(told["unscored_table"]).sort_values("image_id")
    assert [tuple(row)[:-1] for row in unscored.itertuples(index=False)] == [
        ("x", "Lx", *UNSCORED["x"], "gone", "unscored"),
        ("y", "Ly", *UNSCORED["y"], "content", "exclude"),
    ]
    scored = pd.read_parquet(scores.folder)["image_id"]
    assert sorted([*scored, *unscored["image_id"]]) == sorted([*SCORES, *UNSCORED])


def test_manifests_tell_what_the_version_was_made_from(
    spark: SparkSession, config: Config, store: Store
) -> None:
    scores = prepare(store)
    told = publish_exclusions.step(Workspace.open(spark, config))
    for folder, table, rows in (
        (told["exclusion_list"], schemas.EXCLUSION_LIST, 4),
        (told["unscored_table"], schemas.UNSCORED, 2),
    ):
        manifest = json.loads((Path(folder) / "_manifest.json").read_text())
        assert manifest["rows"] == rows
        assert manifest["table"] == table.name
        assert manifest["columns"] == table.columns
        assert manifest["code_version"] == __version__
        assert manifest["config"] == config.recorded()
        assert manifest["inputs"] == {
            "catalog": scores.inputs.catalog,
            "head_id": "H",
            "backbone_id": "B",
            "scores": scores.run_id,
            "last_version": None,
            "last_run": None,
            "operating_threshold": 0.5,
            "threshold_reason": "fixed by publish.operating_threshold",
            "overrides": None,
        }
        on_disk = {path.name: path.stat().st_size for path in Path(folder).glob("*.parquet")}
        assert {file["name"]: file["bytes"] for file in manifest["files"]} == on_disk
        assert sum(file["rows"] for file in manifest["files"]) == rows
    pointer = json.loads(pointer_file(store).read_text())
    run_id = Path(told["exclusion_list"]).name
    assert pointer["run_id"] == run_id
    assert pointer["exclusion_list"] == f"exclusion_list/{run_id}"
    assert pointer["unscored"] == f"unscored/{run_id}"
    assert pointer["rows"] == 4
    assert (pointer["version"], pointer["layout"]) == (1, 2)


def test_another_threshold_needs_no_scoring_and_the_old_version_stays_readable(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    publish_exclusions.step(Workspace.open(spark, config))
    old = log.current(config.output.root)
    before = {path: path.stat().st_mtime_ns for path in Path(old.folder).iterdir()}
    publish_exclusions.step(Workspace.open(spark, with_threshold(config, 0.55)))
    new = log.current(config.output.root)
    assert new.run_id > old.run_id
    assert listed(spark_io.read_run(spark, new)) == {"a": 0.95, "b": 0.6}
    assert listed(spark_io.read_run(spark, old)) == {"a": 0.95, "b": 0.6, "c": 0.5}
    assert {path: path.stat().st_mtime_ns for path in Path(old.folder).iterdir()} == before
    assert len(store.runs(schemas.SCORES)) == 1
    assert [run.inputs.operating_threshold for run in store.runs(schemas.EXCLUSION_LIST)] == [
        0.5,
        0.55,
    ]


def judged_head(store: Store) -> Run:
    """HEAD and its held-out images: three toilets, the second of which looks harmless."""
    run_id = runs.new_run_id()
    held = [(score, "toilet") for score in (0.9, 0.45, 0.7)]
    held += [(score, "other") for score in (0.55, 0.2, 0.1)]
    rows = [
        {
            "image_id": f"h{place}",
            "listing_id": f"H{place}",
            "stratum": "S",
            "content_digest": f"h{place}",
            "label": label,
            "weight": 1.0,
            "held_out": True,
            "exclusion_score": score,
        }
        for place, (score, label) in enumerate(held)
    ]
    stored(store, schemas.HEADS, rows, run_id=run_id, inputs={"head_id": HEAD.head_id})
    bundle.write(store.folder(schemas.HEADS, run_id), HEAD)
    return store.require(schemas.HEADS, doing="testing", step="train")


def by_policy(config: Config, name: str, value: float) -> Config:
    policy = {"name": name, "value": value, "safe": False}
    changed = Publish.model_validate({**config.publish.model_dump(), "policy": policy})
    return config.model_copy(update={"publish": changed})


def test_another_policy_needs_neither_training_nor_scoring(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store, head_id=HEAD.head_id)
    judged_head(store)
    found = {}
    for name, value in (
        ("min_recall", 1.0),
        ("max_share_of_good_images_lost", 0.01),
        ("cost_ratio", 0.5),
    ):
        told = publish_exclusions.step(Workspace.open(spark, by_policy(config, name, value)))
        inputs = log.current(config.output.root).inputs
        assert inputs.operating_threshold == told["operating_threshold"]
        assert inputs.threshold_reason == told["threshold_reason"]
        assert told["threshold_reason"].endswith(
            "; by 6 held-out images that were not drawn at random and represent only themselves"
        )
        excluded = sorted(listed(readers.read_current(spark, config.output.root)))
        found[name] = (round(told["operating_threshold"], 2), "".join(excluded))
    assert found == {
        "min_recall": (0.45, "abc"),
        "max_share_of_good_images_lost": (0.7, "a"),
        "cost_ratio": (0.67, "a"),
    }
    assert [len(store.runs(table)) for table in (schemas.HEADS, schemas.SCORES)] == [1, 1]


def test_a_policy_that_cannot_be_kept_publishes_nothing(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store, head_id=HEAD.head_id)
    with pytest.raises(HeadError) as gone:
        publish_exclusions.step(Workspace.open(spark, by_policy(config, "min_recall", 0.9)))
    assert gone.value.found == "no such run, or one without them"
    judged_head(store)
    kept = by_policy(config, "min_recall", 1.0).publish
    safe = kept.model_copy(update={"policy": kept.policy.model_copy(update={"safe": True})})
    with pytest.raises(ConfigError) as stopped:
        publish_exclusions.step(Workspace.open(spark, config.model_copy(update={"publish": safe})))
    assert stopped.value.found == "no operating threshold has min_recall 1 at the safe end"
    assert (gone.value.exit_code, stopped.value.exit_code) == (2, 2)
    assert not pointer_file(store).exists()
    assert store.runs(schemas.EXCLUSION_LIST) == []


def test_a_threshold_of_one_and_no_such_score_gives_an_honestly_empty_list(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store, unscored={})
    told = publish_exclusions.step(Workspace.open(spark, with_threshold(config, 1.0)))
    empty = readers.read_current(spark, config.output.root)
    assert told["excluded"] == 0
    assert empty.columns == list(schemas.EXCLUSION_LIST.columns)
    assert empty.count() == 0


def test_a_catalog_without_a_sound_image_is_published_as_unscored(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store, scores={}, unscored={"x": ("missing", "")})
    told = publish_exclusions.step(Workspace.open(spark, config))
    assert (told["images"], told["scored"], told["excluded"]) == (1, 0, 0)
    assert readers.read_current(spark, config.output.root).count() == 0


# What is not published


def test_the_pointer_moves_last(
    spark: SparkSession, config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store)
    publish_exclusions.step(Workspace.open(spark, config))
    before = pointer_file(store).read_bytes()
    write_run: Callable[..., Run] = spark_io.write_run

    def full_disk(frame: Any, where: Store, table: schemas.Table, *args: Any, **facts: Any) -> Run:
        if table is schemas.UNSCORED:
            raise OSError(28, "No space left on device")
        return write_run(frame, where, table, *args, **facts)

    monkeypatch.setattr(spark_io, "write_run", full_disk)
    with pytest.raises(OSError, match="No space left"):
        publish_exclusions.step(Workspace.open(spark, with_threshold(config, 0.9)))
    assert pointer_file(store).read_bytes() == before
    assert listed(readers.read_current(spark, config.output.root)) == {
        "a": 0.95,
        "b": 0.6,
        "c": 0.5,
    }


def test_the_live_version_is_asked_for_at_the_start_and_under_the_lock_and_nowhere_else(
    spark: SparkSession, config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store)
    publish_exclusions.step(Workspace.open(spark, config))
    order: list[str] = []
    read_json, read_jsons = storage.read_json, storage.read_jsons
    replace_json, one_at_a_time = storage.replace_json, storage.one_at_a_time

    def reads_pointer(location: str) -> Any:
        order.extend(["pointer"] * location.endswith("exclusion_list/_current.json"))
        return read_json(location)

    def reads_log(locations: list[str]) -> Any:
        order.extend(["log"] * ("exclusion_list/_versions/" in "".join(locations)))
        return read_jsons(locations)

    def moves_pointer(location: str, content: dict[str, Any]) -> None:
        order.extend(["moved"] * location.endswith("exclusion_list/_current.json"))
        replace_json(location, content)

    def locks(location: str) -> Any:
        order.extend(["locked"] * location.endswith(".approval.lock"))
        return one_at_a_time(location)

    monkeypatch.setattr(storage, "read_json", reads_pointer)
    monkeypatch.setattr(storage, "read_jsons", reads_log)
    monkeypatch.setattr(storage, "replace_json", moves_pointer)
    monkeypatch.setattr(storage, "one_at_a_time", locks)
    publish_exclusions.step(Workspace.open(spark, config))
    assert order == ["pointer", "log", "locked", "pointer", "log", "moved"]


def test_an_image_that_is_nowhere_stops_the_publication(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    publish_exclusions.step(Workspace.open(spark, config))
    before = pointer_file(store).read_bytes()
    prepare(store, unembedded="z")
    with pytest.raises(AuditError) as stopped:
        publish_exclusions.step(Workspace.open(spark, config))
    made = store.newest(schemas.EXCLUSION_LIST)
    assert made is not None
    page = f"{store.root}/reports/plan-{made.run_id}.html"
    assert str(stopped.value) == (
        f"while auditing the exclusion list {made.run_id}\n"
        "  expected: containment.decision: each of 8 images kept, excluded or unscored, "
        "for a known reason; containment.exclusion_score: a number in [0, 1] "
        "where there is a score, and null elsewhere\n"
        "  found:    containment.decision: 7 are, and 1 rows have an unknown word; "
        "containment.exclusion_score: 1 other rows\n"
        f"  do:       the last version stays in force; see {page}; "
        "run `toiletspark rescore` again, and report this if it comes back"
    )
    assert "containment.decision" in Path(page).read_text(encoding="utf-8")
    assert stopped.value.exit_code == 3
    assert pointer_file(store).read_bytes() == before


@pytest.mark.parametrize(
    ("table", "rule"), [("exclusion_list", "size.exclusion_list"), ("unscored", "size.unscored")]
)
def test_a_list_that_was_written_short_is_not_published(
    spark: SparkSession,
    config: Config,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    rule: str,
) -> None:
    """Figures are counted on the decisions; readers get other files."""
    prepare(store)
    whole: Callable[[Any], Any] = getattr(decisions, table)
    monkeypatch.setattr(decisions, table, lambda decided: whole(decided).where("image_id != 'y'"))
    with pytest.raises(AuditError) as stopped:
        publish_exclusions.step(Workspace.open(spark, config))
    assert [told.partition(":")[0] for told in stopped.value.expected.split("; ")] == [rule]
    assert log.read_all(store) == []


def test_a_rollback_while_a_version_is_made_stands(
    spark: SparkSession, config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store)
    publish_exclusions.step(Workspace.open(spark, config))
    publish_exclusions.step(Workspace.open(spark, with_threshold(config, 0.55)))
    make = publication.make

    def meanwhile(*args: Any) -> publication.Made:
        made = make(*args)
        rollback.roll_back(store, config.publish)
        return made

    monkeypatch.setattr(publication, "make", meanwhile)
    with pytest.raises(AuditError, match="overtaken: version 3 is live, a rollback to version 1"):
        publish_exclusions.step(Workspace.open(spark, with_threshold(config, 0.55)))
    assert listed(readers.read_current(spark, store.root)) == {"a": 0.95, "b": 0.6, "c": 0.5}


def test_publishing_before_scoring_names_the_step_that_is_missing(
    spark: SparkSession, config: Config
) -> None:
    with pytest.raises(OutputError) as stopped:
        publish_exclusions.step(Workspace.open(spark, config))
    assert str(stopped.value) == (
        "while publishing the exclusion list\n"
        f"  expected: a complete run of scores in {config.output.root}/scores\n"
        "  found:    none\n"
        "  do:       run `toiletspark score` with the same configuration first"
    )


# Reading


@pytest.fixture
def published(store: Store) -> Run:
    """A version, made without Spark."""
    return publish_tiny(store, 3)


def publish_tiny(store: Store, rows: int) -> Run:
    run_id = runs.new_run_id()
    excluded = [{"image_id": f"{run_id}/{number}", "run_id": run_id} for number in range(rows)]
    listed_run = stored(store, schemas.EXCLUSION_LIST, excluded, run_id=run_id)
    stored(store, schemas.UNSCORED, [], run_id=run_id)
    log.publish(store, listed_run)
    return listed_run


def test_nothing_published_is_an_error_and_not_an_empty_list(
    spark: SparkSession, store: Store
) -> None:
    with pytest.raises(OutputError) as stopped:
        readers.read_current(spark, store.root)
    assert str(stopped.value) == (
        f"while reading the current exclusion list of {store.root}\n"
        "  expected: exclusion_list/_current.json that names a complete version\n"
        "  found:    no pointer\n"
        "  do:       run `toiletspark publish` first; "
        "an unreadable list must not be taken for an empty one"
    )


def test_a_version_without_its_manifest_is_an_error(
    spark: SparkSession, store: Store, published: Run
) -> None:
    (Path(published.folder) / "_manifest.json").unlink()
    with pytest.raises(OutputError) as stopped:
        readers.read_current(spark, store.root)
    assert stopped.value.found == f"version {published.run_id} without a manifest"


def alter_rows(folder: Path) -> None:
    table = pq.read_table(folder / "part-0.parquet")
    other = pa.array([f"other/{number}" for number in range(len(table))])
    pq.write_table(table.set_column(0, "image_id", other), folder / "part-0.parquet")


def remove_a_row(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "part-0.parquet").slice(1), folder / "part-0.parquet")


def remove_file(folder: Path) -> None:
    (folder / "part-0.parquet").unlink()


def add_file(folder: Path) -> None:
    (folder / "part-1.parquet").write_bytes((folder / "part-0.parquet").read_bytes())


def spoil_file(folder: Path) -> None:
    (folder / "part-0.parquet").write_bytes(b"disk error")


def empty_file(folder: Path) -> None:
    (folder / "part-0.parquet").write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (alter_rows, "'part-"),
        (remove_a_row, "'part-"),
        (remove_file, "missing"),
        (add_file, "in no manifest"),
        (spoil_file, "'part-0.parquet"),
        (empty_file, "'part-0.parquet"),
    ],
)
def test_a_version_that_was_changed_is_an_error(
    spark: SparkSession, store: Store, published: Run, harm: Callable[[Path], None], found: str
) -> None:
    assert readers.read_current(spark, store.root).count() == 3
    harm(Path(published.folder))
    with pytest.raises(OutputError) as stopped:
        readers.read_current(spark, store.root)
    doing, expected, difference, todo = str(stopped.value).splitlines()
    assert doing == f"while reading the current exclusion list of {store.root}"
    assert expected == (f"  expected: the 1 files of the manifest of {published.run_id}, unchanged")
    assert found in difference or difference == "  found:    other contents"
    assert todo == (
        "  do:       run `toiletspark publish` again; versions are never changed in place"
    )


def test_a_reader_never_sees_a_part_of_a_version(store: Store) -> None:
    """Twenty publications under a reader that never stops; each read is one whole version."""
    rng = np.random.default_rng(5)
    publish_tiny(store, 4)
    pointer = pointer_file(store)
    seen = []
    wrong = []
    ended = threading.Event()
    read_again = threading.Semaphore(0)

    def read_all_the_time() -> None:
        while not ended.is_set():
            try:
                told = json.loads(pointer.read_bytes())
                rows = pq.read_table(Path(store.root) / told["exclusion_list"]).to_pylist()
                unscored = pq.read_table(Path(store.root) / told["unscored"])
                whole = len(rows) == told["rows"] and {row["run_id"] for row in rows} == {
                    told["run_id"]
                }
                if not whole or len(unscored):
                    wrong.append((told, rows))
                seen.append(told["run_id"])
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is what this test looks for
                wrong.append(error)
            read_again.release()

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    try:
        made = []
        for _ in range(20):
            made.append(publish_tiny(store, int(rng.integers(1, 50))).run_id)
            while read_again.acquire(blocking=False):
                pass  # reads that ended before the publication
            for _ in range(2):  # the second read from now has begun after it
                assert read_again.acquire(timeout=60)
    finally:
        ended.set()
        reader.join()
    assert wrong == []
    assert len(seen) >= 40
    assert set(made) <= set(seen)
    assert seen == sorted(seen)


# The recall of the head


def test_a_head_that_may_find_too_few_is_held_until_somebody_accepts_it(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store, head_id=HEAD.head_id)
    judged_head(store)

    def publish(**changes: Any) -> dict[str, Any]:
        section = config.publish.model_copy(update=changes)
        changed = config.model_copy(update={"publish": section})
        return publish_exclusions.step(Workspace.open(spark, changed))

    told = publish()
    assert next(iter(told)) == "alarms"
    assert told["alarms"][0].startswith("the head may find less than 50 % of the ")
    with pytest.raises(AuditError) as held:
        publish(min_recall=0.5)
    assert held.value.exit_code == 3
    assert "--accept recall" in held.value.todo and "labels suggest" in held.value.todo
    told = publish(min_recall=0.5, accept=["recall"], because="a first version")
    assert told["version"] == 2
    assert any("was accepted: a first version" in alarm for alarm in told["alarms"])
    assert publish(min_recall=0.5)["version"] == 3  # nothing has changed since


def test_hysteresis_is_at_most_half_of_the_threshold(config: Config, store: Store) -> None:
    scores = prepare(store)
    work = Workspace(None, store, config, "run")
    for threshold, hysteresis in ((0.5, 0.02), (0.01, 0.005)):
        assert publication._rules(work, Settled(threshold, ""), scores).hysteresis == hysteresis
