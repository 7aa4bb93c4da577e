"""The head: it scores as it was saved, is refused if altered, and needs no torch."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from toiletspark.errors import HeadError, OutputError
from toiletspark.model import bundle, registry
from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.head import Head
from toiletspark.model.registry import load, require_backbone
from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store, new_run_id
from toiletspark.tables.schemas import HEADS

CLASSES = ("toilet", "bathroom", "other")


def some_head(
    classes: tuple[str, ...] = CLASSES, exclude: tuple[str, ...] = ("toilet",), seed: int = 1
) -> Head:
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.3, (len(classes), 512)).astype(np.float32)
    bias = rng.normal(0, 1, len(classes)).astype(np.float32)
    return Head(
        classes,
        exclude,
        "resnet18-abc-r256c224-fp32",
        weight,
        bias,
        {"validation": {"recall": 0.9}},
    )


def embeddings(rows: int = 40, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1, 1, (rows, 512)).astype(np.float32)


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    location = (
        str(tmp_path / "head") if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    )
    yield location
    storage.remove_folder(location)


def refused(folder: str) -> HeadError:
    with pytest.raises(HeadError) as caught:
        load(folder)
    assert caught.value.doing == f"reading the head {folder}"
    return caught.value


def rewrite(folder: str, **changes: Any) -> None:
    """Seals again after a change, see test_bundle.py for digests."""
    described = storage.read_json(f"{folder}/head.json")
    assert described is not None
    storage.replace_json(f"{folder}/head.json", {**described, **changes})
    bundle.seal(folder)


def replace_file(folder: str, name: str, content: bytes) -> None:
    storage.replace_bytes(f"{folder}/{name}", content)
    bundle.seal(folder)


# Saving and loading


def test_a_head_comes_back_as_it_was_saved(folder: str) -> None:
    saved = some_head()
    bundle.write(folder, saved)
    result = load(folder)
    assert result.head_id == saved.head_id
    assert (result.classes, result.exclude_classes, result.backbone_id) == (
        CLASSES,
        ("toilet",),
        saved.backbone_id,
    )
    assert result.facts == {"validation": {"recall": 0.9}}
    assert (result.weight.dtype, result.bias.dtype) == (np.float32, np.float32)
    assert np.array_equal(result.probabilities(embeddings()), saved.probabilities(embeddings()))
    assert storage.entries(folder) == ["bundle.json", "head.json", "head.safetensors"]


def test_a_head_id_is_pinned() -> None:
    weight = np.arange(8, dtype=np.float32).reshape(2, 4)
    head = Head(
        ("toilet", "other"), ("toilet",), "b", weight, np.array([0.5, -0.5], dtype=np.float32)
    )
    assert head.head_id == "37f6ac2307d585fc"


def changed(array: np.ndarray) -> np.ndarray:
    other = array.copy()
    other.flat[-1] = np.nextafter(other.flat[-1], np.float32(9))
    return other


@pytest.mark.parametrize(
    "change",
    [
        lambda head: {"weight": changed(head.weight)},
        lambda head: {"bias": changed(head.bias)},
        lambda head: {"classes": ("bathroom", "toilet", "other")},
        lambda head: {"classes": ("toilet", "bath", "other")},
        lambda head: {"exclude_classes": ("toilet", "bathroom")},
        lambda head: {"exclude_classes": ("bathroom",)},
        lambda head: {"backbone_id": "resnet18-abd-r256c224-fp32"},
    ],
    ids=["weight", "bias", "order", "names", "excluded more", "excluded other", "backbone"],
)
def test_the_id_changes_with_all_that_decides_a_score(change: Any) -> None:
    head = some_head()
    assert replace(head, **change(head)).head_id != head.head_id


def test_the_id_does_not_change_with_facts_or_memory_layout() -> None:
    head = some_head()
    assert replace(head, facts={"trained_on": 7}).head_id == head.head_id
    assert replace(head, weight=np.asfortranarray(head.weight)).head_id == head.head_id


# Refusals


def test_a_folder_without_a_head_is_told(folder: str) -> None:
    assert str(refused(folder)) == (
        f"while reading the head {folder}\n"
        "  expected: a folder with head.json, head.safetensors and bundle.json\n"
        "  found:    no bundle.json\n"
        "  do:       run `toiletspark train` first, or set score.head to a head's folder"
    )


def test_a_head_without_weights_is_told(folder: str) -> None:
    bundle.write(folder, some_head())
    filesystem, path = storage.open_filesystem(f"{folder}/head.safetensors")
    filesystem.rm(path)
    error = refused(folder)
    assert error.expected == "the 2 files in bundle.json"
    assert error.found == "'head.safetensors': missing"
    assert error.todo == "take the head from its backup, or train again"


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_weights_are_told(folder: str, kept: int) -> None:
    bundle.write(folder, some_head())
    filesystem, path = storage.open_filesystem(f"{folder}/head.safetensors")
    replace_file(folder, "head.safetensors", filesystem.cat_file(path)[:kept])
    error = refused(folder)
    assert error.expected == "the files that `toiletspark train` wrote"
    assert error.found.startswith("SafetensorError: ")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'"a"', b"\xff\xfe", b"{}", b'{"classes": 3}']
)
def test_a_broken_description_is_told(folder: str, content: bytes) -> None:
    bundle.write(folder, some_head())
    replace_file(folder, "head.json", content)
    assert refused(folder).todo == "take the head from its backup, or train again"


def test_altered_weights_are_told(folder: str) -> None:
    head = some_head()
    bundle.write(folder, head)
    other = replace(head, weight=changed(head.weight))
    tensors = {"weight": other.weight, "bias": other.bias}
    replace_file(folder, "head.safetensors", safetensors.numpy.save(tensors))
    assert str(refused(folder)) == (
        f"while reading the head {folder}\n"
        f"  expected: weights and classes that give the id {head.head_id}\n"
        f"  found:    the id {other.head_id}, classes ['toilet', 'bathroom', 'other'], "
        "weight (3, 512)\n"
        "  do:       the head was altered or damaged: take it from its backup, or train again"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["other", "bathroom", "toilet"]},
        {"classes": ["toilet", "other"]},
        {"exclude_classes": ["other"]},
        {"backbone_id": "another"},
        {"head_id": "0" * 16},
        {"head_id": None},
    ],
    ids=str,
)
def test_an_altered_description_is_told(folder: str, changes: dict[str, Any]) -> None:
    bundle.write(folder, some_head())
    rewrite(folder, **changes)
    assert (
        refused(folder).todo
        == "the head was altered or damaged: take it from its backup, or train again"
    )


def test_altered_facts_do_no_harm(folder: str) -> None:
    bundle.write(folder, some_head())
    rewrite(folder, facts={})
    assert load(folder).head_id == some_head().head_id


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": np.ones((2, 512), dtype=np.float32), "bias": np.ones(3, dtype=np.float32)},
        {"weight": np.ones((3, 512), dtype=np.float32), "bias": np.ones((3, 1), dtype=np.float32)},
        {"weight": np.ones(3, dtype=np.float32), "bias": np.ones(3, dtype=np.float32)},
        {"weight": np.array(1, dtype=np.float32), "bias": np.ones(3, dtype=np.float32)},
    ],
    ids=["rows", "bias", "flat", "scalar"],
)
def test_weights_of_another_shape_are_told_even_under_their_own_id(
    folder: str, tensors: dict[str, np.ndarray]
) -> None:
    head = some_head()
    bundle.write(folder, head)
    replace_file(folder, "head.safetensors", safetensors.numpy.save(tensors))
    rewrite(folder, head_id=replace(head, **tensors).head_id)
    shapes = f"{tensors['weight'].shape} and {tensors['bias'].shape}"
    assert str(refused(folder)) == (
        f"while reading the head {folder}\n"
        "  expected: weight (3, ...) and bias (3,), for 3 classes\n"
        f"  found:    {shapes}\n"
        "  do:       the head was altered or damaged: take it from its backup, or train again"
    )


def test_a_head_for_another_backbone_is_refused() -> None:
    head = some_head()
    require_backbone(head, head.backbone_id, doing="scoring")
    with pytest.raises(HeadError) as caught:
        require_backbone(head, "resnet34-x", doing="scoring the catalog")
    assert str(caught.value) == (
        "while scoring the catalog\n"
        "  expected: a head for the backbone resnet34-x, with which the catalog is embedded\n"
        f"  found:    the head {head.head_id} for the backbone resnet18-abc-r256c224-fp32\n"
        "  do:       train a head on this backbone's embeddings, or set [backbone] to what "
        "the head was fitted on"
    )


def test_the_current_head_is_the_named_one_or_the_newest(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "root"))
    with pytest.raises(
        OutputError, match=r"run `toiletspark train` with the same configuration first"
    ):
        registry.current(store, "", doing="scoring")
    for seed in (1, 2):
        run_id = new_run_id()
        bundle.write(store.folder(HEADS, run_id), some_head(seed=seed))
        store.commit(HEADS, run_id, config={}, inputs=Inputs())
    bundle.write(store.folder(HEADS, new_run_id()), some_head(seed=3))  # never committed
    assert registry.current(store, "", doing="scoring").head_id == some_head(seed=2).head_id
    bundle.write(str(tmp_path / "mine"), some_head(seed=4))
    assert (
        registry.current(store, str(tmp_path / "mine"), doing="scoring").head_id
        == some_head(seed=4).head_id
    )


def test_a_head_that_was_not_promoted_scores_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    for seed, promoted in ((1, True), (2, True), (3, False)):
        run_id = new_run_id()
        bundle.write(store.folder(HEADS, run_id), some_head(seed=seed))
        inputs = {"promoted": promoted, "head_id": some_head(seed=seed).head_id}
        store.commit(HEADS, run_id, config={}, inputs=Inputs(**inputs))
    assert registry.current(store, "", doing="scoring").head_id == some_head(seed=2).head_id
    left = registry.run_of(store, some_head(seed=3).head_id)
    assert left is not None
    assert (
        registry.current(store, left.folder, doing="scoring").head_id == some_head(seed=3).head_id
    )


def test_a_heads_run_is_found_in_the_store_or_in_a_folder_of_its_own(tmp_path: Path) -> None:
    store, elsewhere = Store.open(str(tmp_path / "a")), Store.open(str(tmp_path / "b"))
    stores = (store, store, elsewhere)
    _, newer, outside = (
        one.commit(HEADS, new_run_id(), config={}, inputs=Inputs(head_id="h")) for one in stores
    )
    assert registry.run_of(store, "h") == newer
    assert registry.run_of(store, "other") is None
    assert registry.run_of(Store.open(str(tmp_path / "c")), "h", outside.folder) == outside
    assert registry.run_of(Store.open(str(tmp_path / "c")), "other", outside.folder) is None
    assert registry.run_of(Store.open(str(tmp_path / "c")), "h", str(tmp_path)) is None


# Numbers


def test_probabilities_equal_a_slow_and_exact_version() -> None:
    head = some_head()
    rows = embeddings(300)
    result = head.probabilities(rows)
    exponentials = np.exp(rows.astype(np.float64) @ head.weight.T.astype(np.float64) + head.bias)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert (result.dtype, result.shape) == (np.float32, (300, 3))
    assert np.abs(result - expected).max() < 1e-5
    assert np.abs(result.sum(axis=1, dtype=np.float64) - 1).max() < 1e-6
    assert (result >= 0).all()
    assert (result <= 1).all()


def test_extreme_logits_stay_numbers() -> None:
    weight = np.array([[1e4], [-1e4], [0.0]], dtype=np.float32)
    head = Head(CLASSES, ("toilet",), "b", weight, np.zeros(3, dtype=np.float32))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = head.probabilities(np.array([[100.0], [-100.0], [0.0]], dtype=np.float32))
    assert np.allclose(result, [[1, 0, 0], [0, 1, 0], [1 / 3] * 3])


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    head = some_head()
    rows = embeddings(30)
    together = head.probabilities(rows)
    alone = np.concatenate([head.probabilities(row[None]) for row in rows])
    assert np.allclose(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("exclude", [("toilet",), ("bathroom", "toilet"), ("other",)])
def test_the_exclusion_score_is_the_sum_of_the_excluded_classes(exclude: tuple[str, ...]) -> None:
    head = some_head(exclude=exclude)
    shares = head.probabilities(embeddings(200))
    scores = head.exclusion_scores(shares)
    assert (scores.dtype, scores.shape) == (np.float32, (200,))
    expected = [sum(float(row[CLASSES.index(name)]) for name in exclude) for row in shares]
    assert np.allclose(scores, expected, rtol=0, atol=1e-6)
    assert scores.max() <= 1


def test_rounding_lifts_no_exclusion_score_above_1() -> None:
    head = some_head(exclude=("toilet", "bathroom"))
    assert head.exclusion_scores(np.array([[0.6, 0.4000001, 0.0]], dtype=np.float32)).tolist() == [
        1.0
    ]


def test_no_rows_give_no_scores() -> None:
    head = some_head()
    shares = head.probabilities(np.empty((0, 512), dtype=np.float32))
    assert (shares.shape, head.exclusion_scores(shares).shape) == ((0, 3), (0,))


def test_stored_embeddings_are_little_endian_float16() -> None:
    assert from_stored(b"\x00\x3c\x00\xc0\x00\x00\xff\x7b", 2).tolist() == [
        [1.0, -2.0],
        [0.0, 65504.0],
    ]


def test_every_finite_float16_comes_back_exactly() -> None:
    """All 63,488 bit patterns, with both zeros and the numbers below the smallest normal one."""
    stored = np.arange(2**16, dtype=np.uint16).view("<f2")
    stored = stored[np.isfinite(stored)]
    assert len(stored) == 2**16 - 2**11
    result = from_stored(stored.tobytes(), 512)
    assert (result.shape, result.dtype) == ((512, 124), np.float32)
    wanted = stored.astype(np.float32)
    # bit for bit: -0.0 == 0.0
    assert np.array_equal(result.ravel().view(np.uint32), wanted.view(np.uint32))
    assert np.array_equal(from_stored(memoryview(stored.tobytes())[2:-2], 2).ravel(), wanted[1:-1])


# What it needs


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "modules",
    [
        ["model.registry", "tables.runs", "tables.schemas", "config"],
        ["images.decoding", "images.fetching", "labels.merge", "launch.trainer"],
        [
            "scoring.scores",
            "feed.readers",
            "feed.feed",
            "jobs.score_catalog",
            "jobs.publish_exclusions",
        ],
    ],
)
def test_scoring_needs_no_torch(modules: list[str]) -> None:
    loaded = loaded_by("; ".join(f"import toiletspark.{module}" for module in modules))
    assert "toiletspark" in loaded
    assert not loaded & {"torch", "torchvision"}


def test_a_head_scores_without_torch_and_without_spark(tmp_path: Path) -> None:
    bundle.write(str(tmp_path), some_head())
    code = (
        "import numpy; from toiletspark.model.registry import load; "
        f"load({str(tmp_path)!r}).probabilities(numpy.ones((1, 512), numpy.float32))"
    )
    assert not loaded_by(code) & {"torch", "torchvision", "pyspark", "py4j"}
