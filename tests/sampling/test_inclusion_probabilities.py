"""Inclusion probabilities: they add up, nothing is without a chance, and what they weigh is
unbiased.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from toiletspark.sampling import active_learning
from toiletspark.sampling.inclusion_probabilities import CERTAIN, SIZE_ONE, Chances, chances

Ints = NDArray[np.int64]


def chances_of(sizes: Ints, wanted: int, share: float) -> Ints:
    largest = np.sort(sizes)[::-1][:wanted]
    return chances(largest, int(sizes.sum()), len(sizes), wanted, share).of(sizes)


def skewed(units: int, seed: int = 0, power: float = 8.0) -> Ints:
    """Sizes as a head's uncertainties have them: most near 0, a few near 1."""
    return np.round(np.random.default_rng(seed).random(units) ** power * SIZE_ONE).astype(np.int64)


def systematic(chance: Ints, start: int) -> tuple[Ints, list[str]]:
    """The obvious draw: points start, start + 1, ... on the line of all chances; rows, and which
    part was hit.
    """
    ends = np.cumsum(chance)
    points = np.arange(start, ends[-1], CERTAIN)
    rows = np.searchsorted(ends, points, side="right")
    return rows, [
        int(point - (ends[row] - chance[row])) for point, row in zip(points, rows, strict=True)
    ]


# Chances


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("wanted", [1, 7, 500, 4999])
def test_chances_add_up_and_everything_has_one(wanted: int, share: float) -> None:
    sizes = skewed(5000)
    chance = chances_of(sizes, wanted, share)
    assert chance.sum() / CERTAIN == pytest.approx(wanted, abs=1e-6)
    assert chance.min() >= share * wanted / 5000 * CERTAIN * 0.999
    assert chance.max() <= CERTAIN
    assert (np.diff(chance[np.argsort(sizes)]) >= 0).all()


