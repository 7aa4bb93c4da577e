"""All checks, the most harmful first. Each takes the observations and yields findings."""

from collections.abc import Callable, Iterator

from toiletspark.launch import settings
from toiletspark.launch.doctor import python_checks, resource_checks, surroundings_checks
from toiletspark.launch.doctor.findings import Finding, by_harm
from toiletspark.launch.doctor.observed import Observed


def harmful_settings(cluster: Observed) -> Iterator[Finding]:
    """Settings that do harm, from the table that every start checks too."""
    for rule in settings.RULES:
        if rule.finding and rule.is_broken(cluster.setting):
            what = f"{rule.key} = {cluster.setting(rule.key) or 'not set'}"
            todo = f"--conf {rule.key}={rule.better}"
            mends = {} if rule.level == "note" else {rule.key: rule.better}
            yield Finding(rule.finding, rule.level, what, "", rule.because, todo, mends)


CHECKS: tuple[Callable[[Observed], Iterator[Finding]], ...] = (
    python_checks.start,
    python_checks.python,
    python_checks.tasks,
    python_checks.ours,
    python_checks.packages,
    python_checks.runtime,
    surroundings_checks.output,
    surroundings_checks.images_table,
    surroundings_checks.hosts,
    python_checks.floors,
    resource_checks.memory_overhead,
    resource_checks.arrow_batches,
    resource_checks.machine_memory,
    resource_checks.python_memory,
    surroundings_checks.pointer,
    resource_checks.disks,
    resource_checks.threads,
    resource_checks.crowded_machines,
    resource_checks.gpu_share,
    harmful_settings,
    python_checks.python_named,
    python_checks.python_said_in_vain,
    python_checks.same_versions,
    resource_checks.clocks,
    resource_checks.cpu_features,
)


def examine(cluster: Observed) -> list[Finding]:
    """Returns the findings of all checks, in order of harm."""
    return by_harm(finding for check in CHECKS for finding in check(cluster))
