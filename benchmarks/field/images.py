"""Checks of cases of single images: URLs, hosts, cut files."""

from __future__ import annotations

import json
import time

from benchmarks.field.cases import Case, Check, Verdict, right, wrong

_MOST_EXTRA_S = (
    15.0  # for 18 more photos of a host that hangs; each took 20 s of one of six threads
)


def _settings(**settings: str) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def _filled(case: Case) -> None:
    """Writes images.csv from its template, as the case's sed does."""
    template = case.folder / "images.csv.template"
    text = template.read_text().replace("@HERE@", str(case.folder))
    (case.folder / "images.csv").write_text(text)


def _rescored(case: Case, images: str, prefix: str = "", **fetch: str) -> Verdict | None:
    """Rescores the case's table; None if that was done."""
    settings = {"images.path": images, "images.url_prefix": prefix}
    settings |= {f"fetch.{key}": value for key, value in fetch.items()}
    outcome = case.toiletspark("rescore", *_settings(**settings))
    return wrong(f"exit code {outcome.code}: {outcome.messages[-600:]}") if outcome.code else None


def _all_scored(case: Case) -> Verdict:
    status = case.newest("catalog").status.value_counts().to_dict()
    return right("24 photos scored") if status == {"ok": 24} else wrong(f"statuses {status}")


def _signed_urls(case: Case) -> Verdict:
    hosts = {"allow": '["http://127.0.0.1:8765/"]', "allow_private": '["127.0.0.0/8"]'}
    with case.server():
        failed = _rescored(case, "images.csv", **hosts)
    return failed or _all_scored(case)


def _file_urls(case: Case) -> Verdict:
    _filled(case)
    return _rescored(case, "images.csv", allow='["../kit/photos/"]') or _all_scored(case)


def _hanging_host(case: Case) -> Verdict:
    hosts = {"fetch.allow": '["http://127.0.0.1:8766/"]', "fetch.allow_private": '["127.0.0.0/8"]'}
    common = {"images.url_prefix": "", "listings.path": "", "output.root": "out", **hosts}
    seconds = {}
    for count in (6, 24):
        with case.server():
            begun = time.monotonic()
            root = {"images.path": f"images-{count}.csv", "output.root": f"out-{count}"}
            outcome = case.toiletspark("embed", *_settings(**{**common, **root}))
            seconds[count] = time.monotonic() - begun
        if outcome.code not in (0, 3):
            return wrong(f"exit code {outcome.code}: {outcome.messages[-600:]}")
        if "127.0.0.1:8766" not in json.dumps(outcome.summary) + outcome.messages:
            return wrong("the host is not named")
    told = f"{seconds[6]:.0f} s for 6 photos, {seconds[24]:.0f} s for 24"
    return right(told) if seconds[24] - seconds[6] < _MOST_EXTRA_S else wrong(told)


def _blanks_before_a_url(case: Case) -> Verdict:
    _filled(case)
    folder = '["../kit/photos/"]'
    if failed := _rescored(case, "images.csv", allow=folder):
        return failed
    shown = _settings(**{"images.path": "images.csv", "images.url_prefix": ""})
    fed = case.toiletspark("feed", *shown, *_settings(**{"fetch.allow": folder}))
    if fed.code:
        return wrong(f"feed: {fed.messages[-600:]}")
    decided = case.newest("decisions").set_index("image_id").decision
    still = set(case.newest("feed").image_id) & set(decided[decided == "exclude"].index)
    verdict = _all_scored(case)
    return wrong(f"in the feed: {sorted(still)}") if still else verdict


def _half_a_jpeg(case: Case) -> Verdict:
    if failed := _rescored(case, "images.csv", prefix="../"):
        return failed
    status = case.newest("catalog").status.value_counts().to_dict()
    return (right if status == {"ok": 24, "truncated": 1} else wrong)(f"statuses {status}")


CHECKS = [
    Check("14", _signed_urls, begins_with_version=True),
    Check("15", _file_urls, begins_with_version=True),
    Check("26", _hanging_host, begins_with_version=False),
    Check("29", _blanks_before_a_url, begins_with_version=True),
    Check("36", _half_a_jpeg, begins_with_version=True),
]
