"""Sections for heads: [train] [finetune] [score]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from toiletspark.config.types import Location, Section

View = Literal["flip", "crops"]


class Train(Section):
    optimizer: Literal["lbfgs", "adam"]
    max_iterations: int = Field(ge=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    patience: int = Field(ge=1)
    l2: Literal["auto"] | Annotated[float, Field(gt=0)]
    l2_candidates: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    variance_l2: float = Field(ge=0)
    inner_folds: int = Field(ge=2)
    class_weight: Literal["none", "balanced"]
    calibrate: bool
    validation_share: float = Field(gt=0, lt=1)
    seed: int
    views: list[View]
    finetune: Literal["none", "last_block", "all"]
    tensorboard: Location
    learning_curve: list[Annotated[float, Field(gt=0, le=1)]]
    accept_worse: str
    golden_images: int = Field(ge=0, le=100)
    python: Location

    @model_validator(mode="after")
    def _values_fit(self) -> Train:
        if self.learning_curve != sorted(set(self.learning_curve)):
            raise ValueError("learning_curve must be shares that rise")
        if self.accept_worse and not self.accept_worse.strip():
            raise ValueError("accept_worse must be a reason in words")
        return self

    @property
    def l2_path(self) -> list[float]:
        """The values of L2 to try, the strongest first."""
        return sorted(self.l2_candidates, reverse=True) if self.l2 == "auto" else [self.l2]

    @property
    def looks_inside(self) -> bool:
        """True if inner folds have something to decide."""
        return self.calibrate or self.l2 == "auto"


class Finetune(Section):
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    images_per_batch: int = Field(ge=1, le=1024)
    inner_share: float = Field(gt=0, lt=1)
    flips: bool


class Score(Section):
    head: Location
    more_heads: list[Location]
    rows_per_batch: int = Field(ge=1)
