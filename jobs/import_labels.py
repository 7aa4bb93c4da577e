"""Reads labels from folders, a table or a file, and from the table of overrides.

    spark-submit --py-files dist/*.whl jobs/import_labels.py --conf-file mytables.toml

New labels are merged with all earlier ones; see `toiletspark.labels.merge` for the rules.
"""

import logging
from pathlib import Path

from toiletspark.config.command_line import Summary
from toiletspark.labels import class_folders, label_files, label_table, merge, pictures
from toiletspark.labels.merge import SourceLabels
from toiletspark.launch.job import Job
from toiletspark.publishing import overrides
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import CONFLICTS, LABELS
from toiletspark.tables.workspace import Workspace

_log = logging.getLogger("toiletspark")
_MAX_CONFLICTS_SHOWN = 5


def step(work: Workspace) -> Summary:
    """Imports what people say, then the overrides as labels."""
    return {**import_source(work), **import_overrides(work)}


def import_source(work: Workspace) -> Summary:
    """Imports the labels of people; reports changes since the last import, and conflicts."""
    labels, source, counts = _read_source(work)
    earlier = merge.covered_images(work.store, source)
    unknown = label_table.count_unknown(work.spark, work.config, labels.labels, earlier, source)
    if unknown:
        _log.info("labels of images that have left the images table: %d", unknown)
    labeller = work.config.labels.labeller
    run, merged = merge.save(work.store, labels, labeller, work.config.recorded(), source)
    changes = merged.summary()
    _log.info("labels: %s", changes)
    for conflict in merge.conflicts(merged.labels.values())[:_MAX_CONFLICTS_SHOWN]:
        _log.info("in conflict: %s", merge.shown_conflict(conflict))
    figures = {**_totals(work.store, run), **counts, **labels.counts, "unknown_images": unknown}
    return {**figures, "since_last": changes, **merged.counts()}


def import_overrides(work: Workspace) -> Summary:
    """Imports the overrides as labels; nothing to do without such a table, or without any label."""
    table = work.config.overrides
    if not table.is_set:
        return {}
    labels, missing = overrides.as_labels(work)
    if not labels.labels and not work.store.newest(LABELS):
        return {"labels_of_overrides": {"labels": 0, **missing}}
    labeller = work.config.labels.labeller
    run, merged = merge.save(work.store, labels, labeller, work.config.recorded(), table.source)
    changes = merged.summary()
    _log.info("labels of overrides: %s", changes)
    summary = {"labels": len(labels.labels), **missing, "since_last": changes}
    return {**_totals(work.store, run), "labels_of_overrides": summary}


def _totals(store: Store, run: Run) -> Summary:
    figures = {name: run.counts[name] for name in ("per_class", "conflicts")}
    folders = {"labels": run.folder, "conflicts_table": store.folder(CONFLICTS, run.run_id)}
    return {"labelled": run.counts["images"], **figures, **folders}


def _read_source(work: Workspace) -> tuple[SourceLabels, str, Summary]:
    """The labels of a file, else of a table, else of a folder; its name; counts of its files."""
    section = work.config.labels
    if section.file:
        return label_files.read(section.file, section.classes), section.file, {}
    if section.table.is_set:
        return label_table.import_table(work.spark, section), section.table.source, {}
    folder = work.config.labels_folder
    if not class_folders.is_plain(Path(folder), section.classes):
        return class_folders.read(Path(folder), section.classes, section.reviewed), folder, {}
    imported = pictures.read(work, Path(folder))
    for note in imported.notes:
        _log.warning("%s: %s", folder, note)
    return imported.labels, folder, {"folder": imported.summary}


JOB = Job("import_labels", step, __doc__)
SOURCE_JOB = Job("import_labels", import_source)
OVERRIDES_JOB = Job("import_labels", import_overrides)

if __name__ == "__main__":
    JOB.submit()
