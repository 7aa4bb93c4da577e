"""A job's seconds, from Spark's event log: `python -m benchmarks.stages <event log> [how many]`.

    toiletspark score --set 'spark.settings."spark.eventLog.enabled"="true"' \\
        --set 'spark.settings."spark.eventLog.dir"="file:///tmp/events"'

Prints the slowest stages with what they do, and what passed while no stage ran: planning, listing,
committing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage that ran. Wall seconds count from the start of the application."""

    stage_id: int
    started_s: float
    ended_s: float
    tasks: int
    run_s: float  # of all tasks together
    cpu_s: float  # of these, computed by the JVM's task threads; the rest waits, mostly for Python
    gc_s: float  # of these, the JVM collecting garbage
    read_mb: float
    shuffled_mb: float
    does: str

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.ended_s - self.started_s


def stages(event_log: Path) -> list[Stage]:
    """The completed stages of an event log, in the order of their start."""
    wanted = re.compile('"SparkListener(StageCompleted|ApplicationStart)"')
    with event_log.open() as lines:
        events = [json.loads(line) for line in lines if wanted.search(line)]
    start_ms = next(event["Timestamp"] for event in events if "Application" in event["Event"])
    found = (event["Stage Info"] for event in events if "Stage Info" in event)
    return sorted((_stage(told, start_ms) for told in found), key=lambda stage: stage.started_s)


def idle_s(ran: Iterable[Stage]) -> float:
    """Seconds between the first stage's start and the last one's end in which none ran."""
    idle = 0.0
    until = None
    for stage in sorted(ran, key=lambda stage: stage.started_s):
        if until is not None:
            idle += max(0.0, stage.started_s - until)
        until = max(until or 0.0, stage.ended_s)
    return idle


def _stage(told: dict[str, Any], start_ms: int) -> Stage:
    figures = {
        item["Name"].removeprefix("internal.metrics."): item.get("Value")
        for item in told["Accumulables"]
    }

    def figure(name: str) -> float:
        return float(figures.get(name) or 0)

    return Stage(
        told["Stage ID"],
        (told["Submission Time"] - start_ms) / 1000,
        (told["Completion Time"] - start_ms) / 1000,
        told["Number of Tasks"],
        figure("executorRunTime") / 1000,
        figure("executorCpuTime") / 1e9,
        figure("jvmGCTime") / 1000,
        figure("input.bytesRead") / 2**20,
        figure("shuffle.write.bytesWritten") / 2**20,
        f"{told['Stage Name'].partition(' at ')[0]}: {', '.join(_scopes(told))}",
    )


def _scopes(told: dict[str, Any]) -> list[str]:
    """The steps of the plan that a stage runs, each once, first what it reads."""
    named = (json.loads(rdd["Scope"])["name"] for rdd in told["RDD Info"] if rdd.get("Scope"))
    steps = [name.strip() for name in named if not name.startswith("WholeStageCodegen")]
    return list(dict.fromkeys(reversed(steps)))


def main() -> None:
    log = Path(sys.argv[1])
    how_many = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    ran = stages(log)
    print("   at s   took s  tasks  run s  cpu s  gc s  read MB  shuffled MB  stage")
    for stage in sorted(ran, key=lambda stage: -stage.seconds)[:how_many]:
        print(
            f"{stage.started_s:7.1f}  {stage.seconds:7.2f}  {stage.tasks:5}  {stage.run_s:5.1f}  "
            f"{stage.cpu_s:5.1f}  {stage.gc_s:4.1f}  {stage.read_mb:7.0f}  "
            f"{stage.shuffled_mb:11.0f}  {stage.stage_id}: {stage.does}"
        )
    print(f"{idle_s(ran):.1f} s of {ran[-1].ended_s - ran[0].started_s:.1f} s no stage ran")


if __name__ == "__main__":
    main()
