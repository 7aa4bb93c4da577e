"""Known vulnerabilities in requirements.lock, by pip-audit: `python -m release.advisories`.

Fails for what release/accepted.toml does not name with a reason, and where pip-audit itself fails.
Where its database cannot be reached, or knows none of the packages (a mirror of the index has the
files, seldom the advisories), it says so and does not fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ACCEPTED = ROOT / "release" / "accepted.toml"
SOCKET_TIMEOUT_S, WHOLE_TIMEOUT_S = 5, 120
COMMAND = [
    *(sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "requirements.lock")),
    *("--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
    *("--timeout", str(SOCKET_TIMEOUT_S)),
]
LAST_LINES = 5
# The last error of a pip-audit without an answer, in its own words or in those of requests: there
# is no connection, or a gateway answers in place of the database (certificate, status, redirect).
_UNREACHABLE = re.compile(
    r"requests\.exceptions\.\w+\b|pip_audit\._service\.interface\.\w*Error\b"
    r"|ERROR:pip_audit\._cli:(Could not connect to |PyPI is not redirecting properly)"
)
_TIP = "ERROR:pip_audit._cli:Tip: "


class AuditError(Exception):
    """pip-audit has failed, and not for want of an answer: its last words."""


@dataclass(frozen=True)
class Advisory:
    """One vulnerability of one package: all its names, and the versions that mend it."""

    package: str
    version: str
    names: tuple[str, ...]
    mended_in: tuple[str, ...]

    def __str__(self) -> str:
        mended = f"mended in {', '.join(self.mended_in)}" if self.mended_in else "not mended yet"
        return f"{self.package} {self.version}: {', '.join(self.names)}, {mended}"


@dataclass(frozen=True)
class Audit:
    """The database's answer: vulnerabilities, unknown packages, and the number asked about."""

    advisories: tuple[Advisory, ...]
    unknown: tuple[str, ...]
    asked: int


def read(output: str) -> Audit | None:
    """pip-audit's JSON; None where it is none, as after any failure."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    found = []
    for one in dependencies:
        for said in one.get("vulns", ()):
            ids = (said["id"], *said["aliases"])
            fixed = tuple(said["fix_versions"])
            found.append(Advisory(one["name"], one["version"], ids, fixed))
    unknown = tuple(one["name"] for one in dependencies if "skip_reason" in one)
    return Audit(tuple(found), unknown, len(dependencies))


def told(audit: Audit | None, accepted: Sequence[Mapping[str, str]]) -> tuple[list[str], int]:
    """The lines to print and the exit code: 1 for an unaccepted advisory, or if none was asked."""
    if audit is not None and not audit.asked:
        return ["requirements.lock names no package"], 1
    if audit is None or len(audit.unknown) == audit.asked:
        return ["not asked: the database of vulnerabilities cannot be reached from here"], 0
    lines = []
    left = {(one["package"], one["id"]): one["reason"] for one in accepted}
    failed = 0
    for advisory in audit.advisories:
        reasons = [
            left.pop((advisory.package, name))
            for name in advisory.names
            if (advisory.package, name) in left
        ]
        lines.append(
            f"{advisory}"
            + (f"; accepted: {reasons[0]}" if reasons else "; not in release/accepted.toml")
        )
        failed += not reasons
    lines += [
        f"{package} {name} is accepted, and was not found: remove it" for package, name in left
    ]
    lines += (
        [f"unknown there, so not looked at: {', '.join(audit.unknown)}"] if audit.unknown else []
    )
    known = audit.asked - len(audit.unknown)
    return [
        *lines,
        f"{known} packages looked at, {len(audit.advisories)} advisories, {failed} not accepted",
    ], int(failed > 0)


def unreachable(stderr: str) -> bool:
    """True if pip-audit has ended because the database did not answer, as its last error says."""
    errors = [
        line for line in stderr.splitlines() if line[:1].strip() and not line.startswith(_TIP)
    ]
    return bool(errors) and _UNREACHABLE.match(errors[-1]) is not None


def run(command: Sequence[str] | None = None, timeout_s: float = WHOLE_TIMEOUT_S) -> Audit | None:
    """Asks the database; None where it could not be reached, or no answer came in time.

    Raises:
        AuditError: there is no answer, for any other reason.
    """
    try:
        done = subprocess.run(
            command or COMMAND, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return None
    audit = read(done.stdout)
    if audit is None and not unreachable(done.stderr):
        words = "\n".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        raise AuditError(words or f"it ended with {done.returncode} and said nothing")
    return audit


def main() -> int:
    """Prints what is known against the locked versions."""
    accepted = tomllib.loads(ACCEPTED.read_text(encoding="utf-8")).get("accepted", [])
    try:
        lines, code = told(run(), accepted)
    except AuditError as error:
        lines = ["failed, so nothing was looked at:", *str(error).splitlines()]
        code = 1
    for line in lines:
        print(f"pip-audit: {line}")
    return code


if __name__ == "__main__":
    sys.exit(main())
