"""Numbered versions of the exclusion list, and the pointer to the live one. No Spark.

<root>/decisions, exclusion_list, unscored, strata /<run_id>/   the tables of a version, immutable
<root>/exclusion_list/_versions/00000007.json   version 7: the run of its tables. No gap in numbers
<root>/exclusion_list/_current.json             a copy of the newest entry: the pointer of readers

A rollback is a new version that shows an older run. So the newest version is always the live one,
and two publishers cannot undo each other. One that is killed before the pointer moves leaves a
version that nobody sees.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from toiletspark.errors import OutputError
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import DECISIONS, EXCLUSION_LIST, STRATA, UNSCORED, Table

POINTER = "_current.json"
LAYOUT = 2
DECIDED_BY = {"head_id", "operating_threshold", "catalog"}  # fields of `Version` and of inputs
TABLES = (DECISIONS, EXCLUSION_LIST, UNSCORED, STRATA)  # of one version, all under its run_id


class Version(BaseModel):
    """One entry of the log; the pointer is a copy of one. Times are ISO 8601, UTC."""

    model_config = ConfigDict(frozen=True, extra="allow")

    number: int = Field(alias="version", ge=1)  # 1, 2, ... without gaps
    run_id: str = Field(pattern=r"^\w[\w.-]{0,99}$")  # of its tables; it becomes a part of a path
    layout: int
    published_at: str
    valid_until: str | None = None  # readers refuse it after this time; None = valid for ever
    counts: dict[str, Any] = {}  # images, kept, excluded, unscored, no_score, policy
    head_id: str | None = None
    operating_threshold: float | None = None
    catalog: str | None = None
    rolled_back_to: int | None = None  # the version that a rollback shows again
    because: str | None = None  # the reason of a rollback
    approval: dict[str, str | None] | None = None  # who approved the plan, when and because of what

    @field_validator("valid_until")
    @classmethod
    def _has_a_zone(cls, value: str | None) -> str | None:
        if value and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("no time zone")
        return value

    @property
    def shows(self) -> int:
        """The version with these decisions: its own number, or the one that it rolled back to."""
        return self.rolled_back_to or self.number

    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in the file."""
        return self.model_dump(by_alias=True, exclude_unset=True)


@dataclass(frozen=True)
class History:
    """The log, oldest version first, and the live version; read once per step and handed on."""

    store: Store
    versions: list[Version]
    live: Version | None

    @classmethod
    def read(cls, store: Store) -> History:
        """Reads the pointer and the whole log."""
        now = live(store)  # first, so that the log has it
        return cls(store, read_all(store), now)

    def run(self, table: Table) -> Run | None:
        """A table of the live version, or None."""
        return self.store.run(table, self.live.run_id) if self.live else None


def publish(store: Store, exclusion_list: Run, valid_for_h: float = 0.0, **fields: Any) -> Version:
    """Commits a version whose audits have passed, with these `fields`, and moves the pointer to it.

    Readers refuse it `valid_for_h` hours from now; 0 = never. Raises OutputError if the log or
    the pointer cannot be written.
    """
    with _write_errors(store):
        version = commit(store, exclusion_list, valid_for_h, **fields)
        point(store)
    return version


def commit(store: Store, exclusion_list: Run, valid_for_h: float = 0.0, **fields: Any) -> Version:
    """Takes the next number, which no other publisher gets; readers do not see the version yet."""
    now, run_id = datetime.now(UTC), exclusion_list.run_id
    until = now + timedelta(hours=valid_for_h) if valid_for_h else None
    entry = {
        "layout": LAYOUT,
        "run_id": run_id,
        **{table.name: f"{table.name}/{run_id}" for table in TABLES},
        "files": [file.name for file in exclusion_list.files],
        "rows": exclusion_list.rows,
        "published_at": now.isoformat(timespec="seconds"),
        "valid_until": until and until.isoformat(timespec="seconds"),
        "counts": {},
        **fields,
        "entry": secrets.token_hex(4),  # stores that read back recognise their own entry by it
    }
    number = _newest_number(store) + 1
    while not storage.create_json(_entry(store, number), {"version": number, **entry}):
        number += 1
    return Version.model_validate({"version": number, **entry})


