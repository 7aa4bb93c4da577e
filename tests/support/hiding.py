"""A process that sees neither the sources nor this Python: a mount namespace (Linux)."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import REPOSITORY

_UNSHARE = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), "--mount"]
CAN_HIDE = subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode == 0


def hidden() -> list[Path]:
    """This machine's Python and its packages, unless they are in the system's own folder."""
    places = {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)} - {
        Path("/usr"),
        Path("/usr/local"),
    }
    return sorted(one for one in places if not any(other in one.parents for other in places))


def blind(command: Sequence[str | Path], *more: Path) -> list[str]:
    """The command, to be run where `hidden` and more folders are empty; replaces the process."""
    mounts = [f"mount -t tmpfs none {shlex.quote(str(place))}" for place in (*hidden(), *more)]
    script = " && ".join([*mounts, 'exec "$@"'])
    return [*_UNSHARE, "sh", "-c", script, "sh", *map(str, command)]
