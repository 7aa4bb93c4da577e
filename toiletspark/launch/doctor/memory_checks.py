"""In how much memory tasks run: Arrow batches, Python beside the JVM, and what the machine has."""

from __future__ import annotations

from collections.abc import Iterator

from toiletspark.launch.doctor import sizes
from toiletspark.launch.doctor.findings import Finding, Level, places
from toiletspark.launch.doctor.observed import Observed, Place
from toiletspark.launch.doctor.resource_checks import by_host, hosts

ARROW_KEY = "spark.sql.execution.arrow.maxRecordsPerBatch"
OVERHEAD_KEY = "spark.executor.memoryOverhead"
_ROWS_OF_FIGURES = 10_000  # Spark's own bound, and base.toml's; jobs whose rows hold images set a lower one themselves
_ROWS_WITHOUT_A_BOUND = 1_000_000
_ARROW_WARNING_BYTES = 128 * 1024**2
_ARROW_ERROR_BYTES = (
    1024**3
)  # a binary column of 2 GiB does not fit into an Arrow array, and both sides hold a copy


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
    told = int(seen.setting(ARROW_KEY, str(_ROWS_OF_FIGURES)))
    if not 0 < told <= _ROWS_OF_FIGURES:
        rows[ARROW_KEY] = told if told > 0 else _ROWS_WITHOUT_A_BOUND
    most = sizes.parsed(seen.setting("spark.sql.execution.arrow.maxBytesPerBatch", "0"))
    for name, count in rows.items():
        size = count * median
        size = min(size, most) if most and name == ARROW_KEY else size
        if size > _ARROW_WARNING_BYTES:
            level: Level = (
                "error"
                if size > _ARROW_ERROR_BYTES and (seen.images.inline or name != ARROW_KEY)
                else "warning"
            )
            yield _huge_batch(name, count, median, size, fitting, level)


def _huge_batch(
    name: str, count: int, median: int, size: int, fitting: int, level: Level
) -> Finding:
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
    for host, those in by_host(seen).items():
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
            hosts(host for _, host, _ in short),
            "the kernel then kills the largest process, which is an executor or a Python worker",
            "fewer tasks at once: "
            + (
                f"--set spark.master=local[{fit},4]"
                if seen.local
                else f"--conf spark.executor.cores={fit}"
            ),
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


def _need(seen: Observed, place: Place) -> int:
    return sizes.python_bytes(seen, sizes.slots(seen, place))


def _power_of_two(number: int) -> int:
    """The largest power of two that is no larger, at least 1."""
    return 1 << max(0, number.bit_length() - 1) if number > 0 else 1
