"""The bundle: a head's folder as something that can be carried elsewhere, and refused where it is not what it says.

    head.json            format, classes in order, excluded classes, backbone, threshold, figures, golden scores ...
    head.safetensors     weight (classes, 512) and bias (classes,), float32
    golden-00.jpg ...    golden images, see `golden.py`
    golden.safetensors   their embeddings, (n, 512) float16
    bundle.json          SHA-256 of every file beside it; written last

Nothing in it is code, and nothing is unpickled. Digests tell what was damaged or changed by whoever did not know of
them; head id and golden scores what was changed and sealed anew. Nothing here is signed: whoever changes all of it
together has made another head, and only `digest`, kept elsewhere, tells that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from toiletspark.errors import HeadError, OutputError, shown
from toiletspark.hashing import content_digest
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import mismatch
from toiletspark.tables import storage

if TYPE_CHECKING:
    from toiletspark.model.head import Head

FORMAT = 2  # format 1 had no bundle.json
DESCRIPTION, WEIGHTS, GOLDEN, MANIFEST = (
    "head.json",
    "head.safetensors",
    "golden.safetensors",
    "bundle.json",
)
_RUN_MANIFEST = (
    "_manifest.json"  # of the table of heads; written after the bundle, and no part of it
)
ALTERED = "the head was altered or damaged: take it from its backup, or train again"
_TRAIN_AGAIN = "take the head from its backup, or train again"
_SPOILT = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError),
    *(safetensors.SafetensorError, OutputError),
)
_TENSORS = ("weight", "bias")


def write(folder: str, head: Head) -> str:
    """Writes a head and seals the folder, with whatever other files lie there; the last step before a commit.

    Returns:
        The bundle's digest.
    """
    tensors = {"weight": head.weight, "bias": head.bias}
    storage.replace_bytes(f"{folder}/{WEIGHTS}", safetensors.numpy.save(tensors))
    named = {f"golden-{place:02}.jpg": image for place, image in enumerate(head.golden)}
    for name, image in named.items():
        storage.replace_bytes(f"{folder}/{name}", image.jpeg)
    if named:
        embeddings = np.stack([np.frombuffer(image.embedding, "<f2") for image in head.golden])
        storage.replace_bytes(
            f"{folder}/{GOLDEN}", safetensors.numpy.save({"embeddings": embeddings})
        )
    described = {
        "format": FORMAT,
        "head_id": head.head_id,
        "classes": head.classes,
        "exclude_classes": head.exclude_classes,
        "backbone_id": head.backbone_id,
        "facts": head.facts,
        "golden": [_described(name, image) for name, image in named.items()],
    }
    storage.replace_json(f"{folder}/{DESCRIPTION}", described)
    return seal(folder)


def seal(folder: str) -> str:
    """Writes the digests of all files of a folder; returns the digest of that list, which names the bundle."""
    names = _names(folder)
    contents = storage.read_files([f"{folder}/{name}" for name in names])
    files = {name: content_digest(content) for name, content in zip(names, contents, strict=True)}
    storage.replace_json(f"{folder}/{MANIFEST}", {"format": FORMAT, "files": files})
    return digest(folder)


def digest(folder: str) -> str:
    """SHA-256 of bundle.json, 64 hexadecimal digits: kept elsewhere, it tells any change at all."""
    return content_digest(storage.read_files([f"{folder}/{MANIFEST}"])[0])


def read(folder: str, *, doing: str) -> tuple[dict[str, Any], str]:
    """Reads a bundle and checks all that can be checked without its head.

    Returns:
        The fields of `head.Head`, and the id that they must give.

    Raises:
        HeadError: there is none, it is of another format, or something in it is not as it must be.

    Cost: reads the folder whole, 5 MB with 32 golden images.
    """
    files = _sealed(folder, doing)
    try:
        described = json.loads(files[DESCRIPTION])
        fields = {**_fields(described), **_tensors(files[WEIGHTS])}
        fields["golden"] = _golden(described["golden"], files, fields["classes"])
        wrong, head_id = _wrong(fields), described["head_id"]
    except _SPOILT as error:
        raise _refused(
            doing,
            "the files that `toiletspark train` wrote",
            f"{type(error).__name__}: {error}",
            _TRAIN_AGAIN,
        ) from None
    if wrong:
        raise _refused(doing, *wrong, ALTERED)
    return fields, head_id


def _sealed(folder: str, doing: str) -> dict[str, bytes]:
    """The files by name, which are those that bundle.json lists, and as it lists them."""
    try:
        sealed = storage.read_json(f"{folder}/{MANIFEST}")
        if sealed is None:
            raise _unsealed(folder, doing)
        listed, version = dict(sealed["files"]), sealed["format"]
    except _SPOILT as error:
        raise _refused(
            doing, f"{MANIFEST} with the digests of all files", str(error), _TRAIN_AGAIN
        ) from None
    if version != FORMAT:
        raise _refused(
            doing,
            f"a bundle of format {FORMAT}",
            f"format {version}",
            "read it with the toiletspark that wrote it",
        )
    names = _names(folder)
    odd = sorted(set(names) ^ set(listed))
    if odd:
        kind = "not listed" if odd[0] in names else "missing"
        raise _refused(
            doing,
            f"the {len(listed)} files that {MANIFEST} lists",
            f"{shown(odd)}: {kind}",
            _TRAIN_AGAIN,
        )
    try:
        files = dict(
            zip(names, storage.read_files([f"{folder}/{name}" for name in names]), strict=True)
        )
    except OSError as error:
        raise _refused(
            doing, f"files that can be read, as {MANIFEST} lists them", str(error), _TRAIN_AGAIN
        ) from None
    altered = [name for name, content in files.items() if content_digest(content) != listed[name]]
    if altered:
        raise _refused(
            doing,
            f"files with the SHA-256 that {MANIFEST} lists",
            f"another one of {shown(altered)}",
            ALTERED,
        )
    return files


def _unsealed(folder: str, doing: str) -> HeadError:
    """There is no bundle.json: no head at all, or one of an earlier version, which could as well be a stripped one."""
    if storage.exists(f"{folder}/{DESCRIPTION}"):
        todo = f"an earlier toiletspark wrote it, or somebody took {MANIFEST} away: train again, which takes seconds"
        return _refused(doing, f"{DESCRIPTION}, {WEIGHTS} and {MANIFEST}", f"no {MANIFEST}", todo)
    todo = "run `toiletspark train` first, or set score.head to a head's folder"
    return _refused(doing, f"a folder with {DESCRIPTION} and {WEIGHTS}", f"no {DESCRIPTION}", todo)


def _names(folder: str) -> list[str]:
    """The files that a bundle answers for; names with a dot before them are those of file systems."""
    return [
        name
        for name in storage.entries(folder)
        if name not in (MANIFEST, _RUN_MANIFEST) and not name.startswith(".")
    ]


def _described(name: str, image: GoldenImage) -> dict[str, Any]:
    """What head.json says of a golden image."""
    told = ("image_id", "content_digest", "label", "scores")
    return {"file": name, **{key: getattr(image, key) for key in told}}


def _fields(described: Mapping[str, Any]) -> dict[str, Any]:
    """What head.json says of the head itself."""
    names = {name: tuple(map(_text, described[name])) for name in ("classes", "exclude_classes")}
    return {
        **names,
        "backbone_id": _text(described["backbone_id"]),
        "facts": dict(described["facts"]),
    }


def _tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Weight and bias, and nothing else: another tensor could take the place of a field."""
    tensors = safetensors.numpy.load(content)
    if sorted(tensors) != sorted(_TENSORS):
        raise ValueError(f"the tensors {shown(sorted(tensors))} in {WEIGHTS}")
    return tensors


