"""Versions of the exclusion list, and the pointer that names the one that counts. Without Spark: training asks it too.

<root>/decisions, exclusion_list, unscored, strata /<run_id>/   the tables of one version, immutable, written together
<root>/exclusion_list/_versions/00000007.json   version 7: which run it is. Numbers have no gap; put if absent
<root>/exclusion_list/_current.json             the newest version again, moved last and at once: what readers ask

A rollback is a version too: it names an older run. So the newest version is always the one that counts, and two
publishers cannot undo each other. A version whose publisher was killed before the pointer moved waits there unseen;
the next publication is newer. Pointers of before there was a log have layout 1 and no number.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError, field_validator

from toiletspark.errors import OutputError
from toiletspark.tables import runs, storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import DECISIONS, EXCLUSION_LIST, STRATA, UNSCORED, Table

POINTER = "_current.json"
LOG = "_versions"
LAYOUT = 2
TABLES = (DECISIONS, EXCLUSION_LIST, UNSCORED, STRATA)  # of one version, all under its run_id


class _Entry(BaseModel):
    """What we rely on in an entry of the log, or in the pointer; the rest is only told."""

    run_id: str = Field(pattern=r"^\w[\w.-]{0,99}$")  # it becomes a part of a path
    layout: int = 1
    version: int = 0
    rolled_back_to: int = 0
    counts: dict[str, Any] = {}
    published_at: str = ""
    valid_until: str | None = None

    @field_validator("valid_until")
    @classmethod
    def _has_a_zone(cls, value: str | None) -> str | None:
        if value and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("no time zone")
        return value


@dataclass(frozen=True)
class Version:
    """One entry of the log; `said` is all that stands in it, see `publish`."""

    number: int
    said: dict[str, Any]

    @property
    def run_id(self) -> str:
        """Whose tables it shows."""
        return str(self.said["run_id"])

    @property
    def counts(self) -> dict[str, Any]:
        """images, kept, excluded, unscored, and whatever else was counted; {} of versions that did not tell."""
        return dict(self.said.get("counts", {}))

    @property
    def shows(self) -> int:
        """The version whose decisions these are: its own number, or of a rollback that of the version it went to."""
        return int(self.said.get("rolled_back_to", self.number))


class Told(TypedDict, total=False):
    """What the log can tell of a version beside its run.

    Attributes:
        counts: of the version, for those who compare versions.
        valid_for_h: hours from now, after which readers refuse it; 0 = for ever, as without it.
        facts: whatever else, such as `rolled_back_to`.
    """

    counts: dict[str, Any]
    valid_for_h: float
    facts: dict[str, Any]


def publish(store: Store, listed: Run, **told: Unpack[Told]) -> Version:
    """Commits a version and moves the pointer to it.

    Args:
        store: where.
        listed: the written exclusion list, whose audits it has passed.
        told: see `Told`.

    Raises:
        OutputError: the log or the pointer cannot be written.
    """
    with _writing(store):
        version = commit(store, listed, **told)
        point(store)
    return version


def commit(store: Store, listed: Run, **told: Unpack[Told]) -> Version:
    """Takes the next number for a version; readers do not see it yet. Two publishers never get the same number."""
    now, valid_for_h = datetime.now(UTC), told.get("valid_for_h", 0.0)
    said = {
        "layout": LAYOUT,
        "run_id": listed.run_id,
        **{table.name: f"{table.name}/{listed.run_id}" for table in TABLES},
        "files": [file.name for file in listed.files],
        "rows": listed.rows,
        "published_at": now.isoformat(timespec="seconds"),
        "valid_until": (now + timedelta(hours=valid_for_h)).isoformat(timespec="seconds")
        if valid_for_h
        else None,
        "counts": told.get("counts", {}),
        **told.get("facts", {}),
        "entry": secrets.token_hex(
            4
        ),  # no two entries are equal: stores that read back know their own by it
    }
    number = _newest_number(store) + 1
    while not storage.create_json(_entry(store, number), {"version": number, **said}):
        number += 1
    return Version(number, {"version": number, **said})


def point(store: Store) -> None:
    """Moves the pointer to the newest version, and never back.

    On stores where nobody can be kept waiting, it looks again whether a newer version came in between; killed right
    there, it may leave the pointer one version behind until the next publication.
    """
    with storage.one_at_a_time(f"{store.root}/{EXCLUSION_LIST.name}/{LOG}/.lock"):
        moved, newest = 0, _newest_number(store)
        while moved < newest:
            if entry := _read(_entry(store, newest)):
                storage.replace_json(_pointer(store.root), entry)
            moved, newest = newest, _newest_number(store)


@contextmanager
def nothing_is_removed(store: Store) -> Iterator[None]:
    """While this is held, retention waits: for those who make a version of what was written long ago.

    Held by one process at a time, and on local stores only.

    Raises:
        OutputError: the lock cannot be had.
    """
    with (
        _writing(store),
        storage.one_at_a_time(f"{store.root}/{EXCLUSION_LIST.name}/{LOG}/.approval.lock"),
    ):
        yield


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """Tells in four parts that a store does not let itself be written to as versions need it."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            doing=f"writing the versions of {store.root}",
            expected="a store that this user may write to, where files can be linked and locked",
            found=f"{type(error).__name__}: {error.strerror or error}",
            todo="see who may write to output.root, and docs/readers.md for the stores that are supported",
        ) from None


