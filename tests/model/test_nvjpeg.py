"""nvJPEG's code, run with torchvision's CPU decoder, and on a GPU if there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from tests.support import backbones
from tests.support.pictures import encoded
from tests.support.shared_folder import shared
from toiletspark.config.loading import load
from toiletspark.demo.rooms import draw_room
from toiletspark.errors import BackboneError, ConfigError
from toiletspark.images import decoding, sandbox
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes import nvjpeg, torch_runtime

LIMITS = load().decode
PREPROCESSING = Preprocessing(256, 224, jpeg_decoder="nvjpeg")
DEVICES = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def jpeg(width: int = 640, height: int = 480, seed: int = 0, **options: Any) -> bytes:
    return encoded(draw_room("kitchen", seed).resize((width, height)), "JPEG", **options)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif)


ODD = {
    "turned": turned(6),
    "cmyk": encoded(draw_room("kitchen", 1).convert("CMYK"), "JPEG"),
    "png": encoded(draw_room("kitchen", 2), "PNG"),
    "cut short": jpeg()[:-4000],
    "no image": b"no image at all",
    "empty": b"",
    "too small": jpeg(8, 8),
    "rgb inside": encoded(draw_room("kitchen", 3), "JPEG", keep_rgb=True),
}


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(
    "size", [(640, 480), (480, 640), (256, 256), (301, 299), (200, 90), (4000, 300)], ids=str
)
def test_plain_files_look_as_pillow_sees_them(
    size: tuple[int, int], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # or Pillow would stand in where nvJPEG does not work
    monkeypatch.setattr(sandbox, "decode", None)
    (result,) = nvjpeg.decode([jpeg(*size)], LIMITS, PREPROCESSING, device)
    (wanted,) = decoding.decode([jpeg(*size)], LIMITS, PREPROCESSING)
    assert result.pixels is not None and wanted.pixels is not None
    assert (result.status, result.width, result.height) == ("ok", *size)
    assert result.pixels.shape == (224, 224, 3) and result.pixels.dtype == np.uint8
    differences = np.abs(result.pixels.astype(int) - wanted.pixels.astype(int))
    # a panorama's far ends are cut off in whole pixels, which moves it by a part of one; nvJPEG's
    # colours are coarser
    assert differences.mean() < (0.5 if device.type == "cpu" else 2.0)


def test_grey_has_three_channels() -> None:
    (result,) = nvjpeg.decode(
        [encoded(draw_room("kitchen", 4).convert("L"), "JPEG")], LIMITS, PREPROCESSING, DEVICES[0]
    )
    assert result.pixels is not None
    assert (result.pixels[..., 0] == result.pixels[..., 2]).all()


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_plain_is_pillows(name: str) -> None:
    assert nvjpeg.plain_size(ODD[name], LIMITS) is None
    assert same(nvjpeg.decode([ODD[name]], LIMITS, PREPROCESSING, DEVICES[0]), ODD[name])


def same(outcomes: list[Decoded], content: bytes) -> bool:
    (wanted,) = decoding.decode([content], LIMITS, PREPROCESSING)
    (one,) = outcomes
    facts = [(it.status, it.detail, it.width, it.height) for it in (one, wanted)]
    return facts[0] == facts[1] and np.array_equal(one.pixels, wanted.pixels)  # type: ignore[arg-type]


def test_a_mixed_batch_keeps_its_order() -> None:
    files = [jpeg(seed=1), ODD["png"], jpeg(seed=2), ODD["no image"], ODD["turned"], jpeg(seed=3)]
    result = nvjpeg.decode(files, LIMITS, PREPROCESSING, DEVICES[0])
    assert [one.status for one in result] == ["ok", "ok", "ok", "not_an_image", "ok", "ok"]
    alone = [nvjpeg.decode([file], LIMITS, PREPROCESSING, DEVICES[0])[0] for file in files]
    for one, wanted in zip(result, alone, strict=True):
        assert np.array_equal(one.pixels, wanted.pixels)  # type: ignore[arg-type]


def test_a_batch_is_decoded_in_portions_of_the_pixels_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: list[int] = []
    real = torchvision.io.decode_jpeg

    def counting(given: list[torch.Tensor], *others: Any) -> Any:
        known.append(len(given))
        return real(given, *others)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", counting)
    narrow = LIMITS.model_copy(update={"max_pixels": 2 * 640 * 480})
    nvjpeg.decode([jpeg(seed=seed) for seed in range(5)], narrow, PREPROCESSING, DEVICES[0])
    assert known == [2, 2, 1]


def test_what_the_decoder_refuses_is_pillows_and_its_neighbours_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [jpeg(seed=seed) for seed in range(3)]
    real = torchvision.io.decode_jpeg
    pillows: list[int] = []

    def refusing(given: list[torch.Tensor], *others: Any) -> Any:
        if any(bytes(one.numpy()) == files[1] for one in given):
            raise RuntimeError("nvjpegDecode failed: 5")
        return real(given, *others)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", refusing)
    by_pillow = sandbox.decode
    monkeypatch.setattr(
        sandbox,
        "decode",
        lambda *given: (pillows.append(files.index(given[0][0])), by_pillow(*given))[1],
    )
    assert [one.status for one in nvjpeg.decode(files, LIMITS, PREPROCESSING, DEVICES[0])] == [
        "ok"
    ] * 3
    assert pillows == [1]


@pytest.mark.parametrize("scarce", ["decoding", "resizing"])
def test_what_is_too_much_at_once_is_done_one_by_one_and_never_by_pillow(
    scarce: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [jpeg(seed=seed) for seed in range(3)]
    wanted = nvjpeg.decode(files, LIMITS, PREPROCESSING, DEVICES[0])
    decode = torchvision.io.decode_jpeg
    preprocess = nvjpeg.preprocess
    room = 1
    held: list[int] = []

    def require_room(step: str) -> None:
        if step == scarce and held[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def decoded(given: list[torch.Tensor], *others: Any) -> Any:
        held.append(len(given))
        require_room("decoding")
        return decode(given, *others)

    def resized(*given: Any) -> Any:
        require_room("resizing")
        return preprocess(*given)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", decoded)
    monkeypatch.setattr(nvjpeg, "preprocess", resized)
    monkeypatch.setattr(sandbox, "decode", None)
    result = nvjpeg.decode(files, LIMITS, PREPROCESSING, DEVICES[0])
    assert held == [3, 1, 1, 1]
    for one, other in zip(result, wanted, strict=True):
        assert np.array_equal(one.pixels, other.pixels)  # type: ignore[arg-type]
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        nvjpeg.decode(files, LIMITS, PREPROCESSING, DEVICES[0])


@pytest.mark.parametrize("when", ["before its first image", "while it works"])
def test_a_worker_whose_decoder_does_not_work_says_so(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's pixels would be embedded under nvJPEG's name."""
    spec = backbones.spec(resize_px=72, crop_px=64, jpeg_scaling=False, jpeg_decoder="nvjpeg")
    working = Backbone(spec) if when == "while it works" else None

    def broken(*given: Any) -> Any:
        raise RuntimeError(
            "decode_jpegs_cuda: torchvision not compiled with nvJPEG support\n"
            "Exception raised from ..."
        )

    monkeypatch.setattr(torchvision.io, "decode_jpeg", broken)
    with pytest.raises(BackboneError) as stopped:
        (working or Backbone(spec)).decode([jpeg()], LIMITS)
    assert str(stopped.value) == (
        "while decoding a sound JPEG file, as backbone.jpeg_decoder = nvjpeg asks for\n"
        f"  expected: a torchvision that can, on {torch_runtime.default_device('')}\n"
        "  found:    decode_jpegs_cuda: torchvision not compiled with nvJPEG support\n"
        "  do:       repair the worker, or set backbone.jpeg_decoder to pillow, whose embeddings "
        "have an identity of their own"
    )


