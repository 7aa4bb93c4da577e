"""The demo catalog: drawn by hash, complete, and as broken as it says."""

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from toiletspark.demo.catalog import (
    IMAGES_PER_LISTING,
    LOCATIONS,
    DemoCatalog,
    Picture,
    decide,
    draw_catalog,
)
from toiletspark.demo.labelling import label_like_a_person
from toiletspark.demo.odd_files import BROKEN, HUGE_SIDE_PX, ODD, odd_bytes
from toiletspark.demo.rooms import ROOMS, draw_room
from toiletspark.errors import UserError

LISTINGS = 60
CLASSES = {
    "toilet": "toilet",
    "kitchen": "other",
    "bedroom": "other",
    "living_room": "other",
    "exterior": "other",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DemoCatalog:
    return draw_catalog(tmp_path_factory.mktemp("demo") / "catalog", listings=LISTINGS)


def planned(listings: int, seed: int = 7) -> list[Picture]:
    return [
        decide(seed, listing + 1, position + 1)
        for listing, position in itertools.product(range(listings), range(IMAGES_PER_LISTING))
    ]


def urls(catalog: DemoCatalog) -> dict[str, Path]:
    images = pd.read_parquet(catalog.images)
    return {row.image_id: Path(row.image_url) for row in images.itertuples()}


def truth(catalog: DemoCatalog) -> dict[str, str]:
    with catalog.truth.open(newline="") as file:
        return {row["image_id"]: row["room"] for row in csv.DictReader(file)}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
    }


# Rooms


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_the_same_for_the_same_seed_and_another_for_another(room: str) -> None:
    first, again, other = draw_room(room, 3), draw_room(room, 3), draw_room(room, 4)
    assert (first.mode, first.size) == ("RGB", (400, 300))
    assert first.tobytes() == again.tobytes()
    assert np.abs(np.asarray(first, dtype=float) - np.asarray(other, dtype=float)).mean() > 5


@pytest.mark.parametrize("size_px", [(300, 400), (160, 160), (1200, 90)])
def test_a_room_fills_any_size(size_px: tuple[int, int]) -> None:
    image = draw_room("toilet", 1, size_px)
    assert image.size == size_px
    assert np.asarray(image).std() > 5


def test_rooms_do_not_differ_by_their_mean_colour_alone() -> None:
    """Otherwise the demo would be solved by a head that has learnt the paint."""
    colours = {
        room: [np.asarray(draw_room(room, k, (80, 60))).mean(axis=(0, 1)) for k in range(30)]
        for room in ROOMS
    }
    indoor = [np.array(colours[room]) for room in ROOMS if room != "exterior"]
    spread = np.mean([room.std(axis=0) for room in indoor])
    between = np.std([room.mean(axis=0) for room in indoor], axis=0).mean()
    assert between < spread


def test_an_unknown_room_is_refused() -> None:
    with pytest.raises(KeyError, match="cellar"):
        draw_room("cellar", 1)


# The tables


def test_every_listing_has_its_images_in_order(drawn: DemoCatalog) -> None:
    listings, images = pd.read_parquet(drawn.listings), pd.read_parquet(drawn.images)
    assert list(listings.columns) == ["listing_id", "location", "listing_type", "active", "price"]
    assert list(images.columns) == [
        "image_id",
        "listing_id",
        "position",
        "image_url",
        "image_version",
    ]
    assert listings.listing_id.is_unique and len(listings) == LISTINGS
    assert images.image_id.is_unique and len(images) == LISTINGS * IMAGES_PER_LISTING
    assert set(images.listing_id) == set(listings.listing_id)
    assert (
        images.groupby("listing_id")
        .position.apply(list)
        .map(lambda found: found == [1, 2, 3, 4])
        .all()
    )
    assert (listings.active.dtype, listings.price.dtype, images.position.dtype) == (
        "bool",
        "int64",
        "int64",
    )
    assert not listings.isna().any().any() and not images.isna().any().any()


def test_a_listing_is_the_same_among_few_and_among_many(drawn: DemoCatalog, tmp_path: Path) -> None:
    few = draw_catalog(tmp_path / "few", listings=20)
    rows = 20 * IMAGES_PER_LISTING
    pd.testing.assert_frame_equal(
        pd.read_parquet(few.listings), pd.read_parquet(drawn.listings)[:20]
    )
    columns = ["image_id", "listing_id", "position", "image_version"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(few.images)[columns], pd.read_parquet(drawn.images)[columns][:rows]
    )
    for image_id, path in urls(few).items():
        counterpart = urls(drawn)[image_id]
        assert path.name == counterpart.name
        assert path.exists() == counterpart.exists()
        assert not path.exists() or path.read_bytes() == counterpart.read_bytes(), image_id
    assert truth(few).items() <= truth(drawn).items()


