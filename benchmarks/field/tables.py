"""Checks of cases of tables: CSV as people write it, and columns that Spark would change."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd
import polars

from benchmarks.field.cases import Case, Check, Outcome, Verdict, right, wrong


def _quotes_within_a_text(case: Case) -> Verdict:
    rescored = case.toiletspark("rescore", "--set", "images.path=images.csv")
    if rescored.code:
        return rescored.refusal("images")
    fed = case.toiletspark("feed", "--set", "images.path=images.csv")
    if fed.code:
        return fed.refusal("images")
    table = pd.read_csv(case.folder / "images.csv", dtype=str)
    return _feed_of(case, table) or right("the same images are excluded, the other texts are whole")


def _line_breaks_in_the_feed(case: Case) -> Verdict:
    fed = _fed(case, "feed.csv", "csv")
    if fed:
        return fed
    table = pd.read_csv(case.folder / "feed.csv", dtype=str)
    return _feed_of(case, table) or right("the other rows with their texts whole")


def _line_break_in_a_location(case: Case) -> Verdict:
    return _previewed(case, "listings.csv", "csv", {"Lindenhof\nEast"})


def _another_encoding(case: Case) -> Verdict:
    preview = _preview(case, "listings.csv", "csv")
    if preview.code:
        return preview.refusal('listings.options = { encoding = "ISO-8859-1" }', "\ufffd")
    return wrong("no error, and one stratum for Köln and Käln")


def _leading_zeros(case: Case) -> Verdict:
    fed = _fed(case, "feed", "parquet")
    if fed:
        return fed
    agencies = set(case.newest("feed").agency)
    return right("text") if agencies == {"00123", "00045"} else wrong(f"agencies {agencies}")


def _folder_names_beyond_ascii(case: Case) -> Verdict:
    return _previewed(case, "listings", "parquet", {"Köln", "Zürich"})


def _unchanged(*files: str) -> Callable[[Case], Verdict]:
    """Returns a check that feeds built from Parquet files have their rows, as pandas reads them."""

    def check(case: Case) -> Verdict:
        for file in files:
            problem = _fed(case, file, "parquet")
            problem = problem or _feed_of(case, pd.read_parquet(case.folder / file))
            if problem:
                return problem
        return right("as it went in")

    return check


def _read_by_polars(case: Case) -> Verdict:
    fed = case.toiletspark("feed")
    if fed.code:
        return wrong(fed.messages[-300:])
    rows = polars.read_parquet(f"{fed.summary['feed']}/*.parquet").height
    page = Path("docs/feed.md").read_text(encoding="utf-8")
    is_told = 'polars.read_parquet(f"{folder}/*.parquet")' in page
    return right(f"{rows} rows") if is_told and rows == fed.summary["feed_out"] else wrong("not so")


def _fed(case: Case, path: str, written_as: str) -> Verdict | None:
    """Builds the feed from a table of the case; None if it was built."""
    sets = ("--set", f"feed.path={path}", "--set", f"feed.format={written_as}")
    fed = case.toiletspark("feed", *sets)
    return fed.refusal("feed") if fed.code else None


def _feed_of(case: Case, table: pd.DataFrame) -> Verdict | None:
    """Compares the newest feed with its table, less the excluded images; None if they agree."""
    wanted = table[~table["image_id"].isin(case.excluded_before)]
    records = sorted(map(repr, wanted.to_dict("records")))
    rows = sorted(map(repr, case.newest("feed").to_dict("records")))
    others = [row for row in rows if row not in records]
    if others or len(rows) != len(wanted):
        return wrong(f"{len(rows)} rows of {len(wanted)}, among them {others[:2]}")
    return None


def _preview(case: Case, path: str, written_as: str) -> Outcome:
    sets = ("--set", f"listings.path={path}", "--set", f"listings.format={written_as}")
    return case.toiletspark("sample", "--preview", *sets)


def _previewed(case: Case, path: str, written_as: str, locations: Collection[str]) -> Verdict:
    """Compares the strata of a preview with these locations, which must be among them."""
    preview = _preview(case, path, written_as)
    if preview.code:
        return preview.refusal("listings")
    strata = {row["stratum"].rpartition(" | ")[0] for row in preview.summary["strata"]}
    if "unknown" in strata or not set(locations) <= strata:
        return wrong(f"strata {sorted(strata)}")
    return right(f"strata {sorted(strata)}")


CHECKS = [
    Check("01", _quotes_within_a_text, begins_with_version=True),
    Check("02", _line_breaks_in_the_feed, begins_with_version=True),
    Check("03", _line_break_in_a_location, begins_with_version=False),
    Check("04", _another_encoding, begins_with_version=False),
    Check("07", _leading_zeros, begins_with_version=True),
    Check("08", _folder_names_beyond_ascii, begins_with_version=False),
    Check("12", _unchanged("feed.parquet"), begins_with_version=True),
    Check("13", _unchanged("feed.parquet"), begins_with_version=True),
    Check("30", _read_by_polars, begins_with_version=True),
    Check(
        "35",
        _unchanged("field-with-a-blank.parquet", "backtick.parquet"),
        begins_with_version=True,
    ),
]
