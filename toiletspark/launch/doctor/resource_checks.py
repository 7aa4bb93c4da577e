"""Checks of cores, threads, memory, GPUs, disks and clocks; and the sizes of executors."""

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator

from toiletspark.launch import settings
from toiletspark.launch.doctor.findings import Finding, names
from toiletspark.launch.doctor.observed import Executor, Observed
from toiletspark.launch.settings import Level

OVERHEAD_KEY = "spark.executor.memoryOverhead"
MIB, GIB = 1024**2, 1024**3
# Peak memory of a Python worker that embeds in fp32, 16 images a batch, 64 MB of files waiting
# (docs/figures.md, "peak memory of a Python worker while it embeds"; `make bench-photos`)
WORKER_BYTES = {"torch": 1_150_000_000, "openvino": 450_000_000}
_USUAL_BATCH, _USUAL_WAITING_BYTES = 16, 64_000_000
_CHILD_BYTES = 60_000_000  # a decode child with an ordinary photo; most of it is Pillow
_IMAGE_BYTES = 12_000_000  # one more image of 224 px: ResNet18's largest layers, float32 and uint8
_MIN_OVERHEAD = 384 * MIB  # spark.executor.minMemoryOverhead
_UNITS = {"b": 1, "k": 1024, "m": MIB, "g": GIB, "t": 1024 * GIB, "p": 1024 * 1024 * GIB}

_CLOCK_WARNING_S, _CLOCK_ERROR_S = 1.0, 60.0
_DISK_WARNING_BYTES, _DISK_ERROR_BYTES = 5 * GIB, 512 * MIB
_ARROW_WARNING_BYTES = 128 * MIB
_ARROW_ERROR_BYTES = GIB  # Arrow ends at 2 GiB a binary column, and both sides hold a copy
_CROWDED = 2.0  # CPUs are usually two hyperthreads of a core; more tasks only take turns


# Cores, threads, GPUs


def threads(cluster: Observed) -> Iterator[Finding]:
    """A task computes with more threads than it has cores, or with fewer."""
    cpus = task_cpus(cluster)
    too_many = [executor for executor in cluster.executors if _is_overloaded(cluster, executor)]
    too_few = [executor for executor in cluster.executors if cpus > (executor.threads or 1)]
    if too_many:
        first, at_once = too_many[0], slots(cluster, too_many[0])
        busy = f"{_busy_threads(cluster, first)} threads on {first.cores} cores"
        what = f"{at_once} tasks at once with OMP_NUM_THREADS={first.threads} make {busy}"
        why = "threads that outnumber cores wait for each other; a forward pass takes much longer"
        todo = f"--conf {settings.THREADS}={cpus}, as many as spark.task.cpus"
        mends = {settings.THREADS: str(cpus)}
        yield Finding("threads", "warning", what, names(too_many), why, todo, mends)
    elif too_few and not cluster.is_local:
        count = too_few[0].threads or 1
        what = f"a task has {cpus} cores (spark.task.cpus) and computes with {count} threads"
        why = "cores that are paid for stand idle"
        more_threads = f"--conf {settings.THREADS}={cpus}"
        todo = f"--conf {settings.TASK_CPUS}=1 (better: more tasks), or {more_threads}"
        mends = {settings.TASK_CPUS: "1"}
        yield Finding("threads", "warning", what, names(too_few), why, todo, mends)


