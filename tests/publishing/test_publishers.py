"""Publishers and readers at once, in processes of their own; `make bench-publish` is larger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import publish
from tests.publishing.test_approvals import publishing, written
from toiletspark.config import Config
from toiletspark.errors import AuditError
from toiletspark.publishing import publication
from toiletspark.publishing.versions import log, rollback
from toiletspark.publishing.versions.log import Version
from toiletspark.tables.runs import Run, Store


def test_four_publishers_at_once_lose_no_version(tmp_path: Path) -> None:
    told = publish.publishers_at_once(str(tmp_path / "output"), 4, 10)
    assert told.pop("polls") > 0
    told.pop("seconds")
    assert told == {
        "versions": 40,
        "of": 40,
        "contiguous": True,
        "lost": 0,
        "doubled": 0,
        "newest_is_live": True,
        "moved_back": 0,
    }


def test_a_reader_sees_whole_versions_while_others_are_published(tmp_path: Path) -> None:
    told = publish.while_reading(str(tmp_path / "output"), 60, 1.0, kinds=["pandas"])
    assert (told["publishes"], told["bad_reads"], told["first_bad"]) == (60, 0, [])
    assert told["reads"] >= 20
    assert told["versions_seen_by"]["pandas"] >= 10


def test_a_lost_answer_loses_and_doubles_no_version(tmp_path: Path) -> None:
    assert publish.lost_answers(str(tmp_path / "output"), 5) == {
        "injected": 5,
        "lost": 0,
        "doubled": 0,
        "live": True,
    }


def test_a_publisher_that_is_overtaken_does_not_move_the_pointer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one takes the next number and moves the pointer just before this one would."""
    store = Store.open(str(tmp_path / "output"))
    commit = log.commit
    newer = publish.write(store, 2)

    def overtaken(*args: Any, **facts: Any) -> Version:
        version = commit(*args, **facts)
        monkeypatch.setattr(log, "commit", commit)
        log.publish(store, newer)
        return version

    monkeypatch.setattr(log, "commit", overtaken)
    assert log.publish(store, publish.write(store, 1)).number == 1
    live = log.live(store)
    assert live is not None
    assert (live.number, live.run_id) == (2, newer.run_id)


# What was published while a list was made


def shipped(store: Store, config: Config, listed: Run) -> Version:
    return publication.ship(store, config, listed).version


def of_catalog(store: Store, catalog: str, **how: Any) -> Callable[[Config], Version]:
    """Another publisher's version, made before it is shipped."""
    listed = written(store, catalog=catalog, **how)
    return lambda config: shipped(store, config, listed)


def refused(store: Store, config: Config, listed: Run) -> AuditError:
    before = log.read_all(store)
    with pytest.raises(AuditError) as stopped:
        shipped(store, config, listed)
    assert log.read_all(store) == before
    assert log.live(store) == before[-1]
    return stopped.value


def test_a_list_of_an_older_catalog_does_not_follow_a_newer_one_that_came_meanwhile(
    store: Store, config: Config
) -> None:
    of_catalog(store, "C1")(config)
    ours = written(store, catalog="C1")
    newer = of_catalog(store, "C2")
    newer(config)
    assert str(refused(store, config, ours)) == (
        f"while publishing the exclusion list {ours.run_id}\n"
        "  expected: version 1 to be live, against which it was made\n"
        "  found:    overtaken: version 2 is live, made from the newer catalog C2 "
        "(this one from C1)\n"
        "  do:       the last version stays in force; publish again: `toiletspark publish`"
    )


def test_a_first_version_can_be_overtaken_too(store: Store, config: Config) -> None:
    ours = written(store, catalog="C1")
    newer = of_catalog(store, "C2")
    newer(config)
    assert refused(store, config, ours).expected == "no version to be live, as when it was made"


@pytest.mark.parametrize("catalog", ["C1", "C2"], ids=["the same catalog", "ours is newer"])
def test_what_undoes_nothing_follows_whatever_came_meanwhile(
    store: Store, config: Config, catalog: str
) -> None:
    of_catalog(store, "C1")(config)
    ours = written(store, catalog=catalog)
    other = of_catalog(store, "C1", threshold=0.6)
    other(config)
    assert shipped(store, config, ours).number == 3


def test_a_rollback_during_a_run_stands_also_where_it_goes_to_what_the_run_began_with(
    store: Store, config: Config
) -> None:
    of_catalog(store, "C1")(config)
    ours = written(store, catalog="C2")
    bad = of_catalog(store, "C2")
    bad(config)
    rollback.roll_back(store, config.publish)
    assert (
        refused(store, config, ours).found
        == "overtaken: version 3 is live, a rollback to version 1"
    )
    # made since, so it is meant
    assert shipped(store, config, written(store, catalog="C2")).number == 4


def test_what_nobody_has_looked_at_does_not_follow_another_head_that_came_meanwhile(
    store: Store, config: Config
) -> None:
    asking = publishing(config, require_approval=True)
    of_catalog(store, "C1")(config)
    ours = written(store, catalog="C1")
    other = of_catalog(store, "C1", head="another")
    other(config)
    assert refused(store, asking, ours).found == (
        "overtaken: version 2 is live, of another head or operating threshold "
        "(publish.require_approval)"
    )
    assert shipped(store, config, ours).number == 3


@pytest.mark.parametrize("harm", ["mixed", "partial", "empty"])
def test_the_measurement_sees_bad_reads(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["r"] if harm != "mixed" else ["r", "s"]
    count = {"mixed": 5, "partial": 4, "empty": 0}[harm]
    heard: list[tuple[str, dict[str, object]]] = []

    class Once:
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 1

        def release(self) -> None: ...

        def put(self, said: tuple[str, dict[str, object]]) -> None:
            heard.append(said)

    once = Once()
    monkeypatch.setattr(
        publish, "_pandas_reader", lambda root: lambda: (count, set(run), {"5"} if count else set())
    )
    publish._read("pandas", str(tmp_path), once, once, once)
    ((_, said),) = heard
    assert said["reads"] == 1
    assert len(said["bad"]) == 1  # type: ignore[arg-type]
