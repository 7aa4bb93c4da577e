"""Checks of cases of the process itself: environment, locale."""

from __future__ import annotations

import shutil

from benchmarks.field.cases import Case, Check, Verdict, right, wrong


def _java_home_that_is_not_there(case: Case) -> Verdict:
    home = "/opt/no-such-java"
    preview = case.toiletspark("sample", "--preview", env={"JAVA_HOME": home})
    return preview.refusal(f"JAVA_HOME={home}", "bin/java", "unset JAVA_HOME")


def _locale_without_utf8(case: Case) -> Verdict:
    root = case.folder / "Zürich"
    embedded = case.toiletspark("embed", "--set", f"output.root={root.name}", env={"LC_ALL": "C"})
    others = [path.name for path in case.folder.iterdir() if path.name.startswith("Z")]
    if embedded.code:
        refused = embedded.refusal("LC_ALL")
        return wrong(f"left behind: {others}") if others else refused
    is_whole = others == [root.name] and embedded.summary["embedded"] == 24
    shutil.rmtree(root)
    return right("24 images in one folder") if is_whole else wrong(f"{others}: {embedded.summary}")


CHECKS = [
    Check("21", _java_home_that_is_not_there, begins_with_version=False),
    Check("22", _locale_without_utf8, begins_with_version=False),
]
