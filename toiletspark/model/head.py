"""The head: the final layer that was trained on embeddings. Numpy only, so that rescoring needs no torch.

A head is a folder, see `bundle`. Its id is a digest of what decides its scores, so an altered head is refused.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.errors import HeadError
from toiletspark.model import bundle
from toiletspark.model import golden as golden_images
from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.golden import GoldenImage
from toiletspark.tables import storage
from toiletspark.tables.manifest import Manifest
from toiletspark.tables.runs import MANIFEST, Run, Store
from toiletspark.tables.schemas import HEADS

_MOST_DIFFERENCE = 1e-4  # of a golden score here and where the head was trained: float32 in another order gives 1e-6


@dataclass(frozen=True)
class Head:
    """A final layer and all that gives its numbers a meaning.

    Attributes:
        classes: names, in the order of the rows of `weight`.
        exclude_classes: those that the feed must not show.
        backbone_id: the backbone on whose embeddings it was fitted; no other's mean anything to it.
        weight: float32, (classes, 512).
        bias: float32, (classes,).
        facts: training settings, validation figures, threshold, versions; not part of the identity.
        golden: images with the embeddings and scores that are right for them; no part of the identity either.
    """

    classes: tuple[str, ...]
    exclude_classes: tuple[str, ...]
    backbone_id: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    facts: dict[str, Any] = field(default_factory=dict)
    golden: tuple[GoldenImage, ...] = ()

    @property
    def head_id(self) -> str:
        """The first 16 digits of a SHA-256 over everything that decides a score."""
        digest = hashlib.sha256(
            json.dumps([self.classes, self.exclude_classes, self.backbone_id]).encode()
        )
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
        """The probability of all excluded classes together: float32, (n,), [0, 1], higher = more surely excluded."""
        rows = [self.classes.index(name) for name in self.exclude_classes]
        scores: NDArray[np.float32] = np.minimum(
            probabilities[:, rows].sum(axis=1), np.float32(1.0)
        )
        return scores

    def with_golden(self, images: Iterable[GoldenImage]) -> Head:
        """The head with these golden images, and its own scores for them."""
        golden = tuple(images)
        if not golden:
            return replace(self, golden=())
        named = [
            dict(zip(self.classes, row, strict=True))
            for row in self._golden_scores(golden).tolist()
        ]
        scored = tuple(
            replace(image, scores=scores) for image, scores in zip(golden, named, strict=True)
        )
        return replace(self, golden=scored)

    def require_golden_scores(self, *, doing: str) -> None:
        """Stops where the head does not give its golden images the scores that it gave them when it was trained.

        Raises:
            HeadError: a score differs by more than 0.0001: weights, classes or arithmetic are others.
        """
        kept = np.array([[image.scores[name] for name in self.classes] for image in self.golden])
        if not len(kept):
            return
        apart = np.abs(self._golden_scores(self.golden) - kept).max(axis=1)
        worst = int(np.argmax(apart))
        if not apart[worst] <= _MOST_DIFFERENCE:
            raise HeadError(
                doing=doing,
                expected=f"golden scores within {_MOST_DIFFERENCE:g} of those that the bundle keeps",
                found=f"a difference of {apart[worst]:.2g} for the golden image {self.golden[worst].image_id!r}; "
                f"{int((apart > _MOST_DIFFERENCE).sum())} of {len(kept)} differ",
                todo=bundle.ALTERED,
            )

    def _golden_scores(self, golden: tuple[GoldenImage, ...]) -> NDArray[np.float32]:
        """float32, (n, classes)."""
        return self.probabilities(
            from_stored(b"".join(image.embedding for image in golden), len(golden))
        )

    def save(self, folder: str) -> str:
        """Writes its bundle, with whatever lies in the folder already; returns the bundle's digest."""
        return bundle.write(folder, self)


def load(folder: str) -> Head:
    """Reads a head.

    Raises:
        HeadError: there is none, its files do not agree with each other or with its id, or its golden images are not
            given their golden scores.
    """
    doing = f"reading the head {folder}"
    fields, head_id = bundle.read(folder, doing=doing)
    found = Head(**fields)
    if found.head_id != head_id:
        raise HeadError(
            doing=doing,
            expected=f"weights and classes that give the id {head_id}",
            found=f"the id {found.head_id}, classes {list(found.classes)}, weight {found.weight.shape}",
            todo=bundle.ALTERED,
        )
    found.require_golden_scores(doing=doing)
    return found


def current(store: Store, folder: str, *, doing: str) -> Head:
    """The head that scores: the one in `folder`, or, if that is "", the newest of the store that was promoted.

    Raises:
        HeadError: see `load`; or every head of the store was kept without being promoted.
        OutputError: no head was trained yet.
    """
    if folder:
        return load(folder)
    newest = store.require(HEADS, doing=doing, step="train")
    chosen = newest_promoted(store)
    if chosen is None:
        raise HeadError(
            doing=doing,
            expected="a head that was promoted",
            found=f"heads that are worse than the live one, the newest in {newest.folder}",
            todo='set score.head to the live head\'s folder, or train with --accept-worse "reason"',
        )
    return load(chosen.folder)


def newest_promoted(store: Store) -> Run | None:
    """The newest head that was promoted, or None; heads of before there was a comparison count as promoted."""
    found = [run for run in store.runs(HEADS) if run.inputs.promoted]
    return found[-1] if found else None


def run_of(store: Store, head_id: str, folder: str = "") -> Run | None:
    """The run that holds a head: the newest of the store, or else `folder`, where that is its run folder; or None."""
    found = [run for run in store.runs(HEADS) if run.inputs.head_id == head_id]
    if found:
        return found[-1]
    manifest = storage.read_json(f"{folder}/{MANIFEST}") if folder else None
    if manifest is None or manifest.get("inputs", {}).get("head_id") != head_id:
        return None
    return Run(HEADS.name, manifest["run_id"], folder, Manifest.model_validate(manifest))


def newest_for(store: Store, backbone_id: str) -> Head | None:
    """The newest head of the store that was fitted on this backbone, or None."""
    found = [run for run in store.runs(HEADS) if run.inputs.backbone_id == backbone_id]
    return load(found[-1].folder) if found else None


def probe(store: Store, folder: str, backbone_id: str) -> GoldenImage | None:
    """What workers are checked with before they embed: a golden image of the head that will score.

    Args:
        store: where.
        folder: score.head; "" = the newest head of the store that was promoted.
        backbone_id: that embeds.

    Returns:
        None before the first head for this backbone, and, which is told, where the head has no golden images.
    """
    if not (folder or store.newest(HEADS)):
        return None
    chosen = current(store, folder, doing="embedding")
    if chosen.backbone_id != backbone_id:
        return None
    if not chosen.golden:
        print(
            f"toiletspark: the head {chosen.head_id} has no golden images, so no worker is checked",
            file=sys.stderr,
        )
    return golden_images.probe(chosen.golden)


def require_backbone(head: Head, backbone_id: str, *, doing: str) -> None:
    """Stops where a head would be put on another backbone's embeddings.

    Raises:
        HeadError: the ids differ.
    """
    if head.backbone_id != backbone_id:
        raise HeadError(
            doing=doing,
            expected=f"a head for the backbone {backbone_id}, with which the catalog is embedded",
            found=f"the head {head.head_id} for the backbone {head.backbone_id}",
            todo="train a head on this backbone's embeddings, or set [backbone] to what the head was fitted on",
        )
