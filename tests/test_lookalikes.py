"""Lookalikes: as the plain cosine says, in any batch."""

import numpy as np
import pytest

from toiletspark import lookalikes


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


@pytest.mark.parametrize("others", [1, 40, 5000])
def test_near_is_what_the_cosines_say(others: int) -> None:
    random = np.random.default_rng(others)
    ours = np.abs(random.normal(size=(30, 16))).astype(np.float32)
    of = np.abs(random.normal(size=(others, 16))).astype(np.float32)
    of[-1] = ours[7] * 3.5  # the last of the last batch
    found = lookalikes.near(ours, of, 0.9)
    assert found.tolist() == [any(cosine(one, other) >= 0.9 for other in of) for one in ours]
    assert found[7]
    assert not found.all() or others == 5000


def test_nothing_is_near_nothing() -> None:
    assert lookalikes.near(np.ones((3, 4), np.float32), np.zeros((0, 4), np.float32), 0.5).tolist() == [False] * 3
    assert lookalikes.near(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32), 0.5).shape == (0,)
    black = np.zeros((2, 4), np.float32)
    assert lookalikes.near(black, black, 0.5).tolist() == [False, False]


def test_the_first_stands_for_those_that_look_like_it() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0.01], [0, 2], [1, 1]], np.float32)
    assert lookalikes.first_alike(rows, 0.97).tolist() == [0, 1, 0, 1, 4]
    assert lookalikes.first_alike(np.zeros((2, 3), np.float32), 0.97).tolist() == [0, 1]
    assert lookalikes.first_alike(np.zeros((0, 3), np.float32), 0.97).tolist() == []
