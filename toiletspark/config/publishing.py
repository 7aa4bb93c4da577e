"""Sections for versions: [publish] with its policy, failures and audits; [leaks] [report]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from toiletspark.config.types import Section, Share

PolicyName = Literal[
    "fixed", "max_share_of_good_images_lost", "min_recall", "min_precision", "cost_ratio"
]


_UNUSED_THRESHOLD = 0.5  # as in base.toml: nobody has set another


class Policy(Section):
    name: PolicyName
    value: float = Field(ge=0, allow_inf_nan=False)
    safe: bool

    @model_validator(mode="after")
    def _value_fits(self) -> Policy:
        if self.name != "fixed" and not self.value > 0:
            raise ValueError(f"{self.name} needs a value above 0")
        if self.name not in ("fixed", "cost_ratio") and self.value > 1:
            raise ValueError(f"the value of {self.name} is a share, at most 1")
        return self


class Failures(Section):
    content: Literal["exclude", "unscored"]
    transient: Literal["exclude", "unscored"]
    gone: Literal["exclude", "unscored"]
    input: Literal["exclude", "unscored"]
    policy: Literal["exclude", "unscored"]


class Audits(Section):
    min_images: int = Field(ge=1)
    history: int = Field(ge=1)
    min_share_of_last: Share
    max_share_excluded: Share
    max_change_excluded: float = Field(ge=1)
    max_share_unscored: Share
    max_rise_unscored: Share
    max_share_policy: Share
    max_share_listings_emptied: Share
    max_catalog_age_h: float = Field(ge=0)
    max_psi: float = Field(ge=0)


class Publish(Section):
    operating_threshold: Share
    policy: Policy
    min_recall: Share
    hysteresis: Annotated[float, Field(ge=0, lt=0.5)]
    failures: Failures
    keep_score_days: float = Field(ge=0)
    valid_for_h: float = Field(ge=0)
    keep_days: float = Field(ge=0)
    keep_unpublished_days: float = Field(ge=0)
    require_approval: bool
    plan: bool
    approve: str
    once: bool
    accept: list[str]
    because: str
    catalog_table: str
    audits: Audits

    @model_validator(mode="after")
    def _values_fit(self) -> Publish:
        if self.accept and not self.because.strip():
            raise ValueError(
                "accept needs because: the reason in words; it is kept with the version"
            )
        if self.policy.name != "fixed" and self.operating_threshold != _UNUSED_THRESHOLD:
            raise ValueError(
                f"operating_threshold {self.operating_threshold:g} counts only with policy.name "
                f"fixed, and it is {self.policy.name}: set publish.policy.name=fixed, or remove it"
            )
        if self.plan and self.approve:
            raise ValueError("one of plan and approve, not both")
        return self


class Leaks(Section):
    size: int = Field(ge=1)
    even_share: float = Field(gt=0, le=1)
    seed: int
    each_run: bool


class Report(Section):
    max_excluded: int = Field(ge=0)
    max_borderline: int = Field(ge=0)
    max_mistakes: int = Field(ge=0)
