"""Spark settings that do harm here, wherever they were set.

`conf/base.toml` sets what matters, with the reasons, but spark-submit's command line,
spark-defaults.conf and a notebook's session win over it. So `RULES` is checked against the settings
of the session: at every start (`warnings`), and by the doctor.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from toiletspark.errors import UserError

Get = Callable[[str], str]
Level = Literal["error", "warning", "note"]

ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"
DEFAULT_ARROW_ROWS = 10_000  # Spark's default, and base.toml's
TASK_CPUS = "spark.task.cpus"
THREADS = "spark.executorEnv.OMP_NUM_THREADS"
DYNAMIC_ALLOCATION = "spark.dynamicAllocation.enabled"
MAX_EXECUTORS = "spark.dynamicAllocation.maxExecutors"
EXCLUDE_ON_FAILURE = "spark.excludeOnFailure.enabled"
_COMMITTER = "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version"
_SHUFFLE_TRACKING = "spark.dynamicAllocation.shuffleTracking.enabled"
_INFERENCE = "spark.sql.sources.partitionColumnTypeInference.enabled"
_TIMESTAMPS = "spark.sql.parquet.outputTimestampType"
_ZONE = "spark.sql.session.timeZone"
_CALENDARS = (
    "spark.sql.parquet.datetimeRebaseModeInRead",
    "spark.sql.parquet.datetimeRebaseModeInWrite",
    "spark.sql.parquet.int96RebaseModeInRead",
    "spark.sql.avro.datetimeRebaseModeInRead",
)
_UNBOUNDED_ARROW_ROWS = 1_000_000


@dataclass(frozen=True)
class Rule:
    """A setting, and when it does harm.

    At the level error, rows would be lost or doubled silently, so no session starts; a warning
    costs time or retries; a note is reported by the doctor alone.
    """

    key: str  # of Spark
    when: str | Callable[[Get], bool]  # the harmful value in lower case, or a function of all
    better: str  # the value to set
    because: str  # the consequence
    level: Level = "warning"
    finding: str = ""  # the doctor's finding for it; "" if the doctor has none

    def is_broken(self, get: Get) -> bool:
        """Returns True if the settings do harm. `get` returns a setting, "" if it is not set."""
        if isinstance(self.when, str):
            return get(self.key).strip().lower() == self.when
        return self.when(get)


def is_local(master: str) -> bool:
    """Returns True if driver and executor are one process, unlike in `local-cluster[...]`."""
    return re.fullmatch(r"local(\[.*\])?", master) is not None


def is_one_machine(master: str) -> bool:
    """Returns True if all executors run on the driver's machine."""
    return is_local(master) or master.startswith("local-cluster[")


def arrow_rows(get: Get) -> int:
    """Returns the rows of an Arrow batch; a million if the setting lifts the limit."""
    rows = _number(get(ARROW_ROWS), DEFAULT_ARROW_ROWS)
    return rows if rows > 0 else _UNBOUNDED_ARROW_ROWS


def is_on(get: Get, key: str) -> bool:
    """Returns True if the setting is true."""
    return get(key).strip().lower() == "true"


def _is_not(key: str, *values: str) -> Callable[[Get], bool]:
    """Returns a function that is True of other values, and of none, for which Spark has its own."""
    return lambda get: get(key).strip().lower() not in values


def _has_no_retries(get: Get) -> bool:
    """`local` and `local[N]` never retry a failed task, whatever spark.task.maxFailures says."""
    attempts = re.fullmatch(r"local(?:\[[^,\]]*(?:,\s*(\d+))?\])?", get("spark.master"))
    return attempts is not None and int(attempts[1] or 1) < 2


def _has_few_retries(get: Get) -> bool:
    return not is_local(get("spark.master")) and _number(get("spark.task.maxFailures"), 4) < 4


def _loses_shuffles(get: Get) -> bool:
    is_tracked = get(_SHUFFLE_TRACKING).strip().lower() != "false"  # Spark's default is true
    has_service = is_on(get, "spark.shuffle.service.enabled")
    return is_on(get, DYNAMIC_ALLOCATION) and not is_tracked and not has_service


def _is_open_to_all(get: Get) -> bool:
    """A standalone master that other machines may reach."""
    host = re.match(r"spark://\[?([^:\],/]+)", get("spark.master"))
    is_open = host is not None and not re.match(r"127\.|localhost$", host[1])
    return is_open and not is_on(get, "spark.authenticate")


