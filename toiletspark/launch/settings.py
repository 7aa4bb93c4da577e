"""Which of Spark's settings do harm here, whoever has set them: the command line, spark-defaults.conf, a notebook.

`conf/base.toml` sets what matters, with the reasons. It cannot undo what wins over it, so the session that came of all
of it is looked at: what would lose rows without a word is refused, and what costs time or retries is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from toiletspark.errors import UserError

Get = Callable[[str], str]


@dataclass(frozen=True)
class Rule:
    """One setting, and when it does harm.

    Attributes:
        key: of Spark.
        harms: whether a session does harm by it; asked with the session's settings, "" for what is not set.
        because: what then happens.
        better: what to set.
        refused: rows would be lost or doubled without a word, so there is no session.
    """

    key: str
    harms: Callable[[Get], bool]
    because: str
    better: str
    refused: bool = False


def is_local(master: str) -> bool:
    """Whether driver and executor are one process.

    `local-cluster[...]` is not: its executors are processes of their own, as on a cluster.
    """
    return re.fullmatch(r"local(\[.*\])?", master) is not None


def stays_here(master: str) -> bool:
    """Whether all processes are on the driver's machine: in local mode, and those of `local-cluster[...]`."""
    return is_local(master) or master.startswith("local-cluster[")


def _is(key: str, *harmful: str) -> Callable[[Get], bool]:
    return lambda get: get(key).strip().lower() in harmful


def _has_no_retries(get: Get) -> bool:
    """`local` and `local[N]` try a failed task never again, whatever spark.task.maxFailures says."""
    tries = re.fullmatch(r"local(?:\[[^,\]]*(?:,\s*(\d+))?\])?", get("spark.master"))
    return bool(tries) and int(tries[1] or 1) < 2  # type: ignore[index]


def _has_few_retries(get: Get) -> bool:
    return not is_local(get("spark.master")) and _number(get("spark.task.maxFailures"), 4) < 4


def _has_endless_batches(get: Get) -> bool:
    rows = _number(get("spark.sql.execution.arrow.maxRecordsPerBatch"), 10_000)
    return rows <= 0 or rows > 100_000


def _has_more_threads_than_cores(get: Get) -> bool:
    return _number(get("spark.executorEnv.OMP_NUM_THREADS"), 1) > _number(get("spark.task.cpus"), 1)


def _is_open_to_all(get: Get) -> bool:
    """A standalone master that others than this machine may reach."""
    host = re.match(r"spark://\[?([^:\],/]+)", get("spark.master"))
    is_open = bool(host) and not re.match(r"127\.|localhost$", host[1])  # type: ignore[index]
    return is_open and get("spark.authenticate").lower() != "true"


def _number(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default


_COMMITTER = "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version"
RULES = (
    Rule("spark.sql.files.ignoreCorruptFiles", _is("spark.sql.files.ignoreCorruptFiles", "true"),
         "the rows of a damaged file of your tables, or of ours, would be lost without a word", "false", refused=True),
    Rule("spark.sql.files.ignoreMissingFiles", _is("spark.sql.files.ignoreMissingFiles", "true"),
         "the rows of a file that is gone would be lost without a word", "false", refused=True),
    Rule(_COMMITTER, _is(_COMMITTER, "2"),
         "what a task has written shows before its job has ended, so that one which dies while it commits leaves "
         "rows by halves", "1", refused=True),
    Rule("spark.sql.sources.partitionOverwriteMode", _is("spark.sql.sources.partitionOverwriteMode", "dynamic"),
         "jobs that commit at once get into each other's files; nothing here overwrites", "static"),
    Rule("spark.master", _has_no_retries,
         "a task that fails once ends the job", "local[N,4], which tries it up to four times"),
    Rule("spark.task.maxFailures", _has_few_retries,
         "each lost executor costs one try of every task that it ran", "4"),
    Rule("spark.excludeOnFailure.enabled", _is("spark.excludeOnFailure.enabled", "true"),
         "where few executors are left, a task that failed has nowhere to go, and the job ends at its second try",
         "false"),
    Rule("spark.speculation", _is("spark.speculation", "true"),
         "the second copy of a task fetches and embeds once more; the result is the same", "false"),
    Rule("spark.python.worker.reuse", _is("spark.python.worker.reuse", "false"),
         "every task loads torch and the backbone anew, which takes longer than its work", "true"),
    Rule("spark.python.worker.faulthandler.enabled", _is("spark.python.worker.faulthandler.enabled", "false"),
         "a worker that crashes in native code leaves no stack in its executor's log", "true"),
    Rule("spark.sql.execution.arrow.maxRecordsPerBatch", _has_endless_batches,
         "a Python worker is given a whole partition at once, and may have no memory for it", "10000"),
    Rule("spark.executorEnv.OMP_NUM_THREADS", _has_more_threads_than_cores,
         "each task computes with more threads than Spark has reserved cores for it, and they wait for each other",
         "spark.task.cpus, to as many as threads"),
    Rule("spark.authenticate", _is_open_to_all,
         "whoever reaches a standalone master's port can run programs on its workers", "true, with a secret, or keep "
         "the port from strangers (docs/clusters.md)"),
)  # fmt: skip


def warnings(get: Get) -> list[str]:
    """What a session should be told about its settings, a line each.

    Args:
        get: gives a setting of the session, "" where it is not set.

    Raises:
        UserError: a setting would lose or double rows without a word; all such are told at once.
    """
    broken = [rule for rule in RULES if rule.harms(get)]
    if refused := [rule for rule in broken if rule.refused]:
        raise UserError(
            doing="starting Spark",
            expected="; ".join(f"{rule.key} = {rule.better}" for rule in refused),
            found="; ".join(f"{rule.key} = {get(rule.key)}: {rule.because}" for rule in refused),
            todo="leave it out of spark-submit's command line and of spark-defaults.conf; conf/base.toml sets it",
        )
    return [
        f"{rule.key} = {get(rule.key) or 'not set'}: {rule.because}; better: {rule.better}"
        for rule in broken
    ]
