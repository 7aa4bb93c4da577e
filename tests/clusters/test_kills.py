"""Executors, workers and driver are killed on a standalone cluster, and the list is the same.

The story of `make bench-chaos` with a tenth of its images and one of its three executors; the cost
of each kill is looked at in tests/embedding/test_commits.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import chaos

pytestmark = pytest.mark.minutes

IMAGES, HOSTILE = 200, 20


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return chaos.run(tmp_path_factory.mktemp("chaos"), IMAGES, HOSTILE, executors_at=(0.35,))


def test_what_is_published_is_what_one_process_finds(told: dict[str, Any]) -> None:
    assert [one["unequal"] for one in told["compared"]] == [[], []]
    assert told["equal_to_oracle"]
    assert told["images"] == IMAGES
    # some files of a collection of broken ones are whole
    assert HOSTILE - 2 <= told["hostile"] <= HOSTILE


def test_all_that_was_to_die_died_while_tasks_were_at_work(told: dict[str, Any]) -> None:
    assert [one["what"] for one in told["kills"]] == [
        "executor",
        "driver",
        "Python worker",
        "Worker with its executors",
    ]
    assert told["lost_tasks"] >= 1  # and each was tried again


def test_the_slow_task_had_a_second_copy(told: dict[str, Any]) -> None:
    """Its first image is held back until two tasks have asked for it."""
    assert told["speculative_copy"]


def test_no_reader_saw_anything_but_a_whole_version(told: dict[str, Any]) -> None:
    assert told["reads"] > 20
    assert (told["bad_reads"], told["first_bad"]) == (0, [])
