"""Golden images: labelled images by which a machine proves that it computes the same.

They are part of the head's bundle: JPEGs made from the pixels, so that nothing else of a stranger's
file goes along, with the embedding and the scores that they had when the head was trained. Numpy
and Pillow; torch only if the backbone brings it.
"""

import itertools
import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from toiletspark.config import Decode
from toiletspark.errors import BackboneError
from toiletspark.hashing import hash_fraction
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.spec import BackboneSpec

# relative distance of one image's embeddings. Measured for the same backbone on other runtimes and
# kernels: 0.00007, 0.018, 0.010. For another backbone: fp32 run in bf16 0.0056, int8 run in fp32
# 0.043, JPEG scaling off 0.080, resized to 257 px 0.083. benchmarks/LOG.md has them
MAX_DISTANCE = {"fp32": 0.003, "bf16": 0.04, "int8": 0.03}
# nvJPEG replaces libjpeg on GPUs, and workers without one go on with libjpeg: pixels that differ by
# one gave 0.030 (median). Not measured on a GPU
_MAX_DISTANCE_NVJPEG = 0.06
JPEG_QUALITY = 90


@dataclass(frozen=True)
class GoldenImage:
    """One labelled image with the right results for it."""

    image_id: str
    content_digest: str  # of the labelled file, not of `jpeg`
    label: str
    jpeg: bytes  # the picture, encoded again
    embedding: bytes  # of `jpeg`, as it is stored: little-endian float16
    scores: dict[str, float] = field(default_factory=dict)  # by class; {} before there is a head


def side_px(resize_px: int) -> int:
    """The longer side of golden JPEGs: JPEG scaling is used up to an aspect ratio of 3 : 2."""
    return 3 * resize_px


def choose(
    labelled: Iterable[tuple[str, str, str]], count: int, seed: int
) -> list[tuple[str, str, str]]:
    """Chooses golden images: one class after the other in turn, in each by hash of the content.

    `labelled` has image_id, content_digest and label, in any order. Returns at most `count` of its
    rows, one image per content, the first by its id.
    """
    by_digest = {row[1]: row for row in sorted(labelled, reverse=True)}
    rows = sorted(by_digest.values(), key=lambda row: hash_fraction(seed, f"golden:{row[1]}"))
    turns: dict[str, Iterator[int]] = defaultdict(itertools.count)
    return sorted(rows, key=lambda row: next(turns[row[2]]))[:count]


def probe(images: Iterable[GoldenImage]) -> GoldenImage | None:
    """The image that workers are checked with: the largest file, which has most detail; or None."""
    return max(images, key=lambda image: len(image.jpeg), default=None)


def decode_limits(decode: Decode) -> Decode:
    """Limits for golden images: JPEGs of any size, whatever the catalog's limits are."""
    return decode.model_copy(update={"formats": ["JPEG"], "min_side_px": 1})


def embeddings(backbone: Backbone, jpegs: Iterable[bytes], decode: Decode) -> list[bytes | None]:
    """The stored embeddings of golden JPEGs in one forward pass; None for one without a picture."""
    decoded = [image.pixels for image in backbone.decode(jpegs, decode_limits(decode))]
    pixels = [picture for picture in decoded if picture is not None]
    vectors = iter(to_stored(backbone.embed(np.stack(pixels))) if pixels else [])
    return [None if picture is None else next(vectors) for picture in decoded]


def max_distance(spec: BackboneSpec) -> float:
    """The largest allowed `distance` of a worker's embedding from the kept one."""
    least = _MAX_DISTANCE_NVJPEG if spec.preprocessing.jpeg_decoder == "nvjpeg" else 0.0
    return max(least, MAX_DISTANCE[spec.precision])


def distance(embedding: bytes, kept: bytes) -> float:
    """|embedding - kept| / |kept| of two stored embeddings, >= 0; infinite for unequal lengths."""
    values, reference = (np.frombuffer(row, "<f2").astype(np.float64) for row in (embedding, kept))
    if values.shape != reference.shape:
        return float("inf")
    length = float(np.linalg.norm(reference))
    return float(np.linalg.norm(values - reference)) / length if length else float("inf")


def require_embedding(
    backbone: Backbone, image: GoldenImage, decode: Decode, *, doing: str
) -> None:
    """Stops if this machine's embedding of a golden image differs from the kept one.

    Raises a BackboneError if it is farther away than `max_distance`, or if there is none.

    Cost: one decode and one forward pass; 18 ms on a core for ResNet18 in OpenVINO.
    """
    limit = max_distance(backbone.spec)
    decoded = backbone.decode([image.jpeg], decode_limits(decode))[0]
    if decoded.pixels is None:
        found = f"no picture in it: {decoded.status} {decoded.detail}".rstrip()
    else:
        (embedding,) = to_stored(backbone.embed(np.stack([decoded.pixels])))
        apart = distance(embedding, image.embedding)
        if apart <= limit:
            return
        found = f"a distance of {apart:.2g}, on {socket.gethostname()} with {backbone.spec.runtime}"
    raise BackboneError(
        doing=doing,
        expected=f"the golden image {image.image_id!r} within {limit:g} of the embedding "
        "in the head's bundle",
        found=found,
        todo="nothing was kept. Install the versions of Pillow, torch or OpenVINO there with which "
        "the head was trained (head.json has them); if all machines have newer ones, run "
        "`toiletspark train` again",
    )