def test_another_seed_is_another_catalog(drawn: DemoCatalog, tmp_path: Path) -> None:
    other = draw_catalog(tmp_path / "other", listings=8, seed=8)
    assert not pd.read_parquet(other.listings).equals(pd.read_parquet(drawn.listings)[:8])
    assert urls(other)["L00001-1"].read_bytes() != urls(drawn)["L00001-1"].read_bytes()


def test_the_default_catalog_has_the_promised_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of all 400 listings, without their 1,600 files."""
    monkeypatch.setattr("toiletspark.demo.catalog._write_file", lambda folder, picture: None)
    catalog = draw_catalog(tmp_path / "catalog")
    listings, images = pd.read_parquet(catalog.listings), pd.read_parquet(catalog.images)
    assert (len(listings), len(images)) == (400, 1600)
    assert set(listings.location) == set(LOCATIONS) and len(LOCATIONS) >= 12
    assert set(listings.listing_type) == {"rent", "sale", "commercial"}
    assert listings.location.value_counts().iloc[0] > 4 * listings.location.value_counts().iloc[-1]
    assert 0.64 < listings.active.mean() < 0.76
    rooms = list(truth(catalog).values())
    assert 0.09 < rooms.count("toilet") / len(rooms) < 0.13
    pictures = planned(400)
    # files are written in order
    assert all(p.origin == p or p.origin.listing < p.listing for p in pictures)
    fates = [picture.fate for picture in pictures]
    assert 0.02 < sum(fate in ("copied", "linked") for fate in fates) / len(fates) < 0.04
    assert 0.01 < sum(fate in BROKEN for fate in fates) / len(fates) < 0.02


def test_repeated_images_share_their_bytes_with_another_listing(drawn: DemoCatalog) -> None:
    copies = [picture for picture in planned(LISTINGS) if picture.fate in ("copied", "linked")]
    assert {picture.fate for picture in copies} == {"copied", "linked"}
    path_of = urls(drawn)
    room_of = truth(drawn)
    for picture in copies:
        origin = picture.origin
        assert origin.listing < picture.listing
        assert path_of[picture.image_id].read_bytes() == path_of[origin.image_id].read_bytes()
        assert (path_of[picture.image_id] == path_of[origin.image_id]) == (picture.fate == "linked")
        assert room_of[picture.image_id] == room_of[origin.image_id]


# Broken and odd files


def can_read(path: Path) -> bool:
    """True when Pillow gives pixels, and more than one of them."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.size != (1, 1)
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return False


def test_the_truth_covers_exactly_the_readable_images(drawn: DemoCatalog) -> None:
    readable = {image_id for image_id, path in urls(drawn).items() if can_read(path)}
    assert readable == set(truth(drawn))
    assert set(truth(drawn).values()) == set(ROOMS)


@pytest.mark.parametrize("kind", BROKEN)
def test_every_broken_kind_is_there_and_unusable(drawn: DemoCatalog, kind: str) -> None:
    path = next(urls(drawn)[picture.image_id] for picture in planned(8) if picture.fate == kind)
    assert path.is_absolute() and path.suffix == BROKEN[kind]
    assert path.exists() == (kind != "missing")
    assert not can_read(path)


def test_broken_files_are_broken_in_their_own_ways(drawn: DemoCatalog) -> None:
    path_of = {picture.fate: urls(drawn)[picture.image_id] for picture in planned(8)}
    with pytest.raises(OSError, match="truncated"), Image.open(path_of["truncated"]) as image:
        image.load()
    with (
        pytest.raises(OSError, match="broken data stream"),
        Image.open(path_of["flipped_bytes"]) as image,
    ):
        image.load()
    with pytest.raises(Image.DecompressionBombError, match=str(HUGE_SIDE_PX**2)):
        Image.open(path_of["huge_png"])
    assert path_of["huge_png"].stat().st_size < 200
    assert path_of["zero_bytes"].stat().st_size == 0
    assert path_of["html_page"].read_text().startswith("<!DOCTYPE html>")
    assert Image.open(path_of["one_pixel"]).size == (1, 1)


def test_odd_files_are_what_they_say_and_show_the_room(drawn: DemoCatalog) -> None:
    path_of = {picture.fate: urls(drawn)[picture.image_id] for picture in planned(8)}
    modes = {
        kind: (Image.open(path_of[kind]).format, Image.open(path_of[kind]).mode) for kind in ODD
    }
    assert modes == {
        "png_alpha": ("PNG", "RGBA"),
        "webp": ("WEBP", "RGB"),
        "cmyk": ("JPEG", "CMYK"),
        "grey": ("JPEG", "L"),
        "rotated": ("JPEG", "RGB"),
    }
    assert all(can_read(path_of[kind]) for kind in ODD)


