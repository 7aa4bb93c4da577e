"""`make check` on packages: all installed are pinned, locked by hash, and advisories are told."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from release import advisories, pins
from release.advisories import Advisory, Audit
from tests.conftest import REPOSITORY

CONSTRAINTS = "# comment\nFlask-Cors==6.0.5\nnumpy==1.26.4\n"
LOCK = (
    "#    make lock\n"
    f"flask-cors==6.0.5 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
    f"numpy==1.26.4 \\\n    --hash=sha256:{'c' * 64}\n"
)
SOUND = {"flask-cors": "6.0.5", "numpy": "1.26.4"}


# Pins


@pytest.mark.skipif(
    find_spec("petastorm") is None, reason="constraints.txt names the other environment"
)
def test_what_is_pinned_locked_and_installed_here_agrees() -> None:
    assert (
        pins.problems(pins.CONSTRAINTS.read_text(), pins.LOCK.read_text(), pins.installed()) == []
    )


def test_a_sound_example_has_no_problems() -> None:
    assert pins.problems(CONSTRAINTS, LOCK, SOUND) == []
    assert pins.problems(CONSTRAINTS, LOCK, {}) == []  # less may be installed: extras are extras


@pytest.mark.parametrize(
    ("constraints", "lock", "found", "told"),
    [
        (
            CONSTRAINTS,
            LOCK,
            {**SOUND, "leftpad": "1.0"},
            "leftpad 1.0 is installed; constraints.txt: does not name it",
        ),
        (
            CONSTRAINTS,
            LOCK,
            {**SOUND, "numpy": "2.0"},
            "numpy 2.0 is installed; constraints.txt: 1.26.4",
        ),
        (
            CONSTRAINTS + "six==1.17.0\n",
            LOCK,
            SOUND,
            "six 1.17.0 is in constraints.txt; requirements.lock: does not name it",
        ),
        (
            CONSTRAINTS.replace("numpy==1.26.4\n", ""),
            LOCK,
            {},
            "numpy 1.26.4 is in requirements.lock; constraints.txt: does not name it",
        ),
        (
            CONSTRAINTS,
            LOCK.replace("c" * 64, "c" * 63),
            SOUND,
            "numpy has no hash in requirements.lock",
        ),
        (
            CONSTRAINTS,
            LOCK.replace(" \\\n    --hash=sha256:" + "c" * 64, ""),
            SOUND,
            "numpy has no hash",
        ),
    ],
)
def test_what_does_not_agree_is_told(
    constraints: str, lock: str, found: dict[str, str], told: str
) -> None:
    (line,) = pins.problems(constraints, lock, found)
    assert line.startswith(told)


def test_the_lock_names_no_host_and_only_pinned_versions() -> None:
    lines = pins.LOCK.read_text().splitlines()
    assert [line for line in lines if "://" in line or line.startswith("-")] == []
    allowed = re.compile(r"#.*|[a-z0-9.-]+==[^ ]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not allowed.fullmatch(line)] == []


# Advisories


def answered(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


SOUND_ONE = {"name": "numpy", "version": "1.26.4", "vulns": []}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found"}
VULNERABLE = {
    "name": "pillow",
    "version": "12.0.0",
    "vulns": [
        {
            "id": "PYSEC-1",
            "aliases": ["CVE-2026-96639"],
            "fix_versions": ["13.0.0"],
            "description": "...",
        }
    ],
}
FOUND = Advisory("pillow", "12.0.0", ("PYSEC-1", "CVE-2026-96639"), ("13.0.0",))


def test_pip_audits_answer_is_read() -> None:
    assert advisories.read(answered(SOUND_ONE, VULNERABLE, UNKNOWN)) == Audit(
        (FOUND,), ("ours",), 3
    )
    assert advisories.read("") is None
    assert advisories.read("[]") is None


def test_an_advisory_fails_unless_it_is_accepted_for_a_reason() -> None:
    audit = Audit((FOUND,), (), 2)
    last = "2 packages looked at, 1 advisories, "
    lines, code = advisories.told(audit, [])
    assert (code, lines[-1]) == (1, f"{last}1 not accepted")
    named = "pillow 12.0.0: PYSEC-1, CVE-2026-96639, mended in 13.0.0"
    assert lines[0] == f"{named}; not in release/accepted.toml"
    other = [{"package": "numpy", "id": "PYSEC-1", "reason": "no"}]
    assert advisories.told(audit, other)[1] == 1
    accepted = [{"package": "pillow", "id": "CVE-2026-96639", "reason": "not reached"}]
    assert advisories.told(audit, accepted) == (
        [f"{named}; accepted: not reached", f"{last}0 not accepted"],
        0,
    )
    assert advisories.told(Audit((), (), 2), accepted)[0][0] == (
        "pillow CVE-2026-96639 is accepted, and was not found: remove it"
    )


@pytest.mark.parametrize("audit", [None, Audit((), ("a", "b"), 2)])
def test_no_database_is_told_and_is_no_failure(audit: Audit | None) -> None:
    lines, code = advisories.told(audit, [])
    assert (lines, code) == (
        ["not asked: the database of vulnerabilities cannot be reached from here"],
        0,
    )


def test_without_a_network_it_ends_soon_and_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert advisories.run() is None
    assert (
        advisories.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2) is None
    )


def saying(stderr: str, stdout: str = "") -> list[str]:
    """A command that ends with code 1 after these words."""
    return [sys.executable, "-c", f"import sys; print({stdout!r}); sys.exit({stderr!r})"]


@pytest.mark.parametrize(
    "stderr",
    [
        "Traceback:\n  raise\nrequests.exceptions.ConnectionError: Failed to resolve 'pypi.org'",
        "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='pypi.org', port=443): "
        "Read timed out.",
        "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\n"
        "ERROR:pip_audit._cli:Tip: your network",
        "ERROR:pip_audit._cli:PyPI is not redirecting properly\n"
        "ERROR:pip_audit._cli:Tip: your network may be blocking",
        "requests.exceptions.SSLError: certificate verify failed: "
        "self-signed certificate in certificate chain",
        "requests.exceptions.HTTPError: 403 Client Error: Forbidden by the gateway",
        "pip_audit._service.interface.ServiceError",
    ],
)
def test_a_failed_connection_is_no_answer(stderr: str) -> None:
    assert advisories.run(saying(stderr)) is None


@pytest.mark.parametrize(
    "stderr",
    [
        "/usr/bin/python: No module named pip_audit",
        "requests.exceptions.ConnectionError: refused\n\nDuring another:\n\nKeyError: 'vulns'",
        "ERROR:pip_audit._cli:the requirements file has no hash for absl-py",
    ],
)
def test_any_other_end_is_a_failure_with_its_last_words(stderr: str) -> None:
    with pytest.raises(advisories.AuditError) as failed:
        advisories.run(saying("first\n" * 50 + stderr))
    words = str(failed.value)
    assert words.endswith(stderr)
    assert words.count("first") < 10
    with pytest.raises(advisories.AuditError, match="ended with 1 and said nothing"):
        advisories.run(saying(""))


HASH = f"--hash=sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("lock", "told"),
    [
        ("numpy==1.26.4\n", "requirement numpy==1.26.4 does not contain a hash"),
        (f"numpy=>1 {HASH}\n", "invalid specifier"),
        (None, "invalid requirements input"),
        ("", "names no package"),
    ],
)
def test_a_lock_that_cannot_be_audited_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lock: str | None,
    told: str,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    here = tmp_path / "requirements.lock"
    if lock is not None:
        here.write_text(lock)
    locked = str(REPOSITORY / "requirements.lock")
    monkeypatch.setattr(
        advisories,
        "COMMAND",
        [str(here) if word == locked else word for word in advisories.COMMAND],
    )
    assert advisories.main() == 1
    said = capsys.readouterr().out
    assert told in said
    assert "cannot be reached" not in said


def test_every_accepted_advisory_has_a_reason() -> None:
    accepted = advisories.tomllib.loads((REPOSITORY / "release" / "accepted.toml").read_text())[
        "accepted"
    ]
    assert [
        one
        for one in accepted
        if set(one) != {"id", "package", "reason"} or len(one["reason"]) < 20
    ] == []
