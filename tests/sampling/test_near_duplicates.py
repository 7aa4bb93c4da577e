"""Groups of near-duplicates against the obvious way to find them, and the chain that brings likes
together.
"""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY, encoded
from tests.support.shared_folder import shared
from toiletspark.config import loading
from toiletspark.model.backbone import Backbone
from toiletspark.model.weights import load_spec
from toiletspark.sampling import near_duplicates


def slow_groups(embeddings: np.ndarray, min_cosine: float) -> list[set[int]]:
    """Every pair looked at, every group merged by hand."""
    groups = [{row} for row in range(len(embeddings))]
    for one, other in itertools.combinations(range(len(embeddings)), 2):
        lengths = np.linalg.norm(embeddings[one]) * np.linalg.norm(embeddings[other])
        if lengths and embeddings[one] @ embeddings[other] / lengths >= min_cosine:
            first, second = (
                next(group for group in groups if row in group) for row in (one, other)
            )
            if first is not second:
                first |= second
                groups.remove(second)
    return groups


def as_sets(result: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(result == group)) for group in range(result.max(initial=-1) + 1)]


def clustered(rows: int, seed: int) -> np.ndarray:
    """Copies of a few directions, moved so much that some of them meet and some do not."""
    rng = np.random.default_rng(seed)
    centres = np.abs(rng.normal(size=(rows // 4, 16)))
    moved = centres[rng.integers(len(centres), size=rows)] + rng.normal(scale=0.12, size=(rows, 16))
    return (moved * rng.uniform(0.5, 20, size=(rows, 1))).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", [7, 512])
def test_groups_are_those_of_the_slow_way(
    monkeypatch: pytest.MonkeyPatch, seed: int, block: int
) -> None:
    # small ones, so that groups reach over several
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    embeddings = clustered(80, seed)
    result = near_duplicates.groups(embeddings, 0.97)
    wanted = slow_groups(embeddings, 0.97)
    assert sorted(map(sorted, as_sets(result))) == sorted(map(sorted, wanted))
    assert 10 < len(wanted) < 70
    assert max(map(len, wanted)) > 3


def test_another_order_of_the_rows_gives_the_same_groups() -> None:
    embeddings = clustered(1200, 5)
    order = np.random.default_rng(6).permutation(1200)
    plain, shuffled = (
        near_duplicates.groups(embeddings, 0.97),
        near_duplicates.groups(embeddings[order], 0.97),
    )
    assert {frozenset(order[list(rows)]) for rows in as_sets(shuffled)} == set(
        map(frozenset, as_sets(plain))
    )
    assert list(dict.fromkeys(plain)) == list(range(plain.max() + 1))  # numbered by first row


def test_a_chain_of_likes_is_one_group_and_nothing_is_like_nothing() -> None:
    angles = np.radians([0, 10, 20, 30, 60, 0, 0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    embeddings[5] = 0
    embeddings[6] = np.nan
    assert near_duplicates.groups(embeddings, np.cos(np.radians(11))).tolist() == [
        0,
        0,
        0,
        0,
        1,
        2,
        3,
    ]
    assert near_duplicates.groups(np.zeros((0, 4), np.float32), 0.9).tolist() == []
    assert near_duplicates.groups(np.ones((5000, 2), np.float32), 0.9).max() == 0


def test_the_chain_goes_to_the_nearest_that_is_left_and_keeps_groups_together() -> None:
    angles = np.radians([40, 0, 41, 90, 10, 39])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    group = np.array([7, 1, 2, 3, 4, 7])
    assert near_duplicates.similarity_order(embeddings, group).tolist() == [0, 5, 2, 4, 1, 3]
    assert near_duplicates.similarity_order(
        np.zeros((4, 3), np.float32), np.array([9, 3, 9, 2])
    ).tolist() == [0, 2, 1, 3]
    assert (
        near_duplicates.similarity_order(np.zeros((0, 3), np.float32), np.arange(0)).tolist() == []
    )


def test_the_chain_has_every_row_once_and_neighbours_are_more_alike_than_before() -> None:
    embeddings = clustered(600, 9)
    order = near_duplicates.similarity_order(embeddings, near_duplicates.groups(embeddings, 0.97))
    assert sorted(order) == list(range(600))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    chained = unit[order]
    before = unit
    assert (chained[1:] * chained[:-1]).sum(axis=1).mean() > (before[1:] * before[:-1]).sum(
        axis=1
    ).mean() + 0.1


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


@pytest.mark.parametrize("others", [1, 40, 5000])
def test_near_is_what_the_cosines_say(others: int) -> None:
    random = np.random.default_rng(others)
    ours = np.abs(random.normal(size=(30, 16))).astype(np.float32)
    of = np.abs(random.normal(size=(others, 16))).astype(np.float32)
    of[-1] = ours[7] * 3.5  # the last of the last batch
    result = near_duplicates.near(ours, of, 0.9)
    assert result.tolist() == [any(cosine(one, other) >= 0.9 for other in of) for one in ours]
    assert result[7]
    assert not result.all() or others == 5000


def test_nothing_is_near_nothing() -> None:
    assert (
        near_duplicates.near(
            np.ones((3, 4), np.float32), np.zeros((0, 4), np.float32), 0.5
        ).tolist()
        == [False] * 3
    )
    assert near_duplicates.near(
        np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32), 0.5
    ).shape == (0,)
    black = np.zeros((2, 4), np.float32)
    assert near_duplicates.near(black, black, 0.5).tolist() == [False, False]


def test_the_first_stands_for_those_that_look_like_it() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0.01], [0, 2], [1, 1]], np.float32)
    assert near_duplicates.representatives(rows, 0.97).tolist() == [0, 1, 0, 1, 4]
    assert near_duplicates.representatives(np.zeros((2, 3), np.float32), 0.97).tolist() == [0, 1]
    assert near_duplicates.representatives(np.zeros((0, 3), np.float32), 0.97).tolist() == []


def cropped(content: bytes, share: float) -> bytes:
    """The photo as a JPEG without this share of it at each edge."""
    photo = Image.open(io.BytesIO(content)).convert("RGB")
    across, down = round(photo.width * share), round(photo.height * share)
    box = (across, down, photo.width - across, photo.height - down)
    return encoded(photo.crop(box))


@pytest.mark.slow
def test_copies_of_real_photos_are_found_and_other_photos_of_the_house_are_not() -> None:
    photos = sorted(shared("photos", "files").glob("H00[45]?-?.jpg"))[:40]
    weights = shared("weights", "resnet18-imagenet-compressed-fp16.pth")
    sets = [f"backbone.weights={weights}", "backbone.runtime=torch"]
    config = loading.load([REPOSITORY / "tests" / "conf" / "photos.toml"], sets)
    contents = [path.read_bytes() for path in photos]
    copies = [cropped(content, 0.01) for content in contents]
    backbone = Backbone(load_spec(config.backbone), 2)
    decoded = backbone.decode([*contents, *copies], config.decode)
    embeddings = backbone.embed(np.stack([one.pixels for one in decoded]))
    result = near_duplicates.groups(embeddings, config.lookalikes.min_cosine)
    assert result.tolist() == [*range(40), *range(40)]
