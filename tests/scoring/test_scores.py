"""Decide for ever: scores are the head's on the stored embeddings, without reading an image and
without torch.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import (
    LOCAL_CONF,
    REPOSITORY,
    SMALL_SPARK,
    drawn_images,
    stored,
    stored_catalog,
    vector,
)
from toiletspark.config import Config, loading
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import HeadError, OutputError
from toiletspark.jobs import rescore_catalog, score_catalog
from toiletspark.model import bundle
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.publishing import publication
from toiletspark.scoring import scores
from toiletspark.tables import schemas
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

IMAGES, CONTENTS = 40, 25  # contents 0 to 14 are shown twice
TWO = (("toilet", "other"), ("toilet",))
THREE = (("kitchen", "toilet", "bathroom"), ("toilet", "bathroom"))


def made_head(
    store: Store,
    classes: tuple[str, ...],
    exclude: tuple[str, ...],
    backbone_id: str = "ours",
    name: str = "head",
) -> Head:
    """A head of chance in <root>/<name>."""
    rng = np.random.default_rng([len(classes), *name.encode()])
    weight = rng.normal(scale=0.1, size=(len(classes), 512)).astype(np.float32)
    head = Head(
        classes, exclude, backbone_id, weight, rng.normal(size=len(classes)).astype(np.float32)
    )
    bundle.write(f"{store.root}/{name}", head)
    return head


@pytest.fixture
def config(tmp_path: Path) -> Config:
    root = tmp_path / "output"
    return loading.load(
        [LOCAL_CONF], [SMALL_SPARK, f"output.root={root}", f"score.head={root}/head"]
    )


def catalog_row(image_id: str, status: str, digest: str | None) -> dict[str, Any]:
    """A row of the catalog."""
    return {
        "image_id": image_id,
        "listing_id": f"L{image_id}",
        "status": status,
        "content_digest": digest,
    }


def prepare(store: Store) -> Run:
    """A catalog that was embedded, with repeated contents, two images without a score, and another
    backbone's rows.
    """
    catalog = [
        catalog_row(f"i{number:02}", "ok", f"digest-{number % CONTENTS}")
        for number in range(IMAGES)
    ]
    catalog += [catalog_row("gone", "missing", None), catalog_row("bad", "truncated", "digest-bad")]
    ours = [
        {"content_digest": f"digest-{number}", "backbone_id": "ours", "embedding": vector(number)}
        for number in range(CONTENTS)
    ]
    others = [{**row, "backbone_id": "another", "embedding": vector(1000)} for row in ours]
    stored(store, schemas.EMBEDDINGS, ours[:20] + others)
    # two of them a second time, as after a run that broke
    stored(store, schemas.EMBEDDINGS, ours[18:])
    stored(store, schemas.EMBEDDINGS, [])
    return stored_catalog(store, catalog, "ours")


def slowly(head: Head, number: int) -> tuple[list[float], float]:
    """Probabilities and exclusion score of one content, one number after another."""
    embedding = np.frombuffer(vector(number), dtype="<f2").astype(float)
    logits = [
        sum(w * e for w, e in zip(row, embedding, strict=True)) for row in head.weight.astype(float)
    ]
    logits = [logit + bias for logit, bias in zip(logits, head.bias.astype(float), strict=True)]
    powers = [np.exp(logit) for logit in logits]
    shares = [power / sum(powers) for power in powers]
    return shares, sum(
        share
        for share, name in zip(shares, head.classes, strict=True)
        if name in head.exclude_classes
    )


@pytest.mark.parametrize(("classes", "exclude"), [TWO, THREE])
def test_scores_are_the_heads_on_the_stored_embeddings(
    spark: SparkSession,
    config: Config,
    store: Store,
    classes: tuple[str, ...],
    exclude: tuple[str, ...],
) -> None:
    snapshot = prepare(store)
    head = made_head(store, classes, exclude)
    summary = score_catalog.step(Workspace.open(spark, config))
    rows = pd.read_parquet(summary["scores"]).sort_values("image_id").reset_index(drop=True)
    columns = [f"p_{name}" for name in classes]
    assert list(rows.columns) == [*schemas.SCORES.columns, *columns]
    # each once, none without embedding
    assert list(rows["image_id"]) == [f"i{number:02}" for number in range(IMAGES)]
    assert list(rows["listing_id"]) == [f"Li{number:02}" for number in range(IMAGES)]
    assert set(rows["head_id"]) == {head.head_id}
    for number, row in rows.iterrows():
        shares, score = slowly(head, int(number) % CONTENTS)
        np.testing.assert_allclose(row[columns].astype(float), shares, atol=2e-5)
        assert row["exclusion_score"] == pytest.approx(score, abs=2e-5)
        assert row["content_digest"] == f"digest-{int(number) % CONTENTS}"
    np.testing.assert_allclose(rows[columns].sum(axis=1), 1, atol=1e-5)
    assert rows["exclusion_score"].nunique() == CONTENTS
    assert summary == {
        "images": 42,
        "scored": 40,
        "head_id": head.head_id,
        "scores": summary["scores"],
    }
    newest = store.newest(schemas.SCORES)
    assert newest is not None
    assert newest.inputs.as_json() == {
        "catalog": snapshot.run_id,
        "head_id": head.head_id,
        "backbone_id": "ours",
    }


def test_several_heads_give_the_scores_of_each_alone(
    spark: SparkSession, config: Config, store: Store
) -> None:
    """Whatever their classes; the head whose scores are published is the newest run."""
    prepare(store)
    chosen = made_head(store, *TWO)
    others = [
        made_head(store, *classes, name=name) for name, classes in (("three", THREE), ("two", TWO))
    ]
    alone = {
        head.head_id: score_catalog.step(Workspace.open(spark, with_heads(config, name)))
        for head, name in zip([*others, chosen], ["three", "two", "head"], strict=True)
    }
    summary = score_catalog.step(Workspace.open(spark, with_heads(config, "head", "three", "two")))
    assert (summary["head_id"], summary["scored"]) == (chosen.head_id, IMAGES)
    together = {**summary["more_scores"], summary["head_id"]: summary["scores"]}
    assert set(together) == set(alone) == {head.head_id for head in [*others, chosen]}
    assert "more_scores" not in alone[chosen.head_id]
    for head_id, folder in together.items():
        one, same = (
            pd.read_parquet(path).sort_values("image_id")
            for path in (alone[head_id]["scores"], folder)
        )
        pd.testing.assert_frame_equal(one.reset_index(drop=True), same.reset_index(drop=True))
    newest = store.newest(schemas.SCORES)
    assert newest is not None
    assert newest.folder == summary["scores"]
    assert newest.inputs.head_id == chosen.head_id
    compared = {run.folder: run.inputs.compared for run in store.runs(schemas.SCORES)}
    assert {folder: compared[folder] for folder in together.values()} == {
        summary["scores"]: False,
        **dict.fromkeys(summary["more_scores"].values(), True),
    }
    assert not (Path(store.root) / "_work").exists() or not any(
        (Path(store.root) / "_work").iterdir()
    )


def test_the_scores_of_a_head_to_compare_with_are_not_published_where_scoring_was_broken_off(
    spark: SparkSession, config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store)
    chosen, other = made_head(store, *TWO), made_head(store, *THREE, name="three")
    before = score_catalog.step(Workspace.open(spark, with_heads(config, "head")))
    score_images = scores.score_images

    def killed(work: Workspace, catalog: Run, head: Head, errors: WorkerErrors) -> Any:
        if head.head_id == chosen.head_id:
            raise OSError("killed")
        return score_images(work, catalog, head, errors)

    monkeypatch.setattr(scores, "score_images", killed)
    with pytest.raises(OSError, match="killed"):
        score_catalog.step(Workspace.open(spark, with_heads(config, "head", "three")))
    assert store.runs(schemas.SCORES)[-1].inputs.head_id == other.head_id
    assert publication.newest_sources(store).scores.folder == before["scores"]


def with_heads(config: Config, head: str, *more: str) -> Config:
    folders = [f"{config.output.root}/{name}" for name in (head, *more)]
    score = config.score.model_copy(
        update={"head": folders[0], "more_heads": folders[1:], "rows_per_batch": 7}
    )
    return config.model_copy(update={"score": score})


def test_a_sound_image_without_an_embedding_stops_the_scoring(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    score_catalog.step(Workspace.open(spark, config))
    before = [run.run_id for run in store.runs(schemas.SCORES)]
    more = [
        catalog_row("i00", "ok", "digest-0"),
        catalog_row("lost", "ok", "digest-lost"),
        catalog_row("gone", "missing", None),
    ]
    snapshot = stored_catalog(store, more, "ours")
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert str(stopped.value) == (
        "while scoring the catalog\n"
        "  expected: an embedding for each of the 2 sound images of the catalog "
        f"{snapshot.run_id}\n"
        "  found:    1 scores\n"
        "  do:       run `toiletspark embed` (or `rescore`) again; it embeds what is missing"
    )
    assert [run.run_id for run in store.runs(schemas.SCORES)] == before


def test_a_content_that_stands_twice_does_not_make_up_for_one_that_is_missing(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    stored_catalog(
        store,
        [catalog_row("twice", "ok", "digest-18"), catalog_row("lost", "ok", "digest-lost")],
        "ours",
    )
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert stopped.value.found == "1 scores"
    assert store.runs(schemas.SCORES) == []


def test_an_embedding_whose_file_is_gone_stops_the_scoring(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    first = next(run for run in store.runs(schemas.EMBEDDINGS) if run.rows)
    # with the contents 0 to 17, since the others stand in the second run too
    (Path(first.folder) / "part-0.parquet").unlink()
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert stopped.value.found == "7 scores"


@pytest.mark.parametrize("embedded", [0, 3])
def test_a_catalog_without_a_sound_image_has_no_scores(
    spark: SparkSession, config: Config, store: Store, embedded: int
) -> None:
    rows = [
        {"content_digest": f"digest-{n}", "backbone_id": "ours", "embedding": vector(n)}
        for n in range(embedded)
    ]
    if rows:
        stored(store, schemas.EMBEDDINGS, rows)
    stored_catalog(
        store,
        [catalog_row("gone", "missing", None), catalog_row("bad", "truncated", "digest-1")],
        "ours",
    )
    made_head(store, *TWO)
    summary = score_catalog.step(Workspace.open(spark, config))
    assert (summary["images"], summary["scored"]) == (2, 0)


def test_a_catalog_whose_rows_its_manifest_does_not_count_is_refused(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    twice = stored_catalog(store, [catalog_row("i00", "ok", "digest-0")] * 2, "ours")
    store.commit(schemas.CATALOG, twice.run_id, config={}, inputs=twice.inputs, counts={"sound": 1})
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert stopped.value.found == "2 scores"
    assert store.runs(schemas.SCORES) == []


def test_scoring_before_embedding_names_the_step(
    spark: SparkSession, config: Config, store: Store
) -> None:
    made_head(store, *TWO)
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert stopped.value.found == "none"
    assert stopped.value.todo == "run `toiletspark embed` with the same configuration first"


def test_of_a_content_that_stands_twice_the_same_embedding_is_scored_each_time(
    spark: SparkSession, config: Config, store: Store
) -> None:
    """Both rows are equal in a real store; here they differ, so that the choice shows."""
    head = made_head(store, *TWO)
    twice = [
        {"content_digest": "d", "backbone_id": "ours", "embedding": vector(seed)} for seed in (1, 2)
    ]
    for rows in (twice, twice[::-1]):
        stored(store, schemas.EMBEDDINGS, rows)
        stored(store, schemas.EMBEDDINGS, rows[:1])
        stored_catalog(store, [catalog_row("i", "ok", "d")], "ours")
        folder = score_catalog.step(Workspace.open(spark, config))["scores"]
        score = pd.read_parquet(folder)["exclusion_score"].item()
        assert score == pytest.approx(min(slowly(head, seed)[1] for seed in (1, 2)), abs=2e-5)


def test_a_head_that_computes_other_golden_scores_on_a_worker_gives_no_scores(
    spark: SparkSession, config: Config, store: Store
) -> None:
    catalog = prepare(store)
    head = made_head(store, *TWO, name="altered")
    golden = GoldenImage("i", "d", "toilet", b"", vector(1), {"toilet": 0.5, "other": 0.5})
    wrong = replace(head, golden=(golden,))
    with pytest.raises(HeadError) as stopped:
        scores.write(Workspace.open(spark, config), catalog, wrong)
    doing = f"checking the head {head.head_id} on a worker, before its first batch"
    assert stopped.value.doing == doing
    assert store.runs(schemas.SCORES) == []


def test_a_head_for_another_backbone_is_refused(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    head = made_head(store, *TWO, backbone_id="another")
    with pytest.raises(HeadError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert str(stopped.value) == (
        "while scoring the catalog\n"
        "  expected: a head for the backbone ours, with which the catalog is embedded\n"
        f"  found:    the head {head.head_id} for the backbone another\n"
        "  do:       train a head on this backbone's embeddings, or set [backbone] to what the "
        "head was fitted on"
    )
    assert stopped.value.exit_code == 2
    assert not (Path(store.root) / "scores").exists()


def test_rescoring_refuses_such_a_head_before_it_reads_an_image(
    spark: SparkSession, make_config: Any, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    config = make_config({"score.head": tmp_path / "output" / "head"}, images=images)
    store = Store.open(config.output.root)
    made_head(store, *TWO, backbone_id="another")
    with pytest.raises(HeadError, match="for the backbone another"):
        rescore_catalog.step(Workspace.open(spark, config))
    assert sorted(path.name for path in Path(store.root).iterdir()) == ["_toiletspark.json", "head"]


# None is what Python keeps of a module that is not there: an import fails, and looking for it fails
# without one no
NO_TORCH = "import sys\nsys.modules.update(torch=None, torchvision=None)\n"


@pytest.mark.slow
def test_scoring_needs_no_torch(store: Store, tmp_path: Path) -> None:
    """In a process, and in workers, where torch cannot be imported."""
    prepare(store)
    head = made_head(store, *TWO)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(NO_TORCH)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'python'}:{REPOSITORY}"}
    without = subprocess.run(
        [sys.executable, "-c", "import torch"], env=environment, capture_output=True, check=False
    )
    assert b"ModuleNotFoundError: import of torch halted" in without.stderr
    command = [
        sys.executable,
        "-m",
        "toiletspark.jobs.cli",
        "score",
        "--conf",
        LOCAL_CONF,
        "--json",
    ]
    sets = [
        SMALL_SPARK,
        f"output.root={store.root}",
        f"score.head={store.root}/head",
        "spark.master=local[1]",
    ]
    command += [f"--set={text}" for text in sets]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["scored"] == IMAGES
    scores = pd.read_parquet(summary["scores"]).set_index("image_id")["exclusion_score"]
    assert scores["i07"] == pytest.approx(slowly(head, 7)[1], abs=2e-5)
