"""The line of conf/schedule.example.cron, run as printed, with a spark-submit that only records."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "conf" / "schedule.example.cron"
# records the job, which must be there, and ends with 3 at the one that FAILS names
SUBMIT = """#!/bin/sh
for word in "$@"; do
  case "$word" in jobs/*.py) test -f "$word" || exit 9; echo "$word" >> submitted ;; esac
done
case "$*" in *"jobs/$FAILS.py"*) exit 3 ;; esac
"""
NIGHT = ["jobs/rescore_catalog.py", "jobs/build_feed.py", "jobs/write_report.py"]


def run_night(folder: Path, fails: str = "nothing") -> tuple[int, list[str]]:
    """Runs the line in a folder; returns its exit code and the jobs that were submitted."""
    (folder / "jobs").symlink_to(REPOSITORY / "jobs")
    program = folder / "spark-submit"
    program.write_text(SUBMIT)
    program.chmod(0o755)
    (line,) = [text for text in EXAMPLE.read_text().splitlines() if text[:1].isdigit()]
    command = line.split(maxsplit=5)[5]  # after cron's five fields
    command = command.replace("/srv/toiletspark", str(folder))
    command = command.replace("/tmp/toiletspark.lock", f"{folder}/lock")
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "FAILS": fails}
    done = subprocess.run(["sh", "-c", command], env=environment, check=False)
    return done.returncode, (folder / "submitted").read_text().split()


def test_a_night_rescores_feeds_and_writes_the_page_of_record(tmp_path: Path) -> None:
    assert run_night(tmp_path) == (0, NIGHT)


@pytest.mark.parametrize(("fails", "jobs"), [("rescore_catalog", 1), ("build_feed", 2)])
def test_a_night_ends_with_the_first_exit_code_but_0(tmp_path: Path, fails: str, jobs: int) -> None:
    assert run_night(tmp_path, fails) == (3, NIGHT[:jobs])
