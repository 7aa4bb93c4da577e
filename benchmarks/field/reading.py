"""Checks of cases of environments, paths and files that cannot be read."""

from __future__ import annotations

from benchmarks.field.cases import Check

CHECKS: list[Check] = []
