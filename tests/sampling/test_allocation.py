"""Allocation: equals adding units one by one, keeps its bounds, never shrinks a stratum."""

import itertools
import math
import random
from typing import Any

import pytest

from tests.conftest import literal_config
from toiletspark.config import Sample
from toiletspark.errors import ConfigError
from toiletspark.sampling.allocation import Method, Stratum, allocate, allocate_sample

METHODS: tuple[Method, ...] = ("proportional", "sqrt", "neyman", "equal")


def cell(name: str, units: int, weight: float = 1.0, deviation: float = 1.0) -> Stratum:
    return Stratum(name, units, units, weight, deviation)


def random_cells(rng: random.Random) -> list[Stratum]:
    cells = []
    for number in range(rng.randint(1, 25)):
        units = rng.choice([1, 2, rng.randint(1, 30), rng.randint(1, 300)])
        weight = rng.choice([0, 1, 1, rng.randint(0, units), rng.uniform(0, 5e6)])
        cells.append(
            cell(f"s{number:02}", units, float(weight), rng.choice([0.0, 0.25, 0.5, rng.random()]))
        )
    return rng.sample(cells, len(cells))


def one_by_one(
    cells: list[Stratum], size: int, method: Method, least: int, most: int
) -> dict[str, int]:
    """The slow, obvious version."""
    measures = {
        "proportional": lambda c: c.weight,
        "sqrt": lambda c: math.sqrt(c.weight),
        "equal": lambda c: 1.0,
    }
    measure = measures.get(method, lambda c: c.units * c.deviation)
    ordered = sorted(cells, key=lambda c: c.name)
    full = {c.name: min(c.units, most or c.units) for c in ordered}
    given = {c.name: min(full[c.name], least) for c in ordered}
    while sum(given.values()) < size:
        waiting = [c for c in ordered if given[c.name] < full[c.name]]
        if not waiting:
            break
        claims = {c.name: (measure(c) / (given[c.name] + 0.5), 0.0) for c in waiting}
        if not any(claim for claim, _ in claims.values()):
            claims = {c.name: (0.0, c.units / (given[c.name] + 0.5)) for c in waiting}
        given[max(waiting, key=lambda c: claims[c.name]).name] += 1
    return given


@pytest.mark.parametrize("method", METHODS)
def test_seats_go_to_the_highest_claim(method: Method) -> None:
    rng = random.Random(11)
    for _ in range(250):
        cells = random_cells(rng)
        size, least, most = (
            rng.choice([1, rng.randint(1, 900)]),
            rng.choice([0, 1, 3, 10]),
            rng.choice([0, 0, 10, 40]),
        )
        assert allocate(cells, size, method, least, most) == one_by_one(
            cells, size, method, least, most
        )


def test_it_adds_up_within_its_bounds() -> None:
    rng = random.Random(12)
    for _ in range(300):
        cells = random_cells(rng)
        least = rng.choice([0, 1, 10, 50])
        most = rng.choice([0, 50, 80])
        size = rng.choice([1, rng.randint(1, 100), rng.randint(1, 5_000)])
        result = allocate(cells, size, rng.choice(METHODS), least, most)
        full = {c.name: min(c.units, most or c.units) for c in cells}
        low = {c.name: min(full[c.name], least) for c in cells}
        assert list(result) == sorted(full)
        assert all(low[name] <= count <= full[name] for name, count in result.items())
        assert sum(result.values()) == min(sum(full.values()), max(size, sum(low.values())))


@pytest.mark.parametrize("method", METHODS)
def test_a_larger_sample_takes_nothing_away(method: Method) -> None:
    """Every size from 0 to all there is; largest remainder fails this (the Alabama paradox)."""
    rng = random.Random(13)
    for _ in range(6):
        cells = random_cells(rng)
        least = rng.choice([0, 1, 5])
        most = rng.choice([0, 40])
        sizes = [*range(300), *range(300, sum(c.units for c in cells) + 50, 37)]
        for before, after in itertools.pairwise(
            allocate(cells, size, method, least, most) for size in sizes
        ):
            assert all(before[name] <= after[name] for name in before)


def test_alabama_keeps_its_seat() -> None:
    """Largest remainder gives c 2 of 10 seats and 1 of 11."""
    cells = [cell("a", 99, 6.0), cell("b", 99, 6.0), cell("c", 99, 2.0)]
    result = [allocate(cells, size, "proportional", 0)["c"] for size in (10, 11)]
    assert result[0] <= result[1]


