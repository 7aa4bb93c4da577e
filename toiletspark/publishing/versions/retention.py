"""Removal by age: old versions, and tables that were never published. The log keeps its entries."""

import itertools
import logging
from datetime import UTC, datetime, timedelta

from toiletspark.config import Publish
from toiletspark.publishing.versions.log import TABLES, History, Version
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, RUN_ID, Store, run_id_at
from toiletspark.tables.schemas import EXCLUSION_LIST

_log = logging.getLogger("toiletspark")


def clean(history: History, publish: Publish, now: datetime | None = None) -> list[str]:
    """Removes what is older than publish.keep_days and publish.keep_unpublished_days; 0 = never.

    A version is as old as the publication that replaced it. So nothing that a reader has just
    opened is removed, nor the way back, when somebody publishes after a long time. Never removed:
    the live version, the newest of the log (its pointer may be about to move), and folders that are
    not complete (see `Store.clear_unfinished`).

    `history` was read while `log.publishing_lock` is held, which must still be held. Returns the
    removed folders below the root, as in "decisions/<run_id>". Folders that cannot be removed are
    logged, and the next publication tries again.
    """
    removed: list[str] = []
    for run_id, folders in _due(history, publish, now or datetime.now(UTC)).items():
        try:
            _remove(history.store, folders)
        except OSError as error:
            _log.warning("the old run %s could not be removed: %s", run_id, error)
        else:
            removed += folders
    return removed


def _due(history: History, publish: Publish, now: datetime) -> dict[str, list[str]]:
    """The folders to remove, by run, oldest first."""
    if not history.versions:
        return {}
    store, replaced = history.store, _replaced(history.versions)
    protected = {history.versions[-1].run_id, history.live.run_id if history.live else ""}
    due = {}
    for run_id, folders in sorted(_folders(store).items()):
        if run_id in protected:
            continue
        if run_id in replaced:
            days = publish.keep_days
            is_old = bool(days) and replaced[run_id] < now - timedelta(days=days)
        else:
            folders = [
                name for name in folders if storage.exists(f"{store.root}/{name}/{MANIFEST}")
            ]
            days = publish.keep_unpublished_days
            is_old = bool(days) and run_id < run_id_at(now - timedelta(days=days))
        if is_old and folders:
            due[run_id] = folders
    return due


def _folders(store: Store) -> dict[str, list[str]]:
    """All run folders of the tables of versions, complete or not, by run."""
    folders: dict[str, list[str]] = {}
    for table in TABLES:
        for run_id in storage.entries(f"{store.root}/{table.name}"):
            if RUN_ID.fullmatch(run_id):
                folders.setdefault(run_id, []).append(f"{table.name}/{run_id}")
    return folders


def _replaced(versions: list[Version]) -> dict[str, datetime]:
    """The time at which another run last replaced each run; the newest run is not replaced."""
    return {
        earlier.run_id: datetime.fromisoformat(later.published_at)
        for earlier, later in itertools.pairwise(versions)
        if earlier.run_id != later.run_id
    }


def _remove(store: Store, folders: list[str]) -> None:
    """Removes the manifests first, the list's before all: cut off, it leaves no complete run."""
    for folder in sorted(folders, key=lambda name: not name.startswith(f"{EXCLUSION_LIST.name}/")):
        storage.remove_file(f"{store.root}/{folder}/{MANIFEST}")
    for folder in folders:
        storage.remove_folder(f"{store.root}/{folder}")
