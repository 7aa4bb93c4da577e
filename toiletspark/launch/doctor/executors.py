"""Asking every executor: rounds of more tasks than there are cores, until all that Spark knows have answered."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pyspark import SparkContext, cloudpickle

from toiletspark.launch import settings as spark_settings
from toiletspark.launch.doctor import probe
from toiletspark.launch.doctor.observed import PACKAGES, Package, Place, StartedPython

T = TypeVar("T")
SETTLED_S, SETTLE_WITHIN_S = 2.0, 20.0
_TASKS_PER_CORE = 2
_MOST_ROUNDS = 8
# In the workers' place: their Python, started by a shell, because Spark tells little of one that does not start
_START = """
printf '%s\\t' "$(uname -n)"
if command -v "$0" > /dev/null; then
  "$0" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1
else
  echo "there is no $0"
fi
sleep 0.2
"""


def known_executors(context: SparkContext) -> int:
    """How many executors Spark knows; in local mode the driver is the only one."""
    count = len(context._jsc.sc().statusTracker().getExecutorInfos())
    return count if spark_settings.is_local(str(context.master)) else count - 1


def wait_for_executors(context: SparkContext) -> int:
    """Waits until no more come: a standalone master or YARN starts them one after another. How many there are."""
    started = changed = time.monotonic()
    known = known_executors(context)
    while time.monotonic() - started < SETTLE_WITHIN_S:
        time.sleep(0.1)
        now = known_executors(context)
        if now != known:
            known, changed = now, time.monotonic()
        if known and time.monotonic() - changed >= SETTLED_S:
            break
    return known


def pythons(context: SparkContext) -> tuple[StartedPython, ...]:
    """What becomes of the workers' Python on each machine that a task came to; started by the JVM, not by Python."""
    jvm: Any = context._jvm
    command, numbers = jvm.java.util.ArrayList(), jvm.java.util.ArrayList()
    for word in ("sh", "-c", _START, context.pythonExec):
        command.add(word)
    tasks = _tasks(context)
    for number in range(tasks):
        numbers.add(str(number))
    lines = context._jsc.parallelize(numbers, tasks).pipe(command).collect()
    answers = {tuple(str(line).split("\t", 1)) for line in lines if "\t" in str(line)}
    return tuple(_started(host, text) for host, text in sorted(answers))


def _started(host: str, text: str) -> StartedPython:
    is_version = text.replace(".", "").isdigit()
    return StartedPython(
        host, text if is_version else "", "" if is_version else text or "it says nothing"
    )


def executors(context: SparkContext) -> tuple[Place, ...]:
    """All executors that answer, each as its own Python worker sees it."""
    cloudpickle.register_pickle_by_value(probe)  # type: ignore[no-untyped-call] # executors may lack toiletspark, whose absence is to be told
    try:
        look, packages = probe.look, PACKAGES
        return tuple(ask(context, lambda name: [look(name, packages)], place_of))
    finally:
        cloudpickle.unregister_pickle_by_value(probe)  # type: ignore[no-untyped-call]


def ask(
    context: SparkContext,
    question: Callable[[str], Iterable[dict[str, Any] | None]],
    understood: Callable[[dict[str, Any], float, float], T],
) -> list[T]:
    """Asks each executor once.

    Args:
        context: of the application.
        question: runs in a task and is given the round's name; None: this executor has answered before.
        understood: makes something of an answer, and of the driver's clock before and after.

    Returns:
        One answer of each executor, or of fewer, when after some rounds some have not had a task.
    """
    answers: dict[tuple[str, int], T] = {}
    for _ in range(_MOST_ROUNDS):
        name, tasks = secrets.token_hex(4), _tasks(context)
        before_s = time.time()
        task = context.parallelize(range(tasks), tasks).mapPartitions(_asking(question, name))
        told = [json.loads(text) for text in task.collect()]
        after_s = time.time()
        for answer in told:
            answers.setdefault(
                (answer["host"], answer["jvm_pid"]), understood(answer, before_s, after_s)
            )
        if len(answers) >= known_executors(context):
            break
    return list(answers.values())


def _asking(
    question: Callable[[str], Iterable[dict[str, Any] | None]], name: str
) -> Callable[[Any], Iterator[str]]:
    def answer(_: Any) -> Iterator[str]:
        import json

        return (json.dumps(told) for told in question(name) if told is not None)

    answer.__module__ = "__main__"  # travels by value
    return answer


def place_of(told: dict[str, Any], before_s: float, after_s: float) -> Place:
    """A Place of what `probe` tells, and of the driver's clock before and after."""
    name = told.get("executor_id", "driver")
    clock_s = told["clock_s"]
    return Place(
        name=name if name == "driver" else f"executor {name}",
        host=told["host"],
        python=told["python"],
        python_version=told["python_version"],
        packages={name: Package(*found) for name, found in told["packages"].items()},
        cpus=told["cpus"],
        cpu_flags=frozenset(told["cpu_flags"]),
        cores=told.get("cores", 0),
        threads=int(told["threads"]) if told["threads"].isdigit() else None,
        memory_bytes=told["memory_bytes"],
        free_bytes=told["free_bytes"],
        clock_off_s=min(0.0, clock_s - before_s) + max(0.0, clock_s - after_s),
        gpus=told["gpus"],
    )


def first_line(error: Exception) -> str:
    """What went wrong, in a line: of Java's stack the innermost reason, of a Python worker's its last line."""
    java = getattr(error, "java_exception", None)
    while java is not None and java.getCause() is not None:
        java = java.getCause()
    text = str(java.getMessage() or java.toString()) if java is not None else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    inner = [
        line
        for line in lines
        if not line.startswith(("at ", "File ", "Driver stacktrace", "Traceback", "^"))
    ]
    python = [
        line
        for line in inner
        if "Error" in line.partition(":")[0] and " " not in line.partition(":")[0]
    ]
    return ((python or inner or lines or [type(error).__name__])[-1 if python else 0])[:300]


def _tasks(context: SparkContext) -> int:
    return _TASKS_PER_CORE * max(context.defaultParallelism, known_executors(context), 1)
