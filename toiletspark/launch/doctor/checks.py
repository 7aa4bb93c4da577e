"""All checks, the most harmful first. Each takes what was observed and yields findings; none knows of Spark."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from toiletspark.launch.doctor import (
    machine_checks,
    memory_checks,
    python_checks,
)
from toiletspark.launch.doctor import (
    resource_checks as load_checks,
)
from toiletspark.launch.doctor import (
    surroundings_checks as outside_checks,
)
from toiletspark.launch.doctor.findings import Finding, by_harm
from toiletspark.launch.doctor.observed import Observed

Check = Callable[[Observed], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    python_checks.start,
    python_checks.python,
    python_checks.tasks,
    python_checks.ours,
    python_checks.packages,
    python_checks.runtime,
    outside_checks.output,
    outside_checks.images_table,
    outside_checks.hosts,
    python_checks.floors,
    memory_checks.memory_overhead,
    memory_checks.arrow_batches,
    memory_checks.machine_memory,
    memory_checks.python_memory,
    outside_checks.pointer,
    machine_checks.disks,
    load_checks.threads,
    load_checks.crowded_machines,
    load_checks.worker_reuse,
    load_checks.gpu_share,
    load_checks.dynamic_allocation,
    load_checks.speculation,
    python_checks.python_named,
    python_checks.python_said_in_vain,
    python_checks.same_versions,
    machine_checks.clocks,
    machine_checks.cpu_features,
)


def examine(seen: Observed) -> list[Finding]:
    """What all checks find, in order of harm."""
    return by_harm(finding for check in CHECKS for finding in check(seen))
