"""Tests that need a GPU, skipped without one. Other files run the same code on the CPU."""

import io
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support import backbones
from toiletspark.config.loading import load
from toiletspark.demo.rooms import draw_room
from toiletspark.images.decoding import Pixels
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes.torch_runtime import without_final_layer
from toiletspark.progress import Progress
from toiletspark.training.finetune_loop import Pictures, Tuned, tune
from toiletspark.training.fit import FinalLayer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Drawn rooms, (24, 224, 224, 3)."""
    rooms = [
        np.asarray(draw_room(kind, seed, (224, 224)))
        for kind, seed in itertools.product(("kitchen", "toilet"), range(12))
    ]
    return np.stack(rooms)


def embedded(pixels: Pixels, device: str = "", **changes: str) -> NDArray[np.float32]:
    return Backbone(backbones.spec(**changes), threads=2, device=device).embed(pixels)


def test_fp32_is_the_cpus_backbone(pixels: Pixels) -> None:
    result, wanted = embedded(pixels), embedded(pixels, "cpu")
    assert np.abs(result - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_bf16_is_another_backbone_and_nearly_the_same(pixels: Pixels) -> None:
    result, wanted = embedded(pixels, precision="bf16"), embedded(pixels)
    assert not np.array_equal(result, wanted)
    assert (
        (result * wanted).sum(axis=1)
        / np.linalg.norm(result, axis=1)
        / np.linalg.norm(wanted, axis=1)
    ).min() > 0.999


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A GPU on which a few hundred images do not fit at once."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 600e6 / total))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_embedded_in_parts(
    pixels: Pixels, little_memory: None
) -> None:
    many = np.resize(pixels, (480, *pixels.shape[1:]))
    before = torch.cuda.memory_stats().get("num_ooms", 0)
    result = embedded(many)
    assert torch.cuda.memory_stats()["num_ooms"] > before
    np.testing.assert_allclose(result[:24], embedded(pixels), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result[-24:], result[:24], rtol=1e-3, atol=1e-4)


def tuned(pixels: Pixels, device: str) -> Tuned:
    labels = np.repeat([0, 1], 12)
    rows = np.arange(24)
    given = Pictures(
        pixels.copy(), labels.astype(np.int64), rows[rows % 4 != 0], rows[rows % 4 == 0]
    )
    settings = load(sets=["finetune.images_per_batch=6", "finetune.epochs=3"]).finetune
    torch.manual_seed(3)
    network = without_final_layer("resnet18").eval()
    start = FinalLayer(np.zeros((2, 512), np.float32), np.zeros(2, np.float32), 1.0, 1.0, 0, None)
    progress = Progress("fine-tuning", 54, "images", 60.0, io.StringIO())
    return tune(
        network, start, given, False, settings, 7, torch.device(device), progress, lambda *_: None
    )


def test_fine_tuning_in_mixed_precision_learns_what_the_cpu_learns_and_repeats(
    pixels: Pixels,
) -> None:
    one, again, cpu = tuned(pixels, "cuda"), tuned(pixels, "cuda"), tuned(pixels, "cpu")
    assert one.best > 0
    assert one.losses == again.losses
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in one.state.items())
    assert all(tensor.device.type == "cpu" for tensor in one.state.values())
    np.testing.assert_allclose(one.losses, cpu.losses, rtol=0.01)