def test_without_bounds_shares_are_within_one_of_the_exact_ones() -> None:
    rng = random.Random(14)
    for _ in range(20):
        cells = [
            cell(f"s{number}", 100_000, rng.randint(1, 500), rng.random())
            for number in range(rng.randint(2, 30))
        ]
        size = rng.randint(2000, 50_000)
        exact = {
            "proportional": {c.name: c.weight for c in cells},
            "sqrt": {c.name: c.weight**0.5 for c in cells},
            "neyman": {c.name: c.units * c.deviation for c in cells},
            "equal": {c.name: 1.0 for c in cells},
        }
        for method, measures in exact.items():
            result = allocate(cells, size, method, 0)  # type: ignore[arg-type]
            assert sum(result.values()) == size
            for name, measure in measures.items():
                assert abs(result[name] - size * measure / sum(measures.values())) < 1.01, method


def test_neymans_allocation_has_the_smallest_variance() -> None:
    """Moving one unit from any stratum to any other makes the variance of the estimated total no
    smaller.
    """
    rng = random.Random(15)

    def variance(cells: list[Stratum], given: dict[str, int]) -> float:
        return sum((c.units * c.deviation) ** 2 * (1 / given[c.name] - 1 / c.units) for c in cells)

    for _ in range(20):
        cells = [
            cell(f"s{number}", rng.randint(500, 5000), 1, rng.uniform(0.05, 0.5))
            for number in range(6)
        ]
        result = allocate(cells, 400, "neyman", 1)
        least = variance(cells, result)
        assert least < variance(cells, allocate(cells, 400, "equal", 1))
        for one, other in itertools.permutations(result, 2):
            moved = {**result, one: result[one] - 1, other: result[other] + 1}
            assert variance(cells, moved) > least * (1 - 2e-4)  # Webster's rounding is not Neyman's


@pytest.mark.parametrize(
    ("cells", "size", "least", "wanted"),
    [
        ([("a", 100, 3), ("b", 100, 1)], 40, 1, {"a": 30, "b": 10}),
        ([("a", 100, 1), ("b", 100, 1), ("c", 100, 1)], 10, 1, {"a": 4, "b": 3, "c": 3}),
        ([("a", 100, 99), ("b", 100, 1)], 50, 10, {"a": 40, "b": 10}),
        ([("a", 100, 99), ("b", 5, 1)], 50, 10, {"a": 45, "b": 5}),
        ([("a", 10, 90), ("b", 100, 10), ("c", 100, 1)], 100, 10, {"a": 10, "b": 80, "c": 10}),
        ([("a", 5, 3), ("b", 100, 0)], 50, 10, {"a": 5, "b": 45}),
        ([("a", 30, 0), ("b", 10, 0)], 20, 1, {"a": 15, "b": 5}),
        ([("a", 7, 1), ("b", 5, 1)], 1000, 10, {"a": 7, "b": 5}),
        ([("a", 70, 1), ("b", 50, 1), ("c", 3, 1)], 1, 10, {"a": 10, "b": 10, "c": 3}),
        ([("a", 50, 9), ("b", 50, 1)], 9, 0, {"a": 8, "b": 1}),
        ([("a", 50, 99), ("b", 50, 1)], 9, 0, {"a": 9, "b": 0}),
        ([], 10, 1, {}),
    ],
    ids=[
        "by weight",
        "ties go to the first",
        "a minimum",
        "a stratum below the minimum",
        "what a full stratum leaves goes to those at their minimum",
        "and to those without weight",
        "no weight at all",
        "more than there is",
        "less than the minima",
        "no minimum",
        "and nothing",
        "no strata",
    ],
)
def test_literal_allocations(
    cells: list[tuple[str, int, int]], size: int, least: int, wanted: dict[str, int]
) -> None:
    for order in (cells, cells[::-1]):
        assert allocate([cell(*one) for one in order], size, "proportional", least) == wanted


def test_a_stratum_that_does_not_vary_gets_the_minimum() -> None:
    cells = [cell("same", 1000, 9, 0.0), cell("mixed", 100, 1, 0.4)]
    assert allocate(cells, 50, "neyman", 2) == {"mixed": 48, "same": 2}
    assert allocate(cells, 150, "neyman", 2) == {"mixed": 100, "same": 50}


def test_a_maximum_leaves_more_to_the_others() -> None:
    cells = [cell("a", 100, 80), cell("b", 100, 15), cell("c", 100, 5)]
    assert allocate(cells, 60, "proportional", 1, 30) == {"a": 30, "b": 23, "c": 7}


