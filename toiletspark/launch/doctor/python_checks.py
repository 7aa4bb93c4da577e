"""What must be right for a Python worker to start and to find what it needs: Python and its packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from toiletspark.launch import settings as spark_settings
from toiletspark.launch.doctor.findings import Finding, Level, places
from toiletspark.launch.doctor.observed import Observed, Place
from toiletspark.package_floors import FLOORS

PYTHON_KEY = "spark.pyspark.python"
_SAME = ("toiletspark", "pyspark", "numpy", "pyarrow", "PIL", "torch", "torchvision", "openvino")
_ALWAYS = (
    "pyspark",
    "numpy",
    "pandas",
    "pyarrow",
    "PIL",
    "safetensors",
    "fsspec",
    "pydantic",
    "tenacity",
)
_NAMES = {"PIL": "Pillow"}
_FLOORS = {
    {name: key for key, name in _NAMES.items()}.get(floor.package, floor.package): floor
    for floor in FLOORS
}


def start(seen: Observed) -> Iterator[Finding]:
    """Spark did not start, or gave no executor."""
    if reason := seen.failures.get("start"):
        yield Finding(
            "start",
            "error",
            f"Spark did not come to run a task: {reason}",
            seen.master,
            "no job would run either",
            "look at the master's page: is it there, has it a worker with as many free cores and as much memory as "
            f"spark.executor.cores={seen.setting('spark.executor.cores', 'all')} and "
            f"spark.executor.memory={seen.setting('spark.executor.memory', '1g')} ask for?",
        )


def python(seen: Observed) -> Iterator[Finding]:
    """The workers' Python does not start, or is another version than the driver's."""
    failed, other = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for one in seen.pythons:
        if one.error:
            failed[one.error].append(one.host)
        elif _minor(one.version) != _minor(seen.driver.python_version):
            other[one.version].append(one.host)
    unnamed = (
        ""
        if seen.python_named
        else ". PYSPARK_PYTHON is not set, so the driver's own path was taken"
    )
    todo = (
        f"name a Python that is at the same place on every machine, with all packages: --conf {PYTHON_KEY}=PATH "
        "(or export PYSPARK_PYTHON=PATH), or ship one with --archives (make dist)"
    )
    for error, hosts in failed.items():
        what = f"the workers' Python {seen.python_asked} does not start: {error}{unnamed}"
        yield Finding(
            "python",
            "error",
            what,
            ", ".join(sorted(set(hosts))),
            "every Python task fails there",
            todo,
        )
    for version, hosts in other.items():
        ours = seen.driver.python_version
        what = (
            f"the workers' Python {seen.python_asked} is {version}, the driver's is {ours}{unnamed}"
        )
        why = "Spark refuses to run Python tasks of another minor version"
        yield Finding("python", "error", what, ", ".join(sorted(set(hosts))), why, todo)
    if reason := seen.failures.get("python"):
        yield Finding(
            "python",
            "error",
            f"the workers' Python could not be tried: {reason}",
            "",
            "nothing runs",
            todo,
        )


def tasks(seen: Observed) -> Iterator[Finding]:
    """Python tasks fail, or do not reach every executor."""
    if reason := seen.failures.get("tasks"):
        yield Finding(
            "tasks",
            "error",
            f"a Python task that imports nothing fails: {reason}",
            "",
            "no job that scores would run",
            "look at the executors' stderr",
        )
    elif seen.executors and len(seen.executors) < seen.known:
        yield Finding(
            "tasks",
            "warning",
            f"{len(seen.executors)} of {seen.known} executors answered",
            "",
            "of the others nothing is known: they may be lost, or busy with another job",
            "run this again when nothing else runs in the application",
        )


def python_named(seen: Observed) -> Iterator[Finding]:
    """Nobody has said which Python the executors start."""
    if seen.python_named or seen.setting("spark.submit.deployMode", "client") == "cluster":
        return
    if spark_settings.stays_here(seen.master):
        return  # the driver's path is there too
    if not seen.executors:
        return  # `start` and `python` tell more
    shown = ", ".join(sorted({place.python for place in seen.executors}))
    without = any(
        place.packages[name].version == ""
        for place in seen.executors
        for name in ("numpy", "torch")
    )
    yield Finding(
        "python_named",
        "error" if without else "warning",
        f"PYSPARK_PYTHON is not set; the executors started {shown}, the driver is {seen.driver.python}",
        places(seen.executors),
        "an executor on a machine without that path has no Python, or the system's, which lacks the packages",
        f"say it: --conf {PYTHON_KEY}=PATH, or export PYSPARK_PYTHON=PATH",
        {PYTHON_KEY: seen.python_asked},
    )


def python_said_in_vain(seen: Observed) -> Iterator[Finding]:
    """A setting names a Python that is not the one that executors start."""
    said = seen.setting(PYTHON_KEY)
    if said and said != seen.python_asked:
        yield Finding(
            "python_said_in_vain",
            "warning",
            f"{PYTHON_KEY} is {said}, and the executors start {seen.python_asked}",
            places(seen.executors),
            "only spark-submit reads that setting; PYSPARK_PYTHON wins over it, and [spark.settings] come too late",
            f"export PYSPARK_PYTHON={said}, or give it to spark-submit: --conf {PYTHON_KEY}={said}",
        )


def packages(seen: Observed) -> Iterator[Finding]:
    """A package is missing on an executor or on the driver, or does not load there."""
    lacking = defaultdict[tuple[str, str], list[Place]](list)
    for place in (seen.driver, *seen.executors):
        for name in _wanted(seen):
            package = place.packages[name]
            if package.error:
                lacking[name, package.error if package.version else "is missing"].append(place)
    for (name, error), those in lacking.items():
        shown = _NAMES.get(name, name)
        what = f"{shown} {error}" if error == "is missing" else f"{shown} does not load: {error}"
        yield Finding(
            "packages", _level(seen, name), what, places(those), *_what_is_lost(seen, name)
        )


def ours(seen: Observed) -> Iterator[Finding]:
    """toiletspark itself is missing on an executor."""
    lacking = [place for place in seen.executors if place.packages["toiletspark"].error]
    if lacking:
        yield Finding(
            "toiletspark",
            "error",
            f"toiletspark does not load: {lacking[0].packages['toiletspark'].error}",
            places(lacking),
            "executors run its code; every embedding task fails there",
            "give its wheel to spark-submit: --py-files dist/*.whl, or install it in the workers' Python",
        )


def floors(seen: Observed) -> Iterator[Finding]:
    """A package is so old that strangers' files can harm the machine, or of a release that does not work."""
    harmful = defaultdict[tuple[str, str], list[Place]](list)
    for place in (seen.driver, *seen.executors):
        for name in _FLOORS:
            if not _allowed(name, version := place.packages[name].version):
                harmful[name, version].append(place)
    for (name, version), those in harmful.items():
        floor = _FLOORS[name]
        todo = (
            f"pip install '{floor.requirement}' in the Python that works there: {those[0].python}"
        )
        yield Finding(
            "floors", "error", f"{floor.package} is {version}", places(those), floor.why, todo
        )