def crowded_machines(cluster: Observed) -> Iterator[Finding]:
    """The executors of a machine have more cores than it has."""
    crowded = []
    for host, executors in _by_host(cluster).items():
        busy = sum(_busy_threads(cluster, executor) for executor in executors)
        cpus = executors[0].cpus
        is_known = any(_is_overloaded(cluster, executor) for executor in executors)  # by `threads`
        if busy > _CROWDED * cpus and not is_known:
            fit = max(1, cpus // len(executors))
            what = f"{len(executors)} executors with {busy} threads on {cpus} CPUs"
            todo = f"--cores {cpus} for the standalone worker, or --conf spark.executor.cores={fit}"
            crowded.append((busy / cpus, host, what, todo))
    if crowded:
        _, _, what, todo = max(crowded)
        where = names(sorted(host for _, host, _, _ in crowded))
        why = "tasks take turns, and each takes memory meanwhile"
        yield Finding("crowded_machines", "warning", what, where, why, todo)


def gpu_share(cluster: Observed) -> Iterator[Finding]:
    """GPUs are not assigned to tasks, or cores and GPUs allow different numbers of tasks."""
    share_key = "spark.task.resource.gpu.amount"
    by_gpu = gpu_slots(cluster)
    if by_gpu is None:
        with_gpu = [executor for executor in cluster.executors if executor.gpus]
        if with_gpu and cluster.runtime == "torch":
            what = f"{with_gpu[0].gpus} GPUs that no setting names"
            why = "Spark assigns none, so all tasks of a machine share its first GPU"
            script = "--conf spark.executor.resource.gpu.discoveryScript=getGpusResources.sh"
            todo = f"--conf spark.executor.resource.gpu.amount=1 --conf {share_key}=1 {script}"
            yield Finding("gpu_share", "warning", what, names(with_gpu), why, todo)
        return
    by_cpu = max(1, executor_cores(cluster) // task_cpus(cluster))
    if by_gpu < by_cpu:
        cpus = str(max(1, executor_cores(cluster) // by_gpu))
        share = cluster.setting(share_key)
        what = f"{share_key}={share} allows {by_gpu} tasks, cores would do for {by_cpu}"
        why = "cores that could fetch and decode stand idle"
        todo = f"--conf {settings.TASK_CPUS}={cpus} (a task uses all), or a smaller share of a GPU"
        yield Finding("gpu_share", "warning", what, "", why, todo, {settings.TASK_CPUS: cpus})
    elif by_gpu > by_cpu:
        share = f"{math.ceil(1000 / by_cpu) / 1000:g}"
        what = f"a GPU is cut into {by_gpu} shares, and cores do for {by_cpu} tasks"
        why = "part of each GPU's memory is reserved for tasks that never come"
        mends = {share_key: share}
        yield Finding("gpu_share", "warning", what, "", why, f"--conf {share_key}={share}", mends)


# Memory


def arrow_batches(cluster: Observed) -> Iterator[Finding]:
    """A batch of images is too large for memory."""
    embed, images = cluster.config.embed, cluster.images
    median = images.median_bytes
    if not median:
        return
    rows_by_name = {"embed.images_per_batch": embed.images_per_batch}
    if images.inline:
        inline_rows = embed.bytes_per_batch // cluster.config.fetch.max_image_bytes
        rows_by_name["embed.bytes_per_batch / fetch.max_image_bytes"] = max(1, inline_rows)
    arrow_rows = settings.arrow_rows(cluster.setting)
    if arrow_rows > settings.DEFAULT_ARROW_ROWS:  # jobs whose rows hold images set a lower limit
        rows_by_name[settings.ARROW_ROWS] = arrow_rows
    limit = parse_size(cluster.setting("spark.sql.execution.arrow.maxBytesPerBatch", "0"))
    for name, rows in rows_by_name.items():
        is_sparks = name == settings.ARROW_ROWS
        size = min(rows * median, limit) if is_sparks and limit else rows * median
        if size > _ARROW_WARNING_BYTES:
            is_fatal = size > _ARROW_ERROR_BYTES and (images.inline or not is_sparks)
            yield _huge_batch(name, rows, median, size, "error" if is_fatal else "warning")


def _huge_batch(name: str, rows: int, median: int, size: int, level: Level) -> Finding:
    key, value = name, str(2 ** int(math.log2(max(1, 64 * MIB // median))))
    if "/" in name:
        key, value = "embed.bytes_per_batch", "64000000"
    image = f"{median / 1000:,.0f} kB, the median image"
    what = f"{name} = {rows:,} rows of {image}, are a batch of {size / 1e6:,.0f} MB"
    why = "the JVM and Python hold a batch each; executors are killed, and Arrow ends at 2 GB"
    if name == settings.ARROW_ROWS:
        todo = f"--conf {key}={value}"
        return Finding("arrow_batches", level, what, "", why, todo, settings={key: value})
    return Finding("arrow_batches", level, what, "", why, f"--set {key}={value}", sets={key: value})


def memory_overhead(cluster: Observed) -> Iterator[Finding]:
    """Python does not fit beside the JVM into the memory that was asked for."""
    keys = {OVERHEAD_KEY, "spark.executor.memoryOverheadFactor"}
    is_limited = cluster.is_contained or keys & {*cluster.settings}  # standalone limits nothing
    has = _overhead_bytes(cluster)
    needy = [executor for executor in cluster.executors if _python_bytes(cluster, executor) > has]
    if cluster.is_local or not is_limited or not needy:
        return
    largest = max(needy, key=lambda executor: slots(cluster, executor))
    at_once, need = slots(cluster, largest), _python_bytes(cluster, largest)
    image_gb = cluster.config.decode.max_memory_bytes / 1e9
    worker = f"{_worker_bytes(cluster) / 1e9:.2f} GB a Python worker ({cluster.runtime})"
    image = f"once {image_gb:.1f} GB for the largest image (decode.max_memory_bytes)"
    need_gb = f"{at_once} tasks at once take {need / 1e9:.1f} GB: {worker}, and {image}"
    what = f"{has / 1e9:.1f} GB beside the heap ({OVERHEAD_KEY}), where {need_gb}"
    why = "YARN and Kubernetes kill such an executor; elsewhere the machine runs out of memory"
    mends = {OVERHEAD_KEY: format_size(need)}
    todo = f"--conf {OVERHEAD_KEY}={mends[OVERHEAD_KEY]}, or fewer cores an executor"
    level: Level = "error" if cluster.is_contained else "warning"
    yield Finding("memory_overhead", level, what, names(needy), why, todo, mends)


def machine_memory(cluster: Observed) -> Iterator[Finding]:
    """The executors of a machine together take more memory than it has."""
    if cluster.is_contained:  # YARN and Kubernetes count it themselves
        return
    short = []
    for host, executors in _by_host(cluster).items():
        has = executors[0].memory_bytes
        need = len(executors) * _heap_bytes(cluster)
        need += sum(_python_bytes(cluster, executor) for executor in executors)
        if has and need > has:
            gigabytes = f"{need / 1e9:.1f} GB with their Python workers, of {has / 1e9:.1f} GB"
            short.append((need / has, host, f"{len(executors)} executors take {gigabytes}"))
    if short:
        times, _, what = max(short)
        where = names(sorted(host for _, host, _ in short))
        why = "the kernel then kills the largest process: an executor or a Python worker"
        fit = max(1, int(executor_cores(cluster) / times))
        mends = {} if cluster.is_local else {"spark.executor.cores": str(fit)}
        cores = f"--conf spark.executor.cores={fit}"
        fewer = f"--set spark.master=local[{fit},4]" if cluster.is_local else cores
        todo = f"fewer tasks at once: {fewer}"
        yield Finding("machine_memory", "warning", what, where, why, todo, mends)


def python_memory(cluster: Observed) -> Iterator[Finding]:
    """Python workers may not reserve the addresses that torch wants."""
    size = parse_size(cluster.setting("spark.executor.pyspark.memory", "0"), "m")
    share = size / (slots(cluster, cluster.executors[0]) if cluster.executors else 1)
    if 0 < share < 4 * GIB:
        gb = f"{share / 1e9:.1f} GB"
        what = f"spark.executor.pyspark.memory leaves each Python worker {gb} of addresses"
        why = "torch reserves several times what it uses, and gets a MemoryError"
        todo = f"leave it out, and ask for {OVERHEAD_KEY}"
        yield Finding("python_memory", "warning", what, "", why, todo)


# Disks, clocks, CPUs


def disks(cluster: Observed) -> Iterator[Finding]:
    """There is little room where Spark puts shuffles."""
    small = []
    for executor in cluster.executors:
        sizes = [(size, path) for path, size in executor.free_bytes.items()]
        if sizes and min(sizes)[0] < _DISK_WARNING_BYTES:
            small.append((*min(sizes), executor))
    small.sort(key=lambda entry: entry[:2])
    if small:
        size, path, _ = small[0]
        what = f"{size / 1e9:.1f} GB free in {path}"
        where = names(executor for _, _, executor in small)
        why = "shuffles and inline images go there; a full disk fails the job after hours"
        todo = "make room, or name a larger disk: spark.local.dir (standalone: SPARK_LOCAL_DIRS)"
        is_fatal = size < _DISK_ERROR_BYTES
        yield Finding("disks", "error" if is_fatal else "warning", what, where, why, todo)


def clocks(cluster: Observed) -> Iterator[Finding]:
    """A machine's clock differs from the driver's."""
    largest_first = sorted(cluster.executors, key=lambda executor: -abs(executor.clock_off_s))
    off = [executor for executor in largest_first if abs(executor.clock_off_s) >= _CLOCK_WARNING_S]
    if off:
        off_s = off[0].clock_off_s
        is_fatal = abs(off_s) >= _CLOCK_ERROR_S
        direction = "ahead of" if off_s > 0 else "behind"
        what = f"the clock is {abs(off_s):.0f} s {direction} the driver's"
        why = "the newest run is chosen by time; signed URLs and TLS certificates are refused"
        todo = "synchronise the machines' clocks (chrony or systemd-timesyncd)"
        yield Finding("clocks", "error" if is_fatal else "warning", what, names(off), why, todo)


def cpu_features(cluster: Observed) -> Iterator[Finding]:
    """The CPU lacks what the precision asks for."""
    bf16 = {"avx512_bf16", "amx_bf16"}
    cpu_only = [executor for executor in cluster.executors if not executor.gpus]
    no_bf16 = [executor for executor in cpu_only if not executor.cpu_flags & bf16]
    if cluster.config.backbone.precision == "bf16" and no_bf16:
        what = "the CPU has neither AVX512_BF16 nor AMX"
        why = "bf16 is then slower than fp32"
        todo = 'backbone.precision = "fp32", or machines with AVX512_BF16 or AMX'
        yield Finding("cpu", "warning", what, names(no_bf16), why, todo)
    known = [executor for executor in cluster.executors if executor.cpu_flags]
    no_avx2 = [executor for executor in known if "avx2" not in executor.cpu_flags]
    if 0 < len(no_avx2) < len(known):
        what = "the CPU has no AVX2"
        why = "the forward pass takes several times as long, and commits wait for the slowest task"
        yield Finding("cpu", "warning", what, names(no_avx2), why, "leave that machine out")
    types = {executor.cpu_flags for executor in cluster.executors}
    if len(types) > 1:
        what = f"the executors have {len(types)} types of CPU"
        why = "bf16 and int8 differ in the last bits; golden images show whether too much"
        yield Finding("cpu", "note", what, "", why, "nothing")


# Sizes


def parse_size(text: str, default_unit: str = "b") -> int:
    """Returns the bytes of a size as Spark writes it; 0 for any other text.

    >>> parse_size("512m") == 512 * 1024**2, parse_size("1", "m") == 1024**2, parse_size("2gb")
    (True, True, 2147483648)
    """
    size = re.fullmatch(r"\s*(\d+)\s*([kmgtp]?)b?\s*", text.lower())
    return int(size[1]) * _UNITS[size[2] or default_unit] if size else 0


def format_size(size: int) -> str:
    """Writes a size as Spark reads it, rounded up to 256 MiB."""
    return f"{math.ceil(size / (256 * MIB)) * 256}m"


def task_cpus(cluster: Observed) -> int:
    """Returns the cores of a task."""
    return max(1, int(cluster.setting(settings.TASK_CPUS, "1")))


def slots(cluster: Observed, executor: Executor) -> int:
    """Returns how many tasks an executor runs at once, by cores and by GPUs."""
    by_cpu = executor.cores // task_cpus(cluster)
    return max(1, min(by_cpu, gpu_slots(cluster) or executor.cores))


def gpu_slots(cluster: Observed) -> int | None:
    """Returns how many tasks an executor runs at once by its GPUs; None if Spark assigns none."""
    of_executor = int(cluster.setting("spark.executor.resource.gpu.amount", "0") or 0)
    of_task = float(cluster.setting("spark.task.resource.gpu.amount", "0") or 0)
    if not of_executor or not of_task:
        return None
    return of_executor * math.floor(1 / of_task) if of_task < 1 else int(of_executor // of_task)


def executor_cores(cluster: Observed) -> int:
    """Returns the cores of most executors."""
    if not cluster.executors:
        return int(cluster.setting("spark.executor.cores", "1"))
    return statistics.mode(executor.cores for executor in cluster.executors)


def needed_overhead(cluster: Observed, at_once: int) -> int:
    """Returns the bytes that an executor's Python takes: so many tasks, and one largest image."""
    largest = cluster.config.decode.max_memory_bytes if cluster.config.decode.isolated else 0
    return at_once * _worker_bytes(cluster) + largest


def _python_bytes(cluster: Observed, executor: Executor) -> int:
    return needed_overhead(cluster, slots(cluster, executor))


def _worker_bytes(cluster: Observed) -> int:
    """Memory of a Python worker that embeds, with its decode child on ordinary photos."""
    embed = cluster.config.embed
    images = max(0, embed.images_per_batch - _USUAL_BATCH)
    waiting = max(0, embed.bytes_per_batch - _USUAL_WAITING_BYTES)
    child = _CHILD_BYTES if cluster.config.decode.isolated else 0
    # of files one batch waits while another is decoded
    return WORKER_BYTES[cluster.runtime] + child + images * _IMAGE_BYTES + 2 * waiting


def _heap_bytes(cluster: Observed) -> int:
    """The JVM's memory of an executor; in local mode the driver's."""
    name = "spark.driver.memory" if cluster.is_local else "spark.executor.memory"
    return parse_size(cluster.setting(name, "1g"))


def _overhead_bytes(cluster: Observed) -> int:
    """Memory beside the heap, as Spark asks the cluster for it."""
    if size := cluster.setting(OVERHEAD_KEY):
        return parse_size(size, "m")
    default = "0.4" if cluster.master.startswith("k8s") else "0.1"
    factor = float(cluster.setting("spark.executor.memoryOverheadFactor", default))
    return max(_MIN_OVERHEAD, int(factor * _heap_bytes(cluster)))


def _busy_threads(cluster: Observed, executor: Executor) -> int:
    return slots(cluster, executor) * (executor.threads or 1)


def _is_overloaded(cluster: Observed, executor: Executor) -> bool:
    return _busy_threads(cluster, executor) > executor.cores


def _by_host(cluster: Observed) -> dict[str, list[Executor]]:
    hosts = defaultdict[str, list[Executor]](list)
    for executor in cluster.executors:
        hosts[executor.host].append(executor)
    return hosts
