"""The spark-submit line that follows from what was found."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from toiletspark.launch.doctor import sizes
from toiletspark.launch.doctor.findings import Finding
from toiletspark.launch.doctor.memory_checks import OVERHEAD_KEY
from toiletspark.launch.doctor.observed import Observed
from toiletspark.launch.doctor.python_checks import PYTHON_KEY
from toiletspark.launch.doctor.resource_checks import THREADS_KEY

# What somebody has set is said again, so that the line stands for itself
_KEPT = (
    *(
        "spark.cores.max",
        "spark.executor.instances",
        "spark.executor.resource.gpu.amount",
        "spark.local.dir",
    ),
    *("spark.executor.resource.gpu.discoveryScript", "spark.task.resource.gpu.amount"),
    *("spark.dynamicAllocation.enabled", "spark.dynamicAllocation.maxExecutors"),
)
_LEAST_HEAP = 1024**3


def submit_line(seen: Observed, findings: Iterable[Finding], conf: Iterable[str] = ()) -> list[str]:
    """The command's words, with cores, memory, overhead and threads that fit each other, and what findings ask for.

    Args:
        seen: what was observed.
        findings: theirs win.
        conf: the configuration's files, as they were given.
    """
    found = list(findings)
    settings = {
        **_sizes(seen),
        **{key: value for one in found for key, value in one.settings.items()},
    }
    _fit(seen, settings)
    words = ["spark-submit", "--master", seen.master]
    if seen.setting("spark.submit.deployMode") == "cluster":
        words += ["--deploy-mode", "cluster"]
    words += ["--py-files", "dist/*.whl"]
    words += [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    words += ["jobs/rescore_catalog.py", *(word for file in conf for word in ("--conf-file", file))]
    sets = {key: value for one in found for key, value in one.sets.items()}
    return words + [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]


def _sizes(seen: Observed) -> dict[str, str]:
    """What executors have, if it is enough."""
    kept = {key: seen.settings[key] for key in _KEPT if key in seen.settings}
    task_cpus = str(sizes.task_cpus(seen))
    if seen.local:
        return {
            "spark.driver.memory": seen.setting("spark.driver.memory", "1g"),
            "spark.task.cpus": task_cpus,
        }
    return {
        PYTHON_KEY: seen.executors[0].python
        if seen.executors and seen.python_named
        else seen.python_asked,
        "spark.executor.cores": str(sizes.cores(seen)),
        "spark.executor.memory": sizes.written(max(_LEAST_HEAP, sizes.heap_bytes(seen)))
        if not seen.executors
        else seen.setting("spark.executor.memory", "1g"),
        OVERHEAD_KEY: "",
        "spark.task.cpus": task_cpus,
        THREADS_KEY: task_cpus,
        **kept,
    }


def _fit(seen: Observed, settings: dict[str, str]) -> None:
    """The overhead for as many tasks as there will be at once, and as many threads as a task has cores."""
    if seen.local:
        return
    at_once = max(1, int(settings["spark.executor.cores"]) // int(settings["spark.task.cpus"]))
    settings[THREADS_KEY] = settings["spark.task.cpus"]
    settings[OVERHEAD_KEY] = sizes.written(sizes.python_bytes(seen, at_once))


def as_text(words: Iterable[str]) -> str:
    """For a shell, an option a line; the wheel's name is left to the shell to find."""
    text = " ".join(word if word == "dist/*.whl" else shlex.quote(word) for word in words)
    for option in (" --master", " --deploy-mode", " --py-files", " --conf", " --set", " jobs/"):
        text = text.replace(
            f"{option}{'' if option.endswith('/') else ' '}",
            f" \\\n   {option}{'' if option.endswith('/') else ' '}",
        )
    return text
