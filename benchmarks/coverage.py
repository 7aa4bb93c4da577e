"""Do the intervals hold the truth? `make bench-coverage`.

A synthetic catalog whose precision, recall and accuracy are known; DRAWS stratified samples of its
listings, each split by chance as training splits it; and of each share the 95 % interval that
`toiletspark.sampling.estimates` gives. Ends in one JSON line: how many of the intervals hold the
catalog's own figure. The same for samples of which people have labelled a part, less of the strata
with few toilets, with weights as `toiletspark.sampling.design_weights` raises them and with plain
ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from toiletspark.sampling.estimates import Bootstrap

STRATA = 40
HELD_OUT = 0.3
Labelled = Literal["all", "raised", "plain"]
SHARES = ("precision", "recall", "accuracy")
PARTLY: tuple[Labelled, ...] = ("raised", "plain")


@dataclass(frozen=True)
class Catalog:
    """Images with what they show and what was decided: all (n,)."""

    stratum: NDArray[np.int64]
    listing: NDArray[np.int64]
    to_exclude: NDArray[np.bool_]
    excluded: NDArray[np.bool_]

    def rows(self, which: NDArray[np.bool_]) -> Catalog:
        """Some of its images."""
        return Catalog(
            self.stratum[which], self.listing[which], self.to_exclude[which], self.excluded[which]
        )

    def parts(self) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """The part and the whole of each share."""
        hits = self.to_exclude & self.excluded
        everything = np.ones(len(self.listing), dtype=bool)
        right = self.to_exclude == self.excluded
        return {
            "precision": (hits, self.excluded),
            "recall": (hits, self.to_exclude),
            "accuracy": (right, everything),
        }


def make_catalog(seed: int, strata: int = STRATA) -> Catalog:
    """Strata of very different sizes; toilets, and what is hard about them, come listing by
    listing.
    """
    rng = np.random.default_rng(seed)
    listings_of = np.maximum(3, rng.lognormal(6.0, 0.8, strata).astype(int))
    stratum_of = np.repeat(np.arange(strata), listings_of)
    images_of = rng.integers(1, 11, len(stratum_of))
    toilets = np.clip(
        rng.beta(2, 8, strata)[stratum_of] + rng.normal(0, 0.05, len(stratum_of)), 0.02, 0.6
    )
    hard = rng.normal(0, 0.8, len(stratum_of))

    listing = np.repeat(np.arange(len(stratum_of)), images_of)
    to_exclude = rng.random(len(listing)) < toilets[listing]
    logit = np.where(to_exclude, 2.2, -3.2) + hard[listing] + rng.normal(0, 1.2, len(listing))
    return Catalog(stratum_of[listing], listing, to_exclude, logit >= 0)


def draw(
    catalog: Catalog, listings: int, seed: int, labelled: Labelled = "all"
) -> tuple[Catalog, NDArray[np.float64]]:
    """A held-out sample and its design weights: square roots of the strata's sizes, then a split by
    chance.

    Args:
        catalog: what is drawn from.
        listings: how many are drawn.
        seed: another one draws others.
        labelled: what people have labelled of them: all, or a part, with weights that are raised
            for it or plain.
    """
    rng = np.random.default_rng(seed)
    _, first = np.unique(catalog.listing, return_index=True)
    stratum = catalog.stratum[first]
    sizes = np.bincount(stratum)
    wanted = np.clip(
        np.round(listings * np.sqrt(sizes) / np.sqrt(sizes).sum()).astype(int), 3, sizes
    )
    weight = np.zeros(len(stratum))
    for one, count in enumerate(wanted):
        weight[rng.choice(np.flatnonzero(stratum == one), count, replace=False)] = (
            sizes[one] / count
        )
    if labelled != "all":
        answers = rng.random(len(weight)) < willing(catalog)[stratum]
        images = np.bincount(catalog.listing)
        weight = (
            raised(weight, answers, stratum, images) if labelled == "raised" else weight * answers
        )
    weight[rng.random(len(weight)) >= HELD_OUT] = 0.0
    of_image = weight[catalog.listing]
    return catalog.rows(of_image > 0), of_image[of_image > 0] / HELD_OUT


def willing(catalog: Catalog) -> NDArray[np.float64]:
    """The chance that a listing of each stratum is labelled: from 0.1 where toilets are rarest to 1
    where they are many.
    """
    toilets = np.bincount(catalog.stratum, weights=catalog.to_exclude) / np.bincount(
        catalog.stratum
    )
    return 0.1 + 0.9 * toilets.argsort().argsort() / max(1, len(toilets) - 1)


def raised(
    weight: NDArray[np.float64],
    answers: NDArray[np.bool_],
    stratum: NDArray[np.int64],
    images: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Weights as in `design_weights.weigh`: labelled listings represent their stratum."""
    drawn, known = (np.bincount(stratum, weights=weight * images * who) for who in (1, answers))
    factor = np.divide(drawn, known, out=np.zeros_like(drawn), where=known > 0)
    return weight * answers * factor[stratum] * drawn.sum() / drawn[known > 0].sum()


def covered(
    catalog: Catalog, listings: int, draws: int, replicates: int, labelled: Labelled = "all"
) -> dict[str, float]:
    """The share of draws whose interval holds the catalog's own figure, by name of the figure."""
    truth = {
        name: float(part.sum() / whole.sum()) for name, (part, whole) in catalog.parts().items()
    }
    held = dict.fromkeys(SHARES, 0)
    for seed in range(draws):
        sample, weight = draw(catalog, listings, seed, labelled)
        bootstrap = Bootstrap(
            sample.stratum, sample.listing, weight, replicates=replicates, seed=seed
        )
        for name, (part, whole) in sample.parts().items():
            share = bootstrap.share(part, whole)
            held[name] += share.low <= truth[name] <= share.high
    return {name: held[name] / draws for name in SHARES}


def main() -> None:
    asked = _asked()
    catalog = make_catalog(seed=1)
    by_size = {
        size: covered(catalog, size, asked.draws, asked.replicates) for size in asked.listings
    }
    shares = list(itertools.chain.from_iterable(one.values() for one in by_size.values()))
    most = max(asked.listings)
    part = {how: covered(catalog, most, asked.draws, asked.replicates, how) for how in PARTLY}
    told = {
        "covered_share": round(float(np.mean(shares)), 4),
        "least": min(shares),
        "most": max(shares),
    }
    print(
        json.dumps(
            {
                **told,
                "by_listings": by_size,
                "partly_labelled": part,
                **vars(asked),
                "machine": machine(),
            }
        )
    )


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument(
        "--listings",
        type=int,
        nargs="+",
        default=[150, 300, 800, 3000],
        help="drawn, held out or not",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
