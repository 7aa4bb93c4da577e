"""Golden images: a few of the labelled ones, by which a machine shows that it sees and decides as the trained head did.

They travel in the head's bundle, as JPEGs made anew from the pixels, so that nothing of a stranger's file goes along,
with the embedding and the scores that were right where the head was trained. Numpy and Pillow; torch only if the
backbone brings it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from toiletspark.config import Decode
from toiletspark.errors import BackboneError
from toiletspark.hashing import hash_fraction
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.spec import BackboneSpec

# |found - kept| / |kept| of one image's embeddings. Between what the same backbone has given on other runtimes and
# kernels (0.00007, 0.018, 0.010) and the nearest of what is another one: fp32 run in bf16 0.0056, int8 run in fp32
# 0.043, JPEG scaling off 0.080, resized to 257 px 0.083. `python -m benchmarks.golden`, benchmarks/LOG.md
MAX_DISTANCE = {"fp32": 0.003, "bf16": 0.04, "int8": 0.03}
# nvJPEG stands in for libjpeg on GPUs, and workers without one go on with libjpeg: pixels that are one apart gave 0.030
# (median). Not measured on a GPU
_MOST_WITH_NVJPEG = 0.06
JPEG_QUALITY = 90


@dataclass(frozen=True)
class GoldenImage:
    """One labelled image with what is right for it.

    Attributes:
        image_id: whose picture it is.
        content_digest: of the file that was labelled; the JPEG is another one.
        label: its class.
        jpeg: the picture, made anew.
        embedding: of that JPEG, as it is stored: little-endian float16.
        scores: probability by class name, [0, 1]; {} before there is a head.
    """

    image_id: str
    content_digest: str
    label: str
    jpeg: bytes
    embedding: bytes
    scores: dict[str, float] = field(default_factory=dict)


def side_px(resize_px: int) -> int:
    """The longer side of golden JPEGs: so that JPEG scaling is at work in all that are not longer than 3 : 2."""
    return 3 * resize_px


def choose(
    labelled: Iterable[tuple[str, str, str]], count: int, seed: int
) -> list[tuple[str, str, str]]:
    """Whose pictures become golden: class by class in turn, in each by hash of the content.

    Args:
        labelled: image_id, content_digest and label, in any order.
        count: how many at most.
        seed: another one draws others.

    Returns:
        Of each content one image, the first by its id.
    """
    first = {
        digest: (image_id, digest, label)
        for image_id, digest, label in sorted(labelled, reverse=True)
    }
    by_hash = sorted(first.values(), key=lambda row: hash_fraction(seed, f"golden:{row[1]}"))
    seen: dict[str, int] = {}
    turns = []
    for row in by_hash:
        turns.append((seen.get(row[2], 0), row))
        seen[row[2]] = seen.get(row[2], 0) + 1
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])][:count]


def probe(images: Iterable[GoldenImage]) -> GoldenImage | None:
    """The one that workers are checked with: the largest file, so much of a picture; None where there is none."""
    return max(images, key=lambda image: len(image.jpeg), default=None)


def decode_limits(decode: Decode) -> Decode:
    """What is decoded when golden images are: JPEGs of any size, whatever the catalog's own images may be."""
    return decode.model_copy(update={"formats": ["JPEG"], "min_side_px": 1})


def max_distance(spec: BackboneSpec) -> float:
    """How far a worker's embedding of a golden image may lie from the kept one, see `distance`."""
    nvjpeg = spec.preprocessing.jpeg_decoder == "nvjpeg"
    return max(MAX_DISTANCE[spec.precision], _MOST_WITH_NVJPEG if nvjpeg else 0.0)


def distance(found: bytes, kept: bytes) -> float:
    """|found - kept| / |kept| of two stored embeddings, >= 0; infinite where they are of another length."""
    one, other = (np.frombuffer(stored, "<f2").astype(np.float64) for stored in (found, kept))
    if one.shape != other.shape:
        return float("inf")
    length = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / length if length else float("inf")


def require_embedding(
    backbone: Backbone, image: GoldenImage, decode: Decode, *, doing: str
) -> None:
    """Stops where this machine sees a golden image otherwise than it was seen when the head was trained.

    Args:
        backbone: as built here.
        image: see `probe`.
        decode: what the run decodes.
        doing: for the message.

    Raises:
        BackboneError: the embedding is farther from the kept one than `most_distance`, or there is none.

    Cost: one decode and one forward pass; 18 ms on a core for ResNet18 in OpenVINO.
    """
    most, outcome = (
        max_distance(backbone.spec),
        backbone.decode([image.jpeg], decode_limits(decode))[0],
    )
    if outcome.pixels is None:
        found = f"no picture in it: {outcome.status} {outcome.detail}".rstrip()
    else:
        apart = distance(to_stored(backbone.embed(np.stack([outcome.pixels])))[0], image.embedding)
        if apart <= most:
            return
        found = f"a distance of {apart:.2g}, on {socket.gethostname()} with {backbone.spec.runtime}"
    raise BackboneError(
        doing=doing,
        expected=f"the golden image {image.image_id!r} within {most:g} of the embedding that the head's bundle keeps",
        found=found,
        todo="nothing was kept. Bring Pillow, torch or OpenVINO there to the versions with which the head was trained "
        "(head.json has them); if all machines have moved on, run `toiletspark train` again",
    )
