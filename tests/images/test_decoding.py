"""Decoding: the pixels that torchvision would give."""

import io
import random
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import transforms

from tests.support.pictures import (
    HTML,
    LIMITS,
    SCALED,
    STANDARD,
    encoded,
    expected,
    one,
    picture,
    pixels,
    png,
)
from toiletspark.demo.rooms import draw_room
from toiletspark.images.decoding import (
    Decoded,
    Preprocessing,
    decode,
    measure,
    preprocess,
    thumbnail,
)

SECRET = b"agent-phone-0151"

# Resize and crop


def by_torchvision(image: Image.Image, resize_px: int = 256, crop_px: int = 224) -> np.ndarray:
    steps = transforms.Compose([transforms.Resize(resize_px), transforms.CenterCrop(crop_px)])
    return np.asarray(steps(image))


SIZES = [
    (640, 480),
    (480, 640),
    (767, 575),
    (333, 501),
    (257, 999),
    (1024, 257),
    (256, 256),
    (224, 224),
    (300, 300),
]
SIZES += [
    (17, 40),
    (40, 17),
    (16, 16),
    (255, 256),
    (256, 1024),
    (1000, 250),
    (416, 416),
    (1600, 401),
    (225, 899),
]


def assert_as_torchvision(image: Image.Image, preprocessing: Preprocessing = STANDARD) -> None:
    """Pillow's float32 corners of the square cost a rounding here and there, and nothing else."""
    result = preprocess(image, preprocessing).astype(int)
    wanted = by_torchvision(image, preprocessing.resize_px, preprocessing.crop_px).astype(int)
    differences = np.abs(result - wanted)
    assert result.shape == wanted.shape
    assert differences.max() <= 1, (image.size, preprocessing)
    assert differences.mean() < 0.3, (image.size, preprocessing)  # smooth pictures are full of ties


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_torchvisions_but_for_roundings(size: tuple[int, int]) -> None:
    assert_as_torchvision(picture(*size))


