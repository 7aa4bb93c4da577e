"""Tables as CSV for people, who open them in a spreadsheet: no cell is taken for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header line and a line per row; null is an empty cell. Texts from strangers are defused."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([defused(name) for name in header])
    writer.writerows([["" if cell is None else defused(str(cell)) for cell in row] for row in rows])
    return written.getvalue()


def defused(cell: str) -> str:
    """The cell with an apostrophe before it, where a spreadsheet would calculate it.

    Source: OWASP, "CSV Injection".

    >>> defused("=HYPERLINK(1)"), defused("Bonn")
    ("'=HYPERLINK(1)", 'Bonn')
    """
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
