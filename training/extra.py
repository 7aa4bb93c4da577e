"""The extra [train]: asked for before anything of it is imported, or Python would end with a stack trace."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from toiletspark.errors import UserError

NEEDED = ("petastorm", "scipy", "threadpoolctl", "cleanlab", "matplotlib")


def require(*, doing: str) -> None:
    """Stops where this Python has not what training imports.

    Raises:
        UserError: with the packages that are missing, and this Python's place.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            doing=doing,
            expected="the extra [train] in this Python, or in the one that train.python names",
            found=f"no {', '.join(missing)} for {sys.executable}",
            todo="make a virtual environment with Python 3.11, pip install 'toiletspark[train]' there (Spark 3.5 comes "
            "along and is not started), and set train.python to its bin/python",
        )
