"""constraints.txt and requirements.lock name all that is installed: `python -m release.pins`.

The lock is made from constraints.txt by `make lock`, never by hand; its hashes are those that the
package index tells.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSTRAINTS, LOCK = ROOT / "constraints.txt", ROOT / "requirements.lock"
OURS = "toiletspark"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", flags=re.MULTILINE)
_HASHED = re.compile(
    r"^[A-Za-z0-9._-]+==\S+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", flags=re.MULTILINE
)


def normal(name: str) -> str:
    """A distribution's name as the index compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """name -> version of every line `name==version`."""
    return {normal(name): version for name, version in _PINNED.findall(text)}


def installed() -> dict[str, str]:
    """name -> version of all that this Python has, but for toiletspark."""
    found = {normal(one.metadata["Name"]): one.version for one in metadata.distributions()}
    return {name: version for name, version in found.items() if name != OURS}


def differences(found: Mapping[str, str], wanted: Mapping[str, str], what: str) -> Iterator[str]:
    """A line for each distribution of `found` with another version in `wanted`, or none."""
    for name, version in sorted(found.items()):
        if wanted.get(name) != version:
            yield f"{name} {version} {what} {wanted.get(name, 'does not name it')}"


def problems(constraints: str, lock: str, found: Mapping[str, str]) -> list[str]:
    """Everything that does not agree, a line each."""
    wanted, locked = pinned(constraints), pinned(lock)
    return [
        *differences(found, wanted, "is installed; constraints.txt:"),
        *differences(wanted, locked, "is in constraints.txt; requirements.lock:"),
        *differences(locked, wanted, "is in requirements.lock; constraints.txt:"),
        *(
            f"{name} has no hash in requirements.lock"
            for name in sorted(locked.keys() - pinned(_hashed(lock)).keys())
        ),
    ]


def _hashed(lock: str) -> str:
    return "".join(match.group(0) for match in _HASHED.finditer(lock))


def main() -> int:
    """Prints what does not agree; 1 if anything does not."""
    found = problems(
        CONSTRAINTS.read_text(encoding="utf-8"), LOCK.read_text(encoding="utf-8"), installed()
    )
    for line in found:
        print(f"pins: {line}", file=sys.stderr)
    if found:
        print(
            "pins: name it in constraints.txt, run `make lock`, or remove it from .venv",
            file=sys.stderr,
        )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
