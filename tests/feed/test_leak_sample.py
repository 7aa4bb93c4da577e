"""The leak sample on the cluster: its population, its weights, and the way to the figures."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored
from tests.reports.test_contact_sheet_on_spark import shown
from toiletspark import hashing
from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.feed import leak_meter, leak_sample
from toiletspark.jobs import draw_leaks, import_labels, make_sheet
from toiletspark.labels import merge
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.publishing.versions import log
from toiletspark.sampling import design_weights
from toiletspark.sampling.inclusion_probabilities import CERTAIN, SIZE_ONE
from toiletspark.tables import arrow_io, schemas, spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]


def decided(at: int, **changes: Any) -> dict[str, Any]:
    """Image `at` of a version: its own content, excluded if its score, at / 200, is 0.5 or more."""
    plain = {
        **{
            "image_id": f"i{at}",
            "listing_id": f"L{at // 4}",
            "stratum": "ab"[at // 4 % 2],
            "status": "ok",
        },
        **{"content_digest": f"d{at}", "exclusion_score": at / 200, "reason": "model"},
        "decision": "exclude" if at >= 100 else "keep",
    }
    return {**plain, **changes}


def published(store: Store, decisions: list[dict[str, Any]]) -> str:
    inputs = {"head_id": "h1", "operating_threshold": 0.5, "catalog": "c1"}
    run = stored(store, schemas.DECISIONS, decisions, inputs=inputs)
    log.publish(store, stored(store, schemas.EXCLUSION_LIST, [], run_id=run.run_id))
    return run.run_id


def version_of(store: Store) -> str:
    """Images 0 to 199, some of them special: in the sample's population or not."""
    changes: dict[int, dict[str, Any]] = {
        1: {"content_digest": "d0"},  # the same content twice
        2: {
            "content_digest": "d0",
            "decision": "exclude",
            "reason": "override",
        },  # on the other side
        3: {
            "status": "truncated",
            "content_digest": None,
            "exclusion_score": None,
            "decision": "exclude",
        },
        4: {
            "status": "timeout",
            "decision": "keep",
            "reason": "last_score",
        },  # nobody could look at it
        5: {
            "status": "timeout",
            "content_digest": None,
            "exclusion_score": None,
            "decision": "unscored",
        },
        6: {"stratum": None},
    }
    return published(store, [decided(at, **changes.get(at, {})) for at in range(200)])


def drawn(store: Store) -> pd.DataFrame:
    return pd.DataFrame(arrow_io.read(store.newest(schemas.LEAKS))).set_index("content_digest")


def test_what_is_drawn_stands_for_all_sound_images(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"leaks.size": 60})
    store = Store.open(config.output.root)
    run_id = version_of(store)
    words = [
        Label("i0", "other", "d0", "sheet", "ann"),
        Label("i150", "toilet", "d150", "sheet", "ann"),
    ]
    merge.save(store, SourceLabels(words), "", {}, "sheet of ann")
    told = draw_leaks.step(Workspace.open(spark, config))
    leaked, queue = store.newest(schemas.LEAKS), store.newest(schemas.QUEUES)
    assert leaked is not None and queue is not None and leaked.run_id == queue.run_id
    for run in (leaked, queue):
        assert run.inputs.as_json() == {
            **{"kind": "leaks", "version": 1, "decisions": run_id, "catalog": "c1"},
            **{"head_id": "h1", "operating_threshold": 0.5},
        }
    found = drawn(store)
    weight = 1 / found["inclusion_probability"]
    # of 200 images 3 are not sound
    assert abs((weight * (found["kept"] + found["excluded"])).sum() - 197) < 30
    assert len(found) == told["leaks_drawn"] == 60
    assert not set(found.index) & {"d3", "d4", "d5"} and found.index.is_unique
    assert {*found["reason"]} == {"random", "uncertain"}

    known = found[found["rank"].isna()]
    assert set(known.index) == set(found.index) & {"d0", "d150"}
    assert told["leaks_known"] == len(known) == 60 - told["leaks_to_label"]
    asked = pd.DataFrame(arrow_io.read(queue)).sort_values("rank")
    assert list(asked["rank"]) == list(range(1, told["leaks_to_label"] + 1))
    assert set(asked["content_digest"]) == set(found.index) - set(known.index)
    assert asked["suggested"].isna().all() and asked["label"].isna().all()
    images = found.loc[asked["content_digest"], ["kept", "excluded"]].sum(axis=1).to_numpy()
    assert (1 / asked["inclusion_probability"]).to_numpy() == pytest.approx(
        images * weight.loc[asked["content_digest"]].to_numpy()
    )


