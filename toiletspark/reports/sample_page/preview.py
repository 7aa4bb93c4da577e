"""The allocation of a sample as a table in the terminal, before anything is drawn."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from toiletspark.config import Sample
from toiletspark.config.command_line import Summary, printable
from toiletspark.config.command_line import show as show_figures
from toiletspark.sampling.allocation import Stratum


def preview(strata: Sequence[Stratum], wanted: Mapping[str, int], sample: Sample) -> Summary:
    """Returns unit, units (N in all), sampled (n in all), and `strata`.

    Of each stratum its name, N, n, fraction = n / N and weight = N / n, the design weight of the
    first stage (null where nothing is drawn).
    """
    rows = [_row(row.name, row.units, min(wanted[row.name], row.units)) for row in strata]
    return {
        "unit": sample.unit,
        "allocation": sample.allocation,
        "method": sample.method,
        "units": sum(row["N"] for row in rows),
        "sampled": sum(row["n"] for row in rows),
        "strata": rows,
    }


def show(summary: Summary, as_json: bool) -> None:
    """Prints a preview: a line per stratum and their sum, or one JSON object."""
    if as_json:
        show_figures(summary, as_json)
        return
    numbers = [Column(name, justify="right") for name in ("N", "n", "fraction", "weight")]
    table = Table("stratum", *numbers)
    for row in summary["strata"]:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(_row("in all", summary["units"], summary["sampled"])))
    print(
        f"{summary['unit']}s by {summary['allocation']} allocation, method {summary['method']}; "
        "nothing was drawn"
    )
    Console().print(table)


def _row(name: str, units: int, sampled: int) -> Summary:
    row = {"stratum": name, "N": units, "n": sampled, "fraction": sampled / units}
    return {**row, "weight": units / sampled if sampled else None}


def _cells(row: Summary) -> list[Text]:
    """The cells; strangers' names hold no markup and no control characters for the terminal."""
    weight = "none" if row["weight"] is None else f"{row['weight']:,.2f}"
    name = printable(row["stratum"])
    cells = (name, f"{row['N']:,}", f"{row['n']:,}", f"{row['fraction']:.4f}", weight)
    return [Text(cell) for cell in cells]
