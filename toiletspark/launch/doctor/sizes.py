"""What an executor takes: tasks side by side, and Python's memory beside the JVM's."""

from __future__ import annotations

import math
import re
from collections import Counter

from toiletspark.launch.doctor.observed import Observed, Place

MIB, GIB = 1024**2, 1024**3
# Measured: peak memory of a Python worker that embeds in fp32, 16 images a batch, 64 MB of files waiting
# (docs/figures.md, "peak memory of a Python worker while it embeds"; `make bench-photos`, `make bench-peers`)
WORKER_BYTES = {"torch": 1_150_000_000, "openvino": 450_000_000}
USUAL_BATCH, USUAL_WAITING_BYTES = 16, 64_000_000
CHILD_BYTES = 60_000_000  # a decode child that reads an ordinary photo; most of it Pillow
IMAGE_BYTES = 12_000_000  # ResNet18's largest layers, its pixels as float32 and as uint8, for one more image of 224 px
_UNITS = {"b": 1, "k": 1024, "m": MIB, "g": GIB, "t": 1024 * GIB, "p": 1024 * 1024 * GIB}
_LEAST_OVERHEAD = 384 * MIB  # spark.executor.minMemoryOverhead


def parsed(text: str, default_unit: str = "b") -> int:
    """Bytes of a size as Spark writes it.

    >>> parsed("512m") == 512 * 1024**2, parsed("1", default_unit="m") == 1024**2, parsed("2gb") == 2 * 1024**3
    (True, True, True)
    """
    found = re.fullmatch(r"\s*(\d+)\s*([kmgtp]?)b?\s*", text.lower())
    if not found:
        return 0
    return int(found.group(1)) * _UNITS[found.group(2) or default_unit]


def written(size: int) -> str:
    """A size as Spark reads it, rounded up to 256 MiB."""
    return f"{math.ceil(size / (256 * MIB)) * 256}m"


def task_cpus(seen: Observed) -> int:
    """Cores of one task (spark.task.cpus)."""
    return max(1, int(seen.setting("spark.task.cpus", "1")))


def slots(seen: Observed, place: Place) -> int:
    """Tasks that run side by side in an executor, by cores and by GPUs."""
    return max(1, min(place.cores // task_cpus(seen), gpu_slots(seen) or place.cores))


def gpu_slots(seen: Observed) -> int | None:
    """Tasks that run side by side in an executor by its GPUs; None where Spark deals out none."""
    of_executor = int(seen.setting("spark.executor.resource.gpu.amount", "0") or 0)
    of_task = float(seen.setting("spark.task.resource.gpu.amount", "0") or 0)
    if not of_executor or not of_task:
        return None
    return of_executor * math.floor(1 / of_task) if of_task < 1 else int(of_executor // of_task)


def cores(seen: Observed) -> int:
    """Cores of an executor, as most have it."""
    counts = Counter(place.cores for place in seen.executors)
    return counts.most_common(1)[0][0] if counts else int(seen.setting("spark.executor.cores", "1"))


def heap_bytes(seen: Observed) -> int:
    """The JVM's memory of an executor; in local mode the driver's."""
    name = "spark.driver.memory" if seen.local else "spark.executor.memory"
    return parsed(seen.setting(name, "1g"))


def overhead_bytes(seen: Observed) -> int:
    """What an executor may take beside its heap, as Spark asks the cluster for it."""
    told = seen.setting("spark.executor.memoryOverhead")
    if told:
        return parsed(told, "m")
    usual = "0.4" if seen.master.startswith("k8s") else "0.1"
    factor = float(seen.setting("spark.executor.memoryOverheadFactor", usual))
    return max(_LEAST_OVERHEAD, int(factor * heap_bytes(seen)))


def worker_bytes(seen: Observed) -> int:
    """What one Python worker takes while it embeds, with its decode child on ordinary photos."""
    embed = seen.config.embed
    more_images = max(0, embed.images_per_batch - USUAL_BATCH) * IMAGE_BYTES
    more_waiting = 2 * max(
        0, embed.bytes_per_batch - USUAL_WAITING_BYTES
    )  # one batch waits, one is decoded
    child = CHILD_BYTES if seen.config.decode.isolated else 0
    return WORKER_BYTES[seen.runtime] + child + more_images + more_waiting


def python_bytes(seen: Observed, at_once: int) -> int:
    """What an executor's Python takes with so many tasks at once, one of which meets the largest image allowed."""
    largest = seen.config.decode.max_memory_bytes if seen.config.decode.isolated else 0
    return at_once * worker_bytes(seen) + largest