def test_pixels_are_torchvisions_for_any_sizes_and_settings() -> None:
    drawn = random.Random(11)
    for number in range(60):
        short = drawn.randint(16, 500)
        size = [short, drawn.randint(short, 4 * short)]
        drawn.shuffle(size)
        resize_px = drawn.choice([256, 232, 64, 255])
        crop_px = drawn.choice([resize_px, resize_px - 1, resize_px // 2])
        assert_as_torchvision(picture(size[0], size[1], number), Preprocessing(resize_px, crop_px))


@pytest.mark.parametrize("size", [(3000, 300), (300, 3000), (2001, 400), (130, 1777)], ids=str)
def test_the_middle_of_a_panorama_is_what_torchvision_would_see(size: tuple[int, int]) -> None:
    assert_as_torchvision(picture(*size))


def test_a_very_long_picture_is_not_blown_up() -> None:
    """Resized as a whole, 100 x 30000 would have 256 x 76800 pixels, 390 times the square."""
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(
        image: Image.Image, size: tuple[int, int], *rest: Any, **options: Any
    ) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *rest, **options)

    content = encoded(Image.new("RGB", (100, 30_000), (10, 20, 30)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", watched)
        result = one(content)
    assert (result.status, result.width, result.height) == ("ok", 100, 30_000)
    assert sizes == [(224, 224)]


def test_the_name_of_a_preprocessing_differs_with_its_sizes() -> None:
    settings = [(256, 224), (256, 225), (257, 224), (224, 224)]
    assert len({Preprocessing(*sizes).name for sizes in settings}) == 4
    assert STANDARD.name == "r256c224-e74bb2"  # pinned: it is part of every backbone_id


# Upright RGB

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_turned_picture_is_seen_as_a_person_sees_it(orientation: int, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture(320, 280), kind, exif=exif, **options)
    as_stored = Image.open(io.BytesIO(encoded(picture(320, 280), kind, **options))).convert("RGB")
    turn = TURNS[orientation]
    upright = as_stored if turn is None else as_stored.transpose(turn)
    result = one(content)
    assert (result.width, result.height) == upright.size
    assert np.array_equal(pixels(content), expected(upright))


def test_cmyk_is_converted() -> None:
    image = picture(300, 260)
    result = pixels(encoded(image.convert("CMYK"), "JPEG", quality=100, subsampling=0)).astype(int)
    assert np.abs(result - expected(image).astype(int)).mean() < 3


def test_grey_has_three_equal_channels() -> None:
    grey = picture(300, 260).convert("L")
    result = pixels(encoded(grey))
    assert np.array_equal(result, expected(grey.convert("RGB")))
    assert np.array_equal(
        pixels(encoded(grey, "JPEG"))[..., 0], pixels(encoded(grey, "JPEG"))[..., 2]
    )


def half_transparent(mode: str) -> Image.Image:
    """The left half opaque, the right half transparent (over black, as many editors leave it)."""
    image = picture(400, 300).convert(mode)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (200, 0, 400, 300))
    if mode == "RGBA":
        image.paste((0, 0, 0, 255), (200, 0, 400, 300))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_parts_are_white_and_opaque_ones_untouched(mode: str, kind: str) -> None:
    image = half_transparent(mode)
    result = pixels(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (result[:, 120:] == 255).all()
    assert np.array_equal(result[:, :104], expected(image.convert("RGBA").convert("RGB"))[:, :104])


def test_half_transparent_black_is_grey() -> None:
    result = pixels(encoded(Image.new("RGBA", (300, 300), (0, 0, 0, 51))))
    assert (result == 204).all()


def test_a_palettes_transparent_colour_is_white() -> None:
    image = Image.new("P", (300, 300), 1)
    image.putpalette([200, 30, 40, 9, 99, 199])
    image.paste(0, (150, 0, 300, 300))
    result = pixels(encoded(image, transparency=0))
    assert (result[:, 125:] == 255).all()
    assert (result[:, :100] == (9, 99, 199)).all()
    assert (pixels(encoded(image))[:, 125:] == (200, 30, 40)).all()


def test_a_transparent_colour_of_rgb_and_of_grey_is_white() -> None:
    for mode, colour in (("RGB", (1, 2, 3)), ("L", 7)):
        content = encoded(Image.new(mode, (300, 300), colour), transparency=colour)
        assert (pixels(content) == 255).all()


def test_16_bits_keep_their_upper_8() -> None:
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (300, 1))
    result = pixels(encoded(Image.fromarray(ramp)))
    wanted = expected(Image.fromarray((ramp / 257).astype(np.uint8)).convert("RGB"))
    assert np.abs(result.astype(int) - wanted.astype(int)).max() <= 1
    assert result.max() < 220  # a clipped ramp would be white nearly everywhere
    assert result[..., 0].std() > 30


def test_a_16_bit_picture_is_told_from_one_whose_values_fit_8() -> None:
    flat = np.full((300, 300), 200, dtype=np.uint16)
    assert (pixels(encoded(Image.fromarray(flat))) == 200).all()


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (300, 300), 1)
    image.paste(0, (0, 0, 150, 300))
    result = pixels(encoded(image))
    assert ((result[:, :100] == 0).all(), (result[:, 125:] == 255).all()) == (True, True)


def test_webp_is_decoded() -> None:
    image = picture(300, 260)
    assert np.array_equal(pixels(encoded(image, "WEBP", lossless=True)), expected(image))


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_an_animations_first_frame_is_taken(kind: str) -> None:
    first, second = picture(300, 260, 1), picture(300, 260, 2)
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(first, kind, save_all=True, append_images=[second], duration=100, **options)
    assert Image.open(io.BytesIO(content)).n_frames == 2  # type: ignore[attr-defined]
    assert np.array_equal(pixels(content), expected(first))


def test_an_interlaced_png_is_decoded() -> None:
    image = picture(260, 300)
    values = np.asarray(image)
    raw = b""
    for left, top, right, down in [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]:
        raw += b"".join(b"\0" + row.tobytes() for row in values[top::down, left::right])
    assert np.array_equal(pixels(png(260, 300, raw, interlaced=True)), expected(image))


DAMAGED = [b"Exif\0\0II*\0", bytes(20), b"Exif\0\0" + b"\xff" * 30]


@pytest.mark.parametrize("exif", DAMAGED, ids=len)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_exif_block_does_not_cost_the_picture(kind: str, exif: bytes) -> None:
    content = encoded(picture(90, 60), kind, exif=exif, dpi=(72, 72))
    assert (one(content).status, one(content).width, one(content).height) == ("ok", 90, 60)
    assert np.array_equal(pixels(content), pixels(encoded(picture(90, 60), kind)))
    assert measure(content, LIMITS) == one(content).without_pixels()
    assert thumbnail(content, LIMITS, 64) is not None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_whose_exif_block_is_damaged_elsewhere_is_turned(kind: str) -> None:
    """Orientation 6, and a resolution that Pillow cannot write again."""
    entries = [(0x0112, 3, 1, 6), (0x011A, 7, 4, 1)]
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    block += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    content = encoded(picture(90, 60), kind, exif=block)
    assert (one(content).status, one(content).width, one(content).height) == ("ok", 60, 90)
    turned = (
        Image.open(io.BytesIO(encoded(picture(90, 60), kind)))
        .convert("RGB")
        .transpose(Image.Transpose.ROTATE_270)
    )
    assert np.array_equal(pixels(content), expected(turned))


@pytest.mark.parametrize("colour", [0, 2], ids=["grey", "RGB"])
def test_the_transparent_colour_of_16_bits_is_white_and_its_neighbours_are_not(colour: int) -> None:
    """The left half of the transparent colour, the right half of another one."""
    bands = 1 if colour == 0 else 3
    clear, other = struct.pack(">H", 0x8040) * bands, struct.pack(">H", 0x4000) * bands
    rows = b"".join(b"\0" + clear * 120 + other * 120 for _ in range(240))
    content = png(240, 240, rows, depth=16, colour=colour, transparent=clear)
    result = pixels(content)
    assert result[:, :100].min() == 255
    assert abs(int(result[:, 124:].max()) - 0x40) <= 1


# JPEG at reduced scale


def scaled(content: bytes, preprocessing: Preprocessing = SCALED) -> Decoded:
    (outcome,) = decode([content], LIMITS, preprocessing)
    assert outcome.status == "ok"
    assert outcome.pixels is not None
    return outcome


def sizes_before_resizing(content: bytes, preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height of the picture that a file is decoded to."""
    sizes: list[tuple[int, int]] = []

    def watched(image: Image.Image, *rest: Any) -> Any:
        sizes.append(image.size)
        return preprocess(image, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toiletspark.images.decoding.preprocess", watched)
        decode([content], LIMITS, preprocessing)
    return sizes[0]


def test_scaled_decoding_is_another_preprocessing() -> None:
    assert SCALED.name != STANDARD.name
    assert SCALED.name.startswith("r256c224-")


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((2048, 2100), (256, 263)),  # 1/8
        ((2040, 2100), (510, 525)),  # 1/8 would leave 255 px
        ((1100, 1024), (275, 256)),  # 1/4
        ((1024, 1023), (512, 512)),
        ((512, 900), (256, 450)),  # 1/2
        ((511, 900), (511, 900)),
        ((200, 300), (200, 300)),
    ],
    ids=str,
)
def test_a_jpeg_is_decoded_at_the_least_scale_that_leaves_enough(
    size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    content = encoded(Image.new("RGB", size), "JPEG")
    assert sizes_before_resizing(content, SCALED) == decoded
    assert sizes_before_resizing(content, STANDARD) == size
    result = scaled(content)
    assert (result.width, result.height) == size  # of the file, not of the square


def test_no_scale_leaves_less_than_the_resized_side() -> None:
    rng = random.Random(5)
    for resize_px in (64, 100, 256):
        for _ in range(6):
            size = (rng.randrange(40, 1500), rng.randrange(40, 1500))
            preprocessing = Preprocessing(resize_px, 48, jpeg_scaling=True)
            short = min(
                sizes_before_resizing(encoded(Image.new("RGB", size), "JPEG"), preprocessing)
            )
            assert short >= min(resize_px, *size), (size, resize_px)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_and_scaled_jpeg_is_upright_and_tells_its_full_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = picture(1200, 1100)
    turn = TURNS[orientation]
    result = scaled(encoded(image, "JPEG", exif=exif, quality=95))
    upright = image if turn is None else image.transpose(turn)
    assert (result.width, result.height) == upright.size
    near = np.abs(result.pixels.astype(int) - expected(upright).astype(int)).mean()
    far_off = np.abs(
        result.pixels.astype(int)
        - expected(upright.transpose(Image.Transpose.ROTATE_180)).astype(int)
    )
    assert near < 3 < far_off.mean() / 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_formats_are_decoded_as_ever(kind: str) -> None:
    content = encoded(picture(700, 600), kind)
    assert np.array_equal(scaled(content).pixels, pixels(content))


@pytest.mark.parametrize("room", ["kitchen", "toilet", "exterior"])
def test_a_scaled_picture_is_nearly_the_same_picture(room: str) -> None:
    """In grey levels of 255, and in how both go up and down together."""
    content = encoded(draw_room(room, 3, (1100, 825)), "JPEG", quality=90)
    full, less = (
        one.pixels.astype(float).ravel() for one in (scaled(content, STANDARD), scaled(content))
    )
    assert 0 < np.abs(full - less).mean() < 2.5
    assert np.corrcoef(full, less)[0, 1] > 0.98


# The header alone


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_measuring_tells_what_decoding_has_told(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture(90, 60), kind, exif=exif)
    assert measure(content, LIMITS) == one(content).without_pixels()


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_formats_that_a_conf_may_add_are_measured_as_they_are_decoded(
    kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture(90, 60), kind, exif=exif)
    decoded = one(content, formats=[kind])
    is_turned = TURNS[orientation] is not None and orientation >= 5
    assert (decoded.width, decoded.height) == ((60, 90) if is_turned else (90, 60))
    limits = LIMITS.model_copy(update={"formats": [kind]})
    assert measure(content, limits) == decoded.without_pixels()


def test_measuring_decodes_nothing() -> None:
    content = encoded(picture(300, 200), "JPEG")
    # no picture is left, but the header is
    assert measure(content[:700], LIMITS) == Decoded("ok", "", 300, 200)


# Thumbnails


@pytest.mark.parametrize(
    ("size", "thumb"), [((800, 600), (160, 120)), ((300, 900), (53, 160)), ((100, 50), (100, 50))]
)
def test_a_thumbnail_is_a_small_jpeg(size: tuple[int, int], thumb: tuple[int, int]) -> None:
    content = thumbnail(encoded(picture(*size)), LIMITS, 160)
    assert content is not None
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", thumb)
    small = picture(*size).resize(thumb, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(small, dtype=int)).mean() < 8


def test_a_thumbnail_is_upright_and_carries_nothing_of_the_strangers_file() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = SECRET.decode()
    text = {"icc_profile": SECRET * 20, "comment": SECRET}
    content = encoded(picture(400, 200), "JPEG", exif=exif, **text)
    assert content.count(SECRET) > 2
    small = thumbnail(content, LIMITS, 100)
    assert small is not None
    image = Image.open(io.BytesIO(small))
    assert image.size == (50, 100)
    assert (dict(image.getexif()), image.info.get("icc_profile"), image.info.get("comment")) == (
        {},
        None,
        None,
    )
    assert SECRET not in small
    assert ImageOps.exif_transpose(image).size == image.size


def test_a_bad_file_has_no_thumbnail() -> None:
    whole = encoded(picture(300, 200), "JPEG")
    for content in (
        b"",
        HTML,
        whole[: len(whole) // 2],
        png(30_000, 30_000, b""),
        encoded(picture(15, 15)),
    ):
        assert thumbnail(content, LIMITS, 100) is None
    assert thumbnail(whole, LIMITS, 100) is not None
