"""The evaluation sample: the labelled images of one draw, and the population that it represents.

Weights of different draws do not add up: each represents the population that it was drawn from.
"""

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
DRAWS = "draws"  # key in the counts of training sets and heads: how much of each draw is labelled
# Share of a sample, by weight. Below it, figures do not count as the catalog's: people begin with
# images that a head is sure of, and a recall of 0.90 is 0.81 if a tenth of all toilets lies in
# images that nobody looked at and the head finds none of them.
LABELLED_ENOUGH = 0.9


@dataclass(frozen=True)
class Draw:
    """A run that drew images at random: a sample of the catalog, or a suggested queue."""

    kind: Kind
    omitted: int = 0  # strata with images from which the configuration asked for no unit
    drawn: int = 0  # its images that could be labelled
    labelled: int = 0  # those of them that are
    share: float = 1.0  # their share of `drawn`, by weight, [0, 1]

    @property
    def covers_catalog(self) -> bool:
        """True if it represents the whole catalog."""
        return self.kind == "sample" and not self.omitted and self.share >= LABELLED_ENOUGH

    @property
    def note(self) -> str:
        """Limits of its figures, in parentheses to follow its name; "" if there are none."""
        limits = []
        if self.omitted:
            strata = "stratum" if self.omitted == 1 else "strata"
            limits.append(f"which leaves {self.omitted:,} {strata} out")
        if self.labelled < self.drawn:
            limits.append(f"of its {self.drawn:,} images {self.labelled:,} are labelled")
        return f" ({'; '.join(limits)})" if limits else ""


@dataclass(frozen=True)
class EvaluationSample:
    """The labelled images that figures are computed on, and their draw, if they have one."""

    rows: NDArray[np.bool_]  # (n,)
    run_id: str | None
    draw: Draw | None

    @property
    def kind(self) -> Kind | None:
        """The kind of the draw."""
        return self.draw.kind if self.draw else None

    @property
    def population(self) -> str:
        """The population of weighted figures.

        `part of the catalog` for a sample that leaves strata out or is partly labelled; `unlabelled
        images` for a suggested queue, which is drawn from them; `labelled images` if nothing was
        drawn at random: figures then describe these images alone, each counted once.
        """
        if self.draw is None:
            return LABELLED
        if self.draw.covers_catalog:
            return CATALOG
        return PART if self.draw.kind == "sample" else UNLABELLED

    @property
    def description(self) -> str:
        """The held-out images in words."""
        count = int(self.rows.sum())
        if self.draw is None:
            undrawn = "held-out images that were not drawn at random and represent only themselves"
            return f"{count} {undrawn}"
        return f"{count} held-out images of the {self.kind} {self.run_id}{self.draw.note}"

    def weights(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Selects the weights of its rows from all, (n,); ones if there is no draw."""
        return weight[self.rows] if self.run_id else np.ones(int(self.rows.sum()))


def omitted_strata(sample: Run) -> int:
    """Counts the strata with images from which the configuration asked for no unit."""
    asked, units = sample.counts.get("asked", {}), sample.counts.get("units", {})
    return sum(not wanted and units[name] > 0 for name, wanted in asked.items())


def precedence(run: Run) -> int:
    """The rank of a draw: of an image's draws the highest wins, see `design_weights.weigh`.

    An image drawn several times belongs to the catalog-wide sample. Queues and single-stratum
    samples select on purpose; giving them the image would bias the catalog-wide sample.
    """
    if run.table != SAMPLE.name:
        return 0
    return 1 if omitted_strata(run) else 2


def describe_draws(store: Store, run_ids: Iterable[str | None], made: Run) -> dict[str, Draw]:
    """Describes the draws of labelled images (`run_ids`), by run id.

    `made` is the training set or head of these images; it counts the labelled part of each draw.
    """
    draws, labelled = {}, labelled_counts(made)[DRAWS]
    for run_id in sorted({run_id for run_id in run_ids if run_id is not None}):
        sample, counts = store.run(SAMPLE, run_id), labelled.get(run_id, {})
        kind: Kind = "sample" if sample else "queue"
        draws[run_id] = Draw(kind, omitted_strata(sample) if sample else 0, **counts)
    return draws


def labelled_counts(
    made: Run, kept: Sequence[str | None] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Counts the labelled part of each draw, for the manifest of what is made from `made`.

    If rows were left out since, `kept` is the draw of each row that is still used.
    """
    draws = dict(made.counts.get(DRAWS, {}))
    if kept is not None:
        rows = Counter(kept)
        for run_id, counts in draws.items():
            share = counts["share"] * min(1.0, rows[run_id] / counts["labelled"])
            draws[run_id] = {**counts, "labelled": rows[run_id], "share": share}
    return {DRAWS: draws}


def choose_evaluation_sample(
    run_ids: Sequence[str | None], draws: Mapping[str, Draw]
) -> EvaluationSample:
    """Chooses one draw: one that covers the catalog, else with most rows, then the newest.

    `run_ids`, (n,), are the draws of the images; None if one was not drawn at random. Returns the
    rows of the chosen draw; all rows if there is none.
    """
    counts = Counter(run_id for run_id in run_ids if run_id is not None)
    if not counts:
        return EvaluationSample(np.ones(len(run_ids), dtype=bool), None, None)
    best = max(counts, key=lambda run_id: (draws[run_id].covers_catalog, counts[run_id], run_id))
    rows = np.array([run_id == best for run_id in run_ids], dtype=bool)
    return EvaluationSample(rows, best, draws[best])
