"""What each row of the demo catalog shows, decided before anything is drawn.

Everything follows from hash(seed, key), so a listing is the same whether it is drawn among 20 or among
20,000. Some images are broken, some are unusual, and some are another listing's, because every portal's are.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from toiletspark.demo.odd_files import BROKEN, ODD
from toiletspark.hashing import hash_fraction

IMAGES_PER_LISTING = 4
MIN_LISTINGS = len(
    BROKEN
)  # the first listings hold one broken image each, so that every kind is there

# The first image is the one that ads take. Agents put a house front there, and now and then a toilet.
# Over all positions, 11 % of the images are toilets.
FIRST_ROOMS = {
    "toilet": 0.04,
    "kitchen": 0.14,
    "bedroom": 0.12,
    "living_room": 0.28,
    "exterior": 0.42,
}
OTHER_ROOMS = {
    "toilet": 0.135,
    "kitchen": 0.24,
    "bedroom": 0.27,
    "living_room": 0.245,
    "exterior": 0.11,
}
FATES = {"broken": 0.01, "copied": 0.016, "linked": 0.014, "odd": 0.02, "plain": 0.94}


@dataclass(frozen=True)
class Picture:
    """One row of the images table, decided but not yet drawn.

    Attributes:
        listing: number of the listing, from 1.
        position: place of the image in its listing, from 1.
        fate: plain, copied or linked (another listing's image, as a file of its own or as the same file), or
            a key of BROKEN or ODD.
    """

    seed: int
    listing: int
    position: int
    fate: str

    @property
    def image_id(self) -> str:
        """Listing and position, such as L00001-1."""
        return f"{listing_id(self.listing)}-{self.position}"

    @property
    def file_name(self) -> str:
        """The file in the images folder that its URL names, be there one or not."""
        if self.fate == "linked":
            return self.origin.file_name
        ending = self.origin.file_name.rpartition(".")[2] if self.fate == "copied" else "jpg"
        return self.image_id + (BROKEN | ODD).get(self.fate, f".{ending}")

    @property
    def room(self) -> str:
        """The room that was drawn; a copy shows its origin's."""
        if self.origin != self:
            return self.origin.room
        return pick(
            FIRST_ROOMS if self.position == 1 else OTHER_ROOMS, self.seed, f"{self.image_id}/room"
        )

    @property
    def origin(self) -> "Picture":
        """The image of an earlier listing that a copy repeats; itself for all others."""
        if self.fate not in ("copied", "linked"):
            return self
        earlier = (self.listing - 1) * IMAGES_PER_LISTING
        for attempt in itertools.count():
            place = int(earlier * hash_fraction(self.seed, f"{self.image_id}/origin/{attempt}"))
            listing, position = divmod(place, IMAGES_PER_LISTING)
            found = decide(self.seed, listing + 1, position + 1)
            if found.fate not in BROKEN and found.fate not in ("copied", "linked"):
                return found
        raise AssertionError("unreachable: listing 1 has no copies, and at most one broken image")


def decide(seed: int, listing: int, position: int) -> Picture:
    """Decides an image's fate: the first listings have each kind of broken and odd file, others by lot."""
    key = f"{listing_id(listing)}-{position}"
    broken, odd = list(BROKEN), list(ODD)
    broken_position = 2 + int(3 * hash_fraction(seed, f"{listing_id(listing)}/broken"))
    if listing <= len(broken) and position == broken_position:
        return Picture(seed, listing, position, broken[listing - 1])
    if listing <= len(odd) and position == 1:
        return Picture(seed, listing, position, odd[listing - 1])
    fate = pick(FATES, seed, f"{key}/fate") if listing > len(broken) else "plain"
    if fate in ("broken", "odd"):
        kinds = broken if fate == "broken" else odd
        fate = kinds[int(len(kinds) * hash_fraction(seed, f"{key}/kind"))]
    return Picture(seed, listing, position, fate)


def listing_id(listing: int) -> str:
    """Names the listing of a number, such as L00001."""
    return f"L{listing:05d}"


def pick(weights: Mapping[str, float], seed: int, key: str) -> str:
    """Picks a name by hash, each with probability weight / sum of weights; the names' order matters."""
    names = list(weights)
    ends = list(itertools.accumulate(weights.values()))
    place = hash_fraction(seed, key) * ends[-1]
    return next((name for name, end in zip(names, ends, strict=True) if place < end), names[-1])
