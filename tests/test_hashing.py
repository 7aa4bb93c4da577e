"""Digests and choices by hash are pinned: a silent change would move every draw and identity."""

import itertools
import random
import subprocess
import sys

import pytest

from toiletspark.hashing import content_digest, hash_fraction, settings_digest


def test_a_content_digest_is_the_sha256_of_the_bytes() -> None:
    assert content_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (
        content_digest(b"toilet")
        == "74f7fd1cf08b145c5859b9f402422440c0ddd4a459b584f23e51f2dbfe17380f"
    )


def test_a_settings_digest_is_pinned() -> None:
    pinned = "8baa73198470c7bb4c3ce142a8fd651affc0310d878bb9bd159e37a573fb4874"
    assert settings_digest({"a": 1, "b": [1, 2]}) == pinned


def test_a_settings_digest_does_not_see_the_order_of_keys_at_any_depth() -> None:
    assert settings_digest({"a": {"c": 1, "d": 2}, "b": 3}) == settings_digest(
        {"b": 3, "a": {"d": 2, "c": 1}}
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"b": 1}),
        ({"a": None}, {}),
        ({"a": True}, {"a": 1}),
    ],
)
def test_a_settings_digest_sees_everything_else(one: object, other: object) -> None:
    assert settings_digest(one) != settings_digest(other)


@pytest.mark.parametrize(
    ("seed", "key", "fraction"),
    [
        (0, "", 0.7283713340583248),
        (7, "a", 0.5111364227872545),
        (20, "split:L1", 0.9390400889011773),
        (7, "split:H0001", 0.6442908772483993),
        (-1, "ü", 0.9181375940985632),
    ],
)
def test_a_hash_fraction_is_pinned(seed: int, key: str, fraction: float) -> None:
    assert hash_fraction(seed, key) == fraction


def test_hash_fractions_lie_in_0_to_1_and_are_uniform() -> None:
    keys = 20_000
    fractions = [hash_fraction(3, f"image-{number}") for number in range(keys)]
    assert all(0 <= fraction < 1 for fraction in fractions)
    bins = [0] * 20
    for fraction in fractions:
        bins[int(fraction * 20)] += 1
    expected = keys / 20
    chi_squared = sum((count - expected) ** 2 / expected for count in bins)
    assert chi_squared < 43.8  # 19 degrees of freedom, 0.1 %


def test_hash_fractions_of_two_seeds_are_independent() -> None:
    both = sum(
        hash_fraction(1, str(key)) < 0.5 and hash_fraction(2, str(key)) < 0.5
        for key in range(10_000)
    )
    assert 2_300 < both < 2_700


def test_seed_and_key_do_not_run_into_each_other() -> None:
    assert hash_fraction(1, "2:a") != hash_fraction(12, ":a")
    assert hash_fraction(1, "11") != hash_fraction(11, "1")


def test_whoever_is_drawn_at_a_share_is_drawn_at_a_larger_one() -> None:
    shares = sorted(random.Random(5).random() for _ in range(10))
    drawn = [
        {key for key in range(2_000) if hash_fraction(8, str(key)) < share} for share in shares
    ]
    assert all(less <= more for less, more in itertools.pairwise(drawn))


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = (
        "from toiletspark.hashing import *; "
        "print(settings_digest([hash_fraction(7, 'a'), content_digest(b'a')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == settings_digest([hash_fraction(7, "a"), content_digest(b"a")])
