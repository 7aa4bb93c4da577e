"""What is removed once nobody needs it: versions that were replaced long ago, and what was written and never published.

The log keeps its entries: what was published when, by which head, how much it excluded. Without Spark.
"""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime, timedelta

from toiletspark.config import Publish
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, RUN_ID, Store
from toiletspark.tables.schemas import EXCLUSION_LIST


def clean(store: Store, publish: Publish, now: datetime | None = None) -> list[str]:
    """Removes what is older than publish.keep_days and publish.keep_unpublished_days; 0 = never.

    A version is as old as the publication that replaced it, so that neither a reader that has just begun nor the way
    back is lost when somebody publishes after a long time. Never removed: the live version, the newest of the log (its
    pointer may be about to move), and folders that are not complete (see `Store.clear_unfinished`).

    Args:
        store: where.
        publish: the days.
        now: for tests.

    Returns:
        The removed folders below the root, as in "decisions/<run_id>". What cannot be removed is told on stderr and
        tried again by the next publication: the version is out already.

    Cost: lists the tables of versions, and reads the log.
    """
    removed: list[str] = []
    with versions.nothing_is_removed(store):
        for run_id, folders in _due(store, publish, now or datetime.now(UTC)).items():
            try:
                _remove(store, folders)
            except OSError as error:
                print(
                    f"toiletspark: the old run {run_id} could not be removed: {error}",
                    file=sys.stderr,
                )
            else:
                removed += folders
    return removed


def _due(store: Store, publish: Publish, now: datetime) -> dict[str, list[str]]:
    """The folders that go, by run, oldest first."""
    log = versions.log(store)
    if not log:
        return {}
    live, replaced, first = versions.live(store), _replaced(log), _published(log[0])
    never = {log[-1].run_id, live.run_id if live else ""}
    due = {}
    for run_id, folders in sorted(_folders(store).items()):
        if run_id in never:
            continue
        if (
            run_id in replaced or run_id < log[0].run_id
        ):  # those may be versions of before there was a log
            old = _older(replaced.get(run_id, first), publish.keep_days, now)
        else:
            folders = [
                folder for folder in folders if storage.exists(f"{store.root}/{folder}/{MANIFEST}")
            ]
            old = bool(folders) and _older(_begun(run_id), publish.keep_unpublished_days, now)
        if old:
            due[run_id] = folders
    return due


def _folders(store: Store) -> dict[str, list[str]]:
    """All run folders of the tables of versions, complete or not, by run."""
    found: dict[str, list[str]] = {}
    for table in versions.TABLES:
        for run_id in storage.entries(f"{store.root}/{table.name}"):
            if RUN_ID.fullmatch(run_id):
                found.setdefault(run_id, []).append(f"{table.name}/{run_id}")
    return found


def _replaced(log: list[Version]) -> dict[str, datetime]:
    """When each run of the log was last replaced by another one; not the newest one's, which counts."""
    return {
        earlier.run_id: _published(later)
        for earlier, later in itertools.pairwise(log)
        if earlier.run_id != later.run_id
    }


def _older(moment: datetime, days: float, now: datetime) -> bool:
    return bool(days) and moment < now - timedelta(days=days)


def _begun(run_id: str) -> datetime:
    return datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)


def _published(version: Version) -> datetime:
    return datetime.fromisoformat(version.said["published_at"])


def _remove(store: Store, folders: list[str]) -> None:
    """The manifests first, the list's before the others: broken off, it leaves nothing that counts as complete."""
    for folder in sorted(folders, key=lambda name: not name.startswith(f"{EXCLUSION_LIST.name}/")):
        storage.remove_file(f"{store.root}/{folder}/{MANIFEST}")
    for folder in folders:
        storage.remove_folder(f"{store.root}/{folder}")
