"""A real Iceberg: a run reads one version of a table, whatever is written meanwhile.

Its jar comes from Maven, or out of a wheel that ships it, and is in no environment of ours:

    TOILETSPARK_ICEBERG_JARS=/.../iceberg-spark-runtime-3.5_2.12-1.10.2.jar pytest tests/tables
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

JARS = os.environ.get("TOILETSPARK_ICEBERG_JARS", "")


@pytest.mark.skipif(not JARS, reason="TOILETSPARK_ICEBERG_JARS names no jar of Iceberg")
def test_a_run_reads_one_version_of_an_iceberg_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.iceberg_tables", JARS, str(tmp_path)]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == {
        "version of the empty lake.portal.photos": "",
        "lake.portal.photos": ["ab", "ab", "abc"],
        "version of the empty default.photos": "",
        "default.photos": ["ab", "ab", "abc"],
        "path": ["bc", "bc", "bcd"],
        "as Parquet": "a table of iceberg (metadata/*.metadata.json): rows that were deleted or "
        "replaced in it would come back",
    }
