"""A file that is not what was written any more is told in four parts, whatever it holds instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.support import bundles
from tests.support.small_versions import written
from toiletspark.config import loading
from toiletspark.errors import ConfigError, HeadError, LabelsError, OutputError
from toiletspark.labels import class_folders, label_files
from toiletspark.model import bundle
from toiletspark.model.registry import load
from toiletspark.publishing.versions import log
from toiletspark.tables import storage
from toiletspark.tables.runs import Store

DEEP = b"[" * 100_000
CLASSES = ["toilet", "other"]


# JSON of ours


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1', "Expecting ',' delimiter: line 1 column 8 (char 7)"),
        (b"[1]", "list in place of an object"),
        (b"null", "NoneType in place of an object"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (DEEP, "maximum recursion depth exceeded"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit (4300 digits)"),
    ],
)
def test_a_damaged_json_file_is_not_taken_for_a_missing_one(
    tmp_path: Path, content: bytes, found: str
) -> None:
    place = tmp_path / "a.json"
    place.write_bytes(content)
    with pytest.raises(OutputError) as told:
        storage.read_json(str(place))
    assert (told.value.doing, told.value.expected) == (
        f"reading {place}",
        "a JSON object, as it was written",
    )
    assert told.value.found.startswith(found)


# Versions


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"run_id": "../../elsewhere"}, "run_id: String should match pattern"),
        ({"run_id": "x" * 300}, "run_id: String should match pattern"),
        ({"run_id": 7}, "run_id: Input should be a valid string"),
        ({"layout": "two"}, "layout: Input should be a valid integer"),
        ({"run_id": ".."}, "run_id: String should match pattern"),
        ({"valid_until": "soon"}, "valid_until: Value error, Invalid isoformat string: 'soon'"),
        ({"valid_until": "2026-11-25T10:00:00"}, "valid_until: Value error, no time zone"),
        ({"valid_until": 1700000000}, "valid_until: Input should be a valid string"),
        ({"counts": [1]}, "counts: Input should be a valid dictionary"),
    ],
)
def test_a_pointer_or_an_entry_that_was_altered_is_told(
    store: Store, changed: dict[str, Any], found: str
) -> None:
    log.publish(store, written(store))
    for place in (
        f"{store.root}/exclusion_list/_current.json",
        f"{store.root}/exclusion_list/_versions/00000001.json",
    ):
        said = storage.read_json(place)
        assert said is not None
        storage.replace_json(place, {**said, **changed})
        with pytest.raises(OutputError) as told:
            log.current(store.root) if place.endswith("_current.json") else log.read_all(store)
        assert told.value.doing == f"reading {place}"
        assert told.value.found.startswith(found)


@pytest.mark.parametrize("manifest", [{"rows": 2}, {"rows": 2, "files": 7}, {"files": None}])
def test_a_manifest_without_files_is_no_sound_version(
    store: Store, manifest: dict[str, Any]
) -> None:
    listed = written(store)
    log.publish(store, listed)
    storage.replace_json(f"{listed.folder}/_manifest.json", manifest)
    with pytest.raises(OutputError, match="a manifest as toiletspark writes it"):
        log.current(store.root)


# Bundles


@pytest.fixture
def head(tmp_path: Path) -> str:
    folder = str(tmp_path / "head")
    bundle.write(folder, bundles.golden_head())
    return folder


def refused(folder: str) -> str:
    with pytest.raises(HeadError) as told:
        load(folder)
    return told.value.found


@pytest.mark.parametrize("name", ["classes", "facts", "golden", "more"])
def test_a_tensor_too_many_takes_no_fields_place(head: str, name: str) -> None:
    content = (Path(head) / bundle.WEIGHTS).read_bytes()
    tensors = {**safetensors.numpy.load(content), name: np.zeros((2, 2), np.float32)}
    storage.replace_bytes(f"{head}/{bundle.WEIGHTS}", safetensors.numpy.save(tensors))
    bundle.seal(head)
    assert (
        refused(head)
        == f"ValueError: the tensors {', '.join(map(repr, sorted(tensors)))} in head.safetensors"
    )


def test_a_head_without_columns_is_refused(head: str) -> None:
    tensors = {"weight": np.zeros((2, 0), np.float32), "bias": np.zeros(2, np.float32)}
    storage.replace_bytes(f"{head}/{bundle.WEIGHTS}", safetensors.numpy.save(tensors))
    bundle.seal(head)
    assert refused(head) == "(2, 0) and (2,)"


def test_a_folder_where_a_file_is_listed_is_told(head: str) -> None:
    (Path(head) / "more").mkdir()
    sealed = storage.read_json(f"{head}/bundle.json")
    assert sealed is not None
    storage.replace_json(
        f"{head}/bundle.json", {**sealed, "files": {**sealed["files"], "more": "0" * 64}}
    )
    assert refused(head).startswith("[Errno 21] Is a directory: ")


def test_a_golden_score_that_is_no_float_is_told(head: str) -> None:
    said = bundles.described(head)
    said["golden"][0]["scores"]["toilet"] = 10**400
    storage.replace_json(f"{head}/head.json", said)
    bundle.seal(head)
    assert refused(head) == "OverflowError: int too large to convert to float"


@pytest.mark.parametrize("name", ["head.json", "bundle.json"])
def test_json_without_end_is_told(head: str, name: str) -> None:
    (Path(head) / name).write_bytes(DEEP)
    if name == "head.json":
        bundle.seal(head)
    assert "maximum recursion depth exceeded" in refused(head)


# Labels


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"file,image_id\r\n", None),
        (b"file,image_id\r\nunlabelled/1.jpg,a\r\n", "no column 'content_digest'"),
        (b"file,image_id,content_digest\r\nunlabelled/1.jpg\r\n", "a row that ends too early"),
        (
            b"file,image_id,content_digest\r\nunlabelled/1.jpg,\xe9,d\r\n",
            "'utf-8' codec can't decode byte 0xe9",
        ),
        (
            b"file,image_id,content_digest\r\n" + b"x" * 200_000 + b",a,d\r\n",
            "field larger than field limit (131072)",
        ),
    ],
)
def test_an_index_that_a_spreadsheet_has_spoilt_is_told(
    tmp_path: Path, content: bytes, found: str | None
) -> None:
    (tmp_path / "index.csv").write_bytes(content)
    for read in (
        class_folders.exported_ids,
        lambda folder: class_folders.any_labelled(folder, CLASSES),
    ):
        if found is None:
            assert not read(tmp_path)
            continue
        with pytest.raises(LabelsError) as told:
            read(tmp_path)
        assert told.value.doing == f"reading {tmp_path / 'index.csv'}"
        assert told.value.found.startswith(found)


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (
            {"data": {"image_id": "a", "content_digest": ["d"]}},
            "at 0.JSON.data.content_digest: Input should be a valid string",
        ),
        (
            {"annotations": [{"result": 7}]},
            "at 0.JSON.annotations.0.result: Input should be a valid list",
        ),
        (
            {"annotations": [{"result": [{"type": "choices", "value": 7}]}]},
            "at 0.JSON.annotations.0.result.0.value: Input should be a valid list",
        ),
        (
            {"annotations": [{"result": [{"type": "choices", "value": {"choices": None}}]}]},
            "at 0.JSON.annotations.0.result.0.value: Input should be a valid list",
        ),
        ({"annotations": [{"result": [{"type": "choices", "value": None}]}]}, "no labels"),
    ],
)
def test_an_export_with_other_types_is_told(
    tmp_path: Path, task: dict[str, Any], found: str
) -> None:
    sound = {"id": 1, "data": {"image_id": "a", "content_digest": "d"}, "annotations": []}
    (tmp_path / "labels.json").write_text(json.dumps([{**sound, **task}]))
    with pytest.raises(LabelsError) as stopped:
        label_files.read(str(tmp_path / "labels.json"), CLASSES)
    assert stopped.value.found.startswith(found)


# Configurations


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sample.size = " + "9" * 5000, "Exceeds the limit (4300 digits)"),
        ("sample.size = 0x" + "f" * 6000, "one of 24000 bits"),
        ("sample.size = " + "[" * 5000, "lists or tables in each other, hundreds deep"),
        (".".join(["a"] * 5000) + " = 1", "lists or tables in each other, hundreds deep"),
    ],
)
def test_a_configuration_that_is_too_much_is_told(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError) as told:
        loading.load([tmp_path / "mine.toml"])
    assert told.value.found.startswith(found)
    with pytest.raises(ConfigError):
        loading.load([], [text.replace(" = ", "=")])


def test_a_resolved_configuration_without_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "resolved.json").write_bytes(b'{"a": ' * 5000)
    with pytest.raises(ConfigError, match="hundreds deep"):
        loading.load([tmp_path / "resolved.json"])
