"""Publishers and readers at once, in their own processes, on a small scale; `make bench-publish` has a large one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import publish
from toiletspark import versions
from toiletspark.runs import Store
from toiletspark.versions import Version


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
    assert publish.lost_answers(str(tmp_path / "output"), 5) == {"injected": 5, "lost": 0, "doubled": 0, "live": True}


def test_a_version_whose_publisher_died_before_the_pointer_moved_waits_unseen(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "output"))
    first = versions.publish(store, publish.write(store, 1))
    versions.commit(store, publish.write(store, 2))
    live = versions.live(store)
    assert live is not None
    assert (live.number, live.run_id) == (1, first.run_id)
    assert versions.publish(store, publish.write(store, 3)).number == 3
    assert [version.number for version in versions.log(store)] == [1, 2, 3]


def test_a_publisher_that_is_overtaken_does_not_move_the_pointer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one takes the next number and moves the pointer between this one's number and its pointer."""
    store = Store.open(str(tmp_path / "output"))
    commit, newer = versions.commit, publish.write(store, 2)

    def overtaken(*args: Any, **facts: Any) -> Version:
        version = commit(*args, **facts)
        monkeypatch.setattr(versions, "commit", commit)
        versions.publish(store, newer)
        return version

    monkeypatch.setattr(versions, "commit", overtaken)
    assert versions.publish(store, publish.write(store, 1)).number == 1
    live = versions.live(store)
    assert live is not None
    assert (live.number, live.run_id) == (2, newer.run_id)


@pytest.mark.parametrize("harm", ["mixed", "partial", "empty"])
def test_the_measurement_sees_bad_reads(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(publish, "_pandas_reader", lambda root: lambda: (count, set(run), {"5"} if count else set()))
    publish._read("pandas", str(tmp_path), once, once, once)
    ((_, said),) = heard
    assert said["reads"] == 1
    assert len(said["bad"]) == 1  # type: ignore[arg-type]
