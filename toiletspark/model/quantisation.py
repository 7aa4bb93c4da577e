"""int8: quantised after training on the catalog's own images, and refused where it no longer says the same.

Runs on the driver, with OpenVINO and NNCF (the extra [openvino]).
"""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Int8
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Pixels
from toiletspark.model import thresholds
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head
from toiletspark.model.runtimes import conversion, openvino_runtime
from toiletspark.model.spec import BackboneSpec

if TYPE_CHECKING:
    import openvino

_BATCH = 8  # images of one forward pass while comparing: bounds the driver's memory


def quantise(
    spec: BackboneSpec,
    calibration: Pixels,
    held_out: Pixels,
    limits: Int8,
    head: Head | None,
    operating_threshold: float,
) -> tuple[BackboneSpec, dict[str, Any]]:
    """Makes the int8 program of a backbone, and compares it with fp32 before anyone may use it.

    Args:
        spec: from `weights.load_spec`, with torch's weights.
        calibration: uint8, (n, crop_px, crop_px, 3); they decide the ranges of the activations.
        held_out: other images, of the same shape.
        limits: what is accepted.
        head: of the fp32 backbone, if there is one; its decisions are compared too.
        operating_threshold: at which it decides.

    Returns:
        The spec in int8, and the facts of `compare` and of its making.

    Raises:
        BackboneError: the int8 embeddings differ by more than the limits allow, or NNCF is not installed.

    Cost: about 0.1 s a calibration image and core, and ten seconds.
    """
    model = conversion.convert(spec)
    fp32 = conversion.with_program(replace(spec, precision="fp32"), model)
    int8 = conversion.with_program(spec, _quantised(model, calibration), precision="int8")
    facts = compare(fp32, int8, held_out, head, operating_threshold)
    require_equivalent(int8, facts, limits)
    versions = {name: version(name) for name in ("openvino", "nncf")}
    return int8, {**facts, "calibration_images": len(calibration), "versions": versions}


def compare(
    fp32: BackboneSpec,
    int8: BackboneSpec,
    held_out: Pixels,
    head: Head | None,
    operating_threshold: float,
) -> dict[str, Any]:
    """How far two precisions of a backbone agree.

    Args:
        fp32: the reference, with its program.
        int8: what is judged, with its program.
        held_out: uint8, (n, crop_px, crop_px, 3).
        head: of the fp32 backbone, or None.
        operating_threshold: at which it decides.

    Returns:
        `held_out_images`; `mean_cosine` and `min_cosine` between an image's two embeddings, see `centred_cosines`;
        `decisions_changed`, [0, 1], the share that the head decides otherwise, None without a head.
    """
    wanted, found = _embedded(fp32, held_out), _embedded(int8, held_out)
    cosines = centred_cosines(found, wanted)
    facts: dict[str, Any] = {
        "fp32_id": fp32.backbone_id,
        "held_out_images": len(held_out),
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
        "head_id": head.head_id if head else None,
        "decisions_changed": None,
    }
    if head:
        decided = [
            thresholds.excluded(
                head.exclusion_scores(head.probabilities(embeddings)), operating_threshold
            )
            for embeddings in (wanted, found)
        ]
        facts["decisions_changed"] = float((decided[0] != decided[1]).mean())
    return facts


def centred_cosines(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """How alike two sets of embeddings of the same images are in what tells the images apart.

    The mean of `wanted` is taken off both. Pooled features are all >= 0, so that even the embeddings of different
    photos have a cosine of 0.7, and a bad conversion would hide behind what all images share.

    Args:
        found: float32, (n, 512).
        wanted: the reference, of the same shape.

    Returns:
        float32, (n,), [-1, 1]; 0 where nothing is left of one of the two.
    """
    mean = wanted.mean(axis=0)
    found, wanted = found - mean, wanted - mean
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    cosines: NDArray[np.float32] = (wanted * found).sum(axis=1) / np.maximum(
        lengths, np.finfo(np.float32).tiny
    )
    return cosines


def require_equivalent(int8: BackboneSpec, facts: dict[str, Any], limits: Int8) -> None:
    """The gate.

    Raises:
        BackboneError: a limit of [backbone.int8] is not met.
    """
    changed = facts["decisions_changed"]
    close = (
        facts["mean_cosine"] >= limits.min_mean_cosine and facts["min_cosine"] >= limits.min_cosine
    )
    if close and (changed is None or changed <= limits.max_decisions_changed):
        return
    told = "" if changed is None else f", {changed:.2%} of the decisions changed"
    raise BackboneError(
        doing=f"quantising the backbone {facts['fp32_id']} to int8",
        expected=f"a centred cosine to fp32 of at least {limits.min_mean_cosine} on average and {limits.min_cosine} "
        f"for every image, and at most {limits.max_decisions_changed:.2%} of the decisions changed",
        found=f"{facts['mean_cosine']:.4f} on average, {facts['min_cosine']:.4f} at least, on "
        f"{facts['held_out_images']} images{told}",
        todo="set backbone.precision to fp32 or bf16, or calibrate on more of the catalog "
        "(backbone.int8.calibration_images)",
    )


def _embedded(spec: BackboneSpec, pixels: Pixels) -> NDArray[np.float32]:
    backbone = Backbone(spec)
    return np.concatenate(
        [backbone.embed(pixels[at : at + _BATCH]) for at in range(0, len(pixels), _BATCH)]
    )


def _quantised(model: openvino.Model, calibration: Pixels) -> openvino.Model:
    """Post-training quantisation by NNCF; what it prints is no part of our summaries."""
    openvino_runtime.imported()
    with redirect_stdout(io.StringIO()):
        nncf = _nncf()
        images = nncf.Dataset([image[None] for image in calibration])
        return nncf.quantize(
            model,
            images,
            subset_size=len(calibration),
            advanced_parameters=_settings(nncf.quantization),
        )


def _settings(quantization: Any) -> Any:
    """What came nearest to fp32 on real photos, see benchmarks/LOG.md.

    No bias correction: the fast one made embeddings 8 % longer. Ranges from the least to the largest value seen: the
    default's means of extremes cut off what single images need.
    """
    ranges, advanced = quantization.range_estimator, quantization.advanced_parameters
    extremes = {
        side: ranges.StatisticsCollectorParameters(
            statistics_type=ranges.StatisticsType[side.upper()],
            aggregator_type=ranges.AggregatorType[side.upper()],
        )
        for side in ("min", "max")
    }
    return advanced.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        activations_range_estimator_params=ranges.RangeEstimatorParameters(**extremes),
    )


def _nncf() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise BackboneError(
            doing="quantising the backbone to int8",
            expected="the package nncf on the driver",
            found=str(error),
            todo="pip install 'toiletspark[openvino]', or set backbone.precision=fp32",
        ) from None
    nncf.set_log_level(logging.ERROR)
    return nncf