def _number(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default


# fmt: off
RULES = (
    Rule("spark.sql.files.ignoreCorruptFiles", "true", "false", level="error",
         because="the rows of a damaged file, yours or ours, would be lost silently"),
    Rule("spark.sql.files.ignoreMissingFiles", "true", "false", level="error",
         because="the rows of a missing file would be lost silently"),
    Rule(_INFERENCE, _is_not(_INFERENCE, "false"), "false",
         because="folders of your tables such as agency=00123 become numbers, here 123"),
    Rule(_TIMESTAMPS, _is_not(_TIMESTAMPS, "timestamp_micros"), "TIMESTAMP_MICROS",
         because="times in the feed and in our tables lose their zone, and 9999-12-31 its century"),
    Rule(_ZONE, _is_not(_ZONE, "utc", "etc/utc", "z"), "UTC",
         because="times that are cast to text, as versions of images, are other texts than before"),
    *(Rule(key, _is_not(key, "corrected", "legacy"), "CORRECTED",
           because="a date before 1900 in your tables ends the run") for key in _CALENDARS),
    Rule(_COMMITTER, "2", "1", level="error",
         because="a task that dies while it commits leaves partial rows that readers see"),
    Rule("spark.sql.sources.partitionOverwriteMode", "dynamic", "static",
         because="concurrent jobs disturb each other's files; nothing here overwrites"),
    Rule("spark.master", _has_no_retries, "local[N,4], which tries it up to four times",
         because="a task that fails once ends the job"),
    Rule("spark.task.maxFailures", _has_few_retries, "4",
         because="each lost executor costs one attempt of every task that it ran"),
    Rule(EXCLUDE_ON_FAILURE, "true", "false",
         because="with few executors a failed task has nowhere to go, which ends the job"),
    Rule("spark.speculation", "true", "false", finding="speculation",
         because="a second copy of a slow task fetches and embeds all its images again"),
    Rule("spark.python.worker.reuse", "false", "true", finding="worker_reuse",
         because="every task loads the runtime and the backbone again: 3 to 10 s each"),
    Rule("spark.python.worker.faulthandler.enabled", "false", "true",
         because="a worker that crashes in native code leaves no stack in its executor's log"),
    Rule(ARROW_ROWS, lambda get: arrow_rows(get) > 100_000, str(DEFAULT_ARROW_ROWS),
         because="a Python worker receives whole partitions, and may not have the memory for one"),
    Rule(THREADS, lambda get: _number(get(THREADS), 1) > _number(get(TASK_CPUS), 1),
         "spark.task.cpus, to as many as threads",
         because="threads that outnumber a task's reserved cores wait for each other"),
    Rule(_SHUFFLE_TRACKING, _loses_shuffles, "true", finding="dynamic_allocation",
         because="an idle executor takes its shuffle files with it, and their tasks run again"),
    Rule(MAX_EXECUTORS, lambda get: is_on(get, DYNAMIC_ALLOCATION) and not get(MAX_EXECUTORS),
         "N", level="note", finding="dynamic_allocation",
         because="a job of millions of images asks for the whole cluster"),
    Rule("spark.authenticate", _is_open_to_all,
         "true, with a secret, or keep strangers from the port (docs/clusters.md)",
         because="anybody who reaches a standalone master's port can run programs on its workers"),
)
# fmt: on


def warnings(get: Get) -> list[str]:
    """Returns a line for each setting that costs time or retries.

    Raises UserError with all settings that would lose or double rows silently.
    """
    broken = [rule for rule in RULES if rule.is_broken(get)]
    refused = [rule for rule in broken if rule.level == "error"]
    if refused:
        raise UserError(
            doing="starting Spark",
            expected="; ".join(f"{rule.key} = {rule.better}" for rule in refused),
            found="; ".join(f"{rule.key} = {get(rule.key)}: {rule.because}" for rule in refused),
            todo="leave it out of spark-submit's command line and of spark-defaults.conf; "
            "conf/base.toml sets it",
        )
    return [
        f"{rule.key} = {get(rule.key) or 'not set'}: {rule.because}; better: {rule.better}"
        for rule in broken
        if rule.level == "warning"
    ]
