"""The evaluation of a head: all figures that `training` computes and that the head's page shows."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from toiletspark.sampling.estimates import Share
from toiletspark.tables import storage

EVALUATION = "evaluation.json"  # in a head's folder
_MAIN = ("accuracy", "precision", "recall", "good_images_lost", "class_accuracy")


@dataclass(frozen=True)
class DrawUsed:
    """The draw that the figures rest on; `said` is its `Draw.note`."""

    run_id: str | None
    kind: str | None
    rows: int
    outside: int  # further held-out rows
    said: str


@dataclass(frozen=True)
class CurvePoint:
    """A point of both curves; good_images_lost is the false positive rate."""

    threshold: float
    recall: float
    precision: float
    good_images_lost: float
    intervals: dict[str, list[float]]  # low and high of the three, {} at most points


@dataclass(frozen=True)
class Curves:
    """The PR and the ROC curve in one, by falling threshold, and the areas under them."""

    roc_auc: Share
    average_precision: Share
    points: list[CurvePoint]


@dataclass(frozen=True)
class Bin:
    """A bin of exclusion scores, [low, high), that holds an image."""

    low: float
    high: float
    n: int
    share: float  # of all images, weighted
    mean_score: float  # weighted
    to_exclude: Share


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width, and the expected calibration error; None without an image."""

    bins: list[Bin]
    ece: float | None


@dataclass(frozen=True)
class Calibration:
    """Reliability with the head's temperature, and without it, if it has one."""

    temperature: float | None
    after: Reliability
    before: Reliability | None


@dataclass(frozen=True)
class ClassFigures:
    """Figures of a class."""

    name: Annotated[str, Field(alias="class")]
    n: int  # labels
    said: int  # images of which it is the most probable class
    precision: Share
    recall: Share


@dataclass(frozen=True)
class StratumFigures:
    """Figures of a stratum, None where too few listings have such images."""

    stratum: str
    n: int
    listings: int
    positives: int
    share: float  # of all images, weighted
    thin: bool  # its accuracy is None
    accuracy: Share | None
    recall: Share | None
    good_images_lost: Share | None


@dataclass(frozen=True)
class Confusion:
    """Rows by label, columns by most probable class, both in the order of the classes."""

    counts: list[list[int]]
    shares: list[list[float]]  # of all images, weighted; they add up to 1


@dataclass(frozen=True)
class Mistake:
    """A wrong decision, or (`confused`) another class is more probable than the label."""

    kind: str  # missed (to exclude, and kept), lost (a good image, excluded) or confused
    image_id: str
    listing_id: str
    stratum: str
    content_digest: str
    label: str
    said: str  # the most probable class
    exclusion_score: float
    probabilities: dict[str, float]  # by class


@dataclass(frozen=True)
class LearningPoint:
    """A head trained on a share of the listings; excluded when exclusion_score >= 0.5."""

    share: float
    labels: int
    accuracy: Share
    recall: Share
    precision: Share


@dataclass(frozen=True)
class LearningCurve:
    """Points by rising share, and the conclusion."""

    points: list[LearningPoint]
    sentence: str


@dataclass(frozen=True)
class Evaluation:
    """All figures of a head."""

    head_id: str
    backbone_id: str
    classes: list[str]
    exclude_classes: list[str]
    figures_of: str  # see `EvaluationSample.population`
    draw: DrawUsed
    n: int
    positives: int
    listings: int
    operating_threshold: float
    shares: dict[str, Share]  # weighted, by name of the figure
    naive: dict[str, int | float | None]  # without weights, of all held-out rows
    curves: Curves
    calibration: Calibration
    per_class: list[ClassFigures]
    max_half_width: float
    per_stratum: list[StratumFigures]
    confusion: Confusion
    mistakes: list[Mistake]  # of all held-out rows
    # known once the head is trained and compared
    threshold_reason: str = ""
    naive_split: dict[str, int | float | None] = field(default_factory=dict)  # a split by image
    fit: dict[str, Any] = field(default_factory=dict)
    learning_curve: LearningCurve | None = None
    champion: dict[str, Any] | None = None  # see `training.champion.compare`
    run_id: str = ""
    training_set: str = ""
    trained_on: int = 0
    corrupt: int = 0
    training_data: dict[str, Any] = field(default_factory=dict)

    def main_figures(self) -> dict[str, Any]:
        """The main figures, for manifests and summaries; intervals are [low, high] by name."""
        return {
            **{name: self.shares[name].value for name in _MAIN},
            "n": self.n,
            "positives": self.positives,
            "held_out": self.draw.rows + self.draw.outside,
            "figures_of": self.figures_of,
            "intervals": {name: [self.shares[name].low, self.shares[name].high] for name in _MAIN},
        }

    def as_json(self) -> dict[str, Any]:
        """The evaluation as it is written, without NaN."""
        return dict(_JSON.dump_python(self, by_alias=True))


_JSON = TypeAdapter(Evaluation)


def read(folder: str) -> Evaluation:
    """Reads the evaluation from a head's folder."""
    return _JSON.validate_python(storage.read_json(f"{folder}/{EVALUATION}"))
