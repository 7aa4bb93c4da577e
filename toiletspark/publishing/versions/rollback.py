"""Rollback to an older version: a new entry of the log that names its run; nothing is copied.

A rollback stands for the version that it shows: the version before it is older still.
"""

from toiletspark.config import Config, Publish
from toiletspark.config.command_line import Summary
from toiletspark.errors import OutputError
from toiletspark.model import registry
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import History, Version
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, MARKER, Run, Store
from toiletspark.tables.schemas import EXCLUSION_LIST


def roll_back(store: Store, publish: Publish, number: int | None = None) -> Version:
    """Publishes an older version again, valid for publish.valid_for_h from now.

    Without a number it is the one before the live version. Raises OutputError if there is none,
    its files were removed or altered, or a newer toiletspark made it. Cost: the end of each file of
    that version is read, and the small files whole.
    """
    doing = f"rolling back to {f'version {number}' if number is not None else 'the version before'}"
    _require_store(store, doing)
    with log.publishing_lock(store):
        history = History.read(store)
        if number is None:
            target = _before_live(history, doing)
        else:
            target = _numbered(history, number, doing)
        exclusion_list = _verified(history, target, doing)
        kept = target.model_dump(include={"counts", *log.DECIDED_BY})
        because = publish.because.strip() or None
        kept |= {"rolled_back_to": target.shows, "because": because}
        return log.publish(store, exclusion_list, publish.valid_for_h, **kept)


def summary(store: Store, config: Config, version: Version) -> Summary:
    """The new version for people, and the settings that keep later publications on it."""
    names = "rolled_back_to run_id published_at valid_until head_id operating_threshold because"
    return {
        "version": version.number,
        **{name: getattr(version, name) for name in names.split()},
        "exclusion_list": store.folder(EXCLUSION_LIST, version.run_id),
        "next": _next(store, config, version),
    }


def _require_store(store: Store, doing: str) -> None:
    """A folder that is not toiletspark's must stay as it is, without a file for the lock."""
    if not storage.exists(f"{store.root}/{MARKER}"):
        raise OutputError(
            doing=doing,
            expected=f"toiletspark's {MARKER} in {store.root}",
            found="none",
            todo="set output.root to the folder that `toiletspark publish` writes to; "
            "nothing was touched",
        )


def _before_live(history: History, doing: str) -> Version:
    """The newest version that is older than the live one and has another run."""
    live = history.live
    for version in reversed(history.versions):
        if live and version.number < live.shows and version.run_id != live.run_id:
            return version
    found = "no version at all"
    if live:
        shown = f", which shows version {live.shows}" if live.rolled_back_to else ""
        found = f"none: version {live.number} is live{shown}"
    raise OutputError(
        doing=doing,
        expected="a version before the one that is live",
        found=found,
        todo="see `toiletspark publish list`, and name one, as in `toiletspark publish rollback 3`",
    )


def _numbered(history: History, number: int, doing: str) -> Version:
    versions = history.versions
    for version in versions:
        if version.number == number:
            return version
    expected, found = "a version", "none was published yet"
    if versions:
        expected = f"one of the versions {versions[0].number} to {versions[-1].number}"
        found = f"no version {number}"
    todo = "see `toiletspark publish list`"
    raise OutputError(doing=doing, expected=expected, found=found, todo=todo)


def _verified(history: History, target: Version, doing: str) -> Run:
    """The version's exclusion list, after all its tables were verified."""
    runs = {}
    for table in log.TABLES:
        run = history.store.run(table, target.run_id)
        found = run.difference() if run else "none any more; they were removed (publish.keep_days)"
        if found or run is None:
            raise OutputError(
                doing=doing,
                expected=f"version {target.number} with the files of its manifests "
                f"({table.name}/{target.run_id})",
                found=found,
                todo=f"choose another: {_others(history, target)}",
            )
        runs[table.name] = run
    return runs[EXCLUSION_LIST.name]


def _others(history: History, target: Version) -> str:
    """The newest five versions that have their files; one for each run."""
    newest = {version.run_id: version.number for version in history.versions}
    newest.pop(target.run_id)
    candidates = sorted(newest.items(), key=lambda item: -item[1])[:50]
    numbers = [
        str(number)
        for run_id, number in candidates
        if storage.exists(f"{history.store.folder(EXCLUSION_LIST, run_id)}/{MANIFEST}")
    ]
    return f"{', '.join(numbers[:5])} have theirs" if numbers else "no other version has its files"


def _next(store: Store, config: Config, version: Version) -> str:
    """The settings with which the next publication decides as the version that is shown."""
    run = registry.run_of(store, str(version.head_id), config.score.head)
    keys = [f"score.head to the folder of head {version.head_id}"]
    if run:
        keys = [f'score.head="{run.folder}" (and score again)']
    if config.publish.policy.name != "fixed":
        keys.append("publish.policy.name=fixed")
    keys.append(f"publish.operating_threshold={version.operating_threshold}")
    return (
        "the next publication decides anew, and with the same head and threshold it publishes "
        "again what you went back from; to stay with the head and threshold of version "
        f"{version.rolled_back_to}, set {', '.join(keys)}"
    )
