"""Checks of cases of tables: CSV as people write it, and columns that Spark would change."""

from __future__ import annotations

from benchmarks.field.cases import Case, Check, Verdict, right, wrong

_TOILETS = {f"L000{listing}-1" for listing in (61, 64, 68, 69, 72, 76)}


def _quotes_within_a_text(case: Case) -> Verdict:
    rescored = case.toiletspark("rescore", "--set", "images.path=images.csv")
    if rescored.code:
        return rescored.refusal("images")
    fed = case.toiletspark("feed", "--set", "images.path=images.csv")
    if fed.code:
        return fed.refusal("images")
    still = _TOILETS & set(case.newest("feed").image_id)
    return wrong(f"in the feed: {sorted(still)}") if still else right("the same six are excluded")


CHECKS = [Check("01", _quotes_within_a_text, begins_with_version=True)]