def point(store: Store) -> None:
    """Moves the pointer to the newest version, and never back.

    On stores without locks it looks again for a newer version afterwards. If it is killed in
    between, the pointer may stay one version behind until the next publication.
    """
    with storage.one_at_a_time(f"{_log_folder(store)}/.lock"):
        moved, newest = 0, _newest_number(store)
        while moved < newest:
            if version := _read(_entry(store, newest)):
                storage.replace_json(_pointer(store), version.as_json())
            moved, newest = newest, _newest_number(store)


@contextmanager
def publishing_lock(store: Store) -> Iterator[None]:
    """Held by whoever ships, approves, rolls back or removes versions: one process at a time.

    On local stores only; elsewhere nobody waits. Raises OutputError if it cannot be had.
    """
    with _write_errors(store), storage.one_at_a_time(f"{_log_folder(store)}/.approval.lock"):
        yield


@contextmanager
def _write_errors(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            doing=f"writing the versions of {store.root}",
            expected="a store that this user may write to, where files can be linked and locked",
            found=f"{type(error).__name__}: {error.strerror or error}",
            todo="see who may write to output.root, and docs/readers.md for the supported stores",
        ) from None


def read_all(store: Store) -> list[Version]:
    """All versions, oldest first."""
    paths = [_entry(store, number) for number in _numbers(store)]
    versions = map(_checked, storage.read_jsons(paths), paths)
    return [version for version in versions if version]


def live(store: Store) -> Version | None:
    """The version that the pointer names, or None."""
    return _read(_pointer(store))


def published(root: str) -> Run | None:
    """The exclusion list that the pointer names, not verified, or None. Not for feeds."""
    version = live(Store(root))
    return Store(root).run(EXCLUSION_LIST, version.run_id) if version else None


def current(root: str, *, allow_stale: bool = False) -> Run:
    """The live exclusion list, see `current_version`."""
    return current_version(root, allow_stale=allow_stale)[1]


def current_version(root: str, *, allow_stale: bool = False) -> tuple[Version, Run]:
    """The live version and its exclusion list, verified; `allow_stale` accepts an expired one.

    Raises OutputError if nothing was published, it has expired, a newer toiletspark made it, or
    its files are not those of its manifest.
    """
    doing = f"reading the current exclusion list of {root}"
    version = live(Store(root))
    run = Store(root).run(EXCLUSION_LIST, version.run_id) if version else None
    if version is None or run is None:
        raise OutputError(
            doing=doing,
            expected=f"{EXCLUSION_LIST.name}/{POINTER} that names a complete version",
            found=f"version {version.run_id} without a manifest" if version else "no pointer",
            todo="run `toiletspark publish` first; "
            "an unreadable list must not be taken for an empty one",
        )
    until = version.valid_until
    if not allow_stale and until and datetime.fromisoformat(until) < datetime.now(UTC):
        raise OutputError(
            doing=doing,
            expected="a version that is still valid",
            found=f"one of {version.published_at}, valid until {until} (publish.valid_for_h)",
            todo="find out why nothing was published since; to go on with the old list, set "
            "feed.allow_stale=true (in Python: allow_stale=True)",
        )
    run.verify(doing=doing)
    return version, run


def _read(path: str) -> Version | None:
    return _checked(storage.read_json(path), path)


def _checked(entry: dict[str, Any] | None, path: str) -> Version | None:
    """The entry of a file, or None if there is none. A newer toiletspark's is an OutputError."""
    if entry is None:
        return None
    layout = entry.get("layout")
    if isinstance(layout, int) and layout > LAYOUT:
        raise OutputError(
            doing=f"reading {path}",
            expected=f"a version of layout {LAYOUT} at most",
            found=f"layout {layout}, made by a newer toiletspark",
            todo="read it with the toiletspark that publishes it",
        )
    return storage.validated(Version, entry, path, "an entry of the log of versions")


def _numbers(store: Store) -> list[int]:
    names = [name.removesuffix(".json") for name in storage.entries(_log_folder(store))]
    return sorted(int(name) for name in names if name.isdigit())


def _newest_number(store: Store) -> int:
    return max(_numbers(store), default=0)


def _log_folder(store: Store) -> str:
    return f"{store.root}/{EXCLUSION_LIST.name}/_versions"


def _entry(store: Store, number: int) -> str:
    return f"{_log_folder(store)}/{number:08d}.json"


def _pointer(store: Store) -> str:
    return f"{store.root}/{EXCLUSION_LIST.name}/{POINTER}"
