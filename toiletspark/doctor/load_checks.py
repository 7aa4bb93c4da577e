"""How much runs at once, and in how much memory: threads, batches, overhead, GPUs, and Spark's own ways."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from toiletspark.doctor import sizes
from toiletspark.doctor.findings import Finding, Level, places
from toiletspark.doctor.observed import Observed, Place

THREADS_KEY = "spark.executorEnv.OMP_NUM_THREADS"
ARROW_KEY = "spark.sql.execution.arrow.maxRecordsPerBatch"
OVERHEAD_KEY = "spark.executor.memoryOverhead"
_ARROW_WARNING_BYTES = 128 * 1024**2
_ARROW_ERROR_BYTES = 1024**3  # a binary column of 2 GiB does not fit into an Arrow array, and both sides hold a copy
_CROWDED = 2.0  # a machine's CPUs are usually hyperthreads of half as many cores; twice as many tasks only take turns


def threads(seen: Observed) -> Iterator[Finding]:
    """A task computes with more threads than it has cores, so that all wait for each other; or with fewer."""
    task_cpus = sizes.task_cpus(seen)
    too_many = [place for place in seen.executors if (place.threads or 1) * sizes.slots(seen, place) > place.cores]
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
    too_few = [place for place in seen.executors if task_cpus > (place.threads or 1) and not seen.local]
    if too_few and not too_many:
        what = f"a task has {task_cpus} cores (spark.task.cpus) and computes with {too_few[0].threads or 1} threads"
        why = "cores that are paid for stand idle"
        todo = f"--conf spark.task.cpus=1 (better: more tasks), or --conf {THREADS_KEY}={task_cpus}"
        yield Finding("threads", "warning", what, places(too_few), why, todo, {"spark.task.cpus": "1"})


def crowded_machines(seen: Observed) -> Iterator[Finding]:
    """The executors of a machine have more cores than it has."""
    crowded = []
    for host, those in _by_host(seen).items():
        busy, cpus = sum(sizes.slots(seen, place) * (place.threads or 1) for place in those), those[0].cpus
        alone = all((place.threads or 1) * sizes.slots(seen, place) <= place.cores for place in those)
        if busy > _CROWDED * cpus and alone:
            what = f"{len(those)} executors with {busy} threads on {cpus} CPUs"
            crowded.append((busy / cpus, host, what, max(1, cpus // len(those)), cpus))
    if crowded:
        _, _, what, fit, cpus = max(crowded)
        yield Finding(
            "crowded_machines",
            "warning",
            what,
            _hosts(host for _, host, *_ in crowded),
            "tasks take turns; each takes memory for nothing",
            f"let the worker offer no more cores than the machine has: --cores {cpus} of the standalone worker, or "
            f"--conf spark.executor.cores={fit}",
        )


def arrow_batches(seen: Observed) -> Iterator[Finding]:
    """Rows of a batch times the bytes of an image are too much memory."""
    median = seen.images.median_bytes
    if not median:
        return
    fitting = _power_of_two(sizes.GIB // 16 // median)  # 64 MiB
    rows = {"embed.images_per_batch": seen.config.embed.images_per_batch}
    if seen.images.inline:
        at_once = seen.config.embed.bytes_per_batch // seen.config.fetch.max_image_bytes
        rows["embed.bytes_per_batch / fetch.max_image_bytes"] = max(1, at_once)
    if ARROW_KEY in seen.settings:
        rows[ARROW_KEY] = int(seen.settings[ARROW_KEY])
    most = sizes.parsed(seen.setting("spark.sql.execution.arrow.maxBytesPerBatch", "0"))
    for name, count in rows.items():
        size = count * median
        size = min(size, most) if most and name == ARROW_KEY else size
        if size > _ARROW_WARNING_BYTES:
            level: Level = (
                "error" if size > _ARROW_ERROR_BYTES and (seen.images.inline or name != ARROW_KEY) else "warning"
            )
            yield _huge_batch(name, count, median, size, fitting, level)


def _huge_batch(name: str, count: int, median: int, size: int, fitting: int, level: Level) -> Finding:
    setting = name if name == ARROW_KEY else "embed.images_per_batch"
    sets = {setting: str(fitting)}
    if "/" in name:
        setting, sets = "embed.bytes_per_batch", {"embed.bytes_per_batch": "64000000"}
    value = sets[setting]
    return Finding(
        "arrow_batches",
        level,
        f"{name} = {count:,} rows of {median / 1000:,.0f} kB, the median image, are a batch of {size / 1e6:,.0f} MB",
        "",
        "the JVM and Python hold a batch each; at 2 GB Arrow gives up, and before that the executor may be killed",
        f"--conf {setting}={value}" if setting == ARROW_KEY else f"--set {setting}={value}",
        sets if setting == ARROW_KEY else {},
        {} if setting == ARROW_KEY else sets,
    )


def memory_overhead(seen: Observed) -> Iterator[Finding]:
    """Python does not fit beside the JVM into what was asked for."""
    told = OVERHEAD_KEY in seen.settings or "spark.executor.memoryOverheadFactor" in seen.settings
    if seen.local or not (told or seen.contained):  # standalone keeps nobody within anything
        return
    needy = [place for place in seen.executors if _need(seen, place) > sizes.overhead_bytes(seen)]
    if not needy:
        return
    place = max(needy, key=lambda one: sizes.slots(seen, one))
    need, has = _need(seen, place), sizes.overhead_bytes(seen)
    yield Finding(
        "memory_overhead",
        "error" if seen.contained else "warning",
        f"{has / 1e9:.1f} GB beside the heap ({OVERHEAD_KEY}), where {sizes.slots(seen, place)} tasks at once take "
        f"{need / 1e9:.1f} GB: {sizes.worker_bytes(seen) / 1e9:.2f} GB a Python worker ({seen.runtime}), and once "
        f"{seen.config.decode.max_memory_bytes / 1e9:.1f} GB for the largest image (decode.max_memory_bytes)",
        places(needy),
        "YARN and Kubernetes kill an executor that takes more than it asked for; the standalone master does not count "
        "it, and the machine runs out instead",
        f"--conf {OVERHEAD_KEY}={sizes.written(need)}, or fewer cores an executor",
        {OVERHEAD_KEY: sizes.written(need)},
    )


def machine_memory(seen: Observed) -> Iterator[Finding]:
    """The executors of a machine together take more memory than it has."""
    short = []
    for host, those in _by_host(seen).items():
        has = those[0].memory_bytes
        need = sum(sizes.heap_bytes(seen) + _need(seen, place) for place in those)
        if has and need > has and not seen.contained:  # YARN and Kubernetes count it themselves
            told = f"{need / 1e9:.1f} GB with their Python workers, of {has / 1e9:.1f} GB"
            short.append((need / has, host, f"{len(those)} executors take {told}"))
    if short:
        times, _, what = max(short)
        fit = max(1, int(sizes.cores(seen) / times))
        yield Finding(
            "machine_memory",
            "warning",
            what,
            _hosts(host for _, host, _ in short),
            "the kernel then kills the largest process, which is an executor or a Python worker",
            "fewer tasks at once: "
            + (f"--set spark.master=local[{fit},4]" if seen.local else f"--conf spark.executor.cores={fit}"),
            {} if seen.local else {"spark.executor.cores": str(fit)},
        )


def python_memory(seen: Observed) -> Iterator[Finding]:
    """Python workers may not reserve the addresses that torch wants."""
    told = sizes.parsed(seen.setting("spark.executor.pyspark.memory", "0"), "m")
    slots = sizes.slots(seen, seen.executors[0]) if seen.executors else 1
    if told and told / slots < 4 * sizes.GIB:
        yield Finding(
            "python_memory",
            "warning",
            f"spark.executor.pyspark.memory leaves each Python worker {told / slots / 1e9:.1f} GB of addresses",
            "",
            "it bounds what is reserved, not what is used, and torch reserves several times what it uses: MemoryError",
            f"leave it out, and ask for {OVERHEAD_KEY}",
        )


def worker_reuse(seen: Observed) -> Iterator[Finding]:
    """Each task starts a new Python."""
    if not seen.is_on("spark.python.worker.reuse", default=True):
        why = "each task then loads the runtime and builds the backbone anew: 3 to 10 s a task"
        todo = "--conf spark.python.worker.reuse=true"
        what = "spark.python.worker.reuse is false"
        yield Finding("worker_reuse", "warning", what, "", why, todo, {"spark.python.worker.reuse": "true"})


def dynamic_allocation(seen: Observed) -> Iterator[Finding]:
    """Executors are given back while what they have shuffled is still wanted."""
    if not seen.is_on("spark.dynamicAllocation.enabled"):
        return
    tracked = seen.is_on("spark.dynamicAllocation.shuffleTracking.enabled", default=True)
    if not (tracked or seen.is_on("spark.shuffle.service.enabled")):
        name = "spark.dynamicAllocation.shuffleTracking.enabled"
        what = f"executors come and go (spark.dynamicAllocation.enabled), without {name} and without a shuffle service"
        why = "what an idle executor has shuffled goes with it, and its part of the stage runs again"
        yield Finding("dynamic_allocation", "warning", what, "", why, f"--conf {name}=true", {name: "true"})
    if "spark.dynamicAllocation.maxExecutors" not in seen.settings:
        why = "a job of millions of images asks for the whole cluster"
        todo = "--conf spark.dynamicAllocation.maxExecutors=N"
        yield Finding("dynamic_allocation", "note", "there is no bound on the number of executors", "", why, todo)


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
        yield Finding("gpu_share", "warning", what, "", why, todo, {"spark.task.resource.gpu.amount": share})


def _need(seen: Observed, place: Place) -> int:
    return sizes.python_bytes(seen, sizes.slots(seen, place))


def _by_host(seen: Observed) -> dict[str, list[Place]]:
    hosts = defaultdict[str, list[Place]](list)
    for place in seen.executors:
        hosts[place.host].append(place)
    return hosts


def _hosts(names: Iterable[str], most: int = 4) -> str:
    those = sorted(set(names))
    return ", ".join(those[:most]) + (f" and {len(those) - most} more" if len(those) > most else "")


def _power_of_two(number: int) -> int:
    """The largest power of two that is no larger, at least 1."""
    return 1 << max(0, number.bit_length() - 1) if number > 0 else 1
