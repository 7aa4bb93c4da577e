"""Embed once: what becomes of each image, how often it is worked on, and what a second run finds."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf

from jobs import embed_images, score_catalog
from tests.conftest import TINY_BACKBONE, drawn_images, picture, stored, vector
from toiletspark import embedding, frames, ledger, session, tables
from toiletspark import head as heads
from toiletspark.backbone import Backbone, BackboneSpec
from toiletspark.config import Config
from toiletspark.demo.odd_files import BROKEN, ODD, broken_bytes, odd_bytes
from toiletspark.demo.rooms import draw_room
from toiletspark.digests import content_digest
from toiletspark.errors import OutputError
from toiletspark.images import decode
from toiletspark.runs import Store
from toiletspark.sources import Fetcher
from toiletspark.weights import load_spec

MakeConfig = Callable[..., Config]
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
SAME_COPIES = 10


def mixed_images(folder: Path) -> pd.DataFrame:
    """18 good images, one of each broken and odd kind, ten copies of one content, a null URL, and an odd id."""
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
    rows.append(("no url", "L3", 6, None, None))
    rows.append(("ünï / ' \" id", "L3", 7, str(folder / "same-0.jpg"), "v1"))
    return pd.concat([images, pd.DataFrame(rows, columns=images.columns)], ignore_index=True)


def table(spark: SparkSession, config: Config, wanted: tables.Table) -> pd.DataFrame:
    return frames.read_all(spark, Store(config.output.root), wanted).toPandas()


def good_ids(images: pd.DataFrame) -> set[str]:
    return set(images["image_id"]) - set(BROKEN) - {"no url"}


def alone(config: Config, content: bytes) -> np.ndarray:
    """The embedding of one image by the backbone itself, without Spark and without neighbours in its batch."""
    spec = load_spec(config.backbone)
    pixels = decode([content], config.decode, spec.preprocessing)[0].pixels
    assert pixels is not None
    return Backbone(spec).embed(pixels[None].copy())[0].astype("<f2")


def assert_same_embedding(stored_bytes: bytes, wanted: np.ndarray) -> None:
    """Equal up to the last bit of float16: neighbours in a batch may change the order of a sum."""
    found = np.frombuffer(stored_bytes, dtype="<f2")
    assert found.shape == (512,)
    np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=2**-10, atol=1e-4)


# A batch, without Spark


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(load_spec(_literal_config().backbone))


def _literal_config(**sets: Any) -> Config:
    from toiletspark import conf_files

    return conf_files.load([], [f"{key}={value}" for key, value in {**TINY_BACKBONE, **sets}.items()])


class Counting(Backbone):
    """Counts the images that it embeds."""

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__(spec)
        self.batches: list[int] = []

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        return super().embed(pixels)


@pytest.fixture
def counting(backbone: Backbone) -> Counting:
    return Counting(backbone.spec)


def attempted(contents: list[bytes | None], urls: list[str | None], by: Backbone, seen: dict[str, Any]) -> pd.DataFrame:
    config = _literal_config()
    return embedding.attempt_batch(urls, contents, by, Fetcher(config.fetch), config.decode, seen)


def test_a_batch_gives_a_row_per_image_in_order(counting: Counting, tmp_path: Path) -> None:
    (tmp_path / "on disk.jpg").write_bytes(picture("toilet", 5))
    contents = [picture("kitchen", 1), b"no image", None, None, picture("kitchen", 2)]
    urls = ["ignored", "ignored", str(tmp_path / "on disk.jpg"), None, "ignored"]
    rows = attempted(contents, urls, counting, {})
    assert list(rows["status"]) == ["ok", "not_an_image", "ok", "missing", "ok"]
    assert list(rows["detail"]) == ["", "not one of decode.formats", "", "no image_url", ""]
    whole = [contents[0], contents[1], picture("toilet", 5), None, contents[4]]
    assert list(rows["content_digest"]) == [content and content_digest(content) for content in whole]
    assert [None if pd.isna(size) else size for size in rows["bytes"]] == [
        content and len(content) for content in whole
    ]
    assert list(zip(rows["width"], rows["height"], strict=True)) == [(64, 48), (0, 0), (64, 48), (0, 0), (64, 48)]
    assert [value is None for value in rows["embedding"]] == [False, True, False, True, False]
    for row, content in zip(rows.itertuples(), whole, strict=True):
        if row.status == "ok":
            assert_same_embedding(row.embedding, alone(_literal_config(), content))


def test_equal_contents_of_a_task_are_embedded_once(counting: Counting) -> None:
    same, other, seen = picture("kitchen", 1), picture("kitchen", 2), {}
    first = attempted([same, other, same, b"junk", b"junk"], [None] * 5, counting, seen)
    second = attempted([same, other, b"junk"], [None] * 3, counting, seen)
    assert counting.batches == [2]
    assert list(first["status"]) == ["ok", "ok", "ok", "not_an_image", "not_an_image"]
    assert [value is None for value in first["embedding"]] == [False, False, True, True, True]
    assert list(second["status"]) == ["ok", "ok", "not_an_image"]
    assert list(second["width"]) == [64, 64, 0]
    assert second["embedding"].isna().all()


def test_a_batch_in_which_all_are_bad_embeds_nothing(counting: Counting) -> None:
    rows = attempted([b"", b"junk", None], [None, None, "/no/such/file.jpg"], counting, {})
    assert list(rows["status"]) == ["not_an_image", "not_an_image", "missing"]
    assert counting.batches == []


# Through Spark: one mixed catalog


class Embedded:
    """A mixed catalog that was embedded once, in small tasks, so that equal contents meet in different ones."""

    def __init__(self, config: Config, images: pd.DataFrame, summary: dict[str, Any]) -> None:
        self.config, self.images, self.summary = config, images, summary


@pytest.fixture(scope="module")
def mixed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    folder = tmp_path_factory.mktemp("mixed")
    images = mixed_images(folder / "pictures")
    images.to_parquet(folder / "images.parquet")
    sets = {
        "images.path": folder / "images.parquet",
        "images.columns.image_version": "image_version",
        "output.root": folder / "output",
        "embed.images_per_task": 8,
        "embed.retry": "transient",
    }
    config = _literal_config(**sets)
    return Embedded(config, images, embed_images.step(spark, config))


def test_every_image_has_one_ledger_row_with_the_right_status(spark: SparkSession, mixed: Embedded) -> None:
    rows = table(spark, mixed.config, tables.IMAGE_LEDGER)
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


def test_the_ledger_tells_digest_size_and_upright_measures(spark: SparkSession, mixed: Embedded) -> None:
    rows = table(spark, mixed.config, tables.IMAGE_LEDGER).set_index("image_id")
    for image in mixed.images.itertuples():
        path = Path(image.image_url or "/none")
        row = rows.loc[image.image_id]
        if not path.is_file():
            assert row["content_digest"] is None
            assert pd.isna(row["bytes"])
            continue
        content = path.read_bytes()
        assert row["content_digest"] == content_digest(content)
        assert row["bytes"] == len(content)
    assert tuple(rows.loc["L1-1", ["width", "height"]]) == (64, 48)
    assert tuple(rows.loc["rotated", ["width", "height"]]) == (80, 64)
    assert tuple(rows.loc["one_pixel", ["width", "height"]]) == (1, 1)


def test_stored_embeddings_are_those_of_the_backbone_itself(spark: SparkSession, mixed: Embedded) -> None:
    kept = table(spark, mixed.config, tables.EMBEDDINGS).set_index("content_digest")["embedding"]
    urls = mixed.images.set_index("image_id")["image_url"]
    contents = {image_id: Path(urls[image_id]).read_bytes() for image_id in good_ids(mixed.images)}
    assert set(kept.index) == {content_digest(content) for content in contents.values()}
    for content in contents.values():
        assert_same_embedding(kept[content_digest(content)], alone(mixed.config, content))
    assert len({bytes(value) for value in kept}) == len(kept)


def test_a_content_has_one_embedding_however_often_it_occurs(spark: SparkSession, mixed: Embedded) -> None:
    kept = table(spark, mixed.config, tables.EMBEDDINGS)
    assert not kept.duplicated(["content_digest", "backbone_id"]).any()
    distinct = len(good_ids(mixed.images)) - SAME_COPIES  # ten copies and the odd id show one content
    assert len(kept) == mixed.summary["embedded"] == distinct
    assert mixed.summary["attempted"] == mixed.summary["images"] == len(mixed.images)
    assert set(kept["backbone_id"]) == {load_spec(mixed.config.backbone).backbone_id}


def test_the_staging_folder_leaves_nothing(mixed: Embedded) -> None:
    staging = Path(mixed.config.output.root) / embedding.ATTEMPTS.name
    assert not staging.exists() or not any(staging.iterdir())


# A second run


def test_a_second_run_reads_only_what_was_missing_and_all_are_scored(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    pictures = [Path(url) for url in images["image_url"]]
    late = pictures.pop(2)
    content = late.read_bytes()
    late.unlink()
    config = make_config(images=images)
    first = embed_images.step(spark, config)
    late.write_bytes(content)
    for path in pictures[::2]:
        path.write_bytes(b"garbage")
    for path in pictures[1::2]:
        path.unlink()
    second = embed_images.step(spark, config)
    assert (first["attempted"], first["embedded"]) == (18, 17)
    assert (second["attempted"], second["embedded"]) == (1, 1)
    rows = table(spark, config, tables.IMAGE_LEDGER)
    tries = rows[rows["image_id"] == late.stem].sort_values("attempted_at")
    assert list(zip(tries["status"], tries["attempts"], strict=True)) == [("missing", 1), ("ok", 2)]
    assert len(rows) == 19
    assert score_catalog.step(spark, with_head(config, first["backbone_id"]))["scored"] == 18


def with_head(config: Config, backbone_id: str) -> Config:
    """The configuration with a head that nobody trained."""
    folder = f"{config.output.root}/head of chance"
    weight = np.random.default_rng(1).normal(size=(2, 512)).astype(np.float32)
    heads.Head(("toilet", "other"), ("toilet",), backbone_id, weight, np.zeros(2, np.float32)).save(folder)
    return config.model_copy(update={"score": config.score.model_copy(update={"head": folder})})


def test_a_new_version_is_fetched_again_and_the_old_outcome_kept(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config()
    embed_images.step(spark, config)
    images = pd.read_parquet(config.images.path)
    changed = images["image_id"].isin(["L1-1", "L2-3"])
    for url in images[changed]["image_url"]:
        Path(url).write_bytes(picture("bedroom", len(url)))
    Path(images.loc[4, "image_url"]).write_bytes(b"changed, but nobody says so")
    images.loc[changed, "image_version"] = "v2"
    images.to_parquet(config.images.path)
    again = embed_images.step(spark, config)
    rows = table(spark, config, tables.IMAGE_LEDGER)
    assert (again["attempted"], again["embedded"]) == (2, 1)  # both now show the same bedroom
    versions = rows.groupby("image_id")["image_version"].apply(sorted).to_dict()
    assert versions["L1-1"] == versions["L2-3"] == ["v1", "v2"]
    assert all(found == ["v1"] for image_id, found in versions.items() if image_id not in ("L1-1", "L2-3"))
    store = Store(config.output.root)
    now = ledger.of_catalog(
        frames.read_run(spark, store.newest(tables.CATALOG)), frames.read_all(spark, store, tables.IMAGE_LEDGER)
    )
    digests = {row["image_id"]: row["content_digest"] for row in now.collect()}
    assert digests["L1-1"] == content_digest(Path(images.loc[0, "image_url"]).read_bytes())


def test_another_backbone_embeds_anew_and_keeps_the_old(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures").head(5)
    config = make_config(images=images)
    first = embed_images.step(spark, config)
    other = embed_images.step(spark, make_config({"backbone.crop_px": 36}, images=images))
    back = embed_images.step(spark, config)
    kept = table(spark, config, tables.EMBEDDINGS)
    assert first["backbone_id"] != other["backbone_id"]
    assert [run["embedded"] for run in (first, other, back)] == [5, 5, 0]
    assert dict(kept["backbone_id"].value_counts()) == {first["backbone_id"]: 5, other["backbone_id"]: 5}
    assert not kept.duplicated(["content_digest", "backbone_id"]).any()


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        ("none", {"never", "new version", "lost"}),
        ("transient", {"never", "new version", "lost", "missing", "denied", "timeout"}),
        ("failed", {"never", "new version", "lost"} | set(tables.STATUSES) - {"ok"}),
    ],
)
def test_what_is_tried_again(spark: SparkSession, tmp_path: Path, retry: Any, again: set[str]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    names = [*tables.STATUSES, "never", "new version", "lost", "ok at last"]
    store = Store.open(str(tmp_path / "output"))
    seen = stored(store, tables.CATALOG, [{"image_id": name, "image_version": "2"} for name in names])
    tried = [
        {"image_id": name, "image_version": "2", "status": name, "content_digest": name, "attempts": 2}
        for name in tables.STATUSES
    ]
    tried += [
        {"image_id": "new version", "image_version": "1", "status": "ok", "content_digest": "ok", "attempts": 1},
        {"image_id": "lost", "image_version": "2", "status": "ok", "content_digest": "lost", "attempts": 1},
        {"image_id": "ok at last", "image_version": "2", "status": "timeout", "attempts": 1},
    ]
    stored(store, tables.IMAGE_LEDGER, [{**row, "attempted_at": now} for row in tried])
    later = {"image_id": "ok at last", "image_version": "2", "status": "ok", "content_digest": "ok", "attempts": 2}
    stored(store, tables.IMAGE_LEDGER, [{**later, "attempted_at": now + timedelta(hours=1)}])
    ours = {"content_digest": "ok", "backbone_id": "ours", "embedding": vector(1)}
    stored(store, tables.EMBEDDINGS, [ours, {**ours, "content_digest": "lost", "backbone_id": "another"}])
    waiting = ledger.to_embed(
        frames.read_run(spark, seen),
        frames.read_all(spark, store, tables.IMAGE_LEDGER),
        frames.read_all(spark, store, tables.EMBEDDINGS),
        "ours",
        retry,
    ).collect()
    attempts = {row["image_id"]: row["attempts"] for row in waiting}
    assert len(waiting) == len(attempts)
    assert set(attempts) == again
    assert {attempts["never"], attempts["new version"]} == {0}
    assert all(attempts[name] == 2 for name in again & set(tables.STATUSES))


def test_inline_content_instead_of_urls(spark: SparkSession, make_config: MakeConfig) -> None:
    contents = [picture("kitchen", 1), picture("toilet", 2), b"junk", None]
    images = pd.DataFrame({"image_id": list("abcd"), "listing_id": list("1122"), "bytes": contents})
    config = make_config({"images.columns.image_url": "", "images.columns.content": "bytes"}, images=images)
    first = embed_images.step(spark, config)
    rows = table(spark, config, tables.IMAGE_LEDGER).set_index("image_id")
    assert dict(rows["status"]) == {"a": "ok", "b": "ok", "c": "not_an_image", "d": "missing"}
    assert rows.loc["b", "content_digest"] == content_digest(contents[1])
    assert rows.loc["b", "image_version"] == content_digest(contents[1])[:16]
    images.loc[0, "bytes"] = picture("kitchen", 3)
    images.to_parquet(config.images.path)
    second = embed_images.step(spark, config)
    assert (first["embedded"], second["attempted"], second["embedded"]) == (2, 2, 1)  # changed, and null again


# A run that breaks


def test_a_run_that_ends_between_embeddings_and_ledger_is_made_good_by_the_next(
    spark: SparkSession, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    write_run = frames.write_run

    def breaking(frame: DataFrame, store: Store, wanted: tables.Table, *args: Any, **facts: Any) -> Any:
        if wanted is tables.IMAGE_LEDGER:
            raise RuntimeError("power cut")
        return write_run(frame, store, wanted, *args, **facts)

    monkeypatch.setattr(frames, "write_run", breaking)
    with pytest.raises(RuntimeError, match="power cut"):
        embed_images.step(spark, config)
    monkeypatch.undo()
    store = Store(config.output.root)
    assert store.newest(tables.EMBEDDINGS).rows == 18
    assert store.newest(tables.IMAGE_LEDGER) is None
    scoring = with_head(config, load_spec(config.backbone).backbone_id)
    with pytest.raises(OutputError, match="18 images without; the embedding of run"):
        score_catalog.step(spark, scoring)

    again = embed_images.step(spark, config)
    assert (again["attempted"], again["embedded"]) == (18, 0)
    assert not table(spark, config, tables.EMBEDDINGS).duplicated(["content_digest", "backbone_id"]).any()
    assert set(table(spark, config, tables.IMAGE_LEDGER)["status"]) == {"ok"}
    assert score_catalog.step(spark, scoring)["scored"] == 18


# How often things happen


@pytest.fixture
def counted_gets() -> Iterator[tuple[str, Counter[str]]]:
    """A web server on this machine that serves pictures and counts who asked for what."""
    gets: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gets[self.path] += 1
            number = int(Path(self.path).stem)
            content = b"junk" if number % 10 == 0 else picture("kitchen", number % 7, (32, 32))
            self.send_response(404 if number % 10 == 1 else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", gets
    server.shutdown()
    server.server_close()


def test_each_image_is_fetched_once_although_a_filter_on_the_outcome_follows(
    spark: SparkSession, counted_gets: tuple[str, Counter[str]]
) -> None:
    address, gets = counted_gets
    config = _literal_config()
    rows = [(str(number), "v", f"{address}/{number}.jpg", 0) for number in range(100)]
    images = spark.createDataFrame(rows, "image_id string, image_version string, image_url string, attempts int")
    images = images.withColumn("content", F.lit(None).cast("binary"))
    spec = spark.sparkContext.broadcast(load_spec(config.backbone))
    outcomes = embedding.attempt_images(images, 4, spec, config.fetch, config.decode)
    kept = outcomes.where((F.col("status") == "ok") & (F.col("width") > 0)).select("image_id", "status").collect()
    assert len(kept) == 80
    assert len(gets) == 100
    assert sum(gets.values()) == 100


@pytest.mark.parametrize(("nondeterministic", "calls"), [(True, 100), (False, 200)])
def test_why_the_udf_is_called_nondeterministic(
    spark: SparkSession, tmp_path: Path, nondeterministic: bool, calls: int
) -> None:
    """The contrast: Spark runs a deterministic UDF once for the filter and once for the result."""
    log = str(tmp_path / "calls")

    @pandas_udf("number long, word string")
    def work(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for ids in batches:
            with open(log, "a") as file:  # noqa: PTH123 - runs on a worker
                file.write("x" * len(ids))
            yield pd.DataFrame({"number": ids, "word": ids.astype(str)})

    worker = work.asNondeterministic() if nondeterministic else work
    outcome = spark.range(100, numPartitions=2).withColumn("outcome", worker("id")).select("outcome.*")
    assert len(outcome.where("number >= 0").collect()) == 100
    assert len(Path(log).read_text()) == calls


COUNTING_WORKER = """
import os
import toiletspark.embedding as embedding

