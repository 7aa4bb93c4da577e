"""A head's folder, sealed by digests: it can be copied elsewhere, and is refused if altered.

    head.json            format, classes in order, excluded classes, backbone, facts, golden scores
    head.safetensors     weight (classes, 512) and bias (classes,), float32
    golden-00.jpg ...    golden images, see `golden.py`
    golden.safetensors   their embeddings, (n, 512) float16
    bundle.json          SHA-256 of every file beside it; written last

Nothing in it is code, and nothing is unpickled. Digests detect damage and careless changes; head id
and golden scores detect changes that were sealed again. Nothing is signed: somebody who changes all
of it together has made another head, which only `digest`, kept elsewhere, detects.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from toiletspark.errors import HeadError, OutputError, shown
from toiletspark.hashing import content_digest
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import ALTERED, Head
from toiletspark.model.spec import mismatch
from toiletspark.tables import storage

FORMAT = 1
DESCRIPTION, MANIFEST = "head.json", "bundle.json"
WEIGHTS, GOLDEN = "head.safetensors", "golden.safetensors"
_RUN_MANIFEST = "_manifest.json"  # of the heads table; written after the bundle, and not part of it
_GOLDEN_NAMES = ("image_id", "content_digest", "label")
_TRAIN_AGAIN = "take the head from its backup, or train again"
_DAMAGE = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError),
    *(safetensors.SafetensorError, OutputError),
)


def write(folder: str, head: Head) -> str:
    """Writes a head and seals the folder, the last step before a commit; returns the digest."""
    tensors = {"weight": head.weight, "bias": head.bias}
    storage.replace_bytes(f"{folder}/{WEIGHTS}", safetensors.numpy.save(tensors))
    golden = []
    for number, image in enumerate(head.golden):
        name = f"golden-{number:02}.jpg"
        storage.replace_bytes(f"{folder}/{name}", image.jpeg)
        named = {field: getattr(image, field) for field in _GOLDEN_NAMES}
        golden.append({"file": name, **named, "scores": image.scores})
    if golden:
        embeddings = np.stack([np.frombuffer(image.embedding, "<f2") for image in head.golden])
        content = safetensors.numpy.save({"embeddings": embeddings})
        storage.replace_bytes(f"{folder}/{GOLDEN}", content)
    names = ("head_id", "classes", "exclude_classes", "backbone_id", "facts")
    described = {name: getattr(head, name) for name in names}
    description = {"format": FORMAT, **described, "golden": golden}
    storage.replace_json(f"{folder}/{DESCRIPTION}", description)
    return seal(folder)


def seal(folder: str) -> str:
    """Writes the digests of all files of a folder; returns the bundle's digest."""
    files = {name: content_digest(content) for name, content in _read_all(folder).items()}
    storage.replace_json(f"{folder}/{MANIFEST}", {"format": FORMAT, "files": files})
    return digest(folder)


def digest(folder: str) -> str:
    """SHA-256 of bundle.json, 64 hexadecimal digits: kept elsewhere, it detects any change."""
    return content_digest(storage.read_files([f"{folder}/{MANIFEST}"])[0])


def read(folder: str, *, doing: str) -> Head:
    """Reads a bundle and checks it, except for the golden scores.

    Raises a HeadError if there is none, or if it has another format, or was damaged or altered.

    Cost: reads the whole folder, 5 MB with 32 golden images.
    """
    files = _read_sealed(folder, doing)
    try:
        description = json.loads(files[DESCRIPTION])
        head = _head(description, files)
        head_id = description["head_id"]
        wrong = _inconsistency(head)
    except _DAMAGE as error:
        expected = "the files that `toiletspark train` wrote"
        found = f"{type(error).__name__}: {error}"
        raise _refused(doing, expected, found, _TRAIN_AGAIN) from None
    if wrong:
        raise _refused(doing, *wrong, ALTERED)
    if head.head_id != head_id:
        expected = f"weights and classes that give the id {head_id}"
        found = f"the id {head.head_id}, classes {list(head.classes)}, weight {head.weight.shape}"
        raise _refused(doing, expected, found, ALTERED)
    return head


