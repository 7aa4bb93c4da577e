"""What a newcomer meets: HEAD cloned into an empty folder, `make demo` and `make test`, twice each: `make bench-fresh`.

Runs without Java and without this checkout's .venv: the PATH holds this Python and the system's own tools only.
Needs nothing but the standard library. pip may find downloads in its cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="toiletspark-fresh-") as folder:
        clone, tools = Path(folder) / "toiletspark", Path(folder) / "bin"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        _link_tools(tools)
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JAVA", "VIRTUAL", "PYTHON"))
        }
        env["PATH"] = str(tools)
        for target in ("demo", "test"):
            for call in ("first", "second"):
                print(f"== make {target}, {call} call", flush=True)
                started = time.monotonic()
                done = subprocess.run(["make", target], cwd=clone, env=env, check=False)
                figures[f"{target}_{call}_s"] = round(time.monotonic() - started, 1)
                figures[f"{target}_{call}_exit"] = done.returncode
    print(json.dumps(figures))
    sys.exit(any(value for name, value in figures.items() if name.endswith("_exit")))


def _link_tools(tools: Path) -> None:
    """A PATH with this Python and what a bare Linux has, and no Java."""
    tools.mkdir()
    (tools / f"python3.{sys.version_info.minor}").symlink_to(Path(sys.executable).resolve())
    for folder in ("/usr/bin", "/bin"):
        for tool in Path(folder).iterdir():
            java = "java" in tool.name or "jvm" in str(tool.resolve())
            if not java and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)


if __name__ == "__main__":
    main()