LOG = {log!r}

def note(what):
    with open(LOG, "a") as file:
        file.write(f"{{what}} {{os.getpid()}}\\n")

class Backbone(embedding.Backbone):
    def __init__(self, *args):
        note("build")
        super().__init__(*args)

attempt_batch = embedding.attempt_batch

def counted(urls, *args):
    note(f"batch-of-{{len(urls)}}")
    return attempt_batch(urls, *args)

embedding.Backbone, embedding.attempt_batch = Backbone, counted
"""


def test_a_worker_builds_the_backbone_once_and_sees_small_batches(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Python workers that count for themselves: for another PYTHONPATH Spark starts new ones, with a sitecustomize."""
    log = tmp_path / "log"
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(COUNTING_WORKER.format(log=str(log)))
    config = make_config({"embed.images_per_batch": 2, "embed.images_per_task": 3})
    before = spark.conf.get(session.ARROW_ROWS)
    spark.sparkContext.environment["PYTHONPATH"] = str(tmp_path / "python")
    try:
        embed_images.step(spark, config)
    finally:
        del spark.sparkContext.environment["PYTHONPATH"]
    lines = [line.split() for line in log.read_text().splitlines()]
    builders = [worker for what, worker in lines if what == "build"]
    batches = [int(what.removeprefix("batch-of-")) for what, _ in lines if what != "build"]
    assert sum(batches) == 18
    assert max(batches) == 2
    assert len(batches) >= 9
    assert 1 <= len(builders) == len(set(builders)) <= 3  # two cores, six tasks
    assert spark.conf.get(session.ARROW_ROWS) == before
