"""Keeps a head: the images that it was made with, its evaluation, its bundle; visible once all of it is written."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import sys
from typing import Any

from toiletspark import __version__
from toiletspark.config import Config
from toiletspark.model import bundle
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.reports.head_page import page as head_page
from toiletspark.sampling import evaluation_sample
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.training import champion
from toiletspark.training.evaluation.evaluate import short


def keep(
    head: Head,
    evaluation: dict[str, Any],
    promotion: dict[str, Any],
    used: dict[str, Any],
    made_with: list[dict[str, Any]],
    gathered: Run,
    store: Store,
    config: Config,
) -> dict[str, Any]:
    """Writes the images that the head was made with, then its bundle, which seals the folder; then it is visible.

    What it was compared with, and in which run its labels were gathered, stands in the manifest and in evaluation.json,
    not in the head's own two files: the same training gives the same head, byte for byte, whatever is live.

    Args:
        head: the layer and what gives its numbers a meaning.
        evaluation: what is known of it.
        promotion: see `champion.promotion`.
        used: trained_on, corrupt, training_data (rows and digest).
        made_with: the rows of `tables.HEADS`.
        gathered: the training set, under whose run_id golden images may lie.
        store: where.
        config: the resolved configuration, for the manifest.

    Returns:
        The trainer's summary.
    """
    made_golden = store.run(tables.GOLDEN_IMAGES, gathered.run_id)
    golden = [GoldenImage(**row) for row in rows.read(made_golden)]
    figures = short(evaluation)
    facts = {
        "validation": figures,
        **{
            name: evaluation[name]
            for name in ("operating_threshold", "threshold_reason", "fit", "naive_split")
        },
        **used,
        "settings": config.train.model_dump(),
        "versions": _versions(),
    }
    if made_golden:
        facts["backbone"] = made_golden.inputs.backbone
    run_id = new_run_id()
    folder = rows.write_file(store, tables.HEADS, run_id, made_with)
    told = {
        "run_id": run_id,
        "training_set": gathered.run_id,
        **used,
        **evaluation,
        "champion": promotion["champion"],
    }
    storage.replace_json(f"{folder}/{head_page.EVALUATION}", told)
    digest = bundle.write(folder, dataclasses.replace(head, facts=facts).with_golden(golden))
    inputs = Inputs(
        training_set=gathered.run_id,
        head_id=head.head_id,
        backbone_id=head.backbone_id,
        **promotion,
    )
    counts = {**figures, **evaluation_sample.labelled_counts(gathered)}
    store.commit(tables.HEADS, run_id, config=config.recorded(), inputs=inputs, counts=counts)
    print(f"toiletspark: {champion.told(promotion)}", file=sys.stderr)
    named = {
        "head": folder,
        "head_id": head.head_id,
        "bundle_digest": digest,
        "golden_images": len(golden),
    }
    rows_used = {name: used[name] for name in ("trained_on", "corrupt")}
    threshold = {name: evaluation[name] for name in ("operating_threshold", "threshold_reason")}
    curve = (
        {"learning_curve": evaluation["learning_curve"]["sentence"]}
        if "learning_curve" in evaluation
        else {}
    )
    return {**named, **rows_used, "validation": figures, **threshold, **curve, **promotion}


def _versions() -> dict[str, str]:
    """What embeds and scores here, and what did the fit; packages that are not installed are left out."""
    found = {"toiletspark": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "openvino", "numpy", "Pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
