"""int8 behind its gate: what is near enough passes, and a bad conversion is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.backbones import section, spec
from toiletspark.config import Int8
from toiletspark.demo.rooms import ROOMS, draw_room
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Pixels, Preprocessing, preprocess
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head
from toiletspark.model.quantisation import (
    Int8Report,
    centred_cosines,
    compare,
    quantise,
    require_equivalent,
)
from toiletspark.model.runtimes import conversion
from toiletspark.model.spec import BackboneSpec

SMALL = {"resize_px": 72, "crop_px": 64}
LIMITS = section(precision="fp32").int8
Made = tuple[BackboneSpec, BackboneSpec, Int8Report]


def drawn(first: int, count: int) -> Pixels:
    """Drawn rooms, no two alike."""
    rooms = [
        draw_room(ROOMS[seed % len(ROOMS)], seed, (100, 80)) for seed in range(first, first + count)
    ]
    return np.stack([preprocess(room, Preprocessing(72, 64)) for room in rooms])


def limits(**changes: Any) -> Int8:
    return LIMITS.model_copy(update=changes)


def decided_by(backbone_id: str, direction: np.ndarray, bias: float) -> Head:
    weight = np.stack([direction, -direction]).astype(np.float32)
    return Head(
        ("toilet", "other"),
        ("toilet",),
        backbone_id,
        weight,
        np.array([-bias, bias], dtype=np.float32),
    )


@pytest.fixture(scope="module")
def made() -> Made:
    """fp32 and int8 with their programs, and the report."""
    torch_spec = spec(**SMALL)
    int8, report = quantise(torch_spec, drawn(0, 24), drawn(100, 12), LIMITS, None, 0.5)
    return conversion.compiled(replace(torch_spec, runtime="openvino")), int8, report


def test_int8_is_near_fp32_by_its_own_measure(made: Made) -> None:
    fp32, int8, report = made
    pixels = drawn(200, 4)
    wanted = Backbone(fp32).embed(pixels)
    result = Backbone(int8).embed(pixels)
    assert result.shape == wanted.shape
    assert not np.allclose(result, wanted, rtol=1e-4)  # it is another backbone
    assert (report.held_out_images, report.calibration_images, report.decisions_changed) == (
        12,
        24,
        None,
    )
    assert LIMITS.min_cosine <= report.min_cosine <= report.mean_cosine <= 1
    assert set(report.versions) == {"openvino", "nncf"}


def test_int8_is_a_smaller_program_under_an_id_of_its_own(made: Made) -> None:
    fp32, int8, _ = made
    assert len(int8.weights) < 0.3 * len(fp32.weights)
    assert (int8.runtime, int8.precision, int8.fp32_id) == ("openvino", "int8", fp32.backbone_id)
    assert (
        int8.backbone_id == f"{fp32.backbone_id.replace('fp32', 'int8')}-{int8.program_digest[:12]}"
    )


def test_a_backbone_agrees_with_itself(made: Made) -> None:
    fp32 = made[0]
    report = compare(
        fp32, fp32, drawn(100, 3), decided_by(fp32.backbone_id, np.ones(512), 1.0), 0.5
    )
    assert report.min_cosine == pytest.approx(1.0, abs=1e-5)
    assert report.decisions_changed == 0.0


def test_what_was_calibrated_on_black_pictures_is_refused() -> None:
    black = np.zeros((4, 64, 64, 3), dtype=np.uint8)
    torch_spec = spec(**SMALL)
    with pytest.raises(BackboneError) as caught:
        quantise(torch_spec, black, drawn(100, 6), LIMITS, None, 0.5)
    assert caught.value.doing == f"quantising the backbone {torch_spec.backbone_id} to int8"
    assert caught.value.expected.startswith(
        "a centred cosine to fp32 of at least 0.985 on average and 0.93 for"
    )
    assert caught.value.found.endswith("on 6 images")
    assert "set backbone.precision to fp32 or bf16" in caught.value.todo


def test_a_damaged_program_is_refused(made: Made) -> None:
    """A tenth of its constants overwritten: it runs, and says something else."""
    fp32, int8, _ = made
    size = len(int8.weights)
    damaged = replace(
        int8,
        weights=int8.weights[: size // 2]
        + bytes(size // 10)
        + int8.weights[size // 2 + size // 10 :],
    )
    report = compare(fp32, damaged, drawn(100, 6), None, 0.5)
    with pytest.raises(BackboneError, match="centred cosine"):
        require_equivalent(report, LIMITS)


def test_changed_decisions_are_refused_though_the_cosine_is_high(made: Made) -> None:
    """The head's border lies between the two embeddings of the first image."""
    fp32, int8, _ = made
    pixels = drawn(100, 12)
    wanted, result = (Backbone(one).embed(pixels[:1])[0] for one in (fp32, int8))
    moved = result - wanted
    head = decided_by(fp32.backbone_id, moved, float((result + wanted) / 2 @ moved))
    report = compare(fp32, int8, pixels, head, 0.5)
    assert report.decisions_changed >= 1 / 12
    assert report.head_id == head.head_id
    require_equivalent(report, limits(max_decisions_changed=1.0))
    with pytest.raises(BackboneError, match=r"of the decisions changed") as caught:
        require_equivalent(report, LIMITS)
    assert caught.value.found.endswith(
        f"on 12 images, {report.decisions_changed:.2%} of the decisions changed"
    )


def test_what_all_images_share_does_not_count_as_likeness() -> None:
    shared = np.full(512, 9.0)
    rng = np.random.default_rng(3)
    wanted, other = (
        np.abs(rng.normal(size=(20, 512)) + shared).astype(np.float32) for _ in range(2)
    )
    plain = (
        (wanted * other).sum(axis=1)
        / np.linalg.norm(wanted, axis=1)
        / np.linalg.norm(other, axis=1)
    )
    assert plain.min() > 0.98
    assert np.abs(centred_cosines(other, wanted)).max() < 0.3
    assert np.allclose(centred_cosines(wanted, wanted), 1.0, atol=1e-5)
    assert (centred_cosines(np.tile(wanted.mean(axis=0), (20, 1)), wanted) == 0).all()


@pytest.mark.parametrize("name", ["mean_cosine", "min_cosine"])
def test_a_cosine_that_is_no_number_is_refused(made: Made, name: str) -> None:
    report = replace(made[2], **{name: float("nan")})
    with pytest.raises(BackboneError):
        require_equivalent(report, LIMITS)
