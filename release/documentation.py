"""Writes the pages of docs/ that are made from the code: `make docs`.

docs/configuration.md comes from conf/base.toml, docs/tables.md from toiletspark/tables/schemas.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toiletspark.config.loading import base_text
from toiletspark.tables import schemas

DOCS = Path(__file__).resolve().parent.parent / "docs"
_HEADING = re.compile(r"# ---- (.+) ----")
_SECTION = re.compile(r"\[([\w.]+)\]")
_KEY = re.compile(r'"?([\w.]+)"? = ')

_CONFIGURATION = """\
# Configuration

Made from [conf/base.toml](../conf/base.toml) by `make docs`. Change it there.

Your own file holds only what differs:
`toiletspark run --conf mytables.toml --set sample.size=20000`. Later files win over earlier ones,
and `--set` wins over files. `""` means "not set". `${NAME}` and `${NAME:-default}` are taken from
the environment. Relative paths start at the folder in which the command runs. `toiletspark keys`
prints conf/base.toml.
"""

_TABLES = """\
# Tables

Made from [toiletspark/tables/schemas.py](../toiletspark/tables/schemas.py) by `make docs`.
Change it there.

Each table lies in a folder of its name below `output.root`, with one folder for each run:
`<root>/<table>/<run_id>/*.parquet`. A run is complete once its `_manifest.json` exists. The
manifest records schema version, rows, files, configuration and inputs. Types are Spark's.
"""


@dataclass
class Key:
    """A key of conf/base.toml: its default as TOML, its unit or values, and its effect."""

    name: str
    default: str
    unit: str
    effect: str


@dataclass
class Section:
    """A section of conf/base.toml; `group` is the heading that it stands below."""

    name: str
    group: str
    effect: str
    keys: list[Key] = field(default_factory=list)


def read_sections(text: str) -> list[Section]:
    """Reads sections and keys: the comment above a key is its effect, the one behind its unit."""
    values = tomllib.loads(text)
    sections: list[Section] = []
    group = ""
    comments: list[str] = []
    for line in text.splitlines():
        if heading := _HEADING.fullmatch(line):
            group = heading[1]
        elif line.startswith("#"):
            comments.append(line.removeprefix("#").strip())
        elif section := _SECTION.fullmatch(line):
            sections.append(Section(section[1], group, " ".join(comments)))
            comments = []
        elif key := _KEY.match(line):
            default, unit = _default_and_unit(values, sections[-1].name, key[1], line)
            sections[-1].keys.append(Key(key[1], default, unit, " ".join(comments)))
            comments = []
        elif not line:
            comments = []
    return sections


def _default_and_unit(values: dict[str, Any], section: str, key: str, line: str) -> tuple[str, str]:
    for part in section.split("."):
        values = values[part]
    if line.endswith('"""\\'):  # a long text over several lines
        return f'"{values[key]}"', "text"
    written, _, unit = line.partition(" = ")[2].partition("# ")
    return written.strip(), unit.strip()


def configuration_page() -> str:
    """Returns docs/configuration.md."""
    return "\n".join([_CONFIGURATION, *_configuration_lines(read_sections(base_text()))])


def _configuration_lines(sections: list[Section]) -> Iterator[str]:
    group = ""
    for section in sections:
        if section.group != group:
            group = section.group
            yield f"## {group.capitalize()}\n"
        yield f"### [{section.name}]\n"
        if section.effect:
            yield f"{section.effect}\n"
        if section.keys:
            yield "| key | default | unit or values | effect |\n|---|---|---|---|"
            for key in section.keys:
                cells = (f"`{key.name}`", f"`{key.default}`", key.unit, key.effect)
                yield "| " + " | ".join(_escaped(cell) for cell in cells) + " |"
            yield ""


def tables_page() -> str:
    """Returns docs/tables.md."""
    tables = [table for table in schemas.RUN_TABLES if table.columns]
    return "\n".join([_TABLES, *(_table_text(table) for table in tables)])


def _table_text(table: schemas.Table) -> str:
    rows = [
        f"| `{name}` | {type_} | {_escaped(table.meanings.get(name, ''))} |"
        for name, type_ in table.columns.items()
    ]
    key = ", ".join(f"`{name}`" for name in table.key)
    head = (
        f"## {table.name}\n\n{table.about}\n\nKey: {key}. Schema version {table.schema_version}.\n"
    )
    return "\n".join([head, "| column | type | meaning |\n|---|---|---|", *rows, ""])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


PAGES = {"configuration.md": configuration_page, "tables.md": tables_page}


def main() -> None:
    """Writes all pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
