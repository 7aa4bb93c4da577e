"""Checks of cases of single images: URLs, hosts, cut files."""

from __future__ import annotations

from benchmarks.field.cases import Check

CHECKS: list[Check] = []
