"""Findings for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from toiletspark.config.command_line import Summary
from toiletspark.launch.doctor import submit_line
from toiletspark.launch.doctor.findings import Finding, exit_code
from toiletspark.launch.doctor.observed import Observed, Place

_MARKS = {"error": "ERROR", "warning": "WARNING", "note": "note"}


def summary(seen: Observed, findings: list[Finding], conf: list[str], seconds: float) -> Summary:
    """All that `--json` prints: findings, executors, and the submit line as words."""
    return {
        "exit_code": exit_code(findings),
        "errors": sum(finding.level == "error" for finding in findings),
        "warnings": sum(finding.level == "warning" for finding in findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "master": seen.master,
        "executors_known": seen.known,
        "executors": [_told(place) for place in seen.executors],
        "driver": _told(seen.driver),
        "median_image_bytes": seen.images.median_bytes,
        "hosts": [host.name for host in seen.images.hosts],
        "submit": submit_line.submit_line(seen, findings, conf),
        "seconds": round(seconds, 1),
    }


def show(told: Summary, as_json: bool) -> None:
    """Prints a report: what was looked at, the findings in order of harm, the submit line; or one JSON object."""
    if as_json:
        print(json.dumps(told, sort_keys=True))
        return
    print(_looked_at(told))
    for number, finding in enumerate(told["findings"], 1):
        print(
            f"\n{number}. {_MARKS[finding['level']]} ({finding['check']}): {_printable(finding['what'])}"
        )
        for name in ("where", "why", "todo"):
            if finding[name]:
                print(f"   {'do' if name == 'todo' else name}: {_printable(finding[name])}")
    if not told["exit_code"]:
        print("\nSound: nothing that harms was found.")
    print(f"\nSubmit with:\n\n{submit_line.as_text(map(_printable, told['submit']))}\n")


def _looked_at(told: Summary) -> str:
    answered = f"{len(told['executors'])} of {told['executors_known']} executors answered"
    lines = [f"{told['master']}: {answered}, {told['seconds']} s"]
    for place in told["executors"]:
        lines.append(f"  {_in_a_line(place)}")
    lines.append(f"{told['errors']} errors, {told['warnings']} warnings")
    return "\n".join(_printable(line) for line in lines)


def _in_a_line(place: dict[str, Any]) -> str:
    flags = ", ".join(flag for flag in place["cpu_flags"] if flag != "avx512f") or "no AVX2"
    return (
        f"{place['name']} on {place['host']}: Python {place['python_version']}, "
        f"torch {place['versions']['torch'] or 'none'}, {place['cores']} of {place['cpus']} CPUs, "
        f"OMP_NUM_THREADS={place['threads']}, {flags}"
    )


def _told(place: Place) -> dict[str, Any]:
    known = dataclasses.asdict(place)
    packages = known.pop("packages")
    return {
        **known,
        "cpu_flags": sorted(place.cpu_flags),
        "versions": {name: package["version"] for name, package in packages.items()},
    }


def _printable(line: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)