def test_a_rotated_file_is_upright_once_its_tag_is_heeded(tmp_path: Path) -> None:
    room = draw_room("kitchen", 5)
    path = tmp_path / "rotated.jpg"
    path.write_bytes(odd_bytes("rotated", room))
    with Image.open(path) as stored:
        assert stored.size == (300, 400)
        upright = np.asarray(ImageOps.exif_transpose(stored), dtype=float)
    assert upright.shape == (300, 400, 3)
    assert np.abs(upright - np.asarray(room, dtype=float)).mean() < 6


# The folder


def test_a_second_call_writes_nothing(drawn: DemoCatalog) -> None:
    folder = drawn.images.parent
    before = state(folder)
    assert draw_catalog(folder, listings=LISTINGS) == drawn
    assert state(folder) == before


def test_an_interrupted_drawing_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "catalog"
    with monkeypatch.context() as patch:
        patch.setattr(
            "toiletspark.demo.catalog._write_truth",
            lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        with pytest.raises(KeyboardInterrupt):
            draw_catalog(folder, listings=8)
    assert not (folder / "_drawn.json").exists()
    catalog = draw_catalog(folder, listings=8)
    assert len(truth(catalog)) == 8 * IMAGES_PER_LISTING - len(BROKEN)
    assert json.loads((folder / "_drawn.json").read_text())["listings"] == 8
    assert not (folder / "_drawing.json").exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    before = state(tmp_path)
    with pytest.raises(UserError) as caught:
        draw_catalog(tmp_path)
    message = str(caught.value)
    assert f"while drawing a demo catalog into {tmp_path}" in message
    assert "expected: no such folder, an empty one, or the demo catalog" in message
    assert "found:    something that is not a demo catalog" in message
    assert "do:       name another folder" in message
    assert state(tmp_path) == before


def test_a_demo_catalog_of_other_arguments_or_another_place_is_refused(
    drawn: DemoCatalog, tmp_path: Path
) -> None:
    folder = drawn.images.parent
    before = state(folder)
    with pytest.raises(UserError, match=f'other arguments: .*"listings": {LISTINGS}'):
        draw_catalog(folder, listings=LISTINGS + 1)
    assert state(folder) == before
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(folder / "_drawn.json", moved)
    with pytest.raises(
        UserError, match="other arguments"
    ):  # its image_urls name files of the old place
        draw_catalog(moved, listings=LISTINGS)


def test_too_few_listings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found: +7 listings"):
        draw_catalog(tmp_path / "catalog", listings=7)
    assert not (tmp_path / "catalog").exists()


# Labelling


def export(catalog: DemoCatalog, folder: Path) -> Path:
    """Lays the catalog's files out as the labelling export does."""
    (folder / "unlabelled").mkdir(parents=True)
    rows = [("file", "image_id")]
    for image_id, path in urls(catalog).items():
        rows.append((f"unlabelled/x{image_id}.jpg", image_id))
        if path.exists():
            shutil.copy(path, folder / rows[-1][0])
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_labelling_moves_each_file_to_its_class_once(drawn: DemoCatalog, tmp_path: Path) -> None:
    folder = export(drawn, tmp_path / "export")
    room_of = truth(drawn)
    (folder / "unlabelled" / "xL00001-1.jpg").unlink()  # somebody has taken this one away
    expected = {
        f"x{image_id}.jpg": CLASSES[room]
        for image_id, room in room_of.items()
        if image_id != "L00001-1"
    }
    assert label_like_a_person(folder, drawn.truth, CLASSES) == len(expected)
    found = {
        path.name: path.parent.name
        for path in folder.glob("*/*.jpg")
        if path.parent.name != "unlabelled"
    }
    assert found == expected
    left = {path.name for path in (folder / "unlabelled").iterdir()}
    assert left and not left & set(expected)
    before = state(folder)
    assert label_like_a_person(folder, drawn.truth, CLASSES) == 0
    assert state(folder) == before


def test_labelling_never_replaces_a_file(drawn: DemoCatalog, tmp_path: Path) -> None:
    folder = export(drawn, tmp_path / "export")
    class_of = CLASSES[truth(drawn)["L00002-1"]]
    (folder / class_of).mkdir()
    (folder / class_of / "xL00002-1.jpg").write_bytes(b"mine")
    before = state(folder)
    with pytest.raises(UserError, match=r"xL00002-1\.jpg is there already"):
        label_like_a_person(folder, drawn.truth, CLASSES)
    assert state(folder) == before


def test_labelling_wants_a_class_for_every_room(drawn: DemoCatalog, tmp_path: Path) -> None:
    folder = export(drawn, tmp_path / "export")
    with pytest.raises(UserError, match="no class for bedroom, exterior"):
        label_like_a_person(
            folder, drawn.truth, {"toilet": "toilet", "kitchen": "a", "living_room": "b"}
        )
    assert not (folder / "toilet").exists()
