"""A small portal with a store of its own: a head's bundle, embeddings, catalogs and scores.

Nothing is fetched or drawn: an image is an embedding of chance that leans to its class. What
follows is as the steps leave it, so that a version can be published, and faults be put into real
files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toiletspark.model import bundle
from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.scoring.scores import table_of
from toiletspark.tables import runs
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import Table

WIDTH = 64  # numbers of an embedding
BACKBONE = "a backbone of chance"
FILES = 4  # of each table
_PLACES, _KINDS = ("Harbour", "Old Mill", "Station", "Hill"), ("rent", "sale")
_LEAN = 1.2  # how far a toilet's embedding lies from another room's, in each number
_ARROW = {
    "string": pa.string(),
    "int": pa.int32(),
    "boolean": pa.bool_(),
    "float": pa.float32(),
    "binary": pa.binary(),
}


@dataclass
class Portal:
    """Listings with images that come and go.

    Attributes:
        store: where the tables are.
        rng: all that chance decides.
        head: that scores.
        images: those of now: image_id, listing_id, stratum, is_toilet, content_digest,
            image_version.
        embeddings: by content_digest, as stored.
    """

    store: Store
    rng: np.random.Generator
    head: Head
    images: pd.DataFrame
    embeddings: dict[str, bytes] = field(default_factory=dict)
    made: int = 0  # listings so far

    def grow(self, listings: int) -> None:
        """New listings of one to ten images, one in twenty a toilet, and their embeddings."""
        rows = []
        for _ in range(listings):
            self.made += 1
            stratum = f"{_PLACES[self.made % 4]} | {_KINDS[self.made // 4 % 2]}"
            for place in range(int(self.rng.integers(1, 11))):
                is_toilet = bool(self.rng.random() < 0.03 + 0.01 * (self.made % 5))
                rows.append((f"L{self.made}-{place}", f"L{self.made}", stratum, is_toilet))
        new = pd.DataFrame(rows, columns=["image_id", "listing_id", "stratum", "is_toilet"])
        new["image_version"] = "1"
        new["content_digest"] = self._embed(new["is_toilet"].to_numpy())
        self.images = pd.concat([self.images, new], ignore_index=True) if len(self.images) else new

    def live_on(self) -> None:
        """A day: listings leave and come, images are replaced, a new head is sometimes fitted."""
        names = self.images["listing_id"].unique()
        leaving = names[self.rng.random(len(names)) < 0.04]
        self.images = self.images[~self.images["listing_id"].isin(leaving)].reset_index(drop=True)
        replaced = np.flatnonzero(self.rng.random(len(self.images)) < 0.02)
        self.images.loc[replaced, "image_version"] = [
            f"v{self.rng.integers(2**40)}" for _ in replaced
        ]
        self.images.loc[replaced, "content_digest"] = self._embed(
            self.images["is_toilet"].to_numpy()[replaced]
        )
        self.grow(len(leaving) + int(self.rng.integers(0, 5)))
        if self.rng.random() < 0.25:
            noise = self.rng.normal(0, 0.01, self.head.weight.shape).astype(np.float32)
            self.promote(replace(self.head, weight=self.head.weight + noise))

    def promote(self, head: Head) -> None:
        """Puts a head into the store, golden images and all, and scores with it from now on."""
        self.head = head.with_golden(self._golden())
        run_id = runs.new_run_id()
        inputs = {"head_id": self.head.head_id, "backbone_id": BACKBONE, "promoted": True}
        _write(self.store, tables.HEADS, run_id, pd.DataFrame(columns=["image_id"]), inputs, {})
        bundle.write(self.store.folder(tables.HEADS, run_id), self.head)  # seals what lies there

    def catalog(self) -> pd.DataFrame:
        """The images with what has become of them today; one in a hundred cannot be read."""
        broken = self.rng.random(len(self.images)) < 0.01
        words = self.rng.choice(["timeout", "missing", "truncated"], len(self.images))
        seen = self.images.assign(status=np.where(broken, words, "ok"), detail="", active=True)
        return seen

    def scores(self, catalog: pd.DataFrame, head: Head | None = None) -> pd.DataFrame:
        """Scores of the sound images of a catalog by the head, or by another one."""
        sound = catalog[catalog["status"] == "ok"].reset_index(drop=True)
        stored = b"".join(self.embeddings[digest] for digest in sound["content_digest"])
        probabilities = (head or self.head).probabilities(from_stored(stored, len(sound)))
        named = dict(
            zip(tables.probability_columns(self.head.classes), probabilities.T, strict=True)
        )
        found = sound[["image_id", "listing_id", "content_digest"]]
        score = self.head.exclusion_scores(probabilities)
        return found.assign(head_id=self.head.head_id, exclusion_score=score, **named)

    def keep(self, catalog: pd.DataFrame, scores: pd.DataFrame) -> tuple[Run, Run]:
        """Both as runs of their tables, with manifests that agree with them."""
        counts = {"sound": int((catalog["status"] == "ok").sum())}
        seen = _write(
            self.store,
            tables.CATALOG,
            runs.new_run_id(),
            catalog,
            {"backbone_id": BACKBONE},
            counts,
        )
        return seen, self.keep_scores(scores, seen.run_id)

    def keep_scores(self, scores: pd.DataFrame, catalog: str) -> Run:
        """Scores of a catalog that is there."""
        inputs = {"catalog": catalog, "head_id": self.head.head_id, "backbone_id": BACKBONE}
        return _write(self.store, table_of(self.head), runs.new_run_id(), scores, inputs, {})

    def at(self, root: Path) -> Portal:
        """The same with a copy of its store, which is at `root` already."""
        return replace(
            self,
            store=Store(str(root)),
            images=self.images.copy(),
            embeddings=dict(self.embeddings),
        )

    def _embed(self, is_toilet: NDArray[np.bool_]) -> list[str]:
        """Embeddings of new contents, kept; returns their digests."""
        numbers = np.abs(self.rng.normal(size=(len(is_toilet), WIDTH)))
        numbers[:, : WIDTH // 2] += _LEAN * is_toilet[:, None]
        digests = [self.rng.bytes(32).hex() for _ in is_toilet]
        found = {
            digest: row.astype("<f2").tobytes()
            for digest, row in zip(digests, numbers, strict=True)
        }
        self.embeddings.update(found)
        rows = pd.DataFrame(
            {
                "content_digest": list(found),
                "backbone_id": BACKBONE,
                "embedding": list(found.values()),
            }
        )
        _write(
            self.store, tables.EMBEDDINGS, runs.new_run_id(), rows, {"backbone_id": BACKBONE}, {}
        )
        return digests

    def _golden(self) -> list[GoldenImage]:
        digests = list(self.embeddings)[:8]
        return [
            GoldenImage(
                f"g{number}", digest, "other", b"no picture is looked at", self.embeddings[digest]
            )
            for number, digest in enumerate(digests)
        ]


def opened(root: Path, listings: int, seed: int) -> Portal:
    """A new portal, whose head tells toilets from other rooms nearly always."""
    weight = np.zeros((2, WIDTH), np.float32)
    weight[0, : WIDTH // 2] = 0.6
    middle = np.float32(-0.6 * WIDTH / 2 * (np.sqrt(2 / np.pi) + _LEAN / 2))
    head = Head(
        ("toilet", "other"), ("toilet",), BACKBONE, weight, np.array([middle, 0], np.float32)
    )
    images = pd.DataFrame(
        columns=[
            "image_id",
            "listing_id",
            "stratum",
            "is_toilet",
            "image_version",
            "content_digest",
        ]
    )
    portal = Portal(Store.open(str(root)), np.random.default_rng(seed), head, images)
    portal.grow(listings)
    portal.promote(head)
    return portal


def _write(
    store: Store,
    table: Table,
    run_id: str,
    rows: pd.DataFrame,
    inputs: dict[str, Any],
    counts: dict[str, Any],
) -> Run:
    """A run of a table in several files; columns that the rows lack are null."""
    folder = Path(store.folder(table, run_id))
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {name: _ARROW.get(kind, pa.float64()) for name, kind in table.columns.items()}
    for number, part in enumerate(
        np.array_split(np.arange(len(rows)), FILES if len(rows) >= FILES else 1)
    ):
        ours = rows.iloc[part]
        columns = {
            name: pa.array(ours[name], kind, from_pandas=kind != pa.float32())
            if name in ours
            else pa.nulls(len(ours), kind)
            for name, kind in kinds.items()
        }
        pq.write_table(pa.table(columns), folder / f"part-{number}.parquet")
    return store.commit(table, run_id, config={}, inputs=Inputs(**inputs), counts=counts)
