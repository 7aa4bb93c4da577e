"""Deduplication: contents with an embedding, and the task that embeds a new one."""

import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from toiletspark.embedding.dedup import PART_DIGITS, Claims, KnownContents
from toiletspark.hashing import content_digest

DIGESTS = [content_digest(str(number).encode()) for number in range(20_000)]


def known(*digests: str) -> KnownContents:
    parts = [(digest[:PART_DIGITS], digest[PART_DIGITS : 2 * PART_DIGITS]) for digest in digests]
    return KnownContents.from_parts(
        [int(high, 16) for high, _ in parts], [int(low, 16) for _, low in parts]
    )


# KnownContents


def test_known_contents_are_those_of_a_set() -> None:
    rng = random.Random(3)
    there = rng.sample(DIGESTS, 10_000)
    result = known(*there)
    assert {digest for digest in DIGESTS if digest in result} == set(there)


def test_a_content_that_stands_there_twice_is_known() -> None:
    result = known(DIGESTS[1], DIGESTS[0], DIGESTS[1], DIGESTS[1])
    assert [digest in result for digest in DIGESTS[:3]] == [True, True, False]


def test_both_halves_of_a_digest_decide() -> None:
    digest = "0" * 64
    other = digest[:PART_DIGITS] + "1" + digest[PART_DIGITS + 1 :]
    assert (digest in known(digest), other in known(digest)) == (True, False)


def test_the_smallest_and_the_largest_digest_are_found() -> None:
    ends = ["0" * 64, "f" * 64]
    result = known(*ends)
    assert all(digest in result for digest in ends)
    assert DIGESTS[0] not in result
    assert result.high.dtype == result.low.dtype == np.int64


@pytest.mark.parametrize("nothing", [None, 7, b"0" * 64])
def test_what_is_no_digest_is_not_known(nothing: object) -> None:
    assert nothing not in known("0" * 64)


def test_nothing_is_known_at_first_and_more_can_be_added() -> None:
    nothing = KnownContents.from_parts([], [])
    assert DIGESTS[0] not in nothing
    more = nothing.union(known(DIGESTS[5], DIGESTS[0])).union(known(DIGESTS[3])).union(nothing)
    assert [digest in more for digest in DIGESTS[:6]] == [True, False, False, True, False, True]
    assert DIGESTS[0] not in nothing


# Claims


def test_of_two_tasks_the_first_has_the_content(tmp_path: Path) -> None:
    one, two = Claims(tmp_path / "commit", "1"), Claims(tmp_path / "commit", "2")
    assert one.claim("a")
    assert not two.claim("a")
    assert two.claim("b")
    assert not one.claim("b")


def test_a_task_that_is_tried_again_keeps_its_own(tmp_path: Path) -> None:
    assert Claims(tmp_path, "1").claim("a")
    assert Claims(tmp_path, "1").claim("a")
    assert not Claims(tmp_path, "11").claim("a")


def test_a_claim_is_no_file_of_its_own(tmp_path: Path) -> None:
    """Room for a file may take a disk with many of them 0.7 ms, for each image."""
    claims = Claims(tmp_path, "1")
    assert all(claims.claim(name) for name in "abc")
    assert len({file.stat().st_ino for file in tmp_path.iterdir()}) == 1


def test_a_task_may_have_more_claims_than_a_file_may_have_names(tmp_path: Path) -> None:
    one, two = Claims(tmp_path, "1"), Claims(tmp_path, "2")
    many = 65_100  # ext4 gives 65,000
    assert all(one.claim(str(number)) for number in range(many))
    last = [str(many - 1), "0"]
    assert [two.claim(name) for name in last] == [False, False]
    assert [Claims(tmp_path, "1").claim(name) for name in last] == [True, True]


def test_a_disk_without_second_names_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError("one name only")

    monkeypatch.setattr(os, "link", refuses)
    one, two = Claims(tmp_path, "1"), Claims(tmp_path, "2")
    assert [one.claim("a"), two.claim("a"), two.claim("b"), one.claim("b")] == [
        True,
        False,
        True,
        False,
    ]
    assert Claims(tmp_path, "2").claim("b")


def test_another_commit_shares_out_anew(tmp_path: Path) -> None:
    assert Claims(tmp_path / "first", "1").claim("a")
    assert Claims(tmp_path / "second", "2").claim("a")


def test_of_many_tasks_at_once_exactly_one_has_the_content(tmp_path: Path) -> None:
    tasks = 16
    digests = DIGESTS[:60]
    begin = threading.Barrier(tasks)
    had: list[str] = []

    def work(task: int) -> None:
        claims = Claims(tmp_path / "commit", str(task))
        begin.wait()
        had.extend(digest for digest in digests if claims.claim(digest))

    threads = [threading.Thread(target=work, args=(task,)) for task in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(had) == sorted(digests)