def test_the_uneven_part_is_in_proportion_to_size_up_to_certainty() -> None:
    sizes = np.array(
        [SIZE_ONE, *[SIZE_ONE // 100] * 50, *[SIZE_ONE // 200] * 50, *[0] * 99], dtype=np.int64
    )
    chance = chances_of(sizes, 20, 0.5) / CERTAIN
    even = 0.5 * 20 / 200
    assert chance[0] == 1  # in proportion it would be above
    assert chance[-1] == pytest.approx(even)
    assert (chance[1] - even) / (chance[60] - even) == pytest.approx(2)
    assert chance.sum() == pytest.approx(20)


@pytest.mark.parametrize(
    "sizes", [[0] * 10, [5, 7, *[0] * 8], [SIZE_ONE] * 10], ids=["none", "few", "all alike"]
)
def test_what_certainty_leaves_over_goes_to_the_others(sizes: list[int]) -> None:
    chance = chances_of(np.array(sizes, dtype=np.int64), 6, 0.3) / CERTAIN
    assert chance.sum() == pytest.approx(6)
    assert chance[2:] == pytest.approx(chance[2])
    assert chance[:2] == pytest.approx(1.0 if sizes[0] == 5 else chance[2])


@pytest.mark.parametrize("units", [0, 3, 5])
def test_no_more_than_wanted_are_all_certain(units: int) -> None:
    assert chances_of(skewed(units), 5, 0.3).tolist() == [CERTAIN] * units
    assert chances(np.zeros(0, np.int64), 0, 0, 5, 0.3) == Chances(CERTAIN, 0.0)


# What they weigh


def test_estimates_are_unbiased() -> None:
    """Totals over 400 draws against the truth: of all, of a rare class that hides among the sure
    ones, by stratum.
    """
    random = np.random.default_rng(5)
    sizes = skewed(3000, 1)
    truth = {
        "all": np.ones(3000),
        "rare and sure": (random.random(3000) < 0.03) & (sizes < np.median(sizes)),
        "uncertain": sizes / SIZE_ONE,
        "stratum": np.arange(3000) >= 2000,  # the contents of a stratum lie together on the line
    }
    chance = chances_of(sizes, 120, 0.3)
    result: dict[str, list[float]] = {name: [] for name in truth}
    for _ in range(400):
        order = np.concatenate([random.permutation(2000), 2000 + random.permutation(1000)])
        rows, _ = systematic(chance[order], int(random.integers(CERTAIN)))
        drawn = order[rows]
        assert len(drawn) == 120 and len(set(drawn.tolist())) == 120
        for name, values in truth.items():
            result[name].append(float((values[drawn] * CERTAIN / chance[drawn]).sum()))
    for name, values in truth.items():
        error = np.std(result[name], ddof=1) / np.sqrt(400)
        assert abs(np.mean(result[name]) - values.sum()) < 3 * error, name
        assert error < 0.08 * values.sum(), name  # or the test could not fail


def test_pictures_that_stand_for_others_carry_their_weight() -> None:
    """Contents that several images show, and lookalikes of one label: totals over images stay
    unbiased.
    """
    random = np.random.default_rng(8)
    units, wanted = 300, 60
    # contents of one family look alike and have one label
    families = random.integers(0, 100, units)
    directions = np.eye(100, dtype=np.float32)[families]
    toilets = families % 5 == 0
    images = random.integers(1, 4, units)
    chance = chances_of(skewed(units, 2), wanted, 0.4)
    result, lengths = [], []
    for seed in range(300):
        order = random.permutation(units)
        rows, _ = systematic(chance[order], int(random.integers(CERTAIN)))
        drawn = [
            {
                **{
                    "image_id": f"i{at}",
                    "listing_id": "L",
                    "content_digest": f"d{at}",
                    "reason": "random",
                },
                **{"suggested": None, "images": int(images[at]), "chance": int(chance[at])},
            }
            for at in order[rows].tolist()
        ]
        vectors = {f"d{at}": directions[at] for at in range(units)}
        queue, stands_for = active_learning.make_queue(drawn, vectors, 0.97, seed)
        assert len(queue) + len(stands_for) == wanted
        lengths.append(len(queue))
        result.append(
            sum(toilets[int(row["image_id"][1:])] / row["inclusion_probability"] for row in queue)
        )
    error = np.std(result, ddof=1) / np.sqrt(300)
    assert max(lengths) < wanted  # lookalikes were drawn
    assert abs(np.mean(result) - images[toilets].sum()) < 3 * error
    assert error < 0.05 * images[toilets].sum()


def test_the_queue_is_in_the_order_of_a_hash_and_names_who_stands_for_whom() -> None:
    names = ("image_id", "listing_id", "content_digest", "reason", "suggested", "images", "chance")
    rows = [
        (f"i{at}", "L", f"d{at}", "uncertain", "other", at + 1, CERTAIN // 2) for at in range(4)
    ]
    # 0 and 1 look alike, and 2 and 3
    vectors = {f"d{at}": np.array([1.0, at // 2], np.float32) for at in range(4)}
    drawn = [dict(zip(names, row, strict=True)) for row in rows]
    queue, stands_for = active_learning.make_queue(drawn, vectors, 0.97, seed=1)
    again, _ = active_learning.make_queue(drawn[::-1], vectors, 0.97, seed=1)
    assert queue == again
    assert [row["rank"] for row in queue] == [1, 2]
    assert queue[0]["score"] > queue[1]["score"]
    assert {frozenset(pair) for pair in stands_for.items()} == {
        frozenset(("i0", "i1")),
        frozenset(("i2", "i3")),
    }
    assert {row["image_id"] for row in queue} == set(stands_for.values())
    weights = {row["image_id"]: 1 / row["inclusion_probability"] for row in queue}
    assert sorted(weights.values()) == pytest.approx([2 * (1 + 2), 2 * (3 + 4)])
    assert active_learning.make_queue(drawn, vectors, 0.97, seed=2)[0] != queue
    assert active_learning.make_queue([], {}, 0.97, seed=1) == ([], {})
