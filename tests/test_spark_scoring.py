"""Decide for ever: scores are the head's on the stored embeddings, without reading an image and without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs import rescore_catalog, score_catalog
from tests.conftest import LOCAL_CONF, REPOSITORY, SMALL_SPARK, drawn_images, stored, vector
from toiletspark import conf_files, frames, origins, scoring, session, tables
from toiletspark.config import Config
from toiletspark.errors import HeadError, OutputError
from toiletspark.head import Head
from toiletspark.refusals import Refusals
from toiletspark.runs import Run, Store

IMAGES, CONTENTS = 40, 25  # contents 0 to 14 are shown twice
TWO = (("toilet", "other"), ("toilet",))
THREE = (("kitchen", "toilet", "bathroom"), ("toilet", "bathroom"))


def made_head(
    store: Store, classes: tuple[str, ...], exclude: tuple[str, ...], backbone_id: str = "ours", name: str = "head"
) -> Head:
    """A head of chance in <root>/<name>."""
    rng = np.random.default_rng([len(classes), *name.encode()])
    weight = rng.normal(scale=0.1, size=(len(classes), 512)).astype(np.float32)
    head = Head(classes, exclude, backbone_id, weight, rng.normal(size=len(classes)).astype(np.float32))
    head.save(f"{store.root}/{name}")
    return head


@pytest.fixture
def config(tmp_path: Path) -> Config:
    root = tmp_path / "output"
    return conf_files.load([LOCAL_CONF], [SMALL_SPARK, f"output.root={root}", f"score.head={root}/head"])


def found(image_id: str, status: str, digest: str | None) -> dict[str, Any]:
    """A row of the catalog."""
    return {"image_id": image_id, "listing_id": f"L{image_id}", "status": status, "content_digest": digest}


def embedded_catalog(store: Store, rows: list[dict[str, Any]]) -> Run:
    """A catalog as `embed` leaves it."""
    sound = sum(row["status"] == "ok" for row in rows)
    return stored(store, tables.CATALOG, rows, inputs={"backbone_id": "ours"}, counts={"sound": sound})


def prepare(store: Store) -> Run:
    """A catalog that was embedded, with repeated contents, two images without a score, and another backbone's rows."""
    catalog = [found(f"i{number:02}", "ok", f"digest-{number % CONTENTS}") for number in range(IMAGES)]
    catalog += [found("gone", "missing", None), found("bad", "truncated", "digest-bad")]
    seen = embedded_catalog(store, catalog)
    ours = [
        {"content_digest": f"digest-{number}", "backbone_id": "ours", "embedding": vector(number)}
        for number in range(CONTENTS)
    ]
    others = [{**row, "backbone_id": "another", "embedding": vector(1000)} for row in ours]
    stored(store, tables.EMBEDDINGS, ours[:20] + others)
    stored(store, tables.EMBEDDINGS, ours[18:])  # two of them a second time, as after a run that broke
    stored(store, tables.EMBEDDINGS, [])
    return seen


def slowly(head: Head, number: int) -> tuple[list[float], float]:
    """Probabilities and exclusion score of one content, one number after another."""
    embedding = np.frombuffer(vector(number), dtype="<f2").astype(float)
    logits = [sum(w * e for w, e in zip(row, embedding, strict=True)) for row in head.weight.astype(float)]
    logits = [logit + bias for logit, bias in zip(logits, head.bias.astype(float), strict=True)]
    powers = [np.exp(logit) for logit in logits]
    shares = [power / sum(powers) for power in powers]
    return shares, sum(share for share, name in zip(shares, head.classes, strict=True) if name in head.exclude_classes)


