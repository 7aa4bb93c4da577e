"""The backbone: torchvision's embeddings by either runtime, under one identity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from tests.support.backbones import STANDARD, State, photos, real_weights, saved, spec, state_of
from toiletspark.demo.rooms import ROOMS, draw_room
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Pixels, preprocess
from toiletspark.model.backbone import Backbone, threads_of_task
from toiletspark.model.embedding_codec import from_stored, to_stored
from toiletspark.model.runtimes.conversion import compiled
from toiletspark.model.spec import BackboneSpec, RuntimeName


@pytest.fixture(scope="module")
def state() -> State:
    return state_of()


@pytest.fixture(scope="module")
def torch_spec(state: State, tmp_path_factory: pytest.TempPathFactory) -> BackboneSpec:
    return spec(saved(state, tmp_path_factory.mktemp("weights") / "resnet18.pth"))


@pytest.fixture(scope="module")
def specs(torch_spec: BackboneSpec) -> dict[RuntimeName, BackboneSpec]:
    return {"torch": torch_spec, "openvino": compiled(replace(torch_spec, runtime="openvino"))}


@pytest.fixture(scope="module", params=["torch", "openvino"])
def backbone(request: pytest.FixtureRequest, specs: dict[RuntimeName, BackboneSpec]) -> Backbone:
    return Backbone(specs[request.param], threads=2)


@pytest.fixture(scope="module")
def rooms() -> list[Image.Image]:
    return [draw_room(room, 5, (300 + 37 * number, 260)) for number, room in enumerate(ROOMS[:3])]


@pytest.fixture(scope="module")
def pixels(rooms: list[Image.Image]) -> Pixels:
    return np.stack([preprocess(room, STANDARD) for room in rooms])


def relative(embeddings: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, in parts of the largest value."""
    return float(np.abs(embeddings - wanted).max() / np.abs(wanted).max())


# Embeddings


def test_embeddings_are_those_of_torchvisions_network_and_transforms(
    backbone: Backbone, state: State, rooms: list[Image.Image], pixels: Pixels
) -> None:
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(state)
    network.fc = torch.nn.Identity()
    network.eval()
    transforms = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        expected = network(torch.stack([transforms(room) for room in rooms])).numpy()
    result = backbone.embed(pixels)
    assert (result.shape, result.dtype) == ((len(rooms), 512), np.float32)
    assert relative(result, expected) <= 1e-4
    assert (result >= 0).all()
    assert result.std(axis=0).mean() > 0.01  # and they tell pictures apart


def test_an_embedding_does_not_depend_on_its_neighbours(backbone: Backbone, pixels: Pixels) -> None:
    together = backbone.embed(pixels)
    alone = np.concatenate([backbone.embed(row[None]) for row in pixels])
    assert np.allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert np.allclose(backbone.embed(pixels[::-1].copy()), together[::-1], rtol=1e-5, atol=1e-5)
    beside_white = backbone.embed(np.stack([pixels[0], np.full_like(pixels[0], 255)]))
    assert np.allclose(beside_white[0], together[0], rtol=1e-5, atol=1e-5)


def test_embedding_moves_nothing_not_even_batch_norm(backbone: Backbone, pixels: Pixels) -> None:
    before = backbone.embed(pixels[:1])
    kept = before.copy()
    backbone.embed(np.full_like(pixels, 255))
    assert np.array_equal(before, kept)  # the runtime's memory is not handed out
    assert np.array_equal(backbone.embed(pixels[:1]), kept)


def test_a_backbone_is_rebuilt_from_its_spec_alone(
    torch_spec: BackboneSpec, pixels: Pixels
) -> None:
    other = replace(torch_spec, weights=bytes(bytearray(torch_spec.weights)))
    assert np.array_equal(Backbone(torch_spec).embed(pixels[:1]), Backbone(other).embed(pixels[:1]))


# Identity


def test_fp32_runtimes_share_an_id_because_their_embeddings_agree(
    specs: dict[RuntimeName, BackboneSpec],
) -> None:
    """On pictures, noise, and the extremes; see below for real weights and photos."""
    ids = {one.backbone_id for one in specs.values()}
    assert len(ids) == 1
    noise = np.random.default_rng(4).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    drawn = np.stack(
        [preprocess(draw_room(room, seed, (320, 240)), STANDARD) for seed, room in enumerate(ROOMS)]
    )
    plain = np.stack([np.zeros_like(noise[0]), np.full_like(noise[0], 255)])
    everything = np.concatenate([noise, drawn, plain])
    result = {name: Backbone(one, threads=2).embed(everything) for name, one in specs.items()}
    for row, wanted in zip(result["openvino"], result["torch"], strict=True):
        assert relative(row, wanted) <= 1e-4


