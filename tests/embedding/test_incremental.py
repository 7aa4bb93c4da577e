"""The cost follows the change: what a second run fetches, decodes and embeds, as a server and the
workers count it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import head_of_chance, literal_config, picture, read_table
from tests.support.counting_workers import WorkerLog
from tests.support.picture_server import PictureServer, served
from toiletspark.config import Config
from toiletspark.errors import AuditError, OutputError
from toiletspark.hashing import content_digest
from toiletspark.jobs import embed_images, score_catalog
from toiletspark.tables import schemas
from toiletspark.tables.manifest import TableInput
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

SOUND = [f"i{number}" for number in range(8)]
BAD = ["gone", "junk"]


class Catalog:
    """A small catalog behind a web server, and what a first run has made of it."""

    jobs = 0  # of Spark, in the first run

    def __init__(self, folder: Path, site: PictureServer, images: pd.DataFrame) -> None:
        self.folder, self.site, self.images = folder, site, images

    def config(self, **sets: Any) -> Config:
        """The configuration, with the images table as it is now; nothing is retried unless a test
        says so.
        """
        self.images.to_parquet(self.folder / "images.parquet")
        named = {key.replace("__", "."): value for key, value in sets.items()}
        return literal_config(
            {
                "images.path": self.folder / "images.parquet",
                "images.columns.image_version": "image_version",
                "output.root": self.folder / "output",
                "embed.retry": "none",
                **named,
            }
        )


@pytest.fixture(scope="module")
def once(
    spark: SparkSession, workers: WorkerLog, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Catalog]:
    """Embedded once; tests work on copies of its output."""
    with served() as site:
        urls = {
            name: site.serve(f"{name}.jpg", picture("kitchen", number))
            for number, name in enumerate(SOUND)
        }
        urls["junk"] = site.serve("junk.jpg", b"junk")
        urls["gone"] = f"{site.address}/gone.jpg"
        images = pd.DataFrame(
            {"image_id": list(urls), "listing_id": "L1", "image_url": list(urls.values())}
        )
        made = Catalog(tmp_path_factory.mktemp("once"), site, images.assign(image_version="v1"))
        scheduler = spark._jsc.sc().dagScheduler()
        jobs_before = scheduler.numTotalJobs()
        summary = embed_images.step(Workspace.open(spark, made.config()))
        made.jobs = scheduler.numTotalJobs() - jobs_before
        assert (
            summary["images"],
            summary["attempted"],
            summary["fetched"],
            summary["embedded"],
        ) == (10, 10, 10, 8)
        assert summary["statuses"] == {"ok": 8, "missing": 1, "not_an_image": 1}
        yield made


@pytest.fixture
def catalog(once: Catalog, workers: WorkerLog, tmp_path: Path) -> Iterator[Catalog]:
    shutil.copytree(once.folder, tmp_path, dirs_exist_ok=True)
    served_before = dict(once.site.pictures)
    once.site.gets.clear()
    workers.clear()
    yield Catalog(tmp_path, once.site, once.images.copy())
    once.site.pictures = served_before


def score(spark: SparkSession, config: Config, backbone_id: str) -> pd.DataFrame:
    summary = score_catalog.step(Workspace.open(spark, head_of_chance(config, backbone_id)))
    return pd.read_parquet(summary["scores"]).set_index("image_id")


def test_a_catalog_of_refused_images_ends_with_its_statuses_and_is_kept(
    spark: SparkSession, catalog: Catalog
) -> None:
    config = catalog.config(output__root=catalog.folder / "refused", fetch__allow='["s3://x/"]')
    with pytest.raises(AuditError, match=r"10 refused\n.*look at fetch\.allow"):
        embed_images.step(Workspace.open(spark, config))
    kept = Store(config.output.root).newest(schemas.CATALOG)
    assert kept is not None
    assert kept.counts == {"sound": 0, "statuses": {"refused": 10}}


def test_where_nothing_changed_no_image_is_read(
    spark: SparkSession, catalog: Catalog, workers: WorkerLog
) -> None:
    catalog.site.pictures.clear()  # nobody would find anything now
    config = catalog.config()
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["images"], summary["attempted"], summary["fetched"], summary["embedded"]) == (
        10,
        0,
        0,
        0,
    )
    assert summary["saved"] == {"unchanged": 10, "same_url": 0, "same_content": 0}
    assert catalog.site.gets == {}
    assert sum(workers.of("decode")) == sum(workers.of("embed")) == 0
    assert sorted(score(spark, config, summary["backbone_id"]).index) == SOUND
    assert len(read_table(spark, config, schemas.IMAGE_LEDGER)) == 10


def test_a_first_run_takes_few_jobs_of_spark(once: Catalog) -> None:
    assert once.jobs <= 15


def test_what_was_missing_is_read_again_and_nothing_else(
    spark: SparkSession, catalog: Catalog, workers: WorkerLog
) -> None:
    catalog.site.pictures = dict.fromkeys(catalog.site.pictures, b"garbage")
    catalog.site.serve("gone.jpg", picture("toilet", 50))
    config = catalog.config(embed__retry="transient")
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["attempted"], summary["embedded"]) == (1, 1)
    assert catalog.site.gets == {"/gone.jpg": 1}
    rows = read_table(spark, config, schemas.IMAGE_LEDGER)
    tries = rows[rows["image_id"] == "gone"].sort_values("attempted_at")
    assert list(zip(tries["status"], tries["attempts"], strict=True)) == [("missing", 1), ("ok", 2)]
    assert sorted(score(spark, config, summary["backbone_id"]).index) == sorted([*SOUND, "gone"])


def test_a_new_version_is_fetched_but_decoded_only_where_its_content_is_new(
    spark: SparkSession, catalog: Catalog, workers: WorkerLog
) -> None:
    changed = ["i0", "i1", "i2", "i3"]
    catalog.images.loc[catalog.images["image_id"].isin(changed), "image_version"] = "v2"
    catalog.site.serve("i0.jpg", picture("bedroom", 60))
    catalog.site.serve("i1.jpg", picture("bedroom", 60))  # both show the same bedroom now
    catalog.site.serve("i2.jpg", picture("kitchen", 5))  # which i5 shows too
    catalog.site.serve("i4.jpg", b"changed, but nobody says so")
    config = catalog.config()
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["attempted"], summary["fetched"], summary["embedded"]) == (4, 4, 1)
    assert summary["saved"] == {"unchanged": 6, "same_url": 0, "same_content": 3}
    assert catalog.site.gets == {f"/{name}.jpg": 1 for name in changed}
    # i2 and i3 are known by their bytes
    assert sum(workers.of("decode")) == sum(workers.of("embed")) == 1
    rows = read_table(spark, config, schemas.IMAGE_LEDGER)
    assert rows.groupby("image_id")["image_version"].apply(sorted).to_dict() == {
        name: ["v1", "v2"] if name in changed else ["v1"] for name in [*SOUND, *BAD]
    }
    known = rows[(rows["image_id"] == "i2") & (rows["image_version"] == "v2")].iloc[0]
    assert (known["status"], known["width"], known["height"]) == ("ok", 64, 48)
    snapshot = pd.read_parquet(summary["catalog"]).set_index("image_id")
    shown = {
        "i0": ("bedroom", 60),
        "i1": ("bedroom", 60),
        "i2": ("kitchen", 5),
        "i3": ("kitchen", 3),
    }
    for name, (room, seed) in {**shown, "i4": ("kitchen", 4)}.items():
        assert snapshot.loc[name, "content_digest"] == content_digest(picture(room, seed))


def test_what_was_fetched_long_ago_is_fetched_again_and_known_by_its_bytes(
    spark: SparkSession, catalog: Catalog, workers: WorkerLog
) -> None:
    config = catalog.config(embed__refetch_after_days=1e-9)
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["attempted"], summary["fetched"], summary["embedded"]) == (10, 10, 0)
    assert summary["saved"]["same_content"] == 8
    assert sum(catalog.site.gets.values()) == len(catalog.site.gets) == 10
    assert sum(workers.of("decode")) == 1  # the junk, which has no embedding to be known by
    assert workers.of("embed") == []
    assert (
        embed_images.step(Workspace.open(spark, catalog.config(embed__refetch_after_days=1.0)))[
            "attempted"
        ]
        == 0
    )


def test_only_failures_are_tried_and_no_new_image_comes_in(
    spark: SparkSession, catalog: Catalog, workers: WorkerLog
) -> None:
    new = {"image_id": "new", "listing_id": "L2", "image_version": "v1"}
    new["image_url"] = catalog.site.serve("new.jpg", picture("toilet", 70))
    catalog.images = pd.concat([catalog.images, pd.DataFrame([new])], ignore_index=True)
    catalog.images.loc[0, "image_version"] = "v2"
    catalog.site.serve("gone.jpg", picture("toilet", 50))
    config = catalog.config(embed__only_retry="transient")
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["images"], summary["attempted"], summary["embedded"]) == (10, 1, 1)
    assert catalog.site.gets == {"/gone.jpg": 1}
    assert sorted(score(spark, config, summary["backbone_id"]).index) == sorted([*SOUND, "gone"])
    later = catalog.config(embed__only_retry="failed", images__where="image_id > ''")
    again = embed_images.step(Workspace.open(spark, later))
    assert (again["images"], again["attempted"], again["embedded"]) == (10, 1, 0)
    assert catalog.site.gets == {"/gone.jpg": 1, "/junk.jpg": 1}
    # the images are those that the first run read, so its table stands there
    runs = Store(config.output.root).runs(schemas.CATALOG)
    assert [run.inputs for run in runs] == [runs[0].inputs] * 3
    assert runs[0].inputs.images not in (None, TableInput.of(config.images))


def test_trying_failures_again_needs_a_first_run(
    spark: SparkSession, catalog: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(OutputError) as stopped:
        embed_images.step(
            Workspace.open(
                spark, catalog.config(embed__only_retry="failed", output__root=tmp_path / "new")
            )
        )
    assert stopped.value.doing == "trying failed images again"
    assert stopped.value.todo == "run `toiletspark embed` with the same configuration first"


def test_another_backbone_embeds_anew_and_keeps_the_old(
    spark: SparkSession, catalog: Catalog
) -> None:
    other = embed_images.step(Workspace.open(spark, catalog.config(backbone__crop_px=36)))
    # what is junk needs no second look
    assert (other["attempted"], other["fetched"], other["embedded"]) == (8, 8, 8)
    back = embed_images.step(Workspace.open(spark, catalog.config()))
    assert (back["attempted"], back["embedded"]) == (0, 0)
    kept = read_table(spark, catalog.config(), schemas.EMBEDDINGS)
    assert dict(kept["backbone_id"].value_counts()) == {
        back["backbone_id"]: 8,
        other["backbone_id"]: 8,
    }
    assert not kept.duplicated(["content_digest", "backbone_id"]).any()


# Inline bytes


@pytest.fixture
def inline(spark: SparkSession, tmp_path: Path) -> Callable[[dict[str, bytes | None]], Config]:
    """An images table with inline bytes: at most 2,000 an image, and 4,000 a batch."""

    def make(contents: dict[str, bytes | None], **sets: Any) -> Config:
        frame = pd.DataFrame(
            {"image_id": list(contents), "listing_id": "L", "bytes": list(contents.values())}
        )
        frame.to_parquet(tmp_path / "images.parquet")
        columns = {"images.columns.image_url": "", "images.columns.content": "bytes"}
        bounds = {
            "fetch.max_image_bytes": 2_000,
            "embed.bytes_per_batch": 4_000,
            "embed.retry": "none",
        }
        paths = {"images.path": tmp_path / "images.parquet", "output.root": tmp_path / "output"}
        named = {key.replace("__", "."): value for key, value in sets.items()}
        return literal_config({**columns, **bounds, **paths, **named})

    return make


def test_inline_bytes_instead_of_urls(spark: SparkSession, workers: WorkerLog, inline: Any) -> None:
    contents = {name: picture("kitchen", number) for number, name in enumerate("abcdef")}
    contents |= {
        "same": contents["a"],
        "junk": b"junk",
        "none": None,
        "empty": b"",
        "large": bytes(2_001),
    }
    assert max(len(contents[name]) for name in "abcdef") <= 2_000
    workers.clear()
    config = inline(contents)
    first = embed_images.step(Workspace.open(spark, config))
    rows = read_table(spark, config, schemas.IMAGE_LEDGER).set_index("image_id")
    wrong = {
        "junk": "not_an_image",
        "none": "missing",
        "empty": "not_an_image",
        "large": "too_large",
    }
    assert dict(rows["status"]) == {**dict.fromkeys([*"abcdef", "same"], "ok"), **wrong}
    assert rows.loc["b", "content_digest"] == content_digest(contents["b"])
    assert rows.loc["b", "image_version"] == content_digest(contents["b"])[:16]
    assert rows.loc["large", "detail"] == "over 2000 bytes"
    assert (first["attempted"], first["embedded"]) == (11, 6)
    assert max(workers.of("arrow")) <= 2  # as many as may be as large as may be

    config = inline({**contents, "a": picture("kitchen", 9), "junk": picture("kitchen", 1)})
    second = embed_images.step(Workspace.open(spark, config))
    assert (second["attempted"], second["embedded"]) == (2, 1)  # b shows what was junk
    assert sorted(score(spark, config, second["backbone_id"]).index) == sorted(
        [*"abcdef", "same", "junk"]
    )


def test_failures_among_inline_bytes_are_tried_again_alone(
    spark: SparkSession, inline: Any
) -> None:
    contents = {"a": picture("kitchen", 1), "junk": b"junk", "none": None}
    embed_images.step(Workspace.open(spark, inline(contents)))
    config = inline(
        {**contents, "none": picture("kitchen", 2), "new": picture("kitchen", 3)},
        embed__only_retry="failed",
    )
    summary = embed_images.step(Workspace.open(spark, config))
    assert (summary["images"], summary["attempted"], summary["embedded"]) == (3, 2, 1)
    snapshot = pd.read_parquet(summary["catalog"]).set_index("image_id")
    assert dict(snapshot["status"]) == {"a": "ok", "junk": "not_an_image", "none": "ok"}
