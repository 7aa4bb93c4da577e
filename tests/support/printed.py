"""The code blocks of a page of docs/, to be run as they are printed."""

from __future__ import annotations

import re

from tests.conftest import REPOSITORY


def blocks(page: str, heading: str, language: str) -> list[str]:
    """The blocks of a language below a heading, in order."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    sections = {
        part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    }
    return re.findall(rf"^```{language}\n(.*?)^```", sections[heading], re.MULTILINE | re.DOTALL)


def all_blocks(page: str, language: str) -> list[str]:
    """The blocks of a language on the whole page, each once."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return list(
        dict.fromkeys(re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    )
