"""Going back to an older version: a new entry of the log that names its run. Nothing is decided, read or copied.

An entry that is a rollback stands for the version that it shows: the version before it is older still, and not the one
that it was to undo.
"""

from __future__ import annotations

from toiletspark.config import Config, Publish
from toiletspark.config.command_line import Summary
from toiletspark.errors import OutputError
from toiletspark.model import registry
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, MARKER, Run, Store
from toiletspark.tables.schemas import EXCLUSION_LIST

_KEPT = ("head_id", "operating_threshold", "catalog")


def roll_back(store: Store, publish: Publish, number: int | None = None) -> Version:
    """Publishes an older version again, valid for publish.valid_for_h from now.

    Args:
        store: where.
        publish: how long it is valid, and `because`, which the log keeps.
        number: of the version to go to; None = the one before the version that is live.

    Returns:
        The new version, which is live.

    Raises:
        OutputError: there is no such version, or its files were removed or are not those of its manifests, or it was
            made by a newer toiletspark.

    Cost: the end of each file of that version is read, and all of the smaller ones (see `runs.described_files`).
    """
    doing = f"rolling back to {f'version {number}' if number is not None else 'the version before'}"
    _require_store(store, doing)
    with versions.nothing_is_removed(store):
        log, live = versions.log(store), versions.live(store)
        versions.require_known_layout(live.said if live else None, doing=doing)
        asked = _before(log, live, doing) if number is None else _numbered(log, number, doing)
        versions.require_known_layout(asked.said, doing=doing)
        listed = _require_files(store, log, asked, doing)
        facts = {name: asked.said.get(name) for name in _KEPT}
        facts |= {"rolled_back_to": asked.shows, "because": publish.because.strip() or None}
        return versions.publish(
            store, listed, counts=asked.counts, valid_for_h=publish.valid_for_h, facts=facts
        )


def told(store: Store, config: Config, version: Version) -> Summary:
    """What people must know of a rollback, and what would undo it."""
    names = (
        "rolled_back_to",
        "run_id",
        "published_at",
        "valid_until",
        "head_id",
        "operating_threshold",
        "because",
    )
    said: Summary = {"version": version.number, **{name: version.said.get(name) for name in names}}
    return {
        **said,
        "exclusion_list": f"{store.root}/{version.said[EXCLUSION_LIST.name]}",
        "next": _next(store, config, said),
    }


def _require_store(store: Store, doing: str) -> None:
    """A lock is a file too: a folder that is not toiletspark's, or that is not there, must stay as it is."""
    if not storage.exists(f"{store.root}/{MARKER}"):
        raise OutputError(
            doing=doing,
            expected=f"toiletspark's {MARKER} in {store.root}",
            found="none",
            todo="set output.root to the folder that `toiletspark publish` writes to; nothing was touched",
        )


def _before(log: list[Version], live: Version | None, doing: str) -> Version:
    """The newest version older than what is live, by another run."""
    shows = live.shows if live else 0
    for version in reversed(log):
        if live and version.number < shows and version.run_id != live.run_id:
            return version
    raise OutputError(
        doing=doing,
        expected="a version before the one that is live",
        found=_none_before(live),
        todo="see `toiletspark publish list`, and name one, as in `toiletspark publish rollback 3`",
    )


def _none_before(live: Version | None) -> str:
    if live is None:
        return "no version at all"
    if live.number == 0:
        return f"none: {live.run_id} is live, from before versions had numbers"
    shown = f", which shows version {live.shows}" if live.shows != live.number else ""
    return f"none: version {live.number} is live{shown}"


def _numbered(log: list[Version], number: int, doing: str) -> Version:
    for version in log:
        if version.number == number:
            return version
    raise OutputError(
        doing=doing,
        expected=f"one of the versions {log[0].number} to {log[-1].number}" if log else "a version",
        found=f"no version {number}" if log else "none was published yet",
        todo="see `toiletspark publish list`",
    )


def _require_files(store: Store, log: list[Version], asked: Version, doing: str) -> Run:
    """The version's exclusion list, once all its tables are found as they were written."""
    for table in versions.TABLES:
        run = store.run(table, asked.run_id)
        if run is None or not versions.unchanged(run):
            raise OutputError(
                doing=doing,
                expected=f"version {asked.number} with the files of its manifests ({table.name}/{asked.run_id})",
                found="none any more; they were removed (publish.keep_days)"
                if run is None
                else "other files, sizes or contents",
                todo=f"choose another: {_others(store, log, asked)}",
            )
        if table is EXCLUSION_LIST:
            listed = run
    return listed


def _others(store: Store, log: list[Version], asked: Version) -> str:
    """The newest five versions that have their files; one for each run."""
    newest = {version.run_id: version.number for version in log if version.run_id != asked.run_id}
    there = [
        str(number)
        for run_id, number in sorted(newest.items(), key=lambda item: -item[1])[:50]
        if storage.exists(f"{store.folder(EXCLUSION_LIST, run_id)}/{MANIFEST}")
    ]
    return f"{', '.join(there[:5])} have theirs" if there else "no other version has its files"


def _next(store: Store, config: Config, said: Summary) -> str:
    """The next publication decides by the newest scores: what to set so that it does as the version gone back to."""
    head_id, threshold = said["head_id"], said["operating_threshold"]
    run = registry.run_of(store, str(head_id), config.score.head)
    sets = [
        f'score.head="{run.folder}" (and score again)'
        if run
        else f"score.head to the folder of head {head_id}"
    ]
    sets += ["publish.policy.name=fixed"] if config.publish.policy.name != "fixed" else []
    sets += [f"publish.operating_threshold={threshold}"]
    return (
        "the next publication decides anew, and with the same head and threshold publishes again what you went back "
        f"from; to stay with the head and threshold of version {said['rolled_back_to']}, set {', '.join(sets)}"
    )
