"""Compiled backbones are kept in the store and read again without torch."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.backbones import saved, section, state_of
from toiletspark.config import BackboneSettings as Section
from toiletspark.errors import BackboneError
from toiletspark.model import compiled_cache, weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes import conversion
from toiletspark.model.spec import BackboneSpec

SMALL = {"runtime": "openvino", "resize_px": 40, "crop_px": 32}
WITHOUT_TORCH = """
import json, sys
from pathlib import Path
from toiletspark.embedding import int8
from toiletspark.config import BackboneSettings
from toiletspark.tables.runs import Store

section = BackboneSettings(**json.loads(sys.argv[2]))
spec = int8.load(Store(sys.argv[1]), section)
loaded = sorted({"torch", "torchvision"} & set(sys.modules))
print(json.dumps([spec.weights_digest, spec.program_digest, loaded]))
"""

NO_TORCH_AT_ALL = """
import importlib.metadata, json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def version(name, known=importlib.metadata.version):
    if name == "torch":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

sys.meta_path.insert(0, NoTorch())
importlib.metadata.version = version
from toiletspark.model import compiled_cache
from toiletspark.config import BackboneSettings
from toiletspark.errors import BackboneError

try:
    compiled_cache.backbone(sys.argv[1], BackboneSettings(**json.loads(sys.argv[2])))
