"""The backbone's identity: what makes two backbones the same.

`backbone_id` names architecture, weights, preprocessing and precision. It is stored with every
embedding and every head.
"""

import hashlib
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from toiletspark.config import BackboneSettings, Precision
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Preprocessing

RuntimeName = Literal["torch", "openvino"]

# of ImageNet's pictures, per channel, with pixels in [0, 1]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneSpec:
    """All that a worker needs to build the backbone; small, except for `weights`.

    These are safetensors bytes of the state dict without the final layer, float32; with a program,
    the program's constants. The runtime is not part of the identity, because runtimes of equal
    precision agree.
    """

    architecture: str  # torchvision's name
    preprocessing: Preprocessing
    weights: bytes
    weights_digest: str  # SHA-256 over names, shapes and values of the state dict
    runtime: RuntimeName = "torch"
    precision: Precision = "fp32"  # of weights and arithmetic
    program: bytes = b""  # OpenVINO's XML; b"" before conversion, and for torch

    @property
    def backbone_id(self) -> str:
        """The identity, stored with every embedding and head: equal ids mean equal embeddings.

        Raises a BackboneError for int8 before its calibration, which decides the embeddings.
        """
        if self.precision != "int8":
            return self._name
        if not self.program:
            raise self.not_quantised()
        return f"{self._name}-{self.program_digest[:12]}"

    @property
    def program_digest(self) -> str:
        """SHA-256 over program and constants, 64 hexadecimal digits."""
        return hashlib.sha256(hashlib.sha256(self.program).digest() + self.weights).hexdigest()

    @property
    def fp32_id(self) -> str:
        """The identity of the same backbone in fp32, the source of other precisions."""
        return replace(self, precision="fp32", program=b"").backbone_id

    def not_quantised(self) -> BackboneError:
        """Returns the error for int8 before its calibration."""
        return BackboneError(
            doing=f"preparing the backbone {self._name}",
            expected="a program that was quantised on the catalog's own images",
            found="none",
            todo="run `toiletspark embed` with the same configuration first; it calibrates",
        )

    def require_id(self, backbone_id: str, *, doing: str) -> None:
        """Raises a BackboneError unless it is the backbone of the embeddings in the store."""
        if self.backbone_id != backbone_id:
            raise BackboneError(
                doing=doing,
                expected=f"the backbone {backbone_id}, with which the catalog is embedded",
                found=f"the configured one, {self.backbone_id}",
                todo="run `toiletspark embed` with this configuration first, or set [backbone] to "
                "what the catalog has",
            )

    @property
    def description(self) -> dict[str, Any]:
        """The identity in full, for a head's bundle: JSON."""
        names = ("backbone_id", "architecture", "weights_digest", "precision", "runtime")
        return {
            **{name: getattr(self, name) for name in names},
            "program_digest": self.program_digest if self.precision == "int8" else "",
            "preprocessing": _full_preprocessing(self.preprocessing),
        }

    @property
    def _name(self) -> str:
        digest = self.weights_digest[:12]
        return f"{self.architecture}-{digest}-{self.preprocessing.name}-{self.precision}"


def preprocessing(section: BackboneSettings) -> Preprocessing:
    """The preprocessing in [backbone]."""
    sizes = section.resize_px, section.crop_px
    return Preprocessing(*sizes, section.jpeg_scaling, section.jpeg_decoder)


def mismatch(description: dict[str, Any], backbone_id: str) -> tuple[str, str] | None:
    """Compares a `BackboneSpec.description` with a backbone's name, and with this code.

    Returns the expected and the actual state; None if they agree. Raises a KeyError or a TypeError
    if it is no description.
    """
    theirs = dict(description["preprocessing"])
    settings = Preprocessing(**{field.name: theirs[field.name] for field in fields(Preprocessing)})
    ours = _full_preprocessing(settings)
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if names:
        expected = ", ".join(f"{name} {ours.get(name)}" for name in names)
        found = ", ".join(f"{name} {theirs.get(name)}" for name in names)
        return f"preprocessing as this toiletspark does it: {expected}", found
    digest, precision = description["weights_digest"], description["precision"]
    spec = BackboneSpec(description["architecture"], settings, b"", digest, precision=precision)
    name = spec._name
    if precision == "int8":
        name += f"-{description['program_digest'][:12]}"
    if name == backbone_id:
        return None
    return f"a description of the backbone {backbone_id}", f"one of {name}"


def _full_preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    """All that happens to a picture before the network: JSON."""
    normalisation = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    return {**asdict(preprocessing), "interpolation": "bilinear", **normalisation}
