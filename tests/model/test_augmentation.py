"""Stored views: cut from the same picture, counted with their image, never used for figures."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY_BACKBONE, encoded, picture, stored
from tests.support.backbones import spec
from tests.training.test_train import BACKBONE_ID, clusters, config, gathered
from toiletspark.config.loading import load
from toiletspark.demo.rooms import draw_room
from toiletspark.errors import ConfigError
from toiletspark.images.decoding import Preprocessing, preprocess
from toiletspark.model import augmentation
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.training import dataset
from toiletspark.training.dataset import stored_views, with_views
from toiletspark.training.heads import train
from toiletspark.training.splits import held_out

LIMITS = load().decode


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(
        spec(**{key.removeprefix("backbone."): value for key, value in TINY_BACKBONE.items()})
    )


# Pictures


def test_views_are_those_of_the_pictures_own_pixels(backbone: Backbone) -> None:
    """By hand: mirrored pixels, and squares of the picture when resized to 1.25 times as much."""
    room = draw_room("kitchen", 3, (90, 70))
    files = [encoded(room, "PNG"), b"no image", picture("toilet", 1)]
    result = augmentation.embed_views(
        files, augmentation.view_names(["flip", "crops"]), backbone, LIMITS
    )
    assert [len(one) for one in result] == [6, 0, 6]
    flipped = preprocess(room, Preprocessing(40, 32))[:, ::-1]
    large = preprocess(room, Preprocessing(50, 40))
    by_hand = {
        "flip": flipped,
        "crop_top_left": large[:32, :32],
        "crop_top_right": large[:32, -32:],
        "crop_bottom_left": large[-32:, :32],
        "crop_bottom_right": large[-32:, -32:],
        "crop_centre": large[4:36, 4:36],
    }
    wanted = backbone.embed(np.stack(list(by_hand.values())))
    assert set(result[0]) == set(by_hand)
    for name, row in zip(by_hand, wanted, strict=True):
        assert np.allclose(result[0][name], row, rtol=1e-4, atol=1e-6), name
    assert len({row.tobytes() for row in result[0].values()}) == 6


def test_only_what_is_asked_for_is_embedded(backbone: Backbone) -> None:
    assert [
        set(one) for one in augmentation.embed_views([picture()], ["flip"], backbone, LIMITS)
    ] == [{"flip"}]
    assert augmentation.embed_views([b"no image"], ["flip"], backbone, LIMITS) == [{}]


# The fit


def test_an_image_counts_once_however_many_views_it_has(tmp_path: Path) -> None:
    embeddings, labels = clusters(6)
    examples = dataset.read(
        gathered(tmp_path, to_stored(embeddings), [str(label) for label in labels])
    )
    chosen = np.array([True, False, True, True, False, True])
    own = {"d00002": np.full((3, 512), 7, np.float32), "d00004": np.full((1, 512), 9, np.float32)}
    given = with_views(examples, labels, chosen, own)
    assert given.image.tolist() == [0, 2, 3, 5, 2, 2, 2]
    assert given.labels.tolist() == labels[given.image].tolist()
    assert given.row_weight is not None
    assert given.row_weight.tolist() == [1, 0.25, 1, 1, 0.25, 0.25, 0.25]
    assert np.array_equal(given.embeddings[:4], examples.embeddings[chosen])
    assert (given.embeddings[4:] == 7).all()  # those of an image that is not chosen are not there


def with_stored_views(root: Path, count: int = 80) -> np.ndarray:
    """A training set of images whose views are those of the opposite class."""
    embeddings, labels = clusters(count)
    gathered(root, to_stored(embeddings), [("toilet", "other")[label] for label in labels])
    vectors = to_stored(np.roll(embeddings, 1, axis=0))
    rows = [
        {
            "content_digest": f"d{number:05}",
            "backbone_id": BACKBONE_ID,
            "view": view,
            "embedding": vector,
        }
        for view, (number, vector) in itertools.product(("flip", "crop_centre"), enumerate(vectors))
    ]
    rows[0]["embedding"] = np.full(512, np.inf, "<f2").tobytes()
    stored(Store.open(str(root)), schemas.TRAINING_VIEWS, rows, inputs={"backbone_id": BACKBONE_ID})
    others = [{**row, "backbone_id": "resnet18-other", "view": "flip"} for row in rows]
    stored(
        Store.open(str(root)),
        schemas.TRAINING_VIEWS,
        others,
        inputs={"backbone_id": "resnet18-other"},
    )
    return embeddings


def test_views_are_read_for_their_backbone_and_as_asked(tmp_path: Path) -> None:
    embeddings = with_stored_views(tmp_path)
    store = Store.open(str(tmp_path))
    result = stored_views(store, BACKBONE_ID, ["flip"])
    assert len(result) == 79  # without the one that is not finite
    assert np.allclose(result["d00001"], embeddings[0], atol=1e-2)
    assert stored_views(store, BACKBONE_ID, ["flip", "crops"])["d00001"].shape == (2, 512)
    assert stored_views(store, BACKBONE_ID, []) == {}


def test_the_trainer_takes_views_for_the_fit_and_for_no_figure(tmp_path: Path) -> None:
    with_stored_views(tmp_path)
    plain, viewed = (
        train(config(tmp_path, ("toilet", "other"), f"train.views={asked}"))
        for asked in ("[]", '["flip"]')
    )
    assert plain["head_id"] != viewed["head_id"]
    assert plain["validation"]["n"] == viewed["validation"]["n"] < 80
    assert plain["trained_on"] == viewed["trained_on"]
    sides = held_out([f"L{number // 4}" for number in range(80)], 0.2, 7)
    assert plain["validation"]["n"] == sides.sum()


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.views"):
        load(sets=['train.views=["mirror"]'])
