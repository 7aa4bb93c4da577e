"""A small catalog of a portal that does not exist: two Parquet tables, their image files, and the truth.

`pictures` decides, `rooms` draws, `odd_files` spoils; this file writes down.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from toiletspark.demo.odd_files import BROKEN, ODD, broken_bytes, jpeg_bytes, odd_bytes
from toiletspark.demo.pictures import (
    IMAGES_PER_LISTING,
    MIN_LISTINGS,
    Picture,
    decide,
    listing_id,
    pick,
)
from toiletspark.demo.rooms import draw_room
from toiletspark.errors import UserError
from toiletspark.hashing import content_digest, hash_fraction

SIZES_PX = {"400x300": 0.55, "300x400": 0.2, "426x240": 0.1, "360x360": 0.05, "440x330": 0.1}
DRAWING_VERSION = 1  # raise it when the same seed would draw another catalog

LOCATIONS = {  # name -> weight
    "Harbour Gate": 20, "Lindenhof": 16, "Old Mill": 13, "Northfield": 11, "Kestrel Hill": 9,
    "Saint Odile": 8, "Glassworks": 6, "Tannery Row": 5, "Upper Orchard": 4, "Canal Bend": 3,
    "Fox Meadow": 3, "Lighthouse Point": 2,
}  # fmt: skip
LISTING_TYPES = {"rent": 0.6, "sale": 0.3, "commercial": 0.1}
PRICES = {"rent": (450, 2600), "sale": (120_000, 900_000), "commercial": (800, 9000)}
ACTIVE_SHARE = 0.7


@dataclass(frozen=True)
class DemoCatalog:
    """Where a drawn catalog lies.

    Attributes:
        listings: Parquet, one row per listing_id: location, listing_type, active, price.
        images: Parquet, one row per image_id: listing_id, position (from 1), image_url (absolute path),
            image_version.
        truth: CSV, one row per readable image_id: room, the one that was drawn.
    """

    listings: Path
    images: Path
    truth: Path


def draw_catalog(folder: Path, *, listings: int = 400, seed: int = 7) -> DemoCatalog:
    """Draws a catalog into a folder, unless that very catalog lies there already.

    Args:
        folder: where to; new, empty, or the folder of an earlier call with the same arguments. What an
            interrupted call has left is drawn again.
        listings: how many listings, at least MIN_LISTINGS; each has IMAGES_PER_LISTING images.
        seed: another one is another catalog.

    Returns:
        The paths of its tables.

    Raises:
        UserError: too few listings; or the folder holds something else, which stays untouched.

    Cost: about 10 s for 1,000 images on one core; nothing on the second call.
    """
    folder = Path(folder).resolve()
    if listings < MIN_LISTINGS:
        raise UserError(
            doing="drawing a demo catalog",
            expected=f"at least {MIN_LISTINGS} listings: the first ones hold one kind of broken image each",
            found=f"{listings} listings",
            todo=f"ask for {MIN_LISTINGS} or more",
        )
    catalog = DemoCatalog(
        folder / "listings.parquet", folder / "images.parquet", folder / "truth.csv"
    )
    identity = {
        "seed": seed,
        "listings": listings,
        "drawing_version": DRAWING_VERSION,
        "folder": str(folder),
    }
    if _claim(folder, json.dumps(identity)):
        return catalog
    (folder / "images").mkdir(exist_ok=True)
    pictures = [
        decide(seed, listing, position)
        for listing in range(1, listings + 1)
        for position in range(1, IMAGES_PER_LISTING + 1)
    ]
    for picture in tqdm(pictures, desc="drawing images", unit="image", disable=None):
        _write_file(folder / "images", picture)
    pq.write_table(_listings_table(listings, seed), catalog.listings)
    pq.write_table(_images_table(folder / "images", pictures), catalog.images)
    _write_truth(catalog.truth, pictures)
    (folder / "_drawing.json").rename(
        folder / "_drawn.json"
    )  # last: from here on the catalog exists
    return catalog


def _claim(folder: Path, identity: str) -> bool:
    """Makes the folder ours.

    Returns:
        True when the catalog of that identity (JSON: seed, listings, drawing_version, folder) is complete
        there, False when it is to be drawn.
    """
    started, drawn = folder / "_drawing.json", folder / "_drawn.json"
    found = ""
    for marker in (drawn, started):
        if marker.is_file():
            found = marker.read_text()
            if found == identity:
                return marker == drawn
    if not found and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        folder.mkdir(parents=True, exist_ok=True)
        started.write_text(identity)
        return False
    other = (
        f"a demo catalog of other arguments: {found}"
        if found
        else "something that is not a demo catalog"
    )
    raise UserError(
        doing=f"drawing a demo catalog into {folder}",
        expected=f"no such folder, an empty one, or the demo catalog {identity}",
        found=other,
        todo="name another folder, or delete this one yourself if you do not need it, and run this again",
    )


def _write_file(folder: Path, picture: Picture) -> None:
    """Writes the image's own file, if it has one, into `folder`, where earlier listings' files are."""
    path = folder / picture.file_name
    if picture.fate in ("linked", "missing"):
        return
    if picture.fate == "copied":
        path.write_bytes((folder / picture.origin.file_name).read_bytes())
        return
    number = int(hash_fraction(picture.seed, f"{picture.image_id}/picture") * 2**53)
    width, height = map(int, pick(SIZES_PX, picture.seed, f"{picture.image_id}/size").split("x"))
    image = draw_room(picture.room, number, (width, height))
    if picture.fate in BROKEN:
        content = broken_bytes(picture.fate, image, number)
    elif picture.fate in ODD:
        content = odd_bytes(picture.fate, image)
    else:
        content = jpeg_bytes(image, quality=75 + number % 18)
    if content is not None:
        path.write_bytes(content)


def _listings_table(listings: int, seed: int) -> pa.Table:
    """One row per listing: listing_id, location, listing_type (strings), active (bool), price (int64)."""
    rows = []
    for listing in range(1, listings + 1):
        key = listing_id(listing)
        listing_type = pick(LISTING_TYPES, seed, f"{key}/type")
        low, high = PRICES[listing_type]
        rows.append(
            {
                "listing_id": key,
                "location": pick(LOCATIONS, seed, f"{key}/location"),
                "listing_type": listing_type,
                "active": hash_fraction(seed, f"{key}/active") < ACTIVE_SHARE,
                "price": low + int((high - low) * hash_fraction(seed, f"{key}/price")) // 10 * 10,
            }
        )
    return pa.Table.from_pylist(rows)


def _images_table(folder: Path, pictures: list[Picture]) -> pa.Table:
    """One row per image: position (int64), and image_id, listing_id, image_url, image_version (strings)."""
    return pa.Table.from_pylist(
        [
            {
                "image_id": picture.image_id,
                "listing_id": listing_id(picture.listing),
                "position": picture.position,
                "image_url": str(folder / picture.file_name),
                "image_version": content_digest(
                    f"{picture.seed}/{picture.image_id}/version".encode()
                )[:8],
            }
            for picture in pictures
        ]
    )


def _write_truth(path: Path, pictures: list[Picture]) -> None:
    """Writes image_id and room of every readable image."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image_id", "room"])
        rows.writerows(
            [picture.image_id, picture.room] for picture in pictures if picture.fate not in BROKEN
        )