def log(store: Store) -> list[Version]:
    """All versions, oldest first."""
    names = _numbers(store)
    places = [_entry(store, number) for number in names]
    entries = map(_checked, storage.read_jsons(places), places)
    return [Version(number, said) for number, said in zip(names, entries, strict=True) if said]


def current(root: str, *, allow_stale: bool = False) -> Run:
    """The exclusion list that counts, verified.

    Raises:
        OutputError: nothing was published, it has expired (and `allow_stale` is not said), it comes from a newer
            toiletspark, or its files are not what its manifest says.
    """
    doing = f"reading the current exclusion list of {root}"
    pointer = _read(_pointer(root))
    require_known_layout(pointer, doing=doing)
    run = _named(root, pointer)
    if pointer is None or run is None:
        raise OutputError(
            doing=doing,
            expected=f"{EXCLUSION_LIST.name}/{POINTER} that names a complete version",
            found="no pointer"
            if pointer is None
            else f"the version {pointer['run_id']} without a manifest",
            todo="run `toiletspark publish` first; an unreadable list must not be taken for an empty one",
        )
    if not allow_stale:
        _require_valid(pointer, doing)
    require_unchanged(run, doing=doing)
    return run


def published(root: str) -> Run | None:
    """The list that the pointer names, as it stands, or None: for those who ask what is live, not for feeds."""
    return _named(root, _read(_pointer(root)))


def live(store: Store) -> Version | None:
    """The version that the pointer names, or None; pointers of before there was a log have the number 0."""
    pointer = _read(_pointer(store.root))
    return Version(int(pointer.get("version", 0)), pointer) if pointer else None


def companion(store: Store, version: Version | None, table: Table) -> Run | None:
    """Another table of a version, or None."""
    return store.run(table, version.run_id) if version else None


def require_known_layout(entry: dict[str, Any] | None, *, doing: str) -> None:
    """Stops where an entry, or the pointer, was made by a newer toiletspark.

    Raises:
        OutputError: it was.
    """
    if entry and int(entry.get("layout", 1)) > LAYOUT:
        raise _newer(entry["layout"], doing=doing)


def require_unchanged(run: Run, *, doing: str) -> None:
    """Stops where the files of a run are not those of its manifest.

    Raises:
        OutputError: a file is missing, new, or another one.
    """
    if not unchanged(run):
        count = len(run.files)
        raise OutputError(
            doing=doing,
            expected=f"the {count} files of the manifest of {run.run_id}, unchanged",
            found="other files, sizes or contents",
            todo="run `toiletspark publish` again; versions are never changed in place",
        )


def unchanged(run: Run) -> bool:
    """Whether the files of a run are those of its manifest, by all that it tells of them; early ones tell less."""
    whole = any(file.sha256 for file in run.files)
    try:
        found = runs.described_files(run.folder, whole=whole)
    except (OSError, pa.ArrowInvalid):  # gone while it was read, or no longer Parquet
        return False
    return found == run.files


def _checked(said: dict[str, Any] | None, location: str) -> dict[str, Any] | None:
    """An entry as it was written; None where there is none.

    Args:
        said: what the file holds.
        location: of the file, for messages.

    Raises:
        OutputError: it was damaged or altered since.
    """
    try:
        if said is not None:
            _Entry.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        doing, layout = f"reading {location}", said.get("layout") if said else None
        if isinstance(layout, int) and layout > LAYOUT:
            raise _newer(layout, doing=doing) from None
        raise OutputError(
            doing=doing,
            expected="an entry of the log of versions, as it was written",
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            todo="take the file from its backup, or run `toiletspark publish` again",
        ) from None
    return said


def _read(location: str) -> dict[str, Any] | None:
    """The entry in a file, see `_checked`; None where there is no such file."""
    return _checked(storage.read_json(location), location)


def _newer(layout: object, *, doing: str) -> OutputError:
    """What is told of an entry that a newer toiletspark has made."""
    return OutputError(
        doing=doing,
        expected=f"a version of layout {LAYOUT} at most",
        found=f"layout {layout}, made by a newer toiletspark",
        todo="read it with the toiletspark that publishes it",
    )


def _require_valid(pointer: dict[str, Any], doing: str) -> None:
    until = pointer.get("valid_until")
    if until and datetime.fromisoformat(until) < datetime.now(UTC):
        raise OutputError(
            doing=doing,
            expected="a version that is still valid",
            found=f"one of {pointer['published_at']}, valid until {until} (publish.valid_for_h)",
            todo="find out why nothing was published since; to go on with the old list, say allow_stale=True "
            "(feed.allow_stale=true)",
        )


def _named(root: str, pointer: dict[str, Any] | None) -> Run | None:
    return Store(root).run(EXCLUSION_LIST, pointer["run_id"]) if pointer else None


def _numbers(store: Store) -> list[int]:
    names = storage.entries(f"{store.root}/{EXCLUSION_LIST.name}/{LOG}")
    return sorted(
        int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit()
    )


def _newest_number(store: Store) -> int:
    return max(_numbers(store), default=0)


def _entry(store: Store, number: int) -> str:
    return f"{store.root}/{EXCLUSION_LIST.name}/{LOG}/{number:08d}.json"


def _pointer(root: str) -> str:
    return f"{root}/{EXCLUSION_LIST.name}/{POINTER}"
