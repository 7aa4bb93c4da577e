"""Writes the page of a head with thumbnails of its worst mistakes, fetched on the cluster."""

from __future__ import annotations

from toiletspark.images import thumbnails
from toiletspark.reports.head_page import page
from toiletspark.tables import storage
from toiletspark.tables.workspace import Workspace


def write_page(work: Workspace, folder: str) -> str:
    """Writes <root>/reports/head-<run_id>.html and .json; returns the location of the page.

    Args:
        folder: of the head.
    """
    evaluation = storage.read_json(f"{folder}/{page.EVALUATION}") or {}
    digests = {row["image_id"]: row["content_digest"] for row in evaluation["mistakes"]}
    pictures = thumbnails.of_few(work.spark, work.config, digests)
    return page.write(work.store.root, evaluation, pictures)