def test_the_population_are_the_sound_contents_by_what_their_labels_may_tell(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    store = Store.open(make_config().output.root)
    version_of(store)
    decisions = store.newest(schemas.DECISIONS)
    assert decisions is not None
    found = (
        leak_sample.population(spark_io.read_run(spark, decisions))
        .toPandas()
        .set_index("content_digest")
    )
    assert set(found.index) == {f"d{at}" for at in range(200)} - {f"d{at}" for at in range(1, 6)}
    assert found["images"].sum() == 197 == (found["kept"] + found["excluded"]).sum()
    both = found.loc["d0"]  # 0 and 1 are kept, 2 is excluded
    assert (both["images"], both["kept"], both["excluded"]) == (3, 2, 1)
    assert (both["image_id"] in {"i0", "i1", "i2"}, both["listing_id"], both["stratum"]) == (
        True,
        "L0",
        "a",
    )
    assert both["size"] == pytest.approx(3 * math.sqrt(0.01 * 0.99) * SIZE_ONE, rel=1e-6)
    assert (found.loc["d100", "size"], found.loc["d100", "excluded"]) == (SIZE_ONE // 2, 1)
    assert found.loc["d8", "size"] == pytest.approx(found.loc["d192", "size"], rel=1e-6)
    assert found.loc["d6", "stratum"] == ""


def test_the_same_version_is_drawn_alike_and_another_one_otherwise(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"leaks.size": 20})
    store = Store.open(config.output.root)
    told = []
    for _ in range(2):
        published(store, [decided(at) for at in range(100, 140)])
        draw_leaks.step(Workspace.open(spark, config))
        told.append(drawn(store))
    draw_leaks.step(Workspace.open(spark, config))
    pd.testing.assert_frame_equal(drawn(store), told[1])
    assert set(told[0].index) != set(told[1].index)


def test_where_no_image_is_sound_nothing_is_drawn(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config()
    store = Store.open(config.output.root)
    with pytest.raises(OutputError, match="while drawing a leak sample"):
        draw_leaks.step(Workspace.open(spark, config))
    published(store, [decided(1, status="truncated", content_digest=None, exclusion_score=None)])
    told = draw_leaks.step(Workspace.open(spark, config))
    assert told == {"leaks_drawn": 0, "leaks_known": 0, "leaks_to_label": 0}
    assert store.newest(schemas.LEAKS) is None and store.newest(schemas.QUEUES) is None


def test_ranks_are_by_hash_and_what_is_known_has_none() -> None:
    found = [
        {
            "image_id": f"i{at}",
            "listing_id": "L",
            "content_digest": f"d{at}",
            "reason": "random",
            "images": at + 1,
            "kept": at + 1,
            "excluded": 0,
            "chance": CERTAIN // 4,
        }
        for at in range(6)
    ]
    ranked = leak_sample.ranked(found, ["d2", "d4"], 1)
    assert [one["rank"] for one in ranked] == [1, 2, 3, 4, None, None]
    assert {one["content_digest"] for one in ranked[4:]} == {"d2", "d4"}
    assert leak_sample.ranked(found[::-1], ["d4", "d2"], 1) == ranked
    assert [one["image_id"] for one in leak_sample.ranked(found, [], 2)] != [
        one["image_id"] for one in ranked
    ]
    queue = leak_sample.queue(ranked)
    assert [one["rank"] for one in queue] == [1, 2, 3, 4]
    assert {one["image_id"]: one["inclusion_probability"] for one in queue} == {
        f"i{at}": 0.25 / (at + 1) for at in (0, 1, 3, 5)
    }


def test_a_leak_sample_leaves_the_weights_of_training_alone(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    """It draws images that stand in a sample, which must not lose its doubtful ones to it."""
    config = make_config({"leaks.size": 60})
    store = Store.open(config.output.root)
    version_of(store)
    first = stored(
        store,
        schemas.SAMPLE,
        [{"image_id": f"i{at}", "inclusion_probability": 0.5} for at in range(200)],
    )
    draw_leaks.step(Workspace.open(spark, config))
    of = design_weights.read_draws(spark, store).toPandas()
    assert (set(of["draw"]), set(of["weight"]), len(of)) == ({first.run_id}, {2.0}, 200)


def test_the_whole_way_from_the_draw_to_the_figures(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Drawn, put on a contact sheet, labelled there, imported, and read."""
    config = make_config({"labels.of": "leaks", "leaks.size": 100})
    store = Store.open(config.output.root)
    images = pd.read_parquet(config.images.path)
    contents = [hashing.content_digest(Path(url).read_bytes()) for url in images["image_url"]]
    # the head excludes what shows no toilet of L1, and keeps all toilets but two
    out = [name in {"L1-1", "L2-3", "L3-3"} for name in images["image_id"]]
    published(
        store,
        [
            decided(
                0,
                image_id=name,
                listing_id=home,
                content_digest=content,
                decision="exclude" if gone else "keep",
            )
            for name, home, content, gone in zip(
                images["image_id"], images["listing_id"], contents, out, strict=True
            )
        ],
    )
    assert draw_leaks.step(Workspace.open(spark, config))["leaks_to_label"] == 18
    told = make_sheet.step(Workspace.open(spark, config))
    (sheet,) = told["sheets"]
    tiles = shown(sheet)["tiles"]
    assert (told["shown"], told["suggested"], len(tiles)) == (18, 0, 18)
    words = [
        {
            **{"image_id": tile["image_id"], "content_digest": tile["content_digest"]},
            **{"class": "toilet" if tile["image_id"].endswith("-3") else "other"},
            "labelled_at": "2026-11-24T10:00:00Z",
        }
        for tile in tiles
    ]
    content = {
        "format": "toiletspark-labels",
        "format_version": 1,
        "sheet": "s",
        "labeller": "ann",
        "labels": words,
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    section = config.labels.model_copy(update={"file": str(tmp_path / "labels.json")})
    import_labels.step(Workspace.open(spark, config.model_copy(update={"labels": section})))
    (meter,) = leak_meter.trend(store, config.labels)
    assert (meter.version, meter.drawn, meter.labelled, meter.missing) == (1, 18, 18, 0)
    # of 15 images in the feed 4 are toilets, and of 12 good ones 1 is gone
    assert (meter.leaking.value, meter.lost.value) == (pytest.approx(4 / 15), pytest.approx(1 / 12))
    assert str(meter) == "too few labels to say: 18 of 18"
    again = draw_leaks.step(Workspace.open(spark, config))  # of labelled ones nobody is asked again
    assert (again["leaks_known"], again["leaks_to_label"]) == (18, 0)
    (meter,) = leak_meter.trend(store, config.labels)
    assert (meter.leaking.value, meter.asked) == (pytest.approx(4 / 15), 0)
