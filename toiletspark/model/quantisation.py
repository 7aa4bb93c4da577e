"""int8: post-training quantisation on the catalog's own images, refused if results differ too much.

Runs on the driver, with OpenVINO and NNCF (the extra [openvino]).
"""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Int8
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Pixels
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head, excluded
from toiletspark.model.runtimes import conversion, openvino_runtime
from toiletspark.model.spec import BackboneSpec

if TYPE_CHECKING:
    import openvino

_BATCH = 8  # images of one forward pass while comparing: bounds the driver's memory


@dataclass(frozen=True)
class Int8Report:
    """The difference of an int8 backbone from fp32, on held-out images.

    `mean_cosine` and `min_cosine` are between an image's two embeddings, see `centred_cosines`;
    `decisions_changed`, [0, 1], is the share that the head decides differently, None without one.
    """

    fp32_id: str
    held_out_images: int
    mean_cosine: float
    min_cosine: float
    head_id: str | None = None
    decisions_changed: float | None = None
    calibration_images: int = 0
    versions: dict[str, str] = field(default_factory=dict)


def quantise(
    spec: BackboneSpec,
    calibration: Pixels,
    held_out: Pixels,
    limits: Int8,
    head: Head | None,
    operating_threshold: float,
) -> tuple[BackboneSpec, Int8Report]:
    """Makes the int8 program of a backbone, and requires it to agree with fp32.

    Args:
        spec: from `weights.load_spec`, with torch's weights.
        calibration: uint8, (n, crop_px, crop_px, 3); they decide the ranges of the activations.
        held_out: other images, of the same shape.
        head: of the fp32 backbone, or None; its decisions at `operating_threshold` are compared.

    Raises:
        BackboneError: the embeddings differ by more than the limits, or NNCF is not installed.

    Cost: about 0.1 s a calibration image and core, and ten seconds.
    """
    model = conversion.convert(spec)
    fp32 = conversion.with_program(replace(spec, precision="fp32"), model)
    int8 = conversion.with_program(spec, _quantise_model(model, calibration), precision="int8")
    report = compare(fp32, int8, held_out, head, operating_threshold)
    require_equivalent(report, limits)
    versions = {name: version(name) for name in ("openvino", "nncf")}
    return int8, replace(report, calibration_images=len(calibration), versions=versions)


def compare(
    fp32: BackboneSpec,
    int8: BackboneSpec,
    held_out: Pixels,
    head: Head | None,
    operating_threshold: float,
) -> Int8Report:
    """Compares two precisions of a backbone that have their programs; see `quantise`."""
    reference, embeddings = _embed(fp32, held_out), _embed(int8, held_out)
    cosines = centred_cosines(embeddings, reference)
    mean, least = float(cosines.mean()), float(cosines.min())
    report = Int8Report(fp32.backbone_id, len(held_out), mean, least)
    if head is None:
        return report
    decisions = []
    for rows in (reference, embeddings):
        scores = head.exclusion_scores(head.probabilities(rows))
        decisions.append(excluded(scores, operating_threshold))
    changed = float((decisions[0] != decisions[1]).mean())
    return replace(report, head_id=head.head_id, decisions_changed=changed)


def centred_cosines(
    embeddings: NDArray[np.float32], reference: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosine similarity of two sets of embeddings of the same images, less the mean of `reference`.

    Pooled features are all >= 0, so even different photos have a cosine of 0.7. Without centring, a
    bad conversion would hide behind what all images share. Both are float32, (n, width); returns
    float32, (n,), [-1, 1], 0 where one of the two is the mean.
    """
    mean = reference.mean(axis=0)
    rows, others = embeddings - mean, reference - mean
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    tiny = np.finfo(np.float32).tiny
    cosines: NDArray[np.float32] = (rows * others).sum(axis=1) / np.maximum(lengths, tiny)
    return cosines


def require_equivalent(report: Int8Report, limits: Int8) -> None:
    """Raises a BackboneError unless the comparison is within the limits of [backbone.int8]."""
    mean, least, changed = report.mean_cosine, report.min_cosine, report.decisions_changed
    is_close = mean >= limits.min_mean_cosine and least >= limits.min_cosine
    if is_close and (changed is None or changed <= limits.max_decisions_changed):
        return
    decisions = "" if changed is None else f", {changed:.2%} of the decisions changed"
    raise BackboneError(
        doing=f"quantising the backbone {report.fp32_id} to int8",
        expected=f"a centred cosine to fp32 of at least {limits.min_mean_cosine} on average and "
        f"{limits.min_cosine} for every image, and at most {limits.max_decisions_changed:.2%} of "
        "the decisions changed",
        found=f"{mean:.4f} on average, {least:.4f} at least, on "
        f"{report.held_out_images} images{decisions}",
        todo="set backbone.precision to fp32 or bf16, or calibrate on more of the catalog "
        "(backbone.int8.calibration_images)",
    )


def _embed(spec: BackboneSpec, pixels: Pixels) -> NDArray[np.float32]:
    backbone = Backbone(spec)
    batches = range(0, len(pixels), _BATCH)
    return np.concatenate([backbone.embed(pixels[at : at + _BATCH]) for at in batches])


def _quantise_model(model: openvino.Model, calibration: Pixels) -> openvino.Model:
    """Post-training quantisation by NNCF, whose prints would disturb our summaries."""
    openvino_runtime.import_openvino()
    with redirect_stdout(io.StringIO()):
        nncf = _import_nncf()
        size = len(calibration)
        images = nncf.Dataset([image[None] for image in calibration])
        settings = _settings(nncf.quantization)
        return nncf.quantize(model, images, subset_size=size, advanced_parameters=settings)


def _settings(quantization: Any) -> Any:
    """The settings that came nearest to fp32 on real photos, see benchmarks/LOG.md.

    No bias correction: the fast one made embeddings 8 % longer. Ranges from the least to the
    largest value: the default's means of extremes cut off values that single images need.
    """
    ranges, advanced = quantization.range_estimator, quantization.advanced_parameters
    extremes = {}
    for side in ("min", "max"):
        extremes[side] = ranges.StatisticsCollectorParameters(
            statistics_type=ranges.StatisticsType[side.upper()],
            aggregator_type=ranges.AggregatorType[side.upper()],
        )
    return advanced.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        activations_range_estimator_params=ranges.RangeEstimatorParameters(**extremes),
    )


def _import_nncf() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise BackboneError(
            doing="quantising the backbone to int8",
            expected="the package nncf on the driver",
            found=str(error),
            todo="pip install '.[openvino]' in the checkout, or set backbone.precision=fp32",
        ) from None
    nncf.set_log_level(logging.ERROR)
    return nncf
