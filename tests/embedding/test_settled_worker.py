"""What a Python worker is spared around its tasks, in a process of its own since it is not undone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

_PROGRAM = """
import gc, importlib, sys, zipimport
from toiletspark.embedding import tasks as embedding

sys.path.insert(0, {first!r})
import from_first
read = []
read_directory = zipimport._read_directory
zipimport._read_directory = lambda archive: (read.append(archive), read_directory(archive))[1]
{settled}
importlib.invalidate_caches()
print(read.count({first!r}), gc.get_freeze_count() > 10_000)
sys.path.append({second!r})
import from_second
print(from_second.answer)
"""


def ran(tmp_path: Path, settled: str) -> list[str]:
    for name in ("first", "second"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"from_{name}.py", "answer = 42")
    first, second = (str(tmp_path / f"{name}.zip") for name in ("first", "second"))
    program = textwrap.dedent(_PROGRAM).format(first=first, second=second, settled=settled)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_settled_worker_reads_no_archive_again_and_still_finds_new_ones(tmp_path: Path) -> None:
    assert ran(tmp_path, "embedding.settle()") == ["0", "True", "42"]


def test_a_worker_that_is_not_settled_reads_them_before_each_task(tmp_path: Path) -> None:
    assert ran(tmp_path, "") == ["1", "False", "42"]
