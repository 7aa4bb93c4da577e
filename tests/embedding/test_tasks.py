"""Embed once: what becomes of each image of a mixed catalog, and how often it is worked on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf

from tests.conftest import drawn_images, literal_config, picture, read_table
from tests.support.counting_workers import WorkerLog
from tests.support.picture_server import PictureServer, served
from toiletspark.config import Config
from toiletspark.demo.odd_files import BROKEN, ODD, broken_bytes, odd_bytes
from toiletspark.demo.rooms import draw_room
from toiletspark.embedding import plan as plans
from toiletspark.embedding import tasks
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.hashing import content_digest
from toiletspark.images.decoding import decode
from toiletspark.jobs import embed_images
from toiletspark.model.backbone import Backbone
from toiletspark.model.weights import load_spec
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

STATUS_OF_BROKEN = {
    "truncated": "truncated",
    "zero_bytes": "not_an_image",
    "html_page": "not_an_image",
    "missing": "missing",
    "huge_png": "too_many_pixels",
    "one_pixel": "too_small",
    "random_bytes": "not_an_image",
    "flipped_bytes": "decode_failed",
}
SAME_COPIES, SAME_URL = 10, 4
IMAGES_PER_COMMIT, IMAGES_PER_TASK, IMAGES_PER_BATCH = 16, 4, 2


def mixed_images(folder: Path, site: PictureServer) -> pd.DataFrame:
    """18 good images, each broken and odd kind, ten copies of one content, one URL four times, a
    null, an odd id.
    """
    images = drawn_images(folder)
    rows = []
    for kind, ending in {**BROKEN, **ODD}.items():
        drawn = draw_room("bedroom", len(kind), (80, 64))
        content = broken_bytes(kind, drawn, 1) if kind in BROKEN else odd_bytes(kind, drawn)
        path = folder / f"{kind}{ending}"
        if content is not None:
            path.write_bytes(content)
        rows.append((kind, "L1", 4, str(path), "v1"))
    for number in range(SAME_COPIES):
        path = folder / f"same-{number}.jpg"
        path.write_bytes(picture("living_room", 99))
        rows.append((f"same-{number}", "L2", 5, str(path), "v1"))
    url = site.serve("shared.jpg", picture("toilet", 77))
    rows += [(f"shared-{number}", "L2", 8, url, "v1") for number in range(SAME_URL)]
    rows.append(("no url", "L3", 6, None, None))
    rows.append(("ünï / ' \" id", "L3", 7, str(folder / "same-0.jpg"), "v1"))
    return pd.concat([images, pd.DataFrame(rows, columns=images.columns)], ignore_index=True)


def good_ids(images: pd.DataFrame) -> set[str]:
    return set(images["image_id"]) - set(BROKEN) - {"no url"}


def alone(config: Config, content: bytes) -> np.ndarray:
    """The embedding of one image by the backbone itself, without Spark and without neighbours in
    its batch.
    """
    spec = load_spec(config.backbone)
    pixels = decode([content], config.decode, spec.preprocessing)[0].pixels
    assert pixels is not None
    return Backbone(spec).embed(pixels[None].copy())[0].astype("<f2")


def assert_same_embedding(stored_bytes: bytes, wanted: np.ndarray) -> None:
    """Equal up to the last bit of float16: neighbours in a batch may change the order of a sum."""
    result = np.frombuffer(stored_bytes, dtype="<f2")
    assert result.shape == (512,)
    np.testing.assert_allclose(result.astype(float), wanted.astype(float), rtol=2**-10, atol=1e-4)


class Embedded:
    """A mixed catalog that was embedded once, in small commits and tasks, so that equal contents
    meet anywhere.
    """

    def __init__(self, config: Config, images: pd.DataFrame, site: PictureServer) -> None:
        self.config, self.images, self.site = config, images, site
        self.summary: dict[str, Any] = {}
        self.arrow_rows: list[Any] = []

    @property
    def content(self) -> dict[str, bytes]:
        """The bytes of each image that has some."""
        urls = {one.image_id: one.image_url for one in self.images.itertuples() if one.image_url}
        web = {
            f"{self.site.address}{path}": content for path, content in self.site.pictures.items()
        }
        read = {
            name: web.get(url) or (Path(url).read_bytes() if Path(url).is_file() else None)
            for name, url in urls.items()
        }
        return {name: content for name, content in read.items() if content is not None}


@pytest.fixture(scope="module")
def mixed(
    spark: SparkSession, workers: WorkerLog, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("mixed")
    with served() as site:
        images = mixed_images(folder / "pictures", site)
        images.to_parquet(folder / "images.parquet")
        sets = {
            "images.path": folder / "images.parquet",
            "images.columns.image_version": "image_version",
            "output.root": folder / "output",
            "embed.images_per_commit": IMAGES_PER_COMMIT,
            "embed.images_per_task": IMAGES_PER_TASK,
            "embed.images_per_batch": IMAGES_PER_BATCH,
        }
        made = Embedded(literal_config(sets), images, site)
        before = spark.conf.get(spark_io.ARROW_ROWS)
        made.summary = embed_images.step(Workspace.open(spark, made.config))
        made.arrow_rows = [before, spark.conf.get(spark_io.ARROW_ROWS)]
        yield made


# What becomes of each


def test_every_image_has_one_ledger_row_with_the_right_status(
    spark: SparkSession, mixed: Embedded
) -> None:
    rows = read_table(spark, mixed.config, schemas.IMAGE_LEDGER)
    assert Counter(rows["image_id"]) == Counter(mixed.images["image_id"])
    status = dict(zip(rows["image_id"], rows["status"], strict=True))
    assert {image_id: status[image_id] for image_id in BROKEN} == STATUS_OF_BROKEN
    assert status["no url"] == "missing"
    assert {status[image_id] for image_id in good_ids(mixed.images)} == {"ok"}
    assert set(rows["attempts"]) == {1}
    version = dict(zip(rows["image_id"], rows["image_version"], strict=True))
    assert version["no url"] == ""
    assert version["L1-1"] == "v1"
    assert not rows["detail"].str.contains("/").any()


def test_the_ledger_tells_digest_size_and_upright_measures(
    spark: SparkSession, mixed: Embedded
) -> None:
    rows = read_table(spark, mixed.config, schemas.IMAGE_LEDGER).set_index("image_id")
    contents = mixed.content
    assert len(contents) == len(mixed.images) - 2  # but for the missing file and the null URL
    for image_id in mixed.images["image_id"]:
        row = rows.loc[image_id]
        content = contents.get(image_id)
        assert row["content_digest"] == (None if content is None else content_digest(content))
        assert pd.isna(row["bytes"]) if content is None else row["bytes"] == len(content)
    assert tuple(rows.loc["L1-1", ["width", "height"]]) == (64, 48)
    assert tuple(rows.loc["rotated", ["width", "height"]]) == (80, 64)
    assert tuple(rows.loc["one_pixel", ["width", "height"]]) == (1, 1)


def test_stored_embeddings_are_those_of_the_backbone_itself(
    spark: SparkSession, mixed: Embedded
) -> None:
    kept = read_table(spark, mixed.config, schemas.EMBEDDINGS).set_index("content_digest")[
        "embedding"
    ]
    contents = {image_id: mixed.content[image_id] for image_id in good_ids(mixed.images)}
    assert set(kept.index) == {content_digest(content) for content in contents.values()}
    for content in contents.values():
        assert_same_embedding(kept[content_digest(content)], alone(mixed.config, content))
    assert len({bytes(value) for value in kept}) == len(kept)


def test_the_catalog_tells_of_each_image_what_the_ledger_does(
    spark: SparkSession, mixed: Embedded
) -> None:
    snapshot = pd.read_parquet(mixed.summary["catalog"]).set_index("image_id").sort_index()
    rows = read_table(spark, mixed.config, schemas.IMAGE_LEDGER).set_index("image_id").sort_index()
    columns = ["status", "detail", "content_digest", "image_version"]
    pd.testing.assert_frame_equal(snapshot[columns], rows[columns])
    assert list(snapshot["image_url"]) == list(
        mixed.images.set_index("image_id")["image_url"].sort_index()
    )


# How often


def test_a_content_has_one_embedding_in_whatever_tasks_and_commits_it_occurs(
    spark: SparkSession, mixed: Embedded, workers: WorkerLog
) -> None:
    kept = read_table(spark, mixed.config, schemas.EMBEDDINGS)
    assert not kept.duplicated(["content_digest", "backbone_id"]).any()
    # ten copies and the odd id show one content, and so do the images that share a URL
    distinct = len(good_ids(mixed.images)) - SAME_COPIES - (SAME_URL - 1)
    assert len(kept) == mixed.summary["embedded"] == distinct == sum(workers.of("embed"))
    assert set(kept["backbone_id"]) == {load_spec(mixed.config.backbone).backbone_id}
    assert len(Store(mixed.config.output.root).runs(schemas.EMBEDDINGS)) > 2


def test_a_shared_url_is_fetched_once_and_is_told_of_all_its_images(
    spark: SparkSession, mixed: Embedded
) -> None:
    assert mixed.site.gets == {"/shared.jpg": 1}
    rows = read_table(spark, mixed.config, schemas.IMAGE_LEDGER)
    shared = rows[rows["image_id"].str.startswith("shared-")]
    assert set(shared["content_digest"]) == {content_digest(picture("toilet", 77))}
    assert set(shared["bytes"]) == {len(picture("toilet", 77))}


def test_the_summary_tells_what_was_saved(mixed: Embedded) -> None:
    summary = mixed.summary
    images = len(mixed.images)
    fetched = images - (SAME_URL - 1) - 1  # the odd id shares a URL too
    assert (summary["images"], summary["attempted"], summary["fetched"]) == (
        images,
        images,
        fetched,
    )
    assert summary["saved"] == {
        "unchanged": 0,
        "same_url": SAME_URL,
        "same_content": SAME_COPIES - 1,
    }


def test_a_worker_builds_the_backbone_once_and_sees_small_batches(
    mixed: Embedded, workers: WorkerLog
) -> None:
    builders = workers.processes("build")
    assert 1 <= len(builders) == len(set(builders)) <= 2  # two cores, a dozen tasks
    assert sum(workers.of("arrow")) == len(mixed.images)
    assert max(workers.of("arrow")) <= IMAGES_PER_TASK
    assert max(workers.of("embed")) == max(workers.of("decode")) == IMAGES_PER_BATCH
    assert mixed.arrow_rows[0] == mixed.arrow_rows[1]  # Spark's setting is as it was


def test_what_was_set_aside_is_gone(mixed: Embedded) -> None:
    root = Path(mixed.config.output.root)
    assert not (root / "_work").exists() or not any((root / "_work").iterdir())
    assert {path.name for path in root.iterdir()} - {"_work"} == {
        "_toiletspark.json",
        "catalog",
        "embeddings",
        "image_ledger",
    }


# The trap: Spark may run a Python function once for a filter on its outcome, and once for the
# outcome


def test_each_image_is_fetched_once_although_a_filter_on_the_outcome_follows(
    spark: SparkSession,
) -> None:
    config = literal_config()
    with served() as site:
        urls = [f"{site.address}/{number}.jpg" for number in range(100)]
        for number in range(0, 100, 5):
            site.serve(f"{number}.jpg", picture("kitchen", number, (32, 32)))
        rows = [(str(number), "v", 0, url, None, 0, url, 0) for number, url in enumerate(urls)]
        given = tasks.TaskInputs(
            spark.sparkContext.broadcast(load_spec(config.backbone)),
            config.fetch,
            config.decode,
            config.embed,
            claims="the-trap",
        )
        plan = spark.createDataFrame(rows, plans.PLAN.schema)
        outcomes = tasks.attempt_images(plan, 4, given, WorkerErrors(spark.sparkContext))
        sound = outcomes.where((F.col("status") == "ok") & (F.col("width") > 0)).select(
            "image_id", "status"
        )
        assert len(sound.collect()) == 20
        assert site.gets == {f"/{number}.jpg": 1 for number in range(100)}


def test_the_trap_is_there(spark: SparkSession, tmp_path: Path) -> None:
    """The contrast: the same work as a pandas UDF, as the tutorials have it."""
    log = str(tmp_path / "calls")

    @pandas_udf("number long, word string")
    def work(ids: pd.Series) -> pd.DataFrame:
        with open(log, "a") as file:  # noqa: PTH123 - runs on a worker
            file.write("x" * len(ids))
        return pd.DataFrame({"number": ids, "word": ids.astype(str)})

    outcome = (
        spark.range(100, numPartitions=2).withColumn("outcome", work("id")).select("outcome.*")
    )
    assert len(outcome.where("number >= 0").collect()) == 100
    assert len(Path(log).read_text()) == 200
