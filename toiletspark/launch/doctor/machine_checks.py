"""The machines under the executors: clocks, disks, CPUs."""

from __future__ import annotations

from collections.abc import Iterator

from toiletspark.launch.doctor.findings import Finding, places
from toiletspark.launch.doctor.observed import Observed

_CLOCK_WARNING_S, _CLOCK_ERROR_S = 1.0, 60.0
_DISK_WARNING_BYTES, _DISK_ERROR_BYTES = 5 * 1024**3, 512 * 1024**2


def clocks(seen: Observed) -> Iterator[Finding]:
    """A machine's clock is not the driver's."""
    off = [place for place in seen.executors if abs(place.clock_off_s) >= _CLOCK_WARNING_S]
    if off:
        off_s = max((place.clock_off_s for place in off), key=abs)
        yield Finding(
            "clocks",
            "error" if abs(off_s) >= _CLOCK_ERROR_S else "warning",
            f"the clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the driver's",
            places(sorted(off, key=lambda place: -abs(place.clock_off_s))),
            "ids of runs sort by time, and the newest counts; signed URLs and TLS certificates are refused",
            "let the machines ask one time server (chrony or systemd-timesyncd)",
        )


def disks(seen: Observed) -> Iterator[Finding]:
    """There is little room where Spark puts shuffles."""
    least = [
        (*min((size, path) for path, size in one.free_bytes.items()), one)
        for one in seen.executors
        if one.free_bytes
    ]
    small = sorted((one for one in least if one[0] < _DISK_WARNING_BYTES), key=lambda one: one[:2])
    if small:
        size, path, _ = small[0]
        yield Finding(
            "disks",
            "error" if size < _DISK_ERROR_BYTES else "warning",
            f"{size / 1e9:.1f} GB free in {path}",
            places(place for _, _, place in small),
            "shuffles and inline images go there; a full disk fails the job after hours",
            "make room, or name a larger disk: spark.local.dir (standalone: SPARK_LOCAL_DIRS of the worker)",
        )


def cpu_features(seen: Observed) -> Iterator[Finding]:
    """The CPU lacks what the precision asks for."""
    no_bf16 = [
        place
        for place in seen.executors
        if not place.cpu_flags & {"avx512_bf16", "amx_bf16"} and not place.gpus
    ]
    if seen.config.backbone.precision == "bf16" and no_bf16:
        why = "bf16 is then slower than fp32"
        todo = 'backbone.precision = "fp32", or machines with AVX512_BF16 or AMX'
        found = Finding(
            "cpu", "warning", "the CPU has neither AVX512_BF16 nor AMX", places(no_bf16), why, todo
        )
        yield found
    no_avx2 = [
        place for place in seen.executors if place.cpu_flags and "avx2" not in place.cpu_flags
    ]
    if no_avx2 and any("avx2" in place.cpu_flags for place in seen.executors):
        why = "the forward pass takes several times as long there, and each commit waits for its slowest task"
        yield Finding(
            "cpu", "warning", "the CPU has no AVX2", places(no_avx2), why, "leave that machine out"
        )
    kinds = {place.cpu_flags for place in seen.executors}
    if len(kinds) > 1:
        why = "bf16 and int8 differ in the last bits from CPU to CPU; golden images tell whether too much"
        yield Finding(
            "cpu", "note", f"the executors have {len(kinds)} kinds of CPU", "", why, "nothing"
        )