def same_versions(seen: Observed) -> Iterator[Finding]:
    """Executors have other versions than the driver; harmful ones are told by `floors`."""
    for name in _SAME:
        ours = seen.driver.packages[name].version
        others = defaultdict[str, list[Place]](list)
        for place in seen.executors:
            version = place.packages[name].version
            if (
                version
                and ours
                and version != ours
                and _allowed(name, version)
                and _allowed(name, ours)
            ):
                others[version].append(place)
        for version, those in others.items():
            shown = _NAMES.get(name, name)
            yield Finding(
                "same_versions",
                "warning",
                f"{shown} is {version}, and {ours} on the driver",
                places(those),
                "what one machine computes differs from what the other does, or cannot be read there",
                f"install {shown} {ours} in {those[0].python}, or ship one environment with --archives",
            )


def runtime(seen: Observed) -> Iterator[Finding]:
    """What computes cannot be had on the driver."""
    if seen.runtime_error:
        what = f"backbone.runtime={seen.config.backbone.runtime} wants the package openvino; found: {seen.runtime_error}"
        todo = "pip install 'toiletspark[openvino]' on the driver and every executor, or --set backbone.runtime=torch"
        yield Finding(
            "runtime", "error", what, "driver", "embedding ends before it has begun", todo
        )


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing; what comes behind them (+cpu, rc1) does not count.

    >>> release("2.12.1+cpu") >= release("2.10")
    True
    """
    numbers = []
    for part in version.partition("+")[0].split("."):
        digits = part[
            : next((place for place, sign in enumerate(part) if not sign.isdigit()), len(part))
        ]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple([*numbers, 0, 0, 0][:3])


def _allowed(name: str, version: str) -> bool:
    """Whether this version may be used; a package that is missing is told by `packages`."""
    return not version or name not in _FLOORS or _FLOORS[name].allows(version)


def _minor(version: str) -> tuple[int, ...]:
    return release(version)[:2]


def _wanted(seen: Observed) -> list[str]:
    """What must load everywhere; the runtime that is not used must not."""
    return [*_ALWAYS, "torch", "torchvision", *(["openvino"] if seen.runtime == "openvino" else [])]


def _level(seen: Observed, name: str) -> Level:
    return "warning" if seen.runtime == "openvino" and name in ("torch", "torchvision") else "error"


def _what_is_lost(seen: Observed, name: str) -> tuple[str, str]:
    todo = (
        f"install it in the Python that executors start ({seen.python_asked}), ship an environment with --archives "
        f"(make dist), or name another Python: --conf {PYTHON_KEY}=PATH"
    )
    if _level(seen, name) == "warning":
        return (
            "executors work with OpenVINO, but with backbone.runtime=torch, or on GPUs, they would fail",
            todo,
        )
    return "tasks that come to that executor fail, and after four tries so does the job", todo
