"""A bundle with golden images, and six ways to tamper with it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.conftest import picture, vector
from toiletspark.images.decoding import Preprocessing
from toiletspark.model import bundle
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import storage

SPEC = BackboneSpec("resnet18", Preprocessing(256, 224, jpeg_scaling=True), b"", "ab" * 32)
CLASSES = ("toilet", "other")


def golden_head(spec: BackboneSpec = SPEC, images: int = 4, seed: int = 1) -> Head:
    """A head of chance that is sure of its golden images, as heads are that were trained."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.3, (2, 512)).astype(np.float32)
    made = [
        GoldenImage(
            f"g{number}",
            f"d{number}",
            CLASSES[number % 2],
            picture("toilet", number),
            vector(number),
        )
        for number in range(images)
    ]
    facts = {"backbone": spec.description, "operating_threshold": 0.5}
    bias = np.array([0.5, -0.5], np.float32)
    return Head(CLASSES, ("toilet",), spec.backbone_id, weight, bias, facts).with_golden(made)


class Payload:
    """The code that unpickling would run."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._marker,)


def marker(folder: str) -> Path:
    return Path(folder).parent / "payload-was-here"


def described(folder: str) -> dict[str, Any]:
    result = storage.read_json(f"{folder}/head.json")
    assert result is not None
    return result


def flipped_byte(folder: str) -> None:
    path = Path(folder) / "head.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40  # of an exponent
    path.write_bytes(content)


def pickle_payload(folder: str) -> None:
    (Path(folder) / "head.safetensors").write_bytes(pickle.dumps(Payload(marker(folder))))


def missing_key(folder: str) -> None:
    storage.replace_json(
        f"{folder}/head.json",
        {key: value for key, value in described(folder).items() if key != "classes"},
    )


def wrong_shape(folder: str) -> None:
    tensors = {"weight": np.ones((3, 512), np.float32), "bias": np.ones(3, np.float32)}
    storage.replace_bytes(f"{folder}/head.safetensors", safetensors.numpy.save(tensors))


def classes_swapped(folder: str) -> None:
    text = described(folder)
    storage.replace_json(f"{folder}/head.json", {**text, "classes": text["classes"][::-1]})


def other_mean_and_std(folder: str) -> None:
    text = described(folder)
    text["facts"]["backbone"]["preprocessing"] |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    storage.replace_json(f"{folder}/head.json", text)


TAMPERINGS: dict[str, Callable[[str], None]] = {
    tampering.__name__: tampering
    for tampering in (
        flipped_byte,
        pickle_payload,
        missing_key,
        wrong_shape,
        classes_swapped,
        other_mean_and_std,
    )
}


def with_its_own_id(folder: str) -> None:
    """Writes the id of the present files and seals them, like an attacker."""
    text = described(folder)
    tensors = safetensors.numpy.load((Path(folder) / "head.safetensors").read_bytes())
    head = Head(
        tuple(text["classes"]), tuple(text["exclude_classes"]), text["backbone_id"], **tensors
    )
    storage.replace_json(f"{folder}/head.json", {**text, "head_id": head.head_id})
    bundle.seal(folder)
