"""Altered files of a head's bundle, often sealed again so that digests do not reveal it."""

from __future__ import annotations

import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import strategies as st

from tests.fuzzing import altered
from tests.fuzzing.altered import Draw
from tests.support.bundles import SPEC
from toiletspark.hashing import content_digest
from toiletspark.model import bundle
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head

_DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I8", "BOOL", "U8", "X", "", None, 4)
_NUMBERS = (0.0, -1.0, 1e38, 65504.0, 1e-45, float("nan"), float("inf"))


@cache
def sound() -> dict[str, bytes]:
    """A bundle of a head for embeddings of four numbers, with two golden images."""
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 0.3, (2, 4)).astype(np.float32)
    bias = np.zeros(2, np.float32)
    golden = [
        GoldenImage(f"g{number}", f"d{number}", "other", b"no picture", np.ones(4, "<f2").tobytes())
        for number in range(2)
    ]
    facts = {"backbone": SPEC.description, "operating_threshold": 0.5}
    head = Head(
        ("toilet", "other"), ("toilet",), SPEC.backbone_id, weight, bias, facts
    ).with_golden(golden)
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(folder, head)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@st.composite
def files(draw: Draw) -> dict[str, bytes]:
    """A bundle with a file altered, removed or added; half of them sealed again."""
    made = dict(sound())
    for _ in range(draw(st.integers(0, 2))):
        _alter(draw, made)
    if draw(st.booleans()):
        _give_its_own_id(made)
    if draw(st.integers(0, 3)):
        entries = {
            name: content_digest(content)
            for name, content in sorted(made.items())
            if name != "bundle.json"
        }
        made["bundle.json"] = json.dumps({"format": 1, "files": entries}).encode()
    if not draw(st.integers(0, 3)):
        made["bundle.json"] = draw(altered.json_bytes(json.loads(sound()["bundle.json"])))
    if not draw(st.integers(0, 7)):
        made["sub/inner"] = b""  # a folder where a file may be listed
        sealed = json.loads(sound()["bundle.json"])
        made["bundle.json"] = json.dumps(
            {**sealed, "files": {**sealed["files"], "sub": "0" * 64}}
        ).encode()
    return made


def _alter(draw: Draw, made: dict[str, bytes]) -> None:
    kind = draw(st.sampled_from(["head", "weights", "tensors", "golden", "bytes", "remove"]))
    if kind == "head":
        made["head.json"] = draw(altered.json_bytes(json.loads(sound()["head.json"])))
    elif kind in ("weights", "golden"):
        name = "head.safetensors" if kind == "weights" else "golden.safetensors"
        made[name] = draw(tensor_files(sound()[name]))
    elif kind == "tensors":
        made["head.safetensors"] = draw(arrays())
    elif made:
        name = draw(st.sampled_from(sorted(made)))
        if kind == "remove":
            del made[name]
        else:
            made[name] = draw(altered.data([made[name]], most=3))


@st.composite
def tensor_files(draw: Draw, content: bytes) -> bytes:
    """A safetensors file whose header says something else of the same numbers."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    for described in header.values():
        if draw(st.booleans()):
            described["dtype"] = draw(st.sampled_from(_DTYPES))
        if draw(st.booleans()):
            described["shape"] = draw(
                st.lists(st.sampled_from([0, 1, 2, 4, 8, 2**31, 2**63, -1]), max_size=4)
            )
        if draw(st.booleans()):
            described["data_offsets"] = draw(
                st.lists(st.sampled_from([0, 8, 32, 40, 2**40, -8]), max_size=3)
            )
    summary = draw(altered.json_bytes(header))
    size = draw(st.sampled_from([len(summary), len(summary), len(summary) - 1, 0, 2**32, 2**63]))
    return struct.pack("<Q", max(size, 0)) + summary + content[8 + length :]


@st.composite
def arrays(draw: Draw) -> bytes:
    """A sound safetensors file of other tensors, or of tensors with other shapes and numbers."""
    names = draw(
        st.lists(
            st.sampled_from(["weight", "bias", "classes", "golden", "facts", "more", ""]),
            max_size=4,
        )
    )
    made: dict[str, Any] = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    for name in names:
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=3))
        kind = draw(
            st.sampled_from([np.float32, np.float32, np.float64, np.float16, np.int64, np.bool_])
        )
        number = draw(st.sampled_from(_NUMBERS))
        made[name] = np.full(shape, number if np.issubdtype(kind, np.floating) else 1, kind)
    return safetensors.numpy.save(made)


def _give_its_own_id(made: dict[str, bytes]) -> None:
    """Writes the id that belongs to what is there now, where that is a head at all."""
    try:
        text = json.loads(made["head.json"])
        tensors = safetensors.numpy.load(made["head.safetensors"])
        classes, excluded = tuple(text["classes"]), tuple(text["exclude_classes"])
        head = Head(classes, excluded, text["backbone_id"], tensors["weight"], tensors["bias"])
        made["head.json"] = json.dumps({**text, "head_id": head.head_id}).encode()
    except Exception:  # noqa: BLE001 - then it has none
        return
