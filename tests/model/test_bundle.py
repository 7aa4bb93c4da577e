"""The bundle: it is read as it was sealed, and refused after tampering."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import encoded, literal_config, picture, vector
from tests.support import bundles
from tests.support.bundles import CLASSES, SPEC, TAMPERINGS, golden_head, marker, with_its_own_id
from toiletspark.errors import BackboneError, HeadError
from toiletspark.model import bundle, golden
from toiletspark.model.backbone import Backbone
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.model.registry import load
from toiletspark.model.spec import mismatch
from toiletspark.model.weights import load_spec
from toiletspark.tables import storage

ALTERED = "the head was altered or damaged: take it from its backup, or train again"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A sealed bundle with a file that others have put there before."""
    location = str(tmp_path / "head")
    storage.replace_json(f"{location}/evaluation.json", {"accuracy": 1.0})
    bundle.write(location, golden_head())
    return location


def refused(folder: str) -> HeadError:
    with pytest.raises(HeadError) as caught:
        load(folder)
    assert (caught.value.doing, caught.value.exit_code) == (f"reading the head {folder}", 2)
    return caught.value


def rewritten(folder: str, **changes: Any) -> None:
    storage.replace_json(f"{folder}/head.json", {**bundles.described(folder), **changes})
    with_its_own_id(folder)


# As it was sealed


def test_golden_images_come_back_with_their_embeddings_and_scores(folder: str) -> None:
    saved = golden_head()
    result = load(folder)
    assert (result.golden, result.facts, result.head_id) == (
        saved.golden,
        saved.facts,
        saved.head_id,
    )
    assert [set(image.scores) for image in result.golden] == [set(CLASSES)] * 4
    assert all(abs(sum(image.scores.values()) - 1) < 1e-6 for image in result.golden)
    rows = np.stack(
        [np.frombuffer(image.embedding, "<f2").astype(np.float32) for image in result.golden]
    )
    wanted = [[image.scores[name] for name in CLASSES] for image in result.golden]
    np.testing.assert_allclose(result.probabilities(rows), wanted, atol=1e-6)


def test_the_manifest_names_every_file_and_the_same_head_gives_the_same_bytes(
    folder: str, tmp_path: Path
) -> None:
    sealed = storage.read_json(f"{folder}/bundle.json")
    assert sealed is not None
    pictures = [f"golden-{number:02}.jpg" for number in range(4)]
    assert list(sealed["files"]) == sorted(
        ["evaluation.json", *pictures, "golden.safetensors", "head.json", "head.safetensors"]
    )
    assert (Path(folder) / "golden-02.jpg").read_bytes() == golden_head().golden[2].jpeg
    again = str(tmp_path / "again")
    storage.replace_json(f"{again}/evaluation.json", {"accuracy": 1.0})
    assert bundle.write(again, golden_head()) == bundle.digest(folder)
    for path in Path(folder).iterdir():
        assert path.read_bytes() == (Path(again) / path.name).read_bytes()


def test_a_committed_run_and_a_carried_copy_are_read_alike(folder: str, tmp_path: Path) -> None:
    storage.replace_json(f"{folder}/_manifest.json", {"written": "later"})
    storage.replace_bytes(f"{folder}/.head.json.crc", b"a file system's own")
    assert load(folder).head_id == golden_head().head_id
    Path(folder).rename(tmp_path / "elsewhere")
    assert load(str(tmp_path / "elsewhere")).head_id == golden_head().head_id


def test_a_head_without_golden_images_is_a_bundle_too(tmp_path: Path) -> None:
    bundle.write(str(tmp_path), golden_head(images=0))
    assert load(str(tmp_path)).golden == ()
    assert golden.probe(()) is None


# Tampering