@pytest.mark.parametrize(("classes", "exclude"), [TWO, THREE])
def test_scores_are_the_heads_on_the_stored_embeddings(
    spark: SparkSession, config: Config, store: Store, classes: tuple[str, ...], exclude: tuple[str, ...]
) -> None:
    seen = prepare(store)
    head = made_head(store, classes, exclude)
    told = score_catalog.step(spark, config)
    rows = pd.read_parquet(told["scores"]).sort_values("image_id").reset_index(drop=True)
    columns = [f"p_{name}" for name in classes]
    assert list(rows.columns) == [*tables.SCORES.columns, *columns]
    assert list(rows["image_id"]) == [f"i{number:02}" for number in range(IMAGES)]  # each once, none without embedding
    assert list(rows["listing_id"]) == [f"Li{number:02}" for number in range(IMAGES)]
    assert set(rows["head_id"]) == {head.head_id}
    for number, row in rows.iterrows():
        shares, score = slowly(head, int(number) % CONTENTS)
        np.testing.assert_allclose(row[columns].astype(float), shares, atol=2e-5)
        assert row["exclusion_score"] == pytest.approx(score, abs=2e-5)
        assert row["content_digest"] == f"digest-{int(number) % CONTENTS}"
    np.testing.assert_allclose(rows[columns].sum(axis=1), 1, atol=1e-5)
    assert rows["exclusion_score"].nunique() == CONTENTS
    assert told == {"images": 42, "scored": 40, "head_id": head.head_id, "scores": told["scores"]}
    newest = store.newest(tables.SCORES)
    assert newest is not None
    assert newest.manifest["inputs"] == {"catalog": seen.run_id, "head_id": head.head_id, "backbone_id": "ours"}


def test_several_heads_in_one_pass_give_the_scores_of_each_alone(
    spark: SparkSession, config: Config, store: Store
) -> None:
    """Whatever their classes; the head whose scores are published is the newest run."""
    prepare(store)
    chosen = made_head(store, *TWO)
    others = [made_head(store, *classes, name=name) for name, classes in (("three", THREE), ("two", TWO))]
    alone = {
        head.head_id: score_catalog.step(spark, with_heads(config, name))
        for head, name in zip([*others, chosen], ["three", "two", "head"], strict=True)
    }
    told = score_catalog.step(spark, with_heads(config, "head", "three", "two"))
    assert (told["head_id"], told["scored"]) == (chosen.head_id, IMAGES)
    together = {**told["more_scores"], told["head_id"]: told["scores"]}
    assert set(together) == set(alone) == {head.head_id for head in [*others, chosen]}
    assert "more_scores" not in alone[chosen.head_id]
    for head_id, folder in together.items():
        one, same = (pd.read_parquet(path).sort_values("image_id") for path in (alone[head_id]["scores"], folder))
        pd.testing.assert_frame_equal(one.reset_index(drop=True), same.reset_index(drop=True))
    newest = store.newest(tables.SCORES)
    assert newest is not None
    assert newest.folder == told["scores"]
    assert newest.manifest["inputs"]["head_id"] == chosen.head_id
    compared = {run.folder: run.manifest["inputs"].get("compared") for run in store.runs(tables.SCORES)}
    assert {folder: compared[folder] for folder in together.values()} == {
        told["scores"]: None,
        **dict.fromkeys(told["more_scores"].values(), True),
    }
    assert not (Path(store.root) / "_work").exists() or not any((Path(store.root) / "_work").iterdir())


def test_the_scores_of_a_head_to_compare_with_are_not_published_where_scoring_was_broken_off(
    spark: SparkSession, config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store)
    chosen, other = made_head(store, *TWO), made_head(store, *THREE, name="three")
    before = score_catalog.step(spark, with_heads(config, "head"))
    score_catalog_of = scoring.score_catalog

    def killed(images: Any, scored: Any, head: Head) -> Any:
        if head.head_id == chosen.head_id:
            raise OSError("killed")
        return score_catalog_of(images, scored, head)

    monkeypatch.setattr(scoring, "score_catalog", killed)
    with pytest.raises(OSError, match="killed"):
        score_catalog.step(spark, with_heads(config, "head", "three"))
    assert store.runs(tables.SCORES)[-1].manifest["inputs"]["head_id"] == other.head_id
    assert origins.newest(store).scores.folder == before["scores"]


def with_heads(config: Config, head: str, *more: str) -> Config:
    folders = [f"{config.output.root}/{name}" for name in (head, *more)]
    score = config.score.model_copy(update={"head": folders[0], "more_heads": folders[1:], "rows_per_batch": 7})
    return config.model_copy(update={"score": score})


