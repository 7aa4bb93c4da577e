"""A run after which no image is sound ends with exit code 3, the statuses and the likely key."""

import re

import pytest

from toiletspark.config.loading import known_keys
from toiletspark.embedding import outcome
from toiletspark.errors import AuditError
from toiletspark.images.statuses import STATUSES


def test_statuses_that_occur_come_by_their_number() -> None:
    counts = {"ok": 2, "missing": 0, "refused": 5}
    assert list(outcome.statuses(counts).items()) == [("refused", 5), ("ok", 2)]


@pytest.mark.parametrize("counts", [{}, {"ok": 1, "refused": 99}])
def test_a_catalog_with_a_sound_image_or_without_images_is_no_failure(
    counts: dict[str, int],
) -> None:
    outcome.require_sound(counts)


@pytest.mark.parametrize(
    ("counts", "key"),
    [
        ({"refused": 100}, "fetch.allow"),
        ({"missing": 99, "refused": 1}, "images.url_prefix"),
        ({"not_an_image": 3}, "decode.formats"),
        ({"crashed": 3}, "the images table"),
    ],
)
def test_a_catalog_without_a_sound_image_names_statuses_and_key(
    counts: dict[str, int], key: str
) -> None:
    with pytest.raises(AuditError) as caught:
        outcome.require_sound(counts)
    assert caught.value.exit_code == 3
    assert all(f"{count} {name}" in caught.value.found for name, count in counts.items())
    assert f"look at {key}" in caught.value.todo
    assert "toiletspark embed --retry failed" in caught.value.todo


def test_every_status_and_key_that_is_named_exists() -> None:
    assert set(outcome._KEYS) < set(STATUSES)
    keys = re.findall(r"\b\w+\.\w+(?:\.\w+)?", " ".join(outcome._KEYS.values()))
    assert set(keys) <= set(known_keys())
