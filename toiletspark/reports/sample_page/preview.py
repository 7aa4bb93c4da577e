"""The allocation as a table, for people who think before they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from toiletspark.config import Sample
from toiletspark.config.command_line import Summary
from toiletspark.config.command_line import show as show_figures
from toiletspark.sampling.allocation import Stratum


def preview(cells: Sequence[Stratum], wanted: Mapping[str, int], sample: Sample) -> Summary:
    """What a draw would take.

    Returns:
        unit, units (N in all), sampled (n in all), and `strata`: for each its name, N, n, fraction = n / N and
        weight = N / n, the design weight of the first stage (null where nothing is drawn).
    """
    rows: list[Summary] = []
    for cell in cells:
        n = min(wanted[cell.name], cell.units)
        weight = cell.units / n if n else None
        rows.append(
            {
                "stratum": cell.name,
                "N": cell.units,
                "n": n,
                "fraction": n / cell.units,
                "weight": weight,
            }
        )
    sums = {"units": sum(row["N"] for row in rows), "sampled": sum(row["n"] for row in rows)}
    return {
        "unit": sample.unit,
        "allocation": sample.allocation,
        "method": sample.method,
        **sums,
        "strata": rows,
    }


def show(summary: Summary, as_json: bool) -> None:
    """Prints a preview: a line per stratum and their sum, or one JSON object."""
    if as_json:
        show_figures(summary, as_json)
        return
    table = Table(
        "stratum", *(Column(name, justify="right") for name in ("N", "n", "fraction", "weight"))
    )
    total = {"stratum": "in all", "N": summary["units"], "n": summary["sampled"]}
    total |= {
        "fraction": total["n"] / total["N"],
        "weight": total["N"] / total["n"] if total["n"] else None,
    }
    for row in summary["strata"]:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(total))
    print(
        f"{summary['unit']}s by {summary['allocation']} allocation, method {summary['method']}; nothing was drawn"
    )
    Console().print(table)


def _cells(row: Summary) -> list[Text]:
    """Strangers' text as text: no markup, and no control characters for the terminal."""
    name = "".join(
        sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in row["stratum"]
    )
    weight = "none" if row["weight"] is None else f"{row['weight']:,.2f}"
    return [
        Text(text)
        for text in (name, f"{row['N']:,}", f"{row['n']:,}", f"{row['fraction']:.4f}", weight)
    ]