@pytest.mark.parametrize("rows", [1, 4096])
def test_a_pass_over_the_embeddings_leaves_none_out(spark: SparkSession, store: Store, rows: int) -> None:
    """Files of several row groups, of which those of another backbone leave parts of a batch, or nothing."""
    run_id = "20260101T000000000000Z-aaaa"
    folder = Path(store.folder(tables.EMBEDDINGS, run_id))
    folder.mkdir(parents=True)
    mixed = [
        {
            "content_digest": str(number),
            "backbone_id": ["ours", "another"][number % 3 == 1],
            "embedding": vector(number),
        }
        for number in range(50)
    ] + [{"content_digest": f"x{number}", "backbone_id": "another", "embedding": vector(0)} for number in range(25)]
    pq.write_table(pa.Table.from_pylist(mixed), folder / "part-0.parquet", row_group_size=11)
    store.commit(tables.EMBEDDINGS, run_id, config={}, inputs={})
    head = made_head(store, *THREE)
    broadcast = spark.sparkContext.broadcast([head])
    with session.arrow_batches(spark, rows):
        scored = scoring.score_embeddings(
            frames.read_all(spark, store, tables.EMBEDDINGS), broadcast, Refusals(spark.sparkContext)
        )
        kept = scoring.of_head(scored, 0, head).toPandas()
    assert sorted(kept["content_digest"], key=int) == [str(number) for number in range(50) if number % 3 != 1]
    for row in kept.itertuples():
        assert row.exclusion_score == pytest.approx(slowly(head, int(row.content_digest))[1], abs=2e-5)


