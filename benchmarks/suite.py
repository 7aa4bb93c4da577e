"""The whole test suite: how many tests, how long, the slowest five: `make bench-tests`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

from benchmarks.measure import ROOT, machine


def main() -> None:
    started = time.monotonic()
    words = [
        sys.executable,
        "-m",
        "pytest",
        *("-n", "2", "--no-loadscope-reorder"),
        "-q",
        "--durations=5",
        "--durations-min=0",
    ]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    counts = {
        kind: int(count)
        for count, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    }
    slowest = re.findall(r"^([\d.]+)s \w+ +(\S+)", done.stdout, flags=re.MULTILINE)
    print(
        json.dumps(
            {
                **counts,
                "seconds": round(time.monotonic() - started, 1),
                "slowest": [{"test": name, "seconds": float(seconds)} for seconds, name in slowest],
                "machine": machine(),
            }
        )
    )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
