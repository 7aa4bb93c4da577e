"""Active learning on Spark: equals a plain draw, without labelled images and their duplicates."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import stored, vector
from tests.sampling.test_inclusion_probabilities import chances_of, skewed, systematic
from toiletspark.config import Config
from toiletspark.errors import LabelsError, OutputError
from toiletspark.hashing import hash_fraction
from toiletspark.jobs import suggest_labels
from toiletspark.sampling import active_learning
from toiletspark.sampling.inclusion_probabilities import CERTAIN
from toiletspark.scoring import scores
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]


# The draw


@pytest.fixture(scope="module")
def population(spark: SparkSession) -> DataFrame:
    """700 contents in three strata, the names of which sort otherwise than their sizes."""
    sizes = skewed(700, 3)
    rows = [
        (f"d{at}", f"i{at}", "bac"[min(2, at // 300)], int(sizes[at]), 1 + at % 3)
        for at in range(700)
    ]
    frame = spark.createDataFrame(
        rows, "content_digest string, image_id string, stratum string, size bigint, images int"
    )
    return frame.cache()


def drawn(population: DataFrame, wanted: int, seed: int, share: float = 0.3) -> pd.DataFrame:
    return (
        active_learning.draw(population, wanted, share, seed)
        .toPandas()
        .sort_values("content_digest")
        .reset_index(drop=True)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_cluster_draws_what_the_obvious_draw_does(population: DataFrame, seed: int) -> None:
    result = drawn(population, 50, seed)
    all_rows = population.withColumn("at", F.xxhash64(F.lit(seed), "content_digest")).toPandas()
    line = all_rows.sort_values(["stratum", "at"]).reset_index(drop=True)
    chance = chances_of(line["size"].to_numpy(), 50, 0.3)
    rows, into = systematic(chance, int(hash_fraction(seed, "suggest:start") * CERTAIN))
    even = int(0.3 * 50 / 700 * CERTAIN)
    expected = {
        line["content_digest"][row]: (int(chance[row]), "random" if offset < even else "uncertain")
        for row, offset in zip(rows.tolist(), into, strict=True)
    }
    assert {row.content_digest: (row.chance, row.reason) for row in result.itertuples()} == expected
    assert len(result) == 50
    assert 5 <= (result["reason"] == "random").sum() <= 25


def test_the_draw_does_not_depend_on_the_partitioning(population: DataFrame) -> None:
    once = drawn(population, 50, 1)
    for frame in (population.repartition(7), population.orderBy(F.desc("image_id")).coalesce(1)):
        pd.testing.assert_frame_equal(drawn(frame, 50, 1)[once.columns], once)
    assert set(drawn(population, 50, 4)["content_digest"]) != set(once["content_digest"])


def test_each_stratum_gets_its_share_to_within_one(population: DataFrame) -> None:
    for seed in range(4):
        counts = Counter(drawn(population, 70, seed, share=1.0)["stratum"])
        assert all(
            abs(counts[name] - share) <= 1 for name, share in {"b": 30, "a": 30, "c": 10}.items()
        ), counts


def test_all_are_taken_where_there_are_no_more(population: DataFrame) -> None:
    result = drawn(population.limit(5), 5, 1)
    assert (len(result), set(result["chance"])) == (5, {CERTAIN})
    assert len(drawn(population.where("false"), 5, 1)) == 0


# Suggestions


def test_the_most_probable_class_is_suggested(spark: SparkSession) -> None:
    rows = [
        ("a", "1", "h", 0.9, 0.1, 0.0),
        ("b", "2", "h", 0.4, 0.4, 0.2),
        ("c", "3", "h", 0.1, 0.2, 0.7),
    ]
    columns = "image_id string, content_digest string, head_id string, "
    columns += "p_toilet float, p_other float, `p_attic` float"
    result = scores.suggest_classes(
        spark.createDataFrame(rows, columns), ["toilet", "other"]
    ).collect()
    assert [(row["image_id"], row["suggested"], row["head_id"]) for row in result] == [
        ("a", "toilet", "h"),
        ("b", "toilet", "h"),
        ("c", None, "h"),  # a class that nobody labels any more
    ]
    assert [row["scored_digest"] for row in result] == ["1", "2", "3"]
    assert [row["certainty"] for row in result] == pytest.approx([0.9, 0.4, 0.7], abs=1e-6)
    assert [row["uncertainty"] for row in result] == pytest.approx([0.2, 1.0, 0.5], abs=1e-6)


def test_contents_that_look_like_a_labelled_one_are_found(spark: SparkSession) -> None:
    random = np.random.default_rng(1)
    plain = np.abs(random.normal(size=(40, 512))).astype("<f2")
    again = (plain[3].astype(np.float32) * 0.5 + 0.001).astype("<f2")
    rows = [(f"d{at}", "b", bytearray(one.tobytes())) for at, one in enumerate([*plain, again])]
    frame = spark.createDataFrame(
        rows, "content_digest string, backbone_id string, embedding binary"
    ).repartition(3)
    labelled = spark.sparkContext.broadcast(plain[3:4].astype(np.float32))
    assert {row[0] for row in active_learning.near_labelled(frame, labelled, 0.97).collect()} == {
        "d3",
        "d40",
    }
    none = spark.sparkContext.broadcast(np.zeros((0, 1), np.float32))
    assert active_learning.near_labelled(frame, none, 0.97).count() == 0


# The step


def catalog_of(config: Config, labels: list[dict[str, Any]]) -> Store:
    """Forty images: 0 and 1 are one content, 2 looks like 3, 4 is broken; the head is unsure of the
    tens.
    """
    store = Store.open(config.output.root)
    digests = {at: f"d{0 if at == 1 else at}" for at in range(40)}
    vectors = {f"d{at}": vector(3 if at == 2 else at) for at in range(40) if at not in (1, 4)}
    rows = [
        {
            **{
                "image_id": f"i{at}",
                "listing_id": f"L{at // 4}",
                "stratum": "ab"[at % 2],
                "content_digest": digests[at],
            },
            "status": "ok" if at != 4 else "truncated",
        }
        for at in range(40)
    ]
    snapshot = stored(store, schemas.CATALOG, rows, inputs={"backbone_id": "ours"})
    kept = [
        {"content_digest": name, "backbone_id": "ours", "embedding": one}
        for name, one in vectors.items()
    ]
    # all look like 3
    other = [{**row, "backbone_id": "another", "embedding": vector(3)} for row in kept]
    stored(store, schemas.EMBEDDINGS, [*kept, *other])
    unsure = [at for at in range(40) if at % 10 == 0]
    scores = [
        {
            **{
                "image_id": row["image_id"],
                "listing_id": row["listing_id"],
                "content_digest": row["content_digest"],
            },
            **{
                "p_toilet": 0.55 if at in unsure else 0.03,
                "p_other": 0.45 if at in unsure else 0.97,
                "head_id": "h1",
            },
        }
        for at, row in enumerate(rows)
        if row["status"] == "ok"
    ]
    table = schemas.SCORES.with_columns(schemas.probability_columns(("toilet", "other")))
    stored(
        store,
        table,
        scores,
        inputs={"catalog": snapshot.run_id, "head_id": "h1", "backbone_id": "ours"},
    )
    if labels:
        stored(store, schemas.LABELS, labels)
    return store


def test_what_is_suggested_is_new_and_stands_for_what_nobody_has_labelled(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"suggest.size": 12, "suggest.random_share": 0.5})
    labels = [
        {"image_id": "i3", "labeller": "ann", "class": "other"},
        {"image_id": "i1", "class": "toilet"},
    ]
    labels += [{"image_id": "i10", "class": "toilet", "content_digest": "replaced since"}]
    store = catalog_of(config, labels)
    summary = suggest_labels.step(Workspace.open(spark, config))
    queue = store.newest(schemas.QUEUES)
    assert queue is not None and queue.inputs.kind == "suggest"
    rows = spark_io.read_run(spark, queue).toPandas().sort_values("rank")
    assert summary["queue"] == queue.folder
    # not 0 and 1 (labelled by its content), not 2 (looks like 3), not 3, not 4 (broken): 35 are
    # left
    assert (summary["contents"], summary["images"], summary["like_a_labelled_one"]) == (35, 35, 1)
    assert not set(rows["image_id"]) & {f"i{at}" for at in range(5)}
    assert list(rows["rank"]) == list(range(1, 13)) == sorted(rows["rank"])
    assert (summary["suggested"], summary["uncertain"] + summary["random"]) == (12, 12)
    assert (rows["score"].diff().dropna() <= 0).all()
    assert {"i10", "i20", "i30"} <= set(rows["image_id"])
    unsure = rows.set_index("image_id").loc["i10"]
    assert (unsure["suggested"], unsure["inclusion_probability"]) == ("toilet", 1.0)
    others = rows[~rows["image_id"].isin({"i10", "i20", "i30"})]
    assert set(others["inclusion_probability"].round(6)) == {round(9 / 32, 6)}
    assert rows["label"].isna().all()
    assert list(rows.columns) == list(schemas.QUEUES.columns)


def test_equal_and_similar_pictures_are_asked_about_once(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"suggest.size": 100})
    store = catalog_of(config, [])
    summary = suggest_labels.step(Workspace.open(spark, config))
    queue = store.newest(schemas.QUEUES)
    assert queue is not None
    rows = spark_io.read_run(spark, queue).toPandas().set_index("image_id")
    # 39 sound images are 38 contents, of which two look alike
    assert (
        summary["images"],
        summary["contents"],
        summary["lookalikes"],
        summary["suggested"],
    ) == (39, 38, 1, 37)
    assert len({"i0", "i1"} & set(rows.index)) == len({"i2", "i3"} & set(rows.index)) == 1
    ((left_out, stands_for),) = queue.counts["stands_for"].items()
    assert {left_out, stands_for} == {"i2", "i3"} and stands_for in rows.index
    weights = 1 / rows["inclusion_probability"]
    assert weights.sum() == pytest.approx(39)
    assert sorted(weights[weights > 1.5]) == [2, 2]


def test_suggesting_before_there_are_scores_names_the_step(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    with pytest.raises(OutputError) as raised:
        suggest_labels.step(Workspace.open(spark, make_config()))
    assert str(raised.value).startswith(
        "while suggesting what to label next\n  expected: a complete run of scores in "
    )
    assert raised.value.todo == "run `toiletspark score` with the same configuration first"


def test_where_everything_is_labelled_nothing_is_suggested(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config()
    catalog_of(config, [{"image_id": f"i{at}", "class": "other"} for at in range(40) if at != 2])
    with pytest.raises(LabelsError, match=r"found:    none; 1 contents look like a labelled one"):
        suggest_labels.step(Workspace.open(spark, config))
    assert Store(config.output.root).newest(schemas.QUEUES) is None
