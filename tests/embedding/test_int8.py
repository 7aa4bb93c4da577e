"""Calibration on the cluster: which images, the same program for ever, and no image read to find it
again.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.conftest import picture
from toiletspark.config import Config
from toiletspark.embedding import int8
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import decode
from toiletspark.model.weights import load_spec
from toiletspark.tables.runs import Store

MakeConfig = Callable[..., Config]
ROOMS = ("exterior", "kitchen", "toilet")
INT8 = {
    "backbone.runtime": "openvino",
    "backbone.precision": "int8",
    "backbone.int8.calibration_images": 20,
}


def table(
    spark: SparkSession, contents: list[bytes | None], urls: list[str | None] | None = None
) -> DataFrame:
    rows = [
        (f"i{number}", (urls or [None] * len(contents))[number], one)
        for number, one in enumerate(contents)
    ]
    return spark.createDataFrame(rows, "image_id string, image_url string, content binary")


@pytest.fixture(scope="module")
def pictures() -> list[bytes | None]:
    return [picture(ROOMS[seed % 3], seed) for seed in range(24)]


def test_images_are_drawn_by_hash_whatever_the_layout(
    spark: SparkSession, pictures: list[bytes | None]
) -> None:
    images = table(spark, pictures)
    drawn = [
        {row.image_id for row in int8.choose_images(layout, 10, seed).collect()}
        for layout, seed in (
            (images.repartition(3), 1),
            (images.coalesce(1).orderBy("image_url"), 1),
            (images, 2),
        )
    ]
    assert [len(ids) for ids in drawn] == [10, 10, 10]
    assert drawn[0] == drawn[1] != drawn[2]


def test_pixels_are_those_of_the_one_preprocessing_and_bad_images_are_left_out(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, pictures: list[bytes | None]
) -> None:
    config = make_config()
    sizes = load_spec(config.backbone).preprocessing
    path = tmp_path / "one.jpg"
    path.write_bytes(pictures[0] or b"")
    contents = [None, pictures[0], b"no image", None, pictures[1]]
    images = table(spark, contents, [str(path), None, None, str(tmp_path / "none.jpg"), None])
    result = int8.decode_images(images, config.fetch, config.decode, sizes)
    wanted = [one.pixels for one in decode([c for c in pictures[:2] if c], config.decode, sizes)]
    assert len(result) == 2  # equal contents once
    assert list(result) == sorted(result)
    assert {image.tobytes() for image in result.values()} == {
        image.tobytes() for image in wanted if image is not None
    }


def test_the_halves_follow_from_content_and_share_nothing(make_config: MakeConfig) -> None:
    section = make_config().backbone.int8
    images = {
        f"digest {number}": np.full((2, 2, 3), number, dtype=np.uint8) for number in range(200)
    }
    used, held = int8.split(images, section)
    assert len(used) + len(held) == 200
    assert abs(len(held) / 200 - section.held_out_share) < 0.1
    assert not {row.tobytes() for row in used} & {row.tobytes() for row in held}
    again = int8.split({key: images[key] for key in list(images)[:150]}, section)[1]
    assert {row.tobytes() for row in again} <= {row.tobytes() for row in held}


def test_too_few_sound_images_are_told(make_config: MakeConfig) -> None:
    images = {str(number): np.zeros((2, 2, 3), dtype=np.uint8) for number in range(3)}
    with pytest.raises(BackboneError, match="at least 2 to calibrate on and 2 others to compare"):
        int8.split(images, make_config().backbone.int8)


def test_a_program_is_made_once_and_found_again_without_images(
    spark: SparkSession, make_config: MakeConfig, pictures: list[bytes | None]
) -> None:
    config = make_config(
        INT8, images=pd.DataFrame({"image_id": ["a"], "listing_id": ["L1"], "image_url": ["a.jpg"]})
    )
    store = Store.open(config.output.root)
    spec = load_spec(config.backbone)
    assert int8.read_program(store, spec) is None
    made = int8.calibrate(store, config, table(spark, pictures), spec)
    assert int8.read_program(store, spec) == made
    assert int8.read_program(store, replace(spec, precision="fp32", runtime="torch")) == made

    folder = Path(store.root) / "backbones" / spec.fp32_id / f"int8-{made.program_digest[:12]}"
    assert {path.name for path in folder.iterdir()} == {
        "program.xml",
        "program.bin",
        "quantisation.json",
    }
    described = folder / "quantisation.json"
    facts = described.read_text()
    assert made.backbone_id in facts
    described.unlink()
    assert int8.read_program(store, spec) is None  # without its last file it does not exist
    described.write_text(facts)
    (folder / "program.bin").write_bytes(made.weights[:-1] + b"\x01")
    with pytest.raises(BackboneError, match="reading the int8 program"):
        int8.read_program(store, spec)
