"""The plots of a head's page as SVG: the same bytes for the same figures.

Texts stay texts in the reader's own sans-serif; nothing in a plot comes from strangers. matplotlib
is imported by the first plot.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toiletspark.sampling.estimates import Share
from toiletspark.sampling.evaluation import Calibration, CurvePoint, LearningPoint, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_IN = (5.0, 3.6)  # 360 px wide at 72 to the inch: a phone shows it as large as it was drawn
_KEPT, _EXCLUDED, _MUTED = "#3d7485", "#b5532b", "#6b757b"  # as in pages.css
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "toiletspark",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _MUTED,
    "axes.grid": True,
    "grid.color": "#e3e2dc",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "savefig.facecolor": "white",
}


def precision_recall(points: Sequence[CurvePoint], chosen: dict[str, Share]) -> bytes:
    """Precision over recall, with its 95 % interval and the point of the operating threshold.

    `points` are at least one; `chosen` are the shares at the operating threshold.
    """
    with _plot("recall", "precision") as (axes, svg):
        _curve(axes, points, "recall", "precision")
        _mark(axes, chosen["recall"], chosen["precision"])
        low = min([point.precision for point in points] + [chosen["precision"].value or 1.0])
        axes.set(xlim=(-0.02, 1.02), ylim=(max(0.0, 0.98 * low) - 0.02, 1.02))
        _percent(axes.xaxis, axes.yaxis)
        axes.legend(loc="lower left")
    return svg()


def roc(points: Sequence[CurvePoint], chosen: dict[str, Share]) -> bytes:
    """Recall over good images lost, logarithmic, because heads differ where few are lost."""
    least = min([1e-2, *(point.good_images_lost for point in points if point.good_images_lost > 0)])
    shown = [replace(each, good_images_lost=max(each.good_images_lost, least)) for each in points]
    with _plot("good images lost (logarithmic)", "recall") as (axes, svg):
        _curve(axes, shown, "good_images_lost", "recall")
        _mark(axes, chosen["good_images_lost"], chosen["recall"], least)
        axes.set(xscale="log", xlim=(0.85 * least, 1.15), ylim=(-0.02, 1.02))
        _percent(axes.xaxis, axes.yaxis)
        axes.xaxis.set_minor_formatter("")
        axes.legend(loc="lower right")
    return svg()


def reliability(calibration: Calibration) -> bytes:
    """The share to be excluded over the mean score of each bin; equal on the diagonal."""
    with _plot("exclusion score (mean of the bin)", "are to be excluded") as (axes, svg):
        axes.plot([0, 1], [0, 1], color=_MUTED, linestyle="--", linewidth=1, label="score = share")
        if before := calibration.before:
            crosses = _line(_EXCLUDED, "without its temperature", marker="x", linestyle="none")
            axes.plot(*_bins(before, "value"), **crosses)
        scores, values = _bins(calibration.after, "value")
        lows, highs = _bins(calibration.after, "low")[1], _bins(calibration.after, "high")[1]
        down = [max(0.0, value - low) for value, low in zip(values, lows, strict=True)]
        up = [max(0.0, high - value) for value, high in zip(values, highs, strict=True)]
        dots = _line(_KEPT, "bin of images, 95 % interval", marker="o", linestyle="none")
        axes.errorbar(scores, values, (down, up), capsize=2, elinewidth=1, **dots)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        _percent(axes.yaxis)
        axes.legend(loc="upper left")
    return svg()


def learning_curve(points: Sequence[LearningPoint]) -> bytes:
    """Accuracy over the number of labels, with its 95 % interval."""
    labels = [point.labels for point in points]
    values, lows, highs = (
        [getattr(point.accuracy, side) for point in points] for side in ("value", "low", "high")
    )
    with _plot("labels trained on", "accuracy") as (axes, svg):
        _band(axes, labels, lows, highs)
        axes.plot(labels, values, **_line(_KEPT, "accuracy", marker="o"))
        axes.set_xlim(left=0)
        axes.set_xticks(labels, [f"{count:,}" for count in labels])
        _percent(axes.yaxis)
        axes.legend(loc="lower right")
    return svg()


@contextmanager
def _plot(across: str, up: str) -> Iterator[tuple[Axes, Callable[[], bytes]]]:
    """Empty axes, and a function that returns the SVG after the body has drawn into them."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        file = io.BytesIO()
        yield axes, file.getvalue
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _curve(axes: Axes, points: Sequence[CurvePoint], across: str, up: str) -> None:
    band = [point for point in points if point.intervals]
    lows, highs = ([point.intervals[up][side] for point in band] for side in (0, 1))
    xs = [getattr(point, across) for point in band]
    _band(axes, xs, lows, highs)
    xs, ys = ([getattr(point, name) for point in points] for name in (across, up))
    axes.plot(xs, ys, **_line(_KEPT, up))


def _band(axes: Axes, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> None:
    """The 95 % interval around a line; nothing, and no entry in the legend, without points."""
    if xs:
        label = "95 % interval"
        axes.fill_between(xs, lows, highs, color=_KEPT, alpha=0.18, linewidth=0, label=label)


def _bins(reliability: Reliability, side: str) -> tuple[list[float], list[float]]:
    """Mean scores of the bins, and one side of the shares to be excluded."""
    bins = reliability.bins
    return [row.mean_score for row in bins], [getattr(row.to_exclude, side) for row in bins]


def _mark(axes: Axes, across: Share, up: Share, least: float = 0.0) -> None:
    """The point of the operating threshold, if it has one."""
    if across.value is not None and up.value is not None:
        dot = _line(_EXCLUDED, "operating threshold", marker="o", linestyle="none")
        x = max(across.value, least)
        axes.plot([x], [up.value], **{**dot, "markersize": 7}, clip_on=False)


def _line(colour: str, label: str, **more: Any) -> dict[str, Any]:
    return {"color": colour, "linewidth": 1.6, "markersize": 5, "label": label, **more}


def _percent(*axes: Any) -> None:
    """Labels an axis as people read shares: 2.5 %, 10 %, 100 %."""
    for axis in axes:
        axis.set_major_formatter(lambda share, position: f"{100 * share:.{_decimals(share)}f} %")


def _decimals(share: float) -> int:
    """Decimals of a percentage that distinguish it from its neighbours on an axis."""
    percent = round(100 * share, 6)
    return 0 if percent == round(percent) else min(3, max(1, -math.floor(math.log10(abs(percent)))))
