"""The readers that docs/readers.md prints, as code that runs in tests and measurements."""

from __future__ import annotations

import re
from types import CodeType

from benchmarks.measure import ROOT

PAGE = ROOT / "docs" / "readers.md"
_PRINTED_ROOT = '"/data/toiletspark-output"'


def printed() -> dict[str, str]:
    """The code blocks by the heading that they stand under."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {
        section.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
        for section in sections
    }
    return {heading: blocks[0] for heading, blocks in found.items() if len(blocks) == 1}


def code(heading: str, root: str) -> CodeType:
    """A block, compiled, for another root; nothing else of it is changed.

    Raises:
        ValueError: the block does not name the root of the page, once.
    """
    text = printed()[heading]
    if text.count(_PRINTED_ROOT) != 1:
        raise ValueError(f"{heading}: {PAGE.name} must name root = {_PRINTED_ROOT} once")
    return compile(text.replace(_PRINTED_ROOT, repr(root)), f"{PAGE.name}: {heading}", "exec")
