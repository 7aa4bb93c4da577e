"""Writes the page of a head with thumbnails of its worst mistakes, which only the cluster can fetch."""

from __future__ import annotations

from toiletspark.images import thumbnails
from toiletspark.reports.head_page import page as head_page
from toiletspark.tables import storage
from toiletspark.tables.workspace import Workspace


def write_page(work: Workspace, folder: str) -> str:
    """Writes <root>/reports/head-<run_id>.html and .json; returns where the page lies.

    Args:
        spark: the session.
        config: thumbnails are made from the images table that it names.
        folder: of the head.
    """
    evaluation = storage.read_json(f"{folder}/{head_page.EVALUATION}") or {}
    wanted = {row["image_id"]: row["content_digest"] for row in evaluation["mistakes"]}
    return head_page.write(
        work.config.output.root, evaluation, thumbnails.of_few(work.spark, work.config, wanted)
    )
