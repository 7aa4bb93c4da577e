"""A small catalog of a portal that does not exist: two Parquet tables, image files, and the truth.

Everything follows from hash(seed, key), so a listing is the same among 20 and among 20,000. Some
images are broken, some unusual, and some another listing's, because every portal's are.
"""

import bisect
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from toiletspark.demo.odd_files import BROKEN, ODD, broken_bytes, jpeg_bytes, odd_bytes
from toiletspark.demo.rooms import draw_room
from toiletspark.errors import UserError
from toiletspark.hashing import content_digest, hash_fraction

DRAWING_VERSION = 3  # raise it when the same seed would draw another catalog
IMAGES_PER_LISTING = 4
MIN_LISTINGS = len(BROKEN)  # the first listings hold one kind of broken image each
ACTIVE_SHARE = 0.7

# Weights. The first image is the one that ads take: agents put a house front there, and now and
# then a toilet. Over all positions, 11 % of the images are toilets.
FIRST_ROOMS = {"toilet": 4, "kitchen": 14, "bedroom": 12, "living_room": 28, "exterior": 42}
OTHER_ROOMS = {"toilet": 13.5, "kitchen": 24, "bedroom": 27, "living_room": 24.5, "exterior": 11}
FATES = {"broken": 0.01, "copied": 0.016, "linked": 0.014, "odd": 0.02, "plain": 0.94}
SIZES_PX = {"400x300": 0.55, "300x400": 0.2, "426x240": 0.1, "360x360": 0.05, "440x330": 0.1}
LOCATIONS = {
    "Harbour Gate": 20, "Lindenhof": 16, "Old Mill": 13, "Northfield": 11, "Kestrel Hill": 9,
    "Saint Odile": 8, "Glassworks": 6, "Tannery Row": 5, "Upper Orchard": 4, "Canal Bend": 3,
    "Fox Meadow": 3, "Lighthouse Point": 2,
}  # fmt: skip
LISTING_TYPES = {"rent": 0.6, "sale": 0.3, "commercial": 0.1}
PRICES = {"rent": (450, 2600), "sale": (120_000, 900_000), "commercial": (800, 9000)}


@dataclass(frozen=True)
class Picture:
    """One row of the images table, decided but not yet drawn.

    `fate` is plain, copied or linked (another listing's image, as a file of its own or as the same
    file), or a key of BROKEN or ODD.
    """

    seed: int
    listing: int  # its number, from 1
    position: int  # in its listing, from 1
    fate: str

    @property
    def image_id(self) -> str:
        """Listing and position, such as L00001-1."""
        return f"{_listing_id(self.listing)}-{self.position}"

    @property
    def file_name(self) -> str:
        """The file in the images folder that its URL names, even if it is missing."""
        if self.fate == "linked":
            return self.origin.file_name
        if self.fate == "copied":
            return self.image_id + Path(self.origin.file_name).suffix
        return self.image_id + (BROKEN | ODD).get(self.fate, ".jpg")

    @property
    def room(self) -> str:
        """The room that was drawn; a copy shows its origin's."""
        rooms = FIRST_ROOMS if self.origin.position == 1 else OTHER_ROOMS
        return _pick(rooms, self.seed, f"{self.origin.image_id}/room")

    @property
    def origin(self) -> "Picture":
        """The image of an earlier listing that a copy repeats; itself for all others."""
        if self.fate not in ("copied", "linked"):
            return self
        earlier = (self.listing - 1) * IMAGES_PER_LISTING
        for attempt in itertools.count():
            number = int(earlier * hash_fraction(self.seed, f"{self.image_id}/origin/{attempt}"))
            listing, position = divmod(number, IMAGES_PER_LISTING)
            origin = decide(self.seed, listing + 1, position + 1)
            if origin.fate not in (*BROKEN, "copied", "linked"):
                return origin
        raise AssertionError("unreachable: listing 1 has no copies, and at most one broken image")


def decide(seed: int, listing: int, position: int) -> Picture:
    """Decides an image's fate: the first listings have each broken and odd kind, others by lot."""
    broken, odd = list(BROKEN), list(ODD)
    broken_position = 2 + int(3 * hash_fraction(seed, f"{_listing_id(listing)}/broken"))
    if listing <= len(broken) and position == broken_position:
        return Picture(seed, listing, position, broken[listing - 1])
    if listing <= len(odd) and position == 1:
        return Picture(seed, listing, position, odd[listing - 1])
    key = f"{_listing_id(listing)}-{position}"
    fate = _pick(FATES, seed, f"{key}/fate") if listing > len(broken) else "plain"
    if fate in ("broken", "odd"):
        names = broken if fate == "broken" else odd
        fate = names[int(len(names) * hash_fraction(seed, f"{key}/kind"))]
    return Picture(seed, listing, position, fate)


@dataclass(frozen=True)
class DemoCatalog:
    """The files of a drawn catalog."""

    listings: Path  # Parquet; per listing_id: location, listing_type, active, price
    # Parquet; per image_id: listing_id, position (from 1), image_url (absolute path), image_version
    images: Path
    truth: Path  # CSV; per readable image_id: room, the one that was drawn


