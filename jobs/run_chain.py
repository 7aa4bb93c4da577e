"""Runs every step in order: sample, labels, embed, train, score, publish, feed, report.

    spark-submit --py-files dist/*.whl jobs/run_chain.py --conf-file mytables.toml

The first run on a new catalog ends at the labels, which people make; the second goes on from there.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError
from toiletspark.jobs import (
    build_feed,
    draw_sample,
    embed_images,
    export_labels,
    import_labels,
    publish_exclusions,
    rescore_catalog,
    score_catalog,
    train_head,
    write_report,
)
from toiletspark.labels import class_folders
from toiletspark.launch.job import Job, merged, run_in_turn
from toiletspark.publishing import approvals
from toiletspark.tables.schemas import LABELS
from toiletspark.tables.workspace import Workspace


def prepare(config: Config) -> None:
    """Begins to load the backbone if score.head is set; else it may not be needed today."""
    if config.score.head:
        rescore_catalog.prepare(config)


def step(work: Workspace) -> Summary:
    """Runs all steps; with score.head set there is nothing to sample, label or train."""
    if work.config.score.head:
        begun = run_in_turn([rescore_catalog.CHECK_JOB, embed_images.JOB], work)
        return to_feed(work, begun)
    labels = work.config.labels
    is_elsewhere = bool(labels.table.is_set or labels.file)
    if not is_elsewhere and class_folders.is_plain(Path(work.config.labels_folder), labels.classes):
        begun = run_in_turn([draw_sample.JOB], work)
        return from_imported(work, begun, [import_labels.SOURCE_JOB])
    exports = [] if is_elsewhere else [export_labels.JOB]
    begun = run_in_turn([draw_sample.JOB, *exports], work)
    return from_labels(work, begun) if _has_new_labels(work) else from_imported(work, begun)


def from_labels(work: Workspace, begun: Summary) -> Summary:
    """Goes from labels to the feed."""
    return from_imported(work, merged(begun, run_in_turn([import_labels.SOURCE_JOB], work)))


def from_imported(work: Workspace, begun: Summary, imports: Sequence[Job] = ()) -> Summary:
    """Goes from imported labels to the feed.

    `imports`, of a plain folder, and overrides come after `embed`, when the contents of the images
    are known.
    """
    overrides = [import_labels.OVERRIDES_JOB] if work.config.overrides.is_set else []
    jobs = [embed_images.JOB, *imports, *overrides, train_head.JOB]
    return to_feed(work, merged(begun, run_in_turn(jobs, work)))


def to_feed(work: Workspace, begun: Summary) -> Summary:
    """Goes from embeddings and a head to the feed and its page."""
    summary = merged(begun, run_in_turn([score_catalog.JOB, publish_exclusions.JOB], work))
    approvals.require_live(summary.get("plan"), summary["version"])
    summary = merged(summary, run_in_turn([build_feed.JOB], work))
    report = functools.partial(write_report.step, seconds=summary["seconds"])
    return merged(summary, run_in_turn([replace(write_report.JOB, step=report)], work))


def _has_new_labels(work: Workspace) -> bool:
    """Returns True if there is something to import; a LabelsError if nothing ever was."""
    folder, section = work.config.labels_folder, work.config.labels
    if section.file or section.table.is_set or section.reviewed:
        return True
    if class_folders.any_labelled(Path(folder), section.classes):
        return True
    if work.store.newest(LABELS):
        return False
    unlabelled = class_folders.UNLABELLED
    raise LabelsError(
        doing="going on from the sample to the training",
        expected=f"pictures in the class folders of {folder}: {', '.join(section.classes)}",
        found=f"all of them still in {unlabelled}",
        todo=f"drag them from {folder}/{unlabelled} into the class folders and run this again; "
        "meanwhile `toiletspark embed` can embed the catalog",
    )


JOB = Job("run_chain", step, __doc__, prepare=prepare)

if __name__ == "__main__":
    JOB.submit()
