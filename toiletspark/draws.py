"""Which of the labelled images stand for the catalog, and in what way: those that one draw has chosen by chance.

Weights of two draws do not add up to anything: each draw's stand for what it was drawn from. Without Spark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toiletspark.runs import Store
from toiletspark.tables import SAMPLE

Kind = Literal["sample", "queue"]
CATALOG, UNLABELLED, LABELLED = "catalog", "unlabelled images", "labelled images"


@dataclass(frozen=True)
class Standing:
    """The labelled images on which figures rest.

    Attributes:
        rows: bool, (n,).
        run_id: of their draw; None where chance has drawn none of the images.
        kind: of the draw; None where there is none.
    """

    rows: NDArray[np.bool_]
    run_id: str | None
    kind: Kind | None

    @property
    def figures_of(self) -> str:
        """What weighted figures of the rows are figures of.

        `catalog`: of a sample; `unlabelled images`: of a suggested queue, which is drawn from what nobody had labelled
        then; `labelled images`: chance had no part in it, so figures are of these images alone, each counted once.
        """
        return {"sample": CATALOG, "queue": UNLABELLED, None: LABELLED}[self.kind]

    @property
    def told(self) -> str:
        """Which held-out images these are, in words."""
        count = int(self.rows.sum())
        if self.kind is None:
            return f"{count} held-out images that no chance has drawn, so they stand for themselves, each once"
        return f"{count} held-out images of the {self.kind} {self.run_id}"

    def weights(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weights of the standing rows, out of those of all (n,): ones where chance drew none."""
        return weight[self.rows] if self.run_id else np.ones(int(self.rows.sum()))


def kinds(store: Store, draws: Iterable[str | None]) -> dict[str, Kind]:
    """What the draws of a training set were: a sample of the catalog, or a suggested queue; by run id."""
    named = sorted({draw for draw in draws if draw is not None})
    return {run_id: "sample" if store.run(SAMPLE, run_id) else "queue" for run_id in named}


def standing(draws: Sequence[str | None], kinds: Mapping[str, Kind]) -> Standing:
    """The rows of the draw that says most: a sample before a queue, then the most rows, then the newest.

    Args:
        draws: (n,), the run that drew each image; None where no chance drew it.
        kinds: see `kinds`.

    Returns:
        Its rows; all rows where there is no draw.
    """
    counts = Counter(draw for draw in draws if draw is not None)
    if not counts:
        return Standing(np.ones(len(draws), dtype=bool), None, None)
    best = max(counts, key=lambda run_id: (kinds[run_id] == "sample", counts[run_id], run_id))
    return Standing(np.array([draw == best for draw in draws], dtype=bool), best, kinds[best])