def test_a_precision_has_an_id_of_its_own_and_int8_one_for_each_program(
    torch_spec: BackboneSpec,
) -> None:
    programs = [
        replace(torch_spec, precision="int8", program=program, weights=b"w")
        for program in (b"<a/>", b"<b/>")
    ]
    ids = {torch_spec.backbone_id, replace(torch_spec, precision="bf16").backbone_id}
    ids |= {program.backbone_id for program in programs} | {
        replace(programs[0], weights=b"v").backbone_id
    }
    assert len(ids) == 5
    assert programs[0].backbone_id.startswith(torch_spec.backbone_id.replace("fp32", "int8-"))
    assert {one.fp32_id for one in programs} == {torch_spec.backbone_id}


def test_int8_has_no_id_before_its_calibration(torch_spec: BackboneSpec) -> None:
    with pytest.raises(BackboneError) as caught:
        _ = replace(torch_spec, precision="int8", runtime="openvino").backbone_id
    assert str(caught.value) == (
        f"while preparing the backbone {torch_spec.backbone_id.replace('fp32', 'int8')}\n"
        "  expected: a program that was quantised on the catalog's own images\n"
        "  found:    none\n"
        "  do:       run `toiletspark embed` with the same configuration first; it calibrates"
    )


@pytest.mark.parametrize("changes", [{"runtime": "openvino"}, {"program": b"<net/>"}])
def test_a_spec_that_was_not_compiled_is_not_started(
    torch_spec: BackboneSpec, changes: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"compiled\(spec\)"):
        Backbone(replace(torch_spec, **changes))


# Storage


def test_stored_embeddings_come_back_within_float16() -> None:
    rng = np.random.default_rng(2)
    embeddings = (rng.gamma(1, 1, (50, 512)) * 10.0 ** rng.integers(-3, 3, (50, 1))).astype(
        np.float32
    )
    stored = to_stored(embeddings)
    assert [len(row) for row in stored] == [1024] * 50
    back = from_stored(b"".join(stored), len(stored))
    assert (back.dtype, back.shape) == (np.float32, (50, 512))
    assert (np.abs(back - embeddings) <= np.maximum(embeddings * 2**-11, 2**-25)).all()
    assert to_stored(np.array([[1.0, 2.0]], dtype=np.float32)) == [b"\x00\x3c\x00\x40"]
    assert to_stored(back) == stored


@pytest.mark.parametrize("value", [np.nan, np.inf, 65520.0, -1e9])
def test_what_float16_cannot_hold_is_refused(value: float) -> None:
    embeddings = np.ones((2, 4), dtype=np.float32)
    embeddings[1, 2] = value
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="an embedding exceeds float16"):
        to_stored(embeddings)


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("0", 1), ("", 1), (None, 1)])
def test_a_task_uses_the_threads_that_spark_gives_it(
    text: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_of_task() == threads


# Real weights


@pytest.fixture(scope="module")
def real() -> dict[RuntimeName, Backbone]:
    there = spec(real_weights())
    both = {"torch": there, "openvino": compiled(replace(there, runtime="openvino"))}
    return {name: Backbone(one, threads=2) for name, one in both.items()}


def test_runtimes_agree_on_real_weights_and_photos(real: dict[RuntimeName, Backbone]) -> None:
    bathrooms = photos("bathroom", 8)
    for row, wanted in zip(
        real["openvino"].embed(bathrooms), real["torch"].embed(bathrooms), strict=True
    ):
        assert relative(row, wanted) <= 1e-4


def test_real_weights_tell_kitchens_from_frontal_photos(real: dict[RuntimeName, Backbone]) -> None:
    """By the nearest mean of six photos a room, on six others."""
    embeddings = {kind: real["openvino"].embed(photos(kind, 12)) for kind in ("kitchen", "frontal")}
    means = np.stack([embeddings[kind][:6].mean(axis=0) for kind in embeddings])
    right = 0
    for index, kind in enumerate(embeddings):
        distances = np.linalg.norm(embeddings[kind][6:, None] - means[None], axis=2)
        right += int((distances.argmin(axis=1) == index).sum())
    assert right >= 11