def test_unpickling_the_payload_would_leave_its_marker(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(bundles.Payload(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_tampering_is_told_by_the_digests(folder: str, kind: str) -> None:
    TAMPERINGS[kind](folder)
    file = (
        "head.json"
        if kind in ("missing_key", "classes_swapped", "other_mean_and_std")
        else "head.safetensors"
    )
    assert str(refused(folder)) == (
        f"while reading the head {folder}\n"
        "  expected: files with the SHA-256 in bundle.json\n"
        f"  found:    another one of '{file}'\n"
        f"  do:       {ALTERED}"
    )
    assert not marker(folder).exists()


@pytest.mark.parametrize(
    ("kind", "expected", "found"),
    [
        (
            "flipped_byte",
            f"weights and classes that give the id {golden_head().head_id}",
            "the id ",
        ),
        ("pickle_payload", "the files that `toiletspark train` wrote", "SafetensorError: "),
        ("missing_key", "the files that `toiletspark train` wrote", "KeyError: 'classes'"),
        ("wrong_shape", "weight (2, ...) and bias (2,), for 2 classes", "(3, 512) and (3,)"),
        (
            "classes_swapped",
            f"weights and classes that give the id {golden_head().head_id}",
            "the id ",
        ),
        (
            "other_mean_and_std",
            "preprocessing as this toiletspark does it: mean [0.485, 0.456, 0.406], "
            "std [0.229, 0.224, 0.225]",
            "mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]",
        ),
    ],
)
def test_tampering_is_told_though_the_digests_were_made_anew(
    folder: str, kind: str, expected: str, found: str
) -> None:
    TAMPERINGS[kind](folder)
    bundle.seal(folder)
    error = refused(folder)
    assert (error.expected, error.found[: len(found)]) == (expected, found)
    assert not marker(folder).exists()


@pytest.mark.parametrize("kind", ["flipped_byte", "classes_swapped"])
def test_golden_scores_tell_what_has_its_own_id_and_its_own_digests(folder: str, kind: str) -> None:
    TAMPERINGS[kind](folder)
    with_its_own_id(folder)
    error = refused(folder)
    assert error.expected == "golden scores within 0.0001 of those in the bundle"
    assert error.found.startswith("a difference of ")
    assert error.found.endswith("4 of 4 differ")


def test_whoever_makes_everything_anew_has_another_head_and_only_the_digest_tells(
    folder: str, tmp_path: Path
) -> None:
    """Nothing is signed. Only a digest or a head id that was kept elsewhere reveals it."""
    other = golden_head(seed=2)
    storage.replace_json(f"{tmp_path}/forged/evaluation.json", {"accuracy": 1.0})
    digest = bundle.write(str(tmp_path / "forged"), other)
    assert load(str(tmp_path / "forged")).head_id != load(folder).head_id
    assert digest != bundle.digest(folder)


def test_a_file_that_nobody_listed_and_one_that_is_gone_are_told(folder: str) -> None:
    (Path(folder) / "head.pt").write_bytes(pickle.dumps(bundles.Payload(marker(folder))))
    assert refused(folder).found == "'head.pt': unknown"
    (Path(folder) / "head.pt").unlink()
    (Path(folder) / "golden-01.jpg").unlink()
    assert refused(folder).found == "'golden-01.jpg': missing"
    assert not marker(folder).exists()


def test_a_head_whose_digests_were_removed_is_refused(folder: str) -> None:
    (Path(folder) / "bundle.json").unlink()
    assert str(refused(folder)) == (
        f"while reading the head {folder}\n"
        "  expected: a folder with head.json, head.safetensors and bundle.json\n"
        "  found:    no bundle.json\n"
        "  do:       run `toiletspark train` first, or set score.head to a head's folder"
    )


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": 3, "format": 1}', b"\xff"])
def test_a_broken_list_of_digests_is_told(folder: str, content: bytes) -> None:
    storage.replace_bytes(f"{folder}/bundle.json", content)
    assert refused(folder).expected == "bundle.json with the digests of all files"


def test_another_format_is_told(folder: str) -> None:
    storage.replace_json(f"{folder}/bundle.json", {"format": 2, "files": {}})
    assert (refused(folder).expected, refused(folder).found) == ("a bundle of format 1", "format 2")


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({"weight": np.full((2, 512), np.nan, np.float32)}, "float32 and float32"),
        ({"weight": np.ones((2, 512))}, "float64 and float32"),
        ({"weight": np.ones((2, 511), np.float32)}, "512"),
    ],
    ids=["nan", "float64", "width"],
)
def test_weights_that_are_no_weights_are_told(
    folder: str, tensors: dict[str, Any], found: str
) -> None:
    everything = {"bias": np.zeros(2, np.float32), **tensors}
    storage.replace_bytes(f"{folder}/head.safetensors", bundle.safetensors.numpy.save(everything))
    with_its_own_id(folder)
    assert refused(folder).found == found


@pytest.mark.parametrize(
    "changes",
    [{"classes": ["toilet", "toilet"]}, {"exclude_classes": []}, {"exclude_classes": ["bath"]}],
    ids=str,
)
def test_classes_that_do_not_go_together_are_told(folder: str, changes: dict[str, Any]) -> None:
    rewritten(folder, **changes)
    assert refused(folder).expected == "classes that differ, and some of them excluded"


# The backbone that it describes


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_description_is_that_of_its_name(precision: Any) -> None:
    spec = replace(SPEC, precision=precision, program=b"<net/>" if precision == "int8" else b"")
    description = json.loads(json.dumps(spec.description))
    assert mismatch(description, spec.backbone_id) is None
    assert mismatch({**description, "weights_digest": "cd" * 32}, spec.backbone_id) == (
        f"a description of the backbone {spec.backbone_id}",
        f"one of {spec.backbone_id.replace('abababababab', 'cdcdcdcdcdcd')}",
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [({"interpolation": "bicubic"}, "interpolation bicubic"), ({"flip": True}, "flip True")],
    ids=["interpolation", "unknown"],
)
def test_a_preprocessing_that_this_code_does_not_do_is_told(
    change: dict[str, Any], found: str
) -> None:
    description = SPEC.description
    description["preprocessing"] |= change
    difference = mismatch(description, SPEC.backbone_id)
    assert difference is not None
    assert difference[1] == found


def test_another_size_is_another_name() -> None:
    description = SPEC.description
    description["preprocessing"] |= {"resize_px": 232}
    difference = mismatch(description, SPEC.backbone_id)
    assert difference is not None
    assert difference[1].startswith("one of resnet18-abababababab-r232c224-")


# Golden images


def test_golden_images_are_drawn_in_turn_by_hash_and_one_of_each_content() -> None:
    labelled = [
        (f"i{number:03}", f"d{number % 90}", "toilet" if number % 90 < 5 else "other")
        for number in range(180)
    ]
    result = golden.choose(labelled, 32, seed=7)
    assert (
        result == golden.choose(labelled[::-1], 32, seed=7) != golden.choose(labelled, 32, seed=8)
    )
    # all that there are, then the rest
    assert [label for *_, label in result[:10]].count("toilet") == 5
    assert len({digest for _, digest, _ in result}) == 32
    assert max(image_id for image_id, *_ in result) < "i090"
    assert golden.choose(labelled, 12, seed=7) == result[:12]
    assert golden.choose([], 32, seed=7) == []


def test_distances_are_shares_of_the_length_of_what_was_kept() -> None:
    kept = np.array([3, 4], "<f2").tobytes()
    assert golden.distance(kept, kept) == 0
    assert golden.distance(np.array([3, 4.5], "<f2").tobytes(), kept) == pytest.approx(0.1)
    assert golden.distance(kept[:2], kept) == float("inf")
    assert golden.distance(kept, bytes(4)) == float("inf")
    nan = np.array([np.nan, 4], "<f2").tobytes()
    assert not golden.distance(nan, kept) <= 1


def test_workers_are_checked_with_the_largest_file() -> None:
    images = [GoldenImage(str(size), "d", "toilet", bytes(size), b"") for size in (3, 9, 4)]
    assert golden.probe(images) == images[1]


def proved(image: GoldenImage, **changes: Any) -> None:
    config = literal_config(changes)
    backbone = Backbone(load_spec(config.backbone))
    golden.require_embedding(backbone, image, config.decode, doing="checking")


def kept_image() -> GoldenImage:
    """The embedding by the backbone of `literal_config`."""
    config = literal_config()
    backbone = Backbone(load_spec(config.backbone))
    jpeg = picture("kitchen", 3, (160, 120))
    pixels = backbone.decode([jpeg], config.decode)[0].pixels
    assert pixels is not None
    return GoldenImage(
        "g", "d", "other", jpeg, backbone.embed(pixels[None].copy())[0].astype("<f2").tobytes()
    )


def test_what_decodes_and_embeds_as_before_is_accepted_whatever_the_catalog_holds() -> None:
    """Raises nothing; the next test shows that it would."""
    proved(kept_image())
    proved(kept_image(), **{"decode.formats": '["PNG"]', "decode.min_side_px": 4000})


def test_other_pixels_and_other_weights_and_no_picture_are_told() -> None:
    image = kept_image()
    turned = Image.fromarray(
        np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(image.jpeg)))[..., ::-1])
    )
    for other in (replace(image, embedding=vector(5)), replace(image, jpeg=encoded(turned))):
        with pytest.raises(BackboneError) as caught:
            proved(other)
        assert caught.value.found.startswith("a distance of ")
    with pytest.raises(BackboneError) as caught:
        proved(image, **{"backbone.jpeg_scaling": False})
    with pytest.raises(BackboneError) as caught:
        proved(replace(image, jpeg=b"no jpeg"))
    assert caught.value.found == "no picture in it: not_an_image not one of decode.formats"


def test_a_head_gives_its_golden_scores_or_stops() -> None:
    head = golden_head()
    head.require_golden_scores(doing="checking")
    Head(CLASSES, ("toilet",), "b", head.weight, head.bias).require_golden_scores(
        doing="without any"
    )
    with pytest.raises(HeadError) as caught:
        replace(head, weight=head.weight[::-1]).require_golden_scores(doing="checking")
    assert caught.value.todo == ALTERED
    with pytest.raises(HeadError):
        replace(head, weight=np.full_like(head.weight, np.nan)).require_golden_scores(
            doing="checking"
        )
