"""Checks of cases of words, labels and configuration as people write them."""

from __future__ import annotations

from benchmarks.field.cases import Check

CHECKS: list[Check] = []