def test_the_decoder_is_part_of_the_identity_and_the_backbone_uses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = backbones.spec(resize_px=72, crop_px=64, jpeg_scaling=False)
    other = backbones.spec(resize_px=72, crop_px=64, jpeg_scaling=False, jpeg_decoder="nvjpeg")
    assert plain.backbone_id != other.backbone_id
    assert plain.preprocessing.name == replace(other.preprocessing, jpeg_decoder="pillow").name
    used: list[int] = []
    real = torchvision.io.decode_jpeg
    monkeypatch.setattr(
        torchvision.io, "decode_jpeg", lambda *given: (used.append(1), real(*given))[1]
    )
    for spec, times in [(plain, 0), (other, 1)]:
        backbone = Backbone(spec)
        used.clear()  # it has tried its decoder
        (result,) = backbone.decode([jpeg()], LIMITS)
        assert result.pixels is not None and result.pixels.shape == (64, 64, 3)
        assert len(used) == times


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_it_goes_with_torch_alone(runtime: str) -> None:
    with pytest.raises(ConfigError, match="set runtime to torch, or jpeg_decoder to pillow"):
        load(sets=["backbone.jpeg_decoder=nvjpeg", f"backbone.runtime={runtime}"])


def test_it_decodes_whole_pictures() -> None:
    """Pillow would scale files that nvJPEG rejects: another embedding under the same name."""
    sets = ["backbone.jpeg_decoder=nvjpeg", "backbone.runtime=torch"]
    with pytest.raises(
        ConfigError, match="jpeg_decoder nvjpeg decodes whole pictures: set jpeg_scaling to false"
    ):
        load(sets=sets)
    assert load(sets=[*sets, "backbone.jpeg_scaling=false"]).backbone.jpeg_decoder == "nvjpeg"


def test_real_photos_have_nearly_the_same_embeddings() -> None:
    files = [file.read_bytes() for file in sorted(shared("photos", "files").glob("*.jpg"))[:24]]
    spec = backbones.spec(backbones.real_weights(), jpeg_decoder="nvjpeg", jpeg_scaling=False)
    backbone = Backbone(spec, threads=2)
    result, wanted = (
        backbone.embed(np.stack([one.pixels for one in outcomes if one.pixels is not None]))
        for outcomes in (
            backbone.decode(files, LIMITS),
            decoding.decode(files, LIMITS, spec.preprocessing),
        )
    )
    lengths = np.linalg.norm(result, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((result * wanted).sum(axis=1) / lengths).min() > 0.999
