"""The log of log, the pointer, and the way back; all without Spark."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import stored
from tests.support import small_versions
from tests.support.small_versions import killed_before_the_pointer, pointer, pointer_file, published
from toiletspark.config import Config, loading
from toiletspark.errors import OutputError
from toiletspark.publishing.versions import log, rollback
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import runs, schemas, storage
from toiletspark.tables.runs import Store


def back(store: Store, config: Config, number: int | None = None) -> Version:
    return rollback.roll_back(store, config.publish, number)


def refused(store: Store, config: Config, number: int | None = None) -> OutputError:
    """The error of a refused rollback, which has changed nothing."""
    before = (
        storage.read_json(str(pointer_file(store))),
        [version.as_json() for version in log.read_all(store)],
    )
    with pytest.raises(OutputError) as stopped:
        back(store, config, number)
    assert (
        storage.read_json(str(pointer_file(store))),
        [version.as_json() for version in log.read_all(store)],
    ) == before
    return stopped.value


# The log


def test_numbers_have_no_gap_and_the_pointer_is_the_newest_entry(store: Store) -> None:
    made = [published(store, excluded) for excluded in (1, 2, 3)]
    assert [version.number for version in made] == [1, 2, 3]
    assert [version.as_json() for version in log.read_all(store)] == [
        version.as_json() for version in made
    ]
    assert pointer(store) == made[-1].as_json()
    assert log.live(store) == made[-1]
    assert {
        name: pointer(store)[name]
        for name in ("layout", "decisions", "strata", "rows", "valid_until")
    } == {
        "layout": 2,
        "decisions": f"decisions/{made[-1].run_id}",
        "strata": f"strata/{made[-1].run_id}",
        "rows": 3,
        "valid_until": None,
    }


@pytest.mark.parametrize(("place", "publishers"), [("local", 4), ("memory", 1)])
def test_publishers_of_the_same_run_at_once_each_have_a_number_of_their_own(
    store: Store, place: str, publishers: int
) -> None:
    """All entries name the same run and second; only `entry` tells them apart.

    Memory stands for the stores that docs/readers.md gives one publisher at a time.
    """
    listed = small_versions.written(store)
    where = store if place == "local" else Store("memory://versions-at-once")
    together = threading.Barrier(publishers)

    def publish(_: int) -> list[int]:
        together.wait()
        return [log.publish(where, listed).number for _ in range(40 // publishers)]

    with ThreadPoolExecutor(publishers) as threads:
        numbers = list(itertools.chain.from_iterable(threads.map(publish, range(publishers))))
    assert sorted(numbers) == list(range(1, 41))
    assert [version.number for version in log.read_all(where)] == list(range(1, 41))
    live = log.live(where)
    assert live is not None
    assert live.number == 40
    storage.remove_folder("memory://versions-at-once")


def test_two_entries_are_never_equal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that read back an equal entry of another publisher would take it for its own."""
    listed = small_versions.written(store)
    monkeypatch.setattr(log, "_newest_number", lambda store: 0)
    told: list[dict[str, object]] = []
    monkeypatch.setattr(storage, "create_json", lambda location, content: not told.append(content))
    log.commit(store, listed)
    log.commit(store, listed)
    first, second = (
        {name: value for name, value in said.items() if name != "published_at"} for said in told
    )
    assert first != second


def test_the_pointer_never_moves_back(store: Store) -> None:
    first, second = published(store), published(store)
    log.point(store)  # of the first one's publisher, who was slow
    assert (first.number, pointer(store)["version"]) == (1, second.number)


def test_a_version_whose_publisher_was_killed_waits_unseen_and_the_next_is_newer(
    store: Store,
) -> None:
    first = published(store)
    before = pointer_file(store).read_bytes()
    assert killed_before_the_pointer(store).number == 2
    assert pointer_file(store).read_bytes() == before
    live = log.live(store)
    assert live is not None
    assert (live.number, live.run_id) == (1, first.run_id)
    assert published(store).number == 3
    assert pointer(store)["version"] == 3
    assert [version.number for version in log.read_all(store)] == [1, 2, 3]


