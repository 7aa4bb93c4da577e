"""The backbone's identity: what makes two backbones the same."""

from __future__ import annotations

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
    """All that a worker needs to build the backbone; small, but for `weights`.

    Attributes:
        architecture: torchvision's name.
        preprocessing: what turns a picture into its input.
        weights: without a program, safetensors bytes of the state dict without the final layer, float32; with one,
            the program's constants.
        weights_digest: SHA-256 over names, shapes and values of the state dict, whatever file they came from.
        runtime: what runs it. Part of the identity in no precision: runtimes of equal precision agree.
        precision: of weights and arithmetic.
        program: OpenVINO's intermediate representation (XML); b"" until converted, and for torch.
    """

    architecture: str
    preprocessing: Preprocessing
    weights: bytes
    weights_digest: str
    runtime: RuntimeName = "torch"
    precision: Precision = "fp32"
    program: bytes = b""

    @property
    def backbone_id(self) -> str:
        """The identity that is stored with every embedding and head: equal ids mean equal embeddings.

        Raises:
            BackboneError: in int8 the calibration decides the embeddings, and there was none yet.
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
        """The identity of the same backbone in fp32, from which the other precisions are derived."""
        return replace(self, precision="fp32", program=b"").backbone_id

    def not_quantised(self) -> BackboneError:
        """What to tell where int8 is wanted before it was calibrated."""
        return BackboneError(
            doing=f"preparing the backbone {self._name}",
            expected="a program that was quantised on the catalog's own images",
            found="none",
            todo="run `toiletspark embed` with the same configuration first; it calibrates",
        )

    @property
    def described(self) -> dict[str, Any]:
        """What its identity stands for, in full, as a head's bundle tells it: JSON."""
        return {
            "backbone_id": self.backbone_id,
            "architecture": self.architecture,
            "weights_digest": self.weights_digest,
            "program_digest": self.program_digest if self.precision == "int8" else "",
            "precision": self.precision,
            "runtime": self.runtime,
            "preprocessing": _done_to_pictures(self.preprocessing),
        }

    @property
    def _name(self) -> str:
        return f"{self.architecture}-{self.weights_digest[:12]}-{self.preprocessing.name}-{self.precision}"


def preprocessing(section: BackboneSettings) -> Preprocessing:
    """What [backbone] says of pictures."""
    return Preprocessing(
        section.resize_px, section.crop_px, section.jpeg_scaling, section.jpeg_decoder
    )


def mismatch(described: dict[str, Any], backbone_id: str) -> tuple[str, str] | None:
    """Where a backbone that was described elsewhere is not the one of that name, or not one that this code can be.

    Args:
        described: see `BackboneSpec.described`.
        backbone_id: what its embeddings are called.

    Returns:
        What was expected and what was found instead; None where all agrees.

    Raises:
        KeyError, TypeError: it is no description.
    """
    said = dict(described["preprocessing"])
    own = Preprocessing(**{one.name: said[one.name] for one in fields(Preprocessing)})
    done = _done_to_pictures(own)
    differing = [name for name in sorted({*said, *done}) if said.get(name) != done.get(name)]
    if differing:
        of = {name: (done.get(name), said.get(name)) for name in differing}
        expected, found = (
            ", ".join(f"{name} {pair[side]}" for name, pair in of.items()) for side in (0, 1)
        )
        return f"preprocessing as this toiletspark does it: {expected}", found
    spec = BackboneSpec(
        described["architecture"],
        own,
        b"",
        described["weights_digest"],
        precision=described["precision"],
    )
    name = (
        f"{spec._name}-{described['program_digest'][:12]}"
        if spec.precision == "int8"
        else spec._name
    )
    return (
        None
        if name == backbone_id
        else (f"a description of the backbone {backbone_id}", f"one of {name}")
    )


def _done_to_pictures(preprocessing: Preprocessing) -> dict[str, Any]:
    """All that happens to a picture before the network sees it: JSON."""
    normalised = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    return {**asdict(preprocessing), "interpolation": "bilinear", **normalised}
