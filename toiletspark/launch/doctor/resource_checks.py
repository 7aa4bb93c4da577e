"""How much runs at once: threads, cores, GPUs, and Spark's own ways of running tasks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from toiletspark.launch.doctor import sizes
from toiletspark.launch.doctor.findings import Finding, places
from toiletspark.launch.doctor.observed import Observed, Place

THREADS_KEY = "spark.executorEnv.OMP_NUM_THREADS"
_CROWDED = 2.0  # a machine's CPUs are usually hyperthreads of half as many cores; twice as many tasks only take turns


def threads(seen: Observed) -> Iterator[Finding]:
    """A task computes with more threads than it has cores, so that all wait for each other; or with fewer."""
    task_cpus = sizes.task_cpus(seen)
    too_many = [
        place
        for place in seen.executors
        if (place.threads or 1) * sizes.slots(seen, place) > place.cores
    ]
    if too_many:
        one = too_many[0]
        at_once = sizes.slots(seen, one)
        yield Finding(
            "threads",
            "warning",
            f"{at_once} tasks at once with OMP_NUM_THREADS={one.threads} make {at_once * (one.threads or 1)} threads "
            f"on {one.cores} cores (spark.task.cpus={task_cpus})",
            places(too_many),
            "threads that outnumber cores wait for each other: a forward pass takes several times as long",
            f"--conf {THREADS_KEY}={task_cpus}, as many as spark.task.cpus",
            {THREADS_KEY: str(task_cpus)},
        )
    too_few = [
        place for place in seen.executors if task_cpus > (place.threads or 1) and not seen.local
    ]
    if too_few and not too_many:
        what = f"a task has {task_cpus} cores (spark.task.cpus) and computes with {too_few[0].threads or 1} threads"
        why = "cores that are paid for stand idle"
        todo = f"--conf spark.task.cpus=1 (better: more tasks), or --conf {THREADS_KEY}={task_cpus}"
        yield Finding(
            "threads", "warning", what, places(too_few), why, todo, {"spark.task.cpus": "1"}
        )


def crowded_machines(seen: Observed) -> Iterator[Finding]:
    """The executors of a machine have more cores than it has."""
    crowded = []
    for host, those in by_host(seen).items():
        busy, cpus = (
            sum(sizes.slots(seen, place) * (place.threads or 1) for place in those),
            those[0].cpus,
        )
        alone = all(
            (place.threads or 1) * sizes.slots(seen, place) <= place.cores for place in those
        )
        if busy > _CROWDED * cpus and alone:
            what = f"{len(those)} executors with {busy} threads on {cpus} CPUs"
            crowded.append((busy / cpus, host, what, max(1, cpus // len(those)), cpus))
    if crowded:
        _, _, what, fit, cpus = max(crowded)
        yield Finding(
            "crowded_machines",
            "warning",
            what,
            hosts(host for _, host, *_ in crowded),
            "tasks take turns; each takes memory for nothing",
            f"let the worker offer no more cores than the machine has: --cores {cpus} of the standalone worker, or "
            f"--conf spark.executor.cores={fit}",
        )


def worker_reuse(seen: Observed) -> Iterator[Finding]:
    """Each task starts a new Python."""
    if not seen.is_on("spark.python.worker.reuse", default=True):
        why = "each task then loads the runtime and builds the backbone anew: 3 to 10 s a task"
        todo = "--conf spark.python.worker.reuse=true"
        what = "spark.python.worker.reuse is false"
        yield Finding(
            "worker_reuse", "warning", what, "", why, todo, {"spark.python.worker.reuse": "true"}
        )


def dynamic_allocation(seen: Observed) -> Iterator[Finding]:
    """Executors are given back while what they have shuffled is still wanted."""
    if not seen.is_on("spark.dynamicAllocation.enabled"):
        return
    tracked = seen.is_on("spark.dynamicAllocation.shuffleTracking.enabled", default=True)
    if not (tracked or seen.is_on("spark.shuffle.service.enabled")):
        name = "spark.dynamicAllocation.shuffleTracking.enabled"
        what = f"executors come and go (spark.dynamicAllocation.enabled), without {name} and without a shuffle service"
        why = (
            "what an idle executor has shuffled goes with it, and its part of the stage runs again"
        )
        yield Finding(
            "dynamic_allocation", "warning", what, "", why, f"--conf {name}=true", {name: "true"}
        )
    if "spark.dynamicAllocation.maxExecutors" not in seen.settings:
        why = "a job of millions of images asks for the whole cluster"
        todo = "--conf spark.dynamicAllocation.maxExecutors=N"
        yield Finding(
            "dynamic_allocation",
            "note",
            "there is no bound on the number of executors",
            "",
            why,
            todo,
        )


def speculation(seen: Observed) -> Iterator[Finding]:
    """Slow tasks are run twice."""
    if seen.is_on("spark.speculation"):
        why = "a second copy of a slow task fetches and embeds all its images again"
        todo = "--conf spark.speculation=false"
        what = "spark.speculation is on"
        yield Finding("speculation", "warning", what, "", why, todo, {"spark.speculation": "false"})


def gpu_share(seen: Observed) -> Iterator[Finding]:
    """GPUs and cores are dealt out so that one of both stands idle, or too many tasks share a GPU."""
    by_gpu, with_gpu = sizes.gpu_slots(seen), [place for place in seen.executors if place.gpus]
    if by_gpu is None:
        if with_gpu and seen.runtime == "torch":
            why = "Spark deals out none, so that all tasks of a machine compute on its first GPU, beside each other"
            todo = (
                "--conf spark.executor.resource.gpu.amount=1 --conf spark.task.resource.gpu.amount=1 --conf "
                "spark.executor.resource.gpu.discoveryScript=getGpusResources.sh"
            )
            what = f"{with_gpu[0].gpus} GPUs that no setting names"
            yield Finding("gpu_share", "warning", what, places(with_gpu), why, todo)
        return
    by_cpu = max(1, sizes.cores(seen) // sizes.task_cpus(seen))
    share = seen.setting("spark.task.resource.gpu.amount")
    if by_gpu < by_cpu:
        cpus = max(1, sizes.cores(seen) // by_gpu)
        yield Finding(
            "gpu_share",
            "warning",
            f"spark.task.resource.gpu.amount={share} lets {by_gpu} tasks run, and cores would do for {by_cpu}",
            "",
            "cores that could fetch and decode stand idle",
            f"--conf spark.task.cpus={cpus} (a task fetches and decodes with all of them), or a smaller share of a GPU",
            {"spark.task.cpus": str(cpus)},
        )
    elif by_gpu > by_cpu:
        share = f"{math.ceil(1000 / by_cpu) / 1000:g}" if by_cpu > 1 else "1"
        why = "part of each GPU's memory is kept for tasks that never come"
        what = f"a GPU is cut into {by_gpu} shares, and cores do for {by_cpu} tasks"
        todo = f"--conf spark.task.resource.gpu.amount={share}"
        yield Finding(
            "gpu_share", "warning", what, "", why, todo, {"spark.task.resource.gpu.amount": share}
        )


def by_host(seen: Observed) -> dict[str, list[Place]]:
    """The executors of each machine."""
    hosts = defaultdict[str, list[Place]](list)
    for place in seen.executors:
        hosts[place.host].append(place)
    return hosts


def hosts(names: Iterable[str], most: int = 4) -> str:
    """Machines, for a message."""
    those = sorted(set(names))
    return ", ".join(those[:most]) + (f" and {len(those) - most} more" if len(those) > most else "")
