"""Old runs are removed after a publication, and no others; without Spark."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_versions
from tests.support.small_versions import killed_before_the_pointer, published
from toiletspark.config import Publish, loading
from toiletspark.publishing.versions import log, retention, rollback
from toiletspark.publishing.versions.log import History
from toiletspark.tables import runs, schemas, storage
from toiletspark.tables.runs import Run, Store

NOW = datetime.now(UTC)
TABLES = [table.name for table in log.TABLES]


def keeping(days: float = 30.0, unpublished_days: float = 7.0) -> Publish:
    sets = [f"publish.keep_days={days}", f"publish.keep_unpublished_days={unpublished_days}"]
    return loading.load([], sets).publish


def clean(store: Store, publish: Publish, now: datetime = NOW) -> list[str]:
    return retention.clean(History.read(store), publish, now)


def published_days_ago(store: Store, days: float) -> log.Version:
    """A version whose entry says that it was published then, by a run of then."""
    version = log.publish(store, written_days_ago(store, days))
    entry = Path(store.root) / "exclusion_list" / "_versions" / f"{version.number:08d}.json"
    told = {
        **version.as_json(),
        "published_at": (NOW - timedelta(days=days)).isoformat(timespec="seconds"),
    }
    entry.write_text(json.dumps(told))
    log.point(store)
    return log.Version.model_validate(told)


def written_days_ago(store: Store, days: float) -> Run:
    then = runs.run_id_at(NOW - timedelta(days=days))
    return small_versions.written(
        store, run_id=f"{then}-{len(storage.entries(f'{store.root}/decisions')):04x}"
    )


def folders(run_id: str) -> list[str]:
    return [f"{name}/{run_id}" for name in TABLES]


def there(store: Store) -> set[str]:
    """The runs of which anything lies in any of the tables."""
    names = itertools.chain(*(storage.entries(f"{store.root}/{table}") for table in TABLES))
    return set(filter(runs.RUN_ID.fullmatch, names))


# Versions


def test_a_version_goes_with_all_its_tables_once_it_was_replaced_long_ago(store: Store) -> None:
    first, second, third = (published_days_ago(store, days) for days in (90, 31, 29))
    before = [version.as_json() for version in log.read_all(store)]
    assert clean(store, keeping(30), NOW) == folders(first.run_id)
    assert there(store) == {second.run_id, third.run_id}
    assert [version.as_json() for version in log.read_all(store)] == before
    assert log.current(store.root).run_id == third.run_id
    assert clean(store, keeping(30), NOW) == []


def test_a_version_is_as_old_as_its_replacement_so_that_the_way_back_is_not_lost(
    store: Store,
) -> None:
    first = published_days_ago(store, 300)
    published_days_ago(store, 0)
    assert clean(store, keeping(30), NOW) == []
    assert rollback.roll_back(store, keeping(30)).run_id == first.run_id


def test_the_live_version_stays_however_old_and_so_does_one_that_was_gone_back_to(
    store: Store,
) -> None:
    first, second = published_days_ago(store, 200), published_days_ago(store, 100)
    assert clean(store, keeping(200), NOW) == []
    rollback.roll_back(store, keeping(), 1)
    assert clean(store, keeping(30), NOW + timedelta(days=1)) == []
    assert clean(store, keeping(30), NOW + timedelta(days=31)) == folders(second.run_id)
    assert log.current(store.root).run_id == first.run_id


def test_what_is_live_stays_though_a_newer_version_waits_unseen(store: Store) -> None:
    live = published(store)
    waiting = killed_before_the_pointer(store)
    assert clean(store, keeping(30), NOW + timedelta(days=400)) == []
    assert there(store) == {live.run_id, waiting.run_id}


@pytest.mark.parametrize(("days", "unpublished_days"), [(0, 7), (0, 0), (30, 0)])
def test_zero_is_never(store: Store, days: float, unpublished_days: float) -> None:
    old = published_days_ago(store, 1000)
    failed = written_days_ago(store, 800)
    published_days_ago(store, 500)
    expected = folders(old.run_id) if days else folders(failed.run_id) if unpublished_days else []
    assert clean(store, keeping(days, unpublished_days), NOW) == expected


# What was never published


def test_what_was_never_published_goes_after_its_days_and_the_plan_with_it(store: Store) -> None:
    published_days_ago(store, 20)
    old, young = written_days_ago(store, 8), written_days_ago(store, 6)
    storage.replace_json(f"{store.folder(schemas.EXCLUSION_LIST, old.run_id)}/_plan.json", {})
    assert clean(store, keeping(), NOW) == folders(old.run_id)
    assert young.run_id in there(store)
    assert old.run_id not in there(store)


def test_a_folder_that_is_not_complete_is_left_to_those_who_clear_them(store: Store) -> None:
    live = published_days_ago(store, 20)
    broken = written_days_ago(store, 8)
    for name in TABLES[1:]:
        (Path(store.root) / name / broken.run_id / runs.MANIFEST).unlink()
    assert clean(store, keeping(), NOW) == [f"decisions/{broken.run_id}"]
    assert there(store) == {live.run_id, broken.run_id}


def test_other_tables_and_strangers_files_are_left_alone(store: Store) -> None:
    published_days_ago(store, 20)
    names = [
        "exclusion_list/notes.txt",
        "exclusion_list/_versions/00000001.json",
        "decisions/mine/part.parquet",
    ]
    old = f"{runs.run_id_at(NOW - timedelta(days=300))}-0000"
    for name in (names[0], names[2], f"scores/{old}/_manifest.json", f"feed/{old}/_manifest.json"):
        storage.replace_json(f"{store.root}/{name}", {"rows": 0})
    assert clean(store, keeping(), NOW) == []
    assert all(
        storage.exists(f"{store.root}/{name}") for name in [*names, f"scores/{old}", f"feed/{old}"]
    )


def test_a_store_without_a_version_loses_nothing(store: Store) -> None:
    written_days_ago(store, 300)
    assert clean(store, keeping(), NOW) == []


# Broken off


def test_a_removal_that_is_broken_off_leaves_nothing_readable_and_the_next_ends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = published_days_ago(store, 90), published_days_ago(store, 40)
    live = published_days_ago(store, 1)
    order: list[str] = []
    remove_file, remove_folder = storage.remove_file, storage.remove_folder

    def gone(location: str) -> None:
        order.append(location.removeprefix(f"{store.root}/").split("/")[0])
        remove_file(location)

    def full(location: str) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "remove_file", gone)
    monkeypatch.setattr(storage, "remove_folder", full)
    assert clean(store, keeping(30), NOW) == []
    assert caplog.messages == [
        f"the old run {first.run_id} could not be removed: [Errno 5] Input/output error"
    ]
    assert order == ["exclusion_list", "decisions", "unscored", "strata"]
    assert [store.run(table, first.run_id) for table in log.TABLES] == [None] * 4
    monkeypatch.setattr(storage, "remove_folder", remove_folder)
    assert clean(store, keeping(30), NOW) == folders(first.run_id)
    assert log.current(store.root).run_id == live.run_id


def test_a_file_is_removed_and_a_missing_one_is_no_error(tmp_path: Path) -> None:
    for root in (str(tmp_path), "memory://removal"):
        storage.replace_json(f"{root}/a.json", {})
        storage.remove_file(f"{root}/a.json")
        storage.remove_file(f"{root}/a.json")
        assert not storage.exists(f"{root}/a.json")
