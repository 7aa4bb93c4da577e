"""Asks every executor once, by a barrier stage: all its tasks run at the same time."""

import functools
import re
import time
from collections.abc import Callable
from typing import Any

from pyspark import SparkContext, cloudpickle

from toiletspark.errors import ToiletsparkError
from toiletspark.launch import settings
from toiletspark.launch.doctor import probe
from toiletspark.launch.doctor.observed import PACKAGES, Executor, Package, StartedPython
from toiletspark.launch.doctor.probe import Answer

SETTLED_S, SETTLE_WITHIN_S = 2.0, 20.0
# Starts the workers' Python by a shell, because Spark reports little of one that does not start.
# The pause keeps a slot busy until the other tasks have started on theirs.
_START = """
printf '%s\\t' "$(uname -n)"
if command -v "$0" > /dev/null; then
  "$0" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1
else
  echo "there is no $0"
fi
sleep 0.2
"""


def count_executors(context: SparkContext) -> int:
    """Returns how many executors Spark knows; in local mode the driver is the only one."""
    count = len(_infos(context))
    return count if settings.is_local(str(context.master)) else count - 1


def wait_for_executors(context: SparkContext) -> int:
    """Waits until no more executors register, one after another; returns their number."""
    started = changed = time.monotonic()
    known = count_executors(context)
    while time.monotonic() - started < SETTLE_WITHIN_S:
        time.sleep(0.1)
        now = count_executors(context)
        if now != known:
            known = now
            changed = time.monotonic()
        if known and time.monotonic() - changed >= SETTLED_S:
            break
    return known


def start_pythons(context: SparkContext) -> tuple[StartedPython, ...]:
    """Starts the workers' Python on each machine, from the JVM."""
    slots = _count_slots(context)
    rows = [str(slot) for slot in range(slots)]
    command = ["sh", "-c", _START, context.pythonExec]
    pythons = set()
    for line in context._jsc.parallelize(rows, slots).pipe(command).collect():
        host, tab, text = str(line).partition("\t")
        if text.replace(".", "").isdigit():
            pythons.add(StartedPython(host, text))
        elif tab:
            pythons.add(StartedPython(host, "", text or "it prints nothing"))
    return tuple(sorted(pythons, key=str))


def describe_all(context: SparkContext) -> tuple[Executor, ...]:
    """Describes all executors that answer, each from its own Python worker."""
    before_s = time.time()
    answers = ask(context, functools.partial(probe.describe, PACKAGES))
    after_s = time.time()
    return tuple(executor_of(answer, before_s, after_s) for answer in answers)


def ask(context: SparkContext, question: Callable[[], Answer]) -> list[Answer]:
    """Returns the answer of each executor to `question`, which runs in a Python worker.

    Only functions of `probe` run without toiletspark there. A barrier stage with a task for every
    slot reaches all executors. Where Spark cannot start one, ordinary tasks answer: several of one
    executor, of which one answer counts, and perhaps none of an executor that is busy.
    """
    in_barrier = _can_start_all_at_once(context)
    slots = _count_slots(context)
    rows: Any = context.parallelize(range(slots), slots)
    if in_barrier:
        rows = rows.barrier()
    cloudpickle.register_pickle_by_value(probe)  # type: ignore[no-untyped-call]
    try:
        task = functools.partial(probe.answer, question, in_barrier)
        answers: dict[object, Answer] = dict(rows.mapPartitions(task).collect())
    finally:
        cloudpickle.unregister_pickle_by_value(probe)  # type: ignore[no-untyped-call]
    return list(answers.values())


def _can_start_all_at_once(context: SparkContext) -> bool:
    """Returns True if a barrier stage would start now.

    Spark refuses one under dynamic allocation (SPARK-24942). Without an error it waits until all
    slots are free: as long as another job lasts, and for ever if an executor is excluded.
    """
    values = dict(context.getConf().getAll())
    keys = (settings.DYNAMIC_ALLOCATION, settings.EXCLUDE_ON_FAILURE)
    is_hindered = any(values.get(key, "").lower() == "true" for key in keys)
    return not is_hindered and not any(info.numRunningTasks() for info in _infos(context))


def _infos(context: SparkContext) -> Any:
    """Spark's list of executors, which always includes the driver."""
    return context._jsc.sc().statusTracker().getExecutorInfos()


def _count_slots(context: SparkContext) -> int:
    """The number of tasks that can run at the same time, as barrier stages count it; at least 1."""
    spark: Any = context._jsc.sc()
    profile = spark.resourceProfileManager().defaultResourceProfile()
    return max(1, int(spark.maxNumConcurrentTasks(profile)))


def executor_of(answer: Answer, before_s: float, after_s: float) -> Executor:
    """Makes an Executor of the probe's answer and the driver's clock before and after it."""
    fields = dict(answer)
    clock_s = fields.pop("clock_s")
    fields["clock_off_s"] = min(0.0, clock_s - before_s) + max(0.0, clock_s - after_s)
    fields["cpu_flags"] = frozenset(answer["cpu_flags"])
    fields["packages"] = {name: Package(*result) for name, result in answer["packages"].items()}
    return Executor(**fields)


def first_line(error: Exception) -> str:
    """The reason of an error in one line: Java's innermost cause, or the last line of Python's."""
    if isinstance(error, ToiletsparkError):
        return error.found
    java = getattr(error, "java_exception", None)
    while java is not None and java.getCause() is not None:
        java = java.getCause()
    text = str(error) if java is None else str(java.getMessage() or java.toString())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    python_errors = [line for line in lines if re.match(r"[\w.]*Error\b", line)]
    return [*python_errors[-1:], *lines, type(error).__name__][0][:300]
