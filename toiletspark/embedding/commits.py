"""Embeds the planned images commit by commit.

The attempts of a commit are first set aside, so that each image is worked on once; then its
embeddings are committed, then the ledger rows that refer to them. A killed run loses at most one
commit's work, and the next run continues with what is missing.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import progress
from toiletspark.embedding.dedup import PART_DIGITS, KnownContents
from toiletspark.embedding.ledger import embedded_contents
from toiletspark.embedding.plan import Plan
from toiletspark.embedding.tasks import TaskInputs, attempt_images
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import OutputError
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, new_run_id
from toiletspark.tables.schemas import EMBEDDINGS, IMAGE_LEDGER, Table
from toiletspark.tables.workspace import Workspace

_MOST_ROUNDS = 3


@dataclass(frozen=True)
class Totals:
    """Counts of a run, or of one of its commits."""

    attempted: int = 0  # images that were tried
    fetched: int = 0  # sources that were read for them
    sound: int = 0  # sources whose content is a sound image
    embedded: int = 0  # contents whose embedding is new

    def __add__(self, other: Totals) -> Totals:
        return Totals(*map(operator.add, dataclasses.astuple(self), dataclasses.astuple(other)))


def embed_plan(
    work: Workspace, plan: Plan, spec: BackboneSpec, probe: GoldenImage | None = None
) -> Totals:
    """Attempts the planned images; stores runs of `image_ledger` and `embeddings`.

    The probe is a golden image whose embedding every worker must reproduce, see `head.probe`.
    Raises BackboneError if one does not, or cannot start the backbone; its commit is not kept.
    """
    context = work.spark.sparkContext
    known = KnownContents.from_parts([], [])
    if work.store.runs(EMBEDDINGS):
        known = read_contents(embedded_contents(work.spark, work.store, spec.backbone_id))
    stored = context.broadcast(known)
    inputs = TaskInputs(
        spec=context.broadcast(spec),
        fetch=work.config.fetch,
        limits=work.config.decode,
        embed=work.config.embed,
        golden=context.broadcast(probe) if probe else None,
    )
    recent = KnownContents.from_parts([], [])  # the contents of this run's own commits
    totals, count = Totals(), len(plan.rows_by_commit)
    for number, rows in sorted(plan.rows_by_commit.items()):
        doing = f"embedding, commit {number + 1} of {count}" if count > 1 else "embedding"
        commit = _Commit(work, spec.backbone_id, number, doing, plan.is_inline)
        shared = context.broadcast(recent)
        inputs = dataclasses.replace(inputs, known=(stored, shared))
        done, embeddings = commit.run(plan.rows, rows, inputs)
        shared.destroy()
        totals += done
        if number + 1 < count:
            recent = recent.union(read_contents(embeddings))
    return totals


def read_contents(embeddings: DataFrame) -> KnownContents:
    """Collects the digests of embedded contents to the driver: 16 bytes each."""

    def part(start: int) -> Column:
        digits = F.substring("content_digest", start, PART_DIGITS)
        return F.conv(digits, 16, 10).cast("bigint")

    parts = embeddings.select(part(1).alias("high"), part(1 + PART_DIGITS).alias("low")).toPandas()
    return KnownContents.from_parts(parts["high"], parts["low"])


@dataclass(frozen=True)
class _Commit:
    work: Workspace
    backbone_id: str
    number: int
    doing: str
    is_inline: bool

    def run(self, plan: DataFrame, rows: int, inputs: TaskInputs) -> tuple[Totals, DataFrame]:
        """Attempts all its rows of the plan; returns the new embeddings too.

        One round is enough unless Spark lost a task whose claims others had relied on.
        """
        todo, totals = plan.where(F.col("commit") == self.number), Totals()
        embeddings: DataFrame | None = None
        for round_number in range(_MOST_ROUNDS):
            claims = f"{self.work.run_id}-{self.number}-{round_number}"
            inputs = dataclasses.replace(inputs, claims=claims)
            attempts, claimed = self._attempt(todo, rows - totals.attempted, inputs)
            embedded, ledger, counts = self._store(attempts, claimed)
            totals += counts
            embeddings = embedded if embeddings is None else embeddings.unionByName(embedded)
            if totals.attempted == rows:
                return totals, embeddings
            todo = todo.join(ledger.select("image_id"), "image_id", "left_anti")
        raise OutputError(
            doing=self.doing,
            expected=f"an attempt at each of {rows} images",
            found=f"{totals.attempted} after {_MOST_ROUNDS} rounds, each of which lost tasks",
            todo="see in the executors' logs why they end, then run this again; it continues with "
            "what is missing",
        )

    def _attempt(self, todo: DataFrame, rows: int, inputs: TaskInputs) -> tuple[DataFrame, int]:
        """The attempts at `rows` images, set aside; counts those that wait for another task's."""
        spark, config = self.work.spark, self.work.config
        cores = spark.sparkContext.defaultParallelism
        partitions = cores * math.ceil(rows / config.embed.images_per_task / cores)
        arrow_rows = config.embed.images_per_task
        if self.is_inline:
            arrow_rows = max(1, config.embed.bytes_per_batch // config.fetch.max_image_bytes)
        errors = WorkerErrors(spark.sparkContext)
        every_s = config.progress.line_every_s
        with (
            spark_io.arrow_batches(spark, arrow_rows),
            progress.watch(spark, self.doing, rows, line_every_s=every_s),
        ):
            lazy = attempt_images(todo, partitions, inputs, errors)
            lazy, counted = spark_io.counting(lazy, claimed=F.col("status") == "")
            store, run_id = self.work.store, self.work.run_id
            attempts = spark_io.set_aside(lazy, store, run_id, inputs.claims)
        errors.raise_first()
        return attempts, counted()["claimed"]

    def _store(self, attempts: DataFrame, claimed: int) -> tuple[DataFrame, DataFrame, Totals]:
        """Splits attempts into embeddings and ledger rows, and makes both visible."""
        spark = self.work.spark
        new = attempts.where(F.col("embedding").isNotNull()).dropDuplicates(["content_digest"])
        new = new.withColumn("backbone_id", F.lit(self.backbone_id))
        embeddings = self._write(new, EMBEDDINGS)
        sound = F.col("fetched") & (F.col("status") == "ok")
        settled = resolve_claims(attempts) if claimed else attempts
        ledger_rows, counted = spark_io.counting(settled, fetched=F.col("fetched"), sound=sound)
        ledger = self._write(ledger_rows, IMAGE_LEDGER)
        totals = Totals(ledger.rows, counted()["fetched"], counted()["sound"], embeddings.rows)
        return spark_io.read_run(spark, embeddings), spark_io.read_run(spark, ledger), totals

    def _write(self, frame: DataFrame, table: Table) -> Run:
        work, run_id = self.work, new_run_id()
        inputs = Inputs(backbone_id=self.backbone_id, run=work.run_id, commit=self.number)
        config = work.config.recorded()
        return spark_io.write_run(frame, work.store, table, run_id, config=config, inputs=inputs)


def resolve_claims(attempts: DataFrame) -> DataFrame:
    """Fills rows without a status from the row of the task that had claimed the content.

    Rows whose content has no other row are left out: the task that had claimed it was lost.
    """
    outcome = ["status", "detail", "width", "height"]
    known = attempts.where(F.col("status") != "")
    by_content = known.where(F.col("content_digest").isNotNull())
    by_content = by_content.dropDuplicates(["content_digest"]).select("content_digest", *outcome)
    claimed = attempts.where(F.col("status") == "").drop(*outcome)
    return known.unionByName(claimed.join(by_content, "content_digest"))
