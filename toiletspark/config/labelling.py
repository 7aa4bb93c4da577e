"""Sections for labels: [sample] [labels] [sheet] [suggest] [second_look] [label_studio]."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr, model_validator

from toiletspark.config.types import ClassName, Location, Section
from toiletspark.config.user_tables import LabelTable

# With sampleby the number of units of a stratum varies. If 7 are asked of it, it is empty once in
# 1,096 draws (e^-7; more rarely if it is small).
SAMPLEBY_LEAST = 7


class Stratifier(Section):
    column: str = Field(min_length=1)
    bands: int | None = Field(default=None, ge=2)  # base.toml has no defaults for list elements
    cuts: list[float] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Stratifier:
        if self.bands is not None and self.cuts is not None:
            raise ValueError("one of bands and cuts, not both")
        if self.cuts is not None and (
            self.cuts != sorted(set(self.cuts)) or not all(math.isfinite(cut) for cut in self.cuts)
        ):
            raise ValueError("cuts must be numbers that rise")
        return self


def _number_or_share(value: int | float | str, name: str) -> str:
    """The mistake in a value of sample.strata, or ""."""
    if isinstance(value, str):
        if value == "allocate" and name == "other":
            return ""
        return f'{name!r}: only other may be a word, "allocate"'
    if not value >= 0:
        return f"{name!r}: {value} is below 0, or no number"
    if isinstance(value, float) and value > 1:
        return f"{name!r}: a share must not exceed 1.0; a number has no point"
    return ""


class Sample(Section):
    size: int = Field(ge=1)
    unit: Literal["image", "listing"]
    images_per_listing: int = Field(ge=0)
    allocation: Literal["proportional", "sqrt", "neyman", "equal"]
    weigh_by: str
    min_per_stratum: int = Field(ge=0)
    max_per_stratum: int = Field(ge=0)
    strata: dict[str, StrictInt | StrictFloat | StrictStr]
    stratify_by: list[Stratifier]
    max_strata: int = Field(ge=1)
    method: Literal["sampleby", "exact"]
    seed: int = Field(ge=-(2**63), lt=2**63)
    max_half_width: float = Field(gt=0, lt=1)

    @property
    def least_asked(self) -> int:
        """Units that the allocation asks at least of each stratum."""
        if self.min_per_stratum and self.method == "sampleby":
            return max(self.min_per_stratum, SAMPLEBY_LEAST)
        return self.min_per_stratum

    @model_validator(mode="after")
    def _values_fit(self) -> Sample:
        if 0 < self.max_per_stratum < self.min_per_stratum:
            raise ValueError(
                f"max_per_stratum ({self.max_per_stratum}) must not be below min_per_stratum"
            )
        if 0 < self.max_per_stratum < self.least_asked:
            raise ValueError(
                f"max_per_stratum ({self.max_per_stratum}) must not be below {SAMPLEBY_LEAST} with "
                "method sampleby, or strata would often be empty; set method to exact, or "
                "min_per_stratum to 0"
            )
        mistakes = [_number_or_share(value, name) for name, value in self.strata.items()]
        if any(mistakes):
            raise ValueError("; ".join(filter(None, mistakes)))
        return self


class Labels(Section):
    classes: list[ClassName] = Field(min_length=2)
    exclude_classes: list[ClassName] = Field(min_length=1)
    folder: Location
    max_side_px: int = Field(ge=64)
    labeller: str
    of: Literal["sample", "suggest", "second_look", "leaks"]
    presort: bool
    reviewed: list[ClassName]
    file: Location
    conflicts: Literal["leave_out", "newest", "fail"]
    table: LabelTable

    @model_validator(mode="after")
    def _classes_fit(self) -> Labels:
        if len({name.casefold() for name in self.classes}) != len(self.classes):
            raise ValueError("classes must differ, also on file systems that ignore case")
        if "unlabelled" in {name.casefold() for name in self.classes}:
            raise ValueError("'unlabelled' is the folder of unlabelled images, not a class")
        for key in ("exclude_classes", "reviewed"):
            unknown = [name for name in getattr(self, key) if name not in self.classes]
            if unknown:
                raise ValueError(f"{key} {unknown} are not among classes {self.classes}")
        if set(self.exclude_classes) == set(self.classes):
            raise ValueError("exclude_classes must leave at least one class to show")
        return self


class Sheet(Section):
    max_images: int = Field(ge=1)
    max_side_px: int = Field(ge=32, le=640)
    jpeg_quality: int = Field(ge=1, le=95)


class Lookalikes(Section):
    min_cosine: float = Field(gt=0, le=1)


class Suggest(Section):
    size: int = Field(ge=1)
    random_share: float = Field(gt=0, le=1)
    sharpness: float = Field(gt=0)
    seed: int


class SecondLook(Section):
    folds: int = Field(ge=2)
    l2: float = Field(gt=0)
    seed: int


class LabelStudio(Section):
    document_root: Location