# What the configuration says of single strata


def sample(**sets: Any) -> Sample:
    return literal_config({f"sample.{key}": value for key, value in sets.items()}).sample


CELLS = [cell("Bonn | rent", 50, 10), cell("Bonn | sale", 200, 30), cell("Köln | rent", 1000, 60)]


def test_single_strata_by_number_and_share() -> None:
    strata = '{ "Bonn | rent" = 80, "Bonn | sale" = 0.032, "Köln | rent" = 0 }'
    assert allocate_sample(CELLS, sample(strata=strata)) == {
        "Bonn | rent": 80,
        "Bonn | sale": 7,
        "Köln | rent": 0,
    }


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (
            '"allocate"',
            {"Bonn | rent": 80, "Bonn | sale": 17, "Köln | rent": 33},
        ),  # 50 are all that Bonn | rent has
        ("0", {"Bonn | rent": 80, "Bonn | sale": 0, "Köln | rent": 0}),
        ("12", {"Bonn | rent": 80, "Bonn | sale": 12, "Köln | rent": 12}),
        ("0.1", {"Bonn | rent": 80, "Bonn | sale": 20, "Köln | rent": 100}),
    ],
)
def test_others_are_said_at_once(other: str, wanted: dict[str, int]) -> None:
    strata = f'{{ "Bonn | rent" = 80, other = {other} }}'
    assert allocate_sample(CELLS, sample(strata=strata, size=100, min_per_stratum=1)) == wanted


def test_sampleby_asks_so_many_that_an_empty_stratum_is_unlikely() -> None:
    cells = [cell(f"{units}", units, 1) for units in (3, 7, 8, 12, 40, 900, 10**6)]
    wanted = allocate_sample(cells, sample(size=1, min_per_stratum=1, method="sampleby"))
    assert wanted == {name: min(7, int(name)) for name in wanted}
    for stratum in cells:
        assert (1 - wanted[stratum.name] / stratum.units) ** stratum.units < 1 / 1000
    for sets, least in (({"method": "exact"}, 1), ({"min_per_stratum": 9}, 9)):
        wanted = allocate_sample(cells, sample(**{"size": 1, "min_per_stratum": 1, **sets}))
        assert wanted["900"] == least
    nothing = allocate_sample(cells, sample(size=1, min_per_stratum=0, method="sampleby"))
    assert sum(nothing.values()) == 1


def test_without_strata_all_is_shared_out() -> None:
    assert allocate_sample(CELLS, sample(size=100)) == allocate(CELLS, 100, "proportional", 10)


def test_a_misspelt_stratum_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        allocate_sample(CELLS, sample(strata='{ "Bon | rent" = 8, other = 0 }'))
    assert str(caught.value) == (
        "while allocating the sample\n"
        "  expected: strata of the table in sample.strata\n"
        "  found:    'Bon | rent', which the table does not have (did you mean 'Bonn | rent'?)\n"
        "  do:       correct the name; `toiletspark sample --preview` lists all strata"
    )


def test_a_stratum_that_the_configuration_forgot_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        allocate_sample(CELLS, sample(strata='{ "Bonn | rent" = 8 }'))
    assert caught.value.found == "2 that are not in it: 'Bonn | sale', 'Köln | rent'"
    assert "other = " in caught.value.todo


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"strata": '{ "a | b" = "allocate" }'}, "'a | b': only other may be a word"),
        ({"strata": '{ "a | b" = 1.5 }'}, "'a | b': a share must not exceed 1.0"),
        ({"strata": '{ "a | b" = -1 }'}, "'a | b': -1 is below 0"),
        ({"strata": '{ "a | b" = nan }'}, "'a | b': nan is below 0, or no number"),
        (
            {"min_per_stratum": 5, "max_per_stratum": 4},
            "max_per_stratum (4) must not be below min_per_stratum",
        ),
        (
            {"min_per_stratum": 1, "max_per_stratum": 6},
            "max_per_stratum (6) must not be below 7 with method sampleby, or strata would often "
            "be empty; set method to exact, or min_per_stratum to 0",
        ),
        (
            {"stratify_by": '[{ column = "price", bands = 4, cuts = [1.0] }]'},
            "one of bands and cuts, not both",
        ),
        (
            {"stratify_by": '[{ column = "price", cuts = [2, 1] }]'},
            "cuts must be numbers that rise",
        ),
        ({"stratify_by": '[{ column = "price", bands = 1 }]'}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_meant_is_refused(sets: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sample(**sets)
    assert message in caught.value.found