except BackboneError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Starts like a fresh process."""
    compiled_cache.load_or_compile.cache_clear()
    compiled_cache._loading.clear()
    yield
    compiled_cache.load_or_compile.cache_clear()


def again(root: Path, of: Section) -> BackboneSpec:
    compiled_cache.load_or_compile.cache_clear()
    return compiled_cache.backbone(str(root), of)


def files(root: Path) -> dict[str, Path]:
    return {path.name: path for path in (root / "backbones" / "compiled").glob("*")}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Section]:
    """The sections whose weights were loaded by torch."""
    result: list[Section] = []
    load = weights.load_spec

    def counting(one: Section) -> BackboneSpec:
        result.append(one)
        return load(one)

    counting.cache_clear = load.cache_clear  # type: ignore[attr-defined]
    monkeypatch.setattr(weights, "load_spec", counting)
    return result


def test_what_is_kept_embeds_as_what_is_made(tmp_path: Path, made: list[Section]) -> None:
    of = section(saved(state_of(), tmp_path / "state.pth"), **SMALL)
    first, second = again(tmp_path, of), again(tmp_path, of)
    assert made == [of]
    assert first == second == conversion.compiled(weights.load_spec(of))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(Backbone(first).embed(pixels), Backbone(second).embed(pixels))


def test_what_was_begun_in_a_thread_is_waited_for(
    tmp_path: Path, made: list[Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = section(**SMALL)
    threads = []
    convert_one = conversion.compiled
    monkeypatch.setattr(
        conversion,
        "compiled",
        lambda spec: (threads.append(threading.current_thread()), convert_one(spec))[1],
    )
    compiled_cache.start_loading(str(tmp_path), of)
    assert compiled_cache.backbone(str(tmp_path), of) == compiled_cache.backbone(str(tmp_path), of)
    assert (made, [thread is threading.main_thread() for thread in threads]) == ([of], [False])


def test_what_was_begun_for_another_store_is_not_taken(tmp_path: Path, made: list[Section]) -> None:
    of = section(**SMALL)
    compiled_cache.start_loading(str(tmp_path / "a"), of)
    compiled_cache.backbone(str(tmp_path / "b"), of)
    assert compiled_cache.backbone(str(tmp_path / "a"), of)
    assert [set(files(tmp_path / name)) != set() for name in "ab"] == [True, True]


def test_what_went_wrong_in_the_thread_is_told_to_whoever_asks_and_tried_again(
    tmp_path: Path,
) -> None:
    of = section(tmp_path / "state.pth", **SMALL)
    compiled_cache.start_loading(str(tmp_path), of)
    with pytest.raises(BackboneError, match=r"state\.pth"):
        compiled_cache.backbone(str(tmp_path), of)
    saved(state_of(), tmp_path / "state.pth")
    assert compiled_cache.backbone(str(tmp_path), of).program


def test_a_driver_that_finds_it_loads_no_torch(tmp_path: Path) -> None:
    of = section(saved(state_of(), tmp_path / "state.pth"), **{**SMALL, "runtime": "auto"})
    spec = compiled_cache.backbone(str(tmp_path), of)
    words = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path), json.dumps(of.model_dump())]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = [] if not weights.torch.cuda.is_available() else ["torch", "torchvision"]
    assert json.loads(done.stdout) == [spec.weights_digest, spec.program_digest, loaded]


def test_int8_keeps_what_it_is_calibrated_from(tmp_path: Path, made: list[Section]) -> None:
    of = section(**{**SMALL, "precision": "int8"})
    first, second = again(tmp_path, of), again(tmp_path, of)
    assert (len(made), first, first.program) == (1, second, b"")
    assert first == weights.load_spec(of)


@pytest.mark.parametrize(
    "change", [{"crop_px": 40}, {"precision": "bf16"}, {"architecture": "resnet34"}]
)
def test_another_backbone_is_made_anew(
    tmp_path: Path, made: list[Section], change: dict[str, Any]
) -> None:
    again(tmp_path, section(**SMALL))
    assert again(tmp_path, section(**{**SMALL, **change})).precision == change.get(
        "precision", "fp32"
    )
    assert len(made) == 2


def test_other_weights_in_the_same_file_are_made_anew(tmp_path: Path, made: list[Section]) -> None:
    file = saved(state_of(seed=3), tmp_path / "state.pth")
    of = section(file, **SMALL)
    content = file.read_bytes()
    first = again(tmp_path, of)
    saved(state_of(seed=4), file)
    second = again(tmp_path, of)
    assert (len(made), second.weights_digest == first.weights_digest) == (2, False)
    file.write_bytes(content)
    assert again(tmp_path, of) == first
    assert len(made) == 2


def told_otherwise(text: str, name: str) -> str:
    return json.dumps({**json.loads(text), name: "0" * 64})


DAMAGE = {
    "another entry": lambda text: '{"weights": "another"}',
    "no JSON": lambda text: "{",
    "no object": lambda text: (
        '{"weights_digest": 3, "weights": [], "program": null, "key": 1, "digest": {}}'
    ),
    "another's name": lambda text: told_otherwise(text, "weights_digest"),
    "another's key": lambda text: told_otherwise(text, "key"),
}


@pytest.mark.parametrize("damage", ["cut", "lost", *DAMAGE])
def test_what_is_damaged_is_made_anew(tmp_path: Path, made: list[Section], damage: str) -> None:
    of = section(**SMALL)
    first = again(tmp_path, of)
    for name, path in files(tmp_path).items():
        if name.endswith(".json"):
            path.write_text(DAMAGE.get(damage, str)(path.read_text()))
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "lost":
            path.unlink()
    assert again(tmp_path, of) == first
    assert again(tmp_path, of) == first
    assert len(made) == 2


def test_an_entry_under_another_backbones_name_is_not_its_own(
    tmp_path: Path, made: list[Section]
) -> None:
    """A store put together again from parts: every file whole, but not where it was."""
    other, of = section(**{**SMALL, "crop_px": 40}), section(**SMALL)
    first = again(tmp_path, of)
    (entry,) = (path for path in files(tmp_path).values() if path.suffix == ".json")
    again(tmp_path, other)
    (another,) = (
        path for path in files(tmp_path).values() if path.suffix == ".json" and path != entry
    )
    another.replace(entry)
    second = again(tmp_path, of)  # OpenVINO counts the programs of a process, and names them so
    assert (second.weights, second.preprocessing) == (first.weights, first.preprocessing)
    assert len(made) == 3


def test_weights_replaced_while_they_are_made_ready_are_not_kept_as_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(state_of(seed=3), tmp_path / "state.pth")
    of = section(file, **SMALL)
    old = file.read_bytes()
    make = conversion.compiled

    def replaced(spec: BackboneSpec) -> BackboneSpec:
        saved(state_of(seed=4), file)
        return make(spec)

    monkeypatch.setattr(conversion, "compiled", replaced)
    first = again(tmp_path, of)
    assert files(tmp_path) == {}
    monkeypatch.undo()
    second = again(tmp_path, of)
    assert second.weights_digest != first.weights_digest
    file.write_bytes(old)
    assert again(tmp_path, of).weights_digest == first.weights_digest


def test_a_backbone_that_cannot_be_kept_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "backbones").write_text("a file where a folder is to be")
    of = section(**SMALL)
    assert again(tmp_path, of) == again(tmp_path / "elsewhere", of)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("toiletspark", "WARNING")
    assert record.getMessage().startswith(
        f"warning: the backbone could not be kept in {tmp_path}/backbones, so the next run "
        "compiles it again: "
    )


def test_a_driver_without_torch_is_told_what_to_do(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-c",
        NO_TORCH_AT_ALL,
        str(tmp_path),
        json.dumps(section(**SMALL).model_dump()),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "while making the backbone resnet18 ready\n"
        "  expected: torch where the driver runs\n"
        f"  found:    {sys.executable} does not have it\n"
        "  do:       run the driver in an environment with all of toiletspark's packages; "
        "executors that embed with OpenVINO need no torch (docs/clusters.md)\n"
    )


def test_torchs_own_runtime_keeps_nothing(tmp_path: Path, made: list[Section]) -> None:
    of = section(**{**SMALL, "runtime": "torch"})
    assert again(tmp_path, of).runtime == "torch"
    assert (len(made), files(tmp_path)) == (1, {})


def test_weights_that_are_not_there_are_told_as_ever(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"reading the backbone's weights .*gone\.pth"):
        again(tmp_path, section(tmp_path / "gone.pth", **SMALL))
    assert files(tmp_path) == {}