def test_a_version_ends_when_it_says_so(store: Store) -> None:
    version = published(store, valid_for_h=2.0)
    until = datetime.fromisoformat(version.valid_until)
    assert timedelta(hours=1.9) < until - datetime.now(UTC) <= timedelta(hours=2)
    assert log.current(store.root).run_id == version.run_id
    told = {**pointer(store), "valid_until": "2026-01-02T03:04:05+00:00"}
    pointer_file(store).write_text(json.dumps(told))
    with pytest.raises(OutputError) as stopped:
        log.current(store.root)
    assert stopped.value.found == (
        f"one of {told['published_at']}, valid until 2026-01-02T03:04:05+00:00 "
        "(publish.valid_for_h)"
    )
    assert log.current(store.root, allow_stale=True).run_id == version.run_id


def test_a_newer_layout_is_told_whatever_it_looks_like(store: Store) -> None:
    published(store)
    pointer_file(store).write_text(json.dumps({"layout": 3, "versions": ["otherwise"]}))
    with pytest.raises(OutputError) as stopped:
        log.current(store.root)
    assert stopped.value.found == "layout 3, made by a newer toiletspark"


# The way back


def test_a_rollback_is_a_new_version_of_the_older_run(store: Store, config: Config) -> None:
    first = published(store, 1, "good", 0.4)
    published(store, 9, "bad", 0.6)
    publish = config.publish.model_copy(
        update={"valid_for_h": 24.0, "because": " kitchens were gone "}
    )
    version = rollback.roll_back(store, publish)
    assert (version.number, version.run_id, version.shows) == (3, first.run_id, 1)
    assert pointer(store) == version.as_json()
    unlike = {"version", "published_at", "valid_until", "entry", "rolled_back_to", "because"}
    assert {name: value for name, value in version.as_json().items() if name not in unlike} == {
        name: value for name, value in first.as_json().items() if name not in unlike
    }
    assert (version.rolled_back_to, version.because) == (1, "kitchens were gone")
    left = datetime.fromisoformat(version.valid_until) - datetime.now(UTC)
    assert timedelta(hours=23.9) < left <= timedelta(hours=24)
    assert log.current(store.root).run_id == first.run_id


def test_a_rollback_of_a_rollback_goes_further_back_and_never_to_and_fro(
    store: Store, config: Config
) -> None:
    runs_of = {number: published(store, number).run_id for number in (1, 2, 3)}
    gone = [
        (version.rolled_back_to, version.run_id)
        for version in (back(store, config), back(store, config))
    ]
    assert gone == [(2, runs_of[2]), (1, runs_of[1])]
    assert refused(store, config).found == "none: version 5 is live, which shows version 1"
    # an entry that is a rollback stands for what it shows
    assert back(store, config, 4).rolled_back_to == 2
    assert published(store).number == 7
    assert back(store, config).rolled_back_to == 2  # what was live before


def test_going_forth_again_by_number_undoes_a_rollback(store: Store, config: Config) -> None:
    published(store)
    second = published(store)
    back(store, config)
    assert back(store, config, 2).run_id == second.run_id
    assert log.current(store.root).run_id == second.run_id


def test_the_version_before_is_one_of_another_run(store: Store, config: Config) -> None:
    first, second = published(store), published(store)
    back(store, config, 2)  # the live one once more: valid for longer
    assert log.current(store.root).run_id == second.run_id
    log.publish(store, log.current(store.root))  # the same run twice, and no rollback
    assert back(store, config).run_id == first.run_id


def test_going_back_from_before_a_version_that_nobody_has_seen(
    store: Store, config: Config
) -> None:
    first, second = published(store), published(store)
    killed_before_the_pointer(store)
    assert log.live(store) == second
    version = back(store, config)
    assert (version.number, version.run_id) == (4, first.run_id)


def test_an_expired_version_is_valid_again_once_somebody_goes_back_to_it(
    store: Store, config: Config
) -> None:
    first = published(store, valid_for_h=1e-9)
    published(store)
    version = back(store, config)
    assert version.run_id == first.run_id
    assert log.current(store.root).run_id == first.run_id


def test_there_must_be_a_version_to_go_to(store: Store, config: Config) -> None:
    assert refused(store, config).found == "no version at all"
    assert refused(store, config, 1).found == "none was published yet"
    published(store)
    published(store)
    assert str(refused(store, config, 7)) == (
        "while rolling back to version 7\n"
        "  expected: one of the versions 1 to 2\n"
        "  found:    no version 7\n"
        "  do:       see `toiletspark publish list`"
    )


