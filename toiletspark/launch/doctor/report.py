"""Findings for people and for programs, and the spark-submit line that follows from them."""

import dataclasses
import json
import shlex
from collections.abc import Iterable
from typing import Any

from toiletspark.config.command_line import Summary, printable
from toiletspark.launch import settings
from toiletspark.launch.doctor import resource_checks as resources
from toiletspark.launch.doctor.findings import Finding, exit_code
from toiletspark.launch.doctor.observed import Executor, Observed
from toiletspark.launch.doctor.python_checks import PYTHON_KEY

# Settings that begin so are repeated, so that the line is complete
_KEPT = (
    *("spark.cores.max", "spark.executor.instances", "spark.local.dir"),
    *("spark.executor.resource.", "spark.task.resource.", "spark.dynamicAllocation."),
)
_WHEEL = "dist/*.whl"  # the shell expands it
_ON_NEW_LINES = ("--master", "--deploy-mode", "--py-files", "--conf", "--set")


def summary(cluster: Observed, findings: list[Finding], conf: list[str], seconds: float) -> Summary:
    """Returns the content of `--json`: findings, executors, and the words of the submit line."""
    return {
        "exit_code": exit_code(findings),
        "errors": sum(finding.level == "error" for finding in findings),
        "warnings": sum(finding.level == "warning" for finding in findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "master": cluster.master,
        "executors_known": cluster.known,
        "executors": [_as_dict(executor) for executor in cluster.executors],
        "driver": _as_dict(cluster.driver),
        "median_image_bytes": cluster.images.median_bytes,
        "hosts": [host.name for host in cluster.images.hosts],
        "submit": submit_line(cluster, findings, conf),
        "seconds": round(seconds, 1),
    }


def show(report: Summary, as_json: bool) -> None:
    """Prints executors, findings in order of harm and the submit line, or one JSON object."""
    if as_json:
        print(json.dumps(report, sort_keys=True))
        return
    executors = report["executors"]
    answered = f"{len(executors)} of {report['executors_known']} executors answered"
    lines = [f"{report['master']}: {answered}, {report['seconds']} s"]
    lines += [f"  {_executor_line(executor)}" for executor in executors]
    lines.append(f"{report['errors']} errors, {report['warnings']} warnings")
    for number, finding in enumerate(report["findings"], 1):
        mark = finding["level"] if finding["level"] == "note" else finding["level"].upper()
        lines += ["", f"{number}. {mark} ({finding['check']}): {finding['what']}"]
        for key, label in (("where", "where"), ("why", "why"), ("todo", "do")):
            if finding[key]:
                lines.append(f"   {label}: {finding[key]}")
    if not report["exit_code"]:
        lines += ["", "Sound: nothing that harms was found."]
    print("\n".join(map(printable, lines)))
    print(f"\nSubmit with:\n\n{as_text(map(printable, report['submit']))}\n")


def _executor_line(executor: dict[str, Any]) -> str:
    flags = ", ".join(flag for flag in executor["cpu_flags"] if flag != "avx512f")
    return (
        f"{executor['name']} on {executor['host']}: Python {executor['python_version']}, "
        f"torch {executor['versions']['torch'] or 'none'}, "
        f"{executor['cores']} of {executor['cpus']} CPUs, "
        f"OMP_NUM_THREADS={executor['threads']}, {flags or 'no AVX2'}"
    )


def _as_dict(executor: Executor) -> dict[str, Any]:
    fields = dataclasses.asdict(executor)
    packages = fields.pop("packages")
    fields["cpu_flags"] = sorted(executor.cpu_flags)
    fields["versions"] = {name: package["version"] for name, package in packages.items()}
    return fields


def submit_line(cluster: Observed, findings: list[Finding], conf: Iterable[str] = ()) -> list[str]:
    """Returns the command's words, with cores, memory, overhead and threads that fit each other.

    The settings of findings win over those of the cluster; `conf` has configuration files.
    """
    spark, sets = _sizes(cluster), dict[str, str]()
    for finding in findings:
        spark |= finding.settings
        sets |= finding.sets
    if not cluster.is_local:
        cpus = spark[settings.TASK_CPUS]
        at_once = max(1, int(spark["spark.executor.cores"]) // int(cpus))
        overhead = resources.needed_overhead(cluster, at_once)
        spark[settings.THREADS] = cpus
        spark[resources.OVERHEAD_KEY] = resources.format_size(overhead)
    words = ["spark-submit", "--master", cluster.master]
    if cluster.setting("spark.submit.deployMode") == "cluster":
        words += ["--deploy-mode", "cluster"]
    words += ["--py-files", _WHEEL, *_options("--conf", spark), "jobs/rescore_catalog.py"]
    files = [word for file in conf for word in ("--conf-file", file)]
    return [*words, *files, *_options("--set", sets)]


def _sizes(cluster: Observed) -> dict[str, str]:
    """The sizes that driver or executors have now."""
    task_cpus = str(resources.task_cpus(cluster))
    if cluster.is_local:
        memory = cluster.setting("spark.driver.memory", "1g")
        return {"spark.driver.memory": memory, settings.TASK_CPUS: task_cpus}
    has_answers = cluster.executors and cluster.python_named
    return {
        PYTHON_KEY: cluster.executors[0].python if has_answers else cluster.python_asked,
        "spark.executor.cores": str(resources.executor_cores(cluster)),
        "spark.executor.memory": cluster.setting("spark.executor.memory", "1g"),
        resources.OVERHEAD_KEY: "",
        settings.TASK_CPUS: task_cpus,
        settings.THREADS: task_cpus,
        **{key: value for key, value in cluster.settings.items() if key.startswith(_KEPT)},
    }


def _options(option: str, values: dict[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in (option, f"{key}={value}")]


def as_text(words: Iterable[str]) -> str:
    """Returns the command for a shell, an option a line."""
    text = ""
    for word in words:
        is_first = word in _ON_NEW_LINES or word.startswith("jobs/")
        text += (" \\\n    " if is_first else " ") + (word if word == _WHEEL else shlex.quote(word))
    return text.strip()
