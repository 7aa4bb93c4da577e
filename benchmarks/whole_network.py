"""Is a catalog scored as torchvision's whole network would, with the head as its final layer?

The promise behind "embed once, decide for ever": embeddings kept as float16, by whichever runtime,
and a matrix product years later say the same as one forward pass from pixels to logits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torchvision
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.hashing import content_digest
from toiletspark.images.decoding import decode
from toiletspark.model import registry, weights
from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.head import Head, excluded
from toiletspark.model.spec import IMAGENET_MEAN, IMAGENET_STD
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import EMBEDDINGS

_AT_ONCE = 16


def agreement(config: Config, told: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """Compares what a run has stored with the whole network in torch, float32.

    Args:
        config: what was run; its backbone's weights are a state dict's file.
        told: the run's summary: head and scores.
        files: some of the images, as they were embedded.

    Returns:
        images; largest_logit, largest_logit_difference, relative (the second in parts of the
        first); decisions_changed: images that the network would exclude and the scores do not, or
        the other way round, at the configuration's operating threshold.
    """
    head = registry.load(told["head"])
    stored = _stored(config, head)
    scores = pq.read_table(
        told["scores"], columns=["content_digest", "exclusion_score"]
    ).to_pydict()
    scored = dict(zip(scores["content_digest"], scores["exclusion_score"], strict=True))
    network = _network(config, head)
    most = 0.0
    largest = 0.0
    changed = 0
    for contents in _batches(files):
        digests = [content_digest(content) for content in contents]
        logits = _logits(network, contents, config)
        kept = head.logits(
            from_stored(b"".join(stored[digest] for digest in digests), len(digests))
        )
        most, largest = (
            max(most, float(np.abs(logits).max())),
            max(largest, float(np.abs(logits - kept).max())),
        )
        whole = head.exclusion_scores(_softmax(logits))
        ours = np.array([scored[digest] for digest in digests], dtype=np.float32)
        threshold = config.publish.operating_threshold
        changed += int((excluded(whole, threshold) != excluded(ours, threshold)).sum())
    differences = {
        "largest_logit": most,
        "largest_logit_difference": largest,
        "relative": largest / most,
    }
    return {"images": len(files), **differences, "decisions_changed": changed}


def _stored(config: Config, head: Head) -> dict[str, bytes]:
    """The stored embeddings of the head's backbone, by content digest."""
    found: dict[str, bytes] = {}
    for run in Store(config.output.root).runs(EMBEDDINGS):
        for row in pq.read_table(run.folder).to_pylist():
            if row["backbone_id"] == head.backbone_id:
                found[row["content_digest"]] = row["embedding"]
    return found


def _network(config: Config, head: Head) -> torch.nn.Module:
    """torchvision's network with the head as its last layer; the weights' file is its own."""
    network: Any = torchvision.models.get_model(config.backbone.architecture, weights=None)
    state = torch.load(config.backbone.weights, map_location="cpu", weights_only=True)
    network.load_state_dict(
        {name: value for name, value in state.items() if not name.startswith("fc.")}, strict=False
    )
    network.fc = torch.nn.Linear(head.weight.shape[1], len(head.classes))
    network.fc.load_state_dict(
        {"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)}
    )
    return network.eval()  # type: ignore[no-any-return]


def _logits(network: torch.nn.Module, contents: list[bytes], config: Config) -> NDArray[np.float32]:
    """The whole network's output: float32, (n, classes)."""
    outcomes = decode(contents, config.decode, weights.load_spec(config.backbone).preprocessing)
    pixels = np.stack([one.pixels for one in outcomes if one.pixels is not None])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32) / 255
        logits: NDArray[np.float32] = network((batch - mean) / std).numpy()
    return logits


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.softmax(torch.from_numpy(logits), dim=1).numpy()


def _batches(files: list[Path]) -> Iterator[list[bytes]]:
    contents = (file.read_bytes() for file in files)
    while batch := list(itertools.islice(contents, _AT_ONCE)):
        yield batch