def _golden(
    described: list[dict[str, Any]], files: Mapping[str, bytes], classes: tuple[str, ...]
) -> tuple[GoldenImage, ...]:
    if not described:
        return ()
    embeddings = safetensors.numpy.load(files[GOLDEN])["embeddings"].astype("<f2")
    pairs = zip(described, embeddings, strict=True)
    return tuple(
        _golden_image(one, files, embedding.tobytes(), classes) for one, embedding in pairs
    )


def _golden_image(
    described: dict[str, Any],
    files: Mapping[str, bytes],
    embedding: bytes,
    classes: tuple[str, ...],
) -> GoldenImage:
    image_id, content_digest, label = (
        _text(described[key]) for key in ("image_id", "content_digest", "label")
    )
    scores = {name: float(described["scores"][name]) for name in classes}
    return GoldenImage(image_id, content_digest, label, files[described["file"]], embedding, scores)


def _wrong(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """What was expected and what was found instead, where numbers and names do not go together."""
    classes, weight, bias = fields["classes"], fields["weight"], fields["bias"]
    rows = len(classes)
    if (
        len(set(classes)) != rows
        or not set(fields["exclude_classes"]) <= set(classes)
        or not fields["exclude_classes"]
    ):
        told = f"classes {list(classes)}, excluded {list(fields['exclude_classes'])}"
        return "classes that differ, and some of them excluded", told
    if weight.ndim != 2 or not weight.size or (weight.shape[0], bias.shape) != (rows, (rows,)):
        return (
            f"weight ({rows}, ...) and bias ({rows},), for {rows} classes",
            f"{weight.shape} and {bias.shape}",
        )
    if not _plain(weight) or not _plain(bias):
        return "weight and bias of float32, all of them numbers", f"{weight.dtype} and {bias.dtype}"
    widths = {len(image.embedding) // 2 for image in fields["golden"]} - {weight.shape[1]}
    if widths:
        return f"golden embeddings of {weight.shape[1]} numbers", f"{widths.pop()}"
    described = fields["facts"].get("backbone")
    return mismatch(described, fields["backbone_id"]) if described is not None else None


def _plain(values: NDArray[Any]) -> bool:
    return bool(values.dtype == np.float32 and np.isfinite(values).all())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a name should be")
    return value


def _refused(doing: str, expected: str, found: str, todo: str) -> HeadError:
    return HeadError(doing=doing, expected=expected, found=found, todo=todo)
