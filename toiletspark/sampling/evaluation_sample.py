"""Which of the labelled images stand for the catalog, and in what way: those that one draw has chosen by chance.

Weights of two draws do not add up to anything: each draw's stand for what it was drawn from. Without Spark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import SAMPLE

Kind = Literal["sample", "queue"]
CATALOG, UNLABELLED, LABELLED = "catalog", "unlabelled images", "labelled images"
PART = "part of the catalog"
DRAWS = "draws"  # in the counts of a training set's manifest and of a head's: how much of each draw is labelled
# Of a sample, by weight. Below, figures are not called the catalog's: people begin with what a head is sure of, and a
# recall of 0.90 is 0.81 where a tenth of all toilets lies in what nobody looked at, and the head finds none of them.
LABELLED_ENOUGH = 0.9


@dataclass(frozen=True)
class Draw:
    """What a run was that drew images by chance.

    Attributes:
        kind: a sample of the catalog, or a suggested queue.
        left_out: strata with images of which a sample was asked for nothing.
        drawn: images that it drew and that could be labelled; 0 where an earlier toiletspark did not count.
        labelled: those of them that are.
        share: which share that is, by weight, [0, 1].
    """

    kind: Kind
    left_out: int = 0
    drawn: int = 0
    labelled: int = 0
    share: float = 1.0

    @property
    def of_catalog(self) -> bool:
        """Whether it stands for the whole catalog."""
        return self.kind == "sample" and not self.left_out and self.share >= LABELLED_ENOUGH

    @property
    def said(self) -> str:
        """What a reader of its figures must know of it, to follow its name; "" where there is nothing."""
        strata = "stratum" if self.left_out == 1 else "strata"
        out = [f"which leaves {self.left_out:,} {strata} out"] if self.left_out else []
        part = (
            [f"of its {self.drawn:,} images {self.labelled:,} are labelled"]
            if self.labelled < self.drawn
            else []
        )
        return f" ({'; '.join(out + part)})" if out or part else ""


@dataclass(frozen=True)
class Standing:
    """The labelled images on which figures rest.

    Attributes:
        rows: bool, (n,).
        run_id: of their draw; None where chance has drawn none of the images.
        draw: what the draw was; None where there is none.
    """

    rows: NDArray[np.bool_]
    run_id: str | None
    draw: Draw | None

    @property
    def kind(self) -> Kind | None:
        """Of the draw."""
        return self.draw.kind if self.draw else None

    @property
    def figures_of(self) -> str:
        """What weighted figures of the rows are figures of.

        `catalog`: of a sample; `part of the catalog`: of one that leaves strata out or is labelled in part;
        `unlabelled images`: of a suggested queue, which is drawn from what nobody had labelled then; `labelled images`:
        chance had no part in it, so figures are of these images alone, each counted once.
        """
        if self.draw and self.draw.of_catalog:
            return CATALOG
        return {"sample": PART, "queue": UNLABELLED, None: LABELLED}[self.kind]

    @property
    def told(self) -> str:
        """Which held-out images these are, in words."""
        count = int(self.rows.sum())
        if self.draw is None:
            return f"{count} held-out images that no chance has drawn, so they stand for themselves, each once"
        return f"{count} held-out images of the {self.kind} {self.run_id}{self.draw.said}"

    def weights(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weights of the standing rows, out of those of all (n,): ones where chance drew none."""
        return weight[self.rows] if self.run_id else np.ones(int(self.rows.sum()))


def left_out(sample: Run) -> int:
    """How many strata with images a sample was asked for nothing of; what does not tell counts as whole."""
    counts = sample.counts
    units = counts.get("units", {})
    return sum(
        not asked and units.get(name, 1) > 0 for name, asked in counts.get("asked", {}).items()
    )


def precedence(run: Run) -> int:
    """Which of its draws an image belongs to: one with the highest number; of several see `design_weights.weigh`.

    What is drawn later is drawn for a reason: a queue takes what the head doubts first, a sample of single strata all
    that it finds there. What it took from a sample of the whole catalog, that sample would lack, and stand askew.
    """
    if run.table != SAMPLE.name:
        return 0
    return 1 if left_out(run) else 2


def kinds(store: Store, draws: Iterable[str | None], made: Run) -> dict[str, Draw]:
    """What the draws of labelled images were; by run id.

    Args:
        store: knows the samples.
        draws: of each image.
        made: the training set or the head that the images are of, which knows how much of each draw was labelled then.
    """
    found, how_much = {}, counted(made)[DRAWS]
    for run_id in sorted({draw for draw in draws if draw is not None}):
        sample, part = store.run(SAMPLE, run_id), how_much.get(run_id, {})
        kind: Kind = "sample" if sample else "queue"
        out = left_out(sample) if sample else 0
        found[run_id] = Draw(
            kind, out, part.get("drawn", 0), part.get("labelled", 0), part.get("share", 1.0)
        )
    return found


def counted(
    made: Run, left: Sequence[str | None] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """How much of each draw was labelled when a training set or a head was made, for a manifest that goes on from it.

    Args:
        made: it; earlier ones did not count, and say nothing.
        left: the draw of each row, where some of its rows are left out from here on.
    """
    found = dict(made.counts.get(DRAWS, {}))
    if left is not None:
        rows = Counter(left)
        for run_id, part in found.items():
            kept = min(1.0, rows[run_id] / part["labelled"])
            found[run_id] = {**part, "labelled": rows[run_id], "share": part["share"] * kept}
    return {DRAWS: found}


def standing(draws: Sequence[str | None], kinds: Mapping[str, Draw]) -> Standing:
    """The rows of the draw that says most: one of the whole catalog, else the most rows, then the newest.

    Args:
        draws: (n,), the run that drew each image; None where no chance drew it.
        kinds: see `kinds`.

    Returns:
        Its rows; all rows where there is no draw.
    """
    counts = Counter(draw for draw in draws if draw is not None)
    if not counts:
        return Standing(np.ones(len(draws), dtype=bool), None, None)
    best = max(counts, key=lambda run_id: (kinds[run_id].of_catalog, counts[run_id], run_id))
    return Standing(np.array([draw == best for draw in draws], dtype=bool), best, kinds[best])
