"""The head: the final layer, trained on embeddings. Numpy only: rescoring needs no torch.

`bundle` writes and reads its folder, `registry` says which head counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.errors import HeadError
from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.golden import GoldenImage

ALTERED = "the head was altered or damaged: take it from its backup, or train again"
_MAX_DIFFERENCE = 1e-4  # of a golden score; float32 in another order of summation gives 1e-6


@dataclass(frozen=True)
class Head:
    """A final layer, and everything that gives its numbers a meaning.

    `facts` (training settings, validation figures, threshold, versions) and `golden` (images with
    their right embeddings and scores) are not part of the identity.
    """

    classes: tuple[str, ...]  # in the order of the rows of `weight`
    exclude_classes: tuple[str, ...]  # those that the feed must not show
    backbone_id: str  # on whose embeddings it was fitted; it fits no other's
    weight: NDArray[np.float32]  # (classes, 512)
    bias: NDArray[np.float32]  # (classes,)
    facts: dict[str, Any] = field(default_factory=dict)
    golden: tuple[GoldenImage, ...] = ()

    @property
    def head_id(self) -> str:
        """The first 16 digits of a SHA-256 over everything that decides a score."""
        names = [self.classes, self.exclude_classes, self.backbone_id]
        digest = hashlib.sha256(json.dumps(names).encode())
        for values in (self.weight, self.bias):
            digest.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
        return digest.hexdigest()[:16]

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The final layer's output: float32, (n, classes), for embeddings float32, (n, 512)."""
        logits: NDArray[np.float32] = embeddings @ self.weight.T + self.bias
        return logits

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of the logits: float32, (n, classes), each row in [0, 1] and adding up to 1."""
        logits = self.logits(embeddings)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return shares

    def exclusion_scores(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability of all excluded classes together: float32, (n,), [0, 1]."""
        columns = [self.classes.index(name) for name in self.exclude_classes]
        sums = probabilities[:, columns].sum(axis=1)
        scores: NDArray[np.float32] = np.minimum(sums, np.float32(1.0))
        return scores

    def with_golden(self, images: Iterable[GoldenImage]) -> Head:
        """A copy with these golden images, and its own scores for them."""
        golden = tuple(images)
        if not golden:
            return replace(self, golden=())
        scored = []
        for image, row in zip(golden, self._golden_scores(golden).tolist(), strict=True):
            scored.append(replace(image, scores=dict(zip(self.classes, row, strict=True))))
        return replace(self, golden=tuple(scored))

    def require_golden_scores(self, *, doing: str) -> None:
        """Raises a HeadError if a golden image's score differs by more than 0.0001 from training.

        Weights, classes or arithmetic have changed then.
        """
        kept = np.array([[image.scores[name] for name in self.classes] for image in self.golden])
        if not len(kept):
            return
        differences = np.abs(self._golden_scores(self.golden) - kept).max(axis=1)
        worst = int(np.argmax(differences))
        if not differences[worst] <= _MAX_DIFFERENCE:  # also of NaN
            count = int((differences > _MAX_DIFFERENCE).sum())
            raise HeadError(
                doing=doing,
                expected=f"golden scores within {_MAX_DIFFERENCE:g} of those in the bundle",
                found=f"a difference of {differences[worst]:.2g} for the golden image "
                f"{self.golden[worst].image_id!r}; {count} of {len(kept)} differ",
                todo=ALTERED,
            )

    def _golden_scores(self, golden: tuple[GoldenImage, ...]) -> NDArray[np.float32]:
        stored = b"".join(image.embedding for image in golden)
        return self.probabilities(from_stored(stored, len(golden)))


def excluded(
    exclusion_scores: NDArray[np.float32], operating_threshold: float
) -> NDArray[np.bool_]:
    """The images that leave the feed: bool, (n,); excluded when score >= operating threshold."""
    return exclusion_scores >= np.float32(operating_threshold)