def draw_catalog(folder: Path, *, listings: int = 400, seed: int = 7) -> DemoCatalog:
    """Draws a catalog into a folder, unless that very catalog lies there already.

    `folder` is new, empty, or of an earlier call with the same arguments; where that call was
    interrupted, the catalog is drawn again. Each listing has IMAGES_PER_LISTING images.

    Raises:
        UserError: fewer than MIN_LISTINGS listings; or the folder holds something else, which stays
            untouched.

    Cost: about 30 s for 1,600 images on one core; nothing on the second call.
    """
    folder = Path(folder).resolve()
    if listings < MIN_LISTINGS:
        raise UserError(
            doing="drawing a demo catalog",
            expected=f"at least {MIN_LISTINGS} listings, for one kind of broken image each",
            found=f"{listings} listings",
            todo=f"ask for {MIN_LISTINGS} or more",
        )
    names = ("listings.parquet", "images.parquet", "truth.csv")
    catalog = DemoCatalog(*(folder / name for name in names))
    identity = {"seed": seed, "listings": listings, "drawing_version": DRAWING_VERSION}
    if _is_drawn(folder, json.dumps(identity | {"folder": str(folder)})):
        return catalog
    (folder / "images").mkdir(exist_ok=True)
    numbers = itertools.product(range(1, listings + 1), range(1, IMAGES_PER_LISTING + 1))
    pictures = [decide(seed, listing, position) for listing, position in numbers]
    for picture in tqdm(pictures, desc="drawing images", unit="image", disable=None):
        _write_file(folder / "images", picture)
    pq.write_table(_listings_table(listings, seed), catalog.listings)
    pq.write_table(_images_table(folder / "images", pictures), catalog.images)
    _write_truth(catalog.truth, pictures)
    # Last: from here on the catalog exists.
    (folder / "_drawing.json").rename(folder / "_drawn.json")
    return catalog


def _is_drawn(folder: Path, identity: str) -> bool:
    """Returns True if the catalog of that identity (JSON) is complete; else marks the folder."""
    started, drawn = folder / "_drawing.json", folder / "_drawn.json"
    markers = [marker for marker in (drawn, started) if marker.is_file()]
    if markers and markers[0].read_text() == identity:
        return markers[0] == drawn
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if is_empty or not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        started.write_text(identity)
        return False
    other = f"a demo catalog of other arguments: {markers[0].read_text()}" if markers else ""
    raise UserError(
        doing=f"drawing a demo catalog into {folder}",
        expected=f"no such folder, an empty one, or the demo catalog {identity}",
        found=other or "something that is not a demo catalog",
        todo="name another folder, or delete this one if you do not need it, and run this again",
    )


def _write_file(folder: Path, picture: Picture) -> None:
    """Writes the image's own file, if it has one, into `folder`, which has all earlier ones."""
    if picture.fate in ("linked", "missing"):
        return
    path = folder / picture.file_name
    if picture.fate == "copied":
        path.write_bytes((folder / picture.origin.file_name).read_bytes())
        return
    number = int(hash_fraction(picture.seed, f"{picture.image_id}/picture") * 2**53)
    width, height = _pick(SIZES_PX, picture.seed, f"{picture.image_id}/size").split("x")
    image = draw_room(picture.room, number, (int(width), int(height)))
    if picture.fate in BROKEN:
        path.write_bytes(broken_bytes(picture.fate, image, number) or b"")
    elif picture.fate in ODD:
        path.write_bytes(odd_bytes(picture.fate, image))
    else:
        path.write_bytes(jpeg_bytes(image, quality=75 + number % 18))


def _listings_table(listings: int, seed: int) -> pa.Table:
    rows = []
    for key in map(_listing_id, range(1, listings + 1)):
        listing_type = _pick(LISTING_TYPES, seed, f"{key}/type")
        low, high = PRICES[listing_type]
        price = low + int((high - low) * hash_fraction(seed, f"{key}/price")) // 10 * 10
        is_active = hash_fraction(seed, f"{key}/active") < ACTIVE_SHARE
        location = _pick(LOCATIONS, seed, f"{key}/location")
        rows.append((key, location, listing_type, is_active, price))
    names = ["listing_id", "location", "listing_type", "active", "price"]
    return pa.table(list(zip(*rows, strict=True)), names)


def _images_table(folder: Path, pictures: list[Picture]) -> pa.Table:
    rows = []
    for picture in pictures:
        url = str(folder / picture.file_name)
        version = content_digest(f"{picture.seed}/{picture.image_id}/version".encode())[:8]
        listing_id = _listing_id(picture.listing)
        rows.append((picture.image_id, listing_id, picture.position, url, version))
    names = ["image_id", "listing_id", "position", "image_url", "image_version"]
    return pa.table(list(zip(*rows, strict=True)), names)


def _write_truth(path: Path, pictures: list[Picture]) -> None:
    readable = [picture for picture in pictures if picture.fate not in BROKEN]
    rows = [(picture.image_id, picture.room) for picture in readable]
    pd.DataFrame(rows, columns=["image_id", "room"]).to_csv(path, index=False)


def _listing_id(listing: int) -> str:
    return f"L{listing:05d}"


def _pick(weights: Mapping[str, float], seed: int, key: str) -> str:
    """Picks a name by hash, each with probability weight / sum of weights; their order matters."""
    ends = list(itertools.accumulate(weights.values()))
    return list(weights)[bisect.bisect(ends[:-1], hash_fraction(seed, key) * ends[-1])]
