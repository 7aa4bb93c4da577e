"""Writes the page of a head with thumbnails of its worst mistakes, fetched on the cluster."""

from toiletspark.images import thumbnails
from toiletspark.reports.head_page import page
from toiletspark.sampling import evaluation
from toiletspark.tables.workspace import Workspace


def write_page(work: Workspace, folder: str) -> str:
    """Writes <root>/reports/head-<run_id>.html and .json of the head in this folder.

    Returns:
        The location of the page.
    """
    figures = evaluation.read(folder)
    digests = {mistake.image_id: mistake.content_digest for mistake in figures.mistakes}
    pictures = thumbnails.of_few(work.spark, work.config, digests)
    return page.write(work.store.root, figures, pictures)
