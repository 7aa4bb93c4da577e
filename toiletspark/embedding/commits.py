"""Embed once: the waiting images are worked on commit by commit.

A commit is visible at once or not at all: its attempts are first set aside where no reader looks, so that an image is
worked on once; then its embeddings are committed, then the ledger that says that they are there. A run that was
killed has lost less than one commit's work, and the next one goes on with what still waits.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import progress
from toiletspark.config import Config
from toiletspark.embedding.dedup import PART_DIGITS, Known
from toiletspark.embedding.plan import Plan
from toiletspark.embedding.tasks import Given, attempt_images
from toiletspark.embedding.worker_errors import Refusals
from toiletspark.errors import OutputError
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.tables.workspace import Workspace

_MOST_ROUNDS = 3


@dataclass(frozen=True)
class Totals:
    """What a run, or one of its commits, has come to.

    Attributes:
        attempted: images that were tried.
        fetched: sources that were read for them.
        sound: of those, the ones whose content is a sound image.
        embedded: contents whose embedding is new.
    """

    attempted: int = 0
    fetched: int = 0
    sound: int = 0
    embedded: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            *(
                a + b
                for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
            )
        )


def embed_plan(
    work: Workspace,
    plan: Plan,
    spec: BackboneSpec,
    probe: GoldenImage | None = None,
) -> Totals:
    """Attempts the planned images and keeps what came of it, as runs of `image_ledger` and `embeddings`.

    Args:
        plan: see `plans.plan`.
        spec: the backbone, from `convert.prepared`.
        probe: what every worker must embed as it was before, see `golden.probe`.

    Raises:
        BackboneError: a worker does not, or cannot start the backbone; the commit that it worked on is not kept.
    """
    context = work.spark.sparkContext
    given = Given(
        context.broadcast(spec),
        (context.broadcast(_stored_contents(work.spark, work.store, spec)),),
        work.config.fetch,
        work.config.decode,
        work.config.embed,
        "",
        Refusals(context),
        context.broadcast(probe) if probe else None,
    )
    recent = Known.of([], [])  # the contents of this run's own commits
    totals, count = Totals(), len(plan.rows_of)
    for number, rows in sorted(plan.rows_of.items()):
        shown = f"embedding, commit {number + 1} of {count}" if count > 1 else "embedding"
        known = (*given.known, context.broadcast(recent))
        commit = _Commit(work.store, work.config, spec.backbone_id, work.run_id, number, shown)
        done, embeddings = commit.make(plan.rows, rows, dataclasses.replace(given, known=known))
        known[-1].destroy()
        totals += done
        if number + 1 < count:
            recent = recent.with_more(contents_of(embeddings))
    return totals


def _stored_contents(spark: SparkSession, store: Store, spec: BackboneSpec) -> Known:
    """What earlier runs have embedded."""
    if store.newest(tables.EMBEDDINGS) is None:
        return Known.of([], [])
    stored = frames.read_all(spark, store, tables.EMBEDDINGS)
    return contents_of(stored.where(F.col("backbone_id") == spec.backbone_id))


def contents_of(embeddings: DataFrame) -> Known:
    """The contents that have an embedding, for the workers to know them: 16 bytes each on the driver."""
    parts = [
        F.conv(F.substring("content_digest", start, PART_DIGITS), 16, 10).cast("bigint").alias(name)
        for name, start in [("high", 1), ("low", 1 + PART_DIGITS)]
    ]
    found = embeddings.select(*parts).toPandas()
    return Known.of(found["high"], found["low"])


@dataclass(frozen=True)
class _Commit:
    """One commit in the making."""

    store: Store
    config: Config
    backbone_id: str
    run_id: str
    number: int
    doing: str

    def make(self, plan: DataFrame, rows: int, given: Given) -> tuple[Totals, DataFrame]:
        """Works on its share of the plan until every row of it has an attempt; returns its new embeddings too.

        One round does it, unless Spark lost a task on whose claims others had relied.
        """
        todo, totals, found = plan.where(F.col("commit") == self.number), Totals(), None
        for round_number in range(_MOST_ROUNDS):
            name = f"{self.run_id}-{self.number}-{round_number}"
            done = self._attempt(
                todo, rows - totals.attempted, dataclasses.replace(given, claims=name)
            )
            embeddings, ledger, totals_of_round = self._keep(done)
            totals += totals_of_round
            found = embeddings if found is None else found.unionByName(embeddings)
            if totals.attempted == rows:
                return totals, found
            todo = todo.join(ledger.select("image_id"), on="image_id", how="left_anti")
        raise OutputError(
            doing=self.doing,
            expected=f"an attempt at each of {rows} images",
            found=f"{totals.attempted} after {_MOST_ROUNDS} rounds, in each of which tasks were lost",
            todo="look at the executors' logs for what ends them, then run this again; it goes on with what is missing",
        )

    def _attempt(self, todo: DataFrame, rows: int, given: Given) -> DataFrame:
        """The attempts at `rows` images, set aside."""
        spark, config = todo.sparkSession, self.config
        cores = spark.sparkContext.defaultParallelism
        partitions = cores * math.ceil(rows / config.embed.images_per_task / cores)
        inline = max(1, config.embed.bytes_per_batch // config.fetch.max_image_bytes)
        with (
            frames.arrow_batches(
                spark, inline if config.images.columns.content else config.embed.images_per_task
            ),
            progress.watch(spark, self.doing, rows, line_every_s=config.progress.line_every_s),
        ):
            made = frames.set_aside(
                attempt_images(todo, partitions, given), self.store, self.run_id, given.claims
            )
        given.refusals.require_none()
        return made

    def _keep(self, done: DataFrame) -> tuple[DataFrame, DataFrame, Totals]:
        """Splits attempts into embeddings and ledger rows, and makes both visible."""
        new = done.where(F.col("embedding").isNotNull()).dropDuplicates(["content_digest"])
        embeddings = self._write(
            new.withColumn("backbone_id", F.lit(self.backbone_id)), tables.EMBEDDINGS
        )
        sound = F.col("fetched") & (F.col("status") == "ok")
        told, counted = frames.counting(resolved(done), fetched=F.col("fetched"), sound=sound)
        ledger = self._write(told, tables.IMAGE_LEDGER)
        spark = done.sparkSession
        totals = Totals(ledger.rows, counted()["fetched"], counted()["sound"], embeddings.rows)
        return frames.read_run(spark, embeddings), frames.read_run(spark, ledger), totals

    def _write(self, frame: DataFrame, table: tables.Table) -> Run:
        inputs = Inputs(backbone_id=self.backbone_id, run=self.run_id, commit=self.number)
        return frames.write_run(
            frame, self.store, table, new_run_id(), config=self.config.recorded(), inputs=inputs
        )


def resolved(attempts: DataFrame) -> DataFrame:
    """The attempts whose outcome is known: a row without a status takes that of the task that had its content.

    Rows whose content no row tells of are left out; the task that had claimed it was lost.
    """
    outcome = ["status", "detail", "width", "height"]
    told = attempts.where(F.col("status") != "")
    of_content = told.where(F.col("content_digest").isNotNull()).dropDuplicates(["content_digest"])
    elsewhere = attempts.where(F.col("status") == "").drop(*outcome)
    return told.unionByName(
        elsewhere.join(of_content.select("content_digest", *outcome), on="content_digest")
    )
