"""Commits: what is done stays done, and what was broken off is gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import (
    LOCAL_CONF,
    NEARBY,
    REPOSITORY,
    SMALL_SPARK,
    TINY_BACKBONE,
    head_of_chance,
    picture,
    read_table,
)
from tests.support.picture_server import PictureServer, served
from toiletspark.config import Config, loading
from toiletspark.embedding import commits
from toiletspark.embedding.tasks import TaskInputs
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import OutputError
from toiletspark.jobs import embed_images, score_catalog
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

IMAGES, CONTENTS, IMAGES_PER_COMMIT = 40, 30, 14
ONE_COMMIT = {"embed__images_per_commit": 1_000}
WAIT_S = 120.0  # for a process to start


class Catalog:
    """40 images behind a web server, ten of which show what another one shows, and one that is
    junk.
    """

    def __init__(self, site: PictureServer, folder: Path) -> None:
        self.site, self.folder = site, folder
        contents = [
            b"junk",
            *(picture("kitchen", number, (40, 40)) for number in range(1, CONTENTS)),
        ]
        urls = [
            site.serve(f"{number}.jpg", contents[number % CONTENTS]) for number in range(IMAGES)
        ]
        ids = [f"i{number:02}" for number in range(IMAGES)]
        pd.DataFrame({"image_id": ids, "listing_id": "L", "image_url": urls}).to_parquet(
            folder / "images.parquet"
        )

    def sets(self, root: Path, **more: Any) -> list[str]:
        """The settings, as a command line has them."""
        settings = {
            "images.path": self.folder / "images.parquet",
            "output.root": root,
            "embed.images_per_commit": IMAGES_PER_COMMIT,
            "embed.images_per_task": 5,
            "embed.retry": "none",
            **TINY_BACKBONE,
            **NEARBY,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        return [SMALL_SPARK, *(f"{key}={value}" for key, value in settings.items())]

    def config(self, root: Path, **more: Any) -> Config:
        return loading.load([LOCAL_CONF], self.sets(root, **more))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with served() as site:
        yield Catalog(site, tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def undisturbed(
    spark: SparkSession, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The summary of an undisturbed run, and its configuration."""
    config = catalog.config(tmp_path_factory.mktemp("undisturbed") / "output")
    return {**embed_images.step(Workspace.open(spark, config)), "config": config}


