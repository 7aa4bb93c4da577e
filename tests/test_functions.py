"""The public pandas UDFs: docs/functions.md as it is printed, equal to a catalog's scores, and how
often Spark runs them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession

from tests.conftest import NEARBY, REPOSITORY, TINY_BACKBONE, picture, stored, vector
from tests.support.picture_server import PictureServer, served
from toiletspark import functions
from toiletspark.config import Config, loading
from toiletspark.embedding import int8
from toiletspark.errors import HeadError, OutputError
from toiletspark.hashing import content_digest
from toiletspark.images.decoding import decode
from toiletspark.model import bundle, registry
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head
from toiletspark.publishing.versions import log
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.training import photo_folder

COUNT = 20
BLOCK = re.compile(r"```(python|sql)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Portal:
    """Photos on a web server, a configuration, and a head with a version that it decided."""

    site: PictureServer
    config: Config
    config_file: Path
    head: Head
    threshold: float
    photos: DataFrame

    @property
    def root(self) -> str:
        return self.config.output.root

    def scores(self, contents: list[bytes]) -> np.ndarray:
        """Exclusion scores without Spark, image by image."""
        spec = int8.load(Store(self.root), self.config.backbone)
        images = decode(contents, self.config.decode, spec.preprocessing)
        backbone = Backbone(spec)
        vectors = [backbone.embed(image.pixels[None])[0] for image in images]  # type: ignore[index]
        halves = np.stack(vectors).astype(np.float16).astype(np.float32)
        return self.head.exclusion_scores(self.head.probabilities(halves))


def content(number: int) -> bytes:
    return picture("kitchen", number)


@pytest.fixture(scope="module")
def portal(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("functions")
    root = f"{folder}/output"
    settings = {**TINY_BACKBONE, **NEARBY, "output.root": root, "images.path": "none"}
    file = folder / "mytables.toml"
    texts = {
        key: value if str(value).startswith("[") else json.dumps(value)
        for key, value in settings.items()
    }
    file.write_text("\n".join(f"{key} = {text}" for key, text in texts.items()))
    config = loading.load([file], [])
    store = Store.open(root)
    spec = int8.load(store, config.backbone)
    weight = np.random.default_rng(3).normal(size=(2, 512)).astype(np.float32)
    names = ("toilet", "other")
    head = Head(names, ("toilet",), spec.backbone_id, weight, np.zeros(2, np.float32))
    with served() as site:
        rows = [
            (f"i{n:02}", f"L{n // 5}", site.serve(f"{n}.jpg", content(n))) for n in range(COUNT)
        ]
        photos = spark.createDataFrame(rows, "image_id string, listing_id string, image_url string")
        portal = Portal(site, config, file, head, 0.5, photos.coalesce(2))
        scores = np.sort(portal.scores([content(n) for n in range(COUNT)]))
        threshold = float(scores[7] + scores[8]) / 2  # 12 of 20 are excluded
        portal = Portal(site, config, file, head, threshold, photos.coalesce(2))
        bundle.write(f"{root}/head", Head(*_parts(head), facts={"operating_threshold": threshold}))
        publish(store, portal)
        yield portal


def _parts(head: Head) -> tuple[Any, ...]:
    return head.classes, head.exclude_classes, head.backbone_id, head.weight, head.bias


def publish(store: Store, portal: Portal) -> None:
    """A version whose head lies in the folder that score.head named."""
    facts = {"head_id": portal.head.head_id, "operating_threshold": portal.threshold}
    run = stored(store, schemas.EXCLUSION_LIST, [], inputs=facts)
    config = {"score": {"head": f"{store.root}/head"}}
    run = store.commit(schemas.EXCLUSION_LIST, run.run_id, config=config, inputs=run.inputs)
    log.publish(store, run)


@pytest.fixture(autouse=True)
def fresh(portal: Portal) -> None:
    portal.site.gets.clear()


def test_the_documented_forms_run_as_they_are_printed(
    spark: SparkSession, portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(portal.config_file.parent)
    portal.photos.write.parquet(f"{tmp_path}/incoming")
    portal.photos.createOrReplaceTempView("photos")
    uploads = [(f"i{n:02}", bytearray(content(n))) for n in range(COUNT)]
    names: dict[str, Any] = {
        "spark": spark,
        "root": portal.root,
        "photos": portal.photos,
        "uploads": spark.createDataFrame(uploads, "image_id string, content binary"),
        "incoming": f"{tmp_path}/incoming",
        "outgoing": f"{tmp_path}/outgoing",
        "checkpoint": f"{tmp_path}/checkpoint",
    }
    results = []
    for language, code in BLOCK.findall((REPOSITORY / "docs" / "functions.md").read_text()):
        if language == "sql":
            results.append(spark.sql(code).toPandas())
            continue
        *lines, last = code.rstrip().splitlines()
        exec("\n".join(lines), names)
        results.append(eval(last, names) if "=" not in last.partition("(")[0] else None)
    of_listing, of_bytes, _, of_sql, _ = results
    scores = portal.scores([content(n) for n in range(COUNT)])
    first = of_listing.select("image_id", "toilet.*").toPandas()
    assert (
        list(first["image_id"]) == list(of_sql["image_id"]) == ["i05", "i06", "i07", "i08", "i09"]
    )
    np.testing.assert_allclose(first["exclusion_score"], scores[5:10], atol=1e-3)
    np.testing.assert_allclose(of_sql["exclusion_score"], scores[5:10], atol=1e-3)
    for frame in (of_bytes, spark.read.parquet(f"{tmp_path}/outgoing")):
        rows = frame.select("image_id", "toilet.*").toPandas().sort_values("image_id")
        np.testing.assert_allclose(rows["exclusion_score"], scores, atol=1e-3)
        assert list(rows["excluded"]) == list(rows["exclusion_score"] >= portal.threshold)
        assert rows["excluded"].sum() == 12


FORMS = {
    "filter first": ("SELECT toilet(image_url) t FROM photos WHERE listing_id = 'L1'", 5),
    "filter after": (
        "SELECT t FROM (SELECT listing_id, toilet(image_url) t FROM photos) "
        "WHERE listing_id = 'L1'",
        5,
    ),
    "two fields": (
        "SELECT toilet(image_url).status, toilet(image_url).exclusion_score FROM photos",
        COUNT,
    ),
    "subquery": (
        "SELECT t.status, t.excluded FROM (SELECT toilet(image_url) t FROM photos)",
        COUNT,
    ),
    "mean": ("SELECT avg(toilet_score(image_url)) FROM photos", COUNT),
    "filter on it": (
        "SELECT * FROM (SELECT image_id, toilet(image_url) t FROM photos) WHERE t.excluded",
        COUNT + 12,
    ),
    "score in WHERE": (
        "SELECT toilet_score(image_url) FROM photos WHERE toilet_score(image_url) >= {threshold}",
        COUNT + 12,
    ),
}


@pytest.mark.parametrize(("sql", "expected"), FORMS.values(), ids=FORMS)
def test_spark_embeds_as_many_images_as_the_page_says(
    spark: SparkSession, portal: Portal, sql: str, expected: int
) -> None:
    portal.photos.createOrReplaceTempView("photos")
    functions.register(spark, portal.config, portal.root)
    spark.sql(sql.format(threshold=portal.threshold)).collect()
    assert portal.site.gets.total() == expected


def test_a_written_result_is_filtered_without_embedding_again(
    spark: SparkSession, portal: Portal
) -> None:
    toilet = functions.image_scorer(spark, portal.config, portal.root)
    scored = portal.photos.select(toilet("image_url").alias("t")).localCheckpoint()
    assert scored.where("t.excluded").count() == 12
    assert portal.site.gets.total() == COUNT


def test_rows_keep_their_order_and_bad_images_their_status(
    spark: SparkSession, portal: Portal
) -> None:
    """Also equal ones: each has its embedding."""
    site = portal.site
    urls = [f"{site.address}/0.jpg"] * 2 + [f"{site.address}/none.jpg", None, "file:///etc/passwd"]
    urls += [site.serve("junk", b"junk"), f"{site.address}/0.jpg"]
    frame = spark.createDataFrame(list(enumerate(urls)), "n int, url string").coalesce(1)
    embed = functions.embedder(spark, portal.config)
    rows = frame.select("n", embed("url").alias("r")).select("n", "r.*").toPandas()
    assert list(rows["n"]) == list(range(7))
    statuses = ["ok", "ok", "missing", "missing", "refused", "not_an_image", "ok"]
    assert list(rows["status"]) == statuses
    digests = [content_digest(content(0)), content_digest(b"junk")]
    assert list(rows["content_digest"]) == [
        *[digests[0]] * 2, None, None, None, digests[1], digests[0]
    ]  # fmt: skip
    assert [embedding is not None for embedding in rows["embedding"]] == [
        status == "ok" for status in statuses
    ]
    assert len({bytes(one) for one in rows["embedding"].dropna()}) == 1


def test_a_null_embedding_has_null_scores_and_another_width_is_refused(
    spark: SparkSession, portal: Portal
) -> None:
    score = functions.scorer(spark, f"{portal.root}/head")
    rows = [(bytearray(vector(1)),), (None,), (bytearray(vector(2)),)]
    frame = spark.createDataFrame(rows, "embedding binary").coalesce(1)
    result = frame.select(score("embedding").alias("s")).select("s.*").toPandas()
    assert result.notna().all(axis=1).tolist() == [True, False, True]
    np.testing.assert_allclose(
        result.loc[[0, 2], ["p_toilet", "p_other"]].sum(axis=1), 1, atol=1e-5
    )
    short = spark.createDataFrame([(bytearray(b"1234"),)], "embedding binary")
    with pytest.raises(PythonException, match=r"embeddings of 1024 bytes[\s\S]*some of 4 bytes"):
        short.select(score("embedding")).collect()


def test_a_head_from_a_plain_folder_scores_stored_embeddings(
    spark: SparkSession, portal: Portal, tmp_path: Path
) -> None:
    """The bundle of `python -m training.train --images`, as a path for the UDF and `score.head`."""
    for room in ("toilet", "kitchen"):
        (tmp_path / "rooms" / room).mkdir(parents=True)
        for seed in range(40):
            (tmp_path / "rooms" / room / f"{seed}.jpg").write_bytes(picture(room, seed))
    sets = [*(f"{key}={value}" for key, value in TINY_BACKBONE.items()), "train.learning_curve=[]"]
    out = f"{tmp_path}/head"
    photo_folder.train(tmp_path / "rooms", out, (), [], [*sets, "lookalikes.min_cosine=1.0"])
    score = functions.scorer(spark, out)
    frame = spark.createDataFrame([(bytearray(vector(n)),) for n in (1, 2)], "embedding binary")
    result = frame.coalesce(1).select(score("embedding").alias("s")).select("s.*").toPandas()
    head = registry.current(Store(portal.root), out, doing="scoring")
    values = np.stack([np.frombuffer(vector(n), "<f2").astype(np.float32) for n in (1, 2)])
    expected = head.probabilities(values)
    np.testing.assert_allclose(result[["p_kitchen", "p_toilet"]], expected, atol=1e-5)
    np.testing.assert_allclose(result["exclusion_score"], expected[:, 1], atol=1e-5)


def test_a_column_of_another_type_is_refused(spark: SparkSession, portal: Portal) -> None:
    embed = functions.embedder(spark, portal.config)
    with pytest.raises(PythonException, match="URLs as text, or files as binary"):
        spark.range(1).select(embed("id")).collect()


def test_head_and_threshold_come_from_the_bundle_or_from_the_live_version(
    portal: Portal, tmp_path: Path
) -> None:
    for head in (portal.root, f"{portal.root}/head"):
        deciding = functions.deciding_head(head)
        assert deciding.head.head_id == portal.head.head_id
        assert deciding.operating_threshold == portal.threshold
    assert functions.deciding_head(portal.root, 0.125).operating_threshold == 0.125
    Store.open(str(tmp_path / "empty"))
    with pytest.raises(OutputError) as stopped:
        functions.deciding_head(str(tmp_path / "empty"))
    assert stopped.value.expected == "a version that was published"
    with pytest.raises(HeadError):
        functions.deciding_head(str(tmp_path / "no such head"))


def test_a_head_for_another_backbone_is_refused_on_the_driver(
    spark: SparkSession, portal: Portal, tmp_path: Path
) -> None:
    names, exclude, _, weight, bias = _parts(portal.head)
    bundle.write(str(tmp_path / "other"), Head(names, exclude, "another", weight, bias))
    with pytest.raises(HeadError) as stopped:
        functions.image_scorer(spark, portal.config, str(tmp_path / "other"))
    assert "for the backbone another" in stopped.value.found


def test_scores_are_those_of_the_pandas_udf_by_hand(portal: Portal) -> None:
    """The slow way: one embedding after another."""
    deciding = functions.deciding_head(portal.root)
    embeddings = pd.Series([vector(n) for n in range(5)], index=[9, 7, 5, 3, 1])
    result = deciding.decide(embeddings)
    assert list(result.index) == [9, 7, 5, 3, 1]
    for row, stored_bytes in zip(result.itertuples(), embeddings, strict=True):
        values = np.frombuffer(stored_bytes, "<f2").astype(np.float32)
        logits = portal.head.weight @ values + portal.head.bias
        share = np.exp(logits - logits.max())
        share /= share.sum()
        assert row.p_toilet == pytest.approx(share[0], abs=1e-5)
        assert row.exclusion_score == pytest.approx(share[0], abs=1e-5)
        assert row.excluded == (row.exclusion_score >= np.float32(portal.threshold))