def test_a_folder_that_is_not_ours_is_left_as_it_is(tmp_path: Path, config: Config) -> None:
    folder = tmp_path / "output"
    assert str(refused(Store(str(folder)), config)) == (
        "while rolling back to the version before\n"
        f"  expected: toiletspark's _toiletspark.json in {folder}\n"
        "  found:    none\n"
        "  do:       set output.root to the folder that `toiletspark publish` writes to; "
        "nothing was touched"
    )
    assert not folder.exists()
    Store.open(str(folder))  # a lock left there would make it somebody else's folder


def test_the_first_version_has_none_before_it(store: Store, config: Config) -> None:
    published(store)
    assert str(refused(store, config)) == (
        "while rolling back to the version before\n"
        "  expected: a version before the one that is live\n"
        "  found:    none: version 1 is live\n"
        "  do:       see `toiletspark publish list`, and name one, "
        "as in `toiletspark publish rollback 3`"
    )


def test_a_version_whose_files_were_removed_is_refused_and_others_are_named(
    store: Store, config: Config
) -> None:
    made = [published(store) for _ in range(4)]
    storage.remove_folder(f"{store.root}/exclusion_list/{made[0].run_id}")
    storage.remove_folder(f"{store.root}/strata/{made[2].run_id}")
    stopped = refused(store, config)
    assert str(stopped) == (
        "while rolling back to the version before\n"
        f"  expected: version 3 with the files of its manifests (strata/{made[2].run_id})\n"
        "  found:    none any more; they were removed (publish.keep_days)\n"
        "  do:       choose another: 4, 2 have theirs"
    )
    assert refused(store, config, 1).found == "none any more; they were removed (publish.keep_days)"


@pytest.mark.parametrize("table", [table.name for table in log.TABLES])
def test_a_version_whose_files_were_changed_is_refused(
    store: Store, config: Config, table: str
) -> None:
    first = published(store)
    published(store)
    (Path(store.root) / table / first.run_id / "part-0.parquet").write_bytes(b"disk error")
    stopped = refused(store, config)
    assert stopped.found.startswith("'part-0.parquet: 10 bytes of ")
    assert f"({table}/{first.run_id})" in stopped.expected


@pytest.mark.parametrize("file", ["_versions/00000001.json", "_current.json"])
def test_an_older_toiletspark_does_not_go_back_where_a_newer_one_has_published(
    store: Store, config: Config, file: str
) -> None:
    published(store)
    published(store)
    path = Path(store.root) / "exclusion_list" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "layout": 3}))
    before = pointer(store)
    with pytest.raises(OutputError) as stopped:
        back(store, config, 1)
    assert stopped.value.found == "layout 3, made by a newer toiletspark"
    assert pointer(store) == before
    assert len(list((Path(store.root) / "exclusion_list" / "_versions").glob("*.json"))) == 2


def test_what_must_be_set_to_stay_is_told(store: Store, config: Config) -> None:
    run_id = runs.new_run_id()
    head = stored(store, schemas.HEADS, [], run_id=run_id, inputs={"head_id": "good"})
    published(store, 1, "good", 0.4)
    published(store, 9, "bad", 0.6)
    told = rollback.summary(store, config, back(store, config))
    assert told["next"] == (
        "the next publication decides anew, and with the same head and threshold it publishes "
        "again what you went back from; to stay with the head and threshold of version 1, "
        f'set score.head="{head.folder}" (and score again), '
        "publish.operating_threshold=0.4"
    )
    assert (told["version"], told["rolled_back_to"], told["head_id"]) == (3, 1, "good")
    changed = loading.load([], ["publish.policy.name=min_recall", "publish.policy.value=0.9"])
    told = rollback.summary(store, changed, back(store, config, 2))
    assert told["next"].endswith(
        "set score.head to the folder of head bad, publish.policy.name=fixed, "
        "publish.operating_threshold=0.6"
    )


def test_a_store_without_links_is_told_in_four_parts(
    store: Store, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(store, excluded=1)
    before = pointer_file(store).read_bytes()

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    with pytest.raises(OutputError) as stopped:
        published(store, excluded=2)
    assert str(stopped.value) == (
        f"while writing the versions of {store.root}\n"
        "  expected: a store that this user may write to, where files can be linked and locked\n"
        "  found:    PermissionError: Operation not permitted\n"
        "  do:       see who may write to output.root, and docs/readers.md for the supported stores"
    )
    assert pointer_file(store).read_bytes() == before
    monkeypatch.setattr("fcntl.flock", no_links)
    with pytest.raises(OutputError, match="PermissionError: Operation not permitted"):
        back(store, config, 1)