def outcome(spark: SparkSession, config: Config) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The catalog, and the embedding of each content."""
    newest = Store(config.output.root).newest(schemas.CATALOG)
    assert newest is not None
    snapshot = pd.read_parquet(newest.folder).set_index("image_id").sort_index()
    kept = read_table(spark, config, schemas.EMBEDDINGS)
    assert not kept.duplicated(["content_digest", "backbone_id"]).any()
    sound = snapshot.loc[snapshot["status"] == "ok", "content_digest"]
    assert set(sound) <= set(kept["content_digest"])
    vectors = {
        row.content_digest: np.frombuffer(row.embedding, "<f2").astype(float)
        for row in kept.itertuples()
    }
    return snapshot, vectors


def assert_same_outcome(spark: SparkSession, one: Config, other: Config) -> None:
    """The same rows, and embeddings that differ by their neighbours in a batch at most."""
    (snapshot, vectors), (snapshot_there, vectors_there) = (
        outcome(spark, one),
        outcome(spark, other),
    )
    pd.testing.assert_frame_equal(snapshot, snapshot_there)
    assert vectors.keys() == vectors_there.keys()
    for digest, result in vectors.items():
        np.testing.assert_allclose(result, vectors_there[digest], rtol=2**-9, atol=1e-4)


def committed(config: Config, table: schemas.Table) -> list[int]:
    """The numbers of the commits of all runs, in the order in which they became visible."""
    return [run.inputs.commit for run in Store(config.output.root).runs(table)]


def left_over(config: Config) -> list[str]:
    return sorted(path.name for path in (Path(config.output.root) / "_work").glob("*"))


# Undisturbed


def test_each_commit_is_a_run_of_embeddings_and_ledger_that_names_its_run(
    spark: SparkSession, undisturbed: dict[str, Any]
) -> None:
    config = undisturbed["config"]
    store = Store(undisturbed["config"].output.root)
    run_id = Path(undisturbed["catalog"]).name
    runs = [*store.runs(schemas.EMBEDDINGS), *store.runs(schemas.IMAGE_LEDGER)]
    assert len({run.run_id for run in runs}) == len(runs)
    for run in runs:
        inputs = {
            "backbone_id": undisturbed["backbone_id"],
            "run": run_id,
            "commit": run.inputs.commit,
        }
        assert run.inputs.as_json() == inputs
    numbers = committed(config, schemas.IMAGE_LEDGER)
    assert committed(config, schemas.EMBEDDINGS) == numbers == sorted(set(numbers))
    assert len(numbers) > 2
    for written, recorded in zip(
        store.runs(schemas.EMBEDDINGS), store.runs(schemas.IMAGE_LEDGER), strict=True
    ):
        assert written.run_id < recorded.run_id  # embeddings come first
    assert sum(run.rows for run in store.runs(schemas.IMAGE_LEDGER)) == IMAGES
    assert (
        sum(run.rows for run in store.runs(schemas.EMBEDDINGS))
        == CONTENTS - 1
        == undisturbed["embedded"]
    )
    assert spark_io.read_all(spark, store, schemas.IMAGE_LEDGER, of_run=run_id).count() == IMAGES
    assert spark_io.read_all(spark, store, schemas.IMAGE_LEDGER, of_run="another").count() == 0
    assert left_over(config) == []


# Broken off


def attempts_that(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[int, DataFrame, TaskInputs], DataFrame]
) -> list[TaskInputs]:
    """Changes what the workers bring: called with the number of the call, the attempts, and what
    was given.
    """
    calls: list[TaskInputs] = []

    def attempt(
        plan: DataFrame, partitions: int, given: TaskInputs, errors: WorkerErrors
    ) -> DataFrame:
        calls.append(given)
        return change(len(calls), attempt_images(plan, partitions, given, errors), given)

    attempt_images = commits.attempt_images
    monkeypatch.setattr(commits, "attempt_images", attempt)
    return calls


def test_a_run_that_breaks_in_its_third_commit_is_gone_on_with(
    spark: SparkSession,
    catalog: Catalog,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = catalog.config(tmp_path / "output")
    store = Store.open(config.output.root)
    scoring = head_of_chance(config, undisturbed["backbone_id"])

    def break_down(number: int, attempts: DataFrame, given: TaskInputs) -> DataFrame:
        if number == 3:
            raise RuntimeError("power cut")
        return attempts

    attempts_that(monkeypatch, break_down)
    with pytest.raises(RuntimeError, match="power cut"):
        embed_images.step(Workspace.open(spark, config))
    monkeypatch.undo()
    done = sum(run.rows for run in store.runs(schemas.IMAGE_LEDGER))
    assert (
        len(committed(config, schemas.IMAGE_LEDGER))
        == len(committed(config, schemas.EMBEDDINGS))
        == 2
    )
    assert 0 < done < IMAGES
    with pytest.raises(
        OutputError, match="run `toiletspark embed`"
    ):  # no catalog yet, so nothing is scored by halves
        score_catalog.step(Workspace.open(spark, scoring))
    (broken,) = left_over(config)

    catalog.site.gets.clear()
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["images"], summary["attempted"]) == (IMAGES, IMAGES - done)
    # nothing of what was committed
    assert sum(catalog.site.gets.values()) == len(catalog.site.gets) == IMAGES - done
    assert_same_outcome(spark, config, undisturbed["config"])
    # the junk is shown twice
    assert score_catalog.step(Workspace.open(spark, scoring))["scored"] == IMAGES - 2

    assert left_over(config) == [broken]  # it may still be at work, for all that others know
    whole = len(store.runs(schemas.IMAGE_LEDGER))
    assert store.clear_unfinished(0) == [store.work_folder(broken)]
    assert left_over(config) == []
    assert len(store.runs(schemas.IMAGE_LEDGER)) == whole


def test_after_a_broken_run_the_last_whole_catalog_is_scored(
    spark: SparkSession,
    undisturbed: dict[str, Any],
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(undisturbed["config"].output.root, tmp_path / "output")
    images = pd.read_parquet(catalog.folder / "images.parquet")
    more = images.assign(
        image_id="new " + images["image_id"], image_url=images["image_url"] + "?new"
    )
    pd.concat([images, more.head(5)]).to_parquet(tmp_path / "images.parquet")
    config = catalog.config(tmp_path / "output", images__path=tmp_path / "images.parquet")

    def break_down(number: int, attempts: DataFrame, given: TaskInputs) -> DataFrame:
        raise RuntimeError("power cut")

    attempts_that(monkeypatch, break_down)
    with pytest.raises(RuntimeError, match="power cut"):
        embed_images.step(Workspace.open(spark, config))
    summary = score_catalog.step(
        Workspace.open(spark, head_of_chance(config, undisturbed["backbone_id"]))
    )
    assert (summary["images"], summary["scored"]) == (IMAGES, IMAGES - 2)


def test_a_run_that_ends_between_embeddings_and_ledger_is_made_good_by_the_next(
    spark: SparkSession,
    catalog: Catalog,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = catalog.config(tmp_path / "output", **ONE_COMMIT)
    write_run = spark_io.write_run

    def breaking(
        frame: DataFrame, store: Store, wanted: schemas.Table, *args: Any, **facts: Any
    ) -> Any:
        if wanted is schemas.IMAGE_LEDGER:
            raise RuntimeError("power cut")
        return write_run(frame, store, wanted, *args, **facts)

    monkeypatch.setattr(spark_io, "write_run", breaking)
    with pytest.raises(RuntimeError, match="power cut"):
        embed_images.step(Workspace.open(spark, config))
    monkeypatch.undo()
    there = Store(config.output.root).newest(schemas.EMBEDDINGS)
    assert there is not None
    assert there.rows == CONTENTS - 1
    assert Store(config.output.root).newest(schemas.IMAGE_LEDGER) is None
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["attempted"], summary["embedded"]) == (IMAGES, 0)
    assert_same_outcome(spark, config, undisturbed["config"])


# Tasks that were lost with their claims


def without_outcome(attempts: DataFrame, lost: list[str]) -> DataFrame:
    """Simulates other tasks that claimed the contents of some images and were lost.

    Where another row has the outcome of such a content, its embedding stays: a task is lost with
    all that it has brought, and one that had both images would not have brought one of them alone.
    """
    is_lost = F.col("image_id").isin(lost)
    is_known = F.max(~is_lost & (F.col("status") != "")).over(Window.partitionBy("content_digest"))
    return (
        attempts.withColumn("is_known", is_known)
        .withColumn("status", F.when(is_lost, "").otherwise(F.col("status")))
        .withColumn("embedding", F.when(~is_lost | F.col("is_known"), F.col("embedding")))
        .drop("is_known")
    )


def test_contents_whose_claims_were_lost_are_worked_on_in_a_second_round(
    spark: SparkSession,
    catalog: Catalog,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = catalog.config(tmp_path / "output", **ONE_COMMIT)
    # i15 shows what nobody else shows; i05 and i06 stand for two images each
    lost = ["i05", "i06", "i15"]

    def lose(number: int, attempts: DataFrame, given: TaskInputs) -> DataFrame:
        return without_outcome(attempts, lost) if given.claims.endswith("-0") else attempts

    calls = attempts_that(monkeypatch, lose)
    catalog.site.gets.clear()
    summary = embed_images.step(Workspace.open(spark, config))
    assert summary["attempted"] == IMAGES
    assert sum(run.rows for run in Store(config.output.root).runs(schemas.IMAGE_LEDGER)) == IMAGES
    again = {path for path, gets in catalog.site.gets.items() if gets > 1}
    assert {"/15.jpg"} <= again <= {"/5.jpg", "/6.jpg", "/15.jpg", "/35.jpg", "/36.jpg"}
    first, second = (given.claims for given in calls)
    assert first != second  # each round shares its contents out anew
    assert_same_outcome(spark, config, undisturbed["config"])


def test_after_three_rounds_without_an_outcome_the_run_stops(
    spark: SparkSession, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = catalog.config(tmp_path / "output", **ONE_COMMIT)
    calls = attempts_that(
        monkeypatch, lambda number, attempts, given: without_outcome(attempts, ["i15", "i16"])
    )
    with pytest.raises(OutputError) as stopped:
        embed_images.step(Workspace.open(spark, config))
    assert str(stopped.value) == (
        "while embedding\n"
        "  expected: an attempt at each of 40 images\n"
        "  found:    38 after 3 rounds, each of which lost tasks\n"
        "  do:       see in the executors' logs why they end, then run this again; it "
        "continues with what is missing"
    )
    assert len(calls) == 3
    # which are done
    assert sum(run.rows for run in Store(config.output.root).runs(schemas.IMAGE_LEDGER)) == 38


# Killed


@pytest.mark.slow
def test_a_killed_driver_has_lost_less_than_one_commit(
    spark: SparkSession, catalog: Catalog, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """SIGKILL in the second commit, in which the server answers only the first few requests."""
    config = catalog.config(tmp_path / "output")
    gets = catalog.site.gets
    ledger = Path(config.output.root) / schemas.IMAGE_LEDGER.name
    late: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def hold_back(path: str) -> None:
        late.extend([path] * any(ledger.glob("*/_manifest.json")))
        if len(late) > 3:
            begun.set()
            go_on.wait(WAIT_S)

    gets.clear()
    catalog.site.before = hold_back
    command = [sys.executable, "-m", "toiletspark.jobs.cli", "embed", "--conf", LOCAL_CONF]
    command += [f"--set={text}" for text in catalog.sets(tmp_path / "output")]
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=log,
        start_new_session=True,
    )
    try:
        reached = begun.wait(WAIT_S)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        go_on.set()
        catalog.site.before = lambda path: None
        log.close()
    assert reached, (tmp_path / "log").read_text()[-3000:]
    store = Store(config.output.root)
    done = sum(run.rows for run in store.runs(schemas.IMAGE_LEDGER))
    assert committed(config, schemas.IMAGE_LEDGER) == committed(config, schemas.EMBEDDINGS) == [0]
    assert store.newest(schemas.CATALOG) is None

    summary = embed_images.step(Workspace.open(spark, config))
    assert summary["attempted"] == IMAGES - done
    redone = sum(count - 1 for count in gets.values())
    (broken,) = left_over(config)
    plan = pd.read_parquet(f"{store.work_folder(broken)}/plan", columns=["image_id", "commit"])
    assert 0 < redone <= (plan["commit"].astype(int) == 1).sum()
    assert_same_outcome(spark, config, undisturbed["config"])
