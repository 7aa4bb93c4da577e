"""A case of the field: its folder, its commands, and the verdict on what they gave."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

_PARTS = ("expected:", "found:", "do:")
_TRACES = re.compile(r"Traceback \(most recent call last\)|^\s+at [\w$.]+\(", re.MULTILINE)
_COMMAND_LIMIT_S = 600


@dataclass(frozen=True)
class Verdict:
    """The verdict on a case: "right" as a user expects, "refused" by a clear error, or "wrong"."""

    word: Literal["right", "refused", "wrong"]
    why: str


def right(why: str) -> Verdict:
    """Returns the verdict that the commands gave what a user expects."""
    return Verdict("right", why)


def wrong(why: str) -> Verdict:
    """Returns the verdict that the commands gave something else, or an unclear error."""
    return Verdict("wrong", why)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command: exit code, summary (empty after an error) and messages."""

    code: int
    summary: dict[str, Any]
    messages: str  # stderr

    def refusal(self, *words: str, code: int = 2) -> Verdict:
        """Returns "refused" if the error has four parts, no trace, and each of `words`."""
        if self.code != code:
            return wrong(f"exit code {self.code} in place of {code}: {self.messages[-300:]}")
        if _TRACES.search(self.messages):
            return wrong("a stack trace")
        missing = [word for word in (*_PARTS, *words) if word not in self.messages]
        if missing:
            return wrong(f"the error does not have {missing}: {self.messages[-600:]}")
        found = self.messages.partition("found:")[2].strip()
        return Verdict("refused", found.splitlines()[0])


@dataclass(frozen=True)
class Case:
    """A case's folder in a copy of the field; `kit` beside it has a first version if wanted."""

    folder: Path

    @property
    def root(self) -> Path:
        """The output root of the kit."""
        return self.folder.parent / "kit" / "out"

    def toiletspark(self, *words: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Runs `toiletspark WORDS --conf ../kit/kit.toml --json` in the case's folder."""
        options = ["--conf", "../kit/kit.toml", "--json"]
        process = subprocess.run(
            [sys.executable, "-m", "toiletspark.jobs.cli", *words, *options],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
        lines = process.stdout.strip().splitlines()
        summary = json.loads(lines[-1]) if process.returncode == 0 and lines else {}
        return Outcome(process.returncode, summary, process.stderr)

    def python(self, *words: str) -> None:
        """Runs a Python script of the case in its folder."""
        subprocess.run([sys.executable, *words], cwd=self.folder, check=True)

    @contextmanager
    def server(self) -> Iterator[None]:
        """Runs the case's server.py."""
        process = subprocess.Popen([sys.executable, "server.py"], cwd=self.folder)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def newest(self, table: str) -> pd.DataFrame:
        """The newest run of a table of the kit's root, by pandas."""
        return _read(max(self._runs(table)))

    @property
    def excluded_before(self) -> set[str]:
        """The images that the kit's own version excludes."""
        return set(_read(min(self._runs("exclusion_list")))["image_id"])

    def _runs(self, table: str) -> list[Path]:
        return [path for path in self.root.joinpath(table).iterdir() if path.is_dir()]


def _read(run: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(run.rglob("*.parquet"))])


@dataclass(frozen=True)
class Check:
    """The check of one case."""

    number: str  # "01", the first two characters of the case's folder
    of_case: Callable[[Case], Verdict]
    begins_with_version: bool  # the kit's run comes first


def case_folder(field: Path, number: str) -> Path:
    """The folder of a case."""
    return next(field.glob(f"{number}-*"))


def restore(kept: Path, root: Path) -> None:
    """Puts a kept output root back, or removes the root if nothing was kept."""
    shutil.rmtree(root, ignore_errors=True)
    if kept.exists():
        shutil.copytree(kept, root)