def test_a_sound_image_without_an_embedding_stops_the_scoring(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    score_catalog.step(spark, config)
    before = [run.run_id for run in store.runs(tables.SCORES)]
    more = [found("i00", "ok", "digest-0"), found("lost", "ok", "digest-lost"), found("gone", "missing", None)]
    seen = embedded_catalog(store, more)
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(spark, config)
    assert str(stopped.value) == (
        "while scoring the catalog\n"
        f"  expected: an embedding for each of the 2 sound images of the catalog {seen.run_id}\n"
        "  found:    1 scores\n"
        "  do:       run `toiletspark embed` (or `rescore`) again; it embeds what is missing"
    )
    assert [run.run_id for run in store.runs(tables.SCORES)] == before


def test_a_content_that_stands_twice_does_not_make_up_for_one_that_is_missing(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    embedded_catalog(store, [found("twice", "ok", "digest-18"), found("lost", "ok", "digest-lost")])
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(spark, config)
    assert stopped.value.found == "1 scores"
    assert store.runs(tables.SCORES) == []


def test_contents_that_stand_twice_are_looked_for_once_they_were_met(
    spark: SparkSession, config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store)
    made_head(store, *TWO)
    written: list[str] = []
    write_files = frames.write_files

    def counted(frame: Any, store: Store, table: tables.Table, run_id: str) -> str:
        written.append(run_id)
        return write_files(frame, store, table, run_id)

    monkeypatch.setattr(frames, "write_files", counted)
    first = score_catalog.step(spark, config)
    assert (len(written), first["scored"]) == (2, IMAGES)
    again = score_catalog.step(spark, config)
    assert (len(written), again["scored"]) == (3, IMAGES)
    folders = sorted((Path(store.root) / tables.SCORES.name).iterdir())
    assert [str(folder) for folder in folders] == [first["scores"], again["scores"]]  # nothing is left of the first try


def test_a_store_in_which_every_content_stands_once_is_written_once(
    spark: SparkSession, config: Config, store: Store
) -> None:
    embedded_catalog(store, [found(f"i{number}", "ok", f"digest-{number % 2}") for number in range(4)])
    rows = [
        {"content_digest": f"digest-{number}", "backbone_id": "ours", "embedding": vector(number)} for number in (0, 1)
    ]
    stored(store, tables.EMBEDDINGS, rows)
    made_head(store, *TWO)
    assert score_catalog.step(spark, config)["scored"] == 4
    newest = store.newest(tables.SCORES)
    assert newest is not None
    assert newest.manifest["counts"] == {"images": 4, "content_twice": False}


@pytest.mark.parametrize("embedded", [0, 3])
def test_a_catalog_without_a_sound_image_has_no_scores(
    spark: SparkSession, config: Config, store: Store, embedded: int
) -> None:
    embedded_catalog(store, [found("gone", "missing", None), found("bad", "truncated", "digest-1")])
    rows = [{"content_digest": f"digest-{n}", "backbone_id": "ours", "embedding": vector(n)} for n in range(embedded)]
    if rows:
        stored(store, tables.EMBEDDINGS, rows)
    made_head(store, *TWO)
    told = score_catalog.step(spark, config)
    assert (told["images"], told["scored"]) == (2, 0)


def test_a_catalog_whose_rows_its_manifest_does_not_count_is_refused(
    spark: SparkSession, config: Config, store: Store
) -> None:
    prepare(store)
    made_head(store, *TWO)
    stored(
        store, tables.CATALOG, [found("i00", "ok", "digest-0")] * 2, inputs={"backbone_id": "ours"}, counts={"sound": 1}
    )
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(spark, config)
    assert stopped.value.found == "2 scores"
    assert store.runs(tables.SCORES) == []


def test_a_catalog_of_an_earlier_version_is_told(spark: SparkSession, config: Config, store: Store) -> None:
    prepare(store)
    made_head(store, *TWO)
    stored(store, tables.CATALOG, [found("i00", "ok", "digest-0")], inputs={"backbone_id": "ours"})
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(spark, config)
    assert stopped.value.expected.startswith("a catalog whose manifest counts its sound images (")
    assert stopped.value.todo == "run `toiletspark embed` again: it makes a new one, and embeds nothing twice"


def test_scoring_before_embedding_names_the_step(spark: SparkSession, config: Config, store: Store) -> None:
    made_head(store, *TWO)
    with pytest.raises(OutputError) as stopped:
        score_catalog.step(spark, config)
    assert stopped.value.found == "none"
    assert stopped.value.todo == "run `toiletspark embed` with the same configuration first"


def test_a_head_for_another_backbone_is_refused(spark: SparkSession, config: Config, store: Store) -> None:
    prepare(store)
    head = made_head(store, *TWO, backbone_id="another")
    with pytest.raises(HeadError) as stopped:
        score_catalog.step(spark, config)
    assert str(stopped.value) == (
        "while scoring the catalog\n"
        "  expected: a head for the backbone ours, with which the catalog is embedded\n"
        f"  found:    the head {head.head_id} for the backbone another\n"
        "  do:       train a head on this backbone's embeddings, or set [backbone] to what the head was fitted on"
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
        rescore_catalog.step(spark, config)
    assert sorted(path.name for path in Path(store.root).iterdir()) == ["_toiletspark.json", "head"]


# None is what Python keeps of a module that is not there: an import fails, and who only asks for it is told no
NO_TORCH = "import sys\nsys.modules.update(torch=None, torchvision=None)\n"


@pytest.mark.slow
def test_scoring_needs_no_torch(store: Store, tmp_path: Path) -> None:
    """In a process, and in workers, where torch cannot be imported."""
    prepare(store)
    head = made_head(store, *TWO)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(NO_TORCH)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'python'}:{REPOSITORY}"}
    without = subprocess.run([sys.executable, "-c", "import torch"], env=environment, capture_output=True, check=False)
    assert b"ModuleNotFoundError: import of torch halted" in without.stderr
    command = [sys.executable, "-m", "toiletspark.cli", "score", "--conf", LOCAL_CONF, "--json"]
    sets = [SMALL_SPARK, f"output.root={store.root}", f"score.head={store.root}/head", "spark.master=local[1]"]
    command += [part for text in sets for part in ("--set", text)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["scored"] == IMAGES
    scores = pd.read_parquet(told["scores"]).set_index("image_id")["exclusion_score"]
    assert scores["i07"] == pytest.approx(slowly(head, 7)[1], abs=2e-5)