def _read_sealed(folder: str, doing: str) -> dict[str, bytes]:
    """Reads the files by name, and requires those in bundle.json, with their digests."""
    try:
        sealed = storage.read_json(f"{folder}/{MANIFEST}")
        if sealed is None:
            expected = f"a folder with {DESCRIPTION}, {WEIGHTS} and {MANIFEST}"
            todo = "run `toiletspark train` first, or set score.head to a head's folder"
            raise _refused(doing, expected, f"no {MANIFEST}", todo)
        digests, version = dict(sealed["files"]), sealed["format"]
    except _DAMAGE as error:
        expected = f"{MANIFEST} with the digests of all files"
        raise _refused(doing, expected, str(error), _TRAIN_AGAIN) from None
    if version != FORMAT:
        todo = "read it with the toiletspark that wrote it"
        raise _refused(doing, f"a bundle of format {FORMAT}", f"format {version}", todo)
    names = _names(folder)
    odd = sorted(set(names) ^ set(digests))
    if odd:
        expected = f"the {len(digests)} files in {MANIFEST}"
        found = f"{shown(odd)}: {'unknown' if odd[0] in names else 'missing'}"
        raise _refused(doing, expected, found, _TRAIN_AGAIN)
    try:
        files = _read_all(folder)
    except OSError as error:
        raise _refused(doing, "files that can be read", str(error), _TRAIN_AGAIN) from None
    altered = [name for name, content in files.items() if content_digest(content) != digests[name]]
    if altered:
        expected = f"files with the SHA-256 in {MANIFEST}"
        raise _refused(doing, expected, f"another one of {shown(altered)}", ALTERED)
    return files


def _names(folder: str) -> list[str]:
    """The names of the bundle's files; names that begin with a dot belong to file systems."""
    names = set(storage.entries(folder)) - {MANIFEST, _RUN_MANIFEST}
    return sorted(name for name in names if not name.startswith("."))


def _read_all(folder: str) -> dict[str, bytes]:
    names = _names(folder)
    contents = storage.read_files([f"{folder}/{name}" for name in names])
    return dict(zip(names, contents, strict=True))


def _head(description: Mapping[str, Any], files: Mapping[str, bytes]) -> Head:
    """Builds the head; raises one of _DAMAGE if anything is missing or has another type."""
    classes = tuple(map(_text, description["classes"]))
    tensors = safetensors.numpy.load(files[WEIGHTS])
    if sorted(tensors) != ["bias", "weight"]:
        raise ValueError(f"the tensors {shown(sorted(tensors))} in {WEIGHTS}")
    excluded = tuple(map(_text, description["exclude_classes"]))
    golden = _golden(description["golden"], files, classes)
    named = classes, excluded, _text(description["backbone_id"])
    return Head(*named, tensors["weight"], tensors["bias"], dict(description["facts"]), golden)


def _golden(
    entries: list[dict[str, Any]], files: Mapping[str, bytes], classes: tuple[str, ...]
) -> tuple[GoldenImage, ...]:
    if not entries:
        return ()
    embeddings = safetensors.numpy.load(files[GOLDEN])["embeddings"].astype("<f2")
    images = []
    for entry, embedding in zip(entries, embeddings, strict=True):
        image_id, digest, label = (_text(entry[name]) for name in _GOLDEN_NAMES)
        content = files[entry["file"]], embedding.tobytes()
        scores = {name: float(entry["scores"][name]) for name in classes}
        images.append(GoldenImage(image_id, digest, label, *content, scores))
    return tuple(images)


def _inconsistency(head: Head) -> tuple[str, str] | None:
    """The expected and the actual state, if numbers and names do not fit together."""
    classes, weight, bias = head.classes, head.weight, head.bias
    rows, excluded = len(classes), head.exclude_classes
    if len(set(classes)) != rows or not excluded or not set(excluded) <= set(classes):
        found = f"classes {list(classes)}, excluded {list(excluded)}"
        return "classes that differ, and some of them excluded", found
    if weight.ndim != 2 or not weight.size or (weight.shape[0], bias.shape) != (rows, (rows,)):
        expected = f"weight ({rows}, ...) and bias ({rows},), for {rows} classes"
        return expected, f"{weight.shape} and {bias.shape}"
    if not _is_finite(weight) or not _is_finite(bias):
        return "weight and bias of float32, all of them numbers", f"{weight.dtype} and {bias.dtype}"
    width = weight.shape[1]
    for image in head.golden:
        if len(image.embedding) != 2 * width:
            return f"golden embeddings of {width} numbers", f"{len(image.embedding) // 2}"
    description = head.facts.get("backbone")
    return None if description is None else mismatch(description, head.backbone_id)


def _is_finite(values: NDArray[Any]) -> bool:
    return bool(values.dtype == np.float32 and np.isfinite(values).all())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} instead of a name")
    return value


def _refused(doing: str, expected: str, found: str, todo: str) -> HeadError:
    return HeadError(doing=doing, expected=expected, found=found, todo=todo)
