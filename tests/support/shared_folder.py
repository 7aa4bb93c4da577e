"""The folder of real photos, bad files and weights beside the repository on some machines."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def shared(*parts: str) -> Path:
    """A path in the shared folder; skips the test where it is absent, and fails it where CI is set.

    Args:
        parts: names below the folder, as in shared("weights", "a.pth").
    """
    folder = Path(os.environ.get("TOILETSPARK_SHARED") or REPOSITORY.parent / "shared")
    path = folder.joinpath(*parts)
    if path.exists():
        return path
    reason = f"there is no {path}; TOILETSPARK_SHARED names the shared folder"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
